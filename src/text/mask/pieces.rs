//! A text as the characters that it stands for: percent-encoding, JSON's escapes and HTML's entities undone, one piece
//! for each character, so that what hides in an escape is found and no mask tears one.

/// A character, and where what stands for it begins and ends in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) c: char,
}

const ENTITIES: &[(&str, char)] = &[
    ("&amp;", '&'),
    ("&lt;", '<'),
    ("&gt;", '>'),
    ("&quot;", '"'),
    ("&#64;", '@'),
    ("&#x40;", '@'),
    ("&commat;", '@'),
    ("&#43;", '+'),
    ("&nbsp;", ' '),
];

pub(super) fn pieces(text: &str) -> impl Iterator<Item = Piece> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text[start..];
        let own = rest.chars().next()?;
        let (c, len) = match own {
            '%' => percent(rest).unwrap_or((own, 1)),
            '\\' => escape(rest).unwrap_or((own, 1)),
            '&' => entity(rest).unwrap_or((own, 1)),
            c => (c, c.len_utf8()),
        };
        let piece = Piece {
            start,
            end: start + len,
            c,
        };
        start = piece.end;
        Some(piece)
    })
}

/// `%40` and `%2540`. A byte that is part of a longer character counts as a letter, which it nearly always is.
fn percent(rest: &str) -> Option<(char, usize)> {
    let hex = |from: usize| u8::from_str_radix(rest.get(from..from + 2).filter(|hex| is_hex(hex))?, 16).ok();
    match hex(1)? {
        0x25 if hex(3).is_some_and(|byte| byte.is_ascii()) => Some((char::from(hex(3)?), 5)),
        byte if byte.is_ascii() => Some((char::from(byte), 3)),
        _ => Some(('é', 3)),
    }
}

/// `\u0040`, `\n` and the like.
fn escape(rest: &str) -> Option<(char, usize)> {
    let unit = |from: usize| {
        let digits = rest
            .get(from..from + 6)?
            .strip_prefix("\\u")
            .filter(|hex| is_hex(hex))?;
        u16::from_str_radix(digits, 16).ok()
    };
    match rest.as_bytes().get(1)? {
        b'u' => {
            let first = unit(0)?;
            let pair = unit(6).and_then(|second| char::decode_utf16([first, second]).next()?.ok());
            match pair.filter(|c| c.len_utf16() == 2) {
                Some(c) => Some((c, 12)),
                None => Some((char::from_u32(u32::from(first)).unwrap_or('é'), 6)),
            }
        }
        b'n' | b'r' => Some(('\n', 2)),
        b't' => Some(('\t', 2)),
        b'"' => Some(('"', 2)),
        b'/' => Some(('/', 2)),
        b'\\' => Some(('\\', 2)),
        _ => None,
    }
}

fn entity(rest: &str) -> Option<(char, usize)> {
    let (entity, c) = ENTITIES.iter().find(|(entity, _)| rest.starts_with(entity))?;
    Some((*c, entity.len()))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
