//! What calls and pages of rules share: who may change which, what still waits, and the event that a rule is tried on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use http_body_util::channel::Channel;
use serde_json::Value;
use tokio::task::JoinError;

use super::Web;
use super::page::words::encoded;
use super::problem::{Fault, Problem};
use super::who::Actor;
use crate::config::Config;
use crate::desk::deliveries::recent;
use crate::desk::rules::write::{Change, Writer, Written, authors};
use crate::desk::rules::{self, Draft, Last, Texts, View};
use crate::desk::{Conflict, Error, explain};
use crate::lead::LeadEvent;
use crate::lead::schemas::Schemas;
use crate::sealed::Sealed;
use crate::yaml::{self, Place};

/// The words that addresses of pages and API have where others have a rule's id, such as `/rules/new`. A rule of such an
/// id, which `leadlane rules apply` may write, is reached with the first letter encoded: `/rules/%6Eew`.
const OWN_WORDS: [&str; 9] = [
    "bulk",
    "explain",
    "export",
    "import",
    "match-recent",
    "new",
    "preview",
    "send-test",
    "validate",
];

pub(super) fn is_own_word(id: &str) -> bool {
    OWN_WORDS.contains(&id)
}

/// A rule's id as a step of an address.
pub(super) fn step(id: &str) -> String {
    match id.split_at_checked(1) {
        Some((first, rest)) if is_own_word(id) => format!("%{:02X}{rest}", first.as_bytes()[0]),
        _ => encoded(id),
    }
}

/// Why the desk makes no rule of an id, which others write by hand into addresses.
pub(super) fn not_made(view: &View, id: &str) -> Option<String> {
    (is_own_word(id) && view.version(id).is_none()).then(|| {
        format!(
            "{id} is a word of the desk's own addresses, so that no rule is made here under it; take another id, such as \
             {id}-rule, or write it by leadlane rules apply"
        )
    })
}

/// Makes all changes, or none, for somebody who may. A change for another version than the one in force is refused.
pub(super) fn write(web: &Web, actor: &Actor, changes: &[Change]) -> Result<Vec<Written>, Problem> {
    let mut writer = Writer::on(&web.config, Arc::clone(web.resident.rules()));
    may_write(web, actor, &*writer.view()?, changes)?;
    // Whoever is faster from here on is found by the writer: each change is for the version that was looked at.
    Ok(writer.write(changes, &actor.name, (web.now)())?)
}

/// Refuses what the actor may not change, what somebody else changed meanwhile, and ids that the desk makes no rule of.
pub(super) fn may_write(web: &Web, actor: &Actor, view: &View, changes: &[Change]) -> Result<(), Problem> {
    let (mut conflicts, mut errors): (Vec<Conflict>, Vec<Fault>) = Default::default();
    for change in changes {
        let before = rules::get(view, change.id()).ok().map(|in_force| in_force.json());
        actor.needs_rule(before.as_ref(), change.after())?;
        conflicts.extend(change.conflict(view, || winner(web, change.id(), view.last(change.id())?)));
        let message = change.after().and_then(|_| not_made(view, change.id()));
        errors.extend(message.map(|message| Fault {
            path: if changes.len() == 1 {
                "id".to_owned()
            } else {
                format!("{}: id", change.id())
            },
            message,
        }));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors, Vec::new()));
    }
    match conflicts.is_empty() {
        true => Ok(()),
        false => Err(Error::Conflict(conflicts).into()),
    }
}

/// Whoever wrote the last record of a rule, a deletion too. Where memory has it not yet, or no more, the audit is read.
pub(super) fn winner(web: &Web, rule: &str, last: Last) -> Option<String> {
    let read = || authors(&web.config, &HashMap::from([(rule, last)])).remove(rule);
    web.resident.author(rule, last.offset).or_else(read)
}

/// How many messages of some rules wait.
pub(super) fn waiting<'r>(web: &Web, rules: impl IntoIterator<Item = &'r str>) -> u64 {
    let rules: HashSet<&str> = rules.into_iter().collect();
    recent::waiting(&web.resident, &rules, (web.now)())
}

/// A draft's faults as a refusal.
pub(super) fn refusal(draft: &Draft) -> Problem {
    Problem::invalid(faults(&draft.errors), faults(&draft.warnings))
}

pub(super) fn faults(problems: &[crate::desk::Problem]) -> Vec<Fault> {
    problems.iter().cloned().map(Fault::from).collect()
}

/// An event that somebody brings: a lead event as JSON, or a record as the inlet of that name receives it.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) event: Option<Value>,
    pub(super) inlet: Option<String>,
    pub(super) record: Option<Value>,
}

