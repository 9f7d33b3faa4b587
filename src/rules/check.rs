//! What reads well but looks like a mistake: warned about, never refused.
//!
//! Mostly filters and paths that can hold for no event, judged by what a lead event's own fields
//! can be. In an inlet's event a null field is looked up in the payload, which can be anything,
//! so that rules at inlet level are spared that judgement.

use rust_decimal::Decimal;
use serde_json::Value;

use super::clevertap::{is_charged, wrong_event_name, wrong_event_property_name, wrong_profile_property_name};
use super::condition::{Comparison, Condition, Operand, Test};
use super::read::field::{closest, distance, member};
use super::{Account, ActionKind, Level, Party, Problem, Properties, Property, Rule, SecretName, To, User};
use crate::lead;
use crate::path::{Path, Step};
use crate::template::Template;

/// The bytes of JSON that a rule has at most, so that all that is kept about it fits into a record: its change, with what
/// was before and after.
pub const RULE_MAX: usize = 128 * 1024;

/// Why a rule is too large to be written.
fn size(written: &Value) -> Option<Problem> {
    let size = written.to_string().len();
    (size > RULE_MAX).then(|| Problem {
        field: "rule".to_owned(),
        message: format!(
            "has {size} bytes as JSON, and a rule has at most {RULE_MAX}; shorten its texts and lists, or make several rules of it"
        ),
    })
}

/// Everything doubtful about a rule.
pub fn warnings(rule: &Rule) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |field: &str, message: String| {
        let field = field.to_owned();
        warnings.push(Problem { field, message });
    };
    if let Some(known) = misspelt_trigger(&rule.trigger) {
        warn("trigger", format!("no such trigger is known; did you mean {known}?"));
    }
    if rule.trigger.ends_with(".lead_rejected") {
        never_on_rejection(rule, &mut warn);
    }
    for (at, condition) in rule.filters.conditions.iter().enumerate() {
        let field = format!("filters.where[{at}]");
        if rule.scope.level != Level::Inlet {
            if let Some(message) = unknown_path(&condition.path) {
                warn(&format!("{field}.path"), message);
            }
            wrong_kind(&field, condition, &mut warn);
        }
        if let Some(message) = contradiction(condition, rule.include_test) {
            warn(&field, message.to_owned());
        }
    }
    let templates = templates(&rule.action.kind);
    if rule.scope.level != Level::Inlet {
        for (field, template) in &templates {
            for message in template.paths().filter_map(unknown_path) {
                warn(field, message);
            }
        }
    }
    destination(&rule.action.kind, &mut warn);
    warnings
}

/// What may not be written any more. A rule of the topic that has it stays in force.
pub fn refusals(written: &Value) -> Vec<Problem> {
    let spelt = |place: &str| {
        let name = written.get("action")?.get(place)?.get("secret")?.as_str()?;
        let secret = SecretName::new(name)?;
        let message = match secret.looks_sealed() {
            true => {
                "name the secret otherwise, in the store too; what begins with sealed- stands for a sealed value".into()
            }
            false if secret.as_str() == name => return None,
            false => format!(
                "write it as {secret}; a name has lower case, digits and - alone, because its variable, {}, can't tell \
                 other spellings apart (a file in secrets.dir may keep its name)",
                secret.variable()
            ),
        };
        let field = format!("action.{place}.secret");
        Some(Problem { field, message })
    };
    size(written)
        .into_iter()
        .chain(["token", "url"].into_iter().filter_map(spelt))
        .collect()
}

/// Whether the config has the account that a rule names: `Err` refuses the rule, `Ok(Some(_))`
/// warns, as there is nothing to hold the name against when the config has no account at all.
pub fn account(rule: &Rule, known: &[&str]) -> Result<Option<Problem>, Problem> {
    let account = match rule.action.kind.account() {
        Some(Account::Named(name)) if !known.contains(&name.as_str()) => name,
        _ => return Ok(None),
    };
    let problem = |message: String| Problem {
        field: "action.account".into(),
        message,
    };
    if known.is_empty() {
        return Ok(Some(problem(
            "the config has no clevertap.accounts; add this one before the rule is in use".into(),
        )));
    }
    Err(problem(match closest(account, known.iter().copied()) {
        Some(meant) => format!("is none of clevertap.accounts in the config; did you mean {meant}?"),
        None => format!(
            "is none of clevertap.accounts in the config, which has {}",
            known.join(", ")
        ),
    }))
}

