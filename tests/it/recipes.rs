//! The recipes in `config/rules/recipes`: what each sample becomes, in this process.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use leadlane::action::ActionType;
use leadlane::delivery::DeliveryJob;
use leadlane::delivery::plan::{Planned, Source, plan};
use leadlane::lead::decode::decode;
use leadlane::lead::schemas::Schemas;
use leadlane::mapping::{Inlet, Received};
use leadlane::rules::{Rule, Versioned, check};
use serde_json::{Value, json};

use crate::docs::leadlane;
use crate::tidy::{files, text};

/// What arrives at a destination: `target`, `method` and `body`, as a recipe's `result` has them.
pub(crate) type Request = Value;

pub(crate) struct Recipe {
    pub(crate) path: String,
    pub(crate) inlet: Value,
    pub(crate) rules: Vec<Value>,
    pub(crate) sample: Value,
    pub(crate) result: Vec<Request>,
}

/// Every recipe; each has the four parts and no other.
pub(crate) fn recipes() -> Vec<Recipe> {
    let read = |path: String| {
        let mut documents = leadlane::yaml::documents(&text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(documents.len(), 1, "{path} is one document");
        let Value::Object(mut parts) = documents.remove(0).value else {
            panic!("{path} is no object")
        };
        let mut part = |name: &str| parts.remove(name).unwrap_or_else(|| panic!("{path} has no {name}"));
        let list = |value: Value| match value {
            Value::Array(list) if !list.is_empty() => list,
            _ => panic!("{path}: a list is empty, or is none"),
        };
        let recipe = Recipe {
            inlet: part("inlet"),
            rules: list(part("rules")),
            sample: part("sample"),
            result: list(part("result")),
            path: path.clone(),
        };
        assert!(parts.is_empty(), "{path}: {:?}", parts.keys());
        recipe
    };
    files("config/rules/recipes", ".yaml").into_iter().map(read).collect()
}

impl Recipe {
    /// The body's bytes: texts as they are, anything else as JSON.
    pub(crate) fn body(&self) -> Vec<u8> {
        let body = self.sample.get("body").or(self.sample.get("value"));
        match body.unwrap_or_else(|| panic!("{}: the sample has no body", self.path)) {
            Value::String(text) => text.clone().into_bytes(),
            body => body.to_string().into_bytes(),
        }
    }

    /// The URL's path with its secrets in place, and the headers; none where the sample goes to a topic.
    /// `signature` is Slack's.
    pub(crate) fn request(&self, now: i64, signature: &str) -> Option<(String, Vec<(String, String)>)> {
        let fill = |text: &str| {
            let text = text
                .replace("<now>", &now.to_string())
                .replace("<signature>", signature);
            let Some((before, rest)) = text.split_once('<') else {
                return text;
            };
            let (name, after) = rest.split_once('>').unwrap();
            let value = match name.strip_prefix("basic:") {
                Some(name) => STANDARD.encode(format!("{}:", secret(name))),
                None => secret(name),
            };
            format!("{before}{value}{after}")
        };
        let path = fill(self.sample.get("path")?.as_str().unwrap());
        let headers = self.sample["headers"].as_object().unwrap().iter();
        Some((
            path,
            headers
                .map(|(name, value)| (name.clone(), fill(value.as_str().unwrap())))
                .collect(),
        ))
    }

    /// The requests that the sample becomes, or what went wrong.
    fn requests(&self, now: Timestamp) -> Vec<Request> {
        let path = &self.path;
        let inlet = Inlet::read("inlet", &self.inlet).unwrap_or_else(|problems| panic!("{path}: {problems:?}"));
        let rules = self.rules.iter().map(|rule| {
            let rule = Rule::from_json(rule).unwrap_or_else(|problems| panic!("{path}: {problems:?}"));
            assert_eq!(check::warnings(&rule), [], "{path}: {}", rule.id);
            Versioned { rule, version: 0 }
        });
        let rules: Vec<Versioned> = rules.collect();
        let body = self.body();
        let (url, headers) = self.request(0, "v0=0").unwrap_or_default();
        let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("content-type");
        let received = Received {
            body: &body,
            content_type: headers.iter().find(named).map(|(_, value)| value.as_str()),
            route: url
                .strip_prefix(&format!("/inlets/{}/", inlet.name))
                .unwrap_or_default(),
        };
        let taken = inlet.take_body(&received, None, now);
        assert_eq!(taken.refused, None, "{path}");
        let mut requests = Vec::new();
        for event in taken.events {
            let schemas = Schemas::new();
            let event = decode(&event.json, &schemas).unwrap();
            for rule in rules
                .iter()
                .filter(|versioned| versioned.rule.explain(&event).is_empty())
            {
                let source = Source {
                    topic: "lead-events",
                    partition: 0,
                    offset: 0,
                };
                match plan(&event, rule, source, now.as_millisecond()) {
                    Planned::Job(job) => requests.push(request(&job, now.as_second())),
                    other => panic!("{path}: {other:?}"),
                }
            }
        }
        requests
    }
}

/// What the tests' secret of this name is. Slack's signing secret has nothing in it that a shell would mind.
pub(crate) fn secret(name: &str) -> String {
    format!("hunter2-{name}")
}

/// A job as the request that it is sent with.
fn request(job: &DeliveryJob, now: i64) -> Request {
    let (_, name) = job.credential.split_once(':').unwrap();
    let (target, method) = match job.action {
        ActionType::SlackMessage => (job.destination.as_str(), "chat.postMessage"),
        ActionType::SlackWebhook => (name, "webhook"),
        ActionType::ClevertapProfile | ActionType::ClevertapEvent => (name, "upload"),
    };
    let mut body: Value = serde_json::from_str(&job.body).unwrap();
    if body.get("ts") == Some(&now.into()) {
        body["ts"] = "now".into();
    }
    json!({"target": target, "method": method, "body": body})
}

/// Compares without an order: lanes have none among each other.
pub(crate) fn same(what: &str, mut arrived: Vec<Request>, wanted: impl IntoIterator<Item = Request>) {
    let mut missing = Vec::new();
    for wanted in wanted {
        match arrived.iter().position(|arrived| *arrived == wanted) {
            Some(at) => drop(arrived.swap_remove(at)),
            None => missing.push(wanted),
        }
    }
    let lines = |requests: &[Request]| {
        requests
            .iter()
            .map(|request| format!("\n  {request}"))
            .collect::<String>()
    };
    assert!(
        missing.is_empty() && arrived.is_empty(),
        "{what}: missing are{}\nand too much is{}",
        lines(&missing),
        lines(&arrived)
    );
}

#[test]
fn every_recipe_gives_its_result() {
    let recipes = recipes();
    assert!(recipes.len() >= 11, "{}", recipes.len());
    let now = "2026-03-05T15:16:00Z".parse().unwrap();
    for recipe in recipes {
        same(&recipe.path, recipe.requests(now), recipe.result.iter().cloned());
    }
}

#[test]
fn recipes_can_be_copied_side_by_side() {
    let mut seen: Vec<(String, Value)> = Vec::new();
    for Recipe { path, inlet, rules, .. } in recipes() {
        // Whoever copies two has each inlet once and no rule twice.
        let name = inlet["name"].as_str().unwrap().to_owned();
        for (_, other) in seen.iter().filter(|(other, _)| *other == name) {
            assert_eq!(*other, inlet, "{path}: another recipe has another inlet {name}");
        }
        seen.push((name, inlet));
        for rule in rules {
            let id = format!("rule {}", rule["id"].as_str().unwrap());
            assert!(seen.iter().all(|(other, _)| *other != id), "{path}: {id} stands twice");
            seen.push((id, rule));
        }
    }
}

#[test]
fn a_recipe_is_no_rule_by_mistake() {
    let path = &recipes()[0].path;
    let refused = leadlane(&["rules", "validate", path], "");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("inlet: unknown field"), "{said}");
}

