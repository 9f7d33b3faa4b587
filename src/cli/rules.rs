//! `leadlane rules ...`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use self::files::{Kind, Text};
use super::look::Look;
use super::secrets::Missing;
use super::{CliError, file_name, print, progress, say_newer, warn, who};
use crate::action::Action;
use crate::app::now_millis;
use crate::config::Config;
use crate::desk::Problem;
use crate::desk::backlog::{Backlog, Places};
use crate::desk::cases;
use crate::desk::rules::write::{Change, Writer, Written};
use crate::desk::rules::{self, Draft, View};
use crate::reader::{Refusal, Refusals};
use crate::yaml;

mod apply;
mod explain;
mod files;
mod history;
mod list;
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
    /// List the rules in force, each with where it sends, who wrote it and when it matched last, and records that were
    /// rejected
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
            for Draft { id, .. } in read(config, files, json)? {
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
        Rules::List => list::list(look),
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
            status_changed(&one(&mut writer, Change::resume(id, seen))?, json)
        }
        Rules::Explain { event, inlet, rules } => explain::explain(config, event, inlet.as_deref(), rules, json),
        Rules::SendTest { id, event } => send_test::send_test(config, id, event, json),
    }
}

/// Reads and checks every rule of some files and folders. Warnings go to stderr, every problem into the error.
fn read(config: &Config, paths: &[PathBuf], json: bool) -> Result<Vec<Draft>, CliError> {
    let texts = files::read(paths, Kind::Rules)?;
    if texts.is_empty() {
        return Err(Refusal::new("there is no rule file in the folders given").into());
    }
    let many = texts.len() > 1;
    let files = progress::each("checking files", texts).map(|text| {
        if !many {
            // Its rules are counted once it is read.
            progress::over();
        }
        drafts_of(config, text)
    });
    let files = files.collect();
    let checked = checked(files, Some(Missing::of(config)), json);
    progress::over();
    checked
}

/// The rules of one file, or why it can't be read.
struct FileDrafts {
    file: String,
    text: String,
    drafts: Result<Vec<Draft>, Refusal>,
}

fn drafts_of(config: &Config, Text { file, text }: Text) -> FileDrafts {
    let file = file_name(&file);
    let drafts = match cases::is_test_file(&text) {
        true => {
            let message = format!("is a test file and holds no rules of its own; leadlane rules test {file} runs it");
            Err(Refusal::of_file(file.as_str(), message))
        }
        false => drafts(config, &file, &text),
    };
    FileDrafts { file, text, drafts }
}

/// Rules that go together, if nothing is wrong with any. `missing` warns of their secrets.
fn checked(files: Vec<FileDrafts>, mut missing: Option<Missing>, json: bool) -> Result<Vec<Draft>, CliError> {
    let (mut read, mut refused) = (Vec::with_capacity(files.len()), Vec::new());
    for FileDrafts { file, text, drafts } in files {
        match drafts {
            Ok(drafts) => read.push((file, text, drafts)),
            Err(refusal) => refused.push(refusal),
        }
    }
    rules::tell_apart(read.iter_mut().flat_map(|(.., drafts)| drafts));
    let mut all = Vec::new();
    for (file, text, mut drafts) in read {
        if let Some(missing) = &mut missing {
            drafts
                .iter_mut()
                .try_for_each(|draft| warn_of_secrets(draft, missing))?;
        }
        let is_clean = |draft: &Draft| draft.errors.is_empty() && draft.warnings.is_empty();
        let places = if drafts.iter().all(is_clean) {
            Vec::new()
        } else {
            yaml::places(&text)
        };
        for (at, draft) in drafts.iter().enumerate() {
            let said = |problem: &Problem| Refusal {
                file: Some(file.as_str().into()),
                place: rules::place(&places, at, problem),
                rule: Some(draft.id.as_str().into()),
                key: problem.place.clone(),
                ..Refusal::new(&problem.message)
            };
            draft.warnings.iter().for_each(|warning| warn(&said(warning), json));
            refused.extend(draft.errors.iter().map(said));
        }
        all.extend(drafts);
    }
    match refused.is_empty() {
        true => Ok(all),
        false => Err(Refusals(refused).into()),
    }
}

