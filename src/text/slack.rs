//! Slack's markup (`mrkdwn`): how to write a value into it, how it reads, and where it may be cut.
//!
//! In a Slack text `<…>` is a link or a mention, and `&amp;`, `&lt;` and `&gt;` stand for the three characters that
//! can't stand for themselves. Slack decodes those three alone. Bold and the like can't be escaped, and ping nobody.
//! Source: docs.slack.dev, "Formatting message text".

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use unicode_segmentation::UnicodeSegmentation;

use super::{Bounded, ELLIPSIS, Unit};

pub mod spans;

/// Characters that can't stand within a link's URL: they would end the URL, or the link.
const NOT_IN_URL: &AsciiSet = &CONTROLS.add(b' ').add(b'<').add(b'>').add(b'|');
const SCHEMES: [&str; 6] = ["https://", "http://", "mailto:", "tel:", "ftp://", "slack://"];

/// A piece of a Slack text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Text(&'t str),
    /// `&amp;`, `&lt;` or `&gt;`, and what it stands for.
    Escape(&'t str, &'static str),
    /// `<…>` without what is around it.
    Span(&'t str),
}

impl Token<'_> {
    /// Bytes of the token in the text.
    fn len(&self) -> usize {
        match self {
            Token::Text(text) | Token::Escape(text, _) => text.len(),
            Token::Span(inner) => inner.len() + 2,
        }
    }
}

/// The pieces of a text, in order. A `<` that another one follows before any `>`, or that no `>` follows, opens nothing.
fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let token = token(rest);
        rest = &rest[token.len()..];
        Some(token)
    })
}

fn token(text: &str) -> Token<'_> {
    let special = |from: usize| text[from..].find(['<', '&']).map_or(text.len(), |at| from + at);
    if let Some(inner) = text.strip_prefix('<') {
        return match inner.find(['<', '>']) {
            Some(end) if inner[end..].starts_with('>') => Token::Span(&inner[..end]),
            _ => Token::Text(&text[..special(1)]),
        };
    }
    for (escape, meant) in [("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        if text.starts_with(escape) {
            return Token::Escape(&text[..escape.len()], meant);
        }
    }
    let own = usize::from(text.starts_with('&'));
    Token::Text(&text[..special(own)])
}

/// Writes a value so that it reads as it is, whatever it holds.
pub fn escape(value: &str, into: &mut Bounded) {
    let mut rest = value;
    while let Some(at) = super::find(rest, |byte| matches!(byte, b'&' | b'<' | b'>')) {
        into.push(&rest[..at]);
        into.push(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            _ => "&gt;",
        });
        rest = &rest[at + 1..];
        if into.is_cut() {
            return;
        }
    }
    into.push(rest);
}

/// Writes a value into a link's URL: what would end it is percent-encoded, all else stays.
pub fn escape_in_url(value: &str, into: &mut Bounded) {
    for part in utf8_percent_encode(value, NOT_IN_URL) {
        escape(part, into);
    }
}

/// Whether a text is a URL that Slack makes a link of, by its scheme.
pub fn is_url(text: &str) -> bool {
    let begins = |scheme: &&str| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    SCHEMES
        .iter()
        .find(|scheme| begins(scheme))
        .is_some_and(|scheme| text.len() > scheme.len())
}

/// As much of a text as `room` bytes hold, without what it opens and doesn't close at its end, and whether that is less
/// than the whole.
pub fn within(text: &str, room: usize) -> (&str, bool) {
    let part = super::within(text, room);
    if part.len() == text.len() {
        return (text, false);
    }
    let is_open = |at: &usize| match &part[*at..] {
        tail if tail.starts_with('<') => !tail.contains('>'),
        tail => "&amp;".starts_with(tail) || "&lt;".starts_with(tail) || "&gt;".starts_with(tail),
    };
    let opened = part.rfind(['<', '&']).filter(is_open);
    (&part[..opened.unwrap_or(part.len())], true)
}

/// A text as a person reads it in Slack: links as `label (URL)`, mentions by name, escapes undone. `name` gives a
/// member's name by the id, where it is known.
pub fn plain(text: &str, name: impl Fn(&str) -> Option<String>, into: &mut Bounded) {
    for token in tokens(text) {
        match token {
            Token::Text(text) => into.push(text),
            Token::Escape(_, meant) => into.push(meant),
            Token::Span(inner) => plain_span(inner, &name, into),
        }
        if into.is_cut() {
            return;
        }
    }
}

