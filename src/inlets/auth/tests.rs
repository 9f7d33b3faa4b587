use hyper::header::HeaderValue;

use super::*;
use crate::rules::SecretName;

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

fn key(place: Place, secret: &str) -> Key {
    Key {
        place,
        secret: SecretName::new(secret).unwrap(),
    }
}

#[test]
fn any_of_several_secrets_opens_where_it_is_meant_to_stand() {
    let (dir, secrets) = store("places", &[("old", "s3cret\n"), ("new", "n3w"), ("empty", "")]);
    let verdict = |keys: &[Key], headers: &HeaderMap, path: Option<&str>| {
        let path = path.map(str::as_bytes);
        Keyring::new("x", keys).head(&Shown { headers, path }, TIME, &secrets)
    };
    let authorization = |text: &str| headers(&[("authorization", text)]);
    let basic = |pair: &str| {
        authorization(&format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ))
    };
    let bearer = [key(Place::Bearer, "old"), key(Place::Bearer, "new")];
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
            verdict(&bearer, &authorization(text), Some("s3cret")),
            expected,
            "{text}"
        );
    }
    let write_key = [key(Place::Basic, "old")];
    for (pair, expected) in [
        ("s3cret:", Verdict::Open),
        ("s3cret", Verdict::Open),
        ("user:s3cret", Verdict::Open),
        ("user:wrong", Verdict::Closed),
        (":", Verdict::Closed),
        ("", Verdict::Closed),
    ] {
        assert_eq!(verdict(&write_key, &basic(pair), None), expected, "{pair}");
    }
    assert_eq!(verdict(&write_key, &authorization("Basic !"), None), Verdict::Closed);
    let path = [key(Place::Path, "new")];
    let none = HeaderMap::new();
    assert_eq!(verdict(&path, &none, Some("n3w")), Verdict::Open);
    assert_eq!(verdict(&path, &none, Some("n3")), Verdict::Closed);
    assert_eq!(verdict(&path, &authorization("Bearer n3w"), None), Verdict::Closed);
    // One that is empty or missing opens nothing, however it is asked.
    for name in ["empty", "nobody"] {
        assert_eq!(
            verdict(&[key(Place::Bearer, name)], &authorization("Bearer "), None),
            Verdict::Closed
        );
        assert_eq!(verdict(&[key(Place::Path, name)], &none, Some("")), Verdict::Closed);
        assert_eq!(verdict(&[key(Place::Basic, name)], &basic(":"), None), Verdict::Closed);
    }
    let signing = [key(Place::Signature, "old")];
    let shown = slack(&TIME.to_string(), SIGNATURE);
    assert_eq!(verdict(&signing, &shown, None), Verdict::Signed);
    let stale = slack(&(TIME - 301).to_string(), SIGNATURE);
    for nothing in [&none, &stale, &slack(&TIME.to_string(), "v0=a2")] {
        assert_eq!(verdict(&signing, nothing, None), Verdict::Closed, "{nothing:?}");
    }
    assert_eq!(verdict(&[], &none, None), Verdict::Open);
    std::fs::remove_dir_all(dir).unwrap();
}
