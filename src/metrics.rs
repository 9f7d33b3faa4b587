//! Every metric: its name, its help, its labels. Methods are named after the facts they count.
//!
//! Label sets are closed: no lead id, no text and no URL ever becomes one.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::delivery::{ActionType, OutcomeResult, Provider};
use crate::lead::{TRIGGERS, trigger_label};
use crate::reason::Reason;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events_decoded: IntCounterVec,
    events_dead: IntCounterVec,
    events_lost: IntCounter,
    matches: IntCounterVec,
    rule_matches: IntCounterVec,
    rule_labels: Mutex<HashSet<String>>,
    rules_max: usize,
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
}

/// Why a lane is frozen; a closed set.
pub const FROZEN: [&str; 2] = ["throttled", "credential_refused"];

fn buckets(from: f64, factor: f64, count: usize) -> Vec<f64> {
    prometheus::exponential_buckets(from, factor, count).expect("the buckets are positive and grow")
}

impl Metrics {
    pub fn new(rules_max: usize) -> Self {
        Self::build(rules_max).expect("metric names are valid and stand here once")
    }

    fn build(rules_max: usize) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("leadlane".to_owned()), None)?;
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: Vec<f64>| {
            let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let seconds = GaugeVec::new(
            Opts::new(
                "backlog_seconds",
                "Seconds of waiting work, by what bounds it: the destinations' limits, or this process.",
            ),
            &["bound"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let reach = Gauge::new(
            "dedup_reach_seconds",
            "How far back a repeated event is known to have been sent.",
        )?;
        registry.register(Box::new(reach.clone()))?;
        let build = IntGaugeVec::new(
            Opts::new("build_info", "The version that runs; always 1."),
            &["version"],
        )?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            events_decoded: counters("events_decoded_total", "Lead events decoded, by trigger.", &["trigger"])?,
            events_dead: counters(
                "events_dead_total",
                "Lead events that became dead letters, by reason.",
                &["reason"],
            )?,
            events_lost: counter(
                "events_lost_total",
                "Lead events that retention removed before they were read.",
            )?,
            matches: counters(
                "matches_total",
                "Rules that held for an event, by trigger and action.",
                &["trigger", "action"],
            )?,
            rule_matches: counters("rule_matches_total", "Events a rule held for.", &["rule_id"])?,
            rule_labels: Mutex::default(),
            rules_max,
            jobs_committed: counter("jobs_committed_total", "Delivery jobs committed.")?,
            transaction_duration: histogram(
                "transaction_duration_seconds",
                "Time a commit takes.",
                buckets(0.001, 2.0, 14),
            )?,
            transactions_aborted: counter(
                "transactions_aborted_total",
                "Transactions aborted; their events are read again.",
            )?,
            rules_active: gauge("rules_active", "Rules in force with the status active.")?,
            rules_rejected: counters(
                "rules_rejected_total",
                "Records of the rules topic that are no valid rule, by reason.",
                &["reason"],
            )?,
            rule_change_visible: histogram(
                "rule_change_visible_seconds",
                "Time from a rule's write to its being in force.",
                buckets(0.001, 2.0, 14),
            )?,
            consumer_lag: gauges("consumer_lag", "Records not yet consumed.", &["topic", "partition"])?,
            attempts: counters(
                "attempts_total",
                "Attempts to send, by what came of them.",
                &["provider", "result"],
            )?,
            attempt_duration: histograms(
                "attempt_duration_seconds",
                "Time from request to answer.",
                &["provider"],
                buckets(0.001, 2.0, 15),
            )?,
            outcomes: counters("outcomes_total", "Outcomes, final and not.", &["provider", "outcome"])?,
            delivery_age: histograms(
                "delivery_age_seconds",
                "Time from the event to its being accepted.",
                &["provider"],
                buckets(0.01, 2.5, 16),
            )?,
            lane_backlog: gauges("lane_backlog", "Jobs waiting in lanes.", &["provider"])?,
            backlog_seconds: seconds,
            lanes_frozen: gauges(
                "lanes_frozen",
                "Lanes that may not send for now.",
                &["provider", "reason"],
            )?,
            in_flight: gauges("in_flight", "Requests in flight.", &["provider"])?,
            dead_letters: counters("dead_letters_total", "Dead letters written, by reason.", &["reason"])?,
            dedup_reach: reach,
            registry,
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Known label sets are there from the start, so that a rate over them is never absent.
    fn start_at_zero(&self) {
        for trigger in TRIGGERS.into_iter().chain(["other"]) {
            self.events_decoded.with_label_values(&[trigger]);
        }
        for reason in Reason::ALL {
            self.dead_letters.with_label_values(&[reason.as_str()]);
            self.events_dead.with_label_values(&[reason.as_str()]);
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
        for action in ActionType::ALL {
            self.matches.with_label_values(&["other", action.as_str()]);
        }
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
        self.events_decoded.with_label_values(&[trigger_label(trigger)]).inc();
    }

    pub fn event_dead(&self, reason: Reason) {
        self.events_dead.with_label_values(&[reason.as_str()]).inc();
        self.dead_letter(reason);
    }

    pub fn events_lost(&self, count: u64) {
        self.events_lost.inc_by(count);
    }

    pub fn matched(&self, trigger: &str, action: ActionType, rule_id: &str) {
        self.matches
            .with_label_values(&[trigger_label(trigger), action.as_str()])
            .inc();
        let mut labels = self.rule_labels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = labels.contains(rule_id) || (labels.len() < self.rules_max && labels.insert(rule_id.to_owned()));
        self.rule_matches
            .with_label_values(&[if known { rule_id } else { "other" }])
            .inc();
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

    pub fn lag(&self, topic: &str, partition: i32, lag: i64) {
        self.consumer_lag
            .with_label_values(&[topic, &partition.to_string()])
            .set(lag);
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
}
