//! A template as Slack reads it: which of its placeholders stand within a link or a mention, and how a value is
//! written there.
//!
//! Only the template's own text begins and ends a link or a mention, and decides which of the two it is. A value fills
//! in a URL, an id or a label. A value that doesn't fit its place, such as `!channel` in place of a URL, appears as
//! text: `Recording (!channel)`. A placeholder with `raw` is the exception.

use super::{Found, OnMissing, Part, Placeholder, Stop, room};
use crate::lead::Lookup;
use crate::text::Bounded;
use crate::text::slack::{escape, escape_in_url, is_url};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Atom(Atom),
    Span(Span),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Atom {
    Own(Box<str>),
    Value(Placeholder),
}

/// `<TARGET|LABEL>` with a placeholder in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    kind: Kind,
    target: Box<[Atom]>,
    label: Box<[Atom]>,
}

/// What the template's own text makes of a span, by how its target begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Whatever the values are: all of the target is the template's own, or a `raw` value begins it.
    Own,
    /// A scheme, such as `https:`.
    Link,
    /// A value, which must be a URL.
    Url,
    /// `@` or `#`, behind which an id stands.
    Mention,
    /// `!` and one of Slack's words with its `^`, such as `!subteam^`.
    Special,
    /// `!` and a value, which would say whom to mention.
    Unnamed,
}

/// The pieces of a template; none where its own text holds nothing that could be a part of markup.
pub(super) fn pieces(parts: &[Part]) -> Option<Box<[Piece]>> {
    let is_markup = |part: &Part| matches!(part, Part::Text(text) if text.contains(['<', '&']));
    let is_value = |part: &Part| matches!(part, Part::Placeholder(_));
    if !parts.iter().any(is_value) || !parts.iter().any(is_markup) {
        return None;
    }
    let mut layout = Layout::default();
    for part in parts {
        match part {
            Part::Text(text) => text.split_inclusive(['<', '>']).for_each(|own| layout.add(own)),
            Part::Placeholder(placeholder) => layout.run.push(Atom::Value(placeholder.clone())),
        }
    }
    layout.end_run();
    Some(layout.pieces.into())
}

#[derive(Debug, Default)]
struct Layout {
    pieces: Vec<Piece>,
    /// The text behind the pieces, up to the next `<` or the `>` that closes the last.
    run: Vec<Atom>,
    /// Whether a `<` of the template's own stands before the run.
    is_open: bool,
}

impl Layout {
    /// Adds a text with at most one `<` or `>`, which is its end.
    fn add(&mut self, own: &str) {
        let text = own.trim_end_matches(['<', '>']);
        if !text.is_empty() {
            self.run.push(Atom::Own(text.into()));
        }
        if own.ends_with('<') {
            self.end_run();
            self.is_open = true;
        } else if own.ends_with('>') && self.is_open {
            self.is_open = false;
            self.pieces.push(closed(std::mem::take(&mut self.run)));
        } else if own.ends_with('>') {
            self.run.push(Atom::Own(">".into()));
        }
    }

    /// Ends a run that nothing closes. A `<` before it is shown as it is, so that nothing behind can make more of it.
    fn end_run(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.run.insert(0, Atom::Own("&lt;".into()));
        }
        let run = without_open_escapes(std::mem::take(&mut self.run));
        self.pieces.extend(run.into_iter().map(Piece::Atom));
    }
}

/// What stands between `<` and `>` of the template's own.
fn closed(run: Vec<Atom>) -> Piece {
    let own = |atom: &Atom| match atom {
        Atom::Own(own) => Some(own.to_string()),
        Atom::Value(_) => None,
    };
    if let Some(literal) = run.iter().map(own).collect::<Option<String>>() {
        return Piece::Atom(Atom::Own(format!("<{literal}>").into()));
    }
    let mut target = run;
    let mut label = Vec::new();
    let bar = |atom: &Atom| matches!(atom, Atom::Own(own) if own.contains('|'));
    if let Some(at) = target.iter().position(bar) {
        label = target.split_off(at);
        if let Some(Atom::Own(own)) = label.first_mut()
            && let Some((before, behind)) = own.split_once('|')
        {
            target.push(Atom::Own(before.into()));
            *own = behind.into();
        }
    }
    Piece::Span(Span {
        kind: kind(&target),
        target: without_open_escapes(target).into(),
        label: without_open_escapes(label).into(),
    })
}

