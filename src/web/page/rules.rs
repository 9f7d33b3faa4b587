//! The rules: which are on, whether they match and send, who changed them; and what is done with many of them at once.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use maud::Markup;
use serde::Deserialize;

use super::{Look, Nav, fragment, see_other, shell};
use crate::action::{ActionKind, ActionType};
use crate::config::admin::Role;
use crate::desk::rules::{self as desk_rules, Filter, InForce, Texts, View};
use crate::rules::{Level, Rule, Status, words};
use crate::web::Web;
use crate::web::api::Query;
use crate::web::guard::Asker;
use crate::web::problem::Problem;
use crate::web::rules::{in_pieces, step};
use crate::web::who::Actor;
use table::{Row, Shown, Stands};

pub(super) mod many;
pub(super) mod table;

pub(in crate::web) const PATH: &str = "/rules";

/// The address of a rule's editor.
pub(in crate::web) fn address(id: &str) -> String {
    format!("{PATH}/{}", step(id))
}

/// The address of a rule's versions.
pub(in crate::web) fn versions_address(id: &str) -> String {
    format!("{}/versions", address(id))
}

/// So many rules are on a page, which is some 120 KB.
const PAGE: usize = 75;
/// So many triggers are offered for a choice.
const TRIGGERS_MAX: usize = 100;

pub(in crate::web) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route(PATH, get(list))
        .route("/rules/bulk", post(many::bulk))
        .route("/rules/import", get(many::import_form).post(many::import_text))
        .route("/rules/export", get(many::export))
}

/// What a page comes to.
pub(super) enum Answer {
    Page {
        title: String,
        body: Markup,
        status: StatusCode,
    },
    /// A part of a page, for htmx.
    Part(Markup),
    See(String),
    /// Rules as a file of YAML.
    File(Texts),
}

impl Answer {
    pub(super) fn page(title: impl Into<String>, body: Markup) -> Self {
        Self::Page {
            title: title.into(),
            body,
            status: StatusCode::OK,
        }
    }
}

/// Makes an answer on a thread that may block. What is refused is a page, too.
pub(super) async fn answer(
    web: &Arc<Web>,
    look: Look,
    make: impl FnOnce(&Web, &Look) -> Result<Answer, Problem> + Send + 'static,
) -> Response {
    let made = web.ask_and_check({
        let look = look.clone();
        move |web| make(web, &look)
    });
    match made.await {
        Ok(Answer::Page { title, body, status }) => {
            let mut response = shell(web, &look, Nav::Rules, &title, &body);
            *response.status_mut() = status;
            response
        }
        Ok(Answer::Part(part)) => fragment(part),
        Ok(Answer::See(address)) => see_other(&address),
        Ok(Answer::File(texts)) => {
            let headers = [
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/yaml; charset=utf-8"),
                ),
                (
                    header::CONTENT_DISPOSITION,
                    HeaderValue::from_static("attachment; filename=\"rules.yaml\""),
                ),
            ];
            (headers, in_pieces(texts)).into_response()
        }
        Err(problem) => super::problem(web, &look, &problem),
    }
}

/// What the list is asked for, as its form says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    text: String,
    level: String,
    scope_id: String,
    trigger: String,
    action: String,
    status: String,
    sort: String,
    page: usize,
    /// What was just done, such as `paused`, with how many rules, and how many of their messages wait.
    done: String,
    count: u64,
    waiting: u64,
}

impl Asked {
    fn filter(&self) -> Filter {
        let given = |text: &String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Filter {
            level: Level::ALL.into_iter().find(|level| level.as_str() == self.level),
            scope_id: given(&self.scope_id),
            trigger: given(&self.trigger),
            action: ActionType::ALL
                .into_iter()
                .find(|action| action.as_str() == self.action),
            status: Status::ALL.into_iter().find(|status| status.as_str() == self.status),
            text: given(&self.text),
        }
    }

    /// The address of the list as it is asked for, on a page of it.
    fn address(&self, page: usize, sort: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("text", &*self.text),
            ("level", &self.level),
            ("scope_id", &self.scope_id),
            ("trigger", &self.trigger),
            ("action", &self.action),
            ("status", &self.status),
            ("sort", sort),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        if page > 1 {
            query.append_pair("page", &page.to_string());
        }
        match query.finish() {
            query if query.is_empty() => PATH.to_owned(),
            query => format!("{PATH}?{query}"),
        }
    }
}

async fn list(State(web): State<Arc<Web>>, look: Look, asker: Asker, Query(asked): Query<Asked>) -> Response {
    refresh(&web);
    answer(&web, look, move |web, look| {
        let view = web.resident.rules().view();
        let shown = shown(web, &view, &asker.actor, asked);
        Ok(Answer::page("Rules", table::page(&shown, look)))
    })
    .await
}

