//! `leadlane events ...`

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{CliError, print};
use crate::config::Config;
use crate::kafka::producer::{Producer, Record};
use crate::kafka::topics;
use crate::lead::decode::{DecodeError, decode};
use crate::lead::encode;
use crate::lead::schemas::Schemas;

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Send events, one JSON object a line; lines that are no lead event are told and left out
    Send {
        /// A file of JSON lines, or - for stdin
        file: PathBuf,
        /// How the events are written: as the lines are, or as Avro single objects
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
    /// Say what would become of each line; needs no broker
    Validate {
        /// A file of JSON lines, or - for stdin
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Avro,
}

pub(super) fn run(config: &Config, command: &Events, json: bool) -> Result<(), CliError> {
    match command {
        Events::Send { file, format } => send(config, file, *format, json),
        Events::Validate { file } => validate(file, json),
    }
}

/// Calls `each` with the number and bytes of every line that isn't blank.
fn lines(file: &Path, mut each: impl FnMut(u64, &[u8]) -> Result<(), CliError>) -> Result<(), CliError> {
    let unreadable = |error: std::io::Error| CliError::Invalid(format!("{}: {error}", file.display()));
    let input: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(unreadable)?)
    };
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            each(number, text)?;
        }
    }
    Ok(())
}

fn refusal(error: &DecodeError) -> (&'static str, String) {
    (
        error.reason().map_or("needs_schema", crate::reason::Reason::as_str),
        error.detail().to_owned(),
    )
}

fn validate(file: &Path, json: bool) -> Result<(), CliError> {
    let schemas = Schemas::new();
    let mut refused = 0_u64;
    lines(file, |number, line| {
        let decoded = decode(line, &schemas);
        if decoded.is_err() {
            refused += 1;
        }
        print(&match (&decoded, json) {
            (Ok(event), true) => {
                json!({"id": &*event.event_id, "line": number, "valid": true, "trigger": &*event.trigger}).to_string()
            }
            (Ok(event), false) => format!("line {number}: {} {}", event.trigger, event.event_id),
            (Err(error), json) => {
                let (reason, detail) = refusal(error);
                match json {
                    true => json!({"id": null, "line": number, "valid": false, "reason": reason, "detail": detail})
                        .to_string(),
                    false => format!("line {number}: would be a dead letter: {reason}: {detail}"),
                }
            }
        })
    })?;
    match refused {
        0 => Ok(()),
        refused => Err(CliError::Invalid(format!(
            "{}: {refused} of the lines are no lead event",
            file.display()
        ))),
    }
}

fn send(config: &Config, file: &Path, format: Format, json: bool) -> Result<(), CliError> {
    topics::partitions(config, &config.topics.events).map_err(CliError::failed)?;
    let producer = Producer::new(config, 16 * 1024 * 1024).map_err(|error| CliError::failed(error.to_string()))?;
    let schemas = Schemas::new();
    let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None::<String>)));
    let mut refused = 0_u64;
    lines(file, |number, line| {
        let event = match decode(line, &schemas) {
            Ok(event) => event,
            Err(error) => {
                let (reason, detail) = refusal(&error);
                eprintln!("{}:{number}: not sent: {reason}: {detail}", file.display());
                refused += 1;
                return Ok(());
            }
        };
        let avro;
        let value = match format {
            Format::Json => line,
            Format::Avro => {
                match encode::single_object(&event) {
                    Ok(bytes) => avro = bytes,
                    Err(error) => {
                        eprintln!("{}:{number}: not sent: {error}", file.display());
                        refused += 1;
                        return Ok(());
                    }
                }
                &avro
            }
        };
        let headers = crate::kafka::headers([("event-id", &*event.event_id)]);
        let record = Record {
            topic: &config.topics.events,
            partition: None,
            key: event.lead_id.as_bytes(),
            value: Some(value),
            headers,
        };
        let (sent, failed) = (Arc::clone(&sent), Arc::clone(&failed));
        producer.write(&record, move |ack| match ack {
            Ok(_) => drop(sent.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("line {number}: {error}"))
            }
        });
        Ok(())
    })?;
    let flushed = producer.flush(Duration::from_secs(60));
    let sent = sent.load(Ordering::Relaxed);
    print(&match json {
        true => json!({"id": config.topics.events, "sent": sent, "refused": refused}).to_string(),
        false => format!("{sent} events sent to {}", config.topics.events),
    })?;
    if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(CliError::failed(format!("{}: {error}", file.display())));
    }
    if !flushed {
        return Err(CliError::failed("not every event was acknowledged within a minute"));
    }
    match refused {
        0 => Ok(()),
        refused => Err(CliError::Invalid(format!(
            "{}: {refused} lines are no lead event and were not sent",
            file.display()
        ))),
    }
}
