//! Masks whatever reads as an e-mail address or a phone number, in any text, so that a page or an answer can show it.
//!
//! An address keeps its first letters and its last label, `a•••@e•••.com`; a phone number its last two to four digits,
//! `•••0123`. What is masked stays as it is when it is masked again. JSON stays JSON: a number that reads as a phone
//! number becomes a text.
//!
//! # What reads as a phone number
//!
//! - A `+` and 7 digits or more, whatever stands between them.
//! - Digits in groups as people write them: `(512) 555-0123`, `512.555.0123`, `555-0123`, `020 7946 0958`.
//! - 10 to 15 digits in a row, unless a name before them says what else they are ([`Field::of`]): ids, times, amounts,
//!   postal codes and counts stay readable. Without such a name an epoch is masked as well, as nothing tells it from a
//!   number that can be called.
//! - 5 digits or more under a name such as `phone`, however they are written.
//!
//! Digits that are part of a longer word or code are none (`C0123456789`, a UUID), nor are dates, times of day, decimal
//! fractions and IP addresses.

use std::borrow::Cow;

use serde_json::{Number, Value};

mod digits;
mod names;
mod pieces;

pub use names::Field;
use pieces::{Piece, pieces};

pub(super) const MASK: &str = "•••";

/// The text with every e-mail address and phone number masked. A JSON object or list stays one, with its own spacing.
pub fn mask(text: &str) -> Cow<'_, str> {
    mask_of(Field::Free, text)
}

/// The same for a value that stands under `name`, which may say that it is a phone number or none.
pub fn mask_named<'t>(name: &str, text: &'t str) -> Cow<'t, str> {
    mask_of(Field::of(name), text)
}

/// Masks every text and number of a value, and every name in it.
pub fn mask_json(value: &mut Value) {
    mask_json_of(Field::Free, value);
}

fn mask_json_of(field: Field, value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = mask_of(field, text) {
                *text = masked;
            }
        }
        Value::Number(number) => {
            if let Some(masked) = number_of(field, number) {
                *value = masked.into();
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| mask_json_of(field, element)),
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                mask_json_of(field.within(name), value);
            }
            if members.keys().any(|name| matches!(mask(name), Cow::Owned(_))) {
                let all = std::mem::take(members).into_iter();
                *members = all.map(|(name, value)| (mask(&name).into_owned(), value)).collect();
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// A number as it is shown, where it reads as a phone number.
fn number_of(field: Field, number: &Number) -> Option<String> {
    digits::of_number(number.as_str()).and_then(|digits| digits::masked_run(field, &digits))
}

fn mask_of(field: Field, text: &str) -> Cow<'_, str> {
    if !may_hold_any(text) {
        return Cow::Borrowed(text);
    }
    let begins = text.trim_start();
    if begins.starts_with(['{', '['])
        && let Some(masked) = json_text(field, text)
    {
        return masked;
    }
    free(field, text)
}

/// Whether there is something that could be masked at all, which most texts don't have.
fn may_hold_any(text: &str) -> bool {
    let digits = || text.chars().filter(|c| digits::value(*c).is_some()).take(5).count();
    text.contains(['@', '＠']) || text.contains("40") || text.contains("&#") || digits() >= 5
}

