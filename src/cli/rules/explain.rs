//! `leadlane rules explain`

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::read;
use super::test::failed_text;
use crate::app::now_millis;
use crate::cli::look::plain;
use crate::cli::{CliError, file_name, look_up, print, read_input};
use crate::config::Config;
use crate::dates;
use crate::desk::explain::{self, Explained, Would};
use crate::desk::rules::{Draft, View};
use crate::lead::LeadEvent;
use crate::lead::decode::lacks;
use crate::lead::schemas::Schemas;
use crate::reader::Refusal;
use crate::rules::{Status, Versioned};

pub(super) fn explain(
    config: &Config,
    file: &Path,
    inlet: Option<&str>,
    files: &[PathBuf],
    json: bool,
) -> Result<(), CliError> {
    let (bytes, schemas) = read_event(config, file)?;
    let now = now_millis();
    let events = match inlet {
        None => vec![bytes],
        Some(inlet) => explain::all_of_record(config, inlet, &bytes, now)
            .map_err(|error| CliError::Invalid(format!("{}: {error}", file.display())))?,
    };
    if events.is_empty() {
        say!("the inlet leaves this record out: its conditions don't hold");
    }
    let given = match files {
        [] => None,
        files => Some(read(config, files, json)?),
    };
    let view = match given {
        Some(_) => None,
        None => Some(View::scan(config)?),
    };
    for bytes in &events {
        let event = decoded(file, bytes, &schemas)?;
        let rules: Vec<Versioned> = match &view {
            Some(view) => explain::of_trigger(view, &event.trigger).collect(),
            None => given.iter().flatten().filter_map(of_draft).collect(),
        };
        if events.len() > 1 && !json {
            print(&plain(&format!("event {} of lead {}:", event.event_id, event.lead_id)))?;
        }
        let mut explained = explain::explain(config, &event, &rules, now).peekable();
        if explained.peek().is_none() {
            say!("no rule is for the trigger {}", plain(&event.trigger));
        }
        for explained in explained {
            print(&match json {
                true => {
                    let mut object = explained_json(&explained);
                    object["event_id"] = (&*event.event_id).into();
                    object.to_string()
                }
                false => explained_text(&explained),
            })?;
        }
    }
    Ok(())
}

fn of_draft(draft: &Draft) -> Option<Versioned> {
    let rule = draft.rule.clone()?;
    Some(Versioned { rule, version: 0 })
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
    explain::event(bytes, schemas).map_err(|error| Refusal::of_file(file_name(file), error.to_string()).into())
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
                text.push_str(&format!("\n    {}", failed_text(failed)));
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
