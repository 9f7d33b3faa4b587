//! Checks a record against CleverTap's rules for names and values, as far as its documentation is plain about them.
//!
//! A record that CleverTap would refuse is refused here, before the upload, so that the message names the property and
//! the fault; CleverTap's own message doesn't. Where the documentation leaves a doubt, CleverTap decides.
//!
//! No message quotes a value, or an event's name, which a template may have made of a value.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::names::{NAME_MAX, is_charged, wrong_event_name, wrong_event_property_name, wrong_profile_property_name};
use crate::action::TEST_MARK;
use crate::text::{Unit, cut, truncate};

/// Bytes of a text. CleverTap's pages say characters in one place and bytes in another, so that the stricter counts.
pub const TEXT_MAX: usize = 512;
/// The limit of older pages of the documentation; newer pages have 100, which an account can raise.
const EVENT_PROPERTIES_MAX: usize = 256;
const ITEMS_MAX: usize = 256;
const CURE: &str = "shorten it with | truncate: 512, \"bytes\"";
const CURE_IN_LIST: &str =
    "shorten it with | truncate: 512, \"bytes\", or make one text of a list with | join: \", \" before that";
/// No filter reaches into an event's list.
const CURE_IN_ITEM: &str = "shorten it where the event is made";
/// Texts of a profile's list. CleverTap drops the oldest of more without a word.
const LIST_MAX: usize = 100;

#[derive(Deserialize)]
struct Record<'r> {
    #[serde(rename = "evtName", default)]
    event_name: Option<String>,
    #[serde(rename = "evtData", borrow, default)]
    event: Option<Properties<'r>>,
    #[serde(rename = "profileData", borrow, default)]
    profile: Option<Properties<'r>>,
}

/// Names and values; the latter as they are written, since their kind and length are enough.
struct Properties<'r>(Vec<(Name<'r>, &'r RawValue)>);

#[derive(Deserialize)]
struct Name<'r>(#[serde(borrow)] Cow<'r, str>);

/// Why CleverTap would not take the record; `None` for one that it may take.
pub(super) fn refusal(body: &str) -> Option<String> {
    let record: Record<'_> = serde_json::from_str(body).ok()?;
    if let Some(name) = &record.event_name {
        if let Some(why) = wrong_event_name(name) {
            return Some(format!("the event's name {why}"));
        }
        let properties = record.event.as_ref().map_or(&[][..], |event| &event.0);
        if properties.len() > EVENT_PROPERTIES_MAX {
            return Some(format!(
                "the event has {} properties, CleverTap takes {EVENT_PROPERTIES_MAX}",
                properties.len()
            ));
        }
        let charged = is_charged(name);
        return properties
            .iter()
            .find_map(|property| wrong_event_property(property, charged));
    }
    record.profile?.0.iter().find_map(|(name, value)| {
        let why = wrong_profile_property_name(&name.0).or_else(|| wrong_text(value, CURE));
        why.map(|why| of_property(name, &why))
    })
}

/// An event of another name, so that nothing that counts or follows the real event sees it. A profile can't be marked
/// without changing a customer, nor a purchase, of which CleverTap alone knows the items: both stay as they are, and are
/// checked without being kept.
pub(super) fn as_test(body: &str) -> Option<String> {
    let mut record: Value = serde_json::from_str(body).ok()?;
    let name = record.get("evtName")?.as_str().filter(|name| !is_charged(name))?;
    let marked = format!("{TEST_MARK}{name}");
    record["evtName"] = cut(&marked, NAME_MAX, Unit::Bytes).unwrap_or(marked).into();
    Some(record.to_string())
}

/// Whether a record shows that it is a test, so that CleverTap may keep it.
pub fn is_marked(body: &str) -> bool {
    let record: Option<Record<'_>> = serde_json::from_str(body).ok();
    let name = record.and_then(|record| record.event_name);
    name.is_some_and(|name| name.starts_with(TEST_MARK))
}

