//! `leadlane events ...`

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::{CliError, print};
use crate::app::now_millis;
use crate::config::Config;
use crate::kafka::producer::{Producer, Record};
use crate::kafka::topics;
use crate::lead::decode::decode;
use crate::lead::encode;
use crate::lead::schemas::Schemas;
use crate::mapping::{Event, Inlet, Rows, Taken};
use crate::reason::Reason;

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Send events, one JSON object a line; lines that are no lead event are told and left out
    Send {
        #[command(flatten)]
        input: Input,
        /// How the events are written: as the lines are, or as Avro single objects; csv says instead what the file
        /// is [default: json; csv for a file whose name ends in .csv]
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Say what would become of each line; needs no broker
    Validate {
        #[command(flatten)]
        input: Input,
        /// What the file is [default: json; csv for a file whose name ends in .csv]
        #[arg(long, value_enum)]
        format: Option<Lines>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Input {
    /// A file of JSON lines, or of CSV with titles where an inlet is named; - for stdin
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

pub(super) fn run(config: &Config, command: &Events, json: bool) -> Result<(), CliError> {
    match command {
        Events::Send { input, format } => {
            let lines = match format {
                // Avro says how events are written, and nothing of the file.
                None | Some(Format::Avro) => None,
                Some(Format::Json) => Some(Lines::Json),
                Some(Format::Csv) => Some(Lines::Csv),
            };
            let source = Source::of(config, input, lines)?;
            send(config, &source, *format == Some(Format::Avro), json)
        }
        Events::Validate { input, format } => validate(&Source::of(config, input, *format)?, json),
    }
}

/// What is read, and how its lines become events.
struct Source<'s> {
    file: &'s Path,
    inlet: Option<&'s Inlet>,
    lines: Lines,
}

impl<'s> Source<'s> {
    fn of(config: &'s Config, input: &'s Input, lines: Option<Lines>) -> Result<Self, CliError> {
        let ending = input.file.extension().and_then(|ending| ending.to_str());
        let by_ending = ending.and_then(|ending| Lines::from_str(ending, true).ok());
        let lines = lines.or(by_ending).unwrap_or(Lines::Json);
        let inlet = match &input.inlet {
            None => None,
            Some(name) => Some(config.inlet(name).map_err(CliError::Invalid)?),
        };
        if lines == Lines::Csv && inlet.is_none() {
            return Err(CliError::Invalid(format!(
                "{}: a row of CSV becomes an event by an inlet's mapping; name the inlet by --inlet",
                input.file.display()
            )));
        }
        Ok(Self {
            file: &input.file,
            inlet,
            lines,
        })
    }

    /// Calls `each` with the number of every line that isn't blank, and with what becomes of it.
    fn each(&self, mut each: impl FnMut(u64, Taken) -> Result<(), CliError>) -> Result<(), CliError> {
        let unreadable = |error: std::io::Error| CliError::Invalid(format!("{}: {error}", self.file.display()));
        let mut input: Box<dyn Read> = if self.file.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(self.file).map_err(unreadable)?)
        };
        let now = || Timestamp::from_millisecond(now_millis()).unwrap_or_default();
        if let (Some(inlet), Lines::Csv) = (self.inlet, self.lines) {
            let refused = |why| CliError::Invalid(format!("{}: {why}", self.file.display()));
            let mut text = Vec::new();
            input.read_to_end(&mut text).map_err(unreadable)?;
            let mut rows = Rows::new(&text, inlet.separator()).map_err(refused)?;
            while let Some(row) = rows.row() {
                each(
                    row.line,
                    match row.value() {
                        Ok(value) => inlet.take_value(value, row.size(), now()),
                        Err(why) => refusal(Reason::NotDecodable, why),
                    },
                )?;
            }
            return Ok(());
        }
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        let schemas = Schemas::new();
        for number in 1.. {
            line.clear();
            if input.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                break;
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            each(
                number,
                match self.inlet {
                    None => lead_event(text, &schemas),
                    Some(inlet) => inlet.take_line(text, now()),
                },
            )?;
        }
        Ok(())
    }

    /// What a line should have been.
    fn wanted(&self) -> String {
        match self.inlet {
            None => "no lead event".to_owned(),
            Some(inlet) => format!("nothing that inlet {} can map", inlet.name),
        }
    }
}

