//! Rust sources as the guards see them: the files that the compiler takes, without their tests, and the paths that
//! they name.
//!
//! A file is read as tokens, so that strings and comments are no code, and what stands in a macro is.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

use super::text;

/// A source file without its comments and test items.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// From the repository's folder.
    pub(super) path: String,
    /// Only tests have it.
    pub(super) is_test: bool,
    /// The module at the crate's top that the file belongs to.
    pub(super) module: String,
    /// The file's own module, from the root.
    pub(super) root: String,
    pub(super) lines: usize,
    /// Every path of the code from its root: `std::fs::read`, `crate::rules::Rule`. Fields and methods stand alone.
    pub(super) paths: BTreeSet<String>,
    /// What the file hands on under a name of its own, `pub use`.
    pub(super) handed_on: BTreeSet<String>,
    /// The code's tokens, a blank between each two.
    pub(super) code: String,
    /// Modules that are declared here and have files of their own; whether they are tests.
    children: Vec<(Vec<String>, bool)>,
}

impl Source {
    /// Reads a file of the module `crate::a::b`, given as `["a", "b"]`.
    pub(super) fn read(path: &str, inside: &[&str], text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut reader = Reader::default();
        let own = reader.without_tests(path, inside, tokens);
        // Twice, because a name may be given before what it stands for is.
        reader.imports(inside, &own);
        reader.imports(inside, &own);
        reader.paths(inside, &own);
        let stem = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        Self {
            path: path.to_owned(),
            is_test: false,
            module: inside.first().map_or(stem, |first| first).to_owned(),
            root: [&["crate"], inside].concat().join("::"),
            lines: text.lines().count() - reader.test_lines,
            paths: reader.paths,
            handed_on: reader.handed_on,
            code: flat(&own),
            children: reader.children,
        }
    }

    /// Whether a path has `words` in it, one name or several: `Client::new` stands in `reqwest::Client::new`.
    pub(super) fn names(&self, words: &str) -> bool {
        self.paths.iter().any(|path| has(path, words))
    }

    /// The imports that don't say what they import, but for those from the file itself.
    pub(super) fn globs(&self) -> impl Iterator<Item = &str> {
        let globs = self.paths.iter().filter_map(|path| path.strip_suffix("::*"));
        globs.filter(|from| *from != self.root)
    }

    /// The modules at the crate's top that the code names.
    pub(super) fn modules(&self) -> BTreeSet<&str> {
        let inside = self.paths.iter().filter_map(|path| path.strip_prefix("crate::"));
        inside.filter_map(|path| path.split("::").next()).collect()
    }
}

/// The files of the crate, as the compiler comes to them from `lib.rs` and `main.rs`; those of tests as well.
pub(super) fn compiled() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut waiting = vec![("src/lib.rs".to_owned(), Vec::new(), false)];
    waiting.push(("src/main.rs".to_owned(), Vec::new(), false));
    while let Some((path, inside, is_test)) = waiting.pop() {
        let source = Source::read(&path, &as_strs(&inside), &text(&path));
        for (child, child_is_test) in &source.children {
            let file = format!("src/{}.rs", child.join("/"));
            waiting.push((file, child.clone(), is_test || *child_is_test));
        }
        sources.push(Source { is_test, ..source });
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Whether `path` has `words` in it, name by name.
pub(super) fn has(path: &str, words: &str) -> bool {
    let (path, words): (Vec<&str>, Vec<&str>) = (path.split("::").collect(), words.split("::").collect());
    path.windows(words.len()).any(|part| part == words)
}

/// Tokens as text, a blank between each two. What stands in a literal is left out.
pub(super) fn flat(tokens: &[TokenTree]) -> String {
    let mut words = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                words.extend([open.to_owned(), flat(&inner(group)), close.to_owned()]);
            }
            TokenTree::Literal(_) => words.push("_".to_owned()),
            other => words.push(other.to_string()),
        }
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// The tokens of a piece of code, as [`flat`] gives them.
pub(super) fn code(text: &str) -> String {
    let tokens: TokenStream = text.parse().expect("a piece of code");
    flat(&tokens.into_iter().collect::<Vec<_>>())
}

fn inner(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(found)) if found.as_char() == wanted)
}

fn word(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    }
}

fn group(token: Option<&TokenTree>, wanted: Delimiter) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(found)) if found.delimiter() == wanted => Some(found),
        _ => None,
    }
}

/// Whether `::` stands at `at`.
fn is_step(tokens: &[TokenTree], at: usize) -> bool {
    matches!(&tokens.get(at), Some(TokenTree::Punct(first)) if first.as_char() == ':' && first.spacing() == Spacing::Joint)
        && is_punct(tokens.get(at + 1), ':')
}

