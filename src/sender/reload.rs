//! Records of the jobs topic: decoded as the group's thread brings them, and read again when their turn is near, in
//! runs of neighbours, on a thread of its own that needs no group.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::{Back, Loop};
use crate::config::Config;
use crate::delivery::dispatch::{Load, Newer, Payload};
use crate::delivery::lane::{Cause, JobAt};
use crate::delivery::ledger::Ownership;
use crate::delivery::sending::{Content, Event, JobRecord, NoJob};
use crate::delivery::{Codec, DeliveryJob, Needs, Unreadable, credential_in};
use crate::kafka::KafkaError;
use crate::kafka::jobs::RawJob;
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::reason::Reason;
use crate::trail;

/// Records between two wanted ones that are read rather than skipped.
const GAP: i64 = 2_000;

impl Loop {
    /// A record of the jobs topic, decoded.
    pub(super) fn job_record(&self, raw: RawJob) -> JobRecord {
        let content = match payload(&raw, self.wiring.codec) {
            Ok(payload) if payload.newer.is_some() => Ok(Content::Newer(payload)),
            Ok(payload) => {
                let host = self.wiring.destinations.host(&payload.job);
                Ok(Content::Job(payload, host))
            }
            Err(why) => Err(why),
        };
        let at = JobAt {
            partition: raw.partition,
            offset: raw.offset,
        };
        let sum = trail::sum(raw.timestamp, Some(&raw.key), Some(&raw.value));
        let (ownership, written_at) = (Ownership(raw.ownership), raw.timestamp);
        let cause = match (raw.is_test, raw.replayed) {
            (true, _) => Cause::Test,
            (false, true) => Cause::Replay,
            (false, false) => Cause::Match,
        };
        let no_job = |why: Unreadable| {
            Content::NoJob(NoJob {
                reason: match why {
                    Unreadable::UnknownSchema(_) => Reason::UnknownSchema,
                    _ => Reason::NotDecodable,
                },
                detail: why.to_string(),
                trace: raw.traceparent.as_deref().map(Arc::from),
                key: raw.key,
                value: raw.value,
            })
        };
        JobRecord {
            at,
            ownership,
            written_at,
            sum,
            job_id: raw.ours.map(|ours| ours.job_id),
            cause,
            content: content.unwrap_or_else(no_job),
        }
    }
}

/// A job as it is held in memory; of one that a newer version wrote, what its headers and its key say.
fn payload(raw: &RawJob, codec: &Codec) -> Result<Payload, Unreadable> {
    let read = codec.read_job(&raw.value);
    let another = read.as_ref().err().and_then(|why| why.of_another_version());
    let (job, newer) = match (another, &raw.ours, credential_in(&raw.key)) {
        (Some(fingerprint), Some(ours), Some(credential)) => {
            let version = ours.version.clone();
            let newer = Newer {
                value: Arc::from(&*raw.value),
                needs: Needs { fingerprint, version },
            };
            let job = DeliveryJob::of_headers(&ours.event_id, &ours.rule_id, &ours.job_id, credential);
            (job, Some(newer))
        }
        _ => (read?, None),
    };
    Ok(Payload {
        job: Arc::new(job),
        newer,
        traceparent: raw.traceparent.as_deref().map(Arc::from),
        written_at: raw.timestamp,
        // Its texts, the struct around them, and its place in the map.
        bytes: raw.value.len() + size_of::<DeliveryJob>() + 2 * size_of::<Payload>(),
    })
}

/// Starts the thread; it ends when the sender of loads is dropped.
pub(super) fn start(
    config: &Arc<Config>,
    codec: &'static Codec,
    back: UnboundedSender<Back>,
) -> anyhow::Result<Sender<Load>> {
    let mut jobs = Jobs::connect(Arc::clone(config), codec)?;
    let (loads, wanted) = channel();
    std::thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || serve(&mut jobs, &wanted, &back))?;
    Ok(loads)
}

/// The jobs topic, to be read at any place.
struct Jobs {
    config: Arc<Config>,
    codec: &'static Codec,
    reader: Reader,
}

impl Jobs {
    fn connect(config: Arc<Config>, codec: &'static Codec) -> Result<Self, KafkaError> {
        let reader = Reader::assign(&config, &config.topics.jobs, &[], Isolation::Committed)?;
        Ok(Self { config, codec, reader })
    }

    fn go_to(&self, at: &JobAt) -> Result<(), KafkaError> {
        self.reader.go_to(&self.config.topics.jobs, at.partition, at.offset)
    }

    /// The broker is away, and comes back; or the topic was made anew, which the client may never find.
    fn reconnect(&mut self) {
        tracing::warn!("jobs can't be read again: the broker is silent; trying on");
        match Self::connect(Arc::clone(&self.config), self.codec) {
            Ok(again) => *self = again,
            Err(error) => tracing::warn!(%error, "jobs can't be read again"),
        }
    }
}

fn serve(topic: &mut Jobs, wanted: &Receiver<Load>, back: &UnboundedSender<Back>) {
    loop {
        let first = match wanted.recv_timeout(Duration::from_secs(1)) {
            Ok(first) => first,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // The client has callbacks to serve.
                let _nothing_is_assigned = topic.reader.next(Duration::ZERO);
                continue;
            }
        };
        // Lanes that progress together want neighbours.
        let loads: Vec<Load> = std::iter::once(first).chain(wanted.try_iter()).collect();
        let jobs: BTreeSet<JobAt> = loads.iter().flat_map(|load| &load.jobs).copied().collect();
        let mut found = HashMap::with_capacity(jobs.len());
        for run in runs(&jobs) {
            if !read_run(topic, &run, &mut found, back) {
                return;
            }
        }
        for load in loads {
            let jobs = load.jobs.into_iter().map(|at| (at, found.get(&at).cloned())).collect();
            if back.send(Back::Event(Event::Loaded { load: load.id, jobs })).is_err() {
                return;
            }
        }
    }
}

