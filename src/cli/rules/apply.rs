//! `leadlane rules apply`

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{changed, read};
use crate::app::now_millis;
use crate::cli::look::Look;
use crate::cli::{CliError, print, progress, who};
use crate::desk::rules::write::{Change, Writer};
use crate::desk::rules::{self, Draft, View};
use crate::desk::versions::{self, Last};
use crate::rules::difference::{Run, line_runs};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Rule files, or folders with such files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print what would change, as a diff, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also delete the rules in force that were last written by apply and that the files don't have
    #[arg(long)]
    prune: bool,
    /// Let --prune delete more than half of the rules that were last written by apply
    #[arg(long, requires = "prune")]
    yes: bool,
}

pub(super) fn apply(look: Look<'_>, options: &Options) -> Result<(), CliError> {
    let drafts = read(look.config, &options.paths, look.json)?;
    // Who wrote a rule last is asked before the rules are, so that a rule that is written meanwhile is a conflict.
    let last = match options.prune {
        true => look.scan(|scanner| Ok(versions::last(scanner)?))?,
        false => HashMap::new(),
    };
    let mut writer = Writer::new(look.config).telling(|done, total| {
        progress::at("writing rules", done as u64, Some(total as u64));
    });
    let changes = {
        let view = writer.view()?;
        let mut pruned = Vec::new();
        if options.prune {
            let Prune { deleted, owned, others } = Prune::of(&view, &drafts, &last);
            if others > 0 {
                let (rules, stay) = if others == 1 {
                    ("rule", "stays")
                } else {
                    ("rules", "stay")
                };
                say!("{others} {rules} in force that the files don't have {stay}, as apply didn't write them last");
            }
            if 2 * deleted.len() > owned && !options.yes {
                let more = format!(
                    "--prune would delete {} of the {owned} rules that apply wrote",
                    deleted.len()
                );
                if !options.dry_run {
                    let message = format!("{more}: {}; if that is meant, add --yes", some(&deleted));
                    return Err(CliError::Invalid(message));
                }
                say!("{more}, which needs --yes");
            }
            pruned = deleted;
        }
        if options.dry_run {
            return dry_run(&view, &drafts, &pruned, look.json);
        }
        let put = |draft: Draft| {
            let seen = view.version(&draft.id);
            Ok::<_, CliError>(Change::put(draft, seen)?.from_files())
        };
        let puts = drafts.into_iter().map(put);
        let deletes = pruned.iter().map(|id| Ok(Change::delete(id, view.version(id), false)));
        puts.chain(deletes).collect::<Result<Vec<Change>, _>>()?
    };
    let written = writer.write(&changes, &who(), now_millis())?;
    progress::over();
    for written in written {
        changed(&written, look.json)?;
    }
    Ok(())
}

/// What `--prune` comes to.
struct Prune {
    deleted: Vec<String>,
    /// How many rules in force apply wrote last.
    owned: usize,
    /// How many others are in force that the files don't have.
    others: usize,
}

impl Prune {
    fn of(view: &View, drafts: &[Draft], last: &HashMap<String, Last>) -> Self {
        let given: HashSet<&str> = drafts.iter().map(|draft| draft.id.as_str()).collect();
        let (mut deleted, mut owned, mut others) = (Vec::new(), 0, 0);
        for in_force in rules::every(view) {
            // The audit may know of a version that someone has replaced without one.
            let last = last.get(in_force.id).filter(|last| last.version == in_force.version);
            let is_ours = last.is_some_and(|last| last.from_files);
            owned += usize::from(is_ours);
            match (given.contains(in_force.id), is_ours) {
                (false, true) => deleted.push(in_force.id.to_owned()),
                (false, false) => others += 1,
                (true, _) => {}
            }
        }
        Self { deleted, owned, others }
    }
}

/// The first of some ids, and how many more there are.
fn some(ids: &[String]) -> String {
    let first: Vec<&str> = ids.iter().take(10).map(String::as_str).collect();
    let more = ids.len().saturating_sub(first.len());
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{more}", first.join(", "))
}

fn dry_run(view: &View, drafts: &[Draft], pruned: &[String], json: bool) -> Result<(), CliError> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let puts = drafts.iter().map(|draft| (draft.id.as_str(), Some(&draft.written)));
    for (id, after) in puts.chain(pruned.iter().map(|id| (id.as_str(), None))) {
        let in_force = rules::get(view, id).ok();
        let before = in_force.map(|in_force| in_force.json());
        let version = in_force.map(|in_force| in_force.version);
        // A rule that was rejected is written again, even where it is as the one in force.
        let rejected = rules::one(view, id).is_some_and(|listed| listed.rejected.is_some());
        let change = match (&before, after) {
            (None, _) => "created",
            (Some(_), None) => "deleted",
            (Some(before), Some(after)) if before == after && !rejected => "unchanged",
            (Some(_), Some(_)) => "changed",
        };
        *counts.entry(change).or_default() += 1;
        if json {
            let line = json!({"id": id, "change": change, "version": version, "before": before, "after": after});
            print(&line.to_string())?;
        } else if change != "unchanged" {
            print(&diff(id, version, before.as_ref(), after))?;
        }
    }
    let count = |change: &str| counts.get(change).copied().unwrap_or_default();
    say!(
        "would be created: {}, changed: {}, deleted: {}, unchanged: {}; nothing was written",
        count("created"),
        count("changed"),
        count("deleted"),
        count("unchanged")
    );
    Ok(())
}

/// A rule before and after, as YAML, line by line.
fn diff(id: &str, version: Option<i64>, before: Option<&Value>, after: Option<&Value>) -> String {
    let text = |rule: Option<&Value>| rule.map(rules::text).unwrap_or_default();
    let mut lines = vec![
        match version {
            Some(version) => format!("--- {id} (version {version})"),
            None => "--- nothing".to_owned(),
        },
        match after {
            Some(_) => format!("+++ {id}"),
            None => "+++ nothing".to_owned(),
        },
    ];
    for run in line_runs(&text(before), &text(after)) {
        let (sign, text) = match &run {
            Run::Same(text) => (' ', text),
            Run::Deleted(text) => ('-', text),
            Run::Inserted(text) => ('+', text),
        };
        lines.extend(text.lines().map(|line| format!("{sign}{line}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_has_each_line_with_its_sign() {
        let rule = |price: u32| json!({"id": "r", "trigger": "t", "filters": {"price": {"gte": price}}});
        let changed = diff("r", Some(3), Some(&rule(25)), Some(&rule(30)));
        assert_eq!(
            changed,
            "--- r (version 3)\n+++ r\n id: r\n trigger: t\n filters:\n-  price: {gte: 25}\n+  price: {gte: 30}"
        );
        let created = diff("r", None, None, Some(&json!({"id": "r"})));
        assert_eq!(created, "--- nothing\n+++ r\n+id: r");
        let deleted = diff("r", Some(3), Some(&json!({"id": "r"})), None);
        assert_eq!(deleted, "--- r (version 3)\n+++ nothing\n-id: r");
    }

    #[test]
    fn many_ids_are_told_by_the_first() {
        let ids: Vec<String> = (0..12).map(|number| format!("r{number}")).collect();
        assert_eq!(some(&ids[..2]), "r0, r1");
        assert!(some(&ids).ends_with("r9 and 2 more"), "{}", some(&ids));
    }
}
