//! Who asks, and what they may do: by a token, by a proxy's headers, or everybody.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use serde_json::Value;

use super::problem::Problem;
use crate::config::admin::{Admin, Place, Role, Token};
use crate::rules::Level;
use crate::secrets::held::Held;
use crate::secrets::{Secret, Secrets};

/// The values behind the tokens' secrets are read again after so long, so that a changed token counts at once.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actor {
    /// The name that the audit has.
    pub(super) name: String,
    pub(super) role: Role,
    /// The rules that an editor may write; all where there are none.
    pub(super) levels: Arc<[Place]>,
    pub(super) by: By,
}

/// How it is known who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Token,
    Proxy,
    /// Nobody is asked for anything: everybody is an admin, on a loopback address.
    Open,
}

impl Actor {
    /// Everybody, where neither tokens nor a proxy say who comes.
    pub(super) fn anybody() -> Self {
        Self {
            name: "Local user".to_owned(),
            role: Role::Admin,
            levels: Arc::default(),
            by: By::Open,
        }
    }

    fn of(token: &Token) -> Self {
        Self {
            name: token.name.clone(),
            role: token.role,
            levels: token.levels.clone().into(),
            by: By::Token,
        }
    }

    /// Refuses whoever may less than `role`.
    pub(super) fn needs(&self, role: Role) -> Result<(), Problem> {
        match self.role >= role {
            true => Ok(()),
            false => Err(Problem::forbidden(format!(
                "This needs the role {}, and {} is {}.",
                role.as_str(),
                self.name,
                self.role.as_str()
            ))),
        }
    }

    /// Whether this one may write rules of a scope.
    pub(super) fn may_write(&self, level: Level, id: &str) -> bool {
        let within = |place: &Place| place.level == level && (place.id == "*" || place.id == id);
        self.role >= Role::Editor && (self.levels.is_empty() || self.levels.iter().any(within))
    }

    /// Whether this one may write a rule, as it is written. A rule without a scope is nobody's.
    pub(super) fn may_write_rule(&self, rule: &Value) -> bool {
        let scope = &rule["scope"];
        let level =
            (scope["level"].as_str()).and_then(|name| Level::ALL.into_iter().find(|level| level.as_str() == name));
        let id = match &scope["id"] {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => String::new(),
        };
        match level {
            Some(level) => self.may_write(level, &id),
            None => self.role >= Role::Editor && self.levels.is_empty(),
        }
    }

    /// Refuses a change of a rule that doesn't lie within the levels, before and after.
    pub(super) fn needs_rule(&self, before: Option<&Value>, after: Option<&Value>) -> Result<(), Problem> {
        self.needs(Role::Editor)?;
        let outside = [before, after]
            .into_iter()
            .flatten()
            .any(|rule| !self.may_write_rule(rule));
        match outside {
            true => Err(Problem::forbidden(format!(
                "{} may write rules of {} alone.",
                self.name,
                self.levels_in_words()
            ))),
            false => Ok(()),
        }
    }

