//! The alerts: each has its cases, its section of the runbook, and metrics that exist.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{is_known, promtool, yaml};
use crate::docs::{metrics, metrics_text};
use crate::tidy::text;

const ALERTS: &str = "config/prometheus/alerts.yaml";
const CASES: &str = "config/prometheus/alerts_test.yaml";
const RUNBOOK: &str = "docs/runbook.md";

/// Every rule of the file.
fn rules(file: &mut Value) -> impl Iterator<Item = &mut Value> {
    let groups = file["groups"].as_array_mut().expect("groups").iter_mut();
    groups.flat_map(|group| group["rules"].as_array_mut().expect("rules"))
}

fn names() -> BTreeSet<String> {
    let mut file = yaml(ALERTS);
    let name = |rule: &mut Value| rule["alert"].as_str().expect("an alert").to_owned();
    rules(&mut file).map(name).collect()
}

#[test]
fn prometheus_loads_the_alerts() {
    let loaded = &yaml("config/prometheus/prometheus.yml")["rule_files"];
    assert_eq!(*loaded, json!(["alerts.yaml"]));
    assert_eq!(yaml(CASES)["rule_files"], *loaded, "the cases are about another file");
}

#[test]
fn alerts_say_what_a_person_needs() {
    let (metrics, metrics_text) = (metrics(), metrics_text());
    let mut file = yaml(ALERTS);
    let mut seen = BTreeSet::new();
    for rule in rules(&mut file) {
        let name = rule["alert"].as_str().unwrap();
        assert!(seen.insert(name.to_owned()), "{name} stands twice");
        assert!(name.starts_with("Leadlane"), "{name}");
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
        assert!(rule["for"].is_string(), "{name} has no `for`");
        for annotation in ["summary", "description"] {
            let said = rule["annotations"][annotation].as_str();
            assert!(said.is_some_and(|said| !said.is_empty()), "{name} has no {annotation}");
        }
        let section = format!("{RUNBOOK}#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], *section, "{name}");
        is_known(&metrics, &metrics_text, name, rule["expr"].as_str().unwrap());
    }
    assert!(seen.len() > 10, "only {seen:?}");
}

#[test]
fn the_runbook_has_a_section_for_each_alert() {
    let runbook = text(RUNBOOK);
    let sections = runbook.split("\n## ").skip(1);
    let sections: Vec<(&str, &str)> = sections.map(|section| section.split_once('\n').unwrap()).collect();
    let titles: BTreeSet<String> = sections.iter().map(|(title, _)| (*title).to_owned()).collect();
    assert_eq!(titles, names());
    assert_eq!(titles.len(), sections.len(), "a section stands twice");
    for (title, content) in sections {
        for part in ["\n**Means:** ", "\n**Look at:** ", "\n**Do:** "] {
            assert_eq!(content.matches(part).count(), 1, "{title}: {part}");
        }
    }
    // Links within it lead to its sections.
    for link in runbook.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert!(
            titles.iter().any(|title| title.to_lowercase() == anchor),
            "there is no #{anchor}"
        );
    }
    for reason in leadlane::reason::Reason::ALL {
        assert!(
            runbook.contains(&format!("| `{reason}`")) || runbook.contains(&format!(", `{reason}` |")),
            "{RUNBOOK} says nothing of {reason}"
        );
    }
}

#[test]
fn what_people_are_told_to_look_at_is_there() {
    let (metrics, metrics_text, keys) = (metrics(), metrics_text(), text("docs/configuration.md"));
    let config = serde_json::to_value(leadlane::config::Config::default()).unwrap();
    let dashboard: Value = serde_json::from_str(&text("config/grafana/dashboards/leadlane.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let panels: BTreeSet<&str> = panels.filter_map(|panel| panel["title"].as_str()).collect();
    for path in [RUNBOOK, "docs/scaling.md"] {
        let document = text(path);
        for code in document.split('`').skip(1).step_by(2) {
            if code.contains("leadlane_") {
                is_known(&metrics, &metrics_text, path, code);
            }
            let section = code.split_once('.').map_or("", |(section, _)| section);
            if config.get(section).is_some() {
                assert!(
                    keys.contains(&format!("| `{code}` |")),
                    "{path}: there is no key {code}"
                );
            }
        }
        // A name in italics is the dashboard's or one of its panels'.
        for name in document.replace("**", "").split('*').skip(1).step_by(2) {
            assert!(
                panels.contains(name) || dashboard["title"] == name,
                "{path}: the dashboard has no {name}"
            );
        }
    }
}

/// What promtool says of the cases when every alert's expression is `expression`, without waiting.
fn said_of(expression: &str) -> String {
    let folder = std::env::temp_dir().join(format!("leadlane-alerts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut file = yaml(ALERTS);
    for rule in rules(&mut file) {
        rule["expr"] = expression.into();
        rule["for"] = "0m".into();
    }
    std::fs::write(folder.join("alerts.yaml"), file.to_string()).unwrap();
    let cases = folder.join("alerts_test.yaml");
    std::fs::write(&cases, text(CASES)).unwrap();
    let tested = promtool(&["test", "rules", cases.to_str().unwrap()], "");
    assert!(!tested.status.success(), "{expression}: {tested:?}");
    std::fs::remove_dir_all(folder).unwrap();
    String::from_utf8([tested.stdout, tested.stderr].concat()).unwrap()
}

/// The alerts with a failed case that expected an alert, and those with one that expected none.
fn failed(said: &str) -> [BTreeSet<String>; 2] {
    let mut failed = [BTreeSet::new(), BTreeSet::new()];
    for case in said.split("alertname: ").skip(1) {
        let name = case.split(',').next().unwrap().to_owned();
        failed[usize::from(case.contains("exp:[]"))].insert(name);
    }
    failed
}

#[test]
fn every_alert_is_seen_to_fire_and_not_to_fire() {
    let tested = promtool(&["test", "rules", CASES], "");
    let said = String::from_utf8_lossy(&tested.stdout);
    let wrong = String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success(), "{said}{wrong}");
    // An alert that never fires fails the cases in which it must, one that always does those in which it must not.
    let [firing, _] = failed(&said_of("vector(0) > 0"));
    assert_eq!(firing, names(), "a case in which it fires is missing");
    let [_, silent] = failed(&said_of("vector(1)"));
    assert_eq!(silent, names(), "a case in which it does not fire is missing");
}
