//! What is deployed: the compose file, the image, Prometheus and Grafana are parsed, and the commands that they name
//! are run. None of it needs a Docker engine.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use serde_json::{Map, Value};

use crate::docs::{Metric, metrics, metrics_text};
use crate::tidy::{files, root, text};

mod alerts;
mod debian;
mod kubernetes;

const DASHBOARDS: &str = "config/grafana/dashboards";

/// The one YAML document of a file.
fn yaml(path: &str) -> Value {
    let mut documents = leadlane::yaml::documents(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0).value
}

/// The services of the compose file, with what they take over by `<<`.
fn services() -> BTreeMap<String, Map<String, Value>> {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().expect("services").iter();
    let merged = |(name, service): (&String, &Value)| {
        let mut merged = Map::new();
        let own = service.as_object().expect("a service is a map");
        for map in [service["<<"].as_object(), Some(own)].into_iter().flatten() {
            merged.extend(map.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        merged.remove("<<");
        (name.clone(), merged)
    };
    services.map(merged).collect()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|item| item.as_str().map_or(item.to_string(), str::to_owned))
        .collect()
}

fn environment(service: &Map<String, Value>) -> Vec<(String, String)> {
    let map = service.get("environment").and_then(Value::as_object);
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    map.into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Our own services: those of our image.
fn ours() -> BTreeMap<String, Map<String, Value>> {
    let mut services = services();
    services.retain(|_, service| service["image"] == "leadlane:local");
    services
}

/// Runs `program` in the repository's folder with `environment` and the folder of our binary in PATH.
fn run(program: &str, arguments: &[String], environment: Vec<(String, String)>) -> Output {
    let folder = Path::new(env!("CARGO_BIN_EXE_leadlane")).parent().expect("a folder");
    Command::new(program)
        .args(arguments)
        .current_dir(root())
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

#[test]
fn the_services_configurations_are_valid() {
    let ours = ours();
    assert!(ours.len() >= 4, "{:?}", ours.keys());
    for (name, service) in ours {
        let arguments = ["config", "check", "--json"].map(str::to_owned);
        let checked = run(env!("CARGO_BIN_EXE_leadlane"), &arguments, environment(&service));
        assert!(checked.status.success(), "{name}: {checked:?}");
        let config: Value = serde_json::from_slice(&checked.stdout).unwrap();
        if name == "leadlane" {
            let kafka = &services()["kafka"];
            let listeners = environment(kafka)
                .into_iter()
                .find(|(name, _)| name == "KAFKA_ADVERTISED_LISTENERS");
            let brokers = config["kafka"]["brokers"].as_str().unwrap();
            assert!(
                listeners.unwrap().1.contains(&format!("//{brokers}")),
                "{brokers} is not advertised"
            );
        }
    }
}

#[test]
fn the_services_commands_are_ours() {
    for (name, service) in ours() {
        let (entrypoint, command) = (texts(service.get("entrypoint")), texts(service.get("command")));
        if entrypoint.is_empty() {
            let line = ["leadlane".to_owned()].into_iter().chain(command);
            let parsed = leadlane::cli::Cli::command().try_get_matches_from(line);
            assert!(parsed.is_ok(), "{name}: {:?}", parsed.err());
            continue;
        }
        // A shell line: it does to the same files what needs no broker.
        let line = command.join(" ");
        assert!(line.contains("leadlane rules apply "), "{name}: {line}");
        let arguments = [&entrypoint[1..], &[line.replace("rules apply", "rules validate")]].concat();
        let ran = run(&entrypoint[0], &arguments, environment(&service));
        assert!(ran.status.success() && ran.stderr.is_empty(), "{name}: {ran:?}");
        assert!(ran.stdout.iter().filter(|byte| **byte == b'\n').count() >= 5, "{ran:?}");
    }
}

#[test]
fn the_services_fit_together() {
    let services = services();
    let compose = yaml("docker-compose.yml");
    for (name, service) in &services {
        let image = service["image"].as_str().unwrap();
        assert!(
            image.contains(':') && !image.ends_with(":latest"),
            "{name}: {image} names no version"
        );
        for volume in texts(service.get("volumes")) {
            let source = volume.split(':').next().unwrap();
            let known = match source.strip_prefix("./") {
                Some(path) => root().join(path).exists(),
                None => compose["volumes"].get(source).is_some(),
            };
            assert!(known, "{name}: {source} is not there");
        }
        let on = match service.get("depends_on") {
            Some(Value::Object(on)) => on.keys().cloned().collect(),
            on => texts(on),
        };
        for other in on {
            assert!(services.contains_key(&other), "{name}: there is no service {other}");
        }
    }
    // The clean stop ends before the container is killed.
    let leadlane = &services["leadlane"];
    let grace = leadlane["stop_grace_period"]
        .as_str()
        .and_then(|grace| leadlane::dates::duration(grace).ok());
    assert!(grace.unwrap() > leadlane::config::Config::default().sender.shutdown_timeout);
    let port = environment(leadlane).into_iter().find_map(|(name, value)| {
        (name == "LEADLANE__ADMIN__LISTEN").then(|| value.rsplit(':').next().unwrap_or_default().to_owned())
    });
    let port = port.unwrap();
    assert!(
        texts(leadlane["healthcheck"].get("test"))
            .join(" ")
            .contains(&format!("/{port};"))
    );
    let prometheus = yaml("config/prometheus/prometheus.yml");
    assert_eq!(
        prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0],
        format!("leadlane:{port}").as_str()
    );
}

/// Whether `.dockerignore` keeps a path out: of the patterns that fit it or a folder above it the last counts.
fn is_ignored(ignored: &str, path: &str) -> bool {
    fn fits(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            // What fits a folder fits all that is in it.
            ([], _) => true,
            (["**", rest @ ..], _) => (0..=path.len()).any(|from| fits(rest, &path[from..])),
            ([first, rest @ ..], [name, below @ ..]) => {
                let fits_name = match first.split_once('*') {
                    Some((start, end)) => {
                        name.len() + 1 >= first.len() && name.starts_with(start) && name.ends_with(end)
                    }
                    None => first == name,
                };
                fits_name && fits(rest, below)
            }
            _ => false,
        }
    }
    let path: Vec<&str> = path.split('/').collect();
    let mut lines = ignored
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let last = lines.rfind(|line| fits(&line.trim_start_matches('!').split('/').collect::<Vec<_>>(), &path));
    last.is_some_and(|line| !line.starts_with('!'))
}

#[test]
fn no_secret_comes_into_the_images_build_and_all_that_it_needs_does() {
    let ignored = text(".dockerignore");
    for path in [
        ".git/config",
        ".env",
        "target/release/leadlane",
        "secrets/sales-bot",
        "leadlane.key",
        "config/leadlane.key",
        "config/tls/server.pem",
        "config/secrets/sales-bot",
        "config/kubernetes/secrets/sales-bot",
        "config/.env.production",
        "src/client.p12",
        "schemas/kafka.jks",
        "tests/it/main.rs",
        "my.yaml",
        "id_ed25519",
    ] {
        assert!(is_ignored(&ignored, path), "{path} comes into the build");
    }
    let mut needed = vec![
        "Cargo.toml".to_owned(),
        "Cargo.lock".to_owned(),
        ".ci/build.rs".to_owned(),
        "docs/sandbox.md".to_owned(),
    ];
    let mut folders = vec![
        "benches".to_owned(),
        "config".to_owned(),
        "schemas".to_owned(),
        "src".to_owned(),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap().map(Result::unwrap) {
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            let of_ours = [".rs", ".yaml", ".json", ".jsonl", ".avsc", ".md"];
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if of_ours.iter().any(|end| path.ends_with(end)) {
                needed.push(path);
            }
        }
    }
    assert!(needed.len() > 100, "{needed:?}");
    for path in needed {
        assert!(!is_ignored(&ignored, &path), "{path} is left out of the build");
    }
}

#[test]
fn images_are_named_by_digest_and_the_binary_says_what_is_in_it() {
    let is_pinned = |image: &str| {
        let digest = image.split_once("@sha256:").map(|(_, digest)| digest);
        digest.is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let dockerfile = text("Dockerfile");
    let bases: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
        .collect();
    assert_eq!(bases.len(), 2);
    for base in bases {
        assert!(is_pinned(base.split(' ').next().unwrap()), "{base}");
    }
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        assert!(image.starts_with("leadlane:") || is_pinned(image), "{name}: {image}");
    }
    assert!(dockerfile.contains("cargo auditable build --release --locked"));
}

#[test]
fn the_image_has_what_it_needs() {
    let dockerfile = text("Dockerfile");
    let ignored = text(".dockerignore");
    let words = |start: &'static str| {
        let lines = dockerfile.lines().filter(move |line| line.starts_with(start));
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    for copy in words("COPY ").into_iter().filter(|copy| !copy[1].starts_with("--")) {
        assert!(root().join(copy[1]).exists(), "{copy:?}");
        assert!(copy[1] == "." || !is_ignored(&ignored, copy[1]), "{copy:?} is ignored");
    }
    // What is built in, `include_str!` of the schemas and of config, comes with `COPY . .`.
    let minor = |version: &str| {
        version
            .split('.')
            .nth(1)
            .and_then(|minor| minor.parse::<u32>().ok())
            .unwrap()
    };
    let image = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("FROM rust:"))
        .unwrap();
    let manifest = text("Cargo.toml");
    let wanted = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    assert!(
        minor(image.split('-').next().unwrap()) >= minor(wanted.trim_matches('"')),
        "{image} is too old"
    );
    for package in ["libssl-dev", "pkg-config", "libssl3", "ca-certificates"] {
        assert!(dockerfile.contains(package), "{package}");
    }
    let user = words("USER ");
    assert!(user[0][1].parse::<u32>().is_ok_and(|user| user > 0), "runs as {user:?}");
    let line = |start: &str| {
        dockerfile
            .lines()
            .find_map(|line| line.strip_prefix(start))
            .unwrap()
            .to_owned()
    };
    let list = |start: &str| serde_json::from_str::<Vec<String>>(&line(start)).unwrap();
    let command = [list("ENTRYPOINT "), list("CMD ")].concat();
    assert!(
        leadlane::cli::Cli::command().try_get_matches_from(&command).is_ok(),
        "{command:?}"
    );
}

