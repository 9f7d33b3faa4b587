//! Preview: what a rule would send of an event, to the byte, without sending it.
//!
//! The request is planned as the processor plans it, so that what is shown is what would arrive. A rule that is paused or
//! on trial is shown as if it was active.

use serde_json::Value;

use crate::action::clevertap::TEXT_MAX as PROPERTY_MAX;
use crate::action::slack::TEXT_MAX;
use crate::action::{ActionKind, ActionType};
use crate::config::Config;
use crate::delivery::DeliveryJob;
use crate::delivery::plan::{Planned, Source, plan};
use crate::lead::LeadEvent;
use crate::rules::{Failed, Rule, Status, Versioned, words};
use crate::template::{OnMissing, Template};
use crate::text::Unit;
use crate::text::slack::spans::{Span, spans};

/// What a rule makes of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Why the rule doesn't match the event; none where it does.
    pub failed: Vec<Failed>,
    /// The id of the lane that it would go through.
    pub lane: String,
    /// The request's body as it would be sent; none where nothing would be.
    pub body: Option<String>,
    pub fate: Fate,
    pub what: What,
    /// Paths of the rule's texts that the event has no value for, each once.
    pub missing: Vec<String>,
    /// The length of the text, or of the longest text of a record, in `unit`.
    pub length: usize,
    /// As much as the receiver takes of it.
    pub limit: usize,
    pub unit: Unit,
    /// Whether the text was longer, and is cut.
    pub is_cut: bool,
    /// What else decides about it, in sentences.
    pub notes: Vec<String>,
}

/// What would become of the match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Sent,
    /// Nothing is sent, and why.
    LeftOut(String),
    /// It becomes a dead letter, and why.
    Dead(String),
}

/// What the receiver would get; empty where nothing is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Slack {
        /// Posted by an app rather than through a webhook.
        by_app: bool,
        /// The channel or member, by id; none where the webhook decides.
        to: Option<String>,
        is_member: bool,
        username: Option<String>,
        icon_url: Option<String>,
        /// The text as Slack shows it; what lacks is a [`Shown::Missing`] in its place.
        text: Vec<Shown>,
    },
    Profile(Record),
    Event {
        name: String,
        record: Record,
    },
}

/// A piece of a Slack text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Span(Span),
    /// A line, a style or a quote with such pieces in it.
    Within(Style, Vec<Shown>),
    /// The path that has no value here.
    Missing(String),
}

/// What a piece with others in it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Bold,
    Italic,
    Strike,
    Quote,
}

/// A CleverTap record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// `identity` or `objectId`, and whose it is.
    pub user: Option<(String, String)>,
    /// Epoch seconds.
    pub ts: Option<i64>,
    pub properties: Vec<(String, Value)>,
    /// Properties that are left out, as the event has no value for them.
    pub left_out: Vec<String>,
}

/// Previews what a rule makes of an event. `now` is in epoch milliseconds.
pub fn preview(config: &Config, matched: &Versioned, event: &LeadEvent<'_>, now: i64) -> Preview {
    let rule = &matched.rule;
    let source = Source {
        topic: &config.topics.events,
        partition: 0,
        offset: 0,
    };
    // Whether it is active says nothing about what it sends.
    let active = Versioned {
        rule: Rule {
            status: Status::Active,
            ..rule.clone()
        },
        version: matched.version,
    };
    let (job, fate) = match plan(event, &active, source, now) {
        Planned::Job(job) => match job.action.refusal(&job.body) {
            Some(why) => (Some(job), Fate::Dead(why)),
            None => (Some(job), Fate::Sent),
        },
        Planned::Settled(outcome) => (None, Fate::LeftOut(left_out(outcome.words.as_deref()))),
        Planned::Failed { outcome, detail } => (None, Fate::Dead(outcome.words.unwrap_or(detail))),
    };
    let body: Option<Value> = job.as_ref().and_then(|job| serde_json::from_str(&job.body).ok());
    let lane = job.as_ref().map_or_else(|| lane_of(rule), DeliveryJob::lane);
    let (length, limit, unit) = length(rule.action.kind.action(), body.as_ref());
    Preview {
        failed: active.rule.explain(event),
        lane,
        what: what(rule, event, body.as_ref()),
        missing: missing(rule, event),
        length,
        limit,
        unit,
        is_cut: is_cut(rule, event),
        notes: notes(rule, job.as_ref(), now),
        body: job.map(|job| job.body),
        fate,
    }
}

fn left_out(words: Option<&str>) -> String {
    match words {
        // The text that came out blank says so itself.
        Some(words) if words.contains(' ') && !words.starts_with('$') => format!("{words}, so nothing is sent"),
        Some(path) => format!("{path} has no value in this event, so nothing is sent"),
        None => "nothing is sent".to_owned(),
    }
}

