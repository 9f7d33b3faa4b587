//! Dead letters of inlets: their records go through the mapping again, never back to their source.

use jiff::Timestamp;

use super::{Back, Halt, Letter, Progress, Replay};
use crate::lead::schemas::Schemas;
use crate::mapping::{Elements, Inlet, Received, Taken};

impl Replay<'_> {
    /// The events that the inlets make of the record now, all or none.
    pub(super) fn map_again(&self, letter: &Letter, names: &[&str], now: i64) -> Result<Vec<Back>, Halt> {
        let config = self.scanner.config;
        let mut all = Vec::new();
        for name in names {
            let inlet = config.inlet(name).map_err(Halt::Refused)?;
            let taken = match take(letter, inlet, &self.schemas, now) {
                Err(Halt::Refused(why)) => return Err(Halt::Refused(format!("inlet {name}: {why}"))),
                taken => taken?,
            };
            if let Some((reason, detail)) = taken.refused {
                let why = format!("inlet {name} still can't map it: {reason}: {detail}");
                return Err(Halt::Refused(why));
            }
            all.extend(taken.events);
        }
        if all.is_empty() {
            return Err(Halt::Refused(format!(
                "inlet {} leaves it out now",
                names.join(" and ")
            )));
        }
        let max = self.event_max.ok_or(Halt::Needs(Progress::NeedsEventMax))?;
        if all.iter().any(|event| event.record_size() > max) {
            let topic = &config.topics.events;
            return Err(Halt::Refused(format!(
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
        Ok(back.collect())
    }
}

/// What an inlet makes of a dead letter now, received when it was: that is when it happened, unless the record says,
/// and what a sender's clock is put right by.
pub(super) fn take(letter: &Letter, inlet: &Inlet, schemas: &Schemas, now: i64) -> Result<Taken, Halt> {
    let received = letter.header("failed-at").and_then(|text| text.parse().ok());
    let received = received.unwrap_or_else(|| Timestamp::from_millisecond(now).unwrap_or_default());
    let Some(value) = letter.record.value.as_deref() else {
        let why = "it holds no record; send it again at its source";
        return Err(Halt::Refused(why.to_owned()));
    };
    // Of a list, those that are dead; the others became events.
    let only = letter.header("elements").map(str::parse::<Elements>).transpose();
    let only = only.map_err(|error| Halt::Refused(format!("its header elements holds {error}")))?;
    let source = letter.header("source-topic").unwrap_or_default();
    if !source.starts_with("inlet:") {
        let taken = inlet.take(Some(value), only.as_ref(), schemas, received);
        return taken.map_err(|id| Halt::Needs(Progress::NeedsSchema(id)));
    }
    let route = letter.header("route").unwrap_or_default();
    Ok(match letter.header("content-type") {
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
    })
}

fn headers(letter: &Letter, event_id: String) -> Vec<(&'static str, String)> {
    let trace = letter
        .header("traceparent")
        .map(|trace| ("traceparent", trace.to_owned()));
    let own = [("event-id", event_id), ("replay-of", letter.id.to_string())];
    own.into_iter().chain(trace).collect()
}
