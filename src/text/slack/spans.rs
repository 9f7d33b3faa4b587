//! A Slack text as Slack shows it: spans of text, links, mentions, bold and the like, without any HTML.
//!
//! `*`, `_` and `~` count where they stand at the edges of words, on one line, and not within code, links and addresses.
//! A style doesn't nest within itself, so that no text nests deep, and each text takes time linear in its length.

use super::{Token, is_url, tokens, unescaped};

/// A piece of what Slack shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    Text(String),
    Bold(Vec<Span>),
    Italic(Vec<Span>),
    Strike(Vec<Span>),
    Code(String),
    /// A block of code; its line breaks are in the text.
    Pre(String),
    /// Lines behind a `>`.
    Quote(Vec<Span>),
    Link {
        url: String,
        label: String,
    },
    /// A member by id.
    User {
        id: String,
        label: Option<String>,
    },
    Channel {
        id: String,
        label: Option<String>,
    },
    /// A group of members by id.
    Group {
        id: String,
        label: Option<String>,
    },
    /// `here`, `channel` or `everyone`.
    Special(String),
    /// An emoji by its name, without the colons.
    Emoji(String),
    /// A time, in epoch seconds, and the words for who can't show it in the reader's zone.
    Date {
        at: i64,
        format: String,
        label: String,
    },
    LineBreak,
}

/// What Slack shows of a text.
pub fn spans(text: &str) -> Vec<Span> {
    lines(&linked(&coded(&atoms(text))))
}

/// The spans as plain text, with line breaks, for who can't see the styles.
pub fn plain(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans {
        match span {
            Span::Text(part) | Span::Code(part) | Span::Pre(part) => text.push_str(part),
            Span::Bold(inner) | Span::Italic(inner) | Span::Strike(inner) | Span::Quote(inner) => {
                text.push_str(&plain(inner));
            }
            Span::Link { label, .. } | Span::Date { label, .. } => text.push_str(label),
            Span::User { id, label } | Span::Group { id, label } => {
                let label = label.as_ref().unwrap_or(id);
                text.push('@');
                text.push_str(label.trim_start_matches('@'));
            }
            Span::Channel { id, label } => {
                text.push('#');
                text.push_str(label.as_ref().unwrap_or(id));
            }
            Span::Special(name) => {
                text.push('@');
                text.push_str(name);
            }
            Span::Emoji(name) => text.push_str(&format!(":{name}:")),
            Span::LineBreak => text.push('\n'),
        }
    }
    text
}

/// A character that may be a mark, or what is already known.
#[derive(Debug, Clone, PartialEq)]
enum Atom {
    Char(char),
    /// A span, and how it is written, for where it stands within code.
    Known(Span, String),
}

impl Atom {
    fn is(&self, wanted: char) -> bool {
        *self == Atom::Char(wanted)
    }

    fn is_letter(&self) -> bool {
        matches!(self, Atom::Char(c) if c.is_alphanumeric())
    }

    fn is_blank(&self) -> bool {
        matches!(self, Atom::Char(c) if c.is_whitespace())
    }

    fn write(&self, into: &mut String) {
        match self {
            Atom::Char(c) => into.push(*c),
            Atom::Known(_, written) => into.push_str(written),
        }
    }
}

fn written(atoms: &[Atom]) -> String {
    let mut text = String::new();
    atoms.iter().for_each(|atom| atom.write(&mut text));
    text
}

/// The text without its escapes, and with what stands in `<…>` known.
fn atoms(text: &str) -> Vec<Atom> {
    let mut atoms = Vec::new();
    for token in tokens(text) {
        match token {
            Token::Text(text) | Token::Escape(_, text) => push_chars(text, &mut atoms),
            Token::Span(inner) => match span(inner) {
                Some((span, label)) => atoms.push(Atom::Known(span, label)),
                None => push_chars(&format!("<{}>", unescaped(inner)), &mut atoms),
            },
        }
    }
    atoms
}

fn push_chars(text: &str, atoms: &mut Vec<Atom>) {
    atoms.extend(text.chars().filter(|c| *c != '\r').map(Atom::Char));
}

