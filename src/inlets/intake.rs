//! Turns the records of one request into lead events and dead letters. The request is accepted only once Kafka has all
//! of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::body::Refusal;
use super::threads::{Threads, late};
use crate::config::Config;
use crate::kafka::producer::{self, Producer, Unwritten};
use crate::kafka::{self, Failure, is_traceparent};
use crate::mapping::{BatchRecord, Budget, Elements, Event, Inlet, Preset, Received, Refused};
use crate::metrics::Metrics;
use crate::reason::{Form, Reason};
use crate::slack::look_ups::{Kind, LookUps};

/// A lead's id that is longer is no key of a dead letter: it stands in the record as well, and both may be more than
/// the topic takes.
const KEY_MAX: usize = 1024;
/// So many dead records of a request are a dead letter each; the rest is one more together.
const LETTERS_MAX: usize = 100;
/// The answer says of so many dead records what is wrong with them.
const ERRORS_MAX: usize = 20;
/// At most so many users of a request are looked up, for a second each; a request of Slack's has one.
const USERS_MAX: usize = 2;

/// What became of a request's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) accepted: u64,
    pub(super) dead: u64,
    pub(super) left_out: u64,
    /// Which of the records are dead, and why; the first of them.
    pub(super) errors: Vec<(usize, Refused)>,
    /// The answer that Slack wants when it asks whether the URL is ours.
    pub(super) challenge: Option<String>,
}

/// A request whose body is whole and allowed in.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) config: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) producer: Producer,
    pub(super) inlet: Arc<Inlet>,
    pub(super) body: Bytes,
    pub(super) content_type: Option<String>,
    pub(super) route: String,
    pub(super) trace: String,
    pub(super) now: Timestamp,
}

type Ack = oneshot::Receiver<producer::Ack>;

/// A record on its way to Kafka.
#[derive(Debug)]
struct Sent {
    ack: Ack,
    what: What,
}

/// What a record on its way to Kafka is, for when Kafka finds it too large.
#[derive(Debug)]
enum What {
    /// An event of one of the request's records.
    Event(usize, Ids),
    /// The dead letter of one of them, and what is wrong with it.
    Letter(usize, Refused),
    Rest(Rest, Form),
}

/// The ids of an event.
#[derive(Debug, Clone)]
struct Ids {
    event_id: String,
    lead_id: String,
}

/// Dead records that have no letter of their own, how many letters that would be, and what is wrong with the first.
#[derive(Debug)]
struct Rest {
    elements: Elements,
    count: u64,
    first: Refused,
}

/// A record that failed, for the topic of dead letters.
struct Letter<'l> {
    reason: Reason,
    detail: &'l str,
    /// Where the record became an event.
    event: Option<&'l Ids>,
    value: &'l [u8],
    /// The Content-Type of the value, where the value isn't one record as JSON.
    content_type: Option<&'l str>,
    /// Which records of the value are dead; none: it is one, or all.
    elements: Option<&'l Elements>,
}

/// The records of a request that were written so far.
#[derive(Debug, Default)]
struct Written {
    sent: Vec<Sent>,
    taken: Taken,
    letters: usize,
    rest: Option<Rest>,
}

impl Written {
    /// Leaves a dead record to the letter of the rest.
    fn leave(&mut self, index: usize, refused: Refused) {
        let rest = self.rest.get_or_insert_with(|| Rest {
            elements: Elements::default(),
            count: 0,
            first: refused,
        });
        rest.elements.push(index);
        rest.count += 1;
    }
}

impl Intake {
    /// Maps and writes the records, and waits until Kafka has them.
    ///
    /// # Errors
    /// 400 for a body that can't be read as a whole, and 503 when it isn't done or Kafka hasn't taken the records in
    /// time. The same request again is safe: its events keep their ids.
    pub(super) async fn take(
        self: Arc<Self>,
        threads: Threads<'_>,
        users: Option<&Arc<LookUps>>,
    ) -> Result<Taken, Refusal> {
        let profiles = match users {
            Some(users) => self.profiles(threads, users).await?,
            None => HashMap::new(),
        };
        let intake = Arc::clone(&self);
        let mut written = threads.run(move |ended| intake.map(&profiles, ended)).await?;
        // Records that turn out too large become dead letters, and dead letters smaller ones; those have to be awaited too.
        loop {
            let (mut events, mut smaller) = (HashMap::<usize, Vec<Ids>>::new(), Vec::new());
            for Sent { ack, what } in std::mem::take(&mut written.sent) {
                match (acked(ack, threads.deadline).await?, what) {
                    (true, What::Event(..)) => written.taken.accepted += 1,
                    (true, What::Letter(_, (reason, _)) | What::Rest(Rest { first: (reason, _), .. }, _)) => {
                        self.metrics.dead_letter(reason);
                    }
                    (false, What::Event(index, ids)) => events.entry(index).or_default().push(ids),
                    (false, What::Letter(index, refused)) => written.leave(index, refused),
                    (false, What::Rest(rest, form)) => smaller.push((rest, self.smaller(form)?)),
                }
            }
            if events.is_empty() && smaller.is_empty() && written.rest.is_none() {
                break;
            }
            let intake = Arc::clone(&self);
            written = threads
                .run(move |ended| intake.bury(&events, smaller, written, ended))
                .await?;
        }
        let taken = written.taken;
        if let Some((index, (reason, detail))) = taken.errors.first() {
            let (inlet, dead, reason) = (&self.inlet.name, taken.dead, reason.as_str());
            tracing::warn!(
                inlet,
                dead,
                index,
                reason,
                detail,
                "dead letters of a request; this is the first"
            );
        }
        let counts = [taken.accepted, taken.dead, taken.left_out];
        self.metrics.inlet_took(&self.inlet.name, counts);
        Ok(taken)
    }

