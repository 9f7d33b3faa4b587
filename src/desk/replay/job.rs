//! A delivery again, as somebody asks for it: by its dead letter where it has one, else its job is written once more.

use super::{BATCH_MAX, Fate, OPEN_MAX, Outside, RECORD_MAX, Request, Which, failed};
use crate::dates::time_text;
use crate::delivery::OutcomeResult;
use crate::desk::dead_letters::{Id, recent::Asked};
use crate::desk::deliveries::{Life, Stands, recent};
use crate::desk::resident::Resident;
use crate::desk::scan::Scanner;
use crate::desk::{Error, dead_letters};
use crate::kafka::producer::Record;
use crate::kafka::together::Together;
use crate::kafka::{VERSION, headers};
use serde_json::json;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Its job waits in its lane again.
    Job,
    /// Its dead letter went back.
    DeadLetter(Id),
}

/// Asks for a delivery again. `now` gives the wall clock's time, in epoch milliseconds.
pub fn again(
    resident: &Resident,
    scanner: Scanner<'_>,
    id: &str,
    who: &str,
    outside: &mut dyn Outside,
    now: fn() -> i64,
) -> Result<Again, Error> {
    let life = recent::life(resident, scanner, id)?;
    match life.stands {
        Stands::Waiting => return Err(waits()),
        Stands::Is(result) if !result.is_final() => return Err(waits()),
        Stands::Is(OutcomeResult::Dead) => {
            if let Some(letter) = letter_of(resident, &life) {
                return dead_letter(scanner, letter, who, outside, now).map(|()| Again::DeadLetter(letter));
            }
        }
        Stands::Is(_) => {}
    }
    let Some((_, record)) = &life.job else {
        return Err(Error::invalid(
            "there is no message to send again: none was made, or it is older than what is kept",
        ));
    };
    let mut together = Together::open(scanner.config, "replay", RECORD_MAX, OPEN_MAX).map_err(failed)?;
    let topics = &scanner.config.topics;
    let kept = ["event-id", "rule-id", "job-id", "traceparent", VERSION].into_iter();
    let kept = kept.filter_map(|name| Some((name, record.header(name)?)));
    let write = together.write(&Record {
        topic: &topics.jobs,
        partition: None,
        key: record.key.as_deref().unwrap_or_default(),
        value: record.value.as_deref(),
        headers: headers(kept.chain([("replay-of", id)])),
    });
    write.map_err(failed)?;
    let audit = json!({"who": who, "when": time_text(now()), "what": "delivery_replay", "target": id}).to_string();
    let write = together.write(&Record {
        topic: &topics.audit,
        partition: None,
        key: id.as_bytes(),
        value: Some(audit.as_bytes()),
        headers: headers([]),
    });
    write.map_err(failed)?;
    together.commit().map_err(failed)?;
    Ok(Again::Job)
}

fn waits() -> Error {
    Error::conflict("it hasn't ended yet: it is sent when its turn comes")
}

/// The dead letter of a job that waits for a person, or of the event that it couldn't be made of.
fn letter_of(resident: &Resident, life: &Life) -> Option<Id> {
    let outcome = life.outcomes.last()?;
    let asked = Asked {
        event: Some(outcome.event_id.clone()),
        replayed: Some(false),
        ..Asked::default()
    };
    let letters = dead_letters::recent::recent(resident, &asked, None, BATCH_MAX).items;
    let is_its = |job: Option<&str>, rule: Option<&str>| match job {
        Some(job) => job == life.id,
        None => rule == Some(&*outcome.rule_id),
    };
    let mut letters = letters.into_iter();
    let found = letters.find(|letter| is_its(letter.job_id.as_deref(), letter.rule_id.as_deref()));
    found.map(|letter| letter.id)
}

fn dead_letter(
    scanner: Scanner<'_>,
    id: Id,
    who: &str,
    outside: &mut dyn Outside,
    now: fn() -> i64,
) -> Result<(), Error> {
    let request = Request {
        which: Which::Ids(vec![id]),
        dry_run: false,
        rate: None,
        who: who.to_owned(),
    };
    let mut refused = None;
    let summary = super::run(scanner, &request, outside, now, |fate| {
        if let Fate::Refused { why, .. } = fate {
            refused = Some(why);
        }
        Ok::<_, Error>(())
    })?;
    summary.all_there(scanner.config)?;
    match refused {
        Some(why) => Err(Error::invalid(why)),
        None => Ok(()),
    }
}
