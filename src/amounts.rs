//! Amounts: which text is a number, exactly, and which number is money.
//!
//! Numbers are decimals and never floats, and nothing is rounded when it is read: a number with more digits than fit
//! is refused. So is a text with separators of thousands, a currency, blanks, `NaN` or `Infinity`: `12,500` is twelve
//! and a half in one country and many thousands in another.

use rust_decimal::Decimal;

/// The most digits of a number; more would be rounded.
const DIGITS_MAX: usize = 28;
/// Bytes of a number, of which zeros may be many: what is longer isn't looked at.
const TEXT_MAX: usize = 1024;
/// The digits of money, and those of them behind its point.
const MONEY_DIGITS_MAX: u32 = 18;
const MONEY_DECIMALS_MAX: u32 = 6;

/// Reads an exact decimal, such as `42.50`, `-3` or `1e3`; `None` for what is no number or does not fit into 28
/// digits.
pub fn decimal(text: &str) -> Option<Decimal> {
    if text.len() > TEXT_MAX {
        return None;
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || digits.contains('_') {
        return None;
    }
    match digits.split_once(['e', 'E']) {
        // It would round a longer number.
        Some((number, _)) if number.bytes().filter(u8::is_ascii_digit).count() > DIGITS_MAX => None,
        Some(_) => Decimal::from_scientific(text).ok(),
        None => Decimal::from_str_exact(text).ok(),
    }
}

/// Reads a price, payout or revenue; the error says why it is none.
pub fn money(text: &str) -> Result<Decimal, &'static str> {
    plain(text).map_or_else(|| any_money(text), Ok)
}

/// Money as nearly every program writes it: digits, with or without a point and up to six behind it.
fn plain(text: &str) -> Option<Decimal> {
    let (whole, decimals) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    if !(1..=12).contains(&whole.len()) || decimals.len() > MONEY_DECIMALS_MAX as usize {
        return None;
    }
    let unscaled = whole.bytes().chain(decimals.bytes()).try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    });
    Some(Decimal::new(unscaled?, u32::try_from(decimals.len()).ok()?))
}

fn any_money(text: &str) -> Result<Decimal, &'static str> {
    // Zeros behind the point count here, so that no amount has a text without end.
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let amount = decimal(text).filter(|_| digits <= DIGITS_MAX);
    checked_money(
        amount.ok_or("must be a decimal number such as 12500.00, without currency or separators of thousands")?,
    )
}

/// Whether a number can be money.
pub fn checked_money(amount: Decimal) -> Result<Decimal, &'static str> {
    let fits = |amount: Decimal| {
        amount.scale() <= MONEY_DECIMALS_MAX && amount.mantissa().unsigned_abs() < 10_u128.pow(MONEY_DIGITS_MAX)
    };
    // Zeros behind the point count for nothing, and are seldom too many.
    if fits(amount) || fits(amount.normalize()) {
        return Ok(amount);
    }
    Err("has more than 18 digits or 6 decimals")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_money_is_the_same_money(text in "(-|\\+)?[0-9]{0,14}(\\.[0-9]{0,8})?([eE][0-9])?") {
            if let Some(read) = plain(&text) {
                let any = any_money(&text).map(|amount| (amount.mantissa(), amount.scale()));
                prop_assert_eq!(any, Ok((read.mantissa(), read.scale())));
            }
            prop_assert_eq!(money(&text), any_money(&text));
        }
    }

    #[test]
    fn exact_numbers_and_nothing_else() {
        for (text, read) in [
            ("42.50", "42.50"),
            ("-3", "-3"),
            ("+3", "3"),
            (".5", "0.5"),
            ("1e3", "1000"),
            ("1.5E-2", "0.015"),
            ("0.0000000000000000000000000001", "0.0000000000000000000000000001"),
        ] {
            assert_eq!(
                decimal(text).map(|number| number.to_string()).as_deref(),
                Some(read),
                "{text}"
            );
        }
        for text in [
            "",
            " 1",
            "1 ",
            "1,5",
            "12,500.00",
            "$5",
            "5 USD",
            "1_000",
            "NaN",
            "nan",
            "Infinity",
            "-inf",
            "0x10",
            "1e",
            "e3",
            "--1",
            "1e999",
            "1e-30",
            "123456789012345678901234567890",
            "12345678901234567890123456789e1",
            "0.12345678901234567890123456789e5",
            "٣",
        ] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn money_has_18_digits_and_6_decimals() {
        for text in ["0", "-0.000001", "999999999999.999999", "1e17", "5.0000000000"] {
            assert!(money(text).is_ok(), "{text}");
        }
        for text in ["0.0000001", "1000000000000000000", "1e18", "1234567890123.123456"] {
            assert_eq!(money(text), Err("has more than 18 digits or 6 decimals"), "{text}");
        }
        for text in ["12,500.00", "$1", "1 000", "", "NaN", "1e400"] {
            assert!(
                money(text).unwrap_err().starts_with("must be a decimal number"),
                "{text}"
            );
        }
    }
}
