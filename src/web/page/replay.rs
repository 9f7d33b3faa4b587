//! Replays: first what one would do, then the doing. And one delivery again.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use maud::{Markup, html};

use super::dead_letters::Typed;
use super::part::{count, number};
use super::words::{address, lead_link, whither};
use super::{Look, Nav, View, answer, icon, see_other};
use crate::config::admin::Role;
use crate::desk::Error;
use crate::desk::dead_letters::{Filter, Id, recent};
use crate::desk::replay::{Request, Which};
use crate::desk::resident::letters::Letter;
use crate::desk::scan::Period;
use crate::text::mask::mask;
use crate::web::Web;
use crate::web::again::Replayed;
use crate::web::guard::Posted;
use crate::web::problem::Problem;
use crate::web::who::Actor;

/// So many of what would go or be refused are named.
const NAMED_MAX: usize = 50;

pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route("/dead-letters/replay", post(replay))
        .route("/deliveries/{id}/replay", post(again))
}

/// What a replay would do.
struct DryRun {
    replayed: Replayed,
    /// By what happens to them, how many, and the first of them.
    groups: Vec<(String, u64, Vec<Option<Letter>>)>,
    refused: Vec<(Option<Letter>, Id, String)>,
    /// The fields that ask for the same again.
    fields: Vec<(String, String)>,
    /// The way back.
    back: String,
}

async fn replay(State(web): State<Arc<Web>>, look: Look, actor: Actor, posted: Posted) -> Response {
    let now = (web.now)();
    let asked = match actor.needs(Role::Admin) {
        Ok(()) => which(&posted, now),
        Err(problem) => Err(problem),
    };
    let (which, fields, back) = match asked {
        Ok(asked) => asked,
        Err(problem) => return super::problem(&web, &look, &problem),
    };
    let dry_run = posted.get("go").is_none();
    let request = Request {
        which,
        dry_run,
        rate: None,
        who: actor.name,
    };
    if !dry_run {
        return match web.ask(move |web| web.replay(&request)).await {
            Ok(replayed) => see_other(&done(&replayed)),
            Err(problem) => super::problem(&web, &look, &problem),
        };
    }
    let asked = web.ask(move |web| Ok(DryRun::of(web, web.replay(&request)?, fields, back)));
    answer(&web, &look, Nav::DeadLetters, asked.await)
}

fn done(replayed: &Replayed) -> String {
    let summary = &replayed.summary;
    let [went, left, refused] = [summary.replayed, summary.left, summary.refused].map(|count| count.to_string());
    address(
        "/dead-letters",
        &[("replayed", &went), ("left", &left), ("refused", &refused)],
    )
}

type Wanted = (Which, Vec<(String, String)>, String);

