//! `leadlane rules export`, `history` and `rollback`

use std::path::Path;

use serde_json::json;

use super::{changed, one};
use crate::cli::look::{self, Look, plain};
use crate::cli::{CliError, print, write_files};
use crate::dates::time_text;
use crate::desk::rules::write::Writer;
use crate::desk::rules::{self, InForce, Texts, View};
use crate::desk::versions::{self, Version};
use crate::rules::difference::difference;

/// Prints every rule in force, or writes each into a file of a folder.
pub(super) fn export(look: Look<'_>, folder: Option<&Path>) -> Result<(), CliError> {
    let view = View::scan(look.config)?;
    let count = rules::every(&view).count();
    if count == 0 {
        say!("no rule is in force");
    }
    let Some(folder) = folder else {
        if look.json {
            return rules::every(&view).try_for_each(|in_force| print(in_force.written));
        }
        // Printing ends a line itself.
        return Texts::of(rules::every(&view)).try_for_each(|piece| print(piece.strip_suffix('\n').unwrap_or(&piece)));
    };
    let file = |in_force: InForce<'_>| {
        // Others may write what they like under a key.
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        match in_force.id.bytes().all(is_name) {
            true => Ok((in_force.id.to_owned(), rules::text(&in_force.json()))),
            false => Err(CliError::failed(format!(
                "{}: is no name for a file",
                plain(in_force.id)
            ))),
        }
    };
    write_files(folder, "yaml", rules::every(&view).map(file), look.json)
}

/// Prints who changed a rule, what and when, newest last.
pub(super) fn history(look: Look<'_>, id: &str) -> Result<(), CliError> {
    let versions = look.scan(|scanner| Ok(versions::history(scanner, id)?))?;
    for version in versions {
        print(&match look.json {
            true => json!({
                "id": id, "version": version.version, "when": time_text(version.when), "who": version.who,
                "what": version.what, "before": version.before, "after": version.after, "left_out": version.left_out,
            })
            .to_string(),
            false => version_text(&version),
        })?;
    }
    Ok(())
}

fn version_text(version: &Version) -> String {
    let Version { what, who, when, .. } = version;
    let mut lines = vec![plain(&format!(
        "version {}  {} UTC  {what} by {who}",
        version.version,
        look::when(*when)
    ))];
    match (&version.before, &version.after) {
        (Some(before), Some(after)) => {
            for change in difference(before, after) {
                let side = |side: Option<String>| side.unwrap_or_else(|| "nothing".to_owned());
                let (before, after) = (side(change.before), side(change.after));
                lines.push(plain(&format!("    {}: {before} -> {after}", change.path)));
            }
        }
        _ if version.left_out => lines.push("    the rule was too large for the audit".to_owned()),
        _ => {}
    }
    lines.join("\n")
}

/// Puts a version that was in force before in force again.
pub(super) fn rollback(look: Look<'_>, id: &str, version: i64) -> Result<(), CliError> {
    let versions = look.scan(|scanner| Ok(versions::history(scanner, id)?))?;
    let mut writer = Writer::new(look.config);
    let seen = writer.view()?.version(id);
    let change = versions::back_to(look.config, id, versions, version, seen)?;
    changed(&one(&mut writer, change)?, look.json)
}
