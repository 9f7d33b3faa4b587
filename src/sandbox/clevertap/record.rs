//! What CleverTap accepts as a record: a profile or an event, with its names, sizes and well-known fields.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

const IDENTITIES: [&str; 4] = ["identity", "objectId", "FBID", "GPID"];
const EVENT_PROPERTIES_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 120;
const VALUE_BYTES_MAX: usize = 512;
const ITEMS_MAX: usize = 256;
/// Seconds have ten digits for the next centuries; milliseconds have thirteen.
const SECONDS_MAX: i64 = 99_999_999_999;
const FORBIDDEN: &str = "%><!|&.:;$'\"\\";

/// Events of CleverTap's own, as it compares names: without case and blanks. "Web Page Viewed" was seen refused.
const RESERVED: [&str; 25] = [
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
    "wzrk_d",
];

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) words: Cow<'static, str>,
}

impl Refusal {
    /// A refusal that somebody asked for.
    pub(super) fn ordered(code: u16) -> Self {
        let words = if code == 555 {
            "Internal server error."
        } else {
            "Refused on order."
        };
        Self {
            code,
            words: words.into(),
        }
    }
}

type Checked = Result<(), Refusal>;

pub(super) fn check(record: &Value) -> Checked {
    let kind = record.get("type").and_then(Value::as_str);
    let (Some(fields), Some(kind @ ("profile" | "event"))) = (record.as_object(), kind) else {
        return refuse(524, "Record is neither an event nor a profile.");
    };
    if fields.get("objectId").is_some_and(|id| !id.is_string()) {
        return refuse(526, "Object id is not valid.");
    }
    if identity(record).is_none() {
        return refuse(
            523,
            "Identity is missing: one of identity, objectId, FBID or GPID is needed.",
        );
    }
    if let Some(ts) = fields.get("ts") {
        let is_seconds = ts.as_i64().is_some_and(|seconds| (1..=SECONDS_MAX).contains(&seconds));
        if !is_seconds {
            return refuse(525, "Timestamp is not valid: it must be in epoch seconds.");
        }
    }
    if kind == "event" {
        check_event(fields)
    } else {
        check_profile(fields)
    }
}

/// Whom the record is about; nothing when that is missing or empty.
pub(super) fn identity(record: &Value) -> Option<String> {
    IDENTITIES.into_iter().find_map(|name| match record.get(name)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// A record as CleverTap shows it again: a phone number becomes a number, a numeric identity a text.
pub(super) fn echoed(record: &Value) -> Value {
    let mut record = record.clone();
    if let Some(identity @ Value::Number(_)) = record.get_mut("identity") {
        *identity = Value::String(identity.to_string());
    }
    if let Some(phone) = record
        .get_mut("profileData")
        .and_then(|profile| profile.get_mut("Phone"))
    {
        let digits = phone.as_str().and_then(|text| text.strip_prefix('+'));
        if let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) {
            *phone = Value::Number(Number::from(number));
        }
    }
    record
}

fn check_event(fields: &Map<String, Value>) -> Checked {
    let Some(name) = fields
        .get("evtName")
        .and_then(Value::as_str)
        .filter(|name| !name.trim().is_empty())
    else {
        return refuse(509, "Event name is mandatory.");
    };
    let compared: String = name
        .chars()
        .filter(|c| !c.is_whitespace())
        .flat_map(char::to_lowercase)
        .collect();
    if RESERVED.contains(&compared.as_str()) || compared.starts_with("wzrk_") {
        return refuse(513, "Event name is reserved.");
    }
    check_name(name, "")?;
    let properties = match fields.get("evtData") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(properties)) => properties,
        Some(_) => return refuse(512, "Event data is not an object."),
    };
    if properties.len() > EVENT_PROPERTIES_MAX {
        return refuse(522, "Event has too many properties.");
    }
    for (name, value) in properties {
        check_name(name, "")?;
        if compared == "charged" && name == "Items" {
            check_items(value)?;
        } else if !is_scalar(value) {
            return refuse(
                512,
                "Event structure is not valid. Only Items can have a nested structure.",
            );
        } else {
            check_size(value)?;
        }
    }
    Ok(())
}

