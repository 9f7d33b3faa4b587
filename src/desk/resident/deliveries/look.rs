//! Looks deliveries up: lists, one job's records, counts.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::super::counts::{Chart, Count, HOUR, MINUTE, OfRule};
use super::{Deliveries, Delivery, Entry, OutcomeResult, Records, Spot, Stands, TEST, Which};
use crate::delivery::recall::credential_of;
use crate::desk::page::Place;
use crate::desk::scan::Period;

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
struct Question<'a> {
    asked: &'a Asked,
    rule: Option<u32>,
    lanes: Option<HashSet<u32>>,
}

impl Question<'_> {
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

impl Deliveries {
    /// Those that are asked for, newest first, behind a place.
    pub fn newest<'a>(
        &'a self,
        asked: &'a Asked,
        after: Option<Place>,
    ) -> Box<dyn Iterator<Item = (Place, Delivery)> + 'a> {
        let rule = asked.rule.as_deref().map(|rule| self.rules.number(rule));
        if rule == Some(None) {
            return Box::new(std::iter::empty());
        }
        let lanes = asked.lane.as_deref().map(|wanted| {
            let all = self.lanes.iter();
            let is_in = |lane: &str| lane == wanted || credential_of(lane) == wanted;
            all.filter(|(lane, _)| is_in(lane)).map(|(_, number)| number).collect()
        });
        let question = Question {
            asked,
            rule: rule.flatten(),
            lanes,
        };
        let since = asked.period.since.unwrap_or(i64::MIN);
        let until = asked.period.until.map_or(i64::MAX, |until| until.saturating_sub(1));
        let below = until.min(after.map_or(i64::MAX, |after| after.at));
        let chain = match (&asked.event, &asked.lead) {
            (Some(event), _) => Some((Which::Event, event)),
            (None, Some(lead)) => Some((Which::Lead, lead)),
            (None, None) => None,
        };
        let slots: Box<dyn Iterator<Item = u32>> = match chain {
            None => Box::new(self.table.newest(below)),
            Some((which, id)) => {
                let mut slots: Vec<u32> = self.table.chain(which, id).collect();
                slots.retain(|slot| self.table.get(*slot).at <= below);
                slots.sort_unstable_by_key(|slot| std::cmp::Reverse((self.table.get(*slot).at, *slot)));
                Box::new(slots.into_iter())
            }
        };
        let of_lead = |entry: &Entry| match (&asked.event, &asked.lead) {
            (Some(_), Some(lead)) => entry.ids.packed(Which::Lead) == super::super::ids::packed(lead),
            _ => true,
        };
        let mut passed = self.stands_at(after);
        let entries = slots.map(|slot| self.table.get(slot));
        let behind = entries.filter(move |entry| match passed {
            Some(place) if entry.at == place.at => {
                passed = passed.filter(|place| self.place(entry) != *place);
                false
            }
            _ => true,
        });
        let behind = behind.take_while(move |entry| entry.at >= since);
        let held = behind.filter(move |entry| question.holds(entry) && of_lead(entry));
        Box::new(held.map(|entry| (self.place(entry), self.delivery(entry))))
    }

    /// The place that a page ended at, as long as it is there. Where it isn't, nothing of its millisecond is passed over.
    fn stands_at(&self, after: Option<Place>) -> Option<Place> {
        let after = after?;
        let mut of_then = self.table.newest(after.at).map(|slot| self.table.get(slot));
        let of_then = of_then.by_ref().take_while(|entry| entry.at == after.at);
        of_then.map(|entry| self.place(entry)).find(|place| *place == after)
    }

    fn place(&self, entry: &Entry) -> Place {
        let spot = entry.job().or(entry.outcome());
        Place {
            at: entry.at,
            partition: spot.map_or(-1, |spot| spot.partition),
            offset: spot.map_or(-1, |spot| spot.offset),
        }
    }

    fn delivery(&self, entry: &Entry) -> Delivery {
        Delivery {
            place: self.place(entry),
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
        let before = self.table.newest(one.ended_at).map(|slot| self.table.get(slot));
        let mut jobs: Vec<Spot> = before.filter(together).filter_map(Entry::job).collect();
        jobs.reverse();
        jobs
    }

    /// What a rule on trial would have sent, by the matches that are there.
    pub fn shadowed(&self, rule: &str, now: i64) -> Shadowed {
        let Some(rule) = self.rules.number(rule) else {
            return Shadowed::default();
        };
        let day = self.table.newest(now).map(|slot| self.table.get(slot));
        let day = day.take_while(|entry| entry.at > now - 24 * HOUR);
        let (mut shadowed, mut minutes) = (Shadowed::default(), HashMap::<i64, u64>::new());
        for entry in day.filter(|entry| entry.rule == rule && entry.result == Some(OutcomeResult::Shadowed)) {
            shadowed.count += 1;
            *minutes.entry(entry.at.div_euclid(MINUTE)).or_default() += 1;
        }
        if let Some((minute, most)) = minutes.into_iter().max_by_key(|(minute, count)| (*count, *minute)) {
            (shadowed.most_in_a_minute, shadowed.most_at) = (most, Some(minute * MINUTE));
        }
        shadowed
    }

    pub fn of_rule(&self, rule: &str, now: i64) -> OfRule {
        self.counts.of_rule(rule, now)
    }

    pub(in crate::desk::resident) fn all(&self) -> &Chart<Count> {
        self.counts.all()
    }

    /// The time of the oldest, and of the youngest that had to go.
    pub(in crate::desk::resident) fn reach(&self) -> (Option<i64>, Option<i64>) {
        let oldest = self.table.oldest().map(|slot| self.table.get(slot).at);
        (oldest, self.gone)
    }
}
