//! A refusal, as people read it and as programs do: where, what is wrong, and the cure.

use std::fmt;
use std::io::{Error, ErrorKind};

use serde_json::{Map, Value};

use crate::text::file;
use crate::yaml::Place;

/// What is refused, in a file, in a variable or in neither.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    pub file: Option<Box<str>>,
    pub place: Option<Place>,
    /// The variable that set the value, in place of a file.
    pub variable: Option<Box<str>>,
    /// The rule, as its id is written.
    pub rule: Option<Box<str>>,
    /// The key as people write it, such as `kafka.brokers`; empty for the whole.
    pub key: String,
    /// What is wrong and, behind `; `, the cure.
    pub message: String,
}

impl Refusal {
    /// Of which no more is known than its words.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    /// A file as a whole.
    pub fn of_file(file: impl Into<Box<str>>, message: impl Into<String>) -> Self {
        Self {
            file: Some(file.into()),
            ..Self::new(message)
        }
    }

    /// A file that can't be read.
    pub fn unreadable(file: impl Into<Box<str>>, error: &Error) -> Self {
        let message = match error.kind() {
            ErrorKind::NotFound => {
                "can't be read: there is no such file; look for a slip in its name, or create it".to_owned()
            }
            ErrorKind::IsADirectory => "is a folder; name a file in it".to_owned(),
            ErrorKind::PermissionDenied => {
                "this user may not read it; give leave with chmod, or run as its owner".to_owned()
            }
            _ => format!("can't be read: {error}"),
        };
        Self::of_file(file, message)
    }

    /// The text of a file's bytes.
    ///
    /// # Errors
    /// They are neither UTF-8 nor marked as UTF-16.
    pub fn text(name: &str, bytes: Vec<u8>) -> Result<String, Self> {
        let text = file::utf8(bytes.into()).map_err(|error| Self::of_file(name, error.to_string()))?;
        String::from_utf8(text.into_owned()).map_err(|error| {
            let bytes = error.as_bytes();
            let before = String::from_utf8_lossy(&bytes[..error.utf8_error().valid_up_to()]);
            let line = before.rsplit('\n').next().unwrap_or_default();
            let place = Place {
                line: before.matches('\n').count() + 1,
                column: line.chars().count() + 1,
            };
            Self {
                place: Some(place),
                ..Self::of_file(name, file::NO_CHARACTER)
            }
        })
    }

    /// `error` is what is wrong; what is not known is left out.
    pub fn json(&self) -> Value {
        self.json_as("error")
    }

    /// The same of what is doubtful only.
    pub fn warning_json(&self) -> Value {
        self.json_as("warning")
    }

    /// A warning in one line, as compilers write it.
    pub fn warning(&self) -> String {
        let Self { key, message, .. } = self;
        let message = match key.as_str() {
            "" => format!("warning: {message}"),
            key => format!("warning: {key}: {message}"),
        };
        let (key, whole) = (String::new(), self.clone());
        Self { key, message, ..whole }.to_string()
    }

    fn json_as(&self, name: &str) -> Value {
        let (error, cure) = match self.message.split_once("; ") {
            Some((error, cure)) => (error, Some(cure)),
            None => (self.message.as_str(), None),
        };
        let mut json = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        put(name, Some(error.into()));
        put("file", self.file.as_deref().map(Into::into));
        put("line", self.place.map(|place| place.line.into()));
        put("column", self.place.map(|place| place.column.into()));
        put("variable", self.variable.as_deref().map(Into::into));
        put("rule", self.rule.as_deref().map(Into::into));
        put("key", (!self.key.is_empty()).then(|| self.key.as_str().into()));
        put("cure", cure.map(Into::into));
        Value::Object(json)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.variable, &self.file, self.place) {
            (Some(variable), ..) => write!(f, "{variable}: ")?,
            (None, Some(file), Some(place)) => write!(f, "{file}:{place}: ")?,
            (None, Some(file), None) => write!(f, "{file}: ")?,
            (None, None, _) => {}
        }
        for part in [self.rule.as_deref(), Some(self.key.as_str())].into_iter().flatten() {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// Several refusals, a line each. There is one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals(pub Vec<Refusal>);

impl Refusals {
    /// One object: the first, and under `more` the others.
    pub fn json(&self) -> Value {
        let mut all = self.0.iter().map(Refusal::json);
        let mut json = all.next().unwrap_or_default();
        let more: Vec<Value> = all.collect();
        if !more.is_empty() {
            json["more"] = more.into();
        }
        json
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, refusal) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{refusal}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusals {}
