//! The topics: `topics create` makes them; `topics check` and `run` compare them with what Leadlane needs.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::rights::{Right, Rights};
use super::words::Words;
use super::{ANSWER_WAIT, Context};
use crate::config::Config;
pub use look::{FOREIGN_CURE, Looked, MISSING, MISSING_CURE, check_foreign, look, look_foreign};
pub use wrong::Wrong;
use wrong::{refuse, wrong_counts, wrong_settings};

mod look;
mod wrong;

const DAY: i64 = 24 * 3600 * 1000;
/// Kafka's own default of `max.message.bytes`.
const MESSAGE_MAX: i64 = 1_048_588;
/// What a dead letter's headers may add to the record it holds.
const DEAD_LETTER_ROOM: i64 = 64 * 1024;

/// Settings of the topics that the clients have to know.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest record of the events topic, in bytes.
    pub event_max: usize,
    /// The largest record of the jobs topic.
    pub job_max: usize,
    /// The largest record of the outcomes topic.
    pub outcome_max: usize,
    /// The largest record of the dead letters, which is the largest of all.
    pub record_max: usize,
}

impl Limits {
    /// Topics, each with the largest record that it takes. For other topics the broker's limit holds.
    pub(super) fn by_topic(&self, config: &Config) -> [(String, usize); 3] {
        let topics = &config.topics;
        [
            (topics.events.clone(), self.event_max),
            (topics.jobs.clone(), self.job_max),
            (topics.outcomes.clone(), self.outcome_max),
        ]
    }

    /// The most bytes of one batch of records to Kafka: each of the topics takes so many. A record that is larger
    /// alone is a batch of its own.
    pub(super) fn batch_max(&self) -> usize {
        let least = self
            .event_max
            .min(self.job_max)
            .min(self.outcome_max)
            .min(self.record_max);
        least.clamp(1, 1_000_000)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_max: 1_000_000,
            job_max: 1_000_000,
            outcome_max: 1_000_000,
            record_max: 1_000_000 + DEAD_LETTER_ROOM as usize,
        }
    }
}

struct Wanted {
    name: String,
    partitions: i32,
    settings: Vec<(&'static str, String)>,
}

/// The oldest that a waiting job may become, in milliseconds.
fn age_max(config: &Config) -> i64 {
    // Some hundred years, twice of which is still a number.
    let most = i64::MAX / 4;
    i64::try_from(config.sender.job_age_max.as_millis()).map_or(most, |age| age.min(most))
}

/// The topics as they have to be; `jobs` is the number of partitions of the jobs and of their outcomes.
fn wanted(config: &Config, partitions: i32, jobs: i32, source_max: i64) -> Vec<Wanted> {
    let topics = &config.topics;
    let topic = |name: &str, partitions, settings: Vec<(&'static str, String)>| Wanted {
        name: name.to_owned(),
        partitions,
        settings,
    };
    let delete = ("cleanup.policy", "delete".to_owned());
    let days = |days: i64| ("retention.ms", (days * DAY).to_string());
    // A job waits for less than half of its retention, and its outcomes are known for as long.
    let waiting = ("retention.ms", (7 * DAY).max(2 * age_max(config) + 1).to_string());
    vec![
        topic(&topics.events, partitions, vec![delete.clone()]),
        topic(
            &topics.rules,
            1,
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("min.compaction.lag.ms", (7 * DAY).to_string()),
            ],
        ),
        topic(&topics.jobs, jobs, vec![delete.clone(), waiting.clone()]),
        topic(&topics.outcomes, jobs, vec![delete.clone(), waiting]),
        topic(
            &topics.dead_letters,
            partitions,
            vec![
                delete.clone(),
                days(30),
                ("max.message.bytes", (source_max + DEAD_LETTER_ROOM).to_string()),
            ],
        ),
        topic(&topics.audit, 1, vec![delete, ("retention.ms", "-1".to_owned())]),
    ]
}

