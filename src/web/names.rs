//! What Slack calls the channel or the member of an id, where the token may read it. Nobody waits longer than a moment for
//! it, and what a page shows is the id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::credential::SecretName;
use crate::delivery::recall::credential_of;
use crate::secrets::Secrets;
use crate::slack::look_ups::{Answer, Kind, LookUps};
use crate::text::mask::mask;

/// So many tokens are asked with; with one more all begin anew.
const TOKENS_MAX: usize = 100;

/// The names that the tokens of the secret store may read. The desk opens nothing that is sealed.
#[derive(Debug)]
pub(super) struct Names {
    api_url: String,
    secrets: Secrets,
    tokens: Mutex<HashMap<SecretName, Arc<LookUps>>>,
}

/// Who a message goes to: the token's name in the store, and the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receiver {
    pub(super) token: SecretName,
    pub(super) kind: Kind,
    pub(super) id: String,
}

impl Receiver {
    /// Whom a lane of an app leads to; none where its token is sealed, and of any other lane.
    fn of_lane(lane: &str) -> Option<Self> {
        let credential = credential_of(lane);
        let id = lane.strip_prefix(credential)?.strip_prefix('/')?;
        Some(Self {
            token: SecretName::new(credential.strip_prefix("slack:")?)?,
            kind: match id.starts_with(['U', 'W']) {
                true => Kind::User,
                false => Kind::Channel,
            },
            id: id.to_owned(),
        })
    }
}

/// What is known of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// `#sales` or `Ana Diaz`, masked.
    Is(String),
    /// Why there is none, in words.
    None(&'static str),
}

impl Name {
    pub(super) fn is(&self) -> Option<&str> {
        match self {
            Self::Is(name) => Some(name),
            Self::None(_) => None,
        }
    }
}

impl Names {
    pub(super) fn new(api_url: &str, secrets: Secrets) -> Self {
        Self {
            api_url: api_url.to_owned(),
            secrets,
            tokens: Mutex::default(),
        }
    }

    /// What Slack says, where it is known or comes within a second. Needs tokio's runtime.
    pub(super) async fn ask(&self, receiver: &Receiver) -> Option<Name> {
        let look_ups = self.of(&receiver.token)?;
        name(receiver.kind, look_ups.get(receiver.kind, &receiver.id).await?)
    }

    /// What is known already. Nobody is asked.
    pub(super) fn known(&self, receiver: &Receiver) -> Option<Name> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = tokens.get(&receiver.token)?.known(receiver.kind, &receiver.id);
        name(receiver.kind, answer?)
    }

    /// What the receiver of a lane is called, where that is known already. Nobody is asked.
    pub(super) fn of_lane(&self, lane: &str) -> Option<String> {
        match self.known(&Receiver::of_lane(lane)?)? {
            Name::Is(name) => Some(name),
            Name::None(_) => None,
        }
    }

    fn of(&self, token: &SecretName) -> Option<Arc<LookUps>> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look_ups) = tokens.get(token) {
            return Some(Arc::clone(look_ups));
        }
        let made = LookUps::new(&self.api_url, token, &self.secrets, "the desk shows the id alone");
        let made = made.map_err(|error| tracing::warn!("the desk asks Slack for no names: {error}"));
        let look_ups = Arc::new(made.ok()?);
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(token.clone(), Arc::clone(&look_ups));
        Some(look_ups)
    }
}

/// An answer in words. What Slack or the store says beside these is for the log.
fn name(kind: Kind, answer: Answer) -> Option<Name> {
    let found = match answer {
        Ok(found) => found,
        Err(code) => {
            return Some(Name::None(match (code.as_str(), kind) {
                ("channel_not_found", _) => {
                    "Slack shows this app no such channel. Look at the id; invite the app where the channel is private."
                }
                ("user_not_found" | "user_not_visible", _) => "Slack shows this app no such member. Look at the id.",
                ("missing_scope", Kind::Channel) => {
                    "Its name can’t be read: the app lacks the scope channels:read, or groups:read for a private channel."
                }
                ("missing_scope", Kind::User) => "Their name can’t be read: the app lacks the scope users:read.",
                _ => return None,
            }));
        }
    };
    let mut texts = ["display_name", "real_name", "name"]
        .into_iter()
        .filter_map(|name| found[name].as_str());
    let text = texts.find(|text| !text.trim().is_empty())?;
    let text = mask(text);
    Some(Name::Is(match kind {
        Kind::Channel => format!("#{text}"),
        Kind::User => text.into_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_slacks_and_a_refusal_says_what_helps() {
        let is = |text: &str| Some(Name::Is(text.to_owned()));
        assert_eq!(
            name(Kind::Channel, Ok(json!({"id": "C1", "name": "sales"}))),
            is("#sales")
        );
        // A direct channel has none.
        assert_eq!(name(Kind::Channel, Ok(json!({"id": "D1"}))), None);
        let ana =
            json!({"id": "U1", "name": "ana", "real_name": "Ana Diaz", "display_name": "", "email": "ana@example.com"});
        assert_eq!(name(Kind::User, Ok(ana)), is("Ana Diaz"));
        let Some(Name::Is(shown)) = name(Kind::User, Ok(json!({"name": "ana.diaz@example.com"}))) else {
            panic!("it is named");
        };
        assert!(!shown.contains("diaz"), "{shown}");
        let why = |kind, code: &str| match name(kind, Err(code.to_owned())) {
            Some(Name::None(why)) => why,
            other => panic!("{code}: {other:?}"),
        };
        assert!(why(Kind::Channel, "missing_scope").contains("channels:read"));
        assert!(why(Kind::User, "missing_scope").contains("users:read"));
        assert!(why(Kind::Channel, "channel_not_found").contains("no such channel"));
        // What the store says of a secret has paths in it.
        let missing = "secret bot is missing; write it to /run/secrets/bot or set LEADLANE_SECRET_BOT";
        assert_eq!(name(Kind::User, Err(missing.to_owned())), None);
    }

    #[test]
    fn a_lane_of_an_app_says_whom_it_leads_to() {
        let of = |lane: &str| {
            let Receiver { token, kind, id } = Receiver::of_lane(lane)?;
            Some((token.as_str().to_owned(), kind, id))
        };
        let is = |kind, id: &str| Some(("sales-bot".to_owned(), kind, id.to_owned()));
        assert_eq!(of("slack:sales-bot/C0SALES"), is(Kind::Channel, "C0SALES"));
        assert_eq!(of("slack:sales-bot/U0ANA"), is(Kind::User, "U0ANA"));
        for lane in ["slack:sales-bot", "webhook:alerts", "clevertap:acme/x", "*", ""] {
            assert_eq!(of(lane), None, "{lane}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_for_what_is_only_looked_at() {
        let names = Names::new("http://127.0.0.1:9/api", Secrets::default());
        let receiver = |token: &str| Receiver {
            token: SecretName::new(token).unwrap(),
            kind: Kind::Channel,
            id: "C0SALES".to_owned(),
        };
        assert_eq!(names.known(&receiver("bot")), None);
        assert!(names.tokens.lock().unwrap().is_empty());
        for number in 0..=TOKENS_MAX {
            assert_eq!(names.ask(&receiver(&format!("bot-{number}"))).await, None);
        }
        assert_eq!(names.tokens.lock().unwrap().len(), 1);
    }
}
