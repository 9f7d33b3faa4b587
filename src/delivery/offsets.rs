//! Which jobs of a partition are settled: one bit for each job above the lowest unsettled one.

use std::collections::VecDeque;

/// The place in a commit: the lowest unsettled job, and the offset from which its outcomes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub offset: i64,
    pub outcomes_from: i64,
}

/// The state when a job was first read. One mark stands for a run of jobs.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: i64,
    /// Outcomes of this job and of those behind it come at or after this place.
    outcomes_from: i64,
    /// When the job was written to its topic, epoch milliseconds.
    written_at: i64,
}

/// The jobs of one partition from the lowest unsettled one on.
#[derive(Debug)]
pub struct Offsets {
    /// The lowest offset that isn't settled, or the next one to be read.
    lowest: i64,
    /// The next offset to be read.
    next: i64,
    /// From `lowest` rounded down to a word: a set bit is a settled job, or no job at all.
    settled: VecDeque<u64>,
    marks: VecDeque<Mark>,
}

/// A mark stands for the jobs of at least so many offsets or milliseconds.
const MARK_OFFSETS: i64 = 64;
const MARK_MILLIS: i64 = 1000;

fn word(offset: i64) -> i64 {
    offset.div_euclid(64)
}

impl Offsets {
    /// Nothing is read yet; the first job is at `offset` or behind it.
    pub fn new(offset: i64) -> Self {
        Self {
            lowest: offset,
            next: offset,
            settled: VecDeque::new(),
            marks: VecDeque::new(),
        }
    }

    /// The next offset that was not read yet.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// A job at `offset` was read. What is between it and the last one is no job: transactions
    /// leave gaps.
    pub fn read(&mut self, offset: i64, outcomes_from: i64, written_at: i64) {
        debug_assert!(offset >= self.next);
        let (gap, from) = (self.next, self.lowest == self.next);
        self.next = offset + 1;
        let words = usize::try_from(word(offset) - word(self.lowest) + 1).unwrap_or_default();
        if from && words > self.settled.len() + 1 {
            // Nothing unsettled lies before the gap.
            self.settled.clear();
            self.lowest = offset;
        } else {
            self.settled.resize(words, 0);
            (gap..offset).for_each(|offset| self.set(offset));
        }
        if self.settled.is_empty() {
            self.settled.push_back(0);
        }
        let due = self.marks.back().is_none_or(|last| {
            outcomes_from != last.outcomes_from && offset - last.offset >= MARK_OFFSETS
                || written_at.saturating_sub(last.written_at) >= MARK_MILLIS
        });
        if due {
            self.marks.push_back(Mark {
                offset,
                outcomes_from,
                written_at,
            });
        }
        self.advance();
    }

    /// The job at `offset` is settled.
    pub fn settle(&mut self, offset: i64) {
        if (self.lowest..self.next).contains(&offset) {
            self.set(offset);
            self.advance();
        }
    }

    pub fn is_settled(&self, offset: i64) -> bool {
        offset < self.lowest || offset < self.next && self.bit(offset)
    }

    /// The place to commit. `outcomes_end` is where outcomes of jobs not read yet would begin.
    pub fn place(&self, outcomes_end: i64) -> Place {
        let mark = self.marks.front().filter(|_| self.lowest < self.next);
        Place {
            offset: self.lowest,
            outcomes_from: mark.map_or(outcomes_end, |mark| mark.outcomes_from),
        }
    }

    /// How many jobs at or above `from` were read and aren't settled.
    pub fn unsettled(&self, from: i64) -> u64 {
        let jobs = self.lowest.max(from)..self.next;
        jobs.filter(|offset| !self.bit(*offset)).count() as u64
    }

    /// The outcomes' topic was made anew: all places in it are its beginning.
    pub fn outcomes_anew(&mut self) {
        self.marks.iter_mut().for_each(|mark| mark.outcomes_from = 0);
    }

    /// When the lowest unsettled job was written, to a second; `None` when all are settled.
    pub fn oldest(&self) -> Option<i64> {
        let mark = self.marks.front().filter(|_| self.lowest < self.next)?;
        Some(mark.written_at)
    }

    /// When the job at `offset` was written, to a second.
    pub fn written_at(&self, offset: i64) -> Option<i64> {
        let behind = self.marks.partition_point(|mark| mark.offset <= offset);
        Some(self.marks.get(behind.checked_sub(1)?)?.written_at)
    }

