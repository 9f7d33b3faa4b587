//! The rules' API of the desk, as programs meet it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Leadlane, Process, event};

/// The desk of one process, asked in the name of whoever holds a token.
struct Desk {
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

struct Answer {
    status: u16,
    etag: Option<String>,
    body: Value,
    text: String,
}

impl Desk {
    fn of(address: &str) -> Self {
        Self {
            url: format!("http://{address}/api/v1"),
            client: reqwest::Client::new(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    fn send(&self, method: &str, path: &str, token: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let mut request = self
            .client
            .request(method.parse().unwrap(), format!("{}{path}", self.url));
        request = request.bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            let kind = reqwest::header::CONTENT_TYPE;
            request = request.header(kind, "application/json").body(body.to_string());
        }
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let (status, etag) = (response.status().as_u16(), response.headers().get("etag").cloned());
            let text = response.text().await.unwrap();
            Answer {
                status,
                etag: etag.map(|etag| etag.to_str().unwrap().to_owned()),
                body: serde_json::from_str(&text).unwrap_or_default(),
                text,
            }
        })
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, ADMIN, &[], None)
    }

    fn put(&self, id: &str, condition: (&str, &str), rule: &Value) -> Answer {
        self.send("PUT", &format!("/rules/{id}"), ADMIN, &[condition], Some(rule))
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("POST", path, ADMIN, headers, Some(body))
    }
}

const ADMIN: &str = "adm1n-t0ken";
const EDITOR: &str = "ed1tor-t0ken";
const VIEWER: &str = "v1ewer-t0ken";
const NEW: (&str, &str) = ("If-None-Match", "*");

fn rule(id: &str, product: &str, text: &str) -> Value {
    json!({
        "id": id, "name": format!("Rule {id}"), "trigger": "lms.lead_sold", "scope": {"level": "product", "id": product},
        "action": {"type": "slack_message", "token": {"secret": "sales-bot"}, "to": {"channel": "C0SALES"}, "text": text},
    })
}

/// A Leadlane whose desk runs, with a token of each role.
fn open(name: &str, more: &str) -> (Leadlane, Process, Desk) {
    let leadlane = Leadlane::new(name, more);
    leadlane.secret("desk-adam", ADMIN);
    leadlane.secret("desk-ana", EDITOR);
    leadlane.secret("desk-vera", VIEWER);
    let tokens = "tokens: [{name: adam, role: admin, secret: desk-adam}, {name: vera, role: viewer, secret: desk-vera}, \
                  {name: ana, role: editor, secret: desk-ana, levels: [{level: product, id: '12'}]}]";
    leadlane.rewrite("admin: {", &format!("admin: {{{tokens}, "));
    leadlane.ok(&["topics", "create", "--partitions", "2"]);
    let process = leadlane.start(&["--role", "admin"]);
    let desk = Desk::of(&leadlane.admin);
    (leadlane, process, desk)
}

/// The version of a written rule, as its ETag says it.
fn version(answer: &Answer) -> String {
    let etag = answer.etag.clone().expect("an ETag");
    assert_eq!(etag, format!("\"{}\"", answer.body["version"]), "{}", answer.text);
    etag
}

#[test]
fn a_rule_is_made_and_changed_for_the_version_that_was_seen() {
    let (_leadlane, process, desk) = open("desk-rules", "");
    assert_eq!(desk.get("/rules").body, json!({"items": [], "next": null}));
    assert_eq!(desk.get("/rules/sales").status, 404);
    let first = rule("sales", "12", "sold {{$.lead_id}}");
    assert_eq!(desk.send("PUT", "/rules/sales", ADMIN, &[], Some(&first)).status, 428);
    assert_eq!(desk.put("sales", ("If-Match", "\"0\""), &first).status, 404);
    let created = desk.put("sales", NEW, &first);
    assert_eq!(created.status, 201, "{}", created.text);
    let one = version(&created);
    // It is there at once, with who made it.
    let read = desk.get("/rules/sales");
    assert_eq!((read.status, read.etag.as_ref()), (200, Some(&one)));
    assert_eq!((&read.body["rule"], &read.body["status"]), (&first, &json!("active")));
    assert_eq!(desk.put("sales", NEW, &first).status, 412);

    let second = rule("sales", "12", "sold for {{$.price | money}}");
    let changed = desk.put("sales", ("If-Match", &one), &second);
    assert_eq!(changed.status, 200, "{}", changed.text);
    let two = version(&changed);
    let late = desk.put("sales", ("If-Match", &one), &first);
    assert_eq!((late.status, late.etag.as_ref()), (412, Some(&two)), "{}", late.text);
    assert_eq!(late.body["version"].to_string(), two.trim_matches('"'));

    // Refused, with the field.
    let other = desk.put("sales", ("If-Match", &two), &rule("other", "12", "x"));
    assert_eq!(
        (other.status, &other.body["errors"][0]["path"]),
        (422, &json!("id")),
        "{}",
        other.text
    );
    let mut crossed = second.clone();
    crossed["filters"] = json!({"price": {"between": [25, 15]}});
    let refused = desk.put("sales", ("If-Match", &two), &crossed);
    assert_eq!(
        (refused.status, &refused.body["errors"][0]["path"]),
        (422, &json!("filters.price.between"))
    );
    process.stop();
}

