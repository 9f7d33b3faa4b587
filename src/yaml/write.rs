//! Writes JSON values as YAML, as people write it: in block style, short lists and objects on one line, texts of several
//! lines as blocks, quotes where they are needed.
//!
//! Invariant: [`documents`](super::documents) reads the same value back, unless it is nested deeper than that takes. A
//! text that another reader of YAML would take for a number, a date or a boolean is quoted, too.

use serde_json::{Map, Value};

use super::plain;

/// A list or an object of at most so many characters stands on one line.
const LINE_MAX: usize = 72;
/// A text of at most so many characters may stand within a list or an object on one line.
const TEXT_MAX: usize = 40;
/// Members of an object that stands on one line.
const MEMBERS_MAX: usize = 4;
/// YAML takes keys of at most 1,024 characters before their colon; a longer one stands behind a `?`.
const KEY_MAX: usize = 1000;

/// The value as a YAML document, its last line ended.
pub fn write(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => block(value, 0, false, &mut text),
        Value::String(lines) if survives_as_block(lines) => text_block(lines, 2, &mut text),
        _ => {
            text.push_str(&scalar(value, Place::Block));
            text.push('\n');
        }
    }
    text
}

/// What stands around a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Block,
    /// Between braces or brackets.
    Flow,
}

/// Writes the members or elements, each on lines of its own. The first goes on where the text ends, if that is in the
/// line of a dash.
fn block(value: &Value, indent: usize, is_begun: bool, into: &mut String) {
    let pad = " ".repeat(indent);
    let mut is_begun = is_begun;
    let mut begin = |into: &mut String| {
        if !std::mem::take(&mut is_begun) {
            into.push_str(&pad);
        }
    };
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                begin(into);
                let key = quoted(key, Place::Block);
                if key.chars().count() > KEY_MAX {
                    into.push_str("? ");
                    into.push_str(&key);
                    into.push('\n');
                    into.push_str(&pad);
                } else {
                    into.push_str(&key);
                }
                into.push(':');
                behind_key(value, indent, into);
            }
        }
        Value::Array(elements) => {
            for value in elements {
                begin(into);
                into.push_str("- ");
                match value {
                    Value::String(lines) if survives_as_block(lines) => text_block(lines, indent + 2, into),
                    _ => match on_one_line(value) {
                        Some(line) => {
                            into.push_str(&line);
                            into.push('\n');
                        }
                        None => block(value, indent + 2, true, into),
                    },
                }
            }
        }
        _ => {}
    }
}

fn behind_key(value: &Value, indent: usize, into: &mut String) {
    if let Value::String(lines) = value
        && survives_as_block(lines)
    {
        into.push(' ');
        return text_block(lines, indent + 2, into);
    }
    match on_one_line(value) {
        Some(line) => {
            into.push(' ');
            into.push_str(&line);
            into.push('\n');
        }
        None => {
            into.push('\n');
            block(value, indent + 2, false, into);
        }
    }
}

/// A scalar, or a list or an object that is short and holds nothing nested but short lists.
fn on_one_line(value: &Value) -> Option<String> {
    match value {
        Value::Array(elements) => flow_list(elements),
        Value::Object(members) => flow_object(members),
        scalar => Some(self::scalar(scalar, Place::Block)),
    }
}

fn flow_list(elements: &[Value]) -> Option<String> {
    // Looked at before it is written: most of a long list would be written for nothing.
    if elements.len() > LINE_MAX || !elements.iter().all(is_short) {
        return None;
    }
    let elements: Vec<String> = elements.iter().map(|value| scalar(value, Place::Flow)).collect();
    fits(format!("[{}]", elements.join(", ")))
}

fn flow_object(members: &Map<String, Value>) -> Option<String> {
    if members.len() > MEMBERS_MAX {
        return None;
    }
    let mut written = Vec::new();
    for (key, value) in members {
        let value = match value {
            Value::Array(elements) => flow_list(elements)?,
            value if is_short(value) && !has_placeholder(value) => scalar(value, Place::Flow),
            _ => return None,
        };
        if key.chars().count() > TEXT_MAX {
            return None;
        }
        written.push(format!("{}: {value}", quoted(key, Place::Flow)));
    }
    fits(format!("{{{}}}", written.join(", ")))
}

