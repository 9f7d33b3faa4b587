//! Says which commit the program is built from, for `leadlane --version`.

#![expect(clippy::disallowed_methods, reason = "cargo tells by the environment what is built")]

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=.ci/build.rs");
    println!("cargo:rerun-if-env-changed=LEADLANE_COMMIT");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Where there is no repository, such as in an image's build, a variable names the commit.
    let given = std::env::var("LEADLANE_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    let mut commit = commit.unwrap_or_else(|| "unknown".to_owned());
    if is_release {
        // It has a line for each commit that is checked out.
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo:rerun-if-changed={log}");
        }
    } else {
        // Every commit would build everything again.
        commit.push_str(" or later, a debug build");
    }
    println!("cargo:rustc-env=LEADLANE_COMMIT={commit}");
}
