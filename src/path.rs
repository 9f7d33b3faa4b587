//! Paths into an event: `$.buyer.name`, `consumer.state`, `$['First Name']`, `$.items[0].sku`.
//!
//! This is the part of JSONPath that people write in rules, where a path leads to one value: steps are `.name`, `['any
//! name']` (or with double quotes) and `[0]`, and the leading `$.` may be left out. `$item`, the element of a list
//! that a mapping explodes, is short for `$.item`.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Name(Box<str>),
    Index(usize),
}

/// A parsed path of one step or more; the first is always a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    steps: Box<[Step]>,
    text: Box<str>,
}

/// Why a path can't be read, with the column (1-based, in characters) inside the path's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (column {column})")]
pub struct PathError {
    pub column: usize,
    pub message: String,
}

impl Path {
    /// Reads a whole path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut reader = Reader {
            chars: text.chars().collect(),
            at: 0,
        };
        let steps = reader.path()?;
        if reader.at < reader.chars.len() {
            return Err(reader.error("unexpected text after the path"));
        }
        Ok(Self {
            steps: steps.into(),
            text: text.into(),
        })
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The first step's name.
    pub fn root(&self) -> &str {
        match &self.steps[0] {
            Step::Name(name) => name,
            Step::Index(_) => unreachable!("a path starts with a name"),
        }
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Follows the path from `root` through objects and lists; `None` where a step leads nowhere.
    pub fn follow<'v>(&self, root: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
        follow(&self.steps, root)
    }
}

