//! Takes what was read into the memory.

use super::deliveries::{Read, Spot};
use super::{Resident, Topic};
use crate::delivery::{DeliveryJob, Outcome, credential_in};
use crate::desk::newer::is_newer;
use crate::kafka::reader::Record;

impl Resident {
    /// Takes in what was read, unless the memory has started over since.
    pub(super) fn take(&self, topic: Topic, epoch: u64, records: Vec<Record>, now: i64) -> bool {
        match topic {
            Topic::Rules => {}
            Topic::Events => {
                let (schemas, mut events) = (self.schemas.read(), self.events.write());
                records
                    .into_iter()
                    .for_each(|record| events.take(record, &schemas, now));
            }
            Topic::DeadLetters => {
                let mut letters = self.letters.write();
                records
                    .into_iter()
                    .for_each(|record| letters.take(record, &self.config, now));
            }
            Topic::Audit => {
                let (mut audits, mut letters) = (self.audits.write(), self.letters.write());
                for record in records {
                    audits.take(&record, now);
                    letters.audited(record.value.as_deref().unwrap_or_default(), record.timestamp);
                }
            }
            Topic::Jobs => {
                let jobs: Vec<_> = records
                    .iter()
                    .filter_map(|record| Some((job(record)?, how(record))))
                    .collect();
                let mut of_epoch = self.deliveries.write();
                if of_epoch.epoch != epoch {
                    return false;
                }
                jobs.iter()
                    .for_each(|(job, how)| of_epoch.deliveries.job(job, *how, now));
            }
            Topic::Outcomes => {
                let read = records.iter().filter_map(|record| {
                    let outcome = Outcome::decode(record.value.as_deref()?).ok()?;
                    Some((outcome, how(record)))
                });
                let outcomes: Vec<_> = read.collect();
                let mut of_epoch = self.deliveries.write();
                if of_epoch.epoch != epoch {
                    return false;
                }
                outcomes
                    .iter()
                    .for_each(|(outcome, how)| of_epoch.deliveries.outcome(outcome, *how, now));
            }
        }
        true
    }
}

/// The job of a record; of one that a newer version wrote, what its headers and its key say.
fn job(record: &Record) -> Option<DeliveryJob> {
    match DeliveryJob::decode(record.value.as_deref()?) {
        Ok(job) => Some(job),
        Err(why) if is_newer(record, why) => {
            let ours = record.ours()?;
            let credential = credential_in(record.key.as_deref()?)?;
            let job = DeliveryJob::of_headers(&ours.event_id, &ours.rule_id, &ours.job_id, credential);
            Some(job)
        }
        Err(_) => None,
    }
}

fn how(record: &Record) -> Read {
    Read {
        spot: Spot {
            partition: record.partition,
            offset: record.offset,
        },
        written_at: record.timestamp,
        is_test: record.header("test") == Some("true"),
        is_replay: record.header("replay-of").is_some(),
    }
}