fn plain_span(inner: &str, name: impl Fn(&str) -> Option<String>, into: &mut Bounded) {
    let (target, label) = match inner.split_once('|') {
        Some((target, label)) => (target, Some(unescaped(label)).filter(|label| !label.trim().is_empty())),
        None => (inner, None),
    };
    let named = |sign: &str, name: &str, into: &mut Bounded| {
        // Slack writes the label of a group with its sign, that of a channel without.
        into.push(sign);
        into.push(name.strip_prefix(sign).unwrap_or(name));
    };
    match (target.as_bytes().first(), &label) {
        (Some(b'#'), Some(label)) => named("#", label, into),
        (Some(b'@'), Some(label)) => named("@", label, into),
        (Some(b'@'), None) => {
            let known = name(&target[1..]);
            named("@", known.as_deref().unwrap_or(&target[1..]), into);
        }
        // A date says in words what it stands for; a group and all others are mentions.
        (Some(b'!'), Some(label)) if target.starts_with("!date^") => into.push(label),
        (Some(b'!'), Some(label)) => named("@", label, into),
        (Some(b'!'), None) => named("@", target[1..].trim_start_matches("subteam^"), into),
        (_, None) => into.push(&unescaped(target)),
        (_, Some(label)) => {
            into.push(label);
            let target = unescaped(target);
            // Slack makes links of what people type: their label is the target itself, without its scheme.
            let typed = SCHEMES.iter().find_map(|scheme| target.strip_prefix(scheme));
            if *label != target && Some(&**label) != typed {
                into.push(" (");
                into.push(&target);
                into.push(")");
            }
        }
    }
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let parts = tokens(text).map(|token| match token {
        Token::Text(text) | Token::Span(text) => text,
        Token::Escape(_, meant) => meant,
    });
    Cow::Owned(parts.collect())
}

/// A text cut to at most `max` characters with `…` as the last, or `None` where it fits. The cut tears no escape, no
/// link or mention, and nothing that people see as one character. A text that `goes_on` was written up to some place
/// only, and is always cut.
pub fn cut(text: &str, max: usize, goes_on: bool) -> Option<String> {
    if !goes_on && Unit::Characters.fits(text, max) {
        return None;
    }
    // A text that goes on may close its last link in the part that isn't there.
    let opened = text.rfind('<').filter(|at| goes_on && !text[*at..].contains('>'));
    let text = &text[..opened.unwrap_or(text.len())];
    let kept = max.saturating_sub(1);
    let mut tokens = tokens(text);
    // The begin and end of the present token, and whether it may be cut.
    let (mut begin, mut end, mut is_text) = (0, 0, true);
    let (mut length, mut at, mut kept_to) = (0, 0, 0);
    for part in text.graphemes(true) {
        length += part.chars().count();
        if length > kept {
            break;
        }
        at += part.len();
        while end < at {
            let Some(token) = tokens.next() else { break };
            (begin, end, is_text) = (end, end + token.len(), matches!(token, Token::Text(_)));
        }
        let is_within = begin < at && at < end && !is_text;
        // The last character of a text that goes on may not be all there.
        let is_open = goes_on && opened.is_none() && at == text.len();
        if !is_within && !is_open {
            kept_to = at;
        }
    }
    let mut shorter = text[..kept_to].to_owned();
    if max > 0 {
        shorter.push_str(ELLIPSIS);
    }
    Some(shorter)
}