fn wrong_event_property((name, value): &(Name<'_>, &RawValue), charged: bool) -> Option<String> {
    let why = wrong_event_property_name(&name.0).or_else(|| match value.get().as_bytes().first() {
        Some(b'[') if charged && name.0 == "Items" => wrong_items(value),
        Some(b'[' | b'{') => {
            Some("is a list or an object, which CleverTap takes in an event as Items of Charged alone".to_owned())
        }
        _ => wrong_text(value, CURE),
    })?;
    Some(of_property(name, &why))
}

fn wrong_items(items: &RawValue) -> Option<String> {
    let items: Vec<Properties<'_>> = match serde_json::from_str(items.get()) {
        Ok(items) => items,
        Err(_) => return Some("holds something that is no object".to_owned()),
    };
    if items.len() > ITEMS_MAX {
        return Some(format!("has {} items, CleverTap takes {ITEMS_MAX}", items.len()));
    }
    items.iter().flat_map(|item| &item.0).find_map(|(name, value)| {
        let why = wrong_event_property_name(&name.0).or_else(|| wrong_text(value, CURE_IN_ITEM))?;
        Some(format!("holds an item whose {}", of_property(name, &why)))
    })
}

/// The fault of a text, or of the texts of a profile's list or operator; `cure` is for the text.
fn wrong_text(value: &RawValue, cure: &str) -> Option<String> {
    let written = value.get();
    match written.as_bytes().first()? {
        // With quotes and escapes it is longer than what it stands for, so that few are read at all.
        b'"' if written.len() > TEXT_MAX => {
            let text: String = serde_json::from_str(written).ok()?;
            (text.len() > TEXT_MAX).then(|| format!("is longer than {TEXT_MAX} bytes; {cure}"))
        }
        b'[' => {
            let list: Vec<&RawValue> = serde_json::from_str(written).ok()?;
            if list.len() > LIST_MAX {
                return Some(format!("has {} texts, of which CleverTap keeps {LIST_MAX}", list.len()));
            }
            let why = list.into_iter().find_map(|text| wrong_text(text, CURE_IN_LIST))?;
            Some(format!("holds a text that {why}"))
        }
        b'{' => {
            let members: Properties<'_> = serde_json::from_str(written).ok()?;
            members.0.iter().find_map(|(_, value)| wrong_text(value, CURE_IN_LIST))
        }
        _ => None,
    }
}

fn of_property(name: &Name<'_>, why: &str) -> String {
    format!("property {:?} {why}", truncate(&name.0, 60))
}

