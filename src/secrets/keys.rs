//! Keys: everyone who seals has the public one; a sender has a file of private ones and opens.
//!
//! The cryptography is NaCl's sealed box (X25519, XSalsa20-Poly1305), by the crate `crypto_box`. The fingerprint is a
//! BLAKE2b of the value, keyed with the public key. It shows that two sealed values are the same. It also lets
//! somebody test a guess, which is no help against a random token.

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
            Ok(Ok(bytes)) if is_small_order(bytes) => Err(
                "is a key with which anyone could open what is sealed; take the public key that leadlane secrets keygen printed"
                    .to_owned(),
            ),
            Ok(Ok(bytes)) => Ok(Self(bytes.into())),
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

    /// What is sealed with these opens here.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|key| PublicKey(key.public_key())).collect()
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

/// Whether the shared secret is the same with every key: the point is one of the few of small order. X25519 leaves the
/// highest bit aside. The points are those of <https://cr.yp.to/ecdh.html#validate>.
fn is_small_order(mut key: [u8; 32]) -> bool {
    key[31] &= 0x7F;
    let near_p = |low: u8| {
        let mut point = [0xFF; 32];
        (point[0], point[31]) = (low, 0x7F);
        point
    };
    let mut one = [0; 32];
    one[0] = 1;
    let points = [
        [0; 32],
        one,
        ORDER_8[0],
        ORDER_8[1],
        near_p(0xEC),
        near_p(0xED),
        near_p(0xEE),
    ];
    points.contains(&key)
}

/// The two points of order 8.
const ORDER_8: [[u8; 32]; 2] = [
    [
        0xE0, 0xEB, 0x7A, 0x7C, 0x3B, 0x41, 0xB8, 0xAE, 0x16, 0x56, 0xE3, 0xFA, 0xF1, 0x9F, 0xC4, 0x6A, 0xDA, 0x09,
        0x8D, 0xEB, 0x9C, 0x32, 0xB1, 0xFD, 0x86, 0x62, 0x05, 0x16, 0x5F, 0x49, 0xB8, 0x00,
    ],
    [
        0x5F, 0x9C, 0x95, 0xBC, 0xA3, 0x50, 0x8C, 0x24, 0xB1, 0xD0, 0xB1, 0x55, 0x9C, 0x83, 0xEF, 0x5B, 0x04, 0x44,
        0x5C, 0xC4, 0x58, 0x1C, 0x8E, 0x86, 0xD8, 0x22, 0x4E, 0xDD, 0xD0, 0x9F, 0x11, 0x57,
    ],
];

fn private(line: &str) -> Option<SecretKey> {
    let bytes = Zeroizing::new(BASE64.decode(line.strip_prefix(PRIVATE)?).ok()?);
    SecretKey::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests;
