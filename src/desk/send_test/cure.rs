//! What helps when a test isn't sent, in a sentence for people: by the provider's code, else by the result.

use crate::action::{ActionType, Provider};
use crate::credential;
use crate::delivery::recall::credential_of;
use crate::delivery::{Outcome, OutcomeResult};
use crate::reason::Reason;

pub(super) const UNANSWERED: &str = "No sender has answered within 20 seconds. See that one runs: leadlane run --role sender. \
                                     The test itself is over after 15 seconds, whoever starts one.";

/// Codes of a provider, each list with what helps. `{channel}` is where the message goes, `{app}` the name of its token,
/// `{secret}` the credential.
type Table = &'static [(&'static [&'static str], &'static str)];

const SLACK: Table = &[
    (
        &["not_in_channel"],
        "The app is not in {channel}. Type /invite @{app} there, then send again.",
    ),
    (
        &["channel_not_found"],
        "Slack knows no channel {channel} that this app may see. Copy the id from the channel's details; into a private \
         channel the app has to be invited: type /invite @{app} there.",
    ),
    (
        &["is_archived", "channel_is_archived"],
        "{channel} is archived. Restore it in Slack, or choose another channel.",
    ),
    (
        &["user_not_found", "user_disabled", "user_not_visible"],
        "Slack knows no member {channel} whom this app may write to. Copy the member's id from their profile.",
    ),
    (
        &["messages_tab_disabled"],
        "The app takes no direct messages. Switch the Messages tab on under App Home in the app's settings.",
    ),
    (
        &[
            "restricted_action",
            "restricted_action_read_only_channel",
            "restricted_action_thread_only_channel",
            "restricted_action_non_threadable_channel",
            "restricted_action_thread_locked",
            "action_prohibited",
            "posting_to_general_channel_denied",
        ],
        "A setting of {channel} or of the workspace keeps the app from posting there. Ask an admin of the workspace to \
         allow it, or choose another channel.",
    ),
    (
        &["method_not_supported_for_channel_type"],
        "The app can't join {channel} by itself. Type /invite @{app} there, then send again.",
    ),
    (
        &["missing_scope", "no_permission"],
        "The app lacks a permission, which the answer names. Add it under OAuth & Permissions in the app's settings, \
         install the app again, and put the new token into {secret}.",
    ),
    (
        &["not_allowed_token_type"],
        "{secret} holds a token of another kind. Put the Bot User OAuth Token there, which begins with xoxb-.",
    ),
    (
        &[
            "invalid_auth",
            "not_authed",
            "token_expired",
            "token_revoked",
            "account_inactive",
        ],
        "Slack doesn't take the token in {secret}. Copy the Bot User OAuth Token from the app's settings, and put it there.",
    ),
    (
        &[
            "team_access_not_granted",
            "access_denied",
            "app_access_restricted",
            "enterprise_is_restricted",
        ],
        "The workspace doesn't allow this app. Ask an admin of the workspace to approve it.",
    ),
    (
        &["ratelimited", "rate_limited", "message_limit_exceeded"],
        "Slack asks to wait. Send again in a minute.",
    ),
    (&["msg_too_long"], "The message is too long. Shorten its text."),
    (&["no_text"], "The message has no text. Write one."),
    (
        &[
            "no_service",
            "no_active_hooks",
            "no_service_id",
            "no_team",
            "invalid_token",
            "team_disabled",
        ],
        "The webhook is gone or was switched off. Make a new one in Slack, and put its URL into {secret}.",
    ),
    (
        &[
            "internal_error",
            "fatal_error",
            "service_unavailable",
            "request_timeout",
            "rollup_error",
        ],
        "Slack has trouble of its own. Look into the channel whether the message is there; if not, send again in a minute.",
    ),
];

