//! A rule that somebody edits: what the form holds, and what the form's own buttons do to it.
//!
//! A token or a webhook's URL that is typed is sealed at once, before anything else is looked at.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::Config;
use crate::credential::SecretName;
use crate::desk::rules::Draft;
use crate::desk::{Problem, form};
use crate::reader::is_open_secret;
use crate::rules::{Level, Rule};
use crate::slack::look_ups::Kind;
use crate::web::names::Receiver;
use crate::web::rules::is_own_word;

/// The fields that a secret is typed in, and what they are sealed as.
const TYPED: [(&str, &str); 2] = [
    ("action.token.typed", "action.token"),
    ("action.url.typed", "action.url"),
];

/// A rule on its way through the form.
#[derive(Debug, Clone)]
pub(super) struct Editing {
    /// The id of the rule that is edited; none for a new one.
    pub(super) id: Option<String>,
    /// The version that its author saw.
    pub(super) seen: Option<i64>,
    /// What the fields hold, in the form's order.
    pub(super) fields: Vec<(String, String)>,
    /// The parts that only YAML can show.
    pub(super) kept: Vec<String>,
    pub(super) draft: Draft,
    /// What the form can't hold, and what can't be sealed. These are told at once.
    pub(super) problems: Vec<Problem>,
    /// Whether the rule's own faults are told too: once somebody tried to save it.
    pub(super) is_tried: bool,
    /// The name of the field to go to.
    pub(super) focus: Option<String>,
}

impl Editing {
    /// A rule as it is written.
    pub(super) fn of(config: &Config, id: Option<String>, seen: Option<i64>, rule: Value) -> Self {
        let form::Form { fields, kept } = form::form(&rule);
        Self {
            id,
            seen,
            fields,
            kept,
            draft: Draft::of(config, rule),
            problems: Vec::new(),
            is_tried: false,
            focus: None,
        }
    }

    /// A rule as it was posted. `now` is in epoch milliseconds.
    pub(super) fn posted(config: &Config, id: Option<String>, posted: &[(String, String)], now: i64) -> Self {
        let get = |name: &str| last(posted, name);
        let seen = get("version").and_then(|version| version.trim().parse().ok());
        let mut fields: Vec<(String, String)> = posted.iter().filter(|(name, _)| is_of_rule(name)).cloned().collect();
        let mut problems = seal(config, posted, &mut fields, now);
        let focus = [("add", true), ("remove", false), ("drop", false)]
            .into_iter()
            .find_map(|(order, adds)| {
                let what = get(order)?;
                match order {
                    "add" => add(&mut fields, what),
                    "remove" => remove(&mut fields, what),
                    _ => drop_one(&mut fields, what),
                }
                .filter(|_| adds)
            });
        if let Some(id) = &id {
            set(&mut fields, "id", id.clone());
        } else if get("id").is_none_or(|id| id.trim().is_empty())
            && let Some(name) = get("name").map(id_of_name).filter(|id| !id.is_empty())
        {
            let id = if is_own_word(&name) {
                format!("{name}-rule")
            } else {
                name
            };
            set(&mut fields, "id", id);
        }
        let read = form::rule(&fields);
        problems.extend(read.problems);
        Self {
            id,
            seen,
            kept: form::form(&read.rule).kept,
            draft: Draft::of(config, read.rule),
            fields,
            problems,
            is_tried: false,
            focus,
        }
    }

    pub(super) fn rule(&self) -> &Value {
        &self.draft.written
    }