fn kind(target: &[Atom]) -> Kind {
    let mut begin = String::new();
    for atom in target {
        match atom {
            Atom::Own(own) => begin.push_str(own),
            Atom::Value(first) => {
                let begin = begin.trim_start();
                return match begin.chars().next() {
                    None if first.is_raw() => Kind::Own,
                    Some('@' | '#') => Kind::Mention,
                    Some('!') if begin.contains('^') => Kind::Special,
                    Some('!') => Kind::Unnamed,
                    _ if has_scheme(begin) => Kind::Link,
                    _ => Kind::Url,
                };
            }
        }
    }
    if begin.trim().is_empty() { Kind::Url } else { Kind::Own }
}

/// Whether a text begins with a URI's scheme (RFC 3986, section 3.1).
fn has_scheme(text: &str) -> bool {
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    begins && text.trim_start_matches(of_scheme).starts_with(':')
}

/// Atoms in which no value can make an escape of an `&` before it.
fn without_open_escapes(mut atoms: Vec<Atom>) -> Vec<Atom> {
    for at in 1..atoms.len() {
        let [Atom::Own(own), Atom::Value(_)] = &mut atoms[at - 1..=at] else {
            continue;
        };
        if let Some((before, name)) = own.rsplit_once('&')
            && name.len() <= 3
            && name.bytes().all(|byte| byte.is_ascii_lowercase())
        {
            *own = format!("{before}&amp;{name}").into();
        }
    }
    atoms
}

/// Whether a value of the template would say whom `<!…>` mentions.
pub(super) fn mentions_by_value(pieces: &[Piece]) -> bool {
    let is_unnamed = |piece: &Piece| matches!(piece, Piece::Span(span) if span.kind == Kind::Unnamed);
    pieces.iter().any(is_unnamed)
}

/// Where a template's values come from, and what becomes of those that are missing.
#[derive(Clone, Copy)]
pub(super) struct Values<'v> {
    pub(super) event: &'v dyn Lookup,
    pub(super) on_missing: OnMissing,
}

impl Values<'_> {
    /// Writes a template whose own text has no markup.
    pub(super) fn write_parts(self, parts: &[Part], into: &mut Bounded) -> Result<(), Stop> {
        for part in parts {
            match part {
                Part::Text(text) => into.push(text),
                Part::Placeholder(placeholder) => self.write_value(placeholder, escape, into)?,
            }
        }
        Ok(())
    }

    pub(super) fn write_pieces(self, pieces: &[Piece], into: &mut Bounded) -> Result<(), Stop> {
        for piece in pieces {
            match piece {
                Piece::Atom(atom) => self.write_atom(atom, into)?,
                Piece::Span(span) => span.write(self, into)?,
            }
        }
        Ok(())
    }

    fn write_atom(self, atom: &Atom, into: &mut Bounded) -> Result<(), Stop> {
        match atom {
            Atom::Own(own) => into.push(own),
            Atom::Value(placeholder) => self.write_value(placeholder, escape, into)?,
        }
        Ok(())
    }

    fn write_value(
        self,
        placeholder: &Placeholder,
        way: fn(&str, &mut Bounded),
        into: &mut Bounded,
    ) -> Result<(), Stop> {
        let found = placeholder.value(self.event, false, self.on_missing, room(into))?;
        let way = if placeholder.is_raw() { as_it_is } else { way };
        write_found(found.as_ref(), way, into);
        Ok(())
    }
}

/// The way of a value that is written as it is.
pub(super) fn as_it_is(text: &str, into: &mut Bounded) {
    into.push(text);
}

/// Writes a value in a way.
pub(super) fn write_found(found: Option<&Found<'_>>, way: fn(&str, &mut Bounded), into: &mut Bounded) {
    let Some(found) = found.filter(|_| !into.is_cut()) else {
        return;
    };
    let (text, is_cut) = found.text(into.room());
    way(&text, into);
    if is_cut {
        into.end();
    }
}

