//! Everything over real HTTP. Time is paused: it moves only by `advance`, or to the next timer when all is idle.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

use super::*;

const TOKEN: &str = "xoxb-1234-sales-bot-token";
const PASSCODE: &str = "passcode-of-acme";

/// A sandbox that is served, and a client without timers of its own.
struct Served {
    sandbox: Sandbox,
    address: String,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

async fn served() -> Served {
    serve(Settings::default()).await
}

/// Without the rates, for what is not about them.
async fn unlimited() -> Served {
    let none = Rate::new(0, Duration::from_secs(1));
    serve(Settings {
        channel_rate: none,
        webhook_rate: none,
        workspace_rate: none,
        method_rate: none,
        ..Settings::default()
    })
    .await
}

async fn serve(settings: Settings) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sandbox = Sandbox::new(settings);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        stopped.await.ok();
    };
    let server = tokio::spawn(sandbox.clone().serve(listener, shutdown));
    let client = Client::builder().pool_idle_timeout(None).no_proxy().build().unwrap();
    Served {
        sandbox,
        address,
        client,
        stop: Some(stop),
        server,
    }
}

impl Served {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn control(&self, path: &str, order: Value) -> Value {
        let answer = self.client.post(self.url(path)).json(&order).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{order}");
        answer.json().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.client
            .get(self.url(path))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    fn slack(&self, method: &str, body: &Value) -> RequestBuilder {
        let request = self.client.post(self.url(&format!("/api/{method}"))).bearer_auth(TOKEN);
        request
            .header("content-type", "application/json; charset=utf-8")
            .body(body.to_string())
    }