#[test]
fn the_page_names_every_recipe() {
    let page = text("config/rules/recipes/README.md");
    for Recipe { path, .. } in recipes() {
        let name = path.rsplit('/').next().unwrap();
        assert!(page.contains(&format!("]({name})")), "{name} is missing");
    }
}

#[test]
fn the_apps_script_sends_each_row_once_and_the_same_body_again() {
    let root = crate::tidy::root();
    let output = std::process::Command::new("node")
        .arg(root.join("tests/apps_script/run.js"))
        .arg(root.join("config/inlets/sheet.gs"))
        .output()
        .expect("node is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let runs: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = |run: usize, at: usize| -> Value {
        let payload = runs[run]["sent"][at]["payload"].as_str().unwrap();
        serde_json::from_str(payload).unwrap()
    };
    let [installed, first, failed, again, refused, mended, many, shrunk, after] = &runs[..] else {
        panic!("{said}")
    };
    assert_eq!((&installed["sent"], &installed["last"]), (&json!([]), &"2".into()));
    // Dates are plain in any zone, an empty row is passed, one that isn't ready waits.
    assert_eq!(
        rows(1, 0),
        json!([{"_row": 3, "Email": "ana@example.com", "When": "2018-03-05T15:16:00.000Z", "Plan": "team"}])
    );
    assert_eq!(first["sent"][0]["authorization"], "Bearer hunter2");
    assert_eq!(first["last"], "4");
    // A failure is tried again, and then kept for the next run with the body as it was.
    let statuses = |run: &Value| -> Vec<u64> {
        let sent = run["sent"].as_array().unwrap();
        sent.iter().map(|sent| sent["status"].as_u64().unwrap()).collect()
    };
    assert_eq!(
        (statuses(failed), &failed["slept"]),
        (vec![0, 503, 429, 500], &json!([1000, 2000, 4000]))
    );
    assert_eq!(
        (&failed["error"], &failed["last"]),
        (&"Leadlane answered 500: said".into(), &"4".into())
    );
    assert_eq!(again["sent"][0]["payload"], failed["sent"][0]["payload"]);
    assert_eq!((statuses(again), &again["last"]), (vec![200], &"5".into()));
    assert_eq!(
        (statuses(refused), &refused["error"]),
        (vec![401], &"Leadlane answered 401: said".into())
    );
    assert_eq!(mended["sent"][0]["payload"], refused["sent"][0]["payload"]);
    let lengths: Vec<usize> = (0..3).map(|at| rows(6, at).as_array().unwrap().len()).collect();
    assert_eq!((lengths, &many["last"]), (vec![200, 200, 46], &"452".into()));
    // Deleted rows are none, and what comes after them is new.
    assert_eq!((&shrunk["sent"], &shrunk["last"]), (&json!([]), &"3".into()));
    assert_eq!((rows(8, 0)[0]["_row"].clone(), &after["last"]), (4.into(), &"4".into()));
    // What it sends is what the preset takes.
    let entry = json!({"name": "leads", "preset": "sheet", "secrets": [{"secret": "s"}]});
    let inlet = Inlet::read("inlet", &entry).unwrap();
    let body = failed["sent"][0]["payload"].as_str().unwrap().as_bytes();
    let received = Received {
        body,
        ..Received::default()
    };
    let taken = inlet.take_body(&received, None, Timestamp::UNIX_EPOCH);
    assert_eq!((taken.events.len(), taken.refused), (1, None));
    assert_eq!(taken.events[0].lead_id, "bo@example.com");
}

