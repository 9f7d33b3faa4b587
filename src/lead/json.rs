//! Lead events as JSON: texts are borrowed from the record unless they hold escapes, and no value tree is built on the
//! way. `quick` reads nearly every event; this is the complete decoder, which decides about the rest.
//!
//! Scalars keep the text they were written in, so that a number keeps every digit. serde's own type errors would quote
//! the wrong value; here every type is checked by hand and the error names the field alone. Half of a surrogate pair
//! is read as U+FFFD, which an id refuses.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::asked::Asked;
use super::decode::DecodeError;
use super::fields::{Filling, Place, Scalar, Unread};
use super::table::Table;
use super::{Fields, LeadEvent, Payload, Text};
use crate::json::mend;
use crate::json::walk::Unsure;

mod quick;

pub(super) use quick::quick;

/// Reads what is asked for, in one pass if that goes.
pub(super) fn decode<'a>(text: &'a str, asked: &Asked) -> Result<LeadEvent<'a>, DecodeError> {
    // Made where it is returned: it is large.
    let mut decoded = Ok(LeadEvent::default());
    if let Ok(event) = &mut decoded
        && let Err(Unsure) = quick(text, asked, event)
    {
        decoded = whole(text);
    }
    decoded
}

/// Reads a whole event, or says what is wrong with it.
pub(super) fn whole(text: &str) -> Result<LeadEvent<'_>, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut inside = false;
    let event = (&mut deserializer).deserialize_map(Members::new(Place::EVENT, &mut inside));
    let error = match event.and_then(|event| deserializer.end().map(|()| event)) {
        Ok(Some(event)) => return Ok(event),
        Ok(None) => return Err(DecodeError::NotDecodable("the value is null".into())),
        Err(error) => error,
    };
    // The first error may hide malformed JSON further on, and that comes first.
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Err(DecodeError::InvalidEvent(error.to_string())),
        Err(malformed) => Err(DecodeError::NotDecodable(format!("malformed JSON: {malformed}"))),
    }
}

/// The value that `map` has come to.
struct Value<'m, A> {
    map: &'m mut A,
    place: Place,
}

impl<'de, A: MapAccess<'de>> Unread<'de> for Value<'_, A> {
    type Error = A::Error;

    fn place(&self) -> Place {
        self.place
    }

    fn scalar(self) -> Result<Scalar<'de>, A::Error> {
        let raw = self.map.next_value::<&RawValue>()?;
        scalar(raw.get()).map_err(|why| Self::refuse(self.place, why))
    }

    fn record<T: Table<'de>>(self, place: &mut Option<T>) -> Result<(), A::Error> {
        let mut inside = false;
        let members = Members::new(self.place, &mut inside);
        let found = self.map.next_value_seed(members);
        *place = found.map_err(|error| within(inside, error, self.place))?;
        Ok(())
    }

    fn fields(self) -> Result<Fields<'de>, A::Error> {
        let mut inside = false;
        let found = self.map.next_value_seed(FieldsVisitor { inside: &mut inside });
        found.map_err(|error| within(inside, error, self.place))
    }

    fn payload(self) -> Result<Option<Payload<'de>>, A::Error> {
        let raw = self.map.next_value::<&RawValue>()?.get();
        if raw == "null" {
            return Ok(None);
        }
        let payload = Payload::read(raw);
        payload.map(Some).map_err(|why| Self::refuse(self.place, why))
    }

    fn refuse(place: Place, why: &str) -> A::Error {
        A::Error::custom(place.wrong(why))
    }
}

/// serde's error about a value that is no object quotes it; ours doesn't.
fn within<E: Error>(inside: bool, error: E, place: Place) -> E {
    if inside {
        return error;
    }
    E::custom(place.wrong("must be an object"))
}

/// Reads one JSON value that the parser has already found well-formed.
fn scalar(raw: &str) -> Result<Scalar<'_>, &'static str> {
    Ok(match raw.as_bytes()[0] {
        b'"' => Scalar::Text(text(raw)?),
        b'n' => Scalar::Null,
        b't' => Scalar::Bool(true),
        b'f' => Scalar::Bool(false),
        b'{' | b'[' => Scalar::Other,
        _ => Scalar::Number(raw),
    })
}

/// A text that stands in quotes; half of a surrogate pair in it is U+FFFD.
fn text(raw: &str) -> Result<Text<'_>, &'static str> {
    if !raw.contains('\\') {
        return Ok(raw[1..raw.len() - 1].into());
    }
    let text: Result<String, _> = serde_json::from_str(&mend(raw));
    text.map(Text::from).map_err(|_| "is no text")
}

/// Reads the members of a record; null is `None`.
struct Members<'i, T> {
    place: Place,
    /// Set once the value has turned out to be an object.
    inside: &'i mut bool,
    record: PhantomData<T>,
}

impl<'i, T> Members<'i, T> {
    fn new(place: Place, inside: &'i mut bool) -> Self {
        Self {
            place,
            inside,
            record: PhantomData,
        }
    }
}

impl<'de, T: Table<'de>> DeserializeSeed<'de> for Members<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: Table<'de>> Visitor<'de> for Members<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        *self.inside = true;
        let (mut filling, mut record) = (Filling::<T>::default(), T::default());
        while let Some(found) = map.next_key_seed(FieldName(&mut filling))? {
            let Some(index) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let place = self.place.member(T::ROWS.names[index]);
            filling.give(index, place).map_err(A::Error::custom)?;
            record.set(index, Value { map: &mut map, place })?;
        }
        filling.finish().map_err(A::Error::custom)?;
        Ok(Some(record))
    }
}

/// Finds a member's name among the record's fields.
struct FieldName<'f, T>(&'f mut Filling<T>);

impl<'de, T: Table<'de>> DeserializeSeed<'de> for FieldName<'_, T> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        Ok(self.0.find(&name(deserializer)?))
    }
}

/// A member's name, borrowed where it has no escapes.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    text(raw.get()).map_err(D::Error::custom)
}

/// Reads `fields`; null is empty.
struct FieldsVisitor<'i> {
    inside: &'i mut bool,
}

impl<'de> DeserializeSeed<'de> for FieldsVisitor<'_> {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_none<E>(self) -> Result<Fields<'de>, E> {
        Ok(Fields::default())
    }

    fn visit_unit<E>(self) -> Result<Fields<'de>, E> {
        Ok(Fields::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        *self.inside = true;
        let mut entries = Vec::new();
        while let Some(name) = map.next_key_seed(EntryName)? {
            let raw = map.next_value::<&RawValue>()?;
            let value = scalar(raw.get()).and_then(Scalar::entry);
            // The message leaves out even the name: in `fields` it is the producer's, and may be anything.
            let value = value.map_err(|why| A::Error::custom(format_args!("a value of fields {why}")))?;
            entries.push((name, value));
        }
        Ok(entries.into())
    }
}

/// A name in `fields`.
struct EntryName;

impl<'de> DeserializeSeed<'de> for EntryName {
    type Value = Text<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Text<'de>, D::Error> {
        name(deserializer)
    }
}