#[derive(Default)]
struct Reader {
    test_lines: usize,
    children: Vec<(Vec<String>, bool)>,
    /// What names stand for, one in several functions perhaps for several things.
    imported: BTreeMap<String, BTreeSet<String>>,
    paths: BTreeSet<String>,
    handed_on: BTreeSet<String>,
}

impl Reader {
    /// The tokens without items under `#[cfg(test)]`. Modules that are declared on the way are noted.
    fn without_tests(&mut self, path: &str, inside: &[&str], tokens: TokenStream) -> Vec<TokenTree> {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let (mut own, mut at) = (Vec::new(), 0);
        while at < tokens.len() {
            let attribute = group(tokens.get(at + 1), Delimiter::Bracket).filter(|_| is_punct(tokens.get(at), '#'));
            if attribute.is_some_and(|attribute| flat(&inner(attribute)) == "cfg ( test )") {
                let end = end_of_item(path, &tokens, at);
                self.declared(inside, &tokens[at..end], true);
                let (first, last) = (tokens[at].span().start(), tokens[end - 1].span().end());
                self.test_lines += last.line - first.line + 1;
                at = end;
                continue;
            }
            self.declared(inside, &tokens[at..(at + 3).min(tokens.len())], false);
            let token = tokens[at].clone();
            at += 1;
            own.push(match token {
                TokenTree::Group(found) => {
                    let deeper = deeper(inside, &tokens, at - 1);
                    let stream = self.without_tests(path, &as_strs(&deeper), found.stream());
                    let mut cut = Group::new(found.delimiter(), stream.into_iter().collect());
                    cut.set_span(found.span());
                    TokenTree::Group(cut)
                }
                token => token,
            });
        }
        own
    }

    /// Notes `mod NAME;`, where `item` is one.
    fn declared(&mut self, inside: &[&str], item: &[TokenTree], is_test: bool) {
        let [.., keyword, name, end] = item else { return };
        if word(Some(keyword)).as_deref() == Some("mod") && is_punct(Some(end), ';') {
            let names = inside.iter().map(|name| (*name).to_owned()).chain(word(Some(name)));
            self.children.push((names.collect(), is_test));
        }
    }

    /// Notes what `use` gives a name to, in functions and macros as well.
    fn imports(&mut self, inside: &[&str], tokens: &[TokenTree]) {
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(found) = token {
                let deeper = deeper(inside, tokens, at);
                self.imports(&as_strs(&deeper), &inner(found));
            }
            // `use<'a>` in a type isn't one.
            if word(Some(token)).as_deref() == Some("use") && !is_punct(tokens.get(at + 1), '<') {
                let rest = &tokens[at + 1..];
                let end = rest
                    .iter()
                    .position(|token| is_punct(Some(token), ';'))
                    .unwrap_or(rest.len());
                let mut leaves = Vec::new();
                leaves_of("", &rest[..end], &mut leaves);
                let is_public = match tokens[..at].last() {
                    Some(TokenTree::Group(to)) => at >= 2 && flat(&inner(to)) != "self" && is_pub(tokens.get(at - 2)),
                    before => is_pub(before),
                };
                for (path, name) in leaves {
                    let path = self.rooted(inside, &path);
                    if is_public {
                        self.handed_on.extend(path.iter().cloned());
                    }
                    self.paths.extend(path.iter().cloned());
                    self.imported.entry(name).or_default().extend(path);
                }
            }
        }
    }

    /// Notes the paths of all code.
    fn paths(&mut self, inside: &[&str], tokens: &[TokenTree]) {
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(found) => {
                    let deeper = deeper(inside, tokens, at);
                    self.paths(&as_strs(&deeper), &inner(found));
                    at += 1;
                }
                // The name of a module is no use of it.
                TokenTree::Ident(keyword) if keyword == "mod" => at += 2,
                TokenTree::Ident(keyword) if keyword == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    let end = tokens[at..].iter().position(|token| is_punct(Some(token), ';'));
                    at = end.map_or(tokens.len(), |end| at + end);
                }
                TokenTree::Ident(first) => {
                    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
                    let (is_member, is_lifetime) = (is_punct(before, '.'), is_punct(before, '\''));
                    let mut path = first.to_string();
                    at += 1;
                    while is_step(tokens, at)
                        && let Some(name) = word(tokens.get(at + 2))
                    {
                        path.push_str("::");
                        path.push_str(&name);
                        at += 3;
                    }
                    if is_member {
                        self.paths.insert(path);
                    } else if !is_lifetime {
                        self.paths.extend(self.rooted(inside, &path));
                    }
                }
                _ => at += 1,
            }
        }
    }

    /// The path from the crate's root or another crate's.
    fn rooted(&self, inside: &[&str], path: &str) -> BTreeSet<String> {
        let (first, rest) = path
            .split_once("::")
            .map_or((path, None), |(first, rest)| (first, Some(rest)));
        let with_rest = |start: &str| rest.map_or_else(|| start.to_owned(), |rest| format!("{start}::{rest}"));
        let here = |inside: &[&str]| [&["crate"], inside].concat().join("::");
        match first {
            "crate" => BTreeSet::from([path.to_owned()]),
            "leadlane" => BTreeSet::from([with_rest("crate")]),
            "self" => BTreeSet::from([with_rest(&here(inside))]),
            "super" => {
                let above = &inside[..inside.len().saturating_sub(1)];
                match rest {
                    Some(rest) if rest == "super" || rest.starts_with("super::") => self.rooted(above, rest),
                    _ => BTreeSet::from([with_rest(&here(above))]),
                }
            }
            _ => {
                let is_child = |(names, _): &(Vec<String>, bool)| names.last().is_some_and(|name| name == first);
                if let Some(imported) = self.imported.get(first) {
                    imported.iter().map(|start| with_rest(start)).collect()
                } else if let Some((child, _)) = self.children.iter().find(|child| is_child(child)) {
                    BTreeSet::from([with_rest(&here(&as_strs(child)))])
                } else {
                    BTreeSet::from([path.to_owned()])
                }
            }
        }
    }
}

