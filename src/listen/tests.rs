use std::net::SocketAddr;

use http_body_util::Full;
use hyper::header::AUTHORIZATION;
use tokio::io::AsyncReadExt as _;

use super::*;

/// Answers at once; what it is asked for says how much.
#[derive(Default)]
struct Echo {
    broken: Mutex<Vec<StatusCode>>,
}

impl Answer for Echo {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, connection: Arc<Connection>) -> Response<Full<Bytes>> {
        connection.request_began();
        connection.known(request.headers().contains_key(AUTHORIZATION));
        let size = match request.uri().path() {
            "/never" => std::future::pending().await,
            "/large" => 64 << 20,
            _ => 2,
        };
        connection.request_ended();
        Response::new(Full::new(vec![b'x'; size].into()))
    }

    fn broken(&self, status: StatusCode, _: Instant) {
        self.broken.lock().unwrap().push(status);
    }
}

struct Open {
    address: SocketAddr,
    echo: Arc<Echo>,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

async fn open(connections_max: usize) -> Open {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let echo = Arc::new(Echo::default());
    let served = tokio::spawn(serve(
        listener,
        Arc::clone(&echo),
        connections_max,
        stopped,
        Duration::from_secs(5),
    ));
    Open {
        address,
        echo,
        stop,
        served,
    }
}

impl Open {
    async fn connect(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }
}

/// Sends a request on a connection that stays, and reads its answer.
async fn asks(stream: &mut TcpStream, headers: &str) -> bool {
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nxx") {
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
    true
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]).await, Ok(0) | Err(_))
}

const KNOWN: &str = "Authorization: Bearer key\r\n";

#[tokio::test]
async fn a_full_listener_closes_the_one_that_is_idle_longest_without_credentials() {
    let open = open(3).await;
    let mut known = open.connect("").await;
    assert!(asks(&mut known, KNOWN).await);
    let mut idle = open.connect("").await;
    let mut half = open.connect("GET / HT").await;
    // Whoever comes is answered, by the places of those who show nothing.
    for _ in 0..20 {
        let mut next = open.connect("").await;
        assert!(asks(&mut next, "").await);
    }
    assert!(is_closed(&mut idle).await && is_closed(&mut half).await);
    assert!(asks(&mut known, KNOWN).await, "who is known stays");
    // Among those who are known it is the one that is idle longest, and nobody who is being answered.
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = open.connect("").await;
        assert!(asks(&mut other, KNOWN).await, "{}", others.len());
        others.push(other);
    }
    assert!(is_closed(&mut known).await);
    open.stop.send_replace(true);
    open.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn heads_requests_answers_and_idle_connections_have_their_time() {
    let open = open(10).await;
    let began = Instant::now();
    for (sent, seconds, starts) in [
        ("GET / HTTP/1.1\r\nHo", 10, "HTTP/1.1 408 "),
        ("", 75, ""),
        ("GET /never HTTP/1.1\r\nHost: x\r\n\r\n", 60, ""),
    ] {
        let began = Instant::now();
        let mut stream = open.connect(sent).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let took = began.elapsed().as_secs();
        assert!((seconds..seconds + 2).contains(&took), "{sent:?}: {took} s");
        assert!(answer.starts_with(starts), "{answer}");
    }
    // Nobody reads what was asked for: the connection is gone by the time somebody does.
    let mut deaf = open.connect("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let mut read = Vec::new();
    drop(deaf.read_to_end(&mut read).await);
    assert!(!read.is_empty() && read.len() < 64 << 20, "{}", read.len());
    assert_eq!(*open.echo.broken.lock().unwrap(), [StatusCode::REQUEST_TIMEOUT]);
    assert!(began.elapsed() < Duration::from_secs(200));
    open.stop.send_replace(true);
    open.served.await.unwrap();
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let open = open(10).await;
    let many: String = (0..200).map(|number| format!("h{number}: x\r\n")).collect();
    let long = format!("long: {}\r\n", "x".repeat(4 * READ_AHEAD_MAX));
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nConnection: close\r\n{many}\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nConnection: close\r\n{long}\r\n"), "431"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let mut stream = TcpStream::connect(open.address).await.unwrap();
        // What isn't read any more may be refused.
        drop(stream.write_all(head.as_bytes()).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{status} of {}: {answer}",
            &head[..50.min(head.len())]
        );
    }
    assert_eq!(open.echo.broken.lock().unwrap().len(), 3);
    // Requests that come at once are answered one after the other.
    let mut stream = open.connect(&"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3)).await;
    let mut answers = Vec::new();
    while answers.windows(6).filter(|six| *six == b"\r\n\r\nxx").count() < 3 {
        assert!(stream.read_buf(&mut answers).await.unwrap() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_nobody_for_long() {
    for (sent, within) in [
        ("", 2),
        ("GET / HTTP/1.1\r\nHo", 2),
        ("GET /never HTTP/1.1\r\nHost: x\r\n\r\n", 6),
    ] {
        let open = open(10).await;
        let mut stream = open.connect(sent).await;
        let mut other = open.connect("").await;
        assert!(asks(&mut other, "").await);
        let began = Instant::now();
        open.stop.send_replace(true);
        open.served.await.unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(within),
            "{sent:?}: {:?}",
            began.elapsed()
        );
        assert!(TcpStream::connect(open.address).await.is_err());
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
}

#[test]
fn two_full_listeners_leave_what_the_process_needs_and_half_of_the_rest() {
    for (files, own, connections) in [
        (256, 192, 16),
        (1024, 192, 208),
        (65_536, 192, 2048),
        (u64::MAX, 192, 2048),
        (100, 192, 1),
        (0, 0, 1),
    ] {
        assert_eq!(connections_max(files, own), connections, "{files}");
    }
    assert!(open_files() >= 256);
}
