//! Records become lead events and dead letters. Nobody hears that a request is accepted before Kafka has all of it.
//!
//! Decoding and mapping take as long as a body makes them, within its budget. So they run on threads of their own, no
//! more of them than cores, and end with the request.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::body::Refusal;
use super::users::Users;
use crate::config::Config;
use crate::inlet::{Budget, Elements, Event, Inlet, Preset, Received, Record, Refused};
use crate::kafka::producer::{self, Producer, Unwritten};
use crate::kafka::{Failure, is_traceparent};
use crate::metrics::Metrics;
use crate::reason::Reason;

/// A lead's id that is longer is no key of a dead letter: it stands in the record as well, and both may be more than
/// the topic takes.
const KEY_MAX: usize = 1024;
/// So many dead records of a request are a dead letter each; the rest is one more together.
const LETTERS_MAX: usize = 100;
/// The answer says of so many dead records what is wrong with them.
const ERRORS_MAX: usize = 20;
/// So many users of a request are looked up, a second each at most; there is one in what Slack sends.
const USERS_MAX: usize = 2;

/// What became of a request's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) accepted: u64,
    pub(super) dead: u64,
    pub(super) left_out: u64,
    /// Which of the records are dead, and why; the first of them.
    pub(super) errors: Vec<(usize, String)>,
    /// What Slack wants to hear when it asks whether the URL is ours.
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

/// Where work runs that may take long, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads<'t> {
    pub(super) free: &'t Arc<Semaphore>,
    /// When the answer has to be given.
    pub(super) deadline: Instant,
}

/// Tells the thread that works for a request that nobody waits for it any more.
#[derive(Debug, Default)]
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Threads<'_> {
    /// Does the work on a thread of its own. It ends once the flag is set, which it is when its time is over.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(Arc<AtomicBool>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let free = tokio::time::timeout_at(self.deadline, Arc::clone(self.free).acquire_owned());
        let Ok(Ok(permit)) = free.await else {
            return Err(late());
        };
        let ended = Ended::default();
        let flag = Arc::clone(&ended.0);
        let running = tokio::task::spawn_blocking(move || {
            // Held until the thread is free, which may be after the request.
            let _permit = permit;
            work(flag)
        });
        match tokio::time::timeout_at(self.deadline, running).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                tracing::error!(%error, "the work on a request panicked");
                let said = "the request could not be worked on; the log says why";
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, said))
            }
            Err(_) => Err(late()),
        }
    }
}

fn late() -> Refusal {
    let said = "too much comes in, or the request takes too long; send it again, in smaller parts if it was large";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, said)
}

/// A record on its way to Kafka.
#[derive(Debug)]
struct Sent {
    ack: oneshot::Receiver<Result<(i32, i64), Unwritten>>,
    /// Which of the request's records it is of.
    record: usize,
    /// None of a dead letter.
    event: Option<Ids>,
}

/// The ids of an event.
#[derive(Debug, Clone)]
struct Ids {
    event_id: String,
    lead_id: String,
}

/// A record that can go no further, for the topic of dead letters.
struct Letter<'l> {
    reason: Reason,
    detail: &'l str,
    /// Where the record became an event.
    event: Option<&'l Ids>,
    value: &'l [u8],
    /// What the value is, where it isn't one record as JSON.
    content_type: Option<&'l str>,
    /// Which records of the value are dead; none: it is one, or all.
    elements: Option<&'l Elements>,
}

/// What was written of a request so far.
#[derive(Debug, Default)]
struct Written {
    sent: Vec<Sent>,
    taken: Taken,
    letters: usize,
    /// Dead records that have no letter of their own, how many, and what is wrong with the first.
    rest: Elements,
    rest_count: u64,
    rest_first: Option<Refused>,
}

