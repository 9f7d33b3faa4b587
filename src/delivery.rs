//! Deliveries: what a match becomes, and how that ends.
//!
//! [`plan`] renders a match into a [`DeliveryJob`], or into the outcome that ends it at once; a sender settles each
//! job with one final [`Outcome`]. [`codec`] writes and reads both. [`lane`] keeps order, [`limit`] keeps rates, and
//! [`dispatch`] puts the two together: it decides when a job may start. [`ledger`] keeps what is ours and what Kafka
//! has, and [`sending`] joins it with the dispatch. All of it is pure: `now` is an argument.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use crate::action::clevertap::Account;
use crate::action::{ActionType, Address, LaneOf, OnAmbiguous};
use crate::credential::one_spelling;
use crate::lead::EventId;
use crate::reason::Reason;
use crate::rules::{RuleId, is_rule_id};

pub mod backlog;
pub mod codec;
pub mod dispatch;
pub mod lane;
pub mod ledger;
pub mod limit;
pub mod number;
pub mod offsets;
pub mod plan;
pub mod recall;
pub mod sending;
pub mod sent;

pub use codec::{Codec, Fingerprint, Needs, Unreadable};

static NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| {
    let schema: serde_json::Value = serde_json::from_str(codec::JOB).expect("the schema is JSON");
    let namespace = schema["job_id_namespace"]
        .as_str()
        .expect("the schema fixes the namespace");
    namespace.parse().expect("the namespace is a UUID")
});

/// The job id of (event, rule): the same whatever the rule's version or the number of replays.
pub fn job_id(EventId(event_id): EventId<'_>, RuleId(rule_id): RuleId<'_>) -> Uuid {
    let mut hash = Sha1::new_with_prefix(NAMESPACE.as_bytes());
    hash.update(event_id);
    hash.update("\n");
    hash.update(rule_id);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}

fn lane_id(credential: &str, apart: Option<&str>) -> String {
    match apart {
        Some(apart) => format!("{credential}/{apart}"),
        None => credential.to_owned(),
    }
}

/// The lane of all jobs of a rule.
pub fn lane_of(action: ActionType, address: &Address<'_>) -> String {
    let apart = match (action.lane(), address.account) {
        (LaneOf::Destination, _) if address.destination.is_empty() => None,
        (LaneOf::Destination, _) => Some(address.destination),
        (LaneOf::Credential, Some(Account::Own(own))) => Some(&*own.account_id),
        (LaneOf::Credential, _) => None,
    };
    lane_id(&address.credential, apart)
}

/// The credential that the key of a job's record names, in a form that can be shown to people.
pub fn credential_in(key: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(key).ok()?;
    let plain = text.len() <= 256 && !text.contains(char::is_control);
    (plain && text.contains(':')).then_some(text)
}

/// One match, rendered and addressed. See `schemas/delivery_job.avsc` for the fields. Its texts may be borrowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryJob<S = String> {
    pub job_id: S,
    pub event_id: S,
    pub rule_id: S,
    pub rule_version: i64,
    pub lead_id: S,
    pub trigger: S,
    pub action: ActionType,
    pub credential: S,
    pub destination: S,
    pub body: S,
    /// Epoch milliseconds, as are all times here.
    pub occurred_at: i64,
    pub expires_at: Option<i64>,
    pub on_ambiguous: OnAmbiguous,
    pub source_topic: S,
    pub source_partition: i32,
    pub source_offset: i64,
    /// The ciphertext of the credential, where the rule carries it sealed.
    pub sealed: Option<S>,
    /// A CleverTap account that the rule itself describes.
    pub account_id: Option<S>,
    pub region: Option<S>,
    /// Milliseconds.
    pub digest_after: Option<i64>,
    pub max_rate: Option<S>,
    pub thread: bool,
}

