//! A writer's schema as the steps that read a lead event, made once: which field each value is for, and how its bytes
//! lie.
//!
//! The plan gives up at whatever is wrong or odd, and then the complete decoder reads the datum again and says why. So
//! the two need to agree on one thing: an event that is read here is read there, too, and is the same. A value of a type
//! that no step has is read by the complete decoder's own code.

use super::{AvroFault, Cursor, Value, decimal, time};
use crate::json::walk::{Unsure, Walk};
use crate::lead::asked::Asked;
use crate::lead::fields::{Place, Scalar, Unread, Wrong};
use crate::lead::schemas::{Shape, Writer};
use crate::lead::table::Table;
use crate::lead::{Fields, LeadEvent, Payload, Text};

/// How the records of one writer are read.
#[derive(Debug, Clone)]
pub(in crate::lead) struct Plan {
    steps: Box<[Step]>,
    /// How many values the complete decoder counts at most, beside those that it counts itself.
    counted: usize,
}

/// One value of a record.
#[derive(Debug, Clone)]
struct Step {
    /// The field that it is for, by its index; `None` for one that we don't know.
    to: Option<u8>,
    /// Where the value may be null: the byte that stands before a null, and the one before a value.
    nullable: Option<(u8, u8)>,
    read: Read,
}

#[derive(Debug, Clone)]
enum Read {
    Text,
    Int,
    Boolean,
    Time {
        nanoseconds: i64,
    },
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    Record(Box<[Step]>),
    /// Its values are texts that may be null.
    Texts {
        nullable: Option<(u8, u8)>,
    },
    /// By the complete decoder, union and all; so many levels deep.
    Other(Shape, u32),
}

impl Plan {
    /// The plan for a writer's records; `None` where none that it writes is an event.
    pub(in crate::lead) fn of(root: &Shape, records: &[Vec<(String, Shape)>]) -> Option<Self> {
        let Shape::Record(number) = root else { return None };
        let mut counted = 0;
        let mut planner = Planner {
            records,
            counted: &mut counted,
        };
        let (steps, given) = planner.steps(*number, LeadEvent::NAMES, 1)?;
        let is_whole = LeadEvent::REQUIRED & !given == 0;
        is_whole.then_some(Self { steps, counted })
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
        let mut quick = Quick {
            datum,
            at: 0,
            plain: "",
            plain_from: 0,
            plain_end: 0,
            cursor,
            writer,
        };
        quick.record(&self.steps, event, asked.fields(), |index| asked.members(index))?;
        if quick.at == datum.len() { Ok(()) } else { Err(Unsure) }
    }
}

struct Planner<'p> {
    records: &'p [Vec<(String, Shape)>],
    counted: &'p mut usize,
}

impl Planner<'_> {
    /// The steps of a record whose fields have these names with us, and a bit for each name that it has. `None` where two
    /// of its fields are one for us.
    fn steps(&mut self, number: usize, names: &[&str], depth: u32) -> Option<(Box<[Step]>, u64)> {
        let fields = &self.records[number];
        let (mut steps, mut given) = (Vec::with_capacity(fields.len()), 0_u64);
        for (name, shape) in fields {
            *self.counted += 1;
            let to = names.iter().position(|known| known == name);
            let bit = to.map_or(0, |index| 1 << index);
            if given & bit != 0 {
                return None;
            }
            given |= bit;
            let (nullable, inner) = nullable(shape);
            let read = match inner {
                Shape::Record(number) => match LeadEvent::members(name).filter(|_| to.is_some() && depth == 1) {
                    Some(members) => Some(Read::Record(self.steps(*number, members, depth + 1)?.0)),
                    None => None,
                },
                Shape::Map(values) => match self::nullable(values) {
                    (nullable, Shape::Text) if to.is_some() => Some(Read::Texts { nullable }),
                    _ => None,
                },
                scalar => self::scalar(scalar),
            };
            steps.push(match read {
                Some(read) => Step {
                    to: to.and_then(|index| u8::try_from(index).ok()),
                    nullable,
                    read,
                },
                None => Step {
                    to: to.and_then(|index| u8::try_from(index).ok()),
                    nullable: None,
                    read: Read::Other(shape.clone(), depth),
                },
            });
        }
        Some((steps.into(), given))
    }
}

