//! Two people at one rule: the second is told, sees both versions, and takes over field by field.
//!
//! The form carries what the second one wrote, the version it was made from, and the version that came meanwhile. The
//! merged rule is for that one alone: whoever is faster again is shown again.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use maud::{Markup, html};
use serde_json::Value;

use super::part::no_order_by_enter;
use super::rules::many::{copy_as, free_id};
use super::rules::{Answer, address, answer};
use super::versions::{between, in_words};
use super::{Look, icon, part};
use crate::desk::rules::write::Change;
use crate::desk::rules::{self as desk_rules, Draft};
use crate::desk::versions;
use crate::rules::difference::{ChangedBy, Merged, Pick, merge, three_way};
use crate::web::Web;
use crate::web::api::Path;
use crate::web::guard::{Asker, Posted};
use crate::web::problem::{Fault, Problem};
use crate::web::rules::{faults, refusal, winner, write};
use crate::web::who::Actor;

pub(in crate::web) fn routes() -> Router<Arc<Web>> {
    Router::new().route("/rules/{id}/conflict", post(decide))
}

/// The part that shows what would be saved.
const RESULT: &str = "result";
/// Before the path of a field that somebody decided.
const PICK: &str = "pick.";

/// The page for whoever saves a rule that somebody else changed since `base_version`.
pub(in crate::web) async fn conflict(
    web: &Arc<Web>,
    look: Look,
    id: &str,
    base_version: Option<i64>,
    mine: Value,
) -> Response {
    let id = id.to_owned();
    answer(web, look, move |web, look| {
        let both = Both::of(web, &id, base_version, mine)?;
        Ok(both.answer(look, &Picks::default(), &[], StatusCode::PRECONDITION_FAILED))
    })
    .await
}

/// The version of somebody else.
struct Theirs {
    version: i64,
    rule: Value,
}

/// What two people made of a rule.
struct Both {
    id: String,
    base_version: Option<i64>,
    base: Value,
    mine: Value,
    /// None where it was deleted.
    theirs: Option<Theirs>,
    who: Option<String>,
    when: Option<i64>,
    now: i64,
}

type Picks = HashMap<String, Pick>;

impl Both {
    fn of(web: &Web, id: &str, base_version: Option<i64>, mine: Value) -> Result<Self, Problem> {
        let (theirs, last) = {
            let view = web.resident.rules().view();
            let in_force = desk_rules::get(&view, id).ok();
            let theirs = in_force.map(|in_force| Theirs {
                version: in_force.version,
                rule: in_force.json(),
            });
            (theirs, view.last(id))
        };
        // Without the version that both began with, everything that differs is the second one's change.
        let known = base_version.and_then(|version| versions::at(&web.resident, id, version).ok()?.after);
        let base = known.or_else(|| theirs.as_ref().map(|theirs| theirs.rule.clone()));
        Ok(Self {
            id: id.to_owned(),
            base_version,
            base: base.unwrap_or_default(),
            mine,
            theirs,
            who: last.and_then(|last| winner(web, id, last)),
            when: last.map(|last| last.changed_at),
            now: (web.now)(),
        })
    }

    fn who(&self) -> &str {
        self.who.as_deref().unwrap_or("Somebody else")
    }

    fn merged(&self, picks: &Picks) -> Value {
        match &self.theirs {
            Some(theirs) => merge(&self.base, &self.mine, &theirs.rule, picks),
            None => self.mine.clone(),
        }
    }

    fn answer(&self, look: &Look, picks: &Picks, errors: &[Fault], status: StatusCode) -> Answer {
        if look.part.as_deref() == Some(RESULT) {
            return Answer::Part(self.result(picks));
        }
        let error = if errors.is_empty() { "" } else { "Error: " };
        Answer::Page {
            title: format!("{error}Two versions of {}", self.name()),
            body: self.draw(look, picks, errors),
            status,
        }
    }

    fn name(&self) -> &str {
        self.mine["name"].as_str().unwrap_or(&self.id)
    }

    fn draw(&self, look: &Look, picks: &Picks, errors: &[Fault]) -> Markup {
        html! {
            nav.crumbs aria-label="You are here" {
                ol {
                    li { a href="/rules" { "Rules" } }
                    li { a href=(address(&self.id)) { (self.name()) } }
                    li aria-current="page" { "Two versions" }
                }
            }
            (wrong(errors))
            @match &self.theirs { Some(theirs) => (self.choose(theirs, look, picks)), None => (self.deleted(look)) }
        }
    }