    /// The form that the letter of the rest has next.
    fn smaller(&self, form: Form) -> Result<Form, Refusal> {
        let topic = &self.config.topics.dead_letters;
        let cure = "raise the topic's max.message.bytes, or lower inlet.body_max";
        if form == Form::Whole {
            let inlet = &self.inlet.name;
            tracing::error!(
                inlet,
                topic,
                cure,
                "the body of a request fits into no dead letter and is left out of it"
            );
        }
        form.smaller().ok_or_else(|| {
            tracing::error!(topic, cure, "the topic refuses the smallest dead letter");
            later()
        })
    }

    fn received(&self) -> Received<'_> {
        Received {
            body: &self.body,
            content_type: self.content_type.as_deref(),
            route: &self.route,
        }
    }

    /// Goes through the records one by one.
    fn each(
        &self,
        ended: Arc<AtomicBool>,
        mut each: impl FnMut(BatchRecord<'_>, &serde_json::Map<String, Value>, &mut Budget),
    ) -> Result<(), Refusal> {
        let mut budget = Budget::of(self.body.len()).until(ended);
        let undecodable = |why| Refusal::new(StatusCode::BAD_REQUEST, why);
        let mut batch = self.inlet.decode(&self.received(), &mut budget).map_err(undecodable)?;
        while let Some(record) = batch.next(&mut budget) {
            if budget.is_over() {
                return Err(late());
            }
            each(record, batch.around(), &mut budget);
        }
        Ok(())
    }

    /// The users who acted in the records that become events, by their ids.
    async fn profiles(
        self: &Arc<Self>,
        threads: Threads<'_>,
        users: &Arc<LookUps>,
    ) -> Result<HashMap<String, Value>, Refusal> {
        let intake = Arc::clone(self);
        let asked = move |ended| {
            let mut asked = BTreeSet::new();
            intake.each(ended, |record, around, budget| {
                // Only users whose record counts are looked up.
                let user = record.value().and_then(user).filter(|_| asked.len() < USERS_MAX);
                let counts = |_: &&str| !intake.inlet.map(&record, around, intake.now, budget).events.is_empty();
                asked.extend(user.filter(counts).map(str::to_owned));
            })?;
            Ok(asked)
        };
        let mut profiles = HashMap::new();
        for user in threads.run(asked).await? {
            if let Some(Ok(profile)) = users.get(Kind::User, &user).await {
                profiles.insert(user, profile);
            }
        }
        Ok(profiles)
    }

    /// Writes what becomes of each record.
    fn map(&self, profiles: &HashMap<String, Value>, ended: Arc<AtomicBool>) -> Result<Written, Refusal> {
        let mut written = Written::default();
        self.each(ended, |mut record, around, budget| {
            if let Some(challenge) = self.challenge(&record) {
                written.taken.challenge = Some(challenge);
                return;
            }
            let profile = record.value().and_then(user).and_then(|user| profiles.get(user));
            if let Some(profile) = profile.cloned() {
                record.insert("user_profile", profile);
            }
            let mapped = self.inlet.map(&record, around, self.now, budget);
            written.taken.left_out += u64::from(mapped.events.is_empty() && mapped.refused.is_none());
            written
                .sent
                .extend(mapped.events.into_iter().map(|event| self.write_event(event)));
            if let Some(refused) = mapped.refused {
                self.dead(&mut written, &record, refused, None, budget);
            }
        })?;
        self.end(&mut written);
        Ok(written)
    }

    /// Writes the dead letters of events that their topic doesn't take, and of what no dead letter took.
    fn bury(
        &self,
        events: &HashMap<usize, Vec<Ids>>,
        smaller: Vec<(Rest, Form)>,
        mut written: Written,
        ended: Arc<AtomicBool>,
    ) -> Result<Written, Refusal> {
        if !events.is_empty() {
            self.each(ended, |record, _, budget| {
                for ids in events.get(&record.index).into_iter().flatten() {
                    let detail = "event: larger than the topic of the events takes".to_owned();
                    self.dead(&mut written, &record, (Reason::TooLarge, detail), Some(ids), budget);
                }
            })?;
        }
        self.end(&mut written);
        let smaller = smaller.into_iter().map(|(rest, form)| self.write_rest(rest, form));
        written.sent.extend(smaller);
        Ok(written)
    }

    /// A dead record: a letter of its own, or one of the rest. What the dead letters surely take is the body; a record
    /// can be longer as its text, where escapes are.
    fn dead(
        &self,
        written: &mut Written,
        record: &BatchRecord<'_>,
        (reason, detail): Refused,
        event: Option<&Ids>,
        budget: &mut Budget,
    ) {
        written.taken.dead += 1;
        if written.taken.errors.len() < ERRORS_MAX {
            written.taken.errors.push((record.index, (reason, detail.clone())));
        }
        let text = record.text();
        let fits = !text.is_empty() && text.len() <= self.config.inlet.body_max;
        if fits && written.letters < LETTERS_MAX && budget.keep(text.len()).is_ok() {
            written.letters += 1;
            let letter = Letter {
                reason,
                detail: &detail,
                event,
                value: &text,
                content_type: record.content_type(),
                elements: None,
            };
            let ack = self.write_letter(&letter, Form::Whole);
            let what = What::Letter(record.index, (reason, detail));
            written.sent.push(Sent { ack, what });
        } else {
            written.leave(record.index, (reason, detail));
        }
    }

    /// Writes the dead letter of the rest.
    fn end(&self, written: &mut Written) {
        if let Some(rest) = written.rest.take() {
            written.sent.push(self.write_rest(rest, Form::Whole));
        }
    }

    fn write_rest(&self, rest: Rest, form: Form) -> Sent {
        let (reason, why) = &rest.first;
        let detail = format!(
            "{} records of the request that have no dead letter of their own; the first: {why}",
            rest.count
        );
        let body = self.inlet.without_secrets(&self.received());
        let letter = Letter {
            reason: *reason,
            detail: &detail,
            event: None,
            // It is written whatever it costs: the body is here already.
            value: &body,
            content_type: Some(self.inlet.content_type(&self.received())),
            elements: Some(&rest.elements),
        };
        let ack = self.write_letter(&letter, form);
        let what = What::Rest(rest, form);
        Sent { ack, what }
    }

    fn challenge(&self, record: &BatchRecord<'_>) -> Option<String> {
        let value = record.value()?;
        if self.inlet.preset != Some(Preset::Slack) || value["type"] != "url_verification" {
            return None;
        }
        value["challenge"].as_str().map(str::to_owned)
    }

    fn write_event(&self, event: Event) -> Sent {
        let ids = [("event-id", event.event_id.as_str()), ("traceparent", &self.trace)];
        let ack = self.offer(&producer::Record {
            topic: &self.config.topics.events,
            partition: None,
            key: event.lead_id.as_bytes(),
            value: Some(&event.json),
            headers: kafka::headers(ids),
        });
        let ids = Ids {
            event_id: event.event_id,
            lead_id: event.lead_id,
        };
        let what = What::Event(event.record, ids);
        Sent { ack, what }
    }

    fn write_letter(&self, letter: &Letter<'_>, form: Form) -> Ack {
        let source = format!("inlet:{}", self.inlet.name);
        let elements = letter.elements.map(Elements::to_string);
        let lead_id = letter.event.map(|ids| ids.lead_id.as_str());
        let key = lead_id.filter(|id| id.len() <= KEY_MAX).unwrap_or_default();
        let known = [
            ("inlet", Some(self.inlet.name.as_str())),
            ("traceparent", Some(self.trace.as_str())),
            // The values that the mapping read beside the record, so that a replay reads the same.
            ("route", Some(self.route.as_str()).filter(|route| !route.is_empty())),
            ("content-type", letter.content_type),
            ("elements", elements.as_deref()),
            ("event-id", letter.event.map(|ids| ids.event_id.as_str())),
        ];
        let whole = kafka::Letter {
            key: key.as_bytes(),
            value: Some(letter.value),
            failure: Failure {
                reason: letter.reason.as_str(),
                detail: letter.detail,
                source: &source,
                place: None,
                at: self.now,
            },
            known: &known,
        };
        let (key, value, headers) = whole.in_form(form);
        self.offer(&producer::Record {
            topic: &self.config.topics.dead_letters,
            partition: None,
            key,
            value,
            headers,
        })
    }

    fn offer(&self, record: &producer::Record<'_>) -> Ack {
        let (acked, ack) = oneshot::channel();
        // Nobody may be waiting any more.
        self.producer.offer(record, move |result| drop(acked.send(result)));
        ack
    }
}

fn later() -> Refusal {
    let said = "Kafka doesn't take it now; send it again";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said)
}

/// Who acted, in what Slack sends.
fn user(record: &Value) -> Option<&str> {
    record.pointer("/event/user")?.as_str()
}

/// Whether Kafka has it; false where it is too large.
async fn acked(ack: Ack, deadline: Instant) -> Result<bool, Refusal> {
    match tokio::time::timeout_at(deadline, ack).await {
        Ok(Ok(Ok(_))) => Ok(true),
        Ok(Ok(Err(Unwritten::TooLarge))) => Ok(false),
        Ok(Ok(Err(error))) => {
            tracing::debug!(%error, "a record was not written");
            Err(later())
        }
        Ok(Err(_)) | Err(_) => Err(later()),
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
