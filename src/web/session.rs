//! Sessions of the pages: a signed cookie, good in every admin process and over restarts.
//!
//! The cookie of somebody with a token is signed with a key made of the token, so that it ends when the token changes.
//! Where nobody has a token (an open desk, or one behind a proxy) a session only carries the CSRF token: it is a random
//! number, and the CSRF token is made of it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secrets::Secret;

/// The cookie's name.
pub(super) const COOKIE: &str = "leadlane_session";
/// A session lasts for so long, in milliseconds.
pub(super) const LASTS: i64 = 12 * 3600 * 1000;
/// Clocks of two processes may differ by so much.
const CLOCKS_DIFFER: i64 = 60_000;

/// A session that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// The number of the session: what a log-out names, and nobody can come in with.
    pub(super) id: String,
    /// What forms have to show.
    pub(super) csrf: String,
    /// The cookie's value.
    pub(super) cookie: String,
}

/// A cookie of somebody with a token, before its signature is checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) name: String,
    began_at: i64,
    text: String,
    mac: Vec<u8>,
}

impl Session {
    /// A new session of the token's holder. `now` is in epoch milliseconds, as everywhere here.
    pub(super) fn begin(name: &str, token: &Secret, now: i64) -> Self {
        let text = [encode(name.as_bytes()), now.to_string(), random()].join(".");
        let mac = sign(&key(token), "session", &text);
        Self {
            cookie: format!("{text}.{}", encode(&mac)),
            csrf: encode(&sign(&key(token), "csrf", &text)),
            id: id(&text),
        }
    }

    /// A new session of whoever comes, where the cookie lets nobody in.
    pub(super) fn anonymous() -> Self {
        Self::of_number(random())
    }

    /// The session of such a cookie; `None` where it is no number of ours.
    pub(super) fn of_anonymous(cookie: &str) -> Option<Self> {
        let number = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        (number.len() == 16).then(|| Self::of_number(cookie.to_owned()))
    }

    fn of_number(number: String) -> Self {
        let csrf = encode(
            &Sha256::new()
                .chain_update("leadlane csrf ")
                .chain_update(&number)
                .finalize(),
        );
        Self {
            id: id(&number),
            csrf,
            cookie: number,
        }
    }

    /// Whether a form has the session's CSRF token.
    pub(super) fn has_csrf(&self, shown: &str) -> bool {
        self.csrf.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl Signed {
    /// What a cookie says, unchecked.
    pub(super) fn read(cookie: &str) -> Option<Self> {
        let (text, mac) = cookie.rsplit_once('.')?;
        let mut parts = text.split('.');
        let (name, began_at, number) = (parts.next()?, parts.next()?, parts.next()?);
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        (parts.next().is_none() && !number.is_empty()).then_some(Self {
            name,
            began_at: began_at.parse().ok()?,
            text: text.to_owned(),
            mac: URL_SAFE_NO_PAD.decode(mac).ok()?,
        })
    }

    /// The session, where the token signed it and its time isn't over.
    pub(super) fn check(self, token: &Secret, now: i64) -> Option<Session> {
        let key = key(token);
        let signed: bool = sign(&key, "session", &self.text).ct_eq(&self.mac).into();
        let age = now.saturating_sub(self.began_at);
        (signed && (-CLOCKS_DIFFER..LASTS).contains(&age)).then(|| Session {
            id: id(&self.text),
            csrf: encode(&sign(&key, "csrf", &self.text)),
            cookie: format!("{}.{}", self.text, encode(&self.mac)),
        })
    }
}

/// Sessions that were ended before their time. One is kept for as long as it would have lasted.
#[derive(Debug, Default)]
pub(super) struct Ended(Mutex<HashMap<String, i64>>);

impl Ended {
    pub(super) fn end(&self, session: &str, now: i64) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, at| now.saturating_sub(*at) <= LASTS + CLOCKS_DIFFER);
        ended.insert(session.to_owned(), now);
    }

    pub(super) fn has(&self, session: &str) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.contains_key(session)
    }
}

/// The key that a token's sessions are signed with: no signature gives the token away.
fn key(token: &Secret) -> Vec<u8> {
    mac(token.reveal().as_bytes(), &[b"leadlane desk"])
}

fn sign(key: &[u8], what: &str, text: &str) -> Vec<u8> {
    mac(key, &[what.as_bytes(), b" ", text.as_bytes()])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// 128 random bits.
fn random() -> String {
    encode(uuid::Uuid::new_v4().as_bytes())
}

/// A session's number, which can be shown.
fn id(text: &str) -> String {
    encode(&Sha256::digest(text)[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_holds_for_its_token_and_its_time() {
        let (token, other) = (Secret::new("token"), Secret::new("changed"));
        let session = Session::begin("Ana Ruiz", &token, 1_000_000);
        let read = || Signed::read(&session.cookie).unwrap();
        assert_eq!(read().name, "Ana Ruiz");
        assert_eq!(read().check(&token, 1_000_000), Some(session.clone()));
        assert_eq!(read().check(&token, 999_000 + LASTS), Some(session.clone()));
        assert_eq!(read().check(&token, 1_000_000 + LASTS), None);
        assert_eq!(read().check(&other, 1_000_000), None);
        assert!(session.has_csrf(&session.csrf) && !session.has_csrf("") && !session.has_csrf(&session.id));
        // A forged time or name isn't signed.
        let (_, rest) = session.cookie.split_once('.').unwrap();
        let forged = format!("{}.{rest}", encode(b"Priya"));
        assert_eq!(Signed::read(&forged).unwrap().check(&token, 1_000_000), None);
        for broken in ["", ".", "a.b.c.d", "....", &session.cookie[1..]] {
            let checked = Signed::read(broken).and_then(|signed| signed.check(&token, 1_000_000));
            assert_eq!(checked, None, "{broken}");
        }
    }

    #[test]
    fn an_ended_session_is_known_for_as_long_as_it_would_have_lasted_and_not_longer() {
        let ended = Ended::default();
        ended.end("first", 1_000);
        ended.end("second", 1_000 + LASTS + CLOCKS_DIFFER);
        assert!(ended.has("first") && ended.has("second") && !ended.has("third"));
        ended.end("third", 1_001 + LASTS + CLOCKS_DIFFER);
        assert!(!ended.has("first") && ended.has("second") && ended.has("third"));
    }

    #[test]
    fn a_session_of_nobody_only_carries_its_csrf_token() {
        let session = Session::anonymous();
        assert_eq!(Session::of_anonymous(&session.cookie), Some(session.clone()));
        assert_ne!(session.csrf, Session::anonymous().csrf);
        assert_ne!(session.csrf, session.cookie);
        for broken in ["", "x", "!!", &Session::begin("a", &Secret::new("b"), 1).cookie] {
            assert_eq!(Session::of_anonymous(broken), None);
        }
    }
}
