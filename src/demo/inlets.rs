//! Two systems that other people run: a Slack workspace that signs its posts, and a sheet that posts its rows. Each
//! posts once to an inlet of the demo, and the demo shows what arrives in CleverTap.

use std::net::SocketAddr;

use anyhow::Context as _;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::view::View;
use crate::config::Config;
use crate::mapping::Inlet;
use crate::sandbox::Arrival;

const ENTRIES: &str = "
- {name: workspace, preset: slack, kind: http, secrets: [{secret: slack-signing}]}
- {name: signups, preset: sheet, kind: http, secrets: [{secret: sheet-token}]}
";
const SIGNING_SECRET: &str = "the-demo-signs-with-this";
const SHEET_TOKEN: &str = "the-demo-sheet-shows-this";
/// The secrets behind the names above.
pub(super) const SECRETS: [(&str, &str); 2] = [("slack-signing", SIGNING_SECRET), ("sheet-token", SHEET_TOKEN)];

/// Who reacts, and whose row is added: what CleverTap knows them by.
const MEMBER: &str = "U0MIA";
const SIGNED_UP: &str = "noor@example.com";

/// What a system posts to an inlet.
#[derive(Debug)]
pub(super) struct Post {
    inlet: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// Adds the inlets to a configuration, on a port that is free.
pub(super) fn open(config: &mut Config) -> anyhow::Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    config.inlet = crate::config::InletServer::default();
    config.inlet.listen = free.context("the inlets can't listen")?;
    let entries = crate::yaml::entries(ENTRIES)?;
    let inlets = entries.iter().map(|entry| Inlet::read("inlets", &entry.value));
    config.inlets = inlets
        .collect::<Result<_, _>>()
        .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    Ok(())
}

/// A member's reaction at `now` (epoch milliseconds), as Slack posts it.
pub(super) fn reaction(now: i64) -> Post {
    let seconds = now.div_euclid(1000);
    let body = json!({
        "token": "not-used", "team_id": "T0DEMO", "type": "event_callback", "event_id": format!("Ev{now}"),
        "event": {"type": "reaction_added", "user": MEMBER, "reaction": "tada", "event_ts": format!("{seconds}.000200"),
                  "item": {"type": "message", "channel": "C0SALES", "ts": format!("{seconds}.000100")}},
    })
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING_SECRET.as_bytes()).expect("a key of any length will do");
    mac.update(format!("v0:{seconds}:{body}").as_bytes());
    let signature = mac.finalize().into_bytes();
    let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    Post {
        inlet: "workspace",
        headers: vec![
            ("X-Slack-Request-Timestamp", seconds.to_string()),
            ("X-Slack-Signature", format!("v0={signature}")),
        ],
        body,
    }
}

/// A row that somebody added, as Zapier or an Apps Script posts it; one of its cells is empty.
pub(super) fn row() -> Post {
    let body = json!({"Email": SIGNED_UP, "First name": "Noor", "Plan": "Enterprise", "Signed up": "March 05, 2018 15:16:0", "Notes": ""});
    Post {
        inlet: "signups",
        headers: vec![("Authorization", format!("Bearer {SHEET_TOKEN}"))],
        body: body.to_string(),
    }
}

impl Post {
    /// Posts it beside what goes on, and prints the answer.
    pub(super) fn send(self, listen: SocketAddr, view: &View) {
        let view = view.clone();
        tokio::spawn(async move {
            let inlet = self.inlet;
            match self.answer(listen).await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
                    view.took_in(&format!(
                        "answered  200 by the inlet {inlet}: it is in Kafka, as a lead event"
                    ));
                }
                Ok(answer) => {
                    let status = answer.lines().next().unwrap_or_default();
                    view.show(&format!("answered  {status} by the inlet {inlet}"));
                }
                Err(error) => view.show(&format!("it could not be posted: {error}")),
            }
        });
    }

    async fn answer(self, listen: SocketAddr) -> std::io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(listen).await?;
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let (headers, length) = (headers.collect::<String>(), self.body.len());
        let head = format!(
            "POST /inlets/{} HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{headers}\r\n",
            self.inlet
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(self.body.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

/// What CleverTap took of the member or the row, where this is such a record.
pub(super) fn line_of(arrival: &Arrival) -> Option<String> {
    let record: Value = serde_json::from_str(arrival.record.as_ref()?.get()).ok()?;
    let who = record["identity"].as_str()?;
    if !arrival.accepted || ![MEMBER, SIGNED_UP].contains(&who) {
        return None;
    }
    Some(match record["evtName"].as_str() {
        Some(name) => format!("arrived   in CleverTap: {who} did \"{name}\" {}", record["evtData"]),
        None => format!("arrived   in CleverTap: the profile of {who} {}", record["profileData"]),
    })
}
