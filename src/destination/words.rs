//! A provider's words, made safe to keep: of bounded length, on one line, without a secret in any of its forms, and
//! without the lead's values from the request.
//!
//! A provider may repeat what it was sent, and its words go into logs, outcomes and dead letters.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use crate::secrets::Secret;
use crate::text;

/// Words are cut to so many characters.
const WORDS_MAX: usize = 500;
/// The most bytes of a provider's answer that are read.
const READ_MAX: usize = 8 * 1024;
/// A shorter value is a word like any other, in characters.
const LEAST: usize = 4;
/// The most values of a request that are looked for.
const VALUES_MAX: usize = 50_000;
/// So much of the words is left before they are looked at for a lead's values, in characters: these are many.
const NEAR_MAX: usize = 4 * WORDS_MAX;
const MASK: &str = "***";
/// The text in place of words that have a secret in a form which can't be cut out.
const REPEATS: &str = "the provider's words repeat a secret, and are left out";

/// Values of a request that must not stand in the provider's words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hidden<'h> {
    pub(super) secrets: &'h [Secret],
    /// The request's body, JSON; empty where it says nothing of a lead.
    pub(super) body: &'h str,
}

impl Hidden<'_> {
    /// The words as they are kept.
    pub(super) fn words(&self, said: &str) -> String {
        let secrets: Vec<&str> = (self.secrets.iter().map(Secret::reveal))
            .filter(|secret| secret.chars().count() >= LEAST)
            .collect();
        let longest = secrets.iter().map(|secret| secret.len()).max().unwrap_or_default();
        // The longest form of a secret writes each byte as three or more.
        let (mut words, is_cut) = one_line(said, READ_MAX + 6 * longest);
        for secret in &secrets {
            for form in forms(secret) {
                words = replaced(&words, &form, Edges::Any);
            }
        }
        if secrets
            .iter()
            .any(|secret| views(&words).any(|view| has(&view, secret)))
        {
            return REPEATS.to_owned();
        }
        if is_cut {
            // The end may be the beginning of a secret.
            let end = words.len().saturating_sub(6 * longest);
            words.truncate(text::within(&words, end).len());
        }
        let near = words.chars().take(NEAR_MAX).collect();
        self.without_values(near).chars().take(WORDS_MAX).collect()
    }

    /// Without what the body says of a lead, nor what reads as an e-mail address or a phone number.
    fn without_values(&self, mut words: String) -> String {
        if !words.is_empty() && !self.body.is_empty() {
            let values = values(self.body);
            let masked = |text: &str| {
                let mut lower = text.to_ascii_lowercase();
                let mut text = text.to_owned();
                for value in &values {
                    if lower.contains(value) {
                        text = replaced(&text, value, Edges::OfWords);
                        lower = text.to_ascii_lowercase();
                    }
                }
                text
            };
            words = masked(&words);
            // A value that is written in another way is looked for where it reads as itself.
            let other = views(&words)
                .map(|view| (masked(&view), view))
                .find(|(masked, view)| masked != view);
            words = other.map_or(words, |(masked, _)| masked);
        }
        without_phones(&without_addresses(&words))
    }
}

/// An id that a provider gives, where it is one: short, and of letters, digits and points.
pub(super) fn id(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    ((1..=64).contains(&text.len()) && text.bytes().all(is_plain)).then(|| text.to_owned())
}

/// Words in one line, up to `max` bytes; whether they went on.
fn one_line(said: &str, max: usize) -> (String, bool) {
    let mut line = String::new();
    for word in said.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        let left = max.saturating_sub(line.len());
        if word.len() > left {
            line.push_str(text::within(word, left));
            return (line, true);
        }
        line.push_str(word);
    }
    (line, false)
}

/// A secret as it may stand in words: as it is, percent-encoded, in a JSON text, in base64 wherever it begins.
fn forms(secret: &str) -> Vec<String> {
    let json = Value::from(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    let mut forms = vec![
        secret.to_owned(),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        json.replace('/', "\\/"),
        json,
    ];
    for skipped in 0..3 {
        // Three bytes are four characters. Those that hold a neighbour's bits can't be known.
        let padded = [&[0; 2][..skipped], secret.as_bytes()].concat();
        let whole = padded.len() * 8 / 6;
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let form = &encoded[(skipped * 8).div_ceil(6)..whole];
            if form.len() >= LEAST {
                forms.push(form.to_owned());
            }
        }
    }
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

/// The words as they read once percent-encoding and JSON's escapes are undone, in any order.
fn views(words: &str) -> impl Iterator<Item = String> + use<> {
    let percent = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (decoded, unescaped) = (percent(words), unescaped(words));
    let both = [percent(&unescaped), self::unescaped(&decoded), percent(&decoded)];
    [decoded, unescaped].into_iter().chain(both)
}

/// JSON's escapes undone, as far as they are some.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let code = behind.strip_prefix('u').and_then(|digits| digits.get(..4));
        let code = code.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?));
        (rest, _) = match (code, behind.chars().next()) {
            (Some(c), _) => (&behind[5..], plain.push(c)),
            (None, Some(c)) => (&behind[c.len_utf8()..], plain.push(c)),
            (None, None) => ("", ()),
        };
    }
    plain + rest
}

