//! What fills the desk's memory, for those that measure it: rules as people write them, and their events, jobs and
//! outcomes. One in a hundred rules is on trial, and one event in a hundred is of the same lead.

use leadlane::delivery::{DeliveryJob, Outcome, OutcomeResult, job_id};
use leadlane::kafka::reader::Record;
use leadlane::lead::EventId;
use leadlane::rules::RuleId;
use serde_json::json;

/// Jobs go to so many channels.
pub(crate) const CHANNELS: usize = 500;
/// The lead that has many events.
pub(crate) const BUSY_LEAD: &str = "84512377";

pub(crate) fn rule_id(number: usize) -> String {
    format!("rule-{number}")
}

fn is_on_trial(number: usize) -> bool {
    number % 100 == 99
}

/// The record of a rule that was written at a time, in epoch milliseconds as everywhere here.
pub(crate) fn rule(number: usize, at: i64) -> Record {
    let id = rule_id(number);
    let rule = json!({
        "id": id, "name": format!("Sales of product {number} to the sales channel"),
        "status": if is_on_trial(number) { "shadow" } else { "active" },
        "scope": {"level": "product", "id": (number % 5000).to_string()}, "trigger": "lms.lead_sold",
        "filters": {"publisher": ["3401", "3402"], "price": {"gte": 25}, "where": [{"path": "$.consumer.state", "in": ["TX", "FL"]}]},
        "action": {
            "type": "slack_message", "token": {"secret": "sales-bot"}, "to": {"channel": format!("C{number:08}")},
            "text": "Lead {{$.lead_id}} sold to {{$.buyer.name}} for {{$.price | money}}",
        },
    });
    record(number, at, Some(id), rule.to_string().into_bytes())
}

fn uuid(number: usize) -> String {
    format!("0190f3c2-6f7b-7c11-9a55-{number:012x}")
}

/// The lead of an event.
pub(crate) fn lead(number: usize) -> String {
    match number % 100 {
        0 => BUSY_LEAD.to_owned(),
        _ => (84_512_377 + number).to_string(),
    }
}

/// The record of an event of some 900 bytes.
pub(crate) fn event(number: usize, at: i64) -> Record {
    let event = json!({
        "event_id": uuid(number), "trigger": "lms.lead_sold", "occurred_at": "2026-03-05T15:16:00.123Z",
        "lead_id": lead(number), "product": {"id": "12", "name": "Auto Insurance"}, "price": "42.5000",
        "fields": {"text": "x".repeat(650)},
    });
    record(number, at, None, event.to_string().into_bytes())
}

fn record(number: usize, timestamp: i64, key: Option<String>, value: Vec<u8>) -> Record {
    Record {
        offset: number as i64,
        timestamp,
        key: key.map(String::into_bytes),
        value: Some(value),
        ..Record::default()
    }
}

/// The match of an event: its job, and the results that this comes to.
pub(crate) struct Match {
    pub(crate) job: DeliveryJob,
    /// What a rule on trial matches never is a job.
    pub(crate) is_job: bool,
    pub(crate) results: &'static [OutcomeResult],
}

/// The match of one event by one of so many rules. Each is sent, and every tenth is tried twice.
pub(crate) fn matched(number: usize, rules: usize, at: i64) -> Match {
    use OutcomeResult::{Retry, Sent, Shadowed};
    let (event_id, rule_id) = (uuid(number), rule_id(number % rules));
    let channel = format!("C{:08}", number % CHANNELS);
    let text = json!({
        "job_id": job_id(EventId(&event_id), RuleId(&rule_id)).to_string(), "event_id": event_id, "rule_id": rule_id,
        "rule_version": 7, "lead_id": lead(number), "trigger": "lms.lead_sold", "action": "slack_message",
        "credential": "slack:sales-bot", "destination": channel, "occurred_at": at,
        "body": json!({"channel": channel, "text": format!("Lead {number} sold to SafeDrive for $42.50")}).to_string(),
        "expires_at": null, "on_ambiguous": "retry", "source_topic": "e", "source_partition": 0, "source_offset": 0,
        "sealed": null, "account_id": null, "region": null, "digest_after": null, "max_rate": null, "thread": false,
    });
    let is_job = !is_on_trial(number % rules);
    Match {
        job: serde_json::from_value(text).expect("the fields of a job"),
        is_job,
        results: match (is_job, number % 10) {
            (false, _) => &[Shadowed],
            (true, 0) => &[Retry, Sent],
            (true, _) => &[Sent],
        },
    }
}

impl Match {
    /// An outcome of the job, which is at a place; of a match that never was a job, without one.
    pub(crate) fn outcome(&self, result: OutcomeResult, at: i64, (partition, offset): (i32, i64)) -> Outcome {
        Outcome {
            job_partition: self.is_job.then_some(partition),
            job_offset: self.is_job.then_some(offset),
            ..self.job.outcome(result, at)
        }
    }
}
