//! Planning: one match becomes one delivery job, or the outcome that says why there is none.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{ActionType, DeliveryJob, OnAmbiguous, Outcome, OutcomeResult, job_id};
use crate::lead::{EventId, LeadEvent};
use crate::reason::Reason;
use crate::rules::clevertap::is_charged;
use crate::rules::{
    self, Account, Action, ActionKind, OverLong, Properties, Rule, RuleId, Status, To, User, Versioned,
};
use crate::template::{OnMissing, Stop, Template};
use crate::{dates, ids};

mod kinds;
mod properties;

use properties::Form;

/// Characters of a Slack text. What is longer Slack splits into several messages, or cuts without a word. We send neither
/// `parse` nor `link_names`, with which Slack would read mentions out of plain text.
pub const SLACK_TEXT_MAX: usize = 4000;

/// The start of the years 2000 and 2100 in epoch seconds.
const TS_MIN: i64 = 946_684_800;
const TS_MAX: i64 = 4_102_444_800;

/// Where an event was read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'s> {
    pub topic: &'s str,
    pub partition: i32,
    pub offset: i64,
}

/// What a match becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    Job(DeliveryJob),
    /// Settled on the spot: `skipped` or `shadowed`.
    Settled(Outcome),
    /// The event becomes a dead letter, `template_failed`.
    Failed {
        outcome: Outcome,
        detail: String,
    },
}

/// Plans one match. `now` is in epoch milliseconds.
pub fn plan(event: &LeadEvent<'_>, matched: &Versioned, source: Source<'_>, now: i64) -> Planned {
    let rule = &matched.rule;
    let mut job = address(event, matched, source);
    let rendered = render(event, rule).map(|(destination, body)| {
        if let Some(destination) = destination {
            job.destination = destination;
        }
        job.body = body;
    });
    match rendered {
        Ok(()) if rule.status == Status::Shadow => Planned::Settled(job.outcome(OutcomeResult::Shadowed, now)),
        Ok(()) => Planned::Job(job),
        Err(Stop::Skip { path }) => {
            let mut outcome = job.outcome(OutcomeResult::Skipped, now);
            outcome.words = Some(path);
            Planned::Settled(outcome)
        }
        Err(Stop::Fail { detail }) => {
            let outcome = job
                .outcome(OutcomeResult::Dead, now)
                .because(Reason::TemplateFailed, detail.as_str());
            Planned::Failed {
                outcome,
                detail: format!("rule {}: {detail}", rule.id),
            }
        }
    }
}

/// `job` with what its rule authenticates with now. `None` where that hasn't changed, or where the
/// rule acts otherwise than the job does.
pub fn readdress(job: &DeliveryJob, rule: &Rule) -> Option<DeliveryJob> {
    let kind = &rule.action.kind;
    let same_api = match job.action {
        ActionType::ClevertapProfile | ActionType::ClevertapEvent => kind.account().is_some(),
        action => action.as_str() == kind.as_str(),
    };
    let mut now = job.clone();
    access(&mut now, kind);
    (same_api && now != *job).then_some(now)
}

/// What the job authenticates with, as its rule says.
fn access(job: &mut DeliveryJob, kind: &ActionKind) {
    job.credential = kind.credential();
    job.sealed = kind.sealed().map(|sealed| sealed.as_str().to_owned());
    (job.account_id, job.region) = match kind.account() {
        Some(Account::Own { account_id, region, .. }) => (Some(account_id.clone()), Some(region.clone())),
        _ => (None, None),
    };
}

/// The job with all that is known before anything is rendered.
fn address(event: &LeadEvent<'_>, matched: &Versioned, source: Source<'_>) -> DeliveryJob {
    let rule = &matched.rule;
    let (action, destination) = match &rule.action.kind {
        ActionKind::SlackMessage {
            to: To::Channel(to) | To::Member(to),
            ..
        } => (ActionType::SlackMessage, to.clone()),
        ActionKind::SlackWebhook { .. } => (ActionType::SlackWebhook, String::new()),
        ActionKind::ClevertapProfile { .. } => (ActionType::ClevertapProfile, String::new()),
        ActionKind::ClevertapEvent { .. } => (ActionType::ClevertapEvent, String::new()),
    };
    let occurred_at = event.occurred_at.as_millisecond();
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let expires_after = rule.action.expires_after.map(millis);
    let pace = rule.action.kind.pace().cloned().unwrap_or_default();
    let mut job = DeliveryJob {
        job_id: job_id(EventId(&event.event_id), RuleId(&rule.id)).to_string(),
        event_id: event.event_id.to_string(),
        rule_id: rule.id.to_string(),
        rule_version: matched.version,
        lead_id: event.lead_id.to_string(),
        trigger: event.trigger.to_string(),
        action,
        credential: String::new(),
        destination,
        body: String::new(),
        occurred_at,
        expires_at: expires_after.map(|after| occurred_at.saturating_add(after)),
        on_ambiguous: match rule.action.on_ambiguous {
            rules::OnAmbiguous::Retry => OnAmbiguous::Retry,
            rules::OnAmbiguous::Dead => OnAmbiguous::Dead,
        },
        source_topic: source.topic.to_owned(),
        source_partition: source.partition,
        source_offset: source.offset,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: pace.digest_after.map(millis),
        max_rate: pace.max_rate,
        thread: matches!(rule.action.kind, ActionKind::SlackMessage { thread: true, .. }),
    };
    access(&mut job, &rule.action.kind);
    job
}

