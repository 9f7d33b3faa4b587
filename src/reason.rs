//! Why a record becomes a dead letter: a closed set, in headers, metrics and text alike.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        assert_eq!("other".parse::<Reason>(), Err(()));
    }
}
