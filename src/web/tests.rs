//! The guard, as browsers and programs meet it: over real connections.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::header::HeaderMap;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::admin::{self, Admin, Readiness};
use crate::metrics::Metrics;
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
        let config = Config {
            admin: serde_json::from_value(admin).unwrap(),
            ..Config::default()
        };
        let secrets = Secrets::looking_up(|_, name| match name.as_str() {
            "desk-ana" if CHANGED.load(Ordering::Relaxed) => Ok(Secret::new("changed")),
            "desk-ana" => Ok(Secret::new("right")),
            "desk-vera" => Ok(Secret::new("viewer")),
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
