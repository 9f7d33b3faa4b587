//! Changes of rules, and orders of lanes, as their authors ask for them.

use serde_json::Value;

use super::refusal::conflict;
use super::{Draft, Planned, View};
use crate::desk::{Conflict, Error};
use crate::rules::control::{self, Control};

/// A change of one rule, or an order of one lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The rule's id; for an order the key of its control record.
    pub(super) id: String,
    pub(super) order: Order,
    /// The version in force that its author saw; none where nothing was in force.
    pub(super) seen: Option<i64>,
    pub(super) cancel_waiting: bool,
    /// Whether the rule is kept in files, which may also say that it is to go.
    pub(super) from_files: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    Put(Value),
    /// Puts a version that was in force before in force again.
    Rollback(Value),
    Delete,
    Pause,
    Resume,
    Lane(LaneOrder),
}

/// An order of a lane, a credential or all sending. Its record says who gave it and when, in epoch milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LaneOrder {
    pub(super) lane: String,
    pub(super) order: control::Order,
    who: String,
    when: i64,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub id: String,
    /// The version that the change made; the one in force where nothing had to change.
    pub version: i64,
    pub changed: bool,
    /// The rule or the order that is in force now; none where it was deleted, or nothing is ordered.
    pub after: Option<Value>,
}

impl Change {
    /// Puts a rule in force. A draft that has errors is refused.
    pub fn put(draft: Draft, seen: Option<i64>) -> Result<Self, Error> {
        if !draft.errors.is_empty() {
            return Err(Error::Invalid(draft.errors));
        }
        Ok(Self::of(&draft.id, Order::Put(draft.written), seen, false))
    }

    /// The audit says that files have the rule, so that pruning may delete it once they don't.
    #[must_use]
    pub fn from_files(self) -> Self {
        Self {
            from_files: true,
            ..self
        }
    }

    /// Puts an earlier version of a rule in force again. A draft that has errors is refused.
    pub fn rollback(draft: Draft, seen: Option<i64>) -> Result<Self, Error> {
        let change = Self::put(draft, seen)?;
        Ok(match change.order {
            Order::Put(rule) => Self {
                order: Order::Rollback(rule),
                ..change
            },
            _ => change,
        })
    }

    /// Takes a rule out of force. With `cancel_waiting` its waiting jobs end too; then it may be gone already.
    pub fn delete(id: &str, seen: Option<i64>, cancel_waiting: bool) -> Self {
        Self::of(id, Order::Delete, seen, cancel_waiting)
    }

    /// Stops a rule from matching. With `cancel_waiting` its waiting jobs end too.
    pub fn pause(id: &str, seen: Option<i64>, cancel_waiting: bool) -> Self {
        Self::of(id, Order::Pause, seen, cancel_waiting)
    }

    /// Lets a rule match again.
    pub fn resume(id: &str, seen: Option<i64>) -> Self {
        Self::of(id, Order::Resume, seen, false)
    }

    /// An order of a lane, a credential or all sending. It needs no look before: whoever orders the same meanwhile
    /// changes nothing about it.
    pub fn order(order: control::Order, lane: &str, who: &str, when: i64) -> Self {
        let (lane, who) = (lane.to_owned(), who.to_owned());
        let id = control::key_of(&lane);
        Self::of(&id, Order::Lane(LaneOrder { lane, order, who, when }), None, false)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The rule that it puts in force.
    pub fn after(&self) -> Option<&Value> {
        match &self.order {
            Order::Put(rule) | Order::Rollback(rule) => Some(rule),
            Order::Delete | Order::Pause | Order::Resume | Order::Lane(_) => None,
        }
    }

    /// The conflict with the rules as they are, where its author saw another version. `who` wrote the one there is.
    pub fn conflict(&self, view: &View, who: impl FnOnce() -> Option<String>) -> Option<Conflict> {
        let version = view.version(&self.id);
        (version != self.seen).then(|| conflict(self, version, view.last(&self.id).as_ref(), who()))
    }

    fn of(id: &str, order: Order, seen: Option<i64>, cancel_waiting: bool) -> Self {
        Self {
            id: id.to_owned(),
            order,
            seen,
            cancel_waiting,
            from_files: false,
        }
    }
}

impl Order {
    /// What the audit calls it.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Order::Put(_) => "apply",
            Order::Rollback(_) => "rollback",
            Order::Delete => "delete",
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Lane(order) => match order.order {
                control::Order::Pause => "lane_pause",
                control::Order::Resume => "lane_resume",
                control::Order::Probe => "lane_probe",
            },
        }
    }
}

impl LaneOrder {
    pub(super) fn plan(&self, view: &View, id: &str) -> Planned {
        let before = view.log.controls().get(&self.lane);
        let after = self.order.after(before, &self.who, self.when);
        let changed = before != after.as_ref();
        Planned {
            before: before.map(Control::to_json),
            replaces: None,
            written: Written {
                id: id.to_owned(),
                version: view.last(id).filter(|_| !changed).map_or(-1, |last| last.offset),
                changed,
                after: after.as_ref().map(Control::to_json),
            },
        }
    }
}
