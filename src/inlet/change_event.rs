//! What a change event of Salesforce says of its fields beside their values: which hold a diff in place of the text,
//! and which were cleared.
//!
//! The header's `diffFields` and `nulledFields` name fields in one of two forms. In CometD's they are names, and a null
//! in the record is a field that was cleared. In the Pub/Sub API's they are bitmaps over the fields in the order of the
//! record's schema (`0x06`, and `4-0x06` for those of the object that is the fourth), and every field that didn't
//! change is null as well. Here both come to one form: a diff is left out and named under `diff_fields`, and a null is a
//! field that was cleared. Where a record doesn't let that be told, it is refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

const HEADER: &str = "ChangeEventHeader";
const DIFF_FIELDS: &str = "diff_fields";
/// More fields than any object of Salesforce's has; names and bits beyond are no list of its fields.
const FIELDS_MAX: usize = 4096;
const CURE: &str = "read the record from Salesforce";

/// Brings a record to the form above. One without a header is left as it is.
pub(super) fn settle(record: &mut Map<String, Value>) -> Result<(), String> {
    let Some(header) = record.get(HEADER).and_then(Value::as_object) else {
        return Ok(());
    };
    let diffs = Fields::read(header, "diffFields")?;
    let nulled = Fields::read(header, "nulledFields")?;
    let changed = Fields::read(header, "changedFields")?;
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
    names: Vec<Name>,
    bits: Vec<Bit>,
}

/// A field, or one within an object: `Description`, `Name.FirstName`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    field: String,
    member: Option<String>,
}

/// A field's place in the record, and that of a member within it.
#[derive(Debug, Clone, Copy)]
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
                None if object.is_none() => fields.names.push(Name::read(text)),
                None => return Err(wrong()),
            }
            if fields.bits.len() > FIELDS_MAX {
                return Err(wrong());
            }
        }
        Ok(fields)
    }

    /// The fields that hold a diff.
    fn of_diffs(self, record: &Map<String, Value>, in_order: bool) -> Result<BTreeSet<Name>, String> {
        let mut names: BTreeSet<Name> = self.names.into_iter().collect();
        if self.bits.is_empty() {
            return Ok(names);
        }
        let by_place = self.bits.iter().filter(|_| in_order).filter_map(|bit| bit.of(record));
        let by_place: Vec<Name> = by_place
            .filter(|(_, value)| is_diff(value))
            .map(|(name, _)| name)
            .collect();
        if by_place.len() == self.bits.len() {
            names.extend(by_place);
            return Ok(names);
        }
        // What holds a diff shows it, wherever it stands.
        let by_form: Vec<Name> = each(record)
            .filter(|(_, value)| is_diff(value))
            .map(|(name, _)| name)
            .collect();
        if by_form.len() != self.bits.len() {
            return Err(format!(
                "{HEADER}.diffFields: {} fields hold a diff, and which they are can't be told; {CURE}",
                self.bits.len()
            ));
        }
        names.extend(by_form);
        Ok(names)
    }

    /// The fields that were cleared.
    fn of_nulls(self, record: &Map<String, Value>, in_order: bool) -> Result<BTreeSet<Name>, String> {
        let mut names: BTreeSet<Name> = self.names.into_iter().collect();
        for bit in self.bits {
            let found = bit.of(record).filter(|(_, value)| in_order && value.is_null());
            let (name, _) = found.ok_or_else(|| {
                format!(
                    "{HEADER}.nulledFields: is a map of fields that the record doesn't hold in their order, so that which were \
                     cleared can't be told; have the connector keep every field, or {CURE}"
                )
            })?;
            names.insert(name);
        }
        Ok(names)
    }
}

impl Name {
    fn read(text: &str) -> Self {
        let (field, member) = match text.split_once('.') {
            Some((field, member)) => (field, Some(member.to_owned())),
            None => (text, None),
        };
        let field = field.to_owned();
        Self { field, member }
    }

    fn dotted(&self) -> String {
        match &self.member {
            Some(member) => format!("{}.{member}", self.field),
            None => self.field.clone(),
        }
    }
}

impl Bit {
    /// The field that stands in this place, with its value.
    fn of(self, record: &Map<String, Value>) -> Option<(Name, &Value)> {
        let (field, value) = record.iter().nth(self.field)?;
        let (member, value) = match self.member {
            None => (None, value),
            Some(at) => {
                let (member, value) = value.as_object()?.iter().nth(at)?;
                (Some(member.clone()), value)
            }
        };
        let field = field.clone();
        Some((Name { field, member }, value))
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
fn each(record: &Map<String, Value>) -> impl Iterator<Item = (Name, &Value)> {
    record
        .iter()
        .filter(|(field, _)| *field != HEADER)
        .flat_map(|(field, value)| {
            let own = std::iter::once((None, value));
            let members = value.as_object().into_iter().flatten();
            own.chain(members.map(|(member, value)| (Some(member.clone()), value)))
                .map(move |(member, value)| {
                    let field = field.clone();
                    (Name { field, member }, value)
                })
        })
}

/// A unified diff, as Salesforce sends it of a text of more than 1,000 characters.
fn is_diff(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.starts_with("--- ") && text.contains("\n+++ ") && text.contains("\n@@ ")
}

/// Takes away the nulls of fields that didn't change.
fn drop_unchanged(record: &mut Map<String, Value>, nulled: &BTreeSet<Name>) {
    let is_kept = |field: &str, member: Option<&str>, value: &Value| {
        !value.is_null()
            || nulled.contains(&Name {
                field: field.to_owned(),
                member: member.map(str::to_owned),
            })
    };
    for (field, value) in record.iter_mut().filter(|(field, _)| *field != HEADER) {
        if let Value::Object(members) = value {
            members.retain(|member, value| is_kept(field, Some(member), value));
        }
    }
    record.retain(|field, value| field == HEADER || is_kept(field, None, value));
}

fn set_null(record: &mut Map<String, Value>, name: &Name) {
    match &name.member {
        None => {
            record.insert(name.field.clone(), Value::Null);
        }
        Some(member) => {
            let object = record
                .entry(name.field.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(members) = object {
                members.insert(member.clone(), Value::Null);
            }
        }
    }
}

fn leave_out(record: &mut Map<String, Value>, names: &BTreeSet<Name>) {
    let is_named = |field: &str, member: Option<&str>| {
        names.contains(&Name {
            field: field.to_owned(),
            member: member.map(str::to_owned),
        })
    };
    for (field, value) in record.iter_mut() {
        if let Value::Object(members) = value {
            members.retain(|member, _| !is_named(field, Some(member)));
        }
    }
    record.retain(|field, _| !is_named(field, None));
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
        let other = json!({"Email": null});
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