/// Makes the topics that are missing; says of each whether it was made. Makes none where one that is there already is
/// not as it must be: the error names each with its cure.
pub async fn create(config: &Config, partitions: i32, replication: Option<i32>) -> Result<Vec<(String, bool)>, String> {
    let there = counts(&super::metadata(config, None)?);
    let admin = admin(config)?;
    let topics = &config.topics;
    let of = |name: &str| there.get(name).copied();
    // A job's outcomes go to the partition of the same number.
    let jobs = of(&topics.jobs).or(of(&topics.outcomes)).unwrap_or(partitions);
    let mut wrong = wrong_counts(config, &there);
    let mut source_max = outside_max(config, &admin).await;
    for source in [&topics.events, &topics.jobs] {
        // One that is still to be made will hold what Kafka's own default says.
        let max = match of(source) {
            Some(_) => setting(config, &admin, source, "max.message.bytes").await?.parse().ok(),
            None => None,
        };
        source_max = source_max.max(max.unwrap_or(MESSAGE_MAX));
    }
    for wanted in wanted(config, partitions, jobs, source_max)
        .iter()
        .filter(|wanted| of(&wanted.name).is_some())
    {
        wrong.extend(wrong_settings(config, &admin, &there, wanted, "").await?);
    }
    refuse(config, &wrong)?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_WAIT));
    let mut made = Vec::new();
    // The dead letters come last, because their size rests on the others'.
    for wanted in wanted(config, partitions, jobs, source_max) {
        let mut settings = wanted.settings.clone();
        if wanted.name == topics.dead_letters {
            settings.retain(|(name, _)| *name != "max.message.bytes");
            settings.push(("max.message.bytes", (source_max + DEAD_LETTER_ROOM).to_string()));
        }
        let mut topic = NewTopic::new(
            &wanted.name,
            wanted.partitions,
            TopicReplication::Fixed(replication.unwrap_or(-1)),
        );
        for (name, value) in &settings {
            topic = topic.set(name, value);
        }
        let result = admin
            .create_topics([&topic], &options)
            .await
            .map_err(|error| error.to_string())?;
        match result.into_iter().next() {
            Some(Ok(name)) => made.push((name, true)),
            Some(Err((name, RDKafkaErrorCode::TopicAlreadyExists))) => made.push((name, false)),
            Some(Err((name, code))) => {
                let denied = Rights::of(&config.kafka, [Right::create(&name)]).denies(code, None);
                let why = denied.unwrap_or_else(|| cure(code));
                return Err(format!("topic {name} can't be made: {why}"));
            }
            None => return Err("the broker did not answer for a topic".to_owned()),
        }
        if wanted.name == topics.events || wanted.name == topics.jobs {
            // A new topic's settings can be asked for only once the brokers all know it.
            let max = setting(config, &admin, &wanted.name, "max.message.bytes").await;
            let max = max.ok().and_then(|max| max.parse().ok());
            source_max = source_max.max(max.unwrap_or(MESSAGE_MAX));
        }
    }
    await_sight(config).await?;
    // Dead letters that were there already may be too small for events that weren't.
    check(config).await?;
    Ok(made)
}

/// Why a topic can't be made, and what to do about it.
fn cure(code: RDKafkaErrorCode) -> String {
    use RDKafkaErrorCode as Code;
    let cure = match code {
        Code::InvalidReplicationFactor => "; give --replication no more than there are brokers",
        Code::PolicyViolation => "; the cluster has a policy for new topics: make it by hand as docs/topics.md says",
        _ => "",
    };
    format!("{code}{cure}")
}