/// The code blocks of a page in YAML.
fn blocks(page: &str) -> Vec<String> {
    let text = text(page);
    let parts = text.split("```yaml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_pages_on_inlets_show_what_is_valid() {
    let mut entries = 0;
    for page in [files("docs/inlets", ".md"), vec!["docs/inlets.md".to_owned()]].concat() {
        for block in blocks(&page) {
            let value = leadlane::yaml::documents(&block).unwrap().remove(0).value;
            match value.get("inlets").and_then(Value::as_array) {
                Some(inlets) => {
                    for entry in inlets {
                        Inlet::read("inlets", entry).unwrap_or_else(|problems| panic!("{page}: {problems:?}"));
                        entries += 1;
                    }
                }
                None if value.get("id").is_some() => {
                    Rule::from_json(&value).unwrap_or_else(|problems| panic!("{page}: {problems:?}"));
                }
                None => {}
            }
        }
    }
    assert!(entries >= 8, "{entries}");
}

#[test]
fn the_page_on_the_mapping_states_every_key() {
    let problems = Inlet::read("inlet", &json!({"qqqqqqqqqqqqqqqq": 1})).unwrap_err();
    let known = problems
        .iter()
        .find_map(|problem| problem.message.split_once("known here are "));
    let known: BTreeSet<String> = known.unwrap().1.split(", ").map(str::to_owned).collect();
    let page = text("docs/inlets.md");
    let rows = |head: &str| -> Vec<String> {
        let lines = page.lines().skip_while(|line| !line.starts_with(head)).skip(2);
        let rows = lines.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
    };
    let stated = [rows("| key | meaning |"), rows("| key | meaning | default |")].concat();
    assert_eq!(stated.into_iter().collect::<BTreeSet<_>>(), known);
}