fn is_pub(token: Option<&TokenTree>) -> bool {
    word(token).as_deref() == Some("pub")
}

fn as_strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The module of the group at `at`: one deeper behind `mod NAME`.
fn deeper(inside: &[&str], tokens: &[TokenTree], at: usize) -> Vec<String> {
    let keyword = at.checked_sub(2).and_then(|keyword| word(tokens.get(keyword)));
    let name = word(at.checked_sub(1).and_then(|name| tokens.get(name)));
    let name = name.filter(|_| keyword.as_deref() == Some("mod"));
    inside.iter().map(|name| (*name).to_owned()).chain(name).collect()
}

/// Where an item ends that begins at `at` with an attribute.
fn end_of_item(path: &str, tokens: &[TokenTree], mut at: usize) -> usize {
    while is_punct(tokens.get(at), '#') {
        at += 2;
    }
    let words = tokens[at..].iter().map_while(|token| match token {
        TokenTree::Ident(word) => Some(word.to_string()),
        // The brackets of `pub(crate)`.
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => Some(String::new()),
        _ => None,
    });
    let words: Vec<String> = words.collect();
    let has = |word: &str| words.iter().any(|found| found == word);
    let ends_in_braces = ["fn", "mod", "impl", "struct", "enum", "trait", "macro_rules"]
        .iter()
        .any(|word| has(word));
    let is_item = ends_in_braces || ["use", "const", "static", "type"].iter().any(|word| has(word));
    assert!(is_item, "{path}: #[cfg(test)] stands before no item: {words:?}");
    let ends = |token: &TokenTree| {
        is_punct(Some(token), ';') || (ends_in_braces && group(Some(token), Delimiter::Brace).is_some())
    };
    let end = tokens[at..].iter().position(ends).expect("an item ends");
    at + end + 1
}

/// The leaves of the tree behind `use`, each with the name that it gets here.
fn leaves_of(start: &str, tree: &[TokenTree], leaves: &mut Vec<(String, String)>) {
    for branch in tree.split(|token| is_punct(Some(token), ',')) {
        let (mut path, mut name, mut at) = (start.to_owned(), None, 0);
        while at < branch.len() {
            match &branch[at] {
                TokenTree::Ident(word) if word == "as" => {
                    name = branch.get(at + 1).map(ToString::to_string);
                    at += 1;
                }
                // `a::{self}` is `a`.
                TokenTree::Ident(word) if word == "self" && !start.is_empty() => {}
                TokenTree::Group(group) => {
                    leaves_of(&path, &inner(group), leaves);
                    path.clear();
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) if !is_punct(branch.get(at), ':') => {
                    if !path.is_empty() {
                        path.push_str("::");
                    }
                    path.push_str(&branch[at].to_string());
                }
                _ => {}
            }
            at += 1;
        }
        if !path.is_empty() {
            let last = path.rsplit("::").next().unwrap_or_default().to_owned();
            leaves.push((path, name.unwrap_or(last)));
        }
    }
}