fn fits(line: String) -> Option<String> {
    (line.chars().count() <= LINE_MAX).then_some(line)
}

/// Whether a value may stand among others on one line.
fn is_short(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= 4 * TEXT_MAX && text.chars().count() <= TEXT_MAX && !text.contains('\n'),
        Value::Number(number) => number.as_str().len() <= TEXT_MAX,
        Value::Null | Value::Bool(_) => true,
        Value::Array(_) | Value::Object(_) => is_empty(value),
    }
}

/// Braces of a template among those of YAML are hard to read.
fn has_placeholder(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{"))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value, place: Place) -> String {
    match value {
        Value::String(text) => quoted(text, place),
        // An empty list or object, too.
        other => other.to_string(),
    }
}

/// A text, in quotes where it needs them.
fn quoted(text: &str, place: Place) -> String {
    if text.chars().any(must_be_escaped) {
        return escaped(text);
    }
    if stands_plain(text, place) {
        return text.to_owned();
    }
    if text.contains(['"', '\\']) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    format!("\"{text}\"")
}

/// Whether a text without quotes reads as itself, here and for other readers of YAML.
fn stands_plain(text: &str, place: Place) -> bool {
    let begins = |c: char| "-?:,[]{}#&*!|>'\"%@`<=".contains(c);
    let is_blank = |c: char| c == ' ';
    if text.is_empty() || text.starts_with(begins) || text.starts_with(is_blank) || text.ends_with(is_blank) {
        return false;
    }
    if text.contains(": ") || text.ends_with(':') || text.contains(" #") || text.starts_with("...") {
        return false;
    }
    if place == Place::Flow && text.contains([',', '[', ']', '{', '}', ':', '#']) {
        return false;
    }
    plain(text).is_string() && !is_otherwise_read(text)
}

/// Whether an older or another reader of YAML takes a text for a boolean, a number or a date.
fn is_otherwise_read(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"];
    let of_number = |c: char| c.is_ascii_hexdigit() || "xXoO_.:+-TtZz ".contains(c);
    let begins = |c: char| c.is_ascii_digit() || c == '.' || c == '+';
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
        || (text.starts_with(begins) && text.chars().all(of_number))
        || [".inf", ".nan", "+.inf"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
}

/// Characters that YAML doesn't take as they are, or that end a line for some of its readers.
fn must_be_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn escaped(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if must_be_escaped(c) => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text of several lines reads the same from a block, which has no escapes and tells blanks at a line's
/// beginning from its indentation by the first line.
fn survives_as_block(text: &str) -> bool {
    let Some(lines) = text.strip_suffix('\n').or(Some(text)).filter(|_| text.contains('\n')) else {
        return false;
    };
    let is_clear = |line: &str| !line.starts_with('\t') && (line.is_empty() || !line.trim().is_empty());
    !lines.is_empty()
        && !lines.starts_with([' ', '\n'])
        && !lines.ends_with('\n')
        && lines.split('\n').all(is_clear)
        && !text.chars().any(|c| c != '\n' && c != '\t' && must_be_escaped(c))
}

/// A text of several lines, each indented.
fn text_block(text: &str, indent: usize, into: &mut String) {
    let (mark, lines) = match text.strip_suffix('\n') {
        Some(lines) => ("|\n", lines),
        None => ("|-\n", text),
    };
    into.push_str(mark);
    for line in lines.split('\n') {
        if !line.is_empty() {
            into.push_str(&" ".repeat(indent));
            into.push_str(line);
        }
        into.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{documents, entries};
    use super::*;

    fn read_back(value: &Value) -> Value {
        let text = write(value);
        let mut documents = documents(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0).value
    }

    #[test]
    fn a_rule_is_written_as_people_write_it() {
        let text = r#"id: big-auto-sales
name: Big auto sales
scope: {level: product, id: "12"}
trigger: lms.lead_sold
filters:
  publisher: ["3401", sub-77]
  price: {between: [10, 99.5]}
  where:
    - {path: $.consumer.state, in: [TX, FL]}
    - {path: $.reason_code, ne: duplicate, exists: true}
action:
  type: slack_message
  token: {secret: sales-bot}
  to: {channel: C0123ABCD}
  text: |-
    *{{$.buyer.name}}* bought {{$.lead_id}}
      for {{$.price | money}} # really

    <@U0123LENA> please call
  max_rate: 20/h
  when_busy: {digest_after: 60s}
  properties:
    Name: "{{$.consumer.first_name}} {{$.consumer.last_name}}"
    Currency: '{{$.currency | default: "USD"}}'
    Products: {$add: ["{{$.product.name}}"]}
    Vip: true
    None: null
    Empty: []
    Items:
      - Name: Sofa
        Details: {}
        Deep: [1, 2.50, "5"]
        More: x
        Url: https://x.example/a#b
      - - a
        - b:
            c: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
"#;
        let value = documents(text).unwrap().remove(0).value;
        assert_eq!(write(&value), text);
    }

    /// Texts that would read as something else if they were written as they are.
    #[rustfmt::skip]
    const HOSTILE: &[&str] = &[
        "", " ", "yes", "NO", "on", "~", "null", "True", "0012", "1e5", "1.50", "-5", "+5", ".5", "0x1F", "12:30",
        "2018-03-05", "2026-03-05T15:16:00Z", " leading", "trailing ", "# x", "x # y", "x #", "- x", "-", "--- ",
        "---", "...", "? x", ": x", "a: b", "a:", "{a}", "[a]", "a, b", "&a", "*a", "!a", "|", ">", "%a", "@a",
        "`a`", "'a'", "\"a\"", "it's", "a\\b", "\t", "a\tb", "\ta\nb", "a\n\tb", "a\tb\nc", "a\rb", "a\r\nb",
        "a\u{0}b", "\u{7f}", "\u{85}", "\u{2028}", "a\u{2029}b", "\u{feff}a", "é 👩‍👩‍👧 नमस्ते", "a\nb", "a\nb\n",
        "a\n\nb", "a\n", "a\n\n", "\n", "\na", " a\nb", "a\n b", "a\n  \nb", "a\n ", "a\n---\nb", "a\n# b",
        "a: 1\nb: 2", "<<", "=", "\u{fffd}", "\u{ffff}", "key: |", "xoxb-\"'", "a\n: b\n",
    ];

    #[test]
    fn hostile_texts_read_back_as_themselves() {
        let long = "x".repeat(4000);
        let long_line = format!("a\n{long}: #\n");
        for text in HOSTILE.iter().copied().chain([&*long, &*long_line]) {
            for value in [
                json!(text),
                json!([text]),
                json!([text, text]),
                json!({ text: text }),
                json!({"a": {text: [text, {text: text}]}, "b": 1}),
                json!([[text, [text]], {"a": text, text: {}}]),
            ] {
                assert_eq!(read_back(&value), value, "{text:?}\n{}", write(&value));
            }
        }
    }

    #[test]
    fn scalars_and_empty_things_stand_alone() {
        for (value, text) in [
            (json!(null), "null\n"),
            (json!(true), "true\n"),
            (json!({}), "{}\n"),
            (json!([]), "[]\n"),
            (json!("x"), "x\n"),
            (json!("a\nb"), "|-\n  a\n  b\n"),
            (json!(5), "5\n"),
        ] {
            assert_eq!(write(&value), text);
            assert_eq!(read_back(&value), value);
        }
    }

    #[test]
    fn documents_one_after_the_other_are_read_apart() {
        let values = [json!({"id": "a", "text": "x\ny\n"}), json!({"id": "b"})];
        let text = values.each_ref().map(write).join("---\n");
        let read: Vec<Value> = entries(&text).unwrap().into_iter().map(|entry| entry.value).collect();
        assert_eq!(read, values);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let number = "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?";
        let text = || {
            prop_oneof![
                "(?s).{0,12}",
                "[-a1:,{}\\[\\]&*!|>'\"%@# \n\t?.~\\\\]{0,10}",
                "[0-9a-fx.:+-]{0,8}"
            ]
        };
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number.prop_map(|text| serde_json::from_str(&text).unwrap()),
            text().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((text(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_value_is_read_back(value in any_json()) {
            let text = write(&value);
            let read = documents(&text);
            prop_assert!(read.is_ok(), "{:?}\n{}", read, text);
            let read: Vec<Value> = read.unwrap().into_iter().map(|document| document.value).collect();
            prop_assert_eq!(read, vec![value], "{}", text);
        }
    }
}
