//! What needs a person, the most pressing first: what it is, since when, and what to do.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::lanes::{Standing, anchor};
use super::super::part::{count, number, span};
use super::super::rules;
use super::super::words::{self, RuleName, address, lane_link, whither};
use super::super::{Look, icon};
use crate::desk::dead_letters::recent::{self, Asked};
use crate::desk::lanes::Lane;
use crate::desk::resident::deliveries::{self, Shadowed};
use crate::desk::rules::every;
use crate::desk::scan::Period;
use crate::reason::Reason;
use crate::rules::Status;
use crate::rules::control::ALL;
use crate::rules::words::rate;
use crate::text::mask::mask;
use crate::web::Web;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// A rule that has matched nothing for so long is told of.
const UNMATCHED: i64 = DAY;
/// A rule that has been on trial for so long is told of.
const TRIAL: i64 = 7 * DAY;
/// A lane that sends falls behind once its oldest job waits for so long.
const BEHIND: i64 = 5 * MINUTE;
/// What comes in is counted over so long.
const COUNTED: i64 = 10 * MINUTE;
/// So many of one kind are told of.
const MOST: usize = 5;
/// So many rules are named.
const NAMED: usize = 3;

/// Something that needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Todo {
    AllPaused {
        who: Option<String>,
        since: Option<i64>,
    },
    Refused {
        credential: String,
        why: String,
        waiting: u64,
        lanes: usize,
        since: Option<i64>,
    },
    DeadLetters {
        reason: Option<Reason>,
        count: u64,
        newest_at: i64,
        rule: Option<RuleName>,
    },
    Behind {
        lane: String,
        waiting: u64,
        oldest_at: i64,
        /// How many came within [`COUNTED`].
        came: u64,
        limit: Option<String>,
    },
    /// Records that are no valid rule.
    Rejected {
        rules: Vec<RuleName>,
        count: usize,
    },
    Unmatched {
        rules: Vec<(RuleName, i64)>,
        count: usize,
    },
    Trial {
        rule: RuleName,
        since: i64,
        would: Shadowed,
    },
}

pub(super) fn find(web: &Web, lanes: &[Lane], now: i64) -> Vec<Todo> {
    let paused = lanes
        .iter()
        .find(|lane| lane.id == ALL)
        .and_then(|lane| lane.paused.as_ref());
    let paused = paused.map(|paused| Todo::AllPaused {
        who: paused.who.clone(),
        since: paused.since,
    });
    let mut todos: Vec<Todo> = paused.into_iter().collect();
    todos.extend(refused(lanes, now));
    todos.extend(dead_letters(web));
    todos.extend(behind(web, lanes, now));
    todos.extend(rules(web, now));
    todos
}

fn refused(lanes: &[Lane], now: i64) -> Vec<Todo> {
    let mut by_credential = BTreeMap::<&str, Vec<&Lane>>::new();
    for lane in lanes.iter().filter(|lane| Standing::of(lane, now) == Standing::Refused) {
        by_credential.entry(&lane.credential).or_default().push(lane);
    }
    let of = |(credential, lanes): (&str, Vec<&Lane>)| Todo::Refused {
        credential: credential.to_owned(),
        why: lanes
            .iter()
            .find_map(|lane| lane.frozen.as_ref())
            .map_or_else(String::new, |frozen| frozen.why.clone()),
        waiting: lanes.iter().map(|lane| lane.waiting).sum(),
        since: lanes.iter().filter_map(|lane| lane.oldest_at).min(),
        lanes: lanes.len(),
    };
    by_credential.into_iter().map(of).take(MOST).collect()
}

fn dead_letters(web: &Web) -> Vec<Todo> {
    let of = |(reason, count, newest_at): (Option<Reason>, u64, i64)| {
        let asked = Asked {
            reasons: reason.into_iter().collect(),
            replayed: Some(false),
            ..Asked::default()
        };
        let newest = recent::recent(&web.resident, &asked, None, 1).items;
        let rule = newest.first().and_then(|letter| letter.rule_id.as_deref());
        let view = web.resident.rules().view();
        Todo::DeadLetters {
            reason,
            count,
            newest_at,
            rule: rule.map(|rule| RuleName::of(&view, rule)),
        }
    };
    recent::by_reason(&web.resident)
        .into_iter()
        .take(MOST)
        .map(of)
        .collect()
}