/// How a job ended, or where it stands. See `schemas/delivery_outcome.avsc` for the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "DeliveryOutcome")]
pub struct Outcome {
    pub job_id: String,
    pub event_id: String,
    pub rule_id: String,
    pub rule_version: i64,
    pub lead_id: String,
    pub lane: String,
    pub attempt: i32,
    pub result: OutcomeResult,
    pub reason: Option<String>,
    pub status: Option<i32>,
    pub words: Option<String>,
    pub message_id: Option<String>,
    pub started_at: Option<i64>,
    pub ended_at: i64,
    pub next_at: Option<i64>,
    pub job_partition: Option<i32>,
    pub job_offset: Option<i64>,
    /// What is frozen until `next_at`: `lane` or `credential`.
    pub scope: Option<String>,
    pub thread_ts: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeResult {
    Sent,
    Digested,
    Duplicate,
    Expired,
    Skipped,
    Shadowed,
    Cancelled,
    Dead,
    Retry,
    Throttled,
}

impl OutcomeResult {
    pub const ALL: [Self; 10] = [
        Self::Sent,
        Self::Digested,
        Self::Duplicate,
        Self::Expired,
        Self::Skipped,
        Self::Shadowed,
        Self::Cancelled,
        Self::Dead,
        Self::Retry,
        Self::Throttled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Digested => "digested",
            Self::Duplicate => "duplicate",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
            Self::Shadowed => "shadowed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
            Self::Retry => "retry",
            Self::Throttled => "throttled",
        }
    }

    /// Whether the job is settled by it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Retry | Self::Throttled)
    }
}

impl DeliveryJob {
    /// What the headers and the key of its record say of a job that a newer version wrote. It is of no channel, so
    /// that its lane is its credential.
    pub fn of_headers(event_id: &str, rule_id: &str, job_id: &str, credential: &str) -> Self {
        // It is held whatever it is; its credential's other jobs are paced as they should be.
        let action = ActionType::of_credential(credential).unwrap_or(ActionType::SlackWebhook);
        Self {
            job_id: job_id.to_owned(),
            event_id: event_id.to_owned(),
            rule_id: rule_id.to_owned(),
            rule_version: -1,
            lead_id: String::new(),
            trigger: String::new(),
            action,
            credential: one_spelling(credential).into_owned(),
            destination: String::new(),
            body: String::new(),
            occurred_at: 0,
            expires_at: None,
            on_ambiguous: OnAmbiguous::default(),
            source_topic: String::new(),
            source_partition: -1,
            source_offset: -1,
            sealed: None,
            account_id: None,
            region: None,
            digest_after: None,
            max_rate: None,
            thread: false,
        }
    }

    /// The one job that stands for many of a rule and a lane, oldest first: the first of them with a body for all.
    /// `None` where the action has no such message.
    pub fn digest(jobs: &[Arc<Self>]) -> Option<Self> {
        let first = jobs.first()?;
        let messages: Vec<(i64, &str)> = jobs.iter().map(|job| (job.occurred_at, job.body.as_str())).collect();
        Some(Self {
            body: first.action.digest(&first.rule_id, &messages)?,
            ..Self::clone(first)
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        Codec::shipped().write_job(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        Codec::shipped().read_job(bytes)
    }

    /// Its ids stand whole in every outcome and dead letter of it.
    fn check_ids(&self) -> Result<(), &'static str> {
        if Uuid::try_parse(&self.job_id).is_err() {
            return Err("job_id must be a UUID");
        }
        if !is_rule_id(&self.rule_id) {
            return Err("rule_id must be 1 to 64 of a-z, 0-9 and -, not starting with -");
        }
        if !(1..=256).contains(&self.event_id.len()) {
            return Err("event_id must have 1 to 256 bytes");
        }
        Ok(())
    }
}

impl<S: AsRef<str>> DeliveryJob<S> {
    /// The lane's id: the credential's, and behind it the destination where each has a lane of its own, or the id of an
    /// account that the rule itself describes.
    pub fn lane(&self) -> String {
        let apart = match self.action.lane() {
            LaneOf::Destination => Some(self.destination.as_ref()).filter(|destination| !destination.is_empty()),
            LaneOf::Credential => self.account_id.as_ref().map(S::as_ref),
        };
        lane_id(self.credential.as_ref(), apart)
    }

    /// The ids of what is written about the job, as headers.
    pub fn ids(&self) -> [(&'static str, &str); 3] {
        ids(self.event_id.as_ref(), self.rule_id.as_ref(), self.job_id.as_ref())
    }

    /// An outcome of this job; attempt and provider's answer are the caller's to add.
    pub fn outcome(&self, result: OutcomeResult, now: i64) -> Outcome {
        let text = |text: &S| text.as_ref().to_owned();
        Outcome {
            job_id: text(&self.job_id),
            event_id: text(&self.event_id),
            rule_id: text(&self.rule_id),
            rule_version: self.rule_version,
            lead_id: text(&self.lead_id),
            lane: self.lane(),
            attempt: 0,
            result,
            reason: None,
            status: None,
            words: None,
            message_id: None,
            started_at: None,
            ended_at: now,
            next_at: None,
            job_partition: None,
            job_offset: None,
            scope: None,
            thread_ts: None,
        }
    }
}

/// How much of an outcome is written, where its topic doesn't take all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Whole,
    ShortWords,
    NoWords,
    /// Only what says which job it is of and how that ended.
    Ids,
}

impl Cut {
    pub const ALL: [Self; 4] = [Self::Whole, Self::ShortWords, Self::NoWords, Self::Ids];

    /// The next that is shorter.
    pub fn shorter(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::ShortWords),
            Self::ShortWords => Some(Self::NoWords),
            Self::NoWords => Some(Self::Ids),
            Self::Ids => None,
        }
    }
}

