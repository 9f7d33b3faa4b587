//! Secrets: what a rule or the configuration refers to by name, and a value that never shows.
//!
//! `{secret: NAME}` is the file `secrets.dir/NAME`, or the variable `LEADLANE_SECRET_<NAME>` (upper
//! case, `-` as `_`). A [`Secret`] prints as `***` wherever it is printed.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// `{secret: NAME}`: a name in the secret store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRef {
    pub secret: String,
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let name = match value.as_object() {
            Some(map) if map.len() == 1 => map.get("secret").and_then(serde_json::Value::as_str),
            _ => None,
        };
        match name {
            Some(name) if valid_name(name) => Ok(Self {
                secret: name.to_owned(),
            }),
            // The value may be the secret itself, so it is never quoted.
            _ => Err(serde::de::Error::custom(
                "must be {secret: NAME}; put the value into the file NAME in secrets.dir, or into the variable LEADLANE_SECRET_<NAME>",
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
}

/// The secret store. Values are read anew each time, so that a rotated file is taken up by itself.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    dir: Option<PathBuf>,
}

impl Secrets {
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
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
            error.contains("{secret: NAME}") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
