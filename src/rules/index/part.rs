//! The lists in which events find the rules of a part; made once and never changed.
//!
//! Each rule stands in the list of its pivot: the rarest of the values that it names, or each of a few where it takes any
//! of them. A row has the rest of what the rule asks for in 40 bytes; what has no place there is a
//! [program](super::program). A list is in the order of triggers and lowest prices, so that a search ends early, and
//! blocks of rows whose prices all lie below are passed over. A value that very many rules have as their pivot has no list
//! itself, but one for each pair of it with another of their values. Rules that name no value are in their trigger's list.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;

use super::Bits;
use super::price::Price;
use super::program::{NOTHING, Programs, Run};
use super::table::{Key, Slot, Table, hash};
use crate::lead::{LeadEvent, Value};
use crate::rules::condition::text_of;
use crate::rules::{Level, Party, Versioned};

/// The fields whose values events are asked for, by their numbers: the trigger, those of [`Level::field`] and
/// [`Party::field`]. Paths that rules have as pivots come behind them.
pub(super) const FIELDS: usize = 9;
/// Paths that rules may have as pivots. Each costs every event of its triggers a look.
pub(super) const PIVOTS_MAX: usize = 6;
/// The number of a value that no rule names.
pub(super) const UNNAMED: u32 = u32::MAX;
/// The rows that are passed over together.
pub(super) const BLOCK: usize = 32;
/// A list that is longer has its rows by pairs of values.
pub(super) const LIST_MAX: u32 = 256;
/// The length of a list that has its rows by pairs.
pub(super) const PAIRED: u32 = u32::MAX;
/// The numbers of an event's values: a row has four bits to name one.
const NUMBERS: usize = 16;
/// The values of an event that are looked for: those of its fields, and a text and a number at each path.
const SOUGHT_MAX: usize = FIELDS + 2 * PIVOTS_MAX;
/// A list with no more rows is searched from its first one.
const SHORT: usize = 8;

/// The rows by which events find the rules of a part.
#[derive(Debug, Default)]
pub struct Lists {
    pub(super) rows: Box<[Row]>,
    /// Of each block of rows the highest price that any takes.
    pub(super) tops: Box<[i64]>,
    pub(super) values: Table,
    pub(super) pairs: Table,
    pub(super) triggers: Triggers,
    /// The paths under `where` that rules have as pivots.
    pub(super) pivots: Box<[Pivot]>,
    pub(super) programs: Programs,
}

/// A rule at one value of its pivot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) low: i64,
    pub(super) high: i64,
    pub(super) rule: u32,
    pub(super) trigger: u32,
    /// The values of two more fields.
    pub(super) also: [u32; 2],
    pub(super) program: u32,
    /// The fields of `also`, four bits each.
    pub(super) also_of: u8,
    /// [Traits](Seen::traits) that an event must not have.
    pub(super) not: u8,
    /// What of the rule only itself can say.
    pub(super) ask: u8,
}

/// [`Row::ask`]: all of it, as it names texts that are no whole keys.
pub(super) const ASK_ALL: u8 = 1;
/// [`Row::ask`]: its price, where the event's is no whole number.
pub(super) const ASK_PRICE: u8 = 2;

/// The triggers of a part's rules.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    pub(super) all: Vec<Trigger>,
    by_name: HashTable<u32>,
}

#[derive(Debug)]
pub(super) struct Trigger {
    name: Box<str>,
    number: u32,
    /// The rows of rules that name no value.
    pub(super) broad: Range<u32>,
    /// A bit for each field of which its rules name a value.
    pub(super) fields: u16,
    /// A bit for each of [`Lists::pivots`] that its rules have.
    pub(super) pivots: u16,
}

/// A path under `where` that rules have as their pivot.
#[derive(Debug)]
pub(super) struct Pivot {
    pub(super) field: u8,
    pub(super) path: u32,
    /// Which keys rules ask for.
    pub(super) texts: bool,
    pub(super) numbers: bool,
}

/// An event as rows are compared with it; the same for every part.
#[derive(Debug)]
pub(super) struct Seen<'e> {
    event: &'e LeadEvent<'e>,
    /// By field, its value.
    ids: [Option<&'e str>; FIELDS],
    price: Price,
    traits: u8,
}

/// [`Seen::traits`]: what the event's method is.
pub(super) const POST: u8 = 1;
pub(super) const FORM: u8 = 2;
pub(super) const NEITHER: u8 = 4;
pub(super) const IS_TEST: u8 = 8;
/// The first of four, one for each level: the event names none of it.
pub(super) const LACKS_FIRST: u8 = 16;

