//! Who did what to what: where each record of the audit is.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ids::beginning;
use super::names::Names;
use crate::desk::page::Place;
use crate::kafka::reader::Record;

/// So many records are kept.
pub(super) const MOST: usize = 1_000_000;
/// So much of a name is kept, in bytes.
const NAME_MAX: usize = 256;

/// A record of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// When it was written, and where.
    pub place: Place,
    pub who: String,
    /// `apply`, `delete`, `pause`, `resume`, `rollback`, `replay`, `reveal`, and what else people do.
    pub what: String,
    /// The rule's id, else the id of what it was done to; empty for a replay, which names its dead letters.
    pub target: String,
}

#[derive(Debug)]
pub struct Audits {
    most: usize,
    audits: BTreeMap<Place, Entry>,
    names: Names,
    /// By rule, the last version and who wrote it.
    authors: HashMap<u32, (i64, u32)>,
    gone: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    who: u32,
    what: u32,
    target: u32,
}

/// What is kept of a record.
#[derive(Deserialize)]
struct Written<'r> {
    #[serde(borrow, default)]
    who: Option<Cow<'r, str>>,
    #[serde(borrow, default)]
    what: Option<Cow<'r, str>>,
    #[serde(borrow, default)]
    target: Option<Cow<'r, str>>,
    #[serde(default)]
    version: Option<i64>,
    #[serde(default)]
    replayed: Option<IgnoredAny>,
}

