//! Destinations: one HTTP request, one classified answer.
//!
//! What an answer means is said here and nowhere else. No retry, no waiting and no limit lives
//! here; the dispatch has those. Secrets are looked up at the moment of sending and are masked
//! out of whatever a provider answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, Url};

use crate::config::{self, Config};
use crate::delivery::dispatch::{Answer, Attempt, Request, Verdict};
use crate::delivery::{ActionType, DeliveryJob};
use crate::reason::Reason;
use crate::secrets::{Secret, Secrets};
use crate::template::truncate;

pub mod clevertap;
pub mod slack;

/// An answer's body is read up to here; what is longer is cut.
const BODY_MAX: usize = 1024 * 1024;
/// The provider's words in an outcome are cut to so many characters.
const WORDS_MAX: usize = 500;

/// Slack and CleverTap, as the configuration has them.
#[derive(Debug)]
pub struct Destinations {
    client: Client,
    secrets: Secrets,
    slack_api: String,
    webhook_hosts: Vec<String>,
    accounts: BTreeMap<String, config::Account>,
}

/// A request that got no answer, or one that could not be made.
#[derive(Debug)]
enum Failure {
    /// Nothing was sent: the connection could not be made.
    Unsent(String),
    /// It may have arrived.
    Unknown(String),
    /// The secret is missing, or what it holds is not to be used.
    Credential(String),
}

/// A provider's answer, read up to a limit.
#[derive(Debug)]
struct Reply {
    status: u16,
    retry_after: Option<Duration>,
    body: String,
}

impl Destinations {
    pub fn new(config: &Config, secrets: Secrets) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(config.sender.request_timeout)
            // A redirect could carry a token to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("leadlane/", env!("CARGO_PKG_VERSION")))
            .tcp_nodelay(true)
            .build()?;
        Ok(Self {
            client,
            secrets,
            slack_api: config.slack.api_url.trim_end_matches('/').to_owned(),
            webhook_hosts: config.slack.webhook_hosts.clone(),
            accounts: config.clevertap.accounts.clone(),
        })
    }

    /// The host that a job's requests go to; a limit of requests in flight rests on it.
    pub fn host(&self, job: &DeliveryJob) -> Arc<str> {
        let url = match job.action {
            ActionType::SlackMessage => Url::parse(&self.slack_api).ok(),
            ActionType::SlackWebhook => self.webhook(job).ok().map(|(url, _)| url),
            _ => self
                .account(job)
                .ok()
                .and_then(|account| Url::parse(&account.url()).ok()),
        };
        let host = url
            .as_ref()
            .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
        host.unwrap_or_default().into()
    }

    /// Makes the attempt's one request and gives an answer for each of its jobs.
    pub async fn attempt(&self, attempt: &Attempt) -> Vec<Answer> {
        let Some(job) = attempt.jobs.first() else {
            return Vec::new();
        };
        let answer = match (attempt.request, job.action) {
            (Request::Join, _) => self.join(job).await,
            (Request::Open, _) => self.open(job).await,
            (Request::Probe, _) => self.probe(job).await,
            (Request::Send, ActionType::SlackMessage) => self.message(job).await,
            (Request::Send, ActionType::SlackWebhook) => self.post(job).await,
            (Request::Send, ActionType::ClevertapProfile | ActionType::ClevertapEvent) => {
                return self.upload(&attempt.jobs).await;
            }
        };
        vec![answer; attempt.jobs.len()]
    }

    async fn message(&self, job: &DeliveryJob) -> Answer {
        match self.slack_call(job, "chat.postMessage", job.body.clone()).await {
            Ok((reply, token)) => slack::message_answer(&reply, &[token]),
            Err(failure) => failure.into(),
        }
    }

    /// Joins the public channel; who is in it already may join again.
    async fn join(&self, job: &DeliveryJob) -> Answer {
        let body = serde_json::json!({"channel": job.destination}).to_string();
        match self.slack_call(job, "conversations.join", body).await {
            Ok((reply, token)) => slack::join_answer(&reply, &[token]),
            Err(failure) => repeatable(failure.into()),
        }
    }

    /// Opens the member's direct channel, or finds the one that is open.
    async fn open(&self, job: &DeliveryJob) -> Answer {
        let body = serde_json::json!({"users": job.destination}).to_string();
        match self.slack_call(job, "conversations.open", body).await {
            Ok((reply, token)) => slack::open_answer(&reply, &[token]),
            Err(failure) => repeatable(failure.into()),
        }
    }

    /// Asks whether the token works; that does nothing, so asking again is always safe.
    async fn probe(&self, job: &DeliveryJob) -> Answer {
        match self.slack_call(job, "auth.test", "{}".to_owned()).await {
            Ok((reply, token)) => slack::probe_answer(&reply, &[token]),
            Err(failure) => repeatable(failure.into()),
        }
    }

    async fn slack_call(&self, job: &DeliveryJob, method: &str, body: String) -> Result<(Reply, Secret), Failure> {
        let token = self.secret(job)?;
        let request = self
            .client
            .post(format!("{}/{method}", self.slack_api))
            .bearer_auth(token.reveal())
            .header("content-type", "application/json; charset=utf-8")
            .body(body);
        Ok((reply(request.send().await).await?, token))
    }

    async fn post(&self, job: &DeliveryJob) -> Answer {
        let (url, secret) = match self.webhook(job) {
            Ok(found) => found,
            Err(failure) => return failure.into(),
        };
        let path = Secret::new(url.path());
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .body(job.body.clone());
        match reply(request.send().await).await {
            Ok(reply) => slack::webhook_answer(&reply, &[secret, path]),
            Err(failure) => failure.into(),
        }
    }

    async fn upload(&self, jobs: &[Arc<DeliveryJob>]) -> Vec<Answer> {
        let all = |failure: Failure| vec![Answer::from(failure); jobs.len()];
        let Some(job) = jobs.first() else { return Vec::new() };
        let (account, passcode) = match self.account(job).and_then(|account| {
            let passcode = self.secrets.reveal(&account.passcode.secret);
            passcode
                .map(|passcode| (account, passcode))
                .map_err(|error| Failure::Credential(error.to_string()))
        }) {
            Ok(found) => found,
            Err(failure) => return all(failure),
        };
        let records: Vec<&str> = jobs.iter().map(|job| job.body.as_str()).collect();
        let request = self
            .client
            .post(format!("{}/1/upload", account.url()))
            .header("X-CleverTap-Account-Id", &account.account_id)
            .header("X-CleverTap-Passcode", passcode.reveal())
            .header("content-type", "application/json; charset=utf-8")
            .body(format!("{{\"d\":[{}]}}", records.join(",")));
        match reply(request.send().await).await {
            Ok(reply) => clevertap::upload_answers(&reply, jobs, &[passcode]),
            Err(failure) => all(failure),
        }
    }

    /// The secret's name is the credential's, behind its kind.
    fn secret(&self, job: &DeliveryJob) -> Result<Secret, Failure> {
        let (_, name) = job.credential.split_once(':').unwrap_or_default();
        self.secrets
            .reveal(name)
            .map_err(|error| Failure::Credential(error.to_string()))
    }

    fn account(&self, job: &DeliveryJob) -> Result<&config::Account, Failure> {
        let (_, name) = job.credential.split_once(':').unwrap_or_default();
        self.accounts.get(name).ok_or_else(|| {
            Failure::Credential(format!(
                "account {name} is not in clevertap.accounts of the sender's configuration"
            ))
        })
    }

    fn webhook(&self, job: &DeliveryJob) -> Result<(Url, Secret), Failure> {
        let secret = self.secret(job)?;
        let refused = |why: &str| Failure::Credential(format!("the webhook URL in secret {} {why}", job.credential));
        let url = config::safe_url(secret.reveal().trim()).map_err(|why| refused(&why))?;
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        let allowed = |allowed: &String| allowed == host || with_port.as_ref() == Some(allowed);
        if !self.webhook_hosts.iter().any(allowed) {
            return Err(refused("has a host that is not in slack.webhook_hosts"));
        }
        Ok((url, secret))
    }
}

