//! JSON as producers write it: one bad element of a list costs its neighbours nothing.
//!
//! - [`list`] splits a list by its brackets and quotes alone, without recursion, so that each element is parsed alone.
//! - [`parse`] reads one value, or explains in plain words why it can't.
//! - [`mend`] reads half of a surrogate pair as U+FFFD. Programs that cut a text in the middle of an emoji write such
//!   halves, and no parser takes them.
//! - [`walk`] takes a text apart in one pass and builds nothing.
//! - [`weight`] bounds the memory that a value takes once it is parsed.
//!
//! No message here quotes the text.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

pub mod walk;

/// Lists and objects within each other; the parser takes no more.
pub const DEPTH_MAX: usize = 127;

/// Why bytes are no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("malformed JSON at line {line}, column {column}")]
    Malformed { line: usize, column: usize },
    #[error("JSON that is nested deeper than {DEPTH_MAX} levels")]
    Deep,
    /// From this byte on, the first being 1.
    #[error("no UTF-8 from byte {0} on")]
    NotUtf8(usize),
}

impl Unreadable {
    /// Malformed at an offset.
    fn at(bytes: &[u8], offset: usize) -> Self {
        let before = &bytes[..offset.min(bytes.len())];
        let begin = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        Self::Malformed {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: (offset + 1).min(bytes.len()).saturating_sub(begin),
        }
    }
}

/// One value that was parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub value: Value,
    /// Whether it held half of a surrogate pair, which is U+FFFD now.
    pub mended: bool,
}

/// Parses one value.
///
/// # Errors
/// The bytes are no UTF-8, malformed, or nested deeper than [`DEPTH_MAX`].
pub fn parse(bytes: &[u8]) -> Result<Parsed, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|error| Unreadable::NotUtf8(error.valid_up_to() + 1))?;
    let text = mend(text);
    match serde_json::from_str(&text) {
        Ok(value) => Ok(Parsed {
            value,
            mended: matches!(text, Cow::Owned(_)),
        }),
        Err(_) if depth(bytes) > DEPTH_MAX => Err(Unreadable::Deep),
        Err(error) => Err(Unreadable::Malformed {
            line: error.line(),
            column: error.column(),
        }),
    }
}

/// The text with U+FFFD for each half of a surrogate pair that stands in it as an escape; borrowed where none does.
pub fn mend(text: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let mut from = 0;
    let halves = Halves { text, at: 0 };
    for at in halves {
        mended.push_str(&text[from..at]);
        mended.push_str("\\ufffd");
        from = at + ESCAPE;
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[from..]);
    Cow::Owned(mended)
}

/// The length of `\u` and four digits.
const ESCAPE: usize = 6;

/// The offsets of escapes that are half of a surrogate pair.
struct Halves<'t> {
    text: &'t str,
    at: usize,
}

impl Iterator for Halves<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bytes = self.text.as_bytes();
        loop {
            let rest = bytes.get(self.at..)?;
            let escape = self.at + rest.iter().position(|byte| *byte == b'\\')?;
            match (unit(bytes, escape), unit(bytes, escape + ESCAPE)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => self.at = escape + 2 * ESCAPE,
                (Some(0xD800..=0xDFFF), _) => {
                    self.at = escape + ESCAPE;
                    return Some(escape);
                }
                (Some(_), _) => self.at = escape + ESCAPE,
                (None, _) => self.at = escape + 2,
            }
        }
    }
}

/// The UTF-16 unit that is escaped at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

/// The elements of a list, each as it stands there.
///
/// # Errors
/// The bytes are no list that ends, with nothing behind it. What an element holds is for whoever parses it.
pub fn list(bytes: &[u8]) -> Result<List<'_>, Unreadable> {
    // All are walked through now, so that nothing is taken from a list that turns out to be broken.
    pieces(bytes, b'[').map(List)
}

/// See [`list`].
#[derive(Debug, Clone)]
pub struct List<'a>(Pieces<'a>);