/// Runs of wanted jobs that are near each other.
fn runs(jobs: &BTreeSet<JobAt>) -> Vec<Vec<JobAt>> {
    let mut runs: Vec<Vec<JobAt>> = Vec::new();
    for at in jobs {
        match runs.last_mut() {
            Some(run)
                if run
                    .last()
                    .is_some_and(|last| last.partition == at.partition && at.offset - last.offset <= GAP) =>
            {
                run.push(*at);
            }
            _ => runs.push(vec![*at]),
        }
    }
    runs
}

/// Reads a run. What isn't there any more is not found. `false` when nobody waits any more.
fn read_run(
    topic: &mut Jobs,
    run: &[JobAt],
    found: &mut HashMap<JobAt, Payload>,
    back: &UnboundedSender<Back>,
) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return true;
    };
    let mut silent = 0;
    if let Err(error) = topic.go_to(first) {
        tracing::warn!(%error, "jobs could not be read again");
    }
    loop {
        match topic.reader.next(Duration::from_millis(100)) {
            Next::Record(record) if record.partition != first.partition || record.offset < first.offset => {}
            Next::Record(record) => {
                silent = 0;
                let at = JobAt {
                    partition: record.partition,
                    offset: record.offset,
                };
                if run.binary_search(&at).is_ok()
                    && let Some(payload) = of_record(record, topic.codec)
                {
                    found.insert(at, payload);
                }
                if at.offset >= last.offset {
                    return true;
                }
            }
            Next::End(partition) if partition == first.partition => return true,
            Next::End(_) => {}
            Next::Denied(why) => tracing::error!("jobs can't be read again: {why}"),
            Next::Nothing => {
                silent += 1;
                if silent % 100 == 0 {
                    topic.reconnect();
                }
                if silent % 10 == 0
                    && let Err(error) = topic.go_to(first)
                {
                    tracing::debug!(%error, "no run of jobs");
                }
                if back.is_closed() {
                    return false;
                }
            }
        }
    }
}

fn of_record(record: Record, codec: &Codec) -> Option<Payload> {
    let (traceparent, ours) = (record.header("traceparent").map(str::to_owned), record.ours());
    let raw = RawJob {
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.unwrap_or_default(),
        value: record.value.unwrap_or_default(),
        traceparent,
        ours,
        replayed: false,
        is_test: false,
        ownership: 0,
    };
    payload(&raw, codec).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::codec::tests::newer;
    use crate::delivery::tests::job;
    use crate::kafka::Ours;

    fn raw(key: &[u8], value: Vec<u8>, ours: Option<Ours>) -> RawJob {
        RawJob {
            partition: 0,
            offset: 7,
            timestamp: 5,
            key: key.to_vec(),
            value,
            traceparent: None,
            ours,
            replayed: false,
            is_test: false,
            ownership: 1,
        }
    }

    #[test]
    fn of_a_newer_version_is_what_has_our_headers_and_a_credential() {
        let (codec, job) = (Codec::shipped(), job());
        let ours = Ours {
            event_id: job.event_id.clone(),
            rule_id: job.rule_id.clone(),
            job_id: job.job_id.clone(),
            version: Some("9.1.0".into()),
        };
        let (own, next) = (job.encode(), newer().write_job(&job));
        let read = payload(&raw(b"slack:sales-bot", own.clone(), None), codec).unwrap();
        assert!(*read.job == job && read.newer.is_none());
        let held = payload(&raw(b"slack:sales-bot", next.clone(), Some(ours.clone())), codec).unwrap();
        let of_it = held.newer.expect("a newer version wrote it");
        assert_eq!(*of_it.value, *next);
        assert_eq!(of_it.needs.version.as_deref(), Some("9.1.0"));
        assert_eq!(
            (&held.job.job_id, held.job.lane()),
            (&job.job_id, "slack:sales-bot".to_owned())
        );
        let refused = |key: &[u8], value: &[u8], ours: &Option<Ours>| {
            payload(&raw(key, value.to_vec(), ours.clone()), codec).unwrap_err()
        };
        let (ours, long) = (Some(ours), format!("slack:{}", "b".repeat(300)));
        assert!(matches!(
            refused(b"slack:b", &next, &None),
            Unreadable::UnknownSchema(_)
        ));
        for key in [&b""[..], b"slack", b"slack:\n", b"\xff:", long.as_bytes()] {
            assert!(matches!(refused(key, &next, &ours), Unreadable::UnknownSchema(_)));
        }
        assert_eq!(refused(b"slack:b", b"{}", &ours), Unreadable::NotSingleObject);
        assert_eq!(refused(b"slack:b", &own[..40], &ours), Unreadable::Malformed);
    }

    #[test]
    fn neighbours_are_one_run() {
        let at = |partition, offset| JobAt { partition, offset };
        let jobs = BTreeSet::from([at(0, 5), at(0, 6), at(0, 2_000), at(0, 9_000), at(1, 9_001)]);
        let lengths: Vec<usize> = runs(&jobs).iter().map(Vec::len).collect();
        assert_eq!(lengths, [3, 1, 1]);
    }
}
