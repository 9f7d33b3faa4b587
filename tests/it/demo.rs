//! The demo shows what it says that it shows, from the first event to a summary that adds up.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The line that says what is left to do by hand begins so.
const BY_HAND: &str = "by hand   dead letter ";

/// Runs the demo to its end, and does by hand what it leaves to whoever watches. All that it prints.
fn watched() -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leadlane"))
        .args(["demo", "--seconds", "50"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let mut stderr = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        drop(stderr.read_to_string(&mut said));
        said
    });
    let (mut all, mut replayed) = (String::new(), None);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if replayed.is_none()
            && let Some((_, address)) = line
                .strip_prefix(BY_HAND)
                .and_then(|rest| rest.split_once(" replay it at "))
        {
            let address = address.to_owned();
            replayed = Some(std::thread::spawn(move || replay_on_its_page(&address)));
        }
        all.push_str(&line);
        all.push('\n');
    }
    let status = child.wait().unwrap();
    let said = said.join().unwrap();
    assert!(status.success(), "{said}\n{all}");
    let replayed = replayed.unwrap_or_else(|| panic!("nothing is left to do by hand:\n{all}"));
    replayed.join().expect("the page replays it");
    all
}

/// Replays a dead letter as its page's form does.
fn replay_on_its_page(address: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let (base, letter) = address.split_once("/dead-letters/").expect("the page of a dead letter");
        let (until, mut page) = (Instant::now() + Duration::from_secs(20), None);
        // The desk reads on by itself, and may read it after the demo did.
        while page.is_none() && Instant::now() < until {
            let answer = client.get(address).send().await.unwrap();
            match answer.status().as_u16() {
                200 => page = Some(answer),
                404 => tokio::time::sleep(Duration::from_millis(100)).await,
                status => panic!("{address} answers {status}"),
            }
        }
        let page = page.expect("the dead letter has a page");
        let cookie = page.headers()["set-cookie"].to_str().unwrap().to_owned();
        let text = page.text().await.unwrap();
        let (_, token) = text.split_once("name=\"csrf\" value=\"").expect("a form");
        let token = token.split('"').next().unwrap();
        let answer = client
            .post(format!("{base}/dead-letters/replay"))
            .header("cookie", cookie.split(';').next().unwrap())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("csrf={token}&id={letter}&go=1"))
            .send()
            .await
            .unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{text}");
    });
}

/// The lines from the first one that begins so on.
fn from<'l>(lines: &'l [&'l str], start: &str, all: &str) -> &'l [&'l str] {
    let at = lines.iter().position(|line| line.starts_with(start));
    &lines[at.unwrap_or_else(|| panic!("no line {start:?} in its place:\n{all}"))..]
}

/// The number before `words`.
fn number(summary: &str, words: &str) -> u64 {
    let before = summary.split(words).next().unwrap().trim_end();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number before {words:?}: {summary}"))
}

#[test]
fn the_demo_shows_a_digest_a_token_that_recovers_replays_and_two_inlets() {
    let all = watched();
    let lines: Vec<&str> = all.lines().collect();

    // Many jobs of one rule become one message, and this is what arrived.
    let digest = from(&lines, "digest    ", &all);
    let jobs = number(
        digest[0],
        " messages of rule campaign-rejections arrived in slack:sales-bot/C0CAMPS as one:",
    );
    assert!(jobs >= 10, "{all}");
    let head = format!("*{jobs} messages of campaign-rejections*, ");
    assert!(digest[1].trim().starts_with(&head), "{all}");
    assert!(
        digest[2].contains("• ") && digest[2].contains(" rejected lead "),
        "{all}"
    );

    // A refused token: its messages wait, it is probed, it works again, and they go.
    let refused = from(&lines, "refused   slack:calls-bot: token_revoked", &all);
    let probed = from(refused, "probed    auth.test: ok", &all);
    let recovered = from(probed, "recovered slack:calls-bot works again by itself", &all);
    let waited = number(recovered[0], " that waited go out now");
    let sent = |lines: &[&str]| {
        let of_lane = |line: &&&str| line.starts_with("sent      slack:calls-bot/U0ANNA <- ");
        lines.iter().filter(of_lane).count()
    };
    assert_eq!(
        sent(&refused[..refused.len() - recovered.len()]),
        0,
        "nothing goes meanwhile: {all}"
    );
    // Of those that waited one goes a second.
    assert!(waited >= 10 && sent(recovered) >= 5, "{all}");

    // A job dies, the cause is mended, and the command that people have puts it back.
    let died = from(&lines, "dead      letter ", &all);
    let died = died
        .iter()
        .position(|line| line.ends_with("destination_gone: channel_is_archived"))
        .map(|at| &died[at..])
        .unwrap_or_else(|| panic!("no job died:\n{all}"));
    let letter = died[0].split([' ', ':']).find(|word| word.contains('-')).unwrap();
    let asked = from(died, &format!("$ leadlane dead-letters replay {letter}"), &all);
    let done = from(asked, &format!("{letter}: replayed to delivery-jobs"), &all);
    let arrived = |line: &&&str| {
        line.starts_with("sent      webhook:") && line.ends_with(&format!(", dead letter {letter} replayed"))
    };
    assert_eq!(done.iter().filter(arrived).count(), 1, "{all}");

    // Another one is left to whoever watches; on its page it goes back.
    let left = from(done, BY_HAND, &all);
    let by_hand = left[0][BY_HAND.len()..].split(' ').next().unwrap();
    assert_ne!(by_hand, letter, "{all}");
    let arrived = |line: &&&str| {
        line.starts_with("sent      webhook:") && line.ends_with(&format!(", dead letter {by_hand} replayed"))
    };
    assert_eq!(left.iter().filter(arrived).count(), 1, "{all}");

    inlets_lead_to_clevertap(&lines, &all);

    let summary = lines.last().unwrap();
    let count = |words: &str| number(summary, words);
    let ended = ["sent +", " in ", "waiting +", "otherwise ended"].map(count);
    assert_eq!(count("matches"), ended.iter().sum::<u64>(), "{summary}");
    assert!(ended[1] >= jobs, "{summary}");
    assert_eq!(count("replayed;"), 2, "{summary}");
    // One is ordered; the sandbox gives more where a busy machine brings two requests to it at once.
    assert!(count("answers 429 obeyed") >= 1, "{summary}");
    assert_eq!(count("requests came too early"), 0, "{summary}");
}

/// A reaction in Slack and a row of a sheet come in by inlets, and this is what CleverTap has of them.
fn inlets_lead_to_clevertap(lines: &[&str], all: &str) {
    for (inlet, begins, arrived) in [
        (
            "workspace",
            "meanwhile somebody reacts with :tada: in Slack",
            r#"arrived   in CleverTap: U0MIA did "Reacted in Slack" {"Reaction":"tada","Channel":"C0SALES"}"#,
        ),
        (
            "signups",
            "meanwhile somebody adds a row to a sheet",
            r#"arrived   in CleverTap: the profile of noor@example.com {"Name":"Noor","Plan":"Enterprise","Signed up":"$D_1520262960"}"#,
        ),
    ] {
        let posted = from(lines, begins, all);
        assert!(posted[0].ends_with(&format!("posts it to the inlet {inlet}")), "{all}");
        from(
            posted,
            &format!("answered  200 by the inlet {inlet}: it is in Kafka"),
            all,
        );
        assert_eq!(posted.iter().filter(|line| **line == arrived).count(), 1, "{all}");
    }
}
