//! The Debian package that `cargo deb` makes, and its unit of systemd.

use std::process::Command;

use crate::tidy::{root, text};

/// What stands in quotes in the lines of an array in Cargo.toml.
fn assets() -> Vec<[String; 3]> {
    let manifest = text("Cargo.toml");
    let (_, deb) = manifest.split_once("[package.metadata.deb]").unwrap();
    let (_, assets) = deb.split_once("assets = [").unwrap();
    let lines = assets.lines().skip(1).take_while(|line| *line != "]");
    let parts = |line: &str| -> [String; 3] {
        let quoted: Vec<String> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        quoted.try_into().unwrap_or_else(|_| panic!("{line}"))
    };
    lines.map(parts).collect()
}

#[test]
fn every_file_of_the_package_is_there() {
    let assets = assets();
    assert!(assets.len() >= 8, "{assets:?}");
    for [source, target, mode] in &assets {
        assert!(mode == "644" || mode == "755", "{source}: {mode}");
        assert!(
            target.starts_with("usr/") || target.starts_with("etc/"),
            "{source}: {target}"
        );
        if source == "target/release/leadlane" {
            assert_eq!((target.as_str(), mode.as_str()), ("usr/bin/", "755"));
            continue;
        }
        let (folder, name) = source.rsplit_once('/').unwrap_or(("", source));
        let ending = name.strip_prefix('*');
        let found = std::fs::read_dir(root().join(folder)).unwrap().filter(|entry| {
            let entry = entry.as_ref().unwrap();
            let entry_name = entry.file_name().into_string().unwrap();
            entry.path().is_file() && ending.map_or(entry_name == name, |ending| entry_name.ends_with(ending))
        });
        assert_ne!(found.count(), 0, "{source} is not there");
    }
    // Pages link to one another, so that the package has all of them.
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            let folder = format!("docs/{}/", entry.file_name().into_string().unwrap());
            let target = format!("usr/share/doc/leadlane/{folder}");
            let is_packed = assets
                .iter()
                .any(|[source, to, _]| source.starts_with(&folder) && *to == target);
            assert!(is_packed, "{folder} is not in the package");
        }
    }
    // What a person changes is kept when the package is upgraded.
    let manifest = text("Cargo.toml");
    let configured = assets.iter().filter(|[_, target, _]| target.starts_with("etc/"));
    for [source, target, _] in configured {
        let name = source.rsplit('/').next().unwrap();
        assert!(
            manifest.contains(&format!("conf-files = [\"/{target}{name}\"]")),
            "{source}"
        );
    }
    for named in [
        "maintainer-scripts = \"config/debian\"",
        "unit-scripts = \"config/systemd\"",
    ] {
        assert!(manifest.contains(named), "{named}");
    }
}

#[test]
fn the_scripts_of_the_package_are_valid() {
    for script in ["config/debian/postinst", "config/debian/postrm"] {
        let checked = Command::new("sh").arg("-n").arg(root().join(script)).output().unwrap();
        assert!(
            checked.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&checked.stderr)
        );
        let text = text(script);
        // cargo deb puts there what starts and stops the unit.
        assert!(
            text.starts_with("#!/bin/sh\n") && text.contains("\n#DEBHELPER#\n"),
            "{script}"
        );
    }
}

#[test]
fn the_unit_is_valid_and_starts_what_there_is() {
    let unit = text("config/systemd/leadlane.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/"))
        .unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let parsed = <leadlane::cli::Cli as clap::CommandFactory>::command().try_get_matches_from(&words);
    assert!(parsed.is_ok(), "{line}: {parsed:?}");
    let config = words.iter().find(|word| word.ends_with(".yaml")).unwrap();
    let packed = assets().into_iter().any(|[source, target, _]| {
        let name = source.rsplit('/').next().unwrap();
        format!("/{target}{name}") == *config
    });
    assert!(packed, "{config} is not in the package");
    let user = unit.lines().find_map(|line| line.strip_prefix("User=")).unwrap();
    assert!(text("config/debian/postinst").contains(&format!(
        "adduser --system --group --no-create-home --home /nonexistent {user}"
    )));
    // It must not be ended before it has stopped by itself.
    let stop = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="))
        .unwrap();
    let stop = leadlane::dates::duration(stop).unwrap();
    assert!(stop > leadlane::config::Config::default().sender.shutdown_timeout + std::time::Duration::from_secs(12));
    // systemd looks for the program, too.
    let folder = std::env::temp_dir().join(format!("leadlane-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("leadlane.service");
    std::fs::write(&file, unit.replace("/usr/bin/leadlane", env!("CARGO_BIN_EXE_leadlane"))).unwrap();
    match Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output()
    {
        Ok(checked) => {
            let said = String::from_utf8_lossy(&checked.stderr);
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("leadlane.service")).collect();
            assert!(checked.status.success() && ours.is_empty(), "{said}");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