/// Waits until the broker shows all topics: it answers for a topic that it made before it lists it, and a command that
/// follows must not call the topic missing.
async fn await_sight(config: &Config) -> Result<(), String> {
    let until = tokio::time::Instant::now() + ANSWER_WAIT;
    loop {
        match all_there(config, &counts(&super::metadata(config, None)?)) {
            Ok(()) => return Ok(()),
            Err(missing) if tokio::time::Instant::now() >= until => return Err(missing),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Checks the topics; the error names everything that is wrong, each with its cure.
pub async fn check(config: &Config) -> Result<Limits, String> {
    let counts = counts(&super::metadata(config, None)?);
    all_there(config, &counts)?;
    let mut wrong = wrong_counts(config, &counts);
    let topics = &config.topics;
    let admin = admin(config)?;
    // All at once, so that one message names all that we may not see.
    settings(config, &admin, &topics.all().map(String::as_str)).await?;
    let number = async |topic: &str| {
        let text = setting(config, &admin, topic, "max.message.bytes").await?;
        Ok::<i64, String>(text.parse().unwrap_or(-1))
    };
    let (job_max, event_max) = (number(&topics.jobs).await?, number(&topics.events).await?);
    let source_max = job_max.max(event_max).max(outside_max(config, &admin).await);
    for wanted in wanted(config, 1, 1, source_max) {
        wrong.extend(wrong_settings(config, &admin, &counts, &wanted, why(config, &wanted, source_max)).await?);
    }
    refuse(config, &wrong)?;
    let (outcome_max, record_max) = (number(&topics.outcomes).await?, number(&topics.dead_letters).await?);
    Ok(Limits {
        event_max: usize::try_from(event_max).unwrap_or(1_000_000),
        job_max: usize::try_from(job_max).unwrap_or(1_000_000),
        outcome_max: usize::try_from(outcome_max).unwrap_or(1_000_000),
        record_max: usize::try_from(record_max).unwrap_or(1_000_000),
    })
}

/// What needs dead letters of such a size.
fn why(config: &Config, wanted: &Wanted, source_max: i64) -> &'static str {
    match wanted.name == config.topics.dead_letters && source_max == body_max(config) {
        true => ", for a body of inlet.body_max and its headers",
        false => "",
    }
}

/// The largest body that a request to an inlet may have, in bytes; 0 where none takes requests.
fn body_max(config: &Config) -> i64 {
    match config.takes_requests() {
        true => i64::try_from(config.inlet.body_max).unwrap_or(i64::MAX - DEAD_LETTER_ROOM),
        false => 0,
    }
}

/// The largest of what inlets take in, in bytes: a request's body, or a record of a topic as far as we may ask; 0
/// without an inlet.
async fn outside_max(config: &Config, admin: &AdminClient<Context>) -> i64 {
    let mut largest = body_max(config);
    for topic in config.foreign_topics().into_keys() {
        let max = setting(config, admin, topic, "max.message.bytes").await;
        largest = largest.max(max.ok().and_then(|max| max.parse().ok()).unwrap_or(0));
    }
    largest
}

/// Checks the rules topic alone, for a command that writes rules. It runs on no runtime.
pub fn check_rules(config: &Config) -> Result<(), String> {
    let rules = &config.topics.rules;
    // A topic that is missing is told of by who reads it.
    let Some(count) = find(config, rules)? else {
        return Ok(());
    };
    let counts = BTreeMap::from([(rules.clone(), count)]);
    let mut wrong = wrong_counts(config, &counts);
    let admin = admin(config)?;
    let asked = async {
        let mut wrong = Vec::new();
        for wanted in wanted(config, 1, 1, 0).iter().filter(|wanted| wanted.name == *rules) {
            wrong.extend(wrong_settings(config, &admin, &counts, wanted, "").await?);
        }
        Ok::<_, String>(wrong)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    wrong.extend(runtime.map_err(|error| error.to_string())?.block_on(asked)?);
    refuse(config, &wrong)
}

/// How many partitions each topic has that is there.
fn counts(metadata: &Metadata) -> BTreeMap<String, i32> {
    let topics = metadata.topics().iter();
    let there = topics.filter(|topic| topic.error().is_none() && !topic.partitions().is_empty());
    there
        .map(|topic| {
            (
                topic.name().to_owned(),
                i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX),
            )
        })
        .collect()
}

/// The error names every topic that is missing, or that we may not see.
fn all_there(config: &Config, counts: &BTreeMap<String, i32>) -> Result<(), String> {
    let all = config.topics.all();
    let missing: Vec<&str> = all
        .iter()
        .map(|name| name.as_str())
        .filter(|name| !counts.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    // A broker shows nobody what isn't his to describe, and says so of a topic that it is asked for by name.
    may_describe(config, &missing)?;
    let (noun, verb) = if missing.len() == 1 {
        ("topic", "is")
    } else {
        ("topics", "are")
    };
    Err(format!(
        "{noun} {} {verb} missing at {}; {MISSING_CURE}",
        missing.join(", "),
        config.kafka.brokers
    ))
}

/// The largest record that `topic` takes, in bytes.
pub async fn record_max(config: &Config, topic: &str) -> Result<usize, String> {
    let max = setting(config, &admin(config)?, topic, "max.message.bytes").await?;
    max.parse()
        .map_err(|_| format!("topic {topic} has max.message.bytes={max}, which is no number"))
}

/// How many partitions `topic` has.
pub fn partitions(config: &Config, topic: &str) -> Result<i32, String> {
    find(config, topic)?.ok_or_else(|| missing(config, topic))
}

pub(super) fn missing(config: &Config, topic: &str) -> String {
    let brokers = &config.kafka.brokers;
    format!("topic {topic} is missing at {brokers}; make it by: leadlane topics create")
}

/// The error names those of the topics that we may not see.
fn may_describe(config: &Config, topics: &[&str]) -> Result<(), String> {
    let mut denied = Vec::new();
    for topic in topics {
        if ask(config, topic)? == Err(RDKafkaErrorCode::TopicAuthorizationFailed) {
            denied.push(Right::describe(topic));
        }
    }
    match Rights::of(&config.kafka, denied).all_missing() {
        Some(missing) => Err(missing),
        None => Ok(()),
    }
}

/// How many partitions `topic` has; `None` where there is no such topic.
pub(super) fn find(config: &Config, topic: &str) -> Result<Option<i32>, String> {
    ask(config, topic)?.map_err(|code| {
        let denied = Rights::of(&config.kafka, [Right::describe(topic)]).denies(code, None);
        let why = denied.unwrap_or_else(|| code.to_string());
        format!("topic {topic} can't be asked for its partitions: {why}")
    })
}

/// The same, or why the broker doesn't say.
fn ask(config: &Config, topic: &str) -> Result<Result<Option<i32>, RDKafkaErrorCode>, String> {
    let metadata = super::metadata(config, Some(topic))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Ok(None));
    };
    Ok(match found.error().map(RDKafkaErrorCode::from) {
        None => {
            let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
            Ok(Some(count).filter(|count| *count > 0))
        }
        // No topic can have such a name.
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::InvalidTopic) => Ok(None),
        Some(code) => Err(code),
    })
}

