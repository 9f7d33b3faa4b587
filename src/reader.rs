//! Reads what people write (rules, inlets) from JSON values, one field at a time, and finds every problem at once.
//!
//! A `Reader` gathers the problems. Each names the field, the fault and the cure, and never quotes a value, since a
//! token may stand where it shouldn't. A method of the reader answers `None` for a wrong field as for a missing one,
//! so that reading goes on and finds the rest. A null field counts as left out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::{Map, Value};

use crate::credential::{Secret, SecretName};
use crate::sealed::Sealed;
use crate::template::Template;
use crate::text::truncate;
use crate::{amounts, dates};

mod refusal;
mod shared;

pub use refusal::{Refusal, Refusals};
pub(crate) use shared::Shared;

/// The most problems that are reported; a text that is no rule at all has one for each of its values.
const PROBLEMS_MAX: usize = 100;
/// The most characters of a problem's path, and of its message: names in both are the writer's.
const FIELD_SHOWN: usize = 300;
const MESSAGE_SHOWN: usize = 1000;
pub const SECRET_FIELDS: &[&str] = &["secret", "sealed"];

/// A fault or a doubt about a text, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path to the field, such as `filters.price.between`.
    pub field: String,
    /// The reason and the cure.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// It can read one text after the other.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    problems: Vec<Problem>,
    /// Problems beyond those.
    more: usize,
    pub(crate) shared: Shared,
}

