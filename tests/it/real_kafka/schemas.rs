//! The schemas of the configuration and of rule files, by readers of YAML and JSON Schema that aren't ours.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::part;
use crate::tidy::{files, text};

/// What the schemas say of files, or of a text as stdin; empty where all of it holds.
fn said(arguments: &[String], stdin: &str) -> String {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/schemas.py");
    let mut python = Command::new(part("LEADLANE_TEST_PYTHON"))
        .arg(tool)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
fn shipped_files_are_read_by_every_reader_and_hold() {
    let mut shipped = files("config/rules", ".yaml");
    assert!(shipped.iter().any(|file| file.contains("recipes/")), "{shipped:?}");
    shipped.push("config/leadlane.yaml".to_owned());
    assert_eq!(said(&shipped, ""), "");
}

#[test]
fn one_rule_a_list_and_several_documents_hold_and_faults_do_not() {
    let rule = |id: &str| {
        format!(
            "{{id: {id}, scope: {{level: product, id: '*'}}, trigger: lms.lead_sold, action: {{type: slack_message, \
             token: {{secret: a}}, to: {{channel: C0123ABCD}}, text: x}}}}"
        )
    };
    let (one, other) = (rule("a"), rule("b"));
    let stdin = ["-".to_owned()];
    for text in [
        one.clone(),
        format!("- {one}\n- {other}\n"),
        format!("{one}\n---\n{other}\n"),
    ] {
        assert_eq!(said(&stdin, &text), "", "{text}");
    }
    for (text, wanted) in [
        (
            format!("- {one}\n- {{id: b}}\n"),
            "-: 1: \"scope\" is a required property",
        ),
        (
            format!("{one}\n---\n- {}\n", other.replace("text:", "txt:")),
            "-: 0/action",
        ),
        ("kafka: {broker: x}".to_owned(), "-: kafka: "),
        ("processor: {workers: many}".to_owned(), "-: processor/workers: "),
        (
            "sender: {request_timeout: 10}".to_owned(),
            "-: sender/request_timeout: ",
        ),
        ("inlets: [{preset: json}]".to_owned(), "-: inlets/0: "),
    ] {
        let said = said(&stdin, &text);
        assert!(said.starts_with(wanted), "{text}\n{said}");
    }
}

/// The keys of the effective configuration and those of the schema, with their sections.
#[test]
fn the_schema_has_every_key_of_the_configuration_and_no_other() {
    fn keys(value: &Value, at: &str, inner: fn(&Value) -> Option<&Value>, found: &mut Vec<String>) {
        for (key, value) in inner(value).and_then(Value::as_object).into_iter().flatten() {
            let key = format!("{at}.{key}");
            keys(value, &key, inner, found);
            found.push(key);
        }
    }
    let (mut known, mut described) = (Vec::new(), Vec::new());
    let config = leadlane::config::Config::default().to_json();
    keys(&config, "", |value| Some(value), &mut known);
    let schema: Value = serde_json::from_str(&text("schemas/config.schema.json")).unwrap();
    keys(&schema, "", |value| value.get("properties"), &mut described);
    known.sort();
    described.sort();
    assert_eq!(described, known);
}

#[test]
fn editors_find_the_schemas() {
    let line = |file: &str| text(file).lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        line("config/leadlane.yaml"),
        "# yaml-language-server: $schema=../schemas/config.schema.json"
    );
    let rules = files("config/rules", ".yaml")
        .into_iter()
        .filter(|file| !file.contains("recipes/"));
    for file in rules {
        assert_eq!(
            line(&file),
            "# yaml-language-server: $schema=../../schemas/rules.schema.json",
            "{file}"
        );
    }
    for (page, schema) in [("docs/configuration.md", "config"), ("docs/rules.md", "rules")] {
        let shown = format!("# yaml-language-server: $schema=../schemas/{schema}.schema.json");
        assert!(text(page).contains(&shown), "{page} doesn't show {shown}");
    }
}
