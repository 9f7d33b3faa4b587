//! The length of a text and how to cut it, in the receiver's unit: Slack counts characters, CleverTap bytes.
//!
//! A cut never falls within a character that people see as one, which may be several code points (an extended grapheme
//! cluster, UAX #29). [`slack`] knows Slack's markup, which a cut must not tear either.

use std::fmt;

use unicode_segmentation::UnicodeSegmentation;

pub mod file;
pub mod json;
pub mod mask;
pub mod slack;

/// What stands where a text was cut.
pub const ELLIPSIS: &str = "…";

/// What a text's length is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Unicode code points.
    Characters,
    /// Bytes of UTF-8.
    Bytes,
}

impl Unit {
    /// The length of `text`.
    pub fn length(self, text: &str) -> usize {
        match self {
            Unit::Characters => text.chars().count(),
            Unit::Bytes => text.len(),
        }
    }

    /// Whether `text` is at most `max` long.
    pub fn fits(self, text: &str, max: usize) -> bool {
        match self {
            Unit::Characters => text.len() <= max || text.char_indices().nth(max).is_none(),
            Unit::Bytes => text.len() <= max,
        }
    }
}

/// `text` cut to at most `max` with `…` as its last character, or `None` where it fits. Less than an `…` is nothing.
pub fn cut(text: &str, max: usize, unit: Unit) -> Option<String> {
    if unit.fits(text, max) {
        return None;
    }
    let Some(kept) = max.checked_sub(unit.length(ELLIPSIS)) else {
        return Some(String::new());
    };
    let mut length = 0;
    let within = |part: &&str| {
        length += unit.length(part);
        length <= kept
    };
    let end: usize = text.graphemes(true).take_while(within).map(str::len).sum();
    Some(text[..end].to_owned() + ELLIPSIS)
}

/// `text` in at most `max` characters, the last then being `…`.
pub fn truncate(text: &str, max: usize) -> String {
    cut(text, max, Unit::Characters).unwrap_or_else(|| text.to_owned())
}

