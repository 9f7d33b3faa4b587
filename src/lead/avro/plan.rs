//! A writer's schema as the steps that read a lead event, made once: which field each value is for, and how its bytes
//! lie.
//!
//! The plan gives up at whatever is wrong or odd, and then the complete decoder reads the datum again and says why. So
//! the two need to agree on one thing: an event that is read here is read there, too, and is the same. A value of a type
//! that no step has is read by the complete decoder's own code.

use super::Cursor;
use crate::json::walk::Unsure;
use crate::lead::LeadEvent;
use crate::lead::asked::Asked;
use crate::lead::fields::EVENT_ID_MAX;
use crate::lead::schemas::{Shape, Writer};
use crate::lead::table::{Rows, Table, Takes};
use quick::Quick;

mod quick;

/// How the records of one writer are read.
#[derive(Debug, Clone)]
pub(in crate::lead) struct Plan {
    steps: Box<[Step]>,
    /// The place behind the trigger, which says of what follows whether anybody asks for it; 0 where none of the steps has it.
    behind_trigger: usize,
    /// How many values the complete decoder counts at most, beside those that it counts itself.
    counted: usize,
}

/// One value of a record.
#[derive(Debug, Clone)]
struct Step {
    /// The field that it is for, by its index and by its bit; no bit for one that we don't know.
    index: usize,
    bit: u64,
    /// Where the value may be null: the byte that stands before a null, and the one before a value.
    nullable: Option<(u8, u8)>,
    read: Read,
}

/// How a value is read: what it is in the datum, and what its field takes. Which way it is stands in a byte of its own, which
/// is looked at more often than anything else.
#[derive(Debug, Clone)]
#[repr(u8)]
enum Read {
    /// For a field that takes every text, or for none.
    Text,
    /// An id that an event can't be without.
    Id {
        bytes_max: usize,
    },
    Trigger,
    Flag,
    Int,
    Time {
        nanoseconds: i64,
    },
    Money {
        scale: u32,
        size: Option<usize>,
    },
    Record(Box<[Step]>),
    /// A record that has nothing but [`Read::Text`].
    Texts(Box<[Step]>),
    /// Its values are texts that may be null.
    Entries {
        nullable: Option<(u8, u8)>,
    },
    /// A JSON object, as a text.
    Payload,
    /// By the complete decoder, union and all; so many levels deep.
    Other(Box<Shape>, u32),
}

impl Plan {
    /// The plan for a writer's records; `None` where none that it writes is an event.
    pub(in crate::lead) fn of(root: &Shape, records: &[Vec<(String, Shape)>]) -> Option<Self> {
        let Shape::Record(number) = root else { return None };
        let mut planner = Planner { records, counted: 0 };
        let steps = planner.steps(*number, LeadEvent::ROWS, 1)?;
        let trigger = steps.iter().position(|step| matches!(step.read, Read::Trigger));
        Some(Self {
            steps,
            behind_trigger: trigger.map_or(0, |at| at + 1),
            counted: planner.counted,
        })
    }

    pub(super) fn read<'a>(
        &self,
        datum: &'a [u8],
        writer: &Writer,
        asked: &Asked,
        event: &mut LeadEvent<'a>,
    ) -> Result<(), Unsure> {
        let mut cursor = Cursor::new(datum);
        cursor.steps_left = cursor.steps_left.checked_sub(self.counted).ok_or(Unsure)?;
        let mut quick = Quick::new(datum, cursor, writer);
        let (first, rest) = self.steps.split_at(self.behind_trigger);
        let at = quick.record(first, 0, event, asked.fields(), asked.members())?;
        let fields = match first.is_empty() || asked.asks_about(&event.trigger) {
            true => asked.fields(),
            false => 0,
        };
        let end = quick.record(rest, at, event, fields, asked.members())?;
        if end == datum.len() { Ok(()) } else { Err(Unsure) }
    }
}

struct Planner<'p> {
    records: &'p [Vec<(String, Shape)>],
    counted: usize,
}

impl Planner<'_> {
    /// The steps of a record that has these fields with us. `None` where two of its fields are one for us, or one is
    /// missing that is required.
    fn steps(&mut self, number: usize, rows: Rows, depth: u32) -> Option<Box<[Step]>> {
        let fields = &self.records[number];
        let (mut steps, mut given) = (Vec::with_capacity(fields.len()), 0);
        for (name, shape) in fields {
            self.counted += 1;
            let to = rows.names.iter().position(|known| known == name);
            let (index, bit) = to.map_or((0, 0), |index| (index, 1 << index));
            if given & bit != 0 {
                return None;
            }
            given |= bit;
            let (nullable, inner) = nullable(shape);
            let read = match (inner, to.map(|to| rows.takes[to])) {
                (Shape::Record(number), Some(Takes::Record)) => {
                    let steps = self.steps(*number, LeadEvent::members(name)?, depth + 1)?;
                    let texts = steps.iter().all(|step| matches!(step.read, Read::Text));
                    Some(if texts { Read::Texts(steps) } else { Read::Record(steps) })
                }
                (Shape::Map(values), Some(Takes::Entries)) => match self::nullable(values) {
                    (nullable, Shape::Text) => Some(Read::Entries { nullable }),
                    _ => None,
                },
                (scalar, takes) => self::scalar(scalar, takes),
            };
            let (nullable, read) = match read {
                Some(read) => (nullable, read),
                None => (None, Read::Other(Box::new(shape.clone()), depth)),
            };
            steps.push(Step {
                index,
                bit,
                nullable,
                read,
            });
        }
        (rows.required & !given == 0).then(|| steps.into())
    }
}

/// How a value is read that has no members, where its type is the usual one for what its field takes.
fn scalar(shape: &Shape, takes: Option<Takes>) -> Option<Read> {
    Some(match (shape, takes) {
        (Shape::Text, Some(Takes::Text | Takes::Id) | None) => Read::Text,
        (Shape::Text, Some(Takes::EventId)) => Read::Id {
            bytes_max: EVENT_ID_MAX,
        },
        (Shape::Text, Some(Takes::OwnId)) => Read::Id { bytes_max: usize::MAX },
        (Shape::Text, Some(Takes::Trigger)) => Read::Trigger,
        (Shape::Text, Some(Takes::Payload)) => Read::Payload,
        (Shape::Boolean, Some(Takes::Flag)) => Read::Flag,
        (Shape::Int, Some(Takes::Int)) => Read::Int,
        (&Shape::Time { nanoseconds }, Some(Takes::Time)) => Read::Time { nanoseconds },
        (&Shape::Decimal { scale, size }, Some(Takes::Money)) => Read::Money { scale, size },
        _ => return None,
    })
}

/// The bytes that say of a value whether it is null, and what it is if it isn't.
fn nullable(shape: &Shape) -> (Option<(u8, u8)>, &Shape) {
    match shape {
        Shape::Union(variants) => match &variants[..] {
            [Shape::Null, value] => (Some((0, 2)), value),
            [value, Shape::Null] => (Some((2, 0)), value),
            _ => (None, shape),
        },
        shape => (None, shape),
    }
}