impl<'a> Iterator for List<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let piece = self.0.piece().ok().flatten()?;
        Some(&self.0.bytes[piece])
    }
}

/// Where the value of an object's member stands in `bytes`; of a name that is given twice the last, as parsers have it.
///
/// # Errors
/// The bytes are no object that ends.
pub fn member(bytes: &[u8], name: &str) -> Result<Option<Range<usize>>, Unreadable> {
    let mut found = None;
    let mut members = pieces(bytes, b'{')?;
    while let Ok(Some(piece)) = members.piece() {
        let malformed = || Unreadable::at(bytes, piece.start);
        let key_end = text_end(bytes, piece.start).filter(|end| bytes[piece.start] == b'"' && *end <= piece.end);
        let key_end = key_end.ok_or_else(malformed)?;
        let colon = key_end + blanks(&bytes[key_end..piece.end]);
        if bytes.get(colon) != Some(&b':') {
            return Err(malformed());
        }
        if is_text(&bytes[piece.start..key_end], name) {
            let value = colon + 1;
            found = Some(value + blanks(&bytes[value..piece.end])..piece.end);
        }
    }
    Ok(found)
}

/// The bytes with an empty text in place of every text that is the value of a member `name`, at whatever depth. The
/// bytes may be malformed.
pub fn blank<'a>(bytes: &'a [u8], name: &str) -> Cow<'a, [u8]> {
    let mut blanked = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(start) = find(bytes, at, |byte| byte == b'"') {
        let Some(end) = text_end(bytes, start) else { break };
        at = end;
        if !is_text(&bytes[start..end], name) {
            continue;
        }
        let colon = end + blanks(&bytes[end..]);
        let value = colon + 1 + bytes.get(colon + 1..).map_or(0, blanks);
        if bytes.get(colon) == Some(&b':') && bytes.get(value) == Some(&b'"') {
            blanked.extend_from_slice(&bytes[from..value]);
            blanked.extend_from_slice(b"\"\"");
            // A text that doesn't end takes all that is behind it along.
            from = text_end(bytes, value).unwrap_or(bytes.len());
            at = from;
        }
    }
    if from == 0 {
        return Cow::Borrowed(bytes);
    }
    blanked.extend_from_slice(&bytes[from..]);
    Cow::Owned(blanked)
}

/// How many bytes of memory a value takes at most while it is parsed and once it is.
pub fn weight(bytes: &[u8]) -> usize {
    // A list's elements are 32 bytes each, and thrice that while it grows; an object's members are 64, and their index.
    // A number has 16 bytes for its digits.
    let mut weight = bytes.len() + 112;
    structure(bytes, |byte| {
        weight += match byte {
            b',' => 112,
            b'[' => 144,
            b'{' => 256,
            b':' => 128,
            _ => 0,
        }
    });
    weight
}

/// How many lists and objects are within each other.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    structure(bytes, |byte| match byte {
        b'[' | b'{' => {
            depth += 1;
            deepest = deepest.max(depth);
        }
        b']' | b'}' => depth = depth.saturating_sub(1),
        _ => {}
    });
    deepest
}

/// Calls `each` with every byte outside of texts.
fn structure(bytes: &[u8], mut each: impl FnMut(u8)) {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'"' {
            at = text_end(bytes, at).unwrap_or(bytes.len());
        } else {
            each(*byte);
            at += 1;
        }
    }
}

/// What stands between the commas of one list or object.
#[derive(Debug, Clone)]
struct Pieces<'a> {
    bytes: &'a [u8],
    /// Behind the bracket, or the comma, that was passed last; none once the end was.
    at: Option<usize>,
    is_first: bool,
}

fn pieces(bytes: &[u8], bracket: u8) -> Result<Pieces<'_>, Unreadable> {
    let start = blanks(bytes);
    if bytes.get(start) != Some(&bracket) {
        return Err(Unreadable::at(bytes, start));
    }
    let pieces = Pieces {
        bytes,
        at: Some(start + 1),
        is_first: true,
    };
    let mut walk = pieces.clone();
    while walk.piece().map_err(|at| Unreadable::at(bytes, at))?.is_some() {}
    Ok(pieces)
}

