//! `leadlane lanes`: what waits in each lane, since when, until when and why it is frozen or paused; and what people
//! order of one.

use clap::{Args, Subcommand};
use serde_json::json;

use super::look::{Look, plain, span_text, time_json, when, wrapped};
use super::{CliError, print, say_newer, who};
use crate::app::now_millis;
use crate::desk::backlog::Backlog;
use crate::desk::lanes::{self, Lane, Limit, Ordered};
use crate::desk::rules::View;
use crate::desk::rules::write::Writer;
use crate::rules::control::Order;

#[derive(Debug, Args)]
pub(super) struct Lanes {
    #[command(subcommand)]
    order: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send nothing of a lane until it is resumed; its jobs wait
    Pause(Of),
    /// Go on with a paused lane
    Resume(Of),
    /// Try a refused credential or a lane that backs off at once; what a provider asked to wait is still waited for
    Probe(Of),
}

#[derive(Debug, Args)]
struct Of {
    /// A lane's id, a credential's id for all of its lanes, or '*' for all sending
    lane: String,
}

pub(super) fn run(look: Look<'_>, command: &Lanes) -> Result<(), CliError> {
    match &command.order {
        None => list(look),
        Some(Command::Pause(of)) => order(look, Order::Pause, &of.lane),
        Some(Command::Resume(of)) => order(look, Order::Resume, &of.lane),
        Some(Command::Probe(of)) => order(look, Order::Probe, &of.lane),
    }
}

fn order(look: Look<'_>, order: Order, lane: &str) -> Result<(), CliError> {
    let mut writer = Writer::new(look.config);
    let backlog = || look.watched(|scanner| Backlog::read(scanner, now_millis()));
    let ordered = lanes::order(&mut writer, order, lane, &who(), now_millis(), backlog)?;
    print(&ordered_text(look.json, order, lane, &ordered))
}

fn ordered_text(json: bool, order: Order, lane: &str, Ordered { changed, control }: &Ordered) -> String {
    let paused = control.as_ref().filter(|control| control.paused);
    if json {
        let control = control.as_ref().map(|control| control.to_json());
        return json!({"id": lane, "changed": changed, "order": order.as_str(), "control": control}).to_string();
    }
    match (order, changed, paused) {
        (Order::Probe, ..) => format!("{lane}: is tried now"),
        (_, true, Some(_)) => format!("{lane}: paused"),
        (_, true, None) => format!("{lane}: goes on"),
        (_, false, Some(pause)) => format!("{lane}: unchanged; {}", pause.words(lane)),
        (_, false, None) => format!("{lane}: unchanged; it is not paused"),
    }
}

fn list(look: Look<'_>) -> Result<(), CliError> {
    let backlog = look.scan(|scanner| Ok(Backlog::read(scanner, now_millis())?))?;
    say_newer(backlog.newer);
    let view = View::scan(look.config)?;
    let now = now_millis();
    let lanes = lanes::list(&backlog, view.log().controls(), now);
    if lanes.is_empty() {
        say!("nothing waits");
    }
    if !look.json && !lanes.is_empty() {
        print(&format!(
            "{:<WIDTH$} {:>8} {:>8} {:>8}  limit",
            "lane", "waiting", "oldest", "next"
        ))?;
    }
    for lane in &lanes {
        print(&if look.json { object(lane, now) } else { row(lane, now) })?;
    }
    Ok(())
}

/// The width of a lane's id. A longer one has a line of its own.
const WIDTH: usize = 36;

fn object(lane: &Lane, now: i64) -> String {
    let frozen = lane.frozen.as_ref();
    json!({
        "id": lane.id, "credential": lane.credential, "waiting": lane.waiting,
        "oldest_at": time_json(lane.oldest_at), "oldest_age_seconds": lane.oldest_at.map(|at| now.saturating_sub(at).max(0) / 1000),
        "next_at": time_json(lane.next_at), "frozen_until": time_json(frozen.and_then(|frozen| frozen.until)),
        "frozen_why": frozen.map(|frozen| frozen.why.as_str()), "limit": lane.limit.lane.map(|rate| rate.to_string()),
        "paused": lane.paused.as_ref().map(|paused| json!({"of": paused.of, "who": paused.who, "since": time_json(paused.since)})),
        "credential_limit": lane.limit.credential.map(|rate| rate.to_string()), "in_flight_max": lane.limit.in_flight,
    })
    .to_string()
}