    /// Every job below this offset was written before `time`, epoch milliseconds.
    pub fn older_than(&self, time: i64) -> i64 {
        let young = self.marks.partition_point(|mark| mark.written_at < time);
        let Some(last) = young.checked_sub(1) else { return 0 };
        // The jobs of a mark may be a second younger than it.
        if self.marks[last].written_at.saturating_add(MARK_MILLIS) < time {
            self.marks.get(young).map_or(self.next, |next| next.offset)
        } else {
            self.marks[last].offset
        }
    }

    fn index(&self, offset: i64) -> usize {
        usize::try_from(word(offset) - word(self.lowest)).unwrap_or(usize::MAX)
    }

    fn bit(&self, offset: i64) -> bool {
        let word = self.settled.get(self.index(offset)).copied().unwrap_or(0);
        word >> offset.rem_euclid(64) & 1 == 1
    }

    fn set(&mut self, offset: i64) {
        let index = self.index(offset);
        if let Some(word) = self.settled.get_mut(index) {
            *word |= 1 << offset.rem_euclid(64);
        }
    }

    fn advance(&mut self) {
        while self.lowest < self.next {
            let rest = self.settled.front().copied().unwrap_or(0) >> self.lowest.rem_euclid(64);
            let run = i64::from(rest.trailing_ones()).min(self.next - self.lowest);
            if run == 0 {
                break;
            }
            let before = word(self.lowest);
            self.lowest += run;
            if word(self.lowest) != before {
                self.settled.pop_front();
            }
        }
        while self.marks.get(1).is_some_and(|second| second.offset <= self.lowest) {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_million_settled_jobs_take_a_bit_each() {
        let mut offsets = Offsets::new(0);
        for offset in 0..1_000_000 {
            offsets.read(offset, 0, 0);
            if offset > 0 {
                offsets.settle(offset);
            }
        }
        assert_eq!(offsets.place(9).offset, 0);
        assert!(offsets.settled.len() <= 1_000_000 / 64 + 1 && offsets.marks.len() == 1);
        offsets.settle(0);
        assert_eq!(
            offsets.place(9),
            Place {
                offset: 1_000_000,
                outcomes_from: 9
            }
        );
        assert!(offsets.settled.len() <= 1);
    }

    #[test]
    fn what_is_old_is_known_to_a_second() {
        let mut offsets = Offsets::new(0);
        for offset in 0..100 {
            offsets.read(offset, offset, offset * 500);
        }
        let below = offsets.older_than(20_000);
        assert_eq!(below, 38);
        assert_eq!(offsets.older_than(0), 0);
        assert_eq!(offsets.older_than(60_000), 100);
        assert_eq!(offsets.written_at(51), Some(25_000));
        assert_eq!(offsets.oldest(), Some(0));
    }

    proptest! {
        /// The naive model: a map of unsettled jobs, each with the place of its outcomes.
        #[test]
        fn it_agrees_with_a_map_of_the_unsettled(
            start in 0i64..200,
            steps in prop::collection::vec((0u8..4, 1i64..150, any::<u16>()), 1..200),
        ) {
            let mut offsets = Offsets::new(start);
            let mut model: BTreeMap<i64, i64> = BTreeMap::new();
            let (mut next, mut end, mut now) = (start, 0, 0);
            for (step, amount, pick) in steps {
                match step {
                    0 | 1 => for _ in 0..amount {
                        let offset = next + if pick % 7 == 0 { i64::from(pick % 200) } else { 0 };
                        offsets.read(offset, end, now);
                        model.insert(offset, end);
                        next = offset + 1;
                        now += i64::from(pick % 50);
                    },
                    2 => end += amount,
                    _ => for shift in 0..amount {
                        let at = (usize::from(pick) + shift as usize * 31) % model.len().max(1);
                        if let Some((offset, _)) = model.iter().nth(at).map(|(at, from)| (*at, *from)) {
                            prop_assert!(!offsets.is_settled(offset));
                            offsets.settle(offset);
                            model.remove(&offset);
                            prop_assert!(offsets.is_settled(offset));
                        }
                    },
                }
                let place = offsets.place(end);
                match model.first_key_value() {
                    Some((offset, from)) => {
                        prop_assert_eq!(place.offset, *offset);
                        prop_assert!(place.outcomes_from <= *from, "no outcome is missed");
                    }
                    None => prop_assert_eq!(place, Place { offset: next, outcomes_from: end }),
                }
                prop_assert_eq!(offsets.next(), next);
            }
            prop_assert_eq!(offsets.unsettled(0), model.len() as u64);
            let middle = (start + next) / 2;
            prop_assert_eq!(offsets.unsettled(middle), model.range(middle..).count() as u64);
        }
    }
}