/// A text that is no JSON.
fn free(field: Field, text: &str) -> Cow<'_, str> {
    let pieces: Vec<Piece> = pieces(text).collect();
    let mut masked = String::new();
    let (mut copied, mut at) = (0, 0);
    // Whether the word that goes over `at` has begun before: no address begins in its midst.
    let mut in_word = false;
    while at < pieces.len() {
        let c = pieces[at].c;
        let address = (!in_word).then(|| address(&pieces, at, text)).flatten();
        in_word = is_letter(c) || (in_word && is_of_name(c));
        let found = match address {
            Some(found) => Some(found),
            None => match digits::figure(&pieces, at) {
                0 => digits::phone(&pieces, at, field),
                passed => {
                    at += passed;
                    in_word = true;
                    continue;
                }
            },
        };
        let Some(found) = found else {
            at += 1;
            continue;
        };
        masked.push_str(&text[copied..pieces[found.from].start]);
        masked.push_str(&found.masked);
        copied = pieces[found.to - 1].end;
        at = found.to;
        in_word = false;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

/// What is masked: the pieces from here to there, and what stands in their place.
struct Found {
    from: usize,
    to: usize,
    masked: String,
}

/// An address that begins at `at`.
fn address(pieces: &[Piece], at: usize, text: &str) -> Option<Found> {
    let first = pieces[at];
    let (name_end, is_quoted) = match first.c {
        // A blank may stand within quotes alone.
        '"' => {
            let rest = pieces[at + 1..].iter().take(66);
            let end = rest.clone().position(|piece| piece.c == '"')?;
            (at + 1 + end + 1, true)
        }
        c if is_letter(c) => (at + pieces[at..].iter().position(|piece| !is_of_name(piece.c))?, false),
        _ => return None,
    };
    let sign = pieces.get(name_end).filter(|piece| is_sign(piece.c))?;
    let host = &pieces[name_end + 1..];
    let host_len = host_length(host)?;
    let shown = |piece: &Piece| &text[piece.start..piece.end];
    let mut masked = String::new();
    if !is_quoted && name_end - at > 2 {
        masked.push_str(shown(&first));
    }
    masked.push_str(MASK);
    masked.push_str(shown(sign));
    let host = &host[..host_len];
    let is_dot = |piece: &Piece| is_dot(piece.c);
    if host.iter().take_while(|piece| !is_dot(piece)).count() > 2 {
        masked.push_str(shown(&host[0]));
    }
    masked.push_str(MASK);
    let last = host.iter().rposition(is_dot).map_or(&[][..], |dot| &host[dot..]);
    // The last label of an IP address is no label.
    if last.iter().skip(1).all(|piece| is_letter(piece.c)) && last.iter().any(|piece| piece.c.is_alphabetic()) {
        last.iter().for_each(|piece| masked.push_str(shown(piece)));
    }
    let mut to = name_end + 1 + host_len;
    // What another host follows is masked with it, as the end of the first would pass for its name.
    loop {
        let behind = to + pieces[to..].iter().take_while(|piece| is_of_name(piece.c)).count();
        let sign = pieces.get(behind).filter(|piece| is_sign(piece.c));
        let Some((sign, len)) = sign.zip(pieces.get(behind + 1..).and_then(host_length)) else {
            break;
        };
        masked.push_str(shown(sign));
        masked.push_str(MASK);
        to = behind + 1 + len;
    }
    Some(Found { from: at, to, masked })
}

/// How many pieces from the first on are a host: labels of letters, or an IP address, in brackets or not.
fn host_length(pieces: &[Piece]) -> Option<usize> {
    if pieces.first()?.c == '[' {
        let end = pieces.iter().take(48).position(|piece| piece.c == ']')?;
        return (end > 2).then_some(end + 1);
    }
    let of_host = |c: char| is_letter(c) || c == '-' || c == '_' || is_dot(c);
    let mut end = pieces
        .iter()
        .position(|piece| !of_host(piece.c))
        .unwrap_or(pieces.len());
    while end > 0 && !is_letter(pieces[end - 1].c) {
        end -= 1;
    }
    let host = &pieces[..end];
    let dots = host.iter().filter(|piece| is_dot(piece.c)).count();
    let is_named = host.iter().any(|piece| piece.c.is_alphabetic()) && end > 2;
    (is_letter(pieces[0].c) && (is_named || dots == 3)).then_some(end)
}

/// A character of an address's name, of which the first is a letter.
fn is_of_name(c: char) -> bool {
    is_letter(c) || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'')
}

fn is_sign(c: char) -> bool {
    matches!(c, '@' | '＠')
}

fn is_dot(c: char) -> bool {
    matches!(c, '.' | '。' | '．' | '｡')
}

/// A letter or digit of any script, and what is put on one.
fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..'\u{370}').contains(&c) || matches!(c, '\u{900}'..='\u{dff}')
}

/// A JSON object or list, with its texts and numbers masked in place. `None` for a text that is no JSON.
fn json_text(field: Field, text: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut masked = String::new();
    let mut copied = 0;
    // What each open object or list is under, and the name that was read last in it.
    let mut open: Vec<(Field, bool)> = Vec::new();
    let (mut now, mut at) = (field, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let begin = at;
        let replacement = match bytes[at] {
            byte @ (b'{' | b'[') => {
                open.push((now, byte == b'{'));
                at += 1;
                None
            }
            b'}' | b']' => {
                open.pop();
                at += 1;
                None
            }
            b',' => {
                now = open.last().map_or(field, |(field, _)| *field);
                at += 1;
                None
            }
            b'"' => {
                at = string_end(bytes, at);
                let read: String = serde_json::from_str(&text[begin..at]).ok()?;
                let is_name = matches!(open.last(), Some((_, true))) && text[at..].trim_start().starts_with(':');
                let shown = match is_name {
                    true => {
                        now = open.last().map_or(field, |(field, _)| *field).within(&read);
                        mask(&read)
                    }
                    false => mask_of(now, &read),
                };
                match shown {
                    Cow::Owned(shown) => Some(Value::from(shown).to_string()),
                    Cow::Borrowed(_) => None,
                }
            }
            b'-' | b'0'..=b'9' => {
                let in_number = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                at += bytes[at..].iter().take_while(|byte| in_number(byte)).count();
                let digits = digits::of_number(&text[begin..at]);
                let masked = digits.and_then(|digits| digits::masked_run(now, &digits));
                masked.map(|masked| Value::from(masked).to_string())
            }
            _ => {
                at += 1;
                None
            }
        };
        if let Some(replacement) = replacement {
            masked.push_str(&text[copied..begin]);
            masked.push_str(&replacement);
            copied = at;
        }
    }
    if copied == 0 {
        return Some(Cow::Borrowed(text));
    }
    masked.push_str(&text[copied..]);
    Some(Cow::Owned(masked))
}

/// Where the text that begins at `at` ends, in JSON that is valid.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while bytes.get(end).is_some_and(|byte| *byte != b'"') {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

#[cfg(test)]
mod tests;
