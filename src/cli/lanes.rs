//! `leadlane lanes`: what waits in each lane, since when, until when and why it is frozen.

use serde_json::json;

use super::look::{Look, plain, span_text, time_json};
use super::{CliError, print, say_newer};
use crate::app::now_millis;
use crate::dates::time_text;
use crate::desk::backlog::Backlog;
use crate::desk::lanes::{self, Lane, Limit};

pub(super) fn run(look: Look<'_>) -> Result<(), CliError> {
    let backlog = look.scan(|scanner| Ok(Backlog::read(scanner, now_millis())?))?;
    say_newer(backlog.newer);
    let now = now_millis();
    let lanes = lanes::list(&backlog, now);
    if lanes.is_empty() {
        eprintln!("nothing waits");
    }
    if !look.json && !lanes.is_empty() {
        print(&format!(
            "{:<48} {:>9} {:>8} {:>8}  limit",
            "lane", "waiting", "oldest", "next"
        ))?;
    }
    for lane in &lanes {
        print(&if look.json { object(lane, now) } else { row(lane, now) })?;
    }
    Ok(())
}

fn object(lane: &Lane, now: i64) -> String {
    let frozen = lane.frozen.as_ref();
    json!({
        "id": lane.id, "credential": lane.credential, "waiting": lane.waiting,
        "oldest_at": time_text(lane.oldest_at), "oldest_age_seconds": now.saturating_sub(lane.oldest_at).max(0) / 1000,
        "next_at": time_json(lane.next_at), "frozen_until": time_json(frozen.and_then(|frozen| frozen.until)),
        "frozen_why": frozen.map(|frozen| frozen.why.as_str()), "limit": lane.limit.lane.map(|rate| rate.to_string()),
        "credential_limit": lane.limit.credential.map(|rate| rate.to_string()), "in_flight_max": lane.limit.in_flight,
    })
    .to_string()
}

fn row(lane: &Lane, now: i64) -> String {
    let next = match lane.next_at.map(|next_at| next_at.saturating_sub(now)) {
        None => "?".to_owned(),
        Some(..=0) => "now".to_owned(),
        // Half a second from now is not now.
        Some(wait) => format!("in {}", span_text(wait.max(1000))),
    };
    let mut text = format!(
        "{:<48} {:>9} {:>8} {next:>8}  {}",
        plain(&lane.id),
        lane.waiting,
        span_text(now.saturating_sub(lane.oldest_at)),
        limit_text(&lane.limit, &lane.credential)
    );
    if let Some(frozen) = &lane.frozen {
        let until = frozen.until.map(|until| format!(" until {}", time_text(until)));
        let probed = if frozen.refused { "; probed until it works" } else { "" };
        text.push_str(&format!(
            "\n    frozen{}: {}{probed}",
            until.unwrap_or_default(),
            plain(&frozen.why)
        ));
    }
    text
}

fn limit_text(limit: &Limit, credential: &str) -> String {
    let parts = [
        limit.lane.map(|rate| rate.to_string()),
        limit.credential.map(|rate| format!("{rate} of {credential}")),
        limit.in_flight.map(|count| format!("{count} in flight")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dates::Rate;
    use crate::desk::lanes::Frozen;

    #[test]
    fn a_row_says_what_is_frozen_and_why() {
        let mut lane = Lane {
            id: "slack:a/C1".into(),
            credential: "slack:a".into(),
            waiting: 3,
            oldest_at: 0,
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
        assert!(
            text.contains("1/s, 300/m of slack:a") && text.contains("in 30s"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "frozen until 1970-01-01T00:01:40Z: credential refused: invalid_auth; probed until it works"
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
    }
}