impl Pieces<'_> {
    /// The next piece without the blanks around it; the error is where it is malformed.
    fn piece(&mut self) -> Result<Option<Range<usize>>, usize> {
        let Some(at) = self.at else { return Ok(None) };
        let start = at + blanks(&self.bytes[at..]);
        let end = value_end(self.bytes, start).ok_or(self.bytes.len())?;
        let piece = start..start + self.bytes[start..end].trim_ascii_end().len();
        let is_first = std::mem::replace(&mut self.is_first, false);
        if self.bytes[end] == b',' {
            self.at = Some(end + 1);
        } else {
            self.at = None;
            let behind = end + 1 + blanks(&self.bytes[end + 1..]);
            let opened = self.bytes[blanks(self.bytes)];
            if behind < self.bytes.len() || (opened == b'[') != (self.bytes[end] == b']') {
                return Err(behind.min(self.bytes.len()));
            }
            if is_first && piece.is_empty() {
                return Ok(None);
            }
        }
        if piece.is_empty() {
            return Err(end);
        }
        Ok(Some(piece))
    }
}

/// The comma or closing bracket that ends the value at `at`. Every bracket counts alike.
fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = text_end(bytes, at)?;
                continue;
            }
            b'[' | b'{' => depth += 1,
            b',' if depth == 0 => return Some(at),
            b']' | b'}' if depth == 0 => return Some(at),
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

/// Behind the quote that ends the text that begins at `start`.
fn text_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at = find(bytes, at, |byte| matches!(byte, b'"' | b'\\'))?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn find(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let found = bytes.get(from..)?.iter().position(|byte| wanted(*byte))?;
    Some(from + found)
}

/// How many blanks the bytes begin with.
fn blanks(bytes: &[u8]) -> usize {
    bytes.len() - bytes.trim_ascii_start().len()
}

