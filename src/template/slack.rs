//! A template as Slack reads it: which of its placeholders stand within a link or a mention, and how a value is written
//! there.
//!
//! Only the template's own text begins and ends a link or a mention, and says which of them it is. A value fills in a
//! URL, an id or a label. A value that doesn't fit its place, such as `!channel` where a URL belongs, is shown as text:
//! `Recording (!channel)`. What a placeholder with `raw` writes is excepted.

use super::{Found, OnMissing, Part, Placeholder, Stop, room};
use crate::lead::Lookup;
use crate::text::Bounded;
use crate::text::slack::{escape, escape_in_url, is_url};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Own(Box<str>),
    /// The placeholder at that place among the template's parts.
    Value(usize),
    Span(Span),
}

/// `<TARGET|LABEL>` with a placeholder in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    kind: Kind,
    target: Box<[Piece]>,
    label: Option<Box<[Piece]>>,
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
    let has_values = parts.iter().any(|part| matches!(part, Part::Placeholder(_)));
    if !has_values || !parts.iter().any(is_markup) {
        return None;
    }
    let mut pieces: Vec<Piece> = Vec::new();
    // Where the last `<` of the template's own is that isn't closed yet; its piece is the `<` alone.
    let mut open: Option<usize> = None;
    for (at, part) in parts.iter().enumerate() {
        let Part::Text(text) = part else {
            pieces.push(Piece::Value(at));
            continue;
        };
        for token in text.split_inclusive(['<', '>']) {
            let own = token.trim_end_matches(['<', '>']);
            if !own.is_empty() {
                pieces.push(Piece::Own(own.into()));
            }
            match (&token[own.len()..], open) {
                ("<", before) => {
                    bare(&mut pieces, before);
                    open = Some(pieces.len());
                    pieces.push(Piece::Own("<".into()));
                }
                (">", Some(begin)) => {
                    let inner: Vec<Piece> = pieces.drain(begin..).skip(1).collect();
                    close(inner, parts, &mut pieces);
                    open = None;
                }
                (end, _) if !end.is_empty() => pieces.push(Piece::Own(end.into())),
                _ => {}
            }
        }
    }
    bare(&mut pieces, open);
    Some(closed(pieces))
}

/// A `<` that nothing closes is shown as it is, so that nothing behind it can make more of it.
fn bare(pieces: &mut [Piece], at: Option<usize>) {
    if let Some(at) = at {
        pieces[at] = Piece::Own("&lt;".into());
    }
}

/// What stands between `<` and `>` of the template's own.
fn close(inner: Vec<Piece>, parts: &[Part], into: &mut Vec<Piece>) {
    if !inner.iter().any(|piece| matches!(piece, Piece::Value(_))) {
        into.push(Piece::Own("<".into()));
        into.extend(inner);
        into.push(Piece::Own(">".into()));
        return;
    }
    let (mut target, mut label) = (Vec::new(), None::<Vec<Piece>>);
    for piece in inner {
        match (piece, &mut label) {
            (piece, Some(label)) => label.push(piece),
            (Piece::Own(own), label @ None) => match own.split_once('|') {
                None => target.push(Piece::Own(own)),
                Some((before, behind)) => {
                    let pieces = [before, behind].map(|own| (!own.is_empty()).then(|| Piece::Own(own.into())));
                    let [before, behind] = pieces;
                    target.extend(before);
                    *label = Some(behind.into_iter().collect());
                }
            },
            (piece, None) => target.push(piece),
        }
    }
    into.push(Piece::Span(Span {
        kind: kind(&target, parts),
        target: closed(target),
        label: label.map(closed),
    }));
}

fn kind(target: &[Piece], parts: &[Part]) -> Kind {
    let mut begin = String::new();
    let mut first = None;
    for piece in target {
        match piece {
            Piece::Own(own) => begin.push_str(own),
            Piece::Value(at) => {
                first = Some(*at);
                break;
            }
            Piece::Span(_) => {}
        }
    }
    let begin = begin.trim_start();
    let is_raw = |at: usize| matches!(&parts[at], Part::Placeholder(placeholder) if placeholder.is_raw());
    let Some(first) = first else {
        return if begin.is_empty() { Kind::Url } else { Kind::Own };
    };
    match begin.chars().next() {
        None if is_raw(first) => Kind::Own,
        Some('@' | '#') => Kind::Mention,
        Some('!') if begin.contains('^') => Kind::Special,
        Some('!') => Kind::Unnamed,
        _ if has_scheme(begin) => Kind::Link,
        _ => Kind::Url,
    }
}

/// Whether a text begins with a URI's scheme (RFC 3986, section 3.1).
fn has_scheme(text: &str) -> bool {
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    begins && text.trim_start_matches(of_scheme).starts_with(':')
}

/// Pieces in which no value can make an escape of an `&` before it.
fn closed(mut pieces: Vec<Piece>) -> Box<[Piece]> {
    for at in 1..pieces.len() {
        let [Piece::Own(own), Piece::Value(_)] = &mut pieces[at - 1..=at] else {
            continue;
        };
        if let Some((before, name)) = own.rsplit_once('&')
            && name.len() <= 3
            && name.bytes().all(|byte| byte.is_ascii_lowercase())
        {
            *own = format!("{before}&amp;{name}").into();
        }
    }
    pieces.into()
}

