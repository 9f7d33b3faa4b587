//! The list of rules as a page.

use maud::{Markup, html};

use super::{Asked, address, versions_address};
use crate::rules::{Level, Status, is_rule_id};
use crate::web::page::part::{column, command, count, no_order_by_enter, number, pager, status};
use crate::web::page::{Look, chart, icon};

/// What the page shows.
pub(super) struct Shown {
    pub(super) rows: Vec<Row>,
    /// How many rules were found; the first row is the one behind so many.
    pub(super) total: usize,
    pub(super) first: usize,
    pub(super) page: usize,
    /// How many rules there are.
    pub(super) in_all: usize,
    pub(super) counted_from: Option<i64>,
    pub(super) may_add: bool,
    /// The triggers that can be chosen.
    pub(super) triggers: Vec<String>,
    pub(super) asked: Asked,
    pub(super) now: i64,
}

/// One rule of the list.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) when: String,
    pub(super) system: &'static str,
    pub(super) place: String,
    pub(super) to: String,
    /// What Slack calls it, where that is known.
    pub(super) receiver: Option<String>,
    pub(super) by: String,
    pub(super) stands: Stands,
    /// A later record under the id isn't readable; the one before stays in force.
    pub(super) rejected_later: bool,
    /// Its matches by the hour.
    pub(super) hours: Vec<u64>,
    pub(super) matched: u64,
    pub(super) sent: u64,
    pub(super) last_matched_at: Option<i64>,
    pub(super) version: Option<i64>,
    pub(super) author: String,
    pub(super) may_write: bool,
}

/// How a rule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stands {
    Is(Status),
    CantSend(String),
    NotReadable,
}

pub(super) fn page(shown: &Shown, look: &Look) -> Markup {
    if shown.in_all == 0 {
        return empty(shown);
    }
    html! {
        div.head {
            div {
                h1 { "Rules" }
                p { "What is sent, to whom, when a lead does what. Rules add up: one lead may meet many." }
            }
            div.row {
                a.btn href="/rules/import" { (icon("in")) "Import" }
                a.btn href="/rules/export" { (icon("out")) "Export YAML" }
                (add(shown.may_add))
            }
        }
        (done(&shown.asked))
        div.panel {
            (filters(shown))
            @if shown.rows.is_empty() { (nothing()) } @else { (list(shown, look)) }
            (foot(shown, look))
        }
        div.foot {
            p {
                "All " (count(shown.in_all as u64, "rule", "rules")) " are listed here. On a server: "
                (command("leadlane rules list"))
            }
        }
    }
}

/// Nothing is there yet: the way to a first rule.
fn empty(shown: &Shown) -> Markup {
    html! {
        div.head {
            div {
                h1 { "Rules" }
                p { "There are none yet. The first takes three clicks, and can go to a channel of your own, so nobody is disturbed." }
            }
            div.row { a.btn href="/rules/import" { (icon("in")) "Import" } (add(shown.may_add)) }
        }
        ol.three.panel aria-label="The way to a first rule" {
            li { h2 { "Start with a sentence" } p { "Press Add rule, and pick one that is nearly yours. It comes filled in." } }
            li.later { h2 { "See it on a real lead" } p { "The page shows the message as it will arrive, made from a lead that came in. Nothing is sent." } }
            li.later { h2 { "Save" } p { "The rule is in force within a second. On trial it only counts, until you say so." } }
        }
    }
}

/// The way to a new rule.
fn add(may_add: bool) -> Markup {
    html! {
        @if may_add {
            a.btn.go href="/rules/new" { (icon("plus")) "Add rule" }
        } @else {
            button.btn.go disabled aria-describedby="needs" { (icon("plus")) "Add rule" }
            span.small.muted #needs { "needs the role editor" }
        }
    }
}

/// What was just done.
fn done(asked: &Asked) -> Markup {
    let words = match asked.done.as_str() {
        "paused" => "paused",
        "resumed" => "active again",
        "duplicated" => "copied; the copies are paused",
        "deleted" => "deleted; they stay under Audit and can be brought back",
        "imported" => "brought in",
        "none" => {
            return html! {
                div.banner.warn role="status" { (icon("warn")) div { p { b { "No rule is ticked." } " Tick the boxes of the rules that are meant, then choose what to do." } } }
            };
        }
        _ => return html! {},
    };
    let verb = if asked.count == 1 { "is" } else { "are" };
    html! {
        div.banner.ok role="status" {
            (icon("check"))
            div {
                p {
                    b { (count(asked.count, "rule", "rules")) " " (verb) " " (words) "." }
                    @if asked.waiting > 0 {
                        " " (count(asked.waiting, "message of theirs still waits", "messages of theirs still wait")) ", and will be sent."
                    }
                }
            }
        }
    }
}

