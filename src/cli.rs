//! The command line: flags, and one small function for each command.
//!
//! Data for programs goes to stdout, messages go to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage or invalid
//! input.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tokio::sync::watch;

use crate::app::{self, Role};
use crate::config::{Config, LogFormat};
use crate::delivery::Codec;
use crate::desk;
use crate::kafka::topics;
use crate::lead::schemas::{SchemaId, Schemas};
use crate::metrics::Metrics;
use crate::reader::{Refusal, Refusals};
use crate::registry::{self, RegistryError};

/// Says something on stderr, where a bar may stand.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::progress::say(format_args!($($words)*))
    };
}

mod about;
mod config;
mod dead_letters;
mod deliveries;
mod doctor;
mod events;
mod lanes;
mod logging;
mod look;
mod progress;
mod rules;
mod secrets;

/// Turns lead events on Kafka into Slack messages and CleverTap records.
#[derive(Debug, Parser)]
#[command(
    name = "leadlane",
    version,
    long_version = about::VERSION.as_str(),
    about,
    after_help = "Start with: leadlane demo\nThen: leadlane topics create, leadlane rules apply FILE, leadlane run"
)]
pub struct Cli {
    /// The configuration file [default: config/leadlane.yaml when it exists, else built-in defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one object a line, for programs to read
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process: embedded broker, sandbox Slack and CleverTap, sample events
    Demo(crate::demo::Options),
    /// Run Leadlane against Kafka, until SIGTERM or Ctrl-C
    Run {
        /// The roles of this process, several by comma; all of them when not given
        #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
        roles: Vec<Role>,
    },
    /// Play Slack and CleverTap over HTTP, with their limits and errors, and faults on order
    Sandbox {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDR", value_parser = address)]
        listen: SocketAddr,
    },
    /// Look at everything that a run needs, without running and without an effect; say what is wrong, and the cure
    Doctor(doctor::Options),
    /// Make or check the topics
    #[command(subcommand)]
    Topics(Topics),
    /// Write, read and try tracking rules
    #[command(subcommand)]
    Rules(rules::Rules),
    /// Send or check lead events, and see them come
    #[command(subcommand)]
    Events(events::Events),
    /// Make keys, and seal secrets so that rules can carry them
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Print what waits in each lane, since when, and until when and why it is frozen or paused; pause, resume or try one
    Lanes(lanes::Lanes),
    /// Print the outcomes of matches, and the life of one job
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    /// Print dead letters, and put them back
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Print the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completions of a shell: source <(leadlane completions bash)
    Completions {
        /// bash, zsh or fish, among others
        shell: clap_complete::Shell,
    },
    /// Print the page of the manual, or write the page of every command
    Man(about::Man),
}

#[derive(Debug, Subcommand)]
enum Topics {
    /// Make the topics that are missing, with the settings they need
    Create(Create),
    /// Check that all topics are there and set as they must be
    Check,
}

#[derive(Debug, Args)]
struct Create {
    /// Partitions of the events, jobs, outcomes and dead letters
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Replicas of each partition [default: the broker's]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    replication: Option<i32>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective configuration and where it comes from, secrets masked; refuse what can't work
    Check,
}

/// Why a command ends with another code than 0.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Exit code 2.
    #[error("{0}")]
    Invalid(String),
    /// The same, of which more is known than its words.
    #[error("{0}")]
    Refused(#[from] Refusals),
    /// Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl From<desk::Error> for CliError {
    fn from(error: desk::Error) -> Self {
        match error {
            desk::Error::Invalid(problems) => Self::Refused(Refusals(problems.into_iter().map(of_request).collect())),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl CliError {
    fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(message.into()))
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) | Self::Refused(_) => 2,
            Self::Failed(_) => 1,
        }
    }

    /// One object, for programs.
    fn json(&self) -> serde_json::Value {
        match self {
            Self::Refused(refusals) => refusals.json(),
            Self::Invalid(_) | Self::Failed(_) => Refusal::new(self.to_string()).json(),
        }
    }
}

impl From<Refusal> for CliError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

fn of_request(problem: desk::Problem) -> Refusal {
    Refusal {
        key: problem.place,
        ..Refusal::new(problem.message)
    }
}

