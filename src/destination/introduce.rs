//! The first meeting with a Slack token: whether it works, whose it is, and whether it may do what it
//! is for, said in words once. A token that lacks a scope fails late, at the one message that needs
//! it; so it is said early.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use super::slack;
use super::{Destinations, Failure, call, in_header};
use crate::delivery::DeliveryJob;
use crate::secrets::Secret;

/// What asking Slack about a token gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
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
pub struct NeededScope {
    pub name: &'static str,
    /// What follows where it is missing.
    pub without: &'static str,
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

/// What is known of the credentials that this process has met.
#[derive(Debug, Default)]
pub(super) struct Introduced(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    asking: HashSet<String>,
    /// What was said of each last, so that it is said once.
    said: HashMap<String, Checked>,
}

impl Destinations {
    /// Asks Slack about a credential, `slack:NAME`: one `auth.test`, which posts nothing and which no
    /// limit of Slack's is known for, so that it is counted against none of ours.
    pub async fn check(&self, credential: &str) -> Checked {
        match self.named(credential) {
            Some(token) => self.ask(credential, token).await,
            None => Checked::Unreachable("only Slack tokens of the secret store can be asked about by name".to_owned()),
        }
    }

    /// Asks about a credential beside what goes on, unless it is known to work, and logs the answer
    /// where that is new. Other credentials than Slack tokens of the secret store show when they
    /// are used. Needs tokio's runtime.
    pub fn introduce(&self, credential: &str) {
        if let Some(token) = self.named(credential) {
            self.introduce_with(credential, token);
        }
    }

    /// The same for the credential that a job is sent with.
    pub(super) fn introduce_of(&self, job: &DeliveryJob) {
        if self.introduced.is_new(&job.credential) {
            self.introduce_with(&job.credential, self.secret(job));
        }
    }

    fn introduce_with(&self, credential: &str, token: Result<Secret, Failure>) {
        if !self.introduced.begin(credential) {
            return;
        }
        let asking = self.ask(credential, token);
        let (introduced, credential) = (Arc::clone(&self.introduced), credential.to_owned());
        tokio::spawn(async move { introduced.end(credential, asking.await) });
    }

    /// The token of a credential by its name; nothing where no name of the secret store is in it.
    fn named(&self, credential: &str) -> Option<Result<Secret, Failure>> {
        let name = credential.strip_prefix("slack:")?;
        let token = (!name.starts_with("sealed-")).then(|| self.secrets.reveal(name))?;
        Some(token.map_err(|error| Failure::Credential(error.to_string())))
    }

    fn ask(&self, credential: &str, token: Result<Secret, Failure>) -> impl Future<Output = Checked> + Send + use<> {
        let token = token.and_then(|token| in_header(token, credential));
        let (client, api, joins) = (self.client.clone(), self.slack_api.clone(), self.joins);
        async move {
            let asked = async {
                let token = token?;
                let reply = call(&client, &api, "auth.test", &token, "{}".to_owned()).await?;
                Ok(slack::identity(&reply, joins, &[token]))
            };
            asked.await.unwrap_or_else(|failure| match failure {
                Failure::Credential(words) | Failure::Rejected(words) => Checked::Refused(words),
                Failure::Unsent(words) | Failure::Unknown(words) => Checked::Unreachable(words),
            })
        }
    }
}

impl Introduced {
    /// Whether there is anything to ask: it isn't known to work, and nobody asks already.
    fn is_new(&self, credential: &str) -> bool {
        self.lock().is_new(credential)
    }

    pub(super) fn begin(&self, credential: &str) -> bool {
        let mut known = self.lock();
        known.is_new(credential) && known.asking.insert(credential.to_owned())
    }

    pub(super) fn end(&self, credential: String, checked: Checked) {
        let mut known = self.lock();
        known.asking.remove(&credential);
        if known.said.get(&credential) != Some(&checked) {
            checked.log(&credential);
            known.said.insert(credential, checked);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no code that holds the lock panics")
    }
}

impl Known {
    fn is_new(&self, credential: &str) -> bool {
        !self.asking.contains(credential) && !matches!(self.said.get(credential), Some(Checked::Works { .. }))
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

/// What a person has to know, and do.
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
