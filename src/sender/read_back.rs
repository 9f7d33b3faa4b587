//! Reads back what the outcomes of a partition say of the time before us.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::delivery::ledger::NewerOutcomes;
use crate::delivery::limit::Micros;
use crate::delivery::recall::Recalled;
use crate::delivery::sending::NotRecalled;
use crate::delivery::{Codec, Needs, Unreadable};
use crate::kafka::reader::{Isolation, Next, Reader, Record};

/// Reads the outcomes of `partition` to the end that they have now: from the place that the predecessor left
/// for its `committed` jobs, and as far back as sent job ids are to be known.
pub(super) fn read_back(
    config: &Config,
    codec: &Codec,
    partition: i32,
    (committed, outcomes_from): (i64, Option<i64>),
    // By the wall clock.
    now: Micros,
) -> Result<Recalled, NotRecalled> {
    let topic = &config.topics.outcomes;
    let failed = |error| format!("{error}");
    // The processor writes here in transactions; an open one would hide what the predecessor wrote.
    let reader = Reader::assign(config, topic, &[], Isolation::Uncommitted).map_err(failed)?;
    let end = reader.end(topic, partition).map_err(failed)?;
    let window = Micros::try_from(config.sender.dedup_window.as_micros()).unwrap_or(now);
    let of_window = reader
        .offset_at(topic, partition, (now - window) / 1000)
        .map_err(failed)?;
    let counted = end - i64::try_from(config.sender.dedup_ids_max).unwrap_or(end);
    let known = of_window.unwrap_or(end).max(counted).max(0);
    // A rule's `max_rate` looks back for an hour.
    let hour = reader
        .offset_at(topic, partition, (now - HOUR) / 1000)
        .map_err(failed)?;
    // A place behind the end is one of a topic that was made anew since.
    let outcomes_from = outcomes_from.filter(|from| *from <= end).unwrap_or(0);
    let mut recalled = Recalled {
        committed,
        outcomes_from,
        outcomes_end: end,
        known_since: now - window,
        ..Recalled::default()
    };
    let from = known.min(outcomes_from).min(hour.unwrap_or(end).max(counted).max(0));
    if from >= end {
        return Ok(recalled);
    }
    reader.go_to(topic, partition, from).map_err(failed)?;
    let (mut heard, mut unread) = (Instant::now(), Unread::default());
    loop {
        match reader.next(Duration::from_millis(100)) {
            Next::Record(record) => {
                heard = Instant::now();
                if record.offset == known && counted == known {
                    recalled.known_since = record.timestamp.saturating_mul(1000);
                }
                let last = record.offset + 1 >= end;
                match codec.read_outcome(record.value.as_deref().unwrap_or_default()) {
                    Ok(outcome) if record.is_test() => recalled.take_test(outcome, now),
                    Ok(outcome) => recalled.take(outcome, now),
                    Err(why) => unread.take(&record, why),
                }
                if last {
                    break;
                }
            }
            Next::End(_) => break,
            Next::Nothing if heard.elapsed() > SILENCE => return Err("the broker is silent".to_owned().into()),
            Next::Nothing => {}
            Next::Denied(why) => return Err(why.into()),
        }
    }
    unread.end(recalled, partition)
}

/// Records among the outcomes that this version can't read.
#[derive(Debug, Default)]
struct Unread {
    newer: Option<NewerOutcomes>,
    /// What somebody else wrote, which is left aside.
    foreign: usize,
}

impl Unread {
    fn take(&mut self, record: &Record, why: Unreadable) {
        let (Some(fingerprint), Some(ours)) = (why.of_another_version(), record.ours()) else {
            self.foreign += 1;
            return;
        };
        let version = ours.version;
        let needs = Needs { fingerprint, version };
        self.newer.get_or_insert(NewerOutcomes { outcomes: 0, needs }).outcomes += 1;
    }

    /// Whether what was recalled is all that there is to know.
    fn end(self, recalled: Recalled, partition: i32) -> Result<Recalled, NotRecalled> {
        if self.foreign > 0 {
            tracing::warn!(
                kafka.partition = partition,
                records = self.foreign,
                "records among the outcomes are not of Leadlane, and are left aside"
            );
        }
        match self.newer {
            None => Ok(recalled),
            Some(newer) => Err(NotRecalled::Newer(newer)),
        }
    }
}

const HOUR: Micros = 3_600_000_000;
const SILENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::codec::tests::{newer, with_another_result};
    use crate::delivery::tests::job;

    #[test]
    fn outcomes_of_a_newer_version_count_and_what_is_of_nobody_is_left_aside() {
        let job = job();
        // No outcome has this schema, whoever wrote it.
        let value = newer().write_job(&job);
        let why = Codec::shipped().read_outcome(&value).unwrap_err();
        let header = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let ours = Record {
            headers: vec![
                header("event-id", &job.event_id),
                header("rule-id", &job.rule_id),
                header("job-id", &job.job_id),
                header("leadlane-version", "9.1.0"),
            ],
            ..Record::default()
        };
        let foreign = Record::default();
        let mut unread = Unread::default();
        unread.take(&foreign, why);
        unread.take(&ours, Unreadable::Malformed);
        assert!(unread.foreign == 2 && unread.newer.is_none());
        assert!(unread.end(Recalled::default(), 0).is_ok());
        // It knows the schema of this one, and not the result.
        let (codec, value) = with_another_result();
        let result = codec.read_outcome(&value).unwrap_err();
        let mut unread = Unread::default();
        [why, result, why].into_iter().for_each(|why| unread.take(&ours, why));
        let Err(NotRecalled::Newer(newer)) = unread.end(Recalled::default(), 0) else {
            panic!("what is read isn't all that there is");
        };
        assert_eq!((newer.outcomes, newer.needs.version.as_deref()), (3, Some("9.1.0")));
    }
}