/// Has the backlog read anew for the next look. The page itself doesn't wait for Kafka.
fn refresh(web: &Arc<Web>) {
    let web = Arc::clone(web);
    tokio::task::spawn_blocking(move || drop(web.resident.backlog((web.now)())));
}

/// Credentials and lanes that can't send, each with the reason.
fn standing_still(web: &Web) -> HashMap<String, String> {
    let Some(snapshot) = web.resident.last_backlog() else {
        return HashMap::new();
    };
    let refused = snapshot.backlog.refused();
    refused
        .map(|(scope, why)| (scope.to_owned(), super::words::freeze(why)))
        .collect()
}

fn shown(web: &Web, view: &View, actor: &Actor, asked: Asked) -> Shown {
    let (filter, now) = (asked.filter(), (web.now)());
    let still = standing_still(web);
    let is_asked = |id: &str, in_force: Option<InForce<'_>>| match asked.status.as_str() {
        "rejected" => view.is_rejected(id),
        "cant-send" => in_force.is_some_and(|in_force| why_still(&in_force, &still).is_some()),
        _ => true,
    };
    let found = desk_rules::find(view, &filter).filter(|(id, in_force)| is_asked(id, *in_force));
    let found: Vec<Named<'_>> = found.map(Named::of).collect();
    let total = found.len();
    let page = asked.page.clamp(1, total.div_ceil(PAGE).max(1));
    let first = (page - 1) * PAGE;
    let ids = sorted(web, &asked.sort, found, first, now);
    let rows = ids.into_iter().filter_map(|id| row(web, view, actor, id, &still));
    let rows = rows.collect();
    Shown {
        rows,
        total,
        first,
        page,
        in_all: view.log().len(),
        counted_from: web.resident.counted_from(),
        may_add: actor.role >= Role::Editor,
        triggers: view.triggers().take(TRIGGERS_MAX).map(str::to_owned).collect(),
        asked,
        now,
    }
}

/// A rule that is listed.
#[derive(Debug, Clone, Copy)]
struct Named<'v> {
    id: &'v str,
    name: &'v str,
}

impl<'v> Named<'v> {
    fn of((id, in_force): (&'v str, Option<InForce<'v>>)) -> Self {
        let name = in_force.and_then(|in_force| in_force.rule.name.as_deref());
        Self {
            id,
            name: name.unwrap_or(id),
        }
    }
}

/// The ids of the page that begins at the `first`, in the order that is asked for.
fn sorted<'v>(web: &Web, by: &str, found: Vec<Named<'v>>, first: usize, now: i64) -> Vec<&'v str> {
    let deliveries = web.resident.deliveries();
    let found = found.into_iter();
    match by {
        "name" => cut(found.map(|of| (Folded(of.name), of.id)), first),
        "matched" => cut(found.map(|of| (Reverse(deliveries.matched(of.id, now)), of.id)), first),
        _ => cut(
            found.map(|of| (Reverse(deliveries.last_matched_at(of.id)), of.id)),
            first,
        ),
    }
}

/// The page of some ids that begins at the `first`. What is behind it and before it is brought into no order.
fn cut<'v>(ids: impl Iterator<Item = (impl Ord, &'v str)>, first: usize) -> Vec<&'v str> {
    let mut ids: Vec<_> = ids.collect();
    let until = (first + PAGE).min(ids.len());
    if until < ids.len() {
        ids.select_nth_unstable(until);
        ids.truncate(until);
    }
    if (1..until).contains(&first) {
        ids.select_nth_unstable(first);
    }
    let mut page = ids.split_off(first.min(until));
    page.sort_unstable();
    page.into_iter().map(|(_, id)| id).collect()
}

/// A name, in the order of names: whatever the case of their letters.
#[derive(Debug, Clone, Copy)]
struct Folded<'n>(&'n str);

impl Ord for Folded<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, other) = (self.0, other.0);
        if one.is_ascii() && other.is_ascii() {
            let small = |byte: u8| byte.to_ascii_lowercase();
            return one.bytes().map(small).cmp(other.bytes().map(small));
        }
        one.to_lowercase().cmp(&other.to_lowercase())
    }
}

impl PartialOrd for Folded<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Folded<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Folded<'_> {}