impl Intake {
    /// Maps and writes the records, and waits until Kafka has them.
    ///
    /// # Errors
    /// 400 for a body that can't be read as a whole, 503 when it isn't done or Kafka hasn't taken the records in time,
    /// and 413 for a record that doesn't even fit among the dead letters. The same request again is safe: its events
    /// keep their ids.
    pub(super) async fn take(
        self: Arc<Self>,
        threads: Threads<'_>,
        users: Option<&Arc<Users>>,
    ) -> Result<Taken, Refusal> {
        let profiles = match users {
            Some(users) => self.profiles(threads, users).await?,
            None => HashMap::new(),
        };
        let intake = Arc::clone(&self);
        let mut written = threads.run(move |ended| intake.map(&profiles, ended)).await?;
        // Events that turn out too large become dead letters, which have to be waited for as well.
        loop {
            let mut too_large: HashMap<usize, Vec<Ids>> = HashMap::new();
            for Sent { ack, record, event } in std::mem::take(&mut written.sent) {
                match (acked(ack, threads.deadline).await?, event) {
                    (true, Some(_)) => written.taken.accepted += 1,
                    (true, None) => {}
                    (false, Some(ids)) => too_large.entry(record).or_default().push(ids),
                    (false, None) => {
                        let said = "a record is larger than Kafka takes";
                        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, said));
                    }
                }
            }
            if too_large.is_empty() {
                break;
            }
            let intake = Arc::clone(&self);
            written = threads
                .run(move |ended| intake.bury(&too_large, written, ended))
                .await?;
        }
        let taken = written.taken;
        let counts = [taken.accepted, taken.dead, taken.left_out];
        self.metrics.inlet_took(&self.inlet.name, counts);
        Ok(taken)
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
        mut each: impl FnMut(Record<'_>, &serde_json::Map<String, Value>, &mut Budget),
    ) -> Result<Budget, Refusal> {
        let mut budget = Budget::of(self.body.len()).until(ended);
        let undecodable = |why| Refusal::new(StatusCode::BAD_REQUEST, why);
        let mut batch = self.inlet.decode(&self.received(), &mut budget).map_err(undecodable)?;
        while let Some(record) = batch.next(&mut budget) {
            if budget.is_over() {
                return Err(late());
            }
            each(record, batch.around(), &mut budget);
        }
        Ok(budget)
    }

    /// Who acted in the records that become events, by their ids.
    async fn profiles(
        self: &Arc<Self>,
        threads: Threads<'_>,
        users: &Arc<Users>,
    ) -> Result<HashMap<String, Value>, Refusal> {
        let intake = Arc::clone(self);
        let asked = move |ended| {
            let mut asked = BTreeSet::new();
            intake.each(ended, |record, around, budget| {
                // Only who did something that counts is looked up.
                let user = record.value().and_then(user).filter(|_| asked.len() < USERS_MAX);
                let counts = |_: &&str| !intake.inlet.map(&record, around, intake.now, budget).events.is_empty();
                asked.extend(user.filter(counts).map(str::to_owned));
            })?;
            Ok(asked)
        };
        let mut profiles = HashMap::new();
        for user in threads.run(asked).await? {
            if let Some(profile) = users.profile(&user).await {
                profiles.insert(user, profile);
            }
        }
        Ok(profiles)
    }

    /// Writes what becomes of each record.
    fn map(&self, profiles: &HashMap<String, Value>, ended: Arc<AtomicBool>) -> Result<Written, Refusal> {
        let mut written = Written::default();
        let mut budget = self.each(ended, |mut record, around, budget| {
            if let Some(challenge) = self.challenge(&record) {
                written.taken.challenge = Some(challenge);
                return;
            }
            let profile = record.value().and_then(user).and_then(|user| profiles.get(user));
            if let Some(profile) = profile.cloned() {
                record.tell("user_profile", profile);
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
        self.end(&mut written, &mut budget);
        Ok(written)
    }

    /// Writes the dead letters of events that their topic doesn't take.
    fn bury(
        &self,
        too_large: &HashMap<usize, Vec<Ids>>,
        mut written: Written,
        ended: Arc<AtomicBool>,
    ) -> Result<Written, Refusal> {
        let mut budget = self.each(ended, |record, _, budget| {
            for ids in too_large.get(&record.at).into_iter().flatten() {
                let detail = "event: larger than the topic of the events takes".to_owned();
                self.dead(&mut written, &record, (Reason::TooLarge, detail), Some(ids), budget);
            }
        })?;
        self.end(&mut written, &mut budget);
        Ok(written)
    }

    /// A dead record: a letter of its own, or one of the rest. What the dead letters surely take is the body; a record
    /// can be longer as its text, where escapes are.
    fn dead(
        &self,
        written: &mut Written,
        record: &Record<'_>,
        (reason, detail): Refused,
        event: Option<&Ids>,
        budget: &mut Budget,
    ) {
        written.taken.dead += 1;
        if written.taken.errors.len() < ERRORS_MAX {
            written.taken.errors.push((record.at, detail.clone()));
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
            written.sent.push(self.write_letter(record.at, &letter));
        } else {
            written.rest.push(record.at);
            written.rest_count += 1;
            written.rest_first.get_or_insert((reason, detail));
        }
    }

    /// Writes the dead letter of the rest, and tells the log once.
    fn end(&self, written: &mut Written, budget: &mut Budget) {
        if let Some((reason, why)) = written.rest_first.take() {
            let count = std::mem::take(&mut written.rest_count);
            let rest = std::mem::take(&mut written.rest);
            let detail =
                format!("{count} records of the request that have no dead letter of their own; the first: {why}");
            let body = self.inlet.without_secrets(&self.received());
            // It is written whatever it costs: the body is here already.
            budget.release(body.len());
            let letter = Letter {
                reason,
                detail: &detail,
                event: None,
                value: &body,
                content_type: Some(self.content_type.as_deref().unwrap_or_default()),
                elements: Some(&rest),
            };
            written.sent.push(self.write_letter(0, &letter));
        }
        if let Some((index, detail)) = written.taken.errors.first() {
            let (inlet, dead) = (&self.inlet.name, written.taken.dead);
            tracing::warn!(
                inlet,
                dead,
                index,
                detail,
                "dead letters of a request; this is the first"
            );
        }
    }

    fn challenge(&self, record: &Record<'_>) -> Option<String> {
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
            headers: crate::kafka::headers(ids),
        });
        Sent {
            ack,
            record: event.record,
            event: Some(Ids {
                event_id: event.event_id,
                lead_id: event.lead_id,
            }),
        }
    }

    fn write_letter(&self, record: usize, letter: &Letter<'_>) -> Sent {
        let (inlet, reason) = (&self.inlet.name, letter.reason);
        self.metrics.dead_letter(reason);
        let source = format!("inlet:{inlet}");
        let failure = Failure {
            reason: reason.as_str(),
            detail: letter.detail,
            source: &source,
            place: None,
            at: self.now,
        };
        let known = [("inlet", inlet.as_str()), ("traceparent", &self.trace)];
        // What the mapping was told beside the record, so that a replay is told the same.
        let route = Some(("route", self.route.as_str())).filter(|(_, route)| !route.is_empty());
        let content_type = letter.content_type.map(|text| ("content-type", text));
        let elements = letter.elements.map(Elements::to_string);
        let elements = elements.as_deref().map(|text| ("elements", text));
        let event_id = letter.event.map(|ids| ("event-id", ids.event_id.as_str()));
        let lead_id = letter.event.map(|ids| ids.lead_id.as_str());
        let key = lead_id.filter(|id| id.len() <= KEY_MAX).unwrap_or_default();
        let told = route.into_iter().chain(content_type).chain(elements).chain(event_id);
        let ack = self.offer(&producer::Record {
            topic: &self.config.topics.dead_letters,
            partition: None,
            key: key.as_bytes(),
            value: Some(letter.value),
            headers: failure.headers(known.into_iter().chain(told)),
        });
        Sent {
            ack,
            record,
            event: None,
        }
    }

    fn offer(&self, record: &producer::Record<'_>) -> oneshot::Receiver<Result<(i32, i64), Unwritten>> {
        let (acked, ack) = oneshot::channel();
        // Nobody may be waiting any more.
        self.producer.offer(record, move |result| drop(acked.send(result)));
        ack
    }
}

