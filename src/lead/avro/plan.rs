//! A writer's schema as the steps that read a lead event, made once: which field each value is for, and how its bytes
//! lie.
//!
//! The plan gives up at whatever is wrong or odd, and then the complete decoder reads the datum again and says why. So
//! the two need to agree on one thing: an event that is read here is read there, too, and is the same. A value of a type
//! that no step has is read by the complete decoder's own code.

use super::{AvroFault, Cursor, Value, decimal, time};
use crate::json::walk::{Unsure, Walk};
use crate::lead::asked::Asked;
use crate::lead::fields::{Place, Scalar, Unread};
use crate::lead::schemas::{Shape, Writer};
use crate::lead::table::{Rows, Table};
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
    /// The field that it is for, by its index and by its bit; no bit for one that we don't know.
    index: usize,
    bit: u64,
    /// Where the value may be null: the byte that stands before a null, and the one before a value.
    nullable: Option<(u8, u8)>,
    read: Read,
}

/// How a value is read. Which way it is stands in a byte of its own, which is looked at more often than anything else.
#[derive(Debug, Clone)]
#[repr(u8)]
enum Read {
    /// For a field that takes every text, or for none.
    Text,
    /// For a field that takes some texts alone.
    CheckedText,
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
    /// A record that has nothing but [`Read::Text`].
    Texts(Box<[Step]>),
    /// Its values are texts that may be null.
    Entries {
        nullable: Option<(u8, u8)>,
    },
    /// By the complete decoder, union and all; so many levels deep.
    Other(Box<Shape>, u32),
}

