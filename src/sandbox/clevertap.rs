//! CleverTap's upload: requests at once, 1,000 records each, and an answer that names the records that failed.

mod record;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fault::{Fingerprint, Kind};
use super::log::{Arrival, ArrivalKind};
use super::serve::Wire;
use super::slack::message::form_fields;
use super::state::{Met, State, Verdict};
use super::{Decision, Reply, Sandbox, header_text};
use record::Refusal;

const RECORDS_MAX: usize = 1_000;

pub(super) async fn upload(
    Shared(sandbox): Shared<Sandbox>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let upload = Upload::read(query.as_deref(), &headers, &body);
    sandbox.play(&wire, |state, now| upload.decide(state, now)).await
}

struct Upload {
    account: String,
    passcode: String,
    is_dry_run: bool,
    /// The records with what is wrong in each, or what is wrong with them all.
    records: Result<Vec<(Value, Option<Refusal>)>, &'static str>,
    traceparent: Option<Box<str>>,
}

impl Upload {
    fn read(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name| header_text(headers, name).unwrap_or_default().into_string();
        let fields = form_fields(query.unwrap_or_default());
        Self {
            account: text("x-clevertap-account-id"),
            passcode: text("x-clevertap-passcode"),
            is_dry_run: fields.iter().any(|(name, value)| name == "dryRun" && value == "1"),
            records: read_records(body),
            traceparent: header_text(headers, "traceparent"),
        }
    }

    fn decide(&self, state: &mut State, now: Instant) -> Decision {
        let name = if self.account.is_empty() {
            "clevertap"
        } else {
            &self.account
        };
        let (target, in_flight) = state.log.enter(name);
        let credential = Fingerprint::of(&self.passcode);
        let met = state.meet(&[name], credential, now);
        let method = if self.is_dry_run { "dry_run" } else { "upload" };
        let mut arrival = Arrival::new(ArrivalKind::ClevertapRequest, target, method);
        arrival.traceparent.clone_from(&self.traceparent);
        arrival.records = self
            .records
            .as_ref()
            .ok()
            .and_then(|records| u32::try_from(records.len()).ok());
        let refusal = met
            .intercept()
            .or_else(|| self.refusal(state, &met, credential, in_flight));
        let (verdict, parts) = match (refusal, &self.records) {
            (Some(refusal), _) => (refusal, Vec::new()),
            (None, Err(words)) => (failure(400, words), Vec::new()),
            (None, Ok(records)) => self.take(state, &met, &arrival, records),
        };
        state.settle(arrival, &met, verdict, parts)
    }

    /// Why the whole request is refused.
    fn refusal(&self, state: &State, met: &Met, credential: Fingerprint, in_flight: u64) -> Option<Verdict> {
        if let Some(words) = state.refused.get(&credential) {
            return Some(failure(401, words));
        }
        if self.account.is_empty() || self.passcode.is_empty() || self.passcode.contains("invalid") {
            return Some(failure(401, "Account ID is not valid"));
        }
        let too_many = || failure(429, "Too many concurrent requests");
        if let Some(fault) = met.fault(Kind::RateLimit) {
            let mut verdict = too_many();
            // CleverTap sends none, unless one is asked for by name.
            verdict.reply.retry_after = fault.order.retry_after.filter(|&seconds| seconds > 0);
            return Some(verdict);
        }
        let concurrency = state.limits.concurrency(&self.account);
        if usize::try_from(in_flight).is_ok_and(|in_flight| in_flight > concurrency) {
            return Some(too_many());
        }
        let order = &met.fault(Kind::Error)?.order;
        let words = order.error.as_deref().unwrap_or_default();
        let is_code_of_records = words.parse::<u16>().is_ok();
        (!is_code_of_records).then(|| failure(order.status.unwrap_or(400), words))
    }

    /// Takes the records that are good, and names the others as CleverTap does: by number, in words.
    fn take(
        &self,
        state: &mut State,
        met: &Met,
        request: &Arrival,
        records: &[(Value, Option<Refusal>)],
    ) -> (Verdict, Vec<Arrival>) {
        let code_of_all = met.fault(Kind::Error).and_then(|fault| fault.order.error.clone());
        let mut unprocessed = Vec::new();
        let mut parts = Vec::with_capacity(records.len());
        for (index, (record, refusal)) in records.iter().enumerate() {
            let code = code_of_all.clone().or_else(|| {
                let names = [request.target.as_ref()];
                let identity = record::identity(record)?;
                state
                    .faults
                    .meet_record(&names, Fingerprint::of(&self.passcode), &identity, met.now)
            });
            let ordered = code.and_then(|code| code.parse().ok()).map(Refusal::ordered);
            let refusal = ordered.as_ref().or(refusal.as_ref());
            let mut part = Arrival::new(ArrivalKind::ClevertapRecord, request.target.clone(), request.method);
            part.accepted = refusal.is_none() && !self.is_dry_run;
            part.error = refusal.map(|refusal| refusal.code.to_string().into());
            if state.log.texts {
                part.record = RawValue::from_string(record.to_string()).ok();
            }
            parts.push(part);
            if let Some(Refusal { code, words }) = refusal {
                let error = format!("{words} Skipped record number : {}", index + 1);
                let record = record::echoed(record);
                unprocessed.push(json!({"status": "fail", "code": code, "error": error, "record": record}));
            }
        }
        let processed = records.len() - unprocessed.len();
        let status = match (processed, unprocessed.len()) {
            (_, 0) => "success",
            (0, _) => "fail",
            _ => "partial",
        };
        let body = json!({"status": status, "processed": processed, "unprocessed": unprocessed});
        let verdict = Verdict {
            reply: Reply::json(200, &body),
            accepted: true,
            error: None,
        };
        (verdict, parts)
    }
}

fn failure(status: u16, words: &str) -> Verdict {
    Verdict {
        reply: Reply::json(status, &json!({"status": "fail", "error": words, "code": status})),
        accepted: false,
        error: Some(words.to_owned()),
    }
}

fn read_records(body: &[u8]) -> Result<Vec<(Value, Option<Refusal>)>, &'static str> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else {
        return Err("Malformed request");
    };
    let Some(Value::Array(records)) = body.remove("d") else {
        return Err("Malformed request");
    };
    if records.is_empty() {
        return Err("No records in the request");
    }
    if records.len() > RECORDS_MAX {
        return Err("Too many records in the request");
    }
    let checked = records.into_iter().map(|record| {
        let refusal = record::check(&record).err();
        (record, refusal)
    });
    Ok(checked.collect())
}
