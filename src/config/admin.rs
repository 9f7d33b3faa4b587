//! Who may do what at the rule desk.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::check::Found;
use super::form;
use crate::credential::SecretName;
use crate::rules::Level;

/// The admin listener, and who may come in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    #[serde(with = "form::address")]
    pub listen: SocketAddr,
    /// Names under which the desk is reached, beside `localhost` and IP addresses.
    pub hosts: Vec<String>,
    #[serde(deserialize_with = "form::tokens")]
    pub tokens: Vec<Token>,
    pub proxy: Option<Proxy>,
    /// So many lead events are kept in memory.
    pub recent_events: usize,
    /// So many deliveries are kept in memory.
    pub deliveries_max: usize,
}

/// A person or program with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub name: String,
    pub role: Role,
    /// The name of the secret that is the token.
    #[serde(deserialize_with = "form::secret_name")]
    pub secret: SecretName,
    /// The rules that an editor may write; all where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Place>,
}

/// Rules of one scope. The id `*` is any of its level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub level: Level,
    pub id: String,
}

/// What somebody may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads, checks and previews.
    Viewer,
    /// Writes rules within its levels, and sends tests.
    Editor,
    /// Replays, cancels, pauses sending and reveals masked values, too.
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Viewer, Self::Editor, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// A proxy that says in headers who asks. Its headers count only from its networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    pub networks: Vec<Network>,
    /// The header with the user's name.
    #[serde(default = "user_header")]
    pub user: String,
    /// The header with the user's role.
    #[serde(default = "role_header")]
    pub role: String,
    /// The role of a user without one.
    #[serde(default = "default_role")]
    pub default_role: Role,
}

fn user_header() -> String {
    "X-Forwarded-User".to_owned()
}

fn role_header() -> String {
    "X-Forwarded-Role".to_owned()
}

fn default_role() -> Role {
    Role::Viewer
}

/// Addresses with the same first bits, `10.0.0.0/8`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn contains(self, address: IpAddr) -> bool {
        // An IPv4 peer of a socket that takes both kinds has an address of IPv6.
        let address = address.to_canonical();
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const CURE: &str = "is no network; write it as 10.0.0.0/8, 192.168.1.7 or fd00::/8";
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| CURE)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CURE)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits }).ok_or(CURE)
    }
}

impl TryFrom<String> for Network {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Why nobody could come in, or everybody.
pub(super) fn check(admin: &Admin, found: &mut Found) {
    if admin.tokens.is_empty() && admin.proxy.is_none() && !admin.listen.ip().is_loopback() {
        let listen = admin.listen;
        found.refuse(
            "admin.listen",
            format!(
                "{listen} is not a loopback address, so admin.tokens must hold a token or more, or admin.proxy a proxy"
            ),
        );
    }
    for (at, token) in admin.tokens.iter().enumerate() {
        let key = |field: &str| format!("admin.tokens[{at}].{field}");
        if token.name.trim().is_empty() || token.name.chars().any(char::is_control) {
            found.refuse(
                key("name"),
                "is empty or has control characters; name who holds the token",
            );
        } else if admin.tokens[..at].iter().any(|before| before.name == token.name) {
            found.refuse(key("name"), "is given twice; the audit must tell people apart");
        }
        if !token.levels.is_empty() && token.role != Role::Editor {
            found.refuse(
                key("levels"),
                "only limits an editor; leave it out, or make the role editor",
            );
        }
    }
    if let Some(proxy) = &admin.proxy {
        if proxy.networks.is_empty() {
            found.refuse(
                "admin.proxy.networks",
                "is empty, so that nobody could come in; name the proxy's addresses, such as [10.0.0.0/8]",
            );
        }
        for (field, header) in [("user", &proxy.user), ("role", &proxy.role)] {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if header.is_empty() || !header.chars().all(is_name) {
                found.refuse(
                    format!("admin.proxy.{field}"),
                    "is no name of a header; it has letters, digits and - alone",
                );
            }
        }
    }
    let is_host = |host: &str| !host.is_empty() && !host.contains(['/', ':', ' ', '@', '*']);
    for (at, _) in admin.hosts.iter().enumerate().filter(|(_, host)| !is_host(host)) {
        found.refuse(
            format!("admin.hosts[{at}]"),
            "is no host's name; write it without scheme and port, such as desk.example.com",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_addresses_with_their_first_bits() {
        let has = |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.0.1"));
        assert!(has("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("0.0.0.0/0", "203.0.113.9"));
        assert!(!has("0.0.0.0/0", "fd00::1"));
        assert!(has("192.168.1.7", "192.168.1.7"));
        assert!(!has("192.168.1.7", "192.168.1.6"));
        assert!(has("fd00::/8", "fdff::1"));
        assert!(has("::/0", "2001:db8::1"));
        for text in ["10.0.0.0/33", "10.0.0/8", "", "/8", "::/129", "10.0.0.0/-1", "host"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
