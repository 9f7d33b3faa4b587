//! `leadlane events ...`

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::look::{Look, counted};
use super::{CliError, print, progress};
use crate::app::now_millis;
use crate::config::Config;
use crate::desk::events::{self, Form, Line, Sending, Sent, Unsent};
use crate::lead::schemas::Schemas;
use crate::mapping::Inlet;

mod tail;

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Send events, one JSON object a line; lines that are no lead event are reported and left out
    Send {
        #[command(flatten)]
        input: Input,
        /// The form of the events: as the lines are, or Avro single objects; or csv, the form of the file
        /// [default: by the name's ending, else by the content]
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Print what would become of each line; needs no broker
    Validate {
        #[command(flatten)]
        input: Input,
        /// The format of the file [default: by the name's ending, else by the content]
        #[arg(long, value_enum)]
        format: Option<Lines>,
    },
    /// Print lead events as they come, each with the rules that match it, until Ctrl-C
    Tail(tail::Options),
}

#[derive(Debug, Args)]
pub(super) struct Input {
    /// A file of JSON lines, or of rows under titles where an inlet is named; - for stdin
    file: PathBuf,
    /// Each line is a record that this inlet of the configuration maps
    #[arg(long, value_name = "NAME")]
    inlet: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Avro,
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Lines {
    Json,
    Csv,
}

pub(super) fn run(look: Look<'_>, command: &Events) -> Result<(), CliError> {
    let (config, json) = (look.config, look.json);
    match command {
        Events::Tail(options) => tail::tail(look, options),
        Events::Send { input, format } => {
            let lines = match format {
                // Avro says how events are written, and nothing of the file.
                None | Some(Format::Avro) => None,
                Some(Format::Json) => Some(Lines::Json),
                Some(Format::Csv) => Some(Lines::Csv),
            };
            let source = EventLines::of(config, input, lines)?;
            let form = match format {
                Some(Format::Avro) => Form::Avro,
                None | Some(Format::Json | Format::Csv) => Form::Json,
            };
            send(config, &source, form, json)
        }
        Events::Validate { input, format } => validate(&EventLines::of(config, input, *format)?, json),
    }
}

/// The file, and how its lines become events.
struct EventLines<'s> {
    file: &'s Path,
    inlet: Option<&'s Inlet>,
    format: Option<events::Format>,
}

impl<'s> EventLines<'s> {
    fn of(config: &'s Config, input: &'s Input, lines: Option<Lines>) -> Result<Self, CliError> {
        let ending = input.file.extension().and_then(|ending| ending.to_str());
        let format = match (lines, ending.map(str::to_ascii_lowercase).as_deref()) {
            (Some(Lines::Json), _) | (None, Some("json" | "jsonl" | "ndjson")) => Some(events::Format::Json),
            (Some(Lines::Csv), _) | (None, Some("csv" | "tsv")) => Some(events::Format::Csv),
            (None, _) => None,
        };
        let inlet = match &input.inlet {
            None => None,
            Some(name) => Some(config.inlet(name).map_err(CliError::Invalid)?),
        };
        if format == Some(events::Format::Csv) && inlet.is_none() {
            let (file, why) = (input.file.display(), events::NEEDS_INLET);
            return Err(CliError::Invalid(format!("{file}: {why}")));
        }
        Ok(Self {
            file: &input.file,
            inlet,
            format,
        })
    }

    /// Calls `each` with every line that isn't blank.
    fn each(&self, mut each: impl FnMut(Line) -> Result<(), CliError>) -> Result<(), CliError> {
        let unreadable = |error: &dyn Display| CliError::Invalid(format!("{}: {error}", self.file.display()));
        let input = Watched::open(self.file).map_err(|error| unreadable(&error))?;
        let lines = events::Lines::read(input, self.format, self.inlet, now_millis);
        let mut lines = lines.map_err(|error| unreadable(&error))?;
        let mut is_empty = true;
        for line in lines.by_ref() {
            is_empty = false;
            each(line.map_err(|error| unreadable(&error))?)?;
        }
        match is_empty {
            true => Err(unreadable(&lines.nothing())),
            false => Ok(()),
        }
    }

