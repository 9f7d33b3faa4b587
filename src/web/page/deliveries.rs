//! Deliveries: every message and update that a rule asked for, and how it ended.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::part::{self, as_of, count, number, pager, took};
use super::words::{self, RuleName, address, lead_link, stands_status};
use super::{Given, Look, Nav, View, answer, icon};
use crate::dates::time_text;
use crate::desk::deliveries::{Stands, recent};
use crate::desk::resident::deliveries::{Asked, Delivery};
use crate::desk::resident::{Reach, Topic};
use crate::desk::scan::Period;
use crate::web::Web;

const PATH: &str = "/deliveries";
/// So many stand on a page.
const LIMIT: usize = 100;
const DAY: i64 = 24 * 3600 * 1000;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new().route(PATH, get(show))
}

/// What was asked for, as it was typed.
#[derive(Debug, Default)]
struct Typed {
    lead: Option<String>,
    rule: Option<String>,
    lane: Option<String>,
    result: Option<String>,
    from: Option<String>,
    until: Option<String>,
}

struct Row {
    delivery: Delivery,
    rule: RuleName,
    /// What Slack calls the channel or the member, where that is known.
    receiver: Option<String>,
}

struct Page {
    typed: Typed,
    rows: Vec<Row>,
    next: Option<String>,
    is_first: bool,
    /// Of the last 24 hours.
    tally: Vec<(Stands, u64)>,
    reach: Reach,
    cut_off: Option<i64>,
    /// The address of this page.
    here: String,
    command: String,
}

impl Typed {
    fn of(given: &Given) -> Self {
        Self {
            lead: given.text("lead"),
            rule: given.text("rule"),
            lane: given.text("lane"),
            result: given.text("result"),
            from: given.text("from"),
            until: given.text("until"),
        }
    }

    fn asked(&self, zone: &TimeZone) -> Asked {
        let result = self.result.as_deref();
        Asked {
            lead: self.lead.clone(),
            rule: self.rule.clone(),
            lane: self.lane.clone(),
            stands: words::STANDS
                .into_iter()
                .filter(|stands| Some(stands.as_str()) == result)
                .collect(),
            period: Period {
                since: self.from.as_deref().and_then(|text| at(text, zone)),
                until: self.until.as_deref().and_then(|text| at(text, zone)),
            },
            ..Asked::default()
        }
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("lead", &self.lead),
            ("rule", &self.rule),
            ("lane", &self.lane),
            ("result", &self.result),
            ("from", &self.from),
            ("until", &self.until),
        ];
        let given = all
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.collect()
    }
}

/// The time that a reader typed, in epoch milliseconds.
pub(super) fn at(text: &str, zone: &TimeZone) -> Option<i64> {
    let typed: DateTime = text.parse().ok()?;
    Some(typed.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond())
}

async fn show(State(web): State<Arc<Web>>, look: Look, given: Given) -> Response {
    let (zone, now) = (look.zone.clone(), (web.now)());
    let asked = web.ask(move |web| Ok(Page::read(web, &given, &zone, now))).await;
    answer(&web, &look, Nav::Deliveries, asked)
}

impl Page {
    fn read(web: &Web, given: &Given, zone: &TimeZone, now: i64) -> Self {
        let (resident, typed) = (&web.resident, Typed::of(given));
        let asked = typed.asked(zone);
        let page = recent::recent(resident, &asked, given.after(), LIMIT, now);
        let tally = resident.deliveries().tally(now - DAY);
        let reach = resident.reach(Topic::Outcomes);
        let view = resident.rules().view();
        let rows = page.items.into_iter().map(|delivery| Row {
            rule: RuleName::of(&view, &delivery.rule_id),
            receiver: web.names.of_lane(&delivery.lane),
            delivery,
        });
        Self {
            rows: rows.collect(),
            next: given.next(PATH, page.next),
            is_first: given.after().is_none(),
            tally,
            reach,
            cut_off: part::cut_off(resident),
            here: address(PATH, &typed.query()),
            command: command(&typed, &asked),
            typed,
        }
    }
}

/// The command that gives the same.
fn command(typed: &Typed, asked: &Asked) -> String {
    let mut text = "leadlane deliveries list".to_owned();
    let result = typed
        .result
        .as_deref()
        .filter(|result| *result != Stands::Waiting.as_str());
    let flags = [
        ("lead", typed.lead.clone()),
        ("rule", typed.rule.clone()),
        ("lane", typed.lane.clone()),
        ("result", result.map(str::to_owned)),
        ("since", asked.period.since.map(time_text)),
        ("until", asked.period.until.map(time_text)),
    ];
    for (flag, value) in flags {
        if let Some(value) = value {
            text.push_str(&format!(" --{flag} {}", quoted(&value)));
        }
    }
    text
}

