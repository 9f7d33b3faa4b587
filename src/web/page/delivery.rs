//! One delivery: its whole life, and the text as it was sent.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use super::part::took;
use super::sent::Sent;
use super::words::{self, RuleName, lane_link, lead_link, stands_status};
use super::{Look, Nav, View, answer, icon};
use crate::config::admin::Role;
use crate::delivery::recall::credential_of;
use crate::delivery::{Outcome, OutcomeResult};
use crate::desk::deliveries::{Life, Stands, recent};
use crate::desk::scan::Scanner;
use crate::reason::Reason;
use crate::text::mask::mask;
use crate::web::Web;
use crate::web::who::Actor;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route("/deliveries/{id}", get(show))
}

struct Page {
    life: Life,
    rule: RuleName,
    about: About,
    /// Whether the reader may send again and reveal.
    may: bool,
}

/// What a delivery is of.
struct About {
    lead: String,
    version: i64,
    lane: String,
    trigger: Option<String>,
}

impl About {
    fn of(life: &Life) -> Self {
        match (&life.job, life.outcomes.last()) {
            (Some((job, _)), _) => Self {
                lead: job.lead_id.clone(),
                version: job.rule_version,
                lane: job.lane(),
                trigger: Some(job.trigger.clone()),
            },
            (None, outcome) => Self {
                lead: outcome.map_or_else(String::new, |outcome| outcome.lead_id.clone()),
                version: outcome.map_or(-1, |outcome| outcome.rule_version),
                lane: outcome.map_or_else(String::new, |outcome| outcome.lane.clone()),
                trigger: None,
            },
        }
    }
}

/// The rule that a delivery is of.
pub(super) fn rule_of(life: &Life) -> &str {
    let of_job = life.job.as_ref().map(|(job, _)| job.rule_id.as_str());
    of_job.unwrap_or_else(|| life.outcomes.last().map_or("", |outcome| outcome.rule_id.as_str()))
}

async fn show(State(web): State<Arc<Web>>, look: Look, actor: Actor, Path(id): Path<String>) -> Response {
    let may = actor.role >= Role::Admin;
    let asked = web.ask(move |web| {
        let life = recent::life(&web.resident, Scanner::new(&web.config, &|_| true), &id)?;
        let rule = RuleName::of(&web.resident.rules().view(), rule_of(&life));
        let about = About::of(&life);
        Ok(Page { life, rule, about, may })
    });
    answer(&web, &look, Nav::Deliveries, asked.await)
}

impl View for Page {
    fn title(&self) -> String {
        format!("Delivery for lead {}", words::mask_id(&self.about.lead))
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        html! {
            nav.crumbs aria-label="Where this is" { ol { li { a href="/deliveries" { "Deliveries" } } li { "One delivery" } } }
            div.head {
                div {
                    h1 { "One delivery: lead " (lead_link(&self.about.lead, &self.life.id)) }
                    p { (self.rule.link()) ", version " (self.about.version) ", to " (lane_link(&self.about.lane)) ". " (stands_status(self.life.stands)) }
                }
                (self.again(look))
            }
            div.cols {
                section.panel aria-labelledby="tries" {
                    header { h2 #tries { "Tries" } @if let Some(trigger) = &self.about.trigger { p { (words::trigger(trigger)) } } }
                    div.pad { ol.attempts {
                        @if let Some((job, record)) = &self.life.job {
                            li {
                                (look.exact_time(record.timestamp, now))
                                div {
                                    (super::part::status("wait", "clock", if record.header("replay-of").is_some() { "Asked for again" } else { "Asked for" }))
                                    @if let Some(until) = job.expires_at { br; span.sub { "Too late after " (look.time(until, now)) } }
                                }
                            }
                        }
                        @for outcome in &self.life.outcomes { (attempt(outcome, look, now)) }
                        @if self.life.outcomes.is_empty() { li { span {} div.sub { "Nobody has tried yet. " a href="/lanes" { "See its lane" } } } }
                    } }
                }
                (self.text(look, now))
            }
            div.foot { p { "On a server:" } p { (super::part::command(&format!("leadlane deliveries show {}", self.life.id))) } }
        }
    }
}

impl Page {
    /// Sending it again.
    fn again(&self, look: &Look) -> Markup {
        let has_ended = matches!(self.life.stands, Stands::Is(result) if result.is_final());
        html! {
            @if has_ended {
                form.row method="post" action=(format!("/deliveries/{}/replay", self.life.id)) {
                    (look.token())
                    button.btn disabled[!self.may] { (icon("again")) "Send again…" }
                    @if !self.may { span.small.muted { "needs an admin" } }
                }
            }
        }
    }

    fn text(&self, look: &Look, now: i64) -> Markup {
        let ended_at = self.life.outcomes.last().map(|outcome| outcome.ended_at);
        let body = self.life.sent.as_deref();
        let asked = self.life.job.as_ref().map(|(job, _)| job.body.as_str());
        html! {
            section.panel aria-labelledby="text" {
                header {
                    h2 #text { @if body.is_some() { "As it was sent" } @else { "As it would be sent" } }
                    span.end { (reveal(look, "delivery", &self.life.id, self.may)) }
                }
                div.pad.stack {
                    @match body.or(asked) {
                        Some(body) => ({
                            let sent = Sent { lane: &self.about.lane, body, at: ended_at.map(|at| look.time(at, now)), revealed: false };
                            sent.draw()
                        }),
                        None => p.sub { "Nothing of it is kept. " (self.why_no_text()) },
                    }
                }
            }
        }
    }

