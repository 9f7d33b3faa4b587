//! Values, each as a number: which of them rules name, and where the rows of each stand.
//!
//! A value is a [`Key`] of 16 bytes, and a table finds it with one probe, which most often reads one line of memory. A
//! value that no rule names isn't there, and that is all that an event with it costs.

use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::ops::Range;

use rust_decimal::Decimal;

/// The bytes of a text that a key holds whole.
const WHOLE_MAX: usize = 14;
/// So many values are looked for together, so that the processor fetches them from memory at the same time.
pub(super) const TOGETHER: usize = 32;

/// What a key holds, by its last byte but one. A text that is whole has its length there, and one more.
const PAIR: u8 = 0xfd;
const NUMBER: u8 = 0xfe;
const LONG: u8 = 0xff;

/// The value of one field. Equal keys are equal values, but for texts that are longer than [`WHOLE_MAX`]: of those it
/// has a hash, so that whoever finds one asks the rule itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Key([u64; 2]);

impl Key {
    /// No value.
    pub(super) const NONE: Self = Self([0, 0]);

    pub(super) fn text(field: u8, text: &str) -> Self {
        let bytes = text.as_bytes();
        if bytes.len() <= WHOLE_MAX {
            let (low, high) = packed(bytes);
            Self::of(low, high, bytes.len() as u8 + 1, field)
        } else {
            Self::of(hash(bytes), u64::from(bytes.len() as u32), LONG, field)
        }
    }

    /// A number, however many zeros it was written with.
    pub(super) fn number(field: u8, number: Decimal) -> Self {
        let number = number.normalize();
        let mantissa = number.mantissa().unsigned_abs();
        let high =
            (mantissa >> 64) as u64 | u64::from(number.scale()) << 32 | u64::from(number.is_sign_negative()) << 40;
        Self::of(mantissa as u64, high, NUMBER, field)
    }

    /// A value of many rules, together with another field's value.
    pub(super) fn pair(first: u32, field: u8, second: u32) -> Self {
        Self::of(u64::from(first) | u64::from(second) << 32, 0, PAIR, field)
    }

    fn of(low: u64, high: u64, kind: u8, field: u8) -> Self {
        Self([low, high | u64::from(kind) << 48 | u64::from(field) << 56])
    }

    /// Whether it is all of its value.
    pub(super) fn is_whole(self) -> bool {
        (self.0[1] >> 48) as u8 != LONG
    }

    pub(super) fn hash(self) -> u64 {
        let Self([low, high]) = self;
        fold(fold(low, high), high)
    }
}

/// The bytes of a short text as two words, in their order and with zeros behind.
fn packed(bytes: &[u8]) -> (u64, u64) {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // The last eight, without those that are among the first eight.
        let last = u64::from_le_bytes(*last);
        let high = last.checked_shr(8 * (16 - len as u32)).unwrap_or_default();
        return (u64::from_le_bytes(*first), high);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return (u64::from(first) | u64::from(last) << (8 * (len - 4)), 0);
    }
    let each = bytes.iter().rev();
    (each.fold(0, |word, byte| word << 8 | u64::from(*byte)), 0)
}

/// Nothing that comes with an event is ever put into a table, so that no event can make its probes long.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut sum = bytes.len() as u64;
    for word in &mut words {
        sum = fold(sum, u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    fold(sum, packed(words.remainder()).0)
}

/// For maps of what rules have in common.
pub(super) type Folding = BuildHasherDefault<Folded>;

#[derive(Debug, Default)]
pub(super) struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = fold(self.0, hash(bytes));
    }

    fn write_u8(&mut self, number: u8) {
        self.0 = fold(self.0, number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = fold(self.0, number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = fold(self.0, number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ 0x9e37_79b9_7f4a_7c15) * u128::from(other ^ 0xd1b5_4a32_d192_ed03);
    product as u64 ^ (product >> 64) as u64
}

/// Values by their keys. The number of a value is the place of its slot.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    used: usize,
}

/// A value, and where the rows stand that are found by it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    key: Key,
    pub(super) start: u32,
    /// Until the rows are there, how often rules name the value.
    pub(super) len: u32,
}

/// A value that rules name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) number: u32,
    /// How many rules do.
    pub(super) rules: u32,
}

impl Slot {
    pub(super) fn rows(self) -> Range<u32> {
        self.start..self.start + self.len
    }
}

impl Table {
    /// With room for so many values.
    pub(super) fn of(values: usize) -> Self {
        let slots = vec![Slot::default(); values + values * 2 / 3 + 1];
        Self {
            slots: slots.into(),
            used: 0,
        }
    }

