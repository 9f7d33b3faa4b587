//! What comes of a request on its way: hosts that refuse, hang, break off or say too much.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::delivery::dispatch::FreezeScope;

const TOKEN: &str = "xoxb-1234-hunter2";

/// Destinations whose secret store goes with them.
struct Wired {
    destinations: Destinations,
    dir: std::path::PathBuf,
}

impl std::ops::Deref for Wired {
    type Target = Destinations;

    fn deref(&self) -> &Destinations {
        &self.destinations
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Slack at that URL, with a few secrets in the store.
fn destinations(api_url: String, request_timeout: Duration) -> Wired {
    let mut config = Config::default();
    config.slack.api_url = api_url.into();
    config.sender.request_timeout = request_timeout;
    let dir = std::env::temp_dir().join(format!("leadlane-wire-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("sales-bot"), TOKEN).unwrap();
    std::fs::write(dir.join("pasted"), "xoxb-1234\r\nhunter2").unwrap();
    std::fs::write(dir.join("acme-passcode"), "pass").unwrap();
    let destinations = Destinations::new(&config, Secrets::new(Some(dir.clone()))).unwrap();
    Wired { destinations, dir }
}

/// Long enough that only a host that never answers meets it.
const PATIENT: Duration = Duration::from_secs(60);

fn attempt(request: Request, body: &str) -> Attempt {
    let job = DeliveryJob {
        action: ActionType::SlackMessage,
        credential: "slack:sales-bot".into(),
        destination: "U0123ABCD".into(),
        body: body.to_owned(),
        ..(*record("a")).clone()
    };
    Attempt {
        id: 1,
        request,
        jobs: vec![Arc::new(job)],
        thread_ts: None,
        channel: None,
        is_test: false,
    }
}

fn message() -> Attempt {
    attempt(Request::Send, r#"{"channel":"U0123ABCD","text":"Hi","amount":1.10}"#)
}

/// One that isn't introduced: it needs no message.
fn silent(destinations: &Destinations) {
    assert!(destinations.introduced.begin("slack:sales-bot"));
}

/// A host that gives each request the answer for its method (else the last), and hands out what was asked.
async fn host(answers: Vec<(&'static str, String)>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}/api", listener.local_addr().unwrap());
    let (asked, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = read_request(&mut stream).await;
            let mut found = answers.iter().filter(|(method, _)| request.contains(method));
            let (_, answer) = found.next().unwrap_or(answers.last().unwrap());
            drop(asked.send(request));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (api, requests)
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "a request in full");
    }
}

/// A host that does one thing to each connection.
async fn rude<F: Future<Output = ()> + Send + 'static>(treat: fn(TcpStream) -> F) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            treat(stream).await;
        }
    });
    address
}

async fn verdict(api_url: String, request_timeout: Duration, attempt: &Attempt) -> (Verdict, String) {
    let destinations = destinations(api_url, request_timeout);
    silent(&destinations);
    let answer = destinations.attempt(attempt).await.remove(0);
    (answer.verdict, answer.words)
}

#[tokio::test]
async fn a_connection_that_is_not_made_is_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = verdict(format!("http://{free}/api"), PATIENT, &message()).await;
    assert_eq!(refused, (Verdict::Retry, "no connection".to_owned()));

    let unknown = verdict("https://leadlane.invalid/api".to_owned(), PATIENT, &message()).await;
    assert_eq!(unknown, (Verdict::Retry, "no connection".to_owned()));

    // Something else than TLS is spoken there.
    let plain = rude(|mut stream| async move { drop(stream.write_all(b"220 mail\r\n").await) }).await;
    let no_tls = verdict(format!("https://{plain}/api"), PATIENT, &message()).await;
    assert_eq!(no_tls, (Verdict::Retry, "no connection".to_owned()));