    fn why_no_text(&self) -> &'static str {
        use OutcomeResult::{Dead, Shadowed, Skipped};
        match self.life.stands {
            Stands::Is(Skipped) => "The rule left it out before a text was made.",
            Stands::Is(Shadowed) => "The rule was on trial, which counts and makes no text.",
            Stands::Is(Dead) => "A value that the text needs was missing or wrong.",
            _ => "It is older than what is kept.",
        }
    }
}

/// The way to a record in full, which the audit notes.
pub(super) fn reveal(look: &Look, what: &str, id: &str, may: bool) -> Markup {
    html! {
        form.row method="post" action="/reveal" {
            (look.token())
            input type="hidden" name="what" value=(what);
            input type="hidden" name="id" value=(id);
            button.btn.s disabled[!may] { (icon("eye")) "Show in full" }
            span.small.muted { @if may { "It is noted in the audit." } @else { "An admin can; it is noted in the audit." } }
        }
    }
}

fn attempt(outcome: &Outcome, look: &Look, now: i64) -> Markup {
    let (kind, shape, word) = words::stands(Stands::Is(outcome.result));
    let told = match outcome.attempt {
        0 => word.to_owned(),
        nth => format!("{} try: {}", ordinal(nth), word.to_lowercase()),
    };
    html! {
        li {
            (look.exact_time(outcome.ended_at, now))
            div {
                (super::part::status(kind, shape, &told))
                @if let Some(said) = said(outcome) { br; span.sub { (said) } }
                @if let Some(next) = outcome.next_at { br; span.sub { "Not before " (look.exact_time(next, now)) } }
            }
        }
    }
}

/// What the receiver answered, or why it ended.
fn said(outcome: &Outcome) -> Option<String> {
    let provider = match credential_of(&outcome.lane).split(':').next() {
        Some("clevertap") => "CleverTap",
        _ => "Slack",
    };
    let took = outcome.started_at.map(|started_at| took(outcome.ended_at - started_at));
    let reason = outcome
        .reason
        .as_deref()
        .and_then(|reason| reason.parse::<Reason>().ok());
    let why = reason.map(|reason| words::reason(Some(reason)));
    let code = outcome.status.map_or(String::new(), |status| format!(" ({status})"));
    let is_sent = matches!(outcome.result, OutcomeResult::Sent | OutcomeResult::Digested);
    match (&outcome.words, took) {
        (_, Some(took)) if is_sent => Some(format!("{provider} took it in {took}")),
        (Some(words), Some(_)) => {
            let said = format!("{provider} said: {}{code}", mask(words));
            Some(why.map_or(said.clone(), |why| format!("{why}. {said}")))
        }
        (Some(words), None) => Some(mask(words).into_owned()),
        (None, _) => why.map(str::to_owned),
    }
}

fn ordinal(number: i32) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::job;
    use crate::kafka::reader::Record;
    use crate::web::page::tests::{HOSTILE, is_harmless, look};

    fn page(hostile: &str, may: bool) -> Page {
        let mut job = job();
        job.lead_id = hostile.to_owned();
        job.body = serde_json::json!({"channel": "C1", "text": hostile}).to_string();
        let mut outcome = job.outcome(OutcomeResult::Throttled, 1_772_723_761_000);
        (outcome.words, outcome.status, outcome.started_at) =
            (Some(hostile.to_owned()), Some(429), Some(1_772_723_760_000));
        outcome.attempt = 1;
        let mut sent = job.outcome(OutcomeResult::Sent, 1_772_723_762_000);
        (sent.started_at, sent.attempt) = (Some(1_772_723_761_600), 2);
        let life = Life {
            id: job.job_id.clone(),
            outcomes: vec![outcome, sent],
            stands: Stands::Is(OutcomeResult::Sent),
            sent: Some(job.body.clone()),
            job: Some((job, Record::default())),
            newer: crate::desk::newer::Newer::default(),
        };
        Page {
            rule: RuleName {
                id: "r".to_owned(),
                name: Some(hostile.to_owned()),
                is_there: true,
            },
            about: About::of(&life),
            life,
            may,
        }
    }

    #[test]
    fn a_life_tells_every_try_and_shows_what_anybody_wrote_as_text() {
        for hostile in HOSTILE {
            let drawn = page(hostile, true).draw(&look(), 1_772_723_770_000).into_string();
            is_harmless(&drawn);
            assert!(
                drawn.contains("1st try: asked to wait") && drawn.contains("(429)"),
                "{drawn}"
            );
            assert!(drawn.contains("Slack took it in 0.4 s"), "{drawn}");
        }
        let mut page = page("ana@example.com", false);
        page.rule.name = None;
        let masked = page.draw(&look(), 0).into_string();
        assert!(!masked.contains("ana@example.com"), "{masked}");
        assert!(
            masked.contains("needs an admin") && masked.contains(" disabled"),
            "{masked}"
        );
    }

    #[test]
    fn numbers_have_their_endings() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21].map(ordinal),
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st"]
        );
    }
}
