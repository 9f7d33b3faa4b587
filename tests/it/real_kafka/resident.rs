//! What the desk keeps in memory: it is what the topics say, through restarts, cuts and topics that are made anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leadlane::delivery::OutcomeResult;
use leadlane::desk::deliveries::recent::{life, recent};
use leadlane::desk::deliveries::{self, Stands};
use leadlane::desk::page::Page;
use leadlane::desk::resident::deliveries::{Asked, Delivery};
use leadlane::desk::resident::{Resident, Topic};
use leadlane::desk::rules::write::{Change, Writer};
use leadlane::desk::rules::{self, get};
use leadlane::desk::scan::Scanner;
use leadlane::desk::{audit, dead_letters, versions, why};
use leadlane::reason::Reason;
use leadlane::rules::Status;

use super::anew::{make_anew, on_its_own};
use super::sender::{open_sandbox, send};
use crate::support::{Leadlane, Process, now_millis};

/// A desk's memory, with the threads that fill it.
struct Memory {
    resident: Arc<Resident>,
    stop: Arc<AtomicBool>,
}

impl Memory {
    fn of(leadlane: &Leadlane) -> Self {
        let resident = Arc::new(Resident::new(Arc::new(leadlane.config.clone())));
        let stop = Arc::new(AtomicBool::new(false));
        for topic in Topic::ALL {
            let (mut follower, stop) = (resident.follower(topic), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    follower.step(now_millis());
                }
            });
        }
        Self { resident, stop }
    }

    fn until(&self, what: &str, is: impl Fn(&Resident) -> bool) {
        let until = Instant::now() + Duration::from_secs(90);
        while !is(&self.resident) {
            let reach: Vec<_> = Topic::ALL.into_iter().map(|topic| self.resident.reach(topic)).collect();
            assert!(
                Instant::now() < until,
                "{what}: {} deliveries, {reach:#?}",
                sent(&self.resident)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn until_caught_up(&self) {
        self.until("caught up", |resident| {
            Topic::ALL.into_iter().all(|topic| {
                let reach = resident.reach(topic);
                reach.caught_up && reach.whole && reach.cut_off.is_none()
            })
        });
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn page(resident: &Resident, asked: &Asked) -> Page<Delivery> {
    recent(resident, asked, None, 1000, now_millis())
}

fn sent(resident: &Resident) -> usize {
    let asked = Asked {
        stands: vec![Stands::Is(OutcomeResult::Sent)],
        ..Asked::default()
    };
    page(resident, &asked).items.len()
}

fn status(resident: &Resident, rule: &str) -> Option<Status> {
    Some(get(&resident.rules().view(), rule).ok()?.rule.status)
}

#[test]
fn memory_is_what_the_topics_say_and_answers_without_a_scan() {
    let destinations = open_sandbox();
    let leadlane = super::sender::leadlane("resident", &destinations, "500/s");
    let process = leadlane.start(&[]);
    send(&leadlane, 0..50, "lms.lead_sold");
    let memory = Memory::of(&leadlane);
    let resident = &memory.resident;
    memory.until_caught_up();
    send(&leadlane, 50..60, "lms.lead_sold");
    memory.until("120 sent", |resident| sent(resident) == 120);
    lists_and_lives(&leadlane, resident);
    rules_are_written_and_followed(&leadlane, &memory, &process);
    why_it_was_silent(&memory);
    dead_letters_and_replays(&leadlane, &memory);
    process.stop();

    // Another process has the same.
    let other = Memory::of(&leadlane);
    other.until_caught_up();
    let (here, there) = (
        page(resident, &Asked::default()),
        page(&other.resident, &Asked::default()),
    );
    assert_eq!(here.items.len(), there.items.len());
    for (one, same) in here.items.iter().zip(&there.items) {
        assert_eq!(one, same);
    }
    assert_eq!(rules::every(&other.resident.rules().view()).count(), 4);
    let now = now_millis();
    assert_eq!(
        other.resident.of_rule("to-channel", now),
        resident.of_rule("to-channel", now)
    );
}

/// What pages ask for of deliveries.
fn lists_and_lives(leadlane: &Leadlane, resident: &Resident) {
    let of = |set: fn(&mut Asked)| {
        let mut asked = Asked::default();
        set(&mut asked);
        page(resident, &asked).items
    };
    assert_eq!(of(|asked| asked.lead = Some("lead-55".into())).len(), 2);
    assert_eq!(of(|asked| asked.event = Some("e-7".into())).len(), 2);
    assert_eq!(of(|asked| asked.rule = Some("to-profile".into())).len(), 60);
    assert_eq!(of(|asked| asked.lane = Some("slack:sales-bot".into())).len(), 60);
    let first = recent(resident, &Asked::default(), None, 50, now_millis());
    let second = recent(resident, &Asked::default(), first.next, 50, now_millis());
    assert!(first.items[49].place > second.items[0].place);
    assert!(
        second
            .items
            .iter()
            .all(|item| first.items.iter().all(|other| other.id != item.id))
    );

    // One job's life by place is the same as by a scan, and takes milliseconds.
    let go_on = |_: leadlane::desk::scan::Passed<'_>| true;
    let scanner = Scanner::new(&leadlane.config, &go_on);
    let id = &of(|asked| asked.rule = Some("to-channel".into()))[3].id;
    let by_scan = deliveries::find(scanner, id).unwrap();
    assert_eq!(life(resident, scanner, id).unwrap(), by_scan);
    assert!(by_scan.sent.is_some_and(|body| body.contains("sold e-")));
    let began = Instant::now();
    (0..10).for_each(|_| drop(life(resident, scanner, id).unwrap()));
    println!("a life by place: {:?}", began.elapsed() / 10);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(life(resident, scanner, "7fb2cd34-f4da-5f5f-911b-265780569f3b").is_err());
    let counts = resident.of_rule("to-channel", now_millis());
    assert_eq!((counts.matched, counts.sent), (60, 60));
    let day: u32 = resident
        .charts(now_millis())
        .week
        .iter()
        .map(|(_, happened)| happened.events)
        .sum();
    assert_eq!(day, 60);
}

fn rules_are_written_and_followed(leadlane: &Leadlane, memory: &Memory, process: &Process) {
    let resident = &memory.resident;
    // Who writes finds it at once, and what another process writes comes soon.
    let mut writer = Writer::on(&leadlane.config, Arc::clone(resident.rules()));
    let seen = writer.view().unwrap().version("to-channel");
    let paused = writer
        .write(&[Change::pause("to-channel", seen, false)], "ana", now_millis())
        .unwrap();
    assert_eq!(status(resident, "to-channel"), Some(Status::Paused));
    process.log_until(30, |log| log.contains("rules.active=3"));
    send(leadlane, 60..61, "lms.lead_sold");
    memory.until("the event came", |resident| {
        resident.events().newest(None).count() == 61
    });
    leadlane.ok(&["rules", "resume", "to-channel"]);
    memory.until("resumed", |resident| {
        status(resident, "to-channel") == Some(Status::Active)
    });

    // Versions, and back to one of them.
    memory.until("its audit came", |resident| {
        versions::list(resident, "to-channel", None, 10).unwrap().items.len() == 3
    });
    let all = versions::list(resident, "to-channel", None, 10).unwrap().items;
    let told: Vec<&str> = all.iter().map(|version| version.what.as_str()).collect();
    assert_eq!((told, all[1].who.as_str()), (vec!["resume", "pause", "apply"], "ana"));
    assert_eq!(all[1].version, paused[0].version);
    assert_eq!(all[1].after, all[0].before);
    let back = versions::rollback(resident, "to-channel", all[2].version, Some(all[0].version)).unwrap();
    let written = writer.write(&[back], "ben", now_millis()).unwrap();
    let filter = audit::Filter {
        who: Some("ben".into()),
        ..audit::Filter::default()
    };
    memory.until("the rollback's audit", |resident| {
        let found = audit::list(resident, &filter, None, 10).items;
        found
            .first()
            .is_some_and(|audited| (audited.what.as_str(), audited.target.as_str()) == ("rollback", "to-channel"))
    });
    memory.until("its author", |resident| {
        resident.author("to-channel", written[0].version).as_deref() == Some("ben")
    });
    // Nobody is told for another one's version.
    assert_eq!(resident.author("to-channel", all[0].version), None);
}

/// A dead letter is there, and then it is replayed.
fn dead_letters_and_replays(leadlane: &Leadlane, memory: &Memory) {
    let (topics, resident) = (&leadlane.config.topics, &memory.resident);
    leadlane.write(&topics.events, [("lead-1", Some(b"broken".as_slice()))]);
    let letters =
        |resident: &Resident| dead_letters::recent::recent(resident, &dead_letters::recent::Asked::default(), None, 10);
    memory.until("a dead letter", |resident| letters(resident).items.len() == 1);
    let letter = letters(resident).items.remove(0);
    assert_eq!((letter.reason, letter.replayed), (Some(Reason::NotDecodable), false));
    assert_eq!(dead_letters::recent::by_reason(resident)[0].1, 1);
    let whole = dead_letters::recent::one(resident, letter.id).unwrap();
    assert_eq!(whole.record.value.as_deref(), Some(b"broken".as_slice()));
    leadlane.ok(&["dead-letters", "replay", &letter.id.to_string()]);
    memory.until("it was replayed", |resident| {
        letters(resident)
            .items
            .iter()
            .any(|other| other.id == letter.id && other.replayed)
    });
}

/// Of the event that came while the rule was paused, and of one before.
fn why_it_was_silent(memory: &Memory) {
    let silent = why::lead(&memory.resident, "lead-60").unwrap();
    let rule = silent.events[0]
        .rules
        .iter()
        .find(|rule| rule.id == "to-channel")
        .unwrap();
    let failed: Vec<&str> = rule.failed.iter().map(|failed| failed.path.as_str()).collect();
    assert_eq!(failed, ["status"], "{rule:?}");
    assert!(
        rule.today.as_ref().is_some_and(|today| today.failed.is_empty()),
        "{rule:?}"
    );
    assert!(
        rule.version
            .is_some_and(|version| rule.today.as_ref().unwrap().version > Some(version))
    );
    memory.until("its other rule sent", |resident| {
        why::lead(resident, "lead-60").unwrap().events[0]
            .jobs
            .iter()
            .any(|job| job.stands == Stands::Is(OutcomeResult::Sent))
    });
    let told = why::lead(&memory.resident, "lead-5").unwrap();
    assert_eq!((told.events.len(), told.events[0].jobs.len()), (1, 2));
    assert!(
        told.events[0]
            .rules
            .iter()
            .filter(|rule| rule.failed.is_empty())
            .count()
            == 2,
        "{told:?}"
    );
    assert!(why::lead(&memory.resident, "nobody").is_err());
}

#[test]
fn memory_stays_while_kafka_is_away_and_starts_over_where_a_topic_does() {
    let destinations = open_sandbox();
    let (kafka, leadlane) = on_its_own("resident-cut", &destinations);
    let topics = &leadlane.config.topics;
    let process = leadlane.start(&[]);
    send(&leadlane, 0..20, "lms.lead_rejected");
    let memory = Memory::of(&leadlane);
    memory.until("20 sent", |resident| sent(resident) == 20);
    memory.until_caught_up();

    kafka.tell("stop");
    memory.until("cut off", |resident| {
        Topic::ALL
            .into_iter()
            .all(|topic| resident.reach(topic).cut_off.is_some())
    });
    assert_eq!(sent(&memory.resident), 20);
    assert_eq!(status(&memory.resident, "to-webhook"), Some(Status::Active));
    let since = memory.resident.reach(Topic::Jobs).cut_off.unwrap().since;
    assert!((now_millis() - 120_000..now_millis()).contains(&since));
    kafka.tell("start");
    memory.until_caught_up();
    send(&leadlane, 20..40, "lms.lead_rejected");
    memory.until("40 sent", |resident| sent(resident) == 40);

    // More than before, so that no place lies beyond an end.
    make_anew(&leadlane, &[&topics.jobs, &topics.outcomes]);
    memory.until("started over", |resident| sent(resident) == 0);
    send(&leadlane, 100..160, "lms.lead_rejected");
    memory.until("60 sent", |resident| sent(resident) == 60);
    make_anew(&leadlane, &[&topics.events]);
    send(&leadlane, 200..203, "lms.lead_rejected");
    memory.until("3 events", |resident| resident.events().newest(None).count() == 3);
    make_anew(&leadlane, &[&topics.rules]);
    memory.until("no rule", |resident| {
        rules::every(&resident.rules().view()).count() == 0
    });
    leadlane.apply(super::sender::RULES);
    memory.until("the rules", |resident| {
        rules::every(&resident.rules().view()).count() == 4
    });
    process.stop();
}
