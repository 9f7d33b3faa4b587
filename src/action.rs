//! Actions: what a match becomes. Each action has a room of its own, which holds everything about that action.
//!
//! A room names the fields that a rule gives the action, reads them and warns about them; it knows the credential of
//! the action's jobs, and renders an event into a request. `rules` reads and checks actions here, `delivery` plans
//! them here, and `destination` makes the requests.
//!
//! ```text
//! rule's JSON ── Action::read ──► Action ── render(event) ──► body of one DeliveryJob
//! ```
//!
//! A new action is a new room, named in [`ActionType`], [`ActionType::ALL`] and [`ActionKind`]. Within this module
//! `ActionType::definition` and `ActionKind::act` alone choose between actions, and the compiler names what they lack.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::credential;
use crate::dates::Rate;
use crate::lead::LeadEvent;
use crate::reader::{Object, Reader};
use crate::sealed::Sealed;
use crate::template::{OnMissing, Stop, Template};
use clevertap::{Account, Upload};
use slack::Pace;
use slack_message::SlackMessage;
use slack_webhook::SlackWebhook;

pub mod clevertap;
pub mod slack;
pub mod slack_message;
pub mod slack_webhook;

/// The fields that every action may have.
pub const FIELDS: &[&str] = &["type", "on_missing", "on_ambiguous", "expires_after"];

const ON_MISSING: &[(&str, OnMissing)] = &[
    ("empty", OnMissing::Empty),
    ("skip", OnMissing::Skip),
    ("fail", OnMissing::Fail),
];
const ON_AMBIGUOUS: &[(&str, OnAmbiguous)] = &[("retry", OnAmbiguous::Retry), ("dead", OnAmbiguous::Dead)];
const AT_ONCE: &str = "everything would expire at once; write a longer time or leave it out";

/// The actions, by the `type` that rules and jobs give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionType {
    SlackMessage,
    SlackWebhook,
    ClevertapProfile,
    ClevertapEvent,
}

/// Whose API an action calls; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    Slack,
    Clevertap,
}

/// The action of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    pub kind: ActionKind,
    pub on_missing: OnMissing,
    pub on_ambiguous: OnAmbiguous,
    /// Counted from the event's `occurred_at`.
    pub expires_after: Option<Duration>,
}

/// The part of an action that is its own.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionKind {
    SlackMessage(SlackMessage),
    SlackWebhook(SlackWebhook),
    /// A profile or an event.
    Clevertap(Upload),
}

/// What to do when an answer leaves open whether the request took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    #[default]
    Retry,
    Dead,
}

/// The traits of an action, whatever its rule says.
struct Definition {
    name: &'static str,
    provider: Provider,
    /// The kind of its credentials.
    credential: &'static str,
    /// The fields that a rule may give it beside [`FIELDS`].
    fields: &'static [&'static str],
    /// The fields of it that are secrets.
    secrets: &'static [&'static str],
    read: fn(&mut Reader, &Object<'_>) -> Option<ActionKind>,
    lane: LaneOf,
    /// How requests are paced that are sent with a credential, here the first, to a destination, here the second.
    pacing: fn(&Limits, &str, &str) -> Pacing,
    /// Whether its jobs are written before those that other actions make of an event.
    goes_first: bool,
    /// Why the provider would not take a body that was rendered; `None` for one that it may take.
    refusal: fn(&str) -> Option<String>,
    digest: Option<Digest>,
    /// The body as a person's try of the rule is sent, marked [`TEST_MARK`].
    as_test: fn(&str) -> Option<String>,
}

/// How what a person's try sends begins, so that nobody takes it for real.
pub const TEST_MARK: &str = "[TEST] ";

/// The one body that stands for many: of a rule's id, and of the messages, each with when its event occurred.
type Digest = fn(&str, &[(i64, &str)]) -> Option<String>;

/// Whose jobs go through one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneOf {
    /// All jobs of a credential, or of one account of it.
    Credential,
    /// A credential's jobs to one destination.
    Destination,
}

