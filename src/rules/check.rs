//! Warnings about rules that read well but look like a mistake. None of them refuses a rule.
//!
//! Most are about filters and paths that can hold for no event, judged by the values that a lead event's own fields
//! can have. In an inlet's event a null field is looked up in the payload, which can be anything, so rules at inlet
//! level are spared that judgement.

use rust_decimal::Decimal;
use serde_json::Value;

use super::condition::{Comparison, Condition, Operand, Test};
use super::{Level, Rule, is_unsold};
use crate::action::clevertap::Account;
use crate::action::{Action, Provider};
use crate::credential::SecretName;
use crate::lead;
use crate::lead::kind::{Kind, kind};
use crate::path::{Path, Step};
use crate::reader::{Problem, closest, distance};

/// The bytes of JSON that a rule has at most, so that all that is kept about it fits into a record: its change, with what
/// was before and after.
pub const RULE_MAX: usize = 128 * 1024;

/// A longer list under `where` is pointed out.
const LIST_MAX: usize = 1000;

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
    if is_unsold(&rule.trigger) {
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
    if rule.scope.level != Level::Inlet {
        for (field, template) in rule.action.kind.templates() {
            for message in template.paths().filter_map(unknown_path) {
                warn(&field, message);
            }
        }
    }
    for (field, template) in rule.action.kind.templates() {
        if let Some(message) = lone_brace(template.as_str()) {
            warn(&field, message);
        }
    }
    rule.action.kind.check(&mut warn);
    costly(rule, &mut warn);
    warnings
}

/// What a rule costs beyond others: everything becomes a job, or each event is held against a long list.
fn costly(rule: &Rule, warn: &mut impl FnMut(&str, String)) {
    if rule.scope.id.is_none() && rule.filters.is_empty() {
        let becomes = match rule.action.kind.action().provider() {
            Provider::Slack => "message",
            Provider::Clevertap => "record",
        };
        let (trigger, level) = (&rule.trigger, rule.scope.level.as_str());
        let message = format!(
            "every event of {trigger} of any {level} becomes a {becomes}; add a filter, or leave it so where that is meant"
        );
        warn("filters", message);
    }
    for (at, condition) in rule.filters.conditions.iter().enumerate() {
        for test in &condition.tests {
            if let Test::In(operands) = test
                && operands.len() > LIST_MAX
            {
                let message = format!(
                    "has {} values, and every event that comes so far is held against each; name ids in a filter, where lists \
                     cost nothing, or make several rules of it",
                    operands.len()
                );
                warn(&format!("filters.where[{at}].in"), message);
            }
        }
    }
}

/// A path in one pair of braces, which was meant to be a placeholder.
fn lone_brace(text: &str) -> Option<String> {
    let path = text.match_indices("{$.").find_map(|(at, _)| {
        let path = text[at + 1..].split('}').next()?;
        let is_path = |c: char| c.is_alphanumeric() || "$._-[]'* |".contains(c);
        let is_alone = !text[..at].ends_with('{') && text[at + 1 + path.len()..].starts_with('}');
        (is_alone && path.len() <= 100 && path.chars().all(is_path)).then_some(path)
    })?;
    Some(format!(
        "{{{path}}} goes out as it stands; a placeholder has two braces, {{{{{path}}}}}"
    ))
}

/// A channel by its name. Slack limits and remembers channels by their ids, so that a name is a lane of its own.
fn named_channel(written: &Value) -> Option<Problem> {
    let action = written.get("action")?;
    let channel = action.get("to")?.get("channel")?.as_str()?;
    (channel.starts_with('#') && action.get("type")? == "slack_message").then(|| Problem {
        field: "action.to.channel".to_owned(),
        message: "is a channel's name, which can change; write its id, such as C0123ABCD, from the foot of the \
                  channel's details"
            .to_owned(),
    })
}

/// Refusals of new writes alone. A rule of the topic that breaks one stays in force.
pub fn refusals(written: &Value) -> Vec<Problem> {
    let spelt = |(field, name): (String, &str)| {
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
        Some(Problem { field, message })
    };
    let named = written.get("action").map(Action::named_secrets).unwrap_or_default();
    size(written)
        .into_iter()
        .chain(named_channel(written))
        .chain(named.into_iter().filter_map(spelt))
        .collect()
}

/// Whether the config has the account that a rule names: `Err` refuses the rule, `Ok(Some(_))`
/// warns, as there is nothing to hold the name against when the config has no account at all.
pub fn account(rule: &Rule, known: &[&str]) -> Result<Option<Problem>, Problem> {
    let account = match rule.action.kind.address().account {
        Some(Account::Named(name)) if !known.contains(&&**name) => name,
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

/// A doubt about a rule whose inlet the config doesn't have.
pub fn inlet(rule: &Rule, known: &[&str]) -> Option<Problem> {
    let id = rule.scope.id.as_deref().filter(|_| rule.scope.level == Level::Inlet)?;
    if known.contains(&id) {
        return None;
    }
    let cure = match closest(id, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "add it under inlets, or no event comes from it".to_owned(),
    };
    Some(Problem {
        field: "scope.id".into(),
        message: format!("is none of the config's inlets; {cure}"),
    })
}

fn misspelt_trigger(trigger: &str) -> Option<&'static str> {
    if lead::TRIGGERS.contains(&trigger) {
        return None;
    }
    // Triggers are open text and new ones come up, so that only a near miss is worth a word.
    lead::TRIGGERS.into_iter().find(|known| distance(trigger, known) <= 2)
}

/// A rejected lead was sold to no one.
fn never_on_rejection(rule: &Rule, warn: &mut impl FnMut(&str, String)) {
    let message = |what: &str| format!("a lead_rejected event has no {what}, so this can never hold; leave it out");
    if rule.scope.level == Level::Campaign {
        warn("scope", message("campaign"));
    }
    for filter in &rule.filters.ids {
        if filter.party.is_of_sale() {
            let name = filter.party.as_str();
            warn(&format!("filters.{name}"), message(name));
        }
    }
    if rule.filters.price.is_some() {
        warn("filters.price", message("price"));
    }
}

/// The fault of a path that leads nowhere in a lead event.
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

#[cfg(test)]
mod tests;
