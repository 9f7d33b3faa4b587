//! An HTTP answer, read whole up to a limit. An error before that leaves out the URL, which may be a secret.

use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::Response;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// A longer `Retry-After` means no more to anybody.
const RETRY_AFTER_MAX: f64 = 365.0 * 86_400.0;

/// An answer, its body as text.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// What a Slack token may do (`X-OAuth-Scopes`), where the answer says so.
    pub scopes: Option<String>,
    /// When the answer was made, by the other's clock (`Date`), epoch milliseconds.
    pub date: Option<i64>,
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("no connection")]
    NoConnection,
    #[error("the request could not be made")]
    NoRequest,
    /// The request may have arrived.
    #[error("no answer in time")]
    TimedOut,
    /// The same.
    #[error("the connection broke before the answer")]
    Broken,
}

/// Reads an answer whole, its body up to `max` bytes.
pub async fn reply(sent: Result<Response, reqwest::Error>, max: usize) -> Result<Reply, Unanswered> {
    let mut response = sent.map_err(Unanswered::from)?;
    let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
    let date = text_of(response.headers(), DATE).and_then(|date| Some(rfc2822::parse(date).ok()?.timestamp()));
    let scopes = text_of(response.headers(), HeaderName::from_static("x-oauth-scopes")).map(str::to_owned);
    let mut body = Vec::new();
    while body.len() < max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            // The status alone says enough for a failure; a cut-off 200 may mean anything.
            Err(_) if status >= 400 => break,
            Err(error) => return Err(error.into()),
        }
    }
    body.truncate(max);
    Ok(Reply {
        status,
        retry_after,
        scopes,
        date: date.map(|date| date.as_millisecond()),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

impl From<reqwest::Error> for Unanswered {
    fn from(error: reqwest::Error) -> Self {
        if error.is_connect() {
            Self::NoConnection
        } else if error.is_builder() {
            Self::NoRequest
        } else if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Broken
        }
    }
}

/// Seconds, or a date, which is counted from the answer's own `Date`, so that no clock of ours has to
/// be right. What names no time to come (0, a date gone by, no number) is as good as none: then the
/// dispatch's own delay holds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text_of(headers, RETRY_AFTER)?;
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds.ceil(),
        Err(_) => {
            let date = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
            let until = date(text)?;
            (until - date(text_of(headers, DATE)?)?)
                .total(jiff::Unit::Second)
                .ok()?
        }
    };
    (seconds.is_finite() && seconds > 0.0).then(|| Duration::from_secs(seconds.min(RETRY_AFTER_MAX) as u64))
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_in_every_form() {
        let wait = |value: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_str(date).unwrap());
            }
            retry_after(&headers)
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (value, wanted) in [
            ("30", seconds(30)),
            (" 30 ", seconds(30)),
            ("1.2", seconds(2)),
            // Kept to, up to what the sender could ever wait for.
            ("86400", seconds(86_400)),
            ("99999999999999999999999999", seconds(365 * 86_400)),
            // As good as none.
            ("0", None),
            ("-5", None),
            ("", None),
            ("soon", None),
            ("NaN", None),
            ("inf", None),
            ("30s", None),
            ("Fri, 07 Nov 2014 23:59:59 GMT", None),
        ] {
            assert_eq!(wait(value, None), wanted, "{value:?}");
        }
        let until = |date| wait("Fri, 07 Nov 2014 23:59:59 GMT", Some(date));
        assert_eq!(until("Fri, 07 Nov 2014 23:59:29 GMT"), seconds(30));
        assert_eq!(until("Thu, 06 Nov 2014 23:59:59 GMT"), seconds(86_400));
        assert_eq!(until("Sat, 08 Nov 2014 00:00:00 GMT"), None);
        assert_eq!(until("yesterday"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
