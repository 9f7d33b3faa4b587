//! The backlog of a lane: the places of its waiting jobs in Kafka, 16 bytes each.

use std::collections::VecDeque;

use super::lane::{Class, JobAt};
use super::number::Number;

/// A waiting job: where it is, which jobs it keeps its order with, and which rule it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Partition and offset in one number: 16 bits and 48.
    at: u64,
    /// Jobs of one key keep their order. Keys are hashes: two that fall together are ordered too.
    pub key: u32,
    pub class: Number<Class>,
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    pub fn new(at: JobAt, key: u32, class: Number<Class>) -> Self {
        debug_assert!(at.offset >> 48 == 0 && i32::from(at.partition as u16) == at.partition);
        Self {
            at: (at.partition as u64) << 48 | at.offset as u64,
            key,
            class,
        }
    }

    pub fn at(&self) -> JobAt {
        JobAt {
            partition: (self.at >> 48) as i32,
            offset: (self.at & ((1 << 48) - 1)) as i64,
        }
    }
}

const CHUNK: usize = 256;

/// A queue in chunks, so that a million entries take their 16 bytes each and no more.
#[derive(Debug, Default)]
pub struct Backlog {
    chunks: VecDeque<Vec<Entry>>,
    /// Entries of the first chunk that are gone already.
    gone: usize,
    len: usize,
}

impl Backlog {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push_back(&mut self, entry: Entry) {
        self.len += 1;
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => return chunk.push(entry),
            // Whoever fills one chunk will fill the next; a lane with one job takes little.
            Some(_) => self.chunks.push_back(Vec::with_capacity(CHUNK)),
            None => self.chunks.push_back(Vec::new()),
        }
        self.chunks.back_mut().expect("just pushed").push(entry);
    }

    pub fn front(&self) -> Option<Entry> {
        self.iter().next()
    }

    pub fn pop_front(&mut self) -> Option<Entry> {
        let chunk = self.chunks.front()?;
        let entry = chunk[self.gone];
        self.gone += 1;
        self.len -= 1;
        if self.gone == chunk.len() {
            self.chunks.pop_front();
            self.gone = 0;
        }
        Some(entry)
    }

    /// Puts an entry where it was: before those that were written after it.
    pub fn put_back(&mut self, entry: Entry) {
        let after = |other: &Entry| other.at > entry.at;
        if !self.chunks.back().and_then(|chunk| chunk.last()).is_some_and(after) {
            return self.push_back(entry);
        }
        self.tidy();
        let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.last().is_some_and(after)) else {
            return self.push_back(entry);
        };
        self.len += 1;
        let at = chunk.iter().position(after).unwrap_or(chunk.len());
        chunk.insert(at, entry);
    }

    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.chunks
            .iter()
            .enumerate()
            .flat_map(|(number, chunk)| &chunk[if number == 0 { self.gone } else { 0 }..])
            .copied()
    }

    /// Takes out the first `max` entries that `take` says, wherever they stand.
    pub fn extract(&mut self, max: usize, mut take: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        self.tidy();
        let mut taken = Vec::new();
        for chunk in &mut self.chunks {
            if taken.len() >= max {
                break;
            }
            chunk.retain(|entry| {
                let out = taken.len() < max && take(entry);
                if out {
                    taken.push(*entry);
                }
                !out
            });
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
        self.len -= taken.len();
        taken
    }

    fn tidy(&mut self) {
        if let Some(first) = self.chunks.front_mut() {
            first.drain(..self.gone);
            self.gone = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(offset: i64) -> Entry {
        Entry::new(JobAt { partition: 7, offset }, 1, Number::nth(2))
    }

    #[test]
    fn an_entry_keeps_where_its_job_is() {
        for (partition, offset) in [(0, 0), (65_535, (1 << 48) - 1), (3, 1 << 40)] {
            let at = JobAt { partition, offset };
            assert_eq!(Entry::new(at, 0, Number::nth(0)).at(), at);
        }
    }

    proptest! {
        /// Whatever is done to it, it does what a plain queue does.
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0u8..5, 1usize..300), 1..60)) {
            let (mut backlog, mut model) = (Backlog::default(), VecDeque::new());
            let mut next = 0;
            for (step, count) in steps {
                match step {
                    0 | 1 => for _ in 0..count {
                        backlog.push_back(entry(next));
                        model.push_back(entry(next));
                        next += 1;
                    },
                    2 => for _ in 0..count {
                        prop_assert_eq!(backlog.pop_front(), model.pop_front());
                    },
                    3 => {
                        let third = |entry: &Entry| entry.at().offset % 3 == 0;
                        let out = backlog.extract(count, third);
                        let mut wanted = Vec::new();
                        model.retain(|entry| {
                            let out = wanted.len() < count && third(entry);
                            if out { wanted.push(*entry) }
                            !out
                        });
                        prop_assert_eq!(&out, &wanted);
                        if let Some(first) = out.first() {
                            // One that is put back stands where it stood.
                            backlog.put_back(*first);
                            let at = model.iter().position(|other| other.at > first.at).unwrap_or(model.len());
                            model.insert(at, *first);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(backlog.len(), model.len());
                prop_assert_eq!(backlog.front(), model.front().copied());
                prop_assert!(backlog.iter().eq(model.iter().copied()));
            }
        }
    }
}