#[test]
fn a_rule_is_paused_rolled_back_and_deleted_and_its_versions_are_known() {
    let (_leadlane, process, desk) = open("desk-versions", "");
    let first = rule("sales", "12", "sold {{$.lead_id}}");
    let created = desk.put("sales", NEW, &first);
    let second = rule("sales", "12", "sold for {{$.price | money}}");
    let two = version(&desk.put("sales", ("If-Match", &version(&created)), &second));
    let order = json!({"cancel_waiting": false});
    let paused = desk.post("/rules/sales/pause", &[("If-Match", &two)], &order);
    assert_eq!(
        (paused.status, &paused.body["waiting"]),
        (200, &json!(0)),
        "{}",
        paused.text
    );
    assert_eq!(desk.get("/rules?status=paused").body["items"][0]["id"], "sales");
    assert_eq!(
        desk.post("/rules/sales/resume", &[("If-Match", &two)], &order).status,
        412
    );
    assert_eq!(desk.post("/rules/sales/resume", &[], &order).status, 428);

    let back = desk.post(
        "/rules/sales/rollback",
        &[],
        &json!({"version": created.body["version"]}),
    );
    assert_eq!(back.status, 200, "{}", back.text);
    let four = version(&back);
    assert_eq!(desk.get("/rules/sales").body["rule"], first);
    assert_eq!(
        desk.post("/rules/sales/rollback", &[], &json!({"version": 999_999}))
            .status,
        404
    );
    // The audit is read by a thread of its own.
    until(|| {
        desk.get("/rules/sales/versions").body["items"]
            .as_array()
            .is_some_and(|all| all.len() == 4)
    });
    let versions = desk.get("/rules/sales/versions").body;
    let what: Vec<&str> = versions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["what"].as_str().unwrap())
        .collect();
    assert_eq!(what, ["rollback", "pause", "apply", "apply"]);
    assert_eq!(
        (&versions["items"][0]["who"], &versions["items"][3]["before"]),
        (&json!("adam"), &Value::Null)
    );
    assert_eq!(desk.get("/rules/sales").body["author"], "adam");

    let deleted = desk.send(
        "DELETE",
        "/rules/sales?cancel_waiting=true",
        ADMIN,
        &[("If-Match", &four)],
        None,
    );
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    assert_eq!(desk.get("/rules/sales").status, 404);
    assert_eq!(
        desk.send("DELETE", "/rules/sales", ADMIN, &[("If-Match", &four)], None)
            .status,
        412
    );
    process.stop();
}

