//! Each topic by itself: what is wrong with it, also where another one is missing.

use super::super::metadata;
use super::wrong::{Wrong, wrong_counts, wrong_settings};
use super::{admin, counts, find, may_describe, outside_max, setting, wanted, why};
use crate::config::Config;

/// What is said of a topic that isn't there, and what makes it.
pub const MISSING: &str = "is missing";
pub const MISSING_CURE: &str = "make what is missing by: leadlane topics create";

/// A topic of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    pub topic: String,
    /// Whether it is there for us.
    pub is_there: bool,
    pub wrong: Vec<Wrong>,
}

impl Looked {
    pub fn is_missing(&self) -> bool {
        self.wrong.iter().any(|wrong| wrong.what == MISSING)
    }
}

/// Each of our topics with what is wrong with it, also where another one is missing: what stops `check` at once is told
/// of one topic here.
pub async fn look(config: &Config) -> Result<Vec<Looked>, String> {
    let counts = counts(&metadata(config, None)?);
    let admin = admin(config)?;
    let mut source_max = outside_max(config, &admin).await;
    for source in [&config.topics.jobs, &config.topics.events] {
        let max = match counts.contains_key(source) {
            true => setting(config, &admin, source, "max.message.bytes").await.ok(),
            false => None,
        };
        source_max = source_max.max(max.and_then(|max| max.parse().ok()).unwrap_or(0));
    }
    let uneven = wrong_counts(config, &counts);
    let mut all = Vec::new();
    for wanted in wanted(config, 1, 1, source_max) {
        let topic = &wanted.name;
        let of = |what: String, cure: String| Wrong {
            topic: topic.clone(),
            what,
            cure,
        };
        let mut wrong: Vec<Wrong> = uneven.iter().filter(|wrong| wrong.topic == *topic).cloned().collect();
        // Who may not see a topic isn't told of it unless it is asked for by its name.
        let found = counts
            .get(topic)
            .map_or_else(|| find(config, topic), |count| Ok(Some(*count)));
        let is_there = matches!(found, Ok(Some(_)));
        match found {
            Err(said) => wrong.push(split(said, of)),
            Ok(None) => wrong.push(of(MISSING.to_owned(), MISSING_CURE.to_owned())),
            Ok(Some(_)) => {
                match wrong_settings(config, &admin, &counts, &wanted, why(config, &wanted, source_max)).await {
                    Ok(settings) => wrong.extend(settings),
                    Err(said) => wrong.push(split(said, of)),
                }
            }
        }
        let topic = wanted.name;
        all.push(Looked { topic, is_there, wrong });
    }
    Ok(all)
}

/// What is wrong and, behind `; `, the cure.
fn split(said: String, of: impl Fn(String, String) -> Wrong) -> Wrong {
    match said.split_once("; ") {
        Some((what, cure)) => of(what.to_owned(), cure.to_owned()),
        None => of(said, String::new()),
    }
}

/// Checks that the topics which inlets read are there; the error names each with its inlets.
pub fn check_foreign(config: &Config) -> Result<(), String> {
    let missing = look_foreign(config)?;
    let missing = missing.into_iter().filter_map(|(topic, words)| Some((topic, words?)));
    let (topics, missing): (Vec<String>, Vec<String>) = missing.unzip();
    if missing.is_empty() {
        return Ok(());
    }
    may_describe(config, &topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    Err(format!(
        "{} isn't there for us at {}; {FOREIGN_CURE}",
        missing.join(" and "),
        config.kafka.brokers
    ))
}

/// What helps where a topic of another system is missing.
pub const FOREIGN_CURE: &str = "whoever writes it must make it first, or correct topic under inlets";

/// The topics that inlets read, each with words for the one that is missing.
pub fn look_foreign(config: &Config) -> Result<Vec<(String, Option<String>)>, String> {
    let foreign = config.foreign_topics();
    if foreign.is_empty() {
        return Ok(Vec::new());
    }
    let metadata = metadata(config, None)?;
    let is_there = |name: &str| {
        let mut topics = metadata.topics().iter();
        topics.any(|topic| topic.name() == name && topic.error().is_none())
    };
    let look = foreign.into_iter().map(|(topic, inlets)| {
        let names: Vec<&str> = inlets.iter().map(|inlet| inlet.name.as_str()).collect();
        let missing = format!("topic {topic}, which the inlet {} reads,", names.join(" and "));
        (topic.to_owned(), (!is_there(topic)).then_some(missing))
    });
    Ok(look.collect())
}
