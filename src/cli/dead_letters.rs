//! `leadlane dead-letters ...`: records that wait for a person.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::look::{Look, Newest, Span, plain, wrapped};
use super::{CliError, print};
use crate::desk::dead_letters::{self, Filter, Id, Letter, Replayed};
use crate::desk::{Error, scan};
use crate::reason::Reason;

mod replay;

#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// List dead letters, newest last: their id, why, where they come from, and whether they were replayed
    List {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        span: Span,
        /// Print the newest so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Print one dead letter with the record that it holds
    Show {
        #[arg(value_name = "ID")]
        id: Id,
    },
    /// Put dead letters back where they came from; one that was replayed is left as it is
    Replay(replay::Options),
}

/// Which dead letters are asked for: all conditions must hold.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// Only with one of these reasons
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',')]
    reasons: Vec<Reason>,
    /// Only of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only of this event
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only jobs for this lane, or for any lane of this credential
    #[arg(long, value_name = "LANE")]
    destination: Option<String>,
}

impl Asked {
    fn filter(&self) -> Filter {
        Filter {
            reasons: self.reasons.clone(),
            rule: self.rule.clone(),
            event: self.event.clone(),
            destination: self.destination.clone(),
        }
    }
}

pub(super) fn run(look: Look<'_>, command: &DeadLetters) -> Result<(), CliError> {
    match command {
        DeadLetters::List { asked, span, limit } => list(look, &asked.filter(), span.period(), *limit),
        DeadLetters::Show { id } => show(look, *id),
        DeadLetters::Replay(options) => replay::run(look, options),
    }
}

fn list(look: Look<'_>, filter: &Filter, period: scan::Period, limit: Option<usize>) -> Result<(), CliError> {
    let mut newest = Newest::new(limit);
    look.scan(|scanner| {
        let replayed = Replayed::read(scanner)?;
        for letter in dead_letters::list(scanner, period, filter)? {
            let letter = letter?;
            let replayed = replayed.contains(&letter);
            newest.add(letter.record.timestamp, || match look.json {
                true => object(&letter, replayed).to_string(),
                false => line(&letter, replayed),
            });
        }
        Ok(())
    })?;
    let head = format!("{:<8} {:<19}  {:<18}  from", "id", "failed (UTC)", "reason");
    newest.print(Some(&*head).filter(|_| !look.json), "no dead letter is there that fits")
}

fn object(letter: &Letter, replayed: bool) -> Value {
    let number = |name| letter.header(name).and_then(|text| text.parse::<i64>().ok());
    json!({
        "id": letter.id.to_string(), "reason": letter.header("reason"), "detail": letter.header("detail"),
        "failed_at": letter.header("failed-at"), "source_topic": letter.header("source-topic"),
        "source_partition": number("source-partition"), "source_offset": number("source-offset"),
        "event_id": letter.header("event-id"), "rule_id": letter.header("rule-id"), "job_id": letter.header("job-id"),
        "lane": letter.lane(), "inlet": letter.header("inlet"), "left_out": letter.left_out().collect::<Vec<_>>(),
        "replayed": replayed,
    })
}

fn line(letter: &Letter, replayed: bool) -> String {
    let mut line = format!(
        "{:<8} {:<19}  {:<18}  from {}",
        letter.id.to_string(),
        letter
            .header("failed-at")
            .unwrap_or_default()
            .split('.')
            .next()
            .unwrap_or_default()
            .trim_end_matches('Z')
            .replacen('T', " ", 1),
        letter.header("reason").unwrap_or("?"),
        source(letter)
    );
    let lane = letter.lane();
    let named = source(letter).starts_with("inlet:");
    for (name, value) in [
        ("inlet", letter.header("inlet").filter(|_| !named)),
        ("rule", letter.header("rule-id")),
        ("event", letter.header("event-id")),
        ("job", letter.header("job-id")),
        ("lane", lane.as_deref()),
    ] {
        if let Some(value) = value {
            line.push_str(&format!("  {name} {value}"));
        }
    }
    if let Some(detail) = letter.header("detail").filter(|detail| !detail.is_empty()) {
        line.push_str(&format!(": {detail}"));
    }
    let left_out: Vec<&str> = letter.left_out().collect();
    if !left_out.is_empty() {
        line.push_str(&format!("  (without its {})", left_out.join(", ")));
    }
    if replayed {
        line.push_str("  (replayed)");
    }
    wrapped(&plain(&line), 4)
}

fn show(look: Look<'_>, id: Id) -> Result<(), CliError> {
    let (letter, replayed, whole) = look.scan(|scanner| {
        let letter = dead_letters::find(scanner, id)?;
        let replayed = Replayed::read(scanner)?.contains(&letter);
        let whole = match letter.whole(scanner) {
            Err(Error::NotFound(why)) => {
                say!("{id}: {}", plain(&why));
                letter.clone()
            }
            whole => whole?,
        };
        Ok((letter, replayed, whole))
    })?;
    let held = whole.held();
    if look.json {
        let mut object = object(&letter, replayed);
        object["key"] = whole.record.key.as_deref().map(String::from_utf8_lossy).into();
        object["value"] = held;
        return print(&object.to_string());
    }
    let held = match held {
        // A text that is no JSON is shown as it is; anything may stand in it.
        Value::String(text) => plain(&text),
        held => format!("{held:#}"),
    };
    print(&format!("{}\n{held}", line(&letter, replayed)))
}

/// Where the record was read: topic, partition and offset; or the inlet that it was posted to.
fn source(letter: &Letter) -> String {
    let part = |name| letter.header(name).unwrap_or("?");
    if part("source-topic").starts_with("inlet:") {
        return part("source-topic").to_owned();
    }
    format!(
        "{} {}-{}",
        part("source-topic"),
        part("source-partition"),
        part("source-offset")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::dead_letters::tests::{job, letter};

    #[test]
    fn a_line_has_the_ids_and_cannot_steer_a_terminal() {
        let headers = [
            ("reason", "gave_up"),
            ("detail", "no\u{1b}[2J answer"),
            ("source-topic", "delivery-jobs"),
            ("source-partition", "0"),
            ("source-offset", "5"),
            ("failed-at", "2026-03-05T15:16:00.123Z"),
            ("rule-id", "r"),
        ];
        let letter = letter(&headers, &job("slack:bot").encode());
        let text = line(&letter, true);
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        let text = text.replace("\n   ", "");
        assert!(
            text.starts_with("2-17") && text.contains("gave_up") && text.contains("from delivery-jobs 0-5"),
            "{text}"
        );
        assert!(
            text.contains("rule r  lane slack:bot/C1: no [2J answer") && text.ends_with("(replayed)"),
            "{text}"
        );
        let object = object(&letter, false);
        assert_eq!(
            (&object["id"], &object["source_offset"], &object["replayed"]),
            (&json!("2-17"), &json!(5), &json!(false))
        );
    }
}
