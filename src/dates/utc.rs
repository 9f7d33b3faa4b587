//! The one form in which nearly every program writes a time.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;

/// Reads RFC 3339 with a zone, in any of its forms.
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    utc(text.as_bytes()).or_else(|| text.parse().ok())
}

/// Reads `2026-03-05T15:16:00.123Z`, with or without a fraction of up to nine digits.
fn utc(text: &[u8]) -> Option<Timestamp> {
    let (whole, rest) = text.split_first_chunk::<19>()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        o1,
        o2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
    ] = whole
    else {
        return None;
    };
    let fraction = match rest {
        [b'Z'] => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            digits
                .iter()
                .try_fold(0, |number, digit| Some(number * 10 + value(*digit)?))?
                * 10_i32.pow(9 - u32::try_from(digits.len()).ok()?)
        }
        _ => return None,
    };
    let two = |tens: &u8, ones: &u8| Some(value(*tens)? * 10 + value(*ones)?);
    let small = |number: i32| i8::try_from(number).ok();
    let year = i16::try_from(two(y1, y2)? * 100 + two(y3, y4)?).ok()?;
    let date = Date::new(year, small(two(o1, o2)?)?, small(two(d1, d2)?)?).ok()?;
    let time = Time::new(
        small(two(h1, h2)?)?,
        small(two(m1, m2)?)?,
        small(two(s1, s2)?)?,
        fraction,
    )
    .ok()?;
    Offset::UTC.to_timestamp(date.to_datetime(time)).ok()
}

fn value(digit: u8) -> Option<i32> {
    digit.is_ascii_digit().then(|| i32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_form_is_read_without_the_parser() {
        for text in [
            "2026-03-05T15:16:00.123Z",
            "2026-03-05T15:16:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "0000-01-01T00:00:00.1Z",
            "2024-02-29T00:00:00Z",
        ] {
            assert_eq!(utc(text.as_bytes()), text.parse().ok(), "{text}");
            assert!(utc(text.as_bytes()).is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_is_read_as_the_parser_reads_it(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|)",
        ) {
            if let Some(read) = utc(text.as_bytes()) {
                prop_assert_eq!(Some(read), text.parse().ok());
            }
            prop_assert_eq!(rfc3339(&text), text.parse().ok());
        }
    }
}