/// The lane as far as the rule says it.
fn lane_of(rule: &Rule) -> String {
    let address = rule.action.kind.address();
    match address.destination {
        "" => address.credential,
        destination => format!("{}/{destination}", address.credential),
    }
}

fn missing(rule: &Rule, event: &LeadEvent<'_>) -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    for (_, template) in rule.action.kind.templates() {
        for path in template.missing(event) {
            if !missing.iter().any(|known| known == path.as_str()) {
                missing.push(path.as_str().to_owned());
            }
        }
    }
    missing
}

/// The length of what would be sent, its limit, and the unit of both.
fn length(action: ActionType, body: Option<&Value>) -> (usize, usize, Unit) {
    match action {
        ActionType::SlackMessage | ActionType::SlackWebhook => {
            let text = body.and_then(|body| body["text"].as_str()).unwrap_or_default();
            (Unit::Characters.length(text), TEXT_MAX, Unit::Characters)
        }
        ActionType::ClevertapProfile | ActionType::ClevertapEvent => {
            let longest = body.map_or(0, |body| longest(&body["profileData"]).max(longest(&body["evtData"])));
            (longest, PROPERTY_MAX, Unit::Bytes)
        }
    }
}

/// The bytes of the longest text in a value.
fn longest(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(elements) => elements.iter().map(longest).max().unwrap_or(0),
        Value::Object(members) => members.values().map(longest).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn slack_text(rule: &Rule) -> Option<&Template> {
    match &rule.action.kind {
        ActionKind::SlackMessage(message) => Some(&message.text),
        ActionKind::SlackWebhook(webhook) => Some(&webhook.text),
        ActionKind::Clevertap(_) => None,
    }
}

fn is_cut(rule: &Rule, event: &LeadEvent<'_>) -> bool {
    let text = slack_text(rule).map(|text| text.render_slack(event, OnMissing::Empty, TEXT_MAX));
    matches!(text, Some(Ok(text)) if text.is_cut)
}

fn what(rule: &Rule, event: &LeadEvent<'_>, body: Option<&Value>) -> What {
    let text = |name: &str| Some(body?.get(name)?.as_str()?.to_owned());
    let shown = || match (slack_text(rule), text("text")) {
        (Some(template), Some(sent)) => shown(template, event, &sent),
        _ => Vec::new(),
    };
    let text_of = |field: &Option<Box<str>>| field.as_deref().map(str::to_owned);
    match &rule.action.kind {
        ActionKind::SlackMessage(message) => {
            let (to, is_member) = match &message.to {
                crate::action::slack_message::To::Channel(id) => (id, false),
                crate::action::slack_message::To::Member(id) => (id, true),
            };
            What::Slack {
                by_app: true,
                to: Some(to.to_string()),
                is_member,
                username: None,
                icon_url: None,
                text: shown(),
            }
        }
        ActionKind::SlackWebhook(webhook) => What::Slack {
            by_app: false,
            to: text_of(&webhook.channel),
            is_member: false,
            username: text_of(&webhook.username),
            icon_url: text_of(&webhook.icon_url),
            text: shown(),
        },
        ActionKind::Clevertap(upload) => {
            let record = record(rule, event, body);
            match &upload.event_name {
                Some(name) => What::Event {
                    name: text("evtName").unwrap_or_else(|| name.as_str().to_owned()),
                    record,
                },
                None => What::Profile(record),
            }
        }
    }
}

fn record(rule: &Rule, event: &LeadEvent<'_>, body: Option<&Value>) -> Record {
    let Some(body) = body else {
        return Record::default();
    };
    let user = ["identity", "objectId"]
        .into_iter()
        .find_map(|key| Some((key.to_owned(), body.get(key)?.as_str()?.to_owned())));
    let properties = body.get("profileData").or_else(|| body.get("evtData"));
    let properties = properties.and_then(Value::as_object);
    let properties: Vec<(String, Value)> = (properties.into_iter().flatten())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let ActionKind::Clevertap(upload) = &rule.action.kind else {
        return Record::default();
    };
    let is_sent = |name: &str| properties.iter().any(|(sent, _)| sent == name);
    let named = upload.properties.named.iter().map(|(name, _)| &**name);
    let left_out = match missing(rule, event).is_empty() {
        true => Vec::new(),
        false => named.filter(|name| !is_sent(name)).map(str::to_owned).collect(),
    };
    Record {
        user,
        ts: body.get("ts").and_then(Value::as_i64),
        left_out,
        properties,
    }
}

/// Around the number of a path that lacks, in a text that is shown and never sent.
const MARKS: [char; 2] = ['\u{f8f0}', '\u{f8f1}'];
const MARKS_IN_URL: [&str; 2] = ["%EF%A3%B0", "%EF%A3%B1"];

/// A text as Slack shows it, with the places of what lacks in it.
fn shown(template: &Template, event: &LeadEvent<'_>, sent: &str) -> Vec<Shown> {
    let missing = template.missing(event);
    let number = |path: &str| missing.iter().position(|missing| missing.as_str() == path);
    let mark = |path: &str| format!("{}{}{}", MARKS[0], number(path).unwrap_or_default(), MARKS[1]);
    let marked = template.marked(event, |path| mark(path.as_str()));
    let rendered = marked.render_slack(event, OnMissing::Empty, TEXT_MAX).map(|text| {
        // In an address they are percent-encoded.
        let text = text.text.replace(MARKS_IN_URL[0], &MARKS[0].to_string());
        text.replace(MARKS_IN_URL[1], &MARKS[1].to_string())
    });
    let text = match rendered {
        // With the marks it must be the same text, and none of them the event's own.
        Ok(text) if !missing.is_empty() && !sent.contains(MARKS) && without_marks(&text) == sent => text,
        _ => return pieces(spans(sent), None),
    };
    let paths: Vec<String> = missing.iter().map(|path| path.as_str().to_owned()).collect();
    pieces(spans(&text), Some(&paths))
}

fn without_marks(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    while let Some((before, behind)) = rest.split_once(MARKS[0]) {
        plain.push_str(before);
        rest = behind.split_once(MARKS[1]).map_or("", |(_, rest)| rest);
    }
    plain + rest
}

/// The pieces of a text; `missing` has the paths behind its marks, where it has any.
fn pieces(spans: Vec<Span>, missing: Option<&[String]>) -> Vec<Shown> {
    let mut shown = Vec::new();
    for span in spans {
        let within = |style, inner| Shown::Within(style, pieces(inner, missing));
        let span = match span {
            Span::Bold(inner) => within(Style::Bold, inner),
            Span::Italic(inner) => within(Style::Italic, inner),
            Span::Strike(inner) => within(Style::Strike, inner),
            Span::Quote(inner) => within(Style::Quote, inner),
            other => match missing.and_then(|missing| marked(&other, missing)) {
                Some(parts) => {
                    shown.extend(parts);
                    continue;
                }
                None => Shown::Span(other),
            },
        };
        shown.push(span);
    }
    shown
}

/// A span with marks in it as its text and what lacks there.
fn marked(span: &Span, missing: &[String]) -> Option<Vec<Shown>> {
    let (text, url) = match span {
        Span::Text(text) | Span::Code(text) | Span::Pre(text) => (text, None),
        Span::User { id, .. } | Span::Channel { id, .. } | Span::Group { id, .. } => (id, None),
        Span::Link { url, label } => (label, Some(url).filter(|url| *url != label)),
        _ => return None,
    };
    let url = url.filter(|url| url.contains(MARKS));
    if url.is_none() && !text.contains(MARKS) {
        return None;
    }
    let mut parts = texts(text, missing);
    // Of an address nothing is shown but what lacks.
    if let Some(url) = url {
        parts.push(Shown::Span(Span::Text(" ".to_owned())));
        let lacks = |part: &Shown| matches!(part, Shown::Missing(_));
        parts.extend(texts(url, missing).into_iter().filter(lacks));
    }
    Some(parts)
}

/// A text, and what lacks in it.
fn texts(text: &str, missing: &[String]) -> Vec<Shown> {
    let mut shown = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (before, behind) = rest.split_once(MARKS[0]).unwrap_or((rest, ""));
        if !before.is_empty() {
            shown.push(Shown::Span(Span::Text(before.to_owned())));
        }
        let (number, after) = behind.split_once(MARKS[1]).unwrap_or_default();
        let path = number.parse().ok().and_then(|number: usize| missing.get(number));
        shown.extend(path.cloned().map(Shown::Missing));
        rest = after;
    }
    shown
}

fn notes(rule: &Rule, job: Option<&DeliveryJob>, now: i64) -> Vec<String> {
    let mut notes = Vec::new();
    match rule.status {
        Status::Active => {}
        Status::Paused => notes.push("The rule is paused: it matches nothing until it is resumed.".to_owned()),
        Status::Shadow => notes.push("The rule is on trial: matches are counted, and nothing is sent.".to_owned()),
    }
    let pace = rule.action.kind.pace().cloned().unwrap_or_default();
    if let Some(rate) = &pace.max_rate {
        let rate = words::rate(rate);
        notes.push(format!("At most {rate} go alone; more than that goes as one digest."));
    }
    if let Some(after) = pace.digest_after {
        let after = words::duration(&crate::dates::duration_text(after));
        notes.push(format!(
            "When messages wait longer than {after}, they go as one digest."
        ));
    }
    if pace.thread {
        notes.push("It goes into the lead’s own thread, or begins it.".to_owned());
    }
    let expires_at = job.and_then(|job| job.expires_at);
    if expires_at.is_some_and(|expires_at| expires_at < now) {
        notes.push("This event is too old by now: its message would be left unsent as too late.".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests;
