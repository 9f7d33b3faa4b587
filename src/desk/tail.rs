//! Lead events as they come, and which rules each matches.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Error;
use super::rules::Whole;
use crate::config::Config;
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::kafka::scan::Topic;
use crate::lead::LeadEvent;
use crate::lead::decode::{decode, lacks};
use crate::lead::schemas::{SchemaId, Schemas};
use crate::rules::log::Rules;

/// Rules that were changed count from then on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which events are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub trigger: Option<String>,
    pub lead: Option<String>,
    pub inlet: Option<String>,
    /// Only events that no rule matches.
    pub unmatched: bool,
}

/// An event that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    pub record: Record,
    pub event: Result<Seen, Unread>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub event_id: String,
    pub trigger: String,
    pub lead_id: String,
    /// Epoch milliseconds.
    pub occurred_at: i64,
    pub inlet: Option<String>,
    /// The rules in force that match, in the order in which their jobs are written.
    pub matches: Vec<String>,
}

/// Why a record is no event: it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    pub reason: &'static str,
    pub detail: String,
}

impl Filter {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an event is asked for, by all but its matches.
    fn holds(&self, event: &LeadEvent<'_>) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        is(&self.trigger, Some(&event.trigger))
            && is(&self.lead, Some(&event.lead_id))
            && is(&self.inlet, event.inlet.as_deref())
    }
}

/// The events that come.
pub struct Coming<'c> {
    config: &'c Config,
    filter: Filter,
    reader: Reader,
    schemas: Schemas,
    rules: Whole,
    rules_looked_at: Instant,
}

/// Follows the events that are written from now on, or from a time on.
pub fn follow(config: &Config, filter: Filter, since: Option<i64>) -> Result<Coming<'_>, Error> {
    let topic = &config.topics.events;
    let runs = Topic::open(config, topic).and_then(|asked| asked.between(since, None));
    let places: Vec<_> = runs
        .map_err(Error::Unavailable)?
        .iter()
        .map(|run| (run.partition, Some(if since.is_some() { run.from } else { run.until })))
        .collect();
    let reader = Reader::assign(config, topic, &places, Isolation::Committed);
    Ok(Coming {
        config,
        filter,
        reader: reader.map_err(|error| Error::Unavailable(error.to_string()))?,
        schemas: Schemas::new(),
        rules: Whole::read(config)?,
        rules_looked_at: Instant::now(),
    })
}

impl Coming<'_> {
    /// The next event that is asked for, if the next record is one and comes within `wait`. `look_up` asks for a schema
    /// that a record needs.
    pub fn next(
        &mut self,
        wait: Duration,
        look_up: impl FnOnce(SchemaId, &mut Schemas),
    ) -> Result<Option<Arrived>, Error> {
        let record = match self.reader.next(wait) {
            Next::Record(record) => record,
            Next::Denied(why) => return Err(Error::Unavailable(why)),
            Next::End(_) | Next::Nothing => return Ok(None),
        };
        if self.rules_looked_at.elapsed() >= LOOK_EVERY {
            self.rules.read_on(self.config)?;
            self.rules_looked_at = Instant::now();
        }
        let bytes = record.value.as_deref().unwrap_or_default();
        if let Some(id) = lacks(bytes, &self.schemas) {
            look_up(id, &mut self.schemas);
        }
        let event = match decode(bytes, &self.schemas) {
            Ok(event) => seen(&event, &self.filter, &self.rules.rules).map(Ok),
            // What it is of can't be told.
            Err(error) => self.filter.is_none().then(|| {
                Err(Unread {
                    reason: error.reason().map_or("needs_schema", |reason| reason.as_str()),
                    detail: error.detail().to_owned(),
                })
            }),
        };
        Ok(event.map(|event| Arrived { event, record }))
    }
}

/// An event with its matches, if it is asked for.
fn seen(event: &LeadEvent<'_>, filter: &Filter, rules: &Rules) -> Option<Seen> {
    if !filter.holds(event) {
        return None;
    }
    let mut found = Vec::new();
    rules.index.matches(event, &mut found);
    if filter.unmatched && !found.is_empty() {
        return None;
    }
    Some(Seen {
        event_id: event.event_id.to_string(),
        trigger: event.trigger.to_string(),
        lead_id: event.lead_id.to_string(),
        occurred_at: event.occurred_at.as_millisecond(),
        inlet: event.inlet.as_deref().map(str::to_owned),
        matches: found.iter().map(|versioned| versioned.rule.id.to_string()).collect(),
    })
}

impl Arrived {
    /// The whole event as JSON, where it came as such.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.record.value.as_deref()?).ok()
    }
}

impl std::fmt::Debug for Coming<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coming")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::log::RuleLog;

    #[test]
    fn every_condition_must_hold_and_matches_are_named() {
        let mut log = RuleLog::default();
        let rule = json!({
            "id": "r", "scope": {"level": "product", "id": "12"}, "trigger": "t",
            "action": {"type": "slack_webhook", "url": {"secret": "s"}, "text": "x"},
        });
        log.apply(0, Some(b"r"), Some(rule.to_string().as_bytes()));
        let rules = log.snapshot();
        let seen = |product: &str, filter: &Filter| {
            let event = json!({
                "event_id": "e", "trigger": "t", "lead_id": "l", "occurred_at": "2026-03-05T15:16:00Z",
                "product": {"id": product}, "inlet": "crm",
            });
            let event = event.to_string();
            seen(&decode(event.as_bytes(), &Schemas::new()).unwrap(), filter, &rules).map(|seen| seen.matches)
        };
        let filter = |name: &str, text: &str, unmatched: bool| {
            let field = |of: &str| (of == name).then(|| text.to_owned());
            Filter {
                trigger: field("trigger"),
                lead: field("lead"),
                inlet: field("inlet"),
                unmatched,
            }
        };
        for (name, text) in [("", ""), ("trigger", "t"), ("lead", "l"), ("inlet", "crm")] {
            assert_eq!(
                seen("12", &filter(name, text, false)),
                Some(vec!["r".to_owned()]),
                "{name}"
            );
            assert_eq!(seen("12", &filter(name, text, true)), None, "{name}");
            assert_eq!(seen("13", &filter(name, text, true)), Some(vec![]), "{name}");
            if !name.is_empty() {
                assert_eq!(seen("12", &filter(name, "other", false)), None, "{name}");
            }
        }
    }
}