    /// What a field holds; of one that stands there twice the last.
    pub(super) fn value(&self, name: &str) -> &str {
        last(&self.fields, name).unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    pub(super) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e str> {
        let fields = self.fields.iter().filter(move |(field, _)| field == name);
        fields.map(|(_, value)| value.as_str())
    }

    /// The numbers of the rows below `name`, in order.
    pub(super) fn rows(&self, name: &str) -> Vec<usize> {
        rows(&self.fields, name)
    }

    pub(super) fn level(&self) -> Level {
        let level = self.value("scope.level");
        let known = Level::ALL.into_iter().find(|known| known.as_str() == level);
        known.unwrap_or(Level::Product)
    }

    /// Who a message of an app goes to, where its token is named.
    pub(super) fn receiver(&self) -> Option<Receiver> {
        let (token, id) = (
            self.value("action.token.secret").trim(),
            self.value("action.to.id").trim(),
        );
        let is_named = self.value("action.type") == "slack_message" && !self.has("action.token.sealed");
        Some(Receiver {
            token: SecretName::new(token).filter(|_| is_named && !id.is_empty())?,
            kind: match self.value("action.to.kind") {
                "member" => Kind::User,
                _ => Kind::Channel,
            },
            id: id.to_owned(),
        })
    }

    /// The rule as it is previewed: where only the token or the URL is still to be chosen, as if it was.
    pub(super) fn previewed(&self) -> Option<Rule> {
        if let Some(rule) = &self.draft.rule {
            return Some(rule.clone());
        }
        let mut written = self.rule().clone();
        let action = written.get_mut("action")?.as_object_mut()?;
        let name = match action.get("type").and_then(Value::as_str) {
            Some("slack_message") => "token",
            Some("slack_webhook") => "url",
            _ => return None,
        };
        action.entry(name).or_insert_with(|| json!({"secret": "not-chosen"}));
        if written.get("id").is_none() {
            written["id"] = "new".into();
        }
        Rule::from_json(&written).ok()
    }

    /// The faults that are told.
    pub(super) fn told(&self) -> impl Iterator<Item = &Problem> {
        let own = self.draft.errors.iter().filter(|_| self.is_tried);
        self.problems.iter().chain(own)
    }

    /// Whether it may be saved as it is.
    pub(super) fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.draft.errors.is_empty()
    }

    pub(super) fn with_status(mut self, config: &Config, status: &str) -> Self {
        let mut rule = self.draft.written.clone();
        rule["status"] = status.into();
        set(&mut self.fields, "status", status.to_owned());
        self.draft = Draft::of(config, rule);
        self
    }

    /// The name of the form's field that a problem is of.
    pub(super) fn field_of(&self, place: &str) -> String {
        if let Some((row, rest)) = place
            .strip_prefix("filters.where[")
            .and_then(|rest| rest.split_once(']'))
        {
            let part = if rest == ".path" { "path" } else { "value" };
            let filled: Vec<usize> = self
                .rows("where")
                .into_iter()
                .filter(|row| self.is_filled(*row))
                .collect();
            let row = row.parse().ok().and_then(|at: usize| filled.get(at).copied());
            return format!("where.{}.{part}", row.unwrap_or_default());
        }
        if let Some(name) = place.strip_prefix("action.properties.") {
            let mut rows = self.rows("properties").into_iter();
            let row = rows.find(|row| self.value(&format!("properties.{row}.name")) == name);
            return row.map_or_else(
                || "action.properties.from".to_owned(),
                |row| format!("properties.{row}.value"),
            );
        }
        let is_range = self.value("filters.price.op") == "between";
        match place {
            "filters.price.between" if is_range => return "filters.price.b".to_owned(),
            "action.properties" => return "action.properties.from".to_owned(),
            "scope" => return "scope.id".to_owned(),
            "action" => return "action.type".to_owned(),
            _ => {}
        }
        let of = [
            ("filters.price", "filters.price.a"),
            ("action.token", "action.token.typed"),
            ("action.url", "action.url.typed"),
            ("action.to", "action.to.id"),
            ("action.when_busy", "action.when_busy"),
            ("action.text", "action.text"),
        ];
        let is_of = |whole: &str| place == whole || place.strip_prefix(whole).is_some_and(|rest| rest.starts_with('.'));
        if let Some((_, field)) = of.into_iter().find(|(whole, _)| is_of(whole)) {
            return field.to_owned();
        }
        // An element of a list of ids.
        place.split('[').next().unwrap_or(place).to_owned()
    }

    fn is_filled(&self, row: usize) -> bool {
        let has = |part: &str| {
            self.all(&format!("where.{row}.{part}"))
                .any(|text| !text.trim().is_empty())
        };
        self.has(&format!("keep.where.{row}")) || has("path") || has("value")
    }
}

/// What is posted beside the fields of the rule.
fn is_of_rule(name: &str) -> bool {
    let is_beside = ["version", "do", "add", "remove", "drop", "with", "pasted", "yaml"].contains(&name);
    !is_beside && !TYPED.iter().any(|(typed, _)| *typed == name)
}

fn last<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let found = fields.iter().rev().find(|(field, _)| field == name);
    found.map(|(_, value)| value.as_str())
}

