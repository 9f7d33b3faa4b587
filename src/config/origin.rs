//! Where the configuration comes from: the file, the variables over it, and where each value stands.

use std::fmt;

use crate::reader::{Problem, Refusal};
use crate::yaml::Places;

/// The file and the variables. What is in them isn't kept.
#[derive(Clone, Default)]
pub struct Origin {
    pub file: Option<String>,
    /// The keys that variables set, each with its variable, in the order in which they were read.
    pub variables: Vec<(String, String)>,
    places: Places,
}

impl Origin {
    pub(super) fn new(file: Option<&str>, places: Places) -> Self {
        Self {
            file: file.map(str::to_owned),
            variables: Vec::new(),
            places,
        }
    }

    /// A refusal of the value at `key`, with its place in the file or the variable that set it.
    pub fn refusal(&self, key: impl Into<String>, message: impl Into<String>) -> Refusal {
        let key = key.into();
        let set = self.variables.iter().rev().find(|(set, _)| begins(&key, set));
        let message = message.into();
        let place = match message.starts_with("unknown key") {
            true => self.places.key(&key),
            false => self.places.value(&key),
        };
        Refusal {
            file: self.file.as_deref().filter(|_| set.is_none()).map(Into::into),
            place: Some(place).filter(|place| set.is_none() && self.file.is_some() && place.line > 0),
            variable: set.map(|(_, variable)| variable.as_str().into()),
            rule: None,
            key,
            message,
        }
    }

    pub(super) fn refusals(&self, problems: Vec<Problem>) -> Vec<Refusal> {
        let refusals = problems.into_iter();
        refusals
            .map(|problem| self.refusal(problem.field, problem.message))
            .collect()
    }
}

/// Whether a key is the other one, or is within it.
fn begins(key: &str, with: &str) -> bool {
    let rest = key.strip_prefix(with);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file.as_deref().unwrap_or("the built-in defaults"))?;
        if !self.variables.is_empty() {
            let names: Vec<&str> = self.variables.iter().map(|(_, name)| name.as_str()).collect();
            write!(f, ", with {}", names.join(", "))?;
        }
        Ok(())
    }
}