    /// The expected content of a line.
    fn wanted(&self) -> String {
        match self.inlet {
            None => "no lead event".to_owned(),
            Some(inlet) => format!("nothing that inlet {} can map", inlet.name),
        }
    }
}

/// A file that shows how far it is read.
struct Watched {
    input: Box<dyn Read>,
    /// None where it is no file.
    bytes: Option<u64>,
    read: u64,
}

impl Watched {
    fn open(file: &Path) -> std::io::Result<Self> {
        let (input, bytes): (Box<dyn Read>, _) = if file.as_os_str() == "-" {
            (Box::new(std::io::stdin()), None)
        } else {
            let file = File::open(file)?;
            let about = file.metadata()?;
            (Box::new(file), about.is_file().then_some(about.len()))
        };
        Ok(Self { input, bytes, read: 0 })
    }
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(into)?;
        self.read += read as u64;
        progress::at("bytes read", self.read, self.bytes);
        Ok(read)
    }
}

fn validate(source: &EventLines<'_>, json: bool) -> Result<(), CliError> {
    let schemas = Schemas::new();
    let mut refused = 0_u64;
    source.each(|Line { number, taken }| {
        for event in &taken.events {
            let trigger = events::trigger(event, &schemas);
            let id = &event.event_id;
            print(&match json {
                true => json!({"id": id, "line": number, "valid": true, "trigger": trigger}).to_string(),
                false => format!("line {number}: {trigger} {id}"),
            })?;
        }
        if taken.left_out > 0 {
            print(&match json {
                true => json!({"id": null, "line": number, "valid": true, "left_out": true}).to_string(),
                false => format!("line {number}: is left out"),
            })?;
        }
        if let Some((reason, detail)) = &taken.refused {
            refused += 1;
            let reason = reason.as_str();
            print(&match json {
                true => {
                    json!({"id": null, "line": number, "valid": false, "reason": reason, "detail": detail}).to_string()
                }
                false => format!("line {number}: would be a dead letter: {reason}: {detail}"),
            })?;
        }
        Ok(())
    })?;
    match refused {
        0 => Ok(()),
        refused => Err(CliError::Invalid(format!(
            "{}: {refused} of the lines are {}",
            source.file.display(),
            source.wanted()
        ))),
    }
}

fn send(config: &Config, source: &EventLines<'_>, form: Form, json: bool) -> Result<(), CliError> {
    let file = source.file.display();
    let mut sending = Sending::open(config, form)?;
    source.each(|line| {
        let number = line.number;
        if let Some(Unsent { whole, reason, detail }) = sending.send(line) {
            let part = if whole { "not sent" } else { "not sent in whole" };
            say!("{file}:{number}: {part}: {reason}: {detail}");
        }
        Ok(())
    })?;
    let Sent {
        sent,
        left_out,
        refused,
        failed,
    } = sending.finish(Duration::from_secs(60));
    let topic = &config.topics.events;
    print(&match (json, source.inlet) {
        (true, None) => json!({"id": topic, "sent": sent, "refused": refused}).to_string(),
        (true, Some(_)) => json!({"id": topic, "sent": sent, "left_out": left_out, "refused": refused}).to_string(),
        (false, None) => format!("{} sent to {topic}", counted(sent, "event")),
        (false, Some(inlet)) => format!(
            "{} sent to {topic} by inlet {}, {} left out, {} refused",
            counted(sent, "event"),
            inlet.name,
            counted(left_out, "record"),
            counted(refused, "line")
        ),
    })?;
    match (failed, refused) {
        (Some(error), _) => Err(CliError::failed(format!("{file}: {error}"))),
        (None, 0) => Ok(()),
        (None, refused) => Err(CliError::Invalid(format!(
            "{file}: {} {} and not sent",
            match refused {
                1 => "1 line is".to_owned(),
                more => format!("{more} lines are"),
            },
            source.wanted()
        ))),
    }
}
