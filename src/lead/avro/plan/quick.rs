//! Reads a datum by the steps of its writer's plan.

use super::{Read, Step};
use crate::json::walk::{Unsure, Walk};
use crate::lead::asked;
use crate::lead::avro::{AvroFault, Cursor, Value, decimal, time};
use crate::lead::fields::Place;
use crate::lead::schemas::{Shape, Writer};
use crate::lead::table::{Slot, Table, put};
use crate::lead::{Fields, Payload};
use crate::{amounts, ids};

/// A datum on its way. The place in it is a local variable of those that read on: it is what all of them wait for.
pub(super) struct Quick<'a, 'w> {
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
    pub(super) fn new(datum: &'a [u8], cursor: Cursor<'a>, writer: &'w Writer) -> Self {
        Self {
            datum,
            plain: "",
            plain_from: 0,
            plain_end: 0,
            cursor,
            writer,
        }
    }

    /// Reads a record by its steps; what isn't among `asked` is checked alone. Gives the place behind it.
    pub(super) fn record<T: Table<'a>>(
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
                Read::Text if is_asked => match record.slot(step.index) {
                    Slot::Text(place) => *place = Some(self.text(&mut at)?.into()),
                    _ => return Err(Unsure),
                },
                Read::Text => self.skip_text(&mut at)?,
                Read::Texts(steps) if !is_asked => at = self.skip_texts(steps, at)?,
                Read::Other(shape, depth) if step.bit == 0 => {
                    self.whole(shape, *depth, &mut at, |value| value.skip())?;
                }
                Read::Other(shape, depth) => {
                    self.whole(shape, *depth, &mut at, |value| record.set(step.index, value))?;
                }
                read => {
                    let members = members.get(step.index).copied().unwrap_or_default();
                    at = self.value(read, at, record.slot(step.index), is_asked.then_some(members))?;
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

    /// Reads a value, and puts it into its place where it is asked for; then a bit for each member comes with it.
    fn value(
        &mut self,
        read: &'w Read,
        mut at: usize,
        place: Slot<'_, 'a>,
        asked: Option<u16>,
    ) -> Result<usize, Unsure> {
        match (read, place) {
            (Read::Id { bytes_max }, Slot::Required(place)) => {
                let text = self.text(&mut at)?;
                if text.len() > *bytes_max || ids::wrong_text(text).is_some() {
                    return Err(Unsure);
                }
                *place = text.into();
            }
            (Read::Trigger, Slot::Required(place)) => match self.text(&mut at)? {
                "" => return Err(Unsure),
                text => *place = text.into(),
            },
            (Read::Flag, Slot::Flag(place)) => put(place, asked, self.flag(&mut at)?),
            (Read::Int, Slot::Int(place)) => {
                let number = i32::try_from(self.long(&mut at)?).map_err(|_| Unsure)?;
                put(place, asked, number.into());
            }
            (Read::Time { nanoseconds }, Slot::RequiredTime(place)) => {
                *place = time(self.long(&mut at)?, *nanoseconds).ok_or(Unsure)?;
            }
            (Read::Time { nanoseconds }, Slot::Time(place)) => {
                put(place, asked, time(self.long(&mut at)?, *nanoseconds).ok_or(Unsure)?);
            }
            (Read::Money { scale, size }, Slot::Money(place)) => {
                let amount = decimal(self.bytes(*size, &mut at)?, *scale).ok_or(Unsure)?;
                put(place, asked, amounts::checked_money(amount).map_err(|_| Unsure)?);
            }
            (Read::Record(steps) | Read::Texts(steps), Slot::Entity(place)) => {
                at = self.member(steps, at, place, asked)?;
            }
            (Read::Record(steps) | Read::Texts(steps), Slot::Consumer(place)) => {
                at = self.member(steps, at, place, asked)?;
            }
            (Read::Record(steps) | Read::Texts(steps), Slot::Call(place)) => {
                at = self.member(steps, at, place, asked)?;
            }
            (Read::Entries { nullable }, Slot::Entries(place)) => {
                at = self.entries(*nullable, at, place, asked.unwrap_or_default())?;
            }
            (Read::Payload, Slot::Payload(place)) => {
                let mut walk = Walk::new(self.text(&mut at)?);
                let payload = Payload::walk(&mut walk)?;
                walk.end()?;
                *place = Some(payload);
            }
            _ => return Err(Unsure),
        }
        Ok(at)
    }

    fn member<T: Table<'a>>(
        &mut self,
        steps: &'w [Step],
        at: usize,
        place: &mut Option<T>,
        asked: Option<u16>,
    ) -> Result<usize, Unsure> {
        match asked {
            Some(members) => self.record(steps, at, place.insert(T::default()), members.into(), &[]),
            None => self.record(steps, at, &mut T::default(), 0, &[]),
        }
    }

    /// Reads the entries of `fields`, and keeps those whose names have a bit among `asked`.
    fn entries(
        &mut self,
        nullable: Option<(u8, u8)>,
        mut at: usize,
        place: &mut Fields<'a>,
        asked: u16,
    ) -> Result<usize, Unsure> {
        let mut entries = Vec::new();
        loop {
            let count = self.long(&mut at)?;
            if count == 0 {
                *place = entries.into();
                return Ok(at);
            }
            if count < 0 {
                self.long(&mut at)?;
            }
            for _ in 0..count.unsigned_abs() {
                self.cursor.step()?;
                let name = self.text(&mut at)?;
                let is_null = self.is_null(nullable, &mut at)?;
                if asked & asked::entry(name) == 0 {
                    if !is_null {
                        self.skip_text(&mut at)?;
                    }
                    continue;
                }
                let value = match is_null {
                    true => None,
                    false => Some(self.text(&mut at)?.into()),
                };
                entries.push((name.into(), value));
            }
        }
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
    fn flag(&self, at: &mut usize) -> Result<bool, Unsure> {
        match self.byte(at)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unsure),
        }
    }

    /// So many bytes, or as many as stand before them.
    #[inline(always)]
    fn bytes(&self, size: Option<usize>, at: &mut usize) -> Result<&'a [u8], Unsure> {
        let size = match size {
            Some(size) => size,
            None => self.size(at)?,
        };
        let end = at.checked_add(size).ok_or(Unsure)?;
        let bytes = self.datum.get(*at..end).ok_or(Unsure)?;
        *at = end;
        Ok(bytes)
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
    let highs = |word: &[u8; 8]| u64::from_le_bytes(*word) & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    let (fours, _) = words.as_chunks::<4>();
    let is_plain = |[a, b, c, d]: &&[[u8; 8]; 4]| highs(a) | highs(b) | highs(c) | highs(d) == 0;
    let plain = fours.iter().take_while(is_plain).count() * 4;
    for (index, word) in words.iter().enumerate().skip(plain) {
        if highs(word) != 0 {
            return index * 8 + highs(word).trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + rest.iter().take_while(|byte| byte.is_ascii()).count()
}
