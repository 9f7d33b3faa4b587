//! Send-test: a person tries a rule on an event. What the rule makes of the event is really sent, marked as a test, within
//! the limits of its credential, and the answer comes back with what helps.
//!
//! A test is a job with a random id and the header `test`. Its sender gives it one attempt and little time. It counts as
//! no match and becomes no dead letter, and ends in an outcome as every job does. What can't be marked, a CleverTap
//! profile or a purchase, is checked by CleverTap in a dry run, which keeps nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::Error;
use super::audit::Act;
use super::rules::Draft;
use crate::action::OnAmbiguous;
use crate::config::Config;
use crate::delivery::plan::{Planned, Source, plan};
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::producer::{Producer, Record};
use crate::kafka::reader::{Isolation, Next, Reader};
use crate::kafka::scan::Topic;
use crate::kafka::{self, TEST};
use crate::lead::LeadEvent;
use crate::rules::{Rule, Status, Versioned};

mod cure;

/// A test that hasn't started within this time is over.
const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// The outcome is waited for no longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// No job is larger.
const RECORD_MAX: usize = 16_000_000;

/// The rule to try, and the event to try it on.
#[derive(Debug)]
pub struct Request<'r> {
    pub draft: &'r Draft,
    /// The version that is in force, where the draft is one.
    pub version: Option<i64>,
    pub event: &'r LeadEvent<'r>,
    pub who: &'r str,
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// None where nothing came to be sent, such as for a value that is missing.
    pub job_id: Option<String>,
    pub lane: String,
    /// The final result; none where no sender gave one in time.
    pub result: Option<OutcomeResult>,
    /// The provider's status and words.
    pub status: Option<i32>,
    pub words: Option<String>,
    /// What helps, for people; none where nothing has to be mended.
    pub cure: Option<String>,
    /// From the order to the outcome.
    pub millis: u64,
}

/// What a rule makes of an event for a test.
#[derive(Debug, PartialEq)]
enum Made {
    Job(Box<DeliveryJob>),
    /// It sends nothing.
    Ended(Box<Outcome>),
}

/// Sends what a rule makes of an event, whatever its status and whether it matches, and waits for the outcome. `now` is in
/// epoch milliseconds.
pub fn send(config: &Config, request: &Request<'_>, now: i64) -> Result<Answer, Error> {
    let rule = match &request.draft.rule {
        Some(rule) if request.draft.errors.is_empty() => rule,
        _ => return Err(Error::Invalid(request.draft.errors.clone())),
    };
    let began = Instant::now();
    let job = match make(rule, request, Uuid::new_v4(), now) {
        Made::Job(job) => job,
        Made::Ended(outcome) => return Ok(answer(None, &outcome, &outcome.lane, began)),
    };
    let coming = Coming::of(config, &job.job_id)?;
    write(config, &job, request, now)?;
    let until = Instant::now() + ANSWERED_WITHIN;
    while Instant::now() < until {
        if let Some(outcome) = coming.next(Duration::from_millis(100))? {
            return Ok(answer(Some(&job), &outcome, &job.lane(), began));
        }
    }
    Ok(Answer {
        job_id: Some(job.job_id.clone()),
        lane: job.lane(),
        result: None,
        status: None,
        words: None,
        cure: Some(cure::UNANSWERED.to_owned()),
        millis: millis(began),
    })
}

fn answer(job: Option<&DeliveryJob>, outcome: &Outcome, lane: &str, began: Instant) -> Answer {
    Answer {
        job_id: job.map(|job| job.job_id.clone()),
        lane: lane.to_owned(),
        result: Some(outcome.result),
        status: outcome.status,
        words: outcome.words.clone(),
        cure: cure::cure(outcome, job.map_or("", |job| &job.destination)),
        millis: millis(began),
    }
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn make(rule: &Rule, request: &Request<'_>, id: Uuid, now: i64) -> Made {
    let tried = Versioned {
        rule: Rule {
            status: Status::Active,
            ..rule.clone()
        },
        version: request.version.unwrap_or(-1),
    };
    let nowhere = Source {
        topic: "",
        partition: -1,
        offset: -1,
    };
    let job = match plan(request.event, &tried, nowhere, now) {
        Planned::Job(job) => job,
        Planned::Settled(outcome) | Planned::Failed { outcome, .. } => return Made::Ended(Box::new(outcome)),
    };
    let starts_within = i64::try_from(STARTS_WITHIN.as_millis()).unwrap_or_default();
    Made::Job(Box::new(DeliveryJob {
        job_id: id.to_string(),
        body: job.action.as_test(&job.body),
        expires_at: Some(now.saturating_add(starts_within)),
        on_ambiguous: OnAmbiguous::Dead,
        // Alone, and in nobody's thread.
        digest_after: None,
        max_rate: None,
        thread: false,
        ..job
    }))
}

/// Writes who tries what, and the job.
fn write(config: &Config, job: &DeliveryJob, request: &Request<'_>, now: i64) -> Result<(), Error> {
    let unwritten = |topic: &str, error: String| Error::Unavailable(format!("{topic}: the test was not sent: {error}"));
    let topics = &config.topics;
    let producer = Producer::new(config, RECORD_MAX).map_err(|error| unwritten(&topics.jobs, error.to_string()))?;
    let after =
        json!({"job_id": job.job_id, "event_id": job.event_id, "lane": job.lane(), "rule": request.draft.written});
    let act = Act {
        who: request.who,
        what: "send_test",
        target: &job.rule_id,
        before: Some(&Value::Null),
        after: Some(&after),
    };
    let test = [(TEST, "true")];
    for (topic, key, value, headers) in [
        (
            &topics.audit,
            &job.rule_id,
            act.json(now).to_string().into_bytes(),
            kafka::headers([]),
        ),
        (
            &topics.jobs,
            &job.credential,
            job.encode(),
            kafka::versioned(job.ids().into_iter().chain(test)),
        ),
    ] {
        let record = Record {
            topic,
            partition: None,
            key: key.as_bytes(),
            value: Some(&value),
            headers,
        };
        producer
            .write_and_wait(&record)
            .map_err(|error| unwritten(topic, error.to_string()))?;
    }
    Ok(())
}

/// The outcomes of one job, from now on.
struct Coming<'j> {
    reader: Reader,
    job_id: &'j str,
}

