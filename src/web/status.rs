//! What runs: this process, the groups that read, and how far the desk's memory reaches.

use std::sync::Arc;

use crate::config::Config;
use crate::desk::resident::{Reach, Topic};
use crate::kafka::groups::Lag;

use super::Web;

/// What Kafka said of the groups is shown for so long, in milliseconds: open pages ask every five seconds.
const LAGS_LAST: i64 = 10_000;

/// What runs, and what the desk remembers.
#[derive(Debug, Clone)]
pub(super) struct Status {
    pub(super) roles: Vec<&'static str>,
    pub(super) rules: usize,
    pub(super) rejected: usize,
    pub(super) deliveries: usize,
    pub(super) events: usize,
    pub(super) counted_from: Option<i64>,
    pub(super) reach: Vec<Reach>,
    /// Why the groups aren't known, where Kafka doesn't answer.
    pub(super) lags: Result<Vec<Lag>, String>,
    /// What this process takes of the machine's memory, in bytes; none where the system doesn't say.
    pub(super) resident_bytes: Option<u64>,
}

impl Web {
    /// It blocks.
    pub(super) fn status(&self) -> Status {
        let (resident, now) = (&self.resident, (self.now)());
        let (rules, rejected) = {
            let view = resident.rules().view();
            (view.in_force(), view.rejected().len())
        };
        // Whoever looks ends before the next look: a reader that asks for the same again waits for ever once a writer waits.
        let deliveries = resident.deliveries().len();
        let events = resident.events().newest(None).count();
        Status {
            roles: self.roles.clone(),
            rules,
            rejected,
            deliveries,
            events,
            counted_from: resident.counted_from(),
            reach: Topic::ALL.map(|topic| resident.reach(topic)).to_vec(),
            lags: self.lags(now),
            resident_bytes: resident_bytes(),
        }
    }
}

impl Web {
    /// How far each group is behind. Kafka takes its time to say so: whoever looks again gets what it said a moment ago.
    fn lags(&self, now: i64) -> Result<Vec<Lag>, String> {
        let is_shown = |(at, _): &(i64, _)| now - at <= LAGS_LAST;
        if let Some((_, last)) = self.lags.last().filter(is_shown) {
            let config = Arc::clone(&self.config);
            self.lags.get(now, move |_| lags(&config));
            return last;
        }
        let read = lags(&self.config);
        self.lags.keep(now, read.clone());
        read
    }
}

/// How far each group of ours is behind.
fn lags(config: &Config) -> Result<Vec<Lag>, String> {
    let group = &config.kafka.group;
    let inlets = format!("{group}-inlets");
    let mut asked = vec![
        (group.clone(), config.topics.events.as_str()),
        (format!("{group}-sender"), config.topics.jobs.as_str()),
    ];
    asked.extend(config.foreign_topics().into_keys().map(|topic| (inlets.clone(), topic)));
    asked
        .into_iter()
        .map(|(group, topic)| Lag::of(config, &group, topic))
        .collect()
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}
