//! The fields of a lead event and of the records in it: one row each, with the field's name and how its value is read.
//!
//! JSON and Avro are read by these rows, paths follow them, and the JSON form is written by them. A field without a
//! row doesn't compile, and neither does a row without a field.

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::fields::{Scalar, Unread, event_id, trigger};
use super::found::Found;
use super::kind::Kind;
use super::{Call, Consumer, Entity, Fields, LeadEvent, Payload, Text, Value};
use crate::path::Step;

/// What is known of a record's fields without a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) names: &'static [&'static str],
    /// Each name as it stands in JSON, with its colon.
    pub(super) quoted: &'static [&'static str],
    /// A bit for each of the names that must be given.
    pub(super) required: u64,
    /// What each of the names takes.
    pub(super) takes: &'static [Takes],
}

/// The values that a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    EventId,
    Trigger,
    /// An id that an event can't be without.
    OwnId,
    Id,
    Text,
    Flag,
    Int,
    Money,
    Time,
    Record,
    Entries,
    Payload,
}

/// Where a field's value is put, by its type.
#[derive(Debug)]
pub(super) enum Slot<'r, 'a> {
    Required(&'r mut Text<'a>),
    Text(&'r mut Option<Text<'a>>),
    Flag(&'r mut Option<bool>),
    Int(&'r mut Option<i64>),
    Money(&'r mut Option<Decimal>),
    RequiredTime(&'r mut Timestamp),
    Time(&'r mut Option<Timestamp>),
    Entity(&'r mut Option<Entity<'a>>),
    Consumer(&'r mut Option<Consumer<'a>>),
    Call(&'r mut Option<Call<'a>>),
    Entries(&'r mut Fields<'a>),
    Payload(&'r mut Option<Payload<'a>>),
}

/// Puts a value that was checked into its place, where it is asked for.
#[inline(always)]
pub(super) fn put<T>(place: &mut Option<T>, asked: Option<u16>, value: T) {
    if asked.is_some() {
        *place = Some(value);
    }
}

/// A record whose fields have names.
pub(super) trait Table<'a>: Default {
    const ROWS: Rows;

    /// Reads `value`, and puts it into the field that stands at `index` in [`Self::ROWS`].
    fn set<U: Unread<'a>>(&mut self, index: usize, value: U) -> Result<(), U::Error>;

    /// The field at `index`, for those that read its value by [`Rows::takes`].
    fn slot(&mut self, index: usize) -> Slot<'_, 'a>;

    /// The value of the field `name` at the rest of a path: `None` when there is no such field, `Some(None)` when there
    /// is one and nothing is found.
    fn look_up(&self, name: &str, rest: &[Step]) -> Option<Option<Value<'_>>>;

    /// The members of the field `name`, where it is a record itself.
    fn members(name: &str) -> Option<Rows>;
}

macro_rules! slots {
    ($($slot:ident: $type:ty,)*) => {
        $(impl<'r, 'a> From<&'r mut $type> for Slot<'r, 'a> {
            #[inline]
            fn from(place: &'r mut $type) -> Self {
                Slot::$slot(place)
            }
        })*
    };
}

slots! {
    Required: Text<'a>,
    Text: Option<Text<'a>>,
    Flag: Option<bool>,
    Int: Option<i64>,
    Money: Option<Decimal>,
    RequiredTime: Timestamp,
    Time: Option<Timestamp>,
    Entity: Option<Entity<'a>>,
    Consumer: Option<Consumer<'a>>,
    Call: Option<Call<'a>>,
    Entries: Fields<'a>,
    Payload: Option<Payload<'a>>,
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
                    takes: &[$(table!(@takes $read($($rule)*))),*],
                };

                fn set<U: Unread<'a>>(&mut self, index: usize, value: U) -> Result<(), U::Error> {
                    match FIELDS[index] {
                        $(Field::$field => table!(@set self.$field, value.$read($($rule)*)),)*
                    }
                    Ok(())
                }

                #[inline]
                fn slot(&mut self, index: usize) -> Slot<'_, 'a> {
                    match FIELDS[index] {
                        $(Field::$field => (&mut self.$field).into(),)*
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
    (@set $place:expr, $value:ident.$read:ident($($rule:tt)*)) => { $place = $value.$read($($rule)*)? };
    (@required required) => { 1 };
    (@required $read:ident) => { 0 };
    (@takes required(event_id)) => { Takes::EventId };
    (@takes required(trigger)) => { Takes::Trigger };
    (@takes required(Scalar::own_id)) => { Takes::OwnId };
    (@takes required(Scalar::time)) => { Takes::Time };
    (@takes optional(Scalar::id)) => { Takes::Id };
    (@takes optional(Scalar::text)) => { Takes::Text };
    (@takes optional(Scalar::flag)) => { Takes::Flag };
    (@takes optional(Scalar::int)) => { Takes::Int };
    (@takes optional(Scalar::money)) => { Takes::Money };
    (@takes optional(Scalar::time)) => { Takes::Time };
    (@takes record()) => { Takes::Record };
    (@takes fields()) => { Takes::Entries };
    (@takes payload()) => { Takes::Payload };
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