/// Follows `steps` from `root`.
pub fn follow<'v>(steps: &[Step], root: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
    steps.iter().try_fold(root, |value, step| match step {
        Step::Name(name) => value.as_object()?.get(&**name),
        Step::Index(index) => value.as_array()?.get(*index),
    })
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn error(&self, message: impl Into<String>) -> PathError {
        PathError {
            column: self.at + 1,
            message: message.into(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn path(&mut self) -> Result<Vec<Step>, PathError> {
        let mut steps = Vec::new();
        if self.peek() == Some('$') {
            self.at += 1;
            if self.rest_is_item() {
                steps.push(self.name()?);
            }
        } else {
            steps.push(self.name()?);
        }
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    let name = self.name()?;
                    steps.push(name);
                }
                Some('[') => {
                    let column = self.at;
                    let step = self.bracket()?;
                    if steps.is_empty() && matches!(step, Step::Index(_)) {
                        self.at = column;
                        return Err(self.error("an event has no [0]; a path starts with a field's name"));
                    }
                    steps.push(step);
                }
                _ => break,
            }
        }
        if steps.is_empty() {
            return Err(self.error("a path needs a field's name, such as $.lead_id"));
        }
        Ok(steps)
    }

    /// Whether `$item` stands here rather than `$items` or another name without its dot.
    fn rest_is_item(&self) -> bool {
        self.chars[self.at..].starts_with(&['i', 't', 'e', 'm'])
            && matches!(self.chars.get(self.at + 4), None | Some('.' | '['))
    }

    fn name(&mut self) -> Result<Step, PathError> {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '$'))
        {
            self.at += 1;
        }
        if start == self.at {
            return Err(self.error("a field's name is missing; other than letters, digits, _ and - go as ['any name']"));
        }
        Ok(Step::Name(self.chars[start..self.at].iter().collect::<String>().into()))
    }

    fn bracket(&mut self) -> Result<Step, PathError> {
        self.at += 1;
        let step = match self.peek() {
            Some(quote @ ('\'' | '"')) => {
                self.at += 1;
                let mut name = String::new();
                loop {
                    match self.peek() {
                        None => return Err(self.error("the quoted name is not closed")),
                        Some(c) if c == quote => break,
                        Some('\\') => {
                            self.at += 1;
                            name.push(self.peek().ok_or_else(|| self.error("the quoted name is not closed"))?);
                        }
                        Some(c) => name.push(c),
                    }
                    self.at += 1;
                }
                self.at += 1;
                Step::Name(name.into())
            }
            Some('0'..='9') => {
                let start = self.at;
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                }
                let digits: String = self.chars[start..self.at].iter().collect();
                Step::Index(digits.parse().map_err(|_| self.error("the index is too large"))?)
            }
            _ => return Err(self.error("expected [0] or ['name']; wildcards, filters and slices are not supported")),
        };
        if self.peek() != Some(']') {
            return Err(self.error("expected ]"));
        }
        self.at += 1;
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            "[a-zA-Z_][a-z0-9_-]{0,5}".prop_map(|name| Step::Name(name.into())),
            any::<String>().prop_map(|name| Step::Name(name.into())),
            any::<usize>().prop_map(Step::Index),
        ]
    }

    /// A step as one may write it, in a way that `choice` says.
    fn written(step: &Step, choice: u8) -> String {
        match step {
            Step::Index(index) => format!("[{index}]"),
            Step::Name(name) => {
                let is_plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-@$".contains(c));
                let quote = if choice.is_multiple_of(2) { '\'' } else { '"' };
                let quoted: String = name
                    .chars()
                    .flat_map(|c| (c == quote || c == '\\').then_some('\\').into_iter().chain([c]))
                    .collect();
                match choice % 3 {
                    0 if is_plain => format!(".{name}"),
                    _ => format!("[{quote}{quoted}{quote}]"),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn steps_are_read_as_they_were_written(
            first in any::<String>(), rest in prop::collection::vec((any_step(), any::<u8>()), 0..6), choice in any::<u8>(),
        ) {
            let steps: Vec<(Step, u8)> = [(Step::Name(first.into()), choice)].into_iter().chain(rest).collect();
            let text: String = steps.iter().map(|(step, choice)| written(step, *choice)).collect();
            let path = Path::parse(&format!("${text}"));
            let steps: Vec<Step> = steps.into_iter().map(|(step, _)| step).collect();
            prop_assert_eq!(path.as_ref().map(Path::steps), Ok(&*steps), "{}", text);
        }

        #[test]
        fn any_text_is_a_path_or_has_a_column(text in prop_oneof![any::<String>(), "[$.a0'\"\\\\\\[\\]]{0,12}"]) {
            match Path::parse(&text) {
                Ok(path) => prop_assert_eq!(path.as_str(), text),
                Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{}", error),
            }
        }
    }

    fn names(text: &str) -> Vec<String> {
        Path::parse(text)
            .unwrap()
            .steps()
            .iter()
            .map(|step| match step {
                Step::Name(name) => name.to_string(),
                Step::Index(index) => format!("[{index}]"),
            })
            .collect()
    }

    #[test]
    fn paths_that_people_write() {
        assert_eq!(names("$.buyer.name"), ["buyer", "name"]);
        assert_eq!(names("buyer.name"), ["buyer", "name"]);
        assert_eq!(names("$['First Name']"), ["First Name"]);
        assert_eq!(names("$.items[0].sku"), ["items", "[0]", "sku"]);
        assert_eq!(names("fields[\"it's\"]"), ["fields", "it's"]);
        assert_eq!(names(r"$['it\'s']"), ["it's"]);
        assert_eq!(names("$.größe"), ["größe"]);
        assert_eq!(names("$item"), ["item"]);
        assert_eq!(names("$item.n[0]"), ["item", "n", "[0]"]);
    }

    #[test]
    fn paths_that_are_refused_name_the_column() {
        for (text, column) in [
            ("", 1),
            ("$", 2),
            ("$.", 3),
            ("$.a[", 5),
            ("$.a[*]", 5),
            ("$[0]", 2),
            ("$.a b", 4),
            ("$..a", 3),
            ("$.a['x", 7),
            ("$items", 2),
            ("$item n", 2),
            ("$buyer.name", 2),
        ] {
            assert_eq!(Path::parse(text).unwrap_err().column, column, "{text}");
        }
    }
}