/// Who acted, in what Slack sends.
fn user(record: &Value) -> Option<&str> {
    record.pointer("/event/user")?.as_str()
}

/// Whether Kafka has it; false where it is too large.
async fn acked(ack: oneshot::Receiver<Result<(i32, i64), Unwritten>>, deadline: Instant) -> Result<bool, Refusal> {
    let later = || {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Kafka doesn't take it now; send it again",
        )
    };
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

    fn threads(free: &Arc<Semaphore>, deadline: Instant) -> Threads<'_> {
        Threads { free, deadline }
    }

    #[tokio::test]
    async fn work_leaves_the_threads_that_serve_alone_and_ends_with_its_time() {
        let free = Arc::new(Semaphore::new(1));
        let later = Instant::now() + std::time::Duration::from_secs(60);
        // The one thread of the runtime goes on while the work waits for it.
        let (go_on, told) = std::sync::mpsc::channel();
        let work = threads(&free, later).run(move |_| told.recv().map_err(|_| late()));
        let serve = async { go_on.send(7).unwrap() };
        assert_eq!(tokio::join!(work, serve).0, Ok(7));
        // Its time is over at once: the answer doesn't wait, the work is told, and the thread is free again.
        let work = |ended: Arc<AtomicBool>| {
            while !ended.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(())
        };
        let refused = threads(&free, Instant::now()).run(work).await.unwrap_err();
        assert_eq!(refused.status, 503);
        assert_eq!(threads(&free, later).run(|_| Ok(1)).await, Ok(1));
        // So it is when nobody waits any more.
        let gone = async { threads(&free, later).run(work).await };
        tokio::select! {
            biased;
            _ = gone => unreachable!("it waits"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(threads(&free, later).run(|_| Ok(2)).await, Ok(2));
        let panicked = threads(&free, later).run(|_| -> Result<(), Refusal> { panic!("a test") });
        assert_eq!(panicked.await.unwrap_err().status, 500);
        assert_eq!(threads(&free, later).run(|_| Ok(3)).await, Ok(3));
    }

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
