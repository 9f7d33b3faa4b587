//! The recent lead events, whole, and how many came by the hour.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counts::{Chart, HOUR, Steps};
use crate::desk::page::Place;
use crate::kafka::reader::Record;
use crate::lead::LeadEvent;
use crate::lead::decode::{decode, lacks};
use crate::lead::schemas::{SchemaId, Schemas};

/// The most bytes of all events together.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an event takes beside its record.
const BESIDE: usize = 256;
/// So many schemas are asked for at once.
const LACKING_MAX: usize = 30;
const WEEK_HOURS: usize = 7 * 24;

/// A lead event that came of late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// When its record was written, and where.
    pub place: Place,
    pub event_id: Box<str>,
    pub lead_id: Box<str>,
    pub trigger: Box<str>,
    pub inlet: Option<Box<str>>,
    /// Epoch milliseconds.
    pub occurred_at: i64,
    pub is_test: bool,
    /// Its record, as it was read.
    pub bytes: Arc<[u8]>,
}

impl Recent {
    fn of(event: &LeadEvent<'_>, place: Place, bytes: Arc<[u8]>) -> Self {
        Self {
            place,
            event_id: (&*event.event_id).into(),
            lead_id: (&*event.lead_id).into(),
            trigger: (&*event.trigger).into(),
            inlet: event.inlet.as_deref().map(Into::into),
            occurred_at: event.occurred_at.as_millisecond(),
            is_test: event.is_test == Some(true),
            bytes,
        }
    }
}

#[derive(Debug)]
enum Event {
    Read(Arc<Recent>),
    /// Its schema has to be looked up first, or the registry denied it.
    Unread(Arc<[u8]>),
}

impl Event {
    fn size(&self) -> usize {
        BESIDE
            + match self {
                Self::Read(recent) => recent.bytes.len(),
                Self::Unread(bytes) => bytes.len(),
            }
    }
}

#[derive(Debug)]
pub struct Events {
    most: usize,
    events: BTreeMap<Place, Event>,
    bytes: usize,
    unread: usize,
    chart: Chart<u32>,
    /// Of the configuration's inlets alone: a record may name any.
    inlets: BTreeMap<String, Steps<u32, WEEK_HOURS, HOUR>>,
    gone: Option<i64>,
}

