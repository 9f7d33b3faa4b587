//! Keys: who seals has the public one, who opens the file of private ones.
//!
//! The cryptography is NaCl's sealed box (X25519, XSalsa20-Poly1305), by the crate `crypto_box`.
//! The fingerprint is a BLAKE2b of the value, keyed with the public key: it tells that two sealed
//! values are the same, and lets a guess be tried, which is no help against a random token.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use blake2::Blake2bMac;
use blake2::digest::{Mac, consts::U8};
use crypto_box::SecretKey;
use crypto_box::aead::OsRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Secret, look_up};
use crate::sealed::{Sealed, VALUE_MAX};

/// Marks a private key wherever it turns up, so that it is never taken for a public one.
const PRIVATE: &str = "leadlane-private-key:";
/// So many opened values are remembered; then they are opened again.
const OPENED_MAX: usize = 1024;

/// What values are sealed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(crypto_box::PublicKey);

/// The private keys of a file, and what they have opened.
pub struct Keys {
    file: PathBuf,
    keys: Vec<SecretKey>,
    opened: Mutex<HashMap<Sealed, Secret>>,
}

/// Why a value can't be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("there is nothing to seal")]
    Empty,
    #[error("it is longer than {VALUE_MAX} bytes, too long for a secret")]
    TooLong,
    #[error("no randomness can be had")]
    NoRandomness,
}

/// Why a sealed value can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("no key in {0} opens the sealed value; seal it again with that file's public key")]
    OtherKey(String),
    #[error("the sealed value does not match its fingerprint; seal it again with leadlane secrets seal")]
    Mismatch,
}

impl PublicKey {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || Err("is no public key; leadlane secrets keygen makes a key pair and prints it".to_owned());
        if text.contains(PRIVATE) {
            return Err(
                "is a private key, which belongs into the file of secrets.key_file alone; \
                        the public one stands beside it there"
                    .to_owned(),
            );
        }
        match BASE64.decode(text.trim()).map(<[u8; 32]>::try_from) {
            Ok(Ok(bytes)) if !is_of_small_order(bytes) => Ok(Self(bytes.into())),
            _ => wrong(),
        }
    }

    pub fn seal(&self, value: &str) -> Result<Sealed, SealError> {
        match value.len() {
            0 => return Err(SealError::Empty),
            len if len > VALUE_MAX => return Err(SealError::TooLong),
            _ => {}
        }
        let ciphertext = self.0.seal(&mut OsRng, value.as_bytes());
        let ciphertext = ciphertext.map_err(|_| SealError::NoRandomness)?;
        Ok(Sealed::new(self.fingerprint(value.as_bytes()), &ciphertext).expect("the length was checked"))
    }

    fn fingerprint(&self, value: &[u8]) -> [u8; 8] {
        let mut mac = Blake2bMac::<U8>::new_with_salt_and_personal(self.0.as_bytes(), &[], b"leadlane sealed")
            .expect("key and personalization are short enough");
        mac.update(value);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0.as_bytes()))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Self::parse(value.as_str().unwrap_or_default()).map_err(serde::de::Error::custom)
    }
}

impl Keys {
    /// Reads the private keys of a file, one a line; lines that begin with `#` are for people.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = look_up::read(file).map_err(|why| {
            format!(
                "{} can't be read: {why}; name the file that leadlane secrets keygen wrote",
                file.display()
            )
        })?;
        let lines = text
            .reveal()
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Option<Vec<SecretKey>> = lines.map(private).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Self {
                file: file.to_owned(),
                keys,
                opened: Mutex::default(),
            }),
            _ => Err(format!(
                "{} holds no private key or a broken one; name the file that leadlane secrets keygen wrote",
                file.display()
            )),
        }
    }

    /// A new key pair: the text of a key file, and the public key.
    pub fn generate() -> (Secret, PublicKey) {
        let private = SecretKey::generate(&mut OsRng);
        let public = PublicKey(private.public_key());
        let bytes = Zeroizing::new(private.to_bytes());
        let line = Zeroizing::new(BASE64.encode(*bytes));
        let text = format!(
            "# Opens what was sealed for Leadlane. Keep it to yourself; senders name it in secrets.key_file.\n\
             # The public key, for secrets.public_key: {public}\n{PRIVATE}{}\n",
            line.as_str()
        );
        (Secret::new(text), public)
    }

    /// Whether what is sealed with `public` opens here.
    pub fn fit(&self, public: &PublicKey) -> bool {
        self.keys.iter().any(|key| key.public_key() == public.0)
    }

    pub fn open(&self, sealed: &Sealed) -> Result<Secret, OpenError> {
        let known = |opened: &HashMap<Sealed, Secret>| opened.get(sealed).cloned();
        if let Some(secret) = known(&self.opened.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(secret);
        }
        let ciphertext = sealed.ciphertext();
        let opened = self.keys.iter().find_map(|key| {
            Some((
                PublicKey(key.public_key()),
                Zeroizing::new(key.unseal(&ciphertext).ok()?),
            ))
        });
        let (public, value) = opened.ok_or_else(|| OpenError::OtherKey(self.file.display().to_string()))?;
        let fingerprint = format!("{:016x}", u64::from_be_bytes(public.fingerprint(&value)));
        if fingerprint != sealed.fingerprint() {
            return Err(OpenError::Mismatch);
        }
        let secret = Secret::new(std::str::from_utf8(&value).map_err(|_| OpenError::Mismatch)?);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(sealed.clone(), secret.clone());
        Ok(secret)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("file", &self.file).finish_non_exhaustive()
    }
}

fn private(line: &str) -> Option<SecretKey> {
    let bytes = Zeroizing::new(BASE64.decode(line.strip_prefix(PRIVATE)?).ok()?);
    SecretKey::from_slice(&bytes).ok()
}

/// Whether anyone could open what is sealed with this key: what it makes of any private key is zero. These are all such
/// points of Curve25519, in every way to write them (RFC 7748, section 6.1; the list is libsodium's).
fn is_of_small_order(mut key: [u8; 32]) -> bool {
    key[31] &= 0x7f; // The top bit isn't read.
    let number = |first: u8, middle: u8, last: u8| {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    let of_order_eight = [
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
            0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
            0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
    ];
    let others = [
        number(0, 0, 0),
        number(1, 0, 0),
        number(0xec, 0xff, 0x7f),
        number(0xed, 0xff, 0x7f),
        number(0xee, 0xff, 0x7f),
    ];
    of_order_eight.contains(&key) || others.contains(&key)
}

#[cfg(test)]
mod tests;