/// Waits for what another thread or process reads within a second; a busy machine has ten.
fn until(so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(10), "it never comes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_viewer_writes_nothing_and_an_editor_within_the_levels_alone() {
    let (_leadlane, process, desk) = open("desk-roles", "");
    let write = |token: &str, id: &str, condition: (&str, &str), rule: &Value| {
        desk.send("PUT", &format!("/rules/{id}"), token, &[condition], Some(rule))
            .status
    };
    let (own, other) = (rule("own", "12", "x"), rule("other", "13", "x"));
    assert_eq!(write(VIEWER, "own", NEW, &own), 403);
    assert_eq!(write(EDITOR, "other", NEW, &other), 403);
    assert_eq!(write(EDITOR, "own", NEW, &own), 201);
    let made = desk.put("other", NEW, &other);
    assert_eq!(made.status, 201);
    let (theirs, etag) = (version(&made), version(&desk.get("/rules/own")));
    // Neither out of the levels nor into them.
    assert_eq!(write(EDITOR, "own", ("If-Match", &etag), &rule("own", "13", "x")), 403);
    assert_eq!(
        write(EDITOR, "other", ("If-Match", &theirs), &rule("other", "12", "x")),
        403
    );
    assert_eq!(write(EDITOR, "own", ("If-Match", &etag), &rule("own", "12", "y")), 200);
    let etag = version(&desk.get("/rules/own"));
    for (path, token, status) in [
        ("/rules/other", EDITOR, 403),
        ("/rules/own", VIEWER, 403),
        ("/rules/own?cancel_waiting=true", EDITOR, 403),
        ("/rules/own", EDITOR, 200),
    ] {
        let seen = if path.contains("other") { &theirs } else { &etag };
        assert_eq!(
            desk.send("DELETE", path, token, &[("If-Match", seen)], None).status,
            status,
            "{path}"
        );
    }
    let import = |token: &str, yaml: &Value, dry_run: bool| {
        let body = json!({"yaml": yaml.to_string(), "dry_run": dry_run});
        desk.send("POST", "/rules/import", token, &[], Some(&body))
    };
    // All or none.
    let both = json!([rule("own", "12", "x"), rule("strange", "14", "x")]);
    assert_eq!(import(EDITOR, &both, false).status, 403);
    assert_eq!(desk.get("/rules/own").status, 404);
    let would = import(ADMIN, &both, true);
    assert_eq!(
        (would.status, &would.body["rules"][0]["outcome"]),
        (200, &json!("created")),
        "{}",
        would.text
    );
    assert_eq!(desk.get("/rules/own").status, 404);
    assert_eq!(import(ADMIN, &both, false).status, 200);
    let again = import(ADMIN, &both, false).body;
    assert_eq!(again["rules"][1]["outcome"], "unchanged", "{again}");
    let broken = json!([rule("own", "12", "z"), {"id": "broken"}]);
    assert_eq!(import(ADMIN, &broken, false).status, 422);
    assert_eq!(desk.get("/rules/own").body["rule"], both[0]);
    // What comes out goes in.
    let yaml = desk.get("/rules/export").text;
    let checked = desk.post("/rules/validate", &[], &json!({"yaml": yaml})).body;
    assert_eq!(checked["errors"], json!([]), "{yaml}");
    assert_eq!(checked["summary"].as_str().unwrap().lines().count(), 3, "{checked}");
    process.stop();
}

#[test]
fn two_processes_agree_within_a_second() {
    let (leadlane, process, desk) = open("desk-two", "");
    let (other_process, other_address) = leadlane.start_another_at(&["--role", "admin"]);
    let other = Desk::of(&other_address);
    for round in 0..5 {
        let id = format!("r-{round}");
        let made = desk.put(&id, NEW, &rule(&id, "12", "x"));
        assert_eq!(made.status, 201, "{}", made.text);
        let began = Instant::now();
        until(|| other.get(&format!("/rules/{id}")).etag == made.etag);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        // Whoever writes in the other process needn't wait for that.
        let changed = other.put(&id, ("If-Match", &version(&made)), &rule(&id, "12", "y"));
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!(
            desk.put(&id, ("If-Match", &version(&made)), &rule(&id, "12", "z"))
                .status,
            412
        );
    }
    other_process.stop();
    process.stop();
}

