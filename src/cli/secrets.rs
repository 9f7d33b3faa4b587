//! `leadlane secrets ...`

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{CliError, print, wait_for};
use crate::config::Config;
use crate::secrets::keys::Keys;
use crate::secrets::{self, Secret};

#[derive(Debug, Subcommand)]
pub(super) enum Secrets {
    /// Make a key pair: the private key into a file, the public one to stdout
    Keygen {
        /// Where the private key goes; must not be there yet [default: secrets.key_file]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Seal a value, typed without echo or from stdin, and print what a rule takes
    Seal,
}

/// The store's answers, so that each secret is asked for once however often it is named.
pub(super) struct Missing {
    store: secrets::Secrets,
    asked: HashMap<String, Option<String>>,
}

impl Missing {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            store: secrets::Secrets::new(config.secrets.dir.clone()),
            asked: HashMap::new(),
        }
    }

    /// Why a secret can't be had here, where it can't.
    pub(super) fn why(&mut self, name: &str) -> Result<Option<String>, CliError> {
        if !self.asked.contains_key(name) {
            let found = wait_for(self.store.reveal(name))?;
            let why = found.err().map(|error| error.to_string());
            self.asked.insert(name.to_owned(), why);
        }
        Ok(self.asked.get(name).cloned().flatten())
    }
}

pub(super) fn run(
    config: &Config,
    command: &Secrets,
    json: bool,
    stop: &watch::Receiver<bool>,
) -> Result<(), CliError> {
    match command {
        Secrets::Keygen { out } => keygen(config, out.as_deref(), json),
        Secrets::Seal => seal(config, json, stop),
    }
}

fn keygen(config: &Config, out: Option<&Path>, json: bool) -> Result<(), CliError> {
    let Some(file) = out.or(config.secrets.key_file.as_deref()) else {
        return Err(CliError::Invalid(
            "name the file for the private key: --out FILE, or set secrets.key_file".to_owned(),
        ));
    };
    let (text, public) = Keys::generate();
    write_new(file, &text).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::Invalid(format!(
            "{}: is there already, and a key that is lost opens nothing any more; name another file",
            file.display()
        )),
        _ => CliError::Invalid(format!("{}: {error}", file.display())),
    })?;
    say!(
        "the private key is in {}; senders need it, as secrets.key_file. The public key, for secrets.public_key of \
         whoever seals:",
        file.display()
    );
    let public = public.to_string();
    print(&match json {
        true => json!({"id": public, "public_key": public, "key_file": file}).to_string(),
        false => public,
    })
}

/// Writes a file that is new and only its owner's, to the disk.
fn write_new(file: &Path, text: &Secret) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(text.reveal().as_bytes())?;
    file.sync_all()
}

fn seal(config: &Config, json: bool, stop: &watch::Receiver<bool>) -> Result<(), CliError> {
    let Some(public) = &config.secrets.public_key else {
        return Err(CliError::Invalid(
            "secrets.public_key is not set; leadlane secrets keygen makes a key pair and prints it".to_owned(),
        ));
    };
    let value = read_value(stop)?;
    let sealed = public
        .seal(value.reveal())
        .map_err(|error| CliError::Invalid(format!("nothing was sealed: {error}")))?;
    print(&match json {
        true => json!({"id": sealed.name(), "sealed": sealed}).to_string(),
        false => format!("{{sealed: \"{sealed}\"}}"),
    })
}

/// The value from stdin without one trailing newline; at a terminal one line, which it doesn't show.
fn read_value(stop: &watch::Receiver<bool>) -> Result<Secret, CliError> {
    let invalid = |error: std::io::Error| CliError::Invalid(format!("stdin: {error}"));
    let mut text = Zeroizing::new(String::new());
    if std::io::stdin().is_terminal() {
        eprint!("the value to seal, then Enter: ");
        let echo = Silence::begin().map_err(invalid)?;
        let read = read_line(stop);
        drop(echo);
        say!("");
        text = Zeroizing::new(read?);
    } else {
        std::io::stdin().read_to_string(&mut text).map_err(invalid)?;
    }
    // PowerShell puts a byte order mark before what it pipes.
    let value = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let value = value.strip_suffix('\n').unwrap_or(value);
    Ok(Secret::new(value.strip_suffix('\r').unwrap_or(value)))
}

/// Reads a line, unless the command is asked to end: then the terminal must be set right first.
fn read_line(stop: &watch::Receiver<bool>) -> Result<String, CliError> {
    let (sender, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = std::io::stdin().read_line(&mut text).map(|_| text);
        drop(sender.send(read));
    });
    loop {
        match line.recv_timeout(Duration::from_millis(50)) {
            Ok(read) => return read.map_err(|error| CliError::Invalid(format!("stdin: {error}"))),
            Err(_) if *stop.borrow() => return Err(CliError::failed("nothing was sealed")),
            Err(_) => {}
        }
    }
}

/// A terminal that doesn't show what is typed, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0) {
            say!("the terminal may not show what is typed ({error}); type reset and Enter");
        }
    }
}
