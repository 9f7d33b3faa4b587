//! Why a record becomes a dead letter: the closed set that headers and metrics share. And how much of a record its dead
//! letter holds.

use std::fmt;
use std::str::FromStr;

/// Why a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    NotDecodable,
    UnknownSchema,
    InvalidEvent,
    TooLarge,
    TemplateFailed,
    MessageRejected,
    DestinationGone,
    CredentialRefused,
    GaveUp,
}

/// How much of a record its dead letter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Whole,
    WithoutValue,
    WithoutKey,
    /// Why, where from and when; nothing of the record, and none of its ids.
    Headers,
}

impl Form {
    /// The next smaller one.
    pub fn smaller(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::WithoutValue),
            Self::WithoutValue => Some(Self::WithoutKey),
            Self::WithoutKey => Some(Self::Headers),
            Self::Headers => None,
        }
    }
}

/// A text that is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such reason for a dead letter, use one of not_decodable, unknown_schema, invalid_event, too_large, \
    template_failed, message_rejected, destination_gone, credential_refused, gave_up"
)]
pub struct UnknownReason;

impl Reason {
    pub const ALL: [Self; 9] = [
        Self::NotDecodable,
        Self::UnknownSchema,
        Self::InvalidEvent,
        Self::TooLarge,
        Self::TemplateFailed,
        Self::MessageRejected,
        Self::DestinationGone,
        Self::CredentialRefused,
        Self::GaveUp,
    ];

    /// The reason as headers and metric labels write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotDecodable => "not_decodable",
            Self::UnknownSchema => "unknown_schema",
            Self::InvalidEvent => "invalid_event",
            Self::TooLarge => "too_large",
            Self::TemplateFailed => "template_failed",
            Self::MessageRejected => "message_rejected",
            Self::DestinationGone => "destination_gone",
            Self::CredentialRefused => "credential_refused",
            Self::GaveUp => "gave_up",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        known.ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_and_the_error_lists_them_all() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert!(UnknownReason.to_string().contains(reason.as_str()), "{reason}");
        }
        assert_eq!("Not_Decodable".parse::<Reason>(), Err(UnknownReason));
    }
}
