//! The files that are meant by paths: a folder stands for what is in it.

use std::path::{Path, PathBuf};

use crate::cli::{CliError, file_name, progress, read_input};
use crate::desk::cases;
use crate::reader::Refusal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rules,
    /// Test files.
    Tests,
}

/// A file's text, and how messages call it.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

/// The texts of files, and of those in folders that are of the kind.
pub(super) fn read(paths: &[PathBuf], kind: Kind) -> Result<Vec<Text>, CliError> {
    let mut texts = Vec::new();
    for path in progress::each("reading files", paths.to_vec()) {
        let path = path.as_path();
        if !path.is_dir() {
            texts.push(read_file(path)?);
            continue;
        }
        for file in progress::each("reading files", within(path)?) {
            let text = read_file(&file)?;
            if cases::is_test_file(&text.text) == (kind == Kind::Tests) {
                texts.push(text);
            }
        }
    }
    Ok(texts)
}

fn read_file(file: &Path) -> Result<Text, CliError> {
    Ok(Text {
        file: file.to_owned(),
        text: Refusal::text(&file_name(file), read_input(file)?)?,
    })
}

/// The files that a path of a test file means: its last step may hold `*`.
pub(super) fn matching(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    if folder.to_string_lossy().contains('*') {
        let message = format!("{}: only the last step of a path may hold *", path.display());
        return Err(CliError::Invalid(message));
    }
    if !name.contains('*') {
        return Ok(vec![path.to_owned()]);
    }
    let fits = |file: &PathBuf| {
        let file = file.file_name().and_then(|name| name.to_str());
        file.is_some_and(|file| !file.starts_with('.') && is_like(name, file))
    };
    let found: Vec<PathBuf> = entries(folder)?.into_iter().filter(fits).collect();
    match found.is_empty() {
        true => Err(CliError::Invalid(format!(
            "{}: no file has such a name",
            path.display()
        ))),
        false => Ok(found),
    }
}

/// The YAML and JSON files of a folder and of the folders in it, by name; hidden ones are left out.
fn within(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_none_or(|name| name.starts_with('.')) {
            continue;
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            files.extend(within(&path)?);
        } else if ["yaml", "yml", "json"].contains(&ending) {
            files.push(path);
        }
    }
    Ok(files)
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let of = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let read = std::fs::read_dir(of).and_then(|entries| {
        let paths = entries.map(|entry| Ok(folder.join(entry?.file_name())));
        paths.collect::<std::io::Result<Vec<PathBuf>>>()
    });
    let mut paths = read.map_err(|error| CliError::Invalid(format!("{}: {error}", of.display())))?;
    paths.sort();
    Ok(paths)
}

/// Whether a name is as the pattern says, in which `*` stands for anything.
fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((begin, rest)) => name.strip_prefix(begin).is_some_and(|name| {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.into_iter().any(|at| is_like(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, wanted) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", ".yaml", true),
            ("*.yaml", "a.yml", false),
            ("sales-*", "sales-big.yaml", true),
            ("*a*b", "xaxb", true),
            ("*a*b", "xbxa", false),
            ("ü*", "üä", true),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(is_like(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn a_folder_stands_for_its_files_but_hidden_ones() {
        let folder = std::env::temp_dir().join(format!("leadlane-files-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("more/.hidden")).unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "c.txt",
            ".d.yaml",
            "more/e.json",
            "more/.hidden/f.yaml",
        ] {
            std::fs::write(folder.join(name), "id: a").unwrap();
        }
        std::fs::write(folder.join("test.yaml"), "cases: []").unwrap();
        let names = |kind| -> Vec<String> {
            let texts = read(std::slice::from_ref(&folder), kind).unwrap();
            let name = |text: &Text| text.file.strip_prefix(&folder).unwrap().display().to_string();
            texts.iter().map(name).collect()
        };
        assert_eq!(names(Kind::Rules), ["a.yml", "b.yaml", "more/e.json"]);
        assert_eq!(names(Kind::Tests), ["test.yaml"]);
        let found = matching(&folder.join("*.yaml")).unwrap();
        assert_eq!(found, [folder.join("b.yaml"), folder.join("test.yaml")]);
        assert!(matching(&folder.join("*.yam")).is_err() && matching(&folder.join("*/b.yaml")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
