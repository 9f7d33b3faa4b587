//! The commands, and what a person is told when something is missing.

use crate::support::{Leadlane, event, free_port, part};

fn stderr(leadlane: &Leadlane, arguments: &[&str], code: i32) -> String {
    let output = leadlane.run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "leadlane {arguments:?}: {text}");
    text
}

fn with_brokers(name: &str, kafka: &str) -> Leadlane {
    let leadlane = Leadlane::new(name, "");
    let file = leadlane.dir.join("leadlane.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let rest = text.split_once('\n').unwrap().1;
    std::fs::write(&file, format!("kafka: {kafka}\n{rest}")).unwrap();
    leadlane
}

#[test]
fn run_says_in_one_message_what_is_wrong_and_what_to_do() {
    let leadlane = Leadlane::new("missing", "");
    let message = stderr(&leadlane, &["run"], 1);
    assert!(
        message.contains(&leadlane.config.topics.jobs) && message.contains("leadlane topics create"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");

    let nobody = format!("127.0.0.1:{}", free_port());
    let message = stderr(
        &with_brokers("nobody", &format!("{{brokers: '{nobody}'}}")),
        &["run"],
        1,
    );
    assert!(
        message.contains(&nobody) && message.contains("kafka.brokers"),
        "{message}"
    );

    let sasl = part("LEADLANE_TEST_KAFKA_SASL");
    let properties =
        "{security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN, sasl.username: leadlane, sasl.password: hunter2}";
    let wrong = with_brokers("password", &format!("{{brokers: '{sasl}', properties: {properties}}}"));
    let message = stderr(&wrong, &["run"], 1);
    assert!(
        message.contains("refused the log-in") && message.contains("sasl.password") && !message.contains("hunter2"),
        "{message}"
    );
    let right = with_brokers(
        "password",
        &format!(
            "{{brokers: '{sasl}', properties: {}}}",
            properties.replace("hunter2", "leadlane-secret")
        ),
    );
    right.ok(&["topics", "create", "--partitions", "1"]);
    right.ok(&["topics", "check"]);

    // It answers, and wants something else.
    let plain = part("LEADLANE_TEST_KAFKA");
    let log_in = "sasl.mechanism: PLAIN, sasl.username: a, sasl.password: hunter2";
    for (brokers, properties, wanted) in [
        (&sasl, String::new(), "wants a log-in"),
        (&plain, "security.protocol: SSL".to_owned(), "speaks no TLS"),
        (&sasl, format!("security.protocol: SASL_SSL, {log_in}"), "speaks no TLS"),
        (
            &plain,
            format!("security.protocol: SASL_PLAINTEXT, {log_in}"),
            "takes no SASL log-in",
        ),
        (
            &sasl,
            format!(
                "security.protocol: SASL_PLAINTEXT, {}",
                log_in.replace("PLAIN", "SCRAM-SHA-512")
            ),
            "one that it knows: PLAIN",
        ),
    ] {
        let kafka = format!("{{brokers: '{brokers}', properties: {{{properties}}}}}");
        let message = stderr(&with_brokers("mismatch", &kafka), &["topics", "check"], 1);
        assert!(
            message.contains(wanted) && message.contains(&**brokers),
            "{properties}: {message}"
        );
        assert!(!message.contains("no broker answers"), "{properties}: {message}");
    }
}

#[test]
fn topics_check_names_what_is_set_wrongly() {
    let leadlane = Leadlane::new("check", "sender: {job_age_max: 96h}");
    assert!(leadlane.ok(&["topics", "create"]).contains("created"));
    assert!(leadlane.ok(&["topics", "create"]).contains("is there already"));
    leadlane.ok(&["topics", "check"]);
    leadlane.rewrite("job_age_max: 96h", "job_age_max: 200h");
    let jobs = &leadlane.config.topics.jobs;
    for command in ["check", "create"] {
        let message = stderr(&leadlane, &["topics", command], 1);
        let wanted =
            format!("{jobs} has retention.ms=691200001, but sender.job_age_max, which is 8d8h, must be under half");
        assert!(message.contains(&wanted), "{message}");
        assert!(
            message.contains(&format!("--entity-name {jobs} --add-config retention.ms=1440000001")),
            "{message}"
        );
    }
}

#[test]
fn topics_create_makes_no_set_that_topics_check_refuses() {
    // The jobs are there, and their outcomes follow them; or the other way round.
    for (missing, there) in [("outcomes", "jobs"), ("jobs", "outcomes")] {
        let leadlane = Leadlane::new("follow", "");
        leadlane.ok(&["topics", "create", "--partitions", "2"]);
        let topics = &leadlane.config.topics;
        let gone = if missing == "jobs" {
            &topics.jobs
        } else {
            &topics.outcomes
        };
        leadlane.rewrite(&format!("{missing}: {gone}"), &format!("{missing}: {gone}-anew"));
        let made = leadlane.ok(&["topics", "create", "--partitions", "6"]);
        assert!(made.contains(&format!("{gone}-anew: created")), "{there}: {made}");
        leadlane.ok(&["topics", "check"]);
    }
    // Dead letters that are there are held against events that aren't yet.
    let leadlane = Leadlane::new("small", "");
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    let topics = &leadlane.config.topics;
    for (key, name, other) in [
        ("dead_letters", &topics.dead_letters, topics.audit.clone()),
        ("events", &topics.events, format!("{}-anew", topics.events)),
    ] {
        leadlane.rewrite(&format!("{key}: {name}"), &format!("{key}: {other}"));
    }
    assert!(stderr(&leadlane, &["topics", "create"], 1).contains("max.message.bytes=1048588, but needs 1114124"));
    assert!(stderr(&leadlane, &["topics", "check"], 1).contains("-anew is missing"));
    // Where one is wrong that is there, none is made, and nothing is written into it.
    let leadlane = Leadlane::new("wrong", "");
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    let topics = &leadlane.config.topics;
    leadlane.rewrite(&format!("rules: {}", topics.rules), &format!("rules: {}", topics.jobs));
    leadlane.rewrite(
        &format!("events: {}", topics.events),
        &format!("events: {}-anew", topics.events),
    );
    let wrong = format!("{} has 2 partitions, but must have 1", topics.jobs);
    assert!(stderr(&leadlane, &["topics", "create"], 1).contains(&wrong));
    assert!(stderr(&leadlane, &["topics", "check"], 1).contains("-anew is missing"));
    let file = leadlane.dir.join("rule.yaml");
    let rule = "{id: sold, trigger: lms.lead_sold, scope: {level: product, id: 12}, \
                action: {type: slack_message, token: {secret: t}, to: {channel: C0SALES}, text: hi}}";
    std::fs::write(&file, rule).unwrap();
    let message = stderr(&leadlane, &["rules", "apply", file.to_str().unwrap()], 1);
    assert!(message.contains(&wrong), "{message}");
    assert!(leadlane.read(&topics.jobs).is_empty());
    // Of one partition, but not compacted: rules would be lost.
    leadlane.rewrite(&format!("rules: {}", topics.jobs), &format!("rules: {}", topics.audit));
    let message = stderr(&leadlane, &["rules", "apply", file.to_str().unwrap()], 1);
    let cure = format!("--entity-name {} --add-config cleanup.policy=compact", topics.audit);
    assert!(message.contains(&cure), "{message}");
}

#[test]
fn a_body_that_the_dead_letters_would_not_take_is_refused_before_it_comes() {
    let inlets = "sender: {job_age_max: 36h}\ninlet: {body_max: 4MB}\ninlets: []";
    let leadlane = Leadlane::new("bodies", inlets);
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.ok(&["topics", "check"]);
    leadlane.rewrite(
        "inlets: []",
        "inlets: [{name: rows, preset: sheet, secrets: [{secret: rows-token}]}]",
    );
    for command in [&["topics", "check"][..], &["run"]] {
        let message = stderr(&leadlane, command, 1);
        assert!(
            message.contains("max.message.bytes=1114124, but needs 4065536, for a body of inlet.body_max"),
            "{message}"
        );
    }
    // Made with such an inlet, they take it.
    let leadlane = Leadlane::new(
        "bodies",
        &inlets.replace("[]", "[{name: rows, preset: sheet, secrets: [{secret: rows-token}]}]"),
    );
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.ok(&["topics", "check"]);
}

#[test]
fn rules_go_in_and_out_of_force() {
    let leadlane = Leadlane::new("rules", "");
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    let rule = |price: u32| {
        format!(
            "{{id: sold, trigger: lms.lead_sold, scope: {{level: product, id: 12}}, filters: {{price: {{gte: {price}}}}}, \
                 action: {{type: slack_message, token: {{secret: t}}, to: {{channel: C0SALES}}, text: hi}}}}"
        )
    };
    leadlane.apply(&rule(25));
    let listed = leadlane.ok(&["rules", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((&listed["id"], &listed["status"]), (&"sold".into(), &"active".into()));
    assert_eq!(stderr(&leadlane, &["rules", "get", "nobody"], 1).lines().count(), 1);

    let process = leadlane.start(&["--role", "processor"]);
    let matches = |number: u64, wanted: usize| {
        let event = event(number, "lms.lead_sold", "12", "30.00");
        let before = leadlane.read(&leadlane.config.topics.jobs).len();
        leadlane.write(&leadlane.config.topics.events, [("k", Some(event.as_bytes()))]);
        // A canary that always matches, behind it in the same partition, says when it was decided.
        let canary = event.replace("\"e-", "\"canary-").replace("30.00", "1000.00");
        leadlane.write(&leadlane.config.topics.events, [("k", Some(canary.as_bytes()))]);
        leadlane.read_until(&leadlane.config.topics.jobs, 20, |jobs| {
            jobs.len() > before + wanted.saturating_sub(1).min(1)
                && jobs.last().unwrap().header("event-id") == Some(&format!("canary-{number}"))
        });
        assert_eq!(leadlane.read(&leadlane.config.topics.jobs).len() - before, wanted + 1);
    };
    // Each commit takes an offset, too.
    let in_force = |version: i64| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !process.log().contains(&format!("rules.version={version}")) {
            assert!(
                std::time::Instant::now() < until,
                "version {version} is not in force:\n{}",
                process.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    matches(1, 1);
    leadlane.apply(&rule(50));
    in_force(2);
    matches(2, 0);
    // A bad record leaves the last good version in force, and is shown.
    leadlane.write(
        &leadlane.config.topics.rules,
        [("sold", Some(b"{\"id\":\"sold\",\"text\":\"hunter2\"}".as_slice()))],
    );
    leadlane.apply(&format!(
        "- {}\n",
        rule(20)
            .replace("id: sold", "id: other")
            .replace("gte: 20", "gte: 2000")
    ));
    in_force(5);
    matches(3, 0);
    is_listed(&leadlane);
    assert!(
        leadlane
            .get("/metrics")
            .unwrap()
            .1
            .contains("leadlane_rules_rejected_total{reason=\"invalid_rule\"} 1")
    );
    process.stop();
    changes_are_audited(&leadlane);
}

/// What the test before left, as lists show it.
fn is_listed(leadlane: &Leadlane) {
    let listed = leadlane.ok(&["rules", "list"]);
    assert!(
        listed.contains("rejected at offset 4") && !listed.contains("hunter2"),
        "{listed}"
    );
    assert!(listed.lines().all(|line| line.chars().count() <= 100), "{listed}");
    let objects = leadlane.ok(&["rules", "list", "--json"]);
    let objects = objects
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let (sold, other): (Vec<_>, Vec<_>) = objects.partition(|rule| rule["id"] == "sold");
    assert_eq!(
        (&sold[0]["destination"], &sold[0]["lane"]),
        (&"C0SALES".into(), &"slack:t/C0SALES".into())
    );
    assert!(
        sold[0]["author"].is_string() && sold[0]["last_matched_at"].is_string(),
        "{sold:?}"
    );
    assert!(other[0]["last_matched_at"].is_null(), "{other:?}");
}

/// Pause, resume and delete what the test before left.
fn changes_are_audited(leadlane: &Leadlane) {
    let audited = || leadlane.read(&leadlane.config.topics.audit).len();
    for (command, status) in [("pause", "paused"), ("resume", "active")] {
        assert!(
            leadlane
                .ok(&["rules", command, "sold"])
                .contains(&format!("sold: {status} (version"))
        );
        let before = audited();
        let again = leadlane.ok(&["rules", command, "sold"]);
        assert!(
            again.contains(&format!("sold: is {status} already (version")),
            "{again}"
        );
        let again: serde_json::Value =
            serde_json::from_str(&leadlane.ok(&["--json", "rules", command, "sold"])).unwrap();
        assert_eq!((&again["changed"], &again["status"]), (&false.into(), &status.into()));
        assert_eq!(audited(), before, "nothing is written");
        assert!(leadlane.ok(&["rules", "list"]).contains(status));
    }
    leadlane.ok(&["rules", "delete", "sold"]);
    assert!(!leadlane.ok(&["rules", "list"]).contains("\nsold "));
    // What isn't there can't be deleted, unless jobs of it wait still.
    for command in [
        &["rules", "delete", "sold"][..],
        &["rules", "delete", "nobody", "--cancel-waiting"],
    ] {
        assert!(stderr(leadlane, command, 1).contains("there is no rule"));
    }
    let audit = leadlane.read(&leadlane.config.topics.audit);
    assert_eq!(audit.len(), 6);
    let last: serde_json::Value = serde_json::from_slice(audit[5].value.as_deref().unwrap()).unwrap();
    assert_eq!(last["after"], serde_json::Value::Null);
    assert_eq!(last["before"]["id"], "sold");
}

#[test]
fn events_are_sent_in_both_formats_and_bad_lines_are_told() {
    let leadlane = Leadlane::new("events", "");
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    let file = leadlane.dir.join("events.jsonl");
    std::fs::write(
        &file,
        format!(
            "{}\n\n{{\"event_id\":\"x\"}}\n{}\n",
            event(1, "lms.lead_sold", "12", "1"),
            event(2, "my.own", "12", "1")
        ),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    for format in ["json", "avro"] {
        let message = stderr(&leadlane, &["events", "send", file, "--format", format], 2);
        assert!(
            message.contains("events.jsonl:3: not sent: invalid_event: trigger is required"),
            "{message}"
        );
    }
    let records = leadlane.read(&leadlane.config.topics.events);
    assert_eq!(records.len(), 4);
    let schemas = leadlane::lead::schemas::Schemas::new();
    for record in &records {
        let event = leadlane::lead::decode::decode(record.value.as_deref().unwrap(), &schemas).unwrap();
        assert_eq!(record.key.as_deref(), Some(event.lead_id.as_bytes()));
    }
    let validated = leadlane.run(&["events", "validate", file, "--json"]);
    assert_eq!(validated.status.code(), Some(2));
    assert_eq!(String::from_utf8(validated.stdout).unwrap().lines().count(), 3);
}
