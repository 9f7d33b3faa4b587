//! The guard, as browsers and programs meet it: over real connections.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::header::HeaderMap;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::admin::{self, Admin, Readiness};
use crate::metrics::Metrics;
use crate::sandbox::{Sandbox, Settings};
use crate::secrets::{Secret, SecretError};

static CHANGED: AtomicBool = AtomicBool::new(false);

/// A desk that listens.
struct Desk {
    url: String,
    client: reqwest::Client,
    _stop: watch::Sender<bool>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn cookie(&self) -> String {
        let cookie = self.headers.get("set-cookie").expect("a cookie").to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// The CSRF token of the page's forms.
    fn csrf(&self) -> String {
        let (_, rest) = self
            .text
            .split_once(r#"name="csrf" value=""#)
            .expect("a form with a token");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Desk {
    async fn open(admin: serde_json::Value) -> Self {
        Self::of(Config {
            admin: serde_json::from_value(admin).unwrap(),
            ..Config::default()
        })
        .await
    }

    async fn of(config: Config) -> Self {
        let secrets = Secrets::looking_up(|_, name| match name.as_str() {
            "desk-ana" if CHANGED.load(Ordering::Relaxed) => Ok(Secret::new("changed")),
            "desk-ana" => Ok(Secret::new("right")),
            "desk-vera" => Ok(Secret::new("viewer")),
            "sales-bot" => Ok(Secret::new("xoxb-1-sales")),
            _ => Err(SecretError::NoName),
        });
        let web = Arc::new(Web::new(Arc::new(Resident::new(Arc::new(config))), secrets, || {
            1_772_742_727_000
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        let health = Arc::new(Admin {
            metrics: Arc::new(Metrics::new(1)),
            readiness: Readiness::default(),
        });
        tokio::spawn(admin::serve(listener, health, router(web), 100, stopped));
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            url,
            client: client.unwrap(),
            _stop: stop,
        }
    }

    async fn tokens() -> Self {
        Self::open(json!({"tokens": [
            {"name": "ana", "role": "editor", "secret": "desk-ana"},
            {"name": "vera", "role": "viewer", "secret": "desk-vera"},
        ]}))
        .await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(self.client.get(format!("{}{path}", self.url)), headers).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let request = self.client.post(format!("{}{path}", self.url)).body(body);
        let kind = ("content-type", "application/x-www-form-urlencoded");
        self.send(request, &[headers, &[kind]].concat()).await
    }

    async fn send(&self, mut request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> Answer {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }
}

fn detail(answer: &Answer) -> String {
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(problem["status"], answer.status);
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_name_of_another_site_is_misdirected_and_health_is_asked_by_any() {
    let desk = Desk::open(json!({"hosts": ["desk.example.com"]})).await;
    let status = async |path: &str, host: &str| desk.get(path, &[("host", host)]).await.status;
    for host in ["evil.example", "desk.example.com.evil.example", "x"] {
        assert_eq!(status("/api/v1/nothing", host).await, 421, "{host}");
        assert_eq!(status("/login", host).await, 421, "{host}");
        assert_eq!(status("/livez", host).await, 200, "{host}");
    }
    for host in [
        "desk.example.com",
        "DESK.example.com:8080",
        "localhost:9",
        "127.0.0.1",
        "[::1]:80",
        "203.0.113.9",
    ] {
        assert_eq!(status("/api/v1/nothing", host).await, 404, "{host}");
    }
}

#[tokio::test]
async fn programs_show_a_token_and_wrong_ones_are_slowed_down() {
    let desk = Desk::tokens().await;
    let api = async |token: &str| desk.get("/api/v1/nothing", &[("authorization", token)]).await;
    let without = desk.get("/api/v1/nothing", &[]).await;
    assert_eq!(without.status, 401);
    assert!(detail(&without).contains("Authorization: Bearer"));
    assert_eq!(without.headers["www-authenticate"], "Bearer");
    for _ in 0..10 {
        assert_eq!(api("Bearer wrong").await.status, 401);
    }
    let slowed = api("Bearer wrong").await;
    assert_eq!(
        (slowed.status, &slowed.headers["retry-after"]),
        (429, &"60".parse().unwrap())
    );
    // A right one is always answered; the path is nowhere.
    assert_eq!(api("Bearer right").await.status, 404);
    assert_eq!(api("bearer  viewer").await.status, 404);
    // Cookies are the pages' own.
    let page = desk.post("/login", &[], &[("token", "right")]).await;
    let cookie = page.cookie();
    assert_eq!(desk.get("/api/v1/nothing", &[("cookie", &cookie)]).await.status, 401);
}

#[tokio::test]
async fn a_session_lets_in_until_it_is_ended() {
    let desk = Desk::tokens().await;
    assert_eq!(desk.get("/", &[]).await.headers["location"], "/login");
    let asked = desk.get("/nowhere?x=1", &[]).await;
    assert_eq!(asked.status, 401);
    assert!(
        asked.text.contains(r#"name="then" value="/nowhere?x=1""#),
        "{}",
        asked.text
    );
    let wrong = desk
        .post("/login", &[], &[("token", "wrong"), ("then", "/nowhere")])
        .await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.text.contains("That token is not known here") && !wrong.text.contains("wrong\""));
    let entered = desk
        .post("/login", &[], &[("token", " right "), ("then", "/nowhere")])
        .await;
    assert_eq!(
        (entered.status, &entered.headers["location"]),
        (303, &"/nowhere".parse().unwrap())
    );
    let set = entered.headers["set-cookie"].to_str().unwrap();
    assert!(
        set.contains("HttpOnly; SameSite=Lax; Max-Age=43200") && !set.contains("Secure"),
        "{set}"
    );
    let cookie = entered.cookie();
    let inside = desk.get("/nowhere", &[("cookie", &cookie)]).await;
    assert_eq!(inside.status, 404);
    assert!(inside.text.contains("Log out") && inside.text.contains("ana"));
    // Another site's form has no token of the session, and its origin.
    let logout = async |headers: &[(&str, &str)], fields: &[(&str, &str)]| {
        let cookie = [("cookie", cookie.as_str())];
        desk.post("/logout", &[&cookie[..], headers].concat(), fields)
            .await
            .status
    };
    let csrf = inside.csrf();
    assert_eq!(logout(&[], &[]).await, 403);
    assert_eq!(logout(&[], &[("csrf", "guess")]).await, 403);
    assert_eq!(
        logout(&[("origin", "http://evil.example")], &[("csrf", &csrf)]).await,
        403
    );
    for site in ["cross-site", "same-site"] {
        let null = [("origin", "null"), ("sec-fetch-site", site)];
        assert_eq!(logout(&null, &[("csrf", &csrf)]).await, 403);
    }
    assert_eq!(logout(&[("origin", "null")], &[("csrf", "guess")]).await, 403);
    // Our own pages let no referrer out, and browsers call their origin null.
    let own = [("origin", "null"), ("sec-fetch-site", "same-origin")];
    assert_eq!(logout(&own, &[("csrf", &csrf)]).await, 303);
    // The cookie that was stolen before is of no use now.
    assert_eq!(desk.get("/nowhere", &[("cookie", &cookie)]).await.status, 401);
}

#[tokio::test]
async fn a_form_that_comes_after_the_session_goes_on_after_the_log_in() {
    let desk = Desk::tokens().await;
    let late = desk
        .post("/rules/new", &[], &[("name", "Big \"sales\""), ("csrf", "stale-csrf")])
        .await;
    assert_eq!(late.status, 401);
    assert!(
        late.text.contains(r#"name="kept.name" value="Big &quot;sales&quot;""#),
        "{}",
        late.text
    );
    assert!(!late.text.contains("stale-csrf"));
    let fields = [
        ("token", "right"),
        ("then", "/rules/new"),
        ("kept.name", "Big \"sales\""),
    ];
    let back = desk.post("/login", &[], &fields).await;
    assert_eq!(back.status, 200);
    assert!(
        back.text.contains(r#"action="/rules/new""#)
            && back.text.contains(r#"name="name" value="Big &quot;sales&quot;""#)
    );
    let cookie = back.cookie();
    let again = desk
        .post(
            "/rules/new",
            &[("cookie", &cookie)],
            &[("csrf", &back.csrf()), ("name", "x")],
        )
        .await;
    // The form is in front of its reader again, with what was typed.
    assert_eq!(again.status, 200, "{}", again.text);
    assert!(again.text.contains(r#"name="name" value="x""#), "{}", again.text);
    for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example"] {
        let away = desk
            .post("/login", &[], &[("token", "right"), ("then", elsewhere)])
            .await;
        assert_eq!(away.headers["location"], "/", "{elsewhere}");
    }
}

#[tokio::test]
async fn an_open_desk_has_sessions_for_its_forms_alone() {
    let desk = Desk::open(json!({})).await;
    let first = desk.get("/nowhere", &[]).await;
    let cookie = first.cookie();
    assert_eq!(first.status, 404);
    let theme = async |fields: &[(&str, &str)]| desk.post("/theme", &[("cookie", &cookie)], fields).await;
    assert_eq!(theme(&[("csrf", &first.csrf()), ("theme", "dark")]).await.status, 303);
    let again = desk
        .get("/nowhere", &[("cookie", &format!("{cookie}; leadlane_theme=dark"))])
        .await;
    assert!(again.text.contains(r#"data-theme="dark""#));
    assert!(!again.headers.contains_key("set-cookie"), "the session stays");
    let foreign = desk.post("/logout", &[("cookie", &cookie)], &[("csrf", "guess")]).await;
    assert_eq!(foreign.status, 403);
}

#[tokio::test]
async fn a_proxy_names_who_asks_and_whose_failures_count() {
    let desk = Desk::open(json!({"proxy": {"networks": ["127.0.0.0/8"]}, "tokens": [{"name": "ana", "role": "editor", "secret": "desk-vera"}]})).await;
    let user = ("x-forwarded-user", "priya");
    assert_eq!(desk.get("/api/v1/nothing", &[user]).await.status, 404);
    let page = desk.get("/nowhere", &[user, ("x-forwarded-proto", "https")]).await;
    assert!(page.text.contains("priya") && page.text.contains("Viewer") && !page.text.contains("Log out"));
    assert!(page.headers["set-cookie"].to_str().unwrap().ends_with("; Secure"));
    assert_eq!(
        desk.get("/api/v1/nothing", &[user, ("x-forwarded-role", "root")])
            .await
            .status,
        401
    );
    let wrong = async |address: &str| {
        let from = [("authorization", "Bearer wrong"), ("x-forwarded-for", address)];
        desk.get("/api/v1/nothing", &from).await.status
    };
    for _ in 0..10 {
        assert_eq!(wrong("1.1.1.1, 203.0.113.9").await, 401);
    }
    assert_eq!(wrong("2.2.2.2, 203.0.113.9").await, 429);
    assert_eq!(wrong("1.1.1.1, 203.0.113.10").await, 401);
}

#[tokio::test]
async fn every_answer_tells_browsers_what_they_may() {
    let desk = Desk::tokens().await;
    let asset = assets::address("desk.css");
    for path in ["/login", "/nowhere", "/api/v1/nothing", &asset] {
        let answer = desk.get(path, &[]).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
        let kept = answer.headers["cache-control"] == "no-store";
        assert_eq!(kept, path != asset, "{path}");
        assert!(
            !answer.text.contains("style=\"") && !answer.text.contains("onclick"),
            "{path}"
        );
    }
}

/// The operations of the API: each method and path, with the document's words of it.
fn operations() -> Vec<(String, String, serde_json::Value)> {
    drop(api::routes());
    let document = serde_json::to_value(&**api::document_made().unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &serde_json::Value)| {
        let methods: Vec<_> = item.as_object().unwrap().clone().into_iter().collect();
        let path = path.clone();
        methods
            .into_iter()
            .map(move |(method, operation)| (method, path.clone(), operation))
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn no_operation_leaves_a_parameter_or_another_kind_of_body_aside() {
    let desk = Desk::open(json!({})).await;
    let (all, mut lists) = (operations(), 0);
    assert!(all.len() >= 30, "{}", all.len());
    for (method, path, operation) in all {
        let url = format!("{}{}", desk.url, path.replace('{', "a").replace('}', "b"));
        let ask = |url: String| desk.client.request(method.to_uppercase().parse().unwrap(), url);
        let answer = desk.send(ask(format!("{url}?limit_=5")), &[]).await;
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text);
        assert!(
            detail(&answer).starts_with("limit_: is no parameter here"),
            "{path}: {}",
            answer.text
        );
        if method != "get" {
            let form = ("content-type", "application/x-www-form-urlencoded");
            let answer = desk.send(ask(url).body("dry_run=true"), &[form]).await;
            assert_eq!(answer.status, 415, "{method} {path}: {}", answer.text);
        }
        // Whatever answers a list pages.
        let answered = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        if answered.as_str().is_some_and(|schema| schema.contains("/List_")) {
            lists += 1;
            let names: Vec<_> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| &one["name"])
                .collect();
            for name in ["limit", "after"] {
                assert!(names.contains(&&json!(name)), "{path}: {names:?}");
            }
            for limit in ["0", "1001", "-1", "x", ""] {
                let answer = desk.get(&format!("{path}?limit={limit}"), &[]).await;
                assert_eq!(answer.status, 400, "{path}: {}", answer.text);
                assert!(detail(&answer).contains("limit"), "{path}: {}", answer.text);
            }
        }
    }
    assert_eq!(lists, 8);
    for path in ["events", "deliveries", "dead-letters", "audit", "rules/sales/versions"] {
        let answer = desk.get(&format!("/api/v1/{path}?after=junk"), &[]).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        assert!(detail(&answer).starts_with("after: "), "{path}: {}", answer.text);
    }
    // A misspelt word of a body isn't left aside either.
    for (path, body) in [
        ("rules/validate", json!({"rule": {}, "yml": ""})),
        ("rules/explain", json!({"evnt": {}})),
        ("rules/preview", json!({"rule": {}, "evnt": {}})),
        ("rules/send-test", json!({"rule": {}, "evnt": {}})),
        ("rules/match-recent", json!({"rule": {}, "lst": 5})),
        ("rules/import", json!({"yaml": "", "dryrun": true})),
        ("rules/sales/pause", json!({"cancel": true})),
        ("rules/sales/rollback", json!({"version": 1, "dry_run": true})),
        ("dead-letters/replay", json!({"ids": [], "dryrun": true})),
        ("reveal", json!({"what": "event", "id": "e", "why": "x"})),
        ("seal", json!({"value": "x", "of": "y"})),
    ] {
        let request = desk
            .client
            .post(format!("{}/api/v1/{path}", desk.url))
            .body(body.to_string());
        let answer = desk
            .send(request, &[("content-type", "application/json"), ("if-match", "\"1\"")])
            .await;
        assert_eq!(answer.status, 422, "{path}: {}", answer.text);
        assert!(detail(&answer).contains("unknown field"), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_rule_named_as_an_address_of_the_desk_is_reached_and_not_made_here() {
    // Every word that stands where others have an id.
    let mut words: Vec<String> = operations()
        .into_iter()
        .filter_map(|(_, path, _)| path.strip_prefix("/api/v1/rules/").map(str::to_owned))
        .chain(
            [include_str!("page/rules.rs"), include_str!("page/rule.rs")]
                .into_iter()
                .flat_map(|source| source.split("\"/rules/").skip(1))
                .filter_map(|rest| rest.split('"').next().map(str::to_owned)),
        )
        .filter(|word| !word.contains('{') && !word.contains('/'))
        .collect();
    words.sort();
    words.dedup();
    assert!(
        words.len() >= 9 && words.iter().all(|word| rules::is_own_word(word)),
        "{words:?}"
    );

    let desk = Desk::open(json!({})).await;
    let first = desk.get("/nowhere", &[]).await;
    let (cookie, csrf) = (first.cookie(), first.csrf());
    for word in words {
        let step = rules::step(&word);
        assert!(step.starts_with('%') && step.ends_with(&word[1..]), "{step}");
        let answer = desk.get(&format!("/api/v1/rules/{step}"), &[]).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
        assert!(detail(&answer).contains(&word), "{}", answer.text);
        let page = desk.get(&format!("/rules/{step}"), &[]).await;
        assert_eq!(page.status, 404, "{}", page.text);
        assert!(
            page.text.contains(&format!("There is no rule {word} in force")),
            "{}",
            page.text
        );
        // Who asks without knowing is told.
        let request = desk.client.delete(format!("{}/api/v1/rules/{word}", desk.url));
        let answer = desk.send(request, &[("if-match", "\"1\"")]).await;
        if answer.status == 405 {
            assert!(
                detail(&answer).contains(&format!("/api/v1/rules/{step}")),
                "{}",
                answer.text
            );
        }
        let rule = json!({
            "id": word, "trigger": "lms.lead_sold", "scope": {"level": "product", "id": "12"},
            "action": {"type": "slack_message", "token": {"secret": "bot"}, "to": {"channel": "C1"}, "text": "sold"},
        });
        let body = json!({"rule": rule}).to_string();
        let request = desk
            .client
            .post(format!("{}/api/v1/rules/validate", desk.url))
            .body(body);
        let answer = desk.send(request, &[("content-type", "application/json")]).await;
        let answer: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(answer["errors"][0]["path"], "id", "{answer}");
        assert!(
            answer["errors"][0]["message"]
                .as_str()
                .unwrap()
                .contains("leadlane rules apply"),
            "{answer}"
        );
        // A form that gives no id of its own gets another one by its name.
        let fields = [("csrf", &*csrf), ("name", &*word)];
        let form = desk.post("/rules/new", &[("cookie", &*cookie)], &fields).await;
        assert!(form.text.contains(&format!("value=\"{word}-rule\"")), "{}", form.text);
    }
    assert_eq!(rules::step("new-rule"), "new-rule");
}

#[tokio::test]
async fn json_may_be_in_utf_16() {
    let desk = Desk::open(json!({})).await;
    let url = format!("{}/api/v1/rules/validate", desk.url);
    let text = r#"{"yaml": "id: ä"}"#;
    let units = |mark: &[u8]| -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        mark.iter().copied().chain(units).collect()
    };
    for (body, wanted) in [
        (units(b"\xFF\xFE"), 200),
        ([b"\xEF\xBB\xBF", text.as_bytes()].concat(), 200),
        (units(b""), 400),
    ] {
        let request = desk.client.post(&url).body(body);
        let answer = desk.send(request, &[("content-type", "application/json")]).await;
        assert_eq!(answer.status, wanted, "{}", answer.text);
        assert_eq!(
            answer.text.contains("UTF-16 without a byte order mark"),
            wanted == 400,
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn rules_come_in_by_a_plain_form() {
    let desk = Desk::open(json!({})).await;
    let page = desk.get("/rules/import", &[]).await;
    let (cookie, csrf) = (page.cookie(), page.csrf());
    // The field to type in needs no script, and what asks for a file is hidden without one.
    assert!(
        page.text
            .contains(r#"<form class="stack" method="post" action="/rules/import">"#),
        "{}",
        page.text
    );
    assert!(page.text.contains(r#"name="yaml""#) && page.text.contains(r#"data-file="yaml" hidden"#));
    let text = "id: sales\nname: Sales\ntrigger: lms.lead_sold\n";
    let fields = [("csrf", &*csrf), ("yaml", text), ("do", "look")];
    let answer = desk.post("/rules/import", &[("cookie", &cookie)], &fields).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(
        answer.text.contains("Nothing was taken") && answer.text.contains(text),
        "{}",
        answer.text
    );
    // Each fault has its own line, not the rule's first.
    let text = "- id: sales\n  trigger: lms.lead_sold\n  scope: {level: product, id: \"1\"}\n  action:\n    type: slack_message\n    \
                token: {secret: t}\n    to: {chanel: C0123ABCD}\n    text: hi\n";
    let fields = [("csrf", &*csrf), ("yaml", text), ("do", "look")];
    let answer = desk.post("/rules/import", &[("cookie", &cookie)], &fields).await;
    assert!(answer.text.contains("(line 7, column 10)"), "{}", answer.text);
}

#[tokio::test]
async fn a_channel_and_a_member_have_their_names_of_slack() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::default();
    config.slack.api_url = format!("http://{}/api", listener.local_addr().unwrap()).into();
    let sandbox = Sandbox::new(Settings::default());
    tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
    let desk = Desk::of(config).await;
    let first = desk.get("/nowhere", &[]).await;
    let (cookie, csrf) = (first.cookie(), first.csrf());
    let ask = async |kind: &str, id: &str, token: &str, is_htmx: bool| {
        let fields = [
            ("csrf", &*csrf),
            ("action.type", "slack_message"),
            ("action.token.secret", token),
            ("action.to.kind", kind),
            ("action.to.id", id),
        ];
        let headers = [("cookie", &*cookie), ("hx-request", "true"), ("hx-target", "receiver")];
        let headers = if is_htmx { &headers[..] } else { &headers[..1] };
        desk.post("/rules/new/receiver", headers, &fields).await.text
    };
    assert_eq!(
        ask("channel", "C0SALES", "sales-bot", true).await,
        "This is <b>#c0sales</b> in Slack."
    );
    assert_eq!(
        ask("member", "U0ANNA", "sales-bot", true).await,
        "This is <b>u0anna</b> in Slack."
    );
    let none = ask("channel", "C0NOPE", "sales-bot", true).await;
    assert!(none.contains("no such channel"), "{none}");
    // It is asked for once.
    ask("channel", "C0SALES", "sales-bot", true).await;
    let asked = sandbox
        .log()
        .iter()
        .filter(|arrival| arrival.method == "conversations.info")
        .count();
    assert_eq!(asked, 2);
    // Without scripts the whole page comes, with what is known, in the preview as well.
    let page = ask("channel", "C0SALES", "sales-bot", false).await;
    assert!(
        page.contains("<html") && page.contains("This is <b>#c0sales</b>"),
        "{page}"
    );
    // A secret that isn't there leaves the id alone, and says nothing of where secrets are.
    let without = ask("channel", "C0SALES", "nobody", true).await;
    assert!(without.contains("where the app may read it"), "{without}");
}
