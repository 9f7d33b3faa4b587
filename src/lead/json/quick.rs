//! Lead events as JSON, in one pass that builds what is asked for.
//!
//! It gives up at whatever is wrong or odd, and then the complete decoder reads the record again and says why. So the
//! two need to agree on one thing: an event that is read here is read there, too, and is the same.

use crate::json::walk::{Piece, Unsure, Walk};
use crate::lead::asked::{self, Asked};
use crate::lead::fields::{EVENT_ID_MAX, Filling, Place, Scalar};
use crate::lead::table::{Slot, Table, Takes, put};
use crate::lead::{Fields, LeadEvent, Payload, Text};
use crate::{amounts, dates, ids};

/// Reads what is asked for.
pub(in crate::lead) fn quick<'a>(text: &'a str, asked: &Asked, event: &mut LeadEvent<'a>) -> Result<(), Unsure> {
    let mut walk = Walk::new(text);
    record(&mut walk, event, asked.fields(), asked.members(), Some(asked))?;
    walk.end()
}

/// Reads the members of a record; what isn't among `asked` is checked alone, and so is what stands behind a trigger that
/// nobody `asks` about.
fn record<'a, T: Table<'a>>(
    walk: &mut Walk<'a>,
    record: &mut T,
    mut asked: u64,
    members: &[u16],
    asks: Option<&Asked>,
) -> Result<(), Unsure> {
    walk.pass(b'{')?;
    let mut filling = Filling::<T>::default();
    let mut goes_on = walk.peek() != b'}' || walk.goes_on(b'}')?;
    while goes_on {
        let index = match filling.guess(|name| walk.passes(name)) {
            Some(index) => Some(index),
            None => match walk.name()? {
                Piece::Text(name) => filling.find(name),
                _ => return Err(Unsure),
            },
        };
        match index {
            Some(index) => {
                filling.give(index, Place::EVENT).map_err(|_| Unsure)?;
                let (bit, is_asked) = (1 << index, asked & 1 << index != 0);
                match (T::ROWS.takes[index], walk.peek()) {
                    (_, b'n') => {
                        walk.word("null")?;
                        if T::ROWS.required & bit != 0 {
                            return Err(Unsure);
                        }
                    }
                    (Takes::Text | Takes::Id, b'"') if !is_asked => drop(walk.skip_text()?),
                    (Takes::Text | Takes::Id, b'"') => {
                        let Slot::Text(place) = record.slot(index) else {
                            return Err(Unsure);
                        };
                        *place = Some(text(walk.text()?)?);
                    }
                    (Takes::Trigger, _) => {
                        let trigger = text(walk.scalar()?)?;
                        if asks.is_some_and(|asks| !asks.asks_about(&trigger)) {
                            asked = 0;
                        }
                        match record.slot(index) {
                            Slot::Required(place) if !trigger.is_empty() => *place = trigger,
                            _ => return Err(Unsure),
                        }
                    }
                    (takes, _) => {
                        let members = members.get(index).copied().unwrap_or_default();
                        value(walk, takes, record.slot(index), is_asked.then_some(members))?;
                    }
                }
            }
            None => walk.skip()?,
        }
        goes_on = walk.goes_on(b'}')?;
    }
    filling.finish().map_err(|_| Unsure)
}

