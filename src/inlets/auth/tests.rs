use hyper::header::HeaderValue;

use super::*;
use crate::credential::SecretName;
use crate::secrets::SecretError;

// Slack's own example: https://api.slack.com/authentication/verifying-requests-from-slack
const SECRET: &[u8] = b"8f742231b10e8888abcd99yyyzzz85a5";
const TIME: i64 = 1_531_420_618;
const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
const BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        (
            hyper::header::HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    });
    pairs.collect()
}

fn slack(time: &str, signature: &str) -> HeaderMap {
    headers(&[("x-slack-request-timestamp", time), ("x-slack-signature", signature)])
}

fn signed_with(secret: &[u8], headers: &HeaderMap, body: &[u8], now: i64) -> bool {
    Signature::of(headers, now).is_some_and(|signature| signature.holds(secret, body))
}

#[test]
fn slacks_published_signature_holds_and_nothing_near_it() {
    let good = slack(&TIME.to_string(), SIGNATURE);
    assert!(signed_with(SECRET, &good, BODY, TIME));
    let upper = SIGNATURE.to_uppercase().replace("V0=", "v0=");
    assert!(signed_with(SECRET, &slack(&TIME.to_string(), &upper), BODY, TIME));
    // Five minutes both ways, and no second more.
    for (now, holds) in [(300, true), (-300, true), (301, false), (-301, false)] {
        assert_eq!(signed_with(SECRET, &good, BODY, TIME + now), holds, "{now}");
    }
    let changed = [BODY, b" "].concat();
    assert!(!signed_with(SECRET, &good, &changed, TIME));
    assert!(!signed_with(b"another", &good, BODY, TIME));
    let later = (TIME + 1).to_string();
    for bad in [
        slack(&later, SIGNATURE),
        slack("", SIGNATURE),
        slack("x", SIGNATURE),
        slack(&TIME.to_string(), &SIGNATURE[3..]),
        slack(&TIME.to_string(), &SIGNATURE[..SIGNATURE.len() - 1]),
        slack(&TIME.to_string(), &SIGNATURE[..SIGNATURE.len() - 2]),
        slack(&TIME.to_string(), "v0="),
        slack(&TIME.to_string(), "v0=zz"),
        slack(&TIME.to_string(), &SIGNATURE.replace("v0", "v1")),
        headers(&[("x-slack-signature", SIGNATURE)]),
        HeaderMap::new(),
    ] {
        assert!(!signed_with(SECRET, &bad, BODY, TIME), "{bad:?}");
    }
}

