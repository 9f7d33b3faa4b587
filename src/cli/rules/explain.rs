//! `leadlane rules explain`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{log, read};
use crate::app::now_millis;
use crate::cli::{CliError, look_up, print, read_input};
use crate::config::Config;
use crate::dates;
use crate::delivery::plan::{Planned, Source, plan};
use crate::lead::decode::{DecodeError, decode};
use crate::lead::schemas::Schemas;
use crate::rules::{Rule, Status, Versioned};

pub(super) fn explain(config: &Config, event: &Path, files: &[PathBuf], json: bool) -> Result<(), CliError> {
    let bytes = read_input(event)?;
    let mut schemas = Schemas::new();
    if let Err(DecodeError::NeedsSchema(id)) = decode(&bytes, &schemas) {
        look_up(config, id, &mut schemas)?;
    }
    let decoded = decode(&bytes, &schemas).map_err(|error| {
        let reason = error.reason().map_or("needs_schema", crate::reason::Reason::as_str);
        CliError::Invalid(format!("{}: {reason}: {}", event.display(), error.detail()))
    })?;
    let rules: Vec<Arc<Versioned>> = if files.is_empty() {
        log(config)?
            .list()
            .filter_map(|(_, entry)| Some(Arc::clone(&entry.in_force.as_ref()?.versioned)))
            .collect()
    } else {
        read(config, files)?
            .into_iter()
            .map(|written| {
                Arc::new(Versioned {
                    rule: written.rule,
                    version: 0,
                })
            })
            .collect()
    };
    let of_trigger: Vec<_> = rules
        .iter()
        .filter(|versioned| versioned.rule.trigger == decoded.trigger)
        .collect();
    if of_trigger.is_empty() {
        eprintln!("no rule is for the trigger {}", decoded.trigger);
    }
    let source = Source {
        topic: &config.topics.events,
        partition: 0,
        offset: 0,
    };
    for versioned in of_trigger {
        let rule = &versioned.rule;
        let failed = rule.explain(&decoded);
        let planned = failed
            .is_empty()
            .then(|| plan(&decoded, versioned, source, now_millis()));
        print(&match json {
            true => explained_json(rule, &failed, planned.as_ref()).to_string(),
            false => explained_text(rule, &failed, planned.as_ref()),
        })?;
    }
    Ok(())
}

fn explained_json(rule: &Rule, failed: &[crate::rules::Failed], planned: Option<&Planned>) -> Value {
    let failed: Vec<Value> = failed
        .iter()
        .map(|failed| json!({"condition": failed.condition, "value": failed.value}))
        .collect();
    let mut explained = json!({"id": &*rule.id, "matches": failed.is_empty(), "failed": failed});
    match planned {
        Some(Planned::Job(job)) => {
            explained["would"] = "send".into();
            explained["credential"] = job.credential.as_str().into();
            explained["lane"] = job.lane().into();
            explained["job_id"] = job.job_id.as_str().into();
            explained["digest_after"] = job.digest_after.map(duration_text).into();
            explained["max_rate"] = job.max_rate.as_deref().into();
            explained["thread"] = job.thread.then_some("lead").into();
            if let Some(why) = job.action.refusal(&job.body) {
                explained["would"] = "dead".into();
                explained["reason"] = "message_rejected".into();
                explained["detail"] = why.into();
            }
            explained["request"] = serde_json::from_str(&job.body).unwrap_or_default();
        }
        Some(Planned::Settled(outcome)) => {
            explained["would"] = outcome.result.as_str().into();
            explained["detail"] = outcome.words.as_deref().into();
        }
        Some(Planned::Failed { detail, .. }) => {
            explained["would"] = "dead".into();
            explained["reason"] = "template_failed".into();
            explained["detail"] = detail.as_str().into();
        }
        None => {}
    }
    explained
}

fn explained_text(rule: &Rule, failed: &[crate::rules::Failed], planned: Option<&Planned>) -> String {
    let mut text = format!("{}: ", rule.id);
    match planned {
        None => {
            text.push_str("does not match");
            for failed in failed {
                let value = failed
                    .value
                    .as_deref()
                    .map_or("the event has none".to_owned(), |value| {
                        format!("the event has {value}")
                    });
                text.push_str(&format!("\n    {} does not hold: {value}", failed.condition));
            }
        }
        Some(Planned::Job(job)) => {
            let body: Value = serde_json::from_str(&job.body).unwrap_or_default();
            text.push_str(&format!("matches, and sends to {}", job.lane()));
            if job.thread {
                text.push_str(", into the lead's thread");
            }
            if let Some(rate) = &job.max_rate {
                text.push_str(&format!(", at most {rate}, what is beyond as one digest"));
            }
            if let Some(after) = job.digest_after {
                text.push_str(&format!(
                    ", as one digest when the wait is over {}",
                    duration_text(after)
                ));
            }
            if let Some(why) = job.action.refusal(&job.body) {
                text.push_str(&format!(", where it becomes a dead letter: {why}"));
            }
            for line in format!("{body:#}").lines() {
                text.push_str(&format!("\n    {line}"));
            }
        }
        Some(Planned::Settled(outcome)) if rule.status == Status::Shadow => {
            text.push_str(&format!("matches, and is only counted ({})", outcome.result.as_str()));
        }
        Some(Planned::Settled(outcome)) => {
            text.push_str(&format!(
                "matches, but sends nothing: {}",
                outcome.words.as_deref().unwrap_or_default()
            ));
        }
        Some(Planned::Failed { detail, .. }) => text.push_str(&format!("matches, but becomes a dead letter: {detail}")),
    }
    text
}

fn duration_text(millis: i64) -> String {
    dates::duration_text(Duration::from_millis(millis.unsigned_abs()))
}
