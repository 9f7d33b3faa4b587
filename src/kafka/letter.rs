//! Dead letters: each is a record that failed, with the reason and its source.
//!
//! A dead letter holds the record as it was read. Where the dead letters' topic refuses that size, the letter takes a
//! smaller [`Form`], down to a few headers, which always fit. The header `left-out` then names the missing parts, and
//! a replay reads them at their source.

use rdkafka::message::OwnedHeaders;

use super::headers::headers;
use crate::reason::Form;
use crate::text;
use crate::trail;

/// A longer `detail` is cut, in bytes.
const DETAIL_MAX: usize = 2048;
/// The same where a few headers are all there is.
const DETAIL_LEAST: usize = 256;
/// A longer header is left out, and named, in bytes: those that are ids or places are far shorter.
const HEADER_MAX: usize = 4096;

/// The header by which a replay recognises the record whose key or value a dead letter leaves out.
pub(crate) const LEFT_OUT_SUM: &str = "left-out-sum";

/// The checksum of what a dead letter leaves out of a record, in its header in hexadecimal.
pub(crate) fn left_out_sum(without_key: bool, key: &[u8], without_value: bool, value: Option<&[u8]>) -> u32 {
    trail::sum(0, Some(key).filter(|_| without_key), value.filter(|_| without_value))
}

/// The failure of a record: the headers that every dead letter has, whoever writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure<'f> {
    pub(crate) reason: &'f str,
    pub(crate) detail: &'f str,
    /// The source of the record: a topic, or an inlet.
    pub(crate) source: &'f str,
    /// Its partition and offset there, where it has them.
    pub(crate) place: Option<(i32, i64)>,
    pub(crate) at: jiff::Timestamp,
}

/// A dead letter before it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter<'l> {
    pub(crate) key: &'l [u8],
    pub(crate) value: Option<&'l [u8]>,
    pub(crate) failure: Failure<'l>,
    /// Headers that the record had or would have, where it had them.
    pub(crate) known: &'l [(&'l str, Option<&'l str>)],
}

impl<'l> Letter<'l> {
    /// Key, value and headers in a form.
    pub(crate) fn in_form(&self, form: Form) -> (&'l [u8], Option<&'l [u8]>, OwnedHeaders) {
        let known = self.known.iter().filter_map(|(name, text)| Some((*name, (*text)?)));
        let (key, value): (&[u8], _) = match form {
            Form::Whole => (self.key, self.value),
            Form::WithoutValue => (self.key, None),
            Form::WithoutKey | Form::Headers => (b"", None),
        };
        let mut left_out = Vec::new();
        if key.len() < self.key.len() {
            left_out.push("key");
        }
        if value.is_none() && self.value.is_some() {
            left_out.push("value");
        }
        let sum = format!(
            "{:x}",
            left_out_sum(key.len() < self.key.len(), self.key, value.is_none(), self.value)
        );
        let sum = Some((LEFT_OUT_SUM, sum.as_str())).filter(|_| !left_out.is_empty());
        let headers = match form {
            Form::Headers => {
                left_out.push("headers");
                self.failure.headers(DETAIL_LEAST, &left_out, sum)
            }
            _ => self.failure.headers(DETAIL_MAX, &left_out, known.chain(sum)),
        };
        (key, value, headers)
    }
}

impl Failure<'_> {
    /// The headers of the dead letter, `known` after those that each has.
    fn headers<'a>(
        &self,
        detail_max: usize,
        left_out: &[&str],
        known: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> OwnedHeaders {
        let (known, too_long): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, text)| text.len() <= HEADER_MAX);
        let left_out: Vec<&str> = left_out
            .iter()
            .copied()
            .chain(too_long.iter().map(|(name, _)| *name))
            .collect();
        let (left_out, failed_at) = (left_out.join(","), self.at.to_string());
        let (partition, offset) = self.place.unwrap_or_default();
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let ours = [
            ("reason", Some(self.reason)),
            ("detail", Some(text::within(self.detail, detail_max))),
            ("source-topic", Some(text::within(self.source, HEADER_MAX))),
            ("source-partition", self.place.map(|_| partition.as_str())),
            ("source-offset", self.place.map(|_| offset.as_str())),
            ("failed-at", Some(failed_at.as_str())),
            ("left-out", Some(left_out.as_str()).filter(|names| !names.is_empty())),
        ];
        let ours = ours.into_iter().filter_map(|(name, text)| Some((name, text?)));
        headers(ours.chain(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::headers::{header, size};

    const FAILURE: Failure<'_> = Failure {
        reason: "too_large",
        detail: "",
        source: "lead-events",
        place: Some((3, 42)),
        at: jiff::Timestamp::UNIX_EPOCH,
    };

    #[test]
    fn each_form_is_smaller_says_what_it_leaves_out_and_where_that_is() {
        let long = "é".repeat(600_000);
        let letter = Letter {
            key: b"key",
            value: Some(b"value"),
            failure: Failure {
                detail: &long,
                ..FAILURE
            },
            known: &[("event-id", Some("e-1")), ("rule-id", None), ("route", Some(&long))],
        };
        let mut form = Some(Form::Whole);
        let mut found = Vec::new();
        while let Some(now) = form {
            let (key, value, headers) = letter.in_form(now);
            let of = |name| header(Some(&headers), name);
            assert_eq!(
                (of("source-topic"), of("source-partition"), of("source-offset")),
                (Some("lead-events"), Some("3"), Some("42"))
            );
            assert!(size(&headers) < 3 * 1024, "{}", size(&headers));
            let sum = left_out_sum(key.is_empty(), b"key", value.is_none(), Some(b"value"));
            let written = of("left-out-sum").map(str::to_owned);
            assert_eq!(written, (now != Form::Whole).then(|| format!("{sum:x}")));
            found.push((
                key,
                value,
                of("left-out").unwrap().to_owned(),
                of("event-id").is_some(),
                size(&headers) < 512,
            ));
            form = now.smaller();
        }
        let (key, value) = (&b"key"[..], Some(&b"value"[..]));
        let wanted = [
            (key, value, "route".to_owned(), true, false),
            (key, None, "value,route".to_owned(), true, false),
            (b"", None, "key,value,route".to_owned(), true, false),
            (b"", None, "key,value,headers".to_owned(), false, true),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_whole_leaves_nothing_out() {
        let empty = Letter {
            key: b"",
            value: None,
            failure: FAILURE,
            known: &[("event-id", Some("e-1"))],
        };
        let (_, _, headers) = empty.in_form(Form::WithoutKey);
        assert_eq!(
            header(Some(&headers), "left-out"),
            None,
            "what wasn't there isn't missing"
        );
    }
}
