//! The words in which a rule is told to people: its triggers, its fields, its operators and its values.
//!
//! All of it works on a rule as it is written, however wrong that is. A text that could be a secret is never told.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde_json::Value;

use crate::path::{Path, Step};
use crate::reader::is_open_secret;
use crate::sealed::Sealed;
use crate::text::truncate;
use crate::{amounts, dates, lead};

/// A longer text is told in part, in characters.
const SHOWN_MAX: usize = 80;
/// Of a longer list the first elements are told.
const LIST_MAX: usize = 8;

/// A trigger that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    pub name: &'static str,
    /// For a choice or a heading: `Lead sold`.
    pub label: &'static str,
    /// What happened, behind "When": `a lead is sold`.
    pub phrase: &'static str,
}

/// In the order of [`lead::TRIGGERS`].
pub const TRIGGERS: [Trigger; 13] = [
    of("lms.lead_sold", "Lead sold", "a lead is sold"),
    of("lms.lead_rejected", "Lead rejected", "a lead is rejected"),
    of(
        "lms.campaign_rejected",
        "Campaign rejected a lead",
        "a campaign rejects a lead",
    ),
    of(
        "lms.publisher_earning_received",
        "Publisher earned on a lead",
        "a publisher earns on a lead",
    ),
    of("lms.campaign_sold", "Campaign bought a lead", "a campaign buys a lead"),
    of(
        "lms.revenue_ping_back",
        "Revenue reported",
        "revenue is reported for a lead",
    ),
    of("call_logic.lead_sold", "Call sold", "a call is sold"),
    of("call_logic.lead_rejected", "Call rejected", "a call is rejected"),
    of(
        "call_logic.campaign_rejected",
        "Campaign rejected a call",
        "a campaign rejects a call",
    ),
    of(
        "call_logic.campaign_accepted",
        "Campaign accepted a call",
        "a campaign accepts a call",
    ),
    of(
        "call_logic.campaign_sold",
        "Campaign bought a call",
        "a campaign buys a call",
    ),
    of(
        "call_logic.publisher_earning_received",
        "Publisher earned on a call",
        "a publisher earns on a call",
    ),
    of(
        "call_logic.buyer_response",
        "Buyer responded",
        "a buyer responds to a call",
    ),
];

const fn of(name: &'static str, label: &'static str, phrase: &'static str) -> Trigger {
    Trigger { name, label, phrase }
}

/// The words of a trigger that is known by name.
pub fn trigger(name: &str) -> Option<&'static Trigger> {
    TRIGGERS.iter().find(|trigger| trigger.name == name)
}

/// The fields of a rule, and how a person calls them.
const LABELS: &[(&str, &str)] = &[
    ("id", "Id"),
    ("name", "Name"),
    ("status", "Status"),
    ("scope", "Level and id"),
    ("scope.level", "Level"),
    ("scope.id", "Id at that level"),
    ("trigger", "Trigger"),
    ("include_test", "Test leads"),
    ("filters", "Filters"),
    ("filters.method", "Method"),
    ("filters.publisher", "Publisher"),
    ("filters.channel", "Channel of the lead"),
    ("filters.source", "Source"),
    ("filters.buyer", "Buyer"),
    ("filters.campaign", "Campaign"),
    ("filters.pingtree", "Ping tree"),
    ("filters.price", "Price"),
    ("filters.where", "Conditions"),
    ("action", "Action"),
    ("action.type", "Action"),
    ("action.token", "Slack app"),
    ("action.to", "Channel or member"),
    ("action.text", "Message"),
    ("action.url", "Webhook"),
    ("action.channel", "Webhook's channel"),
    ("action.username", "User name"),
    ("action.icon_url", "Icon"),
    ("action.thread", "Thread"),
    ("action.unfurl", "Link previews"),
    ("action.account", "CleverTap account"),
    ("action.identity", "Identity"),
    ("action.object_id", "CleverTap id"),
    ("action.event_name", "Event"),
    ("action.created_at", "When it happened"),
    ("action.properties", "Properties"),
    ("action.on_missing", "When a value is missing"),
    ("action.on_ambiguous", "When an answer is unclear"),
    ("action.expires_after", "Too late after"),
    ("action.when_busy", "When many wait"),
    ("action.max_rate", "Most messages"),
    ("action.over_long", "When the text is too long"),
];

/// How a person calls the field at `path`: `Price`, `State`, `Property Last Price`.
pub fn label(path: &str) -> String {
    if let Some((_, label)) = LABELS.iter().find(|(known, _)| *known == path) {
        return (*label).to_owned();
    }
    if let Some(name) = path.strip_prefix("action.properties.") {
        return format!("Property {}", shown(name));
    }
    let condition = path.strip_prefix("filters.where[");
    if let Some((condition, _)) = condition.and_then(|rest| rest.rsplit_once(']')) {
        return capital(&path_words(condition).unwrap_or_else(|| shown(condition).into_owned()));
    }
    capital(&shown(path))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars).collect()
}