impl Events {
    /// At most so many, with counts of these inlets.
    pub fn new<'n>(most: usize, inlets: impl IntoIterator<Item = &'n str>) -> Self {
        let inlets = inlets.into_iter().map(|name| (name.to_owned(), Steps::default()));
        Self {
            most: most.max(1),
            events: BTreeMap::new(),
            bytes: 0,
            unread: 0,
            chart: Chart::default(),
            inlets: inlets.collect(),
            gone: None,
        }
    }

    /// Takes in a record of the topic. One that is no lead event counts, and isn't kept.
    pub fn take(&mut self, record: Record, schemas: &Schemas, now: i64) {
        let at = super::written_at(record.timestamp, now);
        let place = Place {
            at,
            partition: record.partition,
            offset: record.offset,
        };
        self.chart.count(at, |count| *count = count.saturating_add(1));
        let bytes: Arc<[u8]> = record.value.unwrap_or_default().into();
        let event = match decode(&bytes, schemas) {
            Ok(event) => {
                let recent = Recent::of(&event, place, Arc::clone(&bytes));
                self.count_inlet(&recent);
                Event::Read(Arc::new(recent))
            }
            Err(_) if lacks(&bytes, schemas).is_some() => Event::Unread(bytes),
            Err(_) => return,
        };
        self.unread += usize::from(matches!(event, Event::Unread(_)));
        self.bytes += event.size();
        if let Some(before) = self.events.insert(place, event) {
            self.forget(&before);
        }
        while (self.events.len() > self.most || self.bytes > BYTES_MAX)
            && let Some((place, event)) = self.events.pop_first()
        {
            self.forget(&event);
            self.gone = self.gone.max(Some(place.at));
        }
    }

    fn forget(&mut self, event: &Event) {
        self.bytes -= event.size();
        self.unread -= usize::from(matches!(event, Event::Unread(_)));
    }

    fn count_inlet(&mut self, recent: &Recent) {
        let inlet = recent.inlet.as_deref().and_then(|inlet| self.inlets.get_mut(inlet));
        let count = inlet.and_then(|steps| steps.at(recent.place.at));
        count.into_iter().for_each(|count| *count = count.saturating_add(1));
    }

    /// The schemas that some events wait for.
    pub fn lacking(&self, schemas: &Schemas) -> Vec<SchemaId> {
        let mut ids = Vec::new();
        if self.unread == 0 {
            return ids;
        }
        for event in self.events.values().rev() {
            if let Event::Unread(bytes) = event
                && let Some(id) = lacks(bytes, schemas)
                && !ids.contains(&id)
            {
                ids.push(id);
                if ids.len() == LACKING_MAX {
                    break;
                }
            }
        }
        ids
    }

    /// Reads the events again that waited for a schema.
    pub fn read_again(&mut self, schemas: &Schemas) {
        if self.unread == 0 {
            return;
        }
        let mut read = Vec::new();
        for (place, event) in &mut self.events {
            let Event::Unread(bytes) = event else { continue };
            let found = decode(bytes, schemas).map(|event| Arc::new(Recent::of(&event, *place, Arc::clone(bytes))));
            if let Ok(recent) = found {
                read.push(Arc::clone(&recent));
                *event = Event::Read(recent);
            }
        }
        self.unread -= read.len();
        read.iter().for_each(|recent| self.count_inlet(recent));
    }

    /// Those before a place, newest first.
    pub fn newest(&self, after: Option<Place>) -> impl Iterator<Item = &Arc<Recent>> {
        let before = match after {
            Some(after) => self.events.range(..after),
            None => self.events.range::<Place, _>(..),
        };
        before.rev().filter_map(|(_, event)| match event {
            Event::Read(recent) => Some(recent),
            Event::Unread(_) => None,
        })
    }

    pub fn get(&self, place: Place) -> Option<&Arc<Recent>> {
        match self.events.get(&place)? {
            Event::Read(recent) => Some(recent),
            Event::Unread(_) => None,
        }
    }

    /// How many events wait for their schema.
    pub fn unread(&self) -> usize {
        self.unread
    }

    pub(super) fn chart(&self) -> &Chart<u32> {
        &self.chart
    }

    /// By inlet of the configuration, its events by the hour.
    pub fn inlets(&self, now: i64) -> impl Iterator<Item = (&str, Vec<(i64, u32)>)> {
        self.inlets
            .iter()
            .map(move |(name, steps)| (name.as_str(), steps.until(now).collect()))
    }

    /// The time of the oldest, and of the youngest that had to go.
    pub(super) fn reach(&self) -> (Option<i64>, Option<i64>) {
        (self.events.first_key_value().map(|(place, _)| place.at), self.gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(number: i64, inlet: &str) -> Vec<u8> {
        format!(
            "{{\"event_id\":\"e-{number}\",\"trigger\":\"lms.lead_sold\",\"occurred_at\":\"2026-03-05T15:16:00Z\",\
             \"lead_id\":\"l-{}\",\"inlet\":\"{inlet}\"}}",
            number % 3
        )
        .into_bytes()
    }

    fn record(offset: i64, timestamp: i64, value: Vec<u8>) -> Record {
        Record {
            offset,
            timestamp,
            value: Some(value),
            ..Record::default()
        }
    }

    fn ids(events: &Events, after: Option<Place>) -> Vec<String> {
        events.newest(after).map(|recent| recent.event_id.to_string()).collect()
    }

    #[test]
    fn the_newest_by_time_stay_whatever_order_they_are_read_in() {
        let (schemas, mut events) = (Schemas::new(), Events::new(3, ["crm"]));
        for number in [4, 1, 5, 2, 3] {
            events.take(record(number, 1000 * number, json(number, "crm")), &schemas, 100_000);
        }
        assert_eq!(ids(&events, None), ["e-5", "e-4", "e-3"]);
        let at = |number| Place {
            at: 1000 * number,
            partition: 0,
            offset: number,
        };
        assert_eq!(ids(&events, Some(at(5))), ["e-4", "e-3"]);
        events.take(record(6, 6000, json(6, "crm")), &schemas, 100_000);
        assert_eq!(
            ids(&events, Some(at(5))),
            ["e-4"],
            "a page goes on where the one before ended"
        );
        assert_eq!(events.reach(), (Some(4000), Some(3000)));
        assert_eq!(&*events.get(at(4)).unwrap().lead_id, "l-1");
        assert_eq!(events.chart().hour(6000)[59].1, 6, "those that went count too");
        let inlets: Vec<_> = events.inlets(6000).collect();
        assert_eq!((inlets[0].0, inlets[0].1[WEEK_HOURS - 1].1), ("crm", 6));
    }

    #[test]
    fn junk_counts_and_is_not_kept_and_a_clock_that_is_ahead_counts_as_now() {
        let (schemas, mut events) = (Schemas::new(), Events::new(3, []));
        events.take(record(0, 5, b"junk".to_vec()), &schemas, 10);
        events.take(record(1, i64::MAX, json(1, "other")), &schemas, 10);
        assert_eq!(ids(&events, None), ["e-1"]);
        assert_eq!(events.newest(None).next().unwrap().place.at, 10);
        assert_eq!(events.chart().hour(10)[59].1, 2);
    }

    #[test]
    fn all_events_together_have_bounded_bytes() {
        let (schemas, mut events) = (Schemas::new(), Events::new(1000, []));
        let text = |number| {
            let mut text = json(number, "x");
            text.resize(10_000_000, b' ');
            text
        };
        for number in 0..8 {
            events.take(record(number, number, text(number)), &schemas, 100);
        }
        assert_eq!(ids(&events, None).len(), 6);
        assert!(events.bytes <= BYTES_MAX);
    }

    #[test]
    fn an_event_that_waits_for_its_schema_is_read_once_that_is_known() {
        let (mut schemas, mut events) = (Schemas::new(), Events::new(10, []));
        let text = std::str::from_utf8(&json(1, "x")).unwrap().to_owned();
        let event = crate::lead::decode::decode_json(text.as_bytes()).unwrap();
        let single = crate::lead::encode::single_object(&event).unwrap();
        let framed = [&[0, 0, 0, 0, 7], &single[10..]].concat();
        events.take(record(1, 1, framed), &schemas, 100);
        assert_eq!((ids(&events, None).len(), events.unread()), (0, 1));
        assert_eq!(events.lacking(&schemas), [SchemaId::Id(7)]);
        schemas.learn(SchemaId::Id(7), include_str!("../../../schemas/lead_event.avsc"), &[]);
        assert_eq!(events.lacking(&schemas), []);
        events.read_again(&schemas);
        assert_eq!((ids(&events, None), events.unread()), (vec!["e-1".to_owned()], 0));
    }
}
