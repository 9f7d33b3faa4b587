//! Rules that people keep in files, and what they look at from a shell.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use leadlane::delivery::OutcomeResult;
use serde_json::{Value, json};

use super::tools::{job, outcome, put_jobs, put_outcomes};
use crate::support::{Leadlane, event};

fn rule(id: &str, price: u32) -> String {
    format!(
        "id: {id}\nscope: {{level: product, id: '12'}}\ntrigger: lms.lead_sold\nfilters: {{price: {{gte: {price}}}}}\n\
         action: {{type: slack_message, token: {{secret: t}}, to: {{channel: C0SALES}}, text: hi}}\n"
    )
}

/// What a command printed and said, with its exit code.
fn told(leadlane: &Leadlane, arguments: &[&str]) -> (i32, String, String) {
    let output = leadlane.run(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The ids of the rules in force.
fn in_force(leadlane: &Leadlane) -> Vec<String> {
    let listed = lines(&leadlane.ok(&["rules", "list", "--json"]));
    listed
        .iter()
        .map(|rule| rule["id"].as_str().unwrap().to_owned())
        .collect()
}

/// A Leadlane with topics, and a folder of rules at 25 beside it.
fn with_rules(name: &str, ids: &[&str]) -> (Leadlane, String) {
    let leadlane = Leadlane::new(name, "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let folder = leadlane.dir.join("rules/more");
    std::fs::create_dir_all(&folder).unwrap();
    for id in ids {
        std::fs::write(folder.join(format!("{id}.yaml")), rule(id, 25)).unwrap();
    }
    let folder = leadlane.dir.join("rules").to_str().unwrap().to_owned();
    leadlane.ok(&["rules", "apply", &folder]);
    (leadlane, folder)
}

#[test]
fn a_dry_run_prints_a_diff_and_writes_nothing() {
    let (leadlane, folder) = with_rules("dry-run", &["a", "b"]);
    std::fs::write(format!("{folder}/more/a.yaml"), rule("a", 30)).unwrap();
    std::fs::write(format!("{folder}/more/c.yaml"), rule("c", 25)).unwrap();
    std::fs::remove_file(format!("{folder}/more/b.yaml")).unwrap();
    let before = leadlane.read(&leadlane.config.topics.rules).len();
    let (code, printed, said) = told(&leadlane, &["rules", "apply", "--dry-run", "--prune", &folder]);
    assert_eq!(code, 0, "{said}");
    for part in [
        "--- a (version 0)\n+++ a\n",
        "\n-  price: {gte: 25}\n+  price: {gte: 30}\n",
        "--- b (version 1)\n+++ nothing\n-id: b\n",
        "--- nothing\n+++ c\n+id: c\n",
    ] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }
    assert!(
        said.contains("would be created: 1, changed: 1, deleted: 1, unchanged: 0"),
        "{said}"
    );
    let as_json = lines(&leadlane.ok(&["rules", "apply", "--dry-run", "--json", &folder]));
    let changes: Vec<_> = as_json.iter().map(|line| (&line["id"], &line["change"])).collect();
    assert_eq!(
        changes,
        [(&"a".into(), &"changed".into()), (&"c".into(), &"created".into())]
    );
    assert_eq!(as_json[0]["before"]["filters"], json!({"price": {"gte": 25}}));
    assert_eq!(leadlane.read(&leadlane.config.topics.rules).len(), before);
}

#[test]
fn pruning_deletes_what_apply_wrote_last_and_nothing_else() {
    let (leadlane, folder) = with_rules("prune", &["a", "b", "c", "paused"]);
    leadlane.ok(&["rules", "pause", "paused"]);
    let foreign = leadlane::yaml::documents(&rule("foreign", 25)).unwrap().remove(0).value;
    let foreign = foreign.to_string();
    leadlane.write(&leadlane.config.topics.rules, [("foreign", Some(foreign.as_bytes()))]);
    for id in ["c", "paused"] {
        std::fs::remove_file(format!("{folder}/more/{id}.yaml")).unwrap();
    }
    let (code, printed, said) = told(&leadlane, &["rules", "apply", "--prune", &folder]);
    assert_eq!(
        (code, printed.lines().last().unwrap().starts_with("c: deleted")),
        (0, true),
        "{printed}{said}"
    );
    assert!(
        said.contains("2 rules in force that the files don't have stay"),
        "{said}"
    );
    assert_eq!(in_force(&leadlane), ["a", "b", "foreign", "paused"]);
    // Half is deleted without a word, more is asked for.
    std::fs::remove_file(format!("{folder}/more/a.yaml")).unwrap();
    std::fs::remove_file(format!("{folder}/more/b.yaml")).unwrap();
    std::fs::write(format!("{folder}/d.yaml"), rule("d", 25)).unwrap();
    let (code, _, said) = told(&leadlane, &["rules", "apply", "--prune", &folder]);
    assert!(
        code == 2 && said.contains("2 of the 2 rules") && said.contains("--yes"),
        "{code} {said}"
    );
    assert_eq!(in_force(&leadlane), ["a", "b", "foreign", "paused"]);
    let dry = told(&leadlane, &["rules", "apply", "--prune", "--dry-run", &folder]);
    assert!(dry.0 == 0 && dry.2.contains("needs --yes"), "{dry:?}");
    leadlane.ok(&["rules", "apply", "--prune", "--yes", &folder]);
    assert_eq!(in_force(&leadlane), ["d", "foreign", "paused"]);
    // Without any rule nothing is deleted, whatever is asked for.
    std::fs::remove_file(format!("{folder}/d.yaml")).unwrap();
    let (code, _, said) = told(&leadlane, &["rules", "apply", "--prune", "--yes", &folder]);
    assert!(code == 2 && said.contains("no rule file"), "{code} {said}");
    assert_eq!(in_force(&leadlane), ["d", "foreign", "paused"]);
}

#[test]
fn rules_are_exported_and_their_history_goes_back() {
    let (leadlane, _) = with_rules("history", &["a", "b"]);
    leadlane.apply(&rule("a", 30));
    leadlane.ok(&["rules", "pause", "a"]);
    let printed = leadlane.ok(&["rules", "history", "a"]);
    let told_lines: Vec<&str> = printed.lines().collect();
    assert!(
        told_lines[0].starts_with("version 0 ") && told_lines[0].contains("apply by "),
        "{printed}"
    );
    assert!(printed.contains("\n    filters.price: "), "{printed}");
    let versions = lines(&leadlane.ok(&["rules", "history", "a", "--json"]));
    let what: Vec<&str> = versions
        .iter()
        .map(|version| version["what"].as_str().unwrap())
        .collect();
    assert_eq!(what, ["apply", "apply", "pause"]);
    assert_eq!(told(&leadlane, &["rules", "history", "gone"]).0, 1);

    leadlane.ok(&["rules", "rollback", "a", "0"]);
    let rolled: Value = serde_json::from_str(&leadlane.ok(&["rules", "get", "a", "--json"])).unwrap();
    assert_eq!(
        (&rolled["filters"]["price"]["gte"], rolled.get("status")),
        (&json!(25), None)
    );
    let (code, _, said) = told(&leadlane, &["rules", "rollback", "a", "999"]);
    assert!(code == 1 && said.contains("no version 999"), "{said}");

    let folder = leadlane.dir.join("export");
    let folder = folder.to_str().unwrap();
    leadlane.ok(&["rules", "export", "--dir", folder]);
    let whole = leadlane.ok(&["rules", "export"]);
    assert_eq!(leadlane::yaml::documents(&whole).unwrap().len(), 2);
    let again = leadlane.ok(&["rules", "apply", folder]);
    assert_eq!(again, "a: unchanged\nb: unchanged\n");
}

#[test]
fn events_are_seen_as_they_come_with_the_rules_that_match() {
    let (leadlane, _) = with_rules("events-tail", &["a"]);
    let mut tails: Vec<_> = [
        &["--json"][..],
        &["--json", "--unmatched"],
        &["--json", "--lead", "lead-2"],
        &[],
    ]
    .into_iter()
    .map(|flags| {
        let arguments = [&["events", "tail", "--since", "1h"][..], flags].concat();
        leadlane.command(&arguments).stdout(Stdio::piped()).spawn().unwrap()
    })
    .collect();
    let events = [
        event(1, "lms.lead_sold", "12", "30.00"),
        event(2, "lms.lead_sold", "12", "3.00"),
    ];
    let records = events.iter().map(|event| ("k", Some(event.as_bytes())));
    leadlane.write(&leadlane.config.topics.events, records);
    let first = |tail: &mut std::process::Child, count: usize| -> Vec<String> {
        let printed = BufReader::new(tail.stdout.take().unwrap()).lines();
        printed.take(count).map(Result::unwrap).collect()
    };
    let all = lines(&first(&mut tails[0], 2).join("\n"));
    assert_eq!((&all[0]["id"], &all[0]["matches"]), (&"e-1".into(), &json!(["a"])));
    assert_eq!((&all[1]["id"], &all[1]["matches"]), (&"e-2".into(), &json!([])));
    assert_eq!(all[0]["event"]["buyer"]["name"], "SafeDrive");
    for tail in &mut tails[1..3] {
        let one = lines(&first(tail, 1).join("\n"));
        assert_eq!(one[0]["id"], "e-2");
    }
    let text = first(&mut tails[3], 2);
    assert!(
        text[0].ends_with("rule a") && text[1].ends_with("no rule matches"),
        "{text:?}"
    );
    for mut tail in tails {
        let asked = Command::new("kill")
            .args(["-INT", &tail.id().to_string()])
            .status()
            .unwrap();
        assert!(asked.success() && tail.wait().unwrap().success());
    }
}

#[test]
fn a_delivery_is_shown_with_the_text_as_it_was_sent() {
    let leadlane = Leadlane::new("as-sent", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let jobs: Vec<_> = (0..3).map(|number| job(number, "r", "slack:a", "C1")).collect();
    put_jobs(&leadlane, &jobs);
    let mut outcomes = vec![outcome(&jobs[0], 0, OutcomeResult::Sent, 1)];
    outcomes.extend((1..3).map(|at| outcome(&jobs[at], at as i64, OutcomeResult::Digested, 1)));
    outcomes[2].ended_at = outcomes[1].ended_at;
    put_outcomes(&leadlane, &outcomes);
    let sent = leadlane.ok(&["deliveries", "show", &jobs[0].job_id]);
    assert!(sent.contains("\nsent\n    sold e-0\n"), "{sent}");
    // A digest's text is made again, of all of its jobs.
    for job in &jobs[1..] {
        let shown: Value = serde_json::from_str(&leadlane.ok(&["deliveries", "show", &job.job_id, "--json"])).unwrap();
        let text = shown["sent"]["text"].as_str().unwrap_or_default();
        assert!(
            text.contains("sold e-1") && text.contains("sold e-2") && !text.contains("e-0"),
            "{shown}"
        );
    }
}

#[test]
fn explain_takes_a_record_through_an_inlet() {
    let inlet = "inlets: [{name: crm, preset: json, secrets: [{bearer: {secret: s}}], explode: $.deals, \
                 event: {event_id: '{{$item.id}}', trigger: deal.won, lead_id: '{{$.owner}}'}}]";
    let leadlane = Leadlane::new("explain-inlet", inlet);
    let record = leadlane.dir.join("record.json");
    std::fs::write(&record, r#"{"owner": "bo", "deals": [{"id": "1"}, {"id": "2"}]}"#).unwrap();
    let rules = leadlane.dir.join("rule.yaml");
    let rule = "{id: won, scope: {level: inlet, id: crm}, trigger: deal.won, filters: {where: [{path: $.item.id, eq: '2'}]}, \
                action: {type: slack_message, token: {secret: t}, to: {channel: C1}, text: 'won {{$.lead_id}}'}}";
    std::fs::write(&rules, rule).unwrap();
    let [record, rules] = [&record, &rules].map(|path| path.to_str().unwrap());
    let arguments = [
        "rules", "explain", "--event", record, "--inlet", "crm", "--rules", rules,
    ];
    let explained = lines(&leadlane.ok(&[&arguments[..], &["--json"]].concat()));
    let matches: Vec<_> = explained
        .iter()
        .map(|line| (&line["event_id"], &line["matches"]))
        .collect();
    assert_eq!(matches, [(&"1".into(), &false.into()), (&"2".into(), &true.into())]);
    let text = leadlane.ok(&arguments);
    assert!(text.contains("event 1 of lead bo:\nwon: does not match\n"), "{text}");
    let (code, _, said) = told(
        &leadlane,
        &[
            "rules", "explain", "--event", record, "--inlet", "none", "--rules", rules,
        ],
    );
    assert!(code == 2 && said.contains("there is no inlet none"), "{said}");
}
