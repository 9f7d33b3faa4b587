//! Ids: which values may name an event, a lead or a person, and the text that each becomes.
//!
//! An id is a text or a number. A list, an object or a boolean is none: its text would look like an id, and records
//! kept under it could never be taken apart again. Two ways to write one number are one id. Two ids never become one,
//! so a number or a text that has lost a part of itself on its way is refused. No error quotes the id.

use std::borrow::Cow;

use rust_decimal::prelude::ToPrimitive;

use crate::amounts::decimal;

/// The most bytes of what names a person to a provider.
pub const IDENTITY_BYTES_MAX: usize = 512;

/// A value that is no id.
pub const WRONG_KIND: &str = "must be a text or a number, not a list, an object or a boolean";

/// What programs write where they have no value: whoever came without an id would be one and the same person.
const NO_VALUES: [&str; 10] = [
    "null",
    "undefined",
    "none",
    "nil",
    "nan",
    "true",
    "false",
    "[]",
    "{}",
    "[object object]",
];

/// Beyond this a float no longer holds every whole number.
const FLOAT_EXACT_MAX: u64 = 1 << 53;

/// The text of an id that is a JSON number, as it was written: plain, without needless zeros, so that `4711`,
/// `4711.0` and `4.711e3` are one.
pub fn of_number(written: &str) -> Result<Cow<'_, str>, &'static str> {
    let is_plain = written.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain && (written == "0" || !written.starts_with('0')) {
        return Ok(Cow::Borrowed(written));
    }
    let number = decimal(written).ok_or("is a number of more than 28 digits; write it as a text")?;
    // A number with an exponent is a float: from here on its neighbours have the same text.
    let is_float = written.contains(['e', 'E']);
    if is_float && number.abs().ceil().to_u64().is_none_or(|whole| whole > FLOAT_EXACT_MAX) {
        return Err("is a float too large to hold every digit; write it as a text");
    }
    let number = number.normalize();
    // There is no -0 among ids.
    let text = if number.is_zero() {
        "0".to_owned()
    } else {
        number.to_string()
    };
    Ok(Cow::Owned(text))
}

/// Why a text is no id.
pub fn wrong_text(text: &str) -> Option<&'static str> {
    if text.starts_with(|first: char| first.is_ascii_graphic()) && text.is_ascii() {
        return None;
    }
    if text.trim().is_empty() {
        return Some("must not be blank");
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Some("holds half of a surrogate pair (or U+FFFD, which that is read as), so that two could become one");
    }
    None
}

/// Why a text is nothing that a provider can know a person by.
pub fn wrong_identity(text: &str) -> Option<&'static str> {
    if text.chars().any(char::is_control) {
        return Some("holds a control character");
    }
    if text.len() > IDENTITY_BYTES_MAX {
        return Some("is longer than 512 bytes");
    }
    if NO_VALUES
        .iter()
        .any(|written| text.trim().eq_ignore_ascii_case(written))
    {
        return Some("is the text of a missing value, such as null or undefined");
    }
    wrong_text(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_number_is_one_id_however_it_is_written() {
        for (written, id) in [
            ("84512377", "84512377"),
            ("84512377.0", "84512377"),
            ("8.4512377E7", "84512377"),
            ("1e3", "1000"),
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("-7", "-7"),
            ("1.50", "1.5"),
            ("9007199254740993", "9007199254740993"),
            (
                "123456789012345678901234567890123456789",
                "123456789012345678901234567890123456789",
            ),
        ] {
            assert_eq!(of_number(written).as_deref(), Ok(id), "{written}");
        }
    }

    #[test]
    fn what_has_lost_a_part_is_no_id() {
        for written in [
            "1e+21",
            "1.2345678901234567e+25",
            "1e400",
            "9.007199254740994e15",
            "1.00000000000000000000000000000001",
        ] {
            assert!(of_number(written).is_err(), "{written}");
        }
        for text in ["", " ", "\t\n", "\u{a0}", "cut \u{fffd}"] {
            assert!(wrong_text(text).is_some(), "{text:?}");
        }
        for text in ["a\u{0}b", "a\nb", "\u{85}x", "", &"x".repeat(513), "\u{fffd}"] {
            assert!(wrong_identity(text).is_some(), "{text:?}");
        }
        for text in [
            "ana@example.com",
            "+15125550123",
            "Ünï-🙂",
            "0",
            "Nullmeier",
            "[1]",
            &"x".repeat(512),
        ] {
            assert_eq!(wrong_identity(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn different_whole_numbers_are_different_ids(a: u128, b: u128) {
            let text = |number: u128| of_number(&number.to_string()).unwrap().into_owned();
            prop_assert_eq!(text(a) == text(b), a == b);
        }

        #[test]
        fn a_float_is_the_whole_number_that_it_holds(whole in 0_u64..1 << 53) {
            #[expect(clippy::cast_precision_loss, reason = "below 2^53 nothing is lost")]
            let float = whole as f64;
            for written in [format!("{float:?}"), format!("{float:e}"), format!("{whole}.0")] {
                prop_assert_eq!(of_number(&written).unwrap(), whole.to_string());
            }
        }
    }
}