/// How the requests of a lane and its credential are paced: all that a sender's dispatch knows of an action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pacing {
    /// Gauges count by it.
    pub provider: Provider,
    /// Requests of the lane.
    pub lane_rate: Option<Rate>,
    /// Requests of all lanes of the credential together.
    pub credential_rate: Option<Rate>,
    /// Requests of the credential in flight at once, where that has a limit of its own.
    pub in_flight_max: Option<usize>,
    /// Whether it is found out how many of these the provider takes: from half of them on, half as many whenever it asks
    /// for less, and one more for each round that went well.
    pub adapts: bool,
    /// What one request takes of many jobs. Without it, a request is one message: one job, or many as a digest.
    pub batch: Option<Batch>,
    /// Whether the provider can be asked if a credential that was refused works again. Without it, the oldest job shows.
    pub probes: bool,
}

/// How many jobs go as one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub max: usize,
    /// How long the first of them waits for more.
    pub wait: Duration,
}

/// The limits that the configuration sets, by what they are about.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub slack: slack::Limits,
    pub clevertap: clevertap::Limits,
}

/// The work of an action, with the fields that its rule gave it.
trait Act {
    fn action(&self) -> ActionType;

    /// `credential` is room for the credential's id.
    fn address(&self, credential: String) -> Address<'_>;

    /// How its messages come when there are many; none where it says nothing.
    fn pace(&self) -> Option<&Pace> {
        None
    }

    /// Every template, with its field.
    fn templates(&self) -> Vec<(String, &Template)>;

    /// Says of each field what looks like a mistake.
    fn check(&self, warn: &mut dyn FnMut(&str, String));

    fn render(&self, event: &LeadEvent<'_>, on_missing: OnMissing, into: &mut Rendered) -> Result<(), Stop>;
}

/// The part that all jobs of a rule share, whatever the event.
#[derive(Debug, Clone, PartialEq)]
pub struct Address<'a> {
    /// The id of the credential that the jobs are sent with.
    pub credential: String,
    /// The sealed value of the credential, where the rule carries one.
    pub sealed: Option<&'a Sealed>,
    /// The CleverTap account.
    pub account: Option<&'a Account>,
    /// The channel or member; empty where only an event says it, and where nothing does.
    pub destination: &'a str,
}

/// An action rendered for one event. Who renders many keeps one, and with it the room of its texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// The request's body.
    pub body: String,
    /// The destination, where the event says it; else empty.
    pub destination: String,
}

/// Bytes of room that are kept for what comes next: an odd body that is much longer gives its room back.
pub const ROOM_KEPT: usize = 1 << 16;

impl Rendered {
    fn clear(&mut self) {
        for text in [&mut self.body, &mut self.destination] {
            text.clear();
            text.shrink_to(ROOM_KEPT);
        }
    }
}

impl ActionType {
    pub const ALL: [Self; 4] = [
        Self::SlackMessage,
        Self::SlackWebhook,
        Self::ClevertapProfile,
        Self::ClevertapEvent,
    ];

    /// An action whose jobs are sent with this credential; `None` for a credential of a kind that no action has.
    pub fn of_credential(credential: &str) -> Option<Self> {
        let kind = credential::kind(credential);
        Self::ALL
            .into_iter()
            .find(|action| action.definition().credential == kind)
    }

    fn definition(self) -> &'static Definition {
        match self {
            Self::SlackMessage => &slack_message::DEFINITION,
            Self::SlackWebhook => &slack_webhook::DEFINITION,
            Self::ClevertapProfile => &clevertap::PROFILE,
            Self::ClevertapEvent => &clevertap::EVENT,
        }
    }

    pub fn as_str(self) -> &'static str {
        self.definition().name
    }

    pub fn provider(self) -> Provider {
        self.definition().provider
    }

    /// The fields that a rule may give the action beside [`FIELDS`].
    pub fn fields(self) -> &'static [&'static str] {
        self.definition().fields
    }

    pub fn lane(self) -> LaneOf {
        self.definition().lane
    }

    /// How requests to a destination are paced that are sent with a credential.
    pub fn pacing(self, limits: &Limits, credential: &str, destination: &str) -> Pacing {
        (self.definition().pacing)(limits, credential, destination)
    }

    /// Whether its jobs are written before those that other actions make of an event.
    pub fn goes_first(self) -> bool {
        self.definition().goes_first
    }

    /// Why the provider would not take a body that was rendered; `None` for one that it may take.
    pub fn refusal(self, body: &str) -> Option<String> {
        (self.definition().refusal)(body)
    }

    /// The body of the one message that stands for many of a rule, oldest first, each with when its event occurred.
    pub fn digest(self, rule_id: &str, messages: &[(i64, &str)]) -> Option<String> {
        self.definition().digest?(rule_id, messages)
    }

    /// A body as a person's try of its rule is sent, marked where it can be.
    pub fn as_test(self, body: &str) -> String {
        (self.definition().as_test)(body).unwrap_or_else(|| body.to_owned())
    }
}

