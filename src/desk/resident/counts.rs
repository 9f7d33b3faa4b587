//! What was counted by time: of each rule by the hour, and of everything by the minute and the hour.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
/// So many hours of a rule are kept.
pub const RULE_HOURS: usize = 24;
/// So many rules have counts. Beyond it those go that matched nothing within the hours.
const RULES_MAX: usize = 250_000;

/// The last `N` steps of time of `STEP` milliseconds each, a minute or an hour; the newest last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Steps<T, const N: usize, const STEP: i64> {
    /// The number of the newest step, counted from the epoch.
    newest: i64,
    /// By the step's number, modulo `N`.
    counts: Box<[T; N]>,
}

impl<T: Copy + Default, const N: usize, const STEP: i64> Default for Steps<T, N, STEP> {
    fn default() -> Self {
        Self {
            newest: 0,
            counts: Box::new([T::default(); N]),
        }
    }
}

impl<T: Copy + Default, const N: usize, const STEP: i64> Steps<T, N, STEP> {
    fn place(number: i64) -> usize {
        usize::try_from(number.rem_euclid(N as i64)).unwrap_or_default()
    }

    /// The counts of the time `at`; none where it is too old.
    pub(super) fn at(&mut self, at: i64) -> Option<&mut T> {
        let number = at.div_euclid(STEP);
        if number > self.newest {
            let first = (self.newest + 1).max(number - N as i64 + 1);
            (first..=number).for_each(|number| self.counts[Self::place(number)] = T::default());
            self.newest = number;
        }
        (number > self.newest - N as i64).then(|| &mut self.counts[Self::place(number)])
    }

    /// The steps up to `now`, each with the time it begins at, oldest first.
    pub(super) fn until(&self, now: i64) -> impl Iterator<Item = (i64, T)> {
        let last = now.div_euclid(STEP);
        (last - N as i64 + 1..=last).map(move |number| {
            let is_kept = number <= self.newest && number > self.newest - N as i64;
            let count = is_kept.then(|| self.counts[Self::place(number)]);
            (number * STEP, count.unwrap_or_default())
        })
    }

    /// The sum of the steps up to `now`.
    fn sum(&self, now: i64, of: impl Fn(&T) -> u64) -> u64 {
        let last = now.div_euclid(STEP);
        if self.newest > last {
            return self.until(now).map(|(_, count)| of(&count)).sum();
        }
        // Few are too old; the others are summed as they stand.
        let oldest = self.newest - N as i64 + 1;
        let old = (oldest..=(last - N as i64).min(self.newest)).map(|number| of(&self.counts[Self::place(number)]));
        self.counts.iter().map(&of).sum::<u64>() - old.sum::<u64>()
    }

    /// The same steps of larger counts.
    fn grown<U: From<T>>(&self) -> Steps<U, N, STEP> {
        Steps {
            newest: self.newest,
            counts: Box::new(self.counts.map(U::from)),
        }
    }
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub matched: u32,
    pub sent: u32,
}

/// The same in half the room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Small {
    matched: u16,
    sent: u16,
}

impl From<Small> for Count {
    fn from(Small { matched, sent }: Small) -> Self {
        Self {
            matched: matched.into(),
            sent: sent.into(),
        }
    }
}

impl Count {
    fn small(self) -> Option<Small> {
        Some(Small {
            matched: self.matched.try_into().ok()?,
            sent: self.sent.try_into().ok()?,
        })
    }
}

/// The counts of one rule in the last 24 hours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfRule {
    pub matched: u64,
    pub sent: u64,
    /// By the hour, oldest first, each with the time it begins at.
    pub hours: Vec<(i64, Count)>,
    /// Epoch milliseconds; also of longer ago.
    pub last_matched_at: Option<i64>,
}

/// The last hour by the minute, and the last week by the hour.
#[derive(Debug)]
pub(super) struct Chart<T> {
    minutes: Steps<T, 60, MINUTE>,
    hours: Steps<T, { 7 * 24 }, HOUR>,
}

impl<T: Copy + Default> Default for Chart<T> {
    fn default() -> Self {
        Self {
            minutes: Steps::default(),
            hours: Steps::default(),
        }
    }
}

impl<T: Copy + Default> Chart<T> {
    pub(super) fn count(&mut self, at: i64, one: impl Fn(&mut T)) {
        self.minutes.at(at).into_iter().for_each(&one);
        self.hours.at(at).into_iter().for_each(&one);
    }

    pub(super) fn hour(&self, now: i64) -> Vec<(i64, T)> {
        self.minutes.until(now).collect()
    }

    pub(super) fn week(&self, now: i64) -> Vec<(i64, T)> {
        self.hours.until(now).collect()
    }
}

/// The counts of matches.
#[derive(Debug, Default)]
pub(super) struct Counts {
    rules: HashTable<Rule>,
    hasher: RandomState,
    all: Chart<Count>,
    /// How many began to wait, less those that ended.
    waits: Chart<i32>,
}

