//! `leadlane rules send-test`

use std::path::Path;

use serde_json::json;

use super::explain::{decoded, read_event};
use crate::app::now_millis;
use crate::cli::look::plain;
use crate::cli::{CliError, print, who};
use crate::config::Config;
use crate::delivery::OutcomeResult;
use crate::desk::rules::{self, Draft, View};
use crate::desk::send_test::{self, Answer, Request};

pub(super) fn send_test(config: &Config, id: &str, file: &Path, json: bool) -> Result<(), CliError> {
    let (bytes, schemas) = read_event(config, file)?;
    let event = decoded(file, &bytes, &schemas)?;
    let view = View::scan(config)?;
    let in_force = rules::get(&view, id)?;
    let rule = in_force.whole().map(|versioned| versioned.rule);
    if *in_force.rule.trigger != event.trigger {
        let (wanted, found) = (&in_force.rule.trigger, &event.trigger);
        say!("{id}: is for {wanted}, and the event is {found}; it is sent all the same");
    } else if let Some(failed) = rule.and_then(|rule| rule.explain(&event).into_iter().next()) {
        say!("{id}: does not match the event, as {failed} does not hold; it is sent all the same");
    }
    let request = Request {
        draft: &Draft::of(config, in_force.json()),
        version: Some(in_force.version),
        event: &event,
        who: &who(),
    };
    let answer = send_test::send(config, &request, now_millis())?;
    print(&text(id, &answer, json))?;
    match answer.result {
        Some(OutcomeResult::Sent) => Ok(()),
        _ => Err(CliError::failed(format!("{id}: the test was not sent"))),
    }
}

fn text(id: &str, answer: &Answer, json: bool) -> String {
    let result = answer.result.map(OutcomeResult::as_str);
    if json {
        return json!({
            "id": id, "job_id": answer.job_id, "lane": answer.lane, "result": result, "status": answer.status,
            "words": answer.words, "cure": answer.cure, "millis": answer.millis,
        })
        .to_string();
    }
    let (result, lane) = (result.unwrap_or("no answer"), plain(&answer.lane));
    let mut text = format!("{id}: {result} after {} ms, to {lane}", answer.millis);
    for words in [&answer.words, &answer.cure].into_iter().flatten() {
        text.push_str(&format!("\n    {}", plain(words)));
    }
    text
}