    async fn call(&self, method: &str, body: Value) -> Value {
        let answer = self.slack(method, &body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    async fn post(&self, channel: &str, text: &str) -> Response {
        self.slack("chat.postMessage", &json!({"channel": channel, "text": text}))
            .send()
            .await
            .unwrap()
    }

    fn webhook(&self, last: &str) -> RequestBuilder {
        self.client
            .post(self.url(&format!("/services/T1/B1/{last}")))
            .json(&json!({"text": "hello"}))
    }

    fn upload(&self, records: &Value) -> RequestBuilder {
        self.upload_to("/1/upload", records)
    }

    fn upload_to(&self, path: &str, records: &Value) -> RequestBuilder {
        let request = self.client.post(self.url(path)).json(&json!({"d": records}));
        request
            .header("X-CleverTap-Account-Id", "ACME")
            .header("X-CleverTap-Passcode", PASSCODE)
    }

    async fn counts(&self, target: &str) -> Counts {
        let summary = self.sandbox.summary();
        summary
            .into_iter()
            .find(|(name, _)| name.as_ref() == target)
            .map(|(_, counts)| counts)
            .unwrap_or_default()
    }

    /// Lets the others run until so many requests to the target are in flight; they are on their way, so they will be.
    async fn until_in_flight(&self, target: &str, in_flight: u64) {
        while self.counts(target).await.in_flight != in_flight {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        drop(self.client);
        self.server.await.unwrap().unwrap();
    }
}

fn profile(identity: &str) -> Value {
    json!({"type": "profile", "identity": identity, "profileData": {"Name": "Ana"}})
}

fn event(name: &str, properties: Value) -> Value {
    json!({"type": "event", "identity": "ana", "ts": 1_772_723_760, "evtName": name, "evtData": properties})
}

#[tokio::test(start_paused = true)]
async fn a_message_arrives_and_is_logged() {
    let served = served().await;
    let body = json!({"channel": "C0123ABCD", "text": "Lead 1 sold", "unfurl_links": false});
    let request = served
        .slack("chat.postMessage", &body)
        .header("traceparent", "00-aa-bb-01");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-accepted-oauth-scopes"], "chat:write");
    assert!(
        answer.headers()["x-oauth-scopes"]
            .to_str()
            .unwrap()
            .contains("chat:write.public")
    );
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["channel"], "C0123ABCD");
    assert_eq!(answer["message"]["text"], "Lead 1 sold");
    let (seconds, fraction) = answer["ts"].as_str().unwrap().split_once('.').unwrap();
    assert_eq!((seconds.len(), fraction.len()), (10, 6));

    let log = served.get("/_sandbox/log").await;
    let arrival = &log[0];
    assert_eq!(arrival["seq"], 1);
    assert_eq!(arrival["kind"], "slack_message");
    assert_eq!(arrival["target"], "C0123ABCD");
    assert_eq!(arrival["workspace"], "T1234");
    assert_eq!(arrival["accepted"], true);
    assert_eq!(arrival["status"], 200);
    assert_eq!(arrival["text"], "Lead 1 sold");
    assert_eq!(arrival["arguments"], json!({"unfurl_links": false}));
    assert_eq!(arrival["ts"], answer["ts"]);
    assert_eq!(arrival["traceparent"], "00-aa-bb-01");
    assert_eq!(arrival["inside_retry_after"], false);
    arrival["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(!log.to_string().contains(TOKEN));
}

/// A block with a text of so many characters.
fn section(chars: usize) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": "ü".repeat(chars)}})
}

#[tokio::test(start_paused = true)]
async fn wrong_blocks_are_named() {
    let served = unlimited().await;
    let fields = |count: usize, chars: usize| json!({"type": "section", "fields": vec![json!({"type": "mrkdwn", "text": "x".repeat(chars)}); count]});
    for (block, words) in [
        (section(3_000), ""),
        (fields(10, 100), ""),
        (
            section(3_001),
            "must be less than 3001 characters [json-pointer:/blocks/1/text/text]",
        ),
        (
            fields(11, 1),
            "no more than 10 items allowed [json-pointer:/blocks/1/fields]",
        ),
        (
            fields(2, 2_001),
            "must be less than 2001 characters [json-pointer:/blocks/1/fields/0/text]",
        ),
        (
            json!({"type": "markdown", "text": "x".repeat(12_001)}),
            "must be less than 12001 characters [json-pointer:/blocks/1/text]",
        ),
        (
            json!({"text": "x"}),
            "missing required field: type [json-pointer:/blocks/1]",
        ),
    ] {
        let blocks = json!([{"type": "divider"}, block]);
        let answer = served
            .call("chat.postMessage", json!({"channel": "C1", "blocks": blocks}))
            .await;
        let webhook = served
            .webhook("blocks")
            .json(&json!({"blocks": blocks}))
            .send()
            .await
            .unwrap();
        if words.is_empty() {
            assert_eq!((&answer["ok"], webhook.status().as_u16()), (&json!(true), 200));
        } else {
            assert_eq!(
                (&answer["error"], &answer["errors"]),
                (&json!("invalid_blocks"), &json!([words]))
            );
            assert_eq!(webhook.text().await.unwrap(), "invalid_blocks");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_has_what_a_text_mentions() {
    let served = unlimited().await;
    for (text, mentions) in [
        (
            "<!here> <@U1|Ana>, see <#C1> and <https://x.example|x>",
            &["!here", "@U1", "#C1"][..],
        ),
        ("&lt;!here&gt; @channel <!", &[]),
        ("a < b <!channel>", &["!channel"]),
    ] {
        served.post("C1", text).await;
        served
            .webhook("hook")
            .json(&json!({"text": text}))
            .send()
            .await
            .unwrap();
        for arrival in served.sandbox.log().iter().rev().take(2) {
            let found: Vec<&str> = arrival.mentions.iter().map(|mention| &**mention).collect();
            assert_eq!(found, mentions, "{text}");
        }
    }
}

/// What a message may not hold, and the error.
fn message_refusals() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"channel": "C1", "blocks": "x"}), "invalid_blocks_format"),
        (
            json!({"channel": "C1", "blocks": vec![section(3000); 5]}),
            "msg_blocks_too_long",
        ),
        (
            json!({"channel": "C1", "text": "x", "markdown_text": "x"}),
            "markdown_text_conflict",
        ),
        (
            json!({"channel": "C1", "markdown_text": "x".repeat(12_001)}),
            "msg_too_long",
        ),
        (
            json!({"channel": "C1", "attachments": vec![json!({"text": "x"}); 101]}),
            "too_many_attachments",
        ),
    ]
}

/// Method, arguments, error.
fn slack_refusals() -> Vec<(&'static str, Value, &'static str)> {
    let blocks: Vec<Value> = (0..51).map(|_| json!({"type": "divider"})).collect();
    vec![
        (
            "chat.postMessage",
            json!({"channel": "CNOPE1", "text": "x"}),
            "channel_not_found",
        ),
        (
            "chat.postMessage",
            json!({"channel": "#sales", "text": "x"}),
            "channel_not_found",
        ),
        (
            "chat.postMessage",
            json!({"channel": "X012", "text": "x"}),
            "channel_not_found",
        ),
        (
            "chat.postMessage",
            json!({"channel": "C0GONE", "text": "x"}),
            "channel_not_found",
        ),
        ("chat.postMessage", json!({"text": "x"}), "channel_not_found"),
        (
            "chat.postMessage",
            json!({"channel": "C0ARCHIVED", "text": "x"}),
            "is_archived",
        ),
        ("chat.postMessage", json!({"channel": "C1"}), "no_text"),
        ("chat.postMessage", json!({"channel": "C1", "text": " \n"}), "no_text"),
        (
            "chat.postMessage",
            json!({"channel": "C1", "text": 5}),
            "invalid_arguments",
        ),
        (
            "chat.postMessage",
            json!({"channel": "C1", "blocks": blocks}),
            "invalid_blocks",
        ),
        ("chat.postMessage", json!(["C1"]), "json_not_object"),
        ("conversations.open", json!({"users": "UNOPE"}), "user_not_found"),
        ("conversations.open", json!({"users": ""}), "users_list_not_supplied"),
        (
            "conversations.open",
            json!({"users": "U1,U2,U3,U4,U5,U6,U7,U8,U9"}),
            "too_many_users",
        ),
        (
            "conversations.join",
            json!({"channel": "D1"}),
            "method_not_supported_for_channel_type",
        ),
        ("conversations.info", json!({"channel": "CNOPE"}), "channel_not_found"),
        ("users.info", json!({"user": "C1"}), "user_not_found"),
        ("chat.mePlease", json!({}), "unknown_method"),
    ]
}

#[tokio::test(start_paused = true)]
async fn slack_refuses_as_it_does() {
    let served = unlimited().await;
    served
        .control("/_sandbox/channels", json!({"channel": "C0ARCHIVED", "archived": true}))
        .await;
    served
        .control("/_sandbox/channels", json!({"channel": "C0GONE", "exists": false}))
        .await;
    let messages = message_refusals().into_iter();
    let messages = messages.map(|(message, error)| ("chat.postMessage", message, error));
    for (method, body, error) in slack_refusals().into_iter().chain(messages) {
        let answer = served.call(method, body.clone()).await;
        assert_eq!(
            (&answer["ok"], &answer["error"]),
            (&json!(false), &json!(error)),
            "{method} {body}"
        );
    }
    let refused = served.sandbox.log().iter().filter(|arrival| !arrival.accepted).count();
    assert_eq!(refused, 23);

    let malformed = served
        .slack("chat.postMessage", &json!({}))
        .body("{\"channel\":")
        .send()
        .await
        .unwrap();
    assert_eq!(malformed.json::<Value>().await.unwrap()["error"], "invalid_json");
    let untyped = served
        .client
        .post(served.url("/api/chat.postMessage"))
        .bearer_auth(TOKEN)
        .body("x");
    assert_eq!(
        untyped.send().await.unwrap().json::<Value>().await.unwrap()["error"],
        "missing_post_type"
    );
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn tokens_are_judged_and_recover() {
    let served = unlimited().await;
    let test = async |token: &str| -> Value {
        let request = served.client.post(served.url("/api/auth.test")).bearer_auth(token);
        request.send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(test("").await["error"], "not_authed");
    assert_eq!(test("xoxa-1").await["error"], "invalid_auth");
    assert_eq!(test("xoxb-invalid").await["error"], "invalid_auth");
    let identity = test("xoxp-777-user").await;
    assert_eq!((&identity["ok"], &identity["team_id"]), (&json!(true), &json!("T777")));
    assert_ne!(test("xoxb-one").await["team_id"], test("xoxb-two").await["team_id"]);

    served
        .control(
            "/_sandbox/credentials",
            json!({"token": TOKEN, "refused": true, "error": "token_revoked"}),
        )
        .await;
    assert_eq!(test(TOKEN).await["error"], "token_revoked");
    served
        .control("/_sandbox/credentials", json!({"token": TOKEN, "refused": false}))
        .await;
    assert_eq!(test(TOKEN).await["ok"], true);

    served
        .sandbox
        .order(FaultOrder {
            error: Some("missing_scope".to_owned()),
            times: Some(1),
            token: Some(Fingerprint::of(TOKEN)),
            ..FaultOrder::new("chat.postMessage", FaultKind::Error)
        })
        .unwrap();
    let answer = served.post("C1", "x").await;
    assert_eq!(answer.headers()["x-oauth-scopes"], "emoji:read");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(
        (&answer["needed"], &answer["provided"]),
        (&json!("chat:write"), &json!("emoji:read"))
    );
    assert_eq!(
        served
            .call("chat.postMessage", json!({"channel": "C1", "text": "x"}))
            .await["ok"],
        true
    );
}

#[tokio::test(start_paused = true)]
async fn forms_are_read_and_a_missing_charset_is_mentioned() {
    let served = unlimited().await;
    let form = served.client.post(served.url("/api/chat.postMessage"));
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let body = format!("token={TOKEN}&channel=C1&text=50%25+off+%26+more&blocks=%5B%5D");
    let answer: Value = form.body(body).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["message"]["text"], "50% off & more");
    assert_eq!(answer.get("warning"), None);
    let log = served.sandbox.log();
    assert_eq!(log[0].arguments.as_ref().unwrap().get(), r#"{"blocks":[]}"#);

    let answer = served.client.post(served.url("/api/chat.postMessage"));
    let answer = answer
        .json(&json!({"token": TOKEN, "channel": "C1", "text": "x"}))
        .send()
        .await;
    let answer: Value = answer.unwrap().json().await.unwrap();
    assert_eq!(answer["error"], "not_authed", "JSON brings its token in the header");

    let plain = served
        .client
        .post(served.url("/api/chat.postMessage"))
        .bearer_auth(TOKEN);
    let answer: Value = plain
        .json(&json!({"channel": "C1", "text": "x"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["warning"], "missing_charset");
    assert_eq!(answer["response_metadata"]["warnings"], json!(["missing_charset"]));
}

#[tokio::test(start_paused = true)]
async fn members_have_direct_channels() {
    let served = unlimited().await;
    for (member, direct) in [("U0123ABCD", "D0123ABCD"), ("W0456", "D0456")] {
        let answer = served
            .call("chat.postMessage", json!({"channel": member, "text": "x"}))
            .await;
        assert_eq!(answer["channel"], direct);
        assert_eq!(
            served.call("conversations.open", json!({"users": member})).await["channel"]["id"],
            direct
        );
    }
    let group = served.call("conversations.open", json!({"users": ["U1", "U2"]})).await;
    assert!(group["channel"]["id"].as_str().unwrap().starts_with('G'));
    let arrival = &served.sandbox.log()[0];
    assert_eq!(
        (arrival.target.as_ref(), arrival.channel.as_deref()),
        ("U0123ABCD", Some("D0123ABCD"))
    );
    assert_eq!(
        served.call("users.info", json!({"user": "U0123ABCD"})).await["user"]["id"],
        "U0123ABCD"
    );
    let channel = served.call("conversations.info", json!({"channel": "C0SALES"})).await;
    assert_eq!(channel["channel"]["name"], "c0sales", "{channel}");
}

#[tokio::test(start_paused = true)]
async fn a_direct_channel_may_have_to_be_opened_first() {
    let served = unlimited().await;
    let order = json!({"channel": "U0123ABCD", "open": false});
    served.control("/_sandbox/channels", order).await;
    let message = |channel: &str| json!({"channel": channel, "text": "Hi"});
    for channel in ["U0123ABCD", "D0123ABCD"] {
        let refused = served.call("chat.postMessage", message(channel)).await;
        assert_eq!(refused["error"], "channel_not_found", "{channel}");
    }
    let another = served.call("chat.postMessage", message("U0OTHER")).await;
    assert_eq!(another["ok"], true);

    let opened = served.call("conversations.open", json!({"users": "U0123ABCD"})).await;
    assert_eq!(opened["channel"]["id"], "D0123ABCD");
    for channel in ["D0123ABCD", "U0123ABCD"] {
        let taken = served.call("chat.postMessage", message(channel)).await;
        assert_eq!(taken["channel"], "D0123ABCD", "{channel}");
    }

    let gone = json!({"channel": "U0123ABCD", "exists": false});
    served.control("/_sandbox/channels", gone).await;
    let opened = served.call("conversations.open", json!({"users": "U0123ABCD"})).await;
    assert_eq!(opened["error"], "user_not_found");
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_has_the_scopes_that_it_is_given() {
    let served = unlimited().await;
    let scopes = json!({"token": TOKEN, "scopes": "chat:write, im:write"});
    served.control("/_sandbox/credentials", scopes).await;
    let identity = served.slack("auth.test", &json!({})).send().await.unwrap();
    assert_eq!(identity.headers()["x-oauth-scopes"], "chat:write, im:write");
    let identity: Value = identity.json().await.unwrap();
    assert_eq!(
        (&identity["team"], &identity["user"]),
        (&json!("Sandbox"), &json!("sandbox"))
    );
    assert_eq!(served.post("C1", "Hi").await.json::<Value>().await.unwrap()["ok"], true);
    let refused = served.call("conversations.join", json!({"channel": "C1"})).await;
    assert_eq!(refused["error"], "missing_scope");
    assert_eq!(refused["needed"], "channels:join");
    assert_eq!(refused["provided"], "chat:write, im:write");

    let all = json!({"token": TOKEN, "scopes": "all"});
    served.control("/_sandbox/credentials", all).await;
    let joined = served.call("conversations.join", json!({"channel": "C1"})).await;
    assert_eq!(joined["ok"], true);
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_logged_with_what_it_replies_to() {
    let served = unlimited().await;
    let first = served
        .call("chat.postMessage", json!({"channel": "C1", "text": "One"}))
        .await;
    let reply = json!({"channel": "C1", "text": "Two", "thread_ts": first["ts"]});
    let reply = served.call("chat.postMessage", reply).await;
    assert_eq!(reply["message"]["thread_ts"], first["ts"]);
    let log = served.get("/_sandbox/log").await;
    assert_eq!((&log[0]["ts"], &log[0]["thread_ts"]), (&first["ts"], &Value::Null));
    assert_eq!(log[1]["thread_ts"], first["ts"]);
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_for_many_arrivals_keeps_the_newest_without_their_texts() {
    let served = unlimited().await;
    for number in 0..4 {
        served.post("C1", &number.to_string()).await;
    }
    served.control("/_sandbox/log", json!({"max": 3})).await;
    let numbers = async || -> Vec<u64> {
        let log = served.get("/_sandbox/log").await;
        let arrivals = log.as_array().unwrap().iter();
        arrivals.map(|arrival| arrival["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers().await, [2, 3, 4]);

    served.control("/_sandbox/log", json!({"texts": false})).await;
    let reply = json!({"channel": "C1", "text": "Ana", "thread_ts": "1503435956.000247", "unfurl_links": false});
    served.call("chat.postMessage", reply).await;
    served.webhook("sales").send().await.unwrap();
    served.upload(&json!([profile("ana")])).send().await.unwrap();
    assert_eq!(numbers().await, [6, 7, 8]);
    let log = served.sandbox.log_since(4);
    assert!(
        log.iter()
            .all(|arrival| arrival.text.is_none() && arrival.arguments.is_none() && arrival.record.is_none())
    );
    served.control("/_sandbox/log", json!({"max": 0})).await;
    served.post("C1", "x").await;
    assert!(numbers().await.is_empty());
    // What is counted doesn't need the log.
    assert_eq!(served.counts("C1").await.accepted, 6);
    assert_eq!(served.counts("ACME").await.accepted, 1);

    served.control("/_sandbox/reset", json!({})).await;
    served.post("C1", "x").await;
    assert_eq!(served.sandbox.log()[0].text.as_deref(), Some("x"));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn channels_are_joined_where_they_can_be() {
    let served = unlimited().await;
    served
        .control("/_sandbox/channels", json!({"channel": "C0OPEN", "joined": false}))
        .await;
    served
        .control(
            "/_sandbox/channels",
            json!({"channel": "C0CLOSED", "joined": false, "joinable": false}),
        )
        .await;
    for (channel, joined) in [
        ("C0OPEN", json!(null)),
        ("C0CLOSED", json!("method_not_supported_for_channel_type")),
    ] {
        let message = json!({"channel": channel, "text": "x"});
        assert_eq!(
            served.call("chat.postMessage", message.clone()).await["error"],
            "not_in_channel"
        );
        assert_eq!(
            served.call("conversations.join", json!({"channel": channel})).await["error"],
            joined
        );
        assert_eq!(served.call("chat.postMessage", message).await["ok"], joined.is_null());
    }
    let again = served.call("conversations.join", json!({"channel": "C0OPEN"})).await;
    assert_eq!(again["warning"], "already_in_channel");
}

#[tokio::test(start_paused = true)]
async fn history_reads_back_what_was_accepted() {
    let served = unlimited().await;
    let first = served
        .call("chat.postMessage", json!({"channel": "U1", "text": "one"}))
        .await;
    served
        .call("chat.postMessage", json!({"channel": "C1", "text": "elsewhere"}))
        .await;
    served
        .call("chat.postMessage", json!({"channel": "D1", "text": " "}))
        .await;
    served
        .call(
            "chat.postMessage",
            json!({"channel": "D1", "text": "two", "thread_ts": first["ts"]}),
        )
        .await;
    let texts = |history: &Value| -> Vec<String> {
        let messages = history["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["text"].as_str().unwrap().to_owned())
            .collect()
    };
    let history = served.call("conversations.history", json!({"channel": "D1"})).await;
    assert_eq!(texts(&history), ["two", "one"]);
    assert_eq!(history["has_more"], false);
    assert_eq!(history["messages"][0]["thread_ts"], first["ts"]);
    let page = served
        .call("conversations.history", json!({"channel": "D1", "limit": 1}))
        .await;
    assert_eq!(
        (texts(&page), &page["has_more"]),
        (vec!["two".to_owned()], &json!(true))
    );
    let newer = served
        .call("conversations.history", json!({"channel": "D1", "oldest": first["ts"]}))
        .await;
    assert_eq!(texts(&newer), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn long_texts_are_split_and_cut_without_a_word() {
    let served = unlimited().await;
    for (chars, stored) in [
        (4_040, vec![4_040]),
        (4_041, vec![41, 4_000]),
        (40_001, vec![4_000; 10]),
    ] {
        let channel = format!("C{chars}");
        let answer = served
            .call(
                "chat.postMessage",
                json!({"channel": channel, "text": "ü".repeat(chars)}),
            )
            .await;
        assert_eq!(answer["ok"], true);
        let history = served.call("conversations.history", json!({"channel": channel})).await;
        let lengths = history["messages"].as_array().unwrap().iter();
        let lengths: Vec<usize> = lengths
            .map(|message| message["text"].as_str().unwrap().chars().count())
            .collect();
        assert_eq!(lengths, stored, "{chars}");
        assert_eq!(
            history["messages"].as_array().unwrap().last().unwrap()["ts"],
            answer["ts"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_takes_one_message_a_second() {
    let served = served().await;
    assert_eq!(served.post("C1", "first").await.status(), 200);
    advance(Duration::from_millis(400)).await;
    let answer = served.post("C1", "too early").await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(
        answer.json::<Value>().await.unwrap(),
        json!({"ok": false, "error": "rate_limited"})
    );
    assert_eq!(served.post("C2", "another channel").await.status(), 200);
    let request = served
        .client
        .post(served.url("/api/chat.postMessage"))
        .bearer_auth("xoxb-99-other");
    assert_eq!(
        request
            .json(&json!({"channel": "C1", "text": "x"}))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );

    // The rate would allow it at 1.0 s, but the client has to wait until 1.4 s.
    advance(Duration::from_millis(800)).await;
    assert_eq!(served.post("C1", "inside").await.status(), 429);
    advance(Duration::from_millis(999)).await;
    assert_eq!(served.post("C1", "still inside").await.status(), 429);
    advance(Duration::from_millis(1_000)).await;
    assert_eq!(served.post("C1", "obeyed").await.status(), 200);

    let log = served.sandbox.log();
    let inside: Vec<&str> = log
        .iter()
        .filter(|arrival| arrival.inside_retry_after)
        .map(|arrival| arrival.text.as_deref().unwrap())
        .collect();
    assert_eq!(inside, ["inside", "still inside"]);
    let counts = served.counts("C1").await;
    assert_eq!(
        (counts.accepted, counts.rate_limited, counts.violations, counts.refused),
        (3, 3, 2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn limits_are_ordered_by_name() {
    let served = served().await;
    served
        .control("/_sandbox/limits", json!({"channel": "C1", "rate": "0"}))
        .await;
    served
        .control("/_sandbox/limits", json!({"channel": "U2", "rate": "1/s", "burst": 3}))
        .await;
    for _ in 0..5 {
        assert_eq!(served.post("C1", "x").await.status(), 200);
    }
    // A burst of three, and then its silence of three seconds.
    let mut statuses = Vec::new();
    for wait in [0, 0, 500, 0, 3_000] {
        advance(Duration::from_millis(wait)).await;
        statuses.push(served.post("U2", "x").await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 429, 200]);

    served
        .control("/_sandbox/limits", json!({"workspace": "T1234", "rate": "2/m"}))
        .await;
    served.control("/_sandbox/reset", json!({})).await;
    served
        .control("/_sandbox/limits", json!({"workspace": "*", "rate": "2/m"}))
        .await;
    assert_eq!(served.post("C3", "x").await.status(), 200);
    assert_eq!(served.post("C4", "x").await.status(), 200);
    let answer = served.post("C5", "x").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"60".parse().unwrap())
    );
    assert_eq!(answer.json::<Value>().await.unwrap()["error"], "ratelimited");
    assert_eq!(served.post("C6", "x").await.status(), 429);
    assert!(served.sandbox.log().last().unwrap().inside_retry_after);

    served
        .control("/_sandbox/limits", json!({"method": "users.info", "rate": "1/m"}))
        .await;
    let info = async || {
        served
            .slack("users.info", &json!({"user": "U1"}))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((info().await, info().await), (200, 429));
}

#[tokio::test(start_paused = true)]
async fn the_workspace_ceiling_holds_over_all_channels() {
    let served = served().await;
    for number in 0..300 {
        assert_eq!(served.post(&format!("C{number}"), "x").await.status(), 200);
    }
    assert_eq!(served.post("C300", "x").await.status(), 429);
    advance(Duration::from_secs(60)).await;
    assert_eq!(served.post("C300", "x").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn webhooks_answer_in_plain_text() {
    let served = served().await;
    let secret = "Zk7dPqLw9XyT2bNm4VcR8sJh";
    let answer = served.webhook(secret).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
        (200, "ok")
    );
    let answer = served.webhook(secret).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    assert_eq!(served.webhook("other").send().await.unwrap().status(), 200);
    let log = served.sandbox.log();
    assert!(!format!("{log:?}").contains(secret));
    assert_eq!(log[0].target.len(), 8);
    assert_eq!(log[2].target.as_ref(), "other");

    let cases = [
        ("x1", "{\"text\":", 400, "invalid_payload"),
        ("x2", "{\"text\":\"\"}", 400, "no_text"),
        ("x3", "{\"text\":5}", 400, "invalid_payload"),
        ("x4", "{\"text\":\"x\",\"blocks\":{}}", 400, "invalid_blocks"),
        ("action_prohibited", "{\"text\":\"x\"}", 403, "action_prohibited"),
        ("no_service", "{\"text\":\"x\"}", 404, "no_service"),
        ("channel_is_archived", "{\"text\":\"x\"}", 410, "channel_is_archived"),
        ("rollup_error", "{\"text\":\"x\"}", 500, "rollup_error"),
        ("x3/too/long", "{\"text\":\"x\"}", 404, "no_service"),
    ];
    for (last, body, status, words) in cases {
        let answer = served.webhook(last).body(body).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (status, words),
            "{last}"
        );
    }
    let form = served.client.post(served.url("/services/T1/B1/form"));
    let form = form
        .header("content-type", "application/x-www-form-urlencoded")
        .body("payload=%7B%22text%22%3A%22hi%22%7D");
    assert_eq!(form.send().await.unwrap().status(), 200);
    assert_eq!(served.sandbox.log().last().unwrap().text.as_deref(), Some("hi"));

    served
        .control(
            "/_sandbox/credentials",
            json!({"webhook": served.url("/services/T1/B1/gone"), "refused": true}),
        )
        .await;
    assert_eq!(served.webhook("gone").send().await.unwrap().status(), 404);
    let order = json!({"target": "other", "kind": "error", "error": "channel_is_archived"});
    served.control("/_sandbox/faults", order).await;
    advance(Duration::from_secs(2)).await;
    assert_eq!(served.webhook("other").send().await.unwrap().status(), 410);
}

#[tokio::test(start_paused = true)]
async fn clevertap_takes_good_records_and_names_the_bad_ones() {
    let served = served().await;
    let good: Value = served
        .upload(&json!([profile("ana")]))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(good, json!({"status": "success", "processed": 1, "unprocessed": []}));

    let bad = json!({"type": "profile", "identity": 42, "profileData": {"Email": "1234", "Phone": "+35922333232"}});
    let answer: Value = served
        .upload(&json!([profile("ana"), bad, event("Lead sold", json!({}))]))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&answer["status"], &answer["processed"]),
        (&json!("partial"), &json!(2))
    );
    let unprocessed = &answer["unprocessed"][0];
    assert_eq!(
        (&unprocessed["status"], &unprocessed["code"]),
        (&json!("fail"), &json!(515))
    );
    assert!(
        unprocessed["error"]
            .as_str()
            .unwrap()
            .ends_with("Skipped record number : 2"),
        "{unprocessed}"
    );
    assert_eq!(unprocessed["record"]["identity"], "42");
    assert_eq!(unprocessed["record"]["profileData"]["Phone"], json!(35_922_333_232_u64));

    let failed: Value = served
        .upload(&json!([{"type": "lead"}]))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&failed["status"], &failed["processed"]), (&json!("fail"), &json!(0)));

    let log = served.get("/_sandbox/log?since=2").await;
    assert_eq!(log[0]["kind"], "clevertap_request");
    assert_eq!(log[0]["records"], 3);
    assert_eq!(log[1]["record"], profile("ana"));
    assert_eq!(log[2]["error"], "515");
    assert_eq!((&log[2]["request"], &log[2]["accepted"]), (&json!(3), &json!(false)));
    assert!(!log.to_string().contains(PASSCODE));
    let counts = served.counts("ACME").await;
    assert_eq!((counts.requests, counts.accepted, counts.refused), (3, 3, 2));
}

/// Records with the code that refuses them, 0 where none does.
fn of(name: &str, value: Value) -> Value {
    json!({"type": "profile", "identity": "a", "profileData": {name: value}})
}

fn operators_and_codes() -> Vec<(Value, u16)> {
    vec![
        (of("Interests", json!({"$add": "a"})), 512),
        (of("Interests", json!({"$remove": [1]})), 512),
        (of("Interests", json!({"$set": ["a", "ल".repeat(171)]})), 512),
        (of("Points", json!({"$incr": 5})), 0),
        (of("Points", json!({"$incr": "5"})), 512),
        (of("Points", json!({"$delete": true})), 0),
        (of("Points", json!({"$add": ["a"], "$remove": ["b"]})), 512),
        (of("Comment", json!("ल".repeat(170))), 0),
        (of("Comment", json!("ल".repeat(171))), 512),
        (of(" ", json!("x")), 512),
    ]
}

fn records_and_codes() -> Vec<(Value, u16)> {
    let long = "x".repeat(513);
    let many: serde_json::Map<String, Value> = (0..101).map(|number| (format!("p{number}"), json!(1))).collect();
    vec![
        (json!("text"), 524),
        (json!({"type": "event", "evtName": "Lead sold"}), 523),
        (json!({"type": "event", "identity": " ", "evtName": "Lead sold"}), 523),
        (json!({"type": "event", "objectId": 5, "evtName": "Lead sold"}), 526),
        (json!({"type": "event", "objectId": "o", "evtName": "Lead sold"}), 0),
        (json!({"type": "event", "identity": 7}), 509),
        (
            json!({"type": "event", "identity": "a", "evtName": "Lead sold", "ts": 0}),
            525,
        ),
        (
            json!({"type": "event", "identity": "a", "evtName": "Lead sold", "ts": 1_772_723_760_000_u64}),
            525,
        ),
        (
            json!({"type": "event", "identity": "a", "evtName": "Lead sold", "ts": 1_772_723_760.5}),
            525,
        ),
        (
            json!({"type": "event", "identity": "a", "evtName": "Lead sold", "ts": "2026-03-05T15:16:00Z"}),
            525,
        ),
        (event("App Launched", json!({})), 513),
        (event("notification  SENT", json!({})), 513),
        (event("wzrk_mine", json!({})), 513),
        (event("Lead.sold", json!({})), 512),
        (event("Lead sold", json!([])), 512),
        (event("Lead sold", json!({"a:b": 1})), 512),
        (event("Lead sold", json!({"a": {"b": 1}})), 512),
        (event("Lead sold", json!({"a": ["b"]})), 512),
        (event("Lead sold", json!({"a": long})), 512),
        (event("Lead sold", json!({long.as_str(): 1})), 512),
        (event("Lead sold", Value::Object(many)), 522),
        (
            event("Lead sold", json!({"a": "x", "b": 1.5, "c": true, "d": null, "#": 1})),
            0,
        ),
        (event("Charged", json!({"Amount": 5, "Items": [{"sku": "1"}]})), 0),
        (event("Charged", json!({"Items": [{"sku": {}}]})), 512),
        (json!({"type": "profile", "identity": "a"}), 512),
        (of("Gender", json!("male")), 514),
        (of("Gender", json!("F")), 0),
        (of("Email", json!("a@b")), 515),
        (of("Email", json!("ana@example.com")), 0),
        (of("Phone", json!("223")), 516),
        (of("Phone", json!("+44+441234")), 516),
        (of("Phone", json!("+15125550123")), 0),
        (of("Employed", json!("223")), 517),
        (of("Education", json!("223")), 518),
        (of("Married", json!(true)), 519),
        (of("Age", json!("aa")), 520),
        (of("Age", json!("18")), 0),
        (of("Lead #", json!("x")), 512),
        (of("Interests", json!(["a", "b"])), 0),
        (of("Interests", json!([1])), 512),
        (of("Interests", json!({"$add": ["a"]})), 0),
        (of("Home", json!({"city": "Austin"})), 512),
    ]
}

#[tokio::test(start_paused = true)]
async fn clevertap_checks_each_record() {
    let cases = [records_and_codes(), operators_and_codes()].concat();
    let served = served().await;
    let records: Vec<&Value> = cases.iter().map(|(record, _)| record).collect();
    let answer: Value = served
        .upload(&json!(records))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let mut unprocessed = answer["unprocessed"].as_array().unwrap().iter();
    let mut processed = 0;
    for (index, (record, code)) in cases.iter().enumerate() {
        if *code == 0 {
            processed += 1;
            continue;
        }
        let refused = unprocessed.next().unwrap_or_else(|| panic!("accepted: {record}"));
        let number = format!("Skipped record number : {}", index + 1);
        assert!(
            refused["error"].as_str().unwrap().ends_with(&number),
            "{record}: {refused}"
        );
        assert_eq!(refused["code"], *code, "{record}");
    }
    assert_eq!(unprocessed.next(), None);
    assert_eq!(answer["processed"], processed);
}

/// The sandbox was written by CleverTap's pages, and what Leadlane looks at before an upload too; neither knows the other.
#[tokio::test(start_paused = true)]
async fn what_leadlane_refuses_for_its_size_and_what_the_sandbox_does_is_the_same() {
    let served = served().await;
    let mut records = Vec::new();
    for letter in ["x", "é", "ल", "👩\u{200d}👧"] {
        for bytes in [119, 120, 121, 511, 512, 513, 530] {
            let text = letter.repeat(bytes / letter.len()) + &"-".repeat(bytes % letter.len());
            records.push(event(&text, json!({})));
            records.push(event("Sold", json!({text.as_str(): 1})));
            records.push(event("Sold", json!({"a": text})));
            records.push(event("Charged", json!({"Items": [{"a": text}]})));
            records.push(of(&text, json!(1)));
            records.push(of("a", json!(text)));
            records.push(of("a", json!(["b", text])));
            records.push(of("a", json!({"$add": [text]})));
        }
    }
    let answer = served.upload(&json!(records)).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let refused: Vec<&str> = answer["unprocessed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["error"].as_str().unwrap())
        .collect();
    for (index, record) in records.iter().enumerate() {
        let number = format!(" {}", index + 1);
        let by_sandbox = refused.iter().any(|error| error.ends_with(&number));
        let by_leadlane = crate::action::ActionType::ClevertapEvent.refusal(&record.to_string());
        assert_eq!(by_leadlane.is_some(), by_sandbox, "{by_leadlane:?} {record}");
    }
}

#[tokio::test(start_paused = true)]
async fn clevertap_refuses_whole_requests() {
    let served = served().await;
    let many: Vec<Value> = (0..1_001).map(|number| profile(&number.to_string())).collect();
    let most = &many[..1_000];
    let answer: Value = served.upload(&json!(most)).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["processed"], 1_000);
    for (body, status) in [
        (json!({"d": many}), 400),
        (json!({"d": []}), 400),
        (json!([]), 400),
        (json!({"e": 1}), 400),
    ] {
        let answer = served.upload(&json!([])).body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "fail");
    }
    let unauthorised = json!({"status": "fail", "error": "Account ID is not valid", "code": 401});
    let records = json!({"d": [profile("ana")]});
    let request = served
        .client
        .post(served.url("/1/upload"))
        .json(&records)
        .header("X-CleverTap-Account-Id", "ACME");
    let answer = request
        .header("X-CleverTap-Passcode", "invalid-one")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()),
        (401, unauthorised.clone())
    );

    served
        .control("/_sandbox/credentials", json!({"passcode": PASSCODE, "refused": true}))
        .await;
    let answer = served.upload(&json!([profile("ana")])).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), unauthorised);
    served
        .control("/_sandbox/credentials", json!({"passcode": PASSCODE, "refused": false}))
        .await;

    served.control("/_sandbox/reset", json!({})).await;
    let dry = served.upload_to("/1/upload?dryRun=1", &json!([profile("ana"), {}]));
    let answer: Value = dry.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&answer["status"], served.counts("ACME").await.accepted),
        (&json!("partial"), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn clevertap_counts_requests_at_once() {
    let served = served().await;
    served
        .control("/_sandbox/limits", json!({"account": "ACME", "concurrency": 3}))
        .await;
    let fault = served
        .control(
            "/_sandbox/faults",
            json!({"target": "ACME", "kind": "hang_after", "times": 3}),
        )
        .await;
    let hanging: Vec<_> = (0..3)
        .map(|number| tokio::spawn(served.upload(&json!([profile(&number.to_string())])).send()))
        .collect();
    served.until_in_flight("ACME", 3).await;
    let answer = served.upload(&json!([profile("fourth")])).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers().get("retry-after")),
        (429, None)
    );
    let too_many = json!({"status": "fail", "error": "Too many concurrent requests", "code": 429});
    assert_eq!(answer.json::<Value>().await.unwrap(), too_many);

    // The fault is ended, and with it those that hang; what they brought has arrived.
    let ended = served
        .client
        .delete(served.url(&format!("/_sandbox/faults/{}", fault["id"])));
    assert_eq!(ended.send().await.unwrap().status(), 200);
    for request in hanging {
        assert!(request.await.unwrap().is_err());
    }
    served.until_in_flight("ACME", 0).await;
    assert_eq!(
        served.upload(&json!([profile("fifth")])).send().await.unwrap().status(),
        200
    );
    let counts = served.counts("ACME").await;
    assert_eq!((counts.accepted, counts.rate_limited, counts.in_flight_max), (4, 1, 4));
}

#[tokio::test(start_paused = true)]
async fn records_meet_faults_by_identity() {
    let served = served().await;
    let order = json!({"target": "ACME", "kind": "error", "error": 555, "identity": "ben", "times": 1});
    served.control("/_sandbox/faults", order).await;
    let codes = async || -> Vec<Value> {
        let request = served.upload(&json!([profile("ana"), profile("ben")]));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["unprocessed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|refused| refused["code"].clone())
            .collect()
    };
    assert_eq!(codes().await, [json!(555)]);
    assert_eq!(codes().await, Vec::<Value>::new());
    served
        .control("/_sandbox/faults", json!({"kind": "error", "error": "555", "times": 1}))
        .await;
    assert_eq!(codes().await, [json!(555), json!(555)]);
    served
        .control(
            "/_sandbox/faults",
            json!({"kind": "error", "error": "Server busy", "status": 503, "times": 1}),
        )
        .await;
    let answer = served.upload(&json!([profile("ana")])).send().await.unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap()["error"].clone()
        ),
        (503, json!("Server busy"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_ordered_429_shuts_what_it_names() {
    let served = unlimited().await;
    let order = json!({"target": "C1", "kind": "rate_limit", "retry_after": 5, "times": 1});
    served.control("/_sandbox/faults", order).await;
    let answer = served.post("C1", "x").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"5".parse().unwrap())
    );
    assert_eq!(answer.json::<Value>().await.unwrap()["error"], "rate_limited");
    assert_eq!(served.post("C2", "free").await.status(), 200);
    advance(Duration::from_millis(4_999)).await;
    assert_eq!(served.post("C1", "inside").await.headers()["retry-after"], "1");
    advance(Duration::from_secs(1)).await;
    assert_eq!(served.post("C1", "after").await.status(), 200);

    // The credential's, and for as long as the fault is there when no seconds are named.
    let order = json!({"target": "C1", "kind": "rate_limit", "error": "ratelimited", "for": "7s"});
    served.control("/_sandbox/faults", order).await;
    assert_eq!(served.post("C1", "x").await.headers()["retry-after"], "7");
    assert_eq!(served.post("C2", "of the same workspace").await.status(), 429);
    assert_eq!(served.call("auth.test", json!({})).await["ok"], true);
    advance(Duration::from_secs(7)).await;
    assert_eq!(served.post("C2", "x").await.status(), 200);

    served
        .control(
            "/_sandbox/faults",
            json!({"kind": "rate_limit", "retry_after": 0, "times": 1}),
        )
        .await;
    assert_eq!(served.post("C3", "x").await.headers().get("retry-after"), None);
    assert_eq!(served.post("C3", "x").await.status(), 200);
    served
        .control(
            "/_sandbox/faults",
            json!({"target": "hook", "kind": "rate_limit", "retry_after": 3, "times": 1}),
        )
        .await;
    assert_eq!(
        served.webhook("hook").send().await.unwrap().headers()["retry-after"],
        "3"
    );
    assert_eq!(served.webhook("hook").send().await.unwrap().status(), 429);
    assert_eq!(served.counts("hook").await.violations, 1);
    let order = json!({"target": "ACME", "kind": "rate_limit", "times": 1});
    served.control("/_sandbox/faults", order).await;
    let answer = served.upload(&json!([profile("ana")])).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers().get("retry-after")),
        (429, None)
    );
}

#[tokio::test(start_paused = true)]
async fn statuses_pages_and_delays_come_as_ordered() {
    let served = unlimited().await;
    served
        .control(
            "/_sandbox/faults",
            json!({"target": "C1", "kind": "html_500", "times": 1}),
        )
        .await;
    let answer = served.post("C1", "x").await;
    assert_eq!(answer.status(), 500);
    assert!(
        answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    let order = json!({"target": "ACME", "kind": "html_500", "status": 503, "times": 1});
    served.control("/_sandbox/faults", order).await;
    let answer = served.upload(&json!([profile("ana")])).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    served
        .control(
            "/_sandbox/faults",
            json!({"kind": "status", "status": 503, "retry_after": 9, "times": 1}),
        )
        .await;
    let answer = served.webhook("hook").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (503, &"9".parse().unwrap())
    );
    let order = json!({"target": "U1", "kind": "error", "error": "internal_error", "status": 500, "times": 1});
    served.control("/_sandbox/faults", order).await;
    assert_eq!(served.post("U1", "x").await.status(), 500);
    assert!(served.sandbox.log().iter().all(|arrival| !arrival.accepted));

    served
        .control(
            "/_sandbox/faults",
            json!({"target": "C1", "kind": "slow", "delay": "2s"}),
        )
        .await;
    served.control("/_sandbox/limits", json!({"latency": "500ms"})).await;
    for (channel, milliseconds) in [("C1", 2_500), ("C2", 500)] {
        let started = Instant::now();
        assert_eq!(served.post(channel, "x").await.status(), 200);
        let took = started.elapsed();
        let expected = Duration::from_millis(milliseconds);
        assert!(
            expected <= took && took < expected + Duration::from_millis(10),
            "{channel}: {took:?}"
        );
    }
}

/// Writes a message on a connection of its own, and reads until that ends.
async fn exchange(served: &Served, channel: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    let body = json!({"channel": channel, "text": "x"}).to_string();
    let head = format!(
        "POST /api/chat.postMessage HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_one_and_not_an_answer() {
    let served = unlimited().await;
    for (kind, accepted) in [("reset", 0), ("reset_after", 1)] {
        served
            .control("/_sandbox/faults", json!({"target": "C1", "kind": kind, "times": 1}))
            .await;
        let error = exchange(&served, "C1").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{kind}");
        let counts = served.counts("C1").await;
        assert_eq!((counts.accepted, counts.in_flight), (accepted, 0), "{kind}");
        let log = served.sandbox.log();
        assert_eq!(log.last().unwrap().status, None, "{kind}");
    }
    assert!(exchange(&served, "C1").await.unwrap().starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_hang_lasts_as_long_as_its_fault() {
    let served = unlimited().await;
    for (kind, accepted) in [("hang", 0), ("hang_after", 1)] {
        let started = Instant::now();
        served
            .control("/_sandbox/faults", json!({"target": "C1", "kind": kind, "for": "30s"}))
            .await;
        let error = exchange(&served, "C1").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{kind}");
        let took = started.elapsed();
        assert!(
            took >= Duration::from_secs(30) && took < Duration::from_secs(31),
            "{kind}: {took:?}"
        );
        assert_eq!(served.counts("C1").await.accepted, accepted, "{kind}");
    }
    assert_eq!(served.post("C1", "x").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_is_no_longer_in_flight() {
    let served = unlimited().await;
    served
        .control("/_sandbox/faults", json!({"target": "C1", "kind": "hang"}))
        .await;
    let request = tokio::spawn(
        served
            .slack("chat.postMessage", &json!({"channel": "C1", "text": "x"}))
            .send(),
    );
    served.until_in_flight("C1", 1).await;
    request.abort();
    served.until_in_flight("C1", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_hangs_and_the_state_outlives_it() {
    let served = unlimited().await;
    served
        .control(
            "/_sandbox/faults",
            json!({"target": "C1", "kind": "hang_after", "times": 1}),
        )
        .await;
    let hanging = tokio::spawn(
        served
            .slack("chat.postMessage", &json!({"channel": "C1", "text": "x"}))
            .send(),
    );
    served.until_in_flight("C1", 1).await;
    let sandbox = served.sandbox.clone();
    served.stop().await;
    assert!(hanging.await.unwrap().is_err());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
    let log: Value = Client::new()
        .get(format!("http://{address}/_sandbox/log"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((&log[0]["text"], &log[0]["status"]), (&json!("x"), &json!(null)));
}

#[tokio::test(start_paused = true)]
async fn faults_are_listed_without_secrets_and_end() {
    let served = unlimited().await;
    let order = json!({"target": "C1", "kind": "error", "error": "is_archived", "for": "30s", "token": TOKEN});
    let id = served.control("/_sandbox/faults", order).await["id"].clone();
    served
        .control(
            "/_sandbox/faults",
            json!({"target": "C2", "kind": "slow", "delay": "2s"}),
        )
        .await;
    let listed = served.get("/_sandbox/faults").await;
    assert_eq!(
        (&listed[0]["id"], &listed[0]["for"], &listed[0]["left_ms"]),
        (&id, &json!("30000ms"), &json!(30_000))
    );
    assert_eq!(
        (&listed[1]["kind"], &listed[1]["delay"]),
        (&json!("slow"), &json!("2000ms"))
    );
    assert!(!listed.to_string().contains(TOKEN));

    assert_eq!(
        served
            .call("chat.postMessage", json!({"channel": "C1", "text": "x"}))
            .await["error"],
        "is_archived"
    );
    let other = served
        .client
        .post(served.url("/api/chat.postMessage"))
        .bearer_auth("xoxb-another");
    let other = other.json(&json!({"channel": "C1", "text": "x"})).send().await.unwrap();
    assert_eq!(other.json::<Value>().await.unwrap()["ok"], true);
    advance(Duration::from_secs(30)).await;
    assert_eq!(
        served
            .call("chat.postMessage", json!({"channel": "C1", "text": "x"}))
            .await["ok"],
        true
    );
    assert_eq!(served.get("/_sandbox/faults").await.as_array().unwrap().len(), 1);
    assert_eq!(
        served
            .client
            .delete(served.url("/_sandbox/faults"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(served.get("/_sandbox/faults").await, json!([]));
    assert_eq!(
        served
            .client
            .delete(served.url("/_sandbox/faults/1"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
}

#[tokio::test(start_paused = true)]
async fn orders_that_say_nothing_are_refused() {
    let served = served().await;
    let cases = [
        ("faults", json!({"kind": "explode"}), "unknown variant"),
        ("faults", json!({"kind": "status"}), "needs \"status\""),
        ("faults", json!({"kind": "status", "status": 99}), "from 200 to 599"),
        ("faults", json!({"kind": "error"}), "needs \"error\""),
        ("faults", json!({"kind": "slow"}), "needs \"delay\""),
        ("faults", json!({"kind": "hang", "for": "30"}), "write it as \"500ms\""),
        (
            "faults",
            json!({"kind": "hang", "identity": "a"}),
            "only an error fault",
        ),
        (
            "faults",
            json!({"kind": "hang", "channel": "C1"}),
            "unknown field `channel`",
        ),
        (
            "limits",
            json!({"channel": "C1", "rate": "fast"}),
            "write it as \"1/s\"",
        ),
        ("limits", json!({"channel": "C1"}), "a limit is one of"),
        ("limits", json!({"account": "A", "rate": "1/s"}), "a limit is one of"),
        ("channels", json!({"joined": true}), "missing field `channel`"),
        ("credentials", json!({"refused": true}), "a credential is one of"),
        ("credentials", json!({"token": "xoxb-1"}), "takes \"refused\""),
        (
            "credentials",
            json!({"passcode": "p", "scopes": "all"}),
            "are a token's",
        ),
        (
            "credentials",
            json!({"token": "xoxb-1", "scopes": "a\nb"}),
            "are a token's",
        ),
        ("log", json!({}), "takes \"max\""),
        ("log", json!({"max": -1}), "not an order"),
    ];
    for (path, order, words) in cases {
        let request = served
            .client
            .post(served.url(&format!("/_sandbox/{path}")))
            .json(&order);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 400, "{path} {order}");
        let error = answer.json::<Value>().await.unwrap()["error"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(error.contains(words), "{path} {order}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_is_read_in_pages_and_has_an_end() {
    let settings = Settings {
        log_max: 4,
        channel_rate: Rate::new(0, Duration::from_secs(1)),
        ..Settings::default()
    };
    let served = serve(settings).await;
    for number in 1..=6 {
        served
            .post(if number % 2 == 0 { "C2" } else { "C1" }, &number.to_string())
            .await;
    }
    let seqs = async |query: &str| -> Vec<u64> {
        let text = served
            .client
            .get(served.url(&format!("/_sandbox/log{query}")))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let log: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), log.len().max(1), "one arrival a line");
        log.iter().map(|arrival| arrival["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs("").await, [3, 4, 5, 6]);
    assert_eq!(seqs("?since=4").await, [5, 6]);
    assert_eq!(seqs("?since=3&limit=2").await, [4, 5]);
    assert_eq!(seqs("?target=C1").await, [3, 5]);
    let log: Vec<u64> = served.sandbox.log_since(5).iter().map(|arrival| arrival.seq).collect();
    assert_eq!(log, [6]);
    assert_eq!(served.get("/_sandbox/summary").await["targets"]["C1"]["accepted"], 3);
    served.client.delete(served.url("/_sandbox/log")).send().await.unwrap();
    assert_eq!(seqs("").await, Vec::<u64>::new());
    served.post("C1", "7").await;
    assert_eq!(seqs("").await, [7]);
    assert_eq!(
        served
            .client
            .get(served.url("/_sandbox/log?sinse=1"))
            .send()
            .await
            .unwrap()
            .status(),
        400
    );
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_the_sandbox_forgets_everything() {
    let served = served().await;
    served.post("C1", "x").await;
    served.control("/_sandbox/faults", json!({"kind": "html_500"})).await;
    served
        .control("/_sandbox/channels", json!({"channel": "C1", "archived": true}))
        .await;
    served
        .control("/_sandbox/credentials", json!({"token": TOKEN, "refused": true}))
        .await;
    served
        .control("/_sandbox/limits", json!({"channel": "*", "rate": "1/h"}))
        .await;
    served.control("/_sandbox/reset", json!({})).await;
    assert_eq!(served.sandbox.log().len(), 0);
    assert_eq!(served.get("/_sandbox/summary").await, json!({"targets": {}}));
    assert_eq!(served.post("C1", "x").await.json::<Value>().await.unwrap()["ok"], true);
    advance(Duration::from_secs(1)).await;
    assert_eq!(served.post("C1", "x").await.status(), 200);
}

/// Every command of docs/sandbox.md does what it says there, or is at least understood.
#[tokio::test(start_paused = true)]
async fn the_documented_commands_work() {
    let served = unlimited().await;
    let documented = include_str!("../../docs/sandbox.md");
    let commands: Vec<&str> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("curl "))
        .collect();
    assert!(commands.len() > 20, "{}", commands.len());
    for command in commands {
        let (options, path) = command.split_once("$SANDBOX").unwrap();
        let url = served.url(path.trim_end_matches('"'));
        let request = match options.trim_end_matches([' ', '"']) {
            "" => served.client.get(url),
            "-X DELETE" => served.client.delete(url),
            "-X POST" => served.client.post(url),
            // As curl does it, without a content type for JSON.
            order => {
                let order = order
                    .strip_prefix("-d '")
                    .and_then(|order| order.strip_suffix('\''))
                    .unwrap();
                let request = served.client.post(url).body(order.to_owned());
                request.header("content-type", "application/x-www-form-urlencoded")
            }
        };
        assert_eq!(request.send().await.unwrap().status(), 200, "{command}");
    }
}

#[test]
fn rates_are_read_as_they_are_written() {
    for (text, count, seconds) in [("0", 0, 1), ("2/s", 2, 1), ("300/m", 300, 60), ("20/h", 20, 3600)] {
        assert_eq!(
            text.parse(),
            Ok(Rate::new(count, Duration::from_secs(seconds))),
            "{text}"
        );
    }
    for text in ["", "1", "1/d", "-1/s", "x/s"] {
        assert_eq!(text.parse::<Rate>(), Err(RateError::Rate), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_request_holds_no_stop_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let sandbox = Sandbox::new(Settings::default());
    let served = tokio::spawn(sandbox.serve(listener, async move { drop(stopped.await) }));
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST /api/auth.test HTTP/1.1\r\nHo").await.unwrap();
    let whole = reqwest::get(format!("http://{address}/_sandbox/log")).await.unwrap();
    assert_eq!(whole.status(), 200);
    drop(stop);
    served.await.unwrap().unwrap();
}
