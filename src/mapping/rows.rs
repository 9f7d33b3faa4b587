//! The rows of a CSV text. Each row is a record by the titles in the first line.
//!
//! It reads what people export: commas, semicolons or tabs, Excel's `sep=` line, UTF-8 and UTF-16, and rows that leave
//! empty cells out at the end or have further ones. A row that can't be read costs the rows behind it nothing.

use std::borrow::Cow;
use std::io::Cursor;
use std::ops::Range;

use csv::ByteRecord;
use serde_json::{Map, Value};

use super::form::add;
use crate::text::file;

/// What may stand between cells; the first counts where the titles hold as many of each.
const SEPARATORS: [u8; 3] = *b",;\t";

/// The rows of a text.
#[derive(Debug)]
pub struct Rows<'t> {
    reader: csv::Reader<Cursor<Cow<'t, [u8]>>>,
    titles: Vec<String>,
    titles_len: usize,
    /// Where the titles end.
    head: usize,
    /// Where the reader began; behind a `sep=` line.
    start: usize,
    /// How much of the text was read, and the line that this is in.
    read: usize,
    line: u64,
    separator: u8,
    cells: ByteRecord,
}

/// One row.
#[derive(Debug)]
pub struct Row<'r> {
    /// The line that it begins at, as an editor counts them.
    pub line: u64,
    titles: &'r [String],
    titles_len: usize,
    cells: &'r ByteRecord,
    raw: &'r [u8],
    is_open: bool,
}

impl<'t> Rows<'t> {
    /// `separator` is found where none is given.
    ///
    /// # Errors
    /// The titles are no UTF-8 or a quote in them isn't closed, or it is no text at all.
    pub fn new(text: impl Into<Cow<'t, [u8]>>, separator: Option<u8>) -> Result<Self, String> {
        let text = file::utf8(text.into()).map_err(|error| error.to_string())?;
        let (read, said) = said(&text).map_or((0, None), |(end, said)| (end, Some(said)));
        let separator = separator.or(said).unwrap_or_else(|| guessed(&text[read..]));
        let mut cursor = Cursor::new(text);
        cursor.set_position(u64::try_from(read).unwrap_or(u64::MAX));
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .from_reader(cursor);
        let mut rows = Self {
            reader,
            titles: Vec::new(),
            titles_len: 0,
            head: read,
            start: read,
            read,
            line: if read > 0 { 2 } else { 1 },
            separator,
            cells: ByteRecord::new(),
        };
        // Blank cells above the titles are no titles.
        let mut first = rows.advance();
        while first.is_some() && rows.cells.iter().all(is_blank) {
            first = rows.advance();
        }
        if let Some((line, at)) = first {
            let text = rows.reader.get_ref().get_ref();
            if at.end == text.len() && is_open(&text[at.clone()], separator) {
                return Err(format!(
                    "a quote that opens in the titles, in line {line}, isn't closed"
                ));
            }
            rows.head = at.end;
            let title = |cell: &[u8]| std::str::from_utf8(cell).map(|title| title.trim().to_owned());
            let titles: Result<_, _> = rows.cells.iter().map(title).collect();
            rows.titles = titles.map_err(|_| format!("the titles in line {line} are {}", file::NO_UTF8))?;
            rows.titles_len = rows.titles.iter().map(String::len).sum();
        }
        Ok(rows)
    }

    /// Whether there are titles.
    pub fn has_titles(&self) -> bool {
        !self.titles.is_empty()
    }

    /// The next row that isn't empty.
    pub fn row(&mut self) -> Option<Row<'_>> {
        loop {
            let (line, raw) = self.advance()?;
            if self.cells.iter().all(is_blank) {
                continue;
            }
            let text = self.reader.get_ref().get_ref();
            let raw = &text[raw];
            return Some(Row {
                line,
                titles: &self.titles,
                titles_len: self.titles_len,
                cells: &self.cells,
                raw,
                is_open: self.read == text.len() && is_open(raw, self.separator),
            });
        }
    }

    /// Reads on: the line that the row begins at, and where it stands.
    fn advance(&mut self) -> Option<(u64, Range<usize>)> {
        // Bytes in memory can always be read, and in a flexible text every row is one.
        if !self.reader.read_byte_record(&mut self.cells).unwrap_or(false) {
            return None;
        }
        let text: &[u8] = self.reader.get_ref().get_ref();
        let end = self.start + usize::try_from(self.reader.position().byte()).unwrap_or_default();
        let raw = &text[self.read..end];
        let begin = end - raw.len() + raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = self.line + line_ends(text, self.read..begin);
        self.line = line + line_ends(text, begin..end);
        self.read = end;
        Some((line, begin..end))
    }

    /// The text up to the end of the titles, for a dead letter to hold it before its row.
    pub(super) fn head(&self) -> &[u8] {
        &self.reader.get_ref().get_ref()[..self.head]
    }
}

