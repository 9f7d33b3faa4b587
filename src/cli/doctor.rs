//! `leadlane doctor`

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::look::wrapped;
use super::{CliError, print};
use crate::app::{Role, now_millis};
use crate::config::Config;
use crate::doctor::{self, Finding, Roles, State};
use crate::reader::Refusals;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The roles of the process that is to run, several by comma; all of them when not given
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<Role>,
}

/// How wide the column of states is.
const STATE: usize = 13;

/// Looks at everything, prints a line of each, and fails when anything does. `file` is the configuration's, where it was
/// named.
pub(super) fn doctor(
    config: Result<Config, Refusals>,
    options: &Options,
    file: Option<&Path>,
    runtime: &tokio::runtime::Runtime,
    json: bool,
) -> Result<(), CliError> {
    let has = |role| options.roles.is_empty() || options.roles.contains(&role);
    let roles = Roles {
        processor: has(Role::Processor),
        sender: has(Role::Sender),
        inlets: has(Role::Inlets),
        admin: has(Role::Admin),
    };
    let mut findings = runtime.block_on(doctor::examine(config, roles, now_millis));
    // A command that is copied from here has to read the same configuration.
    if let Some(file) = file {
        let named = format!("by: leadlane --config {} ", file.display());
        let cures = findings.iter_mut().filter_map(|finding| finding.cure.as_mut());
        cures.for_each(|cure| *cure = cure.replace("by: leadlane ", &named));
    }
    findings.iter().try_for_each(|finding| print(&line(finding, json)))?;
    let failed = findings.iter().filter(|finding| finding.state == State::Failed).count();
    match failed {
        0 => Ok(()),
        1 => Err(CliError::failed("1 check failed")),
        count => Err(CliError::failed(format!("{count} checks failed"))),
    }
}

fn line(finding: &Finding, json: bool) -> String {
    let Finding { id, state, what, cure } = finding;
    if json {
        let mut line = json!({"id": id, "state": state.as_str(), "what": what});
        if let Some(cure) = cure {
            line["cure"] = cure.as_str().into();
        }
        return line.to_string();
    }
    let state = state.as_str().replace('_', " ");
    let what = wrapped(what, STATE + 2);
    let indent = STATE + 2;
    let cure = cure.as_deref().map(|cure| match cure.split_once("by: ") {
        None => format!("\n{:indent$}{}", "", wrapped(cure, indent)),
        Some((words, command)) => {
            let words = wrapped(&format!("{words}by:"), indent);
            // Its lines go on as a shell reads them, and leave room for that.
            let command = wrapped(command, indent + 4);
            let lines: Vec<&str> = command.lines().map(str::trim).collect();
            let between = format!(" \\\n{:1$}", "", indent + 2);
            format!("\n{:indent$}{words}\n{:indent$}  {}", "", "", lines.join(&between))
        }
    });
    format!("{state:<STATE$}  {what}{}", cure.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_copied_as_a_shell_reads_it_and_fits() {
        let finding = Finding {
            id: "topic:delivery-jobs".to_owned(),
            state: State::Failed,
            what: "topic delivery-jobs has retention.ms=3600000, but needs 604800000".to_owned(),
            cure: Some(format!(
                "set it by: kafka-configs.sh {}",
                "--option value ".repeat(12).trim_end()
            )),
        };
        let text = line(&finding, false);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let (_, command) = text.split_once("set it by:\n").unwrap();
        let joined = command.replace("\\\n", " ");
        let words: Vec<&str> = joined.split_whitespace().collect();
        assert_eq!(
            format!("set it by: {}", words.join(" ")),
            *finding.cure.as_ref().unwrap()
        );
        assert!(command.lines().count() > 1 && !command.ends_with('\\'), "{text}");

        let looked = Finding {
            state: State::NotLookedAt,
            cure: None,
            ..finding
        };
        assert!(line(&looked, false).starts_with("not looked at  topic"));
        let json: serde_json::Value = serde_json::from_str(&line(&looked, true)).unwrap();
        assert_eq!(
            (json["state"].as_str(), json.get("cure")),
            (Some("not_looked_at"), None)
        );
    }
}
