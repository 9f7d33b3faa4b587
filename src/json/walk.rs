//! One pass over a JSON text, which takes it apart and builds nothing.
//!
//! What the walk takes is well-formed. What it doesn't take may be well-formed, too: it gives up at a nesting beyond
//! `LEVELS_MAX`, and then a parser decides.

use super::{ESCAPE, unit};

/// Lists and objects within each other that are passed over.
const LEVELS_MAX: u32 = 64;
/// A name that begins like this means something else to the parser.
const PARSERS_OWN: &str = "$serde_json::";

/// The walk gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsure;

/// A place in a text. Blanks stand nowhere in the way.
#[derive(Debug)]
pub struct Walk<'t> {
    text: &'t str,
    at: usize,
    /// A name that was passed over is written with escapes, or is the parser's own.
    odd_name: bool,
}

/// A value without members, or the fact that it is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    Null,
    Bool(bool),
    /// As written.
    Number(&'t str),
    /// A text without escapes, and without its quotes.
    Text(&'t str),
    /// A text with escapes, in its quotes.
    Escaped(&'t str),
    /// A list or an object, not entered.
    Nested,
}

impl<'t> Walk<'t> {
    pub fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            odd_name: false,
        }
    }

    /// The next byte that is no blank; 0 at the end, which is no JSON either.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        loop {
            match self.byte() {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// Passes over one byte.
    #[inline]
    pub fn pass(&mut self, byte: u8) -> Result<(), Unsure> {
        if self.peek() != byte {
            return Err(Unsure);
        }
        self.at += 1;
        Ok(())
    }

    /// Goes behind what stands between two members of an object or elements of a list; false where `close` ends it.
    #[inline]
    pub fn goes_on(&mut self, close: u8) -> Result<bool, Unsure> {
        // Most texts have no blank here.
        let byte = match self.byte() {
            b',' => b',',
            _ => self.peek(),
        };
        if byte != b',' && byte != close {
            return Err(Unsure);
        }
        self.at += 1;
        Ok(byte == b',')
    }

    /// Nothing but blanks is left.
    pub fn end(&mut self) -> Result<(), Unsure> {
        self.peek();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(Unsure)
        }
    }

    /// Passes over a member's name in its quotes and its colon, if they are written just like this.
    #[inline]
    pub fn passes(&mut self, named: &str) -> bool {
        // Most texts have no blank here.
        let is_it = self.is_next(named) || self.byte() <= b' ' && self.peek() == b'"' && self.is_next(named);
        if is_it {
            self.at += named.len();
        }
        is_it
    }

    /// Passes over a member's name and its colon.
    pub fn name(&mut self) -> Result<Piece<'t>, Unsure> {
        if self.peek() != b'"' {
            return Err(Unsure);
        }
        let name = self.text()?;
        self.pass(b':')?;
        Ok(name)
    }

    /// Passes over a value that has no members.
    pub fn scalar(&mut self) -> Result<Piece<'t>, Unsure> {
        match self.peek() {
            b'"' => self.text(),
            b'n' => self.word("null").map(|()| Piece::Null),
            b't' => self.word("true").map(|()| Piece::Bool(true)),
            b'f' => self.word("false").map(|()| Piece::Bool(false)),
            b'-' | b'0'..=b'9' => self.number(),
            b'{' | b'[' => Ok(Piece::Nested),
            _ => Err(Unsure),
        }
    }

    /// Passes over any value.
    pub fn skip(&mut self) -> Result<(), Unsure> {
        // A bit for each level, the innermost lowest: whether it is an object.
        let (mut objects, mut levels) = (0_u64, 0);
        loop {
            if self.scalar()? == Piece::Nested {
                if levels == LEVELS_MAX {
                    return Err(Unsure);
                }
                let is_object = self.byte() == b'{';
                self.at += 1;
                (objects, levels) = (objects << 1 | u64::from(is_object), levels + 1);
                if self.peek() != close(objects) {
                    self.inner_name(objects)?;
                    continue;
                }
                self.at += 1;
                (objects, levels) = (objects >> 1, levels - 1);
            }
            // Behind a value.
            while levels > 0 && !self.goes_on(close(objects))? {
                (objects, levels) = (objects >> 1, levels - 1);
            }
            if levels == 0 {
                return Ok(());
            }
            self.inner_name(objects)?;
        }
    }

    /// Passes over an object; with its text, and whether a parser reads each of its names as it stands there.
    pub fn object(&mut self) -> Result<(&'t str, bool), Unsure> {
        if self.peek() != b'{' {
            return Err(Unsure);
        }
        let start = self.at;
        self.odd_name = false;
        self.skip()?;
        Ok((&self.text[start..self.at], !self.odd_name))
    }

    /// The name that stands before the next value of an object.
    fn inner_name(&mut self, objects: u64) -> Result<(), Unsure> {
        if objects & 1 == 1 {
            let name = self.name()?;
            self.odd_name |= match name {
                Piece::Text(name) => name.starts_with(PARSERS_OWN),
                _ => true,
            };
        }
        Ok(())
    }

    #[inline(always)]
    fn is_next(&self, text: &str) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        rest.starts_with(text.as_bytes())
    }

    #[inline]
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// Passes over a word, if that is what stands here.
    #[inline(always)]
    pub fn word(&mut self, word: &str) -> Result<(), Unsure> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Unsure);
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over a text, at its first quote.
    #[inline(always)]
    pub fn text(&mut self) -> Result<Piece<'t>, Unsure> {
        let quote = self.at;
        Ok(if self.skip_text()? {
            Piece::Escaped(&self.text[quote..self.at])
        } else {
            Piece::Text(&self.text[quote + 1..self.at - 1])
        })
    }

    /// Passes over a text, at its first quote; true where it has escapes.
    #[inline(always)]
    pub fn skip_text(&mut self) -> Result<bool, Unsure> {
        let bytes = self.text.as_bytes();
        let (mut at, mut is_escaped) = (self.at + 1, false);
        loop {
            while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
                let marks = marks(u64::from_le_bytes(*eight));
                if marks != 0 {
                    at += marks.trailing_zeros() as usize / 8;
                    break;
                }
                at += 8;
            }
            match bytes.get(at).ok_or(Unsure)? {
                b'"' => break,
                b'\\' => (at, is_escaped) = (behind_escape(bytes, at)?, true),
                ..0x20 => return Err(Unsure),
                // The last few bytes, one by one.
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Ok(is_escaped)
    }

    fn number(&mut self) -> Result<Piece<'t>, Unsure> {
        let start = self.at;
        if self.byte() == b'-' {
            self.at += 1;
        }
        let first = self.byte();
        if self.digits()? > 1 && first == b'0' {
            return Err(Unsure);
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Piece::Number(&self.text[start..self.at]))
    }

    /// Passes over one digit or more.
    fn digits(&mut self) -> Result<usize, Unsure> {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start {
            Err(Unsure)
        } else {
            Ok(self.at - start)
        }
    }
}

/// The bracket that ends the innermost level.
fn close(objects: u64) -> u8 {
    if objects & 1 == 1 { b'}' } else { b']' }
}

/// The bytes of a word that end a stretch of plain text: a quote, a backslash, or a control character. The lowest mark is
/// right; those above it may be wrong.
fn marks(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    let quotes = zeros(word ^ (ONES * b'"' as u64));
    let backslashes = zeros(word ^ (ONES * b'\\' as u64));
    (controls | quotes | backslashes) & HIGHS
}

/// Behind the escape that begins at `at`.
#[inline(never)]
fn behind_escape(bytes: &[u8], at: usize) -> Result<usize, Unsure> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') if unit(bytes, at).is_some() => Ok(at + ESCAPE),
        _ => Err(Unsure),
    }
}
