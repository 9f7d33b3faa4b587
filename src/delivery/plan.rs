//! Planning: one match becomes one delivery job, or the outcome that ends it at once.

use std::time::Duration;

use uuid::fmt::Hyphenated;

use super::{DeliveryJob, Outcome, OutcomeResult, job_id};
use crate::action::clevertap::Account;
use crate::action::{Address, Rendered};
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

/// The result of a match; a job's texts may be borrowed.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned<S = String> {
    Job(DeliveryJob<S>),
    /// Settled on the spot: `skipped` or `shadowed`.
    Settled(Outcome),
    /// The event becomes a dead letter, `template_failed`.
    Failed {
        outcome: Outcome,
        detail: String,
    },
}

/// The texts of a job that stand neither in its event nor in its rule. Who plans many jobs keeps one, so that the next
/// job's texts take the room of the last one's.
#[derive(Debug, Default)]
pub struct Texts {
    job_id: String,
    credential: String,
    rendered: Rendered,
}

/// Plans one match. `now` is in epoch milliseconds.
pub fn plan(event: &LeadEvent<'_>, matched: &Versioned, source: Source<'_>, now: i64) -> Planned {
    plan_in(&mut Texts::default(), event, matched, source, now)
}

/// The same; the job's texts are borrowed where `S` is a `&str`, and `texts` holds what is made for it.
pub fn plan_in<'p, S: From<&'p str> + AsRef<str>>(
    texts: &'p mut Texts,
    event: &'p LeadEvent<'_>,
    matched: &'p Versioned,
    source: Source<'p>,
    now: i64,
) -> Planned<S> {
    let rule = &matched.rule;
    let rendered = rule
        .action
        .kind
        .render(event, rule.action.on_missing, &mut texts.rendered);
    let job: DeliveryJob<S> = job(texts, event, matched, source);
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
    let (mut now, address) = (job.clone(), rule.action.kind.address());
    authenticate(&mut now, &address);
    now.credential.clone_from(&address.credential);
    (credential::kind(&now.credential) == credential::kind(&job.credential) && now != *job).then_some(now)
}

/// What the job's credential is opened with, as its rule says it.
fn authenticate<'r, S: From<&'r str>>(job: &mut DeliveryJob<S>, address: &Address<'r>) {
    job.sealed = address.sealed.map(|sealed| sealed.as_str().into());
    (job.account_id, job.region) = match address.account {
        Some(Account::Own(own)) => (Some(own.account_id.as_str().into()), Some(own.region.as_str().into())),
        Some(Account::Named(_)) | None => (None, None),
    };
}

/// The job that has been rendered into `texts`.
fn job<'p, S: From<&'p str>>(
    texts: &'p mut Texts,
    event: &'p LeadEvent<'_>,
    matched: &'p Versioned,
    source: Source<'p>,
) -> DeliveryJob<S> {
    let rule = &matched.rule;
    let kind = &rule.action.kind;
    let mut address = kind.address_in(std::mem::take(&mut texts.credential));
    texts.credential = std::mem::take(&mut address.credential);
    let id = job_id(EventId(&event.event_id), RuleId(&rule.id)).hyphenated();
    texts.job_id.clear();
    texts.job_id.push_str(id.encode_lower(&mut [0; Hyphenated::LENGTH]));
    let destination = match &*texts.rendered.destination {
        "" => address.destination,
        said => said,
    };
    let occurred_at = event.occurred_at.as_millisecond();
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let expires_after = rule.action.expires_after.map(millis);
    let pace = kind.pace();
    let mut job = DeliveryJob {
        job_id: S::from(texts.job_id.as_str()),
        event_id: S::from(&*event.event_id),
        rule_id: S::from(&*rule.id),
        rule_version: matched.version,
        lead_id: S::from(&*event.lead_id),
        trigger: S::from(&*event.trigger),
        action: kind.action(),
        credential: S::from(texts.credential.as_str()),
        destination: S::from(destination),
        body: S::from(texts.rendered.body.as_str()),
        occurred_at,
        expires_at: expires_after.map(|after| occurred_at.saturating_add(after)),
        on_ambiguous: rule.action.on_ambiguous,
        source_topic: S::from(source.topic),
        source_partition: source.partition,
        source_offset: source.offset,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: pace.and_then(|pace| pace.digest_after).map(millis),
        max_rate: pace.and_then(|pace| pace.max_rate.as_deref()).map(S::from),
        thread: pace.is_some_and(|pace| pace.thread),
    };
    authenticate(&mut job, &address);
    job
}

#[cfg(test)]
mod tests;