/// What `<…>` is, and its text within code; `None` for what is no link or mention.
fn span(inner: &str) -> Option<(Span, String)> {
    let (target, label) = match inner.split_once('|') {
        Some((target, label)) => (target, Some(unescaped(label).into_owned())),
        None => (inner, None),
    };
    let label = label.filter(|label| !label.trim().is_empty());
    let sign = target.chars().next()?;
    let id = target[sign.len_utf8()..].to_owned();
    let shown = |sign: &str, text: &str| format!("{sign}{}", text.trim_start_matches(sign));
    Some(match sign {
        '@' if !id.is_empty() => {
            let text = shown("@", label.as_ref().unwrap_or(&id));
            (Span::User { id, label }, text)
        }
        '#' if !id.is_empty() => {
            let text = shown("#", label.as_ref().unwrap_or(&id));
            (Span::Channel { id, label }, text)
        }
        '!' => special(&id, label)?,
        _ => {
            let url = unescaped(target).into_owned();
            if !is_url(&url) {
                return None;
            }
            let label = label.unwrap_or_else(|| url.clone());
            (
                Span::Link {
                    url,
                    label: label.clone(),
                },
                label,
            )
        }
    })
}

fn special(name: &str, label: Option<String>) -> Option<(Span, String)> {
    if matches!(name, "here" | "channel" | "everyone") {
        return Some((Span::Special(name.to_owned()), format!("@{name}")));
    }
    if let Some(id) = name.strip_prefix("subteam^") {
        let text = format!("@{}", label.as_deref().unwrap_or(id).trim_start_matches('@'));
        let id = id.to_owned();
        return Some((Span::Group { id, label }, text));
    }
    let mut parts = name.strip_prefix("date^")?.split('^');
    let at = parts.next()?.parse().ok()?;
    let format = parts.next().unwrap_or_default().to_owned();
    let label = label.unwrap_or_else(|| format.clone());
    let text = label.clone();
    Some((Span::Date { at, format, label }, text))
}

/// With blocks of code and code within a line known, in which nothing else counts.
fn coded(atoms: &[Atom]) -> Vec<Atom> {
    let is_fence = |at: usize| atoms.len() >= at + 3 && atoms[at..at + 3].iter().all(|atom| atom.is('`'));
    // The last place at which code may end, so that what nothing closes is looked for once.
    let last_fence = (0..atoms.len()).rev().find(|at| is_fence(*at)).unwrap_or(0);
    let mut known = Vec::new();
    let mut at = 0;
    while at < atoms.len() {
        if !atoms[at].is('`') {
            known.push(atoms[at].clone());
            at += 1;
            continue;
        }
        if is_fence(at) {
            let from = at + 3;
            let end = (from..=last_fence).find(|end| is_fence(*end)).filter(|end| *end > from);
            if let Some(end) = end {
                let text = written(&atoms[from..end]);
                let text = text.strip_prefix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
                known.push(Atom::Known(Span::Pre(text.clone()), text));
                at = end + 3;
                // The block ends its line by itself.
                at += usize::from(atoms.get(at).is_some_and(|atom| atom.is('\n')));
                continue;
            }
        }
        let rest = &atoms[at + 1..];
        let ends = |atom: &Atom| atom.is('`') || atom.is('\n');
        let len = rest.iter().position(ends).unwrap_or(rest.len());
        let text = written(&rest[..len]);
        if rest.get(len).is_some_and(|atom| atom.is('`')) && !text.trim().is_empty() {
            known.push(Atom::Known(Span::Code(text.clone()), text));
            at += len + 2;
        } else {
            known.push(atoms[at].clone());
            at += 1;
        }
    }
    known
}

/// The most characters of an emoji's name.
const EMOJI_MAX: usize = 60;

/// With addresses that stand in the text and emoji known.
fn linked(atoms: &[Atom]) -> Vec<Atom> {
    let mut known: Vec<Atom> = Vec::new();
    let mut at = 0;
    while at < atoms.len() {
        let is_free = at.checked_sub(1).is_none_or(|before| !atoms[before].is_letter());
        let found = match &atoms[at] {
            Atom::Char(':') if is_free => emoji(&atoms[at + 1..]),
            Atom::Char('h' | 'H') if is_free => address(&atoms[at..]),
            _ => None,
        };
        match found {
            Some((atom, len)) => {
                known.push(atom);
                at += len;
            }
            None => {
                known.push(atoms[at].clone());
                at += 1;
            }
        }
    }
    known
}

