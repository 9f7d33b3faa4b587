use crypto_box::aead::Aead;
use proptest::prelude::*;

use super::*;

/// Keys of a file that is gone again.
fn keys(texts: &[&Secret]) -> Keys {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("leadlane-keys-{}-{number}", std::process::id()));
    let text: Vec<&str> = texts.iter().map(|text| text.reveal()).collect();
    std::fs::write(&file, text.concat()).unwrap();
    let keys = Keys::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    keys
}

#[test]
fn two_sealings_differ_and_have_one_fingerprint() {
    let (text, public) = Keys::generate();
    let (_, other) = Keys::generate();
    let (one, two) = (
        public.seal("xoxb-hunter2").unwrap(),
        public.seal("xoxb-hunter2").unwrap(),
    );
    assert_ne!(one, two);
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_ne!(one.fingerprint(), public.seal("xoxb-hunter3").unwrap().fingerprint());
    assert_ne!(
        one.fingerprint(),
        other.seal("xoxb-hunter2").unwrap().fingerprint(),
        "it is keyed"
    );
    assert_eq!(keys(&[&text]).open(&two).unwrap().reveal(), "xoxb-hunter2");
}

#[test]
fn a_value_opens_with_its_own_key_and_its_own_fingerprint_alone() {
    let ((text, public), (old_text, old)) = (Keys::generate(), Keys::generate());
    let sealed = public.seal("hunter2").unwrap();
    let lent = Sealed::parse(&format!(
        "{}.{}",
        public.seal("hunter3").unwrap().fingerprint(),
        sealed.as_str().split_once('.').unwrap().1
    ))
    .unwrap();
    let of_one = keys(&[&text]);
    assert_eq!(of_one.open(&lent), Err(OpenError::Mismatch));
    assert!(of_one.open(&sealed).is_ok());
    assert_eq!(
        of_one.open(&lent),
        Err(OpenError::Mismatch),
        "what is remembered is the whole text"
    );
    assert!(matches!(keys(&[&old_text]).open(&sealed), Err(OpenError::OtherKey(_))));
    // A file with an old key and a new one opens what was sealed with either.
    let both = keys(&[&old_text, &text]);
    assert_eq!(both.open(&sealed).unwrap().reveal(), "hunter2");
    assert_eq!(both.open(&old.seal("older").unwrap()).unwrap().reveal(), "older");
    assert!(both.fit(&public) && both.fit(&old) && !of_one.fit(&old));
}

#[test]
fn no_key_shows_and_none_is_taken_for_the_other_kind() {
    let (text, public) = Keys::generate();
    let private = text.reveal().lines().last().unwrap();
    assert!(PublicKey::parse(private).unwrap_err().contains("private key"));
    assert_eq!(PublicKey::parse(&public.to_string()), Ok(public.clone()));
    for wrong in ["", "abc", &BASE64.encode([0; 32]), &BASE64.encode([1; 31])] {
        assert!(
            PublicKey::parse(wrong).unwrap_err().contains("secrets keygen"),
            "{wrong}"
        );
    }
    let shown = format!("{:?} {text:?}", keys(&[&text]));
    assert!(!shown.contains(private.strip_prefix(PRIVATE).unwrap()), "{shown}");
}

#[test]
fn a_key_that_anyone_could_open_with_is_refused() {
    let hex = |text: &str| -> [u8; 32] {
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(byte)
    };
    let small = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for key in small.map(hex) {
        for top in [0, 0x80] {
            let mut key = key;
            key[31] |= top;
            let said = PublicKey::parse(&BASE64.encode(key)).unwrap_err();
            assert!(said.contains("anyone could open"), "{said}");
            // With such a key there are a few boxes at most, so that one of another private key soon opens it.
            let boxed = || crypto_box::SalsaBox::new(&key.into(), &SecretKey::generate(&mut OsRng));
            let sealed = boxed().encrypt(&[0; 24].into(), &b"hunter2"[..]).unwrap();
            let opens = |_| boxed().decrypt(&[0; 24].into(), &sealed[..]).is_ok();
            assert!((0..1000).any(opens), "{key:?}");
        }
    }
    let (_, public) = Keys::generate();
    assert!(PublicKey::parse(&public.to_string()).is_ok());
}