/// The first line of a text, which may stand among other texts: a link that goes over the line's end is whole, and what
/// opens a link or mention without closing it is escaped, so that nothing behind it can close it.
pub fn first_line(text: &str) -> String {
    let mut line = String::new();
    for token in tokens(text) {
        match token {
            Token::Text(text) => {
                let (text, is_end) = match text.find(['\n', '\r']) {
                    Some(end) => (&text[..end], true),
                    None => (text, false),
                };
                line.push_str(&text.replace('<', "&lt;"));
                if is_end {
                    break;
                }
            }
            Token::Escape(escape, _) => line.push_str(escape),
            Token::Span(inner) => {
                line.push('<');
                line.push_str(&inner.replace(['\n', '\r'], " "));
                line.push('>');
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        let mut read = Bounded::new(10_000);
        plain(text, |id| (id == "U1").then(|| "Ana".to_owned()), &mut read);
        read.into_text()
    }

    #[test]
    fn markup_reads_as_a_person_reads_it() {
        for (text, expected) in [
            ("", ""),
            ("Smith &amp; Sons says 3 &lt; 4 &gt; 2", "Smith & Sons says 3 < 4 > 2"),
            (
                "see <https://x.example/?a=1&amp;b=2|the doc>",
                "see the doc (https://x.example/?a=1&b=2)",
            ),
            ("<https://x.example/a>", "https://x.example/a"),
            ("<http://x.example|x.example>", "x.example"),
            ("<mailto:ana@example.com|ana@example.com>", "ana@example.com"),
            ("<https://x.example|A &amp; B>", "A & B (https://x.example)"),
            ("<https://x.example|>", "https://x.example"),
            ("<#C1|general> <#C2> <#C3|>", "#general #C2 #C3"),
            (
                "<!here> <!channel> <!everyone|everyone> <!here|@here>",
                "@here @channel @everyone @here",
            ),
            ("<!subteam^S1|@sales> <!subteam^S2>", "@sales @S2"),
            ("<!date^1392734382^{date_num}|18 Feb>", "18 Feb"),
            ("<@U1> <@U2> <@U2|Bo>", "@Ana @U2 @Bo"),
            ("&amp;lt;b&amp;gt; &nbsp; & &am", "&lt;b&gt; &nbsp; & &am"),
            (
                "a < b <https://x.example|y> c > d <",
                "a < b y (https://x.example) c > d <",
            ),
            ("<>", ""),
            (":wave: *bold* `<code>`", ":wave: *bold* `code`"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_part_of_a_text_opens_nothing() {
        for (text, room, expected) in [
            ("abc", 3, ("abc", false)),
            ("abcd", 3, ("abc", true)),
            ("a &amp; b", 4, ("a ", true)),
            ("a &b; c", 6, ("a &b; ", true)),
            ("a &amp; b", 8, ("a &amp; ", true)),
            ("a <http://x|y> b", 10, ("a ", true)),
            ("a <http://x|y> b", 15, ("a <http://x|y> ", true)),
        ] {
            assert_eq!(within(text, room), expected, "{text} {room}");
        }
    }

    #[test]
    fn a_cut_tears_nothing() {
        for (text, max, expected) in [
            ("abc", 3, None),
            ("abcd", 3, Some("ab…")),
            ("a&amp;bc", 7, Some("a&amp;…")),
            ("a&amp;bc", 6, Some("a…")),
            ("a&ampbc;de", 6, Some("a&amp…")),
            ("a <http://x|y> bcd", 15, Some("a <http://x|y>…")),
            ("a <http://x|y> bcd", 14, Some("a …")),
            ("a < b c d", 6, Some("a < b…")),
            ("ae\u{301}bcd", 3, Some("a…")),
            ("<@U1>\u{301}bcdefg", 7, Some("<@U1>\u{301}…")),
            ("<@U1>\u{301}bcdefg", 6, Some("…")),
            ("abc", 0, Some("")),
        ] {
            assert_eq!(cut(text, max, false).as_deref(), expected, "{text} {max}");
        }
        for (text, expected) in [
            ("abc", "ab…"),
            ("a <http://x", "a …"),
            ("a <http://x> ", "a <http://x>…"),
            ("", "…"),
        ] {
            assert_eq!(cut(text, 100, true).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_first_line_stands_for_itself() {
        for (text, expected) in [
            ("one\ntwo", "one"),
            ("one\r\ntwo", "one"),
            ("a <http://x|two\nlines> b\nc", "a <http://x|two lines> b"),
            ("a <!channel\n> b", "a <!channel > b"),
            ("a <!channel", "a &lt;!channel"),
            ("a < b &lt; <!here>", "a &lt; b &lt; <!here>"),
        ] {
            assert_eq!(first_line(text), expected, "{text}");
        }
    }

    #[test]
    fn urls_are_known_by_their_scheme() {
        for url in ["https://x", "HTTP://x", "mailto:a@b", "tel:+1", "slack://open"] {
            assert!(is_url(url), "{url}");
        }
        for other in [
            "",
            "!channel",
            "https://",
            "javascript:alert(1)",
            " https://x",
            "x.example",
            "é",
            "@U1",
            "http:x",
        ] {
            assert!(!is_url(other), "{other}");
        }
        let mut url = Bounded::new(100);
        escape_in_url("https://x/?a=1&b=é |<>\n%20", &mut url);
        assert_eq!(url.as_str(), "https://x/?a=1&amp;b=%C3%A9%20%7C%3C%3E%0A%20");
    }

    proptest! {
        #[test]
        fn pieces_are_the_text(text in "(<|>|&|amp;|&lt;|\\||!|@|a|é|\n){0,20}") {
            let whole: String = tokens(&text).map(|token| match token {
                Token::Text(text) | Token::Escape(text, _) => text.to_owned(),
                Token::Span(inner) => format!("<{inner}>"),
            }).collect();
            prop_assert_eq!(whole, text);
        }

        #[test]
        fn what_is_escaped_reads_as_itself(value in "(<|>|&|amp;|&lt;|\\||!|@|a|é|\n){0,20}") {
            let mut escaped = Bounded::new(10_000);
            escape(&value, &mut escaped);
            prop_assert!(!escaped.as_str().contains(['<', '>']));
            prop_assert_eq!(read(escaped.as_str()), value);
        }

        #[test]
        fn a_cut_text_is_the_beginning_of_the_whole_and_reads_so(
            text in "(<http://x\\|a>|<!here>|<|>|&amp;|&|a\u{301}|a|é|👩\u{200d}👧|\n){0,14}",
            max in 1..40_usize,
        ) {
            match cut(&text, max, false) {
                None => prop_assert!(text.chars().count() <= max),
                Some(shorter) => {
                    prop_assert!(shorter.chars().count() <= max);
                    let kept = shorter.strip_suffix(ELLIPSIS).unwrap();
                    prop_assert!(text.starts_with(kept));
                    let (whole, kept_read) = (read(&text), read(kept));
                    prop_assert!(whole.starts_with(&kept_read), "{:?} {:?}", whole, kept_read);
                    prop_assert_eq!(whole.graphemes(true).take(kept_read.graphemes(true).count()).collect::<String>(), kept_read);
                }
            }
        }
    }
}
