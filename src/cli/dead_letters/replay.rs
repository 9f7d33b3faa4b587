//! `leadlane dead-letters replay`: dead letters go back where they came from.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{Asked, Id};
use crate::app::now_millis;
use crate::cli::look::{Look, Span, plain};
use crate::cli::{CliError, look_up, print, progress, wait_for, who};
use crate::dates::Rate;
use crate::desk::Error;
use crate::desk::replay::{self, Fate, Outside, Request, Went, Which};
use crate::kafka::topics;
use crate::lead::schemas::{SchemaId, Schemas};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The dead letters to replay
    #[arg(value_name = "ID")]
    ids: Vec<Id>,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    span: Span,
    /// Replay all that were not replayed yet; needed where neither ids nor conditions are given
    #[arg(long)]
    all: bool,
    /// Print what would go where, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// At most so many: 10/s, 300/m or 20/h
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    rate: Option<Rate>,
}

impl Options {
    fn which(&self) -> Result<Which, CliError> {
        let (filter, period) = (self.asked.filter(), self.span.period());
        let by_condition = !(filter.is_whole() && period.is_whole());
        match (self.ids.is_empty(), by_condition, self.all) {
            (true, false, false) => Err(CliError::Invalid(
                "which dead letters? give their ids, or a condition such as --reason gave_up, or --all".to_owned(),
            )),
            (false, true, _) | (false, _, true) => Err(CliError::Invalid(
                "ids stand alone: leave out the conditions and --all, or the ids".to_owned(),
            )),
            (false, false, false) => Ok(Which::Ids(self.ids.clone())),
            (true, ..) => Ok(Which::Matching(filter, period)),
        }
    }
}

pub(super) fn run(look: Look<'_>, options: &Options) -> Result<(), CliError> {
    let request = Request {
        which: options.which()?,
        dry_run: options.dry_run,
        rate: options.rate,
        who: who(),
    };
    let mut told = 0;
    let tell = |fate| {
        told += 1;
        progress::at("dead letters replayed", told, None);
        match fate {
            Fate::Back(went) => print(&line(&went, look.json, request.dry_run)),
            Fate::Refused { id, why } => {
                say!("{id}: not replayed: {}", plain(&why));
                Ok(())
            }
        }
    };
    let summary = look.scan(|scanner| replay::run(scanner, &request, &mut Here(look), now_millis, tell))?;
    let verb = if request.dry_run {
        "would be replayed"
    } else {
        "replayed"
    };
    say!(
        "{} {verb}, {} left as they are because they were replayed before",
        summary.replayed,
        summary.left
    );
    summary.all_there(look.config)?;
    match summary.refused {
        0 => Ok(()),
        refused => Err(CliError::failed(format!("{refused} could not be replayed"))),
    }
}

fn line(went: &Went, json: bool, dry_run: bool) -> String {
    let Went { id, topic, key, change } = went;
    if json {
        let key = String::from_utf8_lossy(key);
        return json!({"id": id.to_string(), "replayed": !dry_run, "topic": topic, "key": key, "change": change})
            .to_string();
    }
    let verb = if dry_run { "would go" } else { "replayed" };
    let change = change.as_ref().map_or(String::new(), |change| format!(", {change}"));
    plain(&format!("{id}: {verb} to {topic}{change}"))
}

/// What a command asks outside of the topics.
struct Here<'l>(Look<'l>);

impl Outside for Here<'_> {
    fn schema(&mut self, id: SchemaId, schemas: &mut Schemas) -> Result<(), Error> {
        look_up(self.0.config, id, schemas).map_err(unavailable)
    }

    fn event_max(&mut self) -> Result<usize, Error> {
        let max = wait_for(topics::record_max(self.0.config, &self.0.config.topics.events));
        max.map_err(unavailable)?.map_err(Error::Unavailable)
    }

    fn wait(&mut self, wait: Duration) -> Result<(), Error> {
        let until = Instant::now() + wait;
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            if *self.0.stop.borrow() {
                let why = "stopped; run the command again to replay the rest";
                return Err(Error::Unavailable(why.to_owned()));
            }
            std::thread::sleep(wait.min(Duration::from_millis(100)));
        }
    }
}

fn unavailable(error: CliError) -> Error {
    Error::Unavailable(error.to_string())
}