/// A value as a shell takes it.
pub(super) fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match !value.is_empty() && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

impl View for Page {
    fn title(&self) -> String {
        "Deliveries".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        html! {
            div.head { div { h1 { "Deliveries" } p { "Every message and update a rule asked for, and how it ended." } } }
            div.panel {
                (self.filters())
                @if self.is_first { (part::live(&self.here, &self.list(look, now))) } @else { (self.list(look, now)) }
            }
            (part::foot(look, "Deliveries", &self.reach, &self.command, now))
        }
    }

    fn live(&self, look: &Look, now: i64) -> Option<Markup> {
        Some(self.list(look, now))
    }
}

impl Page {
    fn filters(&self) -> Markup {
        let typed = &self.typed;
        let mut results = vec![("", "Any result")];
        results.extend(words::STANDS.map(|stands| (stands.as_str(), words::stands(stands).2)));
        html! {
            form.filters method="get" action=(PATH) aria-label="Filter deliveries" {
                (part::input("dlead", "lead", "Lead id", typed.lead.as_deref()))
                (part::input("drule", "rule", "Rule’s id", typed.rule.as_deref()))
                (part::input("dlane", "lane", "Lane", typed.lane.as_deref()))
                (part::choice("dres", "result", "Result", typed.result.as_deref(), &results))
                div.field.date { label for="dfrom" { "From" } input #dfrom name="from" type="datetime-local" value=[&typed.from]; }
                div.field.date { label for="dto" { "Until" } input #dto name="until" type="datetime-local" value=[&typed.until]; }
                button.btn { "Filter" }
                @if !typed.query().is_empty() { a.btn.bare href=(PATH) { "Clear" } }
            }
        }
    }

    /// What follows: the tally and the table.
    fn list(&self, look: &Look, now: i64) -> Markup {
        html! {
            nav.tally aria-label="By result, last 24 hours" {
                @for (stands, count) in &self.tally {
                    @let (_, shape, word) = words::stands(*stands);
                    a href=(address(PATH, &[("result", stands.as_str())])) {
                        (icon(shape)) b { (number(*count)) } span { (word.to_lowercase()) }
                    }
                }
                @if !self.tally.is_empty() { span.small.muted { "in the last 24 hours" } }
                (as_of(look, self.cut_off, now))
            }
            @if self.rows.is_empty() { (self.none()) } @else { (self.table(look, now)) }
        }
    }

    fn none(&self) -> Markup {
        let filtered = !self.typed.query().is_empty();
        let on = html! {
            @if let Some(lead) = &self.typed.lead { a.btn href=(address("/why", &[("lead", lead)])) { "See why" } }
            @if filtered { a.btn.bare href=(PATH) { "Clear the filters" } }
            @else { a.btn href="/rules" { "Look at the rules" } }
        };
        match (&self.typed.lead, filtered) {
            (Some(lead), _) => part::nothing(
                "search",
                &format!("No delivery for lead {}", words::mask_id(lead)),
                "Either the lead didn’t come in, or no rule matched it, or it was before what is kept here.",
                &on,
            ),
            (None, true) => part::nothing(
                "search",
                "No such delivery",
                "None of those that are kept here fits the filters.",
                &on,
            ),
            (None, false) => part::nothing(
                "send",
                "Nothing was sent yet",
                "When a lead matches a rule, the message stands here, with every try.",
                &on,
            ),
        }
    }

    fn table(&self, look: &Look, now: i64) -> Markup {
        html! {
            table.tbl.cards role="table" {
                caption.vh { "Deliveries, newest first" }
                (part::columns(&[("When", "beside"), ("Lead", ""), ("Rule", ""), ("Went to", ""), ("Result", ""), ("Tries", "num"), ("Took", "num"), ("Open", "third unseen")]))
                tbody role="rowgroup" { @for row in &self.rows { (row.draw(look, now)) } }
            }
            (pager(
                &format!("{} {}", if self.is_first { "The newest" } else { "Older:" }, count(self.rows.len() as u64, "delivery", "deliveries")),
                None,
                self.next.as_deref().map(|next| (next, "Older")),
            ))
        }
    }
}

impl Row {
    fn draw(&self, look: &Look, now: i64) -> Markup {
        let delivery = &self.delivery;
        let took = delivery
            .ended_at
            .filter(|_| is_sent(delivery.stands))
            .map(|ended_at| took(ended_at - delivery.place.at));
        html! {
            tr role="row" {
                td.beside role="cell" data-l="When" { (look.exact_time(delivery.place.at, now)) }
                th scope="row" role="rowheader" { (lead_link(&delivery.lead_id, &delivery.id)) }
                td.full role="cell" data-l="Rule" {
                    (self.rule.link()) @if delivery.is_test { " " span.tag { "Test" } }
                }
                td role="cell" data-l="Went to" { (words::receiver(&delivery.lane, self.receiver.as_deref())) }
                td role="cell" data-l="Result" { (stands_status(delivery.stands)) }
                td.num role="cell" data-l="Tries" { (delivery.attempts) }
                td.num role="cell" data-l="Took" { @if let Some(took) = took { (took) } }
                td.third role="cell" {
                    a href=(format!("{PATH}/{}", delivery.id)) aria-label=(format!("Open the delivery for lead {}", words::mask_id(&delivery.lead_id))) { "Open" }
                }
            }
        }
    }
}

fn is_sent(stands: Stands) -> bool {
    use crate::delivery::OutcomeResult::{Digested, Sent};
    matches!(stands, Stands::Is(Sent | Digested))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::OutcomeResult;
    use crate::desk::page::Place;
    use crate::web::page::tests::{is_harmless, look};

    fn page(rows: Vec<Row>, typed: Typed) -> Page {
        Page {
            command: command(&typed, &typed.asked(&TimeZone::UTC)),
            here: address(PATH, &typed.query()),
            typed,
            rows,
            next: None,
            is_first: true,
            tally: vec![(Stands::Is(OutcomeResult::Sent), 11_590)],
            reach: Reach {
                topic: Topic::Outcomes,
                since: Some(1_772_000_000_000),
                whole: false,
                caught_up: true,
                cut_off: None,
            },
            cut_off: None,
        }
    }

    #[test]
    fn a_row_shows_what_anybody_wrote_as_text() {
        for hostile in crate::web::page::tests::HOSTILE {
            let row = Row {
                delivery: Delivery {
                    place: Place {
                        at: 1_772_723_760_000,
                        partition: 0,
                        offset: 5,
                    },
                    id: "0190f3c2-6f7b-7c11-9a55-3f0a7be1c001".to_owned(),
                    event_id: hostile.to_owned(),
                    lead_id: hostile.to_owned(),
                    rule_id: hostile.to_owned(),
                    lane: format!("slack:{hostile}/{hostile}"),
                    stands: Stands::Is(OutcomeResult::Sent),
                    attempts: 2,
                    ended_at: Some(1_772_723_760_400),
                    is_test: true,
                },
                rule: RuleName {
                    id: hostile.to_owned(),
                    name: Some(hostile.to_owned()),
                    is_there: true,
                },
                receiver: Some(hostile.to_owned()),
            };
            let typed = Typed {
                lead: Some(hostile.to_owned()),
                lane: Some(hostile.to_owned()),
                ..Typed::default()
            };
            let drawn = page(vec![row], typed).draw(&look(), 1_772_723_770_000).into_string();
            is_harmless(&drawn);
            assert!(drawn.contains("0.4 s") && drawn.contains("11,590"), "{drawn}");
        }
    }

    #[test]
    fn the_command_has_the_filters_and_a_time_is_the_readers() {
        let typed = Typed {
            lead: Some("it's".to_owned()),
            result: Some("dead".to_owned()),
            from: Some("2026-03-05T00:00".to_owned()),
            ..Typed::default()
        };
        let zone = TimeZone::get("America/Chicago").unwrap();
        let asked = typed.asked(&zone);
        assert_eq!(asked.stands, [Stands::Is(OutcomeResult::Dead)]);
        assert_eq!(
            command(&typed, &asked),
            r"leadlane deliveries list --lead 'it'\''s' --result dead --since 2026-03-05T06:00:00Z"
        );
        assert_eq!(at("soon", &zone), None);
        let none = page(Vec::new(), typed).draw(&look(), 0).into_string();
        assert!(
            none.contains("No delivery for lead it&#39;s") || none.contains("No delivery for lead it's"),
            "{none}"
        );
    }

    #[test]
    fn a_short_time_is_told_in_tenths() {
        assert_eq!([0, 449, 12_000].map(took), ["<0.1 s", "0.4 s", "12 s"]);
    }
}
