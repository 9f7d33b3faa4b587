//! The four actions.

use std::time::Duration;

use serde_json::Value;

use super::field::{Object, Reader};
use super::properties::Of;
use super::{ACCOUNT_FIELDS, ACTION_FIELDS, ACTIONS, PASSCODE_FIELDS, TO_FIELDS, WHEN_BUSY_FIELDS};
use crate::dates;
use crate::rules::{Account, Action, ActionKind, OnAmbiguous, OverLong, Pace, To, User};
use crate::template::OnMissing;

const ON_MISSING: &[(&str, OnMissing)] = &[
    ("empty", OnMissing::Empty),
    ("skip", OnMissing::Skip),
    ("fail", OnMissing::Fail),
];
const ON_AMBIGUOUS: &[(&str, OnAmbiguous)] = &[("retry", OnAmbiguous::Retry), ("dead", OnAmbiguous::Dead)];
const OVER_LONG: &[(&str, OverLong)] = &[("truncate", OverLong::Truncate), ("fail", OverLong::Fail)];
const ACCOUNT: &str = "needs the name of an account of clevertap.accounts in the config, or {account_id, region, passcode: {sealed: \"...\"}}";
const AT_ONCE: &str = "everything would expire at once; write a longer time or leave it out";
const THREAD: &[(&str, bool)] = &[("lead", true)];

impl Reader {
    pub(super) fn action(&mut self, value: &Value) -> Option<Action> {
        let kinds: Vec<_> = ACTIONS.iter().map(|(name, fields)| (*name, (*name, *fields))).collect();
        let Some(members) = value.as_object() else {
            return self.refuse("action", "needs an object with the action's type and fields");
        };
        let action = Object {
            field: "action".into(),
            members,
        };
        let types = ACTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        self.required(&action, "type", &format!("one of {types}"))?;
        let (kind, own_fields) = self.choice(&action, "type", &kinds)?;
        self.unknown_fields(&action, &[ACTION_FIELDS, own_fields].concat());
        let on_missing = self.choice(&action, "on_missing", ON_MISSING).unwrap_or_default();
        let on_ambiguous = self.choice(&action, "on_ambiguous", ON_AMBIGUOUS).unwrap_or_default();
        let expires_after = action
            .get("expires_after")
            .and_then(|value| self.duration("action.expires_after", value, AT_ONCE));
        let kind = match kind {
            "slack_message" => self.slack_message(&action),
            "slack_webhook" => self.slack_webhook(&action),
            "clevertap_profile" => self.clevertap_profile(&action),
            _ => self.clevertap_event(&action),
        };
        Some(Action {
            kind: kind?,
            on_missing,
            on_ambiguous,
            expires_after,
        })
    }

    fn slack_message(&mut self, action: &Object<'_>) -> Option<ActionKind> {
        let token = self.secret(action, "token");
        let to = self.required(action, "to", "write {channel: C0123ABCD} or {member: U0123ABCD}");
        let to = to.and_then(|value| self.to(value));
        let text = self.required_template(action, "text", "write the message");
        let unfurl = self.flag(action, "unfurl");
        let over_long = self.choice(action, "over_long", OVER_LONG).unwrap_or_default();
        let thread = self.choice(action, "thread", THREAD).unwrap_or_default();
        let pace = self.pace(action);
        Some(ActionKind::SlackMessage {
            token: token?,
            to: to?,
            text: text?,
            unfurl,
            over_long,
            thread,
            pace,
        })
    }

    fn to(&mut self, value: &Value) -> Option<To> {
        let to = self.object("action.to", value, TO_FIELDS)?;
        let name = self.exactly_one(&to, TO_FIELDS)?;
        let id = self.text(&to, name)?;
        Some(if name == "channel" {
            To::Channel(id)
        } else {
            To::Member(id)
        })
    }

    fn slack_webhook(&mut self, action: &Object<'_>) -> Option<ActionKind> {
        let url = self.secret(action, "url");
        let text = self.required_template(action, "text", "write the message");
        let channel = self.text(action, "channel");
        let username = self.text(action, "username");
        let icon_url = self.text(action, "icon_url");
        let over_long = self.choice(action, "over_long", OVER_LONG).unwrap_or_default();
        let pace = self.pace(action);
        Some(ActionKind::SlackWebhook {
            url: url?,
            text: text?,
            channel,
            username,
            icon_url,
            over_long,
            pace,
        })
    }

