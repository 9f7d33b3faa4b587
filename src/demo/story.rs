//! The story of the acts for the person who watches: what is merged, refused, probed, mended and replayed, and what
//! arrived.

use std::collections::{HashMap, HashSet};
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use super::inlets;
use super::view::as_read;
use crate::delivery::recall::credential_of;
use crate::delivery::{Outcome, OutcomeResult};
use crate::kafka::reader::Record;
use crate::sandbox::{ArrivalKind, Sandbox};

/// Lines of a digest's text that are shown.
const SHOWN: usize = 4;
/// A digest whose last job was settled so long ago is complete.
const COMPLETE: Duration = Duration::from_millis(400);

#[derive(Debug)]
pub(super) struct Story {
    sandbox: Sandbox,
    /// The last arrival that was looked at.
    seen: u64,
    refused: HashSet<String>,
    /// By the message's id.
    digests: HashMap<String, Digest>,
    messages: usize,
    /// By job id, the place of its dead letter.
    dead: HashMap<String, String>,
    died: Option<(String, Instant)>,
    /// What died first was replayed, and arrived.
    is_mended: bool,
    /// The dead letter that is left to replay by hand.
    left: Option<String>,
}

#[derive(Debug)]
struct Digest {
    rule: String,
    lane: String,
    jobs: usize,
    last: Instant,
}

impl Story {
    pub(super) fn new(sandbox: Sandbox) -> Self {
        Self {
            sandbox,
            seen: 0,
            refused: HashSet::new(),
            digests: HashMap::new(),
            messages: 0,
            dead: HashMap::new(),
            died: None,
            is_mended: false,
            left: None,
        }
    }

    /// What the sandbox was asked since the last time: whether a refused token works again, and what came of the
    /// inlets.
    pub(super) fn arrivals(&mut self) -> Vec<String> {
        let arrivals = self.sandbox.log_since(self.seen);
        self.seen = arrivals.last().map_or(self.seen, |last| last.seq);
        let calls = arrivals.iter().filter(|arrival| arrival.method == "auth.test");
        // Tokens are asked about when they are met, too.
        let probes = calls.filter(|_| !self.refused.is_empty());
        let probes = probes.map(|probe| format!("probed    auth.test: {}", probe.error.as_deref().unwrap_or("ok")));
        probes.chain(arrivals.iter().filter_map(inlets::line_of)).collect()
    }

    /// What an outcome means for the story. `waiting` are the jobs of its credential that are left.
    pub(super) fn outcome(&mut self, outcome: &Outcome, waiting: u64) -> Option<String> {
        let credential = credential_of(&outcome.lane);
        let frozen = outcome.scope.as_deref() == Some("credential");
        match outcome.result {
            OutcomeResult::Retry if frozen && self.refused.insert(credential.to_owned()) => Some(format!(
                "refused   {credential}: {}; its messages wait, and it is probed until it works",
                outcome.words.as_deref().unwrap_or_default()
            )),
            OutcomeResult::Sent if self.refused.remove(credential) => Some(format!(
                "recovered {credential} works again by itself; the {} that waited go out now",
                waiting + 1
            )),
            OutcomeResult::Digested => {
                let id = outcome.message_id.clone().unwrap_or_default();
                let digest = self.digests.entry(id).or_insert_with(|| Digest {
                    rule: outcome.rule_id.clone(),
                    lane: outcome.lane.clone(),
                    jobs: 0,
                    last: Instant::now(),
                });
                digest.jobs += 1;
                digest.last = Instant::now();
                None
            }
            _ => None,
        }
    }

    pub(super) fn is_refused(&self, credential: &str) -> bool {
        self.refused.contains(credential)
    }

    /// The digests that are complete, with what arrived.
    pub(super) fn digests(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, digest) in self.digests.extract_if(|_, digest| digest.last.elapsed() > COMPLETE) {
            let Digest { rule, lane, jobs, .. } = digest;
            self.messages += 1;
            lines.push(format!(
                "digest    {jobs} messages of rule {rule} arrived in {lane} as one:"
            ));
            let log = self.sandbox.log();
            let message = log.iter().find(|arrival| arrival.ts.as_deref() == Some(&*id));
            let text = message.and_then(|message| message.text.as_deref()).unwrap_or_default();
            let mut text = text.lines();
            lines.extend(
                text.by_ref()
                    .take(SHOWN)
                    .map(|line| format!("            {}", as_read(line))),
            );
            lines.push(format!("            ({} more lines)", text.count()));
        }
        lines
    }

    pub(super) fn digests_shown(&self) -> String {
        match self.messages {
            1 => "1 digest".to_owned(),
            count => format!("{count} digests"),
        }
    }

    /// A job's dead letter. The first is replayed by a command, one after that is left to whoever watches.
    pub(super) fn dead_letter(&mut self, record: &Record) {
        let place = format!("{}-{}", record.partition, record.offset);
        if let Some(job) = record.header("job-id") {
            self.dead.insert(job.to_owned(), place.clone());
            match self.died {
                None => self.died = Some((place, Instant::now())),
                Some(_) if self.is_mended => self.left = Some(place),
                Some(_) => {}
            }
        }
    }

    /// A job that was replayed from a dead letter arrived.
    pub(super) fn arrived_again(&mut self, letter: &str) {
        self.is_mended = true;
        self.left.take_if(|left| left == letter);
    }

    pub(super) fn is_mended(&self) -> bool {
        self.is_mended
    }

    /// The dead letter that is left to replay by hand, on the page.
    pub(super) fn left(&self) -> Option<&str> {
        self.left.as_deref()
    }

    /// The first job that died, by its dead letter.
    pub(super) fn died(&self) -> Option<(&str, Instant)> {
        self.died.as_ref().map(|(place, at)| (place.as_str(), *at))
    }

    /// The dead letter that a job was replayed from.
    pub(super) fn replay_of(&self, job_id: &str) -> Option<&str> {
        self.dead.get(job_id).map(String::as_str)
    }

    /// How many messages Slack took, and how many requests came inside a `Retry-After`.
    pub(super) fn arrived(&self) -> (usize, usize) {
        let log = self.sandbox.log();
        let is_message = |kind| matches!(kind, ArrivalKind::SlackMessage | ArrivalKind::SlackWebhook);
        let taken = log
            .iter()
            .filter(|arrival| arrival.accepted && is_message(arrival.kind));
        (
            taken.count(),
            log.iter().filter(|arrival| arrival.inside_retry_after).count(),
        )
    }
}

/// Writes a line of the story; for programs as an object. A reader of the pipe that went away is no reason to fail.
pub(super) fn write(line: &str, json: bool) {
    drop(match json {
        true => writeln!(
            std::io::stdout(),
            "{}",
            serde_json::json!({"id": "story", "text": line})
        ),
        false => writeln!(stdout(), "{line}"),
    });
}
