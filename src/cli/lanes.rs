//! `leadlane lanes`: what waits where, since when, frozen until and why.

use std::collections::BTreeMap;

use serde_json::json;

use super::backlog::{Frozen, Places, Scope, Told, waiting};
use super::look::{Look, plain, span_text, time_json, time_text};
use super::{CliError, print};
use crate::app::now_millis;
use crate::config::Config;
use crate::delivery::limit::Rate;
use crate::delivery::{ActionType, DeliveryJob};

/// What waits in one lane.
#[derive(Debug)]
struct Waiting {
    credential: String,
    count: u64,
    /// When its first job was written, and when that may be tried again if it failed.
    oldest_at: i64,
    first_again: Option<i64>,
    limit: Limit,
}

/// What the configuration allows a lane, and all of its credential together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    lane: Option<Rate>,
    credential: Option<Rate>,
    in_flight: Option<usize>,
}

impl Limit {
    fn of(config: &Config, job: &DeliveryJob) -> Self {
        let own = |channel: Option<&str>| {
            let mut limits = config.slack.limits.iter();
            let own = limits.find(|limit| limit.credential == job.credential && limit.channel.as_deref() == channel);
            own.map(|limit| limit.rate)
        };
        let none = Self {
            lane: None,
            credential: None,
            in_flight: None,
        };
        match job.action {
            ActionType::SlackMessage => Self {
                lane: Some(own(Some(&job.destination)).unwrap_or(config.slack.channel_rate)),
                credential: Some(own(None).unwrap_or(config.slack.workspace_rate)),
                ..none
            },
            ActionType::SlackWebhook => Self {
                lane: Some(own(None).unwrap_or(config.slack.webhook_rate)),
                ..none
            },
            ActionType::ClevertapProfile | ActionType::ClevertapEvent => {
                let name = job.credential.strip_prefix("clevertap:").unwrap_or_default();
                let account = config.clevertap.accounts.get(name);
                Self {
                    in_flight: account.map(|account| account.concurrency),
                    ..none
                }
            }
        }
    }

