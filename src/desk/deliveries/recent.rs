//! Deliveries from memory: lists, and the life of one job by the places of its records.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Life, Stands, find, job, outcome};
use crate::config::Config;
use crate::delivery::{DeliveryJob, OutcomeResult};
use crate::desk::Error;
use crate::desk::newer::Newer;
use crate::desk::page::{Page, Place};
use crate::desk::resident::deliveries::{Asked, Delivery, Records};
use crate::desk::resident::{Resident, Topic};
use crate::desk::scan::Scanner;
use crate::kafka::scan::CLOCKS_DIFFER;

/// Deliveries that are asked for, newest first. `now` is in epoch milliseconds.
pub fn recent(resident: &Resident, asked: &Asked, after: Option<Place>, limit: usize, now: i64) -> Page<Delivery> {
    let asked = Asked {
        waiting_since: Some(waiting_since(resident.config(), now)),
        ..asked.clone()
    };
    let deliveries = resident.deliveries();
    Page::of(deliveries.newest(&asked, after), limit)
}

/// How many jobs of some rules wait.
pub fn waiting(resident: &Resident, rules: &HashSet<&str>, now: i64) -> u64 {
    let asked = Asked {
        // Of one rule it is known where to look.
        rule: (rules.len() == 1).then(|| rules.iter().copied().collect()),
        stands: vec![Stands::Waiting],
        waiting_since: Some(waiting_since(resident.config(), now)),
        ..Asked::default()
    };
    let deliveries = resident.deliveries();
    let waiting = deliveries.newest(&asked, None);
    waiting
        .filter(|(_, delivery)| rules.contains(&*delivery.rule_id))
        .count() as u64
}

/// A job that was written before this can't wait any more: senders make a dead letter of one so old.
fn waiting_since(config: &Config, now: i64) -> i64 {
    let most = i64::try_from(config.sender.job_age_max.as_millis()).unwrap_or(i64::MAX);
    now.saturating_sub(most).saturating_sub(CLOCKS_DIFFER)
}

/// The life of one job. Where memory doesn't reach, the topics are looked through.
pub fn life(resident: &Resident, scanner: Scanner<'_>, id: &str) -> Result<Life, Error> {
    let known = {
        let deliveries = resident.deliveries();
        let known = deliveries.get(id).zip(deliveries.records(id));
        known.map(|(delivery, records)| (delivery.stands, records, deliveries.digest(id)))
    };
    let Some((stands, records, digest)) = known else {
        return find(scanner, id);
    };
    let mut life = by_place(resident, id, stands, &records)?;
    if life.outcomes.is_empty() && life.job.is_none() && life.newer.records == 0 {
        return find(scanner, id);
    }
    if stands == Stands::Is(OutcomeResult::Digested) {
        let picked = resident.pick(Topic::Jobs, &digest)?;
        let jobs = picked
            .iter()
            .map(|record| Some(Arc::new(job(record.as_ref()?, &mut Newer::default())?)));
        // With one missing it would be another text.
        let jobs: Option<Vec<Arc<DeliveryJob>>> = jobs.collect();
        life.sent = jobs.and_then(|jobs| Some(DeliveryJob::digest(&jobs)?.body));
    }
    Ok(life)
}

fn by_place(resident: &Resident, id: &str, stands: Stands, records: &Records) -> Result<Life, Error> {
    let mut newer = Newer::default();
    let picked = resident.pick(Topic::Outcomes, &records.outcomes)?;
    // In a topic that was made anew other records may stand there.
    let outcomes = picked.iter().flatten().filter_map(|record| outcome(record, &mut newer));
    let mut outcomes: Vec<_> = outcomes.filter(|outcome| outcome.job_id == id).collect();
    outcomes.sort_by_key(|outcome| outcome.ended_at);
    let picked = resident.pick(Topic::Jobs, records.job.as_slice())?.pop().flatten();
    let job = picked.and_then(|record| Some((job(&record, &mut newer)?, record)));
    let job = job.filter(|(job, _)| job.job_id == id);
    Ok(Life::of(id, outcomes, stands, newer).with_job(job))
}
