//! What is wrong with topics that are there, and the command that sets each right.

use std::collections::BTreeMap;

use rdkafka::admin::AdminClient;

use super::{Context, DAY, Wanted, age_max, setting};
use crate::config::Config;
use crate::dates;
use crate::kafka::tool;

/// What is wrong with a topic, and what sets it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub topic: String,
    pub what: String,
    pub cure: String,
}

/// The error names everything that is wrong, each with its cure.
pub(super) fn refuse(config: &Config, wrong: &[Wrong]) -> Result<(), String> {
    if wrong.is_empty() {
        return Ok(());
    }
    let mut lines = vec![format!("topics at {} are not as they must be:", config.kafka.brokers)];
    lines.extend(wrong.iter().map(|Wrong { what, cure, .. }| format!("  {what}; {cure}")));
    if config.kafka.properties.0.contains_key("security.protocol") {
        lines.push("admin.properties is a file of yours: the log-in of who may do that".to_owned());
    }
    Err(lines.join("\n"))
}

/// The command that sets a topic's setting.
fn alter(config: &Config, topic: &str, setting: &str, value: &str) -> String {
    let tool = tool(&config.kafka, "kafka-configs.sh");
    format!("set it by: {tool} --alter --entity-type topics --entity-name {topic} --add-config {setting}={value}")
}

/// The wrong numbers of partitions of the topics that are there.
pub(super) fn wrong_counts(config: &Config, counts: &BTreeMap<String, i32>) -> Vec<Wrong> {
    let topics = &config.topics;
    let count = |name: &str| counts.get(name).copied();
    let mut wrong = Vec::new();
    if let Some(rules) = count(&topics.rules).filter(|count| *count != 1) {
        wrong.push(Wrong {
            topic: topics.rules.clone(),
            what: format!(
                "{} has {rules} partitions, but must have 1, because a rule's version is its offset",
                topics.rules
            ),
            // Kafka takes no partition away.
            cure: "give topics.rules another name, then: leadlane topics create, and apply the rules there".to_owned(),
        });
    }
    if let (Some(jobs), Some(outcomes)) = (count(&topics.jobs), count(&topics.outcomes))
        && jobs != outcomes
    {
        let (few, most) = if outcomes < jobs {
            (&topics.outcomes, jobs)
        } else {
            (&topics.jobs, outcomes)
        };
        // A credential's jobs may go to another partition then, and must not wait in two at once.
        let when = if outcomes < jobs {
            ""
        } else {
            " while no job waits (leadlane lanes),"
        };
        wrong.push(Wrong {
            topic: few.clone(),
            what: format!(
                "{} has {outcomes} partitions, but must have as many partitions as {}, which has {jobs}",
                topics.outcomes, topics.jobs
            ),
            cure: format!(
                "add them{when} by: {} --alter --topic {few} --partitions {most}",
                tool(&config.kafka, "kafka-topics.sh")
            ),
        });
    }
    wrong
}

/// The settings of a topic that don't do; `why` ends what is said of each.
pub(super) async fn wrong_settings(
    config: &Config,
    admin: &AdminClient<Context>,
    counts: &BTreeMap<String, i32>,
    wanted: &Wanted,
    why: &str,
) -> Result<Vec<Wrong>, String> {
    let topic = &wanted.name;
    let mut wrong = Vec::new();
    if *topic == config.topics.rules && counts.get(topic).is_some_and(|count| *count != 1) {
        // It is another's, who may need its settings as they are.
        return Ok(wrong);
    }
    for (name, value) in &wanted.settings {
        let actual = setting(config, admin, topic, name).await?;
        if suffices(name, &actual, value) {
            continue;
        }
        let is_age = *name == "retention.ms" && *topic == config.topics.jobs && 2 * age_max(config) >= 7 * DAY;
        wrong.push(Wrong {
            topic: topic.clone(),
            what: match is_age {
                true => format!(
                    "{topic} has {name}={actual}, but sender.job_age_max, which is {}, must be under half of it",
                    dates::duration_text(config.sender.job_age_max)
                ),
                false => format!("{topic} has {name}={actual}, but needs {value}{why}"),
            },
            cure: alter(config, topic, name, value),
        });
    }
    Ok(wrong)
}

/// Longer retention and larger records than ours do no harm.
fn suffices(name: &str, actual: &str, wanted: &str) -> bool {
    match (name, actual.parse::<i64>(), wanted.parse::<i64>()) {
        ("retention.ms", Ok(-1), _) => true,
        ("retention.ms", Ok(_), Ok(-1)) => false,
        ("retention.ms" | "max.message.bytes" | "min.compaction.lag.ms", Ok(actual), Ok(wanted)) => actual >= wanted,
        // A policy may be `compact,delete`; deleting rules would lose them.
        _ => actual == wanted,
    }
}