    /// What the form carries.
    fn carried(&self, look: &Look) -> Markup {
        html! {
            (look.token())
            (no_order_by_enter())
            input type="hidden" name="mine" value=(self.mine);
            @if let Some(base) = self.base_version { input type="hidden" name="base" value=(base); }
            @if let Some(theirs) = &self.theirs { input type="hidden" name="theirs" value=(theirs.version); }
        }
    }

    fn deleted(&self, look: &Look) -> Markup {
        html! {
            div.head {
                div {
                    h1 { (self.who()) " deleted this rule while you edited it" }
                    p { "Your changes are kept and not saved yet. Nothing matches it now" @if let Some(when) = self.when { ", since " (look.time(when, self.now)) } "." }
                }
            }
            form method="post" action=(format!("{}/conflict", address(&self.id))) {
                (self.carried(look))
                section.panel.pad.stack aria-labelledby="res" { h2 id="res" { "Your rule says" } p.sentence { (in_words(&self.mine)) } }
                div.savebar {
                    button.btn.go name="do" value="save" { "Put it in force again" }
                    (self.ways_out())
                }
            }
        }
    }

    fn ways_out(&self) -> Markup {
        html! {
            button.btn name="do" value="copy" { (icon("copy")) "Keep mine as a new rule, paused" }
            a.btn.bad href=(if self.theirs.is_some() { address(&self.id) } else { "/rules".to_owned() }) { "Drop my changes" }
        }
    }

    fn choose(&self, theirs: &Theirs, look: &Look, picks: &Picks) -> Markup {
        let mut fields = three_way(&self.base, &self.mine, &theirs.rule);
        fields.sort_by_key(|field| field.changed_by != ChangedBy::Both);
        let both = fields
            .iter()
            .filter(|field| field.changed_by == ChangedBy::Both)
            .count();
        let alone = fields.len() - both;
        html! {
            div.head {
                div {
                    h1 { (self.who()) " saved this rule while you edited it" }
                    p {
                        "Your changes are kept and not saved yet. Version " (theirs.version) " is in force"
                        @if let Some(when) = self.when { ", since " (look.time(when, self.now)) }
                        ". Choose field by field what the next version shall be."
                    }
                }
            }
            form method="post" action=(format!("{}/conflict", address(&self.id))) {
                (self.carried(look))
                section.panel aria-labelledby="cmp" {
                    header {
                        h2 id="cmp" { "What differs" }
                        p { (told(both, alone)) }
                        span.end {
                            button.btn.s name="all" value="theirs" { "Take all of theirs" }
                            button.btn.s name="all" value="mine" { "Take all of mine" }
                        }
                    }
                    @if fields.is_empty() {
                        p.pad { "Both of you made the same rule of it." }
                    } @else {
                        (self.table(theirs, &fields, picks))
                    }
                }
                (self.result(picks))
                div.savebar {
                    button.btn.go name="do" value="save" { "Save as a new version" }
                    button.btn name="do" value="look" { "Show what it would say" }
                    (self.ways_out())
                }
            }
        }
    }

    fn table(&self, theirs: &Theirs, fields: &[Merged], picks: &Picks) -> Markup {
        let before = match self.base_version {
            Some(version) => format!("Version {version}, before"),
            None => "Before".to_owned(),
        };
        let their_head = format!("{}, version {}", self.who(), theirs.version);
        html! {
            table.tbl.cards role="table" hx-post=(format!("{}/conflict", address(&self.id))) hx-trigger="change"
                hx-include="closest form" hx-target=(format!("#{RESULT}")) hx-swap="outerHTML" {
                caption.vh { "Fields that differ between the version before, the version in force and your changes" }
                (part::columns(&[("Field", ""), (&before, ""), (&their_head, ""), ("You, not saved", "full")]))
                tbody role="rowgroup" {
                    @for field in fields {
                        tr role="row" {
                            th scope="row" role="rowheader" class=[(field.changed_by == ChangedBy::Both).then_some("both")] {
                                (field.label)
                                @match field.changed_by {
                                    ChangedBy::Both => span.two-l { "both changed it" },
                                    ChangedBy::Alike => span.two-l { "both alike" },
                                    ChangedBy::Me | ChangedBy::Them => {},
                                }
                            }
                            td role="cell" data-l=(before) {
                                @match &field.base { Some(base) => (base), None => span.muted { "not set" } }
                            }
                            td role="cell" data-l=(their_head) { (side(field, Pick::Theirs, picks)) }
                            td.full role="cell" data-l="You, not saved" { (side(field, Pick::Mine, picks)) }
                        }
                    }
                }
            }
        }
    }

