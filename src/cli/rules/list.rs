//! `leadlane rules list`

use std::collections::HashMap;

use crate::action::ActionType;
use crate::app::now_millis;
use crate::cli::look::{Look, cell, counted, plain, time_json, when, wrapped};
use crate::cli::{CliError, print, wait_for, warn};
use crate::config::safe_url;
use crate::dates::time_text;
use crate::desk::deliveries::{self, LastMatched};
use crate::desk::rules::{self, Filter, Listed, Summary, View};
use crate::desk::versions::{self, Last};
use crate::reader::Refusal;
use crate::secrets::Secrets;
use serde_json::{Value, json};

/// Columns of an id.
const ID: usize = 28;

/// Lists what stands on the rules' topic. Who may not read the other topics sees the rules all the same.
pub(super) fn list(look: Look<'_>) -> Result<(), CliError> {
    let view = View::scan(look.config)?;
    let authors = look.scan(|scanner| Ok(versions::last(scanner)?));
    let authors = known(look, authors, "who wrote a rule last")?;
    let matched = look.scan(|scanner| Ok(deliveries::last_matched(scanner, now_millis())?));
    let matched = known(look, matched, "when a rule matched last")?;
    let mut hosts = Hosts {
        store: Secrets::new(look.config.secrets.dir.clone()),
        asked: HashMap::new(),
    };
    let mut count = 0;
    for listed in rules::list(&view, &Filter::default()) {
        if count == 0 && !look.json {
            print(&columns(
                "id",
                "status",
                "version",
                "destination",
                "author",
                "last match (UTC)",
            ))?;
        }
        count += 1;
        let row = Row::of(&listed, authors.as_ref(), matched.as_ref(), &mut hosts)?;
        print(&if look.json {
            row.json(&listed)
        } else {
            row.text(&listed)
        })?;
    }
    if !look.json {
        say!("{}", foot(count, matched.as_ref()));
    }
    Ok(())
}

/// What else is known of the rules. Where it can't be read that is said, and the list goes on without.
fn known<T>(look: Look<'_>, read: Result<T, CliError>, what: &str) -> Result<Option<T>, CliError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if *look.stop.borrow() => Err(error),
        Err(error) => {
            warn(&Refusal::new(format!("{what} is not known: {error}")), look.json);
            Ok(None)
        }
    }
}

/// How many there are, and how far back the last matches reach.
fn foot(count: u64, matched: Option<&LastMatched>) -> String {
    let rules = match count {
        0 => "there is no rule".to_owned(),
        count => counted(count, "rule"),
    };
    match matched.filter(|_| count > 0) {
        None => rules,
        Some(LastMatched { since: Some(since), .. }) => {
            format!(
                "{rules}; last matches are told of the newest jobs, those since {} UTC",
                when(*since)
            )
        }
        Some(_) => format!("{rules}; last matches are told of all jobs that the topics still hold"),
    }
}

/// What one line says of a rule.
struct Row<'v> {
    rule: Option<&'v Summary>,
    status: &'static str,
    version: Option<i64>,
    destination: String,
    author: Option<&'v str>,
    last_matched_at: Option<i64>,
}

impl<'v> Row<'v> {
    fn of(
        listed: &Listed<'v>,
        authors: Option<&'v HashMap<String, Last>>,
        matched: Option<&LastMatched>,
        hosts: &mut Hosts,
    ) -> Result<Self, CliError> {
        let rule = listed.in_force.map(|in_force| in_force.rule);
        let version = listed.in_force.map(|in_force| in_force.version);
        let last = authors.and_then(|authors| authors.get(listed.id));
        Ok(Self {
            rule,
            status: rule.map_or("rejected", |rule| rule.status.as_str()),
            version,
            destination: match rule {
                Some(rule) => destination(rule, hosts)?,
                None => String::new(),
            },
            // The audit may know of a version that someone has replaced without one.
            author: last.filter(|last| Some(last.version) == version).map(|last| &*last.who),
            last_matched_at: matched.and_then(|matched| matched.at.get(listed.id).copied()),
        })
    }

    fn json(&self, listed: &Listed<'_>) -> String {
        let warnings: Vec<String> = listed.warnings.iter().map(ToString::to_string).collect();
        let rejected = listed.rejected.map(|rejected| {
            json!({"offset": rejected.offset, "reason": rejected.reason.as_str(), "detail": rejected.detail})
        });
        let rule = self.rule;
        json!({
            "id": listed.id, "status": self.status, "version": self.version,
            "name": rule.and_then(|rule| rule.name.as_deref()), "trigger": rule.map(|rule| &*rule.trigger),
            "action": rule.map(|rule| rule.action.as_str()), "lane": rule.map(|rule| &*rule.lane),
            "destination": rule.map(|_| &*self.destination), "author": self.author,
            "changed_at": time_text(listed.changed_at), "last_matched_at": time_json(self.last_matched_at),
            "warnings": warnings, "rejected": rejected.unwrap_or(Value::Null),
        })
        .to_string()
    }

