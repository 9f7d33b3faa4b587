//! Digits: those that can be called, and those that are something else.

use super::names::Field;
use super::pieces::Piece;
use super::{Found, MASK};

/// A number that can be called from anywhere has at most so many digits.
const CALLED_MAX: usize = 15;
const GROUPS_MAX: usize = 10;

/// The value of a digit of any script that people write phone numbers in.
pub(super) fn value(c: char) -> Option<u32> {
    let zero = match c {
        '0'..='9' => '0',
        '０'..='９' => '０',
        '\u{660}'..='\u{669}' => '\u{660}',
        '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
        '\u{966}'..='\u{96f}' => '\u{966}',
        _ => return None,
    };
    Some(u32::from(c) - u32::from(zero))
}

/// The digits of a JSON number that is whole and not negative, however it is written.
pub(super) fn of_number(written: &str) -> Option<String> {
    let (mantissa, exponent) = match written.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (written, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) || exponent.abs() > 40 || mantissa.len() > 60 {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let point = usize::try_from(point).ok()?;
    if digits.bytes().skip(point).any(|digit| digit != b'0') {
        return None;
    }
    let whole: String = digits.chars().chain(std::iter::repeat('0')).take(point).collect();
    Some(whole.trim_start_matches('0').to_owned())
}

/// Digits in a row as they are shown, where they read as a phone number under `field`.
pub(super) fn masked_run(field: Field, digits: &str) -> Option<String> {
    let least = match field {
        Field::Free if digits.len() <= CALLED_MAX => 10,
        Field::Phone => 5,
        Field::Free | Field::Figure => return None,
    };
    (digits.len() >= least).then(|| masked(digits))
}

/// A mask with the last digits behind it.
fn masked(digits: &str) -> String {
    let kept = if digits.chars().count() >= 10 { 4 } else { 2 };
    let last: Vec<char> = digits.chars().rev().take(kept).collect();
    MASK.chars().chain(last.into_iter().rev()).collect()
}

/// How many pieces from `at` on are a UUID, a date, a time of day, an IP address or a decimal fraction; 0 for none.
pub(super) fn figure(pieces: &[Piece], at: usize) -> usize {
    if !begins(pieces, at) {
        return 0;
    }
    let rest = &pieces[at..];
    uuid(rest)
        .or_else(|| date(rest))
        .or_else(|| time(rest))
        .or_else(|| address_of_host(rest))
        .or_else(|| fraction(rest))
        .unwrap_or(0)
}

/// Whether no word, number or code goes over from before `at`.
fn begins(pieces: &[Piece], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map_or(' ', |at| pieces[at].c);
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    match before(1) {
        '-' => !in_word(before(2)),
        '.' | ':' | ',' => value(before(2)).is_none(),
        c => !in_word(c),
    }
}

/// How many digits stand at the beginning, and what they say.
fn number(pieces: &[Piece]) -> (usize, u32) {
    let digits = pieces.iter().map_while(|piece| value(piece.c)).take(40);
    digits.fold((0, 0), |(len, sum), digit| {
        (len + 1, sum.saturating_mul(10).saturating_add(digit))
    })
}

fn is(pieces: &[Piece], at: usize, marks: &[char]) -> bool {
    pieces.get(at).is_some_and(|piece| marks.contains(&piece.c))
}

fn is_digit(pieces: &[Piece], at: usize) -> bool {
    pieces.get(at).is_some_and(|piece| value(piece.c).is_some())
}

fn uuid(pieces: &[Piece]) -> Option<usize> {
    let mut at = 0;
    for (group, len) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 {
            is(pieces, at, &['-']).then_some(())?;
            at += 1;
        }
        let part = pieces.get(at..at + len)?;
        part.iter().all(|piece| piece.c.is_ascii_hexdigit()).then_some(())?;
        at += len;
    }
    Some(at)
}

/// `2026-03-05`, `5.3.2026`, `03/05/2026`.
fn date(pieces: &[Piece]) -> Option<usize> {
    let marks = ['-', '/', '.'];
    let (first_len, first) = number(pieces);
    is(pieces, first_len, &marks).then_some(())?;
    let second_at = first_len + 1;
    let (second_len, second) = number(&pieces[second_at..]);
    let third_at = second_at + second_len + 1;
    is(pieces, third_at - 1, &[pieces[first_len].c]).then_some(())?;
    let (third_len, third) = number(&pieces[third_at..]);
    let is_day = |len, day| (1..=2).contains(&len) && (1..=31).contains(&day);
    let is_month = |len, month| is_day(len, month) && month <= 12;
    let is_year = |len, year| len == 4 && (1900..2200).contains(&year);
    let by_year = is_year(first_len, first) && is_month(second_len, second) && is_day(third_len, third);
    let by_day = is_day(first_len, first)
        && is_day(second_len, second)
        && (first <= 12 || second <= 12)
        && is_year(third_len, third);
    (by_year || by_day).then_some(third_at + third_len)
}