/// Whether a text in quotes is `name`, however it is escaped.
fn is_text(quoted: &[u8], name: &str) -> bool {
    if !quoted.contains(&b'\\') {
        return quoted.get(1..quoted.len().saturating_sub(1)) == Some(name.as_bytes());
    }
    serde_json::from_slice::<String>(quoted).is_ok_and(|text| text == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn elements(bytes: &[u8]) -> Vec<&str> {
        list(bytes)
            .unwrap()
            .map(|raw| std::str::from_utf8(raw).unwrap())
            .collect()
    }

    #[test]
    fn halves_are_mended_and_pairs_are_kept() {
        for (text, mended) in [
            (r#""cut \ud83d""#, r#""cut \ufffd""#),
            (r#""\uD83D\uDE00 \udE00\uD83D""#, r#""\uD83D\uDE00 \ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#"{"\ude00":"\ud83d\n"}"#, r#"{"\ufffd":"\ufffd\n"}"#),
            (r#""\ud83""#, r#""\ud83""#),
            ("\"a\\", "\"a\\"),
        ] {
            assert_eq!(mend(text), mended, "{text}");
            assert_eq!(matches!(mend(text), Cow::Borrowed(_)), text == mended, "{text}");
        }
    }

    #[test]
    fn a_list_is_split_whatever_stands_in_its_elements() {
        assert_eq!(elements(b" [ ] "), [""; 0]);
        assert_eq!(
            elements(br#"[1, "a,]" ,{"b":[2,3]}]"#),
            ["1", "\"a,]\"", "{\"b\":[2,3]}"]
        );
        // Each of these spoils the whole list for a parser, and here one element alone.
        let deep = ["[".repeat(9_000), "]".repeat(9_000)].concat();
        for bad in [
            "{\"a\":\"\\ud83d\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\u{1}\n\"}",
            "NaN",
            "{\"a\":1]",
            "{a:1}",
            "{'a':1}",
            "{\"a\":1} x",
            "-",
            &deep,
        ] {
            let text = format!("[{{\"id\":1}},\n{bad} ,{{\"id\":2}}]");
            assert_eq!(elements(text.as_bytes()), ["{\"id\":1}", bad, "{\"id\":2}"]);
        }
        let invalid = list(b"[1,\"\xFF\",2]").unwrap();
        let read: Vec<bool> = invalid.map(|raw| parse(raw).is_ok()).collect();
        assert_eq!(read, [true, false, true]);
        for broken in [
            "",
            "{}",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1,,2]",
            "[1}",
            "[1] 2",
            "[\"a",
            "[\"a\\\"]",
        ] {
            assert!(list(broken.as_bytes()).is_err(), "{broken}");
        }
        let error = list(b"[1,\n 2").unwrap_err();
        assert_eq!(error, Unreadable::Malformed { line: 2, column: 2 });
    }

    #[test]
    fn what_cannot_be_read_says_where_and_why() {
        let said = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
        assert_eq!(said(b"{\"a\":"), "malformed JSON at line 1, column 5");
        assert_eq!(said(b"{\n\"a\":x}"), "malformed JSON at line 2, column 5");
        assert_eq!(said(b"\"ab\xFF\""), "no UTF-8 from byte 4 on");
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat().into_bytes();
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(
            said(&nested(DEPTH_MAX + 1)),
            "JSON that is nested deeper than 127 levels"
        );
        let parsed = parse(br#"{"a":"\ud83d"}"#).unwrap();
        assert!(parsed.mended && parsed.value == json!({"a": "\u{fffd}"}));
        assert!(!parse(br#"{"a":"\ud83d\ude00"}"#).unwrap().mended);
    }

    #[test]
    fn a_member_is_found_where_a_parser_finds_it() {
        let found = |bytes: &'static str, name| {
            let range = member(bytes.as_bytes(), name).unwrap();
            range.map(|range| &bytes[range])
        };
        assert_eq!(found(r#"{"a": [1] ,"b":2}"#, "a"), Some("[1]"));
        assert_eq!(found(r#"{"a":1,"\u0061":2}"#, "a"), Some("2"));
        assert_eq!(found(r#"{"x":{"a":1}}"#, "a"), None);
        assert_eq!(found("{}", "a"), None);
        for broken in ["[]", "{", "{1:2}", "{\"a\"}", "{\"a\" 1}", "{,}"] {
            assert!(member(broken.as_bytes(), "a").is_err(), "{broken}");
        }
    }

    #[test]
    fn a_member_is_blanked_even_where_it_is_malformed() {
        for (text, blanked) in [
            (r#"{"k":"SECRET","a":1}"#, r#"{"k":"","a":1}"#),
            (r#"[{"k" : "SEC\"RET"},{"K":"k"}]"#, r#"[{"k" : ""},{"K":"k"}]"#),
            (r#"{"\u006b":"SECRET"#, r#"{"\u006b":"""#),
            (r#"{"a":"\x","k":"SECRET","b":}"#, r#"{"a":"\x","k":"","b":}"#),
            (r#"{"k":1,"a":"k"}"#, r#"{"k":1,"a":"k"}"#),
        ] {
            assert_eq!(
                String::from_utf8(blank(text.as_bytes(), "k").into_owned()).unwrap(),
                blanked
            );
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_split_as_a_parser_would_or_refused(
            text in "(\\[|\\]|\\{|\\}|,|:|\"|\\\\|1|a| |\\\\ud83d){0,40}",
        ) {
            let parsed: Option<Vec<Value>> = parse(text.as_bytes()).ok().and_then(|parsed| match parsed.value {
                Value::Array(elements) => Some(elements),
                _ => None,
            });
            let split = list(text.as_bytes()).ok();
            if let Some(parsed) = parsed {
                let elements = split.expect("a parser takes it").map(|raw| parse(raw).unwrap().value);
                prop_assert_eq!(elements.collect::<Vec<_>>(), parsed);
            }
            drop(member(text.as_bytes(), "a"));
            drop(blank(text.as_bytes(), "a"));
            weight(text.as_bytes());
        }
    }
}
