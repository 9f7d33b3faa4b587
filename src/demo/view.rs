//! What a person sees of the demo: a calm live view on a terminal, plain lines elsewhere.
//!
//! Everything shown is read from the topics, as any other program would read it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;

const RECENT: usize = 12;

/// Takes in a record of one of the topics.
type Take = fn(&mut Seen, &Record);

#[derive(Debug)]
pub(super) struct View {
    seen: Arc<Mutex<Seen>>,
    began: Instant,
    live: bool,
}

#[derive(Debug, Default)]
struct Seen {
    produced: u64,
    dead_events: u64,
    dead_jobs: u64,
    matches: u64,
    jobs: HashMap<String, String>,
    lanes: BTreeMap<String, Lane>,
    finals: BTreeMap<&'static str, u64>,
    throttled: u64,
    recent: VecDeque<String>,
    reasons: BTreeMap<String, u64>,
    read_at: Option<Instant>,
    plain: bool,
    lines: usize,
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
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let live = std::io::stdout().is_terminal();
        let seen = Arc::new(Mutex::new(Seen {
            plain: !live,
            ..Seen::default()
        }));
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
        })
    }

    pub(super) fn begin(&self, rate: f64) {
        self.print(&format!("leadlane demo: {rate} lead events a second into an embedded broker; Slack and CleverTap are a sandbox in this process"));
        self.print("rules: big auto sales -> C0SALES, Texas and Florida -> C0SOUTH, rejections -> a webhook, answered calls -> U0ANNA, sold leads and payouts -> CleverTap");
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
        if self.live {
            seen.draw(self.began.elapsed());
        } else if seen.waits_at.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
            seen.waits_at = Some(Instant::now());
            if let Some(waits) = seen.waits() {
                println!("waiting   {waits}");
            }
        }
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
        if self.live {
            seen.draw(self.began.elapsed());
        }
        let waiting: u64 = seen.lanes.values().map(|lane| lane.jobs - lane.ended).sum();
        let sent = seen.finals.get("sent").copied().unwrap_or(0);
        let others: u64 = seen
            .finals
            .iter()
            .filter(|(result, _)| **result != "sent")
            .map(|(_, count)| count)
            .sum();
        if let Some(waits) = seen.waits() {
            self.print(&format!("still waiting when it ended: {waits}"));
        }
        for (reason, count) in &seen.reasons {
            self.print(&format!("dead letters for {reason}: {count}"));
        }
        self.print("on your own Kafka, dead letters are kept whole in the topic dead-letters, each with its reason in the headers: kcat -C -t dead-letters -f '%h\\n'");
        self.print(&format!(
            "summary: {} events, {} matches = {sent} sent + {waiting} waiting + {others} otherwise ended, {} answers 429 obeyed, {} dead letters ({} events, {} jobs)",
            seen.produced, seen.matches, seen.throttled, seen.dead_events + seen.dead_jobs, seen.dead_events, seen.dead_jobs
        ));
    }

    /// A line that stays. A reader of the pipe that went away is no reason to fail.
    fn print(&self, line: &str) {
        drop(writeln!(std::io::stdout(), "{line}"));
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn job(&mut self, record: &Record) {
        let Some(job) = record
            .value
            .as_deref()
            .and_then(|value| DeliveryJob::decode(value).ok())
        else {
            return;
        };
        self.matches += 1;
        self.lanes.entry(job.lane()).or_default().jobs += 1;
        let text = serde_json::from_str::<serde_json::Value>(&job.body).ok();
        let text = text
            .as_ref()
            .and_then(|body| body["text"].as_str().or_else(|| body["evtName"].as_str()))
            .unwrap_or("profile");
        self.jobs.insert(job.job_id, text.to_owned());
    }

    fn outcome(&mut self, record: &Record) {
        let Some(outcome) = record.value.as_deref().and_then(|value| Outcome::decode(value).ok()) else {
            return;
        };
        // What the processor settled never was a job.
        self.matches += u64::from(outcome.job_offset.is_none());
        let lane = self.lanes.entry(outcome.lane.clone()).or_default();
        let result = outcome.result;
        if result.is_final() {
            lane.ended += u64::from(outcome.job_offset.is_some());
            lane.sent += u64::from(result == OutcomeResult::Sent);
            *self.finals.entry(result.as_str()).or_default() += 1;
        }
        let words = outcome.words.as_deref().unwrap_or_default();
        let line = match result {
            OutcomeResult::Sent => {
                let text = self.jobs.get(&outcome.job_id).map(String::as_str).unwrap_or_default();
                format!("sent      {} <- {text} (rule {})", outcome.lane, outcome.rule_id)
            }
            OutcomeResult::Throttled => {
                lane.frozen_until = outcome.next_at.unwrap_or_default();
                self.throttled += 1;
                let seconds = (outcome.next_at.unwrap_or_default() - outcome.ended_at).max(0) as f64 / 1000.0;
                format!(
                    "throttled {} answered 429: nothing goes there for {seconds:.1} s",
                    outcome.lane
                )
            }
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
        self.say(format!("dead      letter {place}: {reason}: {detail}"));
        *self.reasons.entry(reason).or_default() += 1;
        if record.header("job-id").is_some() {
            self.dead_jobs += 1
        } else {
            self.dead_events += 1
        }
    }

    fn say(&mut self, line: String) {
        if self.plain {
            drop(writeln!(std::io::stdout(), "{line}"));
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// What waits, and why.
    fn waits(&self) -> Option<String> {
        let waits: Vec<String> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.jobs > lane.ended)
            .map(|(id, lane)| format!("{} in {id} ({})", lane.jobs - lane.ended, lane.why()))
            .collect();
        (!waits.is_empty()).then(|| waits.join(", "))
    }

    fn draw(&mut self, ran: Duration) {
        let sent = self.finals.get("sent").copied().unwrap_or(0);
        let mut frame = vec![
            format!(
                "{:>4} s   {} events   {} matches   {sent} sent   {} dead letters",
                ran.as_secs(),
                self.produced,
                self.matches,
                self.dead_events + self.dead_jobs
            ),
            String::new(),
        ];
        for (id, lane) in &self.lanes {
            let waiting = lane.jobs - lane.ended;
            let why = if waiting > 0 { lane.why() } else { String::new() };
            frame.push(format!("  {id:<28} {:>5} sent {waiting:>4} waiting  {why}", lane.sent));
        }
        frame.push(String::new());
        frame.extend(self.recent.iter().map(|line| format!("  {line}")));
        let mut out = String::new();
        if self.lines > 0 {
            out.push_str(&format!("\x1b[{}A", self.lines));
        }
        for line in &frame {
            let line: String = line.chars().take(118).collect();
            out.push_str(&format!("\x1b[2K{line}\n"));
        }
        out.push_str("\x1b[J");
        self.lines = frame.len();
        let mut stdout = std::io::stdout();
        drop(stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()));
    }
}

impl Lane {
    fn why(&self) -> String {
        let frozen = (self.frozen_until - crate::app::now_millis()) as f64 / 1000.0;
        if frozen > 0.0 {
            format!("frozen {frozen:.0} s more by a 429")
        } else {
            "its rate allows no more".to_owned()
        }
    }
}
