//! Rules as somebody wrote them, checked before they are put in force.

use std::collections::HashSet;

use serde_json::Value;

use crate::config::Config;
use crate::desk::{Error, Problem};
use crate::reader;
use crate::rules::{Rule, check};
use crate::yaml;

/// A rule as somebody wrote it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The id as it is written, whether or not it is one.
    pub id: String,
    pub written: Value,
    /// None where what is written is no rule.
    pub rule: Option<Rule>,
    /// Why it can't be put in force.
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Draft {
    /// Checks a rule that was written as JSON.
    pub fn of(config: &Config, written: Value) -> Self {
        let id = written.get("id").and_then(Value::as_str);
        let mut draft = Self {
            id: id.unwrap_or("rule without an id").to_owned(),
            rule: None,
            errors: Vec::new(),
            warnings: Vec::new(),
            written,
        };
        match Rule::from_json(&draft.written) {
            Err(problems) => draft.errors.extend(problems.into_iter().map(Problem::from)),
            Ok(rule) => {
                let refusals = check::refusals(&draft.written);
                draft.errors.extend(refusals.into_iter().map(Problem::from));
                draft
                    .warnings
                    .extend(check::warnings(&rule).into_iter().map(Problem::from));
                let accounts: Vec<&str> = config.clevertap.accounts.keys().map(String::as_str).collect();
                let inlets: Vec<&str> = config.inlets.iter().map(|inlet| inlet.name.as_str()).collect();
                draft.warnings.extend(check::inlet(&rule, &inlets).map(Problem::from));
                match check::account(&rule, &accounts) {
                    Ok(warning) => draft.warnings.extend(warning.map(Problem::from)),
                    Err(problem) => draft.errors.push(problem.into()),
                }
                draft.rule = Some(rule);
            }
        }
        draft
    }
}

/// What a text is that no rule stands in.
pub const NO_RULE: &str = "holds no rule";

/// Checks every rule of a YAML text, which holds several as documents or as one list.
pub fn read(config: &Config, text: &str) -> Result<Vec<Draft>, Error> {
    let entries = yaml::entries(text);
    let entries = entries.map_err(|error| Error::invalid(format!("document {}, {error}", error.document)))?;
    match entries.is_empty() {
        true => Err(Error::invalid(NO_RULE)),
        false => Ok(entries
            .into_iter()
            .map(|entry| Draft::of(config, entry.value))
            .collect()),
    }
}

/// Where a problem stands, of the rule with this number in its text, from 0. `places` are those of the text.
pub fn place(places: &[yaml::Places], number: usize, problem: &Problem) -> Option<yaml::Place> {
    let places = places.get(number)?;
    Some(match problem.message.starts_with("unknown field") {
        true => places.key(&problem.place),
        false => places.value(&problem.place),
    })
}

/// Refuses ids that stand twice among rules that go together.
pub fn tell_apart<'d>(drafts: impl IntoIterator<Item = &'d mut Draft>) {
    let mut ids = HashSet::new();
    for Draft { id, rule, errors, .. } in drafts {
        if rule.is_some() && !ids.insert(&*id) {
            errors.push(Problem {
                place: "id".to_owned(),
                message: "the id is given twice; each rule needs its own".to_owned(),
            });
        }
    }
}

impl From<reader::Problem> for Problem {
    fn from(problem: reader::Problem) -> Self {
        Self {
            place: problem.field,
            message: problem.message,
        }
    }
}
