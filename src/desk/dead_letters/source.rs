//! Reads the parts that a dead letter leaves out again, at the record's source.

use super::{Error, Letter, Scanner};
use crate::kafka::reader::{Isolation, Record};
use crate::kafka::scan::{CLOCKS_DIFFER, Run, Topic};
use crate::kafka::{LEFT_OUT_SUM, left_out_sum};
use crate::reason::Reason;

impl Letter {
    /// The names of what was too large to be kept with it: `key`, `value`, headers.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        let named = self.header("left-out").unwrap_or_default();
        named.split(',').map(str::trim).filter(|name| !name.is_empty())
    }

    fn leaves_out(&self, name: &str) -> bool {
        self.left_out().any(|left_out| left_out == name)
    }

    /// The letter with its key and value, from its source where it leaves them out. What isn't there any more is
    /// not found.
    pub fn whole(&self, scanner: Scanner<'_>) -> Result<Self, Error> {
        if !self.leaves_out("key") && !self.leaves_out("value") {
            return Ok(self.clone());
        }
        let Some((topic, partition, offset)) = self.place() else {
            let why = "what it leaves out was in no topic; send it again at its source";
            return Err(Error::NotFound(why.to_owned()));
        };
        let gone = || {
            Error::NotFound(format!(
                "what it leaves out is no longer in {topic} at {partition}-{offset}; send it again at its source"
            ))
        };
        let found = Topic::find(scanner.config, topic).map_err(Error::Unavailable)?;
        let runs = found.ok_or_else(gone)?.all().map_err(Error::Unavailable)?;
        let run = runs
            .into_iter()
            .find(|run| run.partition == partition && (run.from..run.until).contains(&offset))
            .ok_or_else(gone)?;
        let run = Run {
            from: offset,
            until: offset + 1,
            ..run
        };
        let first = scanner.runs(topic, &[run], Isolation::Committed)?.next().transpose()?;
        let source = first.filter(|record| record.offset == offset && self.is_of(record));
        let source = source.ok_or_else(gone)?;
        let record = Record {
            key: source.key,
            value: source.value,
            ..self.record.clone()
        };
        Ok(Self::of(record, scanner.config))
    }

    /// Whether a record at its place is the one that it is about: a topic that was made anew has others there.
    pub(super) fn is_of(&self, record: &Record) -> bool {
        let failed_at = self
            .header("failed-at")
            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let is_older = failed_at.is_none_or(|failed_at| record.timestamp <= failed_at.as_millisecond() + CLOCKS_DIFFER);
        let key = record.key.as_deref().unwrap_or_default();
        let same = |ours: &Option<Vec<u8>>, theirs: &[u8]| ours.as_deref().unwrap_or_default() == theirs;
        let same_value = |record: &Record| same(&self.record.value, record.value.as_deref().unwrap_or_default());
        let value = record.value.as_deref();
        let sum = left_out_sum(self.leaves_out("key"), key, self.leaves_out("value"), value);
        let written = self
            .header(LEFT_OUT_SUM)
            .and_then(|written| u32::from_str_radix(written, 16).ok());
        // An older letter doesn't say.
        written.is_none_or(|written| written == sum)
            && is_older
            && (self.leaves_out("key") || same(&self.record.key, key))
            && (self.leaves_out("value") || same_value(record))
    }

    /// Where the record is: topic, partition and offset.
    fn place(&self) -> Option<(&str, i32, i64)> {
        let topic = self
            .header("source-topic")
            .filter(|topic| !topic.starts_with("inlet:"))?;
        let partition = self.header("source-partition")?.parse().ok()?;
        Some((topic, partition, self.header("source-offset")?.parse().ok()?))
    }

    /// The headers that a replay needs and that the letter leaves out.
    pub(in crate::desk) fn needs_header(&self) -> Option<String> {
        let by_match = matches!(self.reason(), Some(Reason::TemplateFailed | Reason::TooLarge));
        let named = self
            .left_out()
            .find(|name| !matches!(*name, "key" | "value" | "headers"));
        let named = named.or_else(|| (by_match && self.leaves_out("headers")).then_some("headers"));
        named.map(|name| format!("it leaves out {name}, without which it isn't the same; send it again at its source"))
    }
}
