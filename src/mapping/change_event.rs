//! Salesforce's change events: the header names fields whose value is a diff, and fields that were cleared.
//!
//! The header's `diffFields` and `nulledFields` name fields in one of two forms. In CometD's form they are names, and
//! a null in the record is a cleared field. In the Pub/Sub API's form they are bitmaps over the fields in the order of
//! the record's schema (`0x06`, and `4-0x06` for fields of the object that is the fourth field), and every unchanged
//! field is null as well. This module brings both to one form: it leaves a diff out and names it under `diff_fields`,
//! and a null is a cleared field. It refuses a record that leaves this open.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

const HEADER: &str = "ChangeEventHeader";
const DIFF_FIELDS: &str = "diff_fields";
/// More fields than any object of Salesforce's has; names and bits beyond are no list of its fields.
const FIELDS_MAX: usize = 4096;
/// More bytes than any field's name has. This bound keeps the listed names linear in the record's size.
const NAME_MAX: usize = 255;
const CURE: &str = "read the record from Salesforce";

/// Brings a record to the form above. One without a header is left as it is.
pub(super) fn settle(record: &mut Map<String, Value>) -> Result<(), String> {
    let Some(header) = record.get(HEADER).and_then(Value::as_object) else {
        return Ok(());
    };
    let diffs = Fields::read(header, "diffFields")?;
    let nulled = Fields::read(header, "nulledFields")?;
    let changed = Fields::read(header, "changedFields")?;
    if each(record).any(|(name, _)| name.is_long()) {
        return Err(format!(
            "a field's name has more than {NAME_MAX} bytes, and no field of Salesforce's has such a one"
        ));
    }
    let is_mapped = [&diffs, &nulled, &changed].iter().any(|fields| !fields.bits.is_empty());
    // A connector that leaves fields out leaves the others in places that are not theirs.
    let in_order = [&diffs, &nulled, &changed]
        .iter()
        .all(|fields| fields.bits.iter().all(|bit| bit.field < record.len()))
        && record.len() <= FIELDS_MAX;
    let diffs = diffs.of_diffs(record, in_order)?;
    let nulled = nulled.of_nulls(record, in_order)?;
    if is_mapped {
        drop_unchanged(record, &nulled);
    }
    for name in &nulled {
        set_null(record, name);
    }
    if !diffs.is_empty() {
        leave_out(record, &diffs);
        let named = diffs.into_iter().map(|name| name.dotted().into());
        record.insert(DIFF_FIELDS.to_owned(), Value::Array(named.collect()));
    }
    Ok(())
}

/// What a list of the header names.
#[derive(Default)]
struct Fields {
    names: BTreeSet<Name<'static>>,
    bits: BTreeSet<Bit>,
}

/// A field, or one within an object: `Description`, `Name.FirstName`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'r> {
    field: Cow<'r, str>,
    member: Option<Cow<'r, str>>,
}

/// A field's place in the record, and that of a member within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bit {
    field: usize,
    member: Option<usize>,
}

impl Fields {
    fn read(header: &Map<String, Value>, list: &str) -> Result<Self, String> {
        let wrong = || format!("{HEADER}.{list}: is no list of at most {FIELDS_MAX} fields");
        let mut fields = Self::default();
        let elements = match header.get(list) {
            None | Some(Value::Null) => return Ok(fields),
            Some(Value::Array(elements)) if elements.len() <= FIELDS_MAX => elements,
            Some(_) => return Err(wrong()),
        };
        for element in elements {
            let text = element.as_str().ok_or_else(wrong)?;
            let (object, map) = match text.split_once('-') {
                Some((object, map)) => (Some(object.parse().map_err(|_| wrong())?), map),
                None => (None, text),
            };
            match map.strip_prefix("0x") {
                Some(hex) => fields.bits.extend(bits(hex, object).ok_or_else(wrong)?),
                None if object.is_none() => {
                    let name = Name::read(text);
                    if name.is_long() {
                        return Err(wrong());
                    }
                    fields.names.insert(name.owned());
                }
                None => return Err(wrong()),
            }
            if fields.bits.len() > FIELDS_MAX {
                return Err(wrong());
            }
        }
        Ok(fields)
    }

