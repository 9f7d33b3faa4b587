//! Orders: to pause a lane, a credential or all sending, to resume it, and to try now.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::delivery::recall::credential_of;
use crate::desk::Error;
use crate::desk::backlog::Backlog;
use crate::desk::rules::write::{Change, Writer};
use crate::desk::rules::{self, View};
use crate::rules::control::{ALL, Control, Order};

/// The most names that a refusal lists.
const LISTED_MAX: usize = 20;

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Whether it was not so already.
    pub changed: bool,
    /// What is ordered now; none where nothing is.
    pub control: Option<Control>,
}

/// Orders something of a lane, a credential or all sending (`*`); in force everywhere within a second. `who` orders it,
/// `now` is in epoch milliseconds. The backlog is asked for only where no rule and no account names the lane.
pub fn order(
    writer: &mut Writer<'_>,
    order: Order,
    lane: &str,
    who: &str,
    now: i64,
    backlog: impl FnOnce() -> Result<Backlog, Error>,
) -> Result<Ordered, Error> {
    let config = writer.config();
    {
        let view = writer.view()?;
        find(config, &view, lane, backlog)?;
        let controls = view.log().controls();
        if order == Order::Probe
            && let Some((of, pause)) = controls.pause_of(lane, credential_of(lane))
        {
            return Err(is_paused(of, pause));
        }
    }
    let written = writer.write(&[Change::order(order, lane, who, now)], who, now)?;
    let changed = written.iter().any(|written| written.changed);
    let control = writer.view()?.log().controls().get(lane).cloned();
    match (&control, order) {
        // Somebody paused it meanwhile.
        (Some(pause), Order::Probe) if pause.paused => Err(is_paused(lane, pause)),
        _ => Ok(Ordered { changed, control }),
    }
}

fn is_paused(of: &str, pause: &Control) -> Error {
    Error::conflict(format!(
        "{}, so that nothing of it is tried; resume it first: leadlane lanes resume '{of}'",
        pause.words(of)
    ))
}

/// Whether there is such a lane or credential.
fn find(
    config: &Config,
    view: &View,
    lane: &str,
    backlog: impl FnOnce() -> Result<Backlog, Error>,
) -> Result<(), Error> {
    if lane == ALL || view.log().controls().get(lane).is_some() {
        return Ok(());
    }
    let mut known = BTreeSet::new();
    for in_force in rules::every(view) {
        let lane = &*in_force.rule.lane;
        known.extend([lane.to_owned(), credential_of(lane).to_owned()]);
    }
    known.extend(config.clevertap.accounts.keys().map(|name| format!("clevertap:{name}")));
    if known.contains(lane) {
        return Ok(());
    }
    for (id, waiting) in backlog()?.lanes {
        known.extend([id, waiting.credential]);
    }
    if known.contains(lane) {
        return Ok(());
    }
    Err(missing(lane, &known))
}

fn missing(lane: &str, known: &BTreeSet<String>) -> Error {
    let mut there: Vec<&str> = known.iter().take(LISTED_MAX).map(String::as_str).collect();
    let more = known.len().checked_sub(LISTED_MAX).filter(|more| *more > 0);
    let more = more.map(|more| format!("and {more} more"));
    there.extend(more.as_deref());
    let there = match there.is_empty() {
        true => "there is * alone, for all sending".to_owned(),
        false => format!("there are {}, and * for all sending", there.join(", ")),
    };
    Error::NotFound(format!(
        "there is no lane or credential {lane}: no rule and no account names it, and nothing waits in it; {there}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::job;
    use crate::desk::backlog::Limit;
    use crate::desk::rules::tests::{record, rule, view};
    use crate::kafka::reader::Record;

    fn waiting() -> Result<Backlog, Error> {
        let mut backlog = Backlog::default();
        backlog.job(&Record::default(), &job(), Limit::default());
        Ok(backlog)
    }

    #[test]
    fn an_order_is_of_what_is_there() {
        let config = Config::parse(
            "test",
            "clevertap: {accounts: {acme: {region: in1, account_id: A, passcode: {secret: p}}}}",
            [],
        );
        let config = config.unwrap();
        let view = view(&[record(0, "a", Some(&rule("a", "hi")))]);
        let unasked = || panic!("the backlog needn't be read");
        for lane in ["*", "clevertap:acme"] {
            assert_eq!(find(&config, &view, lane, unasked), Ok(()), "{lane}");
        }
        let lane = &rules::get(&view, "a").unwrap().rule.lane;
        assert!(lane.contains('/'), "{lane}");
        for lane in [lane, credential_of(lane)] {
            assert_eq!(find(&config, &view, lane, unasked), Ok(()), "{lane}");
        }
        for lane in ["slack:sales-bot/C0123SALES", "slack:sales-bot"] {
            assert_eq!(find(&config, &view, lane, waiting), Ok(()), "{lane}");
        }
        let Err(Error::NotFound(said)) = find(&config, &view, "slack:none", waiting) else {
            panic!("it is not there");
        };
        assert!(
            said.contains("slack:none") && said.contains("clevertap:acme, slack:sales-bot, "),
            "{said}"
        );
        assert!(said.contains("* for all sending"), "{said}");
        let many = (0..25).map(|number| format!("slack:{number:02}")).collect();
        let Error::NotFound(said) = missing("x", &many) else {
            panic!()
        };
        assert!(said.contains("slack:19, and 5 more, and *"), "{said}");
    }
}