#[derive(Debug)]
struct Rule {
    id: Id,
    hours: Hours,
    /// None while nothing but a sent job of older matches was seen.
    last_matched_at: Option<i64>,
}

/// A rule's id. Most are short, and stand where they are looked for.
#[derive(Debug)]
enum Id {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<str>),
}

const SHORT: usize = 22;

impl Id {
    fn of(id: &str) -> Self {
        let (mut bytes, length) = ([0; SHORT], id.len());
        match (bytes.get_mut(..length), u8::try_from(length)) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(id.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(id.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(id) => id.as_bytes(),
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

/// The hours of a rule. Most rules match seldom, and there are very many.
#[derive(Debug)]
enum Hours {
    Small(Steps<Small, RULE_HOURS, HOUR>),
    Whole(Steps<Count, RULE_HOURS, HOUR>),
}

impl Hours {
    fn count(&mut self, at: i64, one: impl Fn(&mut Count)) {
        if let Self::Small(hours) = self {
            let Some(small) = hours.at(at) else { return };
            let mut count = Count::from(*small);
            one(&mut count);
            match count.small() {
                Some(counted) => return *small = counted,
                None => *self = Self::Whole(hours.grown()),
            }
        }
        if let Self::Whole(hours) = self {
            hours.at(at).into_iter().for_each(one);
        }
    }

    fn newest(&self) -> i64 {
        match self {
            Self::Small(hours) => hours.newest,
            Self::Whole(hours) => hours.newest,
        }
    }

    fn until(&self, now: i64) -> Vec<(i64, Count)> {
        match self {
            Self::Small(hours) => hours.until(now).map(|(at, small)| (at, small.into())).collect(),
            Self::Whole(hours) => hours.until(now).collect(),
        }
    }

    /// How often it matched within the hours.
    fn matched(&self, now: i64) -> u64 {
        match self {
            Self::Small(hours) => hours.sum(now, |count| count.matched.into()),
            Self::Whole(hours) => hours.sum(now, |count| count.matched.into()),
        }
    }
}

impl Counts {
    pub(super) fn matched(&mut self, rule: &str, at: i64) {
        let one = |count: &mut Count| count.matched = count.matched.saturating_add(1);
        self.all.count(at, one);
        let rule = self.rule(rule, at);
        rule.hours.count(at, one);
        rule.last_matched_at = rule.last_matched_at.max(Some(at));
    }

    pub(super) fn sent(&mut self, rule: &str, at: i64) {
        let one = |count: &mut Count| count.sent = count.sent.saturating_add(1);
        self.all.count(at, one);
        self.rule(rule, at).hours.count(at, one);
    }

    fn rule(&mut self, id: &str, now: i64) -> &mut Rule {
        if self.rules.len() >= RULES_MAX && self.find(id).is_none() {
            let is_old = |rule: &Rule| rule.hours.newest() < now.div_euclid(HOUR) - RULE_HOURS as i64;
            self.rules.retain(|rule| !is_old(rule));
        }
        let hasher = &self.hasher;
        let is_it = |rule: &Rule| rule.id.bytes() == id.as_bytes();
        let rule = self.rules.entry(hasher.hash_one(id.as_bytes()), is_it, |rule| {
            hasher.hash_one(rule.id.bytes())
        });
        let new = || Rule {
            id: Id::of(id),
            hours: Hours::Small(Steps::default()),
            last_matched_at: None,
        };
        rule.or_insert_with(new).into_mut()
    }

    fn find(&self, id: &str) -> Option<&Rule> {
        let hash = self.hasher.hash_one(id.as_bytes());
        self.rules.find(hash, |rule| rule.id.bytes() == id.as_bytes())
    }

    pub(super) fn of_rule(&self, rule: &str, now: i64) -> OfRule {
        let Some(rule) = self.find(rule) else {
            return OfRule::default();
        };
        let hours = rule.hours.until(now);
        let sum = |of: fn(&Count) -> u32| hours.iter().map(|(_, count)| u64::from(of(count))).sum();
        OfRule {
            matched: sum(|count| count.matched),
            sent: sum(|count| count.sent),
            last_matched_at: rule.last_matched_at,
            hours,
        }
    }

    pub(super) fn matched_in_hours(&self, rule: &str, now: i64) -> u64 {
        self.find(rule).map_or(0, |rule| rule.hours.matched(now))
    }

    pub(super) fn last_matched_at(&self, rule: &str) -> Option<i64> {
        self.find(rule)?.last_matched_at
    }

    /// The rules that matched most in the last hours, the busiest first.
    pub(super) fn busiest(&self, most: usize, now: i64) -> Vec<(String, OfRule)> {
        let first = now.div_euclid(HOUR) - RULE_HOURS as i64;
        let matched = self.rules.iter().filter(|rule| rule.hours.newest() > first);
        let mut matched: Vec<(u64, &Rule)> = matched
            .map(|rule| (rule.hours.matched(now), rule))
            .filter(|(count, _)| *count > 0)
            .collect();
        let order = |(count, rule): &(u64, &Rule), (other_count, other): &(u64, &Rule)| {
            let by_id = || rule.id.bytes().cmp(other.id.bytes());
            other_count.cmp(count).then_with(by_id)
        };
        if most < matched.len() {
            matched.select_nth_unstable_by(most, order);
            matched.truncate(most);
        }
        matched.sort_by(order);
        let ids = matched.into_iter().map(|(_, rule)| rule.id.text());
        ids.map(|id| (id.to_owned(), self.of_rule(id, now))).collect()
    }

    /// A job began to wait, or ended.
    pub(super) fn waits(&mut self, at: i64, more: i32) {
        self.waits.count(at, |count| *count = count.saturating_add(more));
    }

    pub(super) fn waited(&self) -> &Chart<i32> {
        &self.waits
    }

    pub(super) fn all(&self) -> &Chart<Count> {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rule_has_its_last_day_and_when_it_matched_last() {
        let mut counts = Counts::default();
        let now = 1_000 * HOUR + 5;
        assert_eq!(counts.of_rule("a", now), OfRule::default());
        counts.matched("a", now - 30 * HOUR);
        assert_eq!(counts.of_rule("a", now).matched, 0);
        for ago in [23, 0, 0] {
            counts.matched("a", now - ago * HOUR);
        }
        counts.sent("a", now);
        let of = counts.of_rule("a", now);
        assert_eq!((of.matched, of.sent, of.hours.len()), (3, 1, RULE_HOURS));
        assert_eq!(of.last_matched_at, Some(now));
        assert_eq!(
            (counts.matched_in_hours("a", now), counts.matched_in_hours("b", now)),
            (3, 0)
        );
        assert_eq!(of.hours[0], (977 * HOUR, Count { matched: 1, sent: 0 }));
        assert_eq!(of.hours[23], (1_000 * HOUR, Count { matched: 2, sent: 1 }));
        assert_eq!(counts.of_rule("a", now + HOUR).matched, 2, "an hour later");
        let week = counts.all().week(now);
        assert_eq!(week.iter().map(|(_, count)| count.matched).sum::<u32>(), 4);
    }

    #[test]
    fn an_id_of_any_length_is_kept_as_it_is() {
        let mut counts = Counts::default();
        let ids = ["".to_owned(), "a".repeat(SHORT), "a".repeat(SHORT + 1), "ä".repeat(400)];
        for (number, id) in ids.iter().enumerate() {
            (0..=number).for_each(|_| counts.matched(id, 5));
        }
        let busiest: Vec<(String, u64)> = counts
            .busiest(9, 5)
            .into_iter()
            .map(|(id, of)| (id, of.matched))
            .collect();
        let mut wanted: Vec<(String, u64)> = ids.into_iter().zip(1..).collect();
        wanted.reverse();
        assert_eq!(busiest, wanted);
        assert_eq!(size_of::<Id>(), 24);
    }

    #[test]
    fn a_rule_that_matches_very_often_is_counted_to_the_last() {
        let (mut counts, now) = (Counts::default(), 1_000 * HOUR);
        counts.matched("a", now - HOUR);
        let often = u64::from(u16::MAX) + 3;
        (0..often).for_each(|_| counts.matched("a", now));
        counts.sent("a", now);
        let of = counts.of_rule("a", now);
        assert_eq!((of.matched, of.sent), (often + 1, 1));
        assert_eq!(counts.matched_in_hours("a", now), often + 1);
        assert_eq!(of.hours[22].1.matched, 1);
    }

    proptest! {
        #[test]
        fn steps_hold_what_a_map_of_all_times_holds(times in prop::collection::vec(0i64..2_000, 0..300), now in 0i64..2_500) {
            let mut steps = Steps::<u32, 7, 10>::default();
            let newest = times.iter().max().copied().unwrap_or_default() / 10;
            let (mut map, mut so_far) = (HashMap::new(), 0);
            for at in times {
                so_far = so_far.max(at / 10);
                if let Some(count) = steps.at(at) {
                    *count += 1;
                    *map.entry(at / 10).or_insert(0) += 1;
                } else {
                    prop_assert!(at / 10 <= so_far - 7);
                }
            }
            let shown: Vec<_> = steps.until(now).collect();
            prop_assert_eq!(shown.len(), 7);
            prop_assert_eq!(steps.sum(now, |count| u64::from(*count)), shown.iter().map(|(_, count)| u64::from(*count)).sum::<u64>());
            prop_assert_eq!(shown[6].0, now / 10 * 10);
            for (begin, count) in shown {
                let kept = map.get(&(begin / 10)).copied().filter(|_| begin / 10 > newest - 7);
                prop_assert_eq!(count, kept.unwrap_or_default(), "{}", begin);
            }
        }
    }
}
