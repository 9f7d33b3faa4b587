//! The documents say what the program does: configuration, metrics, commands and examples are compared with it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use clap::CommandFactory;
use leadlane::action::ActionType;
use leadlane::metrics::Metrics;
use leadlane::rules::RuleId;
use serde_json::Value;

use crate::tidy::{files, root, text};

/// Runs the program in the repository's folder, without variables of ours.
pub(crate) fn leadlane(arguments: &[&str], input: &str) -> Output {
    leadlane_in(root(), arguments, input)
}

fn leadlane_in(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leadlane"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A program that doesn't read its input may be gone already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// What Prometheus scrapes once every metric has a value.
pub(crate) fn metrics_text() -> String {
    let metrics = Metrics::new(10);
    metrics.matched("lms.lead_sold", ActionType::SlackMessage, RuleId("a-rule"));
    metrics.lag("lead-events", 0, Some(1));
    metrics.committed(1, &[Duration::from_millis(5)]);
    metrics.inlet_answered("other", 404, Duration::from_millis(5));
    metrics.inlet_answered("an-inlet", 503, Duration::from_millis(5));
    metrics.inlet_took("an-inlet", [1, 0, 0]);
    metrics.text()
}

/// A metric as the text has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) labels: BTreeSet<String>,
}

pub(crate) fn metrics() -> Vec<Metric> {
    metrics_in(&metrics_text())
}

pub(crate) fn metrics_in(text: &str) -> Vec<Metric> {
    let metric = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let sample = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(['{', '_']));
        let labels = sample
            .and_then(|sample| sample.rsplit_once('}'))
            .map_or("", |(labels, _)| labels);
        let labels = labels.rsplit('{').next().unwrap_or_default().split("\",");
        let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        Some(Metric {
            name: name.to_owned(),
            kind: kind.to_owned(),
            labels: labels.filter(|label| label != "le").collect(),
        })
    };
    text.lines().filter_map(metric).collect()
}

/// The rows of the page's table whose head begins with `head`, each as its cells.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let page_text = text(page);
    let lines = page_text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let cells = |line: &str| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let rows: Vec<Vec<String>> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "{page} has no table {head}");
    rows
}

/// `x` of `` `x` ``.
fn code(cell: &str) -> &str {
    cell.strip_prefix('`')
        .and_then(|cell| cell.strip_suffix('`'))
        .unwrap_or(cell)
}

#[test]
fn every_filter_is_documented() {
    let rows = table("docs/rules.md", "| filter |");
    let named: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row[0].split("`, `"))
        .map(|cell| code(cell).trim_matches('`').split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(named, leadlane::template::filter_names().collect());
}

/// The code blocks of the page in `language`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    text(page)
        .split(&start)
        .skip(1)
        .map(|part| part.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

/// Every key of the configuration with its default, as the documentation writes it.
fn keys(prefix: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                keys(&key, value, found);
            }
        }
        value => found.push((prefix.to_owned(), written(value))),
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

#[test]
fn every_key_is_documented_with_its_default() {
    let documents = leadlane::yaml::documents(&text("config/leadlane.yaml")).unwrap();
    let mut wanted = Vec::new();
    keys("", &documents[0].value, &mut wanted);
    let stated: Vec<(String, String)> = table("docs/configuration.md", "| key | default |")
        .iter()
        .map(|row| (code(&row[0]).to_owned(), code(&row[1]).to_owned()))
        .collect();
    assert_eq!(stated, wanted);
    // Durations have more than one form, so that the program's own words are compared by key alone.
    let checked = leadlane(&["config", "check", "--json"], "");
    let mut effective = Vec::new();
    keys("", &serde_json::from_slice(&checked.stdout).unwrap(), &mut effective);
    let names = |keys: Vec<(String, String)>| keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(names(effective), names(wanted));
}