/// The codes of CleverTap's records, which begin the words.
const CLEVERTAP: Table = &[
    (&["509"], "The event has no name. Write one."),
    (
        &["512"],
        "CleverTap doesn't take the shape of the record. In an event each property is a text, a number, true or false.",
    ),
    (
        &["513"],
        "The event's name is one of CleverTap's own. Choose another name.",
    ),
    (&["514"], "Gender has to be M or F."),
    (
        &["515"],
        "Email is no e-mail address. Look at the field that it is taken from.",
    ),
    (
        &["516"],
        "Phone has to be + with country code and number, such as +15125550123.",
    ),
    (&["517", "519"], "Employed and Married have to be Y or N."),
    (&["518"], "Education has to be School, College or Graduate."),
    (&["520"], "Age has to be a whole number."),
    (
        &["522"],
        "The event has more properties than the account takes. Leave some out.",
    ),
    (
        &["523", "526"],
        "CleverTap doesn't take the identity or object id. Look at the field that it is taken from.",
    ),
    (
        &["525"],
        "The time is none that CleverTap takes. Look at created_at, and at the form of its date.",
    ),
    (
        &["528"],
        "The account has switched this event off. Allow it in CleverTap under Events, or choose another name.",
    ),
    (&["555"], "CleverTap has trouble of its own. Send again in a minute."),
];

/// What helps; none where all went well. `destination` is the channel, the member or the user.
pub(super) fn cure(outcome: &Outcome, destination: &str) -> Option<String> {
    match outcome.result {
        OutcomeResult::Dead => by_code(outcome, destination).or_else(|| of_dead(outcome)),
        OutcomeResult::Expired => Some(of_expired(outcome)),
        OutcomeResult::Skipped => Some(format!(
            "The event has no value for {}, and the rule sends nothing without it. Choose another event, or give the \
             placeholder a default.",
            words(outcome)
        )),
        _ => None,
    }
}

fn words(outcome: &Outcome) -> &str {
    outcome.words.as_deref().unwrap_or_default()
}

/// The credential's id, and its name.
fn credential(outcome: &Outcome) -> (&str, &str) {
    let id = credential_of(&outcome.lane);
    (id, id.split_once(':').map_or(id, |(_, name)| name))
}

fn by_code(outcome: &Outcome, destination: &str) -> Option<String> {
    let (credential, name) = credential(outcome);
    let table = match ActionType::of_credential(credential)?.provider() {
        Provider::Slack => SLACK,
        Provider::Clevertap => CLEVERTAP,
    };
    let code = words(outcome).split([';', ':', ' ']).next()?;
    let (_, cure) = table.iter().find(|(codes, _)| codes.contains(&code))?;
    let channel = match destination {
        "" => "the webhook's channel",
        channel => channel,
    };
    let cure = cure.replace("{channel}", channel).replace("{app}", name);
    Some(cure.replace("{secret}", &format!("the secret {name}")))
}

fn of_expired(outcome: &Outcome) -> String {
    let (credential, _) = credential(outcome);
    match words(outcome) {
        words if words.contains(" is paused") => {
            "Resume it under Lanes, or with leadlane lanes resume, then send again.".to_owned()
        }
        words if words.contains("credential is refused") => format!(
            "The provider has refused {credential} before. Mend its secret, try it under Lanes, or with leadlane lanes \
             probe, then send again."
        ),
        words if words.contains(" is frozen until") => {
            "The provider asked to wait. Send again after that time.".to_owned()
        }
        _ => "Too much waits before it. Look under Lanes, and send again later.".to_owned(),
    }
}

fn of_dead(outcome: &Outcome) -> Option<String> {
    let is = |reason: &Reason| outcome.reason.as_deref() == Some(reason.as_str());
    let cure = match Reason::ALL.into_iter().find(is)? {
        Reason::CredentialRefused => return Some(of_refused(outcome)),
        Reason::TemplateFailed => {
            "The event has no usable value for a placeholder, which the answer names. Choose another event, or change the \
             rule."
        }
        Reason::DestinationGone => "The destination is gone. Choose another one, or make it anew.",
        Reason::MessageRejected => "The provider doesn't take this message; the answer says why. Change the rule.",
        Reason::GaveUp if outcome.status == Some(429) => "The provider asks to wait. Send again in a minute.",
        Reason::GaveUp => {
            "The provider has not answered as it should. Look there whether it arrived; if not, send again in a minute."
        }
        _ => return None,
    };
    Some(cure.to_owned())
}

