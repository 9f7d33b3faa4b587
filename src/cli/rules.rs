//! `leadlane rules ...`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use self::files::{Kind, Text};
use super::look::Look;
use super::{CliError, print, say_newer, who};
use crate::app::now_millis;
use crate::config::Config;
use crate::desk;
use crate::desk::backlog::{Backlog, Places};
use crate::desk::cases;
use crate::desk::rules::write::{Change, Writer, Written};
use crate::desk::rules::{self, Draft, Filter, View};

mod apply;
mod explain;
mod files;
mod history;
mod send_test;
mod test;

#[derive(Debug, Subcommand)]
pub(super) enum Rules {
    /// Check rule files; needs no broker
    Validate {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run the cases of test files: which rules match, and what they send; needs no broker
    Test {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Check rule files and put the rules in force, all or none
    Apply(apply::Options),
    /// Print every rule in force as the YAML that apply takes
    Export {
        /// Write each rule into a file of this folder, ID.yaml, in place of printing it
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print who changed a rule, what and when, newest last
    History { id: String },
    /// Put a version of a rule in force again; its history has the versions
    Rollback { id: String, version: i64 },
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
        /// The file has a record, as JSON, that this inlet of the configuration maps
        #[arg(long, value_name = "NAME")]
        inlet: Option<String>,
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
        Rules::Test { files } => test::test(config, files, json),
        Rules::Apply(options) => apply::apply(look, options),
        Rules::Export { dir } => history::export(look, dir.as_deref()),
        Rules::History { id } => history::history(look, id),
        Rules::Rollback { id, version } => history::rollback(look, id, *version),
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
        Rules::Explain { event, inlet, rules } => explain::explain(config, event, inlet.as_deref(), rules, json),
        Rules::SendTest { id, event } => send_test::send_test(config, id, event, json),
    }
}

/// Reads and checks every rule of some files and folders. Warnings go to stderr, every problem into the error.
fn read(config: &Config, paths: &[PathBuf]) -> Result<Vec<Draft>, CliError> {
    let texts = files::read(paths, Kind::Rules)?;
    if texts.is_empty() {
        return Err(CliError::Invalid(
            "there is no rule file in the folders given".to_owned(),
        ));
    }
    checked(texts.iter().map(|text| drafts_of(config, text)).collect())
}

/// The rules that a file holds, or why it can't be read.
type FileDrafts = (String, Result<Vec<Draft>, desk::Error>);

fn drafts_of(config: &Config, Text { file, text }: &Text) -> FileDrafts {
    let drafts = match cases::is_test_file(text) {
        true => Err(desk::Error::invalid(format!(
            "is a test file and holds no rules of its own; leadlane rules test {} runs it",
            file.display()
        ))),
        false => rules::read(config, text),
    };
    (file.display().to_string(), drafts)
}

/// Rules that go together, if nothing is wrong with any.
fn checked(mut read: Vec<FileDrafts>) -> Result<Vec<Draft>, CliError> {
    rules::tell_apart(read.iter_mut().flat_map(|(_, drafts)| drafts).flatten());
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for (file, drafts) in read {
        match drafts {
            Err(error) => problems.push(format!("{file}: {error}")),
            Ok(drafts) => {
                for draft in &drafts {
                    // A rule of a test file has no line of its own.
                    let place = match draft.line {
                        0 => format!("{file}: {}", draft.id),
                        line => format!("{file}:{line}: {}", draft.id),
                    };
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
    let count = |places: Result<Places, _>| {
        places.map_err(CliError::from).and_then(|places| {
            let backlog = look.scan(|scanner| Ok(Backlog::read_at(scanner, &places, now_millis())?))?;
            say_newer(backlog.newer);
            Ok(backlog.of_rule(id))
        })
    };
    // Of a rule that isn't there jobs may wait still; without any, nothing would be ended.
    let of_none = match seen {
        Some(_) => None,
        None => Some(count(Places::of(look.config))?),
    };
    if of_none == Some(0) {
        return Err(rules::missing(id).into());
    }
    let written = one(&mut writer, change(seen))?;
    let counted = count(places);
    let status = status_text(&written);
    match (&counted, cancel_waiting) {
        (Err(error), _) => eprintln!("{id} is {status}; how many of its jobs wait is not known: {error}"),
        (Ok(1), true) => eprintln!("1 waiting job of {id} will be cancelled"),
        (Ok(count), true) => eprintln!("{count} waiting jobs of {id} will be cancelled"),
        (Ok(0), false) => {}
        (Ok(1), false) => {
            eprintln!("1 job of {id} waits and will still be sent; the same command with --cancel-waiting ends it")
        }
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
