//! Rules are written together and never over somebody's head; rules that are larger than a rule may be, and records of
//! the rules topic that are none.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use leadlane::config::Config;
use leadlane::desk::Error;
use leadlane::desk::rules::write::{Change, Writer};
use leadlane::desk::rules::{Draft, View, get};
use leadlane::kafka::producer::Record;
use leadlane::kafka::reader;
use leadlane::kafka::together::Together;
use leadlane::rules::index::Lists;
use serde_json::{Value, json};

use crate::support::{Leadlane, event, full, now_millis};

/// A valid rule of more than so many bytes.
fn large(id: &str, size: usize) -> Value {
    let buyers: Vec<String> = (0..size / 8)
        .map(|number| format!("{number:06}"))
        .chain(["210".to_owned()])
        .collect();
    json!({
        "id": id, "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "12"}, "filters": {"buyer": buyers},
        "action": {"type": "slack_message", "token": {"secret": "sales-bot"}, "to": {"channel": "C0SALES"}, "text": "{{$.lead_id}}"},
    })
}

#[test]
fn a_rule_that_is_too_large_is_not_written_and_one_that_is_there_stays_in_force_and_can_be_paused() {
    let leadlane = Leadlane::new("large-rule", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let file = leadlane.dir.join("large.yaml");
    std::fs::write(&file, large("large", 200_000).to_string()).unwrap();
    for command in ["validate", "apply"] {
        let refused = leadlane.run(&["rules", command, file.to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{command}: {stderr}");
        assert!(
            stderr.contains("large.yaml:1:1: large: rule") && stderr.contains("131072"),
            "{stderr}"
        );
        assert!(stderr.len() < 2000, "{}", stderr.len());
    }
    assert!(leadlane.read(&leadlane.config.topics.rules).is_empty());

    // Someone else wrote one, or an older version did; and one record is junk.
    let rule = large("large", 600_000).to_string();
    let junk: Vec<String> = (0..40_000).map(|number| format!("\"field{number}\":1")).collect();
    let junk = format!("{{{}}}", junk.join(","));
    let records = [("large", Some(rule.as_bytes())), ("junk", Some(junk.as_bytes()))];
    leadlane.write(&leadlane.config.topics.rules, records);
    let process = leadlane.start(&["--role", "processor"]);
    let sold = |number| event(number, "lms.lead_sold", "12", "99.00");
    leadlane.write(&leadlane.config.topics.events, [("a", Some(sold(1).as_bytes()))]);
    leadlane.read_until(&leadlane.config.topics.jobs, 30, |jobs| jobs.len() == 1);
    let listed = leadlane.ok(&["rules", "list"]);
    assert!(listed.contains("a rule has at most 131072"), "{listed}");
    assert!(listed.len() < 16_000, "{}", listed.len());

    leadlane.ok(&["rules", "pause", "large"]);
    let audit = leadlane.read(&leadlane.config.topics.audit);
    let audit: Value = serde_json::from_slice(audit[0].value.as_deref().unwrap()).unwrap();
    assert!(
        audit["left_out"]["before"]["bytes"].as_u64().unwrap() > 600_000,
        "{audit}"
    );
    assert_eq!((&audit["before"], &audit["after"]), (&Value::Null, &Value::Null));
    process.log_until(10, |log| log.contains("rules.active=0"));
    leadlane.ok(&["rules", "delete", "large"]);

    let log = process.log();
    assert!(log.contains("no valid rule"), "{log}");
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest <= 16 * 1024, "{longest}");
    process.stop();
}

fn small(id: &str, name: &str) -> Value {
    json!({
        "id": id, "name": name, "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "12"},
        "action": {"type": "slack_message", "token": {"secret": "t"}, "to": {"channel": "C0SALES"}, "text": "{{$.lead_id}}"},
    })
}

fn put(config: &Config, rule: Value, seen: Option<i64>) -> Change {
    Change::put(Draft::of(config, rule), seen).unwrap()
}

/// A topic's records by key, each its value as JSON.
fn last_by_key(leadlane: &Leadlane, topic: &str) -> BTreeMap<String, (i64, Value)> {
    let last = leadlane.read(topic).into_iter().map(|record| {
        let value = serde_json::from_slice(record.value.as_deref().unwrap_or(b"null")).unwrap();
        (String::from_utf8(record.key.unwrap()).unwrap(), (record.offset, value))
    });
    last.collect()
}

/// The audit has each record of the rules topic once, with its version and who wrote it, and nothing else.
fn audit_is_what_was_written(leadlane: &Leadlane) {
    let written = leadlane.read(&leadlane.config.topics.rules);
    let versions: Vec<i64> = written.iter().map(|record| record.offset).collect();
    let audit = leadlane.read(&leadlane.config.topics.audit);
    let audited = audit.iter().map(|record| {
        let audit: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let version = audit["version"].as_i64().unwrap();
        let rule = written.iter().find(|rule| rule.offset == version).unwrap();
        assert_eq!(rule.key, record.key);
        let value: Value = serde_json::from_slice(rule.value.as_deref().unwrap_or(b"null")).unwrap();
        assert_eq!(audit["after"], value);
        version
    });
    assert_eq!(audited.collect::<Vec<_>>(), versions);
}

#[test]
fn of_two_appliers_at_once_one_of_which_is_killed_a_whole_state_is_in_force() {
    const RULES: usize = 200;
    let leadlane = Leadlane::new("appliers", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let file = |name: &str| {
        let rules: Vec<Value> = (0..RULES)
            .map(|number| small(&format!("rule-{number}"), name))
            .collect();
        let file = leadlane.dir.join(format!("{name}.yaml"));
        std::fs::write(&file, Value::from(rules).to_string()).unwrap();
        file
    };
    let start = |name: &str| -> Child {
        let mut command = leadlane.command(&["rules", "apply", file(name).to_str().unwrap()]);
        command.env("USER", name).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    assert!(start("first").wait().unwrap().success());
    let (mut before, mut killed_amid, mut conflicts) = ("first".to_owned(), 0, 0);
    for round in (0..12_u64).step_by(if full() { 1 } else { 2 }) {
        let (lives, dies) = (format!("lives-{round}"), format!("dies-{round}"));
        let (living, mut dying) = (start(&lives), start(&dies));
        std::thread::sleep(Duration::from_millis(100 + 60 * round));
        let status = std::process::Command::new("kill")
            .args(["-9", &dying.id().to_string()])
            .status();
        assert!(status.unwrap().success());
        killed_amid += u32::from(!dying.wait().unwrap().success());
        let ended = living.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        if !ended.status.success() {
            conflicts += 1;
            assert_eq!(ended.status.code(), Some(1), "{said}");
            assert!(said.contains(&format!("{dies} changed it at 20")), "{said}");
        }
        // What the killed one left open hides nothing any more once somebody writes.
        let another = leadlane.dir.join("another.yaml");
        std::fs::write(&another, small("another", &lives).to_string()).unwrap();
        leadlane.ok(&["rules", "apply", another.to_str().unwrap()]);
        let mut in_force = last_by_key(&leadlane, &leadlane.config.topics.rules);
        in_force.remove("another");
        let mut names: Vec<&str> = in_force
            .values()
            .map(|(_, rule)| rule["name"].as_str().unwrap())
            .collect();
        names.dedup();
        assert_eq!((in_force.len(), names.len()), (RULES, 1), "{names:?}");
        let name = names[0].to_owned();
        let possible = [before.as_str(), &lives, &dies];
        assert!(
            possible.contains(&name.as_str()) && (name == before) <= !ended.status.success(),
            "{name}: {said}"
        );
        audit_is_what_was_written(&leadlane);
        before = name;
    }
    let least = if full() { 4 } else { 2 };
    assert!(killed_amid >= least, "{killed_amid} were killed, {conflicts} conflicts");
}

#[test]
fn of_four_writers_with_fifty_writes_each_nothing_is_lost_or_overwritten_unseen() {
    let leadlane = Leadlane::new("writers", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let config = &leadlane.config;
    let counted =
        |view: &View| get(view, "count").map_or(0, |rule| rule.rule.name.as_deref().unwrap().parse::<u32>().unwrap());
    // Each counts on from what it saw, so that whatever is overwritten unseen is missing in the end.
    let work = |number: usize| {
        let mut writer = Writer::new(config);
        let mut conflicts = 0_u32;
        for _ in 0..50 {
            loop {
                let (seen, count) = {
                    let view = writer.view().unwrap();
                    (view.version("count"), counted(&view))
                };
                let who = format!("writer-{number}");
                let mut rule = small("count", &(count + 1).to_string());
                rule["action"]["text"] = who.as_str().into();
                match writer.write(&[put(config, rule, seen)], &who, now_millis()) {
                    Ok(written) => break assert!(written[0].changed),
                    Err(Error::Conflict(found)) => {
                        conflicts += 1;
                        let other = found[0].who.as_deref();
                        assert!(
                            other.is_some_and(|other| other.starts_with("writer-") && other != who)
                                || found[0].message.contains("took over again"),
                            "{found:?}"
                        );
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        conflicts
    };
    let conflicts: u32 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|number| scope.spawn(move || work(number))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(counted(&View::scan(config).unwrap()), 200, "{conflicts} conflicts");
    assert!(conflicts > 0, "they never met");
    audit_is_what_was_written(&leadlane);
    let audit = leadlane.read(&config.topics.audit);
    let counts = audit.iter().map(|record| {
        let audit: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        (audit["before"]["name"].clone(), audit["after"]["name"].clone())
    });
    let name = |count: usize| {
        if count == 0 {
            Value::Null
        } else {
            count.to_string().into()
        }
    };
    let wanted: Vec<_> = (0..200).map(|count| (name(count), name(count + 1))).collect();
    assert_eq!(counts.collect::<Vec<_>>(), wanted);
}

#[test]
fn a_change_between_look_and_write_is_a_conflict_that_names_who_and_when() {
    let leadlane = Leadlane::new("meanwhile", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let config = &leadlane.config;
    let mut writer = Writer::new(config);
    let new = |id: &str| put(config, small(id, "new"), None);
    let written = writer.write(&[new("a"), new("b")], "ben", now_millis()).unwrap();
    assert_eq!((written[0].version, written[1].version), (0, 1));
    let mut seen = |id: &str| writer.view().unwrap().version(id);
    let changes = [
        put(config, small("a", "newer"), seen("a")),
        Change::delete("b", seen("b"), false),
        new("c"),
    ];
    let began = now_millis();
    let ana = |arguments: &[&str]| {
        let status = leadlane
            .command(arguments)
            .env("USER", "ana")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    };
    ana(&["rules", "pause", "a"]);
    ana(&["rules", "delete", "b"]);
    let Err(Error::Conflict(conflicts)) = writer.write(&changes, "ben", now_millis()) else {
        panic!("no conflict");
    };
    assert_eq!(conflicts.len(), 2, "{conflicts:?}");
    for (conflict, version) in conflicts.iter().zip([Some(3), None]) {
        assert_eq!((conflict.version, conflict.who.as_deref()), (version, Some("ana")));
        assert!(
            conflict
                .when
                .is_some_and(|when| began - 1000 <= when && when <= now_millis()),
            "{conflict:?}"
        );
    }
    assert!(conflicts[0].message.contains("ana changed it at 20"), "{conflicts:?}");
    assert!(conflicts[1].message.contains("ana deleted it at 20"), "{conflicts:?}");
    let versions = {
        let view = writer.view().unwrap();
        ["a", "b", "c"].map(|id| view.version(id))
    };
    assert_eq!(versions, [Some(3), None, None]);
    // Whoever looked again may write.
    let [seen, ..] = versions;
    writer.write(&[Change::resume("a", seen)], "ben", now_millis()).unwrap();
    audit_is_what_was_written(&leadlane);
}

#[test]
fn a_thousand_rules_come_into_force_together_within_a_second() {
    let leadlane = Leadlane::new("whole", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let config = leadlane.config.clone();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let metrics = std::sync::Arc::new(leadlane::metrics::Metrics::new(10));
    let states =
        leadlane::feed::follow::<Lists>(std::sync::Arc::new(config.clone()), metrics, now_millis, stopped).unwrap();
    let active = || states.borrow().as_ref().map(|rules| rules.active);
    let until = Instant::now() + Duration::from_secs(20);
    while active().is_none() {
        assert!(Instant::now() < until, "the rules are not read");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut writer = Writer::new(&config);
    for round in 1..=3_usize {
        let changes = |part: std::ops::Range<usize>| -> Vec<Change> {
            part.map(|number| put(&config, small(&format!("rule-{number}"), "n"), None))
                .collect()
        };
        writer
            .write(&changes(1000 * (round - 1)..1000 * round), "me", now_millis())
            .unwrap();
        let committed = Instant::now();
        while active() != Some(1000 * round) {
            assert_eq!(active().unwrap() % 1000, 0, "a half is in force");
            assert!(committed.elapsed() < Duration::from_secs(10), "{:?}", active());
            std::thread::sleep(Duration::from_millis(1));
        }
        let visible = committed.elapsed();
        assert!(visible < Duration::from_secs(1), "{visible:?}");
    }
    stop.send_replace(true);
}

#[test]
fn while_others_write_without_a_pause_each_change_comes_into_force() {
    let leadlane = Leadlane::new("busy-rules", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let config = leadlane.config.clone();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let metrics = std::sync::Arc::new(leadlane::metrics::Metrics::new(10));
    let states =
        leadlane::feed::follow::<Lists>(std::sync::Arc::new(config.clone()), metrics, now_millis, stopped).unwrap();
    let producer = leadlane.producer();
    let (began, mut written) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(3) {
        let rule = small(&format!("rule-{written}"), "n").to_string();
        let headers = rdkafka::message::OwnedHeaders::new();
        let record = Record {
            topic: &config.topics.rules,
            partition: None,
            key: format!("rule-{written}").into_bytes().leak(),
            value: Some(rule.as_bytes()),
            headers,
        };
        producer.write_and_wait(&record).unwrap();
        written += 1;
        std::thread::sleep(Duration::from_millis(10));
        if began.elapsed() > Duration::from_secs(2) {
            let active = states.borrow().as_ref().map_or(0, |rules| rules.active);
            assert!(active + 100 > written, "{active} of {written} are in force");
        }
    }
    stop.send_replace(true);
}

#[test]
fn who_must_read_all_that_is_committed_waits_for_what_hides_it() {
    let leadlane = Leadlane::new("settled", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let (config, audit) = (leadlane.config.clone(), leadlane.config.topics.audit.clone());
    let mut open = Together::open(&config, "rules", 1_000_000, Duration::from_secs(30)).unwrap();
    let record = Record {
        topic: &audit,
        partition: None,
        key: b"",
        value: Some(b"{}"),
        headers: rdkafka::message::OwnedHeaders::new(),
    };
    open.write(&record).unwrap();
    assert_eq!(open.offsets().unwrap(), [0]);
    leadlane.write(&audit, [("", Some(b"{\"replayed\":[]}".as_slice()))]);
    assert!(leadlane.read(&audit).is_empty(), "what is open hides what is behind it");
    std::thread::scope(|scope| {
        let settling = scope.spawn(|| {
            reader::settled(&config, &audit).unwrap();
            leadlane.read(&audit).len()
        });
        std::thread::sleep(Duration::from_millis(700));
        assert!(!settling.is_finished());
        open.commit().unwrap();
        assert_eq!(settling.join().unwrap(), 2);
    });
}
