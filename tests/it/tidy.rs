//! What the sources must keep to: who may use whom, how long a file may be, what may not stay in it.
//!
//! Every table fails on a row that nobody needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

mod source;

use source::Source;

/// The most lines of a file, its `#[cfg(test)]` items not counted.
const LINES_MAX: usize = 500;

/// Modules of the crate, each with those that it may use. ARCHITECTURE.md has the picture of them.
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
    ("template", &["amounts", "dates", "lead", "path", "text"]),
    ("sealed", &[]),
    ("credential", &["sealed"]),
    (
        "reader",
        &[
            "amounts",
            "credential",
            "dates",
            "path",
            "sealed",
            "template",
            "text",
            "yaml",
        ],
    ),
    (
        "action",
        &[
            "amounts",
            "credential",
            "dates",
            "ids",
            "lead",
            "path",
            "reader",
            "sealed",
            "template",
            "text",
        ],
    ),
    (
        "rules",
        &[
            "action",
            "amounts",
            "credential",
            "dates",
            "lead",
            "path",
            "reader",
            "sealed",
            "text",
        ],
    ),
    (
        "delivery",
        &[
            "action",
            "credential",
            "dates",
            "lead",
            "reason",
            "rules",
            "template",
            "trail",
        ],
    ),
    (
        "mapping",
        &[
            "credential",
            "dates",
            "json",
            "lead",
            "path",
            "reader",
            "reason",
            "rules",
            "template",
            "text",
            "yaml",
        ],
    ),
    // What adapters are set up with.
    ("http_client", &[]),
    ("secrets", &["credential", "sealed"]),
    (
        "config",
        &[
            "action",
            "credential",
            "dates",
            "mapping",
            "reader",
            "rules",
            "secrets",
            "yaml",
        ],
    ),
    // What adapters and loops count by, are timed by, take connections in with and end with.
    ("metrics", &["action", "delivery", "lead", "reason", "rules"]),
    ("clock", &[]),
    ("listen", &[]),
    ("parts", &["metrics"]),
    // Adapters.
    ("admin", &["listen", "metrics"]),
    (
        "kafka",
        &["clock", "config", "dates", "reason", "rules", "text", "trail"],
    ),
    ("registry", &["config", "http_client", "lead"]),
    ("slack", &["credential", "http_client", "secrets"]),
    (
        "destination",
        &[
            "action",
            "config",
            "delivery",
            "http_client",
            "reason",
            "sealed",
            "secrets",
            "slack",
            "text",
        ],
    ),
    ("sandbox", &[]),
    // What loops run on.
    ("batches", &["config", "kafka", "lead", "metrics", "registry", "trail"]),
    // What people's commands, the demo and the API call.
    (
        "desk",
        &[
            "action",
            "config",
            "credential",
            "dates",
            "delivery",
            "kafka",
            "lead",
            "mapping",
            "reader",
            "reason",
            "rules",
            "template",
            "text",
            "trail",
            "yaml",
        ],
    ),
    // Loops.
    ("feed", &["config", "kafka", "metrics", "rules", "trail"]),
    (
        "processor",
        &[
            "action", "batches", "config", "delivery", "kafka", "lead", "metrics", "reason", "registry", "rules",
        ],
    ),
    (
        "sender",
        &[
            "action",
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
            "batches", "config", "mapping", "kafka", "lead", "listen", "metrics", "reason", "registry", "secrets",
            "slack", "text",
        ],
    ),
    // The rule desk over HTTP.
    (
        "web",
        &[
            "action",
            "config",
            "credential",
            "dates",
            "delivery",
            "desk",
            "kafka",
            "lead",
            "mapping",
            "reader",
            "reason",
            "registry",
            "rules",
            "sealed",
            "secrets",
            "slack",
            "text",
            "yaml",
        ],
    ),
    // What looks at everything that a run needs.
    (
        "doctor",
        &[
            "action",
            "config",
            "credential",
            "desk",
            "destination",
            "http_client",
            "kafka",
            "mapping",
            "reader",
            "registry",
            "rules",
            "sealed",
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
            "desk",
            "destination",
            "feed",
            "http_client",
            "inlets",
            "kafka",
            "lead",
            "listen",
            "metrics",
            "parts",
            "processor",
            "registry",
            "rules",
            "sealed",
            "secrets",
            "sender",
            "web",
        ],
    ),
    (
        "demo",
        &[
            "app",
            "config",
            "credential",
            "delivery",
            "desk",
            "kafka",
            "lead",
            "mapping",
            "metrics",
            "sandbox",
            "secrets",
            "text",
            "yaml",
        ],
    ),
    (
        "cli",
        &[
            "action",
            "app",
            "config",
            "credential",
            "dates",
            "delivery",
            "demo",
            "desk",
            "doctor",
            "mapping",
            "kafka",
            "lead",
            "metrics",
            "parts",
            "reader",
            "reason",
            "registry",
            "rules",
            "sandbox",
            "secrets",
            "text",
            "yaml",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

const PURE: &[&str] = &[
    "reason",
    "trail",
    "yaml",
    "json",
    "path",
    "text",
    "amounts",
    "dates",
    "ids",
    "lead",
    "template",
    "sealed",
    "credential",
    "reader",
    "action",
    "rules",
    "delivery",
    "mapping",
];

/// What belongs to some modules alone: the words, and whose they are.
const BELONGS: &[(&[&str], &[&str])] = &[
    (
        &["reqwest"],
        &["config", "destination", "http_client", "registry", "sandbox", "slack"],
    ),
    // A client of one's own would take its proxy from HTTP_PROXY.
    (
        &[
            "Client::builder",
            "Client::new",
            "Client::default",
            "ClientBuilder",
            "reqwest::get",
        ],
        &["http_client"],
    ),
    // The error of one's own quotes a property's value; kafka::words makes clients.
    (&["create_with_context"], &[]),
    (&["axum"], &["admin", "app", "sandbox", "web"]),
    (&["maud", "utoipa", "utoipa_axum", "form_urlencoded"], &["web"]),
    (&["hashbrown"], &["desk", "reader", "rules"]),
    (&["clap"], &["app", "cli", "demo"]),
    (&["clap_complete", "clap_mangen"], &["cli"]),
    (&["openssl"], &["kafka"]),
    (&["prometheus"], &["metrics"]),
    (&["apache_avro"], &["delivery", "lead"]),
    (&["saphyr_parser"], &["yaml"]),
    (&["crypto_box", "blake2"], &["secrets"]),
    // Destinations look for secrets in every form.
    (
        &["base64"],
        &["destination", "inlets", "lead", "sealed", "secrets", "web"],
    ),
    (&["hyper", "hyper_util"], &["admin", "inlets", "listen"]),
    (&["flate2"], &["inlets"]),
    (&["subtle"], &["secrets", "web"]),
    // The demo signs as Slack does.
    (&["hmac"], &["demo", "inlets", "web"]),
    (&["quick_xml", "csv"], &["mapping"]),
    (&["sha1"], &["delivery", "mapping"]),
    (
        &["percent_encoding"],
        &["destination", "mapping", "inlets", "template", "text"],
    ),
    (&["unicode_segmentation"], &["text"]),
    (&["rustix"], &["cli", "clock", "demo", "listen", "secrets"]),
    (
        &["anyhow"],
        &["app", "cli", "demo", "feed", "inlets", "parts", "processor", "sender"],
    ),
    (&["steady_micros"], &["app", "clock", "kafka"]),
    // Everyone else is handed the time; the sandbox plays another company, with a clock of its own.
    (&["SystemTime", "Timestamp::now"], &["sandbox"]),
];

/// rdkafka is `kafka`'s own. The demo starts its mock broker.
const RDKAFKA: &[(&str, &str)] = &[
    ("src/demo.rs", "rdkafka::client::ClientContext"),
    ("src/demo.rs", "rdkafka::mocking::MockCluster"),
];

/// What a module hands on of another one or of another crate: whoever names it there uses that as well, unseen.
const HANDED_ON: &[(&str, &str)] = &[
    ("src/app.rs", "crate::clock::wall_millis"),
    ("src/kafka.rs", "rdkafka::Message"),
    ("src/kafka.rs", "rdkafka::error::KafkaError"),
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

static COMPILED: LazyLock<Vec<Source>> = LazyLock::new(source::compiled);

/// The sources of the crate, without tests.
fn sources() -> impl Iterator<Item = &'static Source> {
    COMPILED.iter().filter(|source| !source.is_test)
}

/// Whether `text` has `word` standing alone.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

/// All that is wrong, at once.
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a file `src/rules/read.rs` with this text is.
fn read(text: &str) -> Source {
    Source::read("src/rules/read.rs", &["rules", "read"], text)
}

#[test]
fn uses_are_found_in_every_form() {
    let modules = |text| read(text).modules().into_iter().collect::<Vec<_>>().join(" ");
    for (text, found) in [
        ("use crate::{feed, kafka::{self, Fault}};", "feed kafka"),
        ("use crate::path::Path; use leadlane::cli::{Cli};", "cli path"),
        ("fn f() { crate::yaml::read() }", "yaml"),
        ("use super::super::app; use super::write; use self::field;", "app rules"),
        ("mod inner { fn f() -> super::super::super::feed::Feed {} }", "feed"),
        ("use crate as root; fn f() { root::sender::run() }", "sender"),
        ("use crate::{self as root}; use root::sender;", "sender"),
        ("macro_rules! m { () => { $crate::admin::serve() } }", "admin"),
        (
            "fn f() { assert!(crate::listen::up(), \"{}\", crate::parts::X) }",
            "listen parts",
        ),
        ("fn f() { g::<crate::clock::Jumps>() } // crate::demo", "clock"),
        (
            "fn f() { x /* crate::demo /* */ crate::cli */ } #[doc = \"crate::demo\"] mod read;",
            "",
        ),
        (
            "fn f() { \"crate::demo // \"; 'c'; crate::feed::X } fn g<'c>() {}",
            "feed",
        ),
    ] {
        assert_eq!(modules(text), found, "{text}");
    }
}

#[test]
fn a_name_stands_for_what_was_imported() {
    for (text, words) in [
        ("use std::{fmt, fs}; fn f() { fs::read() }", "std::fs"),
        ("use std::fs::read; fn f() { read() }", "std::fs"),
        ("fn f() { use std as s; s::fs::read() }", "std::fs"),
        ("use s::fs; use std as s;", "std::fs"),
        ("use jiff::Timestamp as T; fn f() { T::now() }", "Timestamp::now"),
        ("fn f() { jiff::Timestamp::now() }", "Timestamp::now"),
        ("use reqwest::Client; fn f() { Client::builder() }", "Client::builder"),
        ("fn f() { config.create_with_context(c) }", "create_with_context"),
        ("fn f() { ::rdkafka::x() }", "rdkafka"),
        ("extern crate rdkafka as k;", "rdkafka"),
        ("fn f() { println!(\"\") }", "println"),
    ] {
        assert!(read(text).names(words), "{text}");
    }
    for text in [
        "fn tokio_block_on() {}",
        "// tokio",
        "const T: &str = \"tokio\";",
        "fn f<'tokio>() {}",
    ] {
        assert!(!read(text).names("tokio"), "{text}");
    }
    assert!(!read("use std::fmt; fn fs() {}").names("std::fs"));
}

#[test]
fn what_is_handed_on_and_what_hides_is_seen() {
    let handed_on = |text| read(text).handed_on.into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(handed_on("pub use rdkafka::Message; use std::fmt;"), "rdkafka::Message");
    assert_eq!(
        handed_on("pub(crate) use crate::clock::{a, b as c};"),
        "crate::clock::a crate::clock::b"
    );
    assert_eq!(
        handed_on("mod field; pub(super) use field::Field;"),
        "crate::rules::read::field::Field"
    );
    assert_eq!(
        handed_on("pub(self) use a::B; impl A { fn f() -> impl B + use<> {} }"),
        ""
    );
    assert_eq!(
        read("use std::*; mod a { use super::*; }").globs().collect::<Vec<_>>(),
        ["std"]
    );
}

#[test]
fn tests_alone_are_left_out() {
    let text = "\
use crate::feed;
#[cfg(test)]
mod tests {
    use crate::demo;
}
#[cfg(test)]
use std::{fs, env};
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct A<B, C>(demo::B, C);
impl A {
    /// For tests.
    #[cfg(test)]
    pub(crate) fn f<A, B>() -> [u8; 2] {
        std::net::f();
    }
    fn g() {}
}
#[cfg(test)]
pub(crate) mod any;
#[cfg(not(test))]
fn f() { crate::kafka::f() }
fn last() { crate::sender::run(\"#[cfg(test)]\"); }
";
    let source = read(text);
    assert_eq!(
        source.modules().into_iter().collect::<Vec<_>>(),
        ["feed", "kafka", "sender"]
    );
    assert!(!source.names("std::fs") && !source.names("std::net") && source.names("g"));
    assert_eq!(source.lines, text.lines().count() - 4 - 2 - 3 - 4 - 2);
}

#[test]
fn modules_use_only_what_is_below_them() {
    let may: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let Source { path, module, .. } = source;
        let Some(below) = may.get(module.as_str()) else {
            wrong.push(format!("{path}: give the module {module} a row in MAY_USE"));
            continue;
        };
        for name in source.modules() {
            if name != module && !below.contains(&name) {
                wrong.push(format!("{path}: {module} may not use {name}"));
            }
        }
    }
    // A table that grants what nobody uses would guard less than it seems to.
    for (module, below) in MAY_USE.iter().copied() {
        let own = || sources().filter(|source| source.module == module);
        assert!(own().next().is_some(), "MAY_USE names {module}, which is not there");
        for name in below {
            if !own().any(|source| source.modules().contains(name)) {
                wrong.push(format!("MAY_USE: {module} doesn't use {name}; take it out"));
            }
        }
        if PURE.contains(&module) {
            let impure = below.iter().filter(|name| !PURE.contains(name));
            wrong.extend(impure.map(|name| format!("MAY_USE: {module} is pure and may not use {name}")));
        }
    }
    let unknown = PURE.iter().filter(|module| !may.contains_key(*module));
    wrong.extend(unknown.map(|module| format!("PURE names {module}, which is not there")));
    none(&wrong);
}

/// The rows of the picture in ARCHITECTURE.md, the lowest first: each begins with its modules.
fn picture() -> Vec<Vec<String>> {
    let page = text("ARCHITECTURE.md");
    let (_, rest) = page.split_once("## The modules").expect("the modules");
    let lines = rest.split("```").nth(1).expect("a picture").lines().rev();
    let is_module = |word: &&str| MAY_USE.iter().any(|(module, _)| module == word);
    let modules = |line: &str| {
        line.split_whitespace()
            .take_while(is_module)
            .map(str::to_owned)
            .collect()
    };
    lines.map(modules).filter(|row: &Vec<String>| !row.is_empty()).collect()
}

#[test]
fn the_picture_shows_what_the_table_grants() {
    let picture = picture();
    let rows_of = |module: &str| {
        let rows = picture.iter().enumerate();
        let found = rows.filter(|(_, row)| row.iter().any(|name| name == module));
        found.map(|(number, _)| number).collect::<Vec<_>>()
    };
    let mut wrong = Vec::new();
    for (module, below) in MAY_USE.iter().filter(|(module, _)| *module != "lib") {
        let [row] = rows_of(module)[..] else {
            wrong.push(format!("ARCHITECTURE.md: {module} belongs into one row of the picture"));
            continue;
        };
        let not_below = below
            .iter()
            .filter(|name| rows_of(name).iter().any(|used| *used >= row));
        wrong.extend(not_below.map(|name| format!("ARCHITECTURE.md: {module} uses {name}, which is not below it")));
    }
    none(&wrong);
}

#[test]
fn nothing_is_used_by_another_name() {
    let mut wrong = Vec::new();
    for source in sources() {
        let path = &source.path;
        wrong.extend(
            source
                .globs()
                .map(|from| format!("{path}: name what is used of {from}")),
        );
        let own = format!("crate::{}::", source.module);
        let foreign = source.handed_on.iter().filter(|name| !name.starts_with(&own));
        let foreign = foreign.filter(|name| !HANDED_ON.contains(&(path, name)));
        wrong.extend(foreign.map(|name| format!("{path}: {name} is handed on; let others name it where it is")));
    }
    for (file, name) in HANDED_ON {
        let is_there = |source: &Source| source.path == *file && source.handed_on.contains(*name);
        if !sources().any(is_there) {
            wrong.push(format!("HANDED_ON: {file} doesn't hand {name} on; take it out"));
        }
    }
    none(&wrong);
}

/// What a source of the pure core names that has no place there.
fn impure(source: &Source) -> Vec<&str> {
    let words = [
        "tokio",
        "rdkafka",
        "reqwest",
        "std::fs",
        "std::env",
        "std::net",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        "new_v4",
        "now_v7",
        "RandomState",
        "print",
        "eprint",
        "println",
        "eprintln",
        "tracing",
    ];
    // A generator is handed in, or made of a seed.
    let seeded = ["fastrand", "fastrand::Rng", "fastrand::Rng::with_seed"];
    let random = source.paths.iter().map(String::as_str);
    let random = random.filter(|path| source::has(path, "fastrand") && !seeded.contains(path));
    words
        .into_iter()
        .filter(|word| source.names(word))
        .chain(random)
        .collect()
}

#[test]
fn the_core_is_pure() {
    for (text, found) in [
        (
            "use fastrand::Rng; fn f(rng: &mut Rng) { rng.f64(); Rng::with_seed(1) }",
            "",
        ),
        ("fn f() { fastrand::f64() }", "fastrand::f64"),
        ("use fastrand as r; fn f() { r::Rng::new() }", "fastrand::Rng::new"),
        ("use fastrand::Rng; fn f() { Rng::default() }", "fastrand::Rng::default"),
        ("fn f() { uuid::Uuid::now_v7() }", "now_v7"),
        ("fn f() { Instant::now() }", "Instant::now"),
    ] {
        assert_eq!(impure(&read(text)).join(" "), found, "{text}");
    }
    let pure = |source: &&Source| PURE.contains(&source.module.as_str());
    let mut wrong = Vec::new();
    for source in sources().filter(pure) {
        let found = impure(source).into_iter();
        wrong.extend(found.map(|word| format!("{}: {word} has no place in the pure core", source.path)));
    }
    none(&wrong);
}

/// Whether the code, as tokens with blanks between, has a `Result<…, String>`.
fn has_text_error(code: &str) -> bool {
    code.match_indices("Result < ").any(|(at, begin)| {
        let (mut depth, mut before) = (1, Vec::new());
        for token in code[at + begin.len()..].split(' ') {
            depth += match token {
                "<" => 1,
                ">" if before.last() != Some(&"-") => -1,
                _ => 0,
            };
            if depth == 0 {
                break;
            }
            before.push(token);
        }
        before.ends_with(&[",", "String"])
    })
}

#[test]
fn the_desk_answers_and_leaves_the_rest_to_who_asks() {
    let text_error = |text: &str| has_text_error(&read(text).code);
    assert!(text_error("fn f() -> Result<Vec<impl Fn() -> u8>, String> {}"));
    assert!(!text_error(
        "fn f() -> Result<HashMap<u8, String>, Error> { Ok::<(u8, String), E>(x) }"
    ));
    let words = [
        "println",
        "eprintln",
        "print",
        "eprint",
        "clap",
        "tokio",
        "block_on",
        "anyhow",
        "std::process",
        "std::env",
        "std::fs",
        "stdout",
        "stderr",
        "stdin",
        "wall_millis",
        "wall_micros",
    ];
    let mut wrong = Vec::new();
    for source in sources().filter(|source| source.module == "desk") {
        let path = &source.path;
        let found = words.iter().filter(|word| source.names(word));
        wrong.extend(found.map(|word| format!("{path}: {word} is for who asks the desk")));
        // Whoever asks must be able to tell what went wrong.
        if has_text_error(&source.code) {
            wrong.push(format!("{path}: an error of the desk is a desk::Error, not a text"));
        }
    }
    none(&wrong);
}

/// What a source names that belongs to other modules alone.
fn foreign(source: &Source) -> Vec<String> {
    let others = BELONGS
        .iter()
        .filter(|(_, owners)| !owners.contains(&source.module.as_str()));
    let mut wrong = Vec::new();
    for (words, owners) in others {
        let found = words.iter().filter(|word| source.names(word));
        wrong.extend(found.map(|word| format!("{}: {word} belongs to {}", source.path, owners.join(", "))));
    }
    wrong
}

#[test]
fn http_clients_are_made_in_one_place_alone() {
    for code in [
        "reqwest::Client::new()",
        "reqwest::Client::default()",
        "reqwest::Client::builder()",
        "reqwest::ClientBuilder::new()",
        "reqwest::get(url)",
    ] {
        let of = |module: &str| {
            let text = format!("fn f() {{ {code} }}");
            foreign(&Source::read(&format!("src/{module}.rs"), &[module], &text)).len()
        };
        assert_eq!((of("slack"), of("http_client")), (1, 0), "{code}");
    }
}

#[test]
fn foreign_crates_stay_where_they_belong() {
    let mut wrong: Vec<String> = sources().flat_map(foreign).collect();
    for (words, owners) in BELONGS {
        for owner in *owners {
            let mut own = sources().filter(|source| source.module == *owner);
            if !own.any(|source| words.iter().any(|word| source.names(word))) {
                wrong.push(format!(
                    "BELONGS: {owner} uses none of {}; take it out",
                    words.join(", ")
                ));
            }
        }
    }
    for Source { path, paths, .. } in sources().filter(|source| source.module != "kafka") {
        let is_granted = |name: &&String| {
            let mut granted = RDKAFKA.iter().filter(|(file, _)| file == path);
            granted.any(|(_, granted)| name.starts_with(granted) || granted.starts_with(name.as_str()))
        };
        let names = paths.iter().filter(|name| source::has(name, "rdkafka"));
        wrong.extend(
            names
                .filter(|name| !is_granted(name))
                .map(|name| format!("{path}: {name} belongs to kafka")),
        );
    }
    for (file, name) in RDKAFKA {
        let is_there = |source: &Source| source.path == *file && source.names(name);
        if !sources().any(is_there) {
            wrong.push(format!("RDKAFKA: {file} doesn't use {name}; take it out"));
        }
    }
    none(&wrong);
}

/// While the sender's loop waits, no answer is taken in and no partition is handed over.
#[test]
fn nothing_blocks_the_senders_loop() {
    let words = [
        "std::thread::sleep",
        "std::fs",
        "blocking_send",
        "blocking_recv",
        "block_on",
        "write_and_wait",
        "CommitMode",
    ];
    let calls = ["producer.write", "producer.flush", "jobs.end"].map(source::code);
    let mut wrong = Vec::new();
    for source in sources().filter(|source| source.module == "sender") {
        let found = words.iter().filter(|word| source.names(word));
        wrong.extend(found.map(|word| format!("{}: {word} blocks the loop", source.path)));
        // The group is left for good, on a thread.
        let code = source
            .code
            .replace(&source::code("spawn_blocking(move || jobs.end())"), "");
        let found = calls.iter().filter(|call| code.contains(call.as_str()));
        wrong.extend(found.map(|call| format!("{}: {call} blocks the loop", source.path)));
    }
    none(&wrong);
}

#[test]
fn the_steady_clock_is_for_spacing_alone() {
    let app = sources().find(|source| source.path == "src/app.rs").expect("the app");
    // Signatures, expiry and times are of the wall clock, in the sender as well; a jump is what both say.
    let granted = [
        "Jumps, steady_micros",
        "steady: steady_micros",
        "wall_micros(), steady_micros()",
    ];
    let mut rest = app.code.clone();
    for granted in granted {
        assert!(
            rest.contains(&source::code(granted)),
            "src/app.rs has no {granted}; take it out"
        );
        rest = rest.replace(&source::code(granted), "");
    }
    assert!(
        !rest.contains("steady_micros"),
        "src/app.rs hands the steady clock out for more than spacing"
    );
}

#[test]
fn every_source_is_compiled() {
    let is_compiled = |path: &String| COMPILED.iter().any(|source| source.path == *path);
    let orphans = files("src", ".rs").into_iter().filter(|path| !is_compiled(path));
    none(
        &orphans
            .map(|path| format!("{path}: no module declares it"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn files_are_of_a_readable_length() {
    let long = sources().filter(|source| source.lines > LINES_MAX);
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
        ("tests", ".rs"),
        ("tests", ".py"),
        ("benches", ""),
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
    let all = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(|folder| files(folder, ".rs"));
    none(&all.filter(name).collect::<Vec<_>>());
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
