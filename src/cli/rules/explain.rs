//! `leadlane rules explain`

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::read;
use crate::app::now_millis;
use crate::cli::{CliError, look_up, print, read_input};
use crate::config::Config;
use crate::dates;
use crate::desk::explain::{self, Explained, Would};
use crate::desk::rules::{Draft, View};
use crate::lead::LeadEvent;
use crate::lead::decode::lacks;
use crate::lead::schemas::Schemas;
use crate::rules::{Status, Versioned};

pub(super) fn explain(config: &Config, event: &Path, files: &[PathBuf], json: bool) -> Result<(), CliError> {
    let (bytes, schemas) = read_event(config, event)?;
    let lead_event = decoded(event, &bytes, &schemas)?;
    let rules: Vec<Versioned> = if files.is_empty() {
        explain::of_trigger(&View::scan(config)?, &lead_event.trigger).collect()
    } else {
        let given = |draft: Draft| {
            Some(Versioned {
                rule: draft.rule?,
                version: 0,
            })
        };
        read(config, files)?.into_iter().filter_map(given).collect()
    };
    let mut explained = explain::explain(config, &lead_event, &rules, now_millis()).peekable();
    if explained.peek().is_none() {
        eprintln!("no rule is for the trigger {}", lead_event.trigger);
    }
    for explained in explained {
        print(&match json {
            true => explained_json(&explained).to_string(),
            false => explained_text(&explained),
        })?;
    }
    Ok(())
}

/// The bytes of a file's event, and the schema that they need.
pub(super) fn read_event(config: &Config, file: &Path) -> Result<(Vec<u8>, Schemas), CliError> {
    let bytes = read_input(file)?;
    let mut schemas = Schemas::new();
    if let Some(id) = lacks(&bytes, &schemas) {
        look_up(config, id, &mut schemas)?;
    }
    Ok((bytes, schemas))
}

pub(super) fn decoded<'b>(file: &Path, bytes: &'b [u8], schemas: &Schemas) -> Result<LeadEvent<'b>, CliError> {
    explain::event(bytes, schemas).map_err(|error| CliError::Invalid(format!("{}: {error}", file.display())))
}

fn explained_json(Explained { rule, failed, would }: &Explained<'_>) -> Value {
    let failed: Vec<Value> = failed
        .iter()
        .map(|failed| json!({"condition": failed.to_string(), "value": failed.found}))
        .collect();
    let mut explained = json!({"id": &*rule.id, "matches": failed.is_empty(), "failed": failed});
    match would {
        Some(Would::Send { job, refused }) => {
            explained["would"] = "send".into();
            explained["credential"] = job.credential.as_str().into();
            explained["lane"] = job.lane().into();
            explained["job_id"] = job.job_id.as_str().into();
            explained["digest_after"] = job.digest_after.map(duration_text).into();
            explained["max_rate"] = job.max_rate.as_deref().into();
            explained["thread"] = job.thread.then_some("lead").into();
            if let Some(why) = refused {
                explained["would"] = "dead".into();
                explained["reason"] = "message_rejected".into();
                explained["detail"] = why.as_str().into();
            }
            explained["request"] = serde_json::from_str(&job.body).unwrap_or_default();
        }
        Some(Would::Settle(outcome)) => {
            explained["would"] = outcome.result.as_str().into();
            explained["detail"] = outcome.words.as_deref().into();
        }
        Some(Would::Die { detail }) => {
            explained["would"] = "dead".into();
            explained["reason"] = "template_failed".into();
            explained["detail"] = detail.as_str().into();
        }
        None => {}
    }
    explained
}

fn explained_text(Explained { rule, failed, would }: &Explained<'_>) -> String {
    let mut text = format!("{}: ", rule.id);
    match would {
        None => {
            text.push_str("does not match");
            for failed in failed {
                let found = failed
                    .found
                    .as_deref()
                    .map_or("the event has none".to_owned(), |found| {
                        format!("the event has {found}")
                    });
                text.push_str(&format!("\n    {failed} does not hold: {found}"));
            }
        }
        Some(Would::Send { job, refused }) => {
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
            if let Some(why) = refused {
                text.push_str(&format!(", where it becomes a dead letter: {why}"));
            }
            for line in format!("{body:#}").lines() {
                text.push_str(&format!("\n    {line}"));
            }
        }
        Some(Would::Settle(outcome)) if rule.status == Status::Shadow => {
            text.push_str(&format!("matches, and is only counted ({})", outcome.result.as_str()));
        }
        Some(Would::Settle(outcome)) => {
            text.push_str(&format!(
                "matches, but sends nothing: {}",
                outcome.words.as_deref().unwrap_or_default()
            ));
        }
        Some(Would::Die { detail }) => text.push_str(&format!("matches, but becomes a dead letter: {detail}")),
    }
    text
}

fn duration_text(millis: i64) -> String {
    dates::duration_text(Duration::from_millis(millis.unsigned_abs()))
}
