//! The feed of rules: it follows the compacted topic of rules, and hands out each state of them as a whole.
//!
//! It reads on a thread of its own, without a group. It hands out the first state once it has read the topic to the
//! end that the topic had at the start; until then the processor waits.
//!
//! Rules that were written in one transaction come into force together: the feed hands a state out at the topic's end, or
//! at an end that the topic had before, and no transaction reaches across those.
//!
//! When the topic is made anew, the feed reads it from its beginning, and the new topic counts. A topic that comes
//! back empty gives no state until somebody writes a rule: lost rules must not pass for deleted ones. Rules come back
//! one after the other, so the feed waits until none has come for a moment before it hands out a state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::Config;
use crate::kafka::KafkaError;
use crate::kafka::place::Places;
use crate::kafka::reader::{Next, Reader, Record};
use crate::metrics::{Metrics, StartedOver};
use crate::rules::Versioned;
use crate::rules::control;
use crate::rules::index::Finds;
use crate::rules::index::upkeep::{Merged, Upkeep};
use crate::rules::log::{Applied, CANCEL_WAITING, Cancel, Read, RuleLog, RuleReader, Rules};
use crate::trail::{self, Crumb, Trail};

/// A topic that was made anew is read until nothing more has come for so long: who brings the rules back may write one
/// after the other, and an event that meets half of them would pass the others by.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// Rules that change one after the other come into force together: a state costs its followers and the index the same,
/// whether one rule changed or many did.
const HAND_OUT_EVERY: Duration = Duration::from_millis(20);

/// How often the feed checks that the records it read are still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So long the feed waits for records where nothing else is to be done.
const IDLE: Duration = Duration::from_millis(100);

/// Records that are read before their turn, and with how few of them one thread is enough.
const AHEAD_MAX: usize = 2048;
const ALONE_MAX: usize = 64;
const THREADS_MAX: usize = 4;

/// The rules in force; `None` until the topic was read to its end, and while it was made anew and is empty.
type State<F> = Option<Arc<Rules<F>>>;

struct Feed<F> {
    config: Arc<Config>,
    topic: String,
    metrics: Arc<Metrics>,
    now: fn() -> i64,
    reader: Reader,
    /// Records that were read before their turn, and what came behind them.
    ahead: VecDeque<(Record, Read)>,
    behind: Option<Next>,
    rule_reader: RuleReader,
    /// One for each thread that helps.
    helpers: Vec<RuleReader>,
    places: Places,
    log: RuleLog<Arc<Versioned>, Upkeep<F>>,
    /// The record that was read last. Those before it may be compacted away.
    last: Option<Crumb>,
    /// The topic was made anew.
    anew: bool,
    /// In a topic that was made anew more rules may be on their way until then.
    quiet_at: Option<Instant>,
    /// No transaction is read by half.
    whole: bool,
    /// An end that the topic had: all that is before it is whole.
    end: Option<i64>,
    changed: bool,
    /// No state is handed out before.
    hand_out_at: Instant,
    /// The thread that merges parts of the index, which takes seconds where rules are very many.
    merging: Option<JoinHandle<Merged<F>>>,
    written_at: Option<i64>,
    look_at: Instant,
    /// The topic can't be looked at, which is said once.
    silent: bool,
    state: watch::Sender<State<F>>,
}

/// Follows the rules until `stop`, for who finds them by `F`.
pub fn follow<F: Finds>(
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    now: fn() -> i64,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<watch::Receiver<State<F>>> {
    let (state, receiver) = watch::channel(None);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX));
    let mut feed = Feed {
        topic: config.topics.rules.clone(),
        metrics,
        now,
        reader: read(&config, None)?,
        ahead: VecDeque::new(),
        behind: None,
        rule_reader: RuleReader::default(),
        helpers: (1..threads).map(|_| RuleReader::default()).collect(),
        places: Places::new(&config)?,
        config,
        log: RuleLog::of(Upkeep::new()),
        last: None,
        anew: false,
        quiet_at: None,
        whole: false,
        end: None,
        changed: true,
        hand_out_at: Instant::now(),
        merging: None,
        written_at: None,
        look_at: Instant::now(),
        silent: false,
        state,
    };
    std::thread::Builder::new().name("rules".to_owned()).spawn(move || {
        while !*stop.borrow() {
            feed.step();
        }
    })?;
    Ok(receiver)
}

