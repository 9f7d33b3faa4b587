//! Writes the records that go back, and their mark in the audit, in one transaction.

use serde_json::json;

use super::{Going, Id};
use crate::config::Config;
use crate::dates::time_text;
use crate::kafka::Fault;
use crate::kafka::producer::Record;
use crate::kafka::together::Together;

/// The actor of a replay, and its time in epoch milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Audit<'a> {
    pub(super) who: &'a str,
    pub(super) now: i64,
}

/// Writes a batch. What Kafka refuses for its size or its content is found by halving and left, each with why.
pub(super) fn write(
    together: &mut Together,
    config: &Config,
    audit: Audit<'_>,
    batch: &[Going],
    refused: &mut Vec<(Id, String)>,
) -> Result<(), Fault> {
    match (write_all(together, config, audit, batch), batch) {
        (Err(Fault::Refused { message, .. }), [going]) => {
            together.abort()?;
            refused.push((going.id, format!("{message}; raise its max.message.bytes")));
            Ok(())
        }
        (Err(Fault::Refused { .. }), _) => {
            together.abort()?;
            let (first, second) = batch.split_at(batch.len() / 2);
            write(together, config, audit, first, refused)?;
            write(together, config, audit, second, refused)
        }
        (done, _) => done,
    }
}

fn write_all(together: &mut Together, config: &Config, audit: Audit<'_>, batch: &[Going]) -> Result<(), Fault> {
    for back in batch.iter().flat_map(|going| &going.back) {
        let headers = back.headers.iter().map(|(name, text)| (*name, text.as_str()));
        together.write(&Record {
            topic: &back.topic,
            partition: None,
            key: &back.key,
            value: back.value.as_deref(),
            headers: crate::kafka::headers(headers),
        })?;
    }
    let (ids, times): (Vec<String>, Vec<i64>) = batch
        .iter()
        .map(|going| (going.id.to_string(), going.written_at))
        .unzip();
    let audit = json!({"who": audit.who, "when": time_text(audit.now), "replayed": ids, "written_at": times});
    let audit = audit.to_string();
    together.write(&Record {
        topic: &config.topics.audit,
        partition: None,
        // A rule's id is never empty.
        key: b"",
        value: Some(audit.as_bytes()),
        headers: crate::kafka::headers([]),
    })?;
    together.commit()
}
