//! `slack_message`: a message that a bot posts to a channel or a member (`chat.postMessage`).

use serde_json::Value;

use super::slack::{self, OVER_LONG, OverLong, Pace};
use super::{Act, ActionKind, ActionType, Address, Definition, LaneOf, Limits, Pacing, Provider, Rendered};
use crate::credential::Secret;
use crate::lead::LeadEvent;
use crate::reader::{Object, Reader};
use crate::template::{OnMissing, Stop, Template};
use crate::text::json;

pub(super) const DEFINITION: Definition = Definition {
    name: "slack_message",
    provider: Provider::Slack,
    credential: "slack",
    fields: &[
        "token",
        "to",
        "text",
        "unfurl",
        "over_long",
        "thread",
        "when_busy",
        "max_rate",
    ],
    secrets: &["token"],
    read,
    lane: LaneOf::Destination,
    pacing,
    goes_first: false,
    refusal: |_| None,
    digest: Some(slack::digest::merge),
    as_test: slack::as_test,
};
pub const TO_FIELDS: &[&str] = &["channel", "member"];
const THREAD: &[(&str, bool)] = &[("lead", true)];

#[derive(Debug, Clone, PartialEq)]
pub struct SlackMessage {
    pub token: Secret,
    pub to: To,
    pub text: Template,
    pub unfurl: Option<bool>,
    pub over_long: OverLong,
    /// Few have another than that of all.
    pub pace: Option<Box<Pace>>,
}

/// Where a Slack message goes, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Channel(Box<str>),
    Member(Box<str>),
}

fn read(reader: &mut Reader, action: &Object<'_>) -> Option<ActionKind> {
    let token = reader.secret(action, "token");
    let to = reader.required(action, "to", "write {channel: C0123ABCD} or {member: U0123ABCD}");
    let to = to.and_then(|value| read_to(reader, value));
    let text = reader.required_template(action, "text", "write the message");
    let unfurl = reader.flag(action, "unfurl");
    let over_long = reader.choice(action, "over_long", OVER_LONG).unwrap_or_default();
    let thread = reader.choice(action, "thread", THREAD).unwrap_or_default();
    let pace = Pace {
        thread,
        ..Pace::read(reader, action)
    };
    Some(ActionKind::SlackMessage(SlackMessage {
        token: token?,
        to: to?,
        text: text?,
        unfurl,
        over_long,
        pace: pace.boxed(),
    }))
}

/// A channel has its rate, and a token's workspace one for all channels.
fn pacing(limits: &Limits, token: &str, channel: &str) -> Pacing {
    let limits = &limits.slack;
    Pacing {
        provider: Provider::Slack,
        lane_rate: Some(limits.of(token, Some(channel)).unwrap_or(limits.channel_rate)),
        credential_rate: Some(limits.of(token, None).unwrap_or(limits.workspace_rate)),
        in_flight_max: None,
        adapts: false,
        batch: None,
        probes: true,
    }
}

fn read_to(reader: &mut Reader, value: &Value) -> Option<To> {
    let to = reader.object("action.to", value, TO_FIELDS)?;
    let name = reader.exactly_one(&to, TO_FIELDS)?;
    let id = reader.text(&to, name)?.into();
    Some(if name == "channel" {
        To::Channel(id)
    } else {
        To::Member(id)
    })
}

impl Act for SlackMessage {
    fn action(&self) -> ActionType {
        ActionType::SlackMessage
    }

    fn address(&self, mut credential: String) -> Address<'_> {
        let (To::Channel(to) | To::Member(to)) = &self.to;
        credential.push_str("slack:");
        self.token.write_name(&mut credential);
        Address {
            credential,
            sealed: self.token.sealed(),
            account: None,
            destination: to,
        }
    }

    fn pace(&self) -> Option<&Pace> {
        self.pace.as_deref()
    }

    fn templates(&self) -> Vec<(String, &Template)> {
        vec![("action.text".into(), &self.text)]
    }

    fn check(&self, warn: &mut dyn FnMut(&str, String)) {
        slack::check_text(&self.text, warn);
        match &self.to {
            To::Channel(id) if looks_like_id(id, "UW") => {
                warn(
                    "action.to.channel",
                    "looks like a member's id; write it as member".into(),
                );
            }
            To::Channel(id) if !looks_like_id(id, "CGD") => {
                let message = "doesn't look like a channel's id, such as C0123ABCD; copy it from the channel's details";
                warn("action.to.channel", message.into());
            }
            To::Member(id) if !looks_like_id(id, "UW") => {
                let message = "doesn't look like a member's id, such as U0123ABCD; copy it from the member's profile";
                warn("action.to.member", message.into());
            }
            To::Channel(_) | To::Member(_) => {}
        }
    }

    /// The request, without its secret.
    fn render(&self, event: &LeadEvent<'_>, on_missing: OnMissing, into: &mut Rendered) -> Result<(), Stop> {
        let (To::Channel(to) | To::Member(to)) = &self.to;
        let body = &mut into.body;
        body.push_str(r#"{"channel":"#);
        json::string(to, body);
        body.push(',');
        slack::render_text(&self.text, event, on_missing, self.over_long, body)?;
        if let Some(unfurl) = self.unfurl {
            for name in ["unfurl_links", "unfurl_media"] {
                json::member(name, body);
                body.push_str(if unfurl { "true" } else { "false" });
            }
        }
        body.push('}');
        Ok(())
    }
}

fn looks_like_id(id: &str, first: &str) -> bool {
    let known = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    id.len() >= 3 && id.starts_with(|c| first.contains(c)) && id.chars().all(known)
}
