//! What the outcomes say of freezes is what the sender that wrote them keeps to.

use proptest::prelude::*;

use super::*;

const LANES: [(ActionType, &str, &str); 5] = [
    (ActionType::SlackMessage, "slack:bot", "C1"),
    (ActionType::SlackMessage, "slack:bot", "C2"),
    (ActionType::SlackMessage, "slack:other", "C1"),
    (ActionType::SlackWebhook, "webhook:alerts", ""),
    (ActionType::ClevertapProfile, "clevertap:acme", "id-1"),
];

/// Any answer to a message. To what is asked before one, an answer that an outcome tells of: a probe that is refused
/// again is the sender's own.
fn verdict(request: Request, kind: u8, delay: u64) -> Verdict {
    let scope = if kind.is_multiple_of(2) {
        FreezeScope::Lane
    } else {
        FreezeScope::Credential
    };
    match (request, kind) {
        (_, 0..=3) => Verdict::Throttled {
            scope,
            retry_after: (kind < 2).then(|| Duration::from_millis(delay)),
        },
        (Request::Send, 4) => Verdict::Retry,
        (Request::Send, 5) => Verdict::Ambiguous,
        (Request::Send, 6) => Verdict::Rejected(Reason::MessageRejected),
        (Request::Send, 7) => Verdict::BatchRefused,
        (Request::Send, 8 | 9) => Verdict::CredentialRefused,
        _ => Verdict::Delivered,
    }
}

/// Everything that the outcomes say so far.
fn recall(bench: &Bench) -> Recalled {
    let mut recalled = Recalled::default();
    for one in &bench.settled {
        recalled.take(one.outcome.clone(), bench.dispatch.wall(bench.now));
    }
    recalled
}

/// Until when a lane is frozen, and whether its credential is refused, as the outcomes say.
fn by_outcomes(recalled: &Recalled, lane: &str, credential: &str) -> (Micros, bool) {
    let of = |id| recalled.frozen.get(id);
    let until = [of(lane), of(credential)]
        .into_iter()
        .flatten()
        .map(|frozen| frozen.until);
    (
        until.max().unwrap_or(0),
        of(credential).is_some_and(|frozen| frozen.refused),
    )
}

/// The same as the sender has it. Outcomes are of the wall clock, in whole milliseconds, rounded up.
fn by_dispatch(dispatch: &Dispatch, lane: &str) -> (Micros, bool) {
    let lane = &dispatch.lanes[dispatch.by_id[lane]];
    let credential = &dispatch.credentials[lane.credential];
    let until = lane.frozen_until.max(credential.frozen_until);
    let until = if until == Micros::MIN {
        0
    } else {
        ceil_millis(dispatch.wall(until)) * 1000
    };
    (until, credential.refused.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_outcomes_freeze_what_the_sender_freezes(
        turns in prop::collection::vec((0..16u8, 500..60_000u64, 0..4usize, 1..20i64), 1..60),
        ahead in prop::sample::select(vec![0, 7 * SECOND + 3]),
    ) {
        let mut bench = Bench::new(settings());
        bench.dispatch.wall_clock(ahead);
        for (number, (action, credential, destination)) in (0..200).zip(LANES.iter().cycle()) {
            bench.accept(job(number, *action, credential, destination));
        }
        let mut flying = Vec::new();
        for (kind, delay, in_flight, seconds) in turns {
            // Requests of one scope overlap, so that answers come to those that began before another's.
            let until = bench.now + seconds * SECOND;
            while flying.len() <= in_flight && let Some(attempt) = bench.next(until) {
                flying.push(attempt);
            }
            if flying.is_empty() {
                continue;
            }
            let attempt: Attempt = flying.swap_remove(usize::from(kind) % flying.len());
            bench.answer(&attempt, verdict(attempt.request, kind, delay));
            let recalled = recall(&bench);
            // A successor that takes over now, and meets every lane.
            let mut heir = Bench::new(settings());
            heir.now = bench.now;
            heir.dispatch.wall_clock(ahead);
            own(&mut heir.dispatch, recall(&bench), bench.now);
            for (number, (action, credential, destination)) in (1000..).zip(LANES) {
                heir.accept(job(number, action, credential, destination));
                let lane = job(0, action, credential, destination).lane();
                let wanted = by_outcomes(&recalled, &lane, credential);
                prop_assert_eq!(wanted, by_dispatch(&bench.dispatch, &lane), "{}", &lane);
                prop_assert_eq!(wanted, by_dispatch(&heir.dispatch, &lane), "heir: {}", &lane);
            }
        }
    }
}
