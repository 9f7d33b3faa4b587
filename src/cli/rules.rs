//! `leadlane rules ...`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::look::Look;
use super::{CliError, print, read_input, say_newer, who};
use crate::app::now_millis;
use crate::config::Config;
use crate::desk::backlog::{Backlog, Places};
use crate::desk::rules::write::{Change, Writer, Written};
use crate::desk::rules::{self, Draft, Filter, View};

mod explain;
mod send_test;

#[derive(Debug, Subcommand)]
pub(super) enum Rules {
    /// Check rule files; needs no broker
    Validate {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check rule files and put the rules in force, all or none
    Apply {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the rules in force, and records that were rejected
    List,
    /// Print one rule
    Get { id: String },
    /// Take a rule out of force
    Delete {
        id: String,
        /// End its waiting jobs too, on all senders; without it they still go out
        #[arg(long)]
        cancel_waiting: bool,
    },
    /// Stop a rule from matching
    Pause {
        id: String,
        /// End its waiting jobs too, on all senders; without it they still go out
        #[arg(long)]
        cancel_waiting: bool,
    },
    /// Let a paused rule match again
    Resume { id: String },
    /// Print which rules match an event, why the others don't, and what would be sent
    Explain {
        /// A file with one event, as it would be on the topic
        #[arg(long, value_name = "FILE")]
        event: PathBuf,
        /// Rule files to try; the rules in force when not given
        #[arg(long = "rules", value_name = "FILE")]
        rules: Vec<PathBuf>,
    },
    /// Really send what a rule makes of an event, marked [TEST], within the limits, and print what came of it
    SendTest {
        id: String,
        /// A file with one event, as it would be on the topic
        #[arg(long, value_name = "FILE")]
        event: PathBuf,
    },
}

pub(super) fn run(look: Look<'_>, command: &Rules) -> Result<(), CliError> {
    let (config, json) = (look.config, look.json);
    match command {
        Rules::Validate { files } => {
            for Draft { id, .. } in read(config, files)? {
                print(&match json {
                    true => json!({"id": id, "valid": true}).to_string(),
                    false => format!("{id}: valid"),
                })?;
            }
            Ok(())
        }
        Rules::Apply { files } => apply(config, read(config, files)?, json),
        Rules::List => list(&View::scan(config)?, json),
        Rules::Get { id } => {
            let view = View::scan(config)?;
            let written = rules::get(&view, id)?.json();
            print(&if json {
                written.to_string()
            } else {
                format!("{written:#}")
            })
        }
        Rules::Delete { id, cancel_waiting } => stop(look, id, *cancel_waiting, |seen| {
            Change::delete(id, seen, *cancel_waiting)
        }),
        Rules::Pause { id, cancel_waiting } => stop(look, id, *cancel_waiting, |seen| {
            Change::pause(id, seen, *cancel_waiting)
        }),
        Rules::Resume { id } => {
            let mut writer = Writer::new(config);
            let seen = writer.view()?.version(id);
            changed(&one(&mut writer, Change::resume(id, seen))?, json)
        }
        Rules::Explain { event, rules } => explain::explain(config, event, rules, json),
        Rules::SendTest { id, event } => send_test::send_test(config, id, event, json),
    }
}

/// Reads and checks every rule of `files`. Warnings go to stderr, every problem into the error.
fn read(config: &Config, files: &[PathBuf]) -> Result<Vec<Draft>, CliError> {
    let mut read = Vec::with_capacity(files.len());
    for file in files {
        let text = String::from_utf8(read_input(file)?)
            .map_err(|_| CliError::Invalid(format!("{}: is no UTF-8 text", file.display())))?;
        read.push((file.display(), rules::read(config, &text)));
    }
    rules::tell_apart(read.iter_mut().flat_map(|(_, drafts)| drafts).flatten());
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for (file, drafts) in read {
        match drafts {
            Err(error) => problems.push(format!("{file}: {error}")),
            Ok(drafts) => {
                for draft in &drafts {
                    let place = format!("{file}:{}: {}", draft.line, draft.id);
                    let warnings = draft.warnings.iter();
                    warnings.for_each(|warning| eprintln!("{place}: warning: {warning}"));
                    problems.extend(draft.errors.iter().map(|problem| format!("{place}: {problem}")));
                }
                all.extend(drafts);
            }
        }
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(CliError::Invalid(problems.join("\n")))
    }
}

fn list(view: &View, json: bool) -> Result<(), CliError> {
    for listed in rules::list(view, &Filter::default()) {
        let id = listed.id;
        let rule = listed.in_force.map(|in_force| in_force.rule);
        let version = listed.in_force.map(|in_force| in_force.version);
        let name = rule.and_then(|rule| rule.name.as_deref());
        let trigger = rule.map(|rule| &*rule.trigger);
        let status = rule.map_or("rejected", |rule| rule.status.as_str());
        let warnings: Vec<String> = listed.warnings.iter().map(ToString::to_string).collect();
        let rejected = listed.rejected;
        print(&match json {
            true => json!({
                "id": id, "status": status, "version": version, "name": name, "trigger": trigger, "warnings": warnings,
                "rejected": rejected.map(|rejected| json!({"offset": rejected.offset, "reason": rejected.reason.as_str(), "detail": rejected.detail})),
            })
            .to_string(),
            false => {
                let version = version.map_or("-".to_owned(), |version| version.to_string());
                let (name, trigger) = (name.unwrap_or_default(), trigger.unwrap_or_default());
                let mut line = format!("{id:<32} {status:<8} {version:>6}  {trigger:<32} {name}");
                if let Some(rejected) = rejected {
                    line = format!("{}\n    rejected at offset {}: {}: {}", line.trim_end(), rejected.offset, rejected.reason.as_str(), rejected.detail);
                }
                warnings
                    .iter()
                    .fold(line.trim_end().to_owned(), |line, warning| format!("{line}\n    warning: {warning}"))
            }
        })?;
    }
    Ok(())
}

fn apply(config: &Config, drafts: Vec<Draft>, json: bool) -> Result<(), CliError> {
    let mut writer = Writer::new(config);
    let changes: Vec<Change> = {
        let view = writer.view()?;
        let change = |draft: Draft| {
            let seen = view.version(&draft.id);
            Change::put(draft, seen)
        };
        drafts.into_iter().map(change).collect::<Result<_, _>>()?
    };
    for written in writer.write(&changes, &who(), now_millis())? {
        changed(&written, json)?;
    }
    Ok(())
}

/// Makes one change.
fn one(writer: &mut Writer<'_>, change: Change) -> Result<Written, CliError> {
    let written = writer.write(&[change], &who(), now_millis())?;
    let written = written.into_iter().next();
    written.ok_or_else(|| CliError::failed("nothing was changed"))
}

/// Pauses or deletes a rule, and says what that means for its jobs that wait already.
fn stop(
    look: Look<'_>,
    id: &str,
    cancel_waiting: bool,
    change: impl FnOnce(Option<i64>) -> Change,
) -> Result<(), CliError> {
    let mut writer = Writer::new(look.config);
    let seen = writer.view()?.version(id);
    // Asked for before the change, so that what it ends is still counted. The change itself waits for nothing.
    let places = Places::of(look.config);
    let written = one(&mut writer, change(seen))?;
    let counted = places.map_err(CliError::from).and_then(|places| {
        let backlog = look.scan(|scanner| Ok(Backlog::read_at(scanner, &places, now_millis())?))?;
        say_newer(backlog.newer);
        Ok(backlog.of_rule(id))
    });
    let status = status_text(&written);
    match (&counted, cancel_waiting) {
        (Err(error), _) => eprintln!("{id} is {status}; how many of its jobs wait is not known: {error}"),
        (Ok(count), true) => eprintln!("{count} waiting jobs of {id} will be cancelled"),
        (Ok(0), false) => {}
        (Ok(count), false) => eprintln!(
            "{count} jobs of {id} wait and will still be sent; the same command with --cancel-waiting ends them"
        ),
    }
    if !look.json {
        return changed(&written, false);
    }
    print(
        &json!({
            "id": id, "changed": true, "version": written.version, "status": status,
            "waiting": counted.ok(), "cancel_waiting": cancel_waiting,
        })
        .to_string(),
    )
}

fn status_text(written: &Written) -> &str {
    let status = |rule| Value::get(rule, "status").and_then(Value::as_str).unwrap_or("active");
    written.after.as_ref().map_or("deleted", status)
}

fn changed(written: &Written, json: bool) -> Result<(), CliError> {
    let (id, version, status) = (&written.id, written.version, status_text(written));
    print(&match (json, written.changed) {
        (true, false) => json!({"id": id, "changed": false}).to_string(),
        (false, false) => format!("{id}: unchanged"),
        (true, true) => json!({"id": id, "changed": true, "version": version, "status": status}).to_string(),
        (false, true) => format!("{id}: {status} (version {version})"),
    })
}
