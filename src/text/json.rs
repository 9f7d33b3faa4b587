//! JSON that is written piece by piece, straight into the text that it is a part of. It has the very bytes that
//! `serde_json` writes.

use std::fmt::Write as _;

use serde_json::Value;

/// Whether a byte can't stand in a JSON string as it is.
fn is_special(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\')
}

/// Writes a part of a string, which stands between its quotes.
pub fn escape(text: &str, into: &mut String) {
    let mut rest = text;
    while let Some(at) = super::find(rest, is_special) {
        into.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => into.push_str("\\\""),
            b'\\' => into.push_str("\\\\"),
            b'\n' => into.push_str("\\n"),
            b'\r' => into.push_str("\\r"),
            b'\t' => into.push_str("\\t"),
            0x08 => into.push_str("\\b"),
            0x0C => into.push_str("\\f"),
            control => add(into, format_args!("\\u{control:04x}")),
        }
        rest = &rest[at + 1..];
    }
    into.push_str(rest);
}

/// Writes a string.
pub fn string(text: &str, into: &mut String) {
    into.push('"');
    escape(text, into);
    into.push('"');
}

/// Writes a member's name. Its value comes next, and is never empty.
pub fn member(name: &str, into: &mut String) {
    if into.as_bytes().last() != Some(&b'{') {
        into.push(',');
    }
    string(name, into);
    into.push(':');
}

/// Writes a value.
pub fn value(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => string(text, into),
        value => add(into, format_args!("{value}")),
    }
}

fn add(into: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _always = into.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_has_serdes_bytes_however_it_is_cut_into_pieces(
            pieces in prop::collection::vec("([ -~]|\\PC|[\x00-\x20]|[\"\\\\/<>&\x7f]|\u{2028}){0,24}", 0..4),
        ) {
            let whole = pieces.concat();
            let mut written = String::from("\"");
            pieces.iter().for_each(|piece| escape(piece, &mut written));
            written.push('"');
            prop_assert_eq!(&written, &serde_json::to_string(&whole).unwrap());
            written.clear();
            value(&Value::String(whole), &mut written);
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), pieces.concat());
        }
    }

    #[test]
    fn members_stand_behind_commas_but_the_first_of_each_object() {
        let mut written = String::from("{");
        member("a", &mut written);
        value(&Value::Null, &mut written);
        member("{", &mut written);
        string("{", &mut written);
        member("c\"", &mut written);
        written.push('{');
        member("d", &mut written);
        value(&serde_json::json!([{"e": 1.50}, true]), &mut written);
        written.push_str("}}");
        assert_eq!(written, r#"{"a":null,"{":"{","c\"":{"d":[{"e":1.5},true]}}"#);
    }
}
