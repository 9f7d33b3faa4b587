//! The words of pages: results, lanes, reasons, what people do. Marketing people read them.

use std::borrow::Cow;

use maud::{Markup, html};

use super::part::status;
use crate::delivery::OutcomeResult;
use crate::delivery::recall::credential_of;
use crate::desk::deliveries::Stands;
use crate::desk::rules::{self, View};
use crate::reason::Reason;
use crate::rules::words;
use crate::text::mask::{mask, mask_named};

/// Every way in which a delivery can stand, in the order of a choice.
pub(in crate::web) const STANDS: [Stands; 11] = [
    Stands::Is(OutcomeResult::Sent),
    Stands::Waiting,
    Stands::Is(OutcomeResult::Skipped),
    Stands::Is(OutcomeResult::Shadowed),
    Stands::Is(OutcomeResult::Dead),
    Stands::Is(OutcomeResult::Duplicate),
    Stands::Is(OutcomeResult::Digested),
    Stands::Is(OutcomeResult::Expired),
    Stands::Is(OutcomeResult::Cancelled),
    Stands::Is(OutcomeResult::Retry),
    Stands::Is(OutcomeResult::Throttled),
];

/// How a delivery stands: the kind of its status, its shape and its word.
pub(in crate::web) fn stands(stands: Stands) -> (&'static str, &'static str, &'static str) {
    use OutcomeResult::{Cancelled, Dead, Digested, Duplicate, Expired, Retry, Sent, Shadowed, Skipped, Throttled};
    match stands {
        Stands::Waiting => ("wait", "clock", "Waiting"),
        Stands::Is(Sent) => ("ok", "check", "Sent"),
        Stands::Is(Digested) => ("ok", "check", "Sent in a digest"),
        Stands::Is(Duplicate) => ("off", "copy", "Already sent"),
        Stands::Is(Expired) => ("off", "clock", "Too late"),
        Stands::Is(Skipped) => ("off", "skip", "Left out"),
        Stands::Is(Shadowed) => ("off", "half", "On trial"),
        Stands::Is(Cancelled) => ("off", "x", "Cancelled"),
        Stands::Is(Dead) => ("bad", "dead", "Dead letter"),
        Stands::Is(Retry) => ("warn", "again", "Trying again"),
        Stands::Is(Throttled) => ("warn", "frost", "Asked to wait"),
    }
}

pub(in crate::web) fn stands_status(of: Stands) -> Markup {
    let (kind, shape, word) = stands(of);
    status(kind, shape, word)
}

/// Where a lane leads to, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct Whither {
    /// The channel, member, webhook or account.
    pub(in crate::web) to: String,
    /// The app, webhook or account that sends.
    pub(in crate::web) by: String,
}

/// A lane in words. `*` is all sending; a credential alone stands for all of its lanes.
pub(in crate::web) fn whither(lane: &str) -> Whither {
    let credential = credential_of(lane);
    let destination = lane.strip_prefix(credential).and_then(|rest| rest.strip_prefix('/'));
    let (kind, name) = credential.split_once(':').unwrap_or(("", credential));
    let name = match name.strip_prefix("sealed-") {
        Some(sum) => format!("with a sealed value ({})", sum.chars().take(6).collect::<String>()),
        None => name.to_owned(),
    };
    let by = match kind {
        "slack" => format!("Slack app {name}"),
        "webhook" => format!("Slack webhook {name}"),
        "clevertap" => format!("CleverTap account {name}"),
        _ if credential == "*" => "All sending".to_owned(),
        _ => credential.to_owned(),
    };
    let to = match (kind, destination) {
        ("clevertap", _) => format!("CleverTap {name}"),
        (_, Some(destination)) => mask(destination).into_owned(),
        ("slack", None) => format!("every channel of {name}"),
        _ => by.clone(),
    };
    Whither { to, by }
}

/// Where a lane leads to, with the name of that beside it where it is known.
pub(in crate::web) fn receiver(lane: &str, name: Option<&str>) -> Markup {
    html! { (whither(lane).to) @if let Some(name) = name { span.two-l { (name) } } }
}

/// Where a lane leads to, with the way to its deliveries.
pub(in crate::web) fn lane_link(lane: &str) -> Markup {
    let Whither { to, by } = whither(lane);
    html! { a href=(address("/deliveries", &[("lane", lane)])) title=[(to != by).then_some(by)] { (to) } }
}