/// The operators of conditions, each with its words before the value: `is one of`.
pub const OPERATORS: &[(&str, &str)] = &[
    ("eq", "is"),
    ("ne", "is not"),
    ("in", "is one of"),
    ("contains", "contains"),
    ("starts_with", "starts with"),
    ("ends_with", "ends with"),
    ("gt", "is more than"),
    ("gte", "is at least"),
    ("lt", "is less than"),
    ("lte", "is at most"),
    ("exists", "has a value"),
];

/// A path as a person says it: `$.consumer.first_name` is `first name`, `$.buyer.name` is `buyer name`. `None` for what
/// is no path.
pub fn path_words(path: &str) -> Option<String> {
    let path = Path::parse(path).ok()?;
    let mut steps = path.steps();
    // What everything is in says nothing.
    if let [Step::Name(root), rest @ ..] = steps
        && matches!(&**root, "consumer" | "fields" | "payload")
        && matches!(rest, [Step::Name(_), ..])
    {
        steps = rest;
    }
    let mut words = String::new();
    for step in steps {
        match step {
            Step::Name(name) => {
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(&shown(name).replace('_', " "));
            }
            Step::Index(index) => words.push_str(&format!(" {}", index.saturating_add(1))),
        }
    }
    Some(words)
}

/// A text of the rule, short, and never a secret that stands in the wrong place.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if is_open_secret(text) {
        return Cow::Borrowed("…");
    }
    match text.chars().nth(SHOWN_MAX) {
        Some(_) => Cow::Owned(truncate(text, SHOWN_MAX)),
        None => Cow::Borrowed(text),
    }
}

/// A value as it is told within a sentence or a list. A text that reads as something else stands in quotes.
pub(super) fn operand(value: &Value) -> String {
    match value {
        Value::String(text) if text.trim().is_empty() => "empty".to_owned(),
        Value::String(text) if is_quoted(text) => format!("“{}”", shown(text)),
        Value::String(text) => shown(text).into_owned(),
        Value::Null => "nothing".to_owned(),
        other => shown(&other.to_string()).into_owned(),
    }
}

fn is_quoted(text: &str) -> bool {
    text.contains([',', '"'])
        || text.trim() != text
        || matches!(text, "true" | "false")
        || amounts::decimal(text).is_some()
}

/// An id, which is the same as a text and as a number.
pub(super) fn id(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text).into_owned(),
        other => shown(&other.to_string()).into_owned(),
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn one_of(words: &[String]) -> String {
    let more = words.len().saturating_sub(LIST_MAX);
    let first = &words[..words.len() - more];
    match (first, more) {
        ([], _) => "none of an empty list".to_owned(),
        ([one], 0) => one.clone(),
        ([before @ .., last], 0) => format!("{} or {last}", before.join(", ")),
        (first, more) => format!("{} or {more} more", first.join(", ")),
    }
}

/// The elements of a list, or the value itself.
pub(super) fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => amounts::decimal(number.as_str()),
        Value::String(text) => amounts::decimal(text),
        _ => None,
    }
}

fn money(value: &Value) -> String {
    match number(value) {
        Some(number) => format!("${}", number.normalize()),
        None => operand(value),
    }
}

/// What a price filter asks for, by its operator: `$25 or more`, `$25 to $500`.
pub(super) fn price(operator: &str, value: &Value) -> String {
    match (operator, value.as_array().map(Vec::as_slice)) {
        ("between", Some([low, high])) => {
            let range = format!("{} to {}", money(low), money(high));
            match (number(low), number(high)) {
                (Some(low), Some(high)) if low > high => format!("{range} (no price fits)"),
                _ => range,
            }
        }
        ("gt", _) => format!("more than {}", money(value)),
        ("gte", _) => format!("{} or more", money(value)),
        ("lt", _) => format!("less than {}", money(value)),
        ("lte", _) => format!("{} or less", money(value)),
        _ => operand(value),
    }
}

/// What the filter on the price of a trigger's events is called: `Price`, `Payout` or `Revenue`.
pub fn price_label(trigger: &str) -> String {
    capital(lead::price_field(trigger))
}

