//! Lanes of one credential in trouble, and its other lanes.

use std::time::Duration;

use leadlane::delivery::OutcomeResult;

use super::sender::{open_sandbox, outcomes, prepared, send};
use crate::support::Leadlane;

const QUIET: usize = 6;

fn rule(id: &str, trigger: &str, channel: &str) -> String {
    format!(
        "- {{id: {id}, trigger: {trigger}, scope: {{level: product, id: '*'}}, action: {{type: slack_message, \
         token: {{secret: sales-bot}}, to: {{channel: {channel}}}, text: '{id} {{{{$.event_id}}}}'}}}}\n"
    )
}

/// The first request to one channel hangs for as long as a request may take, and another channel has failed again and again.
/// All jobs of the other channels are sent before the first request is given up.
#[test]
fn quiet_channels_go_on_while_their_sisters_hang_and_fail() {
    let destinations = open_sandbox();
    let order = |order: serde_json::Value| {
        let order = serde_json::from_value(order).unwrap();
        destinations.sandbox.order(order).unwrap()
    };
    order(serde_json::json!({"target": "C0HANGS", "kind": "hang"}));
    order(serde_json::json!({"target": "C0FAILS", "kind": "status", "status": 500}));
    let sender = "sender: {request_timeout: 85s, shutdown_timeout: 1s, retry: {initial: 100ms, max: 200ms}}";
    let leadlane = Leadlane::new("sisters", &format!("{}\n{sender}", destinations.yaml("50/s")));
    prepared(&leadlane, &destinations);
    let trouble =
        rule("hangs", "lms.revenue_ping_back", "C0HANGS") + &rule("fails", "lms.revenue_ping_back", "C0FAILS");
    let quiet = (0..QUIET).map(|lane| rule(&format!("quiet-{lane}"), "lms.campaign_rejected", &format!("C0Q{lane}")));
    leadlane.apply(&(trouble + &quiet.collect::<String>()));
    let process = leadlane.start(&[]);
    send(&leadlane, 0..3, "lms.revenue_ping_back");
    // Several failures in a row, with no success between.
    leadlane.read_until(&leadlane.config.topics.outcomes, 60, |records| records.len() >= 8);
    send(&leadlane, 3..13, "lms.campaign_rejected");
    let texts = || destinations.texts().len();
    for _ in 0..800 {
        if texts() == QUIET * 10 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = destinations.sandbox.log();
    let to = |channel: &str| log.iter().filter(|arrival| &*arrival.target == channel).count();
    assert_eq!(texts(), QUIET * 10, "every quiet job is sent");
    assert_eq!(to("C0HANGS"), 1, "while the first request that hangs goes on hanging");
    assert!(to("C0FAILS") >= 8, "and the other channel fails and is tried");
    let troubled: Vec<_> = outcomes(&leadlane)
        .into_iter()
        .filter(|outcome| outcome.rule_id == "hangs" || outcome.rule_id == "fails")
        .collect();
    assert!(
        troubled
            .iter()
            .all(|outcome| outcome.rule_id == "fails" && outcome.result == OutcomeResult::Retry)
    );
    process.kill();
}