/// Where a template's values come from.
#[derive(Clone, Copy)]
pub(super) struct Values<'v> {
    pub(super) parts: &'v [Part],
    pub(super) event: &'v dyn Lookup,
    pub(super) on_missing: OnMissing,
}

impl Values<'_> {
    /// Writes the template, whose pieces are given where its own text has markup.
    pub(super) fn write(self, pieces: Option<&[Piece]>, into: &mut Bounded) -> Result<(), Stop> {
        if let Some(pieces) = pieces {
            return self.write_pieces(pieces, into);
        }
        for part in self.parts {
            match part {
                Part::Text(text) => into.push(text),
                Part::Placeholder(placeholder) => self.write_value(placeholder, escape, into)?,
            }
        }
        Ok(())
    }

    fn write_pieces(self, pieces: &[Piece], into: &mut Bounded) -> Result<(), Stop> {
        for piece in pieces {
            match piece {
                Piece::Own(own) => into.push(own),
                Piece::Value(at) => {
                    if let Part::Placeholder(placeholder) = &self.parts[*at] {
                        self.write_value(placeholder, escape, into)?;
                    }
                }
                Piece::Span(span) => span.write(self, into)?,
            }
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
        let way = if placeholder.is_raw() { plain } else { way };
        write_value(found.as_ref(), way, into);
        Ok(())
    }
}

/// The way of a value that is written as it is.
pub(super) fn plain(text: &str, into: &mut Bounded) {
    into.push(text);
}

/// Writes a value in a way.
pub(super) fn write_value(found: Option<&Found<'_>>, way: fn(&str, &mut Bounded), into: &mut Bounded) {
    let Some(found) = found else { return };
    let (text, is_cut) = found.text(into.room());
    way(&text, into);
    if is_cut {
        into.end();
    }
}

impl Span {
    fn write(&self, values: Values<'_>, into: &mut Bounded) -> Result<(), Stop> {
        let buffer = || Bounded::new(into.room());
        // The target within the link, as it is, and as text; of a mention its values alone are text.
        let (mut linked, mut whole, mut shown) = (buffer(), buffer(), buffer());
        let (mut fits, mut has_value) = (true, false);
        for piece in &self.target {
            let placeholder = match piece {
                Piece::Value(at) => &values.parts[*at],
                Piece::Own(own) => {
                    linked.push(own);
                    whole.push(own);
                    if self.kind == Kind::Url {
                        shown.push(own);
                    }
                    continue;
                }
                Piece::Span(_) => continue,
            };
            let Part::Placeholder(placeholder) = placeholder else {
                continue;
            };
            let begin = whole.as_str().len();
            values.write_value(placeholder, plain, &mut whole)?;
            let (before, text) = whole.as_str().split_at(begin);
            let text = if before.trim().is_empty() { text.trim() } else { text };
            has_value |= !text.trim().is_empty();
            fits &= self.kind != Kind::Special || is_word(text);
            escape(text, &mut shown);
            if placeholder.is_raw() {
                linked.push(text);
            } else {
                escape_in_url(text, &mut linked);
            }
        }
        let mut label = buffer();
        values.write_pieces(self.label.as_deref().unwrap_or_default(), &mut label)?;
        // A link is on one line.
        let named = label.as_str().replace(['\n', '\r'], " ");
        let named = Some(named).filter(|label| !label.trim().is_empty());
        let is_link = fits && self.kind.takes(whole.as_str().trim());
        if !is_link {
            into.push(&self.as_text(named, has_value, shown.as_str()));
            if label.is_cut() || shown.is_cut() {
                into.end();
            }
            return Ok(());
        }
        let named = named.map(|label| format!("|{label}")).unwrap_or_default();
        let link = format!("<{}{named}>", linked.as_str().trim_start());
        if linked.is_cut() || label.is_cut() || link.len() > into.room() {
            // Whoever cuts the text sees that a link begins here and doesn't end.
            into.push("<");
            into.end();
        }
        into.push(&link);
        Ok(())
    }

    fn as_text(&self, label: Option<String>, has_value: bool, shown: &str) -> String {
        let is_own = |piece: &Piece| matches!(piece, Piece::Own(own) if !own.trim().is_empty());
        match label {
            Some(label) if has_value => format!("{label} ({})", shown.trim()),
            Some(label) => label,
            // "Price < 5 and > 3" is no link: its own text stays.
            None if self.kind == Kind::Url && self.target.iter().any(is_own) => format!("&lt;{shown}&gt;"),
            None => shown.trim().to_owned(),
        }
    }
}

impl Kind {
    /// Whether a target is one of this kind.
    fn takes(self, target: &str) -> bool {
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        match self {
            // Of a special one the values are looked at one by one.
            Kind::Own | Kind::Link | Kind::Special => true,
            Kind::Url => is_url(target),
            Kind::Mention => target.get(1..).is_some_and(is_id),
            Kind::Unnamed => false,
        }
    }
}

/// Whether a value can stand between the `^` of one of Slack's own words.
fn is_word(value: &str) -> bool {
    let ends = |c: char| matches!(c, '^' | '|' | '<' | '>') || c.is_whitespace() || c.is_control();
    !value.is_empty() && !value.contains(ends)
}

/// Whether a value of the template would say whom `<!…>` mentions.
pub(super) fn mentions_by_value(pieces: &[Piece]) -> bool {
    let is_unnamed = |piece: &Piece| matches!(piece, Piece::Span(span) if span.kind == Kind::Unnamed);
    pieces.iter().any(is_unnamed)
}
