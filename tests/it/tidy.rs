//! What the sources must keep to: who may use whom, how long a file may be, what may not stay in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The most lines of a file, its `#[cfg(test)]` part not counted.
const LINES_MAX: usize = 500;

/// Modules of the crate, each with those that it may use; what is below may not look up.
/// Adapters don't know each other, loops don't know each other, and only `app` knows everyone.
const MAY_USE: &[(&str, &[&str])] = &[
    // Pure: no I/O, no clock, no randomness.
    ("reason", &[]),
    ("trail", &[]),
    ("yaml", &[]),
    ("json", &[]),
    ("path", &[]),
    ("amounts", &[]),
    ("dates", &["amounts"]),
    ("ids", &["amounts"]),
    ("text", &[]),
    ("lead", &["amounts", "dates", "ids", "json", "path", "reason"]),
    ("template", &["dates", "lead", "path", "text"]),
    ("sealed", &[]),
    (
        "rules",
        &["amounts", "dates", "lead", "path", "sealed", "template", "text"],
    ),
    (
        "delivery",
        &["amounts", "dates", "ids", "lead", "reason", "rules", "template", "text"],
    ),
    (
        "inlet",
        &["dates", "json", "lead", "path", "reason", "rules", "template", "yaml"],
    ),
    // What reads the clock, takes in connections, and sees threads and tasks end.
    ("clock", &[]),
    ("listen", &[]),
    ("parts", &["metrics"]),
    // What adapters are set up with.
    ("http_client", &[]),
    ("secrets", &["rules", "sealed"]),
    ("config", &["dates", "delivery", "inlet", "rules", "secrets", "yaml"]),
    // Adapters.
    ("metrics", &["delivery", "lead", "reason", "rules"]),
    ("admin", &["listen", "metrics"]),
    ("kafka", &["clock", "config", "dates", "rules", "text", "trail"]),
    ("registry", &["config", "http_client", "lead"]),
    (
        "destination",
        &[
            "config",
            "delivery",
            "http_client",
            "reason",
            "sealed",
            "secrets",
            "text",
        ],
    ),
    ("sandbox", &[]),
    // What loops run on.
    ("batches", &["config", "kafka", "lead", "metrics", "registry", "trail"]),
    // What people's commands, the demo and the API call.
    ("desk", &[]),
    // Loops.
    ("feed", &["config", "kafka", "metrics", "rules", "trail"]),
    (
        "processor",
        &[
            "batches", "config", "delivery", "kafka", "lead", "metrics", "reason", "registry", "rules",
        ],
    ),
    (
        "sender",
        &[
            "config",
            "delivery",
            "destination",
            "kafka",
            "metrics",
            "reason",
            "rules",
            "trail",
        ],
    ),
    (
        "inlets",
        &[
            "batches",
            "config",
            "http_client",
            "inlet",
            "kafka",
            "lead",
            "listen",
            "metrics",
            "reason",
            "registry",
            "rules",
            "secrets",
        ],
    ),
    // The composition root, and what stands above it.
    (
        "app",
        &[
            "admin",
            "clock",
            "config",
            "delivery",
            "destination",
            "feed",
            "http_client",
            "inlets",
            "kafka",
            "listen",
            "metrics",
            "parts",
            "processor",
            "rules",
            "sealed",
            "secrets",
            "sender",
        ],
    ),
    (
        "demo",
        &[
            "app", "config", "delivery", "inlet", "kafka", "lead", "metrics", "rules", "sandbox", "secrets", "yaml",
        ],
    ),
    (
        "cli",
        &[
            "app", "config", "dates", "delivery", "demo", "inlet", "kafka", "lead", "metrics", "parts", "reason",
            "registry", "rules", "sandbox", "secrets", "text", "yaml",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

const PURE: &[&str] = &[
    "reason", "trail", "yaml", "json", "path", "text", "amounts", "dates", "ids", "lead", "template", "sealed",
    "rules", "delivery", "inlet",
];

/// What belongs to some modules alone: the words, and whose they are.
const BELONGS: &[(&[&str], &[&str])] = &[
    (
        &["reqwest"],
        &["config", "destination", "http_client", "inlets", "registry", "sandbox"],
    ),
    // A client of one's own would take its proxy from HTTP_PROXY.
    (&["Client::builder", "Client::new", "ClientBuilder"], &["http_client"]),
    // The error of one's own quotes a property's value; kafka::words makes clients.
    (&["create_with_context"], &[]),
    (&["axum"], &["admin", "sandbox"]),
    (&["clap"], &["app", "cli", "demo", "main"]),
    (&["prometheus"], &["metrics"]),
    (&["apache_avro"], &["delivery", "lead"]),
    (&["saphyr_parser"], &["yaml"]),
    (&["crypto_box", "blake2"], &["secrets"]),
    // Destinations look for secrets in every form.
    (&["base64"], &["destination", "inlets", "lead", "sealed", "secrets"]),
    (&["hyper", "hyper_util"], &["admin", "inlets", "listen"]),
    (&["subtle", "flate2"], &["inlets"]),
    // The demo signs as Slack does.
    (&["hmac"], &["demo", "inlets"]),
    (&["quick_xml", "csv", "sha1_smol"], &["inlet"]),
    (
        &["percent_encoding"],
        &["destination", "inlet", "inlets", "template", "text"],
    ),
    (&["unicode_segmentation"], &["text"]),
    (&["rustix"], &["cli", "clock", "listen", "secrets"]),
    (
        &["anyhow"],
        &[
            "app",
            "cli",
            "demo",
            "feed",
            "inlets",
            "main",
            "parts",
            "processor",
            "sender",
        ],
    ),
    (&["steady_micros"], &["app", "clock", "kafka"]),
    // Everyone else is handed the time; the sandbox plays another company, with a clock of its own.
    (&["SystemTime", "Timestamp::now"], &["sandbox"]),
];

/// rdkafka is `kafka`'s own. The demo starts its mock broker, and the sender names a commit's mode.
const RDKAFKA: [(&str, &str); 3] = [
    ("src/demo.rs", "rdkafka::client::ClientContext"),
    ("src/demo.rs", "rdkafka::mocking::MockCluster"),
    ("src/sender.rs", "rdkafka::consumer::CommitMode"),
];

/// The repository's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below `folder` whose names end in `ending`, as paths from the repository's folder.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        for path in paths {
            let name = path.strip_prefix(root()).expect("a path below the repository");
            let name = name.to_str().expect("a path in UTF-8").to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(name);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "there is no {ending} in {folder}");
    found
}

/// A source file without its tests and comments.
struct Source {
    path: String,
    module: String,
    lines: usize,
    code: String,
}

fn sources() -> Vec<Source> {
    let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    let of = |path: String| {
        let text = text(&path);
        let own = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        let code = own.lines().filter(|line| !line.trim_start().starts_with("//"));
        let name = path.trim_start_matches("src/");
        Source {
            module: name.split(['/', '.']).next().unwrap_or_default().to_owned(),
            lines: own.lines().count(),
            code: code.collect::<Vec<_>>().join("\n"),
            path,
        }
    };
    files("src", ".rs")
        .into_iter()
        .filter(|path| !is_test(path))
        .map(of)
        .collect()
}

/// Whether `code` has `word` standing alone.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

/// The modules that `code` names behind `crate::` or `leadlane::`, in a list or alone.
fn used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for start in ["crate::", "leadlane::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            let list = match rest.strip_prefix('{') {
                None => vec![rest],
                Some(list) => top_level(list),
            };
            let name = |item: &str| {
                let end = item
                    .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
                    .unwrap_or(item.len());
                item[..end].to_owned()
            };
            used.extend(
                list.into_iter()
                    .map(|item| name(item.trim()))
                    .filter(|name| !name.is_empty()),
            );
        }
    }
    used
}