    /// The levels, such as `product 12 and campaign 7`.
    pub(super) fn levels_in_words(&self) -> String {
        let words = |place: &Place| match place.id.as_str() {
            "*" => format!("any {}", place.level.as_str()),
            id => format!("{} {id}", place.level.as_str()),
        };
        let words: Vec<String> = self.levels.iter().map(words).collect();
        match words.as_slice() {
            [] => "every level".to_owned(),
            [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
            [one, ..] => one.clone(),
        }
    }
}

/// The tokens, with their secrets' values as they were a moment ago.
#[derive(Debug)]
pub(super) struct Tokens {
    tokens: Vec<Token>,
    secrets: Secrets,
    held: Held,
    read_at: Mutex<Option<Instant>>,
}

impl Tokens {
    pub(super) fn new(admin: &Admin, secrets: Secrets) -> Self {
        Self {
            tokens: admin.tokens.clone(),
            secrets,
            held: Held::new(admin.tokens.iter().map(|token| &token.secret)),
            read_at: Mutex::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Who holds a token. The search takes as long for a wrong one as for a right one.
    pub(super) async fn holder(&self, shown: &str) -> Option<Actor> {
        let values = self.values().await;
        let pairs = self.tokens.iter().zip(values.iter());
        pairs.fold(None, |found, (token, value)| {
            let is_shown = value.as_ref().is_some_and(|value| value.is(shown.as_bytes()));
            if is_shown { Some(Actor::of(token)) } else { found }
        })
    }

    /// The holder of that name, with the token's value as it is now.
    pub(super) async fn of_name(&self, name: &str) -> Option<(Actor, Secret)> {
        let values = self.values().await;
        let at = self.tokens.iter().position(|token| token.name == name)?;
        Some((Actor::of(&self.tokens[at]), values.get(at)?.clone()?))
    }

    async fn values(&self) -> Arc<[Option<Secret>]> {
        let read_at = *self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        if read_at.is_none_or(|at| at.elapsed() >= FRESH_FOR) {
            if let Some(said) = self.held.refresh(&self.secrets).await {
                tracing::warn!("a token of the desk opens nothing: {said}");
            }
            *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.held.values()
    }
}

/// The token in `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who a proxy says that asks; `None` where the request doesn't come from one, or names nobody.
pub(super) fn proxied(admin: &Admin, peer: IpAddr, headers: &HeaderMap) -> Option<Actor> {
    let proxy = admin.proxy.as_ref().filter(|_| is_proxy(admin, peer))?;
    let text = |name: &str| {
        let mut values = headers.get_all(name).iter();
        // A header that stands twice may be the user's own.
        let (first, second) = (values.next()?, values.next());
        let text = first.to_str().ok().filter(|_| second.is_none())?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let name = text(&proxy.user)?;
    let role = match headers.contains_key(&proxy.role) {
        true => Role::parse(&text(&proxy.role)?.to_ascii_lowercase())?,
        false => proxy.default_role,
    };
    Some(Actor {
        name,
        role,
        levels: Arc::default(),
        by: By::Proxy,
    })
}

/// Whether a peer is the proxy.
pub(super) fn is_proxy(admin: &Admin, peer: IpAddr) -> bool {
    let networks = admin.proxy.iter().flat_map(|proxy| &proxy.networks);
    networks.into_iter().any(|network| network.contains(peer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secrets::SecretError;

    fn editor(levels: Value) -> Actor {
        let token = json!({"name": "ana", "role": "editor", "secret": "desk-ana", "levels": levels});
        Actor::of(&serde_json::from_value(token).unwrap())
    }

    #[test]
    fn an_editor_writes_within_the_levels_before_and_after() {
        let ana = editor(json!([{"level": "product", "id": "12"}, {"level": "inlet", "id": "*"}]));
        let rule = |level: &str, id: Value| json!({"scope": {"level": level, "id": id}});
        let (own, other) = (rule("product", json!("12")), rule("product", json!("13")));
        assert!(ana.needs_rule(None, Some(&own)).is_ok());
        assert!(ana.needs_rule(Some(&own), Some(&rule("product", json!(12)))).is_ok());
        assert!(ana.needs_rule(None, Some(&rule("inlet", json!("crm")))).is_ok());
        for (before, after) in [
            (None, Some(&other)),
            (Some(&other), Some(&own)),
            (Some(&own), Some(&other)),
            (Some(&other), None),
            (None, Some(&rule("product", json!("*")))),
            (None, Some(&rule("campaign", json!("12")))),
            (None, Some(&json!({}))),
        ] {
            let problem = ana.needs_rule(before, after).unwrap_err();
            assert!(
                problem.detail.contains("product 12 and any inlet"),
                "{}",
                problem.detail
            );
        }
        assert!(editor(json!([])).needs_rule(Some(&other), Some(&json!({}))).is_ok());
    }

    #[tokio::test]
    async fn a_token_is_its_holders_and_no_other_ones() {
        let secrets = Secrets::looking_up(|_, name| match name.as_str() {
            "desk-ana" => Ok(Secret::new("right")),
            "desk-empty" => Ok(Secret::new("")),
            _ => Err(SecretError::NoName),
        });
        let token = |name: &str| {
            serde_json::from_value(json!({"name": name, "role": "viewer", "secret": format!("desk-{name}")})).unwrap()
        };
        let admin = Admin {
            tokens: ["gone", "ana", "empty"].into_iter().map(token).collect(),
            ..Admin::default()
        };
        let tokens = Tokens::new(&admin, secrets);
        assert_eq!(tokens.holder("right").await.unwrap().name, "ana");
        for wrong in ["", "righ", "rightt", "wrong"] {
            assert_eq!(tokens.holder(wrong).await, None, "{wrong}");
        }
        assert!(tokens.of_name("ana").await.is_some());
        assert!(tokens.of_name("gone").await.is_none());
    }

    #[test]
    fn a_proxy_counts_from_its_networks_alone() {
        let admin = Admin {
            proxy: Some(serde_json::from_value(json!({"networks": ["10.0.0.0/8"]})).unwrap()),
            ..Admin::default()
        };
        let asks = |peer: &str, given: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(*name, value.parse().unwrap());
            }
            proxied(&admin, peer.parse().unwrap(), &headers).map(|actor| (actor.name, actor.role))
        };
        let ana = ("x-forwarded-user", "ana");
        let is = |role| Some(("ana".to_owned(), role));
        assert_eq!(asks("10.1.1.1", &[ana]), is(Role::Viewer));
        assert_eq!(asks("10.1.1.1", &[ana, ("x-forwarded-role", "Admin")]), is(Role::Admin));
        assert_eq!(asks("11.1.1.1", &[ana]), None);
        assert_eq!(asks("10.1.1.1", &[]), None);
        assert_eq!(asks("10.1.1.1", &[ana, ana]), None);
        assert_eq!(asks("10.1.1.1", &[ana, ("x-forwarded-role", "root")]), None);
        let twice = [ana, ("x-forwarded-role", "viewer"), ("x-forwarded-role", "admin")];
        assert_eq!(asks("10.1.1.1", &twice), None);
    }
}