impl<F: Finds> Feed<F> {
    fn step(&mut self) {
        self.merge();
        if let Some((record, read)) = self.ahead.pop_front() {
            return match record.offset < self.log.next_offset() {
                true => self.start_over(),
                false => self.take(&record, read),
            };
        }
        let wait = self
            .due()
            .map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        let next = self.behind.take();
        match next.unwrap_or_else(|| self.reader.next(wait.min(IDLE))) {
            Next::Record(record) => return self.read_ahead(record),
            Next::End(_) => self.whole = true,
            Next::Nothing => {}
            Next::Denied(why) => tracing::error!("the rules can't be read: {why}"),
        }
        if self.look_at <= Instant::now() {
            self.look_at = Instant::now() + LOOK_EVERY;
            self.look();
        }
        self.hand_out_if_due();
    }

    /// Takes in what a merge came to, and begins the next one. Neither a change nor an event waits for any.
    fn merge(&mut self) {
        self.log.let_go();
        if let Some(merging) = self.merging.take_if(|merging| merging.is_finished()) {
            let merged = merging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.changed |= self.log.merged(merged);
        }
        if self.merging.is_none()
            && let Some(merge) = self.log.merge()
        {
            let thread = std::thread::Builder::new().name("rules-index".to_owned());
            match thread.spawn(|| merge.run()) {
                Ok(merging) => self.merging = Some(merging),
                Err(error) => {
                    tracing::warn!(%error, "no thread for the index of the rules; it stays in more parts than it should")
                }
            }
        }
    }

    /// When the state is to be handed out, if there is a new one.
    fn due(&self) -> Option<Instant> {
        let due = self
            .quiet_at
            .map_or(self.hand_out_at, |quiet_at| quiet_at.max(self.hand_out_at));
        (self.whole && self.changed).then_some(due)
    }