    fn text(&self, listed: &Listed<'_>) -> String {
        let version = self.version.map_or("-".to_owned(), |version| version.to_string());
        let matched = self.last_matched_at.map_or("-".to_owned(), when);
        let mut lines = vec![columns(
            listed.id,
            self.status,
            &version,
            &self.destination,
            self.author.unwrap_or("-"),
            &matched,
        )];
        let mut further = |text: &str| lines.push(format!("    {}", wrapped(&plain(text), 4)));
        if let Some(rule) = self.rule {
            let name = rule.name.as_deref().map_or(String::new(), |name| format!(": {name}"));
            further(&format!("{}{name}  lane {}", rule.trigger, rule.lane));
        }
        if let Some(rejected) = listed.rejected {
            let (offset, reason, detail) = (rejected.offset, rejected.reason.as_str(), &rejected.detail);
            further(&format!("rejected at offset {offset}: {reason}: {detail}"));
        }
        for warning in &listed.warnings {
            further(&format!("warning: {warning}"));
        }
        lines.join("\n")
    }
}

/// A row of 100 columns at most. An id is there to be copied: a long one has a line of its own.
fn columns(id: &str, status: &str, version: &str, destination: &str, author: &str, matched: &str) -> String {
    let id = plain(id);
    let (above, id) = match id.chars().count() > ID {
        true => (format!("{id}\n"), String::new()),
        false => (String::new(), id),
    };
    let (destination, author) = (cell(destination, 20), cell(author, 12));
    let row = format!("{id:<ID$} {status:<8} {version:>7}  {destination} {author} {matched}");
    format!("{above}{}", row.trim_end())
}

/// The channel or member, the webhook's host, or the account that a rule sends to.
fn destination(rule: &Summary, hosts: &mut Hosts) -> Result<String, CliError> {
    let (credential, apart) = match rule.lane.split_once('/') {
        Some((credential, apart)) => (credential, Some(apart)),
        None => (&*rule.lane, None),
    };
    let name = credential.split_once(':').map_or(credential, |(_, name)| name);
    Ok(match rule.action {
        ActionType::SlackWebhook => match hosts.of(name)? {
            Some(host) => host,
            None => credential.to_owned(),
        },
        _ => apart.unwrap_or(name).to_owned(),
    })
}

/// The hosts of webhooks, whose URLs are secrets, as far as they can be had here.
struct Hosts {
    store: Secrets,
    asked: HashMap<String, Option<String>>,
}

impl Hosts {
    fn of(&mut self, name: &str) -> Result<Option<String>, CliError> {
        if !self.asked.contains_key(name) {
            let url = wait_for(self.store.reveal(name))?;
            let url = url.ok().and_then(|url| safe_url(url.reveal().trim()).ok());
            let host = url.and_then(|url| url.host_str().map(str::to_owned));
            self.asked.insert(name.to_owned(), host);
        }
        Ok(self.asked.get(name).cloned().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fits_its_columns_and_an_id_is_never_cut() {
        let head = columns("id", "status", "version", "destination", "author", "last match (UTC)");
        let wide = "x".repeat(40);
        for id in ["sold", &wide] {
            let row = columns(id, "rejected", "1234567", &wide, &wide, "2026-03-05 15:16:00");
            assert!(row.contains(id), "{row}");
            assert!(row.lines().all(|line| line.chars().count() <= 100), "{row}");
            let before = |line: &str, last: &str| line.chars().count() - last.len();
            let at = before(row.lines().last().unwrap(), "2026-03-05 15:16:00");
            assert_eq!(at, before(&head, "last match (UTC)"), "{head}\n{row}");
        }
    }

    #[test]
    fn what_was_looked_at_is_told() {
        let since = |since| LastMatched {
            since,
            ..LastMatched::default()
        };
        assert_eq!(foot(0, Some(&since(None))), "there is no rule");
        assert_eq!(foot(2, None), "2 rules");
        assert!(foot(1, Some(&since(None))).starts_with("1 rule; last matches are told of all jobs"));
        let said = foot(1, Some(&since(Some(1_772_723_760_000))));
        assert!(said.ends_with("those since 2026-03-05 15:16:00 UTC"), "{said}");
    }
}