/// `15:16`, `15:16:00`.
fn time(pieces: &[Piece]) -> Option<usize> {
    let (hours_len, hours) = number(pieces);
    let (minutes_len, minutes) = number(pieces.get(hours_len + 1..)?);
    let is_time = (1..=2).contains(&hours_len) && hours < 25 && minutes_len == 2 && minutes < 60;
    if !is_time || !is(pieces, hours_len, &[':']) {
        return None;
    }
    let end = hours_len + 3;
    let (seconds_len, _) = number(pieces.get(end + 1..).unwrap_or_default());
    let has_seconds = is(pieces, end, &[':']) && seconds_len == 2;
    Some(if has_seconds { end + 3 } else { end })
}

/// `192.168.100.200`
fn address_of_host(pieces: &[Piece]) -> Option<usize> {
    let mut at = 0;
    for group in 0..4 {
        if group > 0 {
            is(pieces, at, &['.']).then_some(())?;
            at += 1;
        }
        let (len, number) = number(pieces.get(at..)?);
        ((1..=3).contains(&len) && number <= 255).then_some(())?;
        at += len;
    }
    (!is(pieces, at, &['.']) || !is_digit(pieces, at + 1)).then_some(at)
}

/// `42.50` and `1503435956.000247`, but neither `512.555.0123` nor `5125550123.0`, which is how sheets write a number.
fn fraction(pieces: &[Piece]) -> Option<usize> {
    let (whole_len, _) = number(pieces);
    if whole_len == 0 || !is(pieces, whole_len, &['.']) {
        return None;
    }
    let (len, fraction) = number(&pieces[whole_len + 1..]);
    let end = whole_len + 1 + len;
    let goes_on = is(pieces, end, &['.', '-']) && is_digit(pieces, end + 1);
    let is_called = whole_len >= 10 && fraction == 0;
    (len > 0 && !goes_on && !is_called).then_some(end)
}

/// Digits without anything between them: where they begin and end, and how many stand there.
#[derive(Debug, Clone, Copy)]
struct Group {
    end: usize,
    len: usize,
    /// What stands before it, behind the group before.
    mark: char,
}

/// The phone number that begins at `at`.
pub(super) fn phone(pieces: &[Piece], at: usize, field: Field) -> Option<Found> {
    let c = pieces[at].c;
    let is_open = c == '(' || (c == '+' && is(pieces, at + 1, &['(']));
    let from_digit = at + usize::from(c == '+') + usize::from(is_open);
    if !is_digit(pieces, from_digit) || (c != '+' && !begins(pieces, at)) {
        return None;
    }
    let field = match name_before(pieces, at).map(|name| Field::of(&name)) {
        Some(named) if named != Field::Free => named,
        _ => field,
    };
    // `030/1234567` is called, `3401/5521` is a path.
    let behind_slash = at > 0 && is(pieces, at - 1, &['/']);
    let takes_slash = !behind_slash && (c == '+' || is_open || value(c) == Some(0));
    let mut groups = groups(pieces, from_digit, takes_slash);
    // Behind a blank another word may begin with digits; without one it is all one code.
    let end = groups.last()?.end;
    if is_joined(pieces, end) && (groups.pop()?.mark != ' ' || groups.is_empty()) {
        return None;
    }
    let taken = taken(&groups, c, is_open, field)?;
    let groups = &groups[..taken];
    let digits: String = (pieces[from_digit..groups.last()?.end].iter())
        .filter(|piece| value(piece.c).is_some())
        .map(|piece| piece.c)
        .collect();
    Some(Found {
        from: at,
        to: groups.last()?.end,
        masked: masked(&digits),
    })
}

