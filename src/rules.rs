//! Tracking rules: trigger + scope + filters + one action, as people write them.
//!
//! A [`Rule`] is read from the JSON of its YAML by [`Rule::from_json`], which finds every problem
//! at once; what reads well but looks like a mistake is for [`check`] to warn about. The rules in
//! force are the state of a compacted topic, kept by [`log`], and are asked through [`index`].
//!
//! ```text
//! rules topic ──► log ──► index ──► found.push(rule) for each rule that holds for an event
//! ```
//!
//! Invariants: a [`Rule`] that exists is valid, so nothing after reading can fail; an index finds
//! exactly the rules for which [`Rule::matches`] says yes, which is what [`Rule::explain`] has
//! nothing to say about; no message quotes what a rule says where a secret may stand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;

use crate::lead::{Entity, LeadEvent, Lookup};
use crate::template::{OnMissing, Template};
use condition::{Comparison, Condition};
pub(crate) use read::field::is_open_secret;

pub use credential::{Account, Secret, SecretName, one_spelling};

pub mod check;
pub mod clevertap;
pub mod condition;
mod credential;
pub mod index;
pub mod log;
pub mod read;

/// Whether a text can be a rule's id: 1 to 64 of a-z, 0-9 and -, not starting with -.
pub fn is_rule_id(text: &str) -> bool {
    let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=64).contains(&text.len()) && text.chars().all(is_known) && !text.starts_with('-')
}

/// A rule's id, where it stands beside other ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId<'i>(pub &'i str);

/// One tracking rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub id: Arc<str>,
    pub name: Option<String>,
    pub status: Status,
    pub scope: Scope,
    pub trigger: String,
    /// Whether test events match too.
    pub include_test: bool,
    pub filters: Filters,
    pub action: Action,
}

/// A rule and the offset of the record it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    pub rule: Rule,
    pub version: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    /// Matches nothing.
    Paused,
    /// Matches are counted and logged, never sent.
    Shadow,
}

/// Whose events a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub level: Level,
    /// `None` is `*`: every one that an event names.
    pub id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    Product,
    Campaign,
    Publisher,
    Inlet,
}

/// What must hold besides trigger and scope; an empty list filters nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filters {
    pub method: Vec<String>,
    pub ids: Vec<IdFilter>,
    pub price: Option<PriceFilter>,
    /// The conditions under `where`.
    pub conditions: Vec<Condition>,
}

/// Holds when the event's `party` has any of the ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdFilter {
    pub party: Party,
    pub any_of: Vec<String>,
}

/// Who an id filter can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    Publisher,
    Channel,
    Source,
    Buyer,
    Campaign,
    Pingtree,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PriceFilter {
    Compare(Comparison, Decimal),
    /// Both ends included; the first is not above the second.
    Between(Decimal, Decimal),
}

/// What a match becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    pub kind: ActionKind,
    pub on_missing: OnMissing,
    pub on_ambiguous: OnAmbiguous,
    /// Counted from the event's `occurred_at`.
    pub expires_after: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ActionKind {
    SlackMessage {
        token: Secret,
        to: To,
        text: Template,
        unfurl: Option<bool>,
        over_long: OverLong,
        /// Whether it goes into the lead's own thread, and begins it where there is none.
        thread: bool,
        pace: Pace,
    },
    SlackWebhook {
        url: Secret,
        text: Template,
        channel: Option<String>,
        username: Option<String>,
        icon_url: Option<String>,
        over_long: OverLong,
        pace: Pace,
    },
    ClevertapProfile {
        account: Account,
        user: User,
        created_at: Option<Template>,
        properties: Properties,
    },
    ClevertapEvent {
        account: Account,
        user: User,
        created_at: Option<Template>,
        event_name: Template,
        properties: Properties,
    },
}

/// How a rule's messages come when there are many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pace {
    /// `when_busy`: when the lane's wait is longer, those that wait go as one message.
    pub digest_after: Option<Duration>,
    /// At most so many messages of the rule, as written: `20/h`.
    pub max_rate: Option<String>,
}

/// Where a Slack message goes, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Channel(String),
    Member(String),
}

/// Whose profile or event CleverTap is told about.
#[derive(Debug, Clone, PartialEq)]
pub enum User {
    Identity(Template),
    ObjectId(Template),
}