/// The items of a list in braces, up to its end: `a, b::{c, d}}…` has `a` and `b::{c, d}`.
fn top_level(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    items
}

/// All that is wrong, at once.
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn uses_are_found_in_every_form() {
    let list = "use crate::{feed, kafka::{self, Fault}};";
    let found = used(&format!(
        "{list}\nuse crate::path::Path;\nuse leadlane::cli::{{Cli}};\ncrate::yaml::read()"
    ));
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        ["cli", "feed", "kafka", "path", "yaml"]
    );
    assert!(has_word("use tokio::sync", "tokio") && !has_word("fn tokio_block_on()", "tokio"));
}

#[test]
fn modules_use_only_what_is_below_them() {
    let may: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    let sources = sources();
    for Source { path, module, code, .. } in &sources {
        let Some(below) = may.get(module.as_str()) else {
            wrong.push(format!("{path}: give the module {module} a row in MAY_USE"));
            continue;
        };
        for name in used(code) {
            if name != *module && !below.contains(&name.as_str()) {
                wrong.push(format!("{path}: {module} may not use {name}"));
            }
        }
    }
    // A table that grants what nobody uses would guard less than it seems to.
    for (module, below) in MAY_USE.iter().copied() {
        let own = || sources.iter().filter(|source| source.module == module);
        assert!(own().next().is_some(), "MAY_USE names {module}, which is not there");
        for name in below {
            if !own().any(|source| used(&source.code).contains(*name)) {
                wrong.push(format!("MAY_USE: {module} doesn't use {name}; take it out"));
            }
        }
        if PURE.contains(&module) {
            let impure = below.iter().filter(|name| !PURE.contains(name));
            wrong.extend(impure.map(|name| format!("MAY_USE: {module} is pure and may not use {name}")));
        }
    }
    none(&wrong);
}

