//! Control records: what people order of lanes, of credentials and of all sending. They stand in the rules topic beside
//! the rules, under the key `lane:LANE`; no rule's id has a colon.
//!
//! ```text
//! lane:slack:sales-bot/C0123ABCD   one lane
//! lane:slack:sales-bot             every lane of a credential
//! lane:*                           all sending
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::dates;

/// How the key of a control record begins.
const KEY: &str = "lane:";
/// What stands for all sending in the place of a lane.
pub const ALL: &str = "*";

/// What is ordered of a lane, of a credential or of all sending, as its last record says. Times are in epoch
/// milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// Nothing of it starts until it is resumed.
    pub paused: bool,
    /// What waits since before this time for a backing off or a refusal to be over is tried at once.
    pub probe_at: Option<i64>,
    /// Who ordered it, and when, where the record says so.
    pub who: Option<String>,
    pub when: Option<i64>,
}

/// What a person orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Pause,
    Resume,
    /// Try now.
    Probe,
}

/// All orders that hold, by lane, credential or [`ALL`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controls(HashMap<Arc<str>, Control>);

/// The key of the control record of a lane, a credential or [`ALL`].
pub fn key_of(lane: &str) -> String {
    format!("{KEY}{lane}")
}

/// What a key is about; `None` where it is no control record's.
pub fn lane_of(key: &str) -> Option<&str> {
    key.strip_prefix(KEY)
}

impl Control {
    /// Reads a control record. What it lacks is not ordered; the error names the field.
    pub fn read(written: &Value) -> Result<Self, String> {
        if !written.is_object() {
            return Err("needs an object with paused, probe_at, who and when".to_owned());
        }
        let field = |name: &str| written.get(name).filter(|value| !value.is_null());
        let time = |name: &str| -> Result<Option<i64>, String> {
            match field(name) {
                None => Ok(None),
                Some(value) => {
                    let number = value.as_number().map(ToString::to_string);
                    let read = dates::parse(value.as_str().or(number.as_deref()).unwrap_or_default());
                    let time = read.map_err(|_| format!("{name}: needs a time such as 2026-03-05T15:16:00Z"))?;
                    Ok(Some(time.as_millisecond()))
                }
            }
        };
        Ok(Self {
            paused: match field("paused") {
                None => false,
                Some(paused) => paused.as_bool().ok_or("paused: needs true or false")?,
            },
            probe_at: time("probe_at")?,
            who: match field("who") {
                None => None,
                Some(who) => Some(who.as_str().ok_or("who: needs a text")?.to_owned()),
            },
            when: time("when")?,
        })
    }

    /// A pause, as people are told of it; `of` is what is paused.
    pub fn words(&self, of: &str) -> String {
        let what = if of == ALL { "all sending" } else { of };
        let who = self.who.as_ref().map_or(String::new(), |who| format!(" by {who}"));
        let when = self
            .when
            .map_or(String::new(), |when| format!(" since {}", dates::time_text(when)));
        format!("{what} is paused{who}{when}")
    }

    pub fn to_json(&self) -> Value {
        let time = |millis: Option<i64>| millis.map(dates::time_text);
        json!({"paused": self.paused, "probe_at": time(self.probe_at), "who": self.who, "when": time(self.when)})
    }
}

impl Order {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Probe => "probe",
        }
    }

    /// What holds once `who` has ordered this at `when`; `None` is nothing at all. What is paused stays as it is, but
    /// for being resumed: who paused it first is still told.
    pub fn after(self, before: Option<&Control>, who: &str, when: i64) -> Option<Control> {
        let paused = before.filter(|before| before.paused);
        let ordered = |paused, probe_at| Control {
            paused,
            probe_at,
            who: Some(who.to_owned()),
            when: Some(when),
        };
        match self {
            Self::Pause => Some(paused.cloned().unwrap_or_else(|| ordered(true, None))),
            // A probe that nobody has made yet still holds.
            Self::Resume => before.filter(|before| !before.paused).cloned(),
            // It resumes nothing.
            Self::Probe => Some(paused.cloned().unwrap_or_else(|| ordered(false, Some(when)))),
        }
    }
}

impl Controls {
    /// What is ordered of exactly this lane, credential or [`ALL`].
    pub fn get(&self, lane: &str) -> Option<&Control> {
        // Nearly always nothing is ordered, and senders ask for every request.
        if self.0.is_empty() { None } else { self.0.get(lane) }
    }

    pub fn is_paused(&self, lane: &str) -> bool {
        self.get(lane).is_some_and(|control| control.paused)
    }