async fn reply(sent: Result<Response, reqwest::Error>) -> Result<Reply, Failure> {
    let mut response = sent.map_err(Failure::from)?;
    let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
    let mut body = Vec::new();
    while body.len() < BODY_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            // The status alone says enough for a failure; a cut-off 200 may mean anything.
            Err(_) if status >= 400 => break,
            Err(error) => return Err(Failure::Unknown(words_of(&error))),
        }
    }
    body.truncate(BODY_MAX);
    Ok(Reply {
        status,
        retry_after,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Whole seconds, as both providers write it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        if error.is_connect() || error.is_builder() {
            Failure::Unsent(words_of(&error))
        } else {
            Failure::Unknown(words_of(&error))
        }
    }
}

/// What went wrong, without the URL, which may be the secret.
fn words_of(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "no answer within sender.request_timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke before the answer"
    };
    kind.to_owned()
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let (verdict, words) = match failure {
            Failure::Unsent(words) => (Verdict::Retry, words),
            Failure::Unknown(words) => (Verdict::Ambiguous, words),
            Failure::Credential(words) => (Verdict::CredentialRefused, words),
        };
        Answer {
            verdict,
            status: None,
            words,
            message_id: None,
            channel: None,
        }
    }
}

/// The answer to a request that does no harm when it is made twice.
fn repeatable(mut answer: Answer) -> Answer {
    if answer.verdict == Verdict::Ambiguous {
        answer.verdict = Verdict::Retry;
    }
    answer
}

impl Reply {
    fn answer(&self, verdict: Verdict, words: &str, secrets: &[Secret]) -> Answer {
        Answer {
            verdict,
            status: Some(self.status),
            words: masked(words, secrets),
            message_id: None,
            channel: None,
        }
    }

    /// The body as words for a person: what is HTML is named, not quoted.
    fn words(&self) -> &str {
        let body = self.body.trim();
        if body.starts_with('<') { "an HTML page" } else { body }
    }
}

/// A provider's words, secrets masked, cut to a readable length and to one line.
fn masked(words: &str, secrets: &[Secret]) -> String {
    let masked = secrets
        .iter()
        .filter(|secret| secret.reveal().len() > 3)
        .fold(words.to_owned(), |words, secret| words.replace(secret.reveal(), "***"));
    truncate(&masked.split_whitespace().collect::<Vec<_>>().join(" "), WORDS_MAX)
}

/// The message will never be taken.
const REJECTED: Verdict = Verdict::Rejected(Reason::MessageRejected);
/// The destination is not there any more.
const GONE: Verdict = Verdict::Rejected(Reason::DestinationGone);

#[cfg(test)]
mod tests;