/// Whether a text has another in it, ASCII letters of either case.
fn has(text: &str, part: &str) -> bool {
    find(&text.to_ascii_lowercase(), &part.to_ascii_lowercase(), 0).is_some()
}

fn find(text: &str, part: &str, from: usize) -> Option<usize> {
    Some(from + text.get(from..)?.find(part)?)
}

/// Where a text may stand to be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edges {
    Any,
    /// Not as a part of a longer word.
    OfWords,
}

/// `words` with a mask in place of each `part`, ASCII letters of either case.
fn replaced(words: &str, part: &str, edges: Edges) -> String {
    let (lower, part) = (words.to_ascii_lowercase(), part.to_ascii_lowercase());
    let (mut out, mut copied, mut from) = (String::new(), 0, 0);
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(at) = find(&lower, &part, from) {
        let end = at + part.len();
        let joined_before = lower[..at].ends_with(in_word) && part.starts_with(in_word);
        let joined_behind = lower[end..].starts_with(in_word) && part.ends_with(in_word);
        if edges == Edges::OfWords && (joined_before || joined_behind) {
            from = at + part.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        out.push_str(&words[copied..at]);
        out.push_str(MASK);
        (copied, from) = (end, end);
    }
    if copied == 0 {
        return words.to_owned();
    }
    out + &words[copied..]
}

/// The lead's values of a request in small letters, the longest first: each value, and of longer texts the words that can be a name, a
/// number or an address. What names the request's kind or its receiver says nothing of a lead.
fn values(body: &str) -> Vec<String> {
    let mut values = Vec::new();
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
    let mut waiting = vec![&body];
    while let Some(value) = waiting.pop() {
        if values.len() >= VALUES_MAX {
            break;
        }
        match value {
            Value::Object(members) => {
                let named = ["type", "channel", "thread_ts", "evtName", "ts"];
                let of_lead = members.iter().filter(|(name, _)| !named.contains(&name.as_str()));
                waiting.extend(of_lead.map(|(_, value)| value));
            }
            Value::Array(elements) => waiting.extend(elements),
            Value::String(text) => {
                values.push(Cow::Borrowed(text.as_str()));
                let ends = |c: char| !(c.is_alphanumeric() || matches!(c, '@' | '.' | '+' | '-' | '_' | '\''));
                let parts = text.split(ends).map(|part| part.trim_matches(['.', '-', '_', '\'']));
                values.extend(
                    parts
                        .filter(|part| may_be_told_of(part))
                        .take(VALUES_MAX)
                        .map(Cow::Borrowed),
                );
            }
            Value::Number(number) => values.push(number.to_string().into()),
            Value::Bool(_) | Value::Null => {}
        }
    }
    let mut values: Vec<String> = values.into_iter().map(|value| value.to_ascii_lowercase()).collect();
    values.retain(|value| value.chars().count() >= LEAST && value.len() <= READ_MAX);
    values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    values.dedup();
    values
}

/// Whether a word of a text may be a lead's: a name, a number, an address.
fn may_be_told_of(word: &str) -> bool {
    let is_telling = |c: char| c.is_numeric() || c == '@' || !c.is_ascii();
    word.chars().any(is_telling) || word.starts_with(char::is_uppercase)
}

/// E-mail addresses masked, percent-encoded ones too.
fn without_addresses(words: &str) -> String {
    let of_address = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '@' | '\'');
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find(of_address) {
        let (before, behind) = rest.split_at(at);
        let (run, left) = behind.split_at(behind.find(|c| !of_address(c)).unwrap_or(behind.len()));
        let sides = run.split_once('@').or_else(|| run.split_once("%40"));
        let is_one = sides.is_some_and(|(name, host)| !name.is_empty() && host.len() > 2);
        out.push_str(before);
        out.push_str(if is_one { MASK } else { run });
        rest = left;
    }
    out + rest
}