impl Row<'_> {
    /// How many steps its value takes, and how many bytes.
    pub(super) fn cost(&self) -> (usize, usize) {
        let texts = self.titles_len + self.raw.len();
        // A member takes as much work as many bytes; it has 64 bytes and its index, thrice while the record grows.
        (texts + self.titles.len() * 64, texts + self.titles.len() * 240)
    }

    /// How many bytes it has, with the titles that it is read by.
    pub fn size(&self) -> usize {
        self.titles_len + self.raw.len()
    }

    /// The row as it stands.
    pub(super) fn raw(&self) -> &[u8] {
        self.raw
    }

    /// The row by its titles; a column without one is left out. A row with fewer cells than titles has empty ones.
    ///
    /// # Errors
    /// It is no UTF-8, holds something behind the last title, or a quote in it isn't closed.
    pub fn value(&self) -> Result<Value, String> {
        if self.is_open {
            return Err("a quote that opens in this row isn't closed".to_owned());
        }
        let filled = self
            .cells
            .iter()
            .rposition(|cell| !is_blank(cell))
            .map_or(0, |last| last + 1);
        if filled > self.titles.len() {
            return Err(format!("{filled} cells for {} titles", self.titles.len()));
        }
        let mut members = Map::new();
        for (title, cell) in self
            .titles
            .iter()
            .zip(self.cells.iter().chain(std::iter::repeat(&[][..])))
        {
            let cell = std::str::from_utf8(cell).map_err(|_| file::NO_UTF8.to_owned())?;
            if !title.is_empty() {
                add(&mut members, title.clone(), cell.into());
            }
        }
        Ok(Value::Object(members))
    }
}

/// Sheets write no-break spaces, too.
fn is_blank(cell: &[u8]) -> bool {
    std::str::from_utf8(cell).is_ok_and(|cell| cell.trim().is_empty())
}

/// Excel's first line `sep=;`: where it ends, and the separator.
fn said(text: &[u8]) -> Option<(usize, u8)> {
    let line_end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let line = text[..line_end].trim_ascii_end();
    let line = line
        .strip_prefix(b"\"")
        .and_then(|line| line.strip_suffix(b"\""))
        .unwrap_or(line);
    let (name, separator) = line.split_at_checked(4)?;
    let [separator] = separator else { return None };
    let behind = if text[line_end..].starts_with(b"\r\n") { 2 } else { 1 };
    name.eq_ignore_ascii_case(b"sep=")
        .then_some((line_end + behind, *separator))
}

/// The separator that the titles hold most of; a comma where they hold none.
fn guessed(text: &[u8]) -> u8 {
    let mut counts = [0_usize; SEPARATORS.len()];
    let mut is_quoted = false;
    for byte in text.trim_ascii_start() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\r' | b'\n' if !is_quoted => break,
            byte if !is_quoted => {
                if let Some(index) = SEPARATORS.iter().position(|separator| separator == byte) {
                    counts[index] += 1;
                }
            }
            _ => {}
        }
    }
    let mut best = 0;
    for index in 1..SEPARATORS.len() {
        if counts[index] > counts[best] {
            best = index;
        }
    }
    SEPARATORS[best]
}

/// Whether a row ends within quotes; only the last can.
fn is_open(row: &[u8], separator: u8) -> bool {
    let (mut is_quoted, mut begins) = (false, true);
    for byte in row {
        match byte {
            // Two quotes within quotes are one that is meant.
            b'"' if is_quoted || begins => (is_quoted, begins) = (!is_quoted, is_quoted),
            _ if is_quoted => {}
            byte => begins = *byte == separator,
        }
    }
    is_quoted
}

