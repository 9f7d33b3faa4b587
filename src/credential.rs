//! Credentials by their names: secrets that a rule names or carries sealed.
//!
//! A credential's id is `KIND:NAME`, such as `slack:sales-bot`. The name is its secret's, `sealed-FINGERPRINT` for a
//! sealed value, or that of a CleverTap account. The secrets themselves are in `secrets`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::sealed::Sealed;

/// Where a secret is: in the secret store by its name, or in the rule itself, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    Named(SecretName),
    Sealed(Sealed),
}

/// The name of a secret in the secret store, in lower case and with `-` for `_`. A secret's variable can't tell the
/// spellings apart, so that all of them are one secret: one credential with one limit. `Sealed-x` and `sealed_x` are
/// `sealed_x`, since what begins with `sealed-` stands for a sealed value in a credential's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName(Arc<str>);

/// How a sealed value's name begins, and the one spelling of a secret's that differs from it in its spelling alone.
const SEALED: &str = "sealed-";
const SEALED_OTHERWISE: &str = "sealed_";

impl Secret {
    /// Writes the name in the secret store, or what stands for it in a credential's id.
    pub fn write_name(&self, into: &mut String) {
        match self {
            Secret::Named(name) => into.push_str(name.as_str()),
            Secret::Sealed(sealed) => sealed.write_name(into),
        }
    }

    pub fn sealed(&self) -> Option<&Sealed> {
        match self {
            Secret::Named(_) => None,
            Secret::Sealed(sealed) => Some(sealed),
        }
    }
}

impl SecretName {
    /// `None` unless `written` is 1 to 64 letters, digits, `_` and `-`, the first a letter or digit.
    /// Names that begin with `sealed-` stand for sealed values.
    pub fn new(written: &str) -> Option<Self> {
        let name = written.to_ascii_lowercase().replace('_', "-");
        // Rules that older versions took have such names, and stay in force.
        let name = match name.strip_prefix(SEALED) {
            Some(rest) => format!("{SEALED_OTHERWISE}{rest}"),
            None => name,
        };
        is_name(written).then(|| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there are other copies.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether it can be taken for a sealed value's.
    pub fn looks_sealed(&self) -> bool {
        self.0.starts_with(SEALED_OTHERWISE)
    }

    /// The variable that holds the secret where no file does.
    pub fn variable(&self) -> String {
        format!("LEADLANE_SECRET_{}", self.0.to_ascii_uppercase().replace('-', "_"))
    }
}

impl Serialize for SecretName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of a credential, by its id.
pub fn kind(credential: &str) -> &str {
    credential.split(':').next().unwrap_or_default()
}

/// A credential's id with its secret's name in the one spelling. What older versions wrote may have another.
pub fn one_spelling(credential: &str) -> Cow<'_, str> {
    let named = credential
        .split_once(':')
        .filter(|(kind, _)| matches!(*kind, "slack" | "webhook"));
    let spelt = named.and_then(|(kind, name)| Some((kind, SecretName::new(name)?)));
    match spelt {
        Some((kind, name)) => Cow::Owned(format!("{kind}:{name}")),
        None => Cow::Borrowed(credential),
    }
}

/// Whether a text can be the name in a credential's id: 1 to 64 letters, digits, `_` and `-`, the first a letter or
/// digit, and not as a sealed value's begins.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !text.starts_with(SEALED);
    text.len() <= 64 && starts_well && text.chars().all(plain)
}
