//! The demo shows what it says that it shows, from the first event to a summary that adds up.

use crate::docs::leadlane;

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
fn the_demo_shows_a_digest_a_token_that_recovers_a_replay_and_two_inlets() {
    let output = leadlane(&["demo", "--seconds", "50"], "");
    let (all, said) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}\n{all}");
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

    inlets_lead_to_clevertap(&lines, &all);

    let summary = lines.last().unwrap();
    let count = |words: &str| number(summary, words);
    let ended = ["sent +", " in ", "waiting +", "otherwise ended"].map(count);
    assert_eq!(count("matches"), ended.iter().sum::<u64>(), "{summary}");
    assert!(ended[1] >= jobs, "{summary}");
    assert_eq!(count("replayed;"), 1, "{summary}");
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