/// How many lines end within `range`.
fn line_ends(text: &[u8], range: Range<usize>) -> u64 {
    let ends = |at: &usize| text[*at] == b'\n' || (text[*at] == b'\r' && text.get(at + 1) != Some(&b'\n'));
    u64::try_from(range.filter(ends).count()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each row with its line.
    fn rows(text: &[u8]) -> Vec<(u64, Result<Value, String>)> {
        let mut rows = Rows::new(text, None).unwrap();
        let mut found = Vec::new();
        while let Some(row) = rows.row() {
            found.push((row.line, row.value()));
        }
        found
    }

    fn records(text: &[u8]) -> Vec<Value> {
        rows(text).into_iter().map(|(_, row)| row.unwrap()).collect()
    }

    #[test]
    fn a_row_that_cannot_be_read_leaves_the_others_be() {
        assert_eq!(
            rows(b"\xEF\xBB\xBFid, Name \n1,\"a\nb\"\n2,x,y\n\xFF,x\n3,c\n"),
            [
                (2, Ok(json!({"id": "1", "Name": "a\nb"}))),
                (4, Err("3 cells for 2 titles".to_owned())),
                (5, Err(file::NO_UTF8.to_owned())),
                (6, Ok(json!({"id": "3", "Name": "c"}))),
            ]
        );
        // The row takes all that is behind it along.
        let open = rows(b"id,Name\n1,5\" pipe\n2,\"a\"\"b\n3,c\n");
        assert_eq!(open[0].1, Ok(json!({"id": "1", "Name": "5\" pipe"})));
        assert_eq!(
            open[1],
            (3, Err("a quote that opens in this row isn't closed".to_owned()))
        );
        // So would the titles, and nothing would be left.
        for text in [
            &b"id,\"Name\n1,a\n2,b\n"[..],
            b"sep=,\n\nid,\"Name\n1,a\n2,b\n",
            b"\"\"\"\n",
        ] {
            let refused = Rows::new(text, None).unwrap_err();
            let line = if text.starts_with(b"sep") { 3 } else { 1 };
            assert_eq!(
                refused,
                format!("a quote that opens in the titles, in line {line}, isn't closed")
            );
        }
        assert_eq!(rows(b"id,\"Name\"").len(), 0);
        assert_eq!(rows(b"id\n\"a\"\"\"").len(), 1);
        assert!(rows(b"id\n\"a\"\"\"")[0].1.is_ok());
    }

    #[test]
    fn cells_that_are_left_out_or_go_on_behind_the_titles() {
        let text = b"email,first name,note\nann@example.com,Ann,\nbea@example.com,Bea\n\ncy@example.com,Cy,hello,\n,,,,\n , \n";
        let of = |email, name, note| json!({"email": email, "first name": name, "note": note});
        assert_eq!(
            records(text),
            [
                of("ann@example.com", "Ann", ""),
                of("bea@example.com", "Bea", ""),
                of("cy@example.com", "Cy", "hello")
            ]
        );
        let above = ",,\n\u{a0},,\nid,Name,\n1,Ana,\u{a0}\n\u{a0},,\n".as_bytes();
        assert_eq!(rows(above), [(4, Ok(json!({"id": "1", "Name": "Ana"})))]);
        let titles = b"id,Tag,,Tag\n1,a,x,b\n2,,y,c\n";
        assert_eq!(
            records(titles),
            [
                json!({"id": "1", "Tag": ["a", "b"]}),
                json!({"id": "2", "Tag": ["", "c"]})
            ]
        );
        assert!(records(b"").is_empty() && records(b"\n\n").is_empty() && records(b"id\n").is_empty());
    }

    #[test]
    fn separators_are_found_or_said() {
        let row = [json!({"Email": "ana@example.com", "Name": "Ana"})];
        for text in [
            "Email,Name\nana@example.com,Ana\n",
            "Email;Name\nana@example.com;Ana\n",
            "Email\tName\r\nana@example.com\tAna\r\n",
            "sep=,\nEmail,Name\nana@example.com,Ana\n",
            "\"sep=;\"\r\nEmail;Name\r\nana@example.com;Ana",
            "SEP=|\rEmail|Name\rana@example.com|Ana",
            "\"Email\";Name\nana@example.com;Ana\n",
        ] {
            assert_eq!(records(text.as_bytes()), row, "{text}");
            let units: Vec<u16> = text.encode_utf16().collect();
            let little = units.iter().flat_map(|unit| unit.to_le_bytes());
            let little: Vec<u8> = [0xFF, 0xFE].into_iter().chain(little).collect();
            let big = units.iter().flat_map(|unit| unit.to_be_bytes());
            let big: Vec<u8> = [0xFE, 0xFF].into_iter().chain(big).collect();
            assert_eq!(
                (records(&little), records(&big)),
                (row.to_vec(), row.to_vec()),
                "{text}"
            );
            assert!(Rows::new(&big[..big.len() - 1], None).is_err());
        }
        // Commas within quotes are none, and one title needs no separator.
        assert_eq!(records(b"\"a,b,c\";d\n1;2\n"), [json!({"a,b,c": "1", "d": "2"})]);
        assert_eq!(records(b"id\n\"1;2\"\n"), [json!({"id": "1;2"})]);
        let mut said = Rows::new(&b"a,b;c\n1,2;3\n"[..], Some(b';')).unwrap();
        assert_eq!(said.row().unwrap().value(), Ok(json!({"a,b": "1,2", "c": "3"})));
    }

    #[test]
    fn lines_are_counted_as_an_editor_shows_them() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["id,n", "1,\"a", "b\"", "", "2,x", ",", "", "3,y", ""].join(end);
            let lines: Vec<u64> = rows(text.as_bytes()).iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [2, 5, 8], "{end:?}");
            let said = format!("sep=,{end}{text}");
            let lines: Vec<u64> = rows(said.as_bytes()).iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [3, 6, 9], "{end:?}");
        }
    }
}
