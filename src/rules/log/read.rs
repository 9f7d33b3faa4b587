//! Reads records of the rules topic. That is most of the work of taking one in, and it needs no log, so that several
//! threads can do it.

use serde_json::Value;

use super::{Reason, control};
use crate::reader::{Problem, Reader};
use crate::rules::Rule;

/// The most problems of a record that are reported.
const TOLD_MAX: usize = 10;

/// Reads one record after the other. The rules that it reads share what they have in common.
#[derive(Debug, Default)]
pub struct RuleReader(Reader);

/// The rule of a record, or why it is none; nothing where the record isn't meant as one: it is a deletion, an order, or has
/// no key.
#[derive(Debug)]
pub struct Read(pub(super) Option<Result<Rule, (Reason, String)>>);

impl RuleReader {
    pub fn read(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Read {
        let value = value.filter(|value| !value.is_empty());
        let (Some(key), Some(value)) = (key, value) else {
            return Read(None);
        };
        let id = String::from_utf8_lossy(key);
        Read(control::lane_of(&id).is_none().then(|| self.rule(&id, value)))
    }

    fn rule(&mut self, id: &str, value: &[u8]) -> Result<Rule, (Reason, String)> {
        let written = json(value, "write the rule again")?;
        let read = self.0.rule(&written);
        let rule = read.map_err(|problems| (Reason::InvalidRule, in_one_line(&problems)))?;
        if *rule.id != *id {
            return Err((
                Reason::IdMismatch,
                "id: differs from the record's key; write the rule under its own id".into(),
            ));
        }
        Ok(rule)
    }
}

pub(super) fn json(value: &[u8], cure: &str) -> Result<Value, (Reason, String)> {
    let not_json = |why: String| (Reason::NotJson, format!("{why}; {cure}"));
    let text = std::str::from_utf8(value)
        .map_err(|error| not_json(format!("no UTF-8 from byte {} on", error.valid_up_to() + 1)))?;
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        not_json(format!("no JSON from line {line}, column {column} on"))
    })
}

/// The first problems; who wrote the rule sees all of them with `leadlane rules validate`.
fn in_one_line(problems: &[Problem]) -> String {
    let mut line = problems
        .iter()
        .take(TOLD_MAX)
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    if let Some(more) = problems.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        line.push_str(&format!("; and {more} problems more"));
    }
    line
}