    /// The fields that hold a diff.
    fn of_diffs(self, record: &Map<String, Value>, in_order: bool) -> Result<BTreeSet<Name<'static>>, String> {
        let mut names = self.names;
        if self.bits.is_empty() {
            return Ok(names);
        }
        let by_place = self.bits.iter().filter(|_| in_order).filter_map(|bit| bit.of(record));
        let by_place: Vec<Name<'_>> = by_place
            .filter(|(_, value)| is_diff(value))
            .map(|(name, _)| name)
            .collect();
        if by_place.len() == self.bits.len() {
            names.extend(by_place.into_iter().map(Name::owned));
            return Ok(names);
        }
        // A diff shows itself, wherever it stands.
        let by_form: Vec<Name<'_>> = each(record)
            .filter(|(_, value)| is_diff(value))
            .map(|(name, _)| name)
            .collect();
        if by_form.len() != self.bits.len() {
            return Err(format!(
                "{HEADER}.diffFields: {} fields hold a diff, and nothing says which they are; {CURE}",
                self.bits.len()
            ));
        }
        names.extend(by_form.into_iter().map(Name::owned));
        Ok(names)
    }

    /// The fields that were cleared.
    fn of_nulls(self, record: &Map<String, Value>, in_order: bool) -> Result<BTreeSet<Name<'static>>, String> {
        let mut names = self.names;
        for bit in self.bits {
            let found = bit.of(record).filter(|(_, value)| in_order && value.is_null());
            let (name, _) = found.ok_or_else(|| {
                format!(
                    "{HEADER}.nulledFields: is a map of fields that the record doesn't hold in their order, so that which were \
                     cleared can't be known; have the connector keep every field, or {CURE}"
                )
            })?;
            names.insert(name.owned());
        }
        Ok(names)
    }
}

impl<'r> Name<'r> {
    fn of(field: &'r str, member: Option<&'r str>) -> Self {
        Self {
            field: field.into(),
            member: member.map(Into::into),
        }
    }

    fn read(text: &'r str) -> Self {
        match text.split_once('.') {
            Some((field, member)) => Self::of(field, Some(member)),
            None => Self::of(text, None),
        }
    }

    fn is_long(&self) -> bool {
        self.field.len() > NAME_MAX || self.member.as_ref().is_some_and(|member| member.len() > NAME_MAX)
    }

    fn owned(self) -> Name<'static> {
        Name {
            field: Cow::Owned(self.field.into_owned()),
            member: self.member.map(|member| Cow::Owned(member.into_owned())),
        }
    }

    fn dotted(&self) -> String {
        match &self.member {
            Some(member) => format!("{}.{member}", self.field),
            None => self.field.clone().into_owned(),
        }
    }
}

impl Bit {
    /// The field that stands in this place, with its value.
    fn of(self, record: &Map<String, Value>) -> Option<(Name<'_>, &Value)> {
        let (field, value) = record.iter().nth(self.field)?;
        Some(match self.member {
            None => (Name::of(field, None), value),
            Some(at) => {
                let (member, value) = value.as_object()?.iter().nth(at)?;
                (Name::of(field, Some(member)), value)
            }
        })
    }
}

/// The places whose bits are set; the lowest bit is the first place.
fn bits(hex: &str, object: Option<usize>) -> Option<Vec<Bit>> {
    if hex.is_empty() || hex.len() * 4 > FIELDS_MAX {
        return None;
    }
    let mut found = Vec::new();
    for (nth, digit) in hex.chars().rev().enumerate() {
        let digit = digit.to_digit(16)?;
        for bit in (0..4).filter(|bit| digit & (1 << bit) != 0) {
            let place = nth * 4 + bit;
            found.push(match object {
                None => Bit {
                    field: place,
                    member: None,
                },
                Some(field) => Bit {
                    field,
                    member: Some(place),
                },
            });
        }
    }
    Some(found)
}