/// The emoji whose first colon stands before `atoms`, and how many atoms it takes.
fn emoji(atoms: &[Atom]) -> Option<(Atom, usize)> {
    let of_name = |atom: &&Atom| {
        let known = |c: &char| c.is_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '+' | '\'');
        matches!(atom, Atom::Char(c) if known(c))
    };
    let len = atoms.iter().take(EMOJI_MAX).take_while(of_name).count();
    let name = written(&atoms[..len]);
    // `12:30:45` is a time.
    let is_name = name.contains(|c: char| !c.is_ascii_digit()) || name == "100" || name == "1234";
    if len == 0 || !is_name || !atoms.get(len)?.is(':') {
        return None;
    }
    // A tone of skin is a second name behind the first.
    let tone: String = written(&atoms[len + 1..atoms.len().min(len + 14)]);
    let toned = tone.starts_with(":skin-tone-") && tone.ends_with(':') && tone.len() == 13;
    let tone = if toned { 13 } else { 0 };
    let whole = format!(":{name}:");
    Some((Atom::Known(Span::Emoji(name), whole), len + 2 + tone))
}

/// The address with which `atoms` begin, and how many atoms it takes.
fn address(atoms: &[Atom]) -> Option<(Atom, usize)> {
    let begins = |scheme: &str| {
        let mut atoms = atoms.iter();
        let is_next = |c: char| matches!(atoms.next(), Some(Atom::Char(own)) if own.eq_ignore_ascii_case(&c));
        scheme.chars().all(is_next)
    };
    if !begins("http://") && !begins("https://") {
        return None;
    }
    let of_address = |atom: &&Atom| matches!(atom, Atom::Char(c) if !c.is_whitespace() && !"<>\"|".contains(*c));
    let mut len = atoms.iter().take_while(of_address).count();
    // What ends a sentence or a style isn't the address's.
    let ends = |atom: &Atom| matches!(atom, Atom::Char(c) if ".,;:!?)'*_~]}".contains(*c));
    while len > 0 && ends(&atoms[len - 1]) {
        len -= 1;
    }
    let url = written(&atoms[..len]);
    is_url(&url).then(|| {
        let label = url.clone();
        (
            Atom::Known(
                Span::Link {
                    url: url.clone(),
                    label,
                },
                url,
            ),
            len,
        )
    })
}

/// Lines, with those behind a `>` as quotes.
fn lines(atoms: &[Atom]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut rest = Some(atoms);
    while let Some(all) = rest {
        // `>>>` quotes all that follows.
        if all.len() > 3 && all[..3].iter().all(|atom| atom.is('>')) {
            let lines = all[3..].split(|atom| atom.is('\n'));
            let mut quote = Vec::new();
            for (number, line) in lines.enumerate() {
                if number > 0 {
                    quote.push(Span::LineBreak);
                }
                styled(without_blank(line, number == 0), &mut quote);
            }
            begin_line(&mut spans);
            spans.push(Span::Quote(quote));
            break;
        }
        let end = all.iter().position(|atom| atom.is('\n'));
        let line = &all[..end.unwrap_or(all.len())];
        rest = end.map(|end| &all[end + 1..]);
        match line.split_first() {
            Some((mark, quoted)) if mark.is('>') && !quoted.is_empty() => {
                let quoted = without_blank(quoted, true);
                // Quoted lines that follow each other are one quote.
                if let [.., Span::Quote(quote), Span::LineBreak] = &mut spans[..] {
                    quote.push(Span::LineBreak);
                    styled(quoted, quote);
                    spans.pop();
                } else {
                    let mut quote = Vec::new();
                    styled(quoted, &mut quote);
                    begin_line(&mut spans);
                    spans.push(Span::Quote(quote));
                }
            }
            _ => styled(line, &mut spans),
        }
        if rest.is_some() {
            spans.push(Span::LineBreak);
        }
    }
    spans
}

/// A quote begins a line by itself.
fn begin_line(spans: &mut Vec<Span>) {
    if spans.last() == Some(&Span::LineBreak) && spans.len() > 1 {
        spans.pop();
    }
}

fn without_blank(line: &[Atom], is_first: bool) -> &[Atom] {
    match line.split_first() {
        Some((first, rest)) if is_first && first.is(' ') => rest,
        _ => line,
    }
}

const STYLES: [char; 3] = ['*', '_', '~'];

/// A line, or what stands within a style, with its styles.
fn styled(atoms: &[Atom], into: &mut Vec<Span>) {
    styled_within(atoms, [true; 3], into);
}