/// The rules of one file.
fn drafts(config: &Config, file: &str, text: &str) -> Result<Vec<Draft>, Refusal> {
    // What isn't YAML has a place of its own.
    let entries = yaml::entries(text).map_err(|error| Refusal {
        place: Some(error.place()),
        ..Refusal::of_file(file, error.message)
    })?;
    let has = |value: &Value, key: &str| value.get(key).is_some();
    if let Some(at) = (entries.iter()).position(|entry| has(&entry.value, "rules") && has(&entry.value, "inlet")) {
        return Err(Refusal {
            place: yaml::places(text).get(at).map(|places| places.key("inlet")),
            key: "inlet".to_owned(),
            ..Refusal::of_file(
                file,
                "unknown field of a rule, as recipes have it; put what is under rules into a file of its own",
            )
        });
    }
    if entries.is_empty() {
        return Err(Refusal::of_file(file, rules::NO_RULE));
    }
    let entries = progress::each("checking rules", entries);
    Ok(entries.map(|entry| Draft::of(config, entry.value)).collect())
}

/// Adds a warning of each secret that a rule names and the store doesn't have.
fn warn_of_secrets(draft: &mut Draft, missing: &mut Missing) -> Result<(), CliError> {
    let action = draft.written.get("action").filter(|_| draft.rule.is_some());
    for (place, name) in action.map(Action::named_secrets).unwrap_or_default() {
        if let Some(message) = missing.why(name)? {
            draft.warnings.push(Problem { place, message });
        }
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
    let (written, counted) = match seen {
        Some(_) => (one(&mut writer, change(seen))?, count(places)),
        // Of a rule that isn't there jobs may wait still; without any, nothing would be ended.
        None => match count(places)? {
            0 => return Err(rules::missing(id).into()),
            waiting => (one(&mut writer, change(seen))?, Ok(waiting)),
        },
    };
    let status = status_text(&written);
    match (&counted, cancel_waiting) {
        (Err(error), _) => say!("{id} is {status}; how many of its jobs wait is not known: {error}"),
        (Ok(1), true) => say!("1 waiting job of {id} will be cancelled"),
        (Ok(count), true) => say!("{count} waiting jobs of {id} will be cancelled"),
        (Ok(0), false) => {}
        (Ok(1), false) => {
            say!("1 job of {id} waits and will still be sent; the same command with --cancel-waiting ends it")
        }
        (Ok(count), false) => {
            say!("{count} jobs of {id} wait and will still be sent; the same command with --cancel-waiting ends them")
        }
    }
    if !look.json {
        return status_changed(&written, false);
    }
    print(
        &json!({
            "id": id, "changed": written.changed, "version": written.version, "status": status,
            "waiting": counted.ok(), "cancel_waiting": cancel_waiting,
        })
        .to_string(),
    )
}

/// Prints what became of a rule's status, which may stand already.
fn status_changed(written: &Written, json: bool) -> Result<(), CliError> {
    if written.changed || json {
        return changed(written, json);
    }
    let (id, version, status) = (&written.id, written.version, status_text(written));
    print(&format!(
        "{id}: is {status} already (version {version}); nothing was written"
    ))
}

fn status_text(written: &Written) -> &str {
    let status = |rule| Value::get(rule, "status").and_then(Value::as_str).unwrap_or("active");
    written.after.as_ref().map_or("deleted", status)
}

fn changed(written: &Written, json: bool) -> Result<(), CliError> {
    let (id, version, status) = (&written.id, written.version, status_text(written));
    print(&match (json, written.changed) {
        (true, false) => json!({"id": id, "changed": false, "version": version, "status": status}).to_string(),
        (false, false) => format!("{id}: unchanged"),
        (true, true) => json!({"id": id, "changed": true, "version": version, "status": status}).to_string(),
        (false, true) => format!("{id}: {status} (version {version})"),
    })
}
