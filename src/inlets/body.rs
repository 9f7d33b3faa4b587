//! Reads the body of a request within its limits of size and time.

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, EXPECT, HeaderMap};
use tokio::time::Instant;

use crate::listen::Connection;
use crate::text::file;

/// A refused request: the status, and the fault in words that don't quote the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) said: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, said: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            said: said.into(),
        }
    }
}

/// Of a body that isn't wanted so much is read all the same, so that the answer reaches a client that
/// writes before it reads.
const DRAINED_MAX: usize = 16 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(3);

/// Whether a body is compressed; an encoding that isn't gzip is refused.
pub(super) fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else {
        return Ok(false);
    };
    let encoding = encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Encoding: only gzip is taken",
        )),
    }
}

/// The whole body as it comes, of at most `max` bytes, where the request that began at `began` is in `within` so long.
pub(super) async fn read(body: &mut Incoming, max: usize, began: Instant, within: Duration) -> Result<Bytes, Refusal> {
    if usize::try_from(body.size_hint().lower()).is_ok_and(|size| size > max) {
        return Err(too_large(max));
    }
    let reading = async {
        let mut whole: Option<Vec<u8>> = None;
        let mut first = Bytes::new();
        while let Some(frame) = body.frame().await {
            let broken = |_| Refusal::new(StatusCode::BAD_REQUEST, "the body ends too soon");
            let Ok(piece) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            let so_far = whole.as_ref().map_or(first.len(), Vec::len);
            if so_far + piece.len() > max {
                return Err(too_large(max));
            }
            // Most bodies come in one piece, which needs no copy.
            match &mut whole {
                None if first.is_empty() => first = piece,
                None => whole = Some([&first[..], &piece].concat()),
                Some(whole) => whole.extend_from_slice(&piece),
            }
        }
        Ok(whole.map_or(first, Bytes::from))
    };
    match tokio::time::timeout_at(began + within, reading).await {
        Ok(read) => read,
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request was not in within {} s", within.as_secs_f64()),
        )),
    }
}

/// Inflates; more than `max` bytes are refused before they are there.
pub(super) fn inflate(body: &[u8], max: usize) -> Result<Bytes, Refusal> {
    let mut inflated = Vec::with_capacity(body.len().saturating_mul(4).min(max));
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    match flate2::read::MultiGzDecoder::new(body)
        .take(limit)
        .read_to_end(&mut inflated)
    {
        Ok(_) if inflated.len() > max => Err(too_large(max)),
        Ok(_) => Ok(Bytes::from(inflated)),
        Err(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "malformed gzip")),
    }
}

/// A body's text in UTF-8, without a byte order mark: no format that comes by HTTP is other than text.
pub(super) fn utf8(body: Bytes) -> Result<Bytes, Refusal> {
    let whole = body.len();
    let read = file::utf8(Cow::Borrowed(&body)).map(|text| match text {
        Cow::Borrowed(text) => Err(whole - text.len()),
        Cow::Owned(text) => Ok(Bytes::from(text)),
    });
    match read {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(mark)) => Ok(body.slice(mark..)),
        Err(no_text) => {
            let said = format!("the body can't be read: {no_text}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, said))
        }
    }
}

fn too_large(max: usize) -> Refusal {
    let said = format!("the body has more than {max} bytes, inlet.body_max");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, said)
}

/// Reads what is left of a body that isn't wanted, within bounds, and then lets it go.
pub(super) fn drain(mut body: Incoming, headers: &HeaderMap, connection: &Arc<Connection>) {
    // A client that asks first (Expect) sends nothing after a refusal.
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return connection.request_ended();
    }
    let connection = Arc::clone(connection);
    tokio::spawn(async move {
        let draining = async {
            let mut left = DRAINED_MAX;
            while let Some(Ok(frame)) = body.frame().await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(less) => left = less,
                    None => break,
                }
            }
        };
        drop(tokio::time::timeout(DRAINED_FOR, draining).await);
        connection.request_ended();
    });
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_inflated_is_whole_and_bounded() {
        let text = b"{\"a\":1}".repeat(10);
        assert_eq!(inflate(&gzip(&text), 70).unwrap(), &text[..]);
        assert_eq!(inflate(&gzip(&text), 69).unwrap_err().status, 413);
        let two = [gzip(b"{\"a\""), gzip(b":1}")].concat();
        assert_eq!(inflate(&two, 70).unwrap(), &b"{\"a\":1}"[..]);
        // A megabyte of zeros is a kilobyte.
        let bomb = gzip(&vec![0; 100_000_000]);
        assert!(bomb.len() < 200_000);
        assert_eq!(inflate(&bomb, 1_000_000).unwrap_err().status, 413);
        let cut = &gzip(&text)[..20];
        for broken in [&b"plain"[..], b"", cut] {
            assert_eq!(inflate(broken, 70).unwrap_err().status, 400, "{broken:?}");
        }
    }

    #[test]
    fn encodings_other_than_gzip_are_refused() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, value.parse().unwrap());
            is_gzip(&headers).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(is_gzip(&HeaderMap::new()), Ok(false));
        for (value, expected) in [
            ("gzip", Ok(true)),
            ("GZip", Ok(true)),
            ("identity", Ok(false)),
            ("br", Err(415)),
            ("gzip, gzip", Err(415)),
        ] {
            assert_eq!(of(value), expected, "{value}");
        }
    }
}
