//! The fields of a lead event that somebody needs.
//!
//! A decoder checks every field, whoever asks, and builds those that are asked for; the others it may leave empty.

use super::table::{Table, Takes};
use super::{LeadEvent, price_field};
use crate::path::{Path, Step};

/// A set of the event's own fields, and of the members of those that are records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// A bit for each field, in the table's order.
    fields: u64,
    /// Of each field that is a record a bit for each member, and of `fields` the [bits](entry) of names.
    members: [u16; LeadEvent::ROWS.names.len()],
    /// The [bits](trigger) of the triggers that somebody asks about; of an event of any other nothing is built but its trigger.
    triggers: u64,
}

impl Asked {
    pub const ALL: Self = Self {
        fields: u64::MAX,
        members: [u16::MAX; LeadEvent::ROWS.names.len()],
        triggers: u64::MAX,
    };

    /// What matching and planning need of every event of a trigger that is asked about, whatever its rules say. `payload` is
    /// in it: it costs nothing until a path leads into it, and then it is parsed.
    pub fn least() -> Self {
        let mut asked = Self {
            fields: LeadEvent::ROWS.required,
            members: [0; LeadEvent::ROWS.names.len()],
            triggers: 0,
        };
        for field in ["is_test", "inlet", "payload"] {
            asked.field(field);
        }
        asked
    }

    /// Asks about the events of a trigger.
    pub fn trigger(&mut self, trigger: &str) {
        self.triggers |= self::trigger(trigger);
    }

    /// Asks for what a path is looked up in. In an inlet's event a field that is null is looked up in `payload`.
    pub fn path(&mut self, path: &Path) {
        match path.steps() {
            [_, Step::Name(member), ..] => self.member(path.root(), member),
            _ => self.field(path.root()),
        }
    }

    /// Asks for the field that a price filter compares.
    pub fn price(&mut self, trigger: &str) {
        self.field(price_field(trigger));
    }

    /// Asks for a field by its name, with all of its members; what is no field is in `payload`.
    pub fn field(&mut self, name: &str) {
        if let Some(index) = index(LeadEvent::ROWS.names, name) {
            self.fields |= 1 << index;
            self.members[index] = u16::MAX;
        }
    }

    /// Asks for one member of a field that is a record, for one entry of `fields`, and for the whole of any other field.
    pub fn member(&mut self, name: &str, member: &str) {
        let Some(at) = index(LeadEvent::ROWS.names, name) else {
            return;
        };
        self.fields |= 1 << at;
        self.members[at] |= match LeadEvent::members(name) {
            Some(members) => index(members.names, member).map_or(0, |index| 1 << index),
            None if LeadEvent::ROWS.takes[at] == Takes::Entries => entry(member),
            None => u16::MAX,
        };
    }

    /// A bit for each of the event's fields, in the table's order.
    pub(super) fn fields(&self) -> u64 {
        self.fields
    }

    /// Of each field, in the same order, a bit for each member, or those of the entries' names.
    pub(super) fn members(&self) -> &[u16] {
        &self.members
    }

    /// Whether somebody may ask for more of an event than its trigger.
    #[inline]
    pub(super) fn asks_about(&self, trigger: &str) -> bool {
        self.triggers & self::trigger(trigger) != 0
    }
}

impl Default for Asked {
    fn default() -> Self {
        Self::least()
    }
}

/// The bit of an entry's name; others may have the same.
#[inline]
pub(super) fn entry(name: &str) -> u16 {
    1 << (sum(name) % 16)
}

/// The bit of a trigger; others may have the same.
#[inline]
fn trigger(name: &str) -> u64 {
    1 << (sum(name) % 64)
}

/// A number that most names differ in. Triggers begin and end alike, so that it looks in between.
#[inline]
fn sum(name: &str) -> usize {
    let len = name.len();
    let byte = |at: usize| name.as_bytes().get(at).map_or(0, |byte| usize::from(*byte));
    len * 7 + byte(len / 2) + byte(len * 3 / 4) * 5
}

fn index(names: &[&str], name: &str) -> Option<usize> {
    names.iter().position(|known| *known == name)
}
