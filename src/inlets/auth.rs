//! Decides whether a request may come in. A comparison takes as long for a wrong secret as for the right one.

use base64::Engine as _;
use hmac::{Hmac, Mac};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::Sha256;

use crate::mapping::{Key, KeyPlace};
use crate::secrets::held::Held;
use crate::secrets::{Secret, Secrets};

/// How many seconds Slack's clock and ours may be apart; what is older may be a replay.
const SKEW_MAX: u64 = 5 * 60;
/// What opens an inlet, with the values behind the names.
#[derive(Debug)]
pub(super) struct Keyring {
    inlet: String,
    keys: Vec<Key>,
    held: Held,
}

/// What of a request may open an inlet before its body is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'r> {
    pub(super) headers: &'r HeaderMap,
    /// The step of the path behind the inlet's name.
    pub(super) path: Option<&'r [u8]>,
}

/// What the head of a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Open,
    Closed,
    /// It depends on the signature over the body.
    Signed,
    /// It depends on the write key in the body.
    InBody,
}

impl Keyring {
    pub(super) fn new(inlet: &str, keys: &[Key]) -> Self {
        Self {
            inlet: inlet.to_owned(),
            keys: keys.to_vec(),
            held: Held::new(keys.iter().map(|key| &key.secret)),
        }
    }

    /// How the keys are shown, in the words of `WWW-Authenticate`.
    pub(super) fn schemes(&self, is_page: bool) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(move |key| scheme(key.place, is_page))
    }

    /// Whether a secret may stand in the path.
    pub(super) fn has_path(&self) -> bool {
        self.keys.iter().any(|key| key.place == KeyPlace::Path)
    }

    /// The verdict by the head alone, at `now` in epoch seconds. An inlet without keys is open; it listens on a loopback
    /// address.
    pub(super) fn head(&self, shown: &Shown<'_>, now: i64) -> Verdict {
        if self.keys.is_empty() {
            return Verdict::Open;
        }
        let values = self.held.values();
        // Not `any`: the time that this takes must not show which of the secrets was right.
        let opened = self
            .with(&values)
            .fold(false, |opened, (place, secret)| opened | shows(shown, place, secret));
        match opened {
            true => Verdict::Open,
            false if self.has(KeyPlace::Signature, &values) && Signature::of(shown.headers, now).is_some() => {
                Verdict::Signed
            }
            // Who shows a key in the head shows none in the body.
            false if self.has(KeyPlace::WriteKey, &values) && !shown.headers.contains_key(AUTHORIZATION) => {
                Verdict::InBody
            }
            false => Verdict::Closed,
        }
    }

    /// Whether a body's write key opens the inlet.
    pub(super) fn opens(&self, write_key: &str) -> bool {
        let values = self.held.values();
        let keys = self.with(&values).filter(|(place, _)| *place == KeyPlace::WriteKey);
        keys.fold(false, |opened, (_, secret)| opened | secret.is(write_key.as_bytes()))
    }

    /// Whether Slack signed `body`; `now` is in epoch seconds.
    pub(super) fn signed(&self, headers: &HeaderMap, body: &[u8], now: i64) -> bool {
        let values = self.held.values();
        let signing = self.with(&values).filter(|(place, _)| *place == KeyPlace::Signature);
        let Some(signature) = Signature::of(headers, now) else {
            return false;
        };
        signing.fold(false, |signed, (_, secret)| {
            signed | signature.holds(secret.reveal().as_bytes(), body)
        })
    }

    /// Reads the secrets again. One that is missing or empty opens nothing, and that is said when it begins.
    pub(super) async fn refresh(&self, secrets: &Secrets) {
        if let Some(said) = self.held.refresh(secrets).await {
            tracing::warn!(inlet = self.inlet, "a secret opens nothing: {said}");
        }
    }

    fn has(&self, place: KeyPlace, values: &[Option<Secret>]) -> bool {
        self.with(values).any(|(of, _)| of == place)
    }

    fn with<'v>(&self, values: &'v [Option<Secret>]) -> impl Iterator<Item = (KeyPlace, &'v Secret)> {
        let keys = self.keys.iter().map(|key| key.place).zip(values);
        keys.filter_map(|(place, secret)| Some((place, secret.as_ref()?)))
    }
}

/// How a key is shown, in the words of `WWW-Authenticate`. Of a page that reads `Basic` a browser would ask its user for a
/// name and a password.
pub(super) fn scheme(place: KeyPlace, is_page: bool) -> &'static str {
    match place {
        KeyPlace::Bearer => "Bearer",
        KeyPlace::Basic | KeyPlace::WriteKey if is_page => "xBasic realm=\"leadlane\"",
        KeyPlace::Basic | KeyPlace::WriteKey => "Basic realm=\"leadlane\"",
        KeyPlace::Signature => "Signature",
        KeyPlace::Path => "Path",
    }
}

fn shows(shown: &Shown<'_>, place: KeyPlace, secret: &Secret) -> bool {
    match place {
        KeyPlace::Signature => false,
        KeyPlace::Path => shown.path.is_some_and(|path| secret.is(path)),
        KeyPlace::Bearer => credentials(shown.headers, "bearer").is_some_and(|token| secret.is(token.as_bytes())),
        KeyPlace::Basic | KeyPlace::WriteKey => {
            let decoded = credentials(shown.headers, "basic")
                .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
            let Some(pair) = decoded else { return false };
            let colon = pair.iter().position(|byte| *byte == b':').unwrap_or(pair.len());
            let password = pair.get(colon + 1..).unwrap_or_default();
            secret.is(&pair[..colon]) | secret.is(password)
        }
    }
}

/// What follows the scheme in `Authorization`.
fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let (named, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    named.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// Slack's signature v0: HMAC-SHA256 of `v0:TIME:BODY`, in hexadecimal.
struct Signature<'h> {
    time: &'h str,
    digest: Vec<u8>,
}

impl<'h> Signature<'h> {
    /// The signature in the headers, where it has the form of one and is of now.
    fn of(headers: &'h HeaderMap, now: i64) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let time = text("x-slack-request-timestamp")?;
        let digest = bytes(text("x-slack-signature")?.strip_prefix("v0=")?)?;
        let recent = now.abs_diff(time.parse::<i64>().ok()?) <= SKEW_MAX;
        (recent && digest.len() == DIGEST).then_some(Self { time, digest })
    }

    fn holds(&self, secret: &[u8], body: &[u8]) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
        for part in [b"v0:", self.time.as_bytes(), b":", body] {
            mac.update(part);
        }
        mac.verify_slice(&self.digest).is_ok()
    }
}

/// Bytes of a SHA-256.
const DIGEST: usize = 32;

/// Bytes written in hexadecimal.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
