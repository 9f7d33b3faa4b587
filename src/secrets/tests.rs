use rustix::fs::Mode;

use super::*;

#[tokio::test]
async fn files_lose_one_trailing_newline() {
    let dir = std::env::temp_dir().join(format!("leadlane-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("one"), "value\n\n").unwrap();
    let secrets = Secrets::new(Some(dir.clone()));
    assert_eq!(secrets.reveal("one").await.unwrap().reveal(), "value\n");
    let message = secrets.reveal("not-there").await.unwrap_err().to_string();
    assert!(message.contains("LEADLANE_SECRET_NOT_THERE"), "{message}");
    // A name can't climb out of the folder.
    assert!(matches!(secrets.reveal("../one").await, Err(SecretError::NoName)));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_secret_never_shows() {
    let secret = Secret::new("hunter2");
    assert_eq!(format!("{secret:?}"), "***");
    assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
}

#[test]
fn a_plain_value_is_refused_unseen() {
    let error = serde_json::from_str::<SecretRef>("\"xoxb-hunter2\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("{secret: NAME}") && error.contains("secrets seal") && !error.contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_sealed_value_opens_under_its_own_name_alone() {
    let (text, public) = Keys::generate();
    let file = std::env::temp_dir().join(format!("leadlane-sealed-{}", std::process::id()));
    std::fs::write(&file, text.reveal()).unwrap();
    let secrets = Secrets::new(None).with_keys(Keys::read(&file).unwrap());
    std::fs::remove_file(file).unwrap();
    let sealed = public.seal("hunter2").unwrap();
    let name = sealed.name();
    assert_eq!(secrets.open_as(&name, sealed.as_str()).unwrap().reveal(), "hunter2");
    let other = public.seal("hunter3").unwrap().name();
    let refused = |name: &str, text: &str| secrets.open_as(name, text).unwrap_err().to_string();
    assert!(refused(&other, sealed.as_str()).contains("does not match its fingerprint"));
    assert!(refused(&name, "hunter2").contains("has no fingerprint"));
    let without = Secrets::new(None).open_as(&name, sealed.as_str()).unwrap_err();
    assert!(without.to_string().contains("secrets.key_file"), "{without}");
    let json = format!("{{\"sealed\":\"{sealed}\"}}");
    let reference: SecretRef = serde_json::from_str(&json).unwrap();
    assert_eq!(secrets.find(&reference).await.unwrap().reveal(), "hunter2");
    assert_eq!(serde_json::to_string(&reference).unwrap(), json);
    let error = serde_json::from_str::<SecretRef>("{\"sealed\":\"hunter2\"}")
        .unwrap_err()
        .to_string();
    assert!(error.contains("secrets seal") && !error.contains("hunter2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_hangs_holds_up_nobody_else() {
    static ANSWERS: (Mutex<bool>, std::sync::Condvar) = (Mutex::new(false), std::sync::Condvar::new());
    static READS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let hanging = Secrets::looking_up(|_, name| {
        if name.as_str() == "here" {
            return Ok(Secret::new("value"));
        }
        READS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let hung = ANSWERS.0.lock().unwrap();
        drop(ANSWERS.1.wait_while(hung, |answers| !*answers).unwrap());
        Ok(Secret::new("late"))
    });
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let store = hanging.clone();
            tokio::spawn(async move { store.reveal("a-b").await })
        })
        .collect();
    assert_eq!(hanging.reveal("here").await.unwrap().reveal(), "value");
    // The clock stands while a thread reads, so that the time-out has to be brought about.
    while asking.iter().any(|asked| !asked.is_finished()) {
        tokio::time::advance(READ_WAIT).await;
    }
    for asked in asking {
        let said = asked.await.unwrap().unwrap_err().to_string();
        assert!(said.contains("secret a-b could not be read within 2s"), "{said}");
    }
    assert_eq!(
        READS.load(std::sync::atomic::Ordering::Relaxed),
        1,
        "each read would hold a thread"
    );
    *ANSWERS.0.lock().unwrap() = true;
    ANSWERS.1.notify_all();
    assert_eq!(hanging.reveal("A_B").await.unwrap().reveal(), "late");
}

#[tokio::test]
async fn a_reader_that_breaks_is_no_end_to_it() {
    static BROKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);
    let store = Secrets::looking_up(|_, _| {
        assert!(!BROKEN.swap(false, std::sync::atomic::Ordering::Relaxed), "as told");
        Ok(Secret::new("value"))
    });
    assert!(matches!(store.reveal("a").await, Err(SecretError::Silent(_))));
    assert_eq!(store.reveal("a").await.unwrap().reveal(), "value");
}

#[tokio::test]
async fn only_a_small_regular_file_of_text_is_a_secret() {
    let dir = std::env::temp_dir().join(format!("leadlane-odd-secrets-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("folder")).unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(dir.join(name), content).unwrap();
    write("crlf", b"xoxb-7777-crlf\r\n");
    write("bom", b"\xEF\xBB\xBFvalue\n");
    write("return", b"value\r");
    write("latin", b"hunter2\xE9");
    write("utf-sixteen", b"\xFF\xFEh\0u\0");
    write("long", &vec![b'x'; 64 * 1024 + 1]);
    write("just", &vec![b'x'; 64 * 1024]);
    // As Kubernetes mounts them.
    std::os::unix::fs::symlink(dir.join("crlf"), dir.join("linked")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::RWXU,
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.join("device")).unwrap();
    let secrets = Secrets::new(Some(dir.clone()));
    for (name, wanted) in [
        ("crlf", Ok("xoxb-7777-crlf")),
        ("linked", Ok("xoxb-7777-crlf")),
        ("bom", Ok("value")),
        ("return", Ok("value\r")),
        ("latin", Err("it is no UTF-8 text")),
        ("utf-sixteen", Err("it is no UTF-8 text")),
        ("long", Err("longer than 64 KiB")),
        ("folder", Err("a pipe, a device or a folder")),
        ("pipe", Err("a pipe, a device or a folder")),
        ("device", Err("a pipe, a device or a folder")),
    ] {
        match (secrets.reveal(name).await, wanted) {
            (Ok(secret), Ok(wanted)) => assert_eq!(secret.reveal(), wanted, "{name}"),
            (Err(error), Err(wanted)) => {
                let said = error.to_string();
                assert!(
                    said.contains(wanted) && said.contains(name) && !said.contains("hunter2"),
                    "{name}: {said}"
                );
            }
            (found, _) => panic!("{name}: {:?}", found.map(|secret| secret.reveal().len())),
        }
    }
    assert_eq!(secrets.reveal("just").await.unwrap().reveal().len(), 64 * 1024);
    assert!(Keys::read(&dir.join("pipe")).unwrap_err().contains("a pipe"));
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_file_is_found_in_any_one_spelling() {
    let dir = std::env::temp_dir().join(format!("leadlane-spelt-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Sales_Bot"), "old").unwrap();
    let secrets = Secrets::new(Some(dir.clone()));
    for name in ["sales-bot", "sales_bot", "SALES-BOT"] {
        assert_eq!(secrets.reveal(name).await.unwrap().reveal(), "old", "{name}");
    }
    std::fs::write(dir.join("sales-bot"), "new").unwrap();
    let said = secrets.reveal("sales-bot").await.unwrap_err().to_string();
    assert!(said.contains("more than once, as Sales_Bot, sales-bot"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}