/// Every value under the key `name`, at any depth.
fn under<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(name));
            map.values().for_each(|value| under(value, name, found));
        }
        Value::Array(values) => values.iter().for_each(|value| under(value, name, found)),
        _ => {}
    }
}

/// The words of an expression, as PromQL has them; `"…"` and what is in brackets are no words.
fn words(expression: &str) -> Vec<&str> {
    let unquoted = expression.split('"').step_by(2);
    let word = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '$'));
    unquoted
        .flat_map(|part| part.split(word))
        .filter(|word| !word.is_empty())
        .collect()
}

fn metric<'m>(metrics: &'m [Metric], name: &str) -> Option<&'m Metric> {
    metrics.iter().find(|metric| match metric.kind.as_str() {
        "histogram" => name
            .strip_prefix(&*metric.name)
            .is_some_and(|end| matches!(end, "_bucket" | "_sum" | "_count")),
        _ => metric.name == name,
    })
}

/// The conditions on labels in an expression: `{a="b", c=~"d|e"}` has `a` with `b`, and `c` with `d` and `e`.
fn conditions(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let parts: Vec<&str> = expression.split('"').collect();
    let pairs = parts.chunks_exact(2).filter_map(|pair| {
        let start = pair[0].rfind(['{', ',']).map_or(pair[0], |at| &pair[0][at + 1..]);
        let (label, _) = start.split_once(['=', '!'])?;
        Some((label.trim(), pair[1].split('|').collect()))
    });
    pairs.collect()
}

