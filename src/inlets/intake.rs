//! Records become lead events and dead letters. Nobody hears that a request is accepted before Kafka has all of it.

use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Surroundings;
use super::body::Refusal;
use super::http::Door;
use crate::inlet::{Batch, Event, Mapped, Preset, Received};
use crate::kafka::producer::{Producer, Record, Unwritten};
use crate::kafka::{Failure, is_traceparent};
use crate::reason::Reason;

/// A lead's id that is longer is no key of a dead letter: it stands in the record as well, and both may be more than
/// the topic takes.
const KEY_MAX: usize = 1024;

/// What became of a request's records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) accepted: u64,
    pub(super) dead: u64,
    pub(super) left_out: u64,
}

/// A request whose body could be decoded.
#[derive(Debug)]
pub(super) struct Intake<'r> {
    pub(super) at: &'r Surroundings,
    pub(super) producer: &'r Producer,
    pub(super) door: &'r Door,
    pub(super) received: Received<'r>,
    pub(super) trace: String,
    /// When the answer has to be given.
    pub(super) deadline: Instant,
}

/// A record on its way to Kafka.
#[derive(Debug)]
struct Sent {
    ack: oneshot::Receiver<Result<(i32, i64), Unwritten>>,
    /// Which of the request's records it is of.
    record: usize,
    /// The ids of the event; none of a dead letter.
    event: Option<(String, String)>,
}

/// A record that can go no further, for the topic of dead letters.
struct Letter<'l> {
    reason: Reason,
    detail: &'l str,
    /// The event's id and its lead's, where the record became one.
    event: Option<(&'l str, &'l str)>,
    value: &'l [u8],
}

