//! A rule in one sentence of plain words, each value of it marked with its field.
//!
//! "When a lead is sold in product 12, posted by publisher 3401 or 3402, at $25 or more, and the state is TX or FL, post
//! to C0123ABCD as sales-bot, at most 20 an hour; more than that goes as one digest."
//!
//! It is made of the rule as it is written, so that a rule is told while it is still incomplete or wrong: what
//! [`Rule::from_json`] refuses is marked as wrong.

use serde_json::{Map, Value};

use super::words::{self, elements, shown};
use super::{Level, Party, Rule};
use crate::reader::{Problem, member};

/// A piece of the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub text: String,
    /// The field whose value it is, such as `filters.price.gte`; none for the words between.
    pub field: Option<String>,
    /// Whether the rule can't be saved with that value.
    pub is_wrong: bool,
}

/// What an id is of, for who knows its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Named {
    Scope(Level),
    Party(Party),
    SlackChannel,
    SlackMember,
}

/// The name behind an id, where it is known.
pub type Names<'n> = &'n dyn Fn(Named, &str) -> Option<String>;

/// The rule in words.
pub fn sentence(written: &Value, names: Names<'_>) -> Vec<Part> {
    let problems = Rule::from_json(written).err().unwrap_or_default();
    let mut sentence = Sentence {
        parts: Vec::new(),
        problems,
        names,
    };
    sentence.rule(written);
    sentence.parts
}

/// The rule in words, as plain text without names.
pub fn summary(written: &Value) -> String {
    text(&sentence(written, &|_, _| None))
}

/// The parts as plain text.
pub fn text(parts: &[Part]) -> String {
    parts.iter().map(|part| part.text.as_str()).collect()
}

/// What stands where nothing is chosen yet.
const OPEN: &str = "…";
/// Of a longer list the first ids are told.
const IDS_MAX: usize = 6;

struct Sentence<'n> {
    parts: Vec<Part>,
    problems: Vec<Problem>,
    names: Names<'n>,
}

