//! Processes, broker, networks and destinations that fail: `tests/chaos`, whose oracle is outside our code.

use std::process::{Command, Stdio};

use crate::support::full;

#[test]
fn every_promise_is_kept_whatever_fails() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos");
    let long = ["--minutes", "5", "--kills", "20", "--seed", "20"];
    let short = ["--minutes", "0.35", "--kills", "2", "--seed", "3", "--calm", "8"];
    let output = Command::new(script)
        .args(if full() { long.as_slice() } else { &short })
        .args(["--binary", env!("CARGO_BIN_EXE_leadlane")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{said}\n{failed}", output.status);
    println!("{said}");
}
