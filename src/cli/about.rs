//! What the program says of itself: its version, its pages of the manual, and completions for shells.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, CliError, print, write_files};
use crate::kafka;

/// The version, the commit it is built from, and the libraries that it is linked with.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("LEADLANE_COMMIT"));
    let (client, tls) = (kafka::librdkafka_version(), kafka::openssl_version());
    format!("{version} (commit {commit})\nlibrdkafka {client}\n{tls}")
});

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write every page into this folder, leadlane-rules-apply.1 and so on, in place of printing the first
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The commands as they are given, with every flag that all of them take.
fn commands() -> Command {
    let mut commands = Cli::command();
    commands.build();
    commands
}

pub(super) fn completions(shell: Shell) -> Result<(), CliError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "leadlane", &mut text);
    print(String::from_utf8_lossy(&text).trim_end())
}

pub(super) fn man(man: &Man, json: bool) -> Result<(), CliError> {
    let Some(folder) = &man.dir else {
        return print(page(&commands())?.trim_end());
    };
    let mut pages = Vec::new();
    pages_of(&commands(), "leadlane", &mut pages)?;
    write_files(folder, "1", pages.into_iter().map(Ok), json)
}

/// The pages of a command and of those below it, each with its name.
fn pages_of(command: &Command, name: &str, pages: &mut Vec<(String, String)>) -> Result<(), CliError> {
    pages.push((name.to_owned(), page(&command.clone().display_name(name.to_owned()))?));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages_of(below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    Ok(())
}

fn page(command: &Command) -> Result<String, CliError> {
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut text);
    rendered.map_err(|error| CliError::failed(error.to_string()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