fn choice(id: &str, label: &str, chosen: &str, all: &[(&str, &str)]) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            select id=(id) name=(id) {
                @for (value, words) in all { option value=(value) selected[*value == chosen] { (words) } }
            }
        }
    }
}

fn filters(shown: &Shown) -> Markup {
    let asked = &shown.asked;
    let mut levels = vec![("", "All levels")];
    levels.extend(Level::ALL.into_iter().map(|level| (level.as_str(), capital(level))));
    let triggers = shown
        .triggers
        .iter()
        .map(|name| (name.clone(), super::trigger_words(name)));
    let triggers: Vec<(String, String)> = triggers
        .map(|(name, (label, system))| (name, format!("{label} ({system})")))
        .collect();
    let mut choices = vec![("", "Any trigger")];
    choices.extend(triggers.iter().map(|(name, words)| (name.as_str(), words.as_str())));
    html! {
        form.filters method="get" action="/rules" aria-label="Filter rules" {
            div.field.wide { label for="text" { "Name or id" } input id="text" name="text" type="search" value=(asked.text); }
            (choice("level", "Level", &asked.level, &levels))
            div.field { label for="scope_id" { "Its id" } input id="scope_id" name="scope_id" value=(asked.scope_id) autocomplete="off"; }
            (choice("trigger", "When", &asked.trigger, &choices))
            (choice("action", "Sends to", &asked.action, &[
                ("", "Anywhere"), ("slack_message", "Slack"), ("slack_webhook", "Slack webhook"),
                ("clevertap_profile", "CleverTap profile"), ("clevertap_event", "CleverTap event"),
            ]))
            (choice("status", "Status", &asked.status, &[
                ("", "Any"), ("active", "Active"), ("paused", "Paused"), ("shadow", "On trial"),
                ("cant-send", "Can’t send"), ("rejected", "Not readable"),
            ]))
            @if !asked.sort.is_empty() { input type="hidden" name="sort" value=(asked.sort); }
            button.btn { "Filter" }
        }
    }
}

fn capital(level: Level) -> &'static str {
    match level {
        Level::Product => "Product",
        Level::Campaign => "Campaign",
        Level::Publisher => "Publisher",
        Level::Inlet => "Inlet",
    }
}

fn nothing() -> Markup {
    html! {
        div.none {
            (icon("search"))
            h2 { "No rule is like that" }
            p { "Ask for less, or look at all of them." }
            div.row { a.btn href="/rules" { "Clear the filters" } }
        }
    }
}

/// A column's title that sorts by it.
fn sortable(shown: &Shown, by: &str, words: &str, class: &str) -> Markup {
    let asked = &shown.asked;
    let is_by = asked.sort == by || (asked.sort.is_empty() && by == "last");
    let order = match (is_by, by) {
        (false, _) => "none",
        (true, "name") => "ascending",
        (true, _) => "descending",
    };
    html! {
        th scope="col" role="columnheader" class=(class) aria-sort=(order) {
            a href=(asked.address(1, by)) { (words) @if is_by { (icon(if by == "name" { "up" } else { "down" })) } }
        }
    }
}

fn list(shown: &Shown, look: &Look) -> Markup {
    let last = shown.first + shown.rows.len();
    html! {
        form method="post" action="/rules/bulk" id="list" {
            (look.token())
            (no_order_by_enter())
            input type="hidden" name="back" value=(shown.asked.address(shown.page, &shown.asked.sort));
            @if shown.may_add { (bulk(shown)) }
            table.tbl.cards role="table" {
                caption.vh { "Rules, " (number(shown.first as u64 + 1)) " to " (number(last as u64)) " of " (number(shown.total as u64)) }
                thead role="rowgroup" {
                    tr role="row" {
                        (column("Pick", "unseen"))
                        (sortable(shown, "name", "Rule", "rule"))
                        (column("When", ""))
                        (column("Where", ""))
                        (column("Sends to", ""))
                        (column("Status", ""))
                        (column("24 h", "third"))
                        (sortable(shown, "matched", "Matched", "num"))
                        (column("Sent", "num"))
                        (sortable(shown, "last", "Last match", ""))
                        (column("Version", ""))
                    }
                }
                tbody role="rowgroup" { @for row in &shown.rows { (row_of(row, look, shown.now)) } }
            }
        }
    }
}

