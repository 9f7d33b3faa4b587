//! The demo's output: a calm live view on a terminal, plain lines elsewhere.
//!
//! It reads from the topics, as any other program would, and from the sandbox what arrived.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::story::{Story, write};
use crate::config::Config;
use crate::delivery::recall::credential_of;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;
use frame::Size;

pub(super) use frame::as_read;

mod frame;

/// Lines of the live view at most: those that scroll by, and those of the story.
const RECENT: usize = 8;
const PRINTED: usize = 16;

/// Takes in a record of one of the topics.
type Take = fn(&mut Seen, &Record);

#[derive(Debug, Clone)]
pub(super) struct View {
    seen: Arc<Mutex<Seen>>,
    began: Instant,
    live: bool,
    json: bool,
}

#[derive(Debug)]
struct Seen {
    story: Story,
    /// The desk's address.
    desk: String,
    printed: VecDeque<String>,
    produced: u64,
    dead_events: u64,
    dead_jobs: u64,
    matches: u64,
    /// By job id, what it says.
    jobs: HashMap<String, String>,
    /// Outcomes that were read before their job.
    early: HashMap<String, Vec<Outcome>>,
    replayed: u64,
    lanes: BTreeMap<String, Lane>,
    finals: BTreeMap<&'static str, u64>,
    throttled: u64,
    recent: VecDeque<String>,
    reasons: BTreeMap<String, u64>,
    read_at: Option<Instant>,
    plain: bool,
    json: bool,
    /// Lines of the frame that stands, and the terminal's size then.
    lines: usize,
    size: Option<Size>,
    waits_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Lane {
    jobs: u64,
    ended: u64,
    sent: u64,
    frozen_until: i64,
}

impl View {
    pub(super) fn new(config: &Config, story: Story, json: bool) -> anyhow::Result<Self> {
        let live = !json && Size::now().is_some_and(Size::fits);
        let desk = format!("http://{}/", config.admin.listen);
        let seen = Arc::new(Mutex::new(Seen::new(story, desk, !live, json)));
        let topics = &config.topics;
        let follows: [(&str, Take); 3] = [
            (&topics.jobs, Seen::job),
            (&topics.outcomes, Seen::outcome),
            (&topics.dead_letters, Seen::dead_letter),
        ];
        for (topic, take) in follows {
            let partitions: Vec<_> = (0..super::PARTITIONS).map(|partition| (partition, None)).collect();
            let reader = Reader::assign(config, topic, &partitions, Isolation::Committed)?;
            let seen = Arc::downgrade(&seen);
            std::thread::Builder::new()
                .name("demo-view".to_owned())
                .spawn(move || {
                    loop {
                        let next = reader.next(Duration::from_millis(100));
                        let Some(seen) = seen.upgrade() else { return };
                        if let Next::Record(record) = next {
                            let mut seen = lock(&seen);
                            seen.read_at = Some(Instant::now());
                            take(&mut seen, &record);
                        }
                    }
                })?;
        }
        Ok(Self {
            seen,
            began: Instant::now(),
            live,
            json,
        })
    }

    pub(super) fn begin(&self, rate: f64) {
        self.print(&format!("the rule desk: {}", lock(&self.seen).desk));
        self.print(&format!("leadlane demo: {rate} lead events a second into an embedded broker; Slack and CleverTap are a sandbox in this process"));
        self.print("rules: big auto sales -> C0SALES, Texas and Florida -> C0SOUTH, rejections by campaigns -> C0CAMPS, rejected auto leads -> a webhook, answered calls -> U0ANNA by another bot, sold leads and payouts -> CleverTap, and what comes in by two inlets, too");
        self.print("in the first 45 seconds: a flood becomes a digest, a refused token recovers by itself, a dead letter is replayed and another one left to you, a 429 is obeyed, a Slack reaction and a sheet's row become CleverTap records");
    }

    /// Whether jobs come to their end.
    pub(super) fn settles(&self) -> bool {
        !lock(&self.seen).finals.is_empty()
    }

    /// The first job that died: its dead letter, and when that was seen.
    pub(super) fn died(&self) -> Option<(String, Instant)> {
        let seen = lock(&self.seen);
        seen.story.died().map(|(letter, at)| (letter.to_owned(), at))
    }

    /// Whether what died first arrived after all.
    pub(super) fn is_mended(&self) -> bool {
        lock(&self.seen).story.is_mended()
    }

    /// A line of the story.
    pub(super) fn show(&self, line: &str) {
        lock(&self.seen).show(line.to_owned());
    }

    /// An inlet made an event of what was posted to it.
    pub(super) fn took_in(&self, line: &str) {
        let mut seen = lock(&self.seen);
        seen.produced += 1;
        seen.show(line.to_owned());
    }