/// An object of a rule and the path to it.
pub(crate) struct Object<'v> {
    pub(crate) field: String,
    pub(crate) members: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
    pub(crate) fn at(&self, name: &str) -> String {
        member(&self.field, name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'v Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }
}

impl Reader {
    /// Notes a problem; `None`, so that what is wrong reads as what is left out.
    pub(crate) fn refuse<T>(&mut self, field: impl Into<String>, message: impl Into<String>) -> Option<T> {
        let mut field = field.into();
        if field.is_empty() {
            field.push_str("rule");
        }
        if !self.tells_more() {
            self.more += 1;
            return None;
        }
        self.problems.push(Problem {
            field: truncate(&field, FIELD_SHOWN),
            message: truncate(&message.into(), MESSAGE_SHOWN),
        });
        None
    }

    fn tells_more(&self) -> bool {
        self.problems.len() < PROBLEMS_MAX
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Every problem, or the first ones and how many more there are. From here on there is none.
    pub(crate) fn problems(&mut self) -> Vec<Problem> {
        let (mut problems, more) = (std::mem::take(&mut self.problems), std::mem::take(&mut self.more));
        if more > 0 {
            problems.push(Problem {
                field: "rule".to_owned(),
                message: format!("has {more} problems more; mend these first"),
            });
        }
        problems
    }

    /// Tokens and webhook URLs anywhere in the rule; those in place of a secret's name too.
    pub(crate) fn open_secrets(&mut self, field: &str, value: &Value) {
        // Hardly anybody writes one, so that where it would stand is found out only then.
        if has_open_secret(value) {
            self.open_secrets_below(&mut field.to_owned(), value);
        }
    }

    /// `field` is the same afterwards. It is one text for all values, which may be many and far down.
    fn open_secrets_below(&mut self, field: &mut String, value: &Value) {
        let length = field.len();
        match value {
            Value::String(text) if is_open_secret(text) => {
                self.refuse::<()>(field.as_str(), STORE_IT);
            }
            Value::Array(list) => {
                for (at, element) in list.iter().enumerate() {
                    field.push_str(&format!("[{at}]"));
                    self.open_secrets_below(field, element);
                    field.truncate(length);
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    push_member(field, name);
                    if is_open_secret(name) {
                        self.refuse::<()>(field.as_str(), STORE_IT);
                    }
                    self.open_secrets_below(field, value);
                    field.truncate(length);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn object<'v>(&mut self, field: &str, value: &'v Value, known: &[&str]) -> Option<Object<'v>> {
        let Some(members) = value.as_object() else {
            return self.refuse(field, format!("needs an object with {}", known.join(", ")));
        };
        let object = Object {
            field: field.to_owned(),
            members,
        };
        self.unknown_fields(&object, known);
        Some(object)
    }

    pub(crate) fn unknown_fields(&mut self, object: &Object<'_>, known: &[&str]) {
        for name in object.members.keys().filter(|name| !known.contains(&name.as_str())) {
            // What a name may be meant for takes a while to find, and isn't said any more.
            let meant = self
                .tells_more()
                .then(|| closest(name, known.iter().copied()))
                .flatten();
            let message = match meant {
                Some(meant) => format!("unknown field; did you mean {meant}?"),
                None => format!("unknown field; known here are {}", known.join(", ")),
            };
            self.refuse::<()>(object.at(name), message);
        }
    }

    pub(crate) fn required<'v>(&mut self, object: &Object<'v>, name: &str, cure: &str) -> Option<&'v Value> {
        let found = object.get(name);
        if found.is_none() {
            return self.refuse(object.at(name), format!("is missing; {cure}"));
        }
        found
    }

    /// The one of `names` that is given, which must be one alone.
    pub(crate) fn exactly_one<'n>(&mut self, object: &Object<'_>, names: &[&'n str]) -> Option<&'n str> {
        let given: Vec<_> = names
            .iter()
            .copied()
            .filter(|name| object.get(name).is_some())
            .collect();
        match given[..] {
            [name] => Some(name),
            [] => self.refuse(object.field.as_str(), format!("needs one of {}", names.join(", "))),
            _ => self.refuse(
                object.field.as_str(),
                format!("takes one of {}, not several", given.join(", ")),
            ),
        }
    }

    pub(crate) fn choice<T: Copy>(&mut self, object: &Object<'_>, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = object.get(name)?;
        chosen(value, choices).or_else(|| self.choice_of(&object.at(name), value, choices))
    }

    pub(crate) fn choice_of<T: Copy>(&mut self, field: &str, value: &Value, choices: &[(&str, T)]) -> Option<T> {
        if let Some(chosen) = chosen(value, choices) {
            return Some(chosen);
        }
        let names = || choices.iter().map(|(name, _)| *name);
        let all = names().collect::<Vec<_>>().join(", ");
        let text = value.as_str().filter(|_| self.tells_more());
        match text.and_then(|text| closest(text, names())) {
            Some(meant) => self.refuse(field, format!("is none of {all}; did you mean {meant}?")),
            None => self.refuse(field, format!("needs one of {all}")),
        }
    }

    pub(crate) fn flag(&mut self, object: &Object<'_>, name: &str) -> Option<bool> {
        match object.get(name)? {
            Value::Bool(flag) => Some(*flag),
            _ => self.refuse(object.at(name), "needs true or false, without quotes"),
        }
    }

    pub(crate) fn text<'v>(&mut self, object: &Object<'v>, name: &str) -> Option<&'v str> {
        match object.get(name)? {
            Value::String(text) if !text.trim().is_empty() => Some(text),
            Value::String(_) => self.refuse(object.at(name), "is blank; fill it in or leave it out"),
            Value::Array(_) | Value::Object(_) => self.refuse(object.at(name), "needs one text"),
            _ => self.refuse(object.at(name), "needs text; put it in quotes"),
        }
    }

    /// A text that other rules have, too.
    pub(crate) fn shared_text(&mut self, object: &Object<'_>, name: &str) -> Option<Arc<str>> {
        let text = self.text(object, name)?;
        Some(self.shared.text(text))
    }

    pub(crate) fn template(&mut self, object: &Object<'_>, name: &str) -> Option<Template> {
        let text = self.text(object, name)?;
        self.parse_template(&object.at(name), text)
    }

    pub(crate) fn required_template(&mut self, object: &Object<'_>, name: &str, cure: &str) -> Option<Template> {
        self.required(object, name, cure)?;
        self.template(object, name)
    }

    pub(crate) fn parse_template(&mut self, field: &str, text: &str) -> Option<Template> {
        match self.shared.template(text) {
            Ok(template) => Some(template),
            Err(error) => self.refuse(field, format!("column {}: {}", error.column, error.message)),
        }
    }

    pub(crate) fn secret(&mut self, action: &Object<'_>, name: &str) -> Option<Secret> {
        let cure = "write {secret: NAME}, a name in the secret store, or {sealed: \"...\"} from leadlane secrets seal";
        let value = self.required(action, name, cure)?;
        let secret = self.secret_object(&action.at(name), value, SECRET_FIELDS)?;
        if self.exactly_one(&secret, SECRET_FIELDS)? == "sealed" {
            return Some(Secret::Sealed(self.sealed(&secret)?));
        }
        match secret.get("secret")?.as_str().and_then(SecretName::new) {
            Some(name) => Some(Secret::Named(self.shared.secret(name))),
            None => self.refuse(
                secret.at("secret"),
                "needs a name of 1 to 64 letters, digits, _ and -, not starting with sealed-",
            ),
        }
    }

    /// The object that a secret is written as; a text in its place may be the secret itself.
    pub(crate) fn secret_object<'v>(&mut self, field: &str, value: &'v Value, known: &[&str]) -> Option<Object<'v>> {
        match value.as_str() {
            // Slack's own secrets are found wherever they stand.
            Some(text) if is_open_secret(text) => None,
            Some(_) => self.refuse(field, STORE_IT),
            None => self.object(field, value, known),
        }
    }

    pub(crate) fn sealed(&mut self, secret: &Object<'_>) -> Option<Sealed> {
        let cure = "write {sealed: \"...\"} as leadlane secrets seal prints it";
        let value = self.required(secret, "sealed", cure)?;
        match Sealed::parse(value.as_str().unwrap_or_default()) {
            Ok(sealed) => Some(sealed),
            Err(error) => self.refuse(secret.at("sealed"), format!("{error}; {cure}")),
        }
    }

    /// The value itself or, of a list, its elements, each with its field.
    pub(crate) fn one_or_list<'v>(&mut self, field: &str, value: &'v Value, cure: &str) -> Vec<(String, &'v Value)> {
        match value.as_array() {
            None => vec![(field.to_owned(), value)],
            Some(list) if list.is_empty() => {
                self.refuse::<()>(field, format!("an empty list holds for nothing; {cure}"));
                Vec::new()
            }
            Some(list) => list
                .iter()
                .enumerate()
                .map(|(at, value)| (format!("{field}[{at}]"), value))
                .collect(),
        }
    }

    /// An id; an unquoted number is taken as its text.
    pub(crate) fn id<'v>(&mut self, field: &str, value: &'v Value) -> Option<&'v str> {
        match value {
            Value::String(text) if text.is_empty() => self.refuse(field, "is blank; write an id"),
            Value::String(text) => Some(text),
            // JSON writes such a number in another way than YAML does, so that its text is not its own.
            Value::Number(number) if !number.as_str().contains(['e', 'E']) => Some(number.as_str()),
            _ => self.refuse(field, "needs an id; put it in quotes"),
        }
    }

    pub(crate) fn number(&mut self, field: &str, value: &Value) -> Option<Decimal> {
        let text = match value {
            Value::Number(number) => number.as_str(),
            Value::String(text) => text,
            _ => "",
        };
        match amounts::decimal(text) {
            Some(number) => Some(number),
            None => self.refuse(field, "needs a number of at most 28 digits, such as 25 or 99.5"),
        }
    }

    /// A duration; `zero` is what is said of none.
    pub(crate) fn duration(&mut self, field: &str, value: &Value, zero: &str) -> Option<Duration> {
        match value.as_str().map(dates::duration) {
            Some(Ok(duration)) if duration.is_zero() => self.refuse(field, zero),
            Some(Ok(duration)) => Some(duration),
            Some(Err(error)) => self.refuse(field, error.to_string()),
            None => self.refuse(field, "needs a duration with its unit, such as 90s, 10m or 24h"),
        }
    }
}