fn misspelt_trigger(trigger: &str) -> Option<&'static str> {
    // Triggers are open text and new ones come up, so that only a near miss is worth a word.
    let near = |known: &&str| (1..=2).contains(&distance(trigger, known));
    let known = lead::TRIGGERS.contains(&trigger);
    lead::TRIGGERS.into_iter().find(near).filter(|_| !known)
}

/// A rejected lead was sold to no one.
fn never_on_rejection(rule: &Rule, warn: &mut impl FnMut(&str, String)) {
    let message = |what: &str| format!("a lead_rejected event has no {what}, so this can never hold; leave it out");
    if rule.scope.level == Level::Campaign {
        warn("scope", message("campaign"));
    }
    for filter in &rule.filters.ids {
        if matches!(filter.party, Party::Buyer | Party::Campaign | Party::Pingtree) {
            let name = filter.party.as_str();
            warn(&format!("filters.{name}"), message(name));
        }
    }
    if rule.filters.price.is_some() {
        warn("filters.price", message("price"));
    }
}

/// What is wrong with a path that leads nowhere in a lead event.
fn unknown_path(path: &Path) -> Option<String> {
    let root = path.root();
    let steps = &path.steps()[1..];
    if !lead::FIELDS.contains(&root) {
        let cure = match closest(root, lead::FIELDS.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => {
                "the product's own fields are under $.fields, and what an inlet received is for rules at inlet level"
                    .into()
            }
        };
        return Some(format!(
            "{path} names no field of a lead event, so it is always missing; {cure}"
        ));
    }
    let known = match (lead::members(root), steps) {
        (_, []) => return None,
        (Some(known), [Step::Name(name)]) if known.contains(&&**name) => return None,
        (None, _) if root == "payload" => return None,
        (None, [Step::Name(_)]) if root == "fields" => return None,
        (Some(known), [Step::Name(name), ..]) => match closest(name, known.iter().copied()) {
            Some(meant) if meant != &**name => format!("did you mean {meant}?"),
            _ => format!("{root} has {}", known.join(", ")),
        },
        (Some(known), _) => format!("{root} has {}", known.join(", ")),
        (None, _) => format!("write $.{root}{}", if root == "fields" { ".NAME" } else { "" }),
    };
    Some(format!(
        "{path} leads nowhere in a lead event, so it is always missing; {known}"
    ))
}

/// What a field of a lead event can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Bool,
    Time,
    Record,
}

/// `None` for what can be anything or is nothing.
fn kind(path: &Path) -> Option<Kind> {
    let inner = match &path.steps()[1..] {
        [] => None,
        [Step::Name(name)] => Some(&**name),
        _ => return None,
    };
    Some(match (path.root(), inner) {
        ("payload", _) => return None,
        ("price" | "payout" | "revenue" | "attempt", None) | ("call", Some("billable_seconds")) => Kind::Number,
        ("is_test", None) | ("call", Some("answered")) => Kind::Bool,
        ("occurred_at", None) | ("call", Some("started_at" | "answered_at" | "ended_at")) => Kind::Time,
        (root, None) if root == "fields" || lead::members(root).is_some() => Kind::Record,
        (root, _) if lead::FIELDS.contains(&root) => Kind::Text,
        _ => return None,
    })
}

fn wrong_kind(field: &str, condition: &Condition, warn: &mut impl FnMut(&str, String)) {
    let Some(kind) = kind(&condition.path) else { return };
    for test in condition.tests.iter().filter(|test| !can_hold(test, kind)) {
        let (is, cure) = match kind {
            Kind::Text => ("text", "compare it to text, in quotes if need be"),
            Kind::Number => ("a number", "compare it to a number, without quotes"),
            Kind::Bool => ("a boolean", "compare it to true or false, without quotes"),
            Kind::Time => ("a time", "compare it to a text such as \"2026-03-05T15:16:00Z\""),
            Kind::Record => ("a record", "name one of its members"),
        };
        let path = &condition.path;
        warn(
            &format!("{field}.{}", test.name()),
            format!("can never hold, {path} is {is}; {cure}"),
        );
    }
}

