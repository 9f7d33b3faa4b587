//! Jobs that a newer version wrote and this one can't read. Each holds its credential: none of the credential's jobs
//! starts until a sender that reads the job owns the partition, or the job is too old. Other credentials go on.
//!
//! The message and the lane of such a job are unknown. Its ids and its credential come from the record's headers and
//! key. Its offset isn't settled, so the commit stays below it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Backlog, Cause, Credential, Dispatch, Entry, JobAt, Micros, Number, Payload};
use crate::delivery::codec::{Fingerprint, Needs};

/// A job of a newer version, beside what [`Payload::job`] knows of it.
#[derive(Debug, Clone)]
pub struct Newer {
    /// The record's value, which a dead letter holds as it was read.
    pub value: Arc<[u8]>,
    pub needs: Needs,
}

/// The jobs of one schema that hold a credential.
#[derive(Debug)]
struct Holding {
    jobs: Backlog,
    /// What the first of them needed.
    needs: Needs,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    by_credential: HashMap<String, HashMap<Fingerprint, Holding>>,
    /// Credentials that nothing holds any more, to be queued again.
    freed: Vec<Number<Credential>>,
}

impl Held {
    pub(super) fn holds(&self, credential: &str) -> bool {
        !self.by_credential.is_empty() && self.by_credential.contains_key(credential)
    }

    pub(super) fn has_freed(&self) -> bool {
        !self.freed.is_empty()
    }
}

impl Dispatch {
    /// Takes in a job of a newer version that [`Self::read`] said is to be accepted.
    pub fn hold(&mut self, at: JobAt, payload: &Payload, now: Micros) {
        let Some(Newer { needs, .. }) = &payload.newer else {
            return debug_assert!(false, "only a job of a newer version is held");
        };
        let class = self.class_of(&payload.job, Cause::Match);
        let by_schema = self.held.by_credential.entry(payload.job.credential.clone());
        let holding = by_schema.or_default().entry(needs.fingerprint);
        let holding = holding.or_insert_with(|| Holding {
            jobs: Backlog::default(),
            needs: needs.clone(),
        });
        holding.jobs.push_back(Entry::new(at, 0, class));
        if let Some(credential) = self.credential_by_id.get(&payload.job.credential) {
            self.queue_credential(*credential, now);
        }
    }

    /// Takes out the jobs that `take` names; they hold nothing any more.
    pub(super) fn unhold(&mut self, take: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        let (held, known) = (&mut self.held, &self.credential_by_id);
        held.by_credential.retain(|credential, by_schema| {
            by_schema.retain(|_, holding| {
                taken.extend(holding.jobs.extract(usize::MAX, &take));
                !holding.jobs.is_empty()
            });
            if by_schema.is_empty() {
                held.freed.extend(known.get(credential));
            }
            !by_schema.is_empty()
        });
        taken
    }

    /// Queues credentials that nothing holds any more.
    pub(super) fn queue_freed(&mut self, now: Micros) {
        for credential in std::mem::take(&mut self.held.freed) {
            self.queue_credential(credential, now);
        }
    }

    /// Credentials that are held, once for each schema: by how many jobs, and what it takes to read them.
    pub fn held(&self) -> impl Iterator<Item = (&str, usize, &Needs)> {
        self.held.by_credential.iter().flat_map(|(credential, by_schema)| {
            let held = by_schema.values();
            held.map(|holding| (credential.as_str(), holding.jobs.len(), &holding.needs))
        })
    }
}