/// That an expression names metrics that there are, by labels that they have, with values that these take.
fn is_known(metrics: &[Metric], text: &str, place: &str, expression: &str) {
    let words = words(expression);
    let names = words.iter().copied().filter(|word| word.starts_with("leadlane_"));
    let names: Vec<&str> = names.collect();
    // `up` is Prometheus' own.
    let is_ours = !names.is_empty() || words.contains(&"up");
    assert!(is_ours, "{place}: {expression} names no metric of ours");
    for name in &names {
        assert!(
            metric(metrics, name).is_some(),
            "{place}: {expression}: there is no {name}"
        );
    }
    let labels: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| metric(metrics, name))
        .flat_map(|metric| metric.labels.iter().map(String::as_str))
        .chain(["le", "job", "instance"])
        .collect();
    let by = [" by (", " ignoring ("]
        .into_iter()
        .flat_map(|start| expression.split(start).skip(1));
    let by = by
        .filter_map(|part| part.split(')').next())
        .flat_map(|by| by.split(", "));
    for label in by {
        assert!(
            labels.contains(label),
            "{place}: {expression}: there is no label {label}"
        );
    }
    for (label, values) in conditions(expression) {
        let known = |value: &&str| label == "job" || text.contains(&format!("{label}=\"{value}\""));
        let unknown: Vec<&str> = values.into_iter().filter(|value| !known(value)).collect();
        assert!(
            unknown.is_empty(),
            "{place}: {expression}: no {label} is ever {unknown:?}"
        );
    }
}

