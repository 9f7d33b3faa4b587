//! The versions of a rule, from the audit.

use std::collections::HashMap;

use serde_json::Value;

use super::audit::records;
use super::page::{Page, Place};
use super::resident::Resident;
use super::rules::Draft;
use super::rules::write::Change;
use super::scan::Scanner;
use super::{Error, Problem};
use crate::config::Config;
use crate::kafka::reader::Record;

/// A version of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The offset of its record in the rules' topic.
    pub version: i64,
    /// Epoch milliseconds.
    pub when: i64,
    pub who: String,
    /// `apply`, `delete`, `pause`, `resume` or `rollback`.
    pub what: String,
    /// None where there was none, and where the audit leaves it out for its size.
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// The audit leaves a side out, which was too large for it.
    pub left_out: bool,
}

impl Version {
    /// A record of the audit that is about a version.
    fn of(when: i64, record: &Value) -> Option<Self> {
        let side = |name: &str| record.get(name).filter(|rule| !rule.is_null()).cloned();
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            version: record.get("version")?.as_i64()?,
            when,
            who: text("who"),
            what: text("what"),
            before: side("before"),
            after: side("after"),
            left_out: record.get("left_out").is_some(),
        })
    }
}

/// The versions of a rule, newest first.
pub fn list(resident: &Resident, rule: &str, after: Option<Place>, limit: usize) -> Result<Page<Version>, Error> {
    let page = {
        let audits = resident.audits();
        let asked = audits.newest(Some(rule), None, after);
        Page::of(asked.map(|audited| (audited.place, audited)), limit)
    };
    let places: Vec<Place> = page.items.iter().map(|audited| audited.place).collect();
    let records = records(resident, &places)?;
    let both = page.items.into_iter().zip(records);
    Ok(Page {
        items: both
            .filter_map(|(audited, record)| Version::of(audited.place.at, &record?))
            .collect(),
        next: page.next,
    })
}

/// So many records are read at once to find one version.
const AT_ONCE: usize = 50;

/// One version of a rule.
pub fn at(resident: &Resident, rule: &str, version: i64) -> Result<Version, Error> {
    let mut after = None;
    loop {
        let page = list(resident, rule, after, AT_ONCE)?;
        if let Some(found) = page.items.into_iter().find(|found| found.version == version) {
            return Ok(found);
        }
        after = page.next;
        if after.is_none() {
            return Err(missing(rule, version));
        }
    }
}

/// The versions of a rule as the topic has them, oldest first. A rule that the audit doesn't know is not found.
pub fn history(scanner: Scanner<'_>, rule: &str) -> Result<Vec<Version>, Error> {
    let mut versions = Vec::new();
    for record in scanner.all(&scanner.config.topics.audit)? {
        let record = record?;
        if record.key.as_deref() == Some(rule.as_bytes()) {
            versions.extend(of_record(&record).and_then(|audit| Version::of(record.timestamp, &audit)));
        }
    }
    versions.sort_by_key(|version: &Version| version.version);
    match versions.is_empty() {
        true => Err(Error::NotFound(format!("the audit has no version of a rule {rule}"))),
        false => Ok(versions),
    }
}

/// The last record of the audit about a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    pub version: i64,
    pub who: String,
    /// The rule was applied from files.
    pub from_files: bool,
}

/// By rule, the audit's last record of it, as the topic has it.
pub fn last(scanner: Scanner<'_>) -> Result<HashMap<String, Last>, Error> {
    let mut all: HashMap<String, Last> = HashMap::new();
    for record in scanner.all(&scanner.config.topics.audit)? {
        let record = record?;
        let (Some(key), Some(audit)) = (&record.key, of_record(&record)) else {
            continue;
        };
        let Some(version) = audit.get("version").and_then(Value::as_i64) else {
            continue;
        };
        let id = String::from_utf8_lossy(key).into_owned();
        let last = Last {
            version,
            who: audit.get("who").and_then(Value::as_str).unwrap_or_default().to_owned(),
            from_files: audit.get("from_files").and_then(Value::as_bool).unwrap_or_default(),
        };
        // Partitions come mixed.
        if all.get(&id).is_none_or(|other| other.version <= version) {
            all.insert(id, last);
        }
    }
    Ok(all)
}

fn of_record(record: &Record) -> Option<Value> {
    serde_json::from_slice(record.value.as_deref()?).ok()
}

/// The change that puts a version in force again. `seen` is the version in force that its author saw.
pub fn rollback(resident: &Resident, rule: &str, version: i64, seen: Option<i64>) -> Result<Change, Error> {
    back(resident.config(), at(resident, rule, version)?, seen)
}

/// The same, from the versions of a rule that were read.
pub fn back_to(
    config: &Config,
    rule: &str,
    versions: Vec<Version>,
    version: i64,
    seen: Option<i64>,
) -> Result<Change, Error> {
    let found = versions.into_iter().find(|found| found.version == version);
    back(config, found.ok_or_else(|| missing(rule, version))?, seen)
}

fn missing(rule: &str, version: i64) -> Error {
    Error::NotFound(format!("rule {rule} has no version {version} in the audit"))
}

fn back(config: &Config, found: Version, seen: Option<i64>) -> Result<Change, Error> {
    let version = found.version;
    let Some(written) = found.after else {
        let message = match found.left_out {
            true => format!("version {version} was too large for the audit; apply the rule from where it was written"),
            false => format!("version {version} deleted the rule; choose one before it"),
        };
        return Err(Error::Invalid(vec![Problem {
            place: "version".to_owned(),
            message,
        }]));
    };
    Change::rollback(Draft::of(config, written), seen)
}
