//! Lead events that people bring: what would become of each line of a file, and how to send them.

use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::Error;
use crate::config::Config;
use crate::kafka;
use crate::kafka::producer::{Producer, Record};
use crate::kafka::topics;
use crate::lead::decode::decode;
use crate::lead::encode;
use crate::lead::schemas::Schemas;
use crate::mapping::{Event, Inlet, Rows, Taken};
use crate::reason::Reason;

/// No topic of ours takes larger events.
const RECORD_MAX: usize = 16 * 1024 * 1024;

/// A line of a file, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1, as an editor shows it.
    pub number: u64,
    pub taken: Taken,
}

/// The lines of a file that aren't blank.
pub struct Lines<'l> {
    file: File<'l>,
    inlet: Option<&'l Inlet>,
    schemas: Schemas,
    now: fn() -> i64,
}

enum File<'l> {
    Json { input: Box<dyn BufRead + 'l>, number: u64 },
    Rows(Box<Rows<'l>>),
}

impl<'l> Lines<'l> {
    /// One JSON object a line: a lead event as it stands, or a record that the inlet maps. `now` gives the time in epoch
    /// milliseconds, which a record was received at.
    pub fn json(input: impl BufRead + 'l, inlet: Option<&'l Inlet>, now: fn() -> i64) -> Self {
        let input = Box::new(input);
        Self::of(File::Json { input, number: 0 }, inlet, now)
    }

    /// Rows of CSV under their titles, each a record that the inlet maps.
    pub fn rows(text: &'l [u8], inlet: &'l Inlet, now: fn() -> i64) -> Result<Self, Error> {
        let rows = Rows::new(text, inlet.separator()).map_err(Error::invalid)?;
        Ok(Self::of(File::Rows(Box::new(rows)), Some(inlet), now))
    }

    fn of(file: File<'l>, inlet: Option<&'l Inlet>, now: fn() -> i64) -> Self {
        Self {
            file,
            inlet,
            schemas: Schemas::new(),
            now,
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let now = || Timestamp::from_millisecond((self.now)()).unwrap_or_default();
        let (input, number) = match &mut self.file {
            File::Json { input, number } => (input, number),
            File::Rows(rows) => {
                let row = rows.row()?;
                let taken = match (row.value(), self.inlet) {
                    (Ok(value), Some(inlet)) => inlet.take_value(value, row.size(), now()),
                    (Ok(_), None) => refused(Reason::NotDecodable, "no inlet maps it".to_owned()),
                    (Err(why), _) => refused(Reason::NotDecodable, why),
                };
                let number = row.line;
                return Some(Ok(Line { number, taken }));
            }
        };
        let mut line = Vec::new();
        loop {
            line.clear();
            *number += 1;
            match input.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(Error::invalid(error.to_string()))),
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let taken = match self.inlet {
                None => lead_event(text, &self.schemas),
                Some(inlet) => inlet.take_line(text, now()),
            };
            return Some(Ok(Line { number: *number, taken }));
        }
    }
}

fn refused(reason: Reason, detail: String) -> Taken {
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
        Err(error) => refused(
            error.reason().unwrap_or(Reason::UnknownSchema),
            error.detail().to_owned(),
        ),
    }
}

/// An event's trigger.
pub fn trigger(event: &Event, schemas: &Schemas) -> String {
    decode(&event.json, schemas).map_or(String::new(), |event| event.trigger.to_string())
}

/// How events are written to the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Json,
    /// As Avro single objects.
    Avro,
}

/// Sends events; [`finish`](Self::finish) says what came of it.
pub struct Sending<'c> {
    config: &'c Config,
    form: Form,
    schemas: Schemas,
    producer: Producer,
    acks: Arc<Acks>,
    left_out: u64,
    refused: u64,
}

#[derive(Default)]
struct Acks {
    sent: AtomicU64,
    /// The last that Kafka didn't take, and why.
    failed: Mutex<Option<String>>,
}

/// A line, or a part of it, that isn't sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// Nothing of the line was sent.
    pub whole: bool,
    pub reason: Reason,
    pub detail: String,
}

/// What came of sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub sent: u64,
    /// Records that the inlet's mapping leaves out.
    pub left_out: u64,
    /// Lines that weren't sent, or not in whole.
    pub refused: u64,
    /// Why not all is acknowledged that should be.
    pub failed: Option<Error>,
}

impl<'c> Sending<'c> {
    pub fn open(config: &'c Config, form: Form) -> Result<Self, Error> {
        topics::partitions(config, &config.topics.events).map_err(Error::Unavailable)?;
        let producer = Producer::new(config, RECORD_MAX);
        Ok(Self {
            config,
            form,
            schemas: Schemas::new(),
            producer: producer.map_err(|error| Error::Unavailable(error.to_string()))?,
            acks: Arc::default(),
            left_out: 0,
            refused: 0,
        })
    }

    /// Sends the events of a line; says what of it can't be.
    pub fn send(&mut self, Line { number, taken }: Line) -> Option<Unsent> {
        self.left_out += taken.left_out;
        let mut refused = taken.refused;
        let mut whole = true;
        for mut event in taken.events {
            match self.form {
                Form::Json => {}
                Form::Avro => match to_avro(&event.json, &self.schemas) {
                    Ok(bytes) => event.json = bytes,
                    Err(why) => {
                        refused = Some(why);
                        continue;
                    }
                },
            }
            whole = false;
            self.write(number, &event);
        }
        let (reason, detail) = refused?;
        self.refused += 1;
        Some(Unsent { whole, reason, detail })
    }

    fn write(&self, number: u64, event: &Event) {
        let record = Record {
            topic: &self.config.topics.events,
            partition: None,
            key: event.lead_id.as_bytes(),
            value: Some(&event.json),
            headers: kafka::headers([("event-id", event.event_id.as_str())]),
        };
        let acks = Arc::clone(&self.acks);
        self.producer.write(&record, move |ack| match ack {
            Ok(_) => drop(acks.sent.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                let mut failed = acks.failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed = Some(format!("line {number}: {error}"));
            }
        });
    }

    /// Waits until Kafka has acknowledged everything, for at most `timeout`.
    pub fn finish(self, timeout: Duration) -> Sent {
        let flushed = self.producer.flush(timeout);
        let failed = self.acks.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let late = || {
            let seconds = timeout.as_secs();
            (!flushed).then(|| format!("not every event was acknowledged within {seconds} s"))
        };
        Sent {
            sent: self.acks.sent.load(Ordering::Relaxed),
            left_out: self.left_out,
            refused: self.refused,
            failed: failed.or_else(late).map(Error::Unavailable),
        }
    }
}

fn to_avro(event: &[u8], schemas: &Schemas) -> Result<Vec<u8>, (Reason, String)> {
    let invalid = |why: String| (Reason::InvalidEvent, why);
    let event = decode(event, schemas).map_err(|error| invalid(error.detail().to_owned()))?;
    encode::single_object(&event).map_err(|error| invalid(error.to_string()))
}

impl std::fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("inlet", &self.inlet)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Sending<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending")
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}
