//! What runs: this process, the groups that read, and how far the desk's memory reaches.

use crate::config::Config;
use crate::desk::resident::{Reach, Topic};
use crate::kafka::groups::Lag;

use super::Web;

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
        let resident = &self.resident;
        let (rules, rejected) = {
            let view = resident.rules().view();
            let in_force = view.log().list().filter(|(_, entry)| entry.in_force.is_some()).count();
            (
                in_force,
                view.log().list().filter(|(_, entry)| entry.rejected.is_some()).count(),
            )
        };
        Status {
            roles: self.roles.clone(),
            rules,
            rejected,
            deliveries: resident.deliveries().len(),
            events: resident.events().newest(None).count(),
            counted_from: resident.counted_from(),
            reach: Topic::ALL.map(|topic| resident.reach(topic)).to_vec(),
            lags: lags(&self.config),
            resident_bytes: resident_bytes(),
        }
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
