//! The last dead letters: what each is about, and whether it was replayed.

use std::collections::BTreeMap;

use super::ids::beginning;
use crate::config::Config;
use crate::desk::dead_letters::{Id, Letter as Whole, Replayed};
use crate::desk::page::Place;
use crate::kafka::reader::Record;
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;
use crate::reason::Reason;

/// So many are kept.
pub(super) const MOST: usize = 100_000;
/// So much of a detail is kept, in bytes; the dead letter has all of it.
const DETAIL_MAX: usize = 300;
/// And of an id that anybody may have written.
const ID_MAX: usize = 256;

/// A dead letter as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub id: Id,
    /// When it was written, and where.
    pub place: Place,
    pub reason: Option<Reason>,
    pub detail: Box<str>,
    pub rule_id: Option<Box<str>>,
    pub event_id: Option<Box<str>>,
    pub lead_id: Option<Box<str>>,
    pub job_id: Option<Box<str>>,
    /// The lane of its job, where one failed.
    pub lane: Option<Box<str>>,
    /// The topic that it came from, or `inlet:NAME`.
    pub source: Box<str>,
    /// Epoch milliseconds.
    pub failed_at: Option<i64>,
    pub replayed: bool,
    /// The time of its record, which the audit names.
    written_at: i64,
}

#[derive(Debug, Default)]
pub struct Letters {
    letters: BTreeMap<Place, Letter>,
    replayed: Replayed,
    schemas: Schemas,
    gone: Option<i64>,
}

impl Letters {
    /// Takes in a record of the topic.
    pub fn take(&mut self, record: Record, config: &Config, now: i64) {
        let letter = letter(record, config, &self.schemas, now);
        self.letters.insert(letter.place, letter);
        while self.letters.len() > MOST
            && let Some((place, _)) = self.letters.pop_first()
        {
            self.gone = self.gone.max(Some(place.at));
        }
    }

    /// Takes in a record of the audit, which may have replays.
    pub fn audited(&mut self, audit: &[u8], at: i64) {
        self.replayed.take(audit, at);
        if self.replayed.len() > 2 * MOST
            && let Some((oldest, _)) = self.letters.first_key_value()
        {
            self.replayed.forget(oldest.at);
        }
    }

    /// The topic was made anew. What was replayed stays known: the audit says so.
    pub(super) fn start_over(&mut self) {
        self.letters.clear();
        self.gone = None;
    }

    /// Those before a place, newest first.
    pub fn newest(&self, after: Option<Place>) -> impl Iterator<Item = Letter> {
        let before = match after {
            Some(after) => self.letters.range(..after),
            None => self.letters.range::<Place, _>(..),
        };
        before.rev().map(|(_, letter)| Letter {
            replayed: self.replayed.has(letter.id, letter.written_at),
            ..letter.clone()
        })
    }

    /// Whether the dead letter of this id that was written then was replayed.
    pub fn is_replayed(&self, id: Id, written_at: i64) -> bool {
        self.replayed.has(id, written_at)
    }

    /// By reason, how many wait for a person, and when the newest of them came.
    pub fn by_reason(&self) -> Vec<(Option<Reason>, u64, i64)> {
        let mut reasons: Vec<(Option<Reason>, u64, i64)> = Vec::new();
        let waiting = self.letters.values();
        for letter in waiting.filter(|letter| !self.replayed.has(letter.id, letter.written_at)) {
            match reasons.iter_mut().find(|(reason, ..)| *reason == letter.reason) {
                Some((_, count, newest)) => (*count, *newest) = (*count + 1, letter.place.at),
                None => reasons.push((letter.reason, 1, letter.place.at)),
            }
        }
        reasons.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
        reasons
    }

    /// The time of the oldest, and of the youngest that had to go.
    pub(super) fn reach(&self) -> (Option<i64>, Option<i64>) {
        (self.letters.first_key_value().map(|(place, _)| place.at), self.gone)
    }
}

fn letter(record: Record, config: &Config, schemas: &Schemas, now: i64) -> Letter {
    let whole = Whole::of(record, config);
    let short = |text: &str, most| Box::from(beginning(text, most));
    let header = |name| whole.header(name).map(|text| short(text, ID_MAX));
    let event = || decode(whole.record.value.as_deref().unwrap_or_default(), schemas).ok();
    let lead_id = match &whole.job {
        Some(job) => Some(short(&job.lead_id, ID_MAX)),
        None => event().map(|event| short(&event.lead_id, ID_MAX)),
    };
    let failed_at = whole
        .header("failed-at")
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Letter {
        id: whole.id,
        place: Place {
            at: super::written_at(whole.record.timestamp, now),
            partition: whole.id.partition,
            offset: whole.id.offset,
        },
        reason: whole.reason(),
        detail: short(whole.header("detail").unwrap_or_default(), DETAIL_MAX),
        rule_id: header("rule-id"),
        event_id: header("event-id"),
        lead_id,
        job_id: header("job-id"),
        lane: whole.lane().map(|lane| short(&lane, ID_MAX)),
        source: short(whole.header("source-topic").unwrap_or_default(), ID_MAX),
        failed_at: failed_at.map(jiff::Timestamp::as_millisecond),
        replayed: false,
        written_at: whole.record.timestamp,
    }
}
