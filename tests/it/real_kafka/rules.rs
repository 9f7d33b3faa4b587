//! Rules that are larger than a rule may be, and records of the rules topic that are none.

use serde_json::{Value, json};

use crate::support::{Leadlane, event};

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
            stderr.contains("large.yaml:1: large: rule") && stderr.contains("131072"),
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
