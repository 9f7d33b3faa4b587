//! Writes rules, and what is ordered of lanes: the one path of everybody who changes them.
//!
//! A [`Writer`] takes over the transactional id `<group>-rules`, reads the topic to its end, and compares each change
//! with the version that its author saw. Then it renders everything, opens a transaction, writes the rules and the
//! audit of each, and commits. So the changes of a call come into force together or not at all, the audit has exactly
//! the rules in force, and nothing is overwritten unseen.
//!
//! Of two writers the later one ends the earlier one's transaction. The earlier one begins again after a moment, so
//! that both come to their end; where their changes meet, the second is a conflict that names the first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::kept::Kept;
use super::{Draft, Last, View, get, missing};
use crate::config::Config;
use crate::dates::time_text;
use crate::desk::Error;
use crate::desk::lock::ReadGuard;
use crate::kafka::producer::Record;
use crate::kafka::reader::{Isolation, Went};
use crate::kafka::scan::{CLOCKS_DIFFER, Scan, Topic};
use crate::kafka::together::Together;
use crate::kafka::{self, Fault, topics};
use crate::rules::log::CANCEL_WAITING;
use crate::rules::{Status, check};

mod change;
mod refusal;

use change::Order;
pub use change::{Change, Written};
use refusal::{conflict, failed};

/// A transaction stays open for no longer, also where its writer ended without a word.
const OPEN_MAX: Duration = Duration::from_secs(30);
/// For so long a writer begins again after others took over.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a writer waits at most until what it committed can be read.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// The pause before a writer begins again is a random part of this, twice as much each time, up to the most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A rule that someone else wrote may be larger than ours are. What the topic takes is the broker's to say.
const RECORD_MAX: usize = 16_000_000;

/// What a change comes to, by the rules in force.
#[derive(Debug, PartialEq)]
struct Planned {
    before: Option<Value>,
    /// The version of what stood before.
    replaces: Option<i64>,
    /// Without its version, where one is still to be made.
    written: Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Nothing is in force that could be changed.
    Missing,
    /// Another version is in force than the author saw.
    Conflict,
}

fn plan(view: &View, change: &Change) -> Result<Planned, Refused> {
    let id = &change.id;
    if let Order::Lane(order) = &change.order {
        return Ok(order.plan(view, id));
    }
    let before = view.written(id);
    let version = view.version(id);
    let planned = |version: Option<i64>, after: Option<Value>| Planned {
        before: before.clone(),
        replaces: view.version(id),
        written: Written {
            id: id.clone(),
            version: version.unwrap_or(-1),
            changed: version.is_none(),
            after,
        },
    };
    let rejected = view.log.entry(id).is_some_and(|entry| entry.rejected.is_some());
    if let Order::Put(rule) | Order::Rollback(rule) = &change.order
        && before.as_ref() == Some(rule)
        && !rejected
    {
        return Ok(planned(version, before.clone()));
    }
    if version != change.seen {
        return Err(Refused::Conflict);
    }
    let in_force = get(view, id).ok().map(|in_force| in_force.rule.status);
    // Where jobs are to be cancelled there is always something to write.
    let stands = |status: Status| in_force == Some(status) && !rejected && !change.cancel_waiting;
    let with_status = |status: Status| {
        let mut rule = before.clone().ok_or(Refused::Missing)?;
        rule["status"] = status.as_str().into();
        Ok(Some(rule))
    };
    let after = match &change.order {
        Order::Pause if stands(Status::Paused) => return Ok(planned(version, before.clone())),
        Order::Resume if stands(Status::Active) => return Ok(planned(version, before.clone())),
        Order::Put(rule) | Order::Rollback(rule) => Some(rule.clone()),
        Order::Pause => with_status(Status::Paused)?,
        Order::Resume => with_status(Status::Active)?,
        // Jobs of a rule that is gone may still wait.
        Order::Delete if before.is_none() && !change.cancel_waiting => return Err(Refused::Missing),
        Order::Delete | Order::Lane(_) => None,
    };
    Ok(planned(None, after))
}

/// Writes rules. Whoever writes often keeps its view of the topic, which then is only read on.
#[derive(Debug)]
pub struct Writer<'c> {
    config: &'c Config,
    kept: Arc<Kept>,
    /// Whether the topic is known to be as it must be: a process that runs has checked it.
    checked: bool,
    /// Told how many records of how many are written.
    told: fn(usize, usize),
}

impl<'c> Writer<'c> {
    /// A writer of its own, which checks the topic before it writes.
    pub fn new(config: &'c Config) -> Self {
        Self {
            checked: false,
            ..Self::on(config, Arc::default())
        }
    }

    /// A writer that reads on a view which others share.
    pub fn on(config: &'c Config, kept: Arc<Kept>) -> Self {
        Self {
            config,
            kept,
            checked: true,
            told: |_, _| {},
        }
    }

    /// Tells how many records of how many are written.
    #[must_use]
    pub fn telling(self, told: fn(usize, usize)) -> Self {
        Self { told, ..self }
    }