    // Half of the time is for the connection, so that this isn't taken for an answer that is late.
    let mute = rude(|stream| async move { std::mem::forget(stream) }).await;
    let no_handshake = verdict(format!("https://{mute}/api"), Duration::from_millis(200), &message()).await;
    assert_eq!(no_handshake, (Verdict::Retry, "no connection".to_owned()));
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_ambiguous() {
    let broke = "the connection broke before the answer".to_owned();
    let closed = rude(|mut stream| async move { drop(read_request(&mut stream).await) }).await;
    let closed = verdict(format!("http://{closed}/api"), PATIENT, &message()).await;
    assert_eq!(closed, (Verdict::Ambiguous, broke.clone()));

    // While the body is being sent: more of it than fits into the buffers between.
    let early = rude(|mut stream| async move { drop(stream.read_exact(&mut [0; 1000]).await) }).await;
    let text = "x".repeat(16 << 20);
    let long = attempt(Request::Send, &format!(r#"{{"channel":"C1","text":"{text}"}}"#));
    let early = verdict(format!("http://{early}/api"), PATIENT, &long).await;
    assert_eq!(early, (Verdict::Ambiguous, broke.clone()));

    let mute = rude(|stream| async move { std::mem::forget(stream) }).await;
    let late = verdict(format!("http://{mute}/api"), Duration::from_millis(200), &message()).await;
    assert_eq!(
        late,
        (Verdict::Ambiguous, "no answer within sender.request_timeout".to_owned())
    );

    // The answer itself breaks off: a 200 may mean anything then.
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"ok\":tr".to_owned();
    let (api, _requests) = host(vec![("", cut)]).await;
    assert_eq!(verdict(api, PATIENT, &message()).await, (Verdict::Ambiguous, broke));
    let garbled = rude(|mut stream| async move {
        read_request(&mut stream).await;
        drop(stream.write_all(b"220 mail\r\n\r\n").await);
    })
    .await;
    let garbled = verdict(format!("http://{garbled}/api"), PATIENT, &message()).await;
    assert_eq!(garbled.0, Verdict::Ambiguous);
}

#[tokio::test]
async fn a_refusal_that_breaks_off_is_one_still() {
    let cut = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 100\r\n\r\n{\"ok\":fal".to_owned();
    let (api, _requests) = host(vec![("", cut)]).await;
    assert_eq!(
        verdict(api, PATIENT, &message()).await.0,
        throttled(FreezeScope::Credential)
    );
}

#[tokio::test]
async fn preparing_a_message_is_never_ambiguous() {
    for request in [Request::Join, Request::Open, Request::Probe] {
        let closed = rude(|mut stream| async move { drop(read_request(&mut stream).await) }).await;
        let closed = verdict(format!("http://{closed}/api"), PATIENT, &attempt(request, "{}")).await;
        assert_eq!(closed.0, Verdict::Retry, "{request:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, mut asked) = host(vec![("", http("200 OK", "", r#"{"ok":true}"#))]).await;
    let moved = http("302 Found", &format!("location: {elsewhere}/chat.postMessage\r\n"), "");
    let (api, _requests) = host(vec![("", moved)]).await;
    assert_eq!(verdict(api, PATIENT, &message()).await.0, REJECTED);
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn each_request_says_what_it_should() {
    let ok = http("200 OK", "", r#"{"ok":true,"ts":"1.2","channel":{"id":"D1"}}"#);
    let (api, mut requests) = host(vec![("", ok)]).await;
    let destinations = destinations(api, PATIENT);
    silent(&destinations);
    let plain = message();
    let threaded = Attempt {
        thread_ts: Some("1503435956.000247".to_owned()),
        channel: Some("D0123ABCD".to_owned()),
        ..message()
    };
    let given = &plain.jobs[0].body;
    for (attempt, method, body) in [
        (&plain, "chat.postMessage", given.as_str()),
        (
            &threaded,
            "chat.postMessage",
            r#"{"channel":"D0123ABCD","text":"Hi","amount":1.10,"thread_ts":"1503435956.000247"}"#,
        ),
        (
            &attempt(Request::Join, given),
            "conversations.join",
            r#"{"channel":"U0123ABCD"}"#,
        ),
        (
            &attempt(Request::Open, given),
            "conversations.open",
            r#"{"users":"U0123ABCD"}"#,
        ),
        (&attempt(Request::Probe, given), "auth.test", "{}"),
    ] {
        let answers = destinations.attempt(attempt).await;
        assert_eq!(answers[0].verdict, Verdict::Delivered, "{method}");
        let request = requests.recv().await.unwrap();
        assert!(
            request.starts_with(&format!("POST /api/{method} HTTP/1.1\r\n")),
            "{request}"
        );
        assert!(
            request.contains(&format!("authorization: Bearer {TOKEN}\r\n")),
            "{method}"
        );
        assert!(
            request.contains("content-type: application/json; charset=utf-8\r\n"),
            "{request}"
        );
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
        let channel = (attempt.request == Request::Open).then_some("D1");
        assert_eq!(answers[0].channel.as_deref(), channel, "{method}");
    }
    let broken = Attempt {
        thread_ts: Some("1.2".to_owned()),
        ..attempt(Request::Send, "[]")
    };
    let answer = destinations.attempt(&broken).await.remove(0);
    assert_eq!(answer.verdict, REJECTED);
    assert!(
        answer.words.starts_with("the job's body is no JSON object"),
        "{}",
        answer.words
    );
}

#[tokio::test]
async fn a_secret_that_is_no_token_is_refused_unsent_and_unseen() {
    let destinations = destinations("http://127.0.0.1:9/api".to_owned(), PATIENT);
    let mut pasted = message();
    let job = DeliveryJob {
        credential: "slack:pasted".into(),
        ..(*pasted.jobs[0]).clone()
    };
    pasted.jobs = vec![Arc::new(job)];
    let answer = destinations.attempt(&pasted).await.remove(0);
    assert_eq!(answer.verdict, Verdict::CredentialRefused);
    assert!(answer.words.contains("write the token alone"), "{}", answer.words);
    assert!(!answer.words.contains("hunter2"), "{}", answer.words);
    let Checked::Refused(words) = check(&destinations, "slack:pasted").await else {
        panic!("refused");
    };
    assert_eq!(words, answer.words);
}

#[tokio::test]
async fn an_answer_that_echoes_a_whole_batch_is_read_to_its_end() {
    let jobs: Vec<_> = (0..300)
        .map(|number| {
            let mut job = (*record(&number.to_string())).clone();
            job.body = format!(
                r#"{{"type":"event","identity":"{number}","evtData":{{"a":"{}"}}}}"#,
                "x".repeat(5000)
            );
            Arc::new(job)
        })
        .collect();
    let failures: Vec<_> = (1..=300)
        .map(|number| {
            let body = &jobs[number - 1].body;
            format!(r#"{{"status":"fail","code":525,"error":"Skipped record number : {number}","record":{body}}}"#)
        })
        .collect();
    let body = format!(
        r#"{{"status":"fail","processed":0,"unprocessed":[{}]}}"#,
        failures.join(",")
    );
    assert!(body.len() > BODY_MAX);
    let (api, _requests) = host(vec![("", http("200 OK", "", &body))]).await;
    let mut destinations = destinations(String::new(), PATIENT);
    let account = serde_json::from_value(serde_json::json!({
        "region": "in1", "account_id": "A", "passcode": {"secret": "acme-passcode"}, "api_url": api,
    }));
    destinations
        .destinations
        .clevertap
        .accounts
        .insert("acme".to_owned(), account.unwrap());
    let upload = Attempt { jobs, ..message() };
    let answers = destinations.attempt(&upload).await;
    assert_eq!(answers.len(), 300);
    assert!(answers.iter().all(|answer| answer.verdict == REJECTED));
}

/// What asking Slack about a token of the store gives.
async fn check(destinations: &Destinations, credential: &str) -> Checked {
    destinations.ask(credential, None).await
}

#[tokio::test]
async fn a_token_is_introduced_once_and_in_words() {
    let refused = http("200 OK", "", r#"{"ok":false,"error":"invalid_auth"}"#);
    let (api, mut requests) = host(vec![("", refused)]).await;
    let destinations = destinations(api, PATIENT);
    let words = |checked: &Checked| checked.to_string();
    let checked = check(&destinations, "slack:sales-bot").await;
    assert_eq!(checked, Checked::Refused("invalid_auth".to_owned()));
    assert_eq!(
        words(&checked),
        "the Slack token is refused: invalid_auth; its jobs wait until the secret holds one that works"
    );
    assert!(requests.recv().await.unwrap().starts_with("POST /api/auth.test "));
    let missing = check(&destinations, "slack:not-there").await;
    assert!(
        matches!(&missing, Checked::Refused(words) if words.contains("LEADLANE_SECRET_NOT_THERE")),
        "{missing:?}"
    );
    for other in ["webhook:ops", "clevertap:acme"] {
        destinations.introduce(other, None).await;
    }
    assert!(requests.try_recv().is_err(), "nobody else is asked about");
}

#[tokio::test]
async fn a_secret_that_changes_after_its_use_is_noticed() {
    let destinations = destinations("http://127.0.0.1:9/api".to_owned(), PATIENT);
    let file = destinations.dir.join("sales-bot");
    let credential = "slack:sales-bot";
    assert!(!destinations.has_changed(credential).await, "nothing was used yet");
    let used = async |text: Option<&str>| {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let changed = destinations.has_changed(credential).await;
        destinations.attempt(&attempt(Request::Probe, "{}")).await;
        assert!(
            !destinations.has_changed(credential).await,
            "it is the one that was used last"
        );
        changed
    };
    used(Some(TOKEN)).await;
    assert!(used(None).await, "a file that is gone is a new cause");
    assert!(used(Some("xoxb-another")).await);
    assert!(!used(Some("xoxb-another\n")).await, "the same secret, written anew");
    assert!(used(Some("with a space")).await);
}

#[tokio::test]
async fn a_passcode_or_a_webhook_is_looked_at_without_a_request() {
    let destinations = destinations("http://127.0.0.1:9/api".to_owned(), PATIENT);
    let write = |name: &str, text: &str| std::fs::write(destinations.dir.join(name), text).unwrap();
    let missing = destinations.look("webhook:ops", None).await.unwrap_err();
    assert!(missing.contains("LEADLANE_SECRET_OPS"), "{missing}");
    write("ops", "http://example.com/services/T/B/hunter2");
    let plain = destinations.look("webhook:ops", None).await.unwrap_err();
    assert!(plain.contains("https") && !plain.contains("hunter2"), "{plain}");
    write("ops", "https://hooks.slack.com/services/T/B/x");
    assert_eq!(destinations.look("webhook:ops", None).await, Ok(()));
    assert_eq!(destinations.look("clevertap:nobody", None).await, Ok(()));
}

#[tokio::test]
async fn missing_scopes_are_named_with_what_follows() {
    let identity = |scopes: &str| {
        http(
            "200 OK",
            &format!("x-oauth-scopes: {scopes}\r\n"),
            &format!(r#"{{"ok":true,"team":"Acme {TOKEN}","user":"leadlane"}}"#),
        )
    };
    let identity_with = async |scopes: &str, join: bool| {
        let (api, _requests) = host(vec![("", identity(scopes))]).await;
        let mut destinations = destinations(api, PATIENT);
        destinations.destinations.joins = join;
        check(&destinations, "slack:sales-bot").await
    };
    let all = identity_with("chat:write, channels:join,im:write", true).await;
    assert_eq!(
        all.to_string(),
        "the Slack token works, as leadlane in the team Acme ***"
    );
    let poster = identity_with("chat:write,im:write", true).await;
    assert_eq!(
        poster.to_string(),
        "the Slack token works, as leadlane in the team Acme ***; it lacks channels:join, so that public channels can't \
         be joined: invite the app to them, or add chat:write.public; give the app its scopes under OAuth & Permissions \
         and install it again"
    );
    let who_joins_not = identity_with("chat:write,im:write", false).await;
    assert!(matches!(who_joins_not, Checked::Works { missing_scopes, .. } if missing_scopes.is_empty()));
    let Checked::Works { missing_scopes, .. } = identity_with("channels:read", true).await else {
        panic!("it works");
    };
    let names: Vec<_> = missing_scopes.iter().map(|scope| scope.name).collect();
    assert_eq!(names, ["chat:write", "channels:join", "im:write"]);
    let down = destinations("http://127.0.0.1:9/api".to_owned(), PATIENT);
    let down = check(&down, "slack:sales-bot").await;
    assert_eq!(
        down.to_string(),
        "Slack could not be asked about the token: no connection"
    );
}

/// The number of `auth.test` among what was asked, once so many requests have come.
async fn introductions(requests: &mut mpsc::UnboundedReceiver<String>, requests_wanted: usize) -> usize {
    let mut found = 0;
    for _ in 0..requests_wanted {
        let request = requests.recv().await.unwrap();
        found += usize::from(request.starts_with("POST /api/auth.test "));
    }
    found
}

#[tokio::test]
async fn the_first_message_has_its_token_introduced() {
    let (api, mut requests) = host(vec![("", http("200 OK", "", r#"{"ok":true,"ts":"1.2"}"#))]).await;
    let destinations = destinations(api, PATIENT);
    for request in [Request::Join, Request::Open, Request::Probe] {
        destinations.attempt(&attempt(request, "{}")).await;
    }
    assert_eq!(introductions(&mut requests, 3).await, 1, "the probe's own");
    destinations.attempt(&message()).await;
    assert_eq!(introductions(&mut requests, 2).await, 1);
    destinations.attempt(&message()).await;
    destinations.introduce("slack:sales-bot", None).await;
    assert_eq!(introductions(&mut requests, 1).await, 0);
    tokio::task::yield_now().await;
    assert!(requests.try_recv().is_err());
}

#[test]
fn what_does_not_work_yet_is_asked_about_again() {
    let introduced = Introduced::default();
    for checked in [
        Checked::Unreachable("no connection".to_owned()),
        Checked::Refused("token_revoked".to_owned()),
    ] {
        assert!(introduced.begin("slack:a"));
        assert!(!introduced.begin("slack:a"), "somebody asks already");
        introduced.end("slack:a", checked);
    }
    assert!(introduced.begin("slack:a"));
    let works = Checked::Works {
        team: "Acme".to_owned(),
        user: "leadlane".to_owned(),
        missing_scopes: Vec::new(),
    };
    introduced.end("slack:a", works);
    assert!(!introduced.begin("slack:a"));
    assert!(introduced.begin("slack:b"));
}

/// Against the sandbox: what the dispatch will ask for, one after the other.
#[tokio::test]
async fn a_member_is_opened_then_posted_to_and_answered_in_a_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let none = crate::sandbox::Rate::new(0, Duration::from_secs(1));
    let sandbox = crate::sandbox::Sandbox::new(crate::sandbox::Settings {
        channel_rate: none,
        ..crate::sandbox::Settings::default()
    });
    tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
    let control = async |path: &str, order: &'static str| {
        let order = Client::new()
            .post(format!("http://{address}/_sandbox/{path}"))
            .body(order);
        assert_eq!(order.send().await.unwrap().status(), 200);
    };
    control("channels", r#"{"channel":"U0123ABCD","open":false}"#).await;
    control("credentials", r#"{"token":"xoxb-1234-hunter2","scopes":"chat:write"}"#).await;
    let destinations = destinations(format!("http://{address}/api"), PATIENT);
    silent(&destinations);
    let send = async |attempt: &Attempt| destinations.attempt(attempt).await.remove(0);

    assert_eq!(send(&message()).await.verdict, Verdict::NotOpen);
    let open = attempt(Request::Open, "{}");
    let lacking = send(&open).await;
    assert_eq!(lacking.verdict, GONE);
    assert_eq!(lacking.words, "missing_scope; needs im:write, has chat:write");
    let Checked::Works { missing_scopes, .. } = check(&destinations, "slack:sales-bot").await else {
        panic!("the token works");
    };
    let names: Vec<_> = missing_scopes.iter().map(|scope| scope.name).collect();
    assert_eq!(names, ["channels:join", "im:write"]);

    control("credentials", r#"{"token":"xoxb-1234-hunter2","scopes":"all"}"#).await;
    let opened = send(&open).await;
    assert_eq!(opened.verdict, Verdict::Delivered);
    let first = Attempt {
        channel: opened.channel,
        ..message()
    };
    let sent = send(&first).await;
    assert_eq!(sent.verdict, Verdict::Delivered);
    let reply = Attempt {
        thread_ts: sent.message_id.clone(),
        ..first
    };
    assert_eq!(send(&reply).await.verdict, Verdict::Delivered);
    let arrived = sandbox.log();
    let messages: Vec<_> = arrived
        .iter()
        .filter(|arrival| arrival.accepted && arrival.ts.is_some())
        .collect();
    assert_eq!(messages[0].target.as_ref(), "D0123ABCD");
    assert_eq!(messages[1].thread_ts.as_deref(), sent.message_id.as_deref());

    control("credentials", r#"{"token":"xoxb-1234-hunter2","refused":true}"#).await;
    let probe = attempt(Request::Probe, "{}");
    assert_eq!(send(&probe).await.verdict, Verdict::CredentialRefused);
    assert_eq!(send(&message()).await.verdict, Verdict::CredentialRefused);
    control("credentials", r#"{"token":"xoxb-1234-hunter2","refused":false}"#).await;
    assert_eq!(send(&probe).await.verdict, Verdict::Delivered);
}

fn webhook(name: &str) -> DeliveryJob {
    DeliveryJob {
        action: ActionType::SlackWebhook,
        credential: format!("webhook:{name}"),
        ..(*record("a")).clone()
    }
}

#[tokio::test]
async fn webhooks_whose_url_was_not_read_yet_share_a_host() {
    for (hosts, unread) in [
        (&["hooks.slack.com"] as &[_], "hooks.slack.com:443"),
        (&["127.0.0.1:9099"], "127.0.0.1:9099"),
        (&["[::1]:9099"], "[::1]:9099"),
        (&["hooks.slack.com", "hooks.slack-gov.com"], "webhooks"),
        (&[], "webhooks"),
    ] {
        let mut config = Config::default();
        config.slack.webhook_hosts = hosts.iter().map(ToString::to_string).collect();
        let destinations = Destinations::new(&config, Secrets::new(None)).unwrap();
        for name in ["a", "b"] {
            assert!(destinations.webhook(&webhook(name)).await.is_err());
            assert_eq!(*destinations.host(&webhook(name)), *unread, "{hosts:?}");
        }
    }
}

#[tokio::test]
async fn a_webhooks_host_is_that_of_its_url_once_it_was_read() {
    let destinations = destinations("https://slack.example/api".to_owned(), PATIENT);
    let write = |url: &str| std::fs::write(destinations.dir.join("hook"), url).unwrap();
    write("https://hooks.slack.com:8443/services/T0/B0/x");
    assert!(destinations.webhook(&webhook("hook")).await.is_ok());
    assert_eq!(*destinations.host(&webhook("hook")), *"hooks.slack.com:8443");
    assert_eq!(*destinations.host(&webhook("other")), *"hooks.slack.com:443");
    assert_eq!(*destinations.host(&message().jobs[0]), *"slack.example:443");
    // An account that nobody configured shares no other's.
    let account = DeliveryJob {
        credential: "clevertap:gone".to_owned(),
        ..(*record("a")).clone()
    };
    assert_eq!(*destinations.host(&account), *"clevertap:gone");
}
