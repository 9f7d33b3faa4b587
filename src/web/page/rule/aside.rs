//! The right side of the editor: what would arrive, a test that really sends, and the rule held against recent events.

use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use super::Page;
use super::slack::{missing, pieces};
use crate::desk::preview::{Fate, Preview, Record, What, preview};
use crate::desk::recent::Matches;
use crate::desk::resident::counts::HOUR;
use crate::desk::send_test::Answer;
use crate::rules::{Failed, Versioned};
use crate::text::Unit;
use crate::text::mask::{mask, mask_named};
use crate::web::names::Name;
use crate::web::page::part::{count, number, span, status, took};
use crate::web::page::why::decided;
use crate::web::page::words::fault;
use crate::web::page::{Look, icon};

/// The most bars of a chart.
const BARS_MAX: i64 = 7 * 24;

impl Page<'_> {
    pub(super) fn aside(&self) -> Markup {
        html! {
            div.aside {
                section.panel aria-labelledby="prev" {
                    header { h2 #prev { "Preview" } p { "Nothing leaves this page" } }
                    div.pad.stack {
                        (self.shown_with())
                        (self.preview_part(false))
                        button.btn.s name="do" value="preview" formaction=(self.address("/preview")) { (icon("eye")) "Preview" }
                    }
                }
                (self.test())
                (self.try_it())
            }
        }
    }

    /// The preview in its place. Beside another part it takes that by itself.
    pub(super) fn preview_part(&self, is_beside: bool) -> Markup {
        html! { div #preview aria-live="polite" hx-swap-oob=[is_beside.then_some("true")] { (self.preview()) } }
    }

    fn shown_with(&self) -> Markup {
        let with = &self.chosen.with;
        let recent = |at: i64| html! { (self.look.exact_time(at, self.now())) };
        html! {
            div.field {
                label for="with" { "Shown with" }
                select #with name="with" {
                    option value="" selected[with.is_empty()] { "What fits best" }
                    @for event in &self.chosen.recent {
                        @let value = format!("recent:{}", event.place);
                        option value=(value) selected[*with == value] { "Lead " (mask(&event.lead_id)) ", " (plain_time(self.look, event.occurred_at, self.now())) }
                    }
                    @if with.starts_with("recent:") && !self.chosen.recent.iter().any(|event| *with == format!("recent:{}", event.place)) {
                        option value=(with) selected { "An event of another trigger" }
                    }
                    option value="sample" selected[with == "sample"] { "The built-in sample" }
                    option value="pasted" selected[with == "pasted"] { "The event pasted below" }
                    @for inlet in &self.web.config.inlets {
                        @let value = format!("inlet:{}", inlet.name);
                        option value=(value) selected[*with == value] { "The record pasted below, through inlet " (inlet.name) }
                    }
                }
                @if let Some(newest) = self.chosen.recent.first() { p.hint { "The newest came at " (recent(newest.place.at)) "." } }
                @else { p.hint { "No event of this trigger came lately." } }
            }
            details.fold open[!self.chosen.pasted.is_empty()] {
                summary { "Paste an event or a record" }
                div.field {
                    label for="pasted" { "Its JSON" }
                    textarea #pasted name="pasted" rows="6" class="mono" spellcheck="false" { "\n" (self.chosen.pasted) }
                }
            }
        }
    }

    /// What would arrive of the event that is chosen.
    pub(super) fn preview(&self) -> Markup {
        let Some(rule) = self.editing.previewed() else {
            let lacks = self.editing.draft.errors.iter();
            return html! {
                p.small.sub { "The message is shown here once this is filled in:" }
                ul.small { @for problem in lacks.take(6) { li { (self.editing_label(&problem.place)) ": " (fault(&problem.message)) } } }
            };
        };
        let versioned = Versioned {
            rule,
            version: self.editing.seen.unwrap_or(-1),
        };
        let now = self.now();
        let shown = self.chosen.with(self.web, |event| {
            (
                preview(&self.web.config, &versioned, event, now),
                event.occurred_at.as_millisecond(),
            )
        });
        match shown {
            Ok((preview, at)) => {
                let (trigger, name) = (self.editing.value("trigger"), self.name.as_ref().and_then(Name::is));
                html! { p.small.sub { (self.chosen.words()) } (previewed(&preview, trigger, name, self.look, at, now)) }
            }
            Err(why) => html! { p.err { (icon("warn")) span { "This can’t be shown as an event: " (mask(&why)) } } },
        }
    }

    fn test(&self) -> Markup {
        let is_slack = self.editing.value("action.type").starts_with("slack");
        html! {
            section.real.pad.stack aria-labelledby="test-h" {
                h2 #test-h { "Send test" }
                p.small.sub {
                    @if is_slack { "Really posts this message to Slack, marked " span.tag { "TEST" } ". People there will see it." }
                    @else { "Really asks CleverTap. An event is marked " span.tag { "TEST" } "; a profile is only checked, and CleverTap keeps nothing." }
                }
                div.row {
                    button.btn name="do" value="test" formaction=(self.address("/test")) disabled[self.is_read_only()]
                        hx-post=(self.address("/test")) hx-target="#test" hx-swap="innerHTML" hx-params="*" hx-disabled-elt="this" { (icon("send")) "Send test" }
                    @if self.is_read_only() { span.small.muted { "needs the role editor, for this rule" } }
                }
                div #test role="status" { (self.tested()) }
            }
        }
    }

    pub(super) fn tested(&self) -> Markup {
        match &self.tested {
            None => html! {},
            Some(Err(why)) => html! { p.err { (icon("warn")) span { (mask(why)) } } },
            Some(Ok(answer)) => tested(answer, self.look, self.now()),
        }
    }

    fn try_it(&self) -> Markup {
        html! {
            section.panel aria-labelledby="try-h" {
                header { h2 #try-h { "Try it on recent events" } }
                div.pad.stack {
                    div #try aria-live="polite" { (self.tried()) }
                    button.btn.s name="do" value="try" formaction=(self.address("/try"))
                        hx-post=(self.address("/try")) hx-target="#try" hx-swap="innerHTML" hx-params="*" { (icon("again")) "Try it" }
                }
            }
        }
    }

    pub(super) fn tried(&self) -> Markup {
        match &self.tried {
            None => html! { p.small.sub { "How many messages would this rule have sent? Nothing is sent." } },
            Some(Err(why)) => html! { p.err { (icon("warn")) span { (why) } } },
            Some(Ok(matches)) => tried(matches, self.editing.value("trigger"), self.look, self.now()),
        }
    }
}

/// A time within a choice, which takes text alone.
fn plain_time(look: &Look, at: i64, now: i64) -> String {
    let shown = look.time(at, now).into_string();
    let text = shown.split_once('>').and_then(|(_, rest)| rest.split_once('<'));
    text.map_or_else(String::new, |(text, _)| text.to_owned())
}

/// A preview of an event that occurred `at`. Times are in epoch milliseconds.
fn previewed(preview: &Preview, trigger: &str, name: Option<&str>, look: &Look, at: i64, now: i64) -> Markup {
    html! {
        @if !preview.failed.is_empty() {
            p.small { (status("off", "skip", "This event doesn’t match.")) " "
                @for (number, failed) in preview.failed.iter().take(3).enumerate() {
                    @if number > 0 { "; " }
                    @let (label, must) = decided::must(failed, trigger);
                    (label) " " (must) ", and this lead has " (decided::found(failed))
                }
            }
        }
        @match &preview.fate {
            Fate::Sent => {},
            Fate::LeftOut(why) => p { (status("off", "skip", "Left out")) " " (mask(why)) },
            Fate::Dead(why) => p { (status("bad", "dead", "It would become a dead letter")) " " (mask(why)) },
        }
        @if preview.body.is_some() { (arrives(&preview.what, name, look, at, now)) }
        div.row.small {
            span.num { (number(preview.length as u64)) " of " (number(preview.limit as u64)) " " (unit(preview.unit)) }
            @if preview.is_cut { (status("warn", "warn", "too long: the end is cut")) }
            @if !preview.missing.is_empty() {
                (status("warn", "warn", &count(preview.missing.len() as u64, "value missing", "values missing")))
                span { @for path in preview.missing.iter().take(8) { (missing(path)) " " } }
            }
        }
        @for note in &preview.notes { p.hint { (icon("note")) " " (mask(note)) } }
        @if let Some(body) = &preview.body {
            details.fold {
                summary { @if matches!(preview.what, What::Slack { .. }) { "What Slack is given, to the letter" } @else { "What CleverTap is given, to the letter" } }
                pre.codebox tabindex="0" aria-label="Body of the request" { (mask(body)) }
                @if mask(body) != body.as_str() { p.hint { "E-mail addresses and phone numbers are masked here alone." } }
            }
        }
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Characters => "characters",
        Unit::Bytes => "bytes",
    }
}

/// The mark of the desk, where an app's own image would be: images of others are never loaded.
const AVATAR: &str = r##"<svg class="av" viewBox="0 0 36 36" aria-hidden="true"><rect width="36" height="36" rx="4" fill="#1c2422"/><path d="M11 30 14.500 6M25 30 21.500 6" stroke="#eaefec" stroke-width="2.500" fill="none"/><path d="M18 8v5M18 17v5M18 26v4" stroke="#f0bd1f" stroke-width="2.500"/></svg>"##;

fn arrives(what: &What, to_name: Option<&str>, look: &Look, at: i64, now: i64) -> Markup {
    match what {
        What::Slack {
            by_app,
            to,
            is_member,
            username,
            icon_url,
            text,
        } => {
            let name = match (username, by_app) {
                (Some(name), _) => mask(name).into_owned(),
                (None, true) => "The app".to_owned(),
                (None, false) => "The webhook".to_owned(),
            };
            html! {
                div.slack {
                    p.chan {
                        @match (to, is_member) {
                            (Some(id), true) => { "To " (to_name.unwrap_or("member")) " " (id) }
                            (Some(id), false) => { @if let Some(name) = to_name { (name) " " } (id.trim_start_matches('#')) }
                            (None, _) => { "The webhook’s own channel" }
                        }
                    }
                    (PreEscaped(AVATAR))
                    div {
                        span.nm { (name) } span.app { "APP" } span.at { (look.time(at, now)) }
                        div.body { (pieces(text)) }
                    }
                }
                @if icon_url.is_some() { p.hint { (icon("note")) " The icon isn’t loaded here. Newer webhooks keep their own name and icon; Slack then ignores what is set." } }
            }
        }
        What::Profile(record) => self::record(record, "The profile as CleverTap will get it"),
        What::Event { name, record } => html! {
            p { "Event " b { (mask(name)) } }
            (self::record(record, "The event as CleverTap will get it"))
        },
    }
}

fn record(record: &Record, caption: &str) -> Markup {
    let kind = |value: &Value| match value {
        Value::String(text) if text.starts_with("$D_") => "date",
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "yes or no",
        Value::Array(_) => "list",
        Value::Object(_) => "order",
        Value::Null => "nothing",
    };
    let text = |name: &str, value: &Value| {
        let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        mask_named(name, &plain).into_owned()
    };
    html! {
        @if let Some((by, who)) = &record.user { p.small { "For " (if by == "identity" { "the person " } else { "the CleverTap id " }) b { (mask(who)) } } }
        table.tbl {
            caption.vh { (caption) }
            thead { tr { th scope="col" { "Property" } th scope="col" { "Value" } th scope="col" { "Kind" } } }
            tbody {
                @for (name, value) in &record.properties {
                    tr { th scope="row" { (mask(name)) } td { (text(name, value)) } td.muted { (kind(value)) } }
                }
                @for name in &record.left_out {
                    tr { th scope="row" { (mask(name)) } td { span.miss { "left out: no value" } } td.muted { "—" } }
                }
            }
        }
    }
}

/// How a test ended.
fn tested(answer: &Answer, look: &Look, now: i64) -> Markup {
    let result = answer.result.map(|result| result.as_str());
    let (kind, shape, words) = match result {
        Some("sent") => ("ok", "check", "It arrived"),
        Some("skipped") => ("off", "skip", "Nothing was sent"),
        Some("expired") => ("warn", "clock", "It could not start in time"),
        None => ("warn", "clock", "No answer yet"),
        Some(_) => ("bad", "x", "It did not arrive"),
    };
    html! {
        p.small { (status(kind, shape, words)) " " span.muted { (look.exact_time(now, now)) ", after " (took(i64::try_from(answer.millis).unwrap_or(i64::MAX))) ", by " code { (answer.lane) } } }
        @if let Some(cure) = &answer.cure { p { (mask(cure)) } }
        @if let Some(said) = answer.words.as_ref().filter(|_| result != Some("sent")) {
            p.small.muted { "The answer in its own words: " code { (mask(said)) } @if let Some(status) = answer.status { " (" (status) ")" } }
        }
    }
}

/// What a rule would have matched.
fn tried(matches: &Matches, trigger: &str, look: &Look, now: i64) -> Markup {
    let (Some(from), Some(to)) = (matches.from, matches.to) else {
        return html! { p.small.sub { "No event came yet that it could be tried on." } };
    };
    html! {
        p {
            "Of the last " b { (count(matches.looked_at as u64, "event", "events")) } " it would have matched " b { (number(matches.matched as u64)) }
            @if matches.matched > 0 { ": about " b { (rate(matches.per_hour)) } ", " b { (number(matches.most_in_an_hour as u64)) } " in one hour at most" } "."
        }
        @if !matches.hours.is_empty() { (bars(matches, look, from, to, now)) }
        @if !matches.fell.is_empty() {
            details.fold open {
                summary { "Where the others fell" }
                table.tbl {
                    caption.vh { "Why the other events did not match" }
                    thead { tr { th scope="col" { "First thing that failed" } th.num scope="col" { "Events" } } }
                    tbody {
                        @for (failed, events) in matches.fell.iter().take(12) {
                            tr { th scope="row" { (fell(failed, trigger)) } td.num { (number(*events as u64)) } }
                        }
                    }
                }
            }
        }
        p.small.sub { (look.time(from, now)) " until " (look.time(to, now)) ", " (span(to - from)) "." }
    }
}

/// A condition, told as its path and what it wants, as a person reads it.
fn fell(told: &str, trigger: &str) -> String {
    let (path, wanted) = told.split_once(' ').unwrap_or((told, ""));
    let failed = Failed {
        path: path.to_owned(),
        wanted: wanted.to_owned(),
        found: None,
    };
    let (label, must) = decided::must(&failed, trigger);
    mask(&format!("{label} {must}")).into_owned()
}

fn rate(per_hour: f64) -> String {
    match per_hour {
        few if few < 0.95 => format!("{few:.1} messages an hour"),
        many => count(many.round() as u64, "message an hour", "messages an hour"),
    }
}

/// Bars by the hour, from the first event on.
fn bars(matches: &Matches, look: &Look, from: i64, to: i64, now: i64) -> Markup {
    let last = to.div_euclid(HOUR);
    let first = from.div_euclid(HOUR).max(last - BARS_MAX + 1);
    let hours = (last - first + 1).max(1);
    let most = matches.most_in_an_hour.max(1) as f64;
    let step = 360.0 / hours as f64;
    let bar = |(at, count): &(i64, usize)| {
        let place = at.div_euclid(HOUR) - first;
        (place >= 0).then(|| (place as f64 * step, 36.0 * *count as f64 / most, *count))
    };
    let label = format!("Messages an hour: {} in one hour at most", matches.most_in_an_hour);
    html! {
        svg.trychart viewBox="0 0 360 56" role="img" aria-label=(label) {
            path.c-grid d="M0 44h360M0 8h360" {}
            @for (x, height, count) in matches.hours.iter().filter_map(bar) {
                rect class=(if count == matches.most_in_an_hour { "c-bar hi" } else { "c-bar" }) x=(format!("{x:.1}")) y=(format!("{:.1}", 44.0 - height))
                    width=(format!("{:.1}", (step * 0.8).max(0.5))) height=(format!("{height:.1}")) {}
            }
            text.c-txt x="0" y="55" { (plain_time(look, first * HOUR, now)) }
            text.c-txt x="360" y="55" text-anchor="end" { (plain_time(look, to, now)) }
        }
    }
}
