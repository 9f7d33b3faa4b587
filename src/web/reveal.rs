//! A record in full. Whoever looks is written down first.

use serde_json::{Value, json};

use super::Web;
use crate::desk::audit::Act;
use crate::desk::dead_letters::{self, Id};
use crate::desk::deliveries::recent as deliveries;
use crate::desk::scan::Scanner;
use crate::desk::{Error, recent};

/// What can be looked at in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Event,
    Delivery,
    DeadLetter,
}

impl What {
    const ALL: [Self; 3] = [Self::Event, Self::Delivery, Self::DeadLetter];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Delivery => "delivery",
            Self::DeadLetter => "dead_letter",
        }
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == text)
    }
}

/// A record, whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Revealed {
    pub(super) what: What,
    pub(super) id: String,
    pub(super) record: Value,
    /// The lane and the body of what is sent, where it is a job.
    pub(super) sent: Option<(String, String)>,
}

impl Web {
    /// Finds a record, writes down who looks at it, and gives it. It blocks.
    pub(super) fn reveal(&self, what: What, id: &str, who: &str) -> Result<Revealed, Error> {
        let revealed = self.find(what, id)?;
        let after = json!({"of": what.as_str()});
        self.record(Act {
            who,
            what: "reveal",
            target: id,
            before: None,
            after: Some(&after),
        })?;
        Ok(revealed)
    }

    fn find(&self, what: What, id: &str) -> Result<Revealed, Error> {
        let (resident, scanner) = (&self.resident, Scanner::new(&self.config, &|_| true));
        let (record, sent) = match what {
            What::Event => {
                let filter = recent::Filter {
                    event: Some(id.to_owned()),
                    ..recent::Filter::default()
                };
                let found = recent::events(resident, &filter, None, 1).items;
                let found = found
                    .first()
                    .ok_or_else(|| Error::NotFound("that event isn’t kept here any more".to_owned()))?;
                (resident.with_event(found, |event| event.to_json())?, None)
            }
            What::Delivery => {
                let life = deliveries::life(resident, scanner, id)?;
                let Some((job, _)) = &life.job else {
                    return Err(Error::NotFound("nothing of that delivery’s text is kept".to_owned()));
                };
                let body = life.sent.clone().unwrap_or_else(|| job.body.clone());
                (of_job(job, &body), Some((job.lane(), body)))
            }
            What::DeadLetter => {
                let id: Id = id.parse()?;
                let letter = dead_letters::recent::one(resident, id)?;
                let letter = letter.whole(scanner).unwrap_or(letter);
                let sent = letter.job.as_ref().map(|job| (job.lane(), job.body.clone()));
                (letter.held(), sent)
            }
        };
        Ok(Revealed {
            what,
            id: id.to_owned(),
            record,
            sent,
        })
    }
}

/// A job without its secrets, with what is sent as JSON.
fn of_job(job: &crate::delivery::DeliveryJob, body: &str) -> Value {
    let mut shown = serde_json::to_value(job).unwrap_or_default();
    shown["body"] = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    shown
}