fn refusal(reason: Reason, detail: String) -> Taken {
    Taken {
        refused: Some((reason, detail)),
        ..Taken::default()
    }
}

/// A line that is a lead event as it stands.
fn lead_event(line: &[u8], schemas: &Schemas) -> Taken {
    match decode(line, schemas) {
        Ok(event) => Taken {
            events: vec![Event {
                event_id: event.event_id.to_string(),
                lead_id: event.lead_id.to_string(),
                json: line.to_owned(),
                record: 0,
            }],
            ..Taken::default()
        },
        // A line in a registry's framing can't be looked up here.
        Err(error) => refusal(
            error.reason().unwrap_or(Reason::UnknownSchema),
            error.detail().to_owned(),
        ),
    }
}

fn validate(source: &Source<'_>, json: bool) -> Result<(), CliError> {
    let schemas = Schemas::new();
    let mut refused = 0_u64;
    source.each(|number, taken| {
        for event in &taken.events {
            let trigger = decode(&event.json, &schemas).map_or(String::new(), |event| event.trigger.to_string());
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

fn send(config: &Config, source: &Source<'_>, avro: bool, json: bool) -> Result<(), CliError> {
    topics::partitions(config, &config.topics.events).map_err(CliError::failed)?;
    let producer = Producer::new(config, 16 * 1024 * 1024).map_err(|error| CliError::failed(error.to_string()))?;
    let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None::<String>)));
    let (mut left_out, mut refused) = (0_u64, 0_u64);
    let file = source.file.display();
    let schemas = Schemas::new();
    source.each(|number, mut taken| {
        left_out += taken.left_out;
        let mut written = 0;
        for mut event in taken.events {
            if avro {
                match to_avro(&event.json, &schemas) {
                    Ok(bytes) => event.json = bytes,
                    Err(why) => {
                        taken.refused = Some((Reason::InvalidEvent, why));
                        continue;
                    }
                }
            }
            written += 1;
            let record = Record {
                topic: &config.topics.events,
                partition: None,
                key: event.lead_id.as_bytes(),
                value: Some(&event.json),
                headers: crate::kafka::headers([("event-id", event.event_id.as_str())]),
            };
            let (sent, failed) = (Arc::clone(&sent), Arc::clone(&failed));
            producer.write(&record, move |ack| match ack {
                Ok(_) => drop(sent.fetch_add(1, Ordering::Relaxed)),
                Err(error) => {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("line {number}: {error}"))
                }
            });
        }
        if let Some((reason, detail)) = &taken.refused {
            let part = if written == 0 { "not sent" } else { "not sent in whole" };
            eprintln!("{file}:{number}: {part}: {reason}: {detail}");
            refused += 1;
        }
        Ok(())
    })?;
    let flushed = producer.flush(Duration::from_secs(60));
    let sent = sent.load(Ordering::Relaxed);
    let topic = &config.topics.events;
    print(&match (json, source.inlet) {
        (true, None) => json!({"id": topic, "sent": sent, "refused": refused}).to_string(),
        (true, Some(_)) => json!({"id": topic, "sent": sent, "left_out": left_out, "refused": refused}).to_string(),
        (false, None) => format!("{sent} events sent to {topic}"),
        (false, Some(inlet)) => format!(
            "{sent} events sent to {topic} by inlet {}, {left_out} records left out, {refused} lines refused",
            inlet.name
        ),
    })?;
    if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(CliError::failed(format!("{file}: {error}")));
    }
    if !flushed {
        return Err(CliError::failed("not every event was acknowledged within a minute"));
    }
    match refused {
        0 => Ok(()),
        refused => Err(CliError::Invalid(format!(
            "{file}: {refused} lines are {} and were not sent",
            source.wanted()
        ))),
    }
}

fn to_avro(event: &[u8], schemas: &Schemas) -> Result<Vec<u8>, String> {
    let event = decode(event, schemas).map_err(|error| error.detail().to_owned())?;
    encode::single_object(&event).map_err(|error| error.to_string())
}