/// What one operator of a condition asks for, in two parts: `is ` and `TX or FL`.
pub(super) fn test(operator: &str, value: &Value) -> (&'static str, String) {
    let all = || one_of(&elements(value).iter().map(operand).collect::<Vec<_>>());
    match operator {
        "eq" => ("is ", operand(value)),
        "in" => ("is ", all()),
        "ne" => ("is not ", operand(value)),
        "contains" => ("contains ", operand(value)),
        "starts_with" => ("starts with ", operand(value)),
        "ends_with" => ("ends with ", operand(value)),
        "gt" => ("is more than ", id(value)),
        "gte" => ("is ", format!("{} or more", id(value))),
        "lt" => ("is less than ", id(value)),
        "lte" => ("is ", format!("{} or less", id(value))),
        "exists" if value == &Value::Bool(false) => ("has ", "no value".to_owned()),
        "exists" => ("has ", "a value".to_owned()),
        _ => ("… ", operand(value)),
    }
}

/// A duration in words: `72 hours`. What is none stays as it is.
pub fn duration(written: &str) -> String {
    let Ok(duration) = dates::duration(written) else {
        return shown(written).into_owned();
    };
    let seconds = duration.as_secs();
    // Three days or less are told in hours, an hour or a day as one, as people count them.
    let unit = match seconds {
        0 => None,
        seconds if seconds % 86_400 == 0 && seconds > 3 * 86_400 => Some((86_400, "day")),
        seconds if seconds % 3600 == 0 => Some((3600, "hour")),
        seconds if seconds % 60 == 0 && seconds > 60 => Some((60, "minute")),
        _ => Some((1, "second")),
    };
    match unit {
        Some((unit, name)) if duration.subsec_nanos() == 0 => counted(seconds / unit, name),
        _ => shown(written).into_owned(),
    }
}