impl Sentence<'_> {
    fn say(&mut self, words: &str) {
        match self.parts.last_mut() {
            Some(last) if last.field.is_none() => last.text.push_str(words),
            _ => self.parts.push(Part {
                text: words.to_owned(),
                field: None,
                is_wrong: false,
            }),
        }
    }

    fn mark(&mut self, field: impl Into<String>, text: impl Into<String>) {
        let field = field.into();
        let is_wrong = self.problems.iter().any(|problem| is_about(&problem.field, &field));
        self.parts.push(Part {
            text: text.into(),
            field: Some(field),
            is_wrong,
        });
    }

    fn rule(&mut self, written: &Value) {
        let trigger = written.get("trigger");
        self.say("When ");
        match trigger.and_then(Value::as_str) {
            Some(name) => match words::trigger(name) {
                Some(known) => self.mark("trigger", known.phrase),
                None => {
                    self.mark("trigger", shown(name));
                    self.say(" happens");
                }
            },
            None => self.mark("trigger", format!("{OPEN} happens")),
        }
        self.scope(written.get("scope"));
        if written.get("include_test") == Some(&Value::Bool(true)) {
            self.say(", ");
            self.mark("include_test", "test leads too");
        }
        let filters = written.get("filters").and_then(Value::as_object);
        if let Some(filters) = filters {
            self.filters(filters, trigger.and_then(Value::as_str).unwrap_or_default());
        }
        self.say(", ");
        match written.get("action").and_then(Value::as_object) {
            Some(action) => self.action(action),
            None => self.mark("action", format!("do {OPEN}")),
        }
        self.say(".");
        match written.get("status").and_then(Value::as_str) {
            Some("shadow") => {
                self.say(" ");
                self.mark("status", "On trial");
                self.say(": matches are counted, and nothing is sent.");
            }
            Some("paused") => {
                self.say(" ");
                self.mark("status", "Paused");
                self.say(": it matches nothing until it is resumed.");
            }
            Some("active") | None => {}
            Some(other) => {
                self.say(" Its status is ");
                self.mark("status", shown(other));
                self.say(".");
            }
        }
    }

    fn scope(&mut self, scope: Option<&Value>) {
        let level = scope.and_then(|scope| scope.get("level")).and_then(Value::as_str);
        let known = Level::ALL.into_iter().find(|known| Some(known.as_str()) == level);
        self.say(match known {
            Some(Level::Campaign) => " for ",
            Some(Level::Publisher) => " from ",
            Some(Level::Inlet) => " through ",
            Some(Level::Product) | None => " in ",
        });
        let noun = level.map_or_else(|| OPEN.to_owned(), |level| shown(level).into_owned());
        let id = scope.and_then(|scope| scope.get("id")).filter(|id| !id.is_null());
        let text = match id.map(words::id) {
            None => format!("{noun} {OPEN}"),
            Some(id) if id == "*" => format!("any {noun}"),
            Some(id) => {
                let name = known.and_then(|level| (self.names)(Named::Scope(level), &id));
                name.unwrap_or_else(|| format!("{noun} {id}"))
            }
        };
        self.mark("scope", text);
    }

    fn filters(&mut self, filters: &Map<String, Value>, trigger: &str) {
        let given = |name: &str| filters.get(name).filter(|value| !value.is_null());
        if let Some(method) = given("method") {
            self.say(", sent by ");
            self.list("filters.method", method, "", None);
        }
        for party in Party::ALL {
            if let Some(ids) = given(party.as_str()) {
                let (before, noun) = match party {
                    Party::Publisher => (", posted by ", "publisher "),
                    Party::Channel => (", over ", "channel "),
                    Party::Source => (", from ", "source "),
                    Party::Buyer => (", bought by ", "buyer "),
                    Party::Campaign => (", for ", "campaign "),
                    Party::Pingtree => (", through ", "ping tree "),
                };
                self.say(before);
                self.list(&format!("filters.{}", party.as_str()), ids, noun, Some(party));
            }
        }
        if let Some(price) = given("price") {
            self.price(price, trigger);
        }
        let conditions = given("where").map(elements).unwrap_or_default();
        for (at, condition) in conditions.iter().enumerate() {
            self.condition(&format!("filters.where[{at}]"), condition);
        }
    }

    /// One value or several, any of which will do.
    fn list(&mut self, field: &str, value: &Value, noun: &str, party: Option<Party>) {
        let all = elements(value);
        if all.is_empty() {
            return self.mark(field, format!("{noun}{OPEN}"));
        }
        let mut after_id = false;
        let told = if all.len() > IDS_MAX + 1 { IDS_MAX } else { all.len() };
        for (at, element) in all[..told].iter().enumerate() {
            if at > 0 {
                self.say(if at + 1 == all.len() { " or " } else { ", " });
            }
            let id = words::id(element);
            let name = party.and_then(|party| (self.names)(Named::Party(party), &id));
            // "publisher 3401 or 3402"
            if name.is_none() && !after_id {
                self.say(noun);
            }
            after_id = name.is_none();
            let field = if value.is_array() {
                format!("{field}[{at}]")
            } else {
                field.to_owned()
            };
            self.mark(field, name.unwrap_or(id));
        }
        if told < all.len() {
            self.say(" or ");
            self.mark(field, format!("{} more", all.len() - told));
        }
    }

    fn price(&mut self, price: &Value, trigger: &str) {
        self.say(&match crate::lead::price_field(trigger) {
            "price" => ", at ".to_owned(),
            field => format!(", with a {field} of "),
        });
        match price.as_object().filter(|price| !price.is_empty()) {
            Some(price) => {
                for (at, (operator, value)) in price.iter().enumerate() {
                    if at > 0 {
                        self.say(" and ");
                    }
                    let text = words::price(operator, value);
                    self.mark(member("filters.price", operator), text);
                }
            }
            None => self.mark("filters.price", OPEN),
        }
    }

    fn condition(&mut self, field: &str, condition: &Value) {
        self.say(", and the ");
        let path = condition.get("path").and_then(Value::as_str);
        let name = path.map(|path| words::path_words(path).unwrap_or_else(|| shown(path).into_owned()));
        self.mark(format!("{field}.path"), name.unwrap_or_else(|| OPEN.to_owned()));
        let tests = condition.as_object().into_iter().flatten();
        let mut tests = tests.filter(|(name, _)| *name != "path").enumerate().peekable();
        if tests.peek().is_none() {
            self.say(" ");
            self.mark(field, OPEN);
        }
        for (at, (operator, value)) in tests {
            let (verb, value) = words::test(operator, value);
            self.say(if at > 0 { " and " } else { " " });
            self.say(verb);
            self.mark(member(field, operator), value);
        }
    }

    fn action(&mut self, action: &Map<String, Value>) {
        let text = |name: &str| action.get(name).and_then(Value::as_str);
        match text("type") {
            Some("slack_message") => self.slack_message(action),
            Some("slack_webhook") => self.slack_webhook(action),
            Some(name @ ("clevertap_profile" | "clevertap_event")) => self.clevertap(name, action),
            other => {
                self.say("do ");
                return self.mark("action.type", other.map_or(OPEN.into(), shown));
            }
        }
        if let Some(after) = action.get("when_busy").and_then(|busy| busy.get("digest_after")) {
            self.say(", ");
            let after = after.as_str().map_or_else(|| OPEN.to_owned(), words::duration);
            self.mark(
                "action.when_busy",
                format!("as one digest when they wait longer than {after}"),
            );
        }
        if let Some(rate) = action.get("max_rate").filter(|rate| !rate.is_null()) {
            self.say(", at most ");
            self.mark(
                "action.max_rate",
                rate.as_str().map_or_else(|| OPEN.to_owned(), words::rate),
            );
            self.say("; more than that goes as one digest");
        }
        if let Some(after) = action.get("expires_after").filter(|after| !after.is_null()) {
            self.say(", or not at all after ");
            let after = after.as_str().map_or_else(|| OPEN.to_owned(), words::duration);
            self.mark("action.expires_after", after);
        }
        for (name, value, before, told) in [
            ("on_missing", "skip", "; ", "nothing is sent when a value is missing"),
            ("on_missing", "fail", "; ", "a missing value makes a dead letter"),
            ("over_long", "fail", "; ", "a text that is too long makes a dead letter"),
            (
                "on_ambiguous",
                "dead",
                "; ",
                "an unclear answer makes a dead letter rather than a second try",
            ),
        ] {
            if text(name) == Some(value) {
                self.say(before);
                self.mark(format!("action.{name}"), told);
            }
        }
    }

    fn slack_message(&mut self, action: &Map<String, Value>) {
        let to = action.get("to").and_then(Value::as_object);
        let to = to.and_then(|to| to.iter().find(|(_, id)| !id.is_null()));
        let (verb, kind, named) = match to.map(|(kind, _)| kind.as_str()) {
            Some("member") => ("message ", "member", Named::SlackMember),
            _ => ("post to ", "channel", Named::SlackChannel),
        };
        self.say(verb);
        match to {
            Some((_, id)) => {
                let id = words::id(id);
                let name = (self.names)(named, &id).unwrap_or(id);
                self.mark(format!("action.to.{kind}"), name);
            }
            None => self.mark("action.to", OPEN),
        }
        self.say(" as ");
        self.secret("action.token", action.get("token"));
        if action.get("thread").is_some_and(|thread| !thread.is_null()) {
            self.say(", ");
            self.mark("action.thread", "in the lead’s own thread");
        }
        self.message(action);
    }

    fn slack_webhook(&mut self, action: &Map<String, Value>) {
        self.say("post through the webhook ");
        self.secret("action.url", action.get("url"));
        for (name, before) in [("channel", " to "), ("username", " as ")] {
            if let Some(text) = action.get(name).filter(|text| !text.is_null()) {
                self.say(before);
                self.mark(format!("action.{name}"), words::id(text));
            }
        }
        self.message(action);
    }

    /// A message is told only where it lacks or is wrong: it has a place of its own.
    fn message(&mut self, action: &Map<String, Value>) {
        let is_wrong = self.problems.iter().any(|problem| problem.field == "action.text");
        if is_wrong {
            self.say(", ");
            let words = match action.get("text") {
                None | Some(Value::Null) => "with no text yet",
                Some(_) => "with a text that can’t be read",
            };
            self.mark("action.text", words);
        }
    }

    fn secret(&mut self, field: &str, secret: Option<&Value>) {
        let text = secret.filter(|secret| !secret.is_null()).map(words::secret);
        self.mark(field, text.unwrap_or_else(|| OPEN.to_owned()));
    }

    fn clevertap(&mut self, action: &str, written: &Map<String, Value>) {
        let template = |name: &str| written.get(name).filter(|text| !text.is_null()).map(words::id);
        if action == "clevertap_event" {
            self.say("record the event ");
            self.mark(
                "action.event_name",
                template("event_name").unwrap_or_else(|| OPEN.to_owned()),
            );
            self.say(" of ");
        } else {
            self.say("update the profile of ");
        }
        match (template("identity"), template("object_id")) {
            (None, Some(user)) => self.mark("action.object_id", user),
            (user, _) => self.mark("action.identity", user.unwrap_or_else(|| OPEN.to_owned())),
        }
        self.say(" in the CleverTap account ");
        let account = written.get("account").filter(|account| !account.is_null());
        let account = account.map(|account| words::value("action.account", account));
        self.mark("action.account", account.unwrap_or_else(|| OPEN.to_owned()));
        match written.get("properties") {
            Some(Value::Object(members)) if members.get("from").is_some_and(Value::is_string) => {
                self.say(", with all of ");
                self.mark("action.properties", words::id(&members["from"]));
            }
            Some(Value::Object(members)) if !members.is_empty() => {
                let noun = if members.len() == 1 { "property" } else { "properties" };
                self.say(", with ");
                self.mark("action.properties", format!("{} {noun}", members.len()));
            }
            Some(whole @ Value::String(_)) => {
                self.say(", with all of ");
                self.mark("action.properties", words::id(whole));
            }
            _ => {}
        }
    }
}

/// Whether a problem with one field is one of another: the same, one of its members, or the object that it is in.
fn is_about(problem: &str, field: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    // A problem of the whole rule, its filters or its action isn't one of each value in them.
    within(problem, field) || (problem.contains(['.', '[']) && within(field, problem))
}

#[cfg(test)]
mod tests;