    pub fn config(&self) -> &'c Config {
        self.config
    }

    /// The rules as they are now. A writer writes nothing as long as its view is looked at.
    pub fn view(&mut self) -> Result<ReadGuard<'_, View>, Error> {
        self.read_on(None)?;
        Ok(self.kept.view())
    }

    /// Makes all changes, or none. `who` makes them, `now` is in epoch milliseconds; both go into the audit.
    pub fn write(&mut self, changes: &[Change], who: &str, now: i64) -> Result<Vec<Written>, Error> {
        let mut ids = HashSet::new();
        if let Some(twice) = changes.iter().find(|change| !ids.insert(&change.id)) {
            return Err(Error::invalid(format!("rule {} is changed twice at once", twice.id)));
        }
        if !self.checked {
            topics::check_rules(self.config).map_err(Error::Unavailable)?;
            self.checked = true;
        }
        let kept = Arc::clone(&self.kept);
        let _alone = kept.writing();
        let began = Instant::now();
        let mut pause = PAUSE;
        let mut unsure = None;
        loop {
            if let Some(written) = self.attempt(changes, who, now, &mut unsure)? {
                return Ok(written);
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::conflict(format!(
                    "other writers of rules took over again and again for {} s; look at the rules and try again",
                    PATIENCE.as_secs()
                )));
            }
            std::thread::sleep(pause.mul_f64(fastrand::f64()));
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// One try; none where another writer took over. `unsure` is what such a try has written and perhaps committed.
    fn attempt(
        &mut self,
        changes: &[Change],
        who: &str,
        now: i64,
        unsure: &mut Option<Vec<Written>>,
    ) -> Result<Option<Vec<Written>>, Error> {
        // The most is read before, so that little is left to do once the writers before are ended.
        if self.read_on(unsure.as_deref())? {
            return Ok(unsure.take());
        }
        let seen = self.kept.view().log.next_offset();
        let mut planned = self.plan(changes)?;
        if planned.iter().all(|planned| !planned.written.changed) {
            return Ok(Some(planned.into_iter().map(|planned| planned.written).collect()));
        }
        let mut together = match Together::open(self.config, "rules", RECORD_MAX, OPEN_MAX) {
            Ok(together) => together,
            Err(Fault::Fatal { fenced: true, .. }) => return Ok(None),
            Err(fault) => return Err(failed(fault)),
        };
        if self.read_on(unsure.as_deref())? {
            return Ok(unsure.take());
        }
        if self.kept.view().log.next_offset() != seen {
            planned = self.plan(changes)?;
        }
        let rendered = render(changes, &planned, who, now);
        let mut written: Vec<Written> = planned.into_iter().map(|planned| planned.written).collect();
        match write(&mut together, self.config, rendered, &mut written, self.told) {
            Ok(()) => {}
            Err(Fault::Fatal { fenced: true, .. }) => return Ok(None),
            Err(fault) => return Err(failed(fault)),
        }
        match together.commit() {
            Ok(()) => {
                self.until_read(&written);
                Ok(Some(written))
            }
            Err(Fault::Fatal { fenced: true, .. }) => {
                // The commit may have come through before the other writer did.
                *unsure = Some(written);
                Ok(None)
            }
            Err(fault) => Err(failed(fault)),
        }
    }

    /// Kafka answers a commit a little before it shows it. Whoever looks next must find what was written.
    fn until_read(&mut self, written: &[Written]) {
        let began = Instant::now();
        // It is committed, whatever becomes of this look.
        while let Ok(false) = self.read_on(Some(written))
            && began.elapsed() < SHOWN_WITHIN
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Reads what came since the last look; says whether what `unsure` wrote is among it.
    fn read_on(&mut self, unsure: Option<&[Written]>) -> Result<bool, Error> {
        let ours = unsure.and_then(|written| written.iter().find(|written| written.changed));
        if self.kept.read_on(self.config)? == Went::Anew {
            let topic = &self.config.topics.rules;
            let message = format!("topic {topic} was made anew or has lost its end; look at the rules, then try again");
            return Err(Error::Unavailable(message));
        }
        Ok(ours.is_some_and(|ours| self.kept.has_read(ours.version)))
    }

    /// What all changes come to; the error names each that can't be made.
    fn plan(&self, changes: &[Change]) -> Result<Vec<Planned>, Error> {
        let view = self.kept.view();
        let (mut all, mut conflicts) = (Vec::with_capacity(changes.len()), Vec::new());
        for change in changes {
            match plan(&view, change) {
                Ok(planned) => all.push(planned),
                Err(Refused::Missing) => return Err(missing(&change.id)),
                Err(Refused::Conflict) => conflicts.push(change),
            }
        }
        if conflicts.is_empty() {
            return Ok(all);
        }
        let last: HashMap<&str, Last> = conflicts
            .iter()
            .filter_map(|change| Some((change.id.as_str(), view.last(&change.id)?)))
            .collect();
        let mut authors = authors(self.config, &last);
        let conflicts = conflicts.into_iter().map(|change| {
            let who = authors.remove(change.id.as_str());
            conflict(change, view.version(&change.id), last.get(change.id.as_str()), who)
        });
        Err(Error::Conflict(conflicts.collect()))
    }
}

/// Who wrote the last record of each rule, as far as the audit says: whoever wrote another version of it didn't. The
/// topic is read.
pub fn authors<'r>(config: &Config, last: &HashMap<&'r str, Last>) -> HashMap<&'r str, String> {
    let Some(since) = last.values().map(|last| last.changed_at).min() else {
        return HashMap::new();
    };
    let audit = &config.topics.audit;
    let runs = Topic::open(config, audit).and_then(|asked| asked.between(Some(since - CLOCKS_DIFFER), None));
    // What an aborted transaction wrote names a version that never was.
    let records = runs.and_then(|runs| Scan::begin(config, audit, &runs, Isolation::Uncommitted));
    let mut authors = HashMap::new();
    for record in records.into_iter().flatten().flatten() {
        let id = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        let Some((id, last)) = last.get_key_value(&*id) else {
            continue;
        };
        let written: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap_or_default();
        let is_last = written.get("version").and_then(Value::as_i64) == Some(last.offset);
        if let (true, Some(who)) = (is_last, written.get("who").and_then(Value::as_str)) {
            authors.insert(*id, who.to_owned());
        }
    }
    authors
}

