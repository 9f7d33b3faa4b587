//! Planning: one match becomes one delivery job, or the outcome that ends it at once.

use std::time::Duration;

use super::{DeliveryJob, Outcome, OutcomeResult, job_id};
use crate::action::Address;
use crate::action::clevertap::Account;
use crate::credential;
use crate::lead::{EventId, LeadEvent};
use crate::reason::Reason;
use crate::rules::{Rule, RuleId, Status, Versioned};
use crate::template::Stop;

/// Where an event was read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'s> {
    pub topic: &'s str,
    pub partition: i32,
    pub offset: i64,
}

/// The result of a match.
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
    let rendered = rule.action.kind.render(event, rule.action.on_missing).map(|rendered| {
        job.body = rendered.body;
        if let Some(destination) = rendered.destination {
            job.destination = destination;
        }
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
/// rule has another kind of credential than the job.
pub fn readdress(job: &DeliveryJob, rule: &Rule) -> Option<DeliveryJob> {
    let mut now = job.clone();
    authenticate(&mut now, rule.action.kind.address());
    (credential::kind(&now.credential) == credential::kind(&job.credential) && now != *job).then_some(now)
}

/// The credential of the job, as its rule names it.
fn authenticate(job: &mut DeliveryJob, address: Address<'_>) {
    job.credential = address.credential;
    job.sealed = address.sealed.map(|sealed| sealed.as_str().to_owned());
    (job.account_id, job.region) = match address.account {
        Some(Account::Own(own)) => (Some(own.account_id.clone()), Some(own.region.clone())),
        Some(Account::Named(_)) | None => (None, None),
    };
}

/// The job with all that is known before anything is rendered.
fn address(event: &LeadEvent<'_>, matched: &Versioned, source: Source<'_>) -> DeliveryJob {
    let rule = &matched.rule;
    let address = rule.action.kind.address();
    let occurred_at = event.occurred_at.as_millisecond();
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let expires_after = rule.action.expires_after.map(millis);
    let mut job = DeliveryJob {
        job_id: job_id(EventId(&event.event_id), RuleId(&rule.id)).to_string(),
        event_id: event.event_id.to_string(),
        rule_id: rule.id.to_string(),
        rule_version: matched.version,
        lead_id: event.lead_id.to_string(),
        trigger: event.trigger.to_string(),
        action: rule.action.kind.action(),
        credential: String::new(),
        destination: address.destination.to_owned(),
        body: String::new(),
        occurred_at,
        expires_at: expires_after.map(|after| occurred_at.saturating_add(after)),
        on_ambiguous: rule.action.on_ambiguous,
        source_topic: source.topic.to_owned(),
        source_partition: source.partition,
        source_offset: source.offset,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: address.pace.digest_after.map(millis),
        max_rate: address.pace.max_rate.as_deref().map(str::to_owned),
        thread: address.pace.thread,
    };
    authenticate(&mut job, address);
    job
}

#[cfg(test)]
mod tests;
