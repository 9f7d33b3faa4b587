//! Tracking rules: trigger + scope + filters + one action, as people write them.
//!
//! [`Rule::from_json`] reads a [`Rule`] from the JSON of its YAML, and finds every problem at once; [`check`] warns
//! about rules that read well but look like a mistake. The rules in force are the state of a compacted topic: [`log`]
//! keeps them, and [`index`] finds those for an event. To people a rule is one [`mod@sentence`], and two versions of it
//! are their [`mod@difference`]; [`words`] has the words of both.
//!
//! ```text
//! rules topic ──► log ──► index ──► found.push(rule) for each rule that holds for an event
//! ```
//!
//! Invariants: a [`Rule`] that exists is valid, so nothing after reading can fail; an index finds exactly the rules for
//! which [`Rule::explain`] finds no fault; no message quotes a rule where a secret may stand.

use std::fmt;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::lead::asked::Asked;
use crate::lead::{Entity, LeadEvent, Lookup};
use condition::{Comparison, Condition};

pub mod check;
pub mod condition;
pub mod control;
pub mod difference;
pub mod index;
pub mod log;
pub mod read;
pub mod sentence;
pub mod words;

/// Whether a text can be a rule's id: 1 to 64 of a-z, 0-9 and -, not starting with -.
pub fn is_rule_id(text: &str) -> bool {
    let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=64).contains(&text.len()) && text.chars().all(is_known) && !text.starts_with('-')
}

/// Whether a price filter on a trigger's events may be a range.
pub fn takes_range(trigger: &str) -> bool {
    matches!(trigger.rsplit('.').next(), Some("lead_sold" | "campaign_sold"))
}

/// Whether a trigger's events are of leads that were sold to no one, so that they have neither a price nor any
/// [`Party::is_of_sale`].
pub fn is_unsold(trigger: &str) -> bool {
    trigger.ends_with(".lead_rejected")
}

/// A rule's id, where it stands beside other ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId<'i>(pub &'i str);

/// One tracking rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub id: Arc<str>,
    pub name: Option<Box<str>>,
    pub status: Status,
    pub scope: Scope,
    pub trigger: Arc<str>,
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
    pub id: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Product,
    Campaign,
    Publisher,
    Inlet,
}

/// The conditions besides trigger and scope; an empty list filters nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filters {
    pub method: Box<[&'static str]>,
    pub ids: Box<[IdFilter]>,
    pub price: Option<PriceFilter>,
    /// The conditions under `where`.
    pub conditions: Box<[Condition]>,
}

/// Holds when the event's `party` has any of the ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdFilter {
    pub party: Party,
    pub any_of: Box<[Box<str>]>,
}

/// The entities that an id filter can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// A condition of a rule that an event does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The condition's field, such as `filters.price.gte`.
    pub path: String,
    /// What the rule asks for there.
    pub wanted: String,
    /// What the event has; `None` where that is missing.
    pub found: Option<String>,
}

impl Rule {
    /// Whether the rule holds for an event. Paused rules never do.
    pub fn matches(&self, event: &LeadEvent<'_>) -> bool {
        self.status != Status::Paused
            && *self.trigger == *event.trigger
            && self.scope.holds(event)
            && self.takes_test(event)
            && self.filters.hold(event)
    }

    /// Asks for the fields of an event that matching and planning look at.
    pub fn ask(&self, asked: &mut Asked) {
        asked.trigger(&self.trigger);
        asked.member(self.scope.level.as_str(), "id");
        if !self.filters.method.is_empty() {
            asked.field("method");
        }
        for filter in &self.filters.ids {
            asked.member(filter.party.as_str(), "id");
        }
        if self.filters.price.is_some() {
            asked.price(&self.trigger);
        }
        let templates = self.action.kind.templates();
        let conditions = self.filters.conditions.iter().map(|condition| &*condition.path);
        conditions
            .chain(templates.iter().flat_map(|(_, template)| template.asks()))
            .for_each(|path| asked.path(path));
    }

    /// Every condition that does not hold, in the order they are written in; none for a match.
    pub fn explain(&self, event: &LeadEvent<'_>) -> Vec<Failed> {
        let mut failed = Vec::new();
        let mut fail = |path: &str, wanted: String, found: Option<&str>| {
            let (path, found) = (path.to_owned(), found.map(str::to_owned));
            failed.push(Failed { path, wanted, found });
        };
        if self.status == Status::Paused {
            fail("status", "active or shadow".into(), Some("paused"));
        }
        if !self.scope.holds(event) {
            let id = self.scope.id.as_deref().unwrap_or("*");
            let level = self.scope.level;
            fail("scope", format!("{} {id}", level.as_str()), level.id_in(event));
        }
        if *self.trigger != *event.trigger {
            fail("trigger", self.trigger.to_string(), Some(&event.trigger));
        }
        if !self.takes_test(event) {
            fail("include_test", "false".into(), Some("a test event"));
        }
        if !self.filters.method_holds(event) {
            fail(
                "filters.method",
                self.filters.method.join(" or "),
                event.method.as_deref(),
            );
        }
        for filter in self.filters.ids.iter().filter(|filter| !filter.holds(event)) {
            let path = format!("filters.{}", filter.party.as_str());
            fail(&path, filter.any_of.join(" or "), filter.party.id_in(event));
        }
        if let Some(price) = self.filters.price.as_ref().filter(|price| !price.holds(event)) {
            let found = event.filter_price().map(|found| found.normalize().to_string());
            let path = format!("filters.price.{}", price.operator());
            fail(&path, price.operand(), found.as_deref());
        }
        for (at, condition) in self.filters.conditions.iter().enumerate() {
            let found = event.lookup(&condition.path);
            for test in condition.tests.iter().filter(|test| !test.holds(found.as_ref())) {
                let found = found.as_ref().map(|found| found.to_text());
                let wanted = format!("{} {test}", condition.path);
                fail(&format!("filters.where[{at}]"), wanted, found.as_deref());
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
            Some(id) => found == Some(&**id),
            None => found.is_some(),
        }
    }
}

impl Filters {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.method.is_empty() && self.ids.is_empty() && self.price.is_none() && self.conditions.is_empty()
    }

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
    fn operator(&self) -> &'static str {
        match self {
            PriceFilter::Compare(comparison, _) => comparison.as_str(),
            PriceFilter::Between(..) => "between",
        }
    }

    fn operand(&self) -> String {
        match self {
            PriceFilter::Compare(_, bound) => bound.to_string(),
            PriceFilter::Between(low, high) => format!("{low} and {high}"),
        }
    }

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

    /// The filters that a rule of this level hasn't got, because its scope says the same already.
    pub fn implied(self) -> &'static [Party] {
        match self {
            Level::Publisher => &[Party::Publisher],
            Level::Campaign => &[Party::Campaign, Party::Buyer],
            Level::Product | Level::Inlet => &[],
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

    /// Whether an event has it only of a lead that was sold.
    pub fn is_of_sale(self) -> bool {
        matches!(self, Party::Buyer | Party::Campaign | Party::Pingtree)
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
    pub const ALL: [Status; 3] = [Status::Active, Status::Paused, Status::Shadow];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Paused => "paused",
            Status::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.wanted)
    }
}

fn id_of<'e>(entity: &'e Option<Entity<'_>>) -> Option<&'e str> {
    entity.as_ref()?.id.as_deref()
}

fn any_is(wanted: &[impl AsRef<str>], found: Option<&str>) -> bool {
    found.is_some_and(|found| wanted.iter().any(|wanted| wanted.as_ref() == found))
}

#[cfg(test)]
mod tests;
