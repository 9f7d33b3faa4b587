//! Makes every HTTP client of Leadlane, so that all of them keep the same rules; [`reply`](fn@reply) reads their answers.
//!
//! - A client follows no redirect, which could carry a token to another host.
//! - A proxy serves `https` alone, where it sees a host's name and nothing else. `HTTPS_PROXY` names it, and
//!   `NO_PROXY` names the hosts that clients reach without it (both also in lower case). Plain `http` goes straight to
//!   its host, because a proxy would read the token in it: clients ignore `HTTP_PROXY` and `ALL_PROXY`.
//! - TLS is 1.2 or later.

use std::ffi::OsString;
use std::time::Duration;

mod reply;

use reqwest::{Client, ClientBuilder, NoProxy, Proxy, Url, redirect, tls};

pub use reply::{Reply, Unanswered, reply};

/// So many bytes of an answer are looked at.
const LOOK_MAX: usize = 256 * 1024;

/// Variables that other programs take a proxy for plain `http` from.
const UNUSED: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "{0} is no proxy's address; write http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before the host where \
         the proxy wants them, or unset it"
    )]
    Proxy(&'static str),
    #[error("{0} isn't UTF-8; write names of hosts by comma, or unset it")]
    NoProxy(&'static str),
    #[error("the HTTP client can't be made: TLS can't be set up; check the system's certificates")]
    Tls,
}

/// A client whose requests end after `answer_wait` at the latest. A connection gets half of it, so that a host that
/// can't be reached differs from one that doesn't answer.
///
/// # Errors
/// `HTTPS_PROXY` or `NO_PROXY` can't be read, or TLS can't be set up.
pub fn client(answer_wait: Duration) -> Result<Client, ClientError> {
    let client = proxied(Client::builder().no_proxy(), |name| std::env::var_os(name))?
        .timeout(answer_wait)
        .connect_timeout(answer_wait / 2)
        .redirect(redirect::Policy::none())
        .tls_version_min(tls::Version::TLS_1_2)
        .user_agent(concat!("leadlane/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true);
    client.build().map_err(|_| ClientError::Tls)
}

/// Looks at what answers at an address, with nothing to show there.
pub async fn look(url: &str, answer_wait: Duration) -> Result<Reply, Unanswered> {
    let client = client(answer_wait).map_err(|_| Unanswered::NoRequest)?;
    reply(client.get(url).send().await, LOOK_MAX).await
}

/// The variables that are set and name a proxy that isn't used.
pub fn unused_variables() -> Vec<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    UNUSED.into_iter().filter(is_set).collect()
}

/// With the proxy that the variables name. One that is empty is as good as none.
fn proxied(client: ClientBuilder, variable: impl Fn(&str) -> Option<OsString>) -> Result<ClientBuilder, ClientError> {
    let set = |names: [&'static str; 2]| {
        let value = |name| variable(name).filter(|value| !value.is_empty());
        names.into_iter().find_map(|name| Some((name, value(name)?)))
    };
    let Some((name, address)) = set(["HTTPS_PROXY", "https_proxy"]) else {
        return Ok(client);
    };
    let wrong = || ClientError::Proxy(name);
    let address = proxy_url(address.to_str().ok_or_else(wrong)?).ok_or_else(wrong)?;
    let hosts = match set(["NO_PROXY", "no_proxy"]) {
        None => String::new(),
        Some((name, hosts)) => without_stars(hosts.to_str().ok_or(ClientError::NoProxy(name))?),
    };
    // reqwest takes a star for every name, and for no address.
    if hosts.split(',').any(|host| host == "*") {
        return Ok(client);
    }
    let proxy = Proxy::https(address).map_err(|_| wrong())?;
    Ok(client.proxy(proxy.no_proxy(NoProxy::from_string(&hosts))))
}

/// `HOST:PORT` is an address too, of a proxy that is spoken to by http.
fn proxy_url(text: &str) -> Option<Url> {
    let text = text.trim();
    let url = match text.contains("://") {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    let url = url.ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// `*.example.com` is written for `.example.com`, which reqwest reads.
fn without_stars(hosts: &str) -> String {
    let hosts = hosts.split(',').map(str::trim);
    let hosts = hosts.map(|host| {
        host.strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(host)
    });
    hosts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// The part of a request for `url` that a proxy sees when these variables are set: the first line, or nothing.
    async fn seen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap().to_string();
        let of = |name: &str| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(value.replace("PROXY", &address)))
        };
        let client = proxied(Client::builder().no_proxy(), of).unwrap().build().unwrap();
        let asked = client.get(url).send();
        let accepted = async {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let length = stream.read(&mut head).await.unwrap();
            String::from_utf8_lossy(&head[..length])
                .lines()
                .next()
                .map(str::to_owned)
        };
        tokio::select! {
            biased;
            line = accepted => line,
            // Nobody listens there, so that this ends at once where no proxy is asked.
            _ = asked => None,
        }
    }

    #[tokio::test]
    async fn https_alone_goes_through_a_proxy() {
        let https = "https://127.0.0.1:1/";
        let connect = Some("CONNECT 127.0.0.1:1 HTTP/1.1".to_owned());
        for (variables, wanted) in [
            (&[("HTTPS_PROXY", "http://PROXY")][..], connect.clone()),
            (&[("https_proxy", "http://PROXY")], connect.clone()),
            (&[("HTTPS_PROXY", "PROXY")], connect.clone()),
            (
                &[("HTTPS_PROXY", "http://PROXY"), ("NO_PROXY", "localhost")],
                connect.clone(),
            ),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "http://PROXY")], connect),
            (&[("HTTPS_PROXY", "http://PROXY"), ("NO_PROXY", "a, 127.0.0.0/8")], None),
            (&[("HTTPS_PROXY", "http://PROXY"), ("no_proxy", "*")], None),
            (&[("HTTP_PROXY", "http://PROXY"), ("ALL_PROXY", "http://PROXY")], None),
            (&[], None),
        ] {
            assert_eq!(seen(https, variables).await, wanted, "{variables:?}");
        }
        let all = [
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
            "HTTPS_PROXY",
            "https_proxy",
        ];
        let all = all.map(|name| (name, "http://PROXY"));
        assert_eq!(seen("http://127.0.0.1:1/", &all).await, None);
    }

    #[test]
    fn a_proxy_that_cannot_be_one_is_refused_unseen() {
        for address in [
            "socks5://hunter2:1080",
            "http://",
            "http://user:hunter2@:8",
            "hunter2 x",
        ] {
            let of = |name: &str| (name == "HTTPS_PROXY").then(|| OsString::from(address));
            let said = proxied(Client::builder(), of).unwrap_err().to_string();
            assert!(
                said.starts_with("HTTPS_PROXY is no proxy's address") && !said.contains("hunter2"),
                "{said}"
            );
        }
        assert_eq!(without_stars("a, *.b.com,*, .c"), "a,.b.com,*,.c");
    }
}
