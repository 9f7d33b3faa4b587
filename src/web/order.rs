//! Orders of lanes, as pages and API give them.

use std::sync::Arc;

use super::Web;
use super::problem::Problem;
use super::who::Actor;
use crate::config::admin::Role;
use crate::desk::lanes::{self, Ordered};
use crate::desk::rules::write::Writer;
use crate::rules::control::Order;

/// Pauses, resumes or tries a lane, a credential or all sending.
pub(super) async fn ordered(web: &Arc<Web>, actor: &Actor, order: &str, lane: String) -> Result<Ordered, Problem> {
    actor.needs(Role::Admin)?;
    let orders = [Order::Pause, Order::Resume, Order::Probe];
    let order = orders.into_iter().find(|known| known.as_str() == order);
    let order = order.ok_or_else(|| Problem::bad_request("order: must be pause, resume or probe."))?;
    let (who, now) = (actor.name.clone(), (web.now)());
    web.ask(move |web| {
        let mut writer = Writer::on(&web.config, Arc::clone(web.resident.rules()));
        lanes::order(&mut writer, order, &lane, &who, now, || web.backlog_anew(now))
    })
    .await
}