fn behind(web: &Web, lanes: &[Lane], now: i64) -> Vec<Todo> {
    let is_behind = |lane: &&Lane| {
        let waits_long = lane.oldest_at.is_some_and(|oldest_at| now - oldest_at > BEHIND);
        waits_long && Standing::of(lane, now) == Standing::Sending
    };
    let mut lanes: Vec<&Lane> = lanes.iter().filter(is_behind).collect();
    lanes.sort_by_key(|lane| std::cmp::Reverse(lane.waiting));
    let of = |lane: &Lane| {
        let asked = deliveries::Asked {
            lane: Some(lane.id.clone()),
            period: Period {
                since: Some(now - COUNTED),
                until: None,
            },
            ..deliveries::Asked::default()
        };
        Todo::Behind {
            lane: lane.id.clone(),
            waiting: lane.waiting,
            oldest_at: lane.oldest_at.unwrap_or(now),
            came: web.resident.deliveries().newest(&asked, None).count() as u64,
            limit: lane
                .limit
                .lane
                .or(lane.limit.credential)
                .map(|limit| rate(&limit.to_string())),
        }
    };
    lanes.into_iter().take(MOST).map(of).collect()
}

fn rules(web: &Web, now: i64) -> Vec<Todo> {
    let (resident, mut unmatched, mut trials) = (&web.resident, Vec::new(), Vec::new());
    let view = resident.rules().view();
    let counted_from = resident.counted_from();
    let deliveries = resident.deliveries();
    for in_force in every(&view) {
        let (id, since) = (in_force.id, in_force.at);
        // What was before the counts begin nobody knows.
        let is_counted = || counted_from.is_none_or(|from| from <= since);
        let is_unmatched = || now - since > UNMATCHED && is_counted() && deliveries.last_matched_at(id).is_none();
        match in_force.rule.status {
            Status::Active if is_unmatched() => unmatched.push((id, since)),
            Status::Shadow if now - since > TRIAL => trials.push((id, since)),
            _ => {}
        }
    }
    let name = |id: &str| RuleName::of(&view, id);
    let mut todos = Vec::new();
    let rejected = view.rejected();
    if rejected.len() > 0 {
        todos.push(Todo::Rejected {
            count: rejected.len(),
            rules: rejected.take(NAMED).map(name).collect(),
        });
    }
    if !unmatched.is_empty() {
        unmatched.sort_by_key(|(_, since)| *since);
        todos.push(Todo::Unmatched {
            rules: unmatched
                .iter()
                .take(NAMED)
                .map(|(id, since)| (name(id), *since))
                .collect(),
            count: unmatched.len(),
        });
    }
    trials.sort_by_key(|(_, since)| *since);
    todos.extend(trials.into_iter().take(NAMED).map(|(id, since)| Todo::Trial {
        rule: name(id),
        since,
        would: deliveries.shadowed(id, now),
    }));
    todos
}

impl Todo {
    pub(super) fn draw(&self, look: &Look, now: i64) -> Markup {
        let (kind, shape) = match self {
            Self::AllPaused { .. } => ("warn", "pause"),
            Self::Refused { .. } => ("bad", "stop"),
            Self::DeadLetters { .. } => ("bad", "dead"),
            Self::Behind { .. } => ("warn", "grow"),
            Self::Rejected { .. } => ("warn", "warn"),
            Self::Unmatched { .. } => ("warn", "search"),
            Self::Trial { .. } => ("wait", "half"),
        };
        html! {
            li {
                span class=(format!("k {kind}")) { (icon(shape)) }
                div { h3 { (self.what(now)) } p { (self.told(look, now)) } }
                div.acts { (self.ways()) }
            }
        }
    }