    fn pace(&mut self, action: &Object<'_>) -> Pace {
        let digest_after = action.get("when_busy").and_then(|value| self.when_busy(action, value));
        let max_rate = action.get("max_rate").and_then(|value| {
            let text = value.as_str().unwrap_or_default();
            match dates::rate(text) {
                Ok(_) => Some(text.to_owned()),
                Err(error) => self.refuse(action.at("max_rate"), error.to_string()),
            }
        });
        Pace { digest_after, max_rate }
    }

    /// `each`, or how long a wait makes a digest.
    fn when_busy(&mut self, action: &Object<'_>, value: &Value) -> Option<Duration> {
        let field = action.at("when_busy");
        if value.as_str() == Some("each") {
            return None;
        }
        if !value.is_object() {
            return self.refuse(
                field,
                "needs each, or {digest_after: 60s} to send one message for many that wait",
            );
        }
        let when_busy = self.object(&field, value, WHEN_BUSY_FIELDS)?;
        let after = self.required(
            &when_busy,
            "digest_after",
            "write how long a wait is too long, such as 60s",
        )?;
        self.duration(
            &when_busy.at("digest_after"),
            after,
            "every message would be a digest; write a time such as 60s",
        )
    }

    fn clevertap_profile(&mut self, action: &Object<'_>) -> Option<ActionKind> {
        let account = self.account(action);
        let user = self.user(action);
        let created_at = self.template(action, "created_at");
        let properties = self.properties(action, Of::Profile);
        Some(ActionKind::ClevertapProfile {
            account: account?,
            user: user?,
            created_at,
            properties: properties?,
        })
    }

    fn clevertap_event(&mut self, action: &Object<'_>) -> Option<ActionKind> {
        let account = self.account(action);
        let user = self.user(action);
        let event_name = self.required_template(action, "event_name", "name the event, such as Charged");
        let created_at = self.template(action, "created_at");
        let properties = self.properties(action, Of::Event);
        Some(ActionKind::ClevertapEvent {
            account: account?,
            user: user?,
            created_at,
            event_name: event_name?,
            properties: properties?,
        })
    }

    fn account(&mut self, action: &Object<'_>) -> Option<Account> {
        let value = self.required(action, "account", ACCOUNT)?;
        if value.is_object() {
            return self.own_account(&action.at("account"), value);
        }
        match value.as_str().and_then(Account::named) {
            Some(account) => Some(account),
            None => self.refuse(action.at("account"), ACCOUNT),
        }
    }

    fn own_account(&mut self, field: &str, value: &Value) -> Option<Account> {
        let account = self.object(field, value, ACCOUNT_FIELDS)?;
        // Both stand in the request, and the region is part of the host that the passcode goes to.
        let account_id = self.plain(&account, "account_id", 64, "the account's id, such as W8W-6ZZ-9Z5Z");
        let region = self.plain(&account, "region", 16, "a region such as in1, eu1 or us1");
        let cure = "write {sealed: \"...\"} as leadlane secrets seal prints it; with a stored secret, describe the \
                    account in clevertap.accounts of the config and name it here";
        let passcode = self.required(&account, "passcode", cure)?;
        let passcode = self.secret_object(&account.at("passcode"), passcode, PASSCODE_FIELDS)?;
        let passcode = match passcode.get("sealed") {
            Some(_) => self.sealed(&passcode),
            None => self.refuse(account.at("passcode"), cure),
        };
        Some(Account::Own {
            account_id: account_id?,
            region: region?,
            passcode: passcode?,
        })
    }

    /// A text of letters, digits and `-`.
    fn plain(&mut self, object: &Object<'_>, name: &str, len_max: usize, what: &str) -> Option<String> {
        self.required(object, name, &format!("write {what}"))?;
        let text = self.text(object, name)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if text.len() <= len_max && text.chars().all(fits) {
            return Some(text);
        }
        self.refuse(object.at(name), format!("needs {what}"))
    }

    fn user(&mut self, action: &Object<'_>) -> Option<User> {
        let name = self.exactly_one(action, &["identity", "object_id"])?;
        let template = self.template(action, name)?;
        Some(if name == "identity" {
            User::Identity(template)
        } else {
            User::ObjectId(template)
        })
    }
}
