//! `leadlane rules ...`

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::{Value, json};

use super::look::{Look, time_text};
use super::{CliError, print, read_input, who};
use crate::app::now_millis;
use crate::config::Config;
use crate::desk::backlog::{Backlog, Places};
use crate::kafka::producer::{Producer, Record};
use crate::kafka::reader;
use crate::rules::log::{CANCEL_WAITING, InForce, RuleLog};
use crate::rules::{Rule, check};
use crate::yaml;

mod explain;

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
    /// Say which rules match an event, why the others don't, and what would be sent
    Explain {
        /// A file with one event, as it would be on the topic
        #[arg(long, value_name = "FILE")]
        event: PathBuf,
        /// Rule files to try; the rules in force when not given
        #[arg(long = "rules", value_name = "FILE")]
        rules: Vec<PathBuf>,
    },
}

/// A rule as a file has it: checked, and as it will be stored.
struct Written {
    rule: Rule,
    json: Value,
}

pub(super) fn run(look: Look<'_>, command: &Rules) -> Result<(), CliError> {
    let (config, json) = (look.config, look.json);
    match command {
        Rules::Validate { files } => {
            for Written { rule, .. } in read(config, files)? {
                print(&match json {
                    true => json!({"id": &*rule.id, "valid": true}).to_string(),
                    false => format!("{}: valid", rule.id),
                })?;
            }
            Ok(())
        }
        Rules::Apply { files } => apply(config, read(config, files)?, json),
        Rules::List => list(config, json),
        Rules::Get { id } => {
            let written = in_force(config, id)?.written;
            print(&if json {
                written.to_string()
            } else {
                format!("{written:#}")
            })
        }
        Rules::Delete { id, cancel_waiting } => {
            // Jobs of a rule that is gone may still wait.
            let is_gone = *cancel_waiting && log(config)?.entry(id).is_none();
            let before = (!is_gone).then(|| in_force(config, id)).transpose()?;
            let before = before.as_ref().map(|before| &*before.written);
            stop(look, id, before, None, *cancel_waiting)
        }
        Rules::Pause { id, cancel_waiting } => {
            let before = in_force(config, id)?.written;
            let after = with_status(&before, "paused");
            stop(look, id, Some(&before), Some(&after), *cancel_waiting)
        }
        Rules::Resume { id } => {
            let before = in_force(config, id)?.written;
            let after = with_status(&before, "active");
            let version = change(config, &Store::open(config)?, id, Some(&before), Some(&after), false)?;
            changed(id, version, Some(&after), json)
        }
        Rules::Explain { event, rules } => explain::explain(config, event, rules, json),
    }
}

