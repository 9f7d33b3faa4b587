//! Who takes a slot of whom. Time is paused, so nothing here waits for Kafka.

use super::*;

const CHALLENGE: &[u8] = br#"{"token":"t","challenge":"3eZbrw1aB","type":"url_verification"}"#;

/// A request whose body doesn't come.
async fn waits(open: &Open, head: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(open.address).await.unwrap();
    stream.write_all(head).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A request without the end of its body.
fn cut(whole: &[u8]) -> &[u8] {
    &whole[..whole.len() - 1]
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_signature_of_now_is_refused_at_the_head() {
    let open = open("unsigned", "in_flight_max: 1").await;
    let began = tokio::time::Instant::now();
    let forms = ["v0=12", "v1=ab", "ab", "v0=zz"];
    let forms = forms.map(|form| {
        let time = format!("X-Slack-Request-Timestamp: {NOW}");
        let signature = format!("X-Slack-Signature: {form}");
        post("/inlets/workspace", &[&time, &signature], REACTION)
    });
    let stale = [-301, 301].map(|seconds| signed("s1gning", NOW + seconds, REACTION));
    // A client that asks first (Expect) gets no 100 Continue.
    let unsigned = post("/inlets/workspace", &["Expect: 100-continue"], REACTION);
    for request in forms.iter().chain(&stale).chain([&unsigned]) {
        // Nobody waits for the rest of the body; it is let go of within seconds.
        let refused = answer(waits(&open, cut(request)).await).await;
        assert_eq!(status(&refused), 401, "{refused}");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(open.counted("workspace", 401), 7);
    open.close().await;
}

#[tokio::test(start_paused = true)]
async fn slow_bodies_that_are_unproven_take_nobodys_slot() {
    let open = open("unproven", "in_flight_max: 1").await;
    // Any signature will do to be read.
    let unproven = signed("other", NOW, REACTION);
    let mut slow = Vec::new();
    for _ in 0..80 {
        slow.push(waits(&open, cut(&unproven)).await);
    }
    assert_eq!(status(&open.ask(&signed("s1gning", NOW, CHALLENGE)).await), 200);
    assert_eq!(
        status(&open.ask(&signed_for("people", "s1gning", NOW, CHALLENGE)).await),
        200
    );
    let rows = post("/inlets/rows", &["Authorization: Bearer n3w"], b"{");
    assert_eq!(status(&open.ask(&rows).await), 400);
    let began = tokio::time::Instant::now();
    let mut answers = Vec::new();
    for stream in slow {
        answers.push(status(&answer(stream).await));
    }
    // The oldest gave way to others, and the rest had Slack's time.
    let gave_way = answers.iter().filter(|status| **status == 503).count();
    let too_slow = answers.iter().filter(|status| **status == 408).count();
    assert!(gave_way >= 16 && gave_way + too_slow == 80, "{answers:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    open.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_inlet_that_is_full_takes_no_slot_of_another() {
    let open = open("per-inlet", "in_flight_max: 1").await;
    let key = ["Authorization: Bearer n3w", "Expect: 100-continue"];
    let whole = post("/inlets/rows", &key, b"{\"id\":1}");
    let mut first = waits(&open, &whole[..whole.len() - 8]).await;
    first.read_exact(&mut [0; 25]).await.unwrap();
    assert_eq!(status(&open.ask(&post("/inlets/rows", &key, b"{}")).await), 503);
    assert_eq!(status(&open.ask(&signed("s1gning", NOW, CHALLENGE)).await), 200);
    assert_eq!(status(&open.ask(&post("/inlets/survey", &key[..1], b"{")).await), 400);
    open.close().await;
}

/// A body of one byte a chunk has the same time as any other.
#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up() {
    let open = open("drips", "body_max: 1MB").await;
    let began = tokio::time::Instant::now();
    let head = b"POST /inlets/rows HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Authorization: Bearer n3w\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut reads, mut writes) = waits(&open, head).await.into_split();
    let dripping = tokio::spawn(async move {
        while writes.write_all(b"1\r\n \r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut answer = Vec::new();
    // It may be reset, because what it sent isn't read any more.
    drop(reads.read_to_end(&mut answer).await);
    let took = began.elapsed().as_secs();
    assert!(
        (30..33).contains(&took),
        "{took} s: {}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(open.counted("rows", 408), 1);
    dripping.await.unwrap();
    open.close().await;
}