    fn result(&self, picks: &Picks) -> Markup {
        html! {
            section.panel.pad.stack id=(RESULT) aria-labelledby="res" {
                h2 id="res" { "The next version would say" }
                p.sentence aria-live="polite" { (in_words(&self.merged(picks))) }
            }
        }
    }
}

fn told(both: usize, alone: usize) -> String {
    let fields = |count: usize| {
        if count == 1 {
            "1 field was".to_owned()
        } else {
            format!("{count} fields were")
        }
    };
    match (both, alone) {
        (0, alone) => format!(
            "{} changed by one of you alone, which is taken as it is unless you say otherwise",
            fields(alone)
        ),
        (both, 0) => format!("{} changed by both of you", fields(both)),
        (both, alone) => format!(
            "{} changed by both of you; {alone} by one alone, taken as they are unless you say otherwise",
            fields(both)
        ),
    }
}

/// One person's version of a field, to choose it.
fn side(field: &Merged, of: Pick, picks: &Picks) -> Markup {
    let by_itself = match field.changed_by {
        ChangedBy::Me => Pick::Mine,
        ChangedBy::Them | ChangedBy::Alike | ChangedBy::Both => Pick::Theirs,
    };
    let chosen = picks.get(&field.path).copied().unwrap_or(by_itself);
    let (value, name, whose) = match of {
        Pick::Mine => (&field.mine, "mine", "mine"),
        Pick::Theirs => (&field.theirs, "theirs", "theirs"),
    };
    html! {
        label.pick {
            input type="radio" name=(format!("{PICK}{}", field.path)) value=(name) checked[chosen == of]
                aria-label=(format!("{}: {whose}", field.label));
            span.v {
                @if *value == field.base { span.muted { "as before" } } @else {
                    (between(field.base.as_deref(), value.as_deref()))
                }
            }
        }
    }
}

fn wrong(errors: &[Fault]) -> Markup {
    html! {
        @if !errors.is_empty() {
            div.errsum role="alert" aria-labelledby="es" tabindex="-1" autofocus {
                h2 id="es" { (icon("warn")) "Together these make no rule that can be saved" }
                ul { @for fault in errors { li { a href="#cmp" { @if !fault.path.is_empty() { (fault.path) ": " } (fault.message) } } } }
            }
        }
    }
}

/// What somebody decided, by field.
fn picks(posted: &Posted) -> Picks {
    let pick = |(name, value): &(String, String)| {
        let pick = match value.as_str() {
            "mine" => Pick::Mine,
            "theirs" => Pick::Theirs,
            _ => return None,
        };
        Some((name.strip_prefix(PICK)?.to_owned(), pick))
    };
    posted.0.iter().filter_map(pick).collect()
}

/// Saves what was decided, or shows it.
async fn decide(
    State(web): State<Arc<Web>>,
    look: Look,
    asker: Asker,
    Path(id): Path<String>,
    posted: Posted,
) -> Response {
    answer(&web, look, move |web, look| {
        let mine = posted
            .get("mine")
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        let mine = mine.filter(|mine| mine["id"] == id.as_str());
        let mine = mine.ok_or_else(|| Problem::bad_request("mine: must be the rule that was edited, as JSON."))?;
        // What can't be saved isn't shown either: a secret could stand in it.
        let draft = Draft::of(&web.config, mine);
        if !draft.errors.is_empty() {
            return Err(refusal(&draft));
        }
        let both = Both::of(web, &id, posted.number("base"), draft.written)?;
        let picks = match posted.get("all") {
            Some(all) => both.all(if all == "mine" { Pick::Mine } else { Pick::Theirs }),
            None => picks(&posted),
        };
        // Somebody was faster once more.
        let is_seen = both.theirs.as_ref().map(|theirs| theirs.version) == posted.number("theirs");
        match posted.get("do") {
            Some("save") if is_seen => both.save(web, look, &asker.actor, &picks),
            Some("save") => Ok(both.answer(look, &picks, &[], StatusCode::PRECONDITION_FAILED)),
            Some("copy") => copy(web, &asker.actor, both),
            _ => Ok(both.answer(look, &picks, &[], StatusCode::OK)),
        }
    })
    .await
}

impl Both {
    /// Everything of one of both.
    fn all(&self, pick: Pick) -> Picks {
        let Some(theirs) = &self.theirs else {
            return Picks::new();
        };
        let fields = three_way(&self.base, &self.mine, &theirs.rule).into_iter();
        fields.map(|field| (field.path, pick)).collect()
    }

