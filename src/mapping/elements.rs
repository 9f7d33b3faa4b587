//! Names some records of a batch by their indices, as the header `elements` of a dead letter does: `100-4899,5000`;
//! the first record is 0.

use std::fmt;
use std::str::FromStr;

/// The header holds so many ranges at most: those of the longest numbers still have the bytes that one of a dead letter
/// may have.
const RANGES_MAX: usize = 96;

/// Records of a batch by their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements {
    /// First and last, in rising order.
    ranges: Vec<(usize, usize)>,
    /// The least number of other records between two ranges.
    gap: usize,
}

/// A text that names no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no ranges of elements, such as 100-4899,5000")]
pub struct NoElements;

impl Elements {
    /// Adds a place. Where there are too many ranges, those that stand close become one: a record that
    /// is mapped again gives the same event again, which is sent once.
    pub fn push(&mut self, index: usize) {
        let behind = self.ranges.partition_point(|(first, _)| *first <= index);
        match self.ranges[..behind].last_mut() {
            Some((_, last)) if index <= last.saturating_add(1 + self.gap) => *last = index.max(*last),
            _ => self.ranges.insert(behind, (index, index)),
        }
        while self.ranges.len() > RANGES_MAX {
            self.gap = self.gap * 2 + 1;
            let ranges = std::mem::take(&mut self.ranges);
            for (first, last) in ranges {
                match self.ranges.last_mut() {
                    Some((_, end)) if first <= *end + 1 + self.gap => *end = last,
                    _ => self.ranges.push((first, last)),
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn contains(&self, index: usize) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= index);
        behind > 0 && index <= self.ranges[behind - 1].1
    }
}

impl fmt::Display for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Elements {
    type Err = NoElements;

    fn from_str(text: &str) -> Result<Self, NoElements> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        let ranges = ranges.ok_or(NoElements)?;
        let rises = ranges.iter().all(|(first, last)| first <= last) && ranges.is_sorted_by(|a, b| a.1 < b.0);
        match rises {
            true => Ok(Self { ranges, gap: 0 }),
            false => Err(NoElements),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(places: impl IntoIterator<Item = usize>) -> Elements {
        let mut elements = Elements::default();
        places.into_iter().for_each(|at| elements.push(at));
        elements
    }

    #[test]
    fn places_are_written_as_ranges_and_read_back() {
        let elements = of((100..4900).chain([5000]));
        assert_eq!(elements.to_string(), "100-4899,5000");
        let read: Elements = elements.to_string().parse().unwrap();
        for (at, is_there) in [
            (99, false),
            (100, true),
            (4899, true),
            (4900, false),
            (5000, true),
            (5001, false),
        ] {
            assert_eq!(read.contains(at), is_there, "{at}");
        }
        assert_eq!(of([5, 1, 3, 2, 9, 2]).to_string(), "1-2,3,5,9");
        for wrong in ["", "a", "1-", "2-1", "1,1", "3,1-2", "-1"] {
            assert_eq!(wrong.parse::<Elements>(), Err(NoElements), "{wrong}");
        }
    }

    #[test]
    fn the_text_has_a_bound_and_names_each() {
        let longest = of((0..RANGES_MAX).flat_map(|at| [0, 1].map(|next| usize::MAX / 2 + 10 * at + next)));
        assert_eq!(longest.ranges.len(), RANGES_MAX);
        let longest = longest.to_string().len();
        assert!(longest > 3_000 && longest < 4_096, "{longest}");
        let elements = of((0..1_000_000).step_by(2));
        assert!(elements.to_string().len() < 4_096, "{}", elements.to_string().len());
        assert!((0..1_000_000).step_by(2).all(|at| elements.contains(at)));
        let read: Elements = elements.to_string().parse().unwrap();
        assert_eq!(read.ranges, elements.ranges);
    }
}