fn row(web: &Web, view: &View, actor: &Actor, id: &str, still: &HashMap<String, String>) -> Option<Row> {
    let (entry, in_force) = (view.log().entry(id)?, desk_rules::get(view, id).ok());
    let whole = in_force.and_then(|in_force| in_force.whole());
    let rule = whole.as_ref().map(|whole| &whole.rule);
    let counts = web.resident.of_rule(id, (web.now)());
    let why_still = in_force.and_then(|in_force| why_still(&in_force, still));
    let stands = match (rule, why_still) {
        (None, _) => Stands::NotReadable,
        (Some(_), Some(why)) => Stands::CantSend(why),
        (Some(rule), None) => Stands::Is(rule.status),
    };
    let (to, by) = rule.map_or_else(Default::default, destination);
    let (when, system) = rule.map_or_else(Default::default, |rule| trigger_words(&rule.trigger));
    Some(Row {
        id: id.to_owned(),
        name: rule.and_then(|rule| rule.name.as_deref().map(str::to_owned)),
        when,
        system,
        place: rule.map_or_else(String::new, place),
        to,
        receiver: in_force.and_then(|in_force| web.names.of_lane(&in_force.rule.lane)),
        by,
        stands,
        rejected_later: rule.is_some() && entry.rejected.is_some(),
        hours: counts.hours.iter().map(|(_, count)| u64::from(count.matched)).collect(),
        matched: counts.matched,
        sent: counts.sent,
        last_matched_at: counts.last_matched_at,
        version: in_force.map(|in_force| in_force.version),
        author: in_force
            .and_then(|in_force| web.resident.author(id, in_force.version))
            .unwrap_or_default(),
        may_write: rule.is_some_and(|rule| actor.may_write(rule.scope.level, rule.scope.id.as_deref().unwrap_or("*")))
            || (rule.is_none() && actor.role >= Role::Editor && actor.levels.is_empty()),
    })
}

/// Why what a rule sends stands still: its credential is refused.
fn why_still(in_force: &InForce<'_>, still: &HashMap<String, String>) -> Option<String> {
    // Most rules name none of those few: their text says so at once.
    let names = |scope: &String| {
        scope
            .split_once(':')
            .is_some_and(|(_, name)| in_force.written.contains(name.split('/').next().unwrap_or(name)))
    };
    if in_force.rule.status != Status::Active || !still.keys().any(names) {
        return None;
    }
    let whole = in_force.whole()?;
    let address = whole.rule.action.kind.address();
    let lane = format!("{}/{}", address.credential, address.destination);
    still.get(&address.credential).or_else(|| still.get(&lane)).cloned()
}

/// Where a rule sends to, and by what.
pub(super) fn destination(rule: &Rule) -> (String, String) {
    let address = rule.action.kind.address();
    let name = address.credential.split_once(':').map_or("", |(_, name)| name);
    match &rule.action.kind {
        ActionKind::SlackMessage(_) => (address.destination.to_owned(), format!("Slack, {name}")),
        ActionKind::SlackWebhook(webhook) => {
            let to = webhook.channel.as_deref();
            let to = to.map_or_else(|| format!("webhook {name}"), str::to_owned);
            (to, "Slack webhook".to_owned())
        }
        ActionKind::Clevertap(upload) => {
            let what = upload.event_name.as_ref().map_or("profile", |name| name.as_str());
            (format!("{name}, {what}"), "CleverTap".to_owned())
        }
    }
}

/// What a trigger is called, and where it comes from.
pub(super) fn trigger_words(trigger: &str) -> (String, &'static str) {
    let system = match trigger.split('.').next() {
        Some("lms") => "LMS",
        Some("call_logic") => "Calls",
        _ => "Other",
    };
    (
        words::trigger(trigger).map_or_else(|| trigger.to_owned(), |known| known.label.to_owned()),
        system,
    )
}

/// The level and id of a rule in words.
fn place(rule: &Rule) -> String {
    let level = rule.scope.level.as_str();
    match &rule.scope.id {
        Some(id) => format!("{level} {id}"),
        None => format!("Every {level}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_stands_there_when_all_are_in_order() {
        let ids: Vec<String> = (0..400).map(|number| format!("rule-{number:03}")).collect();
        // Many are alike; these go by their ids.
        let keyed = || {
            ids.iter()
                .enumerate()
                .map(|(number, id)| (Reverse(number * 7 % 13), id.as_str()))
        };
        let mut all: Vec<_> = keyed().collect();
        all.sort_unstable();
        let all: Vec<&str> = all.into_iter().map(|(_, id)| id).collect();
        for first in [0, PAGE, 2 * PAGE, 5 * PAGE] {
            assert_eq!(cut(keyed(), first), all[first..ids.len().min(first + PAGE)], "{first}");
        }
        assert_eq!(cut(keyed().take(0), 0), [""; 0]);
        assert_eq!(cut(keyed().take(3), 0).len(), 3);
    }

    #[test]
    fn names_are_in_order_whatever_their_case() {
        let mut names = ["beta", "Zeta", "alpha 2", "Alpha 10", "Ärzte", "ALPHA"].map(Folded);
        names.sort();
        assert_eq!(
            names.map(|name| name.0),
            ["ALPHA", "Alpha 10", "alpha 2", "beta", "Zeta", "Ärzte"]
        );
        assert_eq!(Folded("Äb").cmp(&Folded("äB")), Ordering::Equal);
    }
}