/// As much of `text` as `room` bytes hold, which may end within what people see as one character.
pub fn within(text: &str, room: usize) -> &str {
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The place of the first byte of a kind that is ASCII's.
fn find(text: &str, is_one: impl Fn(u8) -> bool) -> Option<usize> {
    /// So many are looked at together: most hold none.
    const STRIDE: usize = 8;
    let (strides, _) = text.as_bytes().as_chunks::<STRIDE>();
    let holds_one = |stride: &[u8; STRIDE]| stride.iter().fold(false, |found, byte| found | is_one(*byte));
    let begin = STRIDE * strides.iter().position(holds_one).unwrap_or(strides.len());
    let at = text.as_bytes()[begin..].iter().position(|byte| is_one(*byte))?;
    Some(begin + at)
}

/// A text that is written piece by piece and stops growing at a number of bytes, so that nobody writes more than its
/// reader takes. Who writes into it by `write!` is stopped by an error once it is full.
#[derive(Debug)]
pub struct Bounded {
    text: String,
    room: usize,
    is_cut: bool,
    /// Whether it is a part of a string of JSON. It is escaped for that as it is written, and counted as if it wasn't.
    is_json: bool,
}

impl Bounded {
    pub fn new(max: usize) -> Self {
        Self::behind(String::with_capacity(max.min(256)), max)
    }

    /// At most `max` bytes behind what `text` holds already.
    pub fn behind(text: String, max: usize) -> Self {
        Self {
            text,
            room: max,
            is_cut: false,
            is_json: false,
        }
    }

    /// The same within a string of JSON, which `json` ends in.
    pub fn within_json(json: String, max: usize) -> Self {
        Self {
            is_json: true,
            ..Self::behind(json, max)
        }
    }

    /// Adds as much of `text` as there is room for; nothing once something was left out.
    pub fn push(&mut self, text: &str) {
        if self.is_cut {
            return;
        }
        let part = within(text, self.room);
        match self.is_json {
            false => self.text.push_str(part),
            true => json::escape(part, &mut self.text),
        }
        self.room -= part.len();
        self.is_cut = part.len() < text.len();
    }

    /// Bytes that it still takes.
    pub fn room(&self) -> usize {
        if self.is_cut { 0 } else { self.room }
    }

    /// Whether something was left out.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Says that what comes next is left out, or that what came last was.
    pub fn end(&mut self) {
        self.is_cut = true;
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    const FAMILY: &str = "👩‍👩‍👧";

    #[test]
    fn a_cut_counts_in_the_unit_and_spares_what_people_see_as_one() {
        use Unit::{Bytes, Characters};
        for (text, max, unit, expected) in [
            ("äöü and more", 12, Characters, None),
            ("äöü and more", 5, Characters, Some("äöü …")),
            ("abc", 1, Characters, Some("…")),
            ("abc", 0, Characters, Some("")),
            ("नमस्ते", 18, Bytes, None),
            // न म स् ते, of which the last two are six and six bytes.
            ("नमस्ते", 17, Bytes, Some("नम…")),
            ("नमस्ते", 5, Characters, Some("नम…")),
            ("e\u{301}e\u{301}", 3, Characters, Some("e\u{301}…")),
            ("e\u{301}e\u{301}", 2, Characters, Some("…")),
            ("🇩🇪🇫🇷", 3, Characters, Some("🇩🇪…")),
            ("a\r\nb", 3, Characters, Some("a…")),
            ("abcd", 3, Bytes, Some("…")),
            ("abcd", 2, Bytes, Some("")),
        ] {
            assert_eq!(cut(text, max, unit).as_deref(), expected, "{text} {max} {unit:?}");
        }
        let family = format!("ab{FAMILY}c");
        assert_eq!(cut(&family, 7, Characters).as_deref(), Some("ab…"));
        assert_eq!(cut(&format!("{family}d"), 8, Characters), Some(format!("ab{FAMILY}…")));
        assert_eq!(truncate("abc", 2), "a…");
    }

    #[test]
    fn a_bounded_text_stops_its_writer() {
        let mut text = Bounded::new(5);
        text.push("ab");
        assert_eq!((text.room(), text.is_cut()), (3, false));
        assert!(write!(text, "cdéf").is_err());
        assert_eq!((text.room(), text.is_cut(), text.as_str()), (0, true, "abcd"));
        text.push("x");
        assert_eq!(text.into_text(), "abcd");
        let mut json = Bounded::new(10);
        assert!(write!(json, "{}", serde_json::json!(vec![0; 1000])).is_err());
        assert_eq!(json.into_text(), "[0,0,0,0,0");
    }

    proptest! {
        #[test]
        fn a_bounded_text_within_json_is_the_same_text(
            pieces in prop::collection::vec("(a|é|\"|\\\\|\n|\x01){0,9}", 0..5), max in 0..30_usize,
        ) {
            let (mut plain, mut json) = (Bounded::new(max), Bounded::within_json("[\"".to_owned(), max));
            for piece in &pieces {
                plain.push(piece);
                json.push(piece);
                prop_assert_eq!((plain.room(), plain.is_cut()), (json.room(), json.is_cut()));
            }
            let expected = serde_json::json!([plain.as_str()]).to_string();
            prop_assert_eq!(json.into_text() + "\"]", expected);
        }

        #[test]
        fn a_byte_is_found_where_it_first_stands(text in "(<|a|é){0,40}") {
            prop_assert_eq!(find(&text, |byte| byte == b'<'), text.find('<'));
        }

        #[test]
        fn what_is_cut_fits_and_is_the_longest_that_does(text in "(a|é|न|\u{301}|👩\u{200d}👧|🇩|🇪|\r\n){0,12}", max in 0..30_usize) {
            for unit in [Unit::Characters, Unit::Bytes] {
                let Some(shorter) = cut(&text, max, unit) else {
                    prop_assert!(unit.length(&text) <= max);
                    continue;
                };
                prop_assert!(unit.length(&text) > max && unit.length(&shorter) <= max);
                let Some(kept) = shorter.strip_suffix(ELLIPSIS) else {
                    prop_assert!(shorter.is_empty() && max < unit.length(ELLIPSIS));
                    continue;
                };
                let clusters: Vec<&str> = text.graphemes(true).collect();
                let whole = (0..=clusters.len()).find(|&count| clusters[..count].concat() == kept);
                let count = whole.expect("the cut is between two clusters");
                prop_assert!(unit.length(kept) + unit.length(clusters[count]) + unit.length(ELLIPSIS) > max);
            }
        }
    }
}
