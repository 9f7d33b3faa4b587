//! URLs of the configuration, and how they are shown: without any part that may be a secret.

use std::fmt;
use std::ops::Deref;

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Paths that are shown; any other may be a webhook's or a gateway's secret.
const SHOWN_PATHS: [&str; 4] = ["/api", "/api/", "/apis/ccompat/v6", "/apis/ccompat/v7"];

/// A URL as it was written. `Debug` and serialization hide a user, a password, a path and a query.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The part of it that may be shown.
    fn shown(&self) -> String {
        let Ok(url) = Url::parse(&self.0) else {
            return "***".to_owned();
        };
        let user = if url.username().is_empty() && url.password().is_none() {
            ""
        } else {
            "***@"
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = match url.path() {
            "" | "/" => "",
            path if SHOWN_PATHS.contains(&path) => path,
            _ => "/***",
        };
        let rest = if url.query().is_none() && url.fragment().is_none() {
            ""
        } else {
            "?***"
        };
        format!("{}://{user}{host}{port}{path}{rest}", url.scheme())
    }
}

impl Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Address {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl From<&str> for Address {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// An `http` or `https` URL with a host.
pub(super) fn plain_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err("must be an http or https URL with a host".into()),
    }
}

/// A URL that a credential may be sent to: by https, unless the host is a loopback address.
///
/// # Errors
/// The text is no such URL. The message doesn't quote it.
pub fn safe_url(text: &str) -> Result<Url, String> {
    let url = plain_url(text)?;
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url);
    }
    Err("must be https, unless its host is a loopback address".into())
}

/// The base URL of an API, which methods are put behind.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let url = safe_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password in it, which nobody asks for; leave them out".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("ends in a query or a fragment; leave it out".into());
    }
    Ok(url)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_secret_is_hidden() {
        for (url, shown) in [
            ("https://slack.com/api", "https://slack.com/api"),
            ("http://r:8081", "http://r:8081"),
            ("http://r:8081/", "http://r:8081"),
            (
                "http://u:hunter2@r:8081/apis/ccompat/v7",
                "http://***@r:8081/apis/ccompat/v7",
            ),
            ("http://hunter2@r/", "http://***@r"),
            (
                "https://hooks.slack.com/services/T0/B0/hunter2",
                "https://hooks.slack.com/***",
            ),
            ("https://r/?token=hunter2#hunter2", "https://r?***"),
            ("hunter2", "***"),
            ("mailto:hunter2", "mailto:///***"),
        ] {
            assert_eq!(Address::from(url).shown(), shown);
            assert_eq!(format!("{:?}", Some(Address::from(url))), format!("Some({shown})"));
        }
    }
}
