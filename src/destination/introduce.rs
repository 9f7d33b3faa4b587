//! The first meeting with a Slack token: whether it works, whose it is, and whether it has the scopes that it needs.
//!
//! A token that lacks a scope fails late, at the first message that needs it; so the log names a missing scope early,
//! once.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use super::slack;
use super::words::Hidden;
use super::{Destinations, Failure, in_header, secret};
use crate::config;
use crate::delivery::DeliveryJob;
use crate::secrets::Secret;
use crate::slack::WebApi;

/// Slack's answer about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checked {
    Works {
        team: String,
        user: String,
        missing_scopes: Vec<NeededScope>,
    },
    /// It doesn't work, or isn't there, and why.
    Refused(String),
    /// Nobody could be asked, and why.
    Unreachable(String),
}

/// A scope that a token needs for what we do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NeededScope {
    pub(super) name: &'static str,
    /// The consequence where it is missing.
    pub(super) without: &'static str,
}

pub(super) const POST: NeededScope = NeededScope {
    name: "chat:write",
    without: "nothing can be posted",
};
pub(super) const JOIN: NeededScope = NeededScope {
    name: "channels:join",
    without: "public channels can't be joined: invite the app to them, or add chat:write.public",
};
pub(super) const OPEN: NeededScope = NeededScope {
    name: "im:write",
    without: "a member's direct channel can't be opened where posting doesn't open it",
};

/// What an inlet needs that names the users of its events.
pub(super) const READ_USERS: NeededScope = NeededScope {
    name: "users:read",
    without: "users have no names",
};

/// The credentials that this process has met.
#[derive(Debug, Default)]
pub(super) struct Introduced(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    asking: HashSet<String>,
    /// The last line about each, so that it is logged once.
    said: HashMap<String, Checked>,
}

impl Destinations {
    /// Asks Slack about a credential, `slack:NAME`, and logs the answer where that is new: one
    /// `auth.test`, which posts nothing and which no limit of Slack's is known for, so that it is
    /// counted against none of ours. A token that is known to work, or is asked about already, is not
    /// asked about again. `sealed` is the token where its rule carries it. Of other credentials the
    /// secret is looked at; whether its provider takes it shows when it is used.
    pub async fn introduce(&self, credential: &str, sealed: Option<&str>) {
        if !credential.starts_with("slack:") {
            if let Err(cause) = self.look(credential, sealed).await {
                tracing::error!(
                    credential,
                    cause,
                    "the credential can't be used; its jobs wait until its secret is right"
                );
            }
            return;
        }
        if self.introduced.begin(credential) {
            let checked = self.ask(credential, sealed).await;
            self.introduced.end(credential, checked);
        }
    }

    /// Whether a passcode or a webhook's URL is there and may be one; else why not.
    pub(super) async fn look(&self, credential: &str, sealed: Option<&str>) -> Result<(), String> {
        let account = (credential.strip_prefix("clevertap:")).map(|name| self.clevertap.accounts.get(name));
        let found = match (account, sealed) {
            (Some(Some(account)), None) => self.secrets.find(&account.passcode).await,
            // The configuration of this sender doesn't have it, and the first job says so.
            (Some(None), None) => return Ok(()),
            _ => secret(&self.secrets, credential, sealed).await,
        };
        let found = found.map_err(|error| error.to_string())?;
        if account.is_none() {
            let url = config::safe_url(found.reveal().trim());
            return url.map(drop).map_err(|why| format!("the webhook URL {why}"));
        }
        in_header(found, credential).map(drop).map_err(|failure| match failure {
            Failure::Credential(words)
            | Failure::Rejected(words)
            | Failure::Unsent(words)
            | Failure::Unknown(words) => words,
        })
    }

    /// Introduces a token beside a job that is sent with it. Needs tokio's runtime.
    pub(super) fn introduce_of(&self, job: &DeliveryJob) {
        if !self.introduced.begin(&job.credential) {
            return;
        }
        let asking = self.ask(&job.credential, job.sealed.as_deref());
        let (introduced, credential) = (Arc::clone(&self.introduced), job.credential.clone());
        tokio::spawn(async move { introduced.end(&credential, asking.await) });
    }

    pub(super) fn ask(&self, credential: &str, sealed: Option<&str>) -> impl Future<Output = Checked> + Send + use<> {
        let (api, mut needed) = (self.slack.clone(), vec![POST, OPEN]);
        if self.joins {
            needed.insert(1, JOIN);
        }
        let (secrets, credential, sealed) = (self.secrets.clone(), credential.to_owned(), sealed.map(str::to_owned));
        async move {
            match secret(&secrets, &credential, sealed.as_deref()).await {
                Ok(token) => identity(&api, &credential, token, &needed).await,
                Err(error) => Checked::Refused(error.to_string()),
            }
        }
    }

    /// Asks whose a token is, and which of these scopes it lacks.
    pub(super) async fn ask_with(&self, credential: &str, token: Secret, needed: &[NeededScope]) -> Checked {
        identity(&self.slack, credential, token, needed).await
    }
}

async fn identity(api: &WebApi, credential: &str, token: Secret, needed: &[NeededScope]) -> Checked {
    let asked = async {
        let token = in_header(token, credential)?;
        let reply = api.post("auth.test", &token, "{}".to_owned()).await?;
        let hidden = Hidden {
            secrets: &[token],
            body: "",
        };
        Ok(slack::identity(&reply, needed, hidden))
    };
    asked.await.unwrap_or_else(|failure| match failure {
        Failure::Credential(words) | Failure::Rejected(words) => Checked::Refused(words),
        Failure::Unsent(words) | Failure::Unknown(words) => Checked::Unreachable(words),
    })
}

impl Introduced {
    /// Whether the caller is to ask: the credential isn't known to work, and nobody asks already.
    pub(super) fn begin(&self, credential: &str) -> bool {
        let mut known = self.lock();
        let works = matches!(known.said.get(credential), Some(Checked::Works { .. }));
        !works && !known.asking.contains(credential) && known.asking.insert(credential.to_owned())
    }

    pub(super) fn end(&self, credential: &str, checked: Checked) {
        let mut known = self.lock();
        known.asking.remove(credential);
        if known.said.get(credential) != Some(&checked) {
            checked.log(credential);
            known.said.insert(credential.to_owned(), checked);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no code that holds the lock panics")
    }
}

impl Checked {
    /// One line, as loud as it has to be.
    fn log(&self, credential: &str) {
        match self {
            Self::Works { missing_scopes, .. } if missing_scopes.is_empty() => tracing::info!(credential, "{self}"),
            Self::Works { .. } | Self::Unreachable(_) => tracing::warn!(credential, "{self}"),
            Self::Refused(_) => tracing::error!(credential, "{self}"),
        }
    }
}

/// The message for a person, with the cure.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works {
                team,
                user,
                missing_scopes,
            } => {
                write!(f, "the Slack token works, as {user} in the team {team}")?;
                for NeededScope { name, without } in missing_scopes {
                    write!(f, "; it lacks {name}, so that {without}")?;
                }
                if missing_scopes.is_empty() {
                    return Ok(());
                }
                f.write_str("; give the app its scopes under OAuth & Permissions and install it again")
            }
            Self::Refused(words) => write!(
                f,
                "the Slack token is refused: {words}; its jobs wait until the secret holds one that works"
            ),
            Self::Unreachable(words) => write!(f, "Slack could not be asked about the token: {words}"),
        }
    }
}