fn check_items(items: &Value) -> Checked {
    let Some(items) = items.as_array().filter(|items| items.len() <= ITEMS_MAX) else {
        return refuse(512, "Items is not a list, or too long a one.");
    };
    for item in items {
        let Some(item) = item.as_object().filter(|item| item.values().all(is_scalar)) else {
            return refuse(512, "Items holds something that is no flat object.");
        };
        for (name, value) in item {
            check_name(name, "")?;
            check_size(value)?;
        }
    }
    Ok(())
}

fn check_profile(fields: &Map<String, Value>) -> Checked {
    let Some(Value::Object(profile)) = fields.get("profileData") else {
        return refuse(512, "Profile data is missing or not an object.");
    };
    for (name, value) in profile {
        check_name(name, "#")?;
        check_well_known(name, value)?;
        match value {
            Value::Array(items) if !items.iter().all(Value::is_string) => {
                return refuse(512, "A list in a profile holds something that is no text.");
            }
            Value::Array(items) => items.iter().try_for_each(check_size)?,
            Value::Object(operation) => check_operation(operation)?,
            value => check_size(value)?,
        }
    }
    Ok(())
}

/// The fields that CleverTap reads itself. One bad field rejects the whole record.
fn check_well_known(name: &str, value: &Value) -> Checked {
    let text = value.as_str().unwrap_or_default();
    let is_one_of = |allowed: &[&str]| allowed.contains(&text);
    let (is_good, code, words) = match name {
        "Gender" => (is_one_of(&["M", "F"]), 514, "Gender is not valid: it must be M or F."),
        "Email" => (is_email(text), 515, "Email is not valid."),
        "Phone" => (
            is_phone(text),
            516,
            "Phone is not valid: it must be +[country code][number].",
        ),
        "Employed" => (is_one_of(&["Y", "N"]), 517, "Employed is not valid: it must be Y or N."),
        "Education" => {
            let is_good = is_one_of(&["School", "College", "Graduate"]);
            (
                is_good,
                518,
                "Education is not valid: it must be School, College or Graduate.",
            )
        }
        "Married" => (is_one_of(&["Y", "N"]), 519, "Married is not valid: it must be Y or N."),
        "Age" => (
            value.is_u64() || text.parse::<u8>().is_ok(),
            520,
            "Age is not valid: it must be a number.",
        ),
        _ => return Ok(()),
    };
    if is_good { Ok(()) } else { refuse(code, words) }
}

fn check_name(name: &str, forbidden_too: &str) -> Checked {
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX {
        return refuse(512, "A name is empty or longer than 120 bytes.");
    }
    if name.chars().any(|c| FORBIDDEN.contains(c) || forbidden_too.contains(c)) {
        return refuse(512, "A name has a character that is not allowed.");
    }
    Ok(())
}

fn check_size(value: &Value) -> Checked {
    match value {
        Value::String(text) if text.len() > VALUE_BYTES_MAX => refuse(512, "A value is longer than 512 bytes."),
        _ => Ok(()),
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// An operator with what it takes: texts for a list, or a number.
fn check_operation(object: &Map<String, Value>) -> Checked {
    let (Some((name, operand)), 1) = (object.iter().next(), object.len()) else {
        return refuse(512, "A profile has no nested objects.");
    };
    match (name.as_str(), operand) {
        ("$set" | "$add" | "$remove", Value::Array(items)) if items.iter().all(Value::is_string) => {
            items.iter().try_for_each(check_size)
        }
        ("$set" | "$add" | "$remove", _) => refuse(512, "An operator of lists has something that is no list of texts."),
        ("$incr" | "$decr", Value::Number(_)) | ("$delete", _) => Ok(()),
        ("$incr" | "$decr", _) => refuse(512, "An operator of numbers has something that is no number."),
        _ => refuse(512, "A profile has no nested objects."),
    }
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let is_dotted = domain.split('.').count() > 1 && domain.split('.').all(|part| !part.is_empty());
    !local.is_empty() && is_dotted && !domain.contains('@') && !text.contains(char::is_whitespace)
}

fn is_phone(text: &str) -> bool {
    text.strip_prefix('+')
        .is_some_and(|digits| (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn refuse(code: u16, words: &'static str) -> Checked {
    Err(Refusal {
        code,
        words: words.into(),
    })
}
