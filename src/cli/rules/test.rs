//! `leadlane rules test`

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::files::{self, Kind, Text};
use super::{FileDrafts, checked, drafts_of};
use crate::cli::look::{counted, plain};
use crate::cli::{CliError, file_name, print};
use crate::config::Config;
use crate::desk::cases::{self, Difference, Expected, Found, Source, TestFile};
use crate::desk::rules::Draft;
use crate::reader::{Refusal, Refusals};
use crate::rules::{Failed, Rule};

/// Runs the cases of test files. Every file is read before any case runs.
pub(super) fn test(config: &Config, paths: &[PathBuf], json: bool) -> Result<(), CliError> {
    let texts = files::read(paths, Kind::Tests)?;
    let (mut tests, mut refused) = (Vec::with_capacity(texts.len()), Vec::new());
    for text in texts {
        match read(config, &text, json) {
            Ok((file, rules)) => tests.push((text.file, file, rules)),
            Err(CliError::Refused(Refusals(more))) => refused.extend(more),
            Err(error) => return Err(error),
        }
    }
    if !refused.is_empty() {
        return Err(Refusals(refused).into());
    }
    if tests.is_empty() {
        return Err(CliError::Invalid(
            "there is no test file; one has cases:, as docs/rules.md shows".to_owned(),
        ));
    }
    let (mut ran, mut failed) = (0, 0);
    for (path, file, rules) in &tests {
        for case in &file.cases {
            let differences = cases::run(config, file, rules, case);
            ran += 1;
            failed += usize::from(!differences.is_empty());
            if json {
                let differences: Vec<Value> = differences.iter().map(difference_json).collect();
                let passed = differences.is_empty();
                let line = json!({"id": case.name, "file": path, "passed": passed, "differences": differences});
                print(&line.to_string())?;
            } else if !differences.is_empty() {
                let mut lines = vec![format!("{}: {}: failed", path.display(), plain(&case.name))];
                lines.extend(differences.iter().map(difference_text));
                print(&lines.join("\n"))?;
            }
        }
    }
    let cases = counted(ran, "case");
    match failed {
        0 if json => Ok(()),
        0 => print(&format!("{cases} passed")),
        _ => Err(CliError::failed(format!("{failed} of {cases} failed"))),
    }
}

/// A test file, and all of its rules.
fn read(config: &Config, Text { file, text }: &Text, json: bool) -> Result<(TestFile, Vec<Rule>), CliError> {
    let invalid = |error: crate::desk::Error| {
        let words = error.to_string();
        let refused = words.lines().map(|line| Refusal::of_file(file_name(file), line));
        Refusals(refused.collect())
    };
    let test = cases::read(text).map_err(invalid)?;
    let mut read = Vec::new();
    for source in &test.rules {
        match source {
            Source::Path(path) => {
                let path = file.parent().unwrap_or(Path::new("")).join(path);
                let found = files::matching(&path).and_then(|found| files::read(&found, Kind::Rules));
                let found = found.map_err(|error| Refusal::of_file(file_name(file), error.to_string()))?;
                for text in found {
                    read.push(drafts_of(config, text));
                }
            }
            Source::Rule(written) => {
                // A rule of a test file has no place of its own.
                read.push(FileDrafts {
                    file: file_name(file),
                    text: String::new(),
                    drafts: Ok(vec![Draft::of(config, written.clone())]),
                });
            }
        }
    }
    let drafts = checked(read, None, json)?;
    Ok((test, drafts.into_iter().filter_map(|draft| draft.rule).collect()))
}

fn difference_json(difference: &Difference) -> Value {
    let with_rule = |rule: &str, fields: &Map<String, Value>| {
        let mut whole = Map::from_iter([("rule".to_owned(), rule.into())]);
        whole.extend(fields.clone());
        Value::from(whole)
    };
    let of = |expected: &Expected| with_rule(&expected.rule, &expected.fields);
    match difference {
        Difference::Refused(why) => json!({"refused": why}),
        Difference::NoRule(expected) => {
            json!({"rule": expected.rule, "expected": of(expected), "found": null, "known": false})
        }
        Difference::Missing(expected, failed) => {
            let failed = failed.iter();
            let failed: Vec<Value> = failed
                .map(|failed| json!({"condition": failed.to_string(), "value": failed.found}))
                .collect();
            json!({"rule": expected.rule, "expected": of(expected), "found": null, "failed": failed})
        }
        Difference::Unexpected(Found { rule, sends }) => {
            json!({"rule": rule, "expected": null, "found": with_rule(rule, sends)})
        }
        Difference::Field {
            rule,
            field,
            expected,
            found,
        } => json!({"rule": rule, "field": field, "expected": expected, "found": found}),
    }
}

fn difference_text(difference: &Difference) -> String {
    match difference {
        Difference::Refused(why) => format!("    no event comes of it: {}", plain(why)),
        Difference::NoRule(Expected { rule, .. }) => {
            format!("    {}: expected, and no rule of the file has this id", plain(rule))
        }
        Difference::Missing(Expected { rule, .. }, failed) => {
            let mut text = format!("    {}: expected, and ", plain(rule));
            if failed.is_empty() {
                text.push_str("matches less often");
            } else {
                text.push_str("does not match");
            }
            for failed in failed {
                text.push_str(&format!("\n        {}", failed_text(failed)));
            }
            text
        }
        Difference::Unexpected(Found { rule, sends }) => {
            let mut text = format!("    {rule}: not expected, and matches");
            for (field, value) in sends.iter().filter(|(field, _)| *field != "body") {
                text.push_str(&format!("\n        {field}: {value}"));
            }
            text
        }
        Difference::Field {
            rule,
            field,
            expected,
            found,
        } => format!("    {rule}: {field} is not as expected\n        expected  {expected}\n        found     {found}"),
    }
}

/// A condition that doesn't hold, and what the event has instead.
pub(super) fn failed_text(failed: &Failed) -> String {
    let found = failed.found.as_deref();
    let found = found.map_or("the event has none".to_owned(), |found| {
        format!("the event has {found}")
    });
    plain(&format!("{failed} does not hold: {found}"))
}
