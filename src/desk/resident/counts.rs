//! What was counted by time: of each rule by the hour, and of everything by the minute and the hour.

use std::collections::HashMap;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
/// So many hours of a rule are kept.
pub const RULE_HOURS: usize = 24;
/// So many rules have counts. Beyond it those go that matched nothing within the hours.
const RULES_MAX: usize = 250_000;

/// The last `N` steps of time, the newest last. A step is a minute or an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Steps<T, const N: usize> {
    step: i64,
    /// The number of the newest step, counted from the epoch.
    newest: i64,
    /// By the step's number, modulo `N`.
    counts: Box<[T; N]>,
}

impl<T: Copy + Default, const N: usize> Steps<T, N> {
    pub(super) fn new(step: i64) -> Self {
        Self {
            step,
            newest: 0,
            counts: Box::new([T::default(); N]),
        }
    }

    fn place(number: i64) -> usize {
        usize::try_from(number.rem_euclid(N as i64)).unwrap_or_default()
    }

    /// The counts of the time `at`; none where it is too old.
    pub(super) fn at(&mut self, at: i64) -> Option<&mut T> {
        let number = at.div_euclid(self.step);
        if number > self.newest {
            let first = (self.newest + 1).max(number - N as i64 + 1);
            (first..=number).for_each(|number| self.counts[Self::place(number)] = T::default());
            self.newest = number;
        }
        (number > self.newest - N as i64).then(|| &mut self.counts[Self::place(number)])
    }

    /// The steps up to `now`, each with the time it begins at, oldest first.
    pub(super) fn until(&self, now: i64) -> Vec<(i64, T)> {
        let last = now.div_euclid(self.step);
        let of = |number: i64| {
            let is_kept = number <= self.newest && number > self.newest - N as i64;
            let count = is_kept.then(|| self.counts[Self::place(number)]);
            (number * self.step, count.unwrap_or_default())
        };
        (last - N as i64 + 1..=last).map(of).collect()
    }
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub matched: u32,
    pub sent: u32,
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
    minutes: Steps<T, 60>,
    hours: Steps<T, { 7 * 24 }>,
}

impl<T: Copy + Default> Default for Chart<T> {
    fn default() -> Self {
        Self {
            minutes: Steps::new(MINUTE),
            hours: Steps::new(HOUR),
        }
    }
}

impl<T: Copy + Default> Chart<T> {
    pub(super) fn count(&mut self, at: i64, one: impl Fn(&mut T)) {
        self.minutes.at(at).into_iter().for_each(&one);
        self.hours.at(at).into_iter().for_each(&one);
    }

    pub(super) fn hour(&self, now: i64) -> Vec<(i64, T)> {
        self.minutes.until(now)
    }

    pub(super) fn week(&self, now: i64) -> Vec<(i64, T)> {
        self.hours.until(now)
    }
}

/// The counts of matches.
#[derive(Debug, Default)]
pub(super) struct Counts {
    rules: HashMap<Box<str>, Rule>,
    all: Chart<Count>,
    /// How many began to wait, less those that ended.
    waits: Chart<i32>,
}

#[derive(Debug)]
struct Rule {
    hours: Steps<Count, RULE_HOURS>,
    /// None while nothing but a sent job of older matches was seen.
    last_matched_at: Option<i64>,
}

impl Rule {
    /// How often it matched within the hours.
    fn matched(&self, now: i64) -> u64 {
        let oldest = now.div_euclid(HOUR) - RULE_HOURS as i64;
        let kept = self.hours.newest - RULE_HOURS as i64;
        let hours = (oldest.max(kept) + 1..=self.hours.newest).map(Steps::<Count, RULE_HOURS>::place);
        hours.map(|place| u64::from(self.hours.counts[place].matched)).sum()
    }
}

impl Counts {
    pub(super) fn matched(&mut self, rule: &str, at: i64) {
        let one = |count: &mut Count| count.matched = count.matched.saturating_add(1);
        self.all.count(at, one);
        let rule = self.rule(rule, at);
        rule.hours.at(at).into_iter().for_each(one);
        rule.last_matched_at = rule.last_matched_at.max(Some(at));
    }

    pub(super) fn sent(&mut self, rule: &str, at: i64) {
        let one = |count: &mut Count| count.sent = count.sent.saturating_add(1);
        self.all.count(at, one);
        self.rule(rule, at).hours.at(at).into_iter().for_each(one);
    }

    fn rule(&mut self, rule: &str, now: i64) -> &mut Rule {
        if self.rules.len() >= RULES_MAX && !self.rules.contains_key(rule) {
            let is_old = |rule: &Rule| rule.hours.newest < now.div_euclid(HOUR) - RULE_HOURS as i64;
            self.rules.retain(|_, rule| !is_old(rule));
        }
        self.rules.entry(rule.into()).or_insert_with(|| Rule {
            hours: Steps::new(HOUR),
            last_matched_at: None,
        })
    }

    pub(super) fn of_rule(&self, rule: &str, now: i64) -> OfRule {
        let Some(rule) = self.rules.get(rule) else {
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
        self.rules.get(rule).map_or(0, |rule| rule.matched(now))
    }

    pub(super) fn last_matched_at(&self, rule: &str) -> Option<i64> {
        self.rules.get(rule)?.last_matched_at
    }

    /// The rules that matched most in the last hours, the busiest first.
    pub(super) fn busiest(&self, most: usize, now: i64) -> Vec<(String, OfRule)> {
        let first = now.div_euclid(HOUR) - RULE_HOURS as i64;
        let matched = self.rules.iter().filter(|(_, rule)| rule.hours.newest > first);
        let mut matched: Vec<(u64, &str)> = matched
            .map(|(id, rule)| (rule.matched(now), &**id))
            .filter(|(count, _)| *count > 0)
            .collect();
        let order = |(count, id): &(u64, &str), (other_count, other_id): &(u64, &str)| {
            other_count.cmp(count).then_with(|| id.cmp(other_id))
        };
        if most < matched.len() {
            matched.select_nth_unstable_by(most, order);
            matched.truncate(most);
        }
        matched.sort_by(order);
        matched
            .into_iter()
            .map(|(_, id)| (id.to_owned(), self.of_rule(id, now)))
            .collect()
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

    proptest! {
        #[test]
        fn steps_hold_what_a_map_of_all_times_holds(times in prop::collection::vec(0i64..2_000, 0..300), now in 0i64..2_500) {
            let mut steps = Steps::<u32, 7>::new(10);
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
            let shown = steps.until(now);
            prop_assert_eq!(shown.len(), 7);
            prop_assert_eq!(shown[6].0, now / 10 * 10);
            for (begin, count) in shown {
                let kept = map.get(&(begin / 10)).copied().filter(|_| begin / 10 > newest - 7);
                prop_assert_eq!(count, kept.unwrap_or_default(), "{}", begin);
            }
        }
    }
}
