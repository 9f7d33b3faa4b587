//! Jobs of a newer version.

use std::collections::BTreeSet;

use super::*;
use crate::delivery::codec::tests::newer;

/// What it takes to read a job of a newer version.
pub(crate) fn needs() -> Needs {
    of_newer(&slack(0, "C1"), START).newer.unwrap().needs
}

/// A job as a newer version wrote it, and as this one takes it in.
pub(super) fn of_newer(job: &DeliveryJob, now: Micros) -> Payload {
    let value = newer().write_job(job);
    let Err(Unreadable::UnknownSchema(fingerprint)) = DeliveryJob::decode(&value) else {
        panic!("this version reads what a newer one wrote");
    };
    let known = DeliveryJob::of_headers(&job.event_id, &job.rule_id, &job.job_id, &job.credential);
    Payload {
        newer: Some(Newer {
            value: value.into(),
            needs: Needs {
                fingerprint,
                version: Some("9.1.0".into()),
            },
        }),
        ..payload(known, now)
    }
}

impl Bench {
    /// Reads a job that a newer version wrote.
    fn hold(&mut self, job: &DeliveryJob) -> JobAt {
        let (partition, offset) = (0, job.source_offset);
        let at = JobAt { partition, offset };
        let payload = of_newer(job, self.now);
        self.kafka.insert(at, payload.clone());
        let read = self.dispatch.read(at, tag_of(&payload), payload.written_at);
        assert_eq!(read, Read::New);
        self.dispatch.hold(at, &payload, self.now);
        at
    }

    fn held(&self) -> Vec<(&str, usize)> {
        self.dispatch
            .held()
            .map(|(credential, jobs, _)| (credential, jobs))
            .collect()
    }

    /// The events that go until then, each delivered.
    fn sends(&mut self, until: Micros) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(attempt) = self.next(until) {
            sent.push(attempt.jobs[0].event_id.clone());
            self.answer(&attempt, Verdict::Delivered);
        }
        sent
    }
}

fn other(number: i64) -> DeliveryJob {
    job(number, ActionType::SlackMessage, "slack:other", "C9")
}

#[test]
fn a_job_of_a_newer_version_holds_its_credential_and_the_commit_alone() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(0, "C1"));
    bench.hold(&slack(1, "C1"));
    bench.accept(slack(2, "C1"));
    bench.accept(slack(3, "C2"));
    bench.accept(other(4));
    bench.hold(&slack(5, "C1"));
    assert_eq!(bench.sends(START + 100 * SECOND), ["e-4"]);
    assert_eq!(bench.held(), [("slack:bot", 2)]);
    let needs = bench.dispatch.held().next().unwrap().2.to_string();
    assert!(needs.ends_with(", written by leadlane 9.1.0"), "{needs}");
    assert_eq!(bench.dispatch.ledger.place(0).unwrap().offset, 0);
    let lanes: Vec<usize> = bench.dispatch.lanes(bench.now).map(|lane| lane.ready).collect();
    assert_eq!(lanes, [0, 0, 0], "more of this process would send nothing sooner");
    // Who reads them takes over from the commit, with nothing lost and in order.
    let mut upgraded = Bench::new(settings());
    let settled = HashSet::from([4]);
    let recalled = Recalled {
        settled,
        tried_below: 5,
        ..Recalled::default()
    };
    upgraded.dispatch.disown(0);
    own(&mut upgraded.dispatch, recalled, START);
    for job in [0, 1, 2].map(|number| slack(number, "C1")) {
        upgraded.accept(job);
    }
    upgraded.accept(slack(3, "C2"));
    upgraded.accept(other(4));
    upgraded.accept(slack(5, "C1"));
    let mut sent = upgraded.sends(START + 100 * SECOND);
    sent.retain(|event| event != "e-3");
    assert_eq!(sent, ["e-0", "e-1", "e-2", "e-5"]);
    upgraded.assert_empty();
}

