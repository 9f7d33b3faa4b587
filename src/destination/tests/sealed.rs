//! Credentials that a job carries sealed, and records that CleverTap wouldn't take, over real HTTP.

use super::*;
use crate::config::Config;
use crate::sandbox::{Sandbox, Settings};
use crate::sealed::Sealed;
use crate::secrets::keys::{Keys, PublicKey};

/// A sandbox and the destinations that point there, with a key or without.
async fn served(with_key: bool) -> (Sandbox, Destinations, PublicKey) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sandbox = Sandbox::new(Settings::default());
    tokio::spawn(sandbox.clone().serve(listener, std::future::pending()));
    let yaml = format!(
        "slack: {{api_url: 'http://{address}/api', webhook_hosts: ['{address}']}}\nclevertap: {{api_url: 'http://{address}'}}"
    );
    let config = Config::parse("test", &yaml, []).unwrap();
    let (text, public) = Keys::generate();
    let mut secrets = Secrets::new(None);
    if with_key {
        let file = std::env::temp_dir().join(format!(
            "leadlane-destination-{}-{}",
            std::process::id(),
            address.port()
        ));
        std::fs::write(&file, text.reveal()).unwrap();
        secrets = secrets.with_keys(Keys::read(&file).unwrap());
        std::fs::remove_file(file).unwrap();
    }
    (sandbox, Destinations::new(&config, secrets).unwrap(), public)
}

fn sealed(action: ActionType, credential: &str, value: &Sealed) -> DeliveryJob {
    DeliveryJob {
        action,
        credential: credential.to_owned(),
        sealed: Some(value.as_str().to_owned()),
        ..(*record("ana")).clone()
    }
}

fn refused<T: std::fmt::Debug>(found: Result<T, Failure>) -> String {
    let answer = Answer::from(found.unwrap_err());
    assert_eq!(answer.verdict, Verdict::CredentialRefused);
    answer.words
}

#[tokio::test]
async fn a_sealed_token_opens_under_its_own_credential_alone() {
    let (_, destinations, public) = served(true).await;
    let token = public.seal("xoxb-hunter2").unwrap();
    let job = |credential: &str| sealed(ActionType::SlackMessage, credential, &token);
    let own = format!("slack:{}", token.name());
    assert_eq!(
        destinations.secret_of(&job(&own)).await.unwrap().reveal(),
        "xoxb-hunter2"
    );
    for other in ["slack:sealed-0123456789abcdef", "slack:sales-bot", "slack:"] {
        let words = refused(destinations.secret_of(&job(other)).await);
        assert!(
            words.contains("the sealed value does not match its fingerprint"),
            "{words}"
        );
    }
    let (_, other_key, _) = served(true).await;
    let words = refused(other_key.secret_of(&job(&own)).await);
    assert!(words.contains("seal it again"), "{words}");
    let (_, without, _) = served(false).await;
    let words = refused(without.secret_of(&job(&own)).await);
    assert!(words.contains("set secrets.key_file"), "{words}");
}

#[tokio::test]
async fn a_sealed_webhook_must_be_of_a_known_host() {
    let (_, destinations, public) = served(true).await;
    let webhook = async |url: &str| {
        let url = public.seal(url).unwrap();
        destinations
            .webhook(&sealed(
                ActionType::SlackWebhook,
                &format!("webhook:{}", url.name()),
                &url,
            ))
            .await
    };
    let host = &destinations.webhook_hosts[0];
    assert!(webhook(&format!("http://{host}/services/T0/B0/hunter2")).await.is_ok());
    for url in [
        "https://evil.example/services/hunter2",
        "http://hooks.slack.com/services/hunter2",
        "hunter2",
    ] {
        let words = refused(webhook(url).await);
        assert!(words.contains("webhook URL") && !words.contains("hunter2"), "{words}");
    }
}