/// A lead's id, with the way to why it notified somebody or nobody. An id that is masked leads there by `event`, which is
/// any name of one of its events that [`super::why`] takes.
pub(in crate::web) fn lead_link(lead: &str, event: &str) -> Markup {
    let query = match mask_id(lead) {
        _ if lead.is_empty() && event.is_empty() => return html! { span.muted { "none" } },
        Cow::Borrowed(_) if !lead.is_empty() => ("lead", lead),
        _ => ("event", event),
    };
    let shown = if lead.is_empty() {
        Cow::Borrowed("its lead")
    } else {
        mask_id(lead)
    };
    html! { a.mono href=(address("/why", &[query])) { (shown) } }
}

/// An id as it is shown: an e-mail address may be one.
pub(in crate::web) fn mask_id(id: &str) -> Cow<'_, str> {
    mask_named("lead_id", id)
}

/// A rule as lists name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct RuleName {
    pub(in crate::web) id: String,
    pub(in crate::web) name: Option<String>,
    /// It is in force.
    pub(in crate::web) is_there: bool,
}

impl RuleName {
    pub(in crate::web) fn of(view: &View, id: &str) -> Self {
        let in_force = rules::get(view, id).ok();
        Self {
            id: id.to_owned(),
            name: in_force.and_then(|in_force| Some(in_force.rule.name.as_deref()?.to_owned())),
            is_there: in_force.is_some(),
        }
    }

    pub(in crate::web) fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    pub(in crate::web) fn link(&self) -> Markup {
        html! {
            @if self.is_there { a href=(super::rules::address(&self.id)) { (self.shown()) } }
            @else { a href=(super::rules::versions_address(&self.id)) { (self.shown()) } " " span.muted.nowrap { "deleted" } }
        }
    }
}

/// Why something became a dead letter, in words.
pub(in crate::web) fn reason(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::NotDecodable) => "It can’t be read",
        Some(Reason::UnknownSchema) => "It is of a form that isn’t known here",
        Some(Reason::InvalidEvent) => "It is no lead event",
        Some(Reason::TooLarge) => "It is too large",
        Some(Reason::TemplateFailed) => "A value that the message needs is missing or wrong",
        Some(Reason::MessageRejected) => "The receiver refused the message",
        Some(Reason::DestinationGone) => "The channel, webhook or account is gone",
        Some(Reason::CredentialRefused) => "The token or passcode was refused until it was too late",
        Some(Reason::GaveUp) => "It was tried again and again, and never taken",
        None => "Nobody says why",
    }
}

/// Why a lane is frozen, in words; the provider's code follows in brackets.
pub(in crate::web) fn freeze(why: &str) -> String {
    let (what, code) = why.split_once(": ").unwrap_or((why, ""));
    let words = match what {
        "throttled" => "Asked to wait: too many messages",
        "credential refused" => refused(code),
        _ => return mask(why).into_owned(),
    };
    match code {
        "" => words.to_owned(),
        code => format!("{words} ({})", mask(code)),
    }
}

/// What is wrong with a field of a form. How a missing value is written in YAML is nothing for the form's reader.
pub(in crate::web) fn fault(message: &str) -> &str {
    match message.starts_with("is missing;") {
        true => "is missing",
        false => message,
    }
}

/// Why a credential is refused, by the code of Slack's or CleverTap's answer.
fn refused(code: &str) -> &'static str {
    match code {
        "token_revoked" => "Slack says that the token was revoked",
        "token_expired" => "Slack says that the token has expired",
        "invalid_auth" | "not_authed" => "Slack doesn’t know the token",
        "account_inactive" => "Slack says that the app was removed",
        "no_service" | "invalid_token" => "Slack doesn’t know the webhook any more",
        "missing_scope" | "not_allowed_token_type" => "The token may not post messages",
        _ => "It isn’t taken any more",
    }
}

/// An amount with two decimals, in dollars unless `currency` says otherwise.
pub(in crate::web) fn money(amount: &str, currency: Option<&str>) -> String {
    let amount = match amount.split_once('.') {
        None => format!("{amount}.00"),
        Some((_, cents)) if cents.len() == 1 => format!("{amount}0"),
        Some(_) => amount.to_owned(),
    };
    match currency {
        None | Some("USD") => format!("${amount}"),
        Some(currency) => format!("{amount} {}", mask(currency)),
    }
}

