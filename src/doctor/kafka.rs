//! Kafka: whether it answers, the topics, and what its user may do.

use std::collections::BTreeSet;

use super::{Finding, Patient, Roles, State, blocking, side_by_side};
use crate::config::Config;
use crate::kafka::allowed::{Right, allowed};
use crate::kafka::{self, topics};

/// What is known of Kafka.
pub(super) struct Kafka {
    pub(super) findings: Vec<Finding>,
    /// Why the rules can't be read, where they can't.
    pub(super) no_rules: Option<String>,
}

/// `usable` says whether a client can be made of the configuration.
pub(super) async fn look(patient: &Patient, usable: bool) -> Kafka {
    let brokers = &patient.config.kafka.brokers;
    let (kafka, why) = match usable {
        false => {
            let why = "the configuration has a property that librdkafka refuses";
            (Finding::not("kafka", format!("Kafka at {brokers}: {why}")), why)
        }
        true => {
            let config = patient.config.clone();
            let asked = blocking(move || kafka::metadata(&config, None).map(|found| found.brokers().len())).await;
            match asked {
                Ok(count) => return up(patient, count).await,
                Err(said) => (
                    Finding::failed("kafka", format!("Kafka: {said}")),
                    "Kafka can't be reached",
                ),
            }
        }
    };
    let rest = ["topics", "rights"].map(|id| Finding::not(id, format!("{id}: {why}")));
    Kafka {
        findings: std::iter::once(kafka).chain(rest).collect(),
        no_rules: Some(why.to_owned()),
    }
}

async fn up(patient: &Patient, count: usize) -> Kafka {
    let config = &patient.config;
    let noun = if count == 1 { "broker answers" } else { "brokers answer" };
    let mut findings = vec![Finding::ok(
        "kafka",
        format!("Kafka: {count} {noun} at {}", config.kafka.brokers),
    )];
    let (topics, unseen) = topics(patient).await;
    findings.extend(topics);
    let rights = rights(patient, &unseen).await;
    let rules = &config.topics.rules;
    let may_read = |finding: &Finding| finding.state != State::Failed || finding.id != format!("rights:{rules}");
    let no_rules = match (unseen.contains(rules), rights.iter().all(may_read)) {
        (true, _) => Some(format!("topic {rules} can't be read")),
        (false, false) => Some(format!("Kafka's user lacks a right on {rules}")),
        (false, true) => None,
    };
    findings.extend(rights);
    Kafka { findings, no_rules }
}

/// The topics, and the names of those that aren't there for us.
async fn topics(patient: &Patient) -> (Vec<Finding>, BTreeSet<String>) {
    let (config, inlets) = (patient.config.clone(), patient.roles.inlets);
    let looked = blocking(move || {
        let of_ours = tokio::runtime::Handle::current().block_on(topics::look(&config))?;
        let foreign = if inlets {
            topics::look_foreign(&config)?
        } else {
            Vec::new()
        };
        Ok((of_ours, foreign))
    });
    let mut unseen = BTreeSet::new();
    let (ours, foreign) = match looked.await {
        Ok(looked) => looked,
        Err(said) => return (vec![Finding::failed("topics", format!("topics: {said}"))], unseen),
    };
    let mut findings = missing(ours.iter().filter(|looked| looked.is_missing()));
    for topics::Looked { topic, is_there, wrong } in ours {
        let id = format!("topic:{topic}");
        if !is_there {
            unseen.insert(topic.clone());
        }
        if wrong.is_empty() {
            findings.push(Finding::ok(id.clone(), format!("topic {topic}: set as it must be")));
        }
        for topics::Wrong { what, cure, .. } in wrong.into_iter().filter(|wrong| wrong.what != topics::MISSING) {
            let what = match what.starts_with(&topic) {
                true => format!("topic {what}"),
                false => format!("topic {topic}: {what}"),
            };
            findings.push(Finding::broken(id.clone(), what, cure));
        }
    }
    for (topic, missing) in foreign {
        let id = format!("topic:{topic}");
        findings.push(match missing {
            None => Finding::ok(id, format!("topic {topic}: it is there")),
            Some(what) => {
                unseen.insert(topic);
                Finding::broken(id, format!("{what} isn't there for us"), topics::FOREIGN_CURE)
            }
        });
    }
    (findings, unseen)
}