/// The request's body, and the destination where rendering decides it.
fn render(event: &LeadEvent<'_>, rule: &Rule) -> Result<(Option<String>, String), Stop> {
    let Action { kind, on_missing, .. } = &rule.action;
    match kind {
        ActionKind::SlackMessage {
            to: To::Channel(to) | To::Member(to),
            text,
            unfurl,
            over_long,
            ..
        } => {
            let mut body = Map::new();
            body.insert("channel".into(), to.as_str().into());
            body.insert("text".into(), slack_text(event, text, *on_missing, *over_long)?.into());
            if let Some(unfurl) = unfurl {
                body.insert("unfurl_links".into(), (*unfurl).into());
                body.insert("unfurl_media".into(), (*unfurl).into());
            }
            Ok((None, Value::Object(body).to_string()))
        }
        ActionKind::SlackWebhook {
            text,
            channel,
            username,
            icon_url,
            over_long,
            ..
        } => {
            let mut body = Map::new();
            body.insert("text".into(), slack_text(event, text, *on_missing, *over_long)?.into());
            for (name, value) in [("channel", channel), ("username", username), ("icon_url", icon_url)] {
                if let Some(value) = value {
                    body.insert(name.into(), value.as_str().into());
                }
            }
            Ok((None, Value::Object(body).to_string()))
        }
        ActionKind::ClevertapProfile {
            user,
            created_at,
            properties,
            ..
        } => record(
            event,
            "profile",
            user,
            created_at.as_ref(),
            None,
            ("profileData", properties),
            *on_missing,
        ),
        ActionKind::ClevertapEvent {
            user,
            created_at,
            event_name,
            properties,
            ..
        } => record(
            event,
            "event",
            user,
            created_at.as_ref(),
            Some(event_name),
            ("evtData", properties),
            *on_missing,
        ),
    }
}

fn slack_text(
    event: &LeadEvent<'_>,
    text: &Template,
    on_missing: OnMissing,
    over_long: OverLong,
) -> Result<String, Stop> {
    let rendered = text.render_slack(event, on_missing, SLACK_TEXT_MAX)?;
    if rendered.text.trim().is_empty() {
        // Slack would refuse it with no_text.
        return Err(Stop::Skip {
            path: "the text came out blank".to_owned(),
        });
    }
    if rendered.is_cut && over_long == OverLong::Fail {
        return Err(Stop::Fail {
            detail: format!("text: is longer than {SLACK_TEXT_MAX} characters"),
        });
    }
    Ok(rendered.text)
}

fn record(
    event: &LeadEvent<'_>,
    kind: &str,
    user: &User,
    created_at: Option<&Template>,
    event_name: Option<&Template>,
    (properties_key, properties): (&str, &Properties),
    on_missing: OnMissing,
) -> Result<(Option<String>, String), Stop> {
    let needed = |name: &str, template: &Template| {
        let text = template.render_id(event, on_missing).map_err(|stop| stop.at(name))?;
        match text.trim() {
            "" => Err(Stop::Fail {
                detail: format!("{name}: {} is missing", template.as_str()),
            }),
            text => Ok(text.to_owned()),
        }
    };
    let (key, name, template) = match user {
        User::Identity(template) => ("identity", "identity", template),
        User::ObjectId(template) => ("objectId", "object_id", template),
    };
    let identity = needed(name, template)?;
    if let Some(why) = ids::wrong_identity(&identity) {
        return Err(Stop::Fail {
            detail: format!("{name}: {} {why}", template.as_str()),
        });
    }
    let ts = timestamp(event, created_at)?;
    let mut record = Map::new();
    record.insert("type".into(), kind.into());
    record.insert(key.into(), identity.as_str().into());
    record.insert("ts".into(), ts.into());
    if let Some(event_name) = event_name {
        record.insert("evtName".into(), needed("event_name", event_name)?.into());
    }
    // Items of a purchase are the only list that an event may have.
    let form = match record.get("evtName").and_then(Value::as_str) {
        None => Form::Profile,
        Some(name) if is_charged(name) => Form::Purchase,
        Some(_) => Form::Event,
    };
    record.insert(
        properties_key.into(),
        properties::render(event, properties, form, on_missing)?,
    );
    Ok((Some(identity), Value::Object(record).to_string()))
}

/// When it happened, in epoch seconds. CleverTap takes years of which nobody sends an event: they come from numbers
/// that count something else, and what is kept under a wrong time stays.
fn timestamp(event: &LeadEvent<'_>, created_at: Option<&Template>) -> Result<i64, Stop> {
    let (place, created) = match created_at {
        Some(template) => (
            format!("created_at: {}", template.as_str()),
            template.render_time(event)?,
        ),
        None => ("occurred_at".to_owned(), event.occurred_at),
    };
    let ts = dates::epoch_seconds(created);
    if (TS_MIN..=TS_MAX).contains(&ts) {
        return Ok(ts);
    }
    Err(Stop::Fail {
        detail: format!("{place} is not between the years 2000 and 2100; look at the unit and the form of the date"),
    })
}

#[cfg(test)]
mod tests;