fn can_hold(test: &Test, kind: Kind) -> bool {
    let equals = |operand: &Operand| match operand {
        Operand::Number(..) => matches!(kind, Kind::Number | Kind::Text),
        Operand::Text(_) => matches!(kind, Kind::Text | Kind::Time),
        Operand::Bool(_) => kind == Kind::Bool,
        Operand::Json(_) => kind == Kind::Record,
    };
    match test {
        Test::Eq(operand) => equals(operand),
        Test::In(operands) => operands.iter().any(equals),
        Test::Contains(Operand::Text(_) | Operand::Number(..)) | Test::StartsWith(_) | Test::EndsWith(_) => {
            matches!(kind, Kind::Text | Kind::Time)
        }
        Test::Contains(_) => false,
        Test::Compare(..) => matches!(kind, Kind::Number | Kind::Text),
        Test::Ne(_) | Test::Exists(_) => true,
    }
}

/// Tests of one condition that can't hold together.
fn contradiction(condition: &Condition, include_test: bool) -> Option<&'static str> {
    let tests = &condition.tests;
    let missing = tests.contains(&Test::Exists(false));
    if missing && tests.iter().any(|test| !test.holds(None)) {
        return Some("can never hold, nothing but ne holds for a field that doesn't exist; leave exists: false out");
    }
    if crossed(tests) {
        return Some("can never hold, no number lies between these bounds; swap them");
    }
    let wants_test = condition.path.root() == "is_test" && tests.contains(&Test::Eq(Operand::Bool(true)));
    if wants_test && !include_test {
        return Some("can never hold, test events match no rule without include_test: true; add that");
    }
    None
}

fn crossed(tests: &[Test]) -> bool {
    let bounds = |wanted: [Comparison; 2]| {
        tests.iter().filter_map(move |test| match test {
            Test::Compare(comparison, bound) if wanted.contains(comparison) => Some((*comparison, *bound)),
            _ => None,
        })
    };
    let empty = |(from, low): (Comparison, Decimal), (to, high): (Comparison, Decimal)| {
        low > high || (low == high && (from == Comparison::Gt || to == Comparison::Lt))
    };
    bounds([Comparison::Gt, Comparison::Gte])
        .any(|low| bounds([Comparison::Lt, Comparison::Lte]).any(|high| empty(low, high)))
}

/// Every template of an action, with its field.
fn templates(action: &ActionKind) -> Vec<(String, &Template)> {
    let mut found = Vec::new();
    match action {
        ActionKind::SlackMessage { text, .. } | ActionKind::SlackWebhook { text, .. } => {
            found.push(("action.text".into(), text));
        }
        ActionKind::ClevertapProfile {
            user,
            created_at,
            properties,
            ..
        } => {
            of_clevertap(user, created_at.as_ref(), properties, &mut found);
        }
        ActionKind::ClevertapEvent {
            user,
            created_at,
            event_name,
            properties,
            ..
        } => {
            found.push(("action.event_name".into(), event_name));
            of_clevertap(user, created_at.as_ref(), properties, &mut found);
        }
    }
    found
}

fn of_clevertap<'r>(
    user: &'r User,
    created_at: Option<&'r Template>,
    properties: &'r Properties,
    found: &mut Vec<(String, &'r Template)>,
) {
    let (name, template) = who(user);
    found.push((format!("action.{name}"), template));
    found.extend(created_at.map(|template| ("action.created_at".into(), template)));
    if let Some(whole) = &properties.whole {
        found.push(("action.properties".into(), &whole.from));
    }
    for (name, property) in &properties.named {
        of_property(named(properties, name), property, found);
    }
}

fn of_property<'r>(field: String, property: &'r Property, found: &mut Vec<(String, &'r Template)>) {
    match property {
        Property::Template(template) => found.push((field, template)),
        Property::Constant(_) => {}
        Property::List(list) => {
            for (at, property) in list.iter().enumerate() {
                of_property(format!("{field}[{at}]"), property, found);
            }
        }
        Property::Object(members) => {
            for (name, property) in members {
                of_property(member(&field, name), property, found);
            }
        }
    }
}

/// The field of a property that the rule names itself.
fn named(properties: &Properties, name: &str) -> String {
    match properties.whole {
        Some(_) => member("action.properties.with", name),
        None => member("action.properties", name),
    }
}

fn who(user: &User) -> (&'static str, &Template) {
    match user {
        User::Identity(template) => ("identity", template),
        User::ObjectId(template) => ("object_id", template),
    }
}

