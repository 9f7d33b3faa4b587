//! Every metric: its name, its help, its labels. A method is named after the fact that it counts.
//!
//! Label sets are closed: no lead id, no text and no URL ever becomes a label.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::action::{ActionType, Provider};
use crate::delivery::OutcomeResult;
use crate::lead::TRIGGERS;
use crate::reason::Reason;
use crate::rules::RuleId;

mod gone;
mod lags;
mod matches;

use gone::Gone;
pub use gone::StartedOver;
pub use lags::Lags;
use matches::{Matches, number};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Counters by the index of the trigger, because every event passes here; `other` stands last.
    events_decoded: Vec<IntCounter>,
    events_dead: IntCounterVec,
    gone: Gone,
    matches: Matches,
    jobs_committed: IntCounter,
    transaction_duration: Histogram,
    transactions_aborted: IntCounter,
    rules_active: IntGauge,
    rules_rejected: IntCounterVec,
    rule_change_visible: Histogram,
    consumer_lag: IntGaugeVec,
    attempts: IntCounterVec,
    attempt_duration: HistogramVec,
    outcomes: IntCounterVec,
    delivery_age: HistogramVec,
    lane_backlog: IntGaugeVec,
    backlog_seconds: GaugeVec,
    lanes_frozen: IntGaugeVec,
    in_flight: IntGaugeVec,
    dead_letters: IntCounterVec,
    dedup_reach: Gauge,
    oldest_job_age: Gauge,
    job_age_max: Gauge,
    payload_bytes: IntGauge,
    jobs_reread: IntCounter,
    digests: IntCounter,
    unreadable_records: IntGauge,
    inlets: Inlets,
    process: Process,
}

#[derive(Debug)]
struct Inlets {
    requests: IntCounterVec,
    request_duration: HistogramVec,
    events: IntCounterVec,
}

impl Inlets {
    fn build(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            requests: make.counters(
                "inlet_requests_total",
                "Requests to inlets answered, by status; what is for no inlet is other.",
                &["inlet", "status"],
            )?,
            request_duration: make.histograms(
                "inlet_request_duration_seconds",
                "Time from a request's first byte to its answer.",
                "inlet",
                buckets(0.001, 2.0, 16),
            )?,
            events: make.counters(
                "inlet_events_total",
                "What became of what inlets took in: lead events, dead letters, records left out.",
                &["inlet", "result"],
            )?,
        })
    }
}

#[derive(Debug)]
struct Process {
    ready: IntGauge,
    panics: IntCounter,
    clock_jumps: IntCounter,
}

impl Process {
    fn build(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            ready: make.gauge("ready", "1 once the process has all that /readyz waits for.")?,
            panics: make.counter("panics_total", "Panics, each a fault of Leadlane; the log says where.")?,
            clock_jumps: make.counter("clock_jumps_total", "Jumps of the wall clock by a second or more.")?,
        })
    }
}

/// Why a lane is frozen; a closed set.
pub const FROZEN: [&str; 3] = ["throttled", "credential_refused", "paused"];

/// The results of records that an inlet takes in; a closed set.
const INLET_RESULTS: [&str; 3] = ["accepted", "dead", "left_out"];

impl Metrics {
    pub fn new(rules_max: usize) -> Self {
        Self::build(rules_max).expect("metric names are valid and stand here once")
    }