fn bulk(shown: &Shown) -> Markup {
    html! {
        div.bulk role="group" aria-label="With the ticked rules" {
            b { "With the ticked rules:" }
            button.btn.s name="do" value="pause" { (icon("pause")) "Pause" }
            button.btn.s name="do" value="resume" { (icon("on")) "Resume" }
            button.btn.s name="do" value="duplicate" { (icon("copy")) "Duplicate" }
            button.btn.s name="do" value="export" { (icon("out")) "Export" }
            button.btn.s.bad name="do" value="delete" { (icon("trash")) "Delete…" }
            @if shown.rows.iter().any(|row| !row.may_write) {
                span.muted { "Rules with a lock are outside your levels: you can read and try them." }
            }
        }
    }
}

fn lock() -> Markup {
    html! { span.muted { (icon("lock")) } }
}

fn row_of(row: &Row, look: &Look, now: i64) -> Markup {
    let name = row.name.as_deref().unwrap_or(&row.id);
    let version = row.version.unwrap_or_default();
    html! {
        tr role="row" {
            td.box role="cell" {
                @if row.may_write && row.version.is_some() {
                    input type="checkbox" name="id" value=(format!("{}@{version}", row.id)) aria-label=(format!("Pick {name}"));
                } @else {
                    span title="Read only for you" { (lock()) span.vh { "Read only for you" } }
                }
            }
            th scope="row" role="rowheader" {
                @if is_rule_id(&row.id) { a href=(address(&row.id)) { (name) } } @else { (name) }
                span.id { (row.id) }
            }
            td role="cell" data-l="When" { (row.when) @if !row.when.is_empty() { span.two-l { (row.system) } } }
            td role="cell" data-l="Where" { (row.place) }
            td role="cell" data-l="Sends to" { (row.to) @if let Some(name) = &row.receiver { " " span.muted { (name) } } @if !row.by.is_empty() { span.two-l { (row.by) } } }
            td role="cell" data-l="Status" { (stands(row)) }
            td.third role="cell" data-l="By hour" {
                @if row.matched == 0 { span.muted { "none" } } @else {
                    (chart::spark(&row.hours, &format!("Matches by hour: {} in 24 hours", number(row.matched))))
                }
            }
            td.num role="cell" data-l="Matched" { (number(row.matched)) }
            td.num role="cell" data-l="Sent" {
                @if row.stands == Stands::Is(Status::Shadow) { "would: " (number(row.matched)) } @else { (number(row.sent)) }
            }
            td role="cell" data-l="Last match" {
                @match row.last_matched_at { Some(at) => (look.time(at, now)), None => span.muted { "none yet" } }
            }
            td role="cell" data-l="Version" {
                @if let Some(version) = row.version {
                    a href=(versions_address(&row.id)) aria-label=(format!("Versions of {name}, now {version}")) { (version) }
                }
                @if !row.author.is_empty() { span.two-l { (row.author) } }
            }
        }
    }
}

/// The status of a rule, as everywhere.
pub(in crate::web::page) fn status_of(status_: Status) -> Markup {
    match status_ {
        Status::Active => status("ok", "on", "Active"),
        Status::Paused => status("off", "pause", "Paused"),
        Status::Shadow => status("wait", "half", "On trial"),
    }
}

fn stands(row: &Row) -> Markup {
    html! {
        @match &row.stands {
            Stands::Is(is) => (status_of(*is)),
            Stands::CantSend(why) => { (status("bad", "stop", "Can’t send")) span.two-l { (why) } },
            Stands::NotReadable => { (status("bad", "warn", "Not readable")) span.two-l { "nothing is sent" } },
        }
        @if row.rejected_later { span.two-l { "a later change isn’t readable" } }
    }
}