fn set(fields: &mut Vec<(String, String)>, name: &str, value: String) {
    fields.retain(|(field, _)| field != name);
    fields.push((name.to_owned(), value));
}

fn rows(fields: &[(String, String)], name: &str) -> Vec<usize> {
    let number = |(field, _): &(String, String)| {
        let field = field.strip_prefix("keep.").unwrap_or(field);
        let rest = field.strip_prefix(name)?.strip_prefix('.')?;
        rest.split('.').next()?.parse().ok()
    };
    let mut rows: Vec<usize> = fields.iter().filter_map(number).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Seals what was typed. What can't be sealed is gone: it is never shown again.
fn seal(config: &Config, posted: &[(String, String)], fields: &mut Vec<(String, String)>, now: i64) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (typed, path) in TYPED {
        let Some(value) = last(posted, typed).map(str::trim).filter(|value| !value.is_empty()) else {
            continue;
        };
        match crate::web::rules::seal(config, value) {
            Ok(sealed) => {
                fields.retain(|(name, _)| *name != format!("{path}.secret"));
                set(fields, &format!("{path}.sealed"), sealed.as_str().to_owned());
                set(fields, &format!("sealed_at.{path}"), now.to_string());
            }
            Err(error) => problems.push(Problem {
                place: path.to_owned(),
                message: error.to_string(),
            }),
        }
    }
    problems
}

/// The fields of a form that is to be sent once more, with what was typed as a secret sealed. What can't be sealed, and
/// what has a secret in the open, is left out, and with it the order to save.
pub(super) fn without_secrets(config: &Config, posted: &[(String, String)], now: i64) -> Vec<(String, String)> {
    let is_typed = |name: &str| TYPED.iter().any(|(typed, _)| *typed == name);
    let mut fields: Vec<(String, String)> = posted.iter().filter(|(name, _)| !is_typed(name)).cloned().collect();
    let count = fields.len();
    fields.retain(|(_, value)| !is_open_secret(value));
    let is_open = fields.len() < count;
    if !seal(config, posted, &mut fields, now).is_empty() || is_open {
        fields.retain(|(name, _)| name != "do");
    }
    fields
}

/// Adds a filter, a condition or a property; says which field it begins with.
fn add(fields: &mut Vec<(String, String)>, what: &str) -> Option<String> {
    let mut push = |name: String, value: &str| {
        fields.push((name.clone(), value.to_owned()));
        name
    };
    match what {
        "price" => {
            push("filters.price.op".to_owned(), "gte");
            Some(push("filters.price.a".to_owned(), ""))
        }
        "where" | "properties" => {
            let row = rows(fields, what).last().map_or(0, |row| row.saturating_add(1));
            let mut push = |part: &str, value: &str| {
                fields.push((format!("{what}.{row}.{part}"), value.to_owned()));
                format!("{what}.{row}.{part}")
            };
            let first = if what == "where" {
                push("path", "")
            } else {
                push("name", "")
            };
            if what == "where" {
                push("op", "eq");
            }
            push("value", "");
            Some(first)
        }
        party if party.chars().all(|c| c.is_ascii_lowercase()) => Some(push(format!("filters.{party}"), "")),
        _ => None,
    }
}

/// Takes a filter, a condition or a property out.
fn remove(fields: &mut Vec<(String, String)>, what: &str) -> Option<String> {
    let is_row = what.starts_with("where.") || what.starts_with("properties.");
    let path = if is_row || what.starts_with("action.") {
        what.to_owned()
    } else {
        format!("filters.{what}")
    };
    let is_below = |name: &str| name == path || name.strip_prefix(&*path).is_some_and(|rest| rest.starts_with('.'));
    fields.retain(|(name, _)| !is_below(name.strip_prefix("keep.").unwrap_or(name)));
    None
}

/// Takes one id out of a filter, such as `filters.publisher=3401`.
fn drop_one(fields: &mut Vec<(String, String)>, what: &str) -> Option<String> {
    let (name, value) = what.split_once('=')?;
    let at = fields.iter().position(|(field, held)| field == name && held == value)?;
    fields.remove(at);
    None
}

/// An id for a rule of that name, such as `big-auto-sales`.
pub(super) fn id_of_name(name: &str) -> String {
    let mut id = String::new();
    for c in name.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => id.push(c),
            _ if id.ends_with('-') || id.is_empty() => {}
            _ => id.push('-'),
        }
    }
    id.truncate(60);
    id.trim_end_matches('-').to_owned()
}

