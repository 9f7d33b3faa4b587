//! The desk: what people ask of Leadlane and order from it, as functions with typed requests and answers.
//!
//! Commands, the demo and the HTTP API call the same functions, so that all of them answer alike and refuse in the
//! same words. A function of the desk prints nothing, ends no process and waits on no runtime. Who asks and what time
//! it is are arguments. It blocks while Kafka answers; async code calls it on a thread that may block.

/// Why the desk doesn't do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has the id that was asked for.
    #[error("{0}")]
    NotFound(String),
    /// Someone else changed the same thing meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong; each problem names its place and the cure.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// Kafka, or another part that is asked, doesn't answer.
    #[error("{0}")]
    Unavailable(String),
}
