//! Explaining: which rules match an event, why the others don't, and what would be sent.

use jiff::Timestamp;

use super::Error;
use super::rules::{self, View};
use crate::config::Config;
use crate::delivery::plan::{Planned, Source, plan};
use crate::delivery::{DeliveryJob, Outcome};
use crate::lead::LeadEvent;
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;
use crate::reason::Reason;
use crate::rules::{Failed, Rule, Versioned};

/// What one rule makes of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained<'r> {
    pub rule: &'r Rule,
    /// The conditions that don't hold; none for a match.
    pub failed: Vec<Failed>,
    /// What a match comes to.
    pub would: Option<Would>,
}

/// What a match comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Would {
    Send {
        job: Box<DeliveryJob>,
        /// Why its destination takes no such request, so that it becomes a dead letter.
        refused: Option<String>,
    },
    /// Nothing is sent, and that is its outcome: `skipped` or `shadowed`.
    Settle(Box<Outcome>),
    /// The event becomes a dead letter.
    Die { detail: String },
}

/// Reads an event as it would be on the topic. A schema that it [needs](crate::lead::decode::lacks) is looked up before,
/// by the caller.
pub fn event<'b>(bytes: &'b [u8], schemas: &Schemas) -> Result<LeadEvent<'b>, Error> {
    decode(bytes, schemas).map_err(|error| {
        let reason = error.reason().map_or("needs_schema", Reason::as_str);
        Error::invalid(format!("{reason}: {}", error.detail()))
    })
}

/// The event that an inlet makes of a record, as JSON; of several the first. `now` is in epoch milliseconds.
pub fn of_record(config: &Config, inlet: &str, record: &[u8], now: i64) -> Result<Vec<u8>, Error> {
    let first = all_of_record(config, inlet, record, now)?.into_iter().next();
    first.ok_or_else(|| Error::invalid("the inlet leaves this record out: its conditions don't hold"))
}

/// The events that an inlet makes of a record, as JSON; none where it leaves the record out.
pub fn all_of_record(config: &Config, inlet: &str, record: &[u8], now: i64) -> Result<Vec<Vec<u8>>, Error> {
    let inlet = config.inlet(inlet).map_err(Error::invalid)?;
    let taken = inlet.take_line(record, Timestamp::from_millisecond(now).unwrap_or_default());
    match taken.refused {
        Some((reason, detail)) if taken.events.is_empty() => {
            Err(Error::invalid(format!("{}: {detail}", reason.as_str())))
        }
        _ => Ok(taken.events.into_iter().map(|event| event.json).collect()),
    }
}

/// The rules in force that are for a trigger.
pub fn of_trigger<'v>(view: &'v View, trigger: &'v str) -> impl Iterator<Item = Versioned> {
    let asked = rules::every(view).filter(move |in_force| *in_force.rule.trigger == *trigger);
    asked.filter_map(|in_force| in_force.whole())
}

/// Explains every rule of the event's trigger. `now` is in epoch milliseconds.
pub fn explain<'r>(
    config: &Config,
    event: &LeadEvent<'_>,
    rules: impl IntoIterator<Item = &'r Versioned>,
    now: i64,
) -> impl Iterator<Item = Explained<'r>> {
    let rules = rules.into_iter();
    rules
        .filter(|versioned| *versioned.rule.trigger == *event.trigger)
        .map(move |versioned| {
            let failed = versioned.rule.explain(event);
            let matches = failed.is_empty();
            Explained {
                rule: &versioned.rule,
                failed,
                would: matches.then(|| would(config, event, versioned, now)),
            }
        })
}

pub(super) fn would(config: &Config, event: &LeadEvent<'_>, matched: &Versioned, now: i64) -> Would {
    let source = Source {
        topic: &config.topics.events,
        partition: 0,
        offset: 0,
    };
    match plan(event, matched, source, now) {
        Planned::Job(job) => Would::Send {
            refused: job.action.refusal(&job.body),
            job: Box::new(job),
        },
        Planned::Settled(outcome) => Would::Settle(Box::new(outcome)),
        Planned::Failed { detail, .. } => Would::Die { detail },
    }
}