/// A rate in words: `20 an hour`. What is none stays as it is.
pub fn rate(written: &str) -> String {
    match dates::rate(written) {
        Ok((count, period)) => {
            let per = match period.as_secs() {
                1 => "a second",
                60 => "a minute",
                _ => "an hour",
            };
            format!("{count} {per}")
        }
        Err(_) => shown(written).into_owned(),
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// A secret by its name, never its value.
pub(super) fn secret(written: &Value) -> String {
    let text = |name: &str| written.get(name).and_then(Value::as_str);
    match (text("secret"), text("sealed").map(Sealed::parse)) {
        (Some(name), None) => shown(name).into_owned(),
        (None, Some(Ok(sealed))) => format!("a sealed value ({})", &sealed.fingerprint()[..6]),
        (None, Some(Err(_))) => "a sealed value that can't be read".to_owned(),
        _ => "…".to_owned(),
    }
}

/// The value of a field as a person reads it, by the field's path.
pub fn value(path: &str, written: &Value) -> String {
    // Whole, however long; a secret that stands in the open isn't told.
    let text = || {
        let text = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
        if is_open_secret(&text) { "…".to_owned() } else { text }
    };
    let ids = || one_of(&elements(written).iter().map(id).collect::<Vec<_>>());
    match path {
        "status" if written.as_str() == Some("shadow") => "on trial".to_owned(),
        "trigger" => match written.as_str().and_then(trigger) {
            Some(known) => known.label.to_owned(),
            None => text(),
        },
        "scope" if written.is_object() => {
            let part = |name: &str| written.get(name).map_or_else(|| "…".to_owned(), id);
            match (part("level"), part("id")) {
                (level, id) if id == "*" => format!("any {level}"),
                (level, id) => format!("{level} {id}"),
            }
        }
        "action.to" => match written.as_object().and_then(|to| to.iter().next()) {
            Some((kind, to)) => format!("{kind} {}", id(to)),
            None => text(),
        },
        "action.token" | "action.url" => secret(written),
        "action.account" if written.is_object() => match written.get("account_id") {
            Some(account) => format!("{}, which the rule describes", id(account)),
            None => "one that the rule describes".to_owned(),
        },
        "action.expires_after" => duration(&text()),
        "action.max_rate" => rate(&text()),
        "action.when_busy" => match written.get("digest_after").and_then(Value::as_str) {
            Some(after) => format!("one digest when they wait longer than {}", duration(after)),
            None => text(),
        },
        "filters.price" => match written.as_object().and_then(|price| price.iter().next()) {
            Some((operator, value)) => price(operator, value),
            None => text(),
        },
        path if path.starts_with("filters.where[") => condition(written),
        path if path.starts_with("filters.") && path != "filters.where" => ids(),
        _ => text(),
    }
}

/// What a condition asks for, without its path: `is TX or FL and has a value`.
fn condition(written: &Value) -> String {
    let tests = written.as_object().into_iter().flatten();
    let tests = tests.filter(|(name, _)| *name != "path");
    let words = tests.map(|(name, value)| {
        let (verb, value) = test(name, value);
        format!("{verb}{value}")
    });
    words.collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_known_trigger_has_its_words() {
        assert_eq!(TRIGGERS.map(|trigger| trigger.name), lead::TRIGGERS);
        let phrases: HashSet<_> = TRIGGERS.iter().map(|trigger| trigger.phrase).collect();
        let labels: HashSet<_> = TRIGGERS.iter().map(|trigger| trigger.label).collect();
        assert_eq!((phrases.len(), labels.len()), (13, 13), "no two read alike");
        assert_eq!(trigger("lms.lead_sold").unwrap().label, "Lead sold");
        assert_eq!(trigger("survey.answered"), None);
        assert_eq!(price_label("call_logic.publisher_earning_received"), "Payout");
    }

    #[test]
    fn every_field_has_its_label() {
        use crate::action::{self, ActionType};
        use crate::rules::read::{CONDITION_FIELDS, FILTER_FIELDS, RULE_FIELDS, SCOPE_FIELDS};
        let labelled = |path: &str| LABELS.iter().any(|(known, _)| *known == path);
        for name in RULE_FIELDS {
            assert!(labelled(name), "{name}");
        }
        for (object, names) in [
            ("scope", SCOPE_FIELDS),
            ("filters", FILTER_FIELDS),
            ("action", action::FIELDS),
        ] {
            for name in names {
                assert!(labelled(&format!("{object}.{name}")), "{object}.{name}");
            }
        }
        for name in ActionType::ALL.into_iter().flat_map(ActionType::fields) {
            assert!(labelled(&format!("action.{name}")), "{name}");
        }
        let operators: Vec<_> = OPERATORS.iter().map(|(name, _)| *name).collect();
        assert_eq!(operators, CONDITION_FIELDS[1..]);
        for (path, words) in [
            ("filters.price", "Price"),
            ("filters.where[$.consumer.state]", "State"),
            ("filters.where[$.fields['Car [new]']]", "Car [new]"),
            ("action.properties.Last Price", "Property Last Price"),
            ("frist", "Frist"),
        ] {
            assert_eq!(label(path), words);
        }
    }

    #[test]
    fn paths_durations_and_rates_read_as_words() {
        for (path, words) in [
            ("$.consumer.first_name", Some("first name")),
            ("$.buyer.name", Some("buyer name")),
            ("fields.vehicle_year", Some("vehicle year")),
            ("$.payload.items[0].sku", Some("items 1 sku")),
            ("$.payload", Some("payload")),
            ("$['First Name']", Some("First Name")),
            ("$..", None),
        ] {
            assert_eq!(path_words(path).as_deref(), words, "{path}");
        }
        for (written, words) in [
            ("72h", "72 hours"),
            ("1d", "24 hours"),
            ("7d", "7 days"),
            ("90s", "90 seconds"),
            ("60s", "60 seconds"),
            ("120s", "2 minutes"),
            ("1h", "1 hour"),
            ("1s", "1 second"),
            ("1h30m", "90 minutes"),
            ("500ms", "500ms"),
            ("soon", "soon"),
        ] {
            assert_eq!(duration(written), words, "{written}");
        }
        assert_eq!(rate("20/h"), "20 an hour");
        assert_eq!(rate("1/s"), "1 a second");
        assert_eq!(rate("x"), "x");
    }

    #[test]
    fn values_read_as_words_and_never_tell_a_secret() {
        for (path, written, words) in [
            ("scope", json!({"level": "product", "id": 12}), "product 12"),
            ("scope", json!({"level": "campaign", "id": "*"}), "any campaign"),
            ("filters.price", json!({"between": [25, "500.50"]}), "$25 to $500.5"),
            ("filters.price", json!({"gte": 25}), "$25 or more"),
            ("filters.publisher", json!(["3401", 3402, "a"]), "3401, 3402 or a"),
            (
                "filters.where[$.a]",
                json!({"path": "$.a", "in": ["TX", "5", 5], "exists": true}),
                "is TX, “5” or 5 and has a value",
            ),
            ("status", json!("shadow"), "on trial"),
            ("trigger", json!("lms.lead_sold"), "Lead sold"),
            ("action.to", json!({"channel": "C1"}), "channel C1"),
            ("action.token", json!({"secret": "sales-bot"}), "sales-bot"),
            ("action.token", json!("xoxb-1"), "…"),
            ("action.token", json!({"secret": "xoxb-1"}), "…"),
            ("action.text", json!("the token xoxb-1"), "…"),
            ("action.max_rate", json!("20/h"), "20 an hour"),
            (
                "action.when_busy",
                json!({"digest_after": "60s"}),
                "one digest when they wait longer than 60 seconds",
            ),
            ("action.unfurl", json!(false), "false"),
            ("action.text", json!("a\nb"), "a\nb"),
        ] {
            assert_eq!(value(path, &written), words, "{path} {written}");
        }
        let many: Vec<Value> = (0..20).map(Value::from).collect();
        assert!(value("filters.buyer", &many.into()).ends_with("7 or 12 more"));
    }
}