#[tokio::test]
async fn a_rules_own_account_is_uploaded_to() {
    let (sandbox, destinations, public) = served(true).await;
    let passcode = public.seal("hunter2").unwrap();
    let own = |account_id: &str, region: &str| DeliveryJob {
        account_id: Some(account_id.to_owned()),
        region: Some(region.to_owned()),
        ..sealed(
            ActionType::ClevertapEvent,
            &format!("clevertap:{}", passcode.name()),
            &passcode,
        )
    };
    let answers = destinations.upload(&[Arc::new(own("OWN-1", "in1"))], false).await;
    assert_eq!(answers[0].verdict, Verdict::Delivered, "{answers:?}");
    assert!(sandbox.summary().iter().any(|(target, _)| &**target == "OWN-1"));
    // Without the common URL the region decides about the host, and can be nothing but a region.
    let direct = Destinations::new(&Config::default(), destinations.secrets.clone()).unwrap();
    let (_, url) = direct.account(&own("OWN-1", "sg1")).unwrap();
    assert_eq!(url.as_str(), "https://sg1.api.clevertap.com/1/upload");
    // A region that was mended has its own host at once, though the passcode is the same.
    for region in ["in1", "sg1"] {
        let host = direct.host(&own("OWN-1", region));
        assert_eq!(*host, format!("{region}.api.clevertap.com:443"));
    }
    for region in ["evil.example/", "evil.example#", "in1@evil", ""] {
        assert!(
            refused(direct.account(&own("OWN-1", region))).contains("region"),
            "{region}"
        );
    }
}

#[tokio::test]
async fn records_that_clevertap_would_not_take_hold_up_no_others() {
    let (sandbox, destinations, public) = served(true).await;
    let passcode = public.seal("hunter2").unwrap();
    let job = |identity: &str, property: &str| {
        Arc::new(DeliveryJob {
            account_id: Some("OWN-1".to_owned()),
            region: Some("in1".to_owned()),
            body: format!(
                r#"{{"type":"event","identity":"{identity}","ts":1700000000,"evtName":"Sold","evtData":{{"{property}":1}}}}"#
            ),
            ..sealed(
                ActionType::ClevertapEvent,
                &format!("clevertap:{}", passcode.name()),
                &passcode,
            )
        })
    };
    let jobs = [job("a", "Price"), job("b", "Deal: won"), job("c", "Price")];
    let answers = destinations.upload(&jobs, false).await;
    let verdicts: Vec<_> = answers.iter().map(|answer| answer.verdict.clone()).collect();
    assert_eq!(verdicts, [Verdict::Delivered, REJECTED, Verdict::Delivered]);
    assert!(answers[1].words.contains("Deal: won"), "{}", answers[1].words);
    let records = || {
        sandbox
            .log()
            .iter()
            .filter(|arrival| &*arrival.target == "OWN-1")
            .count()
    };
    let arrived = records();
    assert_eq!(destinations.upload(&jobs[1..2], false).await[0].verdict, REJECTED);
    assert_eq!(records(), arrived, "nothing is sent when nothing may be");
}

#[test]
fn a_refused_batch_goes_again_whole() {
    let answer = |verdict: &Verdict| Answer {
        verdict: verdict.clone(),
        ..Answer::from(Failure::Unknown(String::new()))
    };
    let verdicts = |sent: &[Verdict], refused: &[bool]| {
        let sent = sent.iter().map(answer).collect();
        let refused = refused
            .iter()
            .map(|refused| refused.then(|| answer(&REJECTED)))
            .collect();
        let answers = clevertap::together(sent, refused);
        answers.into_iter().map(|answer| answer.verdict).collect::<Vec<_>>()
    };
    let again = || Verdict::BatchRefused;
    assert_eq!(
        verdicts(&[again(), again()], &[false, true, false]),
        [again(), again(), again()]
    );
    assert_eq!(
        verdicts(&[again()], &[true, false]),
        [REJECTED, again()],
        "one alone is at fault itself"
    );
    assert_eq!(
        verdicts(&[Verdict::Delivered, again()], &[false, true, false]),
        [Verdict::Delivered, REJECTED, again()]
    );
    assert_eq!(verdicts(&[], &[true]), [REJECTED]);
}
