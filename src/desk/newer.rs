//! Records that a newer version wrote. This version can't show them; it counts them rather than leave them out in
//! silence.

use std::fmt;

use crate::delivery::Unreadable;
use crate::kafka::reader::Record;

/// How many records of a newer version were passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Newer {
    pub records: u64,
}

impl Newer {
    /// What was read of a record, if it could be. One of a newer version counts; what is not of Leadlane is left aside.
    pub(super) fn pass<T>(&mut self, record: &Record, read: Result<T, Unreadable>) -> Option<T> {
        if read.as_ref().is_err_and(|why| is_newer(record, *why)) {
            self.records += 1;
        }
        read.ok()
    }
}

/// Whether a record that can't be read is one of a newer version.
pub(super) fn is_newer(record: &Record, why: Unreadable) -> bool {
    why.of_another_version().is_some() && record.ours().is_some()
}

impl fmt::Display for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.records {
            1 => write!(f, "1 record is of a newer version of Leadlane, which alone can show it"),
            records => write!(
                f,
                "{records} records are of a newer version of Leadlane, which alone can show them"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryJob;
    use crate::delivery::codec::tests::newer;
    use crate::delivery::tests::job;

    #[test]
    fn records_of_a_newer_version_count_and_what_is_of_nobody_does_not() {
        let (job, mut passed) = (job(), Newer::default());
        let header = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let headers = vec![
            header("event-id", &job.event_id),
            header("rule-id", &job.rule_id),
            header("job-id", &job.job_id),
        ];
        let (own, next) = (job.encode(), newer().write_job(&job));
        for (value, headers, count) in [
            (&own, &headers, 0),
            (&next, &Vec::new(), 0),
            (&b"{}".to_vec(), &headers, 0),
            (&next, &headers, 1),
            (&next, &headers, 2),
        ] {
            let record = Record {
                headers: headers.clone(),
                ..Record::default()
            };
            let read = passed.pass(&record, DeliveryJob::decode(value));
            assert_eq!((read.is_some(), passed.records), (value == &own, count));
        }
        assert!(passed.to_string().starts_with("2 records are of a newer version"));
    }
}
