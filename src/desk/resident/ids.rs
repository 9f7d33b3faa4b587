//! An event's and a lead's id in few bytes: most pairs take no memory beyond the entry that holds them.
//!
//! A UUID is its 16 bytes, a longer number its 8; anything else is its text behind its length. Equal texts have equal
//! bytes, so that ids are compared without being written out.

use uuid::Uuid;

/// The two ids of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ids {
    Short([u8; SHORT]),
    Long(Box<[u8]>),
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Event,
    Lead,
}

const SHORT: usize = 31;
/// What stands in front of a text is its length, but for these.
const UUID: u8 = 0xFF;
const NUMBER: u8 = 0xFE;
const LONG: u8 = 0xFD;
/// A longer id is kept as its beginning.
const TEXT_MAX: usize = 256;

impl Ids {
    pub(super) fn of(event: &str, lead: &str) -> Self {
        let mut bytes = packed(event);
        bytes.extend(packed(lead));
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(&bytes);
                Self::Short(short)
            }
            None => Self::Long(bytes.into()),
        }
    }

    /// The bytes of one of the two.
    pub(super) fn packed(&self, which: Which) -> &[u8] {
        let bytes: &[u8] = match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes) => bytes,
        };
        let (event, rest) = bytes.split_at(length(bytes));
        match which {
            Which::Event => event,
            Which::Lead => &rest[..length(rest)],
        }
    }

    pub(super) fn text(&self, which: Which) -> String {
        unpacked(self.packed(which))
    }
}

/// An id's bytes.
pub(super) fn packed(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 3);
    if let Some(uuid) = uuid(text) {
        bytes.push(UUID);
        bytes.extend(uuid.as_bytes());
    } else if let Some(number) = number(text) {
        bytes.push(NUMBER);
        bytes.extend(number.to_le_bytes());
    } else {
        let text = beginning(text, TEXT_MAX).as_bytes();
        match u8::try_from(text.len()) {
            Ok(length) if length < LONG => bytes.push(length),
            _ => {
                bytes.push(LONG);
                bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
            }
        }
        bytes.extend(text);
    }
    bytes
}

/// The beginning of a text that anybody may have written, at most so many bytes.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The UUID that a text is, where it is written as one of ours.
fn uuid(text: &str) -> Option<Uuid> {
    let upper = || text.bytes().any(|byte| byte.is_ascii_uppercase());
    let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == 36)?;
    (!upper()).then_some(uuid)
}

/// The number that a text is, where that takes less room.
fn number(text: &str) -> Option<u64> {
    let is_one = (9..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_one && !text.starts_with('0'))
}

/// How many bytes the first id has.
fn length(bytes: &[u8]) -> usize {
    match bytes {
        [UUID, ..] => 17,
        [NUMBER, ..] => 9,
        [LONG, low, high, ..] => 3 + usize::from(u16::from_le_bytes([*low, *high])),
        [length, ..] => 1 + usize::from(*length),
        [] => 0,
    }
}

fn unpacked(bytes: &[u8]) -> String {
    match bytes {
        [UUID, uuid @ ..] => Uuid::from_slice(uuid).map_or(String::new(), |uuid| uuid.to_string()),
        [NUMBER, number @ ..] => {
            let number = number.try_into().map_or(0, u64::from_le_bytes);
            number.to_string()
        }
        [LONG, _, _, text @ ..] | [_, text @ ..] => String::from_utf8_lossy(text).into_owned(),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both(event: &str, lead: &str) -> (String, String) {
        let ids = Ids::of(event, lead);
        assert_eq!(ids.packed(Which::Event), packed(event));
        assert_eq!(ids.packed(Which::Lead), packed(lead));
        (ids.text(Which::Event), ids.text(Which::Lead))
    }

    #[test]
    fn usual_ids_take_no_memory_of_their_own() {
        for (event, lead) in [
            ("0190f3c2-6f7b-7c11-9a55-3f0a7be1c001", "84512377"),
            ("0190f3c2-6f7b-7c11-9a55-3f0a7be1c001", "1772723760123"),
            ("e-84512377-sold", "+15125550123"),
        ] {
            assert!(matches!(Ids::of(event, lead), Ids::Short(_)), "{event} {lead}");
            assert_eq!(both(event, lead), (event.to_owned(), lead.to_owned()));
        }
        assert_eq!(size_of::<Ids>(), 32);
    }

    #[test]
    fn what_only_looks_like_a_number_or_a_uuid_keeps_its_text() {
        for text in [
            "",
            "007",
            "000000000012",
            "18446744073709551616",
            "0190F3C2-6F7B-7C11-9A55-3F0A7BE1C001",
            "0190f3c26f7b7c119a553f0a7be1c001",
            "{190f3c2-6f7b-7c11-9a55-3f0a7be1c001",
        ] {
            assert_eq!(both(text, text), (text.to_owned(), text.to_owned()));
        }
    }

    #[test]
    fn an_id_of_any_length_takes_bounded_memory() {
        let long = "é".repeat(100_000);
        let ids = Ids::of(&long, &long);
        assert_eq!(ids.text(Which::Lead), "é".repeat(128));
        assert_eq!(ids.packed(Which::Lead), packed(&long));
    }

    proptest! {
        #[test]
        fn every_pair_comes_back(event in any_id(), lead in any_id()) {
            prop_assert_eq!(both(&event, &lead), (event, lead));
        }
    }

    fn any_id() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9]{0,22}",
            "[a-zA-Z0-9é-]{0,85}",
            any::<[u8; 16]>().prop_map(|bytes| Uuid::from_bytes(bytes).to_string()),
            "[a-z]{250,256}",
        ]
    }
}
