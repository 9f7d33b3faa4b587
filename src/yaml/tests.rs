use proptest::prelude::*;
use serde_json::json;

use super::*;

fn one(text: &str) -> Value {
    let mut documents = documents(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0).value
}

fn number(text: &str) -> Value {
    Value::Number(Number::from_string_unchecked(text.into()))
}

#[test]
fn scalars_keep_what_was_written() {
    let long = "12345678901234567890123.4567890";
    for (text, expected) in [
        ("~", Value::Null),
        ("null", Value::Null),
        ("{a: }", json!({"a": null})),
        ("true", json!(true)),
        ("false", json!(false)),
        ("True", json!("True")),
        ("yes", json!("yes")),
        ("NO", json!("NO")),
        ("5", number("5")),
        ("-5", number("-5")),
        ("5.00", number("5.00")),
        ("1e3", number("1e3")),
        ("42.5000", number("42.5000")),
        (long, number(long)),
        ("0012", json!("0012")),
        ("0x1F", json!("0x1F")),
        ("0o17", json!("0o17")),
        (".5", json!(".5")),
        ("5.", json!("5.")),
        ("+5", json!("+5")),
        (".inf", json!(".inf")),
        ("12:30", json!("12:30")),
        ("2018-03-05", json!("2018-03-05")),
        ("1_000", json!("1_000")),
        ("\"5\"", json!("5")),
        ("'true'", json!("true")),
        ("\"\"", json!("")),
        ("!!str 5", json!("5")),
        ("|\n  a\n  5\n", json!("a\n5\n")),
        ("$.consumer.state", json!("$.consumer.state")),
        ("\u{feff}5", number("5")),
        ("\"\\u00e9\\/\"", json!("é/")),
    ] {
        let found = one(text);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn json_reads_as_serde_json_reads_it() {
    for text in [
        r#"{"a":{"b":[1,2.50,"x",null,true]},"c":"\u00e9 \"q\" \\ \n"}"#,
        "{\n\t\"a\": 1,\n\t\"b\": [\n\t\t2\n\t]\n}",
        r#"[]"#,
        r#"{"emoji":"\ud83d\ude00","none":"\\ud83d\\ude00","e":"\u00e9\ud83d\ude00\u00e9"}"#,
        r#"{"url":"https://x.example/a?b=c#d"}"#,
    ] {
        assert_eq!(one(text), serde_json::from_str::<Value>(text).unwrap(), "{text}");
    }
}

#[test]
fn keys_are_text_and_keep_their_order() {
    let value = one("12: a\ntrue: b\n~: c\n'x y': d\n0012: e\n");
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["12", "true", "~", "x y", "0012"]);
}

#[test]
fn aliases_stand_for_their_value() {
    assert_eq!(
        one("a: &x {b: [1]}\nc: *x\n"),
        json!({"a": {"b": [1]}, "c": {"b": [1]}})
    );
}

#[test]
fn documents_and_entries_know_their_lines() {
    let text = "# one\nid: a\n---\n# two\n- id: b\n\n- id: c\n---\n---\nid: d\n";
    let lines = |documents: Vec<Document>| documents.iter().map(|document| document.line).collect::<Vec<_>>();
    assert_eq!(lines(documents(text).unwrap()).len(), 4);
    let entries = entries(text).unwrap();
    let ids: Vec<_> = entries
        .iter()
        .map(|entry| entry.value["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert_eq!(lines(entries), [2, 5, 7, 10]);
    for empty in ["", "\n", "# only a comment\n"] {
        assert_eq!(documents(empty).unwrap(), [], "{empty:?}");
    }
}

#[test]
fn refusals_name_the_place() {
    let deep = "[".repeat(100) + &"]".repeat(100);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    for (text, line, reason) in [
        ("a: 1\nb: 2\na: 3\n", 3, "twice"),
        ("a: {b: 1, b: 2}", 1, "twice"),
        ("12: a\n\"12\": b\n", 2, "twice"),
        (r#"{"a":"\ud83d\ude00","a":1}"#, 1, "twice"),
        (r#"{"a":"\ud83d"}"#, 1, "escape"),
        ("a: b: c", 1, ""),
        ("a: [1", 2, ""),
        ("a: *nowhere", 1, "anchor"),
        ("a: &a [*a]", 1, "inside what it names"),
        ("{[1]: 2}", 1, "a key is text"),
        ("text: {{$.lead_id}}", 1, "goes in quotes"),
        ("a: !secret x", 1, "tags"),
        (&deep, 1, "deeper"),
        (&bomb, 6, "expand to too much"),
    ] {
        let error = documents(text).expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
}

#[test]
fn a_refusal_names_the_document() {
    for (text, document) in [
        ("a: [1", 1),
        ("a: 1\n---\nb: 2\nb: 3\n", 2),
        ("a: 1\n---\n---\nc: [1", 3),
    ] {
        assert_eq!(documents(text).expect_err(text).document, document, "{text}");
    }
}

#[test]
fn errors_never_quote_a_value() {
    for text in [
        "a: xoxb-1: xoxb-2",
        "a: [xoxb-1",
        "xoxb-1: 1\nxoxb-1: 2",
        "a: *xoxb-1",
        "a: !xoxb-1 b",
        "a: \"xoxb-1\\q\"",
    ] {
        let error = documents(text).expect_err(text).to_string();
        assert!(!error.contains("xoxb"), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,60}") {
        if let Err(error) = documents(&text) {
            prop_assert!(error.line <= text.chars().count() + 1, "{}", error);
        }
    }

    #[test]
    fn any_punctuation_is_read_or_refused(text in "[-a1:,\\[\\]{}&*!|>'\"%@# \n\t?.~]{0,40}") {
        if let Err(error) = documents(&text) {
            prop_assert!(error.line <= text.chars().count() + 1, "{}", error);
        }
    }

    #[test]
    fn what_json_writes_reads_back(texts in prop::collection::vec("(?s).{0,20}", 0..4), numbers in prop::collection::vec(any::<i64>(), 0..4)) {
        let value = json!({"texts": texts, "numbers": numbers});
        let text = value.to_string();
        // Characters that YAML doesn't allow unescaped are JSON's alone.
        prop_assume!(!text.chars().any(|c| c.is_control() || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')));
        prop_assert_eq!(one(&text), value);
    }
}

#[test]
fn each_value_has_its_place() {
    let text =
        "# x\nkafka:\n  properties:\n    ssl.ca.location: /x\nwhere:\n- {path: $.a, eq: é, in: [1, 2]}\n'a b': 1\n";
    let places = places(text).remove(0);
    for (path, value, key) in [
        ("", (2, 1), (2, 1)),
        ("kafka.properties.ssl.ca.location", (4, 22), (4, 5)),
        ("kafka.properties['ssl.ca.location']", (4, 22), (4, 5)),
        ("where[0].in[1]", (6, 30), (6, 30)),
        ("where[0].eq", (6, 19), (6, 15)),
        ("where[0].gone.further", (6, 3), (6, 3)),
        ("['a b']", (7, 8), (7, 1)),
        ("nowhere", (2, 1), (2, 1)),
    ] {
        let of = |(line, column)| Place { line, column };
        assert_eq!((places.value(path), places.key(path)), (of(value), of(key)), "{path}");
    }
}

#[test]
fn places_come_in_the_order_of_entries() {
    for text in [
        "- a: 1\n- b: [2]\n",
        "a: 1\n---\n---\n- b: 2\n- c: 3\n...\n---\nd: 4\n",
        "\u{feff}a: &x {y: 1}\n---\nb: *x\n",
        "~\n---\n''\n",
        "",
    ] {
        let lines: Vec<usize> = entries(text)
            .map(|found| found.iter().map(|entry| entry.line).collect())
            .unwrap_or_default();
        let found: Vec<usize> = places(text).iter().map(|places| places.value("").line).collect();
        if !lines.is_empty() || text.is_empty() {
            assert_eq!(found, lines, "{text}");
        }
    }
}