fn chosen<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Option<T> {
    let text = value.as_str()?;
    let (_, chosen) = choices.iter().find(|(name, _)| *name == text)?;
    Some(*chosen)
}

/// The known word that `word` was probably meant to be.
pub(crate) fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let typos_max = 1 + word.chars().count() / 4;
    let distances = known
        .into_iter()
        .map(|known| (distance(&word, &known.to_lowercase()), known));
    let near = distances.filter(|(distance, _)| *distance <= typos_max);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// `field.name`, or `field['any name']` for what is no plain name.
pub(crate) fn member(field: &str, name: &str) -> String {
    let mut path = field.to_owned();
    push_member(&mut path, name);
    path
}

fn push_member(field: &mut String, name: &str) {
    // The message names the key for the one who made the mistake, but not when the name is a secret itself.
    let name = if is_open_secret(name) { "…" } else { name };
    let plain = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
    if !plain {
        field.push_str(&format!("['{name}']"));
    } else {
        if !field.is_empty() {
            field.push('.');
        }
        field.push_str(name);
    }
}

/// Whether a Slack token or URL stands anywhere in a value, in names too.
fn has_open_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => is_open_secret(text),
        Value::Array(list) => list.iter().any(has_open_secret),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| is_open_secret(name) || has_open_secret(value)),
        _ => false,
    }
}

