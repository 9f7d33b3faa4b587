//! Dead letters of inlets: what they hold goes through the mapping again, never back where it came from.

use std::cell::OnceCell;

use jiff::Timestamp;

use super::{Back, Letter};
use crate::app::now_millis;
use crate::cli::{CliError, look_up, wait_for};
use crate::config::Config;
use crate::kafka::topics;
use crate::lead::schemas::Schemas;
use crate::mapping::{Inlet, Received, Taken};

/// The inlets of the configuration, with what was asked of the registry and of Kafka so far.
pub(super) struct Inlets<'i> {
    config: &'i Config,
    schemas: Schemas,
    event_max: OnceCell<usize>,
}

impl<'i> Inlets<'i> {
    pub(super) fn new(config: &'i Config) -> Self {
        Self {
            config,
            schemas: Schemas::foreign(),
            event_max: OnceCell::new(),
        }
    }

    /// The events that the inlets make of the record now, all or none; the inner error says why not.
    pub(super) fn map_again(&mut self, letter: &Letter, names: &[&str]) -> Result<Result<Vec<Back>, String>, CliError> {
        let config = self.config;
        let mut all = Vec::new();
        for name in names {
            let inlet = match config.inlet(name) {
                Ok(inlet) => inlet,
                Err(why) => return Ok(Err(why)),
            };
            let taken = match self.take(letter, inlet)? {
                Ok(taken) => taken,
                Err(why) => return Ok(Err(format!("inlet {name}: {why}"))),
            };
            if let Some((reason, detail)) = taken.refused {
                return Ok(Err(format!("inlet {name} still can't map it: {reason}: {detail}")));
            }
            all.extend(taken.events);
        }
        if all.is_empty() {
            return Ok(Err(format!("inlet {} leaves it out now", names.join(" and "))));
        }
        if self.event_max.get().is_none() {
            let max = wait_for(topics::record_max(config, &config.topics.events))?.map_err(CliError::failed)?;
            self.event_max.get_or_init(|| max);
        }
        let max = self.event_max.get().copied().unwrap_or_default();
        if all.iter().any(|event| event.record_size() > max) {
            let topic = &config.topics.events;
            return Ok(Err(format!(
                "its event is larger than {topic} takes; raise its max.message.bytes"
            )));
        }
        let change = match all.len() {
            1 => format!("mapped again by inlet {}", names.join(" and ")),
            count => format!("{count} events, mapped again by inlet {}", names.join(" and ")),
        };
        let back = all.into_iter().map(|event| Back {
            topic: config.topics.events.clone(),
            key: event.lead_id.into_bytes(),
            value: Some(event.json),
            headers: headers(letter, event.event_id),
            change: Some(change.clone()),
        });
        Ok(Ok(back.collect()))
    }

    /// What the inlet makes of it now, received when it was: that is when it happened, unless the record says, and
    /// what a sender's clock is put right by.
    pub(super) fn take(&mut self, letter: &Letter, inlet: &Inlet) -> Result<Result<Taken, String>, CliError> {
        let received = letter.header("failed-at").and_then(|text| text.parse().ok());
        let received = received.unwrap_or_else(|| Timestamp::from_millisecond(now_millis()).unwrap_or_default());
        let Some(value) = letter.record.value.as_deref() else {
            return Ok(Err("it holds no record; send it again at its source".to_owned()));
        };
        // Of a list, those that are dead; the others became events.
        let only = match letter.header("elements").map(str::parse) {
            None => None,
            Some(Ok(only)) => Some(only),
            Some(Err(error)) => return Ok(Err(format!("its header elements holds {error}"))),
        };
        let source = letter.header("source-topic").unwrap_or_default();
        if source.starts_with("inlet:") {
            let route = letter.header("route").unwrap_or_default();
            return Ok(Ok(match letter.header("content-type") {
                None => inlet.take_again(value, route, received),
                // A body, as it came.
                Some(content_type) => {
                    let body = Received {
                        body: value,
                        content_type: Some(content_type),
                        route,
                    };
                    inlet.take_body(&body, only.as_ref(), received)
                }
            }));
        }
        loop {
            match inlet.take(Some(value), only.as_ref(), &self.schemas, received) {
                Ok(taken) => return Ok(Ok(taken)),
                Err(id) => look_up(self.config, id, &mut self.schemas)?,
            }
        }
    }
}

fn headers(letter: &Letter, event_id: String) -> Vec<(&'static str, String)> {
    let trace = letter
        .header("traceparent")
        .map(|trace| ("traceparent", trace.to_owned()));
    let own = [("event-id", event_id), ("replay-of", letter.id.to_string())];
    own.into_iter().chain(trace).collect()
}