impl Provider {
    pub const ALL: [Self; 2] = [Self::Slack, Self::Clevertap];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Clevertap => "clevertap",
        }
    }
}

impl Action {
    pub(crate) fn read(reader: &mut Reader, value: &Value) -> Option<Self> {
        let types = ActionType::ALL.map(|action| (action.as_str(), action));
        let Some(members) = value.as_object() else {
            return reader.refuse("action", "needs an object with the action's type and fields");
        };
        let action = Object {
            field: "action".into(),
            members,
        };
        if action.get("type").is_none() {
            let names = types.map(|(name, _)| name).join(", ");
            return reader.refuse(action.at("type"), format!("is missing; one of {names}"));
        }
        let definition = reader.choice(&action, "type", &types)?.definition();
        reader.unknown_fields(&action, &[FIELDS, definition.fields].concat());
        let on_missing = reader.choice(&action, "on_missing", ON_MISSING).unwrap_or_default();
        let on_ambiguous = reader.choice(&action, "on_ambiguous", ON_AMBIGUOUS).unwrap_or_default();
        let expires_after = action
            .get("expires_after")
            .and_then(|value| reader.duration("action.expires_after", value, AT_ONCE));
        let kind = (definition.read)(reader, &action);
        Some(Self {
            kind: kind?,
            on_missing,
            on_ambiguous,
            expires_after,
        })
    }

    /// The names of secrets in an action as it is written, each with its field.
    pub fn named_secrets(written: &Value) -> Vec<(String, &str)> {
        let name = written.get("type").and_then(Value::as_str);
        let action = ActionType::ALL.into_iter().find(|action| Some(action.as_str()) == name);
        let fields = action.map_or(&[][..], |action| action.definition().secrets);
        let named = |field: &&str| {
            let name = written.get(field)?.get("secret")?.as_str()?;
            Some((format!("action.{field}.secret"), name))
        };
        fields.iter().filter_map(named).collect()
    }
}

impl ActionKind {
    fn act(&self) -> &dyn Act {
        match self {
            Self::SlackMessage(message) => message,
            Self::SlackWebhook(webhook) => webhook,
            Self::Clevertap(upload) => upload,
        }
    }

    pub fn action(&self) -> ActionType {
        self.act().action()
    }

    pub fn address(&self) -> Address<'_> {
        self.act().address(String::new())
    }

    /// The same; the credential's id takes the room of this text.
    pub fn address_in(&self, mut credential: String) -> Address<'_> {
        credential.clear();
        self.act().address(credential)
    }

    /// How its messages come when there are many; none where it says nothing.
    pub fn pace(&self) -> Option<&Pace> {
        self.act().pace()
    }

    /// Every template of the action, with its field.
    pub fn templates(&self) -> Vec<(String, &Template)> {
        self.act().templates()
    }

    /// Says of each field what looks like a mistake.
    pub fn check(&self, warn: &mut dyn FnMut(&str, String)) {
        self.act().check(warn);
    }

    /// Renders into the room of what was rendered before. Where it stops, nothing stands there.
    pub fn render(&self, event: &LeadEvent<'_>, on_missing: OnMissing, into: &mut Rendered) -> Result<(), Stop> {
        into.clear();
        let rendered = self.act().render(event, on_missing, into);
        if rendered.is_err() {
            into.clear();
        }
        rendered
    }
}