#[test]
fn the_core_is_pure() {
    let words = [
        "tokio",
        "rdkafka",
        "reqwest",
        "std::fs",
        "std::env",
        "std::net",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        "println",
        "eprintln",
        "tracing",
    ];
    let pure = |source: &&Source| PURE.contains(&source.module.as_str());
    let mut wrong = Vec::new();
    for Source { path, code, .. } in sources().iter().filter(pure) {
        let found = words.iter().filter(|word| has_word(code, word));
        wrong.extend(found.map(|word| format!("{path}: {word} has no place in the pure core")));
    }
    none(&wrong);
}

#[test]
fn foreign_crates_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for Source { path, module, code, .. } in &sources() {
        for (words, owners) in BELONGS {
            let found = words.iter().filter(|word| has_word(code, word));
            let found = found.filter(|_| !owners.contains(&module.as_str()));
            wrong.extend(found.map(|word| format!("{path}: {word} belongs to {}", owners.join(", "))));
        }
        if module != "kafka" {
            let granted = RDKAFKA.iter().filter(|(file, _)| file == path);
            let rest = granted.fold(code.clone(), |code, (_, name)| code.replace(name, ""));
            if has_word(&rest, "rdkafka") {
                wrong.push(format!("{path}: rdkafka belongs to kafka"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn the_steady_clock_is_for_spacing_alone() {
    let code = sources()
        .into_iter()
        .find(|source| source.path == "src/app.rs")
        .unwrap()
        .code;
    assert!(code.contains("steady: steady_micros"), "the sender spaces by it");
    // Signatures, expiry and times are of the wall clock, in the sender as well; a jump is what both say.
    let granted = [
        "Jumps, steady_micros",
        "steady: steady_micros",
        "wall_micros(), steady_micros()",
    ];
    let rest = granted.into_iter().fold(code, |code, name| code.replace(name, ""));
    assert!(
        !rest.contains("steady_micros"),
        "src/app.rs hands the steady clock out for more than spacing"
    );
}

#[test]
fn files_are_of_a_readable_length() {
    let long = sources().into_iter().filter(|source| source.lines > LINES_MAX);
    let wrong: Vec<String> = long
        .map(|Source { path, lines, .. }| format!("{path}: {lines} lines; split it by a noun below {LINES_MAX}"))
        .collect();
    none(&wrong);
}

#[test]
fn nothing_unfinished_or_of_one_machine_stays() {
    // Put together here, so that this file has none of them.
    let join = |parts: [&str; 2]| parts.concat();
    let unfinished = [["FIX", "ME"], ["XX", "X"], ["TO", "DO"]].map(join);
    let written = [
        ["todo", "!("],
        ["dbg", "!("],
        ["#[ign", "ore"],
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["/wo", "rk/"],
    ]
    .map(join);
    let mut wrong = Vec::new();
    let all = [
        ("src", ".rs"),
        ("tests/it", ".rs"),
        ("config", "yaml"),
        ("schemas", ""),
        ("docs", ".md"),
    ];
    let mut paths: Vec<String> = all.iter().flat_map(|(folder, ending)| files(folder, ending)).collect();
    let single = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.toml",
        "Dockerfile",
        "docker-compose.yml",
        "tests/run",
        ".ci/run",
    ];
    paths.extend(single.map(str::to_owned));
    for path in paths {
        for (number, line) in text(&path).lines().enumerate() {
            let words = unfinished.iter().filter(|word| has_word(line, word));
            let found = words.chain(written.iter().filter(|word| line.contains(*word)));
            wrong.extend(found.map(|word| format!("{path}:{}: {word} may not stay", number + 1)));
        }
    }
    none(&wrong);
}

#[test]
fn modules_are_files_beside_their_folders() {
    let name = |path: &String| path.ends_with("/mod.rs");
    none(&files("src", ".rs").into_iter().filter(name).collect::<Vec<_>>());
}

#[test]
fn schemas_are_json() {
    let mut wrong = Vec::new();
    for path in files("schemas", "") {
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&text(&path)) {
            wrong.push(format!("{path}: {error}"));
        }
    }
    none(&wrong);
}
