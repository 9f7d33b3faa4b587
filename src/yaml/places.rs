//! Where the values of a text stand. Messages alone need it, so that a text without a fault is never looked through.

use std::fmt;

use saphyr_parser::{Event, Marker, Parser, StrInput};

/// A line and a column, both 1-based, columns in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Place {
    fn of(at: Marker) -> Self {
        Self {
            line: at.line(),
            column: at.col() + 1,
        }
    }
}

/// Where a value stands, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    at: Place,
    /// By key, or `[0]` and so on: where the key stands, and its value.
    below: Vec<(String, Place, Places)>,
}

impl Places {
    /// Where the value at `path` stands, such as `filters.where[0].path`; else the innermost one around it.
    pub fn value(&self, path: &str) -> Place {
        self.find(path).map_or(self.at, |(_, _, value)| value.at)
    }

    /// Where the key of that value stands; else the innermost value around it.
    pub fn key(&self, path: &str) -> Place {
        match self.find(path) {
            Some((0, key, _)) => key,
            _ => self.value(path),
        }
    }

    /// Of a path what is left, where its last step stands, and the value.
    fn find<'p>(&'p self, path: &str) -> Option<(usize, Place, &'p Self)> {
        let path = path.strip_prefix('.').unwrap_or(path);
        let below = self.below.iter().filter_map(|(name, key, value)| {
            let rest = path
                .strip_prefix(name.as_str())
                .or_else(|| path.strip_prefix("['")?.strip_prefix(name.as_str())?.strip_prefix("']"))?;
            if !(rest.is_empty() || rest.starts_with(['.', '['])) {
                return None;
            }
            Some(value.find(rest).unwrap_or((rest.len(), *key, value)))
        });
        // Keys have dots in them, so that several may begin the path.
        below.min_by_key(|(left, ..)| *left)
    }
}

/// The places of what [`super::entries`] gives, in the same order; as far as the text can be read.
pub fn places(text: &str) -> Vec<Places> {
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut found = Vec::new();
    while let Some(Ok((event, _))) = parser.next_event() {
        if !matches!(event, Event::DocumentStart(_)) {
            continue;
        }
        let Some(Ok((event, span))) = parser.next_event() else {
            break;
        };
        let is_nothing = matches!(&event, Event::Scalar(text, style, ..) if super::is_null(text, *style));
        let is_list = matches!(event, Event::SequenceStart(..));
        let Some(document) = value(&mut parser, &event, span.start) else {
            break;
        };
        match is_list {
            true => found.extend(document.below.into_iter().map(|(_, _, element)| element)),
            false if is_nothing => {}
            false => found.push(document),
        }
    }
    found
}

fn value(parser: &mut Parser<'_, StrInput<'_>>, event: &Event<'_>, at: Marker) -> Option<Places> {
    let mut places = Places {
        at: Place::of(at),
        below: Vec::new(),
    };
    match event {
        Event::SequenceStart(..) => loop {
            let (event, span) = parser.next_event()?.ok()?;
            if event == Event::SequenceEnd {
                return Some(places);
            }
            let name = format!("[{}]", places.below.len());
            let element = value(parser, &event, span.start)?;
            places.below.push((name, element.at, element));
        },
        Event::MappingStart(..) => loop {
            let (event, key) = parser.next_event()?.ok()?;
            let name = match event {
                Event::MappingEnd => return Some(places),
                Event::Scalar(text, ..) => text.into_owned(),
                // An alias, whose text isn't kept here.
                Event::Alias(_) => String::new(),
                _ => return None,
            };
            let (event, span) = parser.next_event()?.ok()?;
            let member = value(parser, &event, span.start)?;
            places.below.push((name, Place::of(key.start), member));
        },
        Event::Scalar(..) | Event::Alias(_) => Some(places),
        _ => None,
    }
}