/// How a value is read that has no members, where its type is one of the usual.
fn scalar(shape: &Shape) -> Option<Read> {
    Some(match *shape {
        Shape::Text => Read::Text,
        Shape::Int => Read::Int,
        Shape::Boolean => Read::Boolean,
        Shape::Time { nanoseconds } => Read::Time { nanoseconds },
        Shape::Decimal { scale, size } => Read::Decimal { scale, size },
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

/// A place in a datum.
struct Quick<'a, 'w> {
    datum: &'a [u8],
    at: usize,
    /// A stretch of ASCII, numbers and all, so that short texts aren't looked at one by one; from where to where it goes.
    plain: &'a str,
    plain_from: usize,
    plain_end: usize,
    /// For the complete decoder: it counts what it reads.
    cursor: Cursor<'a>,
    writer: &'w Writer,
}

impl<'a, 'w> Quick<'a, 'w> {
    /// Reads a record by its steps; what isn't among `asked` is checked alone.
    fn record<T: Table<'a>>(
        &mut self,
        steps: &'w [Step],
        record: &mut T,
        asked: u64,
        members: impl Fn(usize) -> u64,
    ) -> Result<(), Unsure> {
        for step in steps {
            let is_null = self.is_null(step.nullable)?;
            let Some(index) = step.to else {
                if !is_null {
                    self.skip(&step.read)?;
                }
                continue;
            };
            let (index, bit) = (usize::from(index), 1 << index);
            let is_asked = asked & bit != 0;
            if is_null {
                if T::REQUIRED & bit != 0 {
                    return Err(Unsure);
                }
            } else if T::TEXTS & bit == 0 || !matches!(step.read, Read::Text) {
                let value = Planned {
                    quick: self,
                    read: &step.read,
                    is_asked,
                    members: if is_asked { members(index) } else { 0 },
                };
                record.set(index, value)?;
            } else if !is_asked {
                self.skip_text()?;
            } else if let Some(place) = record.text(index) {
                *place = Some(self.text()?.into());
            }
        }
        Ok(())
    }

    /// Passes over a value that isn't null.
    fn skip(&mut self, read: &'w Read) -> Result<(), Unsure> {
        match read {
            Read::Text => self.skip_text(),
            Read::Other(shape, depth) => self.whole(shape, *depth, |value| value.skip()),
            _ => self.scalar(read).map(drop),
        }
    }

    fn scalar(&mut self, read: &'w Read) -> Result<Scalar<'a>, Unsure> {
        Ok(match *read {
            Read::Text => Scalar::Text(self.text()?.into()),
            Read::Int => Scalar::Int(self.long()?),
            Read::Boolean => match self.byte()? {
                0 => Scalar::Bool(false),
                1 => Scalar::Bool(true),
                _ => return Err(Unsure),
            },
            Read::Time { nanoseconds } => time(self.long()?, nanoseconds),
            Read::Decimal { scale, size } => {
                let size = match size {
                    Some(size) => size,
                    None => self.size()?,
                };
                decimal(self.bytes(size)?, scale).map_or(Scalar::Other, Scalar::Decimal)
            }
            Read::Other(ref shape, depth) => self.whole(shape, depth, |value| value.scalar())?,
            Read::Record(_) | Read::Texts { .. } => return Err(Unsure),
        })
    }

    /// Lets the complete decoder read a value.
    fn whole<T>(
        &mut self,
        shape: &'w Shape,
        depth: u32,
        read: impl FnOnce(Value<'_, 'a, 'w>) -> Result<T, AvroFault>,
    ) -> Result<T, Unsure> {
        self.cursor.rest = &self.datum[self.at..];
        let value = Value {
            cursor: &mut self.cursor,
            writer: self.writer,
            shape,
            place: Place::EVENT,
            depth,
        };
        let found = read(value)?;
        self.at = self.datum.len() - self.cursor.rest.len();
        Ok(found)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Unsure> {
        let byte = *self.datum.get(self.at).ok_or(Unsure)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn is_null(&mut self, nullable: Option<(u8, u8)>) -> Result<bool, Unsure> {
        let Some((null, value)) = nullable else {
            return Ok(false);
        };
        let byte = self.byte()?;
        if byte == null || byte == value {
            Ok(byte == null)
        } else {
            Err(Unsure)
        }
    }

    #[inline]
    fn long(&mut self) -> Result<i64, Unsure> {
        match self.datum.get(self.at) {
            Some(byte @ ..0x80) => {
                self.at += 1;
                Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1))
            }
            _ => self.long_of_many(),
        }
    }

    fn long_of_many(&mut self) -> Result<i64, Unsure> {
        self.cursor.rest = &self.datum[self.at..];
        let long = self.cursor.long()?;
        self.at = self.datum.len() - self.cursor.rest.len();
        Ok(long)
    }

    #[inline]
    fn size(&mut self) -> Result<usize, Unsure> {
        usize::try_from(self.long()?).map_err(|_| Unsure)
    }

    #[inline]
    fn bytes(&mut self, size: usize) -> Result<&'a [u8], Unsure> {
        let end = self.at.checked_add(size).ok_or(Unsure)?;
        let bytes = self.datum.get(self.at..end).ok_or(Unsure)?;
        self.at = end;
        Ok(bytes)
    }

    /// Behind the text that begins here.
    #[inline]
    fn text_end(&mut self) -> Result<usize, Unsure> {
        let size = self.size()?;
        self.at.checked_add(size).ok_or(Unsure)
    }

    #[inline]
    fn text(&mut self) -> Result<&'a str, Unsure> {
        let end = self.text_end()?;
        if end > self.plain_end && !self.reaches(end) {
            return self.other_text(end);
        }
        let text = self.plain.get(self.at - self.plain_from..end - self.plain_from);
        self.at = end;
        text.ok_or(Unsure)
    }

    #[inline]
    fn skip_text(&mut self) -> Result<(), Unsure> {
        let end = self.text_end()?;
        if end > self.plain_end && !self.reaches(end) {
            return self.other_text(end).map(drop);
        }
        self.at = end;
        Ok(())
    }

    /// Looks how far the datum is ASCII from here on, unless that is known; true where that is as far as `end`.
    fn reaches(&mut self, end: usize) -> bool {
        if self.at < self.plain_end {
            return false;
        }
        let rest = self.datum.get(self.at..).unwrap_or_default();
        let plain = std::str::from_utf8(&rest[..ascii(rest)]).unwrap_or_default();
        (self.plain, self.plain_from, self.plain_end) = (plain, self.at, self.at + plain.len());
        end <= self.plain_end
    }

    fn other_text(&mut self, end: usize) -> Result<&'a str, Unsure> {
        let bytes = self.datum.get(self.at..end).ok_or(Unsure)?;
        self.at = end;
        std::str::from_utf8(bytes).map_err(|_| Unsure)
    }
}

/// How many bytes in front are ASCII.
fn ascii(bytes: &[u8]) -> usize {
    let is_ascii = |word: &&[u8; 16]| u128::from_le_bytes(**word) & u128::from_le_bytes([0x80; 16]) == 0;
    let words = bytes.as_chunks().0.iter().take_while(is_ascii).count() * size_of::<u128>();
    words + bytes[words..].iter().take_while(|byte| byte.is_ascii()).count()
}

/// The value that a place has come to. It isn't null, unless the complete decoder reads it.
struct Planned<'q, 'a, 'w> {
    quick: &'q mut Quick<'a, 'w>,
    read: &'w Read,
    is_asked: bool,
    /// A bit for each member that is asked for.
    members: u64,
}