/// `open` has the styles that may begin.
fn styled_within(atoms: &[Atom], open: [bool; 3], into: &mut Vec<Span>) {
    let mut text = String::new();
    // Where each style is closed next, as far as it was looked for.
    let mut closes = [0; 3];
    let mut at = 0;
    while at < atoms.len() {
        let atom = &atoms[at];
        let style = STYLES
            .iter()
            .position(|mark| atom.is(*mark))
            .filter(|style| open[*style]);
        if let Some(style) = style.filter(|_| opens(atoms, at)) {
            let from = closes[style].max(at + 2);
            closes[style] = (from..atoms.len())
                .find(|end| shuts(atoms, *end, atom))
                .unwrap_or(atoms.len());
            if closes[style] < atoms.len() {
                let mut inner = Vec::new();
                let mut left = open;
                left[style] = false;
                styled_within(&atoms[at + 1..closes[style]], left, &mut inner);
                push_text(&mut text, into);
                into.push(match style {
                    0 => Span::Bold(inner),
                    1 => Span::Italic(inner),
                    _ => Span::Strike(inner),
                });
                at = closes[style] + 1;
                continue;
            }
        }
        match atom {
            Atom::Char(c) => text.push(*c),
            Atom::Known(span, _) => {
                push_text(&mut text, into);
                into.push(span.clone());
            }
        }
        at += 1;
    }
    push_text(&mut text, into);
}

fn push_text(text: &mut String, into: &mut Vec<Span>) {
    if !text.is_empty() {
        into.push(Span::Text(std::mem::take(text)));
    }
}

/// Whether a mark stands at the beginning of a word.
fn opens(atoms: &[Atom], at: usize) -> bool {
    let mark = &atoms[at];
    let before = at.checked_sub(1).map(|before| &atoms[before]);
    let is_free = before.is_none_or(|before| !before.is_letter() && before != mark);
    is_free && atoms.get(at + 1).is_some_and(|next| !next.is_blank() && next != mark)
}

