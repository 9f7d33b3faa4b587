//! The recipes in `config/rules/recipes`, end to end: what is given comes in, what is expected arrives.

use std::process::Command;

use leadlane::delivery::Outcome;
use leadlane::desk::cases::NOW;
use leadlane::kafka::reader::Record;
use leadlane::mapping::{Entrance, Inlet};
use leadlane::sandbox::{Arrival, ArrivalKind};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Map, Value, json};

use super::sender::open_sandbox;
use crate::recipes::{Recipe, Request, recipes, same, secret};
use crate::support::{Destinations, Leadlane, free_port, now_millis, part};

/// What an arrival was, as a recipe expects it; none for what sends nothing.
fn request(arrival: &Arrival, since: i64) -> Option<Request> {
    let arguments = arrival.arguments.as_deref();
    let arguments: Option<Map<String, Value>> = arguments.map(|json| serde_json::from_str(json.get()).unwrap());
    let mut body = arguments.unwrap_or_default();
    match arrival.kind {
        ArrivalKind::SlackMessage | ArrivalKind::SlackWebhook => {
            body.insert("text".into(), arrival.text.as_deref().into());
            if arrival.kind == ArrivalKind::SlackMessage {
                body.insert("channel".into(), (*arrival.target).into());
            }
        }
        ArrivalKind::ClevertapRecord => {
            body = serde_json::from_str(arrival.record.as_deref().unwrap().get()).unwrap();
            let ts = body.get("ts").and_then(Value::as_i64);
            if ts.is_some_and(|ts| (since..=now_millis() / 1000).contains(&ts)) {
                // A case takes place at a time of its own.
                body.insert("ts".into(), (NOW / 1000).into());
            }
        }
        ArrivalKind::SlackCall | ArrivalKind::ClevertapRequest => return None,
    }
    Some(json!({"to": &*arrival.target, "body": body}))
}

/// Slack's signature, by a library that isn't ours.
fn signature(now: i64, body: &[u8]) -> String {
    let script = "import hashlib, hmac, sys; print('v0=' + hmac.new(sys.argv[1].encode(), \
                  b'v0:' + sys.argv[2].encode() + b':' + sys.argv[3].encode(), hashlib.sha256).hexdigest())";
    let output = Command::new(part("LEADLANE_TEST_PYTHON"))
        .args(["-c", script, &secret("slack-signing"), &now.to_string()])
        .arg(std::str::from_utf8(body).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The configuration with every recipe's inlet, and their foreign topics under names of this run.
fn yaml(destinations: &Destinations, listen: &str, inlets: &[Value]) -> String {
    let address = &destinations.address;
    format!(
        "slack: {{api_url: 'http://{address}/api', webhook_hosts: ['{address}'], channel_rate: 50/s, webhook_rate: 50/s, workspace_rate: 50/s}}\n\
         clevertap: {{accounts: {{acme: {{region: in1, account_id: acme, passcode: {{secret: acme-passcode}}, api_url: 'http://{address}'}}}}}}\n\
         inlet: {{listen: '{listen}'}}\ninlets: {}",
        Value::Array(inlets.to_vec())
    )
}

fn create(topics: &[String]) {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", part("LEADLANE_TEST_KAFKA"));
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topics: Vec<_> = topics
        .iter()
        .map(|name| NewTopic::new(name, 2, TopicReplication::Fixed(1)))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let created = runtime
        .block_on(admin.create_topics(&topics, &AdminOptions::new()))
        .unwrap();
    assert!(created.iter().all(Result::is_ok), "{created:?}");
}

/// Posts what is given, and gives the status.
fn post(listen: &str, recipe: &Recipe) -> u16 {
    let now = now_millis() / 1000;
    let body = recipe.record().body.clone();
    let (path, headers) = recipe.request(now, &signature(now, &body)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut request = reqwest::Client::new().post(format!("http://{listen}{path}")).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    runtime.block_on(request.send()).unwrap().status().as_u16()
}

/// A Leadlane with every recipe's inlet and rules. Foreign topics are made, under names of this run.
fn leadlane(recipes: &mut [Recipe], destinations: &Destinations, listen: &str) -> Leadlane {
    let run = format!("recipes-{}", std::process::id());
    let mut inlets: Vec<Value> = Vec::new();
    let mut topics = Vec::new();
    for recipe in &mut *recipes {
        let mut entry = recipe.inlet.entry().clone();
        if let Entrance::Topic { topic } = &recipe.inlet.entrance {
            let own = format!("{run}-{topic}");
            entry["topic"] = own.as_str().into();
            recipe.inlet = Inlet::read("inlet", &entry).unwrap();
            topics.push(own);
        }
        if !inlets.contains(&entry) {
            inlets.push(entry);
        }
    }
    create(&topics);
    let leadlane = Leadlane::new("recipes", &yaml(destinations, listen, &inlets));
    for name in [
        "slack-signing",
        "salesforce-path",
        "zapier-token",
        "sheet-token",
        "clevertap-hook",
        "write-key",
    ] {
        leadlane.secret(name, &secret(name));
    }
    leadlane.secret("sales-bot", "xoxb-hunter2-token");
    leadlane.secret("acme-passcode", "hunter2-passcode");
    let webhook = format!("http://{}/services/T0/B0/alerts-webhook", destinations.address);
    leadlane.secret("alerts-webhook", &webhook);
    leadlane.ok(&["topics", "create", "--partitions", "3"]);
    let rules = recipes.iter().flat_map(|recipe| recipe.rules.clone());
    leadlane.apply(&Value::Array(rules.collect()).to_string());
    leadlane
}

#[test]
fn every_recipe_arrives_as_its_file_says() {
    let mut recipes = recipes();
    let destinations = open_sandbox();
    let listen = format!("127.0.0.1:{}", free_port());
    let leadlane = leadlane(&mut recipes, &destinations, &listen);
    let process = leadlane.start(&[]);
    let since = now_millis() / 1000;
    let mut outcomes = 0;
    for recipe in &recipes {
        let times = match &recipe.inlet.entrance {
            Entrance::Topic { topic } => {
                leadlane.write(topic, [("a", Some(&recipe.record().body[..]))]);
                1
            }
            Entrance::Http { .. } => {
                // Sent again, as every one of these systems does, it is the same event.
                for _ in 0..2 {
                    let status = post(&listen, recipe);
                    assert_eq!(status, 200, "{}\n{}", recipe.path, process.log());
                }
                2
            }
        };
        outcomes += times * recipe.expected().count();
    }
    leadlane.read_until(&leadlane.config.topics.outcomes, 90, |records| {
        let outcome = |record: &Record| Outcome::decode(record.value.as_deref()?).ok();
        let found = records.iter().filter_map(outcome);
        found.filter(|outcome| outcome.result.is_final()).count() >= outcomes
    });
    process.stop();
    let log = destinations.sandbox.log();
    let arrived = log.iter().filter_map(|arrival| request(arrival, since)).collect();
    same("arrived", arrived, recipes.iter().flat_map(Recipe::expected));
    let dead = leadlane.read(&leadlane.config.topics.dead_letters);
    let details: Vec<_> = dead.iter().map(|record| record.header("detail")).collect();
    assert!(dead.is_empty(), "{details:?}");
}