#[test]
fn every_metric_is_documented() {
    let rows = table("docs/metrics.md", "| metric | type | labels |");
    let labels = |cell: &str| {
        cell.split(", ")
            .map(code)
            .filter(|label| !label.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut stated: Vec<Metric> = rows
        .iter()
        .map(|row| Metric {
            name: code(&row[0]).to_owned(),
            kind: row[1].clone(),
            labels: labels(&row[2]),
        })
        .collect();
    stated.sort();
    let mut wanted = metrics();
    wanted.sort();
    assert_eq!(stated, wanted);
}

/// Every command that does something, by its words.
fn commands(command: &clap::Command, words: &str, found: &mut Vec<(String, Vec<String>)>) {
    let mut below = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
        .peekable();
    if below.peek().is_none() || !command.is_subcommand_required_set() {
        let flags = command.get_arguments().filter(|argument| !argument.is_global_set());
        let flags = flags.filter_map(clap::Arg::get_long).map(|long| format!("--{long}"));
        found.push((words.to_owned(), flags.filter(|flag| flag != "--help").collect()));
    }
    for below in below {
        commands(below, &format!("{words} {}", below.get_name()), found);
    }
}

#[test]
fn every_command_and_flag_is_documented() {
    let mut wanted = Vec::new();
    commands(&leadlane::cli::Cli::command(), "leadlane", &mut wanted);
    let rows = table("docs/commands.md", "| command | what it does |");
    let is_plain = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let stated: Vec<(String, Vec<String>)> = rows
        .iter()
        .map(|row| {
            let line = code(&row[0]);
            let words: Vec<&str> = line.split(' ').take_while(is_plain).collect();
            let flags = line.split(['[', ' ', ']', '.']).filter(|word| word.starts_with("--"));
            (words.join(" "), flags.map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(stated, wanted);
    for (command, _) in wanted {
        let arguments: Vec<&str> = command.split(' ').skip(1).chain(["--help"]).collect();
        let help = leadlane(&arguments, "");
        assert!(
            help.status.success() && help.stdout.len() > 100,
            "{command} --help: {help:?}"
        );
    }
}

#[test]
fn the_program_says_what_it_is_made_of_and_how_it_is_used() {
    let version = leadlane(&["--version"], "");
    let said = String::from_utf8(version.stdout).unwrap();
    let head = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .current_dir(root())
        .output();
    let is_clone = head.is_ok_and(|head| head.status.success());
    let commit = said
        .split("commit ")
        .nth(1)
        .and_then(|rest| rest.get(..12))
        .unwrap_or_default();
    assert!(!is_clone || commit.bytes().all(|b| b.is_ascii_hexdigit()), "{said}");
    let parts = [
        &format!("leadlane {} (commit ", env!("CARGO_PKG_VERSION")),
        "\nlibrdkafka 2.",
        "\nOpenSSL ",
    ];
    assert!(parts.iter().all(|part| said.contains(*part)), "{said}");
    assert!(String::from_utf8(leadlane(&["-V"], "").stdout).unwrap().lines().count() == 1);

    for (shell, part) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef leadlane"),
        ("fish", "complete -c leadlane"),
    ] {
        let completions = leadlane(&["completions", shell], "");
        let text = String::from_utf8(completions.stdout).unwrap();
        assert!(text.contains(part) && text.contains("send-test"), "{shell}");
    }
    let page = String::from_utf8(leadlane(&["man"], "").stdout).unwrap();
    assert!(
        page.contains(".TH leadlane 1") && page.contains("dead\\-letters"),
        "{page}"
    );
    let folder = std::env::temp_dir().join(format!("leadlane-man-{}", std::process::id()));
    assert!(
        leadlane(&["man", "--dir", folder.to_str().unwrap()], "")
            .status
            .success()
    );
    let page = std::fs::read_to_string(folder.join("leadlane-rules-apply.1")).unwrap();
    assert!(
        page.contains(".TH leadlane-rules-apply 1") && page.contains("prune"),
        "{page}"
    );
    // Neither needs a configuration that can be read.
    assert!(
        leadlane(&["--config", "/not/there.yaml", "completions", "bash"], "")
            .status
            .success()
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The anchor that a title has on GitHub.
fn anchor(title: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    let title = title.trim_start_matches('#').trim().to_lowercase();
    title.chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// Whether the page has a title with this anchor.
fn has_anchor(page: &str, wanted: &str) -> bool {
    let mut titles = page.lines().filter(|line| line.starts_with('#'));
    titles.any(|title| anchor(title) == wanted)
}

#[test]
fn links_lead_somewhere() {
    let documents = [
        files("docs", ".md"),
        files("config", ".md"),
        files("benches", ".md"),
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
            .map(String::from)
            .to_vec(),
    ];
    for path in documents.concat() {
        let page = text(&path);
        for link in page.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root().join(&path),
                file => root().join(&path).parent().unwrap().join(file),
            };
            assert!(target.exists(), "{path}: {link} is not there");
            let is_page = target.extension().is_some_and(|ending| ending == "md");
            if is_page && !section.is_empty() {
                let target = std::fs::read_to_string(target).unwrap();
                assert!(has_anchor(&target, section), "{path}: {link} has no such section");
            }
        }
    }
}

#[test]
fn every_page_is_listed() {
    for path in files("docs", ".md") {
        // Pages about one inlet are listed by the page about inlets.
        let (index, link) = match path.strip_prefix("docs/inlets/") {
            Some(name) => ("docs/inlets.md", format!("](inlets/{name})")),
            None => ("README.md", format!("]({path})")),
        };
        assert!(text(index).contains(&link), "{index} doesn't list {path}");
    }
}

#[test]
fn architecture_and_the_crate_name_every_module() {
    let (architecture, crate_doc) = (text("ARCHITECTURE.md"), text("src/lib.rs"));
    let modules = crate_doc
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let modules: Vec<&str> = modules.collect();
    assert!(modules.len() > 20);
    for module in modules {
        assert!(
            architecture.contains(&format!("`{module}`")),
            "ARCHITECTURE.md: {module} is missing"
        );
        assert!(
            crate_doc.contains(&format!("[`{module}`]")),
            "src/lib.rs: {module} is missing in the map"
        );
    }
    // What the documents name as module::item is there.
    for name in architecture
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains("::"))
    {
        let names: Vec<&str> = name.split("::").collect();
        let item = names.last().unwrap();
        let module = names.iter().take_while(|name| name.starts_with(char::is_lowercase));
        let path = module.copied().collect::<Vec<_>>().join("/");
        let is_module = root().join(format!("src/{path}.rs")).exists();
        // `feed::follow` is an item, `rules::check` a module, `Rule::matches` an item of a type that was named before.
        let known = is_module
            || files("src", ".rs")
                .iter()
                .any(|file| text(file).contains(&format!("fn {item}")));
        assert!(known, "ARCHITECTURE.md: {name} is not there");
    }
}

#[test]
fn examples_are_valid() {
    let mut rules = files("config/rules", ".yaml");
    // Recipes hold more than rules, and have tests of their own.
    rules.retain(|path| !path.starts_with("config/rules/recipes/"));
    let arguments: Vec<&str> = ["rules", "validate"]
        .into_iter()
        .chain(rules.iter().map(String::as_str))
        .collect();
    let checked = leadlane(&arguments, "");
    let (said, warned) = (
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr),
    );
    assert_eq!(checked.status.code(), Some(0), "{warned}");
    let written: usize = rules
        .iter()
        .map(|path| text(path).lines().filter(|line| line.starts_with("id: ")).count())
        .sum();
    assert_eq!(
        said.lines().filter(|line| line.ends_with(": valid")).count(),
        written,
        "{said}"
    );
    // The account, the inlets and the secrets of the examples are no part of the defaults; nothing else is odd about them.
    let absent = [
        "account",
        "scope.id: is none of the config's inlets",
        " is missing; set LEADLANE_SECRET_",
    ];
    let odd = warned
        .lines()
        .find(|line| !absent.iter().any(|absent| line.contains(absent)));
    assert_eq!(odd, None);
}

#[test]
fn the_first_rule_works_as_readme_says() {
    let folder = std::env::temp_dir().join(format!("leadlane-readme-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let put = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let named = |page: &str, name: &str| {
        let found = blocks(page, "yaml")
            .into_iter()
            .find(|block| block.starts_with(&format!("# {name}\n")));
        put(name, &found.unwrap_or_else(|| panic!("{page} has no {name}")))
    };
    std::fs::create_dir_all(folder.join("secrets")).unwrap();
    for secret in [
        "sales-bot",
        "slack-signing",
        "write-key",
        "won-path",
        "survey-token",
        "survey-token-old",
    ] {
        put(&format!("secrets/{secret}"), "x");
    }
    let (config, inlets, rule, event) = (
        named("README.md", "my.yaml"),
        named("docs/inlets.md", "my-inlets.yaml"),
        named("README.md", "my-rule.yaml"),
        put("my-event.json", &blocks("README.md", "json")[0]),
    );
    for arguments in [
        vec!["--config", &config, "config", "check"],
        vec!["--config", &inlets, "config", "check"],
        vec!["--config", &config, "rules", "validate", &rule],
        vec!["events", "validate", &event],
    ] {
        let ran = leadlane_in(&folder, &arguments, "");
        assert!(ran.status.success() && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
    let explained = leadlane(&["rules", "explain", "--event", &event, "--rules", &rule], "");
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(
        said.contains("matches, and sends to slack:sales-bot/C0123ABCD"),
        "{said}"
    );
    assert!(said.contains("Lead 84512377 sold to SafeDrive for $42.50"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

const RULE: &str = r#"id: a
scope: {level: product, id: "1"}
trigger: lms.lead_sold
action: {type: slack_message, token: {secret: t}, to: {channel: C1}, text: hi}
"#;

/// A command's arguments, what it reads from stdin, its exit code and what it says.
type Refusal<'a> = (&'a [&'a str], &'a str, i32, &'a str);

fn check_refusals(refusals: &[Refusal<'_>]) {
    for (arguments, input, code, words) in refusals {
        let ran = leadlane(arguments, input);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(*code), "{arguments:?} {input}\n{said}");
        assert!(
            said.contains(words),
            "{arguments:?} {input}\n{said}\ndoes not say {words}"
        );
        assert!(!said.contains("xoxb-1"), "{said}");
    }
}

#[test]
fn refused_files_have_their_exit_code_and_the_field_is_named() {
    let event = r#"{"event_id":"1","trigger":"lms.lead_sold","occurred_at":"2026-03-05T15:16:00Z"}"#;
    let nobody = "kafka: {brokers: '127.0.0.1:1'}";
    let validate = &["rules", "validate", "-"][..];
    check_refusals(&[
        (
            &["--config", "/dev/stdin", "config", "check"],
            "kafka: {broker: x}",
            2,
            "kafka.broker",
        ),
        (
            &["--config", "/dev/stdin", "config", "check"],
            "kafka: {brokers: x}",
            0,
            "",
        ),
        (
            &["--config", "/not/there.yaml", "config", "check"],
            "",
            2,
            "/not/there.yaml: can't be read",
        ),
        (validate, RULE, 0, ""),
        (validate, &RULE.replace("trigger: lms.lead_sold\n", ""), 2, "trigger"),
        (validate, &RULE.replace("id: a\n", ""), 2, "id"),
        (validate, &RULE.replace("{secret: t}", "xoxb-1"), 2, "action.token"),
        (validate, &format!("{RULE}mood: good\n"), 2, "mood"),
        (
            validate,
            &format!("{RULE}filters: {{price: {{between: [5, 1]}}}}\n"),
            2,
            "filters.price.between",
        ),
        (validate, &format!("{RULE}---\n{RULE}"), 2, "the id is given twice"),
        (validate, "", 2, "holds no rule"),
        (&["rules", "validate", "/not/there.yaml"], "", 2, "/not/there.yaml"),
        (
            &["events", "validate", "-"],
            event,
            2,
            "1 of the lines are no lead event",
        ),
        (
            validate,
            &RULE.replace("{secret: t}", "{sealed: abc}"),
            2,
            "action.token.sealed",
        ),
        (
            &["--config", "/dev/stdin", "topics", "check"],
            nobody,
            1,
            "no broker answers at 127.0.0.1:1",
        ),
    ]);
}

#[test]
fn refused_commands_have_their_exit_code_and_the_argument_is_named() {
    check_refusals(&[
        (&["rules", "get"], "", 2, "<ID>"),
        (&["rules", "apply"], "", 2, "PATH"),
        (&["topics", "create", "--partitions", "0"], "", 2, "--partitions"),
        (&["run", "--role", "cook"], "", 2, "cook"),
        (&["secrets", "seal"], "xoxb-1", 2, "leadlane secrets keygen"),
        (&["secrets", "keygen"], "", 2, "--out FILE"),
        (&["deliveries"], "", 2, "deliveries"),
        (&["deliveries", "list", "--since", "yesterday"], "", 2, "2h"),
        (&["deliveries", "list", "--result", "lost"], "", 2, "cancelled"),
        (&["dead-letters", "show", "seven"], "", 2, "PARTITION-OFFSET"),
        (&["dead-letters", "list", "--reason", "bad"], "", 2, "gave_up"),
        (
            &["events", "send", "--inlet", "leads", "-"],
            "",
            2,
            "there is no inlet leads",
        ),
        (
            &["events", "validate", "--format", "csv", "-"],
            "a\n",
            2,
            "name the inlet by --inlet",
        ),
        (&["events", "validate", "rows.csv"], "", 2, "name the inlet by --inlet"),
        (&["dead-letters", "replay"], "", 2, "--all"),
        (&["dead-letters", "replay", "0-1", "--all"], "", 2, "ids stand alone"),
        (
            &["dead-letters", "replay", "0-1", "--rate", "0/s"],
            "",
            2,
            "would never send",
        ),
    ]);
}

#[test]
fn files_are_validated_through_an_inlets_mapping() {
    let folder = std::env::temp_dir().join(format!("leadlane-rows-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("rows.csv");
    std::fs::write(
        &file,
        "Email,Plan\nana@example.com,pro\nbo@example.com,free\n,pro\ncy@example.com\n,,\ndi@example.com,pro,\ned@example.com,pro,x\n",
    )
    .unwrap();
    let config = "inlets: [{name: leads, preset: sheet, when: [{path: $.Plan, ne: free}]}]";
    let arguments = ["--config", "/dev/stdin", "events", "validate", "--inlet", "leads"];
    let ran = leadlane(&[&arguments[..], &[file.to_str().unwrap()]].concat(), config);
    let said = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("line 2: sheet.row_added "), "{said}");
    assert_eq!(
        lines[1..3],
        [
            "line 3: is left out",
            "line 4: would be a dead letter: invalid_event: event.lead_id: no column identity, email, id is filled",
        ]
    );
    // A cell that is left out is an empty one, and an empty one behind the titles is none.
    assert!(
        lines[3].starts_with("line 5: sheet.row_added ") && lines[4].starts_with("line 7: sheet.row_added "),
        "{said}"
    );
    assert_eq!(
        lines[5..],
        ["line 8: would be a dead letter: not_decodable: 3 cells for 2 titles"]
    );
    let why = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{why}");
    assert!(
        why.contains("2 of the lines are nothing that inlet leads can map"),
        "{why}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}
