//! `leadlane events tail`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::look::{self, Look, plain, when};
use crate::cli::{CliError, look_up, print, progress};
use crate::dates::time_text;
use crate::desk::tail::{self, Arrived, Filter};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Only events of this trigger
    #[arg(long, value_name = "TRIGGER")]
    trigger: Option<String>,
    /// Only events of this lead
    #[arg(long, value_name = "ID")]
    lead: Option<String>,
    /// Only events that this inlet took in
    #[arg(long, value_name = "NAME")]
    inlet: Option<String>,
    /// Only events that no rule in force matches
    #[arg(long)]
    unmatched: bool,
    /// Begin with events written from then on: a date, or how long ago: 2h, 3d [default: now]
    #[arg(long, value_name = "TIME", value_parser = look::time)]
    since: Option<i64>,
}

pub(super) fn tail(look: Look<'_>, options: &Options) -> Result<(), CliError> {
    let filter = Filter {
        trigger: options.trigger.clone(),
        lead: options.lead.clone(),
        inlet: options.inlet.clone(),
        unmatched: options.unmatched,
    };
    progress::end();
    let mut coming = tail::follow(look.config, filter, options.since)?;
    while !*look.stop.borrow() {
        let arrived = coming.next(Duration::from_millis(100), |id, schemas| {
            if let Err(error) = look_up(look.config, id, schemas) {
                say!("{error}");
            }
        })?;
        if let Some(arrived) = arrived {
            print(&line(&arrived, look.json))?;
        }
    }
    Ok(())
}

fn line(arrived: &Arrived, json: bool) -> String {
    let record = &arrived.record;
    let seen = match &arrived.event {
        Ok(seen) => seen,
        Err(unread) if json => {
            return json!({
                "id": null, "reason": unread.reason, "detail": unread.detail,
                "partition": record.partition, "offset": record.offset,
            })
            .to_string();
        }
        Err(unread) => {
            return plain(&format!(
                "{} UTC  no lead event, at {}-{}: {}: {}",
                when(record.timestamp),
                record.partition,
                record.offset,
                unread.reason,
                unread.detail
            ));
        }
    };
    if json {
        return json!({
            "id": seen.event_id, "trigger": seen.trigger, "lead_id": seen.lead_id,
            "occurred_at": time_text(seen.occurred_at), "inlet": seen.inlet, "matches": seen.matches,
            "partition": record.partition, "offset": record.offset, "event": arrived.json(),
        })
        .to_string();
    }
    let inlet = seen
        .inlet
        .as_ref()
        .map_or(String::new(), |inlet| format!("  inlet {inlet}"));
    let matches = match &seen.matches[..] {
        [] => "no rule matches".to_owned(),
        [one] => format!("rule {one}"),
        several => format!("rules {}", several.join(", ")),
    };
    plain(&format!(
        "{} UTC  {}  lead {}  event {}{inlet}  {matches}",
        when(seen.occurred_at),
        seen.trigger,
        seen.lead_id,
        seen.event_id
    ))
}
