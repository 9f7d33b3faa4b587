//! The trail that a reader leaves in a partition: the offsets of some records that it read, and a checksum of each.
//!
//! An offset alone says nothing about its topic. Somebody may delete the topic and make it again, and a broker may
//! come back without its last seconds; the same offset is then another record, or none. A trail beside the remembered
//! offset shows it: as long as each of its records is still there, so is everything that was read. Where one is gone,
//! reading goes on behind the last one that is there.
//!
//! Crumbs lie the closer the newer they are: some twenty cover a billion records, and after a lost end the reader
//! reads again a few times as many records as were lost.

use std::fmt;

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crumb {
    pub offset: i64,
    /// The checksum of its time, key and value.
    pub sum: u32,
}

/// Crumbs of one partition, by offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail(Vec<Crumb>);

/// The record of a partition that is checked next, to see whether the topic is still the one that was read.
///
/// It is one that was read before a look last found all in its place: what was read since may be of a topic that was made
/// anew meanwhile, and would pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look(Option<Crumb>);

/// Of two neighbours the older one goes once the next is no further from the newest than so many times.
const SPREAD: i64 = 8;

/// The CRC-32 of a record's time (epoch milliseconds), key and value.
pub fn sum(timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&timestamp.to_le_bytes());
    hasher.update(key.unwrap_or_default());
    hasher.update(value.unwrap_or_default());
    hasher.finalize()
}

impl Look {
    /// Every record of the trail is in its place.
    pub fn of(trail: &Trail) -> Self {
        Self(trail.newest())
    }

    pub fn at(&self) -> Option<Crumb> {
        self.0
    }

    /// A record was read.
    pub fn take(&mut self, crumb: Crumb) {
        self.0.get_or_insert(crumb);
    }

    /// The record is in its place, by a look that began when `newest` was the newest that was read. A look that came to
    /// nothing says nothing, and the next is at the same record.
    pub fn found(&mut self, newest: Option<Crumb>) {
        self.0 = newest;
    }
}

impl Trail {
    pub fn of(crumb: Crumb) -> Self {
        Self(vec![crumb])
    }

    /// Takes in the record that was read last. What stood there and behind before is forgotten.
    pub fn take(&mut self, crumb: Crumb) {
        while self.0.last().is_some_and(|last| last.offset >= crumb.offset) {
            self.0.pop();
        }
        self.0.push(crumb);
        let newest = crumb.offset;
        let mut at = self.0.len().saturating_sub(2);
        while at > 0 {
            let (younger, older) = (newest - self.0[at + 1].offset, newest - self.0[at - 1].offset);
            if older <= SPREAD * younger {
                self.0.remove(at);
            }
            at -= 1;
        }
    }

    /// Oldest first.
    pub fn crumbs(&self) -> &[Crumb] {
        &self.0
    }

    pub fn newest(&self) -> Option<Crumb> {
        self.0.last().copied()
    }

    /// Forgets what stood at `offset` and behind.
    pub fn cut(&mut self, offset: i64) {
        self.0.retain(|crumb| crumb.offset < offset);
    }

    /// Reads what [`fmt::Display`] wrote; what is no crumb is left out.
    pub fn parse(text: &str) -> Self {
        let mut trail = Self::default();
        for word in text.split(' ') {
            let crumb = word.split_once(':').and_then(|(offset, sum)| {
                Some(Crumb {
                    offset: offset.parse().ok()?,
                    sum: u32::from_str_radix(sum, 16).ok()?,
                })
            });
            let behind = |crumb: &Crumb| trail.0.last().is_none_or(|last| last.offset < crumb.offset);
            if let Some(crumb) = crumb.filter(behind) {
                trail.0.push(crumb);
            }
        }
        trail
    }
}

/// `OFFSET:SUM`, the sum in hexadecimal, with a blank between two. It fits into the metadata of a commit.
impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Crumb { offset, sum }) in self.0.iter().enumerate() {
            let blank = if number == 0 { "" } else { " " };
            write!(f, "{blank}{offset}:{sum:x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walked(offsets: impl IntoIterator<Item = i64>) -> Trail {
        let mut trail = Trail::default();
        for offset in offsets {
            trail.take(Crumb { offset, sum: 7 });
        }
        trail
    }

    #[test]
    fn a_trail_is_short_and_reads_back() {
        let trail = walked((0..2_000_000).chain((1..2_000).map(|step| 2_000_000 + step * 1_000_000)));
        assert!(trail.crumbs().len() <= 30, "{trail}");
        assert_eq!(trail.crumbs()[0].offset, 0, "the oldest record stays");
        assert!(trail.to_string().len() < 1_000, "Kafka takes 4096 bytes");
        assert_eq!(Trail::parse(&trail.to_string()), trail);
        assert_eq!(Trail::parse(&format!("512 {trail} more")), trail);
        assert_eq!(Trail::parse(""), Trail::default());
        assert_eq!(Trail::parse("9:1 8:1 x:1 10:zz 11"), walked([]).with(9, 1));
    }

    impl Trail {
        fn with(mut self, offset: i64, sum: u32) -> Self {
            self.take(Crumb { offset, sum });
            self
        }
    }

    #[test]
    fn what_is_looked_at_was_read_before_the_last_look_that_found_it() {
        let crumb = |offset| Crumb { offset, sum: 7 };
        let mut look = Look::default();
        assert_eq!(look.at(), None);
        (3..9).for_each(|offset| look.take(crumb(offset)));
        assert_eq!(look.at(), Some(crumb(3)), "the topic may have been made anew behind it");
        look.take(crumb(20));
        assert_eq!(look.at(), Some(crumb(3)), "a look that came to nothing leaves it");
        look.found(Some(crumb(8)));
        assert_eq!(look.at(), Some(crumb(8)), "20 was read while the look was under way");
        assert_eq!(Look::of(&walked(0..5)).at(), Some(crumb(4)));
    }

    #[test]
    fn records_differ_by_time_key_and_value() {
        let one = sum(1, Some(b"k"), Some(b"v"));
        for other in [
            sum(2, Some(b"k"), Some(b"v")),
            sum(1, Some(b"l"), Some(b"v")),
            sum(1, Some(b"k"), None),
        ] {
            assert_ne!(one, other);
        }
    }

    proptest! {
        /// Whatever end is lost, little more than a multiple of it lies behind the last crumb that is left.
        #[test]
        fn a_lost_end_costs_a_multiple_of_itself(
            steps in prop::collection::vec(1i64..500, 1..400), lost in 1i64..50_000,
        ) {
            let mut offset = 0;
            let trail = walked(steps.iter().map(|step| { offset += step; offset }));
            let newest = trail.newest().unwrap().offset;
            let left = trail.crumbs().iter().rfind(|crumb| crumb.offset <= newest - lost);
            let oldest = trail.crumbs()[0].offset;
            if newest - lost >= oldest {
                let again = newest - lost - left.unwrap().offset;
                prop_assert!(again <= SPREAD * (lost + 500), "{again} for {lost}");
            }
            prop_assert!(trail.crumbs().is_sorted_by(|one, next| one.offset < next.offset));
        }

        /// A record that is read again takes the place of the crumb that was there.
        #[test]
        fn reading_back_forgets_what_was_behind(back in 0i64..100) {
            let mut trail = walked(0..100);
            trail.take(Crumb { offset: back, sum: 9 });
            prop_assert_eq!(trail.newest(), Some(Crumb { offset: back, sum: 9 }));
        }
    }
}
