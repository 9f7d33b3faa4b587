//! Looks deliveries up: lists, one job's records, counts.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::super::counts::{Chart, Count, HOUR, MINUTE, OfRule};
use super::order::{Wanted, by_stands};
use super::{Deliveries, Delivery, Entry, OutcomeResult, Records, Spot, Stands, TEST, Which};
use crate::delivery::recall::credential_of;
use crate::desk::page::Place;
use crate::desk::scan::Period;

/// Up to so many lanes are looked for one by one.
const LANES_MAX: usize = 64;

/// Which deliveries are asked for: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub rule: Option<String>,
    pub lead: Option<String>,
    pub event: Option<String>,
    /// In this lane, or in any lane of this credential.
    pub lane: Option<String>,
    /// Standing like one of these; none: like any.
    pub stands: Vec<Stands>,
    /// By when the match was written.
    pub period: Period,
    /// One that was written before this and waits still can't: its outcome isn't kept any more. Epoch milliseconds.
    pub waiting_since: Option<i64>,
}

/// What a rule on trial would have sent in the last 24 hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shadowed {
    pub count: u64,
    /// The most in a minute, and when that minute began.
    pub most_in_a_minute: u64,
    pub most_at: Option<i64>,
}

/// A question with its names as numbers.
pub(super) struct Question<'a> {
    asked: &'a Asked,
    rule: Option<u32>,
    lanes: Option<HashSet<u32>>,
}

impl Question<'_> {
    /// What the pieces of the order can be asked for.
    fn wanted(&self) -> Wanted {
        let lanes = self.lanes.as_ref().filter(|lanes| lanes.len() <= LANES_MAX);
        Wanted {
            rule: self.rule,
            lanes: lanes.map(|lanes| lanes.iter().copied().collect()),
            stands: self.asked.stands.clone(),
        }
    }

    fn holds(&self, entry: &Entry) -> bool {
        let asked = self.asked;
        let is_lost = |since| entry.stands() == Stands::Waiting && entry.at < since;
        self.rule.is_none_or(|rule| rule == entry.rule)
            && self.lanes.as_ref().is_none_or(|lanes| lanes.contains(&entry.lane))
            && (asked.stands.is_empty() || asked.stands.contains(&entry.stands()))
            && asked.period.holds(entry.at)
            && !asked.waiting_since.is_some_and(is_lost)
    }
}

/// The last place of a millisecond.
fn last_of(at: i64) -> Place {
    Place {
        at,
        partition: i32::MAX,
        offset: i64::MAX,
    }
}