fn of_refused(outcome: &Outcome) -> String {
    let (credential, name) = credential(outcome);
    match (outcome.status, credential::kind(credential)) {
        // Nobody was asked.
        (None, _) => {
            "What the senders have as the secret can't be used; the answer says why. Mend it, then send again."
                .to_owned()
        }
        (Some(404), "clevertap") => {
            "There is no account at this address. Look at the account's region and id in the configuration.".to_owned()
        }
        (_, "clevertap") => format!(
            "CleverTap doesn't take the account's id or passcode. Copy both from CleverTap's settings into the account \
             {name}."
        ),
        _ => format!("The provider doesn't take the secret {name}. Put the right one in its place, then send again."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::job;

    fn said(
        lane: &str,
        result: OutcomeResult,
        reason: Option<Reason>,
        status: Option<i32>,
        words: &str,
    ) -> Option<String> {
        let mut outcome = job().outcome(result, 0);
        (outcome.lane, outcome.status) = (lane.to_owned(), status);
        outcome.reason = reason.map(|reason| reason.as_str().to_owned());
        outcome.words = Some(words.to_owned());
        cure(&outcome, lane.split_once('/').map_or("", |(_, channel)| channel))
    }

    const LANE: &str = "slack:sales-bot/C0SALES";

    #[test]
    fn what_a_provider_refuses_has_a_cure_that_names_what_to_do_where() {
        use Reason::{CredentialRefused, DestinationGone, GaveUp, MessageRejected};
        const CLEVERTAP: &str = "clevertap:acme";
        for (lane, reason, status, words, wanted) in [
            (
                LANE,
                DestinationGone,
                Some(200),
                "not_in_channel",
                "The app is not in C0SALES. Type /invite @sales-bot there, then send again.",
            ),
            (
                LANE,
                CredentialRefused,
                Some(200),
                "missing_scope; needs chat:write, has none",
                "put the new token into the secret sales-bot",
            ),
            (
                LANE,
                CredentialRefused,
                None,
                "secret sales-bot is missing",
                "can't be used",
            ),
            (LANE, GaveUp, Some(500), "<html>", "Look there whether it arrived"),
            (LANE, GaveUp, Some(429), "ratelimited", "Slack asks to wait"),
            (LANE, GaveUp, Some(429), "", "The provider asks to wait"),
            (
                "webhook:alerts",
                DestinationGone,
                Some(404),
                "no_service",
                "into the secret alerts",
            ),
            (
                "webhook:alerts",
                DestinationGone,
                Some(403),
                "action_prohibited",
                "the webhook's channel",
            ),
            (CLEVERTAP, MessageRejected, Some(200), "516: Phone", "+15125550123"),
            (
                CLEVERTAP,
                CredentialRefused,
                Some(401),
                "Account ID is not valid",
                "account acme",
            ),
            (CLEVERTAP, CredentialRefused, Some(404), "", "region"),
            (CLEVERTAP, MessageRejected, Some(200), "599: new", "the answer says why"),
        ] {
            let cure = said(lane, OutcomeResult::Dead, Some(reason), status, words).unwrap_or_default();
            assert!(cure.contains(wanted), "{words}: {cure}");
        }
        assert_eq!(said(LANE, OutcomeResult::Sent, None, Some(200), ""), None);
    }

    #[test]
    fn what_was_not_sent_has_a_cure_by_why() {
        use OutcomeResult::{Expired, Skipped};
        for (result, words, wanted) in [
            (Expired, "not sent: all sending is paused by ana", "Resume it"),
            (
                Expired,
                "not sent: slack:a is frozen until X: the credential is refused",
                "Mend its secret",
            ),
            (
                Expired,
                "not sent: slack:a is frozen until X: throttled",
                "after that time",
            ),
            (Expired, "not sent: its turn did not come in time", "Too much waits"),
            (Skipped, "$.price", "no value for $.price"),
        ] {
            let cure = said(LANE, result, None, None, words).unwrap_or_default();
            assert!(cure.contains(wanted), "{words}: {cure}");
        }
    }

    #[test]
    fn no_code_stands_twice_and_no_cure_lacks_what_it_names() {
        for table in [SLACK, CLEVERTAP] {
            let mut codes: Vec<&str> = table.iter().flat_map(|(codes, _)| *codes).copied().collect();
            let count = codes.len();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), count);
        }
        for (codes, _) in SLACK {
            let cure = said(
                "slack:a/C1",
                OutcomeResult::Dead,
                Some(Reason::GaveUp),
                Some(200),
                codes[0],
            );
            assert!(!cure.unwrap().contains(['{', '}']), "{codes:?}");
        }
    }
}