/// A change as it is written: the rule, and its audit, which lacks the version that Kafka gives the rule.
struct Rendered<'c> {
    change: &'c Change,
    number: usize,
    rule: Option<String>,
    audit: Map<String, Value>,
}

fn render<'c>(changes: &'c [Change], planned: &[Planned], who: &str, now: i64) -> Vec<Rendered<'c>> {
    let when = time_text(now);
    let all = changes.iter().zip(planned).enumerate();
    all.filter(|(_, (_, planned))| planned.written.changed)
        .map(|(number, (change, planned))| {
            let after = planned.written.after.as_ref();
            Rendered {
                change,
                number,
                rule: after.map(Value::to_string),
                audit: audit(change, who, &when, planned, after),
            }
        })
        .collect()
}

/// The audit's record of a change. A version that is too large for it is left out, and named as left out.
fn audit(change: &Change, who: &str, when: &str, planned: &Planned, after: Option<&Value>) -> Map<String, Value> {
    let mut audit = Map::new();
    let mut left_out = Map::new();
    audit.insert("who".to_owned(), who.into());
    audit.insert("when".to_owned(), when.into());
    audit.insert("what".to_owned(), change.order.as_str().into());
    if let Order::Lane(order) = &change.order {
        audit.insert("target".to_owned(), order.lane.as_str().into());
    }
    for (name, rule) in [("before", planned.before.as_ref()), ("after", after)] {
        let size = rule.map_or(0, |rule| rule.to_string().len());
        let fits = size <= 2 * check::RULE_MAX;
        if !fits {
            left_out.insert(name.to_owned(), json!({"bytes": size}));
        }
        audit.insert(name.to_owned(), json!(rule.filter(|_| fits)));
    }
    if let Some(replaces) = planned.replaces {
        audit.insert("replaces".to_owned(), replaces.into());
    }
    if !left_out.is_empty() {
        audit.insert("left_out".to_owned(), left_out.into());
    }
    if change.cancel_waiting {
        audit.insert("cancel_waiting".to_owned(), true.into());
    }
    if change.from_files {
        audit.insert("from_files".to_owned(), true.into());
    }
    audit
}

/// Writes the rules and then, with the versions that they got, their audit.
fn write(
    together: &mut Together,
    config: &Config,
    rendered: Vec<Rendered<'_>>,
    written: &mut [Written],
    told: fn(usize, usize),
) -> Result<(), Fault> {
    // Half of the records are the rules, the other half is their audit.
    let total = 2 * rendered.len();
    for (done, Rendered { change, rule, .. }) in rendered.iter().enumerate() {
        told(done, total);
        together.write(&Record {
            topic: &config.topics.rules,
            partition: None,
            key: change.id.as_bytes(),
            value: rule.as_deref().map(str::as_bytes),
            headers: kafka::headers(change.cancel_waiting.then_some((CANCEL_WAITING, "true"))),
        })?;
    }
    for ((rendered, version), done) in rendered.into_iter().zip(together.offsets()?).zip(total / 2..) {
        told(done, total);
        written[rendered.number].version = version;
        let mut audit = rendered.audit;
        audit.insert("version".to_owned(), version.into());
        let audit = Value::from(audit).to_string();
        let key = match &rendered.change.order {
            Order::Lane(order) => &order.lane,
            _ => &rendered.change.id,
        };
        together.write(&Record {
            topic: &config.topics.audit,
            partition: None,
            key: key.as_bytes(),
            value: Some(audit.as_bytes()),
            headers: kafka::headers([]),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
