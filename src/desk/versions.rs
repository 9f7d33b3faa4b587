//! The versions of a rule, from the audit.

use serde_json::Value;

use super::audit::records;
use super::page::{Page, Place};
use super::resident::Resident;
use super::resident::audits::Audited;
use super::rules::Draft;
use super::rules::write::Change;
use super::{Error, Problem};

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
    fn of(audited: Audited, record: &Value) -> Option<Self> {
        let side = |name: &str| record.get(name).filter(|rule| !rule.is_null()).cloned();
        Some(Self {
            version: record.get("version")?.as_i64()?,
            when: audited.place.at,
            who: audited.who,
            what: audited.what,
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
            .filter_map(|(audited, record)| Version::of(audited, &record?))
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
            return Err(Error::NotFound(format!(
                "rule {rule} has no version {version} in the audit"
            )));
        }
    }
}

/// The change that puts a version in force again. `seen` is the version in force that its author saw.
pub fn rollback(resident: &Resident, rule: &str, version: i64, seen: Option<i64>) -> Result<Change, Error> {
    let found = at(resident, rule, version)?;
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
    Change::rollback(Draft::of(resident.config(), written), seen)
}