impl<'j> Coming<'j> {
    fn of(config: &Config, job_id: &'j str) -> Result<Self, Error> {
        let topic = &config.topics.outcomes;
        let runs = Topic::open(config, topic).and_then(|asked| asked.all());
        let from = runs.map_err(Error::Unavailable)?;
        let from: Vec<_> = from.iter().map(|run| (run.partition, Some(run.until))).collect();
        // The processor writes here in transactions; an open one would hide what a sender writes.
        let reader = Reader::assign(config, topic, &from, Isolation::Uncommitted);
        let reader = reader.map_err(|error| Error::Unavailable(format!("{topic}: {error}")))?;
        Ok(Self { reader, job_id })
    }

    /// The final one, if it comes now.
    fn next(&self, wait: Duration) -> Result<Option<Outcome>, Error> {
        let record = match self.reader.next(wait) {
            Next::Record(record) => record,
            Next::Denied(why) => return Err(Error::Unavailable(why)),
            Next::End(_) | Next::Nothing => return Ok(None),
        };
        let is_of_it = record.key.as_deref() == Some(self.job_id.as_bytes());
        let outcome = record.value.as_deref().filter(|_| is_of_it).map(Outcome::decode);
        Ok(outcome.and_then(Result::ok).filter(|outcome| outcome.result.is_final()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::explain::event;
    use crate::lead::schemas::Schemas;

    const EVENT: &str = r#"{"event_id":"e-1","trigger":"lms.lead_sold","occurred_at":"2026-03-05T15:16:00Z","lead_id":"8","product":{"id":"12"}}"#;

    fn draft(action: serde_json::Value) -> Draft {
        let config = Config::parse("test", "{}", []).unwrap();
        let rule = json!({
            "id": "r", "status": "shadow", "trigger": "lms.lead_rejected", "scope": {"level": "product", "id": "99"}, "action": action,
        });
        Draft::of(&config, rule)
    }

    fn made(draft: &Draft) -> Made {
        let schemas = Schemas::new();
        let event = event(EVENT.as_bytes(), &schemas).unwrap();
        let request = Request {
            draft,
            version: Some(7),
            event: &event,
            who: "ana",
        };
        make(draft.rule.as_ref().unwrap(), &request, Uuid::nil(), 1_000)
    }

    #[test]
    fn a_test_is_a_marked_job_of_its_own_whatever_the_rules_status_and_pace() {
        let draft = draft(json!({
            "type": "slack_message", "token": {"secret": "t"}, "to": {"channel": "C0SALES"}, "text": "sold {{$.lead_id}}",
            "thread": "lead", "max_rate": "1/h", "when_busy": {"digest_after": "60s"}, "expires_after": "1s",
        }));
        let Made::Job(job) = made(&draft) else {
            panic!("it is sent");
        };
        assert_eq!(job.body, r#"{"channel":"C0SALES","text":"[TEST] sold 8"}"#);
        assert_eq!(
            (&*job.job_id, &*job.event_id, &*job.rule_id),
            (&*Uuid::nil().to_string(), "e-1", "r")
        );
        assert_eq!((job.rule_version, job.expires_at), (7, Some(16_000)));
        assert_eq!((job.digest_after, &job.max_rate, job.thread), (None, &None, false));
        assert_eq!(job.on_ambiguous, OnAmbiguous::Dead);
        assert_eq!(DeliveryJob::decode(&job.encode()).as_ref(), Ok(&*job));
    }

    #[test]
    fn what_sends_nothing_says_so_at_once() {
        let skips = draft(json!({
            "type": "slack_message", "token": {"secret": "t"}, "to": {"channel": "C0SALES"}, "text": "{{$.price}}", "on_missing": "skip",
        }));
        let Made::Ended(outcome) = made(&skips) else {
            panic!("nothing is sent");
        };
        assert_eq!(outcome.result, OutcomeResult::Skipped);
        let answer = answer(None, &outcome, &outcome.lane, Instant::now());
        assert!(answer.cure.unwrap().contains("$.price"), "{outcome:?}");
        assert_eq!((answer.job_id, &*answer.lane), (None, "slack:t/C0SALES"));
    }

    #[test]
    fn a_draft_with_errors_is_not_tried() {
        let config = Config::parse("test", "{}", []).unwrap();
        let draft = Draft::of(&config, json!({"id": "r"}));
        let schemas = Schemas::new();
        let event = event(EVENT.as_bytes(), &schemas).unwrap();
        let request = Request {
            draft: &draft,
            version: None,
            event: &event,
            who: "ana",
        };
        assert!(matches!(send(&config, &request, 0), Err(Error::Invalid(problems)) if !problems.is_empty()));
    }
}