#[test]
fn what_is_in_flight_or_waits_for_a_retry_when_a_credential_is_held_is_kept() {
    let mut bench = Bench::new(settings());
    bench.accept(slack(0, "C1"));
    let first = bench.next(START + 10 * SECOND).unwrap();
    bench.hold(&slack(1, "C1"));
    bench.answer(&first, Verdict::Retry);
    assert_eq!(bench.sends(START + 300 * SECOND), [""; 0]);
    // The partition goes, and comes back without the job: nothing holds the credential.
    bench.dispatch.retire(0);
    assert_eq!(bench.held(), []);
    bench.dispatch.disown(0);
    own(&mut bench.dispatch, Recalled::default(), bench.now);
    bench.accept(slack(0, "C1"));
    assert_eq!(bench.sends(bench.now + 100 * SECOND), ["e-0"]);
}

#[test]
fn a_job_of_a_newer_version_that_is_too_old_is_a_dead_letter_as_it_was_read() {
    let mut bench = Bench::new(settings());
    let age_max = micros(bench.dispatch.settings.job_age_max);
    let at = bench.hold(&slack(0, "C1"));
    bench.now = START + age_max - 60 * SECOND;
    bench.accept(slack(1, "C1"));
    bench.accept(slack(2, "C1"));
    assert_eq!(bench.sends(START + age_max - SECOND), [""; 0]);
    assert!(bench.settled.is_empty());
    let sent = bench.sends(START + age_max + 30 * SECOND);
    assert_eq!(sent, ["e-1", "e-2"], "those behind it go, in order");
    let dead = &bench.settled[0];
    assert_eq!((dead.at, dead.dead), (at, Some(Reason::UnknownSchema)));
    let value = &dead.newer.as_ref().unwrap().value;
    assert_eq!(newer().read_job(value), Ok(slack(0, "C1")), "the bytes that were read");
    let outcome = &dead.outcome;
    assert_eq!((outcome.result, &*outcome.lane), (OutcomeResult::Dead, "slack:bot"));
    assert_eq!((&*outcome.event_id, &outcome.job_id), ("e-0", &slack(0, "C1").job_id));
    assert_eq!(outcome.reason.as_deref(), Some("unknown_schema"));
    let words = outcome.words.as_deref().unwrap();
    assert!(
        words.contains("sender.job_age_max") && words.contains("leadlane 9.1.0"),
        "{words}"
    );
    assert_eq!(bench.held(), []);
    assert_eq!(bench.dispatch.ledger.place(0).unwrap().offset, 3);
    bench.assert_empty();
}

#[test]
fn what_is_needed_is_what_the_jobs_that_are_left_need() {
    let mut bench = Bench::new(settings());
    let Err(Unreadable::UnknownSchema(fingerprint)) = DeliveryJob::decode(&[&[0xC3, 0x01][..], &[7; 8]].concat())
    else {
        panic!("no schema has this fingerprint");
    };
    let old = of_newer(&slack(0, "C1"), START - 3600 * SECOND);
    let mut young = of_newer(&slack(1, "C1"), START);
    let version = Some("9.2.0".to_owned());
    young.newer.as_mut().unwrap().needs = Needs { fingerprint, version };
    for (offset, payload) in [(0, old), (1, young)] {
        let at = JobAt { partition: 0, offset };
        bench.kafka.insert(at, payload.clone());
        bench.dispatch.read(at, tag_of(&payload), payload.written_at);
        bench.dispatch.hold(at, &payload, START);
    }
    let needs = |bench: &Bench| -> BTreeSet<Option<String>> {
        bench.dispatch.held().map(|(.., needs)| needs.version.clone()).collect()
    };
    let both = [Some("9.1.0".to_owned()), Some("9.2.0".to_owned())];
    assert_eq!(needs(&bench), both.clone().into());
    let age_max = micros(bench.dispatch.settings.job_age_max);
    bench.sends(START + age_max - 1800 * SECOND);
    assert_eq!(
        needs(&bench),
        both[1..].iter().cloned().collect(),
        "the older job is a dead letter"
    );
}

#[test]
fn a_million_jobs_of_a_newer_version_cost_sixteen_bytes_each() {
    let mut bench = Bench::new(settings());
    let payload = of_newer(&slack(0, "C1"), START);
    for offset in 0..100_000 {
        let at = JobAt { partition: 0, offset };
        bench.dispatch.read(at, None, payload.written_at);
        bench.dispatch.hold(at, &payload, START);
    }
    assert_eq!(
        (bench.held(), bench.dispatch.bytes()),
        (vec![("slack:bot", 100_000)], 0)
    );
    assert!(bench.dispatch.payloads.is_empty() && bench.dispatch.class_by_value.len() == 1);
}
