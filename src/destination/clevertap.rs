//! CleverTap's answers. A 200 may carry failures record by record.

use std::sync::Arc;

use serde_json::Value;

use super::words::Hidden;
use super::{Failure, REJECTED, answer, hidden, words_of};
use crate::config::Account;
use crate::delivery::DeliveryJob;
use crate::delivery::dispatch::{Answer, FreezeScope, Verdict};
use crate::http_client::Reply;
use crate::sealed::Sealed;
use crate::secrets::{Secret, SecretError, SecretRef};

/// An answer, as far as it can be read. A value that the documentation doesn't know costs its
/// field alone: of an answer that isn't read, all records are uploaded again.
#[derive(Debug)]
struct Body {
    status: Option<String>,
    processed: Option<usize>,
    unprocessed: Vec<Unprocessed>,
    error: Option<String>,
}

#[derive(Debug)]
struct Unprocessed {
    code: Option<i64>,
    error: Option<String>,
    record: Option<Value>,
}

impl Body {
    /// `None` for what is no JSON object.
    fn read(text: &str) -> Option<Self> {
        let body: Value = serde_json::from_str(text).ok()?;
        let unprocessed = match body.as_object()?.get("unprocessed") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(elements)) => elements.iter().map(Unprocessed::read).collect(),
            Some(one) => vec![Unprocessed::read(one)],
        };
        Some(Self {
            status: text_of(body.get("status")),
            processed: number(body.get("processed")).and_then(|count| usize::try_from(count).ok()),
            unprocessed,
            error: text_of(body.get("error")),
        })
    }
}

impl Unprocessed {
    fn read(element: &Value) -> Self {
        Self {
            code: number(element.get("code")),
            error: text_of(element.get("error")),
            record: element.get("record").cloned(),
        }
    }
}

/// A number, or its text.
fn number(value: Option<&Value>) -> Option<i64> {
    let value = value?;
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A text, or what else stands there as JSON.
fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The jobs whose records CleverTap may take, and the answers of the others.
pub(super) fn checked(jobs: &[Arc<DeliveryJob>]) -> (Vec<Arc<DeliveryJob>>, Vec<Option<Answer>>) {
    let refused = |job: &Arc<DeliveryJob>| Some(Failure::Rejected(job.action.refusal(&job.body)?).into());
    let refused: Vec<Option<Answer>> = jobs.iter().map(refused).collect();
    let taken = jobs.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
    (taken.map(|(job, _)| Arc::clone(job)).collect(), refused)
}

/// The answers of all jobs, of those that were `sent` and of those that were `refused` unsent.
pub(super) fn together(sent: Vec<Answer>, refused: Vec<Option<Answer>>) -> Vec<Answer> {
    let again = |answer: &Answer| answer.verdict == Verdict::BatchRefused;
    if let Some(answer) = sent.first().filter(|_| sent.len() > 1 && sent.iter().all(again)) {
        // The batch goes again in halves, and what was refused is refused then.
        return vec![answer.clone(); refused.len()];
    }
    let mut sent = sent.into_iter();
    refused
        .into_iter()
        .filter_map(|refused| refused.or_else(|| sent.next()))
        .collect()
}

/// The account that the job's rule describes itself.
pub(super) fn own_account(job: &DeliveryJob) -> Result<Option<Account>, Failure> {
    let (Some(account_id), Some(sealed)) = (&job.account_id, &job.sealed) else {
        return Ok(None);
    };
    let region = job.region.clone().unwrap_or_default();
    // It becomes a part of the host that the passcode is sent to.
    if region.is_empty() || !region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(Failure::Credential("the account's region is no region".to_owned()));
    }
    Ok(Some(Account {
        region,
        account_id: account_id.clone(),
        passcode: SecretRef::Sealed(Sealed::parse(sealed).map_err(SecretError::from)?),
        concurrency: 1,
        api_url: None,
    }))
}

/// The meaning of an upload's answer for each of its records.
pub(super) fn upload_answers(reply: &Reply, jobs: &[Arc<DeliveryJob>], secrets: &[Secret]) -> Vec<Answer> {
    let all = |verdict, words: &str| of_all(reply, verdict, words, jobs, secrets);
    let body = Body::read(&reply.body);
    let words = body
        .as_ref()
        .and_then(|body| body.error.as_deref())
        .unwrap_or_else(|| words_of(reply));
    match (reply.status, body.as_ref()) {
        (429, _) => all(
            Verdict::Throttled {
                scope: FreezeScope::Credential,
                retry_after: reply.retry_after,
            },
            words,
        ),
        // Another address than the account's has no upload, or redirects to it.
        (300..=399 | 401 | 403 | 404 | 405, _) => all(Verdict::CredentialRefused, words),
        (408, _) => all(Verdict::Retry, words),
        (200..=299, Some(body)) => records(reply, body, jobs, secrets),
        (400..=499, _) => all(Verdict::BatchRefused, words),
        _ => all(Verdict::Ambiguous, words),
    }
}

