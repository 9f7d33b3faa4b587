//! The things that go wrong in the demo, each at its moment after the first settled job: a flood, a token that is
//! revoked for a while, an archived channel, a 429, and the channel once more, which is left to the one who watches; and
//! between them the posts of others to inlets. [`super::story`] tells what follows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::events::Producers;
use super::inlets::{self, Post};
use crate::config::Config;
use crate::desk;
use crate::desk::replay::{self, Fate, Outside, Request, Which};
use crate::desk::scan::Scanner;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::sandbox::Sandbox;

#[derive(Debug, Clone, Copy)]
enum Act {
    Flood,
    Revoke,
    Archive,
    Throttle,
    React,
    AddRow,
    ArchiveAgain,
}

const ACTS: [(Duration, Act); 7] = [
    (Duration::from_secs(1), Act::Revoke),
    (Duration::from_secs(2), Act::Flood),
    (Duration::from_secs(3), Act::Archive),
    (Duration::from_secs(5), Act::Throttle),
    (Duration::from_secs(6), Act::React),
    (Duration::from_secs(8), Act::AddRow),
    (Duration::from_secs(10), Act::ArchiveAgain),
];

/// Far more than the channel takes within the rule's `digest_after`.
const FLOOD: usize = 20;
/// The token works again before it is probed first.
const REVOKED: &str = "20s";
/// How long after a job died somebody has mended the cause and asks for it again.
const MENDED: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Acts {
    began: Option<Instant>,
    done: usize,
    replayed: bool,
}

/// What an act says, and the events and the post to an inlet that belong to it.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) said: String,
    pub(super) events: Vec<(String, String)>,
    pub(super) post: Option<Post>,
}

impl Acts {
    /// The next act, when its time has come. Time runs from when jobs are settled; what died first is `mended` before more
    /// dies.
    pub(super) fn next(
        &mut self,
        settles: bool,
        mended: bool,
        producers: &mut Producers,
        sandbox: &Sandbox,
    ) -> anyhow::Result<Option<Played>> {
        if settles && self.began.is_none() {
            self.began = Some(Instant::now());
        }
        let ran = self.began.map(|began| began.elapsed());
        match ACTS.get(self.done) {
            Some((_, Act::ArchiveAgain)) if !mended => Ok(None),
            Some((at, act)) if ran.is_some_and(|ran| ran >= *at) => {
                self.done += 1;
                act.play(producers, sandbox).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The dead letter that is to be replayed now; `died` is the first job's, and when that was.
    pub(super) fn replay(&mut self, died: Option<(String, Instant)>) -> Option<String> {
        let (letter, _) = died.filter(|(_, at)| !self.replayed && at.elapsed() >= MENDED)?;
        self.replayed = true;
        Some(letter)
    }
}

impl Act {
    fn play(self, producers: &mut Producers, sandbox: &Sandbox) -> anyhow::Result<Played> {
        let order = |fault: Value| anyhow::Ok(sandbox.order(serde_json::from_value(fault)?)?);
        let mut post = None;
        let (said, events) = match self {
            Self::Flood => {
                let flood = (0..FLOOD).map(|_| producers.of("lms.campaign_rejected"));
                (
                    format!("{FLOOD} campaigns reject a lead at once, and C0CAMPS takes one message a second"),
                    flood.collect(),
                )
            }
            Self::Revoke => {
                order(json!({"kind": "error", "error": "token_revoked", "token": super::CALLS_TOKEN, "for": REVOKED}))?;
                (
                    format!("the token of calls-bot is revoked, and works again in {REVOKED}"),
                    vec![producers.of("call_logic.buyer_response")],
                )
            }
            Self::Archive => {
                order(json!({"target": "operations", "kind": "error", "error": "channel_is_archived", "times": 1}))?;
                (
                    "the channel of the webhook is archived for one message".to_owned(),
                    vec![producers.of("lms.lead_rejected")],
                )
            }
            Self::ArchiveAgain => {
                order(json!({"target": "operations", "kind": "error", "error": "channel_is_archived", "times": 1}))?;
                (
                    "the channel of the webhook is archived for another message, which is left to you".to_owned(),
                    vec![producers.of("lms.lead_rejected")],
                )
            }
            Self::Throttle => {
                order(json!({"target": "C0SALES", "kind": "rate_limit", "times": 1, "retry_after": 4}))?;
                ("C0SALES answers 429 once, Retry-After: 4".to_owned(), Vec::new())
            }
            Self::React => {
                post = Some(inlets::reaction(crate::app::now_millis()));
                let said = "somebody reacts with :tada: in Slack, which signs that and posts it to the inlet workspace";
                (said.to_owned(), Vec::new())
            }
            Self::AddRow => {
                post = Some(inlets::row());
                let said = "somebody adds a row to a sheet, which posts it to the inlet signups";
                (said.to_owned(), Vec::new())
            }
        };
        Ok(Played { said, events, post })
    }
}

/// Replays a dead letter as `leadlane dead-letters replay LETTER` does, and prints the same lines.
pub(super) fn replay(letter: &str, config: &Config, print: impl Fn(&str)) -> Result<(), desk::Error> {
    let request = Request {
        which: Which::Ids(vec![letter.parse()?]),
        dry_run: false,
        rate: None,
        who: "demo".to_owned(),
    };
    let scanner = Scanner::new(config, &|_| true);
    let summary = replay::run(scanner, &request, &mut Nothing, crate::app::now_millis, |fate| {
        match fate {
            Fate::Back(went) => print(&format!("{letter}: replayed to {}", went.topic)),
            Fate::Refused { why, .. } => print(&format!("{letter}: not replayed: {why}")),
        }
        Ok::<_, desk::Error>(())
    })?;
    summary.all_there(config)
}

/// The demo asks nobody: its dead letters hold jobs.
struct Nothing;

impl Nothing {
    fn refuse<T>() -> Result<T, desk::Error> {
        Err(desk::Error::invalid(
            "it holds no job, and the demo replays nothing else",
        ))
    }
}

impl Outside for Nothing {
    fn schema(&mut self, _: SchemaId, _: &mut Schemas) -> Result<(), desk::Error> {
        Self::refuse()
    }

    fn event_max(&mut self) -> Result<usize, desk::Error> {
        Self::refuse()
    }

    fn wait(&mut self, _: Duration) -> Result<(), desk::Error> {
        Self::refuse()
    }
}