/// What mends it, before a replay.
pub(in crate::web) fn cure(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::NotDecodable) => {
            "Mend what sends it, and send it again there. A replay helps only once the inlet reads it."
        }
        Some(Reason::UnknownSchema) => "Whoever runs Leadlane registers the schema, or upgrades Leadlane. Then replay.",
        Some(Reason::InvalidEvent) => "Mend the inlet’s mapping in the configuration, or what sends it. Then replay.",
        Some(Reason::TooLarge) => "Shorten what the rule sends, or ask whoever runs Leadlane to allow larger records.",
        Some(Reason::TemplateFailed) => {
            "Give the value a default in the rule, or let the message be left out. Then replay."
        }
        Some(Reason::MessageRejected) => {
            "Change the rule’s message as the answer says. What is replayed is what was made before."
        }
        Some(Reason::DestinationGone) => {
            "Choose another channel or webhook in the rule, or bring the old one back. Then replay."
        }
        Some(Reason::CredentialRefused) => "Put a new token into the secret store. Then replay.",
        Some(Reason::GaveUp) => "Look whether the receiver works again. Then replay.",
        None => "Look at it, and ask whoever runs Leadlane.",
    }
}

/// The trigger in words: `Lead sold`; one that isn't known by its name.
pub(in crate::web) fn trigger(name: &str) -> Cow<'_, str> {
    words::trigger(name).map_or(mask(name), |trigger| Cow::Borrowed(trigger.label))
}

/// What somebody did, before the name of what it was done to.
pub(in crate::web) fn act(what: &str) -> Cow<'_, str> {
    Cow::Borrowed(match what {
        "apply" => "Saved the rule",
        "delete" => "Deleted the rule",
        "pause" => "Paused the rule",
        "resume" => "Resumed the rule",
        "rollback" => "Went back to an earlier version of",
        "replay" => "Replayed dead letters",
        "delivery_replay" => "Sent again",
        "reveal" => "Looked in full at",
        "send_test" => "Sent a test of",
        "lane_pause" => "Paused sending to",
        "lane_resume" => "Resumed sending to",
        "lane_probe" => "Had tried at once",
        "log_out" => "Logged out",
        other => return mask(other),
    })
}

/// An address of ours with a query.
pub(in crate::web) fn address(path: &str, query: &[(&str, &str)]) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
    match pairs.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// A text as one step of a path.
pub(in crate::web) fn encoded(step: &str) -> String {
    form_urlencoded::byte_serialize(step.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_lane_says_where_it_leads_and_by_what() {
        for (lane, to, by) in [
            ("slack:sales-bot/C0123", "C0123", "Slack app sales-bot"),
            ("slack:sales-bot", "every channel of sales-bot", "Slack app sales-bot"),
            ("webhook:alerts", "Slack webhook alerts", "Slack webhook alerts"),
            ("clevertap:acme", "CleverTap acme", "CleverTap account acme"),
            ("*", "All sending", "All sending"),
            ("odd", "odd", "odd"),
        ] {
            let whither = whither(lane);
            assert_eq!((whither.to.as_str(), whither.by.as_str()), (to, by), "{lane}");
        }
        assert_eq!(
            whither("slack:sealed-0123456789/C1").by,
            "Slack app with a sealed value (012345)"
        );
    }

    #[test]
    fn a_freeze_is_told_in_words_with_the_providers_code_behind() {
        assert_eq!(
            freeze("throttled: rate_limited"),
            "Asked to wait: too many messages (rate_limited)"
        );
        assert_eq!(freeze("throttled"), "Asked to wait: too many messages");
        assert_eq!(
            freeze("credential refused: token_revoked"),
            "Slack says that the token was revoked (token_revoked)"
        );
        assert_eq!(freeze("credential refused"), "It isn’t taken any more");
        assert_eq!(freeze("no answer: timeout"), "no answer: timeout");
    }

    #[test]
    fn every_way_to_stand_has_a_word_of_its_own() {
        let words: HashSet<_> = STANDS.map(|of| stands(of).2).into_iter().collect();
        assert_eq!(words.len(), OutcomeResult::ALL.len() + 1);
    }

    #[test]
    fn addresses_carry_any_text() {
        assert_eq!(address("/why", &[("lead", "a b&c"), ("x", "")]), "/why?lead=a+b%26c");
        assert_eq!(encoded("slack:bot/C 1"), "slack%3Abot%2FC%201");
        assert!(
            !lead_link("<script>alert(1)</script>", "")
                .into_string()
                .contains("<script>")
        );
        let masked = lead_link("ana@example.com", "0190f3c2-6f7b-7c11-9a55-3f0a7be1c001").into_string();
        assert!(
            masked.contains("event=0190f3c2") && !masked.contains("example"),
            "{masked}"
        );
        assert_eq!(mask_id("84512377001"), "84512377001");
        assert!(!mask_id("ana@example.com").contains("example"));
    }
}
