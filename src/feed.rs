//! The feed of rules: follows the compacted topic and hands out each state as a whole.
//!
//! A thread of its own reads without a group. The first state is handed out when the topic was
//! read to the end it had at start; until then the processor waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Config;
use crate::kafka::reader::{Isolation, Next, Reader, Record};
use crate::metrics::Metrics;
use crate::rules::log::{Applied, CANCEL_WAITING, Cancel, RuleLog, Rules};

/// Follows the rules until `stop`. The receiver holds `None` until the topic was read to its end.
pub fn follow(
    config: &Config,
    metrics: Arc<Metrics>,
    now: fn() -> i64,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<watch::Receiver<Option<Arc<Rules>>>> {
    let reader = Reader::assign(config, &config.topics.rules, &[(0, None)], Isolation::Committed)?;
    let (sender, receiver) = watch::channel(None);
    std::thread::Builder::new().name("rules".to_owned()).spawn(move || {
        let mut log = RuleLog::default();
        let mut at_end = false;
        let mut changed = true;
        let mut written_at = None;
        while !*stop.borrow() {
            match reader.next(Duration::from_millis(if changed && at_end { 0 } else { 100 })) {
                Next::Record(record) => {
                    changed |= cancel(&mut log, &record);
                    match log.apply(record.offset, record.key.as_deref(), record.value.as_deref()) {
                        Applied::Changed => {
                            changed = true;
                            written_at = Some(record.timestamp);
                        }
                        Applied::Unchanged => {}
                        Applied::Rejected(rejection) => {
                            metrics.rule_rejected(rejection.reason);
                            let id = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                            tracing::warn!(
                                rule.id = &*id,
                                kafka.offset = rejection.offset,
                                reason = rejection.reason.as_str(),
                                detail = rejection.detail,
                                "a record of the rules topic is no valid rule; the last good version stays in force"
                            );
                        }
                    }
                    continue;
                }
                Next::End(_) => at_end = true,
                Next::Nothing => {}
            }
            if at_end && changed {
                changed = false;
                let rules = Arc::new(log.snapshot());
                metrics.rules_in_force(rules.active);
                // What was there before us says nothing about how fast a change is seen.
                if let Some(written_at) = written_at.take().filter(|_| sender.borrow().is_some()) {
                    metrics.rule_visible(Duration::from_millis(
                        u64::try_from(now() - written_at).unwrap_or_default(),
                    ));
                }
                tracing::info!(
                    rules.active = rules.active,
                    rules.version = rules.version,
                    "rules in force"
                );
                sender.send_replace(Some(rules));
            }
        }
    })?;
    Ok(receiver)
}

/// Takes in the cancel mark that a record may carry; says whether it is news.
fn cancel(log: &mut RuleLog, record: &Record) -> bool {
    let marked = record.header(CANCEL_WAITING) == Some("true");
    let Some(key) = record.key.as_deref().filter(|_| marked) else {
        return false;
    };
    let mark = Cancel {
        offset: record.offset,
        at: record.timestamp,
    };
    log.cancel(&String::from_utf8_lossy(key), mark)
}