/// What CleverTap is told of a user or an event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// An object that is sent on whole.
    pub whole: Option<Whole>,
    /// Those that the rule names itself; they come in place of the object's own.
    pub named: Vec<(String, Property)>,
}

/// An object of the event whose members become properties, without each being named.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Gives the object, or the JSON text of one.
    pub from: Template,
    /// The object's names, and what CleverTap is told instead.
    pub rename: Vec<(String, String)>,
    /// The object's names that are left out.
    pub drop: Vec<String>,
    pub nulls: Nulls,
}

/// What becomes of an object's members that are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nulls {
    #[default]
    LeaveOut,
    /// The profile's property is deleted.
    Delete,
}

/// The value of a CleverTap property.
#[derive(Debug, Clone, PartialEq)]
pub enum Property {
    Template(Template),
    /// A number, a boolean or null, as written.
    Constant(serde_json::Value),
    List(Vec<Property>),
    /// An object, such as one of the platform's operators: `{$add: [...]}`.
    Object(Vec<(String, Property)>),
}

/// What to do when it can't be known whether an attempt arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAmbiguous {
    #[default]
    Retry,
    Dead,
}

/// What to do with a text that is longer than Slack takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverLong {
    #[default]
    Truncate,
    Fail,
}

/// What is wrong or doubtful about a rule, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path to the field, such as `filters.price.between`.
    pub field: String,
    /// The reason and the cure.
    pub message: String,
}

/// A condition of a rule that an event does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The condition with its field, such as `filters.price.gte 25`.
    pub condition: String,
    /// What the event had; `None` when that is missing.
    pub value: Option<String>,
}

impl Rule {
    /// Whether the rule holds for an event. Paused rules never do.
    pub fn matches(&self, event: &LeadEvent<'_>) -> bool {
        self.status != Status::Paused
            && self.trigger == event.trigger
            && self.scope.holds(event)
            && self.holds_within_scope(event)
    }

    /// [`Self::matches`] for an event that is known to fit status, trigger and scope.
    pub(crate) fn holds_within_scope(&self, event: &LeadEvent<'_>) -> bool {
        self.takes_test(event) && self.filters.hold(event)
    }

    /// Every condition that does not hold, in the order they are written in; none for a match.
    pub fn explain(&self, event: &LeadEvent<'_>) -> Vec<Failed> {
        let mut failed = Vec::new();
        let mut fail = |condition: String, value: Option<&str>| {
            let value = value.map(str::to_owned);
            failed.push(Failed { condition, value });
        };
        if self.status == Status::Paused {
            fail("status active or shadow".into(), Some("paused"));
        }
        if !self.scope.holds(event) {
            let id = self.scope.id.as_deref().unwrap_or("*");
            let level = self.scope.level;
            fail(format!("scope {} {id}", level.as_str()), level.id_in(event));
        }
        if self.trigger != event.trigger {
            fail(format!("trigger {}", self.trigger), Some(&event.trigger));
        }
        if !self.takes_test(event) {
            fail("include_test false".into(), Some("a test event"));
        }
        if !self.filters.method_holds(event) {
            let condition = format!("filters.method {}", self.filters.method.join(" or "));
            fail(condition, event.method.as_deref());
        }
        for filter in self.filters.ids.iter().filter(|filter| !filter.holds(event)) {
            let condition = format!("filters.{} {}", filter.party.as_str(), filter.any_of.join(" or "));
            fail(condition, filter.party.id_in(event));
        }
        if let Some(price) = self.filters.price.as_ref().filter(|price| !price.holds(event)) {
            let value = event.filter_price().map(|value| value.normalize().to_string());
            fail(format!("filters.price.{price}"), value.as_deref());
        }
        for (at, condition) in self.filters.conditions.iter().enumerate() {
            let found = event.lookup(&condition.path);
            for test in condition.tests.iter().filter(|test| !test.holds(found.as_ref())) {
                let value = found.as_ref().map(|value| value.to_text());
                fail(
                    format!("filters.where[{at}] {} {test}", condition.path),
                    value.as_deref(),
                );
            }
        }
        failed
    }

