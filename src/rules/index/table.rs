//! Values, each as a number: which of them rules name, and where the rows of each stand.
//!
//! A value is a [`Key`] of 16 bytes, and a table finds it with one probe, which most often reads one line of memory. A
//! value that no rule names isn't there, and that is all that an event with it costs.

use rust_decimal::Decimal;

/// The bytes of a text that a key holds whole.
const WHOLE_MAX: usize = 14;

/// What a key holds, by its last byte but one. A text that is whole has its length there, and one more.
const PAIR: u8 = 0xfd;
const NUMBER: u8 = 0xfe;
const LONG: u8 = 0xff;

/// The value of one field. Equal keys are equal values, but for texts that are longer than [`WHOLE_MAX`]: of those it
/// has a hash, so that whoever finds one asks the rule itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Key([u64; 2]);

impl Key {
    /// No value.
    pub(super) const NONE: Self = Self([0, 0]);

    pub(super) fn text(field: u8, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut key = [0; 16];
        if is_whole(text) {
            key[..bytes.len()].copy_from_slice(bytes);
            key[14] = bytes.len() as u8 + 1;
        } else {
            key[..8].copy_from_slice(&hash(bytes).to_le_bytes());
            key[8..12].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
            key[14] = LONG;
        }
        Self::of(key, field)
    }

    /// A number, however many zeros it was written with.
    pub(super) fn number(field: u8, number: Decimal) -> Self {
        let number = number.normalize();
        let mantissa = number.mantissa();
        let mut key = [0; 16];
        key[..12].copy_from_slice(&mantissa.unsigned_abs().to_le_bytes()[..12]);
        key[12] = number.scale() as u8;
        key[13] = u8::from(mantissa < 0);
        key[14] = NUMBER;
        Self::of(key, field)
    }

    /// A value of many rules, together with another field's value.
    pub(super) fn pair(first: u32, field: u8, second: u32) -> Self {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&first.to_le_bytes());
        key[4..8].copy_from_slice(&second.to_le_bytes());
        key[14] = PAIR;
        Self::of(key, field)
    }

    fn of(mut key: [u8; 16], field: u8) -> Self {
        key[15] = field;
        let whole = u128::from_le_bytes(key);
        Self([whole as u64, (whole >> 64) as u64])
    }

    pub(super) fn hash(self) -> u64 {
        let Self([low, high]) = self;
        fold(fold(low, high), high)
    }
}

/// Whether a text's key is all of it.
pub(super) fn is_whole(text: &str) -> bool {
    text.len() <= WHOLE_MAX
}

/// Nothing that comes with an event is ever put into a table, so that no event can make its probes long.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut sum = bytes.len() as u64;
    for word in &mut words {
        sum = fold(sum, u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    let mut rest = [0; 8];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    fold(sum, u64::from_le_bytes(rest))
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
        self.find_hashed(key, key.hash())
    }

    /// The same, where its hash is known already.
    pub(super) fn find_hashed(&self, key: Key, hash: u64) -> Option<u32> {
        let at = self.place(key, hash)?;
        (self.slots[at].key == key).then_some(at as u32)
    }

    /// One rule more names a value.
    pub(super) fn count(&mut self, key: Key) {
        if (self.used + 1) * 5 >= self.slots.len() * 3 {
            self.resize((self.used * 2).max(16));
        }
        self.slot(key).len += 1;
    }

    /// Where the rows of a value stand.
    pub(super) fn put(&mut self, key: Key, start: u32, len: u32) {
        let slot = self.slot(key);
        (slot.start, slot.len) = (start, len);
    }

    /// All values are there: from here on each has its number.
    pub(super) fn settle(&mut self) {
        self.resize(self.used);
    }

    pub(super) fn get(&self, number: u32) -> Slot {
        self.slots[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Slot {
        &mut self.slots[number as usize]
    }

    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    fn resize(&mut self, values: usize) {
        let before = std::mem::replace(self, Self::of(values));
        for slot in before.slots {
            if slot.key != Key::NONE {
                *self.slot(slot.key) = slot;
            }
        }
    }

    /// The slot of a value, which is made where there is none.
    fn slot(&mut self, key: Key) -> &mut Slot {
        let at = self.place(key, key.hash()).unwrap_or_default();
        let slot = &mut self.slots[at];
        if slot.key == Key::NONE {
            slot.key = key;
            self.used += 1;
        }
        slot
    }

    /// The place of a value, or of the free slot that would be its own. There is always a free one.
    fn place(&self, key: Key, hash: u64) -> Option<usize> {
        let len = self.slots.len();
        let mut at = ((hash >> 32) * len as u64 >> 32) as usize;
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
        let mut table = Table::default();
        assert_eq!(table.find(Key::text(1, "12")), None, "an empty table");
        let texts: Vec<String> = (0..1000).map(|number| format!("{}", number * 7)).collect();
        for text in &texts {
            table.count(Key::text(1, text));
            table.count(Key::text(2, text));
            table.count(Key::text(1, text));
        }
        table.settle();
        for text in &texts {
            let (one, two) = (table.find(Key::text(1, text)).unwrap(), table.find(Key::text(2, text)).unwrap());
            assert_ne!(one, two);
            assert_eq!((table.get(one).len, table.get(two).len), (2, 1));
        }
        for other in ["", "1", "7000", "12\0", "14\0", "0 "] {
            assert_eq!(table.find(Key::text(1, other)), None, "{other:?}");
        }
        assert_eq!(table.find(Key::text(3, "7")), None);
    }

    #[test]
    fn values_that_differ_have_keys_that_differ() {
        let texts = ["", "\0", "\0\0", "a", "a\0", "12345678", "123456789", "12345678901234", "123456789012345", "ü", "u\u{308}"];
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
