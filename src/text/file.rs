//! The texts in people's files, as spreadsheets, editors and shells write them: UTF-8 or UTF-16, with a byte order mark
//! or without. What is no text is named, with its cure.

use std::borrow::Cow;

/// What a character of a file is that is no UTF-8, with the cure.
pub const NO_CHARACTER: &str = "this character is no UTF-8, perhaps Windows-1252; save the file as UTF-8, \
                                or run iconv -f WINDOWS-1252 -t UTF-8";

/// What a row is that is neither UTF-8 nor marked as UTF-16, with the cure.
pub const NO_UTF8: &str = "no UTF-8, perhaps Windows-1252 as Excel's plain CSV is; \
                           save the file as \"CSV UTF-8\", or run iconv -f WINDOWS-1252 -t UTF-8";

/// Why a file holds no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    #[error("it is an Excel workbook (.xlsx) or another zip archive; save the sheet as \"CSV UTF-8\"")]
    Zip,
    #[error("it is an Excel workbook (.xls) or another old Office document; save the sheet as \"CSV UTF-8\"")]
    Office,
    #[error("it is compressed by gzip; unpack it first (gunzip -c FILE), or send it with Content-Encoding: gzip")]
    Gzip,
    #[error("it is UTF-32; save it as UTF-8, or run iconv -f UTF-32 -t UTF-8")]
    Utf32,
    #[error("it is UTF-16 without a byte order mark; save it as UTF-8, or run iconv -f UTF-16LE -t UTF-8")]
    Unmarked,
    #[error("the text is UTF-16 and ends within a character")]
    Cut,
}

/// The text without its byte order mark, in UTF-8 where it was UTF-16; half of a surrogate pair is U+FFFD. Other bytes are
/// left as they are.
///
/// # Errors
/// The bytes are known to be no text.
pub fn utf8(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, NoText> {
    Ok(match &*bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => return Err(NoText::Utf32),
        [0xFF, 0xFE, units @ ..] => Cow::Owned(of_utf16(units, u16::from_le_bytes)?),
        [0xFE, 0xFF, units @ ..] => Cow::Owned(of_utf16(units, u16::from_be_bytes)?),
        [0xEF, 0xBB, 0xBF, ..] => match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[3..]),
            Cow::Owned(mut bytes) => Cow::Owned(bytes.split_off(3)),
        },
        [b'P', b'K', 3, 4, ..] => return Err(NoText::Zip),
        [0xD0, 0xCF, 0x11, 0xE0, ..] => return Err(NoText::Office),
        [0x1F, 0x8B, ..] => return Err(NoText::Gzip),
        [0x20..=0x7E, 0, 0x20..=0x7E, 0, ..] | [0, 0x20..=0x7E, 0, 0x20..=0x7E, ..] => return Err(NoText::Unmarked),
        _ => bytes,
    })
}

/// Whether all of the text has to be there before [`utf8`] can read it.
pub fn is_utf16(bytes: &[u8]) -> bool {
    matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..])
}

fn of_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Vec<u8>, NoText> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(NoText::Cut);
    }
    let characters = char::decode_utf16(units.iter().map(|bytes| unit(*bytes)));
    let text: String = characters
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_what_is_no_text_is_named() {
        let little = [0xFF, 0xFE, b'a', 0, 0x3D, 0xD8, 0xE4, 0];
        let big = [0xFE, 0xFF, 0, b'a', 0xD8, 0x3D, 0, 0xE4];
        for (bytes, text) in [
            (&b"a"[..], "a".as_bytes()),
            (b"\xEF\xBB\xBFa", b"a"),
            (&little, "a\u{fffd}ä".as_bytes()),
            (&big, "a\u{fffd}ä".as_bytes()),
            (b"", b""),
            (b"a\xE9", b"a\xE9"),
            (b"\0\0\0\0\x09", b"\0\0\0\0\x09"),
        ] {
            assert_eq!(&*utf8(Cow::Borrowed(bytes)).unwrap(), text, "{bytes:?}");
            assert_eq!(&*utf8(Cow::Owned(bytes.to_vec())).unwrap(), text, "{bytes:?}");
        }
        for (bytes, why) in [
            (&b"PK\x03\x04\x14"[..], NoText::Zip),
            (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", NoText::Office),
            (b"\x1F\x8B\x08\0", NoText::Gzip),
            (b"\xFF\xFE\0\0{\0\0\0", NoText::Utf32),
            (b"\0\0\xFE\xFF\0\0\0{", NoText::Utf32),
            (b"{\0\"\0", NoText::Unmarked),
            (b"\0{\0\"", NoText::Unmarked),
            (&little[..7], NoText::Cut),
        ] {
            assert_eq!(utf8(Cow::Borrowed(bytes)), Err(why), "{bytes:?}");
        }
    }
}
