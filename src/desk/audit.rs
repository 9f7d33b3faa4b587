//! Who did what: the records of the audit's topic.
//!
//! Rules and replays write their own records in the transaction of what they do. Everything else that people do is
//! recorded by a [`Recorder`].

use serde_json::{Map, Value};

use super::Error;
use super::page::{Page, Place};
use super::resident::audits::Audited;
use super::resident::deliveries::Spot;
use super::resident::{Resident, Topic};
use crate::config::Config;
use crate::dates::time_text;
use crate::kafka::producer::{Producer, Record};

/// No record of ours is larger.
const RECORD_MAX: usize = 1_000_000;

/// Which records are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this rule, or of another thing with this id.
    pub target: Option<String>,
    pub who: Option<String>,
    /// Epoch milliseconds.
    pub since: Option<i64>,
}

/// The records in memory, newest first.
pub fn list(resident: &Resident, filter: &Filter, after: Option<Place>, limit: usize) -> Page<Audited> {
    let audits = resident.audits();
    let asked = audits.newest(filter.target.as_deref(), filter.who.as_deref(), after);
    let since = filter.since.unwrap_or(i64::MIN);
    let asked = asked.take_while(|audited| audited.place.at >= since);
    Page::of(asked.map(|audited| (audited.place, audited)), limit)
}

/// A whole record, as it was written: with `before` and `after`, or `replayed`.
pub fn get(resident: &Resident, place: Place) -> Result<Value, Error> {
    let found = records(resident, &[place])?.pop().flatten();
    found.ok_or_else(|| Error::NotFound(format!("there is no record of the audit at {place}")))
}

/// The records at some places; none where one isn't there any more.
pub fn records(resident: &Resident, places: &[Place]) -> Result<Vec<Option<Value>>, Error> {
    let spots: Vec<Spot> = places.iter().map(|place| place.spot()).collect();
    let picked = resident.pick(Topic::Audit, &spots)?;
    let read = picked
        .into_iter()
        .map(|record| serde_json::from_slice(&record?.value?).ok());
    Ok(read.collect())
}

/// What somebody did.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    pub who: &'a str,
    /// Such as `reveal`.
    pub what: &'a str,
    /// The id of what it was done to.
    pub target: &'a str,
    pub before: Option<&'a Value>,
    pub after: Option<&'a Value>,
}

impl Act<'_> {
    /// The record, as it is written.
    pub(super) fn json(&self, now: i64) -> Value {
        let mut audit = Map::new();
        audit.insert("who".to_owned(), self.who.into());
        audit.insert("when".to_owned(), time_text(now).into());
        audit.insert("what".to_owned(), self.what.into());
        audit.insert("target".to_owned(), self.target.into());
        for (name, value) in [("before", self.before), ("after", self.after)] {
            if let Some(value) = value {
                audit.insert(name.to_owned(), value.clone());
            }
        }
        audit.into()
    }
}

/// Writes records of what people do.
pub struct Recorder(Producer);

impl Recorder {
    pub fn new(config: &Config) -> Result<Self, Error> {
        let producer = Producer::new(config, RECORD_MAX);
        Ok(Self(producer.map_err(|error| Error::Unavailable(error.to_string()))?))
    }

    /// Writes one, and waits until Kafka has it. `now` is in epoch milliseconds.
    pub fn append(&self, config: &Config, act: Act<'_>, now: i64) -> Result<(), Error> {
        let audit = act.json(now).to_string();
        let written = self.0.write_and_wait(&Record {
            topic: &config.topics.audit,
            partition: None,
            key: act.target.as_bytes(),
            value: Some(audit.as_bytes()),
            headers: crate::kafka::headers([]),
        });
        let failed = |error| Error::Unavailable(format!("it can't be recorded in the audit, and wasn't done: {error}"));
        written.map(drop).map_err(failed)
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_says_who_when_what_and_of_which_target() {
        let after = json!({"reason": "asked for"});
        let act = Act {
            who: "ana",
            what: "reveal",
            target: "e-1",
            before: None,
            after: Some(&after),
        };
        assert_eq!(
            act.json(1_772_723_760_000),
            json!({"who": "ana", "when": "2026-03-05T15:16:00Z", "what": "reveal", "target": "e-1", "after": after})
        );
    }
}