impl Level {
    pub(super) fn field(self) -> u8 {
        match self {
            Level::Product => 1,
            Level::Campaign => 2,
            Level::Publisher => 3,
            Level::Inlet => 4,
        }
    }

    /// The trait of an event that names none of the level.
    pub(super) fn lack(self) -> u8 {
        LACKS_FIRST << (self as u8)
    }
}

impl Party {
    pub(super) fn field(self) -> u8 {
        match self {
            Party::Campaign => Level::Campaign.field(),
            Party::Publisher => Level::Publisher.field(),
            Party::Channel => 5,
            Party::Source => 6,
            Party::Buyer => 7,
            Party::Pingtree => 8,
        }
    }
}

impl<'e> Seen<'e> {
    pub(super) fn of(event: &'e LeadEvent<'e>) -> Self {
        let mut traits = match event.method.as_deref() {
            Some("POST") => POST,
            Some("FORM") => FORM,
            _ => NEITHER,
        };
        if event.is_test == Some(true) {
            traits |= IS_TEST;
        }
        let mut ids = [None; FIELDS];
        for level in Level::ALL {
            let id = level.id_in(event);
            ids[usize::from(level.field())] = id;
            if id.is_none() {
                traits |= level.lack();
            }
        }
        for party in [Party::Channel, Party::Source, Party::Buyer, Party::Pingtree] {
            ids[usize::from(party.field())] = party.id_in(event);
        }
        Self {
            event,
            ids,
            price: Price::of(event.filter_price()),
            traits,
        }
    }
}

impl Triggers {
    /// The hash of a name, which is the same in all parts.
    pub(super) fn hash(name: &str) -> u64 {
        hash(name.as_bytes())
    }

    pub(super) fn find(&self, hash: u64, name: &str) -> Option<&Trigger> {
        let all = &self.all;
        let number = self.by_name.find(hash, |number| *all[*number as usize].name == *name)?;
        Some(&all[*number as usize])
    }

    /// The number of a trigger, which is a new one's where there is none of the name.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        let (all, hash) = (&mut self.all, Self::hash(name));
        let known = self.by_name.find(hash, |number| *all[*number as usize].name == *name);
        known.copied().unwrap_or_else(|| {
            let number = all.len() as u32;
            all.push(Trigger {
                name: name.into(),
                number,
                broad: 0..0,
                fields: 0,
                pivots: 0,
            });
            let again = |number: &u32| Self::hash(&all[*number as usize].name);
            self.by_name.insert_unique(hash, number, again);
            number
        })
    }
}

impl Lists {
    /// Adds those of the part's rules that hold for an event of a trigger. One may be found twice.
    pub(super) fn matches<'i>(
        &'i self,
        rules: &'i [Arc<Versioned>],
        trigger: &Trigger,
        seen: &Seen<'_>,
        dead: &Bits,
        found: &mut Vec<&'i Arc<Versioned>>,
    ) {
        let mut run = None;
        let (mut sought, mut count) = ([Sought::default(); SOUGHT_MAX], 0);
        let mut ask = |field: u8, key: Key| {
            (sought[count].field, sought[count].key) = (field, key);
            count += 1;
        };
        for (field, id) in (0..).zip(seen.ids) {
            if trigger.fields >> field & 1 == 1
                && let Some(id) = id
            {
                ask(field, Key::text(field, id));
            }
        }
        for pivot in &self.pivots {
            if trigger.pivots >> (usize::from(pivot.field) - FIELDS) & 1 == 1 {
                let run = run.get_or_insert_with(|| self.programs.run(seen.event));
                let keys = run.value(pivot.path).map(|value| pivot.keys(value));
                for key in keys.into_iter().flatten().flatten() {
                    ask(pivot.field, key);
                }
            }
        }
        let sought = &mut sought[..count];
        let mut numbers = [UNNAMED; NUMBERS];
        numbers[0] = trigger.number;
        self.look_up(sought, &mut numbers);
        let mut search = Search {
            lists: self,
            rules,
            seen,
            dead,
            numbers,
            run,
            found,
        };
        for Sought { number, slot, head, .. } in sought {
            if slot.len > 0 && *head <= trigger.number {
                search.value(*number, *slot);
            }
        }
        search.list(&trigger.broad);
    }

    /// Finds values and their lists. Each step asks for all that it needs of memory, so that what is far away comes
    /// together and not one after the other.
    fn look_up(&self, sought: &mut [Sought], numbers: &mut [u32; NUMBERS]) {
        for sought in &mut *sought {
            (sought.number, sought.slot) = self.values.first(sought.key.hash());
        }
        for sought in &mut *sought {
            match self.values.go_on(sought.key, (sought.number, sought.slot)) {
                Some(number) => {
                    numbers[usize::from(sought.field)] = number;
                    (sought.number, sought.slot) = (number, self.values.get(number));
                }
                None => sought.slot = Slot::default(),
            }
        }
        for sought in sought {
            if sought.slot.len > 0 && sought.slot.len != PAIRED {
                sought.head = self.rows[sought.slot.start as usize].trigger;
            }
        }
    }
}

