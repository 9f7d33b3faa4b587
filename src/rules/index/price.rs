//! Prices as whole numbers of millionths, exactly: a row's bounds, and the price of an event.
//!
//! An event's price has six decimals at most and most often fits. Between two whole numbers there is no such price, so that
//! any bound, however fine, comes to a whole number. Where a price does not fit, the rule itself is asked.

use rust_decimal::Decimal;

use crate::rules::PriceFilter;
use crate::rules::condition::Comparison;

const DECIMALS: u32 = 6;

/// The prices that a row takes, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) low: i64,
    pub(super) high: i64,
}

/// The price of an event: it is within bounds where `low <= up` and `down <= high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) up: i64,
    pub(super) down: i64,
    /// No whole number says it, so that it is within all bounds, and the rule is to be asked.
    pub(super) is_wide: bool,
}

impl Bounds {
    /// Every price, and none.
    pub(super) const ALL: Self = Self {
        low: i64::MIN,
        high: i64::MAX,
    };
    /// No price that fits.
    const NOTHING: Self = Self {
        low: i64::MAX,
        high: i64::MIN,
    };

    pub(super) fn of(filter: &PriceFilter) -> Self {
        let (low, high) = match filter {
            PriceFilter::Between(low, high) => (Some(up(*low)), Some(down(*high))),
            PriceFilter::Compare(Comparison::Gte, bound) => (Some(up(*bound)), None),
            PriceFilter::Compare(Comparison::Gt, bound) => (Some(down(*bound) + 1), None),
            PriceFilter::Compare(Comparison::Lte, bound) => (None, Some(down(*bound))),
            PriceFilter::Compare(Comparison::Lt, bound) => (None, Some(up(*bound) - 1)),
        };
        // An event without a price stands at the lowest number, below all bounds.
        let lowest = i128::from(i64::MIN) + 1;
        let low = low.unwrap_or(lowest).max(lowest);
        let high = high.unwrap_or(i128::MAX).min(i128::from(i64::MAX));
        match (i64::try_from(low), i64::try_from(high)) {
            (Ok(low), Ok(high)) if high > i64::MIN => Self { low, high },
            _ => Self::NOTHING,
        }
    }
}

impl Price {
    pub(super) fn of(price: Option<Decimal>) -> Self {
        let Some(price) = price else { return Self::at(i64::MIN) };
        match whole(price) {
            Some(price) if price > i64::MIN => Self::at(price),
            _ => Self {
                up: i64::MAX,
                down: i64::MIN,
                is_wide: true,
            },
        }
    }

    fn at(price: i64) -> Self {
        Self {
            up: price,
            // A row that takes events without a price takes every one.
            down: price,
            is_wide: false,
        }
    }
}

/// The whole number of millionths, where there is one.
fn whole(price: Decimal) -> Option<i64> {
    let (mantissa, scale) = (price.mantissa(), price.scale());
    let Some(more) = DECIMALS.checked_sub(scale) else {
        let fine = 10_i128.pow(scale - DECIMALS);
        return (mantissa % fine == 0).then(|| i64::try_from(mantissa / fine).ok())?;
    };
    i64::try_from(mantissa).ok()?.checked_mul(10_i64.pow(more))
}

/// The lowest whole number of millionths at or above a bound.
fn up(bound: Decimal) -> i128 {
    -down(-bound)
}

/// The highest whole number of millionths at or below a bound.
fn down(bound: Decimal) -> i128 {
    let (mantissa, scale) = (bound.mantissa(), bound.scale());
    match DECIMALS.checked_sub(scale) {
        Some(more) => mantissa * 10_i128.pow(more),
        None => mantissa.div_euclid(10_i128.pow(scale - DECIMALS)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        let mantissa = prop_oneof![
            -30_000_000_i128..30_000_000,
            any::<i64>().prop_map(i128::from),
            -(1_i128 << 96) + 1..(1_i128 << 96),
        ];
        (mantissa, 0..=28_u32).prop_map(|(mantissa, scale)| Decimal::from_i128_with_scale(mantissa, scale))
    }

    fn any_filter() -> impl Strategy<Value = PriceFilter> {
        let compare = (prop::sample::select(Comparison::ALL.to_vec()), any_decimal())
            .prop_map(|(comparison, bound)| PriceFilter::Compare(comparison, bound));
        let between = (any_decimal(), any_decimal())
            .prop_map(|(one, other)| PriceFilter::Between(one.min(other), one.max(other)));
        prop_oneof![compare, between]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_price_is_within_the_bounds_of_a_filter_where_the_filter_says_so(
            filter in any_filter(), price in any_decimal(), near in -2..=2_i64, takes_near in any::<bool>(),
        ) {
            // Half of the prices are at a bound or beside it.
            let bound = match &filter {
                PriceFilter::Compare(_, bound) | PriceFilter::Between(bound, _) => bound.trunc_with_scale(6),
            };
            let price = match takes_near.then(|| bound.checked_add(Decimal::new(near, 6))) {
                Some(Some(price)) => price,
                _ => price,
            };
            let holds = match &filter {
                PriceFilter::Compare(comparison, bound) => comparison.holds(price, *bound),
                PriceFilter::Between(low, high) => *low <= price && price <= *high,
            };
            let (bounds, price) = (Bounds::of(&filter), Price::of(Some(price)));
            let within = bounds.low <= price.up && price.down <= bounds.high;
            prop_assert_eq!(within, holds || price.is_wide, "{:?} {:?}", bounds, price);
        }
    }

    #[test]
    fn no_price_is_within_no_bounds_but_those_of_rules_without_any() {
        let none = Price::of(None);
        for bound in [
            "0",
            "-79228162514264337593543950335",
            "79228162514264337593543950335",
            "-9223372036854.775808",
        ] {
            for comparison in Comparison::ALL {
                let bounds = Bounds::of(&PriceFilter::Compare(comparison, bound.parse().unwrap()));
                assert!(bounds.low > none.up, "{comparison:?} {bound}");
            }
        }
        let without = Bounds::ALL;
        assert_eq!(without.low.max(none.up), none.up);
    }

    #[test]
    fn prices_that_do_not_fit_are_wide() {
        for (price, is_wide) in [
            ("42.5000", false),
            ("42.500000000", false),
            ("0.0000001", true),
            ("9223372036854.775807", false),
            ("9223372036854.775808", true),
            ("-9223372036854.775808", true),
            ("1e17", true),
        ] {
            let price = Decimal::from_scientific(price).or(price.parse()).unwrap();
            assert_eq!(Price::of(Some(price)).is_wide, is_wide, "{price}");
        }
    }
}