/// Posted fields by name, in order.
pub(super) type Fields = Arc<Vec<(String, String)>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::keys::Keys;

    const NOW: i64 = 1_772_742_727_000;

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        fields.iter().map(pair).collect()
    }

    fn posted(fields: &[(&str, &str)]) -> Editing {
        Editing::posted(&Config::default(), None, &pairs(fields), NOW)
    }

    #[test]
    fn the_forms_buttons_lose_nothing_that_was_typed() {
        let typed = [
            ("name", "Big auto sales!"),
            ("filters.price.op", "between"),
            ("filters.price.a", "25"),
            ("filters.price.b", ""),
            ("where.0.path", "$.consumer.state"),
            ("where.0.op", "in"),
            ("where.0.value", "TX, FL"),
            ("keep.where.3", r#"{"path": 5}"#),
            ("filters.publisher", "3401"),
            ("filters.publisher", "3402"),
        ];
        let with = |order: (&'static str, &'static str)| posted(&[&typed[..], &[order]].concat());
        for what in ["publisher", "where", "price", "properties"] {
            let editing = with(("add", what));
            assert!(
                pairs(&typed).iter().all(|field| editing.fields.contains(field)),
                "{what}"
            );
            let focus = editing.focus.unwrap();
            assert!(editing.fields.iter().any(|(name, _)| *name == focus), "{focus}");
        }
        assert_eq!(with(("add", "where")).rows("where"), [0, 3, 4]);
        assert_eq!(with(("remove", "where.3")).rows("where"), [0]);
        assert!(!with(("remove", "price")).has("filters.price.b"));
        let dropped = with(("drop", "filters.publisher=3401"));
        assert_eq!(dropped.all("filters.publisher").collect::<Vec<_>>(), ["3402"]);
        assert_eq!(dropped.value("id"), "big-auto-sales");
        assert_eq!(dropped.field_of("filters.price.between"), "filters.price.b");
        assert_eq!(dropped.field_of("filters.where[1].path"), "where.3.path");
        assert_eq!(dropped.field_of("action.token"), "action.token.typed");
        assert_eq!(dropped.field_of("filters.publisher[0]"), "filters.publisher");
    }

    #[test]
    fn what_is_typed_as_a_secret_is_sealed_or_refused_and_never_stays() {
        let fields = [
            ("action.type", "slack_message"),
            ("action.token.secret", "sales-bot"),
            ("action.token.typed", " xoxb-hidden "),
        ];
        let refused = posted(&fields);
        assert!(!format!("{refused:?}").contains("xoxb-hidden"));
        assert!(
            refused
                .told()
                .any(|problem| problem.message.contains("secrets.public_key"))
        );
        assert_eq!(refused.value("action.token.secret"), "sales-bot");

        let (private, public) = Keys::generate();
        let mut config = Config::default();
        config.secrets.public_key = Some(public);
        let sealed = Editing::posted(&config, None, &pairs(&fields), NOW);
        assert!(!format!("{sealed:?}").contains("xoxb-hidden"));
        assert_eq!(sealed.value("sealed_at.action.token"), NOW.to_string());
        assert!(!private.reveal().is_empty() && sealed.problems.is_empty());
        // A form that waits for a log-in carries it sealed, or not at all, and then saves nothing.
        let order = [("do", "save")];
        let waiting = |config: &Config| without_secrets(config, &pairs(&[&fields[..], &order].concat()), NOW);
        for (fields, saves) in [(waiting(&config), true), (waiting(&Config::default()), false)] {
            assert!(!format!("{fields:?}").contains("xoxb-hidden"));
            assert_eq!(last(&fields, "do").is_some(), saves);
            assert_eq!(last(&fields, "action.token.sealed").is_some(), saves);
        }
        // A text that somebody pasted goes nowhere, whatever its field is.
        let pasted = [("yaml", "token: XOXB-hidden"), ("do", "apply"), ("then", "x")];
        let fields = without_secrets(&config, &pairs(&pasted), NOW);
        assert_eq!(fields, pairs(&[("then", "x")]));
        // The sealed value stays when the form is sent again.
        let again = Editing::posted(&config, None, &sealed.fields, NOW);
        assert_eq!(
            again.rule()["action"]["token"],
            json!({"sealed": sealed.value("action.token.sealed")})
        );
    }
}