/// Every field, and the members of those that are objects; not the header's.
fn each(record: &Map<String, Value>) -> impl Iterator<Item = (Name<'_>, &Value)> {
    let fields = record.iter().filter(|(field, _)| *field != HEADER);
    fields.flat_map(|(field, value)| {
        let members = value.as_object().into_iter().flatten();
        let members = members.map(move |(member, value)| (Name::of(field, Some(member)), value));
        std::iter::once((Name::of(field, None), value)).chain(members)
    })
}

/// A unified diff, as Salesforce sends it of a text of more than 1,000 characters.
fn is_diff(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.starts_with("--- ") && text.contains("\n+++ ") && text.contains("\n@@ ")
}

/// Takes away the nulls of fields that didn't change.
fn drop_unchanged(record: &mut Map<String, Value>, nulled: &BTreeSet<Name<'static>>) {
    let is_kept = |name: &Name<'_>, value: &Value| !value.is_null() || nulled.contains(name);
    for (field, value) in record.iter_mut().filter(|(field, _)| *field != HEADER) {
        if let Value::Object(members) = value {
            members.retain(|member, value| is_kept(&Name::of(field, Some(member)), value));
        }
    }
    record.retain(|field, value| field == HEADER || is_kept(&Name::of(field, None), value));
}

fn set_null(record: &mut Map<String, Value>, name: &Name<'_>) {
    let field = name.field.clone().into_owned();
    match &name.member {
        None => {
            record.insert(field, Value::Null);
        }
        Some(member) => {
            let object = record.entry(field).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(members) = object {
                members.insert(member.clone().into_owned(), Value::Null);
            }
        }
    }
}