#[test]
fn expressions_name_metrics_that_exist() {
    assert_eq!(
        words("sum by (le) (rate(a_bucket{b=\"c d\"}[$i]))"),
        ["sum", "by", "le", "rate", "a_bucket", "b", "$i"]
    );
    assert_eq!(
        conditions("a{b=\"c\", d=~\"e|f\"} > g{h!=\"i\"}"),
        [("b", vec!["c"]), ("d", vec!["e", "f"]), ("h", vec!["i"])]
    );
    let (metrics, metrics_text) = (metrics(), metrics_text());
    let mut seen = 0;
    for path in files(DASHBOARDS, ".json") {
        let dashboard: Value = serde_json::from_str(&text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut expressions = Vec::new();
        under(&dashboard, "expr", &mut expressions);
        seen += expressions.len();
        for expression in expressions {
            is_known(&metrics, &metrics_text, &path, expression.as_str().unwrap());
        }
    }
    assert!(seen > 20, "only {seen} expressions");
}

#[test]
fn dashboards_know_themselves_and_their_sources() {
    let mut uids = BTreeSet::new();
    let source = &yaml("config/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    for path in files(DASHBOARDS, ".json") {
        let dashboard: Value = serde_json::from_str(&text(&path)).unwrap();
        assert!(
            uids.insert(dashboard["uid"].as_str().unwrap().to_owned()),
            "{path}: the uid is another's"
        );
        let mut sources = Vec::new();
        under(&dashboard, "datasource", &mut sources);
        // A variable is chosen from the data sources of its kind.
        let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
        let variables =
            variables.filter(|variable| variable["type"] == "datasource" && variable["query"] == source["type"]);
        let variables = variables.filter_map(|variable| variable["name"].as_str());
        let chosen: Vec<String> = variables.map(|name| format!("${{{name}}}")).collect();
        for used in sources.iter().filter_map(|used| used["uid"].as_str()) {
            let known = used == "-- Grafana --" || used == source["uid"] || chosen.iter().any(|chosen| chosen == used);
            assert!(known, "{path}: there is no data source {used}");
        }
        let panels = dashboard["panels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|panel| panel["id"].to_string());
        let ids: Vec<String> = panels.collect();
        assert_eq!(
            ids.iter().collect::<BTreeSet<_>>().len(),
            ids.len(),
            "{path}: panels share an id"
        );
    }
}

#[test]
fn grafana_finds_what_it_is_given() {
    let services = services();
    let source = &yaml("config/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    let host = source["url"]
        .as_str()
        .unwrap()
        .trim_start_matches("http://")
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    assert!(services.contains_key(&host), "there is no service {host}");
    let mounts: Vec<(String, String)> = texts(services["grafana"].get("volumes"))
        .iter()
        .filter_map(|volume| {
            volume
                .strip_prefix("./")?
                .split_once(':')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
        })
        .map(|(from, to)| (from, to.trim_end_matches(":ro").to_owned()))
        .collect();
    // A path in the container, as the file here that is mounted there.
    let here = |path: &str| {
        let (from, to) = mounts
            .iter()
            .find(|(_, to)| path.starts_with(to.as_str()))
            .unwrap_or_else(|| panic!("{path}"));
        root().join(format!("{from}{}", &path[to.len()..]))
    };
    let home = environment(&services["grafana"])
        .into_iter()
        .find(|(name, _)| name.ends_with("HOME_DASHBOARD_PATH"));
    assert!(here(&home.unwrap().1).is_file());
    let provider = &yaml("config/grafana/provisioning/dashboards/leadlane.yaml")["providers"][0];
    assert_eq!(
        here(provider["options"]["path"].as_str().unwrap()),
        root().join(DASHBOARDS)
    );
}

/// Runs promtool with `input`, and gives what it says.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let program = std::env::var_os("LEADLANE_TEST_PROMTOOL").expect("LEADLANE_TEST_PROMTOOL is missing: run tests/run");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    child.wait_with_output().expect("promtool ends")
}

#[test]
fn promtool_has_nothing_to_say() {
    let checked = promtool(&["check", "config", "config/prometheus/prometheus.yml"], "");
    assert!(checked.status.success(), "{checked:?}");
    let checked = promtool(&["check", "metrics"], &metrics_text());
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    // It would say something.
    let checked = promtool(&["check", "metrics"], "# TYPE odd counter\nodd 1\n");
    assert!(!checked.status.success());
}