/// A value of an event on its way to the rows that it finds.
#[derive(Debug, Clone, Copy, Default)]
struct Sought {
    field: u8,
    key: Key,
    number: u32,
    slot: Slot,
    /// The first trigger of its list.
    head: u32,
}

impl Pivot {
    /// The keys of what stands at its path.
    fn keys(&self, value: &Value<'_>) -> [Option<Key>; 2] {
        let text = self.texts.then(|| text_of(value)).flatten();
        let number = self.numbers.then(|| value.to_decimal()).flatten();
        [
            text.map(|text| Key::text(self.field, &text)),
            number.map(|number| Key::number(self.field, number)),
        ]
    }
}

/// The search for one event in one part.
struct Search<'i, 'f, 'e> {
    lists: &'i Lists,
    rules: &'i [Arc<Versioned>],
    seen: &'f Seen<'e>,
    dead: &'f Bits,
    /// Of the event's values, by field.
    numbers: [u32; NUMBERS],
    run: Option<Run<'i, 'e>>,
    found: &'f mut Vec<&'i Arc<Versioned>>,
}

impl<'i, 'e> Search<'i, '_, 'e> {
    /// Looks at the rows of a value.
    fn value(&mut self, number: u32, slot: Slot) {
        if slot.len != PAIRED {
            return self.list(&slot.rows());
        }
        let lists = self.lists;
        for (field, other) in (0..FIELDS as u8).zip(self.numbers) {
            let is_itself = field > 0 && other == number;
            if other != UNNAMED
                && !is_itself
                && let Some(pair) = lists.pairs.find(Key::pair(number, field, other))
            {
                self.list(&lists.pairs.get(pair).rows());
            }
        }
    }

    fn list(&mut self, list: &Range<u32>) {
        let (lists, trigger, price) = (self.lists, self.numbers[0], self.seen.price);
        let (mut at, end) = (list.start as usize, list.end as usize);
        if end - at > SHORT {
            at += lists.rows[at..end].partition_point(|row| row.trigger < trigger);
        }
        while at < end {
            if at.is_multiple_of(BLOCK) && at + BLOCK <= end && lists.tops[at / BLOCK] < price.down {
                at += BLOCK;
                continue;
            }
            let row = &lists.rows[at];
            at += 1;
            if row.trigger != trigger {
                if row.trigger > trigger {
                    return;
                }
                continue;
            }
            if row.low > price.up {
                return;
            }
            if price.down <= row.high && self.holds(row) {
                self.found.push(&self.rules[row.rule as usize]);
            }
        }
    }

    /// Whether a row whose price is right holds.
    fn holds(&mut self, row: &Row) -> bool {
        let is = |at: usize, field: u8| self.numbers[usize::from(field)] == row.also[at];
        if row.not & self.seen.traits != 0 || !is(0, row.also_of & 15) || !is(1, row.also_of >> 4) {
            return false;
        }
        if self.dead.has(row.rule) {
            return false;
        }
        let numbers = self.numbers;
        if row.program != NOTHING && !self.run().holds(row.program, &numbers) {
            return false;
        }
        let (rule, event) = (|| &self.rules[row.rule as usize].rule, self.seen.event);
        if row.ask & ASK_ALL != 0 {
            return rule().matches(event);
        }
        let asks_price = row.ask & ASK_PRICE != 0 && self.seen.price.is_wide;
        !asks_price || rule().filters.price.as_ref().is_none_or(|price| price.holds(event))
    }

    fn run(&mut self) -> &mut Run<'i, 'e> {
        let (lists, event) = (self.lists, self.seen.event);
        self.run.get_or_insert_with(|| lists.programs.run(event))
    }
}
