//! The fields of a lead event and of the records in it: one row each, with the field's name and how its value is read.
//!
//! JSON and Avro are read by these rows, paths follow them, and the JSON form is written by them. A field without a
//! row doesn't compile, and neither does a row without a field.

use super::fields::{Scalar, Unread, event_id, trigger};
use super::found::Found;
use super::kind::Kind;
use super::{Call, Consumer, Entity, LeadEvent, Text, Value};
use crate::path::Step;

/// What is known of a record's fields without a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) names: &'static [&'static str],
    /// Each name as it stands in JSON, with its colon.
    pub(super) quoted: &'static [&'static str],
    /// A bit for each of the names that must be given.
    pub(super) required: u64,
    /// A bit for each that takes every text and may be missing: those that [`Table::text`] has.
    pub(super) texts: u64,
}

/// A record whose fields have names.
pub(super) trait Table<'a>: Default {
    const ROWS: Rows;

    /// Reads `value`, and puts it into the field that stands at `index` in [`Self::ROWS`] if it is asked for.
    fn set<U: Unread<'a>>(&mut self, index: usize, value: U) -> Result<(), U::Error>;

    /// The field at `index`, where it takes every text and may be missing.
    fn text(&mut self, index: usize) -> Option<&mut Option<Text<'a>>>;

    /// The value of the field `name` at the rest of a path: `None` when there is no such field, `Some(None)` when there
    /// is one and nothing is found.
    fn look_up(&self, name: &str, rest: &[Step]) -> Option<Option<Value<'_>>>;

    /// The members of the field `name`, where it is a record itself.
    fn members(name: &str) -> Option<Rows>;
}

macro_rules! table {
    ($record:ident { $($field:ident: $read:ident($($rule:tt)*),)* }) => {
        const _: () = {
            #[expect(non_camel_case_types, reason = "a field's name")]
            #[derive(Clone, Copy)]
            enum Field { $($field),* }

            const FIELDS: &[Field] = &[$(Field::$field),*];
            assert!(FIELDS.len() <= u64::BITS as usize, "a bit for each field");

            // Every field has its row.
            fn _complete($record { $($field: _),* }: $record<'_>) {}

            impl<'a> Table<'a> for $record<'a> {
                const ROWS: Rows = Rows {
                    names: &[$(stringify!($field)),*],
                    quoted: &[$(concat!("\"", stringify!($field), "\":")),*],
                    required: 0 $(| (table!(@required $read) << Field::$field as u32))*,
                    texts: 0 $(| (table!(@is_text $read($($rule)*)) << Field::$field as u32))*,
                };

                fn set<U: Unread<'a>>(&mut self, index: usize, value: U) -> Result<(), U::Error> {
                    match FIELDS[index] {
                        $(Field::$field => table!(@set self.$field, value.$read($($rule)*)),)*
                    }
                    Ok(())
                }

                fn text(&mut self, index: usize) -> Option<&mut Option<Text<'a>>> {
                    match FIELDS[index] {
                        $(Field::$field => table!(@text $read($($rule)*) self.$field),)*
                    }
                }

                fn look_up(&self, name: &str, rest: &[Step]) -> Option<Option<Value<'_>>> {
                    Some(match name {
                        $(stringify!($field) => self.$field.find(rest),)*
                        _ => return None,
                    })
                }

                fn members(name: &str) -> Option<Rows> {
                    fn of<R, F: Found>(_: impl Fn(&R) -> &F) -> Option<Rows> {
                        F::MEMBERS
                    }
                    match name {
                        $(stringify!($field) => of(|record: &Self| &record.$field),)*
                        _ => None,
                    }
                }
            }

            impl Found for $record<'_> {
                const MEMBERS: Option<Rows> = Some(Self::ROWS);

                fn kind(rest: &[Step]) -> Option<Kind> {
                    fn of<R, F: Found>(_: impl Fn(&R) -> &F, rest: &[Step]) -> Option<Kind> {
                        F::kind(rest)
                    }
                    match rest {
                        [] => Some(Kind::Record),
                        [Step::Name(name), rest @ ..] => match &**name {
                            $(stringify!($field) => of(|record: &Self| &record.$field, rest),)*
                            _ => None,
                        },
                        _ => None,
                    }
                }

                fn find(&self, rest: &[Step]) -> Option<Value<'_>> {
                    match rest {
                        [] => Some(Value::Json(std::borrow::Cow::Owned(self.to_json()))),
                        [Step::Name(name), rest @ ..] => self.look_up(name, rest).flatten(),
                        _ => None,
                    }
                }

                fn to_json(&self) -> serde_json::Value {
                    let mut object = serde_json::Map::new();
                    $(object.insert(stringify!($field).to_owned(), Found::to_json(&self.$field));)*
                    object.into()
                }
            }
        };
    };
    (@set $place:expr, $value:ident.record()) => { $value.record(&mut $place)? };
    (@set $place:expr, $value:ident.$read:ident($($rule:tt)*)) => {{
        let is_asked = $value.is_asked();
        let read = $value.$read($($rule)*)?;
        if is_asked {
            $place = read;
        }
    }};
    (@required required) => { 1 };
    (@required $read:ident) => { 0 };
    (@is_text optional(Scalar::text)) => { 1 };
    (@is_text optional(Scalar::id)) => { 1 };
    (@is_text $read:ident($($rule:tt)*)) => { 0 };
    (@text optional(Scalar::text) $place:expr) => { Some(&mut $place) };
    (@text optional(Scalar::id) $place:expr) => { Some(&mut $place) };
    (@text $read:ident($($rule:tt)*) $place:expr) => { None };
}

table! {
    LeadEvent {
        event_id: required(event_id),
        trigger: required(trigger),
        occurred_at: required(Scalar::time),
        lead_id: required(Scalar::own_id),
        public_lead_id: optional(Scalar::id),
        status: optional(Scalar::text),
        is_test: optional(Scalar::flag),
        method: optional(Scalar::text),
        product: record(),
        publisher: record(),
        channel: record(),
        source: record(),
        buyer: record(),
        campaign: record(),
        pingtree: record(),
        price: optional(Scalar::money),
        payout: optional(Scalar::money),
        revenue: optional(Scalar::money),
        currency: optional(Scalar::text),
        reason_code: optional(Scalar::text),
        reason: optional(Scalar::text),
        transaction_id: optional(Scalar::id),
        attempt: optional(Scalar::int),
        consumer: record(),
        call: record(),
        fields: fields(),
        inlet: optional(Scalar::text),
        payload: payload(),
    }
}

table! {
    Entity {
        id: optional(Scalar::id),
        name: optional(Scalar::text),
    }
}

table! {
    Consumer {
        first_name: optional(Scalar::text),
        last_name: optional(Scalar::text),
        email: optional(Scalar::text),
        phone: optional(Scalar::text),
        city: optional(Scalar::text),
        state: optional(Scalar::text),
        zip: optional(Scalar::text),
        country: optional(Scalar::text),
    }
}

table! {
    Call {
        call_id: optional(Scalar::id),
        caller_number: optional(Scalar::text),
        dialed_number: optional(Scalar::text),
        started_at: optional(Scalar::time),
        answered_at: optional(Scalar::time),
        ended_at: optional(Scalar::time),
        billable_seconds: optional(Scalar::int),
        answered: optional(Scalar::flag),
        recording_url: optional(Scalar::text),
    }
}