fn leave_out(record: &mut Map<String, Value>, names: &BTreeSet<Name<'static>>) {
    for (field, value) in record.iter_mut() {
        if let Value::Object(members) = value {
            members.retain(|member, _| !names.contains(&Name::of(field, Some(member))));
        }
    }
    record.retain(|field, _| !names.contains(&Name::of(field, None)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DIFF: &str = "--- \n+++ 682b8747ccdb93b5\n@@ -2,1 +2,1 @@\n-Old line of the note.\n+New line of the note.\n";

    fn settled(record: Value) -> Result<Value, String> {
        let Value::Object(mut members) = record else {
            panic!("an object")
        };
        settle(&mut members)?;
        members.remove(HEADER);
        Ok(Value::Object(members))
    }

    #[test]
    fn a_diff_is_left_out_and_named() {
        // CometD's form, by names.
        let cometd = json!({"Description": {"diff": DIFF}, "Email": "a", "Name": {"Note": {"diff": DIFF}, "Last": "x"},
            "ChangeEventHeader": {"diffFields": ["Description", "Name.Note", "Gone"], "changedFields": ["Description"]}});
        assert_eq!(
            settled(cometd),
            Ok(json!({"Email": "a", "Name": {"Last": "x"}, "diff_fields": ["Description", "Gone", "Name.Note"]}))
        );
        // Pub/Sub's, in a record whose connector left fields out: the diff shows itself.
        let sparse = json!({"ChangeEventHeader": {"nulledFields": [], "diffFields": ["0x010000"], "changedFields": ["0x410000"]},
            "Name": null, "Description": DIFF, "LastModifiedDate": 1_772_723_760_000_i64});
        assert_eq!(
            settled(sparse),
            Ok(json!({"LastModifiedDate": 1_772_723_760_000_i64, "diff_fields": ["Description"]}))
        );
        // In a whole record the place tells a diff from a text that somebody wrote in its form.
        let whole = |bits: &str| json!({"ChangeEventHeader": {"diffFields": [bits], "changedFields": ["0x0e"]}, "A": DIFF, "B": DIFF, "C": "c"});
        assert_eq!(
            settled(whole("0x04")),
            Ok(json!({"A": DIFF, "C": "c", "diff_fields": ["B"]}))
        );
        assert_eq!(settled(whole("0x06")), Ok(json!({"C": "c", "diff_fields": ["A", "B"]})));
        let unclear = settled(whole("0x08")).unwrap_err();
        assert!(
            unclear.contains("diffFields") && unclear.contains("read the record"),
            "{unclear}"
        );
        let nested = json!({"ChangeEventHeader": {"diffFields": ["1-0x02"]}, "Name": {"First": "x", "Note": DIFF}});
        assert_eq!(
            settled(nested),
            Ok(json!({"Name": {"First": "x"}, "diff_fields": ["Name.Note"]}))
        );
    }

    #[test]
    fn a_null_is_a_field_that_was_cleared() {
        // CometD's form: nulls are what they are.
        let cometd = json!({"Email": null, "Phone": "1", "ChangeEventHeader": {"changedFields": ["Email", "Phone"]}});
        assert_eq!(settled(cometd), Ok(json!({"Email": null, "Phone": "1"})));
        let named = json!({"Phone": "1", "ChangeEventHeader": {"nulledFields": ["Email", "Name.First"]}});
        assert_eq!(
            settled(named),
            Ok(json!({"Phone": "1", "Email": null, "Name": {"First": null}}))
        );
        // Pub/Sub's: the nulls of what didn't change go.
        let whole = |nulled: Value| {
            json!({"ChangeEventHeader": {"nulledFields": nulled, "changedFields": ["0x08"]}, "Email": null, "Phone": null, "City": "Rome",
                "Name": {"First": null, "Last": null}})
        };
        assert_eq!(settled(whole(json!([]))), Ok(json!({"City": "Rome", "Name": {}})));
        assert_eq!(
            settled(whole(json!(["0x04", "4-0x01"]))),
            Ok(json!({"Phone": null, "City": "Rome", "Name": {"First": null}}))
        );
        for (nulled, why) in [
            (json!(["0x08"]), "nulledFields: is a map"),
            (json!(["0x80"]), "nulledFields: is a map"),
            (json!(["4-0x04"]), "nulledFields: is a map"),
            (json!("Email"), "nulledFields: is no list"),
            (json!([1]), "nulledFields: is no list"),
            (json!(["0xSECRET"]), "nulledFields: is no list"),
            (json!(["0x"]), "nulledFields: is no list"),
            (json!([format!("0x{}", "1".repeat(5000))]), "nulledFields: is no list"),
        ] {
            let refused = settled(whole(nulled)).unwrap_err();
            assert!(refused.contains(why) && !refused.contains("SECRET"), "{refused}");
        }
        // A field is missing, so that the places are not theirs.
        let sparse =
            json!({"ChangeEventHeader": {"nulledFields": ["0x02"], "changedFields": ["0x8000"]}, "Email": null});
        assert!(settled(sparse).unwrap_err().contains("doesn't hold in their order"));
        // The parts of what is named are a field's at most in size, so that comparing them costs little.
        let long = "n".repeat(256);
        for record in [
            json!({"ChangeEventHeader": {}, long.as_str(): 1}),
            json!({"ChangeEventHeader": {}, "Name": {long.as_str(): 1}}),
        ] {
            let refused = settled(record).unwrap_err();
            assert!(refused.contains("255 bytes") && !refused.contains("nnn"), "{refused}");
        }
        assert!(settled(whole(json!([long]))).unwrap_err().contains("is no list"));
        let other = json!({"Email": null, "n".repeat(256): 1});
        assert_eq!(settled(other.clone()), Ok(other), "what is no change event");
    }

    proptest! {
        #[test]
        fn maps_come_back_as_the_places_they_were_made_of(places in proptest::collection::btree_set(0..200_usize, 1..20)) {
            let mut digits = [0_u32; 50];
            for place in &places {
                digits[place / 4] |= 1 << (place % 4);
            }
            let hex: String = digits.iter().rev().map(|digit| char::from_digit(*digit, 16).unwrap()).collect();
            let read: BTreeSet<usize> = bits(&hex, None).unwrap().iter().map(|bit| bit.field).collect();
            prop_assert_eq!(read, places);
        }
    }
}
