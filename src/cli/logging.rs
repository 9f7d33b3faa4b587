//! The log: to stderr, so that stdout stays for data; one event a line, and no line longer than [`LINE_MAX`].
//!
//! Much of a log comes from outside: keys, ids, a provider's words, a broker's. The code that logs such a text bounds
//! it where that need is known; the writer here bounds all others, and keeps JSON readable as JSON.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::CliError;
use crate::config::{Config, LogFormat};
use crate::text;

/// The bytes of a line, its end included.
const LINE_MAX: usize = 16 * 1024;
/// The bytes of each text in a JSON line that is too long: first so many, then fewer.
const TEXT_MAX: [usize; 3] = [4096, 512, 64];
const LEVEL: &str = "log.level: is no level; write error, warn, info, debug or trace, or TARGET=LEVEL by comma";
const CUT: &str = "… (cut)";

/// Starts it, for the rest of the process.
pub(super) fn start(config: &Config) -> Result<(), CliError> {
    let filter =
        tracing_subscriber::EnvFilter::try_new(&config.log.level).map_err(|_| CliError::Invalid(LEVEL.to_owned()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(config.log.format));
    match config.log.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
    }
    Ok(())
}

/// Gives each event a writer for its line.
struct Lines(LogFormat);

/// Takes the whole line of an event at once, as the formatter gives it.
struct Line(LogFormat);

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(self.0)
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let bounded = match self.0 {
            LogFormat::Json => json_line(&text),
            LogFormat::Text => text_line(&text),
        };
        io::stderr().lock().write_all(bounded.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line of text: what breaks lines in it is shown, and what is too long is cut.
fn text_line(line: &str) -> Cow<'_, str> {
    let whole = line.strip_suffix('\n').unwrap_or(line);
    if whole.len() < LINE_MAX && !whole.contains(['\n', '\r']) {
        return line.into();
    }
    let mut shown = cut(whole, LINE_MAX).replace('\n', "\\n").replace('\r', "\\r");
    if shown.len() >= LINE_MAX {
        shown.truncate(text::within(&shown, LINE_MAX - CUT.len() - 1).len());
        shown.push_str(CUT);
    }
    (shown + "\n").into()
}

/// A line of JSON, whose texts are cut when it is too long.
fn json_line(line: &str) -> Cow<'_, str> {
    if line.len() <= LINE_MAX {
        return line.into();
    }
    let Ok(mut event) = serde_json::from_str::<Value>(line) else {
        return text_line(line);
    };
    for max in TEXT_MAX {
        shorten(&mut event, max);
        let shorter = format!("{event}\n");
        if shorter.len() <= LINE_MAX {
            return shorter.into();
        }
    }
    // No event of ours has so many fields.
    let known = |name: &str| event.get(name).filter(|value| value.is_string());
    let (time, level, target) = (known("timestamp"), known("level"), known("target"));
    let event =
        json!({"timestamp": time, "level": level, "target": target, "message": "a log line is too long and left out"});
    format!("{event}\n").into()
}

fn shorten(value: &mut Value, max: usize) {
    match value {
        Value::String(text) if text.len() > max => *text = cut(text, max).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, max)),
        Value::Object(members) => members.values_mut().for_each(|value| shorten(value, max)),
        _ => {}
    }
}

/// The first bytes of a text, never a part of a character, and the fact that there were more.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return text.into();
    }
    let kept = text::within(text, max.saturating_sub(CUT.len()));
    format!("{kept}{CUT}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ours_is_left_as_it_is() {
        let text = "2026-03-05T15:16:00Z  INFO leadlane::app: leadlane starts\n";
        assert!(matches!(text_line(text), Cow::Borrowed(same) if same == text));
        let json = "{\"level\":\"INFO\"}\n";
        assert!(matches!(json_line(json), Cow::Borrowed(same) if same == json));
    }

    #[test]
    fn a_long_line_is_cut_within_its_bound_and_stays_one() {
        for junk in [
            "x".repeat(3_200_000),
            "é\n".repeat(500_000),
            "\n\r".repeat(9000),
            "😀".repeat(10_000),
        ] {
            let line = text_line(&format!("WARN {junk}\n")).into_owned();
            assert!(line.len() <= LINE_MAX && line.starts_with("WARN "), "{}", line.len());
            assert_eq!(line.matches('\n').count(), 1);
            assert!(line.ends_with('\n') && !line.contains('\r'));

            let event = json!({"timestamp": "t", "level": "WARN", "detail": junk, "inner": {"list": [junk, 1]}, "message": "m"});
            let line = json_line(&format!("{event}\n")).into_owned();
            assert!(line.len() <= LINE_MAX, "{}", line.len());
            let read: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&read["level"], &read["message"]), (&json!("WARN"), &json!("m")));
        }
        let many: serde_json::Map<String, Value> =
            (0..10_000).map(|number| (format!("f{number}"), json!("x"))).collect();
        let line = json_line(&Value::from(many).to_string()).into_owned();
        assert!(line.len() <= LINE_MAX && serde_json::from_str::<Value>(&line).is_ok());
    }

    #[test]
    fn outside_text_starts_no_line_of_its_own() {
        let line = "WARN error=gone\n2026-03-05T15:16:00Z ERROR forged\n";
        assert_eq!(text_line(line), "WARN error=gone\\n2026-03-05T15:16:00Z ERROR forged\n");
    }

    #[test]
    fn the_formatter_gives_a_whole_line_at_once() {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Calls(Arc<Mutex<Vec<usize>>>);
        impl Write for Calls {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                assert!(line.ends_with(b"\n"));
                self.0.lock().unwrap().push(line.len());
                Ok(line.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let calls = Calls::default();
        let writer = calls.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(detail = "x".repeat(100_000), "m"));
        assert_eq!(calls.0.lock().unwrap().len(), 1);
    }
}
