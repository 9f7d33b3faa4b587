//! Reads a template's text into parts.
//!
//! Only `{{` begins a placeholder. Anything else that looks like one (`{name}`, `#name#`, a lone `}}`) is text, since
//! people's messages hold such things.

use super::filters::{Argument, Filter};
use super::{Head, Part, Placeholder, TemplateError};
use crate::path::Path;

pub(super) fn parse(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parser = Parser { text, at: 0 };
    let mut parts = Vec::new();
    while !parser.rest().is_empty() {
        let plain = parser.rest().find("{{").unwrap_or(parser.rest().len());
        if plain > 0 {
            parts.push(Part::Text(parser.take(plain).into()));
        } else {
            parts.push(Part::Placeholder(parser.placeholder()?));
        }
    }
    Ok(parts)
}

struct Parser<'t> {
    text: &'t str,
    /// How many bytes are read.
    at: usize,
}

impl<'t> Parser<'t> {
    fn placeholder(&mut self) -> Result<Placeholder, TemplateError> {
        let open = self.at;
        self.skip("{{");
        if self.rest().starts_with('{') {
            let message = "three braces; a placeholder has two, and `| raw` leaves out the escaping";
            return Err(self.error_at(open, message));
        }
        self.blanks();
        let head = self.head(open)?;
        let mut filters: Vec<Filter> = Vec::new();
        let mut last = open;
        loop {
            self.blanks();
            if self.skip("}}") {
                break;
            }
            if self.rest().is_empty() {
                return Err(self.unclosed(open));
            }
            if !self.skip("|") {
                let message = "expected | or }}; a filter's arguments follow a colon, as in default: \"x\"";
                return Err(self.error_at(self.at, message));
            }
            if matches!(filters.last(), Some(Filter::Raw)) {
                return Err(self.error_at(last, "`raw` goes last; no filter can follow it"));
            }
            self.blanks();
            last = self.at;
            filters.push(self.filter(open)?);
        }
        Ok(Placeholder {
            head,
            filters: filters.into(),
        })
    }

    fn head(&mut self, open: usize) -> Result<Head, TemplateError> {
        if self.rest().starts_with(['"', '\'']) {
            return Ok(Head::Text(self.quoted()?));
        }
        let start = self.at;
        let path = self.take(path_length(self.rest())).trim_end();
        if self.rest().is_empty() {
            return Err(self.unclosed(open));
        }
        if path.is_empty() {
            return Err(self.error_at(open, "an empty placeholder; name a field, as in {{$.lead_id}}"));
        }
        Path::parse(path).map(Head::Path).map_err(|error| TemplateError {
            column: self.column(start) + error.column - 1,
            message: error.message,
        })
    }

    fn filter(&mut self, open: usize) -> Result<Filter, TemplateError> {
        let start = self.at;
        let name = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if name.is_empty() && self.rest().is_empty() {
            return Err(self.unclosed(open));
        }
        if name.is_empty() {
            return Err(self.error_at(start, "a filter's name is missing after |"));
        }
        let (mut arguments, mut columns) = (Vec::new(), Vec::new());
        self.blanks();
        if self.skip(":") {
            loop {
                self.blanks();
                columns.push(self.at);
                arguments.push(self.argument(open)?);
                self.blanks();
                if !self.skip(",") {
                    break;
                }
            }
        }
        Filter::new(name, &arguments).map_err(|refusal| {
            let at = refusal.argument.map_or(start, |nth| columns[nth]);
            self.error_at(at, refusal.message)
        })
    }

    fn argument(&mut self, open: usize) -> Result<Argument, TemplateError> {
        if self.rest().starts_with(['"', '\'']) {
            return Ok(Argument::Text(self.quoted()?));
        }
        if self.rest().is_empty() {
            return Err(self.unclosed(open));
        }
        let start = self.at;
        let number = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
        match serde_json::from_str::<serde_json::Number>(number) {
            Ok(_) => Ok(Argument::Number(number.into())),
            Err(_) => Err(self.error_at(start, "an argument is a text in straight quotes or a number")),
        }
    }

    /// A text in quotes of either kind; `\n` is a new line, `\t` a tab, and `\` before anything
    /// else, such as the quote, stands for that.
    fn quoted(&mut self) -> Result<Box<str>, TemplateError> {
        let start = self.at;
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, char)) = chars.next() {
            if Some(char) == quote {
                self.at = start + at + char.len_utf8();
                return Ok(text.into());
            }
            if char != '\\' {
                text.push(char);
                continue;
            }
            match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            }
        }
        Err(self.error_at(start, "the text's closing quote is missing"))
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn take(&mut self, length: usize) -> &'t str {
        let taken = &self.rest()[..length];
        self.at += length;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        self.take(rest.find(|c| !wanted(c)).unwrap_or(rest.len()))
    }

    fn blanks(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn skip(&mut self, mark: &str) -> bool {
        let found = self.rest().starts_with(mark);
        if found {
            self.at += mark.len();
        }
        found
    }

    fn unclosed(&self, open: usize) -> TemplateError {
        let message = r#"the placeholder is not closed by }}; braces themselves are written {{ "{{" }}"#;
        self.error_at(open, message)
    }

    fn error_at(&self, at: usize, message: impl Into<String>) -> TemplateError {
        TemplateError {
            column: self.column(at),
            message: message.into(),
        }
    }

    fn column(&self, at: usize) -> usize {
        self.text[..at].chars().count() + 1
    }
}

/// How far a path goes: to the next `|` or `}}` that is not inside `['…']`.
fn path_length(text: &str) -> usize {
    let mut quote = None;
    let mut before = None;
    for (at, char) in text.char_indices() {
        match quote {
            // An escaped character closes nothing; what it escapes is not "before" anything.
            Some(_) if before == Some('\\') => {
                before = None;
                continue;
            }
            Some(open) if char == open => quote = None,
            Some(_) => {}
            None if matches!(char, '"' | '\'') && before == Some('[') => quote = Some(char),
            None if char == '|' || text[at..].starts_with("}}") => return at,
            None => {}
        }
        before = Some(char);
    }
    text.len()
}