/// Whether a text holds a Slack token or the secret part of a Slack URL, in whatever case.
pub(crate) fn is_open_secret(text: &str) -> bool {
    const TOKENS: &[&str] = &[
        "xoxa-", "xoxb-", "xoxc-", "xoxd-", "xoxe-", "xoxe.", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-",
    ];
    const URLS: &[&str] = &[
        "hooks.slack.com/services/",
        "hooks.slack.com/workflows/",
        "hooks.slack.com/triggers/",
    ];
    // Every text of every rule is looked through, so that most places cost one comparison.
    (text.bytes().enumerate()).any(|(at, first)| {
        let parts = match first.to_ascii_lowercase() {
            b'x' => TOKENS,
            b'h' => URLS,
            _ => return false,
        };
        let rest = &text.as_bytes()[at..];
        let begins = |part: &&str| {
            let found = rest.get(..part.len());
            found.is_some_and(|found| found.eq_ignore_ascii_case(part.as_bytes()))
        };
        parts.iter().any(begins)
    })
}

const STORE_IT: &str = "a secret must not stand in the open; store it as the file NAME in secrets.dir or in the variable \
     LEADLANE_SECRET_<NAME> and write {secret: NAME}, or seal it with leadlane secrets seal and write {sealed: \"...\"}";

/// How many characters to insert, drop, replace or swap with the next to make one word the other.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().take(64).collect();
    let other: Vec<char> = other.chars().take(64).collect();
    // The row before the last, the last, and the one that is filled.
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let (mut before, mut row) = (last.clone(), last.clone());
    for (i, a) in one.iter().enumerate() {
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_what_makes_one_word_the_other() {
        for (one, other, wanted) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("lead_sold", "lead_sold", 0),
            ("lead_sold", "lead_solt", 1),
            ("lead_sold", "laed_sold", 1),
            ("lead_sold", "led_soldd", 2),
            ("kitten", "sitting", 3),
            ("größe", "grösse", 2),
        ] {
            assert_eq!(distance(one, other), wanted, "{one} {other}");
            assert_eq!(distance(other, one), wanted, "{other} {one}");
        }
    }

    #[test]
    fn a_secret_is_found_wherever_it_stands_and_whatever_its_case() {
        for open in [
            "xoxb-1",
            "é XOXE.1",
            "xxoxp-",
            "an xApP-1-A",
            "HTTPS://HOOKS.SLACK.COM/SERVICES/T/B/X",
            "hhooks.slack.com/workflows/",
            "http://hooks.slack.com/triggers/",
        ] {
            assert!(is_open_secret(open), "{open}");
        }
        for closed in [
            "",
            "x",
            "xox",
            "xoxb",
            "xoxf-1",
            "hooks.slack.com/",
            "hooks.slack.com/docs",
            "é",
        ] {
            assert!(!is_open_secret(closed), "{closed}");
        }
    }
}