    pub(super) fn produced(&self, value: &str) {
        let mut seen = lock(&self.seen);
        seen.produced += 1;
        let line = match decode(value.as_bytes(), &Schemas::new()) {
            Ok(event) => {
                let price = event
                    .filter_price()
                    .map(|price| format!(" ${price}"))
                    .unwrap_or_default();
                let product = event
                    .product
                    .as_ref()
                    .and_then(|product| product.name.as_deref())
                    .unwrap_or_default();
                format!("event     {} lead {} {product}{price}", event.trigger, event.lead_id)
            }
            Err(error) => format!("event     a bad one: {}", error.detail()),
        };
        seen.say(line);
    }

    pub(super) fn frame(&self) {
        let mut seen = lock(&self.seen);
        seen.catch_up();
        if self.live {
            seen.draw(self.began.elapsed());
        } else if seen.waits_at.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
            seen.waits_at = Some(Instant::now());
            if let Some(waits) = seen.waits() {
                println!("waiting   {waits}");
            }
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn erase(&self) {
        lock(&self.seen).erase();
    }

    /// Waits for the readers to have seen everything, then says what it came to.
    pub(super) fn end(&self) {
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until
            && lock(&self.seen)
                .read_at
                .is_some_and(|at| at.elapsed() < Duration::from_millis(600))
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut seen = lock(&self.seen);
        seen.catch_up();
        seen.erase();
        if let Some(waits) = seen.waits() {
            self.print(&format!("still waiting when it ended: {waits}"));
        }
        for (reason, count) in &seen.reasons {
            self.print(&format!("dead letters for {reason}: {count}"));
        }
        if let Some(left) = seen.left() {
            self.print(&left);
        }
        self.print("on your own Kafka: leadlane lanes, leadlane deliveries list, leadlane dead-letters list");
        self.print(&format!(
            "the rule desk was at {}; without --seconds it stays",
            seen.desk
        ));
        match self.json {
            true => drop(writeln!(std::io::stdout(), "{}", seen.summary_json())),
            false => self.print(&seen.summary()),
        }
    }

    fn print(&self, line: &str) {
        write(line, self.json);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn new(story: Story, desk: String, plain: bool, json: bool) -> Self {
        Self {
            story,
            desk,
            printed: VecDeque::new(),
            produced: 0,
            dead_events: 0,
            dead_jobs: 0,
            matches: 0,
            jobs: HashMap::new(),
            early: HashMap::new(),
            replayed: 0,
            lanes: BTreeMap::new(),
            finals: BTreeMap::new(),
            throttled: 0,
            recent: VecDeque::new(),
            reasons: BTreeMap::new(),
            read_at: None,
            plain,
            json,
            lines: 0,
            size: None,
            waits_at: None,
        }
    }

    /// What the sandbox has seen, and what is complete by now.
    fn catch_up(&mut self) {
        for line in self.story.arrivals() {
            self.show(line);
        }
        for line in self.story.digests() {
            self.show(line);
        }
    }

    fn show(&mut self, line: String) {
        if self.plain {
            write(&line, self.json);
        }
        if self.printed.len() == PRINTED {
            self.printed.pop_front();
        }
        self.printed.push_back(line);
    }

    /// What came of it all, for programs.
    fn summary_json(&self) -> serde_json::Value {
        let waiting: u64 = self.lanes.values().map(Lane::waiting).sum();
        serde_json::json!({
            "id": "summary", "events": self.produced, "matches": self.matches, "results": self.finals, "waiting": waiting,
            "dead_letters": self.dead_events + self.dead_jobs, "replayed": self.replayed, "throttled": self.throttled,
        })
    }

    fn summary(&self) -> String {
        let of = |result: OutcomeResult| self.finals.get(result.as_str()).copied().unwrap_or(0);
        let (sent, digested) = (of(OutcomeResult::Sent), of(OutcomeResult::Digested));
        let others = self.finals.values().sum::<u64>() - sent - digested;
        let waiting: u64 = self.lanes.values().map(Lane::waiting).sum();
        let (arrived, early) = self.story.arrived();
        format!(
            "summary: {} events, {} matches = {sent} sent + {digested} in {} + {waiting} waiting + {others} otherwise ended; \
             {} dead letters ({} events, {} jobs), {} replayed; {arrived} Slack messages arrived, {} answers 429 obeyed, {early} requests came too early",
            self.produced,
            self.matches,
            self.story.digests_shown(),
            self.dead_events + self.dead_jobs,
            self.dead_events,
            self.dead_jobs,
            self.replayed,
            self.throttled,
        )
    }

    fn job(&mut self, record: &Record) {
        let Some(job) = record
            .value
            .as_deref()
            .and_then(|value| DeliveryJob::decode(value).ok())
        else {
            return;
        };
        let lane = self.lanes.entry(job.lane()).or_default();
        lane.jobs += 1;
        if record.header("replay-of").is_some() {
            // The outcome of a replay supersedes the old one.
            self.replayed += 1;
            *self.finals.entry(OutcomeResult::Dead.as_str()).or_default() -= 1;
            return;
        }
        self.matches += 1;
        let text = serde_json::from_str::<serde_json::Value>(&job.body).ok();
        let text = text
            .as_ref()
            .and_then(|body| body["text"].as_str().or_else(|| body["evtName"].as_str()))
            .unwrap_or("profile");
        let early = self.early.remove(&job.job_id);
        self.jobs.insert(job.job_id, as_read(text));
        early.into_iter().flatten().for_each(|outcome| self.came(&outcome));
    }

    fn outcome(&mut self, record: &Record) {
        let Some(outcome) = record.value.as_deref().and_then(|value| Outcome::decode(value).ok()) else {
            return;
        };
        // The topics are read side by side.
        if outcome.job_offset.is_some() && !self.jobs.contains_key(&outcome.job_id) {
            self.early.entry(outcome.job_id.clone()).or_default().push(outcome);
        } else {
            self.came(&outcome);
        }
    }

    fn came(&mut self, outcome: &Outcome) {
        // A probe was answered before what came of it.
        for line in self.story.arrivals() {
            self.show(line);
        }
        // What the processor settled never was a job.
        self.matches += u64::from(outcome.job_offset.is_none());
        let result = outcome.result;
        let lane = self.lanes.entry(outcome.lane.clone()).or_default();
        if result == OutcomeResult::Throttled {
            lane.frozen_until = outcome.next_at.unwrap_or_default();
        }
        if result.is_final() {
            lane.ended += u64::from(outcome.job_offset.is_some());
            lane.sent += u64::from(result == OutcomeResult::Sent);
            *self.finals.entry(result.as_str()).or_default() += 1;
        }
        let waiting = of_credential(&self.lanes, &outcome.lane);
        if let Some(line) = self.story.outcome(outcome, waiting) {
            self.show(line);
        }
        let words = outcome.words.as_deref().unwrap_or_default();
        let line = match result {
            OutcomeResult::Sent => {
                let text = self.jobs.get(&outcome.job_id).map(String::as_str).unwrap_or_default();
                let line = format!("sent      {} <- {text} (rule {})", outcome.lane, outcome.rule_id);
                if let Some(letter) = self.story.replay_of(&outcome.job_id).map(str::to_owned) {
                    self.story.arrived_again(&letter);
                    return self.show(format!("{line}, dead letter {letter} replayed"));
                }
                line
            }
            OutcomeResult::Throttled => {
                self.throttled += 1;
                let seconds = (outcome.next_at.unwrap_or_default() - outcome.ended_at).max(0) as f64 / 1000.0;
                format!(
                    "throttled {} answered 429: nothing goes there for {seconds:.1} s",
                    outcome.lane
                )
            }
            // Told as one message, with what arrived.
            OutcomeResult::Digested => return,
            result => format!(
                "{:<9} {} (rule {}) {words}",
                result.as_str(),
                outcome.lane,
                outcome.rule_id
            ),
        };
        self.say(line);
    }

    fn dead_letter(&mut self, record: &Record) {
        let reason = record.header("reason").unwrap_or_default().to_owned();
        let detail = record.header("detail").unwrap_or_default();
        let place = format!("{}-{}", record.partition, record.offset);
        self.story.dead_letter(record);
        let line = format!("dead      letter {place}: {reason}: {detail}");
        *self.reasons.entry(reason).or_default() += 1;
        if record.header("job-id").is_some() {
            self.dead_jobs += 1;
            self.show(line);
            if let Some(left) = self.left().filter(|_| self.plain && self.story.left() == Some(&*place)) {
                self.show(left);
            }
        } else {
            self.dead_events += 1;
            self.say(line);
        }
    }

    fn say(&mut self, line: String) {
        if self.plain {
            write(&line, self.json);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// What is left to do by hand, and where.
    fn left(&self) -> Option<String> {
        let letter = self.story.left()?;
        Some(format!(
            "by hand   dead letter {letter} is left to you: replay it at {}dead-letters/{letter}",
            self.desk
        ))
    }

    /// What waits, and why.
    fn waits(&self) -> Option<String> {
        let waits: Vec<String> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.waiting() > 0)
            .map(|(id, lane)| format!("{} in {id} ({})", lane.waiting(), self.why(id, lane)))
            .collect();
        (!waits.is_empty()).then(|| waits.join(", "))
    }

    fn why(&self, id: &str, lane: &Lane) -> String {
        let frozen = (lane.frozen_until - crate::app::now_millis()) as f64 / 1000.0;
        if self.story.is_refused(credential_of(id)) {
            "its token is refused".to_owned()
        } else if frozen > 0.0 {
            format!("frozen {frozen:.0} s more by a 429")
        } else {
            "waits for its turn".to_owned()
        }
    }
}

impl Lane {
    fn waiting(&self) -> u64 {
        // The topics are read side by side, so that an outcome may be known before its job.
        self.jobs.saturating_sub(self.ended)
    }
}

/// The jobs that wait in all lanes of a lane's credential.
fn of_credential(lanes: &BTreeMap<String, Lane>, lane: &str) -> u64 {
    let of = |(id, _): &(&String, &Lane)| credential_of(id) == credential_of(lane);
    lanes.iter().filter(of).map(|(_, lane)| lane.waiting()).sum()
}
