//! Secrets: what a rule or the configuration refers to by name, and a value that never shows.
//!
//! `{secret: NAME}` is the file `secrets.dir/NAME`, or the variable `LEADLANE_SECRET_<NAME>` (upper
//! case, `-` as `_`). `{sealed: "..."}` is opened with the private keys of a file ([`keys`]). A
//! [`Secret`] prints as `***` wherever it is printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sealed::{Sealed, SealedError};
use keys::{Keys, OpenError};

pub mod keys;

/// A value that must not be seen: `Debug` and serialization show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
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
            serde_json::Value::String(text) => Ok(Self(text)),
            number @ serde_json::Value::Number(_) => Ok(Self(number.to_string())),
            // serde's own message would quote what stands there.
            _ => Err(serde::de::Error::custom("must be a text")),
        }
    }
}

/// `{secret: NAME}`, a name in the secret store, or `{sealed: "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    Secret(String),
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
        match only("secret") {
            Some(name) if valid_name(name) => Ok(Self::Secret(name.to_owned())),
            // The value may be the secret itself, so it is never quoted.
            _ => Err(serde::de::Error::custom(
                "must be {secret: NAME}; put the value into the file NAME in secrets.dir, or into the variable \
                 LEADLANE_SECRET_<NAME>; or seal it with leadlane secrets seal and write {sealed: \"...\"}",
            )),
        }
    }
}

/// Names are file names and parts of variables' names, so they are plain.
pub fn valid_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// Why a secret can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("secret {name} is missing: {places}")]
    Missing { name: String, places: String },
    #[error("secret {name} can't be read from {file}: {error}")]
    Unreadable { name: String, file: String, error: String },
    #[error("the credential is sealed, and this sender has no key to open it; set secrets.key_file")]
    NoKeys,
    #[error("the sealed value {0}; make it with leadlane secrets seal")]
    Malformed(#[from] SealedError),
    #[error(transparent)]
    Closed(#[from] OpenError),
}

/// The secret store. Values are read anew each time, so that a rotated file is taken up by itself.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    dir: Option<PathBuf>,
    keys: Option<Arc<Keys>>,
}

impl Secrets {
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir, keys: None }
    }

    /// With what opens sealed values.
    #[must_use]
    pub fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = Some(Arc::new(keys));
        self
    }

    /// The value behind a reference of the configuration.
    pub fn find(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        match reference {
            SecretRef::Secret(name) => self.reveal(name),
            SecretRef::Sealed(sealed) => self.open(sealed),
        }
    }

    /// The sealed value of the credential with this name, `sealed-FINGERPRINT`.
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

    pub fn reveal(&self, name: &str) -> Result<Secret, SecretError> {
        let variable = format!("LEADLANE_SECRET_{}", name.to_uppercase().replace('-', "_"));
        if let Some(dir) = self.dir.as_ref().filter(|_| valid_name(name)) {
            let file = dir.join(name);
            match std::fs::read_to_string(&file) {
                Ok(text) => return Ok(Secret::new(text.strip_suffix('\n').unwrap_or(&text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let file = file.display().to_string();
                    return Err(SecretError::Unreadable {
                        name: name.to_owned(),
                        file,
                        error: error.kind().to_string(),
                    });
                }
            }
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the secret store is where these variables are read"
        )]
        std::env::var(&variable).map(Secret::new).map_err(|_| {
            let places = match &self.dir {
                Some(dir) => format!("write it to {} or set {variable}", dir.join(name).display()),
                None => format!("set {variable}, or secrets.dir and write it to a file {name} there"),
            };
            SecretError::Missing {
                name: name.to_owned(),
                places,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lose_one_trailing_newline() {
        let dir = std::env::temp_dir().join(format!("leadlane-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("one"), "value\n\n").unwrap();
        let secrets = Secrets::new(Some(dir.clone()));
        assert_eq!(secrets.reveal("one").unwrap().reveal(), "value\n");
        let message = secrets.reveal("not-there").unwrap_err().to_string();
        assert!(message.contains("LEADLANE_SECRET_NOT_THERE"), "{message}");
        // A name can't climb out of the folder.
        assert!(matches!(secrets.reveal("../one"), Err(SecretError::Missing { .. })));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_secret_never_shows() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }

    #[test]
    fn a_plain_value_is_refused_unseen() {
        let error = serde_json::from_str::<SecretRef>("\"xoxb-hunter2\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("{secret: NAME}") && error.contains("secrets seal") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn a_sealed_value_opens_under_its_own_name_alone() {
        let (text, public) = Keys::generate();
        let file = std::env::temp_dir().join(format!("leadlane-sealed-{}", std::process::id()));
        std::fs::write(&file, text.reveal()).unwrap();
        let secrets = Secrets::new(None).with_keys(Keys::read(&file).unwrap());
        std::fs::remove_file(file).unwrap();
        let sealed = public.seal("hunter2").unwrap();
        let name = sealed.name();
        assert_eq!(secrets.open_as(&name, sealed.as_str()).unwrap().reveal(), "hunter2");
        let other = public.seal("hunter3").unwrap().name();
        let refused = |name: &str, text: &str| secrets.open_as(name, text).unwrap_err().to_string();
        assert!(refused(&other, sealed.as_str()).contains("does not match its fingerprint"));
        assert!(refused(&name, "hunter2").contains("has no fingerprint"));
        let without = Secrets::new(None).open_as(&name, sealed.as_str()).unwrap_err();
        assert!(without.to_string().contains("secrets.key_file"), "{without}");
        let json = format!("{{\"sealed\":\"{sealed}\"}}");
        let reference: SecretRef = serde_json::from_str(&json).unwrap();
        assert_eq!(secrets.find(&reference).unwrap().reveal(), "hunter2");
        assert_eq!(serde_json::to_string(&reference).unwrap(), json);
        let error = serde_json::from_str::<SecretRef>("{\"sealed\":\"hunter2\"}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("secrets seal") && !error.contains("hunter2"), "{error}");
    }
}
