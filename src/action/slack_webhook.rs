//! `slack_webhook`: a message that an incoming webhook posts to the channel it was made for.

use super::slack::{self, OVER_LONG, OverLong, Pace};
use super::{Act, ActionKind, ActionType, Address, Definition, LaneOf, Limits, Pacing, Provider, Rendered};
use crate::credential::Secret;
use crate::lead::LeadEvent;
use crate::reader::{Object, Reader};
use crate::template::{OnMissing, Stop, Template};
use crate::text::json;

pub(super) const DEFINITION: Definition = Definition {
    name: "slack_webhook",
    provider: Provider::Slack,
    credential: "webhook",
    fields: &[
        "url",
        "text",
        "channel",
        "username",
        "icon_url",
        "over_long",
        "when_busy",
        "max_rate",
    ],
    secrets: &["url"],
    read,
    lane: LaneOf::Credential,
    pacing,
    goes_first: false,
    refusal: |_| None,
    digest: Some(slack::digest::merge),
    as_test: slack::as_test,
};

#[derive(Debug, Clone, PartialEq)]
pub struct SlackWebhook {
    pub url: Secret,
    pub text: Template,
    pub channel: Option<Box<str>>,
    pub username: Option<Box<str>>,
    pub icon_url: Option<Box<str>>,
    pub over_long: OverLong,
    /// Few have another than that of all.
    pub pace: Option<Box<Pace>>,
}

fn read(reader: &mut Reader, action: &Object<'_>) -> Option<ActionKind> {
    let url = reader.secret(action, "url");
    let text = reader.required_template(action, "text", "write the message");
    let channel = reader.text(action, "channel").map(Into::into);
    let username = reader.text(action, "username").map(Into::into);
    let icon_url = reader.text(action, "icon_url").map(Into::into);
    let over_long = reader.choice(action, "over_long", OVER_LONG).unwrap_or_default();
    let pace = Pace::read(reader, action).boxed();
    Some(ActionKind::SlackWebhook(SlackWebhook {
        url: url?,
        text: text?,
        channel,
        username,
        icon_url,
        over_long,
        pace,
    }))
}

/// A webhook is one lane, and can be asked nothing.
fn pacing(limits: &Limits, url: &str, _: &str) -> Pacing {
    let limits = &limits.slack;
    Pacing {
        provider: Provider::Slack,
        lane_rate: Some(limits.of(url, None).unwrap_or(limits.webhook_rate)),
        credential_rate: None,
        in_flight_max: None,
        adapts: false,
        batch: None,
        probes: false,
    }
}

impl Act for SlackWebhook {
    fn action(&self) -> ActionType {
        ActionType::SlackWebhook
    }

    fn address(&self, mut credential: String) -> Address<'_> {
        credential.push_str("webhook:");
        self.url.write_name(&mut credential);
        Address {
            credential,
            sealed: self.url.sealed(),
            account: None,
            destination: "",
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
    }

    /// The request, without its secret.
    fn render(&self, event: &LeadEvent<'_>, on_missing: OnMissing, into: &mut Rendered) -> Result<(), Stop> {
        let body = &mut into.body;
        body.push('{');
        slack::render_text(&self.text, event, on_missing, self.over_long, body)?;
        let looks = [
            ("channel", &self.channel),
            ("username", &self.username),
            ("icon_url", &self.icon_url),
        ];
        for (name, text) in looks {
            if let Some(text) = text {
                json::member(name, body);
                json::string(text, body);
            }
        }
        body.push('}');
        Ok(())
    }
}