impl Intake<'_> {
    /// Maps and writes the records, and waits until Kafka has them.
    ///
    /// # Errors
    /// 503 when Kafka hasn't taken them in time, and 413 for a record that doesn't even fit among the
    /// dead letters. The same request again is safe: its events keep their ids.
    pub(super) async fn take(&self, mut batch: Batch) -> Result<Taken, Refusal> {
        let mut records = std::mem::take(&mut batch.records);
        let without_secrets = records.iter_mut().fold(false, |some, record| self.strip(record) | some);
        let as_it_came = records.len() == 1 && !without_secrets && !batch.is_split();
        let text = |record: &Value| match as_it_came && self.received.body.trim_ascii_start().starts_with(b"{") {
            true => self.received.body.to_vec(),
            false => record.to_string().into_bytes(),
        };
        let mut taken = Taken::default();
        let mut sent = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let Mapped { events, refused } = self.mapped(record, &batch).await;
            if events.is_empty() && refused.is_none() {
                taken.left_out += 1;
            }
            sent.extend(events.into_iter().map(|event| self.write_event(at, event)));
            if let Some(why) = refused {
                let letter = Letter {
                    reason: Reason::InvalidEvent,
                    detail: &why,
                    event: None,
                    value: &text(record),
                };
                sent.push(self.write_letter(at, &letter));
            }
        }
        // Those that turn out too large become dead letters, which have to be waited for as well.
        while !sent.is_empty() {
            let mut again = Vec::new();
            for Sent { ack, record, event } in sent {
                match (self.acked(ack).await?, event) {
                    (true, Some(_)) => taken.accepted += 1,
                    (true, None) => taken.dead += 1,
                    (false, Some((event_id, lead_id))) => {
                        let letter = Letter {
                            reason: Reason::TooLarge,
                            detail: "event: larger than the topic of the events takes",
                            event: Some((&event_id, &lead_id)),
                            value: &text(&records[record]),
                        };
                        again.push(self.write_letter(record, &letter));
                    }
                    (false, None) => {
                        let said = "a record is larger than Kafka takes";
                        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, said));
                    }
                }
            }
            sent = again;
        }
        let counts = [taken.accepted, taken.dead, taken.left_out];
        self.at.metrics.inlet_took(&self.door.inlet.name, counts);
        Ok(taken)
    }

    /// Takes out of a record what opens an inlet: secrets don't go into topics.
    fn strip(&self, record: &mut Value) -> bool {
        let name = match self.door.inlet.preset {
            Some(Preset::Slack) => "token",
            Some(Preset::Track) => "writeKey",
            _ => return false,
        };
        let members = record.as_object_mut();
        members.is_some_and(|members| members.shift_remove(name).is_some())
    }

    async fn mapped(&self, record: &Value, batch: &Batch) -> Mapped {
        let now = Timestamp::from_microsecond((self.at.now)()).unwrap_or_default();
        let (inlet, users) = (&self.door.inlet, &self.door.users);
        let mapped = inlet.map(record, batch, now);
        let (Some(users), false) = (users, mapped.events.is_empty()) else {
            return mapped;
        };
        // Only who did something that counts is looked up.
        let user = record.pointer("/event/user").and_then(Value::as_str);
        let profile = match user {
            Some(user) => users.profile(user).await,
            None => None,
        };
        let (Some(profile), Some(members)) = (profile, record.as_object()) else {
            return mapped;
        };
        let mut known = members.clone();
        known.insert("user_profile".to_owned(), profile);
        inlet.map(&Value::Object(known), batch, now)
    }

    fn write_event(&self, record: usize, event: Event) -> Sent {
        let ids = [("event-id", event.event_id.as_str()), ("traceparent", &self.trace)];
        let ack = self.offer(&Record {
            topic: &self.at.config.topics.events,
            partition: None,
            key: event.lead_id.as_bytes(),
            value: Some(&event.json),
            headers: crate::kafka::headers(ids),
        });
        Sent {
            ack,
            record,
            event: Some((event.event_id, event.lead_id)),
        }
    }

    fn write_letter(&self, record: usize, letter: &Letter<'_>) -> Sent {
        let (inlet, reason) = (&self.door.inlet.name, letter.reason);
        tracing::warn!(inlet, reason = reason.as_str(), detail = letter.detail, "dead letter");
        self.at.metrics.dead_letter(reason);
        let source = format!("inlet:{inlet}");
        let failure = Failure {
            reason: reason.as_str(),
            detail: letter.detail,
            source: &source,
            place: None,
            at: Timestamp::from_microsecond((self.at.now)()).unwrap_or_default(),
        };
        let known = [("inlet", inlet.as_str()), ("traceparent", &self.trace)];
        // What the mapping was told beside the record, so that a replay is told the same.
        let route = Some(("route", self.received.route)).filter(|(_, route)| !route.is_empty());
        let (event_id, lead_id) = letter.event.unzip();
        let event_id = event_id.map(|id| ("event-id", id));
        let key = lead_id.filter(|id| id.len() <= KEY_MAX).unwrap_or_default();
        let ack = self.offer(&Record {
            topic: &self.at.config.topics.dead_letters,
            partition: None,
            key: key.as_bytes(),
            value: Some(letter.value),
            headers: failure.headers(known.into_iter().chain(route).chain(event_id)),
        });
        Sent {
            ack,
            record,
            event: None,
        }
    }

    fn offer(&self, record: &Record<'_>) -> oneshot::Receiver<Result<(i32, i64), Unwritten>> {
        let (acked, ack) = oneshot::channel();
        // Nobody may be waiting any more.
        self.producer.offer(record, move |result| drop(acked.send(result)));
        ack
    }

    /// Whether Kafka has it; false where it is too large.
    async fn acked(&self, ack: oneshot::Receiver<Result<(i32, i64), Unwritten>>) -> Result<bool, Refusal> {
        let later = || {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Kafka doesn't take it now; send it again",
            )
        };
        match tokio::time::timeout_at(self.deadline, ack).await {
            Ok(Ok(Ok(_))) => Ok(true),
            Ok(Ok(Err(Unwritten::TooLarge))) => Ok(false),
            Ok(Ok(Err(error))) => {
                tracing::debug!(%error, "a record was not written");
                Err(later())
            }
            Ok(Err(_)) | Err(_) => Err(later()),
        }
    }
}

/// The request's own `traceparent` where it is one, else a new trace.
pub(super) fn trace(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    match given.map(str::trim).filter(|text| is_traceparent(text)) {
        Some(text) => text.to_owned(),
        None => {
            let (trace, span) = (fastrand::u128(1..), fastrand::u64(1..));
            format!("00-{trace:032x}-{span:016x}-01")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_where_it_is_one() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            trace(&headers)
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(of(good), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            let made = of(bad);
            assert!(made != bad && is_traceparent(&made), "{bad}: {made}");
        }
        assert_ne!(trace(&HeaderMap::new()), trace(&HeaderMap::new()));
    }
}
