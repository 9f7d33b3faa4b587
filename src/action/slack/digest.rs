//! The one message that stands for many: how many there are, from when to when, and the first line of each as long as
//! there is room.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;

use super::TEXT_MAX;
use crate::text::slack::{cut, first_line};

/// A line of a digest is cut to so many characters, its markup counted.
const LINE_MAX: usize = 300;
/// Room for `and N more`.
const TAIL_MAX: usize = 40;

/// Merges the messages of one rule, oldest first, into the body of the first. Each comes with the time of its event.
pub(in crate::action) fn merge(rule_id: &str, messages: &[(i64, &str)]) -> Option<String> {
    let (_, first) = messages.first()?;
    let times = messages.iter().map(|(occurred_at, _)| *occurred_at);
    let (from, to) = (times.clone().min()?, times.max()?);
    let count = messages.len();
    let mut text = format!("*{count} messages of {rule_id}*, {}:", span(from, to));
    let mut length = text.chars().count();
    let mut shown = 0;
    for (_, body) in messages {
        let line = line(body);
        length += line.chars().count() + 3;
        if length + TAIL_MAX > TEXT_MAX {
            break;
        }
        text.push_str("\n• ");
        text.push_str(&line);
        shown += 1;
    }
    if shown < count {
        // Writing to a String can't fail.
        let _always = write!(text, "\n… and {} more", count - shown);
    }
    let mut body: Value = serde_json::from_str(first).ok()?;
    body["text"] = text.into();
    Some(body.to_string())
}

/// The beginning of a message.
fn line(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let line = first_line(body["text"].as_str().unwrap_or_default().trim());
    cut(&line, LINE_MAX, false).unwrap_or(line)
}

/// `5 Mar 15:16 to 15:20 UTC`, with the second day where it is another.
fn span(from: i64, to: i64) -> String {
    let time = |millis: i64, format: &str| {
        let time = Timestamp::from_millisecond(millis).unwrap_or_default();
        time.strftime(format).to_string()
    };
    let day = |millis: i64| time(millis, "%-d %b");
    let second = if day(from) == day(to) { "%H:%M" } else { "%-d %b %H:%M" };
    format!("{} to {} UTC", time(from, "%-d %b %H:%M"), time(to, second))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Messages that came a minute apart.
    fn messages(count: i64, text: impl Fn(i64) -> String) -> Vec<(i64, String)> {
        let message = |number| {
            let body = serde_json::json!({"channel": "C1", "unfurl_links": false, "text": text(number)});
            (1_772_723_760_123 + number * 60_000, body.to_string())
        };
        (0..count).map(message).collect()
    }

    fn text(messages: &[(i64, String)]) -> String {
        let messages: Vec<(i64, &str)> = messages.iter().map(|(at, body)| (*at, body.as_str())).collect();
        let body: Value = serde_json::from_str(&merge("r-1", &messages).unwrap()).unwrap();
        assert_eq!(body["channel"], "C1");
        assert_eq!(body["unfurl_links"], false);
        body["text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_digest_says_how_many_from_when_and_what() {
        let text = text(&messages(3, |number| format!("Lead {number} &amp; co\nmore of it")));
        assert_eq!(
            text,
            "*3 messages of r-1*, 5 Mar 15:16 to 15:18 UTC:\n• Lead 0 &amp; co\n• Lead 1 &amp; co\n• Lead 2 &amp; co"
        );
    }

    #[test]
    fn a_line_tears_no_link_escape_or_character_and_opens_nothing() {
        let long = "x".repeat(280);
        let of = |end: &str| text(&messages(2, |_| format!("{long}{end}")));
        let lines = |end: &str| format!("\n• {long}{end}\n• {long}{end}");
        for (end, expected) in [
            (" <https://x.example/recording|Recording>", " …"),
            ("0123456789012345678&amp;", "0123456789012345678…"),
            ("012345678901234567👩‍👩‍👧", "012345678901234567…"),
            (" <https://x|a\nb> c\nd", " <https://x|a b> c"),
            (" <!channel", " &lt;!channel"),
        ] {
            assert!(of(end).ends_with(&lines(expected)), "{end}: {}", of(end));
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let text = text(&messages(5000, |number| format!("Lead {number} {}", "x".repeat(90))));
        assert!(text.chars().count() <= TEXT_MAX);
        assert!(text.starts_with("*5000 messages of r-1*, 5 Mar 15:16 to 9 Mar 02:35 UTC:\n• Lead 0 x"));
        let shown = text.matches("\n• ").count();
        assert!(shown > 30);
        assert!(text.ends_with(&format!("\n… and {} more", 5000 - shown)));
    }

    /// The text between `<` and the next `>`, whatever it is.
    fn spans(text: &str) -> Vec<String> {
        let spans = text.split('<').skip(1).filter_map(|span| Some(span.split_once('>')?.0));
        spans.map(|span| span.replace('\n', " ")).collect()
    }

    proptest! {
        #[test]
        fn a_digest_makes_no_link_that_its_messages_do_not_have(
            texts in prop::collection::vec("(<https://x\\|a>|<!here>|<@U1|<|>|&lt;|!channel|\n|a{100}|é){0,10}", 1..4),
        ) {
            let merged = text(&messages(texts.len() as i64, |number| texts[number as usize].clone()));
            let own: Vec<String> = texts.iter().flat_map(|text| spans(text)).collect();
            for span in spans(&merged) {
                prop_assert!(own.contains(&span), "{:?} in {:?}", span, merged);
            }
        }
    }
}