    fn takes_test(&self, event: &LeadEvent<'_>) -> bool {
        self.include_test || event.is_test != Some(true)
    }
}

impl Scope {
    fn holds(&self, event: &LeadEvent<'_>) -> bool {
        let found = self.level.id_in(event);
        match &self.id {
            Some(id) => found == Some(id),
            None => found.is_some(),
        }
    }
}

impl Filters {
    fn hold(&self, event: &LeadEvent<'_>) -> bool {
        self.method_holds(event)
            && self.ids.iter().all(|filter| filter.holds(event))
            && self.price.as_ref().is_none_or(|price| price.holds(event))
            && self.conditions.iter().all(|condition| condition.holds(event))
    }

    fn method_holds(&self, event: &LeadEvent<'_>) -> bool {
        self.method.is_empty() || any_is(&self.method, event.method.as_deref())
    }
}

impl IdFilter {
    fn holds(&self, event: &LeadEvent<'_>) -> bool {
        any_is(&self.any_of, self.party.id_in(event))
    }
}

impl PriceFilter {
    fn holds(&self, event: &LeadEvent<'_>) -> bool {
        event.filter_price().is_some_and(|price| match self {
            PriceFilter::Compare(comparison, bound) => comparison.holds(price, *bound),
            PriceFilter::Between(low, high) => *low <= price && price <= *high,
        })
    }
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Product, Level::Campaign, Level::Publisher, Level::Inlet];

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Product => "product",
            Level::Campaign => "campaign",
            Level::Publisher => "publisher",
            Level::Inlet => "inlet",
        }
    }

    /// The id that an event names at this level.
    pub fn id_in<'e>(self, event: &'e LeadEvent<'_>) -> Option<&'e str> {
        match self {
            Level::Product => id_of(&event.product),
            Level::Campaign => id_of(&event.campaign),
            Level::Publisher => id_of(&event.publisher),
            Level::Inlet => event.inlet.as_deref(),
        }
    }
}

impl Party {
    pub const ALL: [Party; 6] = [
        Party::Publisher,
        Party::Channel,
        Party::Source,
        Party::Buyer,
        Party::Campaign,
        Party::Pingtree,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Party::Publisher => "publisher",
            Party::Channel => "channel",
            Party::Source => "source",
            Party::Buyer => "buyer",
            Party::Campaign => "campaign",
            Party::Pingtree => "pingtree",
        }
    }

    fn id_in<'e>(self, event: &'e LeadEvent<'_>) -> Option<&'e str> {
        match self {
            Party::Publisher => id_of(&event.publisher),
            Party::Channel => id_of(&event.channel),
            Party::Source => id_of(&event.source),
            Party::Buyer => id_of(&event.buyer),
            Party::Campaign => id_of(&event.campaign),
            Party::Pingtree => id_of(&event.pingtree),
        }
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Paused => "paused",
            Status::Shadow => "shadow",
        }
    }
}

impl ActionKind {
    /// The action's `type`, as rules write it and metrics label it.
    pub fn as_str(&self) -> &'static str {
        match self {
            ActionKind::SlackMessage { .. } => "slack_message",
            ActionKind::SlackWebhook { .. } => "slack_webhook",
            ActionKind::ClevertapProfile { .. } => "clevertap_profile",
            ActionKind::ClevertapEvent { .. } => "clevertap_event",
        }
    }

    /// How Slack's messages come when there are many.
    pub fn pace(&self) -> Option<&Pace> {
        match self {
            ActionKind::SlackMessage { pace, .. } | ActionKind::SlackWebhook { pace, .. } => Some(pace),
            ActionKind::ClevertapProfile { .. } | ActionKind::ClevertapEvent { .. } => None,
        }
    }
}

impl fmt::Display for PriceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PriceFilter::Compare(comparison, bound) => write!(f, "{} {bound}", comparison.as_str()),
            PriceFilter::Between(low, high) => write!(f, "between {low} and {high}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn id_of<'e>(entity: &'e Option<Entity<'_>>) -> Option<&'e str> {
    entity.as_ref()?.id.as_deref()
}

fn any_is(wanted: &[String], found: Option<&str>) -> bool {
    found.is_some_and(|found| wanted.iter().any(|wanted| wanted == found))
}

#[cfg(test)]
mod tests;