    /// The number of a value that is there.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.go_on(key, self.first(key.hash()))
    }

    /// The number at which the search for a value begins, and what stands there: where many values are looked for, the
    /// processor fetches these from memory at the same time. An empty table has an empty slot there.
    pub(super) fn first(&self, hash: u64) -> (u32, Slot) {
        let at = self.home(hash);
        (at as u32, self.slots.get(at).copied().unwrap_or_default())
    }

    /// The number of a value, after [`Self::first`].
    pub(super) fn go_on(&self, key: Key, (at, slot): (u32, Slot)) -> Option<u32> {
        if slot.key == key {
            return Some(at);
        }
        if slot.key == Key::NONE {
            return None;
        }
        let at = self.place(key, at as usize)?;
        (self.slots[at].key == key).then_some(at as u32)
    }

    /// The values of all keys that so many rules name, and of each key its value.
    pub(super) fn counting(keys: &[Key], rules: usize) -> (Self, Vec<Counted>) {
        let mut table = Self::of(rules);
        let mut counted = Vec::with_capacity(keys.len());
        for some in keys.chunks(TOGETHER) {
            if (table.used + TOGETHER) * 5 >= table.slots.len() * 3 {
                table.resize(table.used * 2 + TOGETHER, &mut counted);
            }
            for key in some {
                black_box(table.first(key.hash()));
            }
            counted.extend(some.iter().map(|key| {
                let number = table.number(*key);
                table.get_mut(number).len += 1;
                Counted { number, rules: 0 }
            }));
        }
        table.resize(table.used, &mut counted);
        table.slots.iter_mut().for_each(|slot| slot.len = 0);
        (table, counted)
    }

    /// Makes room for so many values. Each gets another number.
    fn resize(&mut self, values: usize, counted: &mut [Counted]) {
        let mut before = std::mem::replace(self, Self::of(values));
        for slot in &mut before.slots {
            if slot.key != Key::NONE {
                // The old slot says where the new one is.
                slot.start = self.number(slot.key);
                self.get_mut(slot.start).len = slot.len;
            }
        }
        for value in counted {
            let Slot { start, len, .. } = before.get(value.number);
            (value.number, value.rules) = (start, len);
        }
    }

    /// Where the rows of a value stand.
    pub(super) fn put(&mut self, key: Key, start: u32, len: u32) {
        let number = self.number(key);
        let slot = self.get_mut(number);
        (slot.start, slot.len) = (start, len);
    }

    pub(super) fn get(&self, number: u32) -> Slot {
        self.slots[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Slot {
        &mut self.slots[number as usize]
    }

    /// The number of a value, which gets one where it has none.
    fn number(&mut self, key: Key) -> u32 {
        let at = self.place(key, self.home(key.hash())).unwrap_or_default();
        let slot = &mut self.slots[at];
        if slot.key == Key::NONE {
            slot.key = key;
            self.used += 1;
        }
        at as u32
    }

    /// The place at which the search for a value begins.
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    /// The place of a value, or of the free slot that would be its own: the first from `at` on. There is always a free one.
    fn place(&self, key: Key, mut at: usize) -> Option<usize> {
        let len = self.slots.len();
        loop {
            let slot = self.slots.get(at)?;
            if slot.key == key || slot.key == Key::NONE {
                return Some(at);
            }
            at += 1;
            if at == len {
                at = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_field_and_by_all_of_it() {
        let table = Table::default();
        assert_eq!(table.find(Key::text(1, "12")), None, "an empty table");
        let texts: Vec<String> = (0..1000).map(|number| format!("{}", number * 7)).collect();
        let keys = texts
            .iter()
            .flat_map(|text| [1, 2, 1].map(|field| Key::text(field, text)));
        let keys: Vec<Key> = keys.collect();
        let (table, counted) = Table::counting(&keys, 1);
        for (key, Counted { number, rules }) in keys.iter().zip(counted) {
            assert_eq!(table.find(*key), Some(number));
            assert_eq!(rules, if key.0[1] >> 56 == 1 { 2 } else { 1 });
        }
        for text in &texts {
            let (one, two) = (
                table.find(Key::text(1, text)).unwrap(),
                table.find(Key::text(2, text)).unwrap(),
            );
            assert_ne!(one, two);
        }
        for other in ["", "1", "7000", "12\0", "14\0", "0 "] {
            assert_eq!(table.find(Key::text(1, other)), None, "{other:?}");
        }
        assert_eq!(table.find(Key::text(3, "7")), None);
    }

    #[test]
    fn values_that_differ_have_keys_that_differ() {
        let texts = [
            "",
            "\0",
            "\0\0",
            "a",
            "a\0",
            "12345678",
            "123456789",
            "12345678901234",
            "123456789012345",
            "ü",
            "u\u{308}",
        ];
        let number = |text: &str| Key::number(9, text.parse().unwrap());
        let mut keys: Vec<Key> = texts.iter().map(|text| Key::text(9, text)).collect();
        keys.extend(["0", "1", "-1", "10", "0.1", "79228162514264337593543950335"].map(number));
        keys.push(Key::pair(1, 9, 2));
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == key), Some(at), "{at}");
            assert_ne!(*key, Key::NONE);
        }
        assert_eq!(number("5"), number("5.000"));
        assert_eq!(number("0"), number("-0.00"));
        assert_eq!(number("100"), Key::number(9, Decimal::from_scientific("1e2").unwrap()));
    }
}