/// Reads a value that isn't null, and puts it into its place where it is asked for; then a bit for each member comes with it.
fn value<'a>(walk: &mut Walk<'a>, takes: Takes, place: Slot<'_, 'a>, asked: Option<u16>) -> Result<(), Unsure> {
    match (takes, place) {
        (Takes::EventId | Takes::OwnId, Slot::Required(place)) => {
            *place = id(walk)?;
            let is_long = takes == Takes::EventId && place.len() > EVENT_ID_MAX;
            if is_long || ids::wrong_text(place).is_some() {
                return Err(Unsure);
            }
        }
        (Takes::Id, Slot::Text(place)) => put(place, asked, id(walk)?),
        (Takes::Flag, Slot::Flag(place)) => match walk.scalar()? {
            Piece::Bool(flag) => put(place, asked, flag),
            _ => return Err(Unsure),
        },
        (Takes::Int, Slot::Int(place)) => match walk.scalar()? {
            Piece::Number(written) => put(place, asked, written.parse::<i32>().map_err(|_| Unsure)?.into()),
            _ => return Err(Unsure),
        },
        (Takes::Money, Slot::Money(place)) => match walk.scalar()? {
            Piece::Text(written) | Piece::Number(written) => {
                put(place, asked, amounts::money(written).map_err(|_| Unsure)?);
            }
            _ => return Err(Unsure),
        },
        (Takes::Time, Slot::RequiredTime(place)) => *place = time(walk)?,
        (Takes::Time, Slot::Time(place)) => put(place, asked, time(walk)?),
        (Takes::Record, Slot::Entity(place)) => member(walk, place, asked)?,
        (Takes::Record, Slot::Consumer(place)) => member(walk, place, asked)?,
        (Takes::Record, Slot::Call(place)) => member(walk, place, asked)?,
        (Takes::Entries, Slot::Entries(place)) => *place = entries(walk, asked.unwrap_or_default())?,
        (Takes::Payload, Slot::Payload(place)) => *place = Some(Payload::walk(walk)?),
        _ => return Err(Unsure),
    }
    Ok(())
}

fn member<'a, T: Table<'a>>(walk: &mut Walk<'a>, place: &mut Option<T>, asked: Option<u16>) -> Result<(), Unsure> {
    match asked {
        Some(members) => record(walk, place.insert(T::default()), members.into(), &[], None),
        None => record(walk, &mut T::default(), 0, &[], None),
    }
}

/// Reads the entries of `fields`, and keeps those whose names have a bit among `asked`.
fn entries<'a>(walk: &mut Walk<'a>, asked: u16) -> Result<Fields<'a>, Unsure> {
    walk.pass(b'{')?;
    let mut entries = Vec::new();
    let mut goes_on = walk.peek() != b'}' || walk.goes_on(b'}')?;
    while goes_on {
        let name = text(walk.name()?)?;
        let value = scalar(walk)?.entry().map_err(|_| Unsure)?;
        if asked & asked::entry(&name) != 0 {
            entries.push((name, value));
        }
        goes_on = walk.goes_on(b'}')?;
    }
    Ok(entries.into())
}

fn id<'a>(walk: &mut Walk<'a>) -> Result<Text<'a>, Unsure> {
    match walk.scalar()? {
        Piece::Number(written) => ids::of_number(written).map_err(|_| Unsure),
        piece => text(piece),
    }
}

fn time(walk: &mut Walk<'_>) -> Result<jiff::Timestamp, Unsure> {
    match walk.scalar()? {
        Piece::Text(written) => dates::rfc3339(written).ok_or(Unsure),
        Piece::Number(written) => dates::parse_epoch(written).map_err(|_| Unsure),
        _ => Err(Unsure),
    }
}

fn scalar<'a>(walk: &mut Walk<'a>) -> Result<Scalar<'a>, Unsure> {
    Ok(match walk.scalar()? {
        Piece::Null => Scalar::Null,
        Piece::Bool(flag) => Scalar::Bool(flag),
        Piece::Number(written) => Scalar::Number(written),
        text @ (Piece::Text(_) | Piece::Escaped(_)) => Scalar::Text(self::text(text)?),
        Piece::Nested => return Err(Unsure),
    })
}

fn text(piece: Piece<'_>) -> Result<Text<'_>, Unsure> {
    match piece {
        Piece::Text(text) => Ok(text.into()),
        Piece::Escaped(quoted) => super::text(quoted).map_err(|_| Unsure),
        _ => Err(Unsure),
    }
}