impl<'de: 'r, 'r> Deserialize<'de> for Properties<'r> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Properties<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::with_capacity(16);
                while let Some(entry) = map.next_entry()? {
                    found.push(entry);
                }
                Ok(Properties(found))
            }
        }
        deserializer.deserialize_map(Reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, properties: &str) -> Option<String> {
        refusal(&format!(
            r#"{{"type":"event","identity":"i","ts":1,"evtName":"{name}","evtData":{properties}}}"#
        ))
    }

    fn profile(properties: &str) -> Option<String> {
        refusal(&format!(
            r#"{{"type":"profile","identity":"i","ts":1,"profileData":{properties}}}"#
        ))
    }

    #[test]
    fn a_test_is_an_event_of_another_name_and_what_cant_be_marked_stays_as_it_is() {
        let event = |name: &str| {
            format!(r#"{{"type":"event","identity":"i","ts":1,"evtName":"{name}","evtData":{{"Price":42.50}}}}"#)
        };
        assert_eq!(as_test(&event("Lead sold")), Some(event("[TEST] Lead sold")));
        assert!(is_marked(&event("[TEST] Lead sold")) && !is_marked(&event("Lead sold")));
        let long = as_test(&event(&"é".repeat(60))).unwrap();
        assert_eq!(refusal(&long), None, "{long}");
        let profile = r#"{"type":"profile","identity":"i","ts":1,"profileData":{"Name":"a"}}"#;
        for kept in [event("Charged"), profile.to_owned(), "[]".to_owned()] {
            assert_eq!(as_test(&kept), None);
            assert!(!is_marked(&kept));
        }
    }

    #[test]
    fn what_clevertap_takes_passes() {
        let long = "é".repeat(256);
        for properties in [
            "{}",
            r#"{"Price":42.50,"Buyer name":"a: b & c","When":"$D_1","Vip":true,"None":null}"#,
            r#"{"Gr\u00f6\u00dfe":1}"#,
            &format!(r#"{{"Text":"{long}"}}"#),
        ] {
            assert_eq!(event("Lead sold", properties), None, "{properties}");
            assert_eq!(profile(properties), None, "{properties}");
        }
        assert_eq!(
            event("Charged", r#"{"Items":[{"Name":"a","Price":5}],"Amount":5}"#),
            None
        );
        assert_eq!(
            profile(r##"{"Tags":{"$add":["a"]},"Langs":["a","b"],"Home":{"City":"x"}}"##),
            None
        );
        assert_eq!(profile(&format!(r#"{{"Tags":[{}"a"]}}"#, r#""a","#.repeat(99))), None);
        assert_eq!(event(&"x".repeat(120), "{}"), None);
        let many = |count: usize| {
            format!(
                "{{{}}}",
                (0..count).map(|n| format!("\"p{n}\":1")).collect::<Vec<_>>().join(",")
            )
        };
        assert_eq!(event("Sold", &many(256)), None);
        assert!(event("Sold", &many(257)).unwrap().contains("257 properties"));
        // CleverTap judges a body that is no record at all.
        assert_eq!(refusal("[]"), None);
    }

    #[test]
    fn what_it_does_not_take_is_named_without_values() {
        let long = format!(r#"{{"Text":"{}"}}"#, "hunter2".repeat(80));
        let hindi = format!(r#"{{"नाम":"{}"}}"#, "ल".repeat(171));
        let long_name = format!(r#"{{"{}":"hunter2"}}"#, "n".repeat(121));
        for (found, wanted) in [
            (event("hunter2: sold", "{}"), "the event's name has a : in its name"),
            (event("App Launched", "{}"), "one of CleverTap's own"),
            (event("applaunched", "{}"), "one of CleverTap's own"),
            (event("wzrk_hunter2", "{}"), "one of CleverTap's own"),
            (event(&"hunter2".repeat(20), "{}"), "longer than 120 bytes"),
            (
                event("Sold", r#"{"Deal: won":"hunter2"}"#),
                r#"property "Deal: won" has a :"#,
            ),
            (event("Sold", r#"{"a\"b":"hunter2"}"#), r#"has a " in its name"#),
            (event("Sold", r#"{"":"hunter2"}"#), "blank name"),
            (
                event("Sold", r#"{"Items":[{"Name":"hunter2"}]}"#),
                r#"property "Items" is a list or an object"#,
            ),
            (
                event("Sold", r#"{"List":["hunter2"]}"#),
                r#"property "List" is a list or an object"#,
            ),
            (
                event("Sold", r#"{"Home":{"City":"hunter2"}}"#),
                r#"property "Home" is a list or an object"#,
            ),
            (event("Sold", &long), r#"property "Text" is longer than 512 bytes"#),
            (event(&"बि".repeat(21), "{}"), "longer than 120 bytes"),
            (event("Sold", &long_name), "longer than 120 bytes"),
            (
                event("Charged", r#"{"Items":["hunter2"]}"#),
                r#"property "Items" holds something"#,
            ),
            (
                event("Charged", r#"{"Items":[{"a.b":"hunter2"}]}"#),
                r#"an item whose property "a.b""#,
            ),
            (profile(r##"{"No#":"hunter2"}"##), r##"property "No#" has a #"##),
            (profile(r#"{"Won!":"hunter2"}"#), "has a !"),
            (profile(&long), "longer than 512"),
            (
                profile(&hindi),
                r#"property "नाम" is longer than 512 bytes; shorten it with | truncate: 512, "bytes""#,
            ),
            (
                profile(&format!(r#"{{"Tags":[{}"a"]}}"#, r#""a","#.repeat(100))),
                "property \"Tags\" has 101 texts, of which CleverTap keeps 100",
            ),
            (
                profile(&format!(r#"{{"Tags":["a","{}"]}}"#, "ल".repeat(171))),
                r#"property "Tags" holds a text that is longer"#,
            ),
            (
                profile(&format!(r#"{{"Tags":{{"$add":["{}"]}}}}"#, "ल".repeat(171))),
                r#"property "Tags" holds a text that"#,
            ),
            (
                event("Charged", &format!(r#"{{"Items":[{{"Name":"{}"}}]}}"#, "ल".repeat(171))),
                "holds an item whose property \"Name\" is longer than 512 bytes; shorten it where the event is made",
            ),
        ] {
            let found = found.unwrap_or_else(|| panic!("{wanted} passes"));
            assert!(found.contains(wanted), "{found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
        assert_eq!(event("Sold", r#"{"No#":1}"#), None, "in events it is allowed");
    }
}