/// How many of the groups are a phone number.
fn taken(groups: &[Group], sign: char, is_open: bool, field: Field) -> Option<usize> {
    let lens: Vec<usize> = groups.iter().map(|group| group.len).collect();
    let total: usize = lens.iter().sum();
    // As many as one number has.
    let within = || {
        let mut sum = 0;
        let fits = |len: &&usize| {
            sum += **len;
            sum <= CALLED_MAX
        };
        lens.iter().take_while(fits).count().max(1)
    };
    if field == Field::Phone && total >= 5 {
        return Some(lens.len());
    }
    if sign == '+' {
        return (total >= 7).then(within);
    }
    let american: [&[usize]; 6] = [&[3, 3, 4], &[1, 3, 3, 4], &[2, 3, 3, 4], &[3, 7], &[1, 3, 7], &[1, 10]];
    if let Some(form) = american.iter().find(|form| lens.starts_with(form)) {
        return Some(form.len());
    }
    if is_open {
        return (lens.len() > 1 && total >= 7).then(within);
    }
    if field == Field::Figure {
        return None;
    }
    if (10..=CALLED_MAX).contains(&lens[0]) {
        return Some(1);
    }
    if lens[..] == [3, 4] && groups[1].mark == '-' {
        return Some(2);
    }
    let is_national = total >= 10 || (total == 9 && lens.iter().all(|len| *len == 3));
    (lens.len() > 1 && lens.iter().all(|len| *len > 1) && is_national).then_some(lens.len())
}

/// The groups of digits from `at` on, with what may stand between the digits of one phone number.
fn groups(pieces: &[Piece], at: usize, takes_slash: bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let (mut begin, mut mark) = (at, ' ');
    let mut takes_slash = takes_slash;
    loop {
        let len = pieces[begin..]
            .iter()
            .take_while(|piece| value(piece.c).is_some())
            .count();
        let end = begin + len;
        groups.push(Group { end, len, mark });
        let between = |c: char| {
            matches!(
                c,
                ' ' | '\u{a0}' | '(' | ')' | '-' | '\u{2010}'..='\u{2013}' | '.' | '/'
            )
        };
        let marks = pieces[end..]
            .iter()
            .take(4)
            .take_while(|piece| between(piece.c))
            .count();
        if !(1..=3).contains(&marks) || !is_digit(pieces, end + marks) || groups.len() == GROUPS_MAX {
            return groups;
        }
        let has = |wanted: char| pieces[end..end + marks].iter().any(|piece| piece.c == wanted);
        let dots = groups.iter().skip(1).filter(|group| group.mark == '.').count();
        let dots_alone = dots + 1 == groups.len() && marks == 1;
        let is_fraction = has('.') && !dots_alone;
        let is_path = has('/') && !takes_slash;
        takes_slash &= !has('/');
        if is_fraction || is_path || (dots > 0 && !has('.')) {
            return groups;
        }
        let is_blank = has(' ') || has('\u{a0}');
        begin = end + marks;
        if is_blank && (date(&pieces[begin..]).is_some() || time(&pieces[begin..]).is_some()) {
            return groups;
        }
        mark = match (is_blank, has('.')) {
            (true, _) => ' ',
            (_, true) => '.',
            _ => '-',
        };
    }
}

/// Whether a word or code goes on behind the digits that end at `end`.
fn is_joined(pieces: &[Piece], end: usize) -> bool {
    let c = |at: usize| pieces.get(end + at).map_or(' ', |piece| piece.c);
    match c(0) {
        'x' => value(c(1)).is_none(),
        '-' => c(1).is_alphabetic(),
        ':' => value(c(1)).is_some(),
        c => c.is_alphanumeric() || c == '_',
    }
}

/// The name before a value, as in `"name": VALUE`, `name=VALUE` and `/name/VALUE`.
fn name_before(pieces: &[Piece], at: usize) -> Option<String> {
    let before = |at: usize| at.checked_sub(1).map_or('\n', |at| pieces[at].c);
    let is_quote = |c: char| matches!(c, '"' | '\'' | ' ');
    let mut end = at;
    for _ in 0..3 {
        end -= usize::from(is_quote(before(end)));
    }
    if !matches!(before(end), ':' | '=' | '/') {
        return None;
    }
    end -= 1;
    for _ in 0..2 {
        end -= usize::from(is_quote(before(end)));
    }
    let of_name = |piece: &&Piece| piece.c.is_alphanumeric() || matches!(piece.c, '_' | '-' | '.');
    let name: Vec<char> = (pieces[..end].iter().rev().take_while(of_name))
        .take(40)
        .map(|piece| piece.c)
        .collect();
    (!name.is_empty()).then(|| name.into_iter().rev().collect())
}