/// One answer for each job; it may repeat any of their records.
fn of_all(reply: &Reply, verdict: Verdict, words: &str, jobs: &[Arc<DeliveryJob>], secrets: &[Secret]) -> Vec<Answer> {
    let records: Vec<&str> = jobs.iter().map(|job| job.body.as_str()).collect();
    let body = format!("[{}]", records.join(","));
    vec![answer(reply, verdict, words, Hidden { secrets, body: &body }); jobs.len()]
}

fn records(reply: &Reply, body: &Body, jobs: &[Arc<DeliveryJob>], secrets: &[Secret]) -> Vec<Answer> {
    let delivered = answer(reply, Verdict::Delivered, "", Hidden::default());
    if body.status.as_deref() == Some("success") && body.unprocessed.is_empty() {
        return vec![delivered; jobs.len()];
    }
    let mut answers = vec![delivered; jobs.len()];
    let mut named = vec![false; jobs.len()];
    for failed in &body.unprocessed {
        match index(failed, jobs).filter(|index| !named[*index]) {
            Some(index) => {
                named[index] = true;
                answers[index] = record_answer(reply, failed, hidden(secrets, &jobs[index]));
            }
            // Nothing says which record it was: one by one, each answer names its own.
            None if jobs.len() > 1 => {
                return vec![answer(reply, Verdict::BatchRefused, "", Hidden::default()); jobs.len()];
            }
            None => answers[0] = record_answer(reply, failed, hidden(secrets, &jobs[0])),
        }
    }
    let accounted = body
        .processed
        .is_none_or(|processed| processed + body.unprocessed.len() == jobs.len());
    if body.unprocessed.is_empty() || !accounted {
        // `fail` without records, or numbers that don't add up: the batch's fate is unknown.
        let words = body
            .error
            .as_deref()
            .unwrap_or("the answer does not account for every record");
        return of_all(reply, Verdict::Ambiguous, words, jobs, secrets);
    }
    answers
}

fn record_answer(reply: &Reply, failed: &Unprocessed, hidden: Hidden<'_>) -> Answer {
    let verdict = if failed.code == Some(555) {
        Verdict::Retry
    } else {
        REJECTED
    };
    let words = match (failed.code, failed.error.as_deref()) {
        (Some(code), Some(error)) => format!("{code}: {}", without_values(error)),
        (Some(code), None) => code.to_string(),
        (None, error) => without_values(error.unwrap_or("refused without a word")).to_owned(),
    };
    answer(reply, verdict, &words, hidden)
}

/// Which record failed: `Skipped record number : N`, counted from 1, else by the echoed record.
fn index(failed: &Unprocessed, jobs: &[Arc<DeliveryJob>]) -> Option<usize> {
    let number = failed.error.as_deref().and_then(|error| {
        let (_, rest) = error.split_once("Skipped record number")?;
        let digits = rest.trim_start_matches([' ', ':']);
        digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())]
            .parse::<usize>()
            .ok()
    });
    if let Some(number) = number {
        return number.checked_sub(1).filter(|index| *index < jobs.len());
    }
    let echo = failed.record.as_ref()?;
    let mut same = jobs
        .iter()
        .enumerate()
        .filter(|(_, job)| is_echo(echo, &job.body))
        .map(|(index, _)| index);
    same.next().filter(|_| same.next().is_none())
}

/// The echo is not equal to the byte: numbers and texts change places.
fn is_echo(echo: &Value, body: &str) -> bool {
    let Ok(sent) = serde_json::from_str::<Value>(body) else {
        return false;
    };
    let text = |value: &Value, field: &str| {
        value
            .get(field)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    ["type", "identity", "objectId", "evtName", "ts"]
        .iter()
        .all(|field| text(echo, field) == text(&sent, field))
}

/// CleverTap quotes the record behind its own words; a lead's data stays out of outcomes.
fn without_values(error: &str) -> &str {
    error.split(['{', '"']).next().unwrap_or_default().trim()
}