#[test]
fn a_rule_is_tried_on_an_event_and_on_those_that_came() {
    let (leadlane, process, desk) = open("desk-try", "");
    let sold = |number: u64, price: &str| event(number, "lms.lead_sold", "12", price);
    let events: Vec<String> = (0..10)
        .map(|number| sold(number, if number < 3 { "99.00" } else { "5.00" }))
        .collect();
    leadlane.write(
        &leadlane.config.topics.events,
        events.iter().map(|event| ("lead", Some(event.as_bytes()))),
    );
    let mut tried = rule("try", "12", "{{$.lead_id}} for {{$.price | money}}, {{$.revenue}}");
    tried["filters"] = json!({"price": {"gte": 25}});
    until(|| desk.post("/rules/match-recent", &[], &json!({"rule": tried})).body["looked_at"] == 10);
    let matched = desk
        .post("/rules/match-recent", &[], &json!({"rule": tried, "last": 1000}))
        .body;
    assert_eq!(
        (&matched["matched"], &matched["fell"][0]["events"]),
        (&json!(3), &json!(7)),
        "{matched}"
    );
    assert_eq!(matched["samples"].as_array().unwrap().len(), 3);

    let event: Value = serde_json::from_str(&sold(1, "99.00")).unwrap();
    let previewed = desk
        .post("/rules/preview", &[], &json!({"rule": tried, "event": event}))
        .body;
    let body: Value = serde_json::from_str(previewed["sends"]["body"].as_str().unwrap()).unwrap();
    assert!(body["text"].as_str().unwrap().contains("$99.00"), "{previewed}");
    assert_eq!(
        (&previewed["missing"], &previewed["sends"]["lane"]),
        (&json!(["$.revenue"]), &json!("slack:sales-bot/C0SALES"))
    );

    assert_eq!(desk.put("try", NEW, &tried).status, 201);
    let explained = desk.post("/rules/explain", &[], &json!({"event": event})).body;
    assert_eq!(explained["matches"][0]["rule_id"], "try", "{explained}");
    let cheap: Value = serde_json::from_str(&sold(1, "5.00")).unwrap();
    let explained = desk.post("/rules/explain", &[], &json!({"event": cheap})).body;
    assert_eq!(
        (&explained["matches"], &explained["others"][0]["path"]),
        (&json!([]), &json!("filters.price.gte")),
        "{explained}"
    );
    for wrong in [
        json!({}),
        json!({"event": {"event_id": "x"}}),
        json!({"inlet": "nowhere", "record": {}}),
    ] {
        assert_eq!(desk.post("/rules/explain", &[], &wrong).status, 422, "{wrong}");
    }
    // Without a public key nothing is sealed, and the cure is told.
    let sealed = desk.post("/seal", &[], &json!({"value": "xoxb-1-secret"}));
    assert_eq!(sealed.status, 422);
    assert!(
        sealed.text.contains("secrets.public_key") && !sealed.text.contains("xoxb"),
        "{}",
        sealed.text
    );
    process.stop();
}

#[test]
fn a_rule_named_as_an_address_of_the_desk_stays_in_reach() {
    let (leadlane, process, desk) = open("desk-words", "");
    // What is valid for apply is in force, whatever the desk calls its own pages.
    for id in ["new", "import", "validate"] {
        leadlane.apply(&rule(id, "12", "sold").to_string());
    }
    let until = Instant::now() + Duration::from_secs(30);
    let list = loop {
        let list = desk.get("/rules").body;
        if list["items"].as_array().unwrap().len() == 3 || Instant::now() > until {
            break list;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let ids: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["id"])
        .collect();
    assert_eq!(ids, ["import", "new", "validate"], "{list}");
    for step in ["%6Eew", "%69mport", "%76alidate"] {
        let read = desk.get(&format!("/rules/{step}"));
        assert_eq!(read.status, 200, "{}", read.text);
        let id = read.body["id"].as_str().unwrap().to_owned();
        let changed = desk.put(step, ("If-Match", &version(&read)), &rule(&id, "12", "changed"));
        assert_eq!(changed.status, 200, "{}", changed.text);
        let paused = desk.post(
            &format!("/rules/{step}/pause"),
            &[("If-Match", &version(&changed))],
            &json!({}),
        );
        assert_eq!(paused.status, 200, "{}", paused.text);
    }
    // No further one is made here, by itself or among others.
    let made = desk.put("%65xport", NEW, &rule("export", "12", "sold"));
    assert_eq!(
        (made.status, &made.body["errors"][0]["path"]),
        (422, &json!("id")),
        "{}",
        made.text
    );
    let yaml = format!("{}\n---\n{}", rule("export", "12", "sold"), rule("other", "12", "sold"));
    let imported = desk.post("/rules/import", &[], &json!({"yaml": yaml}));
    assert_eq!(
        (imported.status, &imported.body["errors"][0]["path"]),
        (422, &json!("export: id")),
        "{}",
        imported.text
    );
    assert_eq!(desk.get("/rules/other").status, 404);
    // One that is there is brought again.
    let yaml = rule("new", "12", "brought").to_string();
    let imported = desk.post("/rules/import", &[], &json!({"yaml": yaml}));
    assert_eq!(imported.status, 200, "{}", imported.text);
    process.stop();
}
