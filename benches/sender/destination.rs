//! Destinations that cost next to nothing: they read a request up to its end, note which jobs it holds, and say yes.
//! The channel [`HANGS`] gets no answer, and [`FAILS`] a 500.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A channel that gets no answer.
pub(crate) const HANGS: &str = "CHANGS";
/// A channel that gets a 500.
pub(crate) const FAILS: &str = "CFAILS";

/// What arrived. A job's body holds its number between two `#`; other texts there are counted and no more.
#[derive(Debug)]
pub(crate) struct Arrivals {
    began: Instant,
    /// Of each number: how often it came, and when first, in microseconds.
    jobs: Vec<(AtomicU64, AtomicU64)>,
    requests: AtomicU64,
    others: AtomicU64,
}

impl Arrivals {
    pub(crate) fn of(jobs: usize) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            jobs: (0..jobs).map(|_| <(AtomicU64, AtomicU64)>::default()).collect(),
            requests: AtomicU64::new(0),
            others: AtomicU64::new(0),
        })
    }

    /// Microseconds since the counting began, the clock of all arrivals.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// When `job` came first.
    pub(crate) fn first(&self, job: usize) -> Option<u64> {
        let (times, at) = &self.jobs[job];
        (times.load(Ordering::Relaxed) > 0).then(|| at.load(Ordering::Relaxed))
    }

    /// How many of the numbers came, and how often more than once.
    pub(crate) fn counted(&self) -> (usize, u64) {
        let times = |(times, _): &(AtomicU64, AtomicU64)| times.load(Ordering::Relaxed);
        let came = self.jobs.iter().filter(|job| times(job) > 0).count();
        (came, self.jobs.iter().map(|job| times(job).saturating_sub(1)).sum())
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }

    /// How many jobs a body holds.
    fn note(&self, body: &[u8]) -> u64 {
        let (mut held, now) = (0, self.now());
        for part in body.split(|byte| *byte == b'#').skip(1).step_by(2) {
            held += 1;
            let number = std::str::from_utf8(part)
                .ok()
                .and_then(|part| part.parse::<usize>().ok());
            match number.and_then(|number| self.jobs.get(number)) {
                Some((times, at)) if times.fetch_add(1, Ordering::Relaxed) == 0 => at.store(now, Ordering::Relaxed),
                Some(_) => {}
                None => drop(self.others.fetch_add(1, Ordering::Relaxed)),
            }
        }
        self.requests.fetch_add(u64::from(held > 0), Ordering::Relaxed);
        held
    }
}

/// Serves Slack and CleverTap on `listener` for ever; each answer takes `latency`.
pub(crate) async fn serve(listener: TcpListener, arrivals: Arc<Arrivals>, latency: Duration) {
    while let Ok((stream, _)) = listener.accept().await {
        let arrivals = Arc::clone(&arrivals);
        tokio::spawn(async move { drop(connection(stream, &arrivals, latency).await) });
    }
}

/// Takes connections and never answers.
pub(crate) async fn hang(listener: TcpListener) {
    let mut held = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        held.push(stream);
    }
}

async fn connection(mut stream: TcpStream, arrivals: &Arrivals, latency: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let (head, length) = loop {
            if let Some(found) = head(&buffer) {
                break found;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = &buffer[head..head + length];
        let held = arrivals.note(body);
        let is_for = |channel: &str| body.windows(channel.len()).any(|part| part == channel.as_bytes());
        if is_for(HANGS) {
            // Until the client gives up.
            while stream.read_buf(&mut buffer).await? > 0 {}
            return Ok(());
        }
        let status = if is_for(FAILS) {
            "500 Internal Server Error"
        } else {
            "200 OK"
        };
        let answer = if buffer[..head].starts_with(b"POST /1/upload") {
            format!(r#"{{"status":"success","processed":{held},"unprocessed":[]}}"#)
        } else {
            r#"{"ok":true,"ts":"1503435956.000247"}"#.to_owned()
        };
        buffer.drain(..head + length);
        if latency > Duration::ZERO {
            tokio::time::sleep(latency).await;
        }
        let length = answer.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-oauth-scopes: chat:write,channels:join,im:write\r\n\
             content-length: {length}\r\n\r\n{answer}"
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Where a request's head ends, and how long its body is.
fn head(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..end]).unwrap_or_default();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    Some((end, length.unwrap_or(0)))
}
