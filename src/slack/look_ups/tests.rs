use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A Slack that answers every request with this, and counts them.
async fn slack(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let is_known = ["GET /api/users.info?user=U", "GET /api/conversations.info?channel=C"];
            assert!(is_known.iter().any(|begin| head.starts_with(begin)), "{head}");
            assert!(
                head.to_lowercase().contains("authorization: bearer xoxb-hunter2"),
                "{head}"
            );
            count.fetch_add(1, Ordering::Relaxed);
            if !answer.is_empty() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            } else {
                std::future::pending::<()>().await;
            }
        }
    });
    (url, asked)
}

fn users(url: &str) -> Arc<LookUps> {
    // Each its own: a file that another test writes just then is empty.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("leadlane-users-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("users-token"), "xoxb-hunter2\n").unwrap();
    let token = SecretName::new("users-token").unwrap();
    Arc::new(LookUps::new(url, &token, &Secrets::new(Some(dir)), "it goes on").unwrap())
}

fn key(id: &str) -> (Kind, String) {
    (Kind::User, id.to_owned())
}

async fn who(users: &Arc<LookUps>, user: &str) -> Option<Value> {
    users.get(Kind::User, user).await?.ok()
}

const ANA: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n\
    {\"ok\":true,\"user\":{\"id\":\"U1\",\"name\":\"ana\",\"tz\":\"\",\"is_admin\":true,\"profile\":{\"real_name\":\"Ana Diaz\",\
    \"display_name\":\"\",\"email\":\"ana@example.com\",\"title\":\"Sales\",\"phone\":\"+1\"}}}";

#[tokio::test]
async fn a_user_is_asked_for_once() {
    let (url, asked) = slack(ANA).await;
    let users = users(&url);
    let expected = json!({"id": "U1", "name": "ana", "real_name": "Ana Diaz", "email": "ana@example.com", "title": "Sales", "role": "admin"});
    let (first, second) = tokio::join!(who(&users, "U1"), who(&users, "U1"));
    assert_eq!((first.as_ref(), second.as_ref()), (Some(&expected), Some(&expected)));
    assert_eq!(who(&users, "U1").await, Some(expected));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(who(&users, "../U1").await, None);
    assert_eq!(who(&users, "").await, None);
    let until = users.kept().answers[&key("U1")].until;
    assert!(until > Instant::now() + Duration::from_secs(59 * 60));
}

#[tokio::test]
async fn who_cannot_be_looked_up_is_not_asked_for_again_at_once() {
    for (answer, logged) in [
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"ok\":false,\"error\":\"missing_scope\"}",
            "missing_scope",
        ),
        (
            "HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n<html>",
            "an answer of another form",
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"error\":\"xoxb-hunter2 !\"}",
            "an answer of another form",
        ),
    ] {
        let (url, asked) = slack(answer).await;
        let users = users(&url);
        let failed = users.ask(Kind::User, "U1").await.unwrap_err();
        assert!(
            matches!(&failed, Unknown::Failed(why) if why.contains(logged)),
            "{failed:?}"
        );
        assert_eq!(who(&users, "U1").await, None);
        assert_eq!(who(&users, "U1").await, None);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(users.kept().answers[&key("U1")].until < Instant::now() + Duration::from_secs(61));
    }
}

#[tokio::test]
async fn a_429_holds_every_look_up_until_it_is_over() {
    let (url, asked) = slack("HTTP/1.1 429 Slow\r\nRetry-After: 40\r\nConnection: close\r\n\r\n").await;
    let users = users(&url);
    assert_eq!(who(&users, "U1").await, None);
    assert_eq!(who(&users, "U2").await, None);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let (mut kept, now) = (users.kept(), Instant::now());
    assert!(!kept.pace.admits(now + Duration::from_secs(39)) && kept.pace.admits(now + Duration::from_secs(40)));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_a_second() {
    let (url, _) = slack("").await;
    let began = tokio::time::Instant::now();
    assert_eq!(who(&users(&url), "U1").await, None);
    assert_eq!(began.elapsed().as_millis() / 10, 100);
}

#[test]
fn what_is_kept_is_bounded() {
    let (_, answer) = watch::channel(None);
    let now = Instant::now();
    let user = |until| Asked {
        until,
        answer: answer.clone(),
    };
    let mut kept = Kept {
        answers: (0..KEPT_MAX)
            .map(|at| (key(&format!("U{at}")), user(now + KEPT)))
            .collect(),
        pace: Pace::new(now),
        logged: None,
    };
    kept.answers.insert(key("U7"), user(now + KEPT_FAILED));
    kept.make_room(now);
    assert_eq!(
        (kept.answers.len(), kept.answers.contains_key(&key("U7"))),
        (KEPT_MAX - 1, false)
    );
}

#[tokio::test]
async fn an_answer_without_an_end_is_read_no_further_than_its_bound() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap());
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let mut piece = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
            while stream.write_all(&piece).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::Relaxed);
                piece = vec![b' '; 64 * 1024];
            }
        }
    });
    let users = users(&url);
    let failure = users.ask(Kind::User, "U1").await.unwrap_err();
    assert_eq!(failure, Unknown::Failed("an answer of another form".to_owned()));
    // What lies in the buffers of the connection comes on top.
    assert!(written.load(Ordering::Relaxed) < 16 * 1024 * 1024);
}

#[tokio::test]
async fn whatever_slack_answers_is_kept_in_bounds() {
    let long = "x".repeat(100_000);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"ok\":true,\"user\":{{\"id\":\"U1\",\"name\":\"{long}\"}}}}"
    );
    let (url, _) = slack(answer.leak()).await;
    let profile = who(&users(&url), "U1").await.unwrap();
    assert_eq!(profile["name"].as_str().unwrap().len(), TEXT_KEPT);

    let (url, _) = slack("HTTP/1.1 429 Slow\r\nConnection: close\r\nRetry-After: 18446744073709551615\r\n\r\n").await;
    let users = users(&url);
    assert_eq!(who(&users, "U1").await, None);
    assert!(users.kept().pace.admits(Instant::now() + RETRY_AFTER_MAX));
}

#[tokio::test]
async fn a_channel_is_known_by_its_name_once_it_was_asked_for() {
    let (url, asked) = slack(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"ok\":true,\"channel\":{\"id\":\"C1\",\"name\":\"sales\",\"topic\":{}}}",
    )
    .await;
    let channels = users(&url);
    assert_eq!(channels.known(Kind::Channel, "C1"), None);
    let found = channels.get(Kind::Channel, "C1").await;
    assert_eq!(found, Some(Ok(json!({"id": "C1", "name": "sales"}))));
    assert_eq!(channels.known(Kind::Channel, "C1"), found);
    // A user of that id is somebody else.
    assert_eq!(channels.known(Kind::User, "C1"), None);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // What Slack says of one that isn't there is known, too.
    let (url, _) =
        slack("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"ok\":false,\"error\":\"channel_not_found\"}").await;
    let channels = users(&url);
    let found = channels.get(Kind::Channel, "C2").await;
    assert_eq!(found, Some(Err("channel_not_found".to_owned())));
    assert_eq!(channels.known(Kind::Channel, "C2"), found);
}