    fn build(rules_max: usize) -> prometheus::Result<Self> {
        let make = Maker(Registry::new_custom(Some("leadlane".to_owned()), None)?);
        make.gauges("build_info", "The version that runs; always 1.", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let (short, long) = (buckets(0.001, 2.0, 15), buckets(0.01, 2.5, 16));
        #[rustfmt::skip] // one metric a line reads as the table that it is
        let metrics = Self {
            events_decoded: {
                let by = make.counters("events_decoded_total", "Lead events decoded, by trigger.", &["trigger"])?;
                TRIGGERS.into_iter().chain(["other"]).map(|trigger| by.with_label_values(&[trigger])).collect()
            },
            events_dead: make.counters(
                "events_dead_total", "Lead events that became dead letters, by reason.", &["reason"],
            )?,
            gone: Gone::build(&make)?,
            matches: Matches::build(&make, rules_max)?,
            jobs_committed: make.counter("jobs_committed_total", "Delivery jobs committed.")?,
            transaction_duration: make.histogram("transaction_duration_seconds", "Time a commit takes.")?,
            transactions_aborted: make.counter(
                "transactions_aborted_total", "Transactions aborted; their events are read again.",
            )?,
            rules_active: make.gauge("rules_active", "Rules in force with the status active.")?,
            rules_rejected: make.counters(
                "rules_rejected_total", "Records of the rules topic that are no valid rule, by reason.", &["reason"],
            )?,
            rule_change_visible: make.histogram(
                "rule_change_visible_seconds", "Time from a rule's write to its being in force.",
            )?,
            consumer_lag: make.gauges("consumer_lag", "Records not yet consumed.", &["topic", "partition"])?,
            attempts: make.counters(
                "attempts_total", "Attempts to send, by what came of them.", &["provider", "result"],
            )?,
            attempt_duration: make.histograms("attempt_duration_seconds", "Time from request to answer.", "provider", short)?,
            outcomes: make.counters("outcomes_total", "Outcomes, final and not.", &["provider", "outcome"])?,
            delivery_age: make.histograms("delivery_age_seconds", "From the event to its being accepted.", "provider", long)?,
            lane_backlog: make.gauges("lane_backlog", "Jobs waiting in lanes.", &["provider"])?,
            backlog_seconds: make.seconds(
                "backlog_seconds",
                "Seconds of waiting work, by what bounds it: the destinations' limits, or this process.",
                &["bound"],
            )?,
            lanes_frozen: make.gauges("lanes_frozen", "Lanes that may not send for now.", &["provider", "reason"])?,
            in_flight: make.gauges("in_flight", "Requests in flight.", &["provider"])?,
            dead_letters: make.counters("dead_letters_total", "Dead letters written, by reason.", &["reason"])?,
            dedup_reach: make.add(
                Gauge::new("dedup_reach_seconds", "How far back a repeated event is known to have been sent.")?,
            )?,
            oldest_job_age: make.add(
                Gauge::new("oldest_job_age_seconds", "Age of the oldest unsettled job; 0 without one.")?,
            )?,
            job_age_max: make.add(
                Gauge::new("job_age_max_seconds", "sender.job_age_max: an older job becomes a dead letter.")?,
            )?,
            payload_bytes: make.gauge("payload_bytes", "Bytes of jobs' payloads held in memory.")?,
            jobs_reread: make.counter("jobs_reread_total", "Jobs read again from Kafka when their turn came.")?,
            digests: make.counter("digests_total", "Messages that stood for several jobs.")?,
            unreadable_records: make.gauge(
                "unreadable_records", "Jobs and outcomes of a newer version, which hold up what they belong to.",
            )?,
            inlets: Inlets::build(&make)?,
            process: Process::build(&make)?,
            registry: make.0,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Known label sets are there from the start, so that a rate over them is never absent.
    fn start_at_zero(&self) {
        for reason in Reason::ALL {
            self.dead_letters.with_label_values(&[reason.as_str()]);
            self.events_dead.with_label_values(&[reason.as_str()]);
        }
        for topic in StartedOver::ALL {
            self.gone.started_over.with_label_values(&[topic.as_str()]);
        }
        for reason in crate::rules::log::Reason::ALL {
            self.rules_rejected.with_label_values(&[reason.as_str()]);
        }
        for provider in Provider::ALL.map(Provider::as_str) {
            for result in OutcomeResult::ALL {
                self.outcomes.with_label_values(&[provider, result.as_str()]);
            }
            for result in [
                "delivered",
                "throttled",
                "retry",
                "ambiguous",
                "rejected",
                "credential_refused",
            ] {
                self.attempts.with_label_values(&[provider, result]);
            }
            self.attempt_duration.with_label_values(&[provider]);
            self.delivery_age.with_label_values(&[provider]);
            self.lane_backlog.with_label_values(&[provider]);
            self.in_flight.with_label_values(&[provider]);
            for reason in FROZEN {
                self.lanes_frozen.with_label_values(&[provider, reason]);
            }
        }
        self.matches.start_at_zero();
        for bound in ["limit", "capacity"] {
            self.backlog_seconds.with_label_values(&[bound]);
        }
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(error) => format!("# {error}\n"),
        }
    }

    pub fn event_decoded(&self, trigger: &str) {
        self.events_decoded[number(trigger)].inc();
    }

    pub fn event_dead(&self, reason: Reason) {
        self.events_dead.with_label_values(&[reason.as_str()]).inc();
        self.dead_letter(reason);
    }

    pub fn events_lost(&self, count: u64) {
        self.gone.events.inc_by(count);
    }

    pub fn started_over(&self, topic: StartedOver) {
        self.gone.started_over.with_label_values(&[topic.as_str()]).inc();
    }

    pub fn matched(&self, trigger: &str, action: ActionType, rule: RuleId<'_>) {
        self.matches.count(trigger, action, rule);
    }

    pub fn committed(&self, jobs: u64, took: &[Duration]) {
        self.jobs_committed.inc_by(jobs);
        took.iter()
            .for_each(|took| self.transaction_duration.observe(took.as_secs_f64()));
    }

    pub fn aborted(&self, count: u64) {
        self.transactions_aborted.inc_by(count);
    }

    pub fn rules_in_force(&self, active: usize) {
        self.rules_active.set(i64::try_from(active).unwrap_or(i64::MAX));
    }

    pub fn rule_rejected(&self, reason: crate::rules::log::Reason) {
        self.rules_rejected.with_label_values(&[reason.as_str()]).inc();
    }

    pub fn rule_visible(&self, after: Duration) {
        self.rule_change_visible.observe(after.as_secs_f64());
    }

    /// `None` when the lag isn't known (any more): a number that stood still would look like a stall.
    pub fn lag(&self, topic: &str, partition: i32, lag: Option<i64>) {
        let labels = [topic, &partition.to_string()];
        match lag {
            Some(lag) => self.consumer_lag.with_label_values(&labels).set(lag),
            // There may be none, which is what is asked for.
            None => drop(self.consumer_lag.remove_label_values(&labels)),
        }
    }

    pub fn attempted(&self, provider: Provider, result: &str, took: Duration) {
        self.attempts.with_label_values(&[provider.as_str(), result]).inc();
        self.attempt_duration
            .with_label_values(&[provider.as_str()])
            .observe(took.as_secs_f64());
    }

    pub fn settled(&self, provider: Provider, result: OutcomeResult) {
        self.outcomes
            .with_label_values(&[provider.as_str(), result.as_str()])
            .inc();
    }

    pub fn delivered(&self, provider: Provider, age: Duration) {
        self.delivery_age
            .with_label_values(&[provider.as_str()])
            .observe(age.as_secs_f64());
    }

    pub fn dead_letter(&self, reason: Reason) {
        self.dead_letters.with_label_values(&[reason.as_str()]).inc();
    }

    pub fn waiting(&self, provider: Provider, jobs: usize, in_flight: usize) {
        self.lane_backlog
            .with_label_values(&[provider.as_str()])
            .set(i64::try_from(jobs).unwrap_or(i64::MAX));
        self.in_flight
            .with_label_values(&[provider.as_str()])
            .set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }

    pub fn frozen(&self, provider: Provider, reason: &str, lanes: usize) {
        self.lanes_frozen
            .with_label_values(&[provider.as_str(), reason])
            .set(i64::try_from(lanes).unwrap_or(i64::MAX));
    }

    pub fn backlog(&self, limit_seconds: f64, capacity_seconds: f64) {
        self.backlog_seconds.with_label_values(&["limit"]).set(limit_seconds);
        self.backlog_seconds
            .with_label_values(&["capacity"])
            .set(capacity_seconds);
    }

    pub fn dedup_reach(&self, reach: Duration) {
        self.dedup_reach.set(reach.as_secs_f64());
    }

    pub fn panicked(&self) {
        self.process.panics.inc();
    }

    pub fn clock_jumped(&self) {
        self.process.clock_jumps.inc();
    }

    /// The age of this process's oldest unsettled job; zero without one.
    pub fn oldest_job_age(&self, age: Duration) {
        self.oldest_job_age.set(age.as_secs_f64());
    }

    /// `sender.job_age_max`, so that an alert can compare the oldest job with it.
    pub fn job_age_max(&self, age: Duration) {
        self.job_age_max.set(age.as_secs_f64());
    }

    pub fn payload_bytes(&self, bytes: usize) {
        self.payload_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn jobs_reread(&self, jobs: usize) {
        self.jobs_reread.inc_by(u64::try_from(jobs).unwrap_or(u64::MAX));
    }

    pub fn ready(&self, ready: bool) {
        self.process.ready.set(i64::from(ready));
    }

    /// The inlets that this process serves; their names are labels.
    pub fn inlets<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            for result in INLET_RESULTS {
                self.inlets.events.with_label_values(&[name, result]);
            }
        }
    }

    /// A request to an inlet was answered. `inlet` is a name of the configuration, or `other`.
    pub fn inlet_answered(&self, inlet: &str, status: u16, took: Duration) {
        self.inlets
            .requests
            .with_label_values(&[inlet, &status.to_string()])
            .inc();
        self.inlets
            .request_duration
            .with_label_values(&[inlet])
            .observe(took.as_secs_f64());
    }

    /// An inlet took records in: so many lead events and dead letters are in Kafka, so many records are left out.
    pub fn inlet_took(&self, inlet: &str, [accepted, dead, left_out]: [u64; 3]) {
        for (result, count) in INLET_RESULTS.into_iter().zip([accepted, dead, left_out]) {
            self.inlets.events.with_label_values(&[inlet, result]).inc_by(count);
        }
    }

    pub fn unreadable_records(&self, count: usize) {
        self.unreadable_records.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// One message was sent for several jobs.
    pub fn digest(&self) {
        self.digests.inc();
    }
}

/// Makes metrics and registers them.
struct Maker(Registry);

impl Maker {
    fn add<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.0.register(Box::new(metric.clone())).map(|()| metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// From a millisecond up to 8 seconds.
    fn histogram(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets(0.001, 2.0, 14));
        self.add(Histogram::with_opts(options)?)
    }

    fn histograms(&self, name: &str, help: &str, label: &str, buckets: Vec<f64>) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        self.add(HistogramVec::new(options, &[label])?)
    }
}

fn buckets(from: f64, factor: f64, count: usize) -> Vec<f64> {
    prometheus::exponential_buckets(from, factor, count).expect("the buckets are positive and grow")
}
