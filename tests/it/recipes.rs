//! The recipes in `config/rules/recipes`: test files, whose cases hold in this process; and test files of others.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use leadlane::desk::cases::{self, Case, Form, Given, Record, Source, TestFile};
use leadlane::mapping::{Entrance, Inlet, KeyPlace, Received};
use leadlane::rules::{Rule, check};
use serde_json::{Value, json};

use crate::docs::leadlane;
use crate::tidy::{files, text};

/// What arrives at a destination: `to` and `body`, as a case expects them.
pub(crate) type Request = Value;

pub(crate) struct Recipe {
    pub(crate) path: String,
    pub(crate) inlet: Inlet,
    pub(crate) rules: Vec<Value>,
    pub(crate) case: Case,
}

/// Every recipe: one inlet, rules in place, and one case.
pub(crate) fn recipes() -> Vec<Recipe> {
    let read = |path: String| {
        let file = cases::read(&text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let TestFile { rules, inlets, cases } = file;
        let [inlet] = <[Inlet; 1]>::try_from(inlets).unwrap_or_else(|inlets| panic!("{path}: {}", inlets.len()));
        let [case] = <[Case; 1]>::try_from(cases).unwrap_or_else(|cases| panic!("{path}: {}", cases.len()));
        let rules = rules.into_iter().map(|source| match source {
            Source::Rule(rule) => rule,
            Source::Path(_) => panic!("{path}: a recipe has its rules in place"),
        });
        let rules = rules.collect();
        Recipe {
            path,
            inlet,
            rules,
            case,
        }
    };
    files("config/rules/recipes", ".yaml").into_iter().map(read).collect()
}

impl Recipe {
    /// What comes to the inlet.
    pub(crate) fn record(&self) -> &Record {
        match &self.case.given {
            Given::Record(record) => record,
            Given::Event(_) => panic!("{}: a recipe goes through its inlet", self.path),
        }
    }

    /// The URL's path and the headers with what opens the inlet; none where the record goes to a topic. `signature` is
    /// Slack's.
    pub(crate) fn request(&self, now: i64, signature: &str) -> Option<(String, Vec<(&'static str, String)>)> {
        let Record { route, form, .. } = self.record();
        let Entrance::Http { keys, .. } = &self.inlet.entrance else {
            return None;
        };
        let secret = secret(keys[0].secret.as_str());
        let mut path = format!("/inlets/{}", self.inlet.name);
        let content_type = match form {
            Form::Json => Some("application/json"),
            Form::Type(content_type) => content_type.as_deref(),
        };
        let mut headers = vec![("Content-Type", content_type.unwrap_or_default().to_owned())];
        match keys[0].place {
            KeyPlace::Signature => headers.extend([
                ("X-Slack-Request-Timestamp", now.to_string()),
                ("X-Slack-Signature", signature.to_owned()),
            ]),
            KeyPlace::Bearer => headers.push(("Authorization", format!("Bearer {secret}"))),
            KeyPlace::Basic | KeyPlace::WriteKey => {
                let basic = STANDARD.encode(format!("{secret}:"));
                headers.push(("Authorization", format!("Basic {basic}")));
            }
            KeyPlace::Path => path.push_str(&format!("/{secret}")),
        }
        if !route.is_empty() {
            path.push_str(&format!("/{route}"));
        }
        Some((path, headers))
    }

    /// The requests that are expected; a recipe states their bodies as a whole.
    pub(crate) fn expected(&self) -> impl Iterator<Item = Request> {
        self.case.expect.iter().map(|expected| {
            let part = |name: &str| {
                expected
                    .fields
                    .get(name)
                    .unwrap_or_else(|| panic!("{}: no {name}", self.path))
            };
            json!({"to": part("to"), "body": part("body")})
        })
    }
}

/// What the tests' secret of this name is. Slack's signing secret has nothing in it that a shell would mind.
pub(crate) fn secret(name: &str) -> String {
    format!("hunter2-{name}")
}

/// Compares without an order: lanes have none among each other.
pub(crate) fn same(what: &str, mut arrived: Vec<Request>, wanted: impl IntoIterator<Item = Request>) {
    let mut missing = Vec::new();
    for wanted in wanted {
        match arrived.iter().position(|arrived| *arrived == wanted) {
            Some(at) => drop(arrived.swap_remove(at)),
            None => missing.push(wanted),
        }
    }
    let lines = |requests: &[Request]| {
        requests
            .iter()
            .map(|request| format!("\n  {request}"))
            .collect::<String>()
    };
    assert!(
        missing.is_empty() && arrived.is_empty(),
        "{what}: missing are{}\nand too much is{}",
        lines(&missing),
        lines(&arrived)
    );
}

#[test]
fn every_recipe_passes_and_warns_of_nothing() {
    let recipes = recipes();
    assert!(recipes.len() >= 11, "{}", recipes.len());
    let paths: Vec<&str> = recipes.iter().map(|recipe| recipe.path.as_str()).collect();
    let ran = leadlane(&[&["rules", "test"][..], &paths].concat(), "");
    let (said, warned) = (
        String::from_utf8_lossy(&ran.stdout).into_owned(),
        String::from_utf8_lossy(&ran.stderr).into_owned(),
    );
    assert_eq!(ran.status.code(), Some(0), "{said}{warned}");
    assert_eq!(said, format!("{} cases passed\n", recipes.len()));
    for recipe in &recipes {
        assert_ne!(recipe.expected().count(), 0, "{}", recipe.path);
        for rule in &recipe.rules {
            let rule = Rule::from_json(rule).unwrap_or_else(|problems| panic!("{}: {problems:?}", recipe.path));
            assert_eq!(check::warnings(&rule), [], "{}: {}", recipe.path, rule.id);
        }
    }
}

#[test]
fn recipes_can_be_copied_side_by_side() {
    let mut seen: Vec<(String, Value)> = Vec::new();
    for Recipe { path, inlet, rules, .. } in recipes() {
        // Whoever copies two has each inlet once and no rule twice.
        for (_, other) in seen.iter().filter(|(other, _)| *other == inlet.name) {
            assert_eq!(
                other,
                inlet.entry(),
                "{path}: another recipe has another inlet {}",
                inlet.name
            );
        }
        seen.push((inlet.name.clone(), inlet.entry().clone()));
        for rule in rules {
            let id = format!("rule {}", rule["id"].as_str().unwrap());
            assert!(seen.iter().all(|(other, _)| *other != id), "{path}: {id} stands twice");
            seen.push((id, rule));
        }
    }
}

#[test]
fn a_recipe_is_no_rule_by_mistake() {
    let path = &recipes()[0].path;
    let refused = leadlane(&["rules", "validate", path], "");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains(&format!("{path}: is a test file")) && said.contains("leadlane rules test"),
        "{said}"
    );
    // In a folder it is passed over, and the rules beside it are read.
    let read = leadlane(&["rules", "validate", "config/rules"], "");
    let said = String::from_utf8_lossy(&read.stdout);
    assert!(
        read.status.success() && said.contains("big-auto-sales: valid"),
        "{said}"
    );
}

/// Every YAML reader takes them, with the same values: PyYAML is stricter than most, and reads dates as such.
#[test]
fn other_readers_of_yaml_take_every_example() {
    let script =
        "import json, sys, yaml; print(json.dumps([list(yaml.safe_load_all(open(path))) for path in sys.argv[1:]]))";
    let python = crate::support::part("LEADLANE_TEST_PYTHON");
    let paths = files("config/rules", ".yaml");
    let read = std::process::Command::new(python)
        .args(["-c", script])
        .args(&paths)
        .current_dir(crate::tidy::root())
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let theirs: Vec<Vec<Value>> = serde_json::from_slice(&read.stdout).unwrap();
    for (path, theirs) in paths.iter().zip(theirs) {
        let ours: Vec<Value> = leadlane::yaml::documents(&text(path))
            .unwrap()
            .into_iter()
            .map(|ours| ours.value)
            .collect();
        assert_eq!(loose(&Value::from(ours)), loose(&Value::from(theirs)), "{path}");
    }
}

/// A value with its numbers as others keep them.
fn loose(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(list) => list.iter().map(loose).collect(),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone(), loose(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// A folder of its own with files in it.
fn folder(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("leadlane-cases-{name}-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("rules")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder
}

const BIG: &str = "id: big-auto-sales
scope: {level: product, id: '12'}
trigger: lms.lead_sold
filters: {price: {gte: 25}, where: [{path: $.consumer.state, in: [TX, FL]}]}
action:
  type: slack_message
  token: {secret: sales-bot}
  to: {channel: C0123ABCD}
  text: 'Lead {{$.lead_id}} sold to {{$.buyer.name}} for {{$.price | money}}'
";
const SHADOW: &str = "id: quiet
status: shadow
scope: {level: product, id: '12'}
trigger: lms.lead_sold
action: {type: slack_webhook, url: {secret: alerts}, text: 'sold on {{$.occurred_at | date: \"%d %b %Y\"}}'}
";
const CASES: &str = r#"rules: [rules/*.yaml]
cases:
  - name: a big sale in Texas
    event: {trigger: lms.lead_sold, lead_id: "84512377", product: {id: "12"}, price: "42.50", consumer: {state: TX}}
    expect:
      - {rule: quiet, would: shadowed, to: alerts, text: "sold on 01 Jan 2026"}
      - {rule: big-auto-sales, to: C0123ABCD, text: "Lead 84512377 sold to  for $42.50"}
  - name: a small one
    event: {trigger: lms.lead_sold, product: {id: "12"}, price: 3}
    expect: [{rule: quiet}]
"#;

#[test]
fn a_test_file_passes_or_says_what_differs() {
    let files = [
        ("rules/big.yaml", BIG),
        ("rules/quiet.yaml", SHADOW),
        ("test.yaml", CASES),
    ];
    let folder = folder("differ", &files);
    let test = |cases: &str, json: bool| {
        let file = folder.join("test.yaml");
        std::fs::write(&file, cases).unwrap();
        let mut arguments = vec!["rules", "test", file.to_str().unwrap()];
        arguments.extend(json.then_some("--json"));
        let ran = leadlane(&arguments, "");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ran.status.code(), text(ran.stdout), text(ran.stderr))
    };
    assert_eq!(
        test(CASES, false),
        (Some(0), "2 cases passed\n".to_owned(), String::new())
    );
    let wrong = CASES
        .replace("for $42.50", "for $42.00")
        .replace("[{rule: quiet}]", "[{rule: big-auto-sales}, {rule: gone}]");
    let (code, said, warned) = test(&wrong, false);
    assert_eq!((code, warned.as_str()), (Some(1), "leadlane: 2 of 2 cases failed\n"));
    for part in [
        "a big sale in Texas: failed\n    big-auto-sales: text is not as expected\n",
        "        expected  \"Lead 84512377 sold to  for $42.00\"\n        found     \"Lead 84512377 sold to  for $42.50\"\n",
        "a small one: failed\n    big-auto-sales: expected, and does not match\n",
        "        filters.price.gte 25 does not hold: the event has 3\n",
        "$.consumer.state",
        "    gone: expected, and no rule of the file has this id\n",
        "    quiet: not expected, and matches\n",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let (code, said, _) = test(&wrong, true);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (Some(1), 2));
    let first = &lines[0]["differences"][0];
    assert_eq!(
        (&lines[0]["id"], &lines[0]["passed"]),
        (&"a big sale in Texas".into(), &false.into())
    );
    assert_eq!(
        (&first["rule"], &first["field"], &first["expected"]),
        (
            &"big-auto-sales".into(),
            &"text".into(),
            &"Lead 84512377 sold to  for $42.00".into()
        )
    );
    let failed = &lines[1]["differences"][0]["failed"][0];
    assert_eq!(failed, &json!({"condition": "filters.price.gte 25", "value": "3"}));
    let (code, said, _) = test(CASES, true);
    assert_eq!((code, said.matches("\"passed\":true").count()), (Some(0), 2));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_test_file_that_cannot_be_read_is_refused_before_any_case_runs() {
    let folder = folder("refused", &[("rules/big.yaml", BIG)]);
    let file = folder.join("test.yaml");
    for (text, words) in [
        ("rules: []", "is no test file"),
        (
            "rules: [nothing-*.yaml]\ncases: [{event: {}, expect: []}]",
            "no file has such a name",
        ),
        (
            "rules: [rules/big.yam]\ncases: [{event: {}, expect: []}]",
            "rules/big.yam",
        ),
        (
            "rules: [rules/*.yaml, {id: x}]\ncases: [{event: {}, expect: []}]",
            "trigger",
        ),
        (
            "rules: [rules/*.yaml]\ncases: [{event: {}, expects: []}]",
            "cases[0].expects: unknown field; did you mean expect?",
        ),
        (
            "rules: [rules/*.yaml]\ncases: [{event: {}}]",
            "cases[0].expect: is missing",
        ),
        (
            "rules: [rules/*.yaml]\ncases: [{event: {}, record: {}, expect: []}]",
            "cases[0].record: belongs to a case with an inlet",
        ),
        (
            "rules: [rules/*.yaml]\ncases: [{inlet: x, expect: []}]",
            "cases[0]: needs one of record, body",
        ),
        (
            "rules: [rules/*.yaml]\ncases: [{event: {}, expect: [{text: x}]}]",
            "cases[0].expect[0].rule: is missing",
        ),
        (
            "rules: [rules/*.yaml]\ninlets: [{name: x}]\ncases: [{event: {}, expect: []}]",
            "inlets[0]",
        ),
        ("cases: ][", "line 1"),
    ] {
        std::fs::write(&file, text).unwrap();
        let ran = leadlane(&["rules", "test", file.to_str().unwrap()], "");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{text}: {said}");
        assert!(
            said.contains(words) && said.contains("test.yaml") | said.contains("rules/"),
            "{text}: {said}"
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_page_names_every_recipe() {
    let page = text("config/rules/recipes/README.md");
    for Recipe { path, .. } in recipes() {
        let name = path.rsplit('/').next().unwrap();
        assert!(page.contains(&format!("]({name})")), "{name} is missing");
    }
}

#[test]
fn the_apps_script_sends_each_row_once_and_the_same_body_again() {
    let root = crate::tidy::root();
    let output = std::process::Command::new("node")
        .arg(root.join("tests/apps_script/run.js"))
        .arg(root.join("config/inlets/sheet.gs"))
        .output()
        .expect("node is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let runs: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = |run: usize, at: usize| -> Value {
        let payload = runs[run]["sent"][at]["payload"].as_str().unwrap();
        serde_json::from_str(payload).unwrap()
    };
    let [installed, first, failed, again, refused, mended, many, shrunk, after] = &runs[..] else {
        panic!("{said}")
    };
    assert_eq!((&installed["sent"], &installed["last"]), (&json!([]), &"2".into()));
    // Dates are plain in any zone, an empty row is passed, one that isn't ready waits.
    assert_eq!(
        rows(1, 0),
        json!([{"_row": 3, "Email": "ana@example.com", "When": "2018-03-05T15:16:00.000Z", "Plan": "team"}])
    );
    assert_eq!(first["sent"][0]["authorization"], "Bearer hunter2");
    assert_eq!(first["last"], "4");
    // A failure is tried again, and then kept for the next run with the body as it was.
    let statuses = |run: &Value| -> Vec<u64> {
        let sent = run["sent"].as_array().unwrap();
        sent.iter().map(|sent| sent["status"].as_u64().unwrap()).collect()
    };
    assert_eq!(
        (statuses(failed), &failed["slept"]),
        (vec![0, 503, 429, 500], &json!([1000, 2000, 4000]))
    );
    assert_eq!(
        (&failed["error"], &failed["last"]),
        (&"Leadlane answered 500: said".into(), &"4".into())
    );
    assert_eq!(again["sent"][0]["payload"], failed["sent"][0]["payload"]);
    assert_eq!((statuses(again), &again["last"]), (vec![200], &"5".into()));
    assert_eq!(
        (statuses(refused), &refused["error"]),
        (vec![401], &"Leadlane answered 401: said".into())
    );
    assert_eq!(mended["sent"][0]["payload"], refused["sent"][0]["payload"]);
    let lengths: Vec<usize> = (0..3).map(|at| rows(6, at).as_array().unwrap().len()).collect();
    assert_eq!((lengths, &many["last"]), (vec![200, 200, 46], &"452".into()));
    // Deleted rows are none, and what comes after them is new.
    assert_eq!((&shrunk["sent"], &shrunk["last"]), (&json!([]), &"3".into()));
    assert_eq!((rows(8, 0)[0]["_row"].clone(), &after["last"]), (4.into(), &"4".into()));
    // What it sends is what the preset takes.
    let entry = json!({"name": "leads", "preset": "sheet", "secrets": [{"secret": "s"}]});
    let inlet = Inlet::read("inlet", &entry).unwrap();
    let body = failed["sent"][0]["payload"].as_str().unwrap().as_bytes();
    let received = Received {
        body,
        ..Received::default()
    };
    let taken = inlet.take_body(&received, None, Timestamp::UNIX_EPOCH);
    assert_eq!((taken.events.len(), taken.refused), (1, None));
    assert_eq!(taken.events[0].lead_id, "bo@example.com");
}

/// The code blocks of a page in YAML.
fn blocks(page: &str) -> Vec<String> {
    let text = text(page);
    let parts = text.split("```yaml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_pages_on_inlets_show_what_is_valid() {
    let mut entries = 0;
    for page in [files("docs/inlets", ".md"), vec!["docs/inlets.md".to_owned()]].concat() {
        for block in blocks(&page) {
            let value = leadlane::yaml::documents(&block).unwrap().remove(0).value;
            match value.get("inlets").and_then(Value::as_array) {
                Some(inlets) => {
                    for entry in inlets {
                        Inlet::read("inlets", entry).unwrap_or_else(|problems| panic!("{page}: {problems:?}"));
                        entries += 1;
                    }
                }
                None if value.get("id").is_some() => {
                    Rule::from_json(&value).unwrap_or_else(|problems| panic!("{page}: {problems:?}"));
                }
                None => {}
            }
        }
    }
    assert!(entries >= 8, "{entries}");
}

#[test]
fn the_page_on_the_mapping_states_every_key() {
    let problems = Inlet::read("inlet", &json!({"qqqqqqqqqqqqqqqq": 1})).unwrap_err();
    let known = problems
        .iter()
        .find_map(|problem| problem.message.split_once("known here are "));
    let known: BTreeSet<String> = known.unwrap().1.split(", ").map(str::to_owned).collect();
    let page = text("docs/inlets.md");
    let rows = |head: &str| -> Vec<String> {
        let lines = page.lines().skip_while(|line| !line.starts_with(head)).skip(2);
        let rows = lines.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
    };
    let stated = [rows("| key | meaning |"), rows("| key | meaning | default |")].concat();
    assert_eq!(stated.into_iter().collect::<BTreeSet<_>>(), known);
}
