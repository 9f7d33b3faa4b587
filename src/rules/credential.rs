//! What a rule's action authenticates with: a secret by its name or sealed, an account.

use super::ActionKind;
use crate::sealed::Sealed;

/// Where a secret is: in the secret store by its name, or in the rule itself, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    Named(SecretName),
    Sealed(Sealed),
}

/// A CleverTap account: of the config by its name, or described by the rule itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    Named(String),
    Own {
        account_id: String,
        region: String,
        passcode: Sealed,
    },
}

/// The name of a secret in the secret store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretName(String);

impl ActionKind {
    /// The id of the credential that the action's jobs are sent with.
    pub fn credential(&self) -> String {
        match self {
            ActionKind::SlackMessage { token, .. } => format!("slack:{}", token.name()),
            ActionKind::SlackWebhook { url, .. } => format!("webhook:{}", url.name()),
            ActionKind::ClevertapProfile { account, .. } | ActionKind::ClevertapEvent { account, .. } => {
                match account {
                    Account::Named(name) => format!("clevertap:{name}"),
                    Account::Own { passcode, .. } => format!("clevertap:{}", passcode.name()),
                }
            }
        }
    }

    /// What the credential is made of, where the rule carries it sealed.
    pub fn sealed(&self) -> Option<&Sealed> {
        match self {
            ActionKind::SlackMessage {
                token: Secret::Sealed(sealed),
                ..
            }
            | ActionKind::SlackWebhook {
                url: Secret::Sealed(sealed),
                ..
            }
            | ActionKind::ClevertapProfile {
                account: Account::Own { passcode: sealed, .. },
                ..
            }
            | ActionKind::ClevertapEvent {
                account: Account::Own { passcode: sealed, .. },
                ..
            } => Some(sealed),
            _ => None,
        }
    }

    /// The action's CleverTap account.
    pub fn account(&self) -> Option<&Account> {
        match self {
            ActionKind::ClevertapProfile { account, .. } | ActionKind::ClevertapEvent { account, .. } => Some(account),
            ActionKind::SlackMessage { .. } | ActionKind::SlackWebhook { .. } => None,
        }
    }
}

impl Secret {
    /// The name in the secret store, or what stands for it in a credential's id.
    pub fn name(&self) -> String {
        match self {
            Secret::Named(name) => name.as_str().to_owned(),
            Secret::Sealed(sealed) => sealed.name(),
        }
    }
}

impl SecretName {
    /// `None` unless `name` is 1 to 64 letters, digits, `_` and `-`, the first a letter or digit.
    /// Names that begin with `sealed-` stand for sealed values.
    pub fn new(name: &str) -> Option<Self> {
        if name.starts_with("sealed-") {
            return None;
        }
        let rest = name.strip_prefix(|c: char| c.is_ascii_alphanumeric())?;
        let fits = rest.len() < 64
            && rest
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        fits.then(|| Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