    /// The pause that holds a lane of a credential, and what it is about: the lane, its credential or all sending.
    pub fn pause_of<'l>(&self, lane: &'l str, credential: &'l str) -> Option<(&'l str, &Control)> {
        let pause = |of: &'l str| Some((of, self.get(of).filter(|control| control.paused)?));
        [ALL, credential, lane].into_iter().find_map(pause)
    }

    /// Every lane, credential or [`ALL`] of which something is ordered, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Control)> {
        self.0.iter().map(|(lane, control)| (&**lane, control))
    }

    /// Of these there are orders now that `before` didn't have.
    pub fn since<'c>(&'c self, before: &'c Self) -> impl Iterator<Item = (&'c str, &'c Control)> {
        self.iter().filter(|(lane, control)| before.get(lane) != Some(control))
    }

    /// From now on this is ordered; says whether that is news.
    pub(super) fn put(&mut self, lane: &str, control: Option<Control>) -> bool {
        match control {
            None => self.0.remove(lane).is_some(),
            Some(control) if self.0.get(lane) == Some(&control) => false,
            Some(control) => {
                self.0.insert(lane.into(), control);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Control, String> {
        Control::read(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_record_is_read_as_it_is_written_and_an_emergency_one_by_hand_too() {
        let control = Control {
            paused: true,
            probe_at: Some(1_772_723_760_123),
            who: Some("ana".into()),
            when: Some(1_772_723_761_000),
        };
        let written = control.to_json();
        assert_eq!(written["probe_at"], "2026-03-05T15:16:00.123Z");
        assert_eq!(Control::read(&written), Ok(control));
        assert!(read(r#"{"paused": true}"#).unwrap().paused);
        assert_eq!(
            read(r#"{"probe_at": 1772723760123, "later": 1}"#).unwrap().probe_at,
            Some(1_772_723_760_123)
        );
        assert_eq!(read(r#"{"probe_at": null, "who": null}"#), Ok(Control::default()));
        for (text, wrong) in [
            (r#"{"paused": "yes"}"#, "paused: "),
            (r#"{"probe_at": "soon"}"#, "probe_at: "),
            (r#"{"probe_at": 5}"#, "probe_at: "),
            (r#"{"who": 5}"#, "who: "),
            (r#"{"when": true}"#, "when: "),
            ("[]", "needs an object"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(wrong), "{text}: {refused}");
        }
    }

    #[test]
    fn an_order_changes_what_it_is_about_and_a_second_pause_keeps_the_first() {
        let pause = Order::Pause.after(None, "ana", 5).unwrap();
        assert!(pause.paused && pause.who.as_deref() == Some("ana") && pause.when == Some(5));
        assert_eq!(Order::Pause.after(Some(&pause), "ben", 9), Some(pause.clone()));
        assert_eq!(Order::Resume.after(Some(&pause), "ben", 9), None);
        let probe = Order::Probe.after(None, "ana", 7).unwrap();
        assert_eq!((probe.paused, probe.probe_at), (false, Some(7)));
        assert_eq!(Order::Resume.after(Some(&probe), "ben", 9), Some(probe.clone()));
        let paused = Order::Pause.after(Some(&probe), "ben", 9).unwrap();
        assert_eq!((paused.paused, paused.who.as_deref()), (true, Some("ben")));
        assert_eq!(Order::Probe.after(Some(&paused), "ana", 11), Some(paused.clone()));
    }

    #[test]
    fn a_lane_is_paused_by_itself_its_credential_or_all() {
        let mut controls = Controls::default();
        let pause = || Order::Pause.after(None, "ana", 5);
        let of = |controls: &Controls| {
            let held = controls.pause_of("slack:a/C1", "slack:a");
            held.map(|(of, _)| of.to_owned())
        };
        assert_eq!(of(&controls), None);
        for lane in ["slack:a/C1", "slack:a", ALL] {
            let before = controls.clone();
            assert!(controls.put(lane, pause()) && !controls.put(lane, pause()));
            assert_eq!(of(&controls).as_deref(), Some(lane));
            let news: Vec<&str> = controls.since(&before).map(|(lane, _)| lane).collect();
            assert_eq!(news, [lane]);
        }
        for lane in ["slack:a/C1", "slack:a", ALL] {
            assert!(controls.put(lane, None) && !controls.put(lane, None));
        }
        assert_eq!(of(&controls), None);
        assert_eq!(lane_of(&key_of("slack:a/C1")), Some("slack:a/C1"));
        assert_eq!(lane_of("big-auto-sales"), None);
    }
}
