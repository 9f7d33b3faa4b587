//! Small parts of pages: figures, statuses, tables' feet.

use maud::{Markup, html};

use super::{Look, icon};
use crate::desk::resident::{Reach, Resident, Topic};

/// A count with thousands by comma.
pub(in crate::web) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 event`, `2 events`.
pub(in crate::web) fn count(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// A length of time in words, as short as it is clear: `40 s`, `14 minutes`, `3 hours`, `2 days`.
pub(in crate::web) fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A short length of time, in milliseconds: `0.4 s`.
pub(super) fn took(millis: i64) -> String {
    match millis.max(0) {
        0..100 => "<0.1 s".to_owned(),
        millis @ ..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        millis => span(millis),
    }
}

/// A status: a shape and a word. `kind` is ok, warn, bad, wait or off.
pub(in crate::web) fn status(kind: &str, shape: &str, word: &str) -> Markup {
    html! { span class=(format!("st {kind}")) { (icon(shape)) (word) } }
}

/// The foot of a list: what is shown, and the way to the rest.
pub(in crate::web) fn pager(shown: &str, note: Option<Markup>, next: Option<(&str, &str)>) -> Markup {
    html! {
        div.pager {
            span { (shown) }
            @if let Some(note) = note { span { (note) } }
            @if let Some((address, words)) = next { span.end { a.btn.s href=(address) { (words) } } }
        }
    }
}

/// The heads of a table's columns.
pub(in crate::web) fn columns(heads: &[(&str, &str)]) -> Markup {
    html! { thead role="rowgroup" { tr role="row" { @for (words, class) in heads { (column(words, class)) } } } }
}

/// The head of a column. Its class says where its cells stand; of a column of class `unseen` those who see need no head.
pub(in crate::web) fn column(words: &str, class: &str) -> Markup {
    let is_unseen = class.split(' ').any(|class| class == "unseen");
    html! {
        th class=[(!class.is_empty()).then_some(class)] scope="col" role="columnheader" {
            @if is_unseen { span.vh { (words) } } @else { (words) }
        }
    }
}

/// A command to copy.
pub(in crate::web) fn command(text: &str) -> Markup {
    html! { span.cmd { code { (text) } button.btn.s.bare type="button" data-copy=(text) hidden { (icon("copy")) "Copy" } } }
}

/// Enter in a box or a choice presses the first button of its form. This one stands before those that do something, and
/// does nothing: it would close a dialog, and there is none.
pub(in crate::web) fn no_order_by_enter() -> Markup {
    html! { button.vh formmethod="dialog" tabindex="-1" aria-hidden="true" {} }
}

/// The id of the part of a page that is asked for again and again.
pub(in crate::web) const LIVE: &str = "live";

/// The part of a page that follows what happens. It waits while somebody is at work in it.
pub(in crate::web) fn live(address: &str, inner: &Markup) -> Markup {
    html! { div #(LIVE) hx-get=(address) hx-trigger="every 5s" hx-swap="innerHTML" { (inner) } }
}

/// Since when the desk shows what was, if it is cut off.
pub(in crate::web) fn cut_off(resident: &Resident) -> Option<i64> {
    let cut_off = |topic| resident.reach(topic).cut_off.map(|cut_off| cut_off.since);
    Topic::ALL.into_iter().filter_map(cut_off).min()
}

/// How old what is shown is.
pub(in crate::web) fn as_of(look: &Look, cut_off: Option<i64>, now: i64) -> Markup {
    html! {
        p class=(if cut_off.is_some() { "live stale" } else { "live" }) {
            @match cut_off {
                Some(since) => { (icon("warn")) span { "As of " (look.exact_time(since, now)) ", not live" } },
                None => { (icon("on")) span { "Live, as of " (look.exact_time(now, now)) } },
            }
        }
    }
}

/// How far back a list reaches, and the command that reaches further.
pub(in crate::web) fn foot(look: &Look, what: &str, reach: &Reach, text: &str, now: i64) -> Markup {
    html! {
        div.foot {
            p {
                @match reach.since {
                    _ if !reach.caught_up => { (what) " are still being read; what is here can be searched already. " },
                    Some(since) if !reach.whole && since > 0 => { (what) " reach back to " (look.time(since, now)) " here. " },
                    _ => { "All " (what.to_lowercase()) " that are kept are here. " },
                }
                "On a server, with the same filters:"
            }
            p { (command(text)) }
        }
    }
}

/// A list without an item: what was asked, and a way on.
pub(in crate::web) fn nothing(shape: &str, title: &str, words: &str, on: &Markup) -> Markup {
    html! { div.none { (icon(shape)) h3 { (title) } p { (words) } div.row { (on) } } }
}

/// A choice of one of several.
pub(in crate::web) fn choice(
    id: &str,
    name: &str,
    label: &str,
    chosen: Option<&str>,
    options: &[(&str, &str)],
) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            select id=(id) name=(name) {
                @for (value, words) in options {
                    option value=(value) selected[chosen.unwrap_or_default() == *value] { (words) }
                }
            }
        }
    }
}

/// A field of a filter.
pub(in crate::web) fn input(id: &str, name: &str, label: &str, value: Option<&str>) -> Markup {
    html! {
        div.field { label for=(id) { (label) } input.mono type="text" id=(id) name=(name) value=[value] autocomplete="off"; }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_commas_and_nouns() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1,000");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(1, "event", "events"), "1 event");
        assert_eq!(count(0, "event", "events"), "0 events");
        assert_eq!(span(119_000), "119 s");
        assert_eq!(span(840_000), "14 minutes");
        assert_eq!(span(3 * 86_400_000), "3 days");
    }
}