/// Reads and checks every rule of `files`. Warnings go to stderr, every problem into the error.
fn read(config: &Config, files: &[PathBuf]) -> Result<Vec<Written>, CliError> {
    let accounts: Vec<&str> = config.clevertap.accounts.keys().map(String::as_str).collect();
    let (mut written, mut problems, mut ids) = (Vec::<Written>::new(), Vec::new(), HashSet::new());
    for file in files {
        let text = String::from_utf8(read_input(file)?)
            .map_err(|_| CliError::Invalid(format!("{}: is no UTF-8 text", file.display())))?;
        let entries = match yaml::entries(&text) {
            Ok(entries) => entries,
            Err(error) => {
                problems.push(format!("{}: {error}", file.display()));
                continue;
            }
        };
        if entries.is_empty() {
            problems.push(format!("{}: holds no rule", file.display()));
        }
        for entry in entries {
            let id = entry
                .value
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or("rule without an id")
                .to_owned();
            let place = format!("{}:{}: {id}", file.display(), entry.line);
            match Rule::from_json(&entry.value) {
                Err(found) => problems.extend(found.iter().map(|problem| format!("{place}: {problem}"))),
                Ok(rule) => {
                    let refusals = check::refusals(&entry.value);
                    problems.extend(refusals.iter().map(|problem| format!("{place}: {problem}")));
                    let warnings = check::warnings(&rule);
                    warnings
                        .iter()
                        .for_each(|warning| eprintln!("{place}: warning: {warning}"));
                    match check::account(&rule, &accounts) {
                        Ok(Some(warning)) => eprintln!("{place}: warning: {warning}"),
                        Ok(None) => {}
                        Err(problem) => problems.push(format!("{place}: {problem}")),
                    }
                    if !ids.insert(rule.id.clone()) {
                        problems.push(format!("{place}: the id is given twice; each rule needs its own"));
                    }
                    written.push(Written {
                        rule,
                        json: entry.value,
                    });
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(written)
    } else {
        Err(CliError::Invalid(problems.join("\n")))
    }
}

/// The state of the rules topic.
pub(super) fn log(config: &Config) -> Result<RuleLog, CliError> {
    let mut log = RuleLog::default();
    reader::read_whole(config, &config.topics.rules, |record| {
        log.apply(record.offset, record.key.as_deref(), record.value.as_deref());
        true
    })
    .map_err(CliError::failed)?;
    Ok(log)
}

fn in_force(config: &Config, id: &str) -> Result<InForce, CliError> {
    let log = log(config)?;
    log.entry(id).and_then(|entry| entry.in_force.clone()).ok_or_else(|| {
        CliError::failed(format!(
            "there is no rule {id} in force; leadlane rules list shows those that are"
        ))
    })
}

fn list(config: &Config, json: bool) -> Result<(), CliError> {
    for (id, entry) in log(config)?.list() {
        let rule = entry.in_force.as_ref().map(|in_force| &in_force.versioned.rule);
        let status = match (entry.status(), &entry.rejected) {
            (Some(status), _) => status.as_str(),
            (None, _) => "rejected",
        };
        let rejected = entry.rejected.as_ref();
        let written = entry
            .in_force
            .as_ref()
            .map(|in_force| check::refusals(&in_force.written));
        let warnings: Vec<String> = written.iter().flatten().map(ToString::to_string).collect();
        print(&match json {
            true => json!({
                "id": id, "status": status, "version": entry.version(), "name": rule.and_then(|rule| rule.name.as_deref()),
                "trigger": rule.map(|rule| rule.trigger.as_str()),
                "warnings": warnings,
                "rejected": rejected.map(|rejected| json!({"offset": rejected.offset, "reason": rejected.reason.as_str(), "detail": rejected.detail})),
            })
            .to_string(),
            false => {
                let version = entry.version().map_or("-".to_owned(), |version| version.to_string());
                let name = rule.and_then(|rule| rule.name.as_deref()).unwrap_or_default();
                let trigger = rule.map(|rule| rule.trigger.as_str()).unwrap_or_default();
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

fn apply(config: &Config, written: Vec<Written>, json: bool) -> Result<(), CliError> {
    let log = log(config)?;
    let store = Store::open(config)?;
    for Written { rule, json: value } in written {
        let entry = log.entry(&rule.id);
        let before = entry
            .and_then(|entry| entry.in_force.as_ref())
            .map(|in_force| Arc::clone(&in_force.written));
        if before.as_deref() == Some(&value) && entry.is_some_and(|entry| entry.rejected.is_none()) {
            print(&match json {
                true => json!({"id": &*rule.id, "changed": false}).to_string(),
                false => format!("{}: unchanged", rule.id),
            })?;
            continue;
        }
        let version = change(config, &store, &rule.id, before.as_deref(), Some(&value), false)?;
        changed(&rule.id, version, Some(&value), json)?;
    }
    Ok(())
}

fn with_status(rule: &Value, status: &str) -> Value {
    let mut rule = rule.clone();
    rule["status"] = status.into();
    rule
}

/// Pauses or deletes a rule, and says what that means for its jobs that wait already.
fn stop(
    look: Look<'_>,
    id: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    cancel_waiting: bool,
) -> Result<(), CliError> {
    let store = Store::open(look.config)?;
    // Asked for before the change, so that what it ends is still counted. The change itself waits for nothing.
    let places = Places::of(look.config);
    let version = change(look.config, &store, id, before, after, cancel_waiting)?;
    let counted = places.map_err(CliError::from).and_then(|places| {
        let backlog = look.scan(|scanner| Ok(Backlog::read_at(scanner, &places, now_millis())?))?;
        Ok(backlog.of_rule(id))
    });
    let status = status_text(after);
    match (&counted, cancel_waiting) {
        (Err(error), _) => eprintln!("{id} is {status}; how many of its jobs wait can't be told: {error}"),
        (Ok(count), true) => eprintln!("{count} waiting jobs of {id} will be cancelled"),
        (Ok(0), false) => {}
        (Ok(count), false) => eprintln!(
            "{count} jobs of {id} wait and will still be sent; the same command with --cancel-waiting ends them"
        ),
    }
    if !look.json {
        return changed(id, version, after, false);
    }
    print(
        &json!({
            "id": id, "changed": true, "version": version, "status": status,
            "waiting": counted.ok(), "cancel_waiting": cancel_waiting,
        })
        .to_string(),
    )
}

/// Where changes of rules are written to.
struct Store {
    producer: Producer,
    who: String,
}

impl Store {
    fn open(config: &Config) -> Result<Self, CliError> {
        // A rule that someone else wrote may be larger than ours are. What the topic takes is the broker's to say.
        let producer = Producer::new(config, 16_000_000).map_err(|error| CliError::failed(error.to_string()))?;
        Ok(Self { producer, who: who() })
    }
}

/// Writes one rule (or its deletion) and the audit of it. Gives the version that it makes.
fn change(
    config: &Config,
    store: &Store,
    id: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    cancel_waiting: bool,
) -> Result<i64, CliError> {
    let write = |topic: &str, value: Option<&[u8]>, cancel_waiting: bool| {
        let record = Record {
            topic,
            partition: None,
            key: id.as_bytes(),
            value,
            headers: crate::kafka::headers(cancel_waiting.then_some((CANCEL_WAITING, "true"))),
        };
        let written = store.producer.write_and_wait(&record);
        written.map_err(|error| CliError::failed(format!("rule {id} was not written to {topic}: {error}")))
    };
    let rule = after.map(Value::to_string);
    let (_, version) = write(&config.topics.rules, rule.as_deref().map(str::as_bytes), cancel_waiting)?;
    let audit = audited(&store.who, &time_text(now_millis()), before, after, cancel_waiting);
    write(&config.topics.audit, Some(audit.to_string().as_bytes()), false)?;
    Ok(version)
}

/// The audit's record of a change. A version that is too large for it is left out, and named as left out.
fn audited(who: &str, when: &str, before: Option<&Value>, after: Option<&Value>, cancel_waiting: bool) -> Value {
    let mut audit = json!({"who": who, "when": when});
    let mut left_out = serde_json::Map::new();
    for (name, version) in [("before", before), ("after", after)] {
        let size = version.map_or(0, |version| version.to_string().len());
        audit[name] = match version {
            Some(_) if size > 2 * check::RULE_MAX => {
                left_out.insert(name.to_owned(), json!({"bytes": size}));
                Value::Null
            }
            version => json!(version),
        };
    }
    if !left_out.is_empty() {
        audit["left_out"] = left_out.into();
    }
    if cancel_waiting {
        audit["cancel_waiting"] = true.into();
    }
    audit
}

fn status_text(rule: Option<&Value>) -> &str {
    rule.map_or("deleted", |rule| {
        rule.get("status").and_then(Value::as_str).unwrap_or("active")
    })
}

fn changed(id: &str, version: i64, after: Option<&Value>, json: bool) -> Result<(), CliError> {
    let status = status_text(after);
    print(&match json {
        true => json!({"id": id, "changed": true, "version": version, "status": status}).to_string(),
        false => format!("{id}: {status} (version {version})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_holds_what_fits_and_says_what_it_left_out() {
        let (small, large) = (json!({"id": "a"}), json!({"id": "a", "name": "x".repeat(600_000)}));
        let audit = audited("me", "now", Some(&small), Some(&small), true);
        assert_eq!(
            audit,
            json!({"who": "me", "when": "now", "before": {"id": "a"}, "after": {"id": "a"}, "cancel_waiting": true})
        );
        let audit = audited("me", "now", Some(&large), Some(&large), false);
        assert!(audit.to_string().len() < 1000);
        assert_eq!(audit["left_out"]["before"]["bytes"], large.to_string().len());
        assert_eq!(audit["left_out"]["after"]["bytes"], large.to_string().len());
        let audit = audited("me", "now", Some(&large), None, false);
        assert_eq!((&audit["before"], &audit["after"]), (&Value::Null, &Value::Null));
        assert!(audit["left_out"].get("after").is_none());
    }
}
