//! A new rule: which trigger and which action, a ready one to begin with, or a copy.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::action::ACTIONS;
use super::editing::Editing;
use super::fields::LEVELS;
use super::frame::steps;
use super::shown::Names;
use super::{Page, in_force, locked, missing};
use crate::config::Config;
use crate::desk::rules as desk_rules;
use crate::rules::Level;
use crate::rules::sentence::{Named, sentence};
use crate::rules::words::TRIGGERS;
use crate::web::Web;
use crate::web::api::Query;
use crate::web::page::rules::many::{copy_as, free_id};
use crate::web::page::{Look, Nav, icon, shell};

/// Where a first rule goes, where Slack is the sandbox.
const SANDBOX_CHANNEL: &str = "C0SANDBOX";
/// What the sandbox takes for a good token; it opens nothing else.
const SANDBOX_TOKEN: &str = "xoxb-1-sandbox";

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    trigger: Option<String>,
    /// A trigger of one's own.
    other: Option<String>,
    action: Option<String>,
    level: Option<String>,
    /// The id of the rule that is copied.
    from: Option<String>,
    /// The number of a ready rule.
    start: Option<usize>,
}

pub(super) async fn show(State(web): State<Arc<Web>>, look: Look, Query(asked): Query<Asked>) -> Response {
    let given = |text: &Option<String>| {
        text.as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let trigger = given(&asked.other).or_else(|| given(&asked.trigger));
    let rule = match (&asked.from, asked.start, trigger) {
        (Some(from), ..) => match in_force(&web, from) {
            Some((mut rule, _)) => {
                let id = free_id(&web.resident.rules().view(), from, &[]);
                copy_as(&mut rule, &id);
                rule
            }
            None => return missing(&web, &look, from),
        },
        (None, Some(number), _) => match starters(&web).into_iter().nth(number) {
            Some((_, rule)) => rule,
            None => return choose(&web, &look),
        },
        (None, None, Some(trigger)) => json!({
            "scope": {"level": given(&asked.level).unwrap_or_else(|| "product".to_owned())},
            "trigger": trigger,
            "action": {"type": given(&asked.action).unwrap_or_else(|| ACTIONS[0].0.to_owned())},
        }),
        (None, None, None) => return choose(&web, &look),
    };
    let editing = Editing::of(&web.config, None, None, rule);
    Page::new(&web, &look, &editing, &[]).whole(StatusCode::OK)
}

/// Whether Slack is the sandbox: at an address of this machine.
fn is_sandbox(config: &Config) -> bool {
    let uri: Option<Uri> = config.slack.api_url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Ready rules, each with its title. They go to the sandbox where there is one.
pub(super) fn starters(web: &Web) -> Vec<(&'static str, Value)> {
    let product = Names::of(web)
        .all(Named::Scope(Level::Product))
        .first()
        .map(|(id, _)| (*id).to_owned());
    let scope = json!({"level": "product", "id": product.unwrap_or_else(|| "*".to_owned())});
    let action = |text: &str| {
        let mut action = json!({"type": "slack_message", "text": text});
        if is_sandbox(&web.config) {
            let sealed = web
                .config
                .secrets
                .public_key
                .as_ref()
                .and_then(|key| key.seal(SANDBOX_TOKEN).ok());
            action["to"] = json!({"channel": SANDBOX_CHANNEL});
            action["token"] = match sealed {
                Some(sealed) => json!({"sealed": sealed.as_str()}),
                None => json!({"secret": "sandbox"}),
            };
        }
        action
    };
    let rule = |id: &str, name: &str, trigger: &str, filters: Value, text: &str| json!({"id": id, "name": name, "scope": scope, "trigger": trigger, "filters": filters, "action": action(text)});
    vec![
        (
            "A sale worth hearing of",
            rule(
                "big-sales",
                "A sale worth hearing of",
                "lms.lead_sold",
                json!({"price": {"gte": 25}}),
                "*{{$.buyer.name}}* bought lead {{$.lead_id}} for *{{$.price | money}}*",
            ),
        ),
        (
            "A lead that nobody bought",
            rule(
                "rejected-leads",
                "A lead that nobody bought",
                "lms.lead_rejected",
                json!({"where": [{"path": "$.reason_code", "ne": "duplicate"}]}),
                "Lead {{$.lead_id}} for {{$.product.name}} was rejected: {{$.reason}}",
            ),
        ),
        (
            "A payout to look at",
            rule(
                "high-payouts",
                "A payout to look at",
                "lms.publisher_earning_received",
                json!({"price": {"gt": 40}}),
                "*{{$.publisher.name}}* earned *{{$.payout | money}}* on lead {{$.lead_id}}",
            ),
        ),
    ]
}

/// The first step.
fn choose(web: &Web, look: &Look) -> Response {
    let is_empty = desk_rules::every(&web.resident.rules().view()).next().is_none();
    let actor = look.asker.as_ref().map(|asker| &asker.actor);
    let locked = locked(web, actor, None);
    let sandbox = is_sandbox(&web.config);
    let body = html! {
        nav.crumbs aria-label="You are here" { ol { li { a href="/rules" { "Rules" } } li aria-current="page" { "New rule" } } }
        div.head {
            div {
                h1 { "New rule" }
                p {
                    @if is_empty && sandbox { "There are none yet. The first takes three clicks and goes to a sandbox channel, so nobody is disturbed." }
                    @else if is_empty { "There are none yet. The first takes three clicks; it can be put on trial, which sends nothing." }
                    @else { "Choose what happens and what is done then, or begin with a ready one." }
                }
            }
        }
        @if let Some(why) = &locked { div.banner { (icon("lock")) div { (why) } } }
        @if is_empty { (way(sandbox)) }
        @else { (steps(1)) }
        @let first = ready(web, is_empty, locked.is_some());
        @let second = step(is_empty, locked.is_some());
        @if is_empty { (first) (second) } @else { (second) (first) }
    };
    shell(web, look, Nav::Rules, "New rule", &body)
}

/// The way to a first rule.
fn way(sandbox: bool) -> Markup {
    html! {
        ol.three.panel aria-label="The way to a first rule" {
            li { h2 { "Start with a sentence" } p { "Pick one below. It comes filled in" @if sandbox { ", for a channel of the sandbox" } "." } }
            li.later { h2 { "See it on a real lead" } p { "The page shows the message as Slack will show it, made of a lead that came lately or of a sample. Press " b { "Send test" } " if you like." } }
            li.later { h2 { "Save" } p { "The rule is in force within a second. Change the channel when you are happy with what arrives." } }
        }
    }
}

fn ready(web: &Web, is_first: bool, is_locked: bool) -> Markup {
    let names = Names::of(web);
    html! {
        h2.sec { "Ready to begin with" }
        div.starters #starters {
            @for (number, (title, rule)) in starters(web).into_iter().enumerate() {
                form.starter method="get" action="/rules/new" {
                    h3 { (title) }
                    p.sentence {
                        @for part in sentence(&rule, &|named, id| names.get(named, id)) {
                            @match part.field.as_deref() {
                                Some("action.token") if is_sandbox(&web.config) => b { "the sandbox’s app" },
                                Some(_) => b { (part.text) },
                                None => (part.text),
                            }
                        }
                    }
                    input type="hidden" name="start" value=(number);
                    button class=(if is_first && number == 0 { "btn go" } else { "btn" }) disabled[is_locked] { "Start with this" }
                }
            }
        }
    }
}

/// The choice of trigger, level and action.
fn step(is_second: bool, is_locked: bool) -> Markup {
    let groups = [("LMS", "lms."), ("Calls", "call_logic.")];
    html! {
        section.panel.after #step1 aria-labelledby="step1-h" {
            header { h2 #step1-h { "Trigger and action" } p { "The settings come next." } }
            form.pad.stack method="get" action="/rules/new" {
                div.two {
                    @for (group, prefix) in groups {
                        fieldset.stack {
                            legend { b { (group) } }
                            @for (number, trigger) in TRIGGERS.iter().enumerate().filter(|(_, trigger)| trigger.name.starts_with(prefix)) {
                                @let id = format!("t-{number}");
                                label.check for=(id) { input type="radio" id=(id) name="trigger" value=(trigger.name) checked[number == 0]; (trigger.label) }
                            }
                        }
                    }
                    fieldset.stack {
                        legend { b { "Then" } }
                        @for (number, (action, label)) in ACTIONS.iter().enumerate() {
                            @let id = format!("a-{number}");
                            label.check for=(id) { input type="radio" id=(id) name="action" value=(action) checked[number == 0]; (label) }
                        }
                    }
                }
                div.two {
                    div.field {
                        label for="other" { "Or another trigger, by its name" }
                        input #other type="text" name="other" class="mono" autocomplete="off" aria-describedby="other-h";
                        p.hint #other-h { "As the events name it, such as survey.answered. It counts before the ones above." }
                    }
                    div.field {
                        label for="level" { "In" }
                        select #level name="level" { @for (value, words) in LEVELS { option value=(value) { (words) } } }
                    }
                }
                p { button class=(if is_second { "btn" } else { "btn go" }) disabled[is_locked] { "Go on to the settings" } }
            }
        }
    }
}