/// Destinations that look like something else, and what they take otherwise than it is written.
fn destination(action: &ActionKind, warn: &mut impl FnMut(&str, String)) {
    if let ActionKind::SlackMessage { text, .. } | ActionKind::SlackWebhook { text, .. } = action
        && text.mentions_by_value()
    {
        let message = "a value can't say whom <!…> mentions and is shown as text; write <!here>, <@{{$.user}}> or \
                       <!subteam^{{$.group}}>";
        warn("action.text", message.into());
    }
    match action {
        ActionKind::SlackMessage {
            to: To::Channel(id), ..
        } if looks_like_id(id, "UW") => {
            warn(
                "action.to.channel",
                "looks like a member's id; write it as member".into(),
            );
        }
        ActionKind::SlackMessage {
            to: To::Channel(id), ..
        } if !looks_like_id(id, "CGD") => {
            let message = "doesn't look like a channel's id, such as C0123ABCD; copy it from the channel's details";
            warn("action.to.channel", message.into());
        }
        ActionKind::SlackMessage { to: To::Member(id), .. } if !looks_like_id(id, "UW") => {
            let message = "doesn't look like a member's id, such as U0123ABCD; copy it from the member's profile";
            warn("action.to.member", message.into());
        }
        ActionKind::ClevertapProfile { user, properties, .. } | ActionKind::ClevertapEvent { user, properties, .. } => {
            names(action, properties, warn);
            let (name, template) = who(user);
            if template.is_literal() {
                let message = "is the same for every event; write a placeholder, such as {{$.consumer.email}}";
                warn(&format!("action.{name}"), message.into());
            }
            never_an_id(&format!("action.{name}"), template, warn);
            if let ActionKind::ClevertapEvent { event_name, .. } = action {
                never_an_id("action.event_name", event_name, warn);
            }
        }
        ActionKind::SlackMessage { .. } | ActionKind::SlackWebhook { .. } => {}
    }
}

/// A path whose value is no text and no number, so that every record would be a dead letter.
fn never_an_id(field: &str, template: &Template, warn: &mut impl FnMut(&str, String)) {
    // `json` makes a text of anything, and is asked for.
    let is_judged = template.is_one_placeholder() && !template.is_written_as_json();
    let mut paths = template.paths().filter(|_| is_judged);
    if let Some(path) = paths.find(|path| matches!(kind(path), Some(Kind::Bool | Kind::Record))) {
        warn(
            field,
            format!("{path} is a boolean or a record and names nobody; name a text, such as $.lead_id"),
        );
    }
}

/// What CleverTap takes in no record, so that every one of them would be a dead letter.
fn names(action: &ActionKind, properties: &Properties, warn: &mut impl FnMut(&str, String)) {
    let event_name = match action {
        ActionKind::ClevertapEvent { event_name, .. } => Some(event_name),
        _ => None,
    };
    let event_name = event_name.map(|template| template.is_literal().then(|| template.as_str()));
    if let Some(why) = event_name.flatten().and_then(wrong_event_name) {
        warn("action.event_name", why);
    }
    let wrong_name = match event_name {
        Some(_) => wrong_event_property_name,
        None => wrong_profile_property_name,
    };
    let renamed = properties.whole.iter().flat_map(|whole| &whole.rename);
    for (old, new) in renamed {
        if let Some(why) = wrong_name(new) {
            warn(&member("action.properties.rename", old), why);
        }
    }
    for (name, value) in &properties.named {
        let field = named(properties, name);
        if let Some(why) = wrong_name(name) {
            warn(&field, why);
        }
        if let Property::Template(template) = value
            && template.is_written_number()
        {
            let message = "goes to CleverTap as a text such as \"12,500.00\", which it can't count with; write the placeholder \
                           without number and money, and make the value a price of the event where it is a text";
            warn(&field, message.to_owned());
        }
        let is_nested = matches!(value, Property::List(_) | Property::Object(_));
        // An event's name that a template makes may be Charged.
        let is_item = name == "Items" && event_name.flatten().is_none_or(is_charged);
        if event_name.is_some() && is_nested && !is_item {
            let message = "CleverTap takes a list or an object in no event but as Items of Charged; write its parts as \
                           properties of their own";
            warn(&field, message.to_owned());
        }
    }
}

fn looks_like_id(id: &str, first: &str) -> bool {
    let known = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    id.len() >= 3 && id.starts_with(|c| first.contains(c)) && id.chars().all(known)
}

#[cfg(test)]
mod tests;