impl Audits {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            audits: BTreeMap::new(),
            names: Names::default(),
            authors: HashMap::new(),
            gone: None,
        }
    }

    /// Takes in a record of the topic; one that is no audit is left aside.
    pub fn take(&mut self, record: &Record, now: i64) {
        let value = record.value.as_deref().unwrap_or_default();
        let Ok(written) = serde_json::from_slice::<Written<'_>>(value) else {
            return;
        };
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        let short = |text| beginning(text, NAME_MAX);
        let what = match (&written.what, &written.replayed) {
            (Some(what), _) => what,
            (None, Some(_)) => "replay",
            (None, None) => "",
        };
        let entry = Entry {
            who: self.names.hold(short(written.who.as_deref().unwrap_or_default())),
            what: self.names.hold(short(what)),
            target: self.names.hold(short(written.target.as_deref().unwrap_or(&key))),
        };
        let place = Place {
            at: super::written_at(record.timestamp, now),
            partition: record.partition,
            offset: record.offset,
        };
        if let Some(before) = self.audits.insert(place, entry) {
            self.let_go(before);
        }
        if let Some(version) = written.version {
            self.author(entry, version, what != "delete");
        }
        while self.audits.len() > self.most
            && let Some((place, entry)) = self.audits.pop_first()
        {
            self.let_go(entry);
            self.gone = self.gone.max(Some(place.at));
        }
    }

    /// Keeps who wrote the last version of a rule, as long as there is one.
    fn author(&mut self, Entry { who, target, .. }: Entry, version: i64, is_there: bool) {
        if self.authors.get(&target).is_some_and(|(known, _)| *known > version) {
            return;
        }
        if is_there {
            [who, target].into_iter().for_each(|name| self.names.hold_too(name));
        }
        let before = match is_there {
            true => self.authors.insert(target, (version, who)),
            false => self.authors.remove(&target),
        };
        if let Some((_, who)) = before {
            self.names.release(who);
            self.names.release(target);
        }
    }

    fn let_go(&mut self, Entry { who, what, target }: Entry) {
        [who, what, target]
            .into_iter()
            .for_each(|name| self.names.release(name));
    }

    /// Whether somebody did `what` to a target.
    pub fn has(&self, what: &str, target: &str) -> bool {
        let (Some(what), Some(target)) = (self.names.number(what), self.names.number(target)) else {
            return false;
        };
        self.audits
            .values()
            .rev()
            .any(|entry| entry.what == what && entry.target == target)
    }

    /// Who wrote this version of a rule, where it is the last that is known.
    pub fn author_of(&self, rule: &str, version: i64) -> Option<&str> {
        let (last, who) = self.authors.get(&self.names.number(rule)?)?;
        (*last == version).then(|| self.names.name(*who))
    }

    /// The records before a place, newest first: of a target and by an actor, where these are given.
    pub fn newest<'a>(
        &'a self,
        target: Option<&str>,
        who: Option<&str>,
        after: Option<Place>,
    ) -> Box<dyn Iterator<Item = Audited> + 'a> {
        let number = |name: Option<&str>| name.map(|name| self.names.number(name));
        let (target, who) = (number(target), number(who));
        if target == Some(None) || who == Some(None) {
            return Box::new(std::iter::empty());
        }
        let before = match after {
            Some(after) => self.audits.range(..after),
            None => self.audits.range::<Place, _>(..),
        };
        let is = |wanted: Option<Option<u32>>, found: u32| wanted.flatten().is_none_or(|wanted| wanted == found);
        let asked = before.rev();
        let asked = asked.filter(move |(_, entry)| is(target, entry.target) && is(who, entry.who));
        let name = |number| self.names.name(number).to_owned();
        Box::new(asked.map(move |(place, entry)| Audited {
            place: *place,
            who: name(entry.who),
            what: name(entry.what),
            target: name(entry.target),
        }))
    }

    /// Each target that was changed after a time, with the place of the record, oldest first.
    pub fn after(&self, at: i64) -> impl Iterator<Item = (&str, Place)> {
        let from = Place {
            at: at.saturating_add(1),
            partition: i32::MIN,
            offset: i64::MIN,
        };
        let after = self.audits.range(from..);
        after.map(|(place, entry)| (self.names.name(entry.target), *place))
    }

    /// The time of the oldest, and of the youngest that had to go.
    pub(super) fn reach(&self) -> (Option<i64>, Option<i64>) {
        (self.audits.first_key_value().map(|(place, _)| place.at), self.gone)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(offset: i64, key: &str, audit: &Value) -> Record {
        Record {
            offset,
            timestamp: 1000 + offset,
            key: Some(key.as_bytes().to_vec()),
            value: Some(audit.to_string().into_bytes()),
            ..Record::default()
        }
    }

    fn written(what: &str, who: &str, version: i64, after: &Value) -> Value {
        json!({"who": who, "when": "2026-03-05T15:16:00Z", "what": what, "before": null, "after": after, "version": version})
    }

    #[test]
    fn records_are_found_by_target_and_actor_and_the_oldest_go() {
        let mut audits = Audits::new(3);
        let rule = json!({"id": "a"});
        for (offset, key, audit) in [
            (0, "gone", written("apply", "eva", 0, &rule)),
            (1, "a", written("apply", "ana", 1, &rule)),
            (
                2,
                "",
                json!({"who": "ben", "when": "x", "replayed": ["0-1"], "written_at": [5]}),
            ),
            (3, "a", written("pause", "ben", 3, &rule)),
        ] {
            audits.take(&record(offset, key, &audit), 5000);
        }
        audits.take(&record(4, "junk", &json!([1])), 5000);
        let all = |target, who, after| -> Vec<(String, String)> {
            let found = audits.newest(target, who, after);
            found.map(|audited| (audited.what, audited.who)).collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |(one, other): &(&str, &str)| ((*one).to_owned(), (*other).to_owned());
            pairs.iter().map(own).collect()
        };
        assert_eq!(
            all(None, None, None),
            pairs(&[("pause", "ben"), ("replay", "ben"), ("apply", "ana")])
        );
        assert_eq!(all(Some("a"), None, None), pairs(&[("pause", "ben"), ("apply", "ana")]));
        assert_eq!(all(Some("a"), Some("ben"), None), pairs(&[("pause", "ben")]));
        let third = audits.newest(None, None, None).nth(1).map(|audited| audited.place);
        assert_eq!(all(None, None, third), pairs(&[("apply", "ana")]));
        for (target, who) in [
            (Some("gone"), Some("ana")),
            (Some("never"), None),
            (None, Some("never")),
        ] {
            assert_eq!(all(target, who, None), pairs(&[]));
        }
        assert_eq!(audits.reach(), (Some(1001), Some(1000)));
    }

    #[test]
    fn the_author_of_a_rule_is_who_wrote_exactly_its_version() {
        let mut audits = Audits::new(2);
        let rule = json!({"id": "a"});
        assert_eq!(audits.author_of("a", 9), None);
        // Partitions may be read in any order.
        for (offset, who, version, after) in [(5, "ben", 9, &rule), (6, "ana", 4, &rule), (7, "eva", 2, &rule)] {
            audits.take(&record(offset, "a", &written("apply", who, version, after)), 5000);
        }
        assert_eq!(audits.author_of("a", 9), Some("ben"), "though its record is gone");
        assert_eq!((audits.author_of("a", 4), audits.author_of("a", 10)), (None, None));
        audits.take(&record(8, "a", &written("delete", "ana", 12, &Value::Null)), 5000);
        assert_eq!((audits.author_of("a", 9), audits.author_of("a", 12)), (None, None));
    }

    #[test]
    fn what_was_changed_after_a_time_is_known_oldest_first() {
        let mut audits = Audits::new(10);
        for (offset, rule) in [(0, "a"), (3, "a"), (1, "b"), (2, "a")] {
            audits.take(
                &record(offset, rule, &written("apply", "ana", offset, &json!({}))),
                5000,
            );
        }
        let after = |at| -> Vec<(&str, i64)> { audits.after(at).map(|(rule, place)| (rule, place.offset)).collect() };
        assert_eq!(after(1001), [("a", 2), ("a", 3)]);
        assert_eq!(after(999).len(), 4);
    }
}