fn row(lane: &Lane, now: i64) -> String {
    let next = match lane.next_at.map(|next_at| next_at.saturating_sub(now)) {
        None if lane.paused.is_some() => "paused".to_owned(),
        None => "?".to_owned(),
        Some(..=0) => "now".to_owned(),
        // Half a second from now is not now.
        Some(wait) => format!("in {}", span_text(wait.max(1000))),
    };
    let id = plain(&lane.id);
    let (alone, id) = match id.chars().count() > WIDTH {
        true => (format!("{id}\n"), String::new()),
        false => (String::new(), id),
    };
    let mut text = format!(
        "{alone}{id:<WIDTH$} {:>8} {:>8} {next:>8}  {}",
        lane.waiting,
        lane.oldest_at
            .map_or("-".to_owned(), |at| span_text(now.saturating_sub(at))),
        limit_text(&lane.limit)
    );
    if let Some(paused) = &lane.paused {
        text = format!("{}\n    {}", text.trim_end(), wrapped(&plain(&paused.words), 4));
    }
    if let Some(frozen) = &lane.frozen {
        let until = frozen.until.map(|until| format!(" until {} UTC", when(until)));
        let probed = if frozen.refused { "; probed until it works" } else { "" };
        let why = format!("frozen{}: {}{probed}", until.unwrap_or_default(), plain(&frozen.why));
        text.push_str(&format!("\n    {}", wrapped(&why, 4)));
    }
    text
}

/// The lane's own limit, and what all lanes of its credential have together.
fn limit_text(limit: &Limit) -> String {
    let parts = [
        limit.lane.map(|rate| rate.to_string()),
        limit.credential.map(|rate| format!("{rate} in all")),
        limit.in_flight.map(|count| format!("{count} in flight")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dates::Rate;
    use crate::desk::lanes::{Frozen, Paused};

    #[test]
    fn a_row_says_what_is_frozen_and_why() {
        let mut lane = Lane {
            id: "slack:a/C1".into(),
            credential: "slack:a".into(),
            waiting: 3,
            oldest_at: Some(0),
            paused: None,
            next_at: Some(100_000),
            frozen: Some(Frozen {
                until: Some(100_000),
                why: "credential refused: invalid_auth".into(),
                refused: true,
            }),
            limit: Limit {
                lane: Some(Rate::per_second(1)),
                credential: Some(Rate::per_minute(300)),
                in_flight: None,
            },
        };
        let text = row(&lane, 70_000);
        assert!(text.contains("1/s, 300/m in all") && text.contains("in 30s"), "{text}");
        assert!(
            text.ends_with(
                "frozen until 1970-01-01 00:01:40 UTC: credential refused: invalid_auth; probed until it works"
            ),
            "{text}"
        );
        let json = |lane: &Lane| serde_json::from_str::<serde_json::Value>(&object(lane, 70_000)).unwrap();
        let shown = json(&lane);
        assert_eq!((&shown["id"], &shown["waiting"]), (&"slack:a/C1".into(), &3.into()));
        assert_eq!(
            (&shown["oldest_age_seconds"], &shown["limit"]),
            (&70.into(), &"1/s".into())
        );
        assert_eq!(shown["frozen_until"], "1970-01-01T00:01:40Z");
        // The first probe was refused, too: no topic says so, nor when the next one comes.
        lane.next_at = None;
        lane.frozen.as_mut().unwrap().until = None;
        let text = row(&lane, 200_000);
        assert!(
            text.contains("  ?  ") && text.ends_with("frozen: credential refused: invalid_auth; probed until it works"),
            "{text}"
        );
        let shown = json(&lane);
        assert_eq!(
            (&shown["next_at"], &shown["frozen_until"]),
            (&json!(null), &json!(null))
        );
        assert_eq!(shown["frozen_why"], "credential refused: invalid_auth");
        lane.frozen = None;
        lane.paused = Some(Paused {
            of: "slack:a".into(),
            who: Some("ana".into()),
            since: Some(0),
            words: "slack:a is paused by ana since 1970-01-01T00:00:00Z".into(),
        });
        let text = row(&lane, 200_000);
        assert!(
            text.contains("  paused  1/s")
                && text.ends_with("\n    slack:a is paused by ana since 1970-01-01T00:00:00Z"),
            "{text}"
        );
        let shown = json(&lane);
        assert_eq!(
            shown["paused"],
            json!({"of": "slack:a", "who": "ana", "since": "1970-01-01T00:00:00Z"})
        );
    }
}