/// The topics that are missing, as one fault: one command makes them all.
fn missing<'t>(missing: impl Iterator<Item = &'t topics::Looked>) -> Vec<Finding> {
    let names: Vec<&str> = missing.map(|looked| looked.topic.as_str()).collect();
    let what = match &names[..] {
        [] => return Vec::new(),
        [one] => format!("topic {one} is missing"),
        all => format!("topics {} are missing", all.join(", ")),
    };
    vec![Finding::broken("topics", what, topics::MISSING_CURE)]
}

/// Asks for each right that the roles need. Of a topic that isn't there nothing is asked.
async fn rights(patient: &Patient, unseen: &BTreeSet<String>) -> Vec<Finding> {
    let checks = needed(&patient.config, patient.roles)
        .into_iter()
        .map(|(name, rights)| {
            let (config, unseen) = (patient.config.clone(), unseen.contains(&name));
            let id = format!("rights:{name}");
            let check = {
                let id = id.clone();
                async move {
                    if unseen {
                        return vec![Finding::not(id, format!("rights on {name}: the topic can't be seen"))];
                    }
                    let (of, named) = (id.clone(), name.clone());
                    let asked = blocking(move || Ok(right(&config, &of, &named, &rights))).await;
                    asked.unwrap_or_else(|said| vec![Finding::not(id, format!("rights on {name}: {said}"))])
                }
            };
            (id, check)
        });
    side_by_side(checks.collect()).await
}

fn right(config: &Config, id: &str, name: &str, rights: &[Right]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for right in rights {
        match allowed(config, right) {
            Ok(true) => {}
            Ok(false) => findings.push(Finding::failed(id, right.refusal(config))),
            Err(why) => findings.push(Finding::not(id, format!("rights on {name}: {why}"))),
        }
    }
    if findings.is_empty() {
        let may: Vec<&str> = rights.iter().map(Right::verb).collect();
        findings.push(Finding::ok(
            id,
            format!("rights: Kafka's user may {} {name}", may.join(" and ")),
        ));
    }
    findings
}

/// What each role does, by the name of what it does it to.
fn needed(config: &Config, roles: Roles) -> Vec<(String, Vec<Right>)> {
    let (topics, group) = (&config.topics, &config.kafka.group);
    let Roles {
        processor,
        sender,
        inlets,
        admin,
    } = roles;
    let foreign = config.foreign_topics();
    let reads_topics = inlets && !foreign.is_empty();
    let ours = [
        (&topics.events, processor || admin, inlets || admin),
        (&topics.rules, processor || sender || admin, admin),
        (&topics.jobs, sender || admin, processor || admin),
        (&topics.outcomes, sender || admin, processor || sender),
        (&topics.dead_letters, admin, processor || sender || inlets),
        (&topics.audit, admin, admin),
    ];
    let of = |(topic, reads, writes): (&String, bool, bool)| {
        let read = reads.then(|| Right::read(topic));
        let write = writes.then(|| Right::write(topic));
        (topic.clone(), read.into_iter().chain(write).collect::<Vec<_>>())
    };
    let mut needed: Vec<_> = ours.into_iter().map(of).collect();
    if reads_topics {
        let read = |topic: &&str| ((*topic).to_owned(), vec![Right::read(topic)]);
        needed.extend(foreign.keys().map(read));
    }
    let groups = [
        (processor, group.clone()),
        (sender, format!("{group}-sender")),
        (reads_topics, format!("{group}-inlets")),
    ];
    let groups = groups.into_iter().filter(|(is, _)| *is);
    needed.extend(groups.map(|(_, group)| (group.clone(), vec![Right::read_group(&group)])));
    // As `kafka::worker` makes them.
    let instance = config.processor.instance();
    let ids = [
        (processor, format!("{group}-{instance}")),
        (reads_topics, format!("{group}-inlets-{instance}")),
    ];
    let ids = ids.into_iter().filter(|(is, _)| *is);
    needed.extend(ids.map(|(_, prefix)| (prefix.clone(), vec![Right::write_as_any(&prefix)])));
    needed.retain(|(_, rights)| !rights.is_empty());
    needed
}