    fn hand_out_if_due(&mut self) {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.hand_out();
        }
    }

    /// Reads all records that are there, on several threads where they are many: a process that starts has to read every rule.
    fn read_ahead(&mut self, first: Record) {
        let mut records = vec![first];
        while records.len() < AHEAD_MAX && self.behind.is_none() {
            match self.reader.next(Duration::ZERO) {
                Next::Record(record) => records.push(record),
                other => self.behind = Some(other),
            }
        }
        let each = records.len().div_ceil(1 + self.helpers.len()).max(ALONE_MAX);
        let (own, others) = records.split_at(each.min(records.len()));
        let all = std::thread::scope(|scope| {
            let shares = others.chunks(each).zip(&mut self.helpers);
            let helped: Vec<_> = shares
                .map(|(records, reader)| scope.spawn(move || read_all(reader, records)))
                .collect();
            let mut all = read_all(&mut self.rule_reader, own);
            for share in helped {
                all.extend(share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
        self.ahead.extend(records.into_iter().zip(all));
    }

    fn take(&mut self, record: &Record, read: Read) {
        if self.end.is_some_and(|end| end <= record.offset) {
            (self.whole, self.end) = (true, None);
        }
        // While others write without a pause, the topic's end never comes.
        self.hand_out_if_due();
        self.apply(record, read);
        if self.end.is_none() && self.hand_out_at <= Instant::now() {
            self.end = self.reader.end(&self.topic, 0).ok();
        }
        self.whole = self.end.is_some_and(|end| end <= self.log.next_offset());
    }

    fn apply(&mut self, record: &Record, read: Read) {
        if self.quiet_at.is_some() {
            self.quiet_at = Some(Instant::now() + QUIET_FOR);
        }
        self.last = Some(Crumb {
            offset: record.offset,
            sum: trail::sum(record.timestamp, record.key.as_deref(), record.value.as_deref()),
        });
        self.changed |= cancel(&mut self.log, record);
        match self
            .log
            .apply_read(record.offset, record.key.as_deref(), record.value.as_deref(), read)
        {
            Applied::Changed => {
                self.changed = true;
                self.written_at = Some(record.timestamp);
            }
            Applied::Unchanged => {}
            Applied::Rejected(rejection) => {
                self.metrics.rule_rejected(rejection.reason);
                let id = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                tracing::warn!(
                    rule.id = &*id,
                    kafka.offset = rejection.offset,
                    reason = rejection.reason.as_str(),
                    detail = rejection.detail,
                    "a record of the rules topic is no valid {}; the last good version stays in force",
                    if control::lane_of(&id).is_some() {
                        "control record"
                    } else {
                        "rule"
                    }
                );
            }
        }
    }

    /// Whether the record that was read last is still there.
    fn look(&mut self) {
        let next = self.log.next_offset();
        let trail = self.last.map(Trail::of).unwrap_or_default();
        match self.places.check(&self.topic, 0, next, &trail) {
            Ok(None) if self.silent => self.read_on(next),
            Ok(None) => {}
            Ok(Some(_)) => self.start_over(),
            Err(error) if !self.silent => {
                self.silent = true;
                let error = self.places.why(&self.topic, &error);
                tracing::warn!(
                    error,
                    kafka.topic = self.topic,
                    "the rules can't be looked at; those in force stay so"
                );
            }
            Err(_) => {}
        }
    }

    /// Kafka was away, and may have come back with another topic, of which nothing is read yet.
    fn read_on(&mut self, next: i64) {
        match read(&self.config, Some(next)) {
            Ok(reader) => (self.reader, self.silent) = (reader, false),
            Err(error) => tracing::debug!(%error, "the rules can't be read by a new client; the next look tries again"),
        }
    }

    fn start_over(&mut self) {
        self.silent = false;
        match read(&self.config, None) {
            Ok(reader) => self.reader = reader,
            Err(error) => {
                tracing::warn!(%error, kafka.topic = self.topic, "the rules can't be read anew; trying again");
                return;
            }
        }
        self.metrics.started_over(StartedOver::Rules);
        tracing::error!(
            kafka.topic = self.topic,
            kafka.offset = self.log.next_offset(),
            "the rules that were read are not there any more: the topic was made anew or has lost its end; \
             it is read from its beginning, and only what it holds now is in force"
        );
        self.log.start_over();
        self.ahead.clear();
        self.behind = None;
        self.last = None;
        (self.anew, self.changed) = (true, true);
        (self.whole, self.end) = (false, None);
        self.quiet_at = Some(Instant::now() + QUIET_FOR);
    }

    fn hand_out(&mut self) {
        self.changed = false;
        self.hand_out_at = Instant::now() + HAND_OUT_EVERY;
        if self.anew && self.last.is_none() {
            self.metrics.rules_in_force(0);
            tracing::error!(
                kafka.topic = self.topic,
                "the rules topic came back empty; no event is read until a rule is written: leadlane rules apply"
            );
            self.state.send_replace(None);
            return;
        }
        self.quiet_at = None;
        let rules = Arc::new(self.log.snapshot());
        self.metrics.rules_in_force(rules.active);
        // Records from before the start don't show how fast a change is seen.
        if let Some(written_at) = self.written_at.take().filter(|_| self.state.borrow().is_some()) {
            let millis = u64::try_from((self.now)() - written_at).unwrap_or_default();
            self.metrics.rule_visible(Duration::from_millis(millis));
        }
        tracing::info!(
            rules.active = rules.active,
            rules.version = rules.version,
            "rules in force"
        );
        self.state.send_replace(Some(rules));
    }
}

fn read_all(reader: &mut RuleReader, records: &[Record]) -> Vec<Read> {
    let records = records.iter();
    let read = records.map(|record| reader.read(record.key.as_deref(), record.value.as_deref()));
    read.collect()
}

/// A client that knew the old topic may take the new one for an outdated word of it, so that each beginning has its own.
fn read(config: &Config, from: Option<i64>) -> Result<Reader, KafkaError> {
    Reader::follow(config, &config.topics.rules, from)
}

/// Takes in the cancel mark that a record may carry; says whether it is news.
fn cancel<F: Finds>(log: &mut RuleLog<Arc<Versioned>, Upkeep<F>>, record: &Record) -> bool {
    let marked = record.header(CANCEL_WAITING) == Some("true");
    let Some(key) = record.key.as_deref().filter(|_| marked) else {
        return false;
    };
    let mark = Cancel {
        offset: record.offset,
        at: record.timestamp,
    };
    log.cancel(&String::from_utf8_lossy(key), mark)
}
