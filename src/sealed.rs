//! Sealed values: secrets in a form that may stand in the open, in a rule or the configuration.
//!
//! The text is `FINGERPRINT.BASE64`: 16 lower-case hexadecimal digits, the same for every sealing of one value, and a
//! ciphertext that only the holder of the private key can open. This module reads that form; `secrets` seals and
//! opens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Serialize, Serializer};

/// A sealed box is this much longer than what is in it: a public key and a tag.
pub const OVERHEAD: usize = 48;
/// At most so many bytes can be sealed; tokens, URLs and passcodes are far shorter.
pub const VALUE_MAX: usize = 4096;

const FINGERPRINT_LEN: usize = 16;

/// A sealed value whose form is right; whether it opens shows when it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sealed(Box<str>);

/// Why a text is no sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    #[error("has no fingerprint")]
    NoFingerprint,
    #[error("is no base64 behind its fingerprint")]
    NoBase64,
    #[error("is too short, as if it was cut off")]
    TooShort,
    #[error("is too long for a secret")]
    TooLong,
}

impl Sealed {
    pub fn parse(text: &str) -> Result<Self, SealedError> {
        let (fingerprint, rest) = text.split_once('.').ok_or(SealedError::NoFingerprint)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if fingerprint.len() != FINGERPRINT_LEN || !fingerprint.bytes().all(is_hex) {
            return Err(SealedError::NoFingerprint);
        }
        let ciphertext = BASE64.decode(rest).map_err(|_| SealedError::NoBase64)?;
        match ciphertext.len() {
            ..=OVERHEAD => Err(SealedError::TooShort),
            len if len > OVERHEAD + VALUE_MAX => Err(SealedError::TooLong),
            _ => Ok(Self(text.into())),
        }
    }

    pub fn new(fingerprint: [u8; FINGERPRINT_LEN / 2], ciphertext: &[u8]) -> Result<Self, SealedError> {
        let fingerprint = u64::from_be_bytes(fingerprint);
        Self::parse(&format!("{fingerprint:016x}.{}", BASE64.encode(ciphertext)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value's name in a credential's id: `sealed-FINGERPRINT`.
    pub fn name(&self) -> String {
        let mut name = String::new();
        self.write_name(&mut name);
        name
    }

    pub fn write_name(&self, into: &mut String) {
        into.push_str("sealed-");
        into.push_str(self.fingerprint());
    }

    pub fn fingerprint(&self) -> &str {
        &self.0[..FINGERPRINT_LEN]
    }

    pub fn ciphertext(&self) -> Vec<u8> {
        BASE64
            .decode(&self.0[FINGERPRINT_LEN + 1..])
            .expect("it was decoded when it was read")
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_form_is_read() {
        let sealed = Sealed::new([0, 1, 2, 3, 4, 5, 6, 0xff], &[7; 60]).unwrap();
        assert_eq!(sealed.name(), "sealed-00010203040506ff");
        assert_eq!(sealed.ciphertext(), [7; 60]);
        assert_eq!(Sealed::parse(sealed.as_str()), Ok(sealed.clone()));
        let (fingerprint, base64) = sealed.as_str().split_once('.').unwrap();
        for (text, wanted) in [
            (String::new(), SealedError::NoFingerprint),
            (base64.to_owned(), SealedError::NoFingerprint),
            (format!("{}.{base64}", &fingerprint[1..]), SealedError::NoFingerprint),
            (
                format!("{}.{base64}", fingerprint.to_uppercase()),
                SealedError::NoFingerprint,
            ),
            (format!("ééééé000000.{base64}"), SealedError::NoFingerprint),
            (format!("{fingerprint}.{base64}!"), SealedError::NoBase64),
            (format!("{fingerprint}. {base64}"), SealedError::NoBase64),
            (format!("{fingerprint}.{}", &base64[..40]), SealedError::TooShort),
            (format!("{fingerprint}."), SealedError::TooShort),
        ] {
            assert_eq!(Sealed::parse(&text), Err(wanted), "{text}");
        }
        assert_eq!(Sealed::new([0; 8], &[0; OVERHEAD]), Err(SealedError::TooShort));
        assert_eq!(Sealed::new([0; 8], &[0; 5000]), Err(SealedError::TooLong));
    }
}