impl Plan {
    /// The plan for a writer's records; `None` where none that it writes is an event.
    pub(in crate::lead) fn of(root: &Shape, records: &[Vec<(String, Shape)>]) -> Option<Self> {
        let Shape::Record(number) = root else { return None };
        let mut planner = Planner { records, counted: 0 };
        let steps = planner.steps(*number, LeadEvent::ROWS, 1)?;
        let counted = planner.counted;
        Some(Self { steps, counted })
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
            plain: "",
            plain_from: 0,
            plain_end: 0,
            cursor,
            writer,
        };
        let end = quick.record(&self.steps, 0, event, asked.fields(), asked.members())?;
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
            let read = match inner {
                Shape::Record(number) => match LeadEvent::members(name).filter(|_| to.is_some() && depth == 1) {
                    Some(members) => {
                        let steps = self.steps(*number, members, depth + 1)?;
                        let texts = steps.iter().all(|step| matches!(step.read, Read::Text));
                        Some(if texts { Read::Texts(steps) } else { Read::Record(steps) })
                    }
                    None => None,
                },
                Shape::Map(values) => match self::nullable(values) {
                    (nullable, Shape::Text) if to.is_some() => Some(Read::Entries { nullable }),
                    _ => None,
                },
                Shape::Text if rows.texts & bit != 0 || to.is_none() => Some(Read::Text),
                scalar => self::scalar(scalar),
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

/// How a value is read that has no members, where its type is one of the usual.
fn scalar(shape: &Shape) -> Option<Read> {
    Some(match *shape {
        Shape::Text => Read::CheckedText,
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

/// A datum on its way. The place in it is a local variable of those that read on: it is what all of them wait for.
struct Quick<'a, 'w> {
    datum: &'a [u8],
    /// A stretch of ASCII, numbers and all, so that short texts aren't looked at one by one; from where to where it goes.
    plain: &'a str,
    plain_from: usize,
    plain_end: usize,
    /// For the complete decoder: it counts what it reads.
    cursor: Cursor<'a>,
    writer: &'w Writer,
}

impl<'a, 'w> Quick<'a, 'w> {
    /// Reads a record by its steps; what isn't among `asked` is checked alone. Gives the place behind it.
    fn record<T: Table<'a>>(
        &mut self,
        steps: &'w [Step],
        mut at: usize,
        record: &mut T,
        asked: u64,
        members: &[u16],
    ) -> Result<usize, Unsure> {
        for step in steps {
            if self.is_null(step.nullable, &mut at)? {
                if T::ROWS.required & step.bit != 0 {
                    return Err(Unsure);
                }
                continue;
            }
            let is_asked = asked & step.bit != 0;
            match &step.read {
                Read::Text if is_asked => {
                    let text = self.text(&mut at)?;
                    *record.text(step.index).ok_or(Unsure)? = Some(text.into());
                }
                Read::Text => self.skip_text(&mut at)?,
                Read::Texts(steps) if !is_asked => at = self.skip_texts(steps, at)?,
                read if step.bit == 0 => at = self.skip(read, at)?,
                read => {
                    let mut place = at;
                    let value = Planned {
                        quick: self,
                        at: &mut place,
                        read,
                        is_asked,
                        members: members.get(step.index).copied().unwrap_or_default().into(),
                    };
                    record.set(step.index, value)?;
                    at = place;
                }
            }
        }
        Ok(at)
    }

    fn skip_texts(&mut self, steps: &'w [Step], mut at: usize) -> Result<usize, Unsure> {
        for step in steps {
            if !self.is_null(step.nullable, &mut at)? {
                self.skip_text(&mut at)?;
            }
        }
        Ok(at)
    }

    /// Passes over a value of a field that we don't know.
    fn skip(&mut self, read: &'w Read, mut at: usize) -> Result<usize, Unsure> {
        match read {
            Read::Other(shape, depth) => self.whole(shape, *depth, &mut at, |value| value.skip())?,
            read => drop(self.scalar(read, &mut at)?),
        }
        Ok(at)
    }

    #[inline(always)]
    fn scalar(&mut self, read: &'w Read, at: &mut usize) -> Result<Scalar<'a>, Unsure> {
        Ok(match *read {
            Read::Text | Read::CheckedText => Scalar::Text(self.text(at)?.into()),
            Read::Int => Scalar::Int(self.long(at)?),
            Read::Boolean => match self.byte(at)? {
                0 => Scalar::Bool(false),
                1 => Scalar::Bool(true),
                _ => return Err(Unsure),
            },
            Read::Time { nanoseconds } => time(self.long(at)?, nanoseconds),
            Read::Decimal { scale, size } => {
                let size = match size {
                    Some(size) => size,
                    None => self.size(at)?,
                };
                let end = at.checked_add(size).ok_or(Unsure)?;
                let bytes = self.datum.get(*at..end).ok_or(Unsure)?;
                *at = end;
                decimal(bytes, scale).map_or(Scalar::Other, Scalar::Decimal)
            }
            Read::Other(ref shape, depth) => self.whole(shape, depth, at, |value| value.scalar())?,
            Read::Record(_) | Read::Texts(_) | Read::Entries { .. } => return Err(Unsure),
        })
    }

    /// Lets the complete decoder read a value.
    fn whole<T>(
        &mut self,
        shape: &'w Shape,
        depth: u32,
        at: &mut usize,
        read: impl FnOnce(Value<'_, 'a, 'w>) -> Result<T, AvroFault>,
    ) -> Result<T, Unsure> {
        self.cursor.rest = self.datum.get(*at..).ok_or(Unsure)?;
        let value = Value {
            cursor: &mut self.cursor,
            writer: self.writer,
            shape,
            place: Place::EVENT,
            depth,
        };
        let found = read(value)?;
        *at = self.datum.len() - self.cursor.rest.len();
        Ok(found)
    }

    #[inline(always)]
    fn byte(&self, at: &mut usize) -> Result<u8, Unsure> {
        let byte = *self.datum.get(*at).ok_or(Unsure)?;
        *at += 1;
        Ok(byte)
    }

    #[inline(always)]
    fn is_null(&self, nullable: Option<(u8, u8)>, at: &mut usize) -> Result<bool, Unsure> {
        let Some((null, value)) = nullable else {
            return Ok(false);
        };
        match self.byte(at)? {
            byte if byte == value => Ok(false),
            byte if byte == null => Ok(true),
            _ => Err(Unsure),
        }
    }

    #[inline(always)]
    fn long(&self, at: &mut usize) -> Result<i64, Unsure> {
        let byte = self.byte(at)?;
        if byte < 0x80 {
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        let (long, behind) = self.long_of_many(*at - 1)?;
        *at = behind;
        Ok(long)
    }

    /// A number of more than one byte, and the place behind it.
    #[inline(never)]
    fn long_of_many(&self, at: usize) -> Result<(i64, usize), Unsure> {
        let mut cursor = Cursor::new(self.datum.get(at..).ok_or(Unsure)?);
        let long = cursor.long()?;
        Ok((long, self.datum.len() - cursor.rest.len()))
    }

    #[inline(always)]
    fn size(&self, at: &mut usize) -> Result<usize, Unsure> {
        let byte = self.byte(at)?;
        // Not negative, and of one byte.
        if byte & 0x81 == 0 {
            return Ok(usize::from(byte >> 1));
        }
        let (size, behind) = self.long_of_many(*at - 1)?;
        *at = behind;
        usize::try_from(size).map_err(|_| Unsure)
    }

    /// Goes behind a text; with where it begins. It may end beyond the datum.
    #[inline(always)]
    fn pass(&self, at: &mut usize) -> Result<usize, Unsure> {
        let size = self.size(at)?;
        let begin = *at;
        *at = begin.checked_add(size).ok_or(Unsure)?;
        Ok(begin)
    }

    #[inline(always)]
    fn text(&mut self, at: &mut usize) -> Result<&'a str, Unsure> {
        let (begin, end) = (self.pass(at)?, *at);
        let text = if end <= self.plain_end || self.reaches(begin, end) {
            self.plain.get(begin - self.plain_from..end - self.plain_from)
        } else {
            self.other_text(begin, end)
        };
        text.ok_or(Unsure)
    }

    #[inline(always)]
    fn skip_text(&mut self, at: &mut usize) -> Result<(), Unsure> {
        let (begin, end) = (self.pass(at)?, *at);
        if end <= self.plain_end || self.reaches(begin, end) {
            return Ok(());
        }
        self.other_text(begin, end).map(drop).ok_or(Unsure)
    }

    /// Looks how far the datum is ASCII from `begin` on, unless that is known; true where that is as far as `end`.
    #[inline(never)]
    fn reaches(&mut self, begin: usize, end: usize) -> bool {
        if begin < self.plain_end {
            return false;
        }
        let rest = self.datum.get(begin..).unwrap_or_default();
        let plain = std::str::from_utf8(&rest[..ascii(rest)]).unwrap_or_default();
        (self.plain, self.plain_from, self.plain_end) = (plain, begin, begin + plain.len());
        end <= self.plain_end
    }

    #[cold]
    fn other_text(&self, begin: usize, end: usize) -> Option<&'a str> {
        std::str::from_utf8(self.datum.get(begin..end)?).ok()
    }
}

/// How many bytes in front are ASCII.
fn ascii(bytes: &[u8]) -> usize {
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    let is_plain = |many: &&[u8; 32]| many.iter().fold(0, |all, byte| all | byte).is_ascii();
    let plain = bytes.as_chunks().0.iter().take_while(is_plain).count() * 32;
    let (words, rest) = bytes[plain..].as_chunks();
    for (index, word) in words.iter().enumerate() {
        let highs = u64::from_le_bytes(*word) & HIGHS;
        if highs != 0 {
            return plain + index * size_of::<u64>() + highs.trailing_zeros() as usize / 8;
        }
    }
    bytes.len() - rest.len() + rest.iter().take_while(|byte| byte.is_ascii()).count()
}

/// The value that stands at a place. It isn't null, unless the complete decoder reads it.
struct Planned<'q, 'a, 'w> {
    quick: &'q mut Quick<'a, 'w>,
    at: &'q mut usize,
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

    #[inline(always)]
    fn scalar(self) -> Result<Scalar<'a>, Unsure> {
        self.quick.scalar(self.read, self.at)
    }

    fn record<T: Table<'a>>(self, place: &mut Option<T>) -> Result<(), Unsure> {
        match self.read {
            Read::Record(steps) | Read::Texts(steps) => {
                let (quick, at) = (self.quick, *self.at);
                *self.at = match self.is_asked {
                    true => quick.record(steps, at, place.insert(T::default()), self.members, &[])?,
                    false => quick.record(steps, at, &mut T::default(), 0, &[])?,
                };
                Ok(())
            }
            Read::Other(shape, depth) => self.quick.whole(shape, *depth, self.at, |value| value.record(place)),
            _ => Err(Unsure),
        }
    }

    fn fields(self) -> Result<Fields<'a>, Unsure> {
        let (quick, mut at) = (self.quick, *self.at);
        let nullable = match self.read {
            Read::Entries { nullable } => *nullable,
            Read::Other(shape, depth) => return quick.whole(shape, *depth, self.at, |value| value.fields()),
            _ => return Err(Unsure),
        };
        let mut entries = Vec::new();
        loop {
            let count = quick.long(&mut at)?;
            if count == 0 {
                *self.at = at;
                return Ok(entries.into());
            }
            if count < 0 {
                quick.long(&mut at)?;
            }
            let count = count.unsigned_abs();
            if self.is_asked {
                // No more than a few: the bytes may have fewer than they say.
                entries.reserve(usize::try_from(count).map_or(0, |count| count.min(Fields::FEW)));
            }
            for _ in 0..count {
                quick.cursor.step()?;
                if self.is_asked {
                    let name = quick.text(&mut at)?;
                    let value = match quick.is_null(nullable, &mut at)? {
                        true => None,
                        false => Some(quick.text(&mut at)?.into()),
                    };
                    entries.push((name.into(), value));
                } else {
                    quick.skip_text(&mut at)?;
                    if !quick.is_null(nullable, &mut at)? {
                        quick.skip_text(&mut at)?;
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

    fn refuse(_: Place, _: &str) -> Unsure {
        Unsure
    }
}