/// Whether `mark` stands at the end of a word at `at`.
fn shuts(atoms: &[Atom], at: usize, mark: &Atom) -> bool {
    let before = &atoms[at - 1];
    let is_end = || atoms.get(at + 1).is_none_or(|next| !next.is_letter() && next != mark);
    atoms[at] == *mark && !before.is_blank() && before != mark && is_end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Span::{Bold, Code, Emoji, Italic, LineBreak, Pre, Quote, Special, Strike};
    use super::*;

    fn text(text: &str) -> Span {
        Span::Text(text.to_owned())
    }

    fn link(url: &str, label: &str) -> Span {
        let (url, label) = (url.to_owned(), label.to_owned());
        Span::Link { url, label }
    }

    fn bold(inner: &str) -> Span {
        Bold(vec![text(inner)])
    }

    #[test]
    fn marks_count_at_the_edges_of_words() {
        for (mrkdwn, expected) in [
            ("", vec![]),
            ("*a b*", vec![bold("a b")]),
            (
                "_a_ ~b~.",
                vec![Italic(vec![text("a")]), text(" "), Strike(vec![text("b")]), text(".")],
            ),
            ("*_a_ b*", vec![Bold(vec![Italic(vec![text("a")]), text(" b")])]),
            ("(*a*)", vec![text("("), bold("a"), text(")")]),
            ("a*b*", vec![text("a*b*")]),
            ("*a*b", vec![text("*a*b")]),
            ("* a*", vec![text("* a*")]),
            ("*a *", vec![text("*a *")]),
            ("**", vec![text("**")]),
            ("**a**", vec![text("**a**")]),
            ("*a\nb*", vec![text("*a"), LineBreak, text("b*")]),
            ("snake_case_name", vec![text("snake_case_name")]),
            ("*a* *b*", vec![bold("a"), text(" "), bold("b")]),
            ("*a*b c*", vec![bold("a*b c")]),
            ("*a", vec![text("*a")]),
            ("2 * 3 * 4", vec![text("2 * 3 * 4")]),
            ("*$42.50*", vec![bold("$42.50")]),
        ] {
            assert_eq!(spans(mrkdwn), expected, "{mrkdwn}");
        }
    }

    #[test]
    fn escapes_are_undone_and_make_no_markup() {
        for (mrkdwn, expected) in [
            ("A &amp; B &lt;C&gt;", vec![text("A & B <C>")]),
            ("&amp;lt;", vec![text("&lt;")]),
            ("&lt;!channel&gt;", vec![text("<!channel>")]),
            (
                "<https://x.example/?a=1&amp;b=2|A &amp; B>",
                vec![link("https://x.example/?a=1&b=2", "A & B")],
            ),
            ("<javascript:alert(1)|x>", vec![text("<javascript:alert(1)|x>")]),
            ("<script>alert(1)</script>", vec![text("<script>alert(1)</script>")]),
            ("a < b", vec![text("a < b")]),
        ] {
            assert_eq!(spans(mrkdwn), expected, "{mrkdwn}");
        }
    }

    #[test]
    fn links_mentions_emoji_and_dates_are_known() {
        let (id, none) = (|id: &str| id.to_owned(), None);
        for (mrkdwn, expected) in [
            (
                "<https://x.example>",
                vec![link("https://x.example", "https://x.example")],
            ),
            (
                "*<https://x.example|*a*>*",
                vec![Bold(vec![link("https://x.example", "*a*")])],
            ),
            (
                "see https://x.example/a_b_c_.",
                vec![
                    text("see "),
                    link("https://x.example/a_b_c", "https://x.example/a_b_c"),
                    text("_."),
                ],
            ),
            (
                "<@U1> <@U1|Ana>",
                vec![
                    Span::User {
                        id: id("U1"),
                        label: none.clone(),
                    },
                    text(" "),
                    Span::User {
                        id: id("U1"),
                        label: Some(id("Ana")),
                    },
                ],
            ),
            (
                "<#C1|sales>",
                vec![Span::Channel {
                    id: id("C1"),
                    label: Some(id("sales")),
                }],
            ),
            (
                "<!here> <!subteam^S1>",
                vec![
                    Special(id("here")),
                    text(" "),
                    Span::Group {
                        id: id("S1"),
                        label: none,
                    },
                ],
            ),
            (
                "<!date^1392734382^{date_num}|18 Feb>",
                vec![Span::Date {
                    at: 1_392_734_382,
                    format: id("{date_num}"),
                    label: id("18 Feb"),
                }],
            ),
            (
                ":car: :+1::skin-tone-2: at 12:30:45 a:b:",
                vec![Emoji(id("car")), text(" "), Emoji(id("+1")), text(" at 12:30:45 a:b:")],
            ),
            ("<!unknown>", vec![text("<!unknown>")]),
        ] {
            assert_eq!(spans(mrkdwn), expected, "{mrkdwn}");
        }
    }

    #[test]
    fn code_and_quotes_are_known() {
        let code = |text: &str| Code(text.to_owned());
        for (mrkdwn, expected) in [
            ("`*a*` `b", vec![code("*a*"), text(" `b")]),
            ("*`a`*", vec![Bold(vec![code("a")])]),
            ("`<https://x.example|x> &amp;`", vec![code("x &")]),
            ("``", vec![text("``")]),
            ("```\n*a*\nb\n```\nc", vec![Pre("*a*\nb".to_owned()), text("c")]),
            ("``` a", vec![text("``` a")]),
            (
                "&gt; a\n> *b*\nc",
                vec![Quote(vec![text("a"), LineBreak, bold("b")]), LineBreak, text("c")],
            ),
            ("a\n> b", vec![text("a"), Quote(vec![text("b")])]),
            (
                ">>> a\nb\n",
                vec![Quote(vec![text("a"), LineBreak, text("b"), LineBreak])],
            ),
            ("a\r\nb", vec![text("a"), LineBreak, text("b")]),
        ] {
            assert_eq!(spans(mrkdwn), expected, "{mrkdwn}");
        }
    }

    #[test]
    fn much_text_takes_little_time() {
        for part in [
            "*a ",
            "_",
            "*",
            "`",
            "```",
            "`a",
            "<",
            "&gt;\n",
            "> \n",
            ":a",
            "https://",
            "*a _b ~c ",
            "```a",
        ] {
            let long = part.repeat(40_000 / part.len());
            assert!(!spans(&long).is_empty(), "{part}");
        }
    }

    fn depth(spans: &[Span]) -> usize {
        let inner = |span: &Span| match span {
            Bold(inner) | Italic(inner) | Strike(inner) | Quote(inner) => depth(inner),
            _ => 0,
        };
        spans.iter().map(inner).max().map_or(0, |deepest| deepest + 1)
    }

    proptest! {
        #[test]
        fn nothing_of_a_text_is_lost(
            mrkdwn in "(\\*|_|~|`|```|>|&gt;|&amp;|<https://x\\.example\\|y>|<!here>|<@U1>|:car:|<|a|é| |\n){0,24}",
        ) {
            let all = spans(&mrkdwn);
            prop_assert!(depth(&all) <= 5);
            let kept = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            let mut read = super::super::Bounded::new(10_000);
            super::super::plain(&mrkdwn.replace("<https://x.example|y>", "y"), |_| None, &mut read);
            prop_assert_eq!(kept(&plain(&all)), kept(read.as_str()), "{:?}", all);
        }
    }
}
