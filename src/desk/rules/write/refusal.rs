//! Why changes were not written, in words.

use super::{Change, Last};
use crate::dates::time_text;
use crate::desk::{Conflict, Error};
use crate::kafka::Fault;

pub(super) fn conflict(change: &Change, version: Option<i64>, last: Option<&Last>, who: Option<String>) -> Conflict {
    let id = &change.id;
    let when = last.map(|last| last.changed_at);
    let author = who.as_deref().unwrap_or("someone who leaves no audit");
    let did = match (change.seen, version) {
        (None, _) => "wrote",
        (Some(_), Some(_)) => "changed",
        (Some(_), None) => "deleted",
    };
    let time = when.map_or(String::new(), |when| format!(" at {}", time_text(when)));
    let now = match version {
        Some(version) => format!("version {version} is in force now"),
        None => "it is not in force any more".to_owned(),
    };
    let seen = match change.seen {
        Some(seen) => format!("your change is for version {seen}"),
        None => "your change is for a new rule".to_owned(),
    };
    Conflict {
        message: format!(
            "rule {id}: {author} {did} it{time}; {now}, and {seen}. Nothing was written; look at the rule, then try again"
        ),
        version,
        who,
        when,
    }
}

pub(super) fn failed(fault: Fault) -> Error {
    match fault {
        Fault::Refused { message, .. } => Error::invalid(format!(
            "{message}; shorten the rule, or raise the topic's max.message.bytes"
        )),
        fault => Error::Unavailable(format!(
            "the rules can't be written; look at them, then try again: {fault}"
        )),
    }
}
