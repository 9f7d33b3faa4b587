//! The demo's output: a calm live view on a terminal, plain lines elsewhere.
//!
//! It reads from the topics, as any other program would, and from the sandbox what arrived.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::story::Story;
use crate::config::Config;
use crate::delivery::recall::credential_of;
use crate::delivery::{DeliveryJob, Outcome, OutcomeResult};
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::lead::decode::decode;
use crate::lead::schemas::Schemas;
use crate::text;

/// Lines of the live view at most: those that scroll by, and those of the story.
const RECENT: usize = 8;
const PRINTED: usize = 16;
/// On a smaller terminal the view is plain lines.
const SMALLEST: Size = Size { columns: 60, rows: 20 };

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Size {
    /// The size of stdout now; none where it is no terminal, or one that can't be written over.
    fn now() -> Option<Self> {
        let stdout = std::io::stdout();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
        Some(Self {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
    }

    fn fits(self) -> bool {
        self.columns >= SMALLEST.columns && self.rows >= SMALLEST.rows
    }
}

/// Takes in a record of one of the topics.
type Take = fn(&mut Seen, &Record);

#[derive(Debug, Clone)]
pub(super) struct View {
    seen: Arc<Mutex<Seen>>,
    began: Instant,
    live: bool,
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
    pub(super) fn new(config: &Config, story: Story) -> anyhow::Result<Self> {
        let live = Size::now().is_some_and(Size::fits);
        let desk = format!("http://{}/", config.admin.listen);
        let seen = Arc::new(Mutex::new(Seen::new(story, desk, !live)));
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
        self.print(&seen.summary());
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
    fn new(story: Story, desk: String, plain: bool) -> Self {
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
            drop(writeln!(std::io::stdout(), "{line}"));
        }
        if self.printed.len() == PRINTED {
            self.printed.pop_front();
        }
        self.printed.push_back(line);
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
            drop(writeln!(std::io::stdout(), "{line}"));
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

    /// The live view, of no more lines than `size` has, less the one that the cursor stands in.
    fn frame(&self, ran: Duration, size: Size) -> Vec<String> {
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
        let left = self.left().map(|left| format!("  {left}"));
        // Two empty lines part the three lists.
        let room = size.rows.saturating_sub(1 + frame.len() + left.iter().len() + 2);
        let recent = RECENT.min(room / 4);
        let lanes = self.lanes.len().min((room - recent) / 2);
        let printed = PRINTED.min(room - recent - lanes);
        // Where not all have room, those that wait are worth more than those that don't.
        let mut shown: Vec<(&String, &Lane)> = self.lanes.iter().collect();
        shown.sort_by_key(|(_, lane)| lane.waiting() == 0);
        shown.truncate(lanes);
        shown.sort_by_key(|(id, _)| *id);
        let width = if size.columns < 100 { 24 } else { 28 };
        for (id, lane) in shown {
            let waiting = lane.waiting();
            let why = if waiting > 0 { self.why(id, lane) } else { String::new() };
            frame.push(format!(
                "  {id:<width$} {:>4} sent {waiting:>4} waiting  {why}",
                lane.sent
            ));
        }
        let last = |lines: &VecDeque<String>, count: usize| {
            let lines = lines.iter().skip(lines.len().saturating_sub(count));
            lines.map(|line| format!("  {line}")).collect::<Vec<_>>()
        };
        frame.extend(left);
        frame.push(String::new());
        frame.extend(last(&self.printed, printed));
        frame.push(String::new());
        frame.extend(last(&self.recent, recent));
        // A line in the last column would wrap on some terminals.
        let columns = size.columns.saturating_sub(1);
        let mut fitting = frame
            .into_iter()
            .map(|line| text::truncate(&line, columns))
            .collect::<Vec<_>>();
        fitting.truncate(size.rows.saturating_sub(1));
        fitting
    }

    fn draw(&mut self, ran: Duration) {
        let Some(size) = Size::now() else { return };
        let mut out = self.over(size);
        let frame = self.frame(ran, size);
        for line in &frame {
            out.push_str(&format!("\x1b[2K{line}\n"));
        }
        out.push_str("\x1b[J");
        (self.lines, self.size) = (frame.len(), Some(size));
        self.write(&out);
    }

    /// Takes the frame away, so that what comes next stands in its place.
    fn erase(&mut self) {
        if let Some(size) = self.size {
            let out = format!("{}\x1b[J", self.over(size));
            (self.lines, self.size) = (0, None);
            self.write(&out);
        }
    }

    /// Goes to where the frame begins that stands. A terminal of another size has wrapped it by its own rules: it is
    /// cleared.
    fn over(&self, size: Size) -> String {
        match self.lines {
            _ if self.size.is_some_and(|before| before != size) => "\x1b[H\x1b[2J".to_owned(),
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }

    fn write(&self, out: &str) {
        let mut stdout = std::io::stdout();
        drop(stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()));
    }
}

/// A message as Slack shows it, on one line.
pub(super) fn as_read(text: &str) -> String {
    let mut read = text::Bounded::new(1000);
    text::slack::plain(text, |_| None, &mut read);
    read.into_text().replace('\n', " ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Sandbox, Settings};

    #[test]
    fn the_live_view_fits_the_terminal() {
        let mut seen = Seen::new(
            Story::new(Sandbox::new(Settings::default())),
            "http://127.0.0.1:8080/".to_owned(),
            false,
        );
        for number in 0..12 {
            let lane = seen
                .lanes
                .entry(format!("slack:sales-bot/C0LANE{number:02}"))
                .or_default();
            (lane.jobs, lane.sent) = (u64::from(number == 11), 7);
        }
        for number in 0..40 {
            seen.show(format!("digest    {number} {}", "long ".repeat(60)));
            seen.say(format!("event     {number} {}", "é".repeat(300)));
        }
        for (columns, rows) in [(60, 20), (80, 24), (120, 40), (300, 100)] {
            let frame = seen.frame(Duration::from_secs(9), Size { columns, rows });
            assert!(frame.len() < rows, "{columns}x{rows}: {frame:#?}");
            assert!(frame.iter().all(|line| line.chars().count() < columns), "{frame:#?}");
            let has = |text: &str| frame.iter().any(|line| line.contains(text));
            assert!(
                frame[0].contains("9 s") && has("digest    39") && has("event     39"),
                "{frame:#?}"
            );
            assert!(has("C0LANE11"), "the lane that waits is among them: {frame:#?}");
        }
    }

    #[test]
    fn messages_are_shown_as_people_read_them() {
        assert_eq!(as_read("Harbor &amp; Sons\n&lt;3"), "Harbor & Sons <3");
    }
}