impl<'a> Unread<'a> for Planned<'_, 'a, '_> {
    type Error = Unsure;

    fn place(&self) -> Place {
        Place::EVENT
    }

    fn is_asked(&self) -> bool {
        self.is_asked
    }

    fn scalar(self) -> Result<Scalar<'a>, Unsure> {
        self.quick.scalar(self.read)
    }

    fn record<T: Table<'a>>(self, place: &mut Option<T>) -> Result<(), Unsure> {
        match self.read {
            Read::Record(steps) => match self.is_asked {
                true => self
                    .quick
                    .record(steps, place.insert(T::default()), self.members, |_| 0),
                false => self.quick.record(steps, &mut T::default(), 0, |_| 0),
            },
            Read::Other(shape, depth) => self.quick.whole(shape, *depth, |value| value.record(place)),
            _ => Err(Unsure),
        }
    }

    fn fields(self) -> Result<Fields<'a>, Unsure> {
        let quick = self.quick;
        let nullable = match self.read {
            Read::Texts { nullable } => *nullable,
            Read::Other(shape, depth) => return quick.whole(shape, *depth, |value| value.fields()),
            _ => return Err(Unsure),
        };
        let mut entries = Vec::new();
        loop {
            let count = quick.long()?;
            if count == 0 {
                return Ok(entries.into());
            }
            if count < 0 {
                quick.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                quick.cursor.step()?;
                if self.is_asked {
                    let name = quick.text()?;
                    let is_null = quick.is_null(nullable)?;
                    let value = if is_null { None } else { Some(quick.text()?.into()) };
                    entries.push((name.into(), value));
                } else {
                    quick.skip_text()?;
                    if !quick.is_null(nullable)? {
                        quick.skip_text()?;
                    }
                }
            }
        }
    }

    fn payload(self) -> Result<Option<Payload<'a>>, Unsure> {
        match self.scalar()?.text() {
            Ok(None) => Ok(None),
            Ok(Some(Text::Borrowed(text))) => {
                let mut walk = Walk::new(text);
                let payload = Payload::walk(&mut walk)?;
                walk.end().map(|()| Some(payload))
            }
            Ok(Some(Text::Owned(_))) | Err(_) => Err(Unsure),
        }
    }

    fn refuse(_: Wrong) -> Unsure {
        Unsure
    }
}

impl From<AvroFault> for Unsure {
    fn from(_: AvroFault) -> Self {
        Unsure
    }
}
