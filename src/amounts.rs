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

/// A number's digits, for whoever writes them. Nothing is allocated for them, as each price has some.
#[derive(Debug)]
pub struct Digits {
    /// The number without its point, behind zeros.
    bytes: [u8; DIGITS_ROOM],
    begin: usize,
    point: usize,
    /// Whether the number is less than zero.
    pub is_negative: bool,
}

/// What a decimal holds has 29 digits at most, and one more where a 0 stands before its point.
const DIGITS_ROOM: usize = 32;

impl Digits {
    /// All of them but needless zeros.
    pub fn of(number: Decimal) -> Self {
        let (mut unscaled, mut scale) = (number.mantissa().unsigned_abs(), number.scale());
        while scale > 0 && unscaled.is_multiple_of(10) {
            (unscaled, scale) = (unscaled / 10, scale - 1);
        }
        Self::new(unscaled, scale, number.is_sign_negative())
    }

    /// With so many behind the point at most, rounded half away from zero.
    pub fn rounded(number: Decimal, decimals: u8) -> Self {
        let (mut unscaled, scale) = (number.mantissa().unsigned_abs(), number.scale());
        let kept = scale.min(decimals.into());
        if kept < scale {
            let one = 10_u128.pow(scale - kept);
            let is_half = unscaled % one * 2 >= one;
            unscaled = unscaled / one + u128::from(is_half);
        }
        Self::new(unscaled, kept, number.is_sign_negative())
    }

    fn new(unscaled: u128, scale: u32, is_negative: bool) -> Self {
        let (mut bytes, mut begin) = ([b'0'; DIGITS_ROOM], DIGITS_ROOM);
        let mut rest = unscaled;
        while rest > 0 {
            // Nearly all fit into a word, which is taken apart much faster.
            let (digit, fewer) = match u64::try_from(rest) {
                Ok(word) => (word % 10, u128::from(word / 10)),
                Err(_) => ((rest % 10) as u64, rest / 10),
            };
            begin -= 1;
            bytes[begin] = b'0' + digit as u8;
            rest = fewer;
        }
        let point = DIGITS_ROOM - scale as usize;
        Self {
            bytes,
            begin: begin.min(point - 1),
            point,
            is_negative: is_negative && unscaled > 0,
        }
    }

    /// Those before the point; there is one at least.
    pub fn whole(&self) -> &str {
        Self::text(&self.bytes[self.begin..self.point])
    }

    /// Those behind the point.
    pub fn decimals(&self) -> &str {
        Self::text(&self.bytes[self.point..])
    }

    fn text(digits: &[u8]) -> &str {
        std::str::from_utf8(digits).expect("digits are ASCII")
    }

    /// Bytes of the number as it is written.
    pub fn width(&self) -> usize {
        let point = usize::from(self.point < DIGITS_ROOM);
        usize::from(self.is_negative) + DIGITS_ROOM - self.begin + point
    }

    /// Writes the number without separators.
    pub fn write(&self, into: &mut String) {
        if self.is_negative {
            into.push('-');
        }
        into.push_str(self.whole());
        if !self.decimals().is_empty() {
            into.push('.');
            into.push_str(self.decimals());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::RoundingStrategy;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_those_of_the_decimal_itself(
            (low, mid, high) in (any::<u32>(), any::<u32>(), any::<u32>()), words in 0..4_u8, zeros in 0..9_u32,
            is_negative in any::<bool>(), scale in 0..29_u32, decimals in 0..21_u8,
        ) {
            let number = match words {
                0 => Decimal::from(low % 3) * Decimal::from(10_u64.pow(zeros)),
                1 => Decimal::from(low / 10_u32.pow(zeros)) * Decimal::from(10_u64.pow(zeros)),
                2 => Decimal::from_parts(low, mid, 0, false, 0),
                _ => Decimal::from_parts(low, mid, high, false, 0),
            };
            let mut number = number;
            number.set_scale(scale).unwrap();
            number.set_sign_negative(is_negative);
            let mut written = String::new();
            Digits::of(number).write(&mut written);
            prop_assert_eq!(&written, &number.normalize().to_string());
            prop_assert_eq!(Digits::of(number).width(), written.len());
            written.clear();
            Digits::rounded(number, decimals).write(&mut written);
            let rounded = number.round_dp_with_strategy(decimals.into(), RoundingStrategy::MidpointAwayFromZero);
            let unsigned = rounded.abs().to_string();
            prop_assert_eq!(written.trim_start_matches('-'), unsigned);
            prop_assert_eq!(written.starts_with('-'), rounded.is_sign_negative() && !rounded.is_zero());
        }

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
