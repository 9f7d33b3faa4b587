//! A look at a credential without sending: whether it is there, may be used, and is taken by its provider.
//!
//! Slack is asked by `auth.test`. CleverTap is asked to check an upload without a record, of which nothing could be
//! stored. A webhook takes nothing but messages, so that of one the URL alone is looked at.

use super::introduce::{Checked, JOIN, NeededScope, OPEN, POST, READ_USERS};
use super::words::Hidden;
use super::{BODY_MAX, Destinations, Failure, allowed, answer, in_header, words_of};
use crate::config::{self, Account};
use crate::delivery::dispatch::Verdict;
use crate::http_client;
use crate::secrets::Secret;

/// What a look at a credential came to, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    Works(String),
    /// What is wrong and, behind `; `, the cure.
    Refused(String),
    /// Its provider gives no answer now.
    Unreachable(String),
    /// Its provider has nothing that could be asked.
    NotAsked(String),
}

/// What is done with a Slack token, beside asking for who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUse {
    pub posts: bool,
    /// Messages go to channels, which may have to be joined first.
    pub channels: bool,
    /// Messages go to members.
    pub members: bool,
    /// An inlet asks for the names of users.
    pub reads_users: bool,
}

impl Destinations {
    /// A Slack token, as whose secret it is.
    pub async fn examine_token(&self, credential: &str, token: Secret, asked: TokenUse) -> Examined {
        let needed = [
            (asked.posts, POST),
            (asked.channels && self.joins, JOIN),
            (asked.members, OPEN),
            (asked.reads_users, READ_USERS),
        ];
        let needed: Vec<NeededScope> = needed
            .into_iter()
            .filter_map(|(is, scope)| is.then_some(scope))
            .collect();
        let (team, user, missing) = match self.ask_with(credential, token, &needed).await {
            Checked::Works {
                team,
                user,
                missing_scopes,
            } => (team, user, missing_scopes),
            Checked::Refused(words) => return Examined::Refused(format!("Slack refuses the token: {words}")),
            Checked::Unreachable(words) => return Examined::Unreachable(words),
        };
        if missing.is_empty() {
            return Examined::Works(format!("the token works, as {user} in the team {team}"));
        }
        let lacks: Vec<String> = missing
            .iter()
            .map(|scope| format!("{}, so that {}", scope.name, scope.without))
            .collect();
        let names: Vec<&str> = missing.iter().map(|scope| scope.name).collect();
        Examined::Refused(format!(
            "the token lacks {}; add {} under OAuth & Permissions in the app's settings, and install the app again",
            lacks.join(", and "),
            names.join(" and ")
        ))
    }

    /// A webhook's URL.
    pub fn examine_webhook(&self, credential: &str, url: &Secret) -> Examined {
        match allowed(credential, url, &self.webhook_hosts, "slack.webhook_hosts") {
            Ok(_) => Examined::NotAsked(
                "its URL may be used; whether Slack takes it shows a message alone, as leadlane rules send-test sends one"
                    .to_owned(),
            ),
            Err(failure) => failed(failure),
        }
    }

    /// A CleverTap account, with its passcode.
    pub async fn examine_account(&self, credential: &str, account: &Account, passcode: Secret) -> Examined {
        let passcode = match in_header(passcode, credential) {
            Ok(passcode) => passcode,
            Err(failure) => return failed(failure),
        };
        let common = self.clevertap.api_url.as_deref();
        let url = match config::safe_url(&format!("{}/1/upload", account.url(common))) {
            Ok(url) => url,
            Err(why) => return Examined::Refused(format!("the account's URL {why}; correct its region or api_url")),
        };
        let request = self.upload_request(url, true, &account.account_id, &passcode, r#"{"d":[]}"#.to_owned());
        let reply = match http_client::reply(request.send().await, BODY_MAX).await {
            Ok(reply) => reply,
            Err(unanswered) => return failed(unanswered.into()),
        };
        let secrets = [passcode];
        let hidden = Hidden {
            secrets: &secrets,
            body: "",
        };
        let said = answer(&reply, Verdict::Delivered, words_of(&reply), hidden).words;
        match reply.status {
            // That there is no record in it, CleverTap may refuse; the passcode it has looked at before.
            200..=299 | 400 => Examined::Works("CleverTap takes the passcode".to_owned()),
            401 | 403 => Examined::Refused(format!(
                "CleverTap refuses the passcode of account {} (or the account is in another region): {}: {said}",
                account.account_id, reply.status
            )),
            300..=399 | 404 | 405 => Examined::Refused(format!(
                "no upload of CleverTap's is at its address, which answers {}; correct its region or api_url",
                reply.status
            )),
            status => Examined::Unreachable(format!("CleverTap answers {status}: {said}")),
        }
    }
}

fn failed(failure: Failure) -> Examined {
    match failure {
        Failure::Credential(words) | Failure::Rejected(words) => Examined::Refused(words),
        Failure::Unsent(words) | Failure::Unknown(words) => Examined::Unreachable(words),
    }
}