impl Deliveries {
    /// Those that are asked for, newest first, behind a place.
    pub fn newest<'a>(
        &'a self,
        asked: &'a Asked,
        after: Option<Place>,
    ) -> Box<dyn Iterator<Item = (Place, Delivery)> + 'a> {
        let Some(question) = self.question(asked) else {
            return Box::new(std::iter::empty());
        };
        let since = asked.period.since.unwrap_or(i64::MIN);
        let of_lead = |entry: &Entry| match (&asked.event, &asked.lead) {
            (Some(_), Some(lead)) => entry.ids.packed(Which::Lead) == super::super::ids::packed(lead),
            _ => true,
        };
        let entries = self.slots(&question, after).map(|slot| self.table.get(slot));
        let asked_for = entries.take_while(move |entry| entry.at >= since);
        let held = asked_for.filter(move |entry| question.holds(entry) && of_lead(entry));
        Box::new(held.map(|entry| (entry.place(), self.delivery(entry))))
    }

    /// None where nothing is of the rule that is asked for.
    pub(super) fn question<'a>(&self, asked: &'a Asked) -> Option<Question<'a>> {
        let rule = match asked.rule.as_deref() {
            Some(rule) => Some(self.rules.number(rule)?),
            None => None,
        };
        let lanes = asked.lane.as_deref().map(|wanted| {
            let all = self.lanes.iter();
            let is_in = |lane: &str| lane == wanted || credential_of(lane) == wanted;
            all.filter(|(lane, _)| is_in(lane)).map(|(_, number)| number).collect()
        });
        Some(Question { asked, rule, lanes })
    }

    /// The slots of the entries that a question has to look at, newest first, behind a place.
    pub(super) fn slots<'a>(
        &'a self,
        question: &Question<'a>,
        after: Option<Place>,
    ) -> Box<dyn Iterator<Item = u32> + 'a> {
        let asked = question.asked;
        let until = asked.period.until.map_or(i64::MAX, |until| until.saturating_sub(1));
        let end = last_of(until);
        // A page goes on behind the place that the one before ended at.
        let below = end.min(after.map_or(end, |after| Place {
            offset: after.offset.saturating_sub(1),
            ..after
        }));
        let (which, id) = match (&asked.event, &asked.lead) {
            (Some(event), _) => (Which::Event, event),
            (None, Some(lead)) => (Which::Lead, lead),
            (None, None) => return Box::new(self.table.newest(below, question.wanted())),
        };
        let mut slots: Vec<u32> = self.table.chain(which, id).collect();
        slots.retain(|slot| self.table.get(*slot).place() <= below);
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(self.table.get(*slot).place()));
        Box::new(slots.into_iter())
    }

    fn delivery(&self, entry: &Entry) -> Delivery {
        Delivery {
            place: entry.place(),
            id: Uuid::from_bytes(entry.id).to_string(),
            event_id: entry.ids.text(Which::Event),
            lead_id: entry.ids.text(Which::Lead),
            rule_id: self.rules.name(entry.rule).to_owned(),
            lane: self.lanes.name(entry.lane).to_owned(),
            stands: entry.stands(),
            attempts: entry.attempts,
            ended_at: entry.result.map(|_| entry.ended_at),
            is_test: entry.is(TEST),
        }
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.table.find(Uuid::try_parse(id).ok()?.as_bytes())
    }

    /// One job's delivery.
    pub fn get(&self, id: &str) -> Option<Delivery> {
        Some(self.delivery(self.table.get(self.find(id)?)))
    }

    /// Where the records of one job are.
    pub fn records(&self, id: &str) -> Option<Records> {
        let slot = self.find(id)?;
        let entry = self.table.get(slot);
        let further = self.further.get(&slot).into_iter().flatten().copied();
        Some(Records {
            job: entry.job(),
            outcomes: entry.outcome().into_iter().chain(further).collect(),
        })
    }

    /// Whether the event has any match.
    pub fn has_event(&self, event_id: &str) -> bool {
        self.table.chain(Which::Event, event_id).next().is_some()
    }

    /// Where the jobs are that went with this one as one digest, itself among them, oldest first.
    pub fn digest(&self, id: &str) -> Vec<Spot> {
        let Some(one) = self.find(id).map(|slot| self.table.get(slot)) else {
            return Vec::new();
        };
        let together = |other: &&Entry| {
            (other.rule, other.lane, other.ended_at, other.result) == (one.rule, one.lane, one.ended_at, one.result)
        };
        if one.result != Some(OutcomeResult::Digested) {
            return Vec::new();
        }
        let wanted = Wanted {
            rule: Some(one.rule),
            lanes: Some(vec![one.lane]),
            stands: vec![Stands::Is(OutcomeResult::Digested)],
        };
        let before = self.table.newest(last_of(one.ended_at), wanted);
        let before = before.map(|slot| self.table.get(slot));
        let mut jobs: Vec<Spot> = before.filter(together).filter_map(Entry::job).collect();
        jobs.reverse();
        jobs
    }

    /// What a rule on trial would have sent, by the matches that are there.
    pub fn shadowed(&self, rule: &str, now: i64) -> Shadowed {
        let Some(rule) = self.rules.number(rule) else {
            return Shadowed::default();
        };
        let wanted = Wanted {
            rule: Some(rule),
            stands: vec![Stands::Is(OutcomeResult::Shadowed)],
            ..Wanted::default()
        };
        let day = self.table.newest(last_of(now), wanted).map(|slot| self.table.get(slot));
        let day = day.take_while(|entry| entry.at > now - 24 * HOUR);
        let (mut shadowed, mut minutes) = (Shadowed::default(), HashMap::<i64, u64>::new());
        for entry in day.filter(|entry| entry.rule == rule && entry.stands() == Stands::Is(OutcomeResult::Shadowed)) {
            shadowed.count += 1;
            *minutes.entry(entry.at.div_euclid(MINUTE)).or_default() += 1;
        }
        if let Some((minute, most)) = minutes.into_iter().max_by_key(|(minute, count)| (*count, *minute)) {
            (shadowed.most_in_a_minute, shadowed.most_at) = (most, Some(minute * MINUTE));
        }
        shadowed
    }

    /// How many of the matches since a time stand how, tests aside; the most first.
    pub fn tally(&self, since: i64) -> Vec<(Stands, u64)> {
        let from = Place {
            at: since,
            partition: i32::MIN,
            offset: i64::MIN,
        };
        let tally = self.table.tally(from);
        let counted = by_stands(&tally).filter(|(_, count)| *count > 0);
        let mut tally: Vec<(Stands, u64)> = counted.map(|(stands, count)| (stands, u64::from(count))).collect();
        tally.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        tally
    }

    /// The lanes of all that is there, in no order.
    pub fn lanes(&self) -> impl Iterator<Item = &str> {
        self.lanes.iter().map(|(lane, _)| lane)
    }

    /// When a rule matched last, as far as it was counted.
    pub fn last_matched_at(&self, rule: &str) -> Option<i64> {
        self.counts.last_matched_at(rule)
    }

    /// The rules that matched most in the last 24 hours.
    pub fn busiest(&self, most: usize, now: i64) -> Vec<(String, OfRule)> {
        self.counts.busiest(most, now)
    }

    /// How often a rule matched in the last 24 hours.
    pub fn matched(&self, rule: &str, now: i64) -> u64 {
        self.counts.matched_in_hours(rule, now)
    }

    pub fn of_rule(&self, rule: &str, now: i64) -> OfRule {
        self.counts.of_rule(rule, now)
    }

    pub(in crate::desk::resident) fn all(&self) -> &Chart<Count> {
        self.counts.all()
    }

    pub(in crate::desk::resident) fn waited(&self) -> &Chart<i32> {
        self.counts.waited()
    }

    /// The time of the oldest, and of the youngest that had to go.
    pub(in crate::desk::resident) fn reach(&self) -> (Option<i64>, Option<i64>) {
        let oldest = self.table.oldest().map(|slot| self.table.get(slot).at);
        (oldest, self.gone)
    }
}