fn store(name: &str, secrets: &[(&str, &str)]) -> (std::path::PathBuf, Secrets) {
    let dir = std::env::temp_dir().join(format!("leadlane-auth-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (name, value) in secrets {
        std::fs::write(dir.join(name), value).unwrap();
    }
    (dir.clone(), Secrets::new(Some(dir)))
}

fn key(place: KeyPlace, secret: &str) -> Key {
    Key {
        place,
        secret: SecretName::new(secret).unwrap(),
    }
}

async fn verdict(secrets: &Secrets, keys: &[Key], headers: &HeaderMap, path: Option<&str>) -> Verdict {
    let (path, keyring) = (path.map(str::as_bytes), Keyring::new("x", keys));
    keyring.refresh(secrets).await;
    keyring.head(&Shown { headers, path }, TIME)
}

fn authorization(text: &str) -> HeaderMap {
    headers(&[("authorization", text)])
}

fn basic(pair: &str) -> HeaderMap {
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    authorization(&format!("Basic {pair}"))
}

#[tokio::test]
async fn any_of_several_secrets_opens_where_it_is_meant_to_stand() {
    let (dir, secrets) = store("places", &[("old", "s3cret\n"), ("new", "n3w"), ("empty", "")]);
    let verdict =
        async |keys: &[Key], headers: &HeaderMap, path: Option<&str>| verdict(&secrets, keys, headers, path).await;
    let bearer = [key(KeyPlace::Bearer, "old"), key(KeyPlace::Bearer, "new")];
    for (text, expected) in [
        ("Bearer s3cret", Verdict::Open),
        ("bearer n3w", Verdict::Open),
        ("Bearer s3cret ", Verdict::Open),
        ("Bearer s3cre", Verdict::Closed),
        ("Bearer", Verdict::Closed),
        ("Bearer ", Verdict::Closed),
        ("Basic s3cret", Verdict::Closed),
    ] {
        assert_eq!(
            verdict(&bearer, &authorization(text), Some("s3cret")).await,
            expected,
            "{text}"
        );
    }
    let write_key = [key(KeyPlace::Basic, "old")];
    for (pair, expected) in [
        ("s3cret:", Verdict::Open),
        ("s3cret", Verdict::Open),
        ("user:s3cret", Verdict::Open),
        ("user:wrong", Verdict::Closed),
        (":", Verdict::Closed),
        ("", Verdict::Closed),
    ] {
        assert_eq!(verdict(&write_key, &basic(pair), None).await, expected, "{pair}");
    }
    assert_eq!(
        verdict(&write_key, &authorization("Basic !"), None).await,
        Verdict::Closed
    );
    let path = [key(KeyPlace::Path, "new")];
    let none = HeaderMap::new();
    assert_eq!(verdict(&path, &none, Some("n3w")).await, Verdict::Open);
    assert_eq!(verdict(&path, &none, Some("n3")).await, Verdict::Closed);
    assert_eq!(
        verdict(&path, &authorization("Bearer n3w"), None).await,
        Verdict::Closed
    );
    let signing = [key(KeyPlace::Signature, "old")];
    let shown = slack(&TIME.to_string(), SIGNATURE);
    assert_eq!(verdict(&signing, &shown, None).await, Verdict::Signed);
    let stale = slack(&(TIME - 301).to_string(), SIGNATURE);
    for nothing in [&none, &stale, &slack(&TIME.to_string(), "v0=a2")] {
        assert_eq!(verdict(&signing, nothing, None).await, Verdict::Closed, "{nothing:?}");
    }
    assert_eq!(verdict(&[], &none, None).await, Verdict::Open);
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_secret_that_is_empty_or_missing_opens_nothing() {
    let (dir, secrets) = store("empty", &[("empty", "")]);
    let verdict =
        async |keys: &[Key], headers: &HeaderMap, path: Option<&str>| verdict(&secrets, keys, headers, path).await;
    let none = HeaderMap::new();
    for name in ["empty", "nobody"] {
        assert_eq!(
            verdict(&[key(KeyPlace::Bearer, name)], &authorization("Bearer "), None).await,
            Verdict::Closed
        );
        assert_eq!(
            verdict(&[key(KeyPlace::Path, name)], &none, Some("")).await,
            Verdict::Closed
        );
        assert_eq!(
            verdict(&[key(KeyPlace::Basic, name)], &basic(":"), None).await,
            Verdict::Closed
        );
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn what_a_silent_store_said_last_holds_and_what_is_gone_does_not() {
    static SAYS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    let secrets = Secrets::looking_up(|_, name| match SAYS.load(std::sync::atomic::Ordering::Relaxed) {
        0 => Ok(Secret::new("s3cret")),
        1 => Err(SecretError::Silent(name.to_string())),
        _ => Err(SecretError::NoName),
    });
    let keyring = Keyring::new("x", &[key(KeyPlace::Bearer, "a")]);
    for (says, wanted) in [
        (0, Verdict::Open),
        (1, Verdict::Open),
        (2, Verdict::Closed),
        (1, Verdict::Closed),
    ] {
        SAYS.store(says, std::sync::atomic::Ordering::Relaxed);
        keyring.refresh(&secrets).await;
        let headers = &authorization("Bearer s3cret");
        assert_eq!(keyring.head(&Shown { headers, path: None }, TIME), wanted, "{says}");
    }
}
