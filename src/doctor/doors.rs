//! What stands around a process: its own ports, the schema registry, and the clock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Finding, Patient};
use crate::http_client;
use crate::mapping::{Entrance, Inlet, KeyPlace};
use crate::registry::{Registry, RegistryError};

/// How long a door is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// A clock that is off by more fails signatures soon: Slack's are good for five minutes.
const OFF_MAX: i64 = 5_000;

/// The listeners of the roles: free, or held by a Leadlane that runs already.
pub(super) async fn ports(patient: Patient) -> Vec<Finding> {
    let config = &patient.config;
    let mut findings = vec![port("admin.listen", config.admin.listen, "/metrics", "leadlane_build_info").await];
    if patient.roles.inlets && config.takes_requests() {
        findings.push(port("inlet.listen", config.inlet.listen, "/", "inlets are at /inlets/NAME").await);
    }
    findings
}

/// `words` stand in what a Leadlane answers at `path`.
async fn port(key: &str, listen: SocketAddr, path: &str, words: &str) -> Finding {
    let error = match tokio::net::TcpListener::bind(listen).await {
        Ok(_) => return Finding::ok(key, format!("{key}: {listen} is free")),
        Err(error) => error,
    };
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {}
        _ => {
            return Finding::broken(
                key,
                format!("{key}: {listen} can't be listened on: {error}"),
                format!("set {key} to an address of this machine, and a port that this user may take"),
            );
        }
    }
    let reached = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}{path}", SocketAddr::new(reached, listen.port()));
    match http_client::look(&url, ANSWER_WAIT).await {
        Ok(reply) if reply.body.contains(words) => {
            Finding::ok(key, format!("{key}: a Leadlane that runs has {listen}"))
        }
        _ => Finding::broken(
            key,
            format!("{key}: another program has {listen}"),
            format!("end that one, or set {key} to a free port"),
        ),
    }
}

/// The schema registry, where one is named.
pub(super) async fn registry(patient: Patient) -> Vec<Finding> {
    let id = "registry";
    let asked = match Registry::of(&patient.config.schema_registry) {
        Ok(None) => return Vec::new(),
        Ok(Some(registry)) => registry.look().await,
        Err(error) => Err(error),
    };
    let error = match asked {
        Ok(()) => return vec![Finding::ok(id, "schema registry: it answers")],
        Err(error) => error,
    };
    let cure = match &error {
        RegistryError::Unauthorized(_) => {
            "set schema_registry.username and schema_registry.password to a log-in that it takes"
        }
        RegistryError::Client(_) => "correct the variable, or unset it",
        RegistryError::Status(_) => "look at the registry's own log",
        _ => "see that it runs, or set schema_registry.url to its address",
    };
    // Its own words begin with what it is.
    vec![Finding::broken(id, error.to_string(), cure)]
}

/// The clock, against that of who is asked anyway: Slack, CleverTap or the registry, the first that tells.
pub(super) async fn clock(patient: Patient, uses_slack: bool) -> Vec<Finding> {
    let id = "clock";
    let config = &patient.config;
    let slack = (uses_slack || config.inlets.iter().any(is_signed)).then(|| (*config.slack.api_url).to_owned());
    let common = config.clevertap.api_url.as_deref();
    let accounts = config.clevertap.accounts.values().map(|account| account.url(common));
    let registry = config.schema_registry.url.iter().map(|url| (**url).to_owned());
    for url in slack.into_iter().chain(accounts).chain(registry) {
        let before = (patient.now)();
        let Ok(reply) = http_client::look(&url, ANSWER_WAIT).await else {
            continue;
        };
        let after = (patient.now)();
        if let Some(theirs) = reply.date {
            return vec![against(id, theirs, before, after)];
        }
    }
    vec![Finding::not(
        id,
        "clock: nobody is asked by HTTP who would tell the time",
    )]
}

/// Whether Slack signs what an inlet takes in.
fn is_signed(inlet: &Inlet) -> bool {
    let Entrance::Http { keys, .. } = &inlet.entrance else {
        return false;
    };
    keys.iter().any(|key| key.place == KeyPlace::Signature)
}

/// Theirs is cut to the second, and was right at some time between asking and the answer.
fn against(id: &str, theirs: i64, before: i64, after: i64) -> Finding {
    let (ahead, behind) = (before - theirs - 1000, theirs - after);
    let off = ahead.max(behind);
    let seconds = off / 1000;
    let way = if ahead > behind { "ahead" } else { "behind" };
    match off > OFF_MAX {
        false => Finding::ok(id, "clock: it is right to within 5 s"),
        true => Finding::broken(
            id,
            format!("clock: it is {seconds} s {way} of others', and signatures and expiry go by it"),
            "have it set by: timedatectl set-ntp true",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_clock_is_off_when_no_moment_of_asking_fits() {
        let at = |theirs, before, after| against("clock", theirs, before, after);
        for (theirs, before, after, wanted) in [
            (100_000, 100_400, 100_500, State::Ok),
            (100_000, 106_100, 106_200, State::Failed),
            (100_000, 105_900, 105_950, State::Ok),
            (100_000, 94_000, 94_500, State::Failed),
            (100_000, 94_000, 95_200, State::Ok),
            // A slow answer says less, and blames nobody.
            (100_000, 80_000, 120_000, State::Ok),
        ] {
            assert_eq!(at(theirs, before, after).state, wanted, "{theirs} {before} {after}");
        }
        let ahead = at(100_000, 160_000, 160_000);
        assert!(ahead.what.contains("59 s ahead"), "{}", ahead.what);
        let behind = at(100_000, 40_000, 40_000);
        assert!(behind.what.contains("60 s behind"), "{}", behind.what);
    }
}
