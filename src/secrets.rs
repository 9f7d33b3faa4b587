//! Secrets: a rule or the configuration refers to one by name, and its value never shows.
//!
//! `{secret: NAME}` is the file `secrets.dir/NAME`, or the variable `LEADLANE_SECRET_<NAME>` (upper case, `_` for
//! `-`). `{sealed: "..."}` is opened with the private keys of a file ([`keys`]). A [`Secret`] prints as `***`, and its
//! memory is wiped when it is dropped.
//!
//! Each use reads the value anew, so that a rotated file counts at once. Reading happens on threads of its own: the
//! volume may hang, and must then hold up nobody but those who need the secret.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::credential::SecretName;
use crate::sealed::{Sealed, SealedError};
use keys::{Keys, OpenError};

pub mod held;
pub mod keys;
mod look_up;

/// So long a secret is waited for; a volume that takes longer hangs.
const READ_WAIT: Duration = Duration::from_secs(2);
/// So many reads may hang at once, each with a thread of its own.
const READS_MAX: usize = 64;

/// A value that must not be seen: `Debug` and serialization show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The value itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether somebody shows it. That takes as long for a wrong one as for the right one.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self::new(text)),
            number @ serde_json::Value::Number(_) => Ok(Self::new(number.to_string())),
            // serde's own message would quote what stands there.
            _ => Err(serde::de::Error::custom("must be a text")),
        }
    }
}

/// `{secret: NAME}`, a name in the secret store, or `{sealed: "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    Secret(SecretName),
    Sealed(Sealed),
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let only = |field: &str| match value.as_object() {
            Some(map) if map.len() == 1 => map.get(field)?.as_str(),
            _ => None,
        };
        if let Some(text) = only("sealed") {
            let wrong = |error: SealedError| format!("the sealed value {error}; make it with leadlane secrets seal");
            return Sealed::parse(text)
                .map(Self::Sealed)
                .map_err(|error| serde::de::Error::custom(wrong(error)));
        }
        match only("secret").and_then(SecretName::new) {
            Some(name) => Ok(Self::Secret(name)),
            // The value may be the secret itself, so it is never quoted.
            None => Err(serde::de::Error::custom(
                "must be {secret: NAME}; put the value into the file NAME in secrets.dir, or into the variable \
                 LEADLANE_SECRET_<NAME>; or seal it with leadlane secrets seal and write {sealed: \"...\"}",
            )),
        }
    }
}

/// Why a secret can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("no secret can have this name; a name has letters, digits and - alone")]
    NoName,
    #[error("secret {name} is missing; {places}")]
    Missing { name: String, places: String },
    #[error("secret {0} is empty; write it into its file or variable")]
    Empty(String),
    #[error("secret {name} can't be read from {place}: {why}")]
    Unreadable { name: String, place: String, why: String },
    #[error("secret {name} is in {dir} more than once, as {files}: upper case and _ make no other name; keep one file")]
    Several { name: String, dir: String, files: String },
    #[error("secret {0} could not be read within {READ_WAIT:?}; look at the volume that secrets.dir is on")]
    Silent(String),
    #[error("the credential is sealed, and this sender has no key to open it; set secrets.key_file")]
    NoKeys,
    #[error("the sealed value {0}; make it with leadlane secrets seal")]
    Malformed(#[from] SealedError),
    #[error(transparent)]
    Closed(#[from] OpenError),
}

pub(crate) type Found = Result<Secret, SecretError>;

/// Whether the folder of secrets can be looked into.
///
/// # Errors
/// Says what is wrong with it, and the cure. It waits for the disk.
pub fn folder(dir: &Path) -> Result<(), String> {
    look_up::folder(dir)
}

/// The secret store.
#[derive(Clone)]
pub struct Secrets {
    dir: Option<PathBuf>,
    keys: Option<Arc<Keys>>,
    /// The reads under way; who asks for the same name waits for the same read.
    reads: Arc<Mutex<HashMap<SecretName, watch::Receiver<Option<Found>>>>>,
    look_up: fn(Option<&Path>, &SecretName) -> Found,
}

impl Secrets {
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            keys: None,
            reads: Arc::default(),
            look_up: look_up::look_up,
        }
    }

    /// A store whose look-ups go another way.
    #[cfg(test)]
    pub(crate) fn looking_up(look_up: fn(Option<&Path>, &SecretName) -> Found) -> Self {
        Self {
            look_up,
            ..Self::new(None)
        }
    }

    /// With what opens sealed values.
    #[must_use]
    pub fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = Some(Arc::new(keys));
        self
    }

    /// The value behind a reference of the configuration.
    ///
    /// # Errors
    /// It isn't there, can't be read in time, or can't be opened. Needs tokio's runtime.
    pub async fn find(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        match reference {
            SecretRef::Secret(name) => self.read(name).await,
            SecretRef::Sealed(sealed) => self.open(sealed),
        }
    }

    /// The sealed value of the credential with this name, `sealed-FINGERPRINT`.
    ///
    /// # Errors
    /// The text is no sealed value, a value other than the name's, or sealed for somebody else.
    pub fn open_as(&self, name: &str, sealed: &str) -> Result<Secret, SecretError> {
        let sealed = Sealed::parse(sealed)?;
        if sealed.name() != name {
            return Err(OpenError::Mismatch.into());
        }
        self.open(&sealed)
    }

    fn open(&self, sealed: &Sealed) -> Result<Secret, SecretError> {
        let keys = self.keys.as_ref().ok_or(SecretError::NoKeys)?;
        Ok(keys.open(sealed)?)
    }

    /// The value of the secret with this name. An empty one is none: as what strangers show it would open to everybody.
    ///
    /// # Errors
    /// It isn't there, is empty, or can't be read in time. Needs tokio's runtime.
    pub async fn reveal(&self, name: &str) -> Result<Secret, SecretError> {
        let name = SecretName::new(name).ok_or(SecretError::NoName)?;
        self.read(&name).await
    }

    /// Where the value of a secret belongs, as a command to whoever has it.
    pub fn places(&self, name: &SecretName) -> String {
        look_up::places(self.dir.as_deref(), name)
    }

    async fn read(&self, name: &SecretName) -> Result<Secret, SecretError> {
        let silent = || SecretError::Silent(name.to_string());
        let mut reading = self.reading(name).ok_or_else(silent)?;
        let read = tokio::time::timeout(READ_WAIT, reading.wait_for(Option::is_some)).await;
        let found = read.ok().and_then(|found| found.ok()?.clone());
        match found.ok_or_else(silent)?? {
            secret if secret.reveal().is_empty() => Err(SecretError::Empty(name.to_string())),
            secret => Ok(secret),
        }
    }

    /// The read that is under way, or a new one; `None` where too many hang already.
    fn reading(&self, name: &SecretName) -> Option<watch::Receiver<Option<Found>>> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        // An error here is a reader that ended without an answer.
        if let Some(read) = reads.get(name).filter(|read| read.has_changed().is_ok()) {
            return Some(read.clone());
        }
        if reads.len() >= READS_MAX {
            return None;
        }
        let (found, reading) = watch::channel(None);
        reads.insert(name.clone(), reading.clone());
        let (store, name) = (self.clone(), name.clone());
        tokio::task::spawn_blocking(move || {
            let value = (store.look_up)(store.dir.as_deref(), &name);
            store.reads.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            found.send_replace(Some(value));
        });
        Some(reading)
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new(None)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("dir", &self.dir)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