#[test]
fn a_bad_key_file_is_refused_by_name_and_unseen() {
    let (_, public) = Keys::generate();
    let dir = std::env::temp_dir().join(format!("leadlane-key-files-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("key");
    for text in [
        "",
        "# a note\n",
        "hunter2",
        &format!("{PRIVATE}hunter2"),
        &public.to_string(),
    ] {
        std::fs::write(&file, text).unwrap();
        let refusal = Keys::read(&file).unwrap_err();
        assert!(
            refusal.contains("key holds no private key") && refusal.contains("keygen"),
            "{refusal}"
        );
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
    assert!(
        Keys::read(&dir.join("not-there"))
            .unwrap_err()
            .contains("can't be read")
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_can_not_be_a_secret_is_not_sealed() {
    let (_, public) = Keys::generate();
    assert_eq!(public.seal(""), Err(SealError::Empty));
    assert_eq!(public.seal(&"x".repeat(VALUE_MAX + 1)), Err(SealError::TooLong));
    assert!(public.seal(&"x".repeat(VALUE_MAX)).is_ok());
}

#[test]
fn what_was_opened_is_remembered_within_bounds() {
    let (text, public) = Keys::generate();
    let keys = keys(&[&text]);
    let first = public.seal("first").unwrap();
    for number in 0..OPENED_MAX + 5 {
        keys.open(&public.seal(&number.to_string()).unwrap()).unwrap();
        assert!(keys.opened.lock().unwrap().len() <= OPENED_MAX);
    }
    assert_eq!(keys.open(&first).unwrap().reveal(), "first");
    assert!(keys.opened.lock().unwrap().contains_key(&first));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is sealed opens to itself; whatever is changed in it doesn't open.
    #[test]
    fn what_is_sealed_opens_and_what_is_changed_does_not(value in "\\PC{1,200}", at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (text, public) = Keys::generate();
        let keys = keys(&[&text]);
        let sealed = public.seal(&value).unwrap();
        let opened = keys.open(&Sealed::parse(sealed.as_str()).unwrap()).unwrap();
        prop_assert_eq!(opened.reveal(), &value);
        let mut changed = sealed.ciphertext();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        let fingerprint = u64::from_str_radix(sealed.fingerprint(), 16).unwrap().to_be_bytes();
        let opened = keys.open(&Sealed::new(fingerprint, &changed).unwrap());
        // X25519 ignores the top bit of a public key, but the nonce is made from all of it.
        prop_assert!(opened.is_err(), "byte {} of {}", at, changed.len());
    }
}

/// With a point of small order there are no more than eight shared secrets, whatever the other key: anyone opens what is
/// sealed with it.
#[test]
fn a_key_that_seals_for_everyone_is_refused() {
    let near_p = |low: u8, high: u8| {
        let mut point = [0xFF; 32];
        (point[0], point[31]) = (low, high);
        point
    };
    let hex = |text: &str| {
        let bytes = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap());
        <[u8; 32]>::try_from(bytes.collect::<Vec<u8>>()).unwrap()
    };
    let mut one = [0; 32];
    one[0] = 1;
    let mut points = vec![
        [0; 32],
        one,
        hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        near_p(0xEC, 0x7F),
        near_p(0xED, 0x7F),
        near_p(0xEE, 0x7F),
    ];
    for mut point in points.clone() {
        point[31] |= 0x80;
        points.push(point);
    }
    for point in points {
        let boxed = |secret: &SecretKey| {
            use crypto_box::aead::Aead as _;
            let shared = crypto_box::SalsaBox::new(&crypto_box::PublicKey::from(point), secret);
            shared.encrypt(&[0; 24].into(), &b"value"[..]).unwrap()
        };
        let secrets = (0..50).map(|_| SecretKey::generate(&mut OsRng));
        let boxes: std::collections::BTreeSet<Vec<u8>> = secrets.map(|secret| boxed(&secret)).collect();
        assert!(boxes.len() <= 8, "{point:02x?} is not of small order");
        let refused = PublicKey::parse(&BASE64.encode(point)).unwrap_err();
        assert!(refused.contains("anyone could open"), "{refused}");
    }
    let (_, public) = Keys::generate();
    assert_eq!(PublicKey::parse(&public.to_string()), Ok(public));
}
