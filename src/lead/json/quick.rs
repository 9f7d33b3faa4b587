//! Lead events as JSON, in one pass that builds what is asked for.
//!
//! It gives up at whatever is wrong or odd, and then the complete decoder reads the record again and says why. So the
//! two need to agree on one thing: an event that is read here is read there, too, and is the same.

use crate::json::walk::{Piece, Unsure, Walk};
use crate::lead::asked::Asked;
use crate::lead::fields::{Filling, Place, Scalar, Unread};
use crate::lead::table::Table;
use crate::lead::{Fields, LeadEvent, Payload, Text};

/// Reads what is asked for.
pub(in crate::lead) fn quick<'a>(text: &'a str, asked: &Asked, event: &mut LeadEvent<'a>) -> Result<(), Unsure> {
    let mut walk = Walk::new(text);
    record(&mut walk, event, asked.fields(), asked.members())?;
    walk.end()
}

/// Reads the members of a record; what isn't among `asked` is checked alone.
fn record<'a, T: Table<'a>>(walk: &mut Walk<'a>, record: &mut T, asked: u64, members: &[u16]) -> Result<(), Unsure> {
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
                match walk.peek() {
                    b'n' => {
                        walk.word("null")?;
                        if T::ROWS.required & bit != 0 {
                            return Err(Unsure);
                        }
                    }
                    b'"' if T::ROWS.texts & bit != 0 => {
                        if is_asked {
                            *record.text(index).ok_or(Unsure)? = Some(text(walk.text()?)?);
                        } else {
                            walk.skip_text()?;
                        }
                    }
                    _ => {
                        let value = Value {
                            walk,
                            is_asked,
                            members: members.get(index).copied().unwrap_or_default().into(),
                        };
                        record.set(index, value)?;
                    }
                }
            }
            None => walk.skip()?,
        }
        goes_on = walk.goes_on(b'}')?;
    }
    filling.finish().map_err(|_| Unsure)
}

/// The value that the walk has come to. It isn't null.
struct Value<'w, 'a> {
    walk: &'w mut Walk<'a>,
    is_asked: bool,
    /// A bit for each member that is asked for.
    members: u64,
}

impl<'a> Unread<'a> for Value<'_, 'a> {
    type Error = Unsure;

    fn place(&self) -> Place {
        Place::EVENT
    }

    fn is_asked(&self) -> bool {
        self.is_asked
    }

    fn scalar(self) -> Result<Scalar<'a>, Unsure> {
        scalar(self.walk)
    }

    fn record<T: Table<'a>>(self, place: &mut Option<T>) -> Result<(), Unsure> {
        match self.is_asked {
            true => record(self.walk, place.insert(T::default()), self.members, &[]),
            false => record(self.walk, &mut T::default(), 0, &[]),
        }
    }

    fn fields(self) -> Result<Fields<'a>, Unsure> {
        let Self { walk, is_asked, .. } = self;
        walk.pass(b'{')?;
        let mut entries = Vec::new();
        let mut goes_on = walk.peek() != b'}' || walk.goes_on(b'}')?;
        while goes_on {
            let name = walk.name()?;
            let value = scalar(walk)?.entry().map_err(|_| Unsure)?;
            if is_asked {
                entries.push((text(name)?, value));
            }
            goes_on = walk.goes_on(b'}')?;
        }
        Ok(entries.into())
    }

    fn payload(self) -> Result<Option<Payload<'a>>, Unsure> {
        Payload::walk(self.walk).map(Some)
    }

    fn refuse(_: Place, _: &str) -> Unsure {
        Unsure
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