/// The command, or the exit code where there is none to run.
pub fn parse() -> Result<Cli, u8> {
    let asked: Vec<_> = std::env::args_os().collect();
    let error = match Cli::try_parse_from(&asked) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    if error.use_stderr() && asked.iter().any(|argument| argument == "--json") {
        say!("{}", usage(&error.to_string()).json());
    } else {
        drop(error.print());
    }
    Err(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What clap says of a wrong usage: first what is wrong, then tips, then the usage.
fn usage(said: &str) -> Refusal {
    let mut paragraphs = said
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let wrong = paragraphs.next().unwrap_or_default();
    let cures: Vec<String> = paragraphs.filter(|cure| !cure.is_empty()).collect();
    Refusal::new(format!("{}; {}", wrong.trim_start_matches("error: "), cures.join(" ")))
}

/// Prints why a command ended otherwise than it should, and gives its exit code.
pub fn report(error: &CliError, json: bool) -> u8 {
    match json {
        true => say!("{}", error.json()),
        false => say!("leadlane: {error}"),
    }
    error.exit_code()
}

/// Says on stderr what is doubtful.
fn warn(warning: &Refusal, json: bool) {
    match json {
        true => say!("{}", warning.warning_json()),
        false => say!("{}", warning.warning()),
    }
}

impl Cli {
    /// Whether programs read the answer.
    pub fn json(&self) -> bool {
        self.json
    }
}

/// Runs the command. `stop` becomes true when the process is asked to end.
pub fn run(cli: Cli, stop: watch::Receiver<bool>) -> Result<(), CliError> {
    // What the program says of itself needs no configuration.
    match &cli.command {
        Command::Completions { shell } => return about::completions(*shell),
        Command::Man(man) => return about::man(man, cli.json),
        _ => {}
    }
    if let Err(error) = forbid_core_dumps() {
        say!("leadlane: core dumps can't be switched off ({error}); a crash may write secrets to the disk");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("the runtime can't be made: {error}")))?;
    let config = Config::load(cli.config.as_deref());
    if let Command::Doctor(options) = &cli.command {
        let done = doctor::doctor(config, options, cli.config.as_deref(), &runtime, cli.json);
        runtime.shutdown_background();
        return done;
    }
    let mut config = config?;
    if cli.json {
        config.log.format = LogFormat::Json;
    }
    let look = look::Look {
        config: &config,
        json: cli.json,
        stop: &stop.clone(),
    };
    let watched = matches!(
        cli.command,
        Command::Topics(_)
            | Command::Rules(_)
            | Command::Events(_)
            | Command::Lanes(_)
            | Command::Deliveries(_)
            | Command::DeadLetters(_)
    );
    let bar = watched.then(progress::show);
    let done = match cli.command {
        Command::Demo(options) => runtime
            .block_on(crate::demo::run(config, options, stop))
            .map_err(CliError::from),
        Command::Run { roles } => {
            logging::start(&config)?;
            config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
            runtime.block_on(serve(config, &roles, stop))
        }
        Command::Sandbox { listen } => {
            logging::start(&config)?;
            runtime.block_on(sandbox(listen, cli.json, stop))
        }
        Command::Topics(command) => runtime.block_on(topics(&config, &command, cli.json)),
        Command::Rules(command) => rules::run(look, &command),
        Command::Events(command) => events::run(look, &command),
        Command::Secrets(command) => secrets::run(&config, &command, cli.json, &stop),
        Command::Lanes(command) => lanes::run(look, &command),
        Command::Deliveries(command) => deliveries::run(look, &command),
        Command::DeadLetters(command) => dead_letters::run(look, &command),
        Command::Completions { .. } | Command::Man(_) | Command::Doctor(_) => Ok(()),
        Command::Config(ConfigCommand::Check) => config::check(&config, cli.json),
    };
    drop(bar);
    // Threads that wait for a broker must not hold the process back.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

async fn serve(config: Config, roles: &[Role], stop: watch::Receiver<bool>) -> Result<(), CliError> {
    let limits = topics::check(&config).await.map_err(CliError::failed)?;
    let all = [Role::Processor, Role::Sender, Role::Inlets, Role::Admin];
    let roles = if roles.is_empty() { &all } else { roles };
    if roles.contains(&Role::Inlets) {
        topics::check_foreign(&config).map_err(CliError::failed)?;
    }
    let metrics = Arc::new(Metrics::new(config.metrics.rules_max));
    crate::parts::log_panics(&metrics);
    app::run(Arc::new(config), Codec::shipped(), roles, limits, metrics, stop)
        .await
        .map_err(CliError::from)
}

async fn sandbox(listen: SocketAddr, json: bool, mut stop: watch::Receiver<bool>) -> Result<(), CliError> {
    let cant = |error| CliError::failed(format!("--listen {listen}: {error}"));
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(cant)?;
    let at = listener.local_addr().map_err(cant)?;
    if json {
        let at = |path: &str| format!("http://{at}{path}");
        let (slack, webhooks, clevertap, control) = (at("/api"), at("/services/"), at(""), at("/_sandbox/"));
        print(
            &serde_json::json!({"id": "sandbox", "slack": slack, "webhooks": webhooks, "clevertap": clevertap, "control": control})
                .to_string(),
        )?;
    } else {
        say!(
            "sandbox: Slack at http://{at}/api, webhooks at http://{at}/services/..., CleverTap at http://{at}, control at http://{at}/_sandbox/"
        );
    }
    let sandbox = crate::sandbox::Sandbox::new(crate::sandbox::Settings::default());
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    sandbox.serve(listener, stopped).await.map_err(cant)
}

async fn topics(config: &Config, command: &Topics, json: bool) -> Result<(), CliError> {
    match command {
        Topics::Create(create) => {
            let made = topics::create(config, create.partitions, create.replication)
                .await
                .map_err(CliError::failed)?;
            for (topic, made) in made {
                print(&match json {
                    true => serde_json::json!({"id": topic, "created": made}).to_string(),
                    false => format!("{topic}: {}", if made { "created" } else { "is there already" }),
                })?;
            }
            Ok(())
        }
        Topics::Check => {
            topics::check(config).await.map_err(CliError::failed)?;
            topics::check_foreign(config).map_err(CliError::failed)?;
            print(if json {
                r#"{"id":"topics","ok":true}"#
            } else {
                "all topics are there, set as they must be"
            })
        }
    }
}

/// A core file would have every secret in it, and so would what a debugger of the same user reads.
fn forbid_core_dumps() -> std::io::Result<()> {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Writes a line to stdout. A reader that went away ends the command quietly.
fn print(line: &str) -> Result<(), CliError> {
    use std::io::Write;
    match progress::aside(|| writeln!(std::io::stdout(), "{line}")) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(CliError::failed(format!("stdout: {error}"))),
    }
}

/// Says on stderr how many records of a newer version were passed over.
fn say_newer(newer: desk::newer::Newer) {
    if newer.records > 0 {
        say!("{newer}");
    }
}

/// Waits for what a command asks that otherwise needs no runtime.
fn wait_for<T>(asked: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime
        .map_err(|error| CliError::failed(error.to_string()))?
        .block_on(asked))
}

/// Writes files into a folder, which it makes where there is none, and prints each. A file is named by its id.
fn write_files(
    folder: &Path,
    ending: &str,
    files: impl IntoIterator<Item = Result<(String, String), CliError>>,
    json: bool,
) -> Result<(), CliError> {
    let failed = |path: &Path, error: std::io::Error| CliError::failed(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for (done, file) in files.into_iter().enumerate() {
        progress::at("writing files", done as u64, None);
        let (id, text) = file?;
        let file = folder.join(format!("{id}.{ending}"));
        std::fs::write(&file, text).map_err(|error| failed(&file, error))?;
        print(&match json {
            true => serde_json::json!({"id": id, "file": file}).to_string(),
            false => file.display().to_string(),
        })?;
    }
    Ok(())
}

/// Asks the schema registry for one schema.
fn look_up(config: &Config, id: SchemaId, schemas: &mut Schemas) -> Result<(), CliError> {
    let asked = wait_for(registry::look_up(&config.schema_registry, id, schemas))?;
    asked.map_err(|error| match error {
        RegistryError::Url | RegistryError::Client(_) => CliError::Invalid(error.to_string()),
        error => CliError::failed(error.to_string()),
    })
}

/// `HOST:PORT`, whose host may be a name.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = std::net::ToSocketAddrs::to_socket_addrs(text)
        .ok()
        .and_then(|mut found| found.next());
    found.ok_or_else(|| "is no address of this machine; write HOST:PORT, such as 127.0.0.1:8090".to_owned())
}

/// Who runs the command, for the audit.
fn who() -> String {
    #[expect(clippy::disallowed_methods, reason = "the audit names who ran the command")]
    let who = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    who.unwrap_or_else(|_| "unknown".to_owned())
}

/// Reads a file, or stdin for `-`: without its byte order mark, and in UTF-8 where it was UTF-16.
fn read_input(file: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    let bytes = bytes.map_err(|error| Refusal::unreadable(file_name(file), &error))?;
    let text = crate::text::file::utf8(bytes.into());
    let text = text.map_err(|error| Refusal::of_file(file_name(file), error.to_string()))?;
    Ok(text.into_owned())
}

/// A file as messages call it.
fn file_name(file: &Path) -> String {
    match file.as_os_str() == "-" {
        true => "stdin".to_owned(),
        false => file.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn no_core_is_dumped() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
        forbid_core_dumps().unwrap();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