/// A span's target for one event.
struct Target {
    /// Within the link.
    linked: Bounded,
    /// As text; of a mention the values alone.
    shown: Bounded,
    /// Whether the values fit their place.
    fits: bool,
    /// Whether there is a value at all.
    is_filled: bool,
}

impl Span {
    fn write(&self, values: Values<'_>, into: &mut Bounded) -> Result<(), Stop> {
        let target = self.target(values, into.room())?;
        let mut label = Bounded::new(into.room());
        for atom in &self.label {
            values.write_atom(atom, &mut label)?;
        }
        // A link is on one line.
        let named = label.as_str().replace(['\n', '\r'], " ");
        let named = Some(named).filter(|label| !label.trim().is_empty());
        if !target.fits {
            into.push(&self.as_text(named, target.is_filled, target.shown.as_str()));
            if label.is_cut() || target.shown.is_cut() {
                into.end();
            }
            return Ok(());
        }
        let named = named.map(|label| format!("|{label}")).unwrap_or_default();
        let link = format!("<{}{named}>", target.linked.as_str().trim_start());
        if target.linked.is_cut() || label.is_cut() || link.len() > into.room() {
            // Whoever cuts the text sees that a link begins here and doesn't end.
            into.push("<");
            into.end();
        }
        into.push(&link);
        Ok(())
    }

    fn target(&self, values: Values<'_>, room: usize) -> Result<Target, Stop> {
        let [mut whole, mut linked, mut shown] = [(); 3].map(|()| Bounded::new(room));
        let (mut are_words, mut is_filled) = (true, false);
        for atom in &self.target {
            let placeholder = match atom {
                Atom::Value(placeholder) => placeholder,
                Atom::Own(own) => {
                    whole.push(own);
                    linked.push(own);
                    if self.kind == Kind::Url {
                        shown.push(own);
                    }
                    continue;
                }
            };
            let begin = whole.as_str().len();
            values.write_value(placeholder, as_it_is, &mut whole)?;
            let (before, text) = whole.as_str().split_at(begin);
            // Blanks at a URL's beginning or around an id are no part of it.
            let is_alone = before.trim().is_empty() || self.kind == Kind::Mention;
            let text = if is_alone { text.trim() } else { text };
            is_filled |= !text.trim().is_empty();
            are_words &= is_word(text);
            escape(text, &mut shown);
            let way = if placeholder.is_raw() { as_it_is } else { escape_in_url };
            way(text, &mut linked);
        }
        let fits = self.kind.takes(whole.as_str().trim(), are_words);
        Ok(Target {
            linked,
            shown,
            fits,
            is_filled,
        })
    }

    fn as_text(&self, label: Option<String>, is_filled: bool, shown: &str) -> String {
        let is_own = |atom: &Atom| matches!(atom, Atom::Own(own) if !own.trim().is_empty());
        match label {
            Some(label) if is_filled => format!("{label} ({})", shown.trim()),
            Some(label) => label,
            // "Price < 5 and > 3" is no link: its own text stays.
            None if self.kind == Kind::Url && self.target.iter().any(is_own) => format!("&lt;{shown}&gt;"),
            None => shown.trim().to_owned(),
        }
    }
}

impl Kind {
    /// Whether a target is one of this kind; `are_words` says whether each of its values can stand behind a `^`.
    fn takes(self, target: &str, are_words: bool) -> bool {
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        match self {
            Kind::Own | Kind::Link => true,
            Kind::Url => is_url(target),
            Kind::Mention => target.get(1..).is_some_and(is_id),
            Kind::Special => are_words,
            Kind::Unnamed => false,
        }
    }
}

/// Whether a value can stand behind the `^` of one of Slack's own words.
fn is_word(value: &str) -> bool {
    let ends = |c: char| matches!(c, '^' | '|' | '<' | '>') || c.is_whitespace() || c.is_control();
    !value.is_empty() && !value.contains(ends)
}
