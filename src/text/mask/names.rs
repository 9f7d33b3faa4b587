//! What the name of a field says about the digits in it.

use crate::text::within;

/// What the digits under a name are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Nothing is known of them.
    Free,
    /// A phone number, however it is written.
    Phone,
    /// An id, a time, an amount, a postal code or a count: digits in a row are no phone number.
    Figure,
}

/// Words of a name, whatever else stands in it.
const PHONES: &[&str] = &[
    "phone",
    "phones",
    "telephone",
    "tel",
    "mobile",
    "cell",
    "cellphone",
    "fax",
    "msisdn",
    "whatsapp",
    "sms",
    "caller",
    "dialed",
    "telefon",
    "handy",
];
/// The last word of a name.
const FIGURES: &[&str] = &[
    "id",
    "ids",
    "uuid",
    "guid",
    "identifier",
    "hash",
    "checksum",
    "etag",
    "at",
    "ts",
    "time",
    "times",
    "timestamp",
    "date",
    "day",
    "epoch",
    "millis",
    "ms",
    "micros",
    "seconds",
    "since",
    "until",
    "expires",
    "price",
    "payout",
    "revenue",
    "amount",
    "total",
    "cost",
    "bid",
    "zip",
    "zipcode",
    "postcode",
    "postal",
    "plz",
    "offset",
    "version",
    "partition",
    "count",
    "size",
    "length",
    "bytes",
    "port",
    "job",
    "event",
    "lead",
    "rule",
];
/// Names that are written in one word.
const JOINED: &[&str] = &[
    "leadid",
    "eventid",
    "jobid",
    "ruleid",
    "userid",
    "orderid",
    "createdat",
    "updatedat",
    "occurredat",
    "startedat",
    "endedat",
];

impl Field {
    /// The one place that decides which names keep digits readable, by their words: `lead_id`, `leadId`, `occurred-at`.
    pub fn of(name: &str) -> Self {
        // Longer ones are no names.
        let words = words(within(name, 80));
        let is_one_of = |known: &[&str], word: &String| known.contains(&word.as_str());
        let is_time = |word: &String| matches!(word.as_str(), "at" | "ts" | "time" | "timestamp" | "date" | "seconds");
        match words.last() {
            None => Self::Free,
            Some(last) if is_time(last) => Self::Figure,
            Some(_) if words.iter().any(|word| is_one_of(PHONES, word)) => Self::Phone,
            Some(last) if is_one_of(FIGURES, last) || is_one_of(JOINED, last) => Self::Figure,
            // `/leads/ID`
            Some(last) if FIGURES.contains(&last.trim_end_matches('s')) => Self::Figure,
            // `zip_code`, `postal_code`, `price_usd`.
            Some(_) if matches!(words[0].as_str(), "zip" | "postal" | "price" | "payout" | "revenue") => Self::Figure,
            Some(_) => Self::Free,
        }
    }

    /// What a member named `name` is, of an object that stands under `self`.
    pub(super) fn within(self, name: &str) -> Self {
        match (self, Self::of(name)) {
            // `{"phone": {"number": "…"}}`
            (Self::Phone, Self::Free) => Self::Phone,
            (_, own) => own,
        }
    }
}

/// The words of a name in small letters; a capital letter behind a small one begins a word.
fn words(name: &str) -> Vec<String> {
    let mut parted = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for c in name.chars() {
        if c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit()) {
            parted.push(' ');
        }
        parted.push(if c.is_alphanumeric() { c } else { ' ' });
        before = c;
    }
    parted.split_whitespace().map(str::to_lowercase).collect()
}