/// Runs of seven digits or more masked, whatever stands between the digits of a phone number.
fn without_phones(words: &str) -> String {
    let between = |c: char| matches!(c, ' ' | '(' | ')' | '.' | '-' | '/');
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        let run = &behind[..behind
            .find(|c: char| !c.is_ascii_digit() && !between(c))
            .unwrap_or(behind.len())];
        let run = run.trim_end_matches(between);
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        // A part of a code is no number of anybody's.
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        let joined = out.ends_with(in_word) || behind[run.len()..].starts_with(in_word);
        out.push_str(if digits >= 7 && !joined { MASK } else { run });
        rest = &behind[run.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "xoxb-12/hunter2+\"Ü";

    fn masked(words: &str) -> String {
        let secrets = [Secret::new(TOKEN), Secret::new("abc")];
        Hidden {
            secrets: &secrets,
            body: "",
        }
        .words(words)
    }

    #[test]
    fn a_secret_is_masked_in_every_form() {
        let json = Value::from(TOKEN).to_string();
        let unicode: String = TOKEN.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let twice = utf8_percent_encode(
            &utf8_percent_encode(TOKEN, NON_ALPHANUMERIC).to_string(),
            NON_ALPHANUMERIC,
        )
        .to_string();
        let bytewise: String = TOKEN.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let basic = |user: &str| STANDARD_NO_PAD.encode(format!("{user}:{TOKEN}:more"));
        for form in [
            TOKEN.to_owned(),
            TOKEN.to_ascii_uppercase(),
            json.clone(),
            json.replace('/', "\\/"),
            unicode,
            utf8_percent_encode(TOKEN, NON_ALPHANUMERIC).to_string(),
            utf8_percent_encode(TOKEN, NON_ALPHANUMERIC).to_string().to_lowercase(),
            bytewise,
            twice,
            STANDARD_NO_PAD.encode(TOKEN),
            URL_SAFE_NO_PAD.encode(TOKEN),
            basic("a"),
            basic("ab"),
            basic("abc"),
        ] {
            let words = masked(&format!("no such token: {form}, try again"));
            let decoded = percent_decode_str(&unescaped(&words))
                .decode_utf8_lossy()
                .to_lowercase();
            assert!(
                !decoded.contains("hunter2") && !words.contains("aHVudGVyM"),
                "{form}: {words}"
            );
            assert!(words.contains(MASK) || words == REPEATS, "{form}: {words}");
        }
        assert_eq!(
            masked("abc of nothing"),
            "abc of nothing",
            "what is so short is no secret"
        );
    }

    #[test]
    fn a_secret_at_the_end_of_what_is_read_is_not_halved() {
        for fill in 0..TOKEN.len() {
            let said = format!("{}{TOKEN}", " x".repeat((READ_MAX + 6 * TOKEN.len()) / 2 - fill / 2)) + &" y".repeat(9);
            assert!(!masked(&said).contains("xoxb"));
            let said = format!("{}{TOKEN}", TOKEN.repeat(READ_MAX / TOKEN.len() + fill));
            assert!(!masked(&said).contains("xoxb"));
        }
    }

    #[test]
    fn what_the_request_said_of_a_lead_is_masked() {
        let slack = r#"{"channel":"C0SALES","text":"New lead <https://x.example/l/84512377|Ana Díaz> for $42.50 in Austin, call +1 512 555 0123"}"#;
        let clevertap = r#"{"type":"profile","identity":"ana@example.com","profileData":{"Name":"O'Neil, Ánabel","Zip":78701,"City":"austin","ok":true}}"#;
        let of = |body, said: &str| Hidden { secrets: &[], body }.words(said);
        assert_eq!(
            of(slack, "invalid_blocks; Díaz of Austin: 84512377"),
            "invalid_blocks; *** of ***: ***"
        );
        assert_eq!(of(slack, "channel_not_found"), "channel_not_found");
        assert_eq!(of(slack, "no lead in C0SALES for call"), "no lead in C0SALES for call");
        assert_eq!(
            of(
                clevertap,
                "bad identity ANA@example.com, o'neil, Ánabel of AUSTIN 78701"
            ),
            "bad identity ***, *** of *** ***"
        );
        assert_eq!(
            of(clevertap, "\\u00c1na is bad"),
            "\\u00c1na is bad",
            "what tells nothing stays as it is"
        );
        assert_eq!(of(clevertap, "name O'Neil, \\u00c1nabel"), "name ***, ***");
        assert_eq!(of(clevertap, "profile refused"), "profile refused");
    }

    #[test]
    fn addresses_and_phone_numbers_are_masked_wherever_they_are_from() {
        let of = |said: &str| Hidden::default().words(said);
        assert_eq!(
            of("to <bo.b+x@mail.example> and bo%40mail.example!"),
            "to <***> and ***!"
        );
        assert_eq!(of("call +1 (512) 555-0123 or 5125550123."), "call +*** or ***.");
        assert_eq!(
            of("at most 4000 characters, error 512, C0123456789, @here"),
            "at most 4000 characters, error 512, C0123456789, @here"
        );
    }

    #[test]
    fn words_are_one_line_and_bounded() {
        let long = "ä\n".repeat(1_000_000);
        let words = Hidden::default().words(&long);
        assert_eq!(words.chars().count(), WORDS_MAX);
        assert!(words.starts_with("ä ä ä"));
        assert_eq!(
            (id("1503435956.000247"), id(""), id(&"1".repeat(65)), id("a b")),
            (Some("1503435956.000247".to_owned()), None, None, None)
        );
    }

    proptest! {
        #[test]
        fn no_words_break_it(said in "\\PC{0,80}", body in "\\PC{0,40}", secret in "\\PC{4,12}") {
            let secrets = [Secret::new(secret.clone())];
            let hidden = Hidden { secrets: &secrets, body: &body };
            let words = hidden.words(&format!("{said} {secret} {said}"));
            prop_assert!(words == REPEATS || !has(&words, &secret) || MASK.contains(&secret), "{}", words);
        }
    }
}