    fn text(&self, credential: &str) -> String {
        let parts = [
            self.lane.map(|rate| rate.to_string()),
            self.credential.map(|rate| format!("{rate} of {credential}")),
            self.in_flight.map(|count| format!("{count} in flight")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn run(look: Look<'_>) -> Result<(), CliError> {
    let places = Places::of(look.config).map_err(CliError::failed)?;
    let mut lanes: BTreeMap<String, Waiting> = BTreeMap::new();
    let told = waiting(look, &places, |told, job, record| {
        let lane = lanes.entry(job.lane()).or_insert_with(|| Waiting {
            credential: job.credential.clone(),
            count: 0,
            oldest_at: record.timestamp,
            // A lane is in one partition, so its first job is the one that is read first.
            first_again: told.again(record.partition, record.offset, &job.job_id),
            limit: Limit::of(look.config, job),
        });
        lane.count += 1;
    })?;
    if lanes.is_empty() {
        eprintln!("nothing waits");
    }
    let now = now_millis();
    if !look.json && !lanes.is_empty() {
        print(&format!(
            "{:<48} {:>9} {:>8} {:>8}  limit",
            "lane", "waiting", "oldest", "next"
        ))?;
    }
    for (lane, waiting) in &lanes {
        print(&row(lane, waiting, &told, now, look.json))?;
    }
    Ok(())
}

fn row(lane: &str, waiting: &Waiting, told: &Told, now: i64, json: bool) -> String {
    let of_lane = told.lanes.get(lane).cloned().unwrap_or_default();
    let of_credential = told.credentials.get(&waiting.credential).cloned().unwrap_or_default();
    let next_at = next_at(waiting, &of_lane, &of_credential, now);
    let frozen = frozen(&of_lane, &of_credential, now);
    // When a refused credential is probed next, its sender alone knows.
    let is_known = frozen.is_none_or(|frozen| frozen.until > now);
    if json {
        let until = frozen.filter(|_| is_known).map(|frozen| frozen.until);
        return json!({
            "id": lane, "credential": waiting.credential, "waiting": waiting.count,
            "oldest_at": time_text(waiting.oldest_at), "oldest_age_seconds": now.saturating_sub(waiting.oldest_at).max(0) / 1000,
            "next_at": time_json(is_known.then_some(next_at)), "frozen_until": time_json(until),
            "frozen_why": frozen.map(|frozen| frozen.why.as_str()), "limit": waiting.limit.lane.map(|rate| rate.to_string()),
            "credential_limit": waiting.limit.credential.map(|rate| rate.to_string()), "in_flight_max": waiting.limit.in_flight,
        })
        .to_string();
    }
    let next = match next_at.saturating_sub(now) {
        _ if !is_known => "?".to_owned(),
        ..=0 => "now".to_owned(),
        // Half a second from now is not now.
        wait => format!("in {}", span_text(wait.max(1000))),
    };
    let mut text = format!(
        "{:<48} {:>9} {:>8} {next:>8}  {}",
        plain(lane),
        waiting.count,
        span_text(now.saturating_sub(waiting.oldest_at)),
        waiting.limit.text(&waiting.credential)
    );
    if let Some(frozen) = frozen {
        let until = if is_known {
            format!(" until {}", time_text(frozen.until))
        } else {
            String::new()
        };
        let probed = if frozen.probed { "; probed until it works" } else { "" };
        text.push_str(&format!("\n    frozen{until}: {}{probed}", plain(&frozen.why)));
    }
    text
}

/// The freeze that lasts longest. One that is over is none, but for a refused credential's, which
/// lasts until something is taken.
fn frozen<'s>(lane: &'s Scope, credential: &'s Scope, now: i64) -> Option<&'s Frozen> {
    let both = [lane.frozen.as_ref(), credential.frozen.as_ref()];
    let lasting = both
        .into_iter()
        .flatten()
        .filter(|frozen| frozen.until > now || frozen.probed);
    lasting.max_by_key(|frozen| frozen.until)
}

/// When the lane's next request may start at the earliest.
fn next_at(waiting: &Waiting, lane: &Scope, credential: &Scope, now: i64) -> i64 {
    let spaced = |scope: &Scope, rate: Option<Rate>| Some(scope.started_at?.saturating_add(rate?.spacing() / 1000));
    [
        spaced(lane, waiting.limit.lane),
        spaced(credential, waiting.limit.credential),
        frozen(lane, credential, now).map(|frozen| frozen.until),
        waiting.first_again,
    ]
    .into_iter()
    .flatten()
    .fold(now, i64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(limit: Limit, first_again: Option<i64>) -> Waiting {
        Waiting {
            credential: "slack:a".into(),
            count: 3,
            oldest_at: 0,
            first_again,
            limit,
        }
    }

    const SLACK: Limit = Limit {
        lane: None,
        credential: None,
        in_flight: None,
    };

    #[test]
    fn the_next_request_waits_for_every_limit_freeze_and_retry() {
        let limit = Limit {
            lane: Some(Rate::per_second(1)),
            credential: Some(Rate::per_minute(300)),
            in_flight: None,
        };
        let started = |at| Scope {
            started_at: Some(at),
            frozen: None,
        };
        let frozen_until = |until| Scope {
            started_at: None,
            frozen: Some(Frozen {
                until,
                why: "throttled".into(),
                probed: false,
            }),
        };
        let idle = Scope::default();
        let now = 10_000;
        for (limit, again, lane, credential, wanted) in [
            (limit, None, &idle, &idle, now),
            (limit, None, &started(9_500), &started(9_500), 10_520),
            (limit, None, &started(9_500), &started(9_990), 10_520),
            (limit, None, &started(1_000), &started(9_990), 10_194),
            (limit, None, &frozen_until(12_000), &frozen_until(15_000), 15_000),
            (limit, None, &frozen_until(9_000), &idle, now),
            (SLACK, Some(11_000), &started(9_999), &idle, 11_000),
        ] {
            assert_eq!(next_at(&waiting(limit, again), lane, credential, now), wanted);
        }
        assert_eq!(
            frozen(&frozen_until(9_000), &frozen_until(15_000), now).unwrap().until,
            15_000
        );
        assert_eq!(frozen(&frozen_until(9_000), &idle, now), None);
    }

    #[test]
    fn a_row_says_what_is_frozen_and_why() {
        let mut told = Told::default();
        told.credentials.insert(
            "slack:a".into(),
            Scope {
                started_at: None,
                frozen: Some(Frozen {
                    until: 100_000,
                    why: "credential refused: invalid_auth".into(),
                    probed: true,
                }),
            },
        );
        let limit = Limit {
            lane: Some(Rate::per_second(1)),
            credential: Some(Rate::per_minute(300)),
            in_flight: None,
        };
        let text = row("slack:a/C1", &waiting(limit, None), &told, 70_000, false);
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
        // The first probe was refused, too: no topic says so, nor when the next one comes.
        let text = row("slack:a/C1", &waiting(limit, None), &told, 200_000, false);
        assert!(
            text.contains("  ?  ") && text.ends_with("frozen: credential refused: invalid_auth; probed until it works"),
            "{text}"
        );
        let json = row("slack:a/C1", &waiting(limit, None), &told, 200_000, true);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["next_at"], &json["frozen_until"]), (&json!(null), &json!(null)));
        assert_eq!(json["frozen_why"], "credential refused: invalid_auth");
        let json = row("slack:a/C1", &waiting(limit, None), &told, 70_000, true);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["id"], &json["waiting"]), (&"slack:a/C1".into(), &3.into()));
        assert_eq!(
            (&json["oldest_age_seconds"], &json["limit"]),
            (&70.into(), &"1/s".into())
        );
        assert_eq!(json["frozen_until"], "1970-01-01T00:01:40Z");
    }
}