    fn what(&self, now: i64) -> Markup {
        html! {
            @match self {
                Self::AllPaused { .. } => "All sending is paused",
                Self::Refused { credential, .. } => { "The token or passcode of " (whither(credential).by) " is refused" },
                Self::DeadLetters { reason, count: many, .. } => { (count(*many, "dead letter", "dead letters")) ": " (words::reason(*reason).to_lowercase()) },
                Self::Behind { lane, .. } => { (whither(lane).to) " falls behind" },
                Self::Rejected { count: many, .. } => { (count(*many as u64, "rule", "rules")) " can’t be read as written last" },
                Self::Unmatched { count: many, .. } => { (count(*many as u64, "rule has", "rules have")) " never matched a lead" },
                Self::Trial { rule, since, .. } => { (rule.shown()) " has been on trial for " (span(now - since)) },
            }
        }
    }

    fn told(&self, look: &Look, now: i64) -> Markup {
        html! {
            @match self {
                Self::AllPaused { who, since } => {
                    "Nothing goes out" @if let Some(since) = since { " since " (look.time(*since, now)) } @if let Some(who) = who { ", paused by " (mask(who)) } ". Messages wait, and each is kept for 72 hours."
                },
                Self::Refused { why, waiting, lanes, since, .. } => {
                    (words::freeze(why)) ". " b { (count(*waiting, "message", "messages")) } " wait in " (count(*lanes as u64, "lane", "lanes"))
                    @if let Some(since) = since { " since " (look.time(*since, now)) } ". Put a new one in the secret store, then try now."
                },
                Self::DeadLetters { reason, newest_at, rule, .. } => {
                    "The newest at " (look.time(*newest_at, now)) @if let Some(rule) = rule { ", by the rule " (rule.link()) } ". " (words::cure(*reason))
                },
                Self::Behind { lane, waiting, oldest_at, came, limit } => {
                    b { (number(*waiting)) " wait" } ", the oldest for " (span(now - oldest_at)) ". " (number(came / 10)) " a minute come in"
                    @if let Some(limit) = limit { ", and at most " (limit) " go out" } " to " (lane_link(lane)) "."
                },
                Self::Rejected { rules, count } => { (named(rules.iter(), *count)) ". The version before is in force, where there is one." },
                Self::Unmatched { rules, count } => {
                    @for (nth, (rule, since)) in rules.iter().enumerate() { @if nth > 0 { ", " } (rule.link()) " for " (span(now - since)) }
                    (more(rules.len(), *count)) "."
                },
                Self::Trial { would, .. } => {
                    "In the last 24 hours it would have sent " b { (count(would.count, "message", "messages")) } ", at most " (number(would.most_in_a_minute)) " in one minute."
                },
            }
        }
    }

    fn ways(&self) -> Markup {
        html! {
            @match self {
                Self::AllPaused { .. } | Self::Behind { .. } => a.btn.s href="/lanes" { "See the lanes" },
                Self::Refused { credential, .. } => a.btn.s href=(format!("/lanes#{}", anchor(credential))) { "See its lanes" },
                Self::DeadLetters { reason, rule, .. } => {
                    @if let Some(rule) = rule { a.btn.s href=(rules::address(&rule.id)) { "Fix the rule" } }
                    a.btn.s href=(format!("{}#list", address("/dead-letters", &[("reason", reason.map_or("", Reason::as_str))]))) { "See them" }
                },
                Self::Rejected { rules, .. } => @if let Some(rule) = rules.first() { a.btn.s href=(rules::address(&rule.id)) { "Look at it" } },
                Self::Unmatched { rules, .. } => @if let Some((rule, _)) = rules.first() { a.btn.s href=(rules::address(&rule.id)) { "See what failed" } },
                Self::Trial { rule, .. } => a.btn.s href=(rules::address(&rule.id)) { "Look and activate" },
            }
        }
    }
}

fn named<'r>(rules: impl Iterator<Item = &'r RuleName>, count: usize) -> Markup {
    let rules: Vec<&RuleName> = rules.collect();
    html! {
        @for (nth, rule) in rules.iter().enumerate() { @if nth > 0 { ", " } (rule.link()) }
        (more(rules.len(), count))
    }
}

fn more(named: usize, count: usize) -> String {
    match count.saturating_sub(named) {
        0 => String::new(),
        more => format!(" and {} more", number(more as u64)),
    }
}
