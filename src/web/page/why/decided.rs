//! What decided whether a rule matched, in words.

use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::rules::Failed;
use crate::rules::words;
use crate::text::mask::mask_named;
use crate::web::page::part::{count, status};
use crate::web::page::words::money;

/// Whether a rule matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Matched,
    /// Everything but its status holds.
    Paused,
    No,
}

pub(super) fn verdict(failed: &[Failed]) -> Verdict {
    match failed {
        [] => Verdict::Matched,
        [only] if only.path == "status" => Verdict::Paused,
        _ => Verdict::No,
    }
}

impl Verdict {
    pub(super) fn status(self) -> Markup {
        match self {
            Self::Matched => status("ok", "check", "Matched"),
            Self::Paused => status("off", "pause", "Was paused"),
            Self::No => status("off", "x", "No match"),
        }
    }
}

/// The conditions that failed, the first in full.
pub(super) fn decided(failed: &[Failed], trigger: &str) -> Markup {
    let conditions: Vec<&Failed> = failed.iter().filter(|failed| failed.path != "status").collect();
    html! {
        @match conditions.as_slice() {
            [] if failed.is_empty() => "All of its filters hold",
            [] => "All of its filters hold, and it was paused",
            [first, rest @ ..] => ({
                let (label, must) = must(first, trigger);
                html! {
                    b { (label) } " " (must) br;
                    span.sub { "this lead: " (found(first)) }
                    @if !rest.is_empty() { br; span.sub { "and " (count(rest.len() as u64, "other condition", "other conditions")) } }
                }
            }),
        }
    }
}

/// What a condition met.
pub(in crate::web::page) fn found(failed: &Failed) -> String {
    match &failed.found {
        None => "nothing".to_owned(),
        Some(found) if failed.path.starts_with("filters.price.") => money(found, None),
        Some(found) => mask_named(last_name(&failed.path, &failed.wanted), found).into_owned(),
    }
}

/// The name of the field that a condition looks at, which says whether it is a phone number.
fn last_name<'f>(path: &'f str, wanted: &'f str) -> &'f str {
    let of = if path.starts_with("filters.where[") {
        condition(wanted).map_or(wanted, |(path, ..)| path)
    } else {
        path
    };
    of.rsplit(['.', '['])
        .next()
        .unwrap_or(of)
        .trim_matches(['\'', '"', ']'])
}

/// What a condition is about, and what the rule asks for.
pub(in crate::web::page) fn must(failed: &Failed, trigger: &str) -> (String, String) {
    let wanted = &failed.wanted;
    if let Some(operator) = failed.path.strip_prefix("filters.price.") {
        let asked = match operator {
            "between" => wanted
                .split_once(" and ")
                .map_or_else(|| wanted.as_str().into(), |(low, high)| Value::from(vec![low, high])),
            _ => Value::from(wanted.as_str()),
        };
        let price = Value::Object(Map::from_iter([(operator.to_owned(), asked)]));
        return (
            words::price_label(trigger),
            format!("must be {}", words::value("filters.price", &price)),
        );
    }
    if failed.path.starts_with("filters.where[") {
        return match condition(wanted) {
            Some((path, must, told)) => {
                let label = words::label(&format!("filters.where[{path}]"));
                let operand = operand(must, told);
                (label, format!("{must} {}", mask_named(last_name(path, ""), &operand)))
            }
            None => ("A condition".to_owned(), wanted.clone()),
        };
    }
    match failed.path.as_str() {
        "include_test" => ("Test leads".to_owned(), "are left aside by this rule".to_owned()),
        "scope" => ("The lead".to_owned(), format!("must be of {wanted}")),
        "trigger" => (
            "Trigger".to_owned(),
            format!("must be {}", crate::web::page::words::trigger(wanted)),
        ),
        path => (words::label(path), format!("must be {wanted}")),
    }
}

/// The operators of conditions, as the rules tell them, and what each asks for.
const OPERATORS: [(&str, &str); 11] = [
    ("eq", "must be"),
    ("ne", "must not be"),
    ("in", "must be"),
    ("contains", "must contain"),
    ("starts_with", "must start with"),
    ("ends_with", "must end with"),
    ("gt", "must be more than"),
    ("gte", "must be at least"),
    ("lt", "must be less than"),
    ("lte", "must be at most"),
    ("exists", "must have"),
];

/// The path of a condition as the rules tell it, what its operator asks for, and the operand.
fn condition(wanted: &str) -> Option<(&str, &'static str, &str)> {
    let found = OPERATORS.iter().filter_map(|(operator, must)| {
        let at = wanted.find(&format!(" {operator} "))?;
        let operand = &wanted[at + 2 + operator.len()..];
        Some((at, (&wanted[..at], *must, operand)))
    });
    found.min_by_key(|(at, _)| *at).map(|(_, found)| found)
}

/// An operand as a person reads it: `TX or FL`.
fn operand(must: &str, told: &str) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match serde_json::from_str::<Value>(told) {
        Ok(Value::Bool(exists)) if must == "must have" => if exists { "a value" } else { "no value" }.to_owned(),
        Ok(Value::Array(all)) => all.iter().map(text).collect::<Vec<_>>().join(" or "),
        Ok(value) => text(&value),
        Err(_) => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(path: &str, wanted: &str, found: Option<&str>) -> Failed {
        Failed {
            path: path.to_owned(),
            wanted: wanted.to_owned(),
            found: found.map(str::to_owned),
        }
    }

    #[test]
    fn a_condition_is_told_in_words() {
        for (path, wanted, label, told) in [
            ("filters.price.gte", "45", "Price", "must be $45 or more"),
            ("filters.price.between", "10 and 99.5", "Price", "must be $10 to $99.5"),
            ("filters.buyer", "219", "Buyer", "must be 219"),
            ("filters.method", "FORM", "Method", "must be FORM"),
            (
                "filters.where[0]",
                "$.consumer.state in [\"TX\", \"FL\"]",
                "State",
                "must be TX or FL",
            ),
            (
                "filters.where[1]",
                "$.fields['car age'] gte 5",
                "Car age",
                "must be at least 5",
            ),
            (
                "filters.where[2]",
                "$.payload.plan exists true",
                "Plan",
                "must have a value",
            ),
        ] {
            assert_eq!(
                must(&failed(path, wanted, None), "lms.lead_sold"),
                (label.to_owned(), told.to_owned()),
                "{path}"
            );
        }
    }

    #[test]
    fn a_value_that_was_met_is_masked_by_its_name() {
        let drawn =
            |path: &str, wanted: &str, found: &str| decided(&[failed(path, wanted, Some(found))], "x").into_string();
        assert!(!drawn("filters.where[0]", "$.consumer.phone eq 1", "5125550123").contains("5125550123"));
        assert!(!drawn("filters.where[0]", "$.consumer.email eq a", "ana@example.com").contains("ana@"));
        assert!(drawn("filters.where[0]", "$.consumer.state in [\"TX\"]", "<b>CA").contains("&lt;b&gt;CA"));
        assert!(drawn("filters.publisher", "3401 or 3402", "3400").contains("this lead: 3400"));
    }

    #[test]
    fn a_rule_that_only_its_status_kept_was_paused() {
        assert_eq!(verdict(&[]), Verdict::Matched);
        assert_eq!(
            verdict(&[failed("status", "active or shadow", Some("paused"))]),
            Verdict::Paused
        );
        assert_eq!(verdict(&[failed("filters.buyer", "1", None)]), Verdict::No);
    }
}
