//! Every code that the providers' documents name, with what it means to us.

use super::*;

/// A code of Slack's, as an answer of the Web API.
fn refused(code: &str) -> Reply {
    reply(200, &format!(r#"{{"ok":false,"error":"{code}"}}"#))
}

/// The codes of chat.postMessage by what they mean; a member's are in a test of their own.
const POSTING: [(&[&str], Verdict); 7] = [
    (
        &[
            "request_timeout",
            "service_unavailable",
            "team_added_to_org",
            "org_login_required",
            // For hours perhaps: the workspace's plan, the network's allow-list.
            "message_limit_exceeded",
            "accesslimited",
        ],
        Verdict::Retry,
    ),
    (&["internal_error", "fatal_error"], Verdict::Ambiguous),
    (
        &[
            "invalid_auth",
            "not_authed",
            "account_inactive",
            "token_revoked",
            "token_expired",
            "missing_scope",
            "not_allowed_token_type",
            "no_permission",
            "two_factor_setup_required",
            "enterprise_is_restricted",
            "team_access_not_granted",
            "access_denied",
            "app_access_restricted",
            "is_bot",
            "ekm_access_denied",
        ],
        Verdict::CredentialRefused,
    ),
    (&["not_in_channel"], Verdict::NotInChannel),
    (
        &[
            "channel_not_found",
            "is_archived",
            "team_not_found",
            "messages_tab_disabled",
            "restricted_action",
            "restricted_action_read_only_channel",
            "restricted_action_thread_only_channel",
            "restricted_action_non_threadable_channel",
            "restricted_action_thread_locked",
            "cannot_reply_to_message",
        ],
        GONE,
    ),
    (
        &[
            "no_text",
            "msg_too_long",
            "msg_blocks_too_long",
            "invalid_blocks",
            "invalid_blocks_format",
            "too_many_attachments",
            "attachment_payload_limit_exceeded",
            "too_many_contact_cards",
            "markdown_text_conflict",
            "invalid_metadata_format",
            "invalid_metadata_schema",
            "metadata_too_large",
            "metadata_must_be_sent_from_app",
            "missing_file_data",
            "slack_connect_canvas_sharing_blocked",
            "slack_connect_file_link_sharing_blocked",
            "slack_connect_lists_sharing_blocked",
            "as_user_not_supported",
            "send_on_behalf_not_allowed",
            "draft_has_conflict",
            "duplicate_channel_not_found",
            "duplicate_message_not_found",
        ],
        REJECTED,
    ),
    (
        &[
            "invalid_arguments",
            "invalid_arg_name",
            "invalid_array_arg",
            "invalid_charset",
            "invalid_form_data",
            "invalid_post_type",
            "missing_post_type",
            "unknown_method",
            "method_deprecated",
            "deprecated_endpoint",
            "invalid_json",
            "json_not_object",
            "a_code_of_next_year",
        ],
        REJECTED,
    ),
];

#[test]
fn every_code_of_posting_has_a_meaning() {
    for (codes, wanted) in POSTING {
        for code in codes {
            let answer = slack::message_answer(&refused(code), "C1", Hidden::default());
            assert_eq!(answer.verdict, wanted, "{code}");
            assert_eq!(answer.words, *code);
        }
    }
    // Whatever the status, and whichever of the two spellings.
    for status in [200, 429] {
        for (code, scope) in [
            ("ratelimited", FreezeScope::Credential),
            ("rate_limited", FreezeScope::Lane),
        ] {
            let reply = Reply {
                status,
                ..refused(code)
            };
            let verdict = slack::message_answer(&reply, "C1", Hidden::default()).verdict;
            assert!(
                matches!(verdict, Verdict::Throttled { scope: found, .. } if found == scope),
                "{status} {code}: {verdict:?}"
            );
        }
    }
}

#[test]
fn a_member_who_cannot_be_posted_to_has_to_be_opened_first() {
    for (channel, code, wanted) in [
        ("U0123ABCD", "channel_not_found", Verdict::NotOpen),
        ("W0123ABCD", "channel_not_found", Verdict::NotOpen),
        ("U0123ABCD", "not_in_channel", Verdict::NotOpen),
        // Opening helps with neither.
        ("U0123ABCD", "messages_tab_disabled", GONE),
        ("U0123ABCD", "user_disabled", GONE),
        ("U0123ABCD", "missing_scope", Verdict::CredentialRefused),
        // What was opened and still isn't there, and what is no member at all.
        ("D0123ABCD", "channel_not_found", GONE),
        ("C0123ABCD", "channel_not_found", GONE),
        ("Us-sales", "channel_not_found", GONE),
        ("U", "channel_not_found", GONE),
    ] {
        let answer = slack::message_answer(&refused(code), channel, Hidden::default());
        assert_eq!(answer.verdict, wanted, "{channel} {code}");
    }
    let taken = reply(200, r#"{"ok":true,"channel":"D0123ABCD","ts":"1.2"}"#);
    let answer = slack::message_answer(&taken, "U0123ABCD", Hidden::default());
    assert_eq!(
        (answer.verdict, answer.message_id.as_deref()),
        (Verdict::Delivered, Some("1.2"))
    );
}

#[test]
fn joining_and_opening_refuse_what_needs_them_and_not_the_token() {
    let throttled = throttled(FreezeScope::Credential);
    let both = [
        (200, r#"{"ok":false,"error":"user_not_found"}"#, GONE),
        (200, r#"{"ok":false,"error":"user_disabled"}"#, GONE),
        (200, r#"{"ok":false,"error":"user_not_visible"}"#, GONE),
        (200, r#"{"ok":false,"error":"channel_not_found"}"#, GONE),
        (200, r#"{"ok":false,"error":"is_archived"}"#, GONE),
        (
            200,
            r#"{"ok":false,"error":"method_not_supported_for_channel_type"}"#,
            GONE,
        ),
        (
            200,
            r#"{"ok":false,"error":"missing_scope","needed":"im:write","provided":"chat:write"}"#,
            GONE,
        ),
        (200, r#"{"ok":false,"error":"not_allowed_token_type"}"#, GONE),
        (200, r#"{"ok":false,"error":"no_permission"}"#, GONE),
        (
            200,
            r#"{"ok":false,"error":"token_revoked"}"#,
            Verdict::CredentialRefused,
        ),
        // What our request lacks; never a fault of the member's.
        (200, r#"{"ok":false,"error":"users_list_not_supplied"}"#, REJECTED),
        (200, r#"{"ok":false,"error":"not_enough_users"}"#, REJECTED),
        (200, r#"{"ok":false,"error":"too_many_users"}"#, REJECTED),
        (200, r#"{"ok":false,"error":"invalid_user_combination"}"#, REJECTED),
        // Doing it twice does no harm, so nothing is ambiguous.
        (200, r#"{"ok":false,"error":"internal_error"}"#, Verdict::Retry),
        (503, "<html>", Verdict::Retry),
        (429, r#"{"ok":false,"error":"ratelimited"}"#, throttled.clone()),
        (429, r#"{"ok":false,"error":"rate_limited"}"#, throttled),
    ];
    for (status, body, wanted) in both {
        for read in [slack::join_answer, slack::open_answer] {
            let answer = read(&reply(status, body), Hidden::default());
            assert_eq!(answer.verdict, wanted, "{status} {body}");
            assert_eq!(answer.channel, None);
        }
    }
    let again = r#"{"ok":true,"channel":{"id":"C1"},"warning":"already_in_channel"}"#;
    assert_eq!(
        slack::join_answer(&reply(200, again), Hidden::default()).verdict,
        Verdict::Delivered
    );
    let opened = slack::open_answer(
        &reply(200, r#"{"ok":true,"channel":{"id":"D069C7QFK"}}"#),
        Hidden::default(),
    );
    assert_eq!(
        (opened.verdict, opened.channel.as_deref()),
        (Verdict::Delivered, Some("D069C7QFK"))
    );
    assert_eq!(
        slack::open_answer(&reply(200, r#"{"ok":true}"#), Hidden::default()).verdict,
        Verdict::Retry
    );
}

#[test]
fn a_probe_says_whether_the_token_works() {
    let ok = r#"{"ok":true,"team":"Acme","user":"leadlane"}"#;
    for (status, scopes, body, wanted) in [
        (200, None, ok, Verdict::Delivered),
        (200, Some("channels:join, chat:write"), ok, Verdict::Delivered),
        (200, Some("chat:write:bot"), ok, Verdict::Delivered),
        (200, Some("identify,bot"), ok, Verdict::Delivered),
        (200, Some("chat:write.public,im:write"), ok, Verdict::CredentialRefused),
        (200, Some(""), ok, Verdict::CredentialRefused),
        (
            200,
            None,
            r#"{"ok":false,"error":"invalid_auth"}"#,
            Verdict::CredentialRefused,
        ),
        (
            200,
            None,
            r#"{"ok":false,"error":"account_inactive"}"#,
            Verdict::CredentialRefused,
        ),
        (
            429,
            None,
            r#"{"ok":false,"error":"ratelimited"}"#,
            throttled(FreezeScope::Credential),
        ),
        (429, None, "", throttled(FreezeScope::Credential)),
        (500, None, "<html>", Verdict::Retry),
        (200, None, r#"{"ok":false,"error":"internal_error"}"#, Verdict::Retry),
        (
            200,
            None,
            r#"{"ok":false,"error":"a_code_of_next_year"}"#,
            Verdict::Retry,
        ),
        (302, None, "", Verdict::Retry),
    ] {
        let reply = Reply {
            scopes: scopes.map(str::to_owned),
            ..reply(status, body)
        };
        assert_eq!(
            slack::probe_answer(&reply, Hidden::default()).verdict,
            wanted,
            "{status} {scopes:?} {body}"
        );
    }
}

#[test]
fn every_error_of_a_webhook_has_a_meaning() {
    for (status, code, wanted) in [
        (400, "invalid_payload", REJECTED),
        (400, "user_not_found", REJECTED),
        (400, "no_text", REJECTED),
        (400, "too_many_attachments", REJECTED),
        (400, "invalid_blocks", REJECTED),
        (400, "invalid_blocks_format", REJECTED),
        (400, "missing_text_or_fallback_or_attachments", REJECTED),
        (403, "action_prohibited", GONE),
        (403, "invalid_token", GONE),
        (403, "posting_to_general_channel_denied", GONE),
        (403, "team_disabled", GONE),
        (404, "channel_not_found", GONE),
        (404, "no_service", GONE),
        (404, "no_active_hooks", GONE),
        (404, "no_service_id", GONE),
        (404, "no_team", GONE),
        (410, "channel_is_archived", GONE),
        (500, "rollup_error", Verdict::Ambiguous),
        (429, "ratelimited", throttled(FreezeScope::Lane)),
        // Some are known with a status of their own as well.
        (400, "no_service", GONE),
        (200, "ok", Verdict::Delivered),
    ] {
        assert_eq!(
            slack::webhook_answer(&reply(status, code), Hidden::default()).verdict,
            wanted,
            "{status} {code}"
        );
    }
}

#[test]
fn every_code_of_clevertap_has_a_meaning() {
    let jobs = [record("a"), record("b")];
    let of_records = [
        509, 512, 513, 514, 515, 516, 517, 518, 519, 520, 522, 523, 524, 525, 526, 528, 530, 531, 532, 533, 534, 535,
    ];
    let refused = |code: u16| {
        let body = format!(
            r#"{{"status":"partial","processed":1,"unprocessed":[{{"status":"fail","code":{code},"error":"Wrong. Skipped record number : 2"}}]}}"#
        );
        let mut answers = clevertap::upload_answers(&reply(200, &body), &jobs, &[]);
        assert_eq!(answers.remove(0).verdict, Verdict::Delivered, "{code}");
        answers.remove(0)
    };
    for code in of_records {
        let answer = refused(code);
        assert_eq!(answer.verdict, REJECTED, "{code}");
        assert!(answer.words.starts_with(&code.to_string()), "{}", answer.words);
    }
    assert_eq!(refused(555).verdict, Verdict::Retry);

    for (status, wanted) in [
        (400, Verdict::BatchRefused),
        (401, Verdict::CredentialRefused),
        (403, Verdict::CredentialRefused),
        // The account's address is wrong, not its records.
        (301, Verdict::CredentialRefused),
        (404, Verdict::CredentialRefused),
        (405, Verdict::CredentialRefused),
        (408, Verdict::Retry),
        (409, Verdict::BatchRefused),
        (413, Verdict::BatchRefused),
        (429, throttled(FreezeScope::Credential)),
        (500, Verdict::Ambiguous),
        (502, Verdict::Ambiguous),
        (503, Verdict::Ambiguous),
    ] {
        for body in [
            format!(r#"{{"status":"fail","error":"Words","code":{status}}}"#),
            "<html>".to_owned(),
            String::new(),
        ] {
            for answer in clevertap::upload_answers(&reply(status, &body), &jobs, &[]) {
                assert_eq!(answer.verdict, wanted, "{status} {body}");
            }
        }
    }
}

#[test]
fn numbers_that_do_not_add_up_leave_a_batch_open() {
    let jobs = [record("a"), record("b")];
    for (body, wanted) in [
        (
            r#"{"status":"partial","processed":2,"unprocessed":[{"code":515,"error":"Skipped record number : 1"}]}"#,
            Verdict::Ambiguous,
        ),
        (
            r#"{"status":"fail","processed":0,"unprocessed":[]}"#,
            Verdict::Ambiguous,
        ),
        // Its plain word counts more than a number beside it: sent again, events would count twice.
        (
            r#"{"status":"success","processed":1,"unprocessed":[]}"#,
            Verdict::Delivered,
        ),
    ] {
        for answer in clevertap::upload_answers(&reply(200, body), &jobs, &[]) {
            assert_eq!(answer.verdict, wanted, "{body}");
        }
    }
}