/// Which dead letters a form asks for, the fields that ask for the same, and the way back.
fn which(posted: &Posted, now: i64) -> Result<Wanted, Problem> {
    let text = |name| posted.get(name).map(str::to_owned).filter(|text| !text.is_empty());
    let typed = Typed {
        reason: text("reason"),
        rule: text("rule"),
        lane: text("lane"),
        all: false,
    };
    let query: Vec<_> = [("reason", &typed.reason), ("rule", &typed.rule), ("lane", &typed.lane)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect();
    let back = address("/dead-letters", &query);
    let keep = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut fields: Vec<_> = query.iter().map(keep).collect();
    if posted.get("which") == Some("all") {
        // What comes meanwhile was seen by nobody.
        let until = text("until").and_then(|text| text.parse().ok()).unwrap_or(now);
        fields.extend(
            [("which", "all".to_owned()), ("until", until.to_string())].map(|(name, value)| (name.to_owned(), value)),
        );
        let filter = Filter {
            reasons: typed.reasons(),
            rule: typed.rule.clone(),
            event: None,
            destination: typed.lane.clone(),
        };
        let period = Period {
            since: None,
            until: Some(until),
        };
        return Ok((Which::Matching(filter, period), fields, back));
    }
    let ids: Result<Vec<Id>, _> = posted.all("id").map(str::parse).collect();
    let ids = ids.map_err(|error: Error| Problem::bad_request(error.to_string()))?;
    if ids.is_empty() {
        return Err(Problem::invalid(
            vec![crate::web::problem::Fault {
                path: String::new(),
                message: "Nothing is ticked. Tick the dead letters to replay, then press the button again.".to_owned(),
            }],
            Vec::new(),
        ));
    }
    fields.push(("which".to_owned(), "ids".to_owned()));
    fields.extend(ids.iter().map(|id| ("id".to_owned(), id.to_string())));
    Ok((Which::Ids(ids), fields, back))
}

impl DryRun {
    fn of(web: &Web, replayed: Replayed, fields: Vec<(String, String)>, back: String) -> Self {
        let all = recent::by_ids(
            &web.resident,
            replayed
                .went
                .iter()
                .map(|went| went.id)
                .chain(replayed.refused.iter().map(|(id, _)| *id)),
        );
        let letter = |id: &Id| all.get(id).cloned();
        let jobs = &web.config.topics.jobs;
        let mut groups: Vec<(String, u64, Vec<Option<Letter>>)> = Vec::new();
        for went in &replayed.went {
            let letter = letter(&went.id);
            let mut what = match letter.as_ref().and_then(|letter| letter.lane.as_deref()) {
                Some(lane) if went.topic == *jobs => format!("would be sent to {}", whither(lane).to),
                _ if went.topic == *jobs => "would be sent".to_owned(),
                _ => "would be looked at by the rules again".to_owned(),
            };
            if let Some(change) = &went.change {
                what.push_str(&format!(", {}", mask(change)));
            }
            match groups.iter_mut().find(|(known, ..)| *known == what) {
                Some((_, count, some)) => {
                    *count += 1;
                    if some.len() < 5 {
                        some.push(letter);
                    }
                }
                None => groups.push((what, 1, vec![letter])),
            }
        }
        let refused = replayed.refused.iter().take(NAMED_MAX);
        let refused = refused
            .map(|(id, why)| (letter(id), *id, mask(why).into_owned()))
            .collect();
        Self {
            groups,
            refused,
            fields,
            back,
            replayed,
        }
    }
}

impl View for DryRun {
    fn title(&self) -> String {
        "What a replay would do".to_owned()
    }

    fn draw(&self, look: &Look, now: i64) -> Markup {
        let summary = &self.replayed.summary;
        let (going, left) = (summary.replayed as u64, summary.left as u64);
        html! {
            nav.crumbs aria-label="Where this is" { ol { li { a href=(self.back) { "Dead letters" } } li { "Replay" } } }
            section.real.pad.stack aria-labelledby="dry" {
                h1 #dry { "What replaying " (count(going + left + summary.refused as u64 + summary.absent.len() as u64, "dead letter", "dead letters")) " would do" }
                p.small.sub { "Worked out at " (look.exact_time(now, now)) ". Nothing has been sent." }
                ul.checks {
                    @for (what, count, some) in &self.groups {
                        li { (icon("check")) span { b { (number(*count)) } " " (what) @for letter in some.iter().flatten() { (named(letter)) } @if *count > some.len() as u64 { ", …" } } }
                    }
                    @if left > 0 { li.warn { (icon("copy")) span { b { (number(left)) } " would not: somebody replayed " (if left == 1 { "it" } else { "them" }) " before" } } }
                    @for (letter, id, why) in &self.refused {
                        li.warn { (icon("warn")) span { b { "1 would not" } @if let Some(letter) = letter { (named(letter)) } " (" a href=(format!("/dead-letters/{id}")) { (id) } "): " (why) } }
                    }
                    @if !summary.absent.is_empty() { li.warn { (icon("warn")) span { b { (number(summary.absent.len() as u64)) } " are no longer kept" } } }
                }
                form.row method="post" action="/dead-letters/replay" {
                    (look.token())
                    @for (name, value) in &self.fields { input type="hidden" name=(name) value=(value); }
                    input type="hidden" name="go" value="1";
                    button.btn.go disabled[going == 0] { (icon("again")) "Replay " (number(going)) " now" }
                    a.btn href=(self.back) { "Leave them" }
                    span.small.muted { "Noted in the audit with your name." }
                }
            }
        }
    }
}

fn named(letter: &Letter) -> Markup {
    let event = letter
        .job_id
        .as_deref()
        .or(letter.event_id.as_deref())
        .unwrap_or_default();
    html! { @if let Some(lead) = letter.lead_id.as_deref() { ", lead " (lead_link(lead, event)) } }
}

/// One delivery again.
async fn again(State(web): State<Arc<Web>>, look: Look, actor: Actor, Path(id): Path<String>) -> Response {
    let asked = match actor.needs(Role::Admin) {
        Ok(()) => {
            let (who, id) = (actor.name, id.clone());
            web.ask(move |web| web.again(&id, &who)).await
        }
        Err(problem) => Err(problem),
    };
    match asked {
        Ok(_) => see_other(&format!("/deliveries/{}", super::words::encoded(&id))),
        Err(problem) => super::problem(&web, &look, &problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(fields: &[(&str, &str)]) -> Posted {
        Posted(Arc::new(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        ))
    }

    #[test]
    fn the_second_step_asks_for_what_the_first_one_showed() {
        let (which_all, fields, back) =
            which(&posted(&[("which", "all"), ("reason", "gave_up"), ("rule", "r")]), 17).unwrap();
        let Which::Matching(filter, period) = which_all else {
            panic!()
        };
        assert_eq!((filter.rule.as_deref(), period.until), (Some("r"), Some(17)));
        assert_eq!(back, "/dead-letters?reason=gave_up&rule=r");
        // Half a minute later the same is asked for, and nothing that came since.
        let again: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (Which::Matching(_, period), ..) = which(&posted(&again), 30_017).unwrap() else {
            panic!()
        };
        assert_eq!(period.until, Some(17));
        let (Which::Ids(ids), fields, _) = which(&posted(&[("id", "2-17"), ("id", "0-1")]), 0).unwrap() else {
            panic!()
        };
        assert_eq!((ids.len(), fields.len()), (2, 3));
        assert_eq!(which(&posted(&[("which", "ids")]), 0).unwrap_err().status, 422);
        assert_eq!(which(&posted(&[("id", "x")]), 0).unwrap_err().status, 400);
    }
}
