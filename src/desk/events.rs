//! Lead events that people bring: what would become of each line of a file, and how to send them.

use std::io::{self, BufRead, BufReader, Cursor, Read};
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
use crate::text::file;

/// No topic of ours takes larger events.
const RECORD_MAX: usize = 16 * 1024 * 1024;

/// A line of a file, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1, as an editor shows it.
    pub number: u64,
    pub taken: Taken,
}

/// What rows lack without an inlet.
pub const NEEDS_INLET: &str = "a row of CSV becomes an event by an inlet's mapping; name the inlet by --inlet";

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Json,
    /// Titles, and rows under them.
    Csv,
}

/// The lines of a file that aren't blank.
pub struct Lines<'l> {
    file: File<'l>,
    inlet: Option<&'l Inlet>,
    schemas: Schemas,
    now: fn() -> i64,
}

enum File<'l> {
    Json {
        input: Box<dyn BufRead + 'l>,
        /// The line that was read last.
        number: u64,
        /// The line behind it, where it had to be looked at.
        next: Option<(u64, Vec<u8>)>,
    },
    Rows(Box<Rows<'l>>),
    /// Nothing more can be read of it.
    Over,
}

impl<'l> Lines<'l> {
    /// Reads a file: JSON, each line a lead event as it stands or a record that the inlet maps; or rows, which need an
    /// inlet. Without `format` the first line that isn't blank says which. `now` gives the time in epoch
    /// milliseconds, which a record was received at.
    ///
    /// # Errors
    /// It can't be read, or is no text, or rows that there is no inlet for.
    pub fn read(
        input: impl Read + 'l,
        format: Option<Format>,
        inlet: Option<&'l Inlet>,
        now: fn() -> i64,
    ) -> Result<Self, Error> {
        let unreadable = |error: io::Error| Error::invalid(error.to_string());
        let mut input = BufReader::new(input);
        let mut head = Vec::new();
        while head.trim_ascii().is_empty() && input.read_until(b'\n', &mut head).map_err(unreadable)? > 0 {}
        if file::is_utf16(&head) || format == Some(Format::Csv) {
            input.read_to_end(&mut head).map_err(unreadable)?;
        }
        let no_text = |error: file::NoText| Error::invalid(error.to_string());
        let mut head = file::utf8(head.into()).map_err(no_text)?.into_owned();
        let guessed = match unmarked(&head).first() {
            None | Some(b'{' | b'[') => Format::Json,
            // Avro, which each line of a topic's may be.
            Some(0 | 1 | 0xC3) if inlet.is_none() => Format::Json,
            Some(_) if format.is_none() && inlet.is_none() => {
                return Err(Error::invalid(format!("it begins with no JSON object; {NEEDS_INLET}")));
            }
            Some(_) => Format::Csv,
        };
        let file = match format.unwrap_or(guessed) {
            Format::Json => File::Json {
                input: Box::new(Cursor::new(head).chain(input)),
                number: 0,
                next: None,
            },
            Format::Csv => {
                let inlet = inlet.ok_or_else(|| Error::invalid(NEEDS_INLET))?;
                input.read_to_end(&mut head).map_err(unreadable)?;
                let rows = Rows::new(head, inlet.separator()).map_err(Error::invalid)?;
                File::Rows(Box::new(rows))
            }
        };
        Ok(Self::of(file, inlet, now))
    }

    /// Why a file has no line.
    pub fn nothing(&self) -> &'static str {
        match &self.file {
            File::Rows(rows) if rows.has_titles() => "it has titles, and no row under them",
            _ => "it is empty",
        }
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
        if let File::Rows(rows) = &mut self.file {
            let row = rows.row()?;
            let taken = match (row.value(), self.inlet) {
                (Ok(value), Some(inlet)) => inlet.take_value(value, row.size(), now()),
                (Ok(_), None) => refused(Reason::NotDecodable, "no inlet maps it".to_owned()),
                (Err(why), _) => refused(Reason::NotDecodable, why),
            };
            let number = row.line;
            return Some(Ok(Line { number, taken }));
        }
        let (number, line) = match self.file.line()? {
            Ok(line) => line,
            Err(error) => return Some(Err(Error::invalid(error.to_string()))),
        };
        let text = line.trim_ascii();
        let mut taken = match self.inlet {
            None => lead_event(text, &self.schemas),
            Some(inlet) => inlet.take_line(text, now()),
        };
        if matches!(&taken.refused, Some((Reason::NotDecodable, _))) {
            let goes_on = match self.file.goes_on(text) {
                Ok(goes_on) => goes_on,
                Err(error) => return Some(Err(Error::invalid(error.to_string()))),
            };
            if let Some(why) = goes_on {
                self.file = File::Over;
                taken = refused(Reason::NotDecodable, why.to_owned());
            } else if is_text(text) && std::str::from_utf8(text).is_err() {
                taken = refused(Reason::NotDecodable, file::NO_UTF8.to_owned());
            }
        }
        Some(Ok(Line { number, taken }))
    }
}

impl File<'_> {
    /// The next line of JSON that isn't blank, with its number.
    fn line(&mut self) -> Option<io::Result<(u64, Vec<u8>)>> {
        let File::Json { input, number, next } = self else {
            return None;
        };
        if let Some(next) = next.take() {
            return Some(Ok(next));
        }
        loop {
            let mut line = Vec::new();
            match input.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => *number += 1,
                Err(error) => return Some(Err(error)),
            }
            if !line.trim_ascii().is_empty() {
                return Some(Ok((*number, line)));
            }
        }
    }

    /// What is wrong with a line whose object or list ends in a later one: all that is behind it is a part of it, or would
    /// be read as one.
    fn goes_on(&mut self, line: &[u8]) -> io::Result<Option<&'static str>> {
        let line = unmarked(line);
        let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(line);
        let is_list = line.starts_with(b"[");
        if !parsed.is_err_and(|error| error.is_eof()) || !(is_list || line.starts_with(b"{")) {
            return Ok(None);
        }
        let Some(found) = self.line().transpose()? else {
            return Ok(None);
        };
        let is_next_object = unmarked(&found.1).starts_with(b"{");
        if let File::Json { next, .. } = self {
            *next = Some(found);
        }
        Ok(match (is_list, is_next_object) {
            (true, _) => Some("a list over several lines; write one object a line: jq -c '.[]' FILE"),
            (false, false) => Some("a JSON object over several lines; write one object a line: jq -c . FILE"),
            // A line that was cut off.
            (false, true) => None,
        })
    }
}

/// A line without blanks around it and a byte order mark, which files that were joined have in their middle.
fn unmarked(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii()
}

/// Whether a line isn't in Avro's framing.
fn is_text(line: &[u8]) -> bool {
    !matches!(line, [0 | 1, ..] | [0xC3, 1, ..])
}

fn refused(reason: Reason, detail: String) -> Taken {
    Taken {
        refused: Some((reason, detail)),
        ..Taken::default()
    }
}

/// A line that is a lead event as it stands.
fn lead_event(line: &[u8], schemas: &Schemas) -> Taken {
    let text = unmarked(line);
    if text.starts_with(b"[") {
        let why = "a list; write one object a line: jq -c '.[]' FILE";
        return refused(Reason::NotDecodable, why.to_owned());
    }
    if is_text(text) && !text.starts_with(b"{") {
        return refused(Reason::NotDecodable, "no JSON object".to_owned());
    }
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

#[cfg(test)]
mod tests;
