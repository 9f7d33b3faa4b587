use super::*;
use crate::action::OnAmbiguous;
use crate::delivery::dispatch::FreezeScope;
use crate::delivery::job_id;
use crate::lead::EventId;
use crate::rules::RuleId;

mod codes;
mod sealed;
mod wire;

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        retry_after: (status == 429).then_some(Duration::from_secs(7)),
        scopes: None,
        date: None,
        body: body.to_owned(),
    }
}

fn throttled(scope: FreezeScope) -> Verdict {
    Verdict::Throttled {
        scope,
        retry_after: Some(Duration::from_secs(7)),
    }
}

#[test]
fn what_slack_answers_means() {
    use FreezeScope::{Credential, Lane};
    let html = "<!DOCTYPE html><title>Server Error | Slack</title>";
    for (status, body, wanted) in [
        (
            200,
            r#"{"ok":true,"channel":"C1","ts":"1503435956.000247"}"#,
            Verdict::Delivered,
        ),
        (429, r#"{"ok":false,"error":"ratelimited"}"#, throttled(Credential)),
        (429, r#"{"ok":false,"error":"rate_limited"}"#, throttled(Lane)),
        (429, "slow down", throttled(Credential)),
        (
            200,
            r#"{"ok":false,"error":"ratelimited"}"#,
            Verdict::Throttled {
                scope: Credential,
                retry_after: None,
            },
        ),
        (500, html, Verdict::Ambiguous),
        (503, html, Verdict::Ambiguous),
        (200, "not JSON", Verdict::Ambiguous),
        (302, "", REJECTED),
        (200, r#"{"ok":false,"error":"internal_error"}"#, Verdict::Ambiguous),
        (200, r#"{"ok":false,"error":"fatal_error"}"#, Verdict::Ambiguous),
        (200, r#"{"ok":false,"error":"request_timeout"}"#, Verdict::Retry),
        (200, r#"{"ok":false,"error":"service_unavailable"}"#, Verdict::Retry),
        (
            200,
            r#"{"ok":false,"error":"invalid_auth"}"#,
            Verdict::CredentialRefused,
        ),
        (
            200,
            r#"{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"im:write"}"#,
            Verdict::CredentialRefused,
        ),
        (200, r#"{"ok":false,"error":"not_in_channel"}"#, Verdict::NotInChannel),
        (200, r#"{"ok":false,"error":"channel_not_found"}"#, GONE),
        (200, r#"{"ok":false,"error":"is_archived"}"#, GONE),
        (200, r#"{"ok":false,"error":"no_text"}"#, REJECTED),
        (200, r#"{"ok":false,"error":"msg_too_long"}"#, REJECTED),
        (200, r#"{"ok":false,"error":"a_code_of_next_year"}"#, REJECTED),
        (200, r#"{"ok":false}"#, REJECTED),
    ] {
        assert_eq!(
            slack::message_answer(&reply(status, body), "C1", Hidden::default()).verdict,
            wanted,
            "{status} {body}"
        );
    }
    let answer = slack::message_answer(
        &reply(200, r#"{"ok":true,"ts":"1503435956.000247"}"#),
        "C1",
        Hidden::default(),
    );
    assert_eq!(answer.message_id.as_deref(), Some("1503435956.000247"));
    let answer = slack::message_answer(
        &reply(
            200,
            r#"{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"im:write"}"#,
        ),
        "C1",
        Hidden::default(),
    );
    assert_eq!(answer.words, "missing_scope; needs chat:write, has im:write");
}

#[test]
fn what_webhooks_answer_means() {
    for (status, body, wanted) in [
        (200, "ok", Verdict::Delivered),
        (400, "invalid_payload", REJECTED),
        (400, "no_text", REJECTED),
        (403, "action_prohibited", GONE),
        (404, "no_service", GONE),
        (404, "anything", GONE),
        (410, "channel_is_archived", GONE),
        (500, "rollup_error", Verdict::Ambiguous),
        (503, "<html>", Verdict::Ambiguous),
        (429, "", throttled(FreezeScope::Lane)),
        (302, "", REJECTED),
    ] {
        assert_eq!(
            slack::webhook_answer(&reply(status, body), Hidden::default()).verdict,
            wanted,
            "{status} {body}"
        );
    }
}

fn record(identity: &str) -> Arc<DeliveryJob> {
    Arc::new(DeliveryJob {
        job_id: job_id(EventId(identity), RuleId("r")).to_string(),
        event_id: identity.into(),
        rule_id: "r".into(),
        rule_version: 0,
        lead_id: "1".into(),
        trigger: "lms.lead_sold".into(),
        action: ActionType::ClevertapEvent,
        credential: "clevertap:acme".into(),
        destination: identity.into(),
        body: format!(r#"{{"type":"event","identity":"{identity}","ts":1,"evtName":"Sold"}}"#),
        occurred_at: 0,
        expires_at: None,
        on_ambiguous: OnAmbiguous::Retry,
        source_topic: "lead-events".into(),
        source_partition: 0,
        source_offset: 0,
        sealed: None,
        account_id: None,
        region: None,
        digest_after: None,
        max_rate: None,
        thread: false,
    })
}

#[test]
fn what_clevertap_answers_means_record_by_record() {
    let jobs = [record("a"), record("2"), record("c")];
    let one = [record("a")];
    let verdicts = |status, body: &str, jobs: &[Arc<DeliveryJob>]| {
        clevertap::upload_answers(&reply(status, body), jobs, &[])
            .into_iter()
            .map(|answer| answer.verdict)
            .collect::<Vec<_>>()
    };
    let ok = Verdict::Delivered;
    let all = |verdict: Verdict| [verdict.clone(), verdict.clone(), verdict];
    for (status, body, wanted) in [
        (
            200,
            r#"{"status":"success","processed":3,"unprocessed":[]}"#,
            all(ok.clone()),
        ),
        (
            200,
            r#"{"status":"partial","processed":2,"unprocessed":[{"status":"fail","code":515,"error":"Email - Expecting ... Skipped record number : 2","record":{}}]}"#,
            [ok.clone(), REJECTED, ok.clone()],
        ),
        (
            200,
            r#"{"status":"partial","processed":2,"unprocessed":[{"code":555,"error":"Skipped record number :3"}]}"#,
            [ok.clone(), ok.clone(), Verdict::Retry],
        ),
        (
            200,
            r#"{"status":"partial","processed":2,"unprocessed":[{"code":525,"error":"ts","record":{"type":"event","identity":2,"ts":"1","evtName":"Sold"}}]}"#,
            [ok.clone(), REJECTED, ok.clone()],
        ),
        (
            200,
            r#"{"status":"partial","processed":2,"unprocessed":[{"code":525,"error":"which one?"}]}"#,
            all(Verdict::BatchRefused),
        ),
        (
            200,
            r#"{"status":"fail","processed":0,"unprocessed":[]}"#,
            all(Verdict::Ambiguous),
        ),
        (
            400,
            r#"{"status":"fail","error":"Malformed","code":400}"#,
            all(Verdict::BatchRefused),
        ),
        (
            401,
            r#"{"status":"fail","error":"Account ID is not valid","code":401}"#,
            all(Verdict::CredentialRefused),
        ),
        (
            429,
            r#"{"status":"fail","error":"Too many concurrent requests","code":429}"#,
            all(throttled(FreezeScope::Credential)),
        ),
        (500, "<html>", all(Verdict::Ambiguous)),
    ] {
        assert_eq!(verdicts(status, body, &jobs), wanted, "{status} {body}");
    }
    assert_eq!(
        verdicts(
            200,
            r#"{"status":"fail","processed":0,"unprocessed":[{"code":516,"error":"Phone"}]}"#,
            &one
        ),
        [REJECTED]
    );
}

#[test]
fn a_field_that_clevertap_writes_otherwise_costs_itself_alone() {
    let jobs = [record("a"), record("2"), record("c")];
    let ok = Verdict::Delivered;
    let all = |verdict: Verdict| [verdict.clone(), verdict.clone(), verdict];
    for (body, wanted) in [
        (
            r#"{"status":"success","processed":"3","unprocessed":null}"#,
            all(ok.clone()),
        ),
        (
            r#"{"status":"success","processed":{},"unprocessed":[],"error":{"code":0}}"#,
            all(ok.clone()),
        ),
        (
            r#"{"status":"partial","processed":"1","unprocessed":[{"code":{},"error":{"a":1},"record":{"type":"event","identity":2,"ts":"1","evtName":"Sold"}},{"code":"555","error":"Skipped record number : 1"}]}"#,
            [Verdict::Retry, REJECTED, ok.clone()],
        ),
        (
            r#"{"status":"partial","processed":2,"unprocessed":{"code":515,"error":"Skipped record number : 3"}}"#,
            [ok.clone(), ok.clone(), REJECTED],
        ),
        (
            r#"{"status":"partial","processed":2,"unprocessed":["which one?"]}"#,
            all(Verdict::BatchRefused),
        ),
        (
            r#"{"status":["fail"],"processed":0,"error":["no"]}"#,
            all(Verdict::Ambiguous),
        ),
    ] {
        let answers = clevertap::upload_answers(&reply(200, body), &jobs, &[]);
        let verdicts: Vec<Verdict> = answers.into_iter().map(|answer| answer.verdict).collect();
        assert_eq!(verdicts, wanted, "{body}");
    }
}

#[test]
fn nothing_without_a_bound_is_kept_of_an_answer() {
    let long = "1".repeat(1_000_000);
    let of = |body: String| slack::message_answer(&reply(200, &body), "C1", Hidden::default());
    for ts in [
        format!("\"{long}.1\""),
        format!("\"1.{long}\""),
        "\"soon\"".to_owned(),
        "\"\"".to_owned(),
        "17.5".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
    ] {
        let answer = of(format!(
            r#"{{"ok":true,"ts":{ts},"response_metadata":[7],"errors":{{}},"team":1}}"#
        ));
        assert_eq!(
            (answer.verdict, answer.message_id),
            (Verdict::Delivered, None),
            "{ts:.20}"
        );
    }
    let long = "x".repeat(1_000_000);
    let codes = format!(
        r#"{{"ok":false,"error":"{long}","needed":"{long}","errors":["{long}"],"response_metadata":{{"messages":["{long}", 7]}}}}"#
    );
    assert_eq!(of(codes).words.len(), 500);
    let opened = slack::open_answer(
        &reply(200, &format!(r#"{{"ok":true,"channel":{{"id":"D{long}"}}}}"#)),
        Hidden::default(),
    );
    assert_eq!((opened.verdict, opened.channel), (Verdict::Retry, None));
    let webhook = slack::webhook_answer(&reply(400, &long), Hidden::default());
    assert!(webhook.words.len() <= 500);
    let failed = format!(r#"{{"status":"partial","processed":0,"unprocessed":[{{"code":"516","error":"{long}"}}]}}"#);
    let answers = clevertap::upload_answers(&reply(200, &failed), &[record("a")], &[]);
    assert_eq!(answers[0].verdict, REJECTED, "a code may be a text");
    assert!(answers[0].words.len() <= 500 && answers[0].words.starts_with("516: "));
}

#[test]
fn words_are_masked_and_cut() {
    let secret = Secret::new("xoxb-hunter2");
    let answer = slack::message_answer(
        &reply(200, r#"{"ok":false,"error":"invalid_auth xoxb-hunter2"}"#),
        "C1",
        Hidden {
            secrets: &[secret],
            body: "",
        },
    );
    assert_eq!(answer.words, "invalid_auth ***");
    let quoted =
        r#"{"status":"partial","processed":0,"unprocessed":[{"code":516,"error":"Phone \"+1555\" is wrong"}]}"#;
    assert!(
        !clevertap::upload_answers(&reply(200, quoted), &[record("a")], &[])[0]
            .words
            .contains("1555")
    );
}
