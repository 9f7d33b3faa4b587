//! The desk: the services that people ask and order by, as functions with typed requests and answers.
//!
//! Commands, the demo and the HTTP API call the same functions, so that all of them answer alike and refuse in the
//! same words. A function of the desk prints nothing, ends no process and waits on no runtime. The actor and the time
//! are arguments. It blocks while Kafka answers; async code calls it on a thread that may block.

use std::fmt;

pub mod audit;
pub mod backlog;
pub mod cases;
pub mod dead_letters;
pub mod deliveries;
pub mod events;
pub mod explain;
pub mod form;
pub mod lanes;
pub mod lock;
pub mod newer;
pub mod page;
pub mod preview;
pub mod recent;
pub mod replay;
pub mod resident;
pub mod rules;
pub mod samples;
pub mod scan;
pub mod send_test;
pub mod tail;
pub mod versions;
pub mod why;

/// Why the desk doesn't do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has the id that was asked for.
    #[error("{0}")]
    NotFound(String),
    /// Someone else changed or took over the same thing meanwhile. Nothing was done.
    #[error("{}", lines(.0))]
    Conflict(Vec<Conflict>),
    /// The request itself is wrong.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
    /// Kafka, or another part that is asked, doesn't answer.
    #[error("{0}")]
    Unavailable(String),
    /// The caller asked to stop before the end of this topic.
    #[error("stopped before the end of {0}")]
    Stopped(String),
}

/// The change that someone else made meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conflict {
    /// The whole story in words, with the cure.
    pub message: String,
    /// The version that is in force now; none where nothing is.
    pub version: Option<i64>,
    /// The actor of the change, as far as the audit knows.
    pub who: Option<String>,
    /// When it was made, epoch milliseconds.
    pub when: Option<i64>,
}

/// A fault or a doubt about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field that is meant, such as `filters.price.between`; empty for the request as a whole.
    pub place: String,
    /// The reason and the cure.
    pub message: String,
}

impl Error {
    /// One problem of the request as a whole.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem {
            place: String::new(),
            message: message.into(),
        }])
    }

    /// A conflict of which nothing more is known than its words.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict(vec![Conflict {
            message: message.into(),
            ..Conflict::default()
        }])
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

fn lines(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join("\n")
}