fn admin(config: &Config) -> Result<AdminClient<Context>, String> {
    Words::of(&config.kafka)
        .create(&super::client(&config.kafka), Context::of(&config.kafka))
        .map_err(|error| format!("the Kafka client can't be made: {error}"))
}

async fn setting(config: &Config, admin: &AdminClient<Context>, topic: &str, name: &str) -> Result<String, String> {
    let found = settings(config, admin, &[topic]).await?;
    let entry = found.first().and_then(|found| found.get(name));
    let value = entry.and_then(|entry| entry.value.clone());
    value.ok_or_else(|| format!("topic {topic} has no setting {name}"))
}

/// The settings of topics, in their order. The error names those that we may not see.
async fn settings(
    config: &Config,
    admin: &AdminClient<Context>,
    topics: &[&str],
) -> Result<Vec<ConfigResource>, String> {
    let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT));
    let mut tries = 0;
    loop {
        let answers = admin.describe_configs(&asked, &options).await;
        let answers: Result<Vec<_>, _> = answers.map_err(|error| error.to_string())?.into_iter().collect();
        let found = answers.map_err(|code| format!("the settings of {} can't be read: {code}", topics.join(", ")))?;
        // The client gives no settings in place of the broker's word on a topic.
        let unseen = topics.iter().zip(&found).filter(|(_, found)| found.entries.is_empty());
        let unseen: Vec<&str> = unseen.map(|(topic, _)| *topic).collect();
        if unseen.is_empty() {
            return Ok(found);
        }
        // One that was just made is not known to every broker at once.
        if tries == 5 {
            may_describe(config, &unseen)?;
            let unseen = unseen.into_iter().map(Right::describe_configs);
            let missing = Rights::of(&config.kafka, unseen).all_missing();
            return Err(missing.unwrap_or_default());
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
