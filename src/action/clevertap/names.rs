//! The names that CleverTap takes, as far as its documentation is plain about them.
//!
//! [`check`](super::check) warns about names that stand in a rule; [`record`](super::record) judges names that an
//! event brings, before the upload.

/// The operators that change a profile's property rather than set it.
pub(super) const OPERATORS: [&str; 6] = ["$set", "$add", "$remove", "$delete", "$incr", "$decr"];

/// Bytes of a name. CleverTap's pages say characters in one place and bytes in another, so that the stricter counts.
pub(super) const NAME_MAX: usize = 120;
const FORBIDDEN: &str = "%><!|&.:;$'\"\\";
/// In a profile's names also this.
const FORBIDDEN_IN_PROFILES: &str = "#";

/// Events of CleverTap's own, as it compares names: without case and blanks.
const RESERVED: [&str; 24] = [
    "notificationsent",
    "notificationviewed",
    "notificationclicked",
    "notificationdelivered",
    "notificationreplied",
    "notificationbounced",
    "utmvisited",
    "applaunched",
    "appuninstalled",
    "appversionchanged",
    "stayed",
    "replysent",
    "experimentrendered",
    "reachableby",
    "identityset",
    "identityreset",
    "identityerror",
    "pushimpressions",
    "statetransitioned",
    "sessionconcluded",
    "geoclusterentered",
    "geoclusterexited",
    "channelunsubscribed",
    "webpageviewed",
];

/// Why CleverTap takes no event of this name.
pub(super) fn wrong_event_name(name: &str) -> Option<String> {
    let plain: String = compared(name).collect();
    if RESERVED.contains(&plain.as_str()) || plain.starts_with("wzrk_") {
        return Some("is one of CleverTap's own events; choose another".to_owned());
    }
    wrong_name(name, "")
}

/// Why CleverTap takes no event with a property of this name.
pub(super) fn wrong_event_property_name(name: &str) -> Option<String> {
    wrong_name(name, "")
}

/// Why CleverTap takes no profile with a property of this name.
pub(super) fn wrong_profile_property_name(name: &str) -> Option<String> {
    wrong_name(name, FORBIDDEN_IN_PROFILES)
}

/// Whether an event of this name is a purchase, the only one whose `Items` may be a list.
pub(super) fn is_charged(event_name: &str) -> bool {
    compared(event_name).eq("charged".chars())
}

/// A name as CleverTap compares it: without case and blanks.
fn compared(name: &str) -> impl Iterator<Item = char> {
    let plain = name.chars().filter(|c| !c.is_whitespace());
    plain.flat_map(char::to_lowercase)
}

fn wrong_name(name: &str, forbidden_too: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("has a blank name".to_owned());
    }
    if name.len() > NAME_MAX {
        return Some(format!("has a name longer than {NAME_MAX} bytes"));
    }
    let mut forbidden = name
        .chars()
        .filter(|c| FORBIDDEN.contains(*c) || forbidden_too.contains(*c));
    let first = forbidden.next()?;
    Some(format!(
        "has a {first} in its name, which CleverTap doesn't take; rename it in the rule"
    ))
}