fn foot(shown: &Shown, look: &Look) -> Markup {
    let last = shown.first + shown.rows.len();
    let words = match shown.total {
        0 => "No rules".to_owned(),
        total => format!(
            "{} to {} of {}",
            number(shown.first as u64 + 1),
            number(last as u64),
            count(total as u64, "rule", "rules")
        ),
    };
    let note = html! {
        "Matched and sent: last 24 hours"
        @if let Some(from) = shown.counted_from { ", counted from " (look.time(from, shown.now)) }
    };
    let rest = shown.total.saturating_sub(last);
    let (before, behind) = (
        shown.asked.address(shown.page.saturating_sub(1), &shown.asked.sort),
        shown.asked.address(shown.page + 1, &shown.asked.sort),
    );
    let words_on = format!("Next {}", number(rest.min(super::PAGE) as u64));
    html! {
        @if shown.page > 1 && rest == 0 {
            (pager(&words, Some(note), Some((&before, "Back"))))
        } @else if shown.page > 1 {
            div.pager { span { (words) } span { (note) } span.end { a.btn.s href=(before) { "Back" } a.btn.s href=(behind) { (words_on) } } }
        } @else {
            (pager(&words, Some(note), (rest > 0).then_some((&behind, &words_on))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 2] = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>"];

    fn row(text: &str) -> Row {
        Row {
            id: "r".to_owned(),
            name: Some(text.to_owned()),
            when: text.to_owned(),
            system: "Other",
            place: text.to_owned(),
            to: text.to_owned(),
            receiver: Some(text.to_owned()),
            by: text.to_owned(),
            stands: Stands::CantSend(text.to_owned()),
            rejected_later: true,
            hours: vec![1, 2],
            matched: 3,
            sent: 1,
            last_matched_at: Some(0),
            version: Some(7),
            author: text.to_owned(),
            may_write: true,
        }
    }

    fn shown(rows: Vec<Row>) -> Shown {
        Shown {
            total: rows.len(),
            in_all: rows.len(),
            rows,
            first: 0,
            page: 1,
            counted_from: Some(0),
            may_add: true,
            triggers: vec![HOSTILE[0].to_owned()],
            asked: Asked {
                text: HOSTILE[1].to_owned(),
                ..Asked::default()
            },
            now: 1,
        }
    }

    fn draw(shown: &Shown) -> String {
        let look = Look::of(&axum::http::HeaderMap::new(), None);
        page(shown, &look).into_string()
    }

    #[test]
    fn what_people_and_leads_wrote_stays_text() {
        let drawn = draw(&shown(HOSTILE.map(row).to_vec()));
        assert!(!drawn.contains("<script") && !drawn.contains("<img"), "{drawn}");
        assert!(drawn.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_rule_outside_of_the_levels_has_a_lock_instead_of_a_box() {
        let locked = Row {
            may_write: false,
            ..row("x")
        };
        let drawn = draw(&shown(vec![row("x"), locked]));
        assert_eq!(drawn.matches("type=\"checkbox\"").count(), 1);
        assert_eq!(drawn.matches("Read only for you\"").count(), 1);
        assert!(drawn.contains("value=\"r@7\""));
        // Enter in a box presses the first button of the form, which does nothing.
        let form = drawn.split("id=\"list\"").nth(1).unwrap_or_default();
        let first = form.split("<button ").nth(1).unwrap_or_default();
        assert!(
            first.split('>').next().unwrap_or_default().contains("dialog"),
            "{first}"
        );
    }

    #[test]
    fn the_next_page_keeps_what_was_asked_for() {
        let mut many = shown(vec![row("x")]);
        (many.total, many.asked.level) = (250, "product".to_owned());
        let drawn = draw(&many);
        assert!(drawn.contains("level=product&amp;page=2"), "{drawn}");
        assert!(drawn.contains("Next 75") && drawn.contains("1 to 1 of 250 rules"));
        (many.page, many.first) = (3, 249);
        assert!(draw(&many).contains("Back") && !draw(&many).contains("Next"));
    }

    #[test]
    fn nothing_found_offers_one_way_on() {
        let mut none = shown(Vec::new());
        assert!(draw(&none).contains("The way to a first rule"));
        none.in_all = 7;
        assert!(draw(&none).contains("Clear the filters"));
    }
}
