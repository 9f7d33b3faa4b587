//! Headers of records: which ones Leadlane takes from a record, and how it writes its own.
//!
//! Anybody may write any header to a topic that we read. A header whose text doesn't fit its name counts as missing,
//! so that nothing of unbounded size is passed on.

use rdkafka::message::{Header, Headers, OwnedHeaders};

use crate::rules::is_rule_id;

/// A header's text, if it is there and is what its name says.
pub(crate) fn header<'m, H: Headers>(headers: Option<&'m H>, name: &str) -> Option<&'m str> {
    let headers = headers?;
    text(name, headers.iter().find(|header| header.key == name)?.value?)
}

/// The bytes of the header `name` as text, where they are what the name says.
pub(super) fn text<'b>(name: &str, bytes: &'b [u8]) -> Option<&'b str> {
    std::str::from_utf8(bytes).ok().filter(|text| is_one(name, text))
}

/// Whether `text` can stand in the header `name`. Names that aren't listed are never passed on, and take any text.
fn is_one(name: &str, text: &str) -> bool {
    match name {
        "traceparent" => is_traceparent(text),
        "rule-id" | "only-rule" => is_rule_id(text),
        "job-id" => uuid::Uuid::try_parse(text).is_ok(),
        "event-id" => (1..=256).contains(&text.len()),
        // A dead letter, or a job that somebody asked for again.
        "replay-of" => is_place(text) || uuid::Uuid::try_parse(text).is_ok(),
        VERSION => is_version(text),
        TEST => text == "true",
        _ => true,
    }
}

/// Which version of Leadlane wrote a job or an outcome, so that one that can't read it says what it needs.
pub(crate) const VERSION: &str = "leadlane-version";
pub(crate) const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A person tries a rule with this job, and this is what came of it.
pub(crate) const TEST: &str = "test";

/// What the headers of a job or an outcome say of it, where they are the ones that we write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    pub event_id: String,
    pub rule_id: String,
    pub job_id: String,
    /// `None` for one of the first version, which didn't say.
    pub version: Option<String>,
}

impl Ours {
    /// From the text of each header; `None` where an id is missing.
    pub(super) fn of<'t>(header: impl Fn(&'static str) -> Option<&'t str>) -> Option<Self> {
        let text = |name| header(name).map(str::to_owned);
        Some(Self {
            event_id: text("event-id")?,
            rule_id: text("rule-id")?,
            job_id: text("job-id")?,
            version: text(VERSION),
        })
    }
}

/// The headers of a job or an outcome: what is known of it, and the version that writes it.
pub(crate) fn versioned<'h>(known: impl IntoIterator<Item = (&'h str, &'h str)>) -> OwnedHeaders {
    headers(known.into_iter().chain([(VERSION, OWN_VERSION)]))
}

/// A version as Cargo writes it: `1.2.3`, and what may follow.
fn is_version(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    (1..=32).contains(&text.len()) && text.chars().all(plain)
}

/// W3C Trace Context: version, trace and span in lower-case hexadecimal, neither all zeros, and flags.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        let part = parts.next().filter(|part| part.len() == length)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        part.bytes().all(is_hex).then_some(part)
    };
    let (version, trace, span, flags) = (hex(2), hex(32), hex(16), hex(2));
    let is_set = |part: Option<&str>| part.is_some_and(|part| part.bytes().any(|byte| byte != b'0'));
    version == Some("00") && is_set(trace) && is_set(span) && flags.is_some() && parts.next().is_none()
}

/// A dead letter's id, `PARTITION-OFFSET`.
fn is_place(text: &str) -> bool {
    let is_number = |text: &str| (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-')
        .is_some_and(|(partition, offset)| is_number(partition) && is_number(offset))
}

/// Headers from (name, text) pairs.
pub(crate) fn headers<'h>(pairs: impl IntoIterator<Item = (&'h str, &'h str)>) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(8);
    pairs.into_iter().fold(headers, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    })
}

/// How many bytes headers add to a record, but for the lengths that stand before them.
pub(super) fn size(headers: &OwnedHeaders) -> usize {
    let of = |header: Header<'_, &[u8]>| header.key.len() + header.value.map_or(0, <[u8]>::len);
    headers.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_taken_only_if_it_is_what_its_name_says() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let long = format!("{trace}{}", "0".repeat(1_000_000));
        let event = "e".repeat(257);
        for (name, good, bad) in [
            (
                "traceparent",
                trace,
                [&long, "", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            ),
            ("only-rule", "big-auto-sales", ["-a", "Big", &long]),
            ("rule-id", "a", ["", "a\nb", "a b"]),
            (
                "job-id",
                "7fb2cd34-f4da-5f5f-911b-265780569f3b",
                ["", "7fb2cd34", &long],
            ),
            ("event-id", &event[..256], ["", &event, &long]),
            ("replay-of", "2-17", ["2", "2-", "-1-7"]),
            (TEST, "true", ["", "false", &long]),
            (VERSION, "1.20.3-rc.1+5", ["", "1 2", &long]),
        ] {
            assert_eq!(text(name, good.as_bytes()), Some(good), "{name}");
            for bad in bad {
                assert_eq!(text(name, bad.as_bytes()), None, "{name}: {:.40}", bad);
            }
            assert_eq!(text(name, b"\xff"), None);
        }
        assert_eq!(text("detail", b"any text"), Some("any text"));
    }

    #[test]
    fn a_record_of_ours_has_all_its_ids() {
        let job_id = "7fb2cd34-f4da-5f5f-911b-265780569f3b";
        let of = |headers: &OwnedHeaders| Ours::of(|name| header(Some(headers), name));
        let ids = [("event-id", "e-1"), ("rule-id", "r-1"), ("job-id", job_id)];
        let ours = of(&versioned(ids)).unwrap();
        assert_eq!((&*ours.event_id, &*ours.rule_id, &*ours.job_id), ("e-1", "r-1", job_id));
        assert_eq!(ours.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(of(&headers(ids)).unwrap().version, None, "the first version didn't say");
        for missing in 0..3 {
            let left = ids.into_iter().enumerate().filter(|(number, _)| *number != missing);
            assert_eq!(of(&headers(left.map(|(_, id)| id))), None);
        }
        assert_eq!(of(&headers([ids[0], ids[1], ("job-id", "7")])), None);
    }

    #[test]
    fn of_headers_the_first_counts_and_null_is_none() {
        let both = headers([("traceparent", "junk"), ("traceparent", "more")]);
        assert_eq!(header(Some(&both), "traceparent"), None);
        let null: Option<&str> = None;
        let null = OwnedHeaders::new().insert(Header {
            key: "replay-of",
            value: null,
        });
        assert_eq!(header(Some(&null), "replay-of"), None);
        assert_eq!(size(&headers([("ab", "cde"), ("f", "")])), 6);
    }
}