impl Given {
    /// Reads the event, and looks at it.
    pub(super) fn with<T>(&self, web: &Web, look: impl FnOnce(&LeadEvent<'_>) -> T) -> Result<T, Error> {
        let bytes = self.bytes(web)?;
        let event = explain::event(&bytes, &Schemas::new()).map_err(|error| at("event", error))?;
        Ok(look(&event))
    }

    fn bytes(&self, web: &Web) -> Result<Vec<u8>, Error> {
        match (&self.event, &self.inlet, &self.record) {
            (Some(event), None, None) => Ok(event.to_string().into_bytes()),
            (None, Some(inlet), Some(record)) => {
                let record = record.to_string();
                let mapped = explain::of_record(&web.config, inlet, record.as_bytes(), (web.now)());
                mapped.map_err(|error| at("record", error))
            }
            _ => {
                let cure = "give either a lead event, or the name of an inlet with a record of its";
                Err(at("event", Error::invalid(cure)))
            }
        }
    }
}

/// The error as one of a field.
fn at(field: &str, error: Error) -> Error {
    match error {
        Error::Invalid(mut problems) => {
            problems.iter_mut().for_each(|problem| problem.place = field.to_owned());
            Error::Invalid(problems)
        }
        other => other,
    }
}

/// Seals a value with the configuration's public key. Neither the value nor its length is said anywhere.
pub(super) fn seal(config: &Config, value: &str) -> Result<Sealed, Error> {
    let Some(key) = &config.secrets.public_key else {
        return Err(Error::invalid(
            "nothing can be sealed here yet: whoever runs Leadlane makes a pair of keys with leadlane secrets keygen, and \
             puts the public one under secrets.public_key. Or store the value as a secret, and write the secret's name",
        ));
    };
    key.seal(value.trim())
        .map_err(|error| Error::invalid(error.to_string()))
}

/// All rules in force, as YAML documents.
pub(super) fn export_all(web: &Web) -> Texts {
    let view = web.resident.rules().view();
    Texts::of(rules::every(&view))
}

/// Rules as a body. A thread that may block makes a piece when the one before is sent, so that no more than two are in
/// memory.
pub(super) fn in_pieces(mut texts: Texts) -> Body {
    let (mut sender, body) = Channel::<Bytes, JoinError>::new(1);
    tokio::spawn(async move {
        loop {
            match tokio::task::spawn_blocking(move || (texts.next(), texts)).await {
                Ok((Some(piece), rest)) => {
                    if sender.send_data(piece.into()).await.is_err() {
                        // Whoever asked is gone.
                        return;
                    }
                    texts = rest;
                }
                Ok((None, _)) => return,
                // What was sent is not all, and the connection's end says so.
                Err(panicked) => return sender.abort(panicked),
            }
        }
    });
    Body::new(body)
}

/// What became of the rules of an import.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Of each its id, `created`, `changed` or `unchanged`, and its version.
    pub(super) rules: Vec<(String, &'static str, Option<i64>)>,
    pub(super) warnings: Vec<Fault>,
}

/// Puts the rules of a YAML text in force, all or none; a dry run says what would change.
pub(super) fn import(web: &Web, actor: &Actor, text: &str, dry_run: bool) -> Result<Imported, Problem> {
    let mut drafts = rules::read(&web.config, text).map_err(|error| at("yaml", error))?;
    rules::tell_apart(&mut drafts);
    let is_clean = |draft: &Draft| draft.errors.is_empty() && draft.warnings.is_empty();
    let places = match drafts.iter().all(is_clean) {
        true => Vec::new(),
        false => yaml::places(text),
    };
    let of_rules = |of: fn(&Draft) -> &[crate::desk::Problem]| -> Vec<Fault> {
        let all = drafts.iter().enumerate();
        let faults = all.flat_map(|(number, draft)| {
            let problems = of(draft).iter();
            problems.map(move |problem| (draft, problem, number))
        });
        faults
            .map(|(draft, problem, number)| of_rule(draft, problem, rules::place(&places, number, problem)))
            .collect()
    };
    let (errors, warnings) = (of_rules(|draft| &draft.errors), of_rules(|draft| &draft.warnings));
    if !errors.is_empty() {
        return Err(Problem::invalid(errors, warnings));
    }
    let mut writer = Writer::on(&web.config, Arc::clone(web.resident.rules()));
    let (mut changes, mut seen) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
    {
        let view = writer.view()?;
        for draft in drafts {
            let in_force = rules::get(&view, &draft.id).ok();
            let same = in_force.is_some_and(|in_force| in_force.json() == draft.written);
            let version = in_force.map(|in_force| in_force.version);
            seen.push((version, same));
            changes.push(Change::put(draft, version)?);
        }
        may_write(web, actor, &view, &changes)?;
    }
    let written: Vec<Option<i64>> = match dry_run {
        true => seen.iter().map(|(version, _)| *version).collect(),
        false => {
            let written = writer.write(&changes, &actor.name, (web.now)())?;
            written.into_iter().map(|written| Some(written.version)).collect()
        }
    };
    let outcome = |(version, same): (Option<i64>, bool)| match (version, same) {
        (None, _) => "created",
        (Some(_), true) => "unchanged",
        (Some(_), false) => "changed",
    };
    let became = changes.iter().zip(seen).zip(written);
    Ok(Imported {
        rules: became
            .map(|((change, seen), version)| (change.id().to_owned(), outcome(seen), version))
            .collect(),
        warnings,
    })
}

/// A problem of one rule among several, with its place in the text.
fn of_rule(draft: &Draft, problem: &crate::desk::Problem, place: Option<Place>) -> Fault {
    let path = match problem.place.as_str() {
        "" => draft.id.clone(),
        place => format!("{}: {place}", draft.id),
    };
    let message = match place {
        Some(Place { line, column }) => format!("{} (line {line}, column {column})", problem.message),
        None => problem.message.clone(),
    };
    Fault { path, message }
}

/// The version that is in force, where a draft is the same.
pub(super) fn version_of(web: &Web, draft: &Draft) -> Option<i64> {
    let view = web.resident.rules().view();
    let in_force = rules::get(&view, &draft.id).ok()?;
    (in_force.json() == draft.written).then_some(in_force.version)
}
