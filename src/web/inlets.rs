//! The inlets: from the configuration, and from what the desk remembers of each.

use crate::config::Config;
use crate::desk::dead_letters::recent::{self, Asked};
use crate::desk::resident::Resident;
use crate::desk::resident::letters::Letter;
use crate::mapping::{Entrance, Inlet, Key, KeyPlace, Preset};

const DAY: i64 = 24 * 3_600_000;
/// So many of the last dead letters are looked at.
const LETTERS_MAX: usize = 1000;

/// An inlet, and what came in by it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) preset: Option<&'static str>,
    /// Where it takes records from.
    pub(super) way: Way,
    /// The events of the last seven days by the hour, oldest first, each with the time it begins at.
    pub(super) hours: Vec<(i64, u64)>,
    /// Epoch milliseconds.
    pub(super) last_at: Option<i64>,
    /// How many of the last 24 hours' records became dead letters, and the last of them at any time.
    pub(super) refused_24h: u64,
    pub(super) last_refused: Option<Letter>,
}

/// Where an inlet takes records from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Http {
        url: String,
        /// The names of the secrets that open it, never their values.
        secrets: Vec<String>,
        /// A request as one may send it.
        sample: String,
    },
    Topic(String),
}

impl Seen {
    pub(super) fn taken_24h(&self) -> u64 {
        self.hours.iter().rev().take(24).map(|(_, count)| count).sum()
    }
}

/// Every inlet of the configuration. `now` is in epoch milliseconds.
pub(super) fn seen(config: &Config, resident: &Resident, now: i64) -> Vec<Seen> {
    let hours = resident.inlets(now);
    let letters = recent::recent(resident, &Asked::default(), None, LETTERS_MAX).items;
    let of = |inlet: &Inlet| {
        let own = hours.iter().find(|(name, _)| *name == inlet.name);
        let is_its = |letter: &&Letter| is_of(letter, inlet);
        let events = resident.events();
        let last = events
            .newest(None)
            .find(|event| event.inlet.as_deref() == Some(&*inlet.name));
        Seen {
            name: inlet.name.clone(),
            preset: inlet.preset.map(Preset::as_str),
            way: way(config, inlet),
            hours: own
                .into_iter()
                .flat_map(|(_, hours)| hours)
                .map(|(at, count)| (*at, u64::from(*count)))
                .collect(),
            last_at: last.map(|event| event.place.at),
            refused_24h: letters
                .iter()
                .filter(is_its)
                .filter(|letter| letter.place.at > now - DAY)
                .count() as u64,
            last_refused: letters.iter().find(is_its).cloned(),
        }
    };
    config.inlets.iter().map(of).collect()
}

/// Whether a dead letter is of a record that came by an inlet.
fn is_of(letter: &Letter, inlet: &Inlet) -> bool {
    match &inlet.entrance {
        Entrance::Http { .. } => letter.source.strip_prefix("inlet:") == Some(&inlet.name),
        Entrance::Topic { topic } => *letter.source == **topic,
    }
}

fn way(config: &Config, inlet: &Inlet) -> Way {
    let keys = match &inlet.entrance {
        Entrance::Http { keys, .. } => keys,
        Entrance::Topic { topic } => return Way::Topic(topic.clone()),
    };
    let route = inlet.preset.map_or("", Preset::first_route);
    let mut url = format!("http://{}/inlets/{}", config.inlet.listen, inlet.name);
    if !route.is_empty() {
        url.push_str(&format!("/{route}"));
    }
    Way::Http {
        secrets: keys.iter().map(|key| key.secret.to_string()).collect(),
        sample: sample(config, inlet, &url, keys.first()),
        url,
    }
}

/// A request with curl. Of the secret it has the place, from which the shell takes the value.
fn sample(config: &Config, inlet: &Inlet, url: &str, key: Option<&Key>) -> String {
    let secret = key.map(|key| match &config.secrets.dir {
        Some(dir) => format!("$(cat {}/{})", dir.display(), key.secret),
        None => format!("${}", key.secret.variable()),
    });
    let secret = secret.unwrap_or_default();
    let (shown, path) = match key.map(|key| key.place) {
        Some(KeyPlace::Bearer) => (format!(" -H \"Authorization: Bearer {secret}\""), String::new()),
        Some(KeyPlace::Basic | KeyPlace::WriteKey) => (format!(" -u \"{secret}:\""), String::new()),
        Some(KeyPlace::Path) => (String::new(), format!("/{secret}")),
        // Slack signs its own requests; nobody else does.
        Some(KeyPlace::Signature) | None => (String::new(), String::new()),
    };
    let body = match inlet.preset {
        Some(Preset::Track) => {
            r#"{"messageId":"m-1","userId":"84512377","event":"Order placed","timestamp":"2026-03-05T15:16:00Z"}"#
        }
        Some(Preset::Clevertap) => r#"{"targetId":1,"profiles":[{"identity":"84512377","event_properties":{}}]}"#,
        Some(Preset::Sheet) => r#"{"id":"7","first_name":"Ana"}"#,
        _ => r#"{"id":"a-1"}"#,
    };
    format!("curl -i{shown} -H 'Content-Type: application/json' -d '{body}' \"{url}{path}\"")
}
