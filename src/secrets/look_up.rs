//! Looks up a secret's value: in a file of `secrets.dir`, else in a variable.
//!
//! The functions here wait for the disk, and the volume may hang, so no async thread may call them. They open a file
//! without waiting for whoever writes to it; behind all links it must be a regular one, and they read it up to a
//! bound.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::{Secret, SecretError};
use crate::credential::SecretName;

/// More than this no secret and no file of keys has, in bytes.
const SIZE_MAX: usize = 64 * 1024;

/// The value of a secret. The file wins over the variable.
pub(super) fn look_up(dir: Option<&Path>, name: &SecretName) -> Result<Secret, SecretError> {
    if let Some(file) = dir.map(|dir| file_of(dir, name)).transpose()?.flatten() {
        return read(&file).map_err(|why| SecretError::Unreadable {
            name: name.to_string(),
            place: file.display().to_string(),
            why,
        });
    }
    let variable = name.variable();
    match std::env::var_os(&variable).map(OsString::into_string) {
        Some(Ok(text)) => Ok(Secret::new(text)),
        Some(Err(_)) => Err(SecretError::Unreadable {
            name: name.to_string(),
            place: variable,
            why: NOT_TEXT.to_owned(),
        }),
        None => Err(SecretError::Missing {
            name: name.to_string(),
            places: places(dir, name),
        }),
    }
}

/// Whether the folder of secrets can be looked into; else what is wrong with it.
pub(super) fn folder(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    match std::fs::read_dir(dir).map_err(|error| error.kind()) {
        Ok(_) => Ok(()),
        Err(ErrorKind::NotFound) => Err(format!(
            "{shown} is not there; name the folder that is, or make it by: mkdir -p {shown}"
        )),
        Err(ErrorKind::NotADirectory) => Err(format!("{shown} is no folder; name the folder that the secrets are in")),
        // Its files may still be read by their names.
        Err(ErrorKind::PermissionDenied) => Ok(()),
        Err(kind) => Err(format!(
            "{shown} can't be read: {kind}; look at the volume that it is on"
        )),
    }
}

/// Where the value of a secret belongs.
pub(super) fn places(dir: Option<&Path>, name: &SecretName) -> String {
    let variable = name.variable();
    match dir {
        Some(dir) => format!("write it to {} or set {variable}", dir.join(name.as_str()).display()),
        None => format!("set {variable}, or secrets.dir and write it to a file {name} there"),
    }
}

const NOT_TEXT: &str = "it is no UTF-8 text; write the secret alone into it";

/// The file of a secret. Several files that spell one name in different ways are refused: nobody knows which of
/// them is meant.
fn file_of(dir: &Path, name: &SecretName) -> Result<Option<PathBuf>, SecretError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // A folder that may be entered and not listed.
        Err(_) => return Ok(Some(dir.join(name.as_str())).filter(|file| file.exists())),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut spelt: Vec<String> = names
        .filter(|found| SecretName::new(found).as_ref() == Some(name))
        .collect();
    spelt.sort();
    match &spelt[..] {
        [] => Ok(None),
        [file] => Ok(Some(dir.join(file))),
        _ => Err(SecretError::Several {
            name: name.to_string(),
            dir: dir.display().to_string(),
            files: spelt.join(", "),
        }),
    }
}

/// A file's text without one trailing newline, LF or CRLF, and without a byte order mark; or why it can't be had.
pub(super) fn read(file: &Path) -> Result<Secret, String> {
    let failed = |kind: ErrorKind| match kind {
        ErrorKind::PermissionDenied => {
            "this user may not read it; give leave with chmod, or run as its owner".to_owned()
        }
        kind => kind.to_string(),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = rustix::fs::open(file, flags, Mode::empty()).map_err(|error| failed(error.kind()))?;
    let opened = File::from(opened);
    if !opened.metadata().map_err(|error| failed(error.kind()))?.is_file() {
        return Err("it is a pipe, a device or a folder; put a regular file there".to_owned());
    }
    // All at once, so that no copy stays behind where the buffer grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SIZE_MAX + 1));
    opened
        .take(SIZE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.kind()))?;
    if bytes.len() > SIZE_MAX {
        return Err(format!("it is longer than {} KiB, which no secret is", SIZE_MAX / 1024));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| NOT_TEXT.to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = text
        .strip_suffix('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Secret::new(line.unwrap_or(text)))
}