/// What is left of words that are cut short, in characters.
const SHORT_WORDS: usize = 100;
/// What is left of a text that is no id of ours, in characters.
const SHORT_TEXT: usize = 64;

impl Outcome {
    /// The outcome as far as it is written.
    pub fn cut(&self, cut: Cut) -> Cow<'_, Self> {
        if cut == Cut::Whole {
            return Cow::Borrowed(self);
        }
        let start = |text: &str, most| text.chars().take(most).collect::<String>();
        let mut short = self.clone();
        short.words = match cut {
            Cut::ShortWords => self.words.as_deref().map(|words| start(words, SHORT_WORDS)),
            _ => None,
        };
        if cut == Cut::Ids {
            (short.message_id, short.thread_ts) = (None, None);
            for text in [&mut short.lead_id, &mut short.lane, &mut short.event_id] {
                *text = start(text, SHORT_TEXT);
            }
        }
        Cow::Owned(short)
    }

    /// The ids of what is written about the outcome's job, as headers.
    pub fn ids(&self) -> [(&'static str, &str); 3] {
        ids(&self.event_id, &self.rule_id, &self.job_id)
    }

    pub fn encode(&self) -> Vec<u8> {
        Codec::shipped().write_outcome(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        Codec::shipped().read_outcome(bytes)
    }

    #[must_use]
    pub fn because(mut self, reason: Reason, words: impl Into<String>) -> Self {
        self.reason = Some(reason.as_str().to_owned());
        self.words = Some(words.into());
        self
    }
}

fn ids<'i>(event_id: &'i str, rule_id: &'i str, job_id: &'i str) -> [(&'static str, &'i str); 3] {
    [("event-id", event_id), ("rule-id", rule_id), ("job-id", job_id)]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn job() -> DeliveryJob {
        DeliveryJob {
            job_id: job_id(EventId("e-1"), RuleId("r-1")).to_string(),
            event_id: "e-1".into(),
            rule_id: "r-1".into(),
            rule_version: 7,
            lead_id: "84512377".into(),
            trigger: "lms.lead_sold".into(),
            action: ActionType::SlackMessage,
            credential: "slack:sales-bot".into(),
            destination: "C0123SALES".into(),
            body: r#"{"channel":"C0123SALES","text":"hi"}"#.into(),
            occurred_at: 1_772_723_760_123,
            expires_at: Some(1_772_723_770_000),
            on_ambiguous: OnAmbiguous::Dead,
            source_topic: "lead-events".into(),
            source_partition: 3,
            source_offset: 42,
            sealed: Some("f00d.c2VhbGVk".into()),
            account_id: None,
            region: None,
            digest_after: Some(60_000),
            max_rate: Some("20/h".into()),
            thread: true,
        }
    }

    #[test]
    fn a_job_id_is_a_uuid_of_version_5() {
        for (event, rule) in [("e-1", "r-1"), (&*"é".repeat(128), "a"), ("", "")] {
            let name = format!("{event}\n{rule}");
            assert_eq!(
                job_id(EventId(event), RuleId(rule)),
                Uuid::new_v5(&NAMESPACE, name.as_bytes())
            );
        }
    }

    #[test]
    fn a_held_job_paces_its_credential_as_the_messages_behind_it_need() {
        let limits = crate::config::Config::default().limits();
        for (credential, action) in [
            ("slack:bot", ActionType::SlackMessage),
            ("webhook:hook", ActionType::SlackWebhook),
            ("clevertap:acme", ActionType::ClevertapEvent),
        ] {
            let held = DeliveryJob::of_headers("e-1", "r-1", "j-1", credential);
            assert_eq!(held.lane(), credential);
            let pacing = |action: ActionType| action.pacing(&limits, credential, "");
            assert_eq!(pacing(held.action), pacing(action), "{credential}");
        }
        assert_eq!(DeliveryJob::of_headers("e-1", "r-1", "j-1", "new:x").lane(), "new:x");
    }

    #[test]
    fn a_job_with_an_id_that_none_of_ours_has_is_no_job() {
        let long = "é".repeat(200_000);
        let spoilt: [fn(&mut DeliveryJob, &str); 3] = [
            |job, text| job.job_id = text.to_owned(),
            |job, text| job.rule_id = text.to_owned(),
            |job, text| job.event_id = text.to_owned(),
        ];
        for spoil in spoilt {
            for text in [&long, ""] {
                let mut job = job();
                spoil(&mut job, text);
                let read = DeliveryJob::decode(&job.encode());
                assert!(matches!(read, Err(Unreadable::Id(_))), "{read:?}");
            }
        }
        // The ids bound the smallest outcome.
        let mut job = job();
        (job.event_id, job.rule_id) = ("e".repeat(256), "r".repeat(64));
        (job.lead_id, job.destination) = (long.clone(), long);
        let job = DeliveryJob::decode(&job.encode()).unwrap();
        let outcome = job.outcome(OutcomeResult::Dead, 5);
        assert!(outcome.cut(Cut::Ids).encode().len() < 1_000);
    }

    #[test]
    fn an_outcome_that_is_cut_keeps_its_job_and_how_that_ended() {
        let mut outcome = job().outcome(OutcomeResult::Sent, 5);
        let long = "é".repeat(100_000);
        outcome.words = Some(long.clone());
        (outcome.message_id, outcome.thread_ts) = (Some(long.clone()), Some(long.clone()));
        (outcome.lead_id, outcome.lane) = (long.clone(), long);
        let mut sizes = Vec::new();
        for cut in Cut::ALL {
            let bytes = outcome.cut(cut).encode();
            let read = Outcome::decode(&bytes).unwrap();
            assert_eq!((&read.job_id, read.result), (&outcome.job_id, OutcomeResult::Sent));
            sizes.push(bytes.len());
        }
        assert!(sizes.is_sorted_by(|larger, smaller| larger > smaller), "{sizes:?}");
        assert!(sizes[3] < 512, "{sizes:?}");
        assert_eq!(Cut::Whole.shorter(), Some(Cut::ShortWords));
        assert_eq!(Cut::Ids.shorter(), None);
    }

    #[test]
    fn the_job_id_is_the_uuid_of_event_and_rule() {
        // python3 -c "import uuid; print(uuid.uuid5(uuid.UUID('7c1f0a9e-3d0b-5a52-9a39-6d0f3f2b8e11'), 'e-1\nr-1'))"
        assert_eq!(
            job_id(EventId("e-1"), RuleId("r-1")).to_string(),
            "7fb2cd34-f4da-5f5f-911b-265780569f3b"
        );
        assert_ne!(
            job_id(EventId("e-1"), RuleId("r-1")),
            job_id(EventId("e-1r"), RuleId("-1"))
        );
    }
}