    fn save(&self, web: &Web, look: &Look, actor: &Actor, picks: &Picks) -> Result<Answer, Problem> {
        let draft = Draft::of(&web.config, self.merged(picks));
        if !draft.errors.is_empty() {
            let errors = faults(&draft.errors);
            return Ok(self.answer(look, picks, &errors, StatusCode::UNPROCESSABLE_ENTITY));
        }
        let change = Change::put(draft, self.theirs.as_ref().map(|theirs| theirs.version))?;
        match write(web, actor, &[change]) {
            Ok(_) => Ok(Answer::See(format!("{}?saved=1", address(&self.id)))),
            Err(problem) if problem.status() == StatusCode::PRECONDITION_FAILED => {
                let again = Self::of(web, &self.id, self.base_version, self.mine.clone())?;
                Ok(again.answer(look, picks, &[], StatusCode::PRECONDITION_FAILED))
            }
            Err(problem) => Err(problem),
        }
    }
}

/// Keeps what somebody wrote as a rule of its own.
fn copy(web: &Web, actor: &Actor, both: Both) -> Result<Answer, Problem> {
    let id = free_id(&web.resident.rules().view(), &both.id, &[]);
    let mut rule = both.mine;
    copy_as(&mut rule, &id);
    write(web, actor, &[Change::put(Draft::of(&web.config, rule), None)?])?;
    Ok(Answer::See(format!("{}?saved=1", address(&id))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(price: i64, text: &str, rate: Option<&str>) -> Value {
        let mut rule = json!({
            "id": "r", "name": "\"><img src=x onerror=alert(1)>", "trigger": "lms.lead_sold",
            "scope": {"level": "product", "id": "12"}, "filters": {"price": {"gte": price}},
            "action": {"type": "slack_message", "token": {"secret": "t"}, "to": {"channel": "C0SALES"}, "text": text},
        });
        if let Some(rate) = rate {
            rule["action"]["max_rate"] = rate.into();
        }
        rule
    }

    fn both() -> Both {
        Both {
            id: "r".to_owned(),
            base_version: Some(13),
            base: rule(25, "sold", None),
            mine: rule(40, "sold <script>alert(1)</script>", None),
            theirs: Some(Theirs {
                version: 14,
                rule: rule(30, "sold", Some("20/h")),
            }),
            who: Some("<b>Marcus</b>".to_owned()),
            when: Some(0),
            now: 0,
        }
    }

    fn draw(both: &Both, picks: &Picks) -> String {
        both.draw(&Look::of(&axum::http::HeaderMap::new(), None), picks, &[])
            .into_string()
    }

    fn posted(fields: &[(&str, &str)]) -> Posted {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Posted(Arc::new(fields.collect()))
    }

    #[test]
    fn both_versions_are_shown_and_what_would_be_saved() {
        let drawn = draw(&both(), &Picks::new());
        assert!(
            !drawn.contains("<script") && !drawn.contains("<img") && !drawn.contains("<b>Marcus"),
            "{drawn}"
        );
        assert!(
            drawn.contains("both changed it") && drawn.contains("1 field was changed by both of you; 2 by one alone"),
            "{drawn}"
        );
        assert!(
            drawn.contains("$30 or more</b>") && drawn.contains("20 an hour"),
            "{drawn}"
        );
        assert!(drawn.contains(r#"name="theirs" value="14""#) && drawn.contains(r#"name="base" value="13""#));
    }

    #[test]
    fn each_field_is_taken_from_whom_one_says() {
        let both = both();
        let by_itself = both.merged(&Picks::new());
        assert_eq!(by_itself["filters"]["price"]["gte"], 30);
        assert_eq!(by_itself["action"]["text"], both.mine["action"]["text"]);
        assert_eq!(by_itself["action"]["max_rate"], "20/h");
        let said = picks(&posted(&[
            ("pick.filters.price", "mine"),
            ("pick.action.max_rate", "mine"),
            ("pick.x", "y"),
        ]));
        let merged = both.merged(&said);
        assert_eq!(merged["filters"]["price"]["gte"], 40);
        assert_eq!(merged["action"].get("max_rate"), None);
        assert_eq!(both.merged(&both.all(Pick::Mine)), both.mine);
        let theirs = both.theirs.as_ref().map(|theirs| theirs.rule.clone());
        assert_eq!(Some(both.merged(&both.all(Pick::Theirs))), theirs);
    }

    #[test]
    fn of_a_deleted_rule_ones_own_is_what_there_is() {
        let gone = Both { theirs: None, ..both() };
        assert_eq!(gone.merged(&Picks::new()), gone.mine);
        let drawn = draw(&gone, &Picks::new());
        assert!(
            drawn.contains("deleted this rule while you edited it") && !drawn.contains(r#"name="theirs""#),
            "{drawn}"
        );
    }
}
