//! Destinations: one HTTP request, one classified answer.
//!
//! What an answer means is said here and nowhere else. No retry, no waiting and no limit lives
//! here; the dispatch has those. Secrets are looked up at the moment of sending and are masked
//! out of whatever a provider answers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, Response, Url};

use crate::action::ActionType;
use crate::config::{self, Config};
use crate::delivery::DeliveryJob;
use crate::delivery::dispatch::{Answer, Attempt, Request, Verdict};
use crate::http_client::{self, ClientError};
use crate::reason::Reason;
use crate::secrets::{Secret, SecretError, Secrets};

pub mod clevertap;
mod introduce;
pub mod slack;
mod words;

use introduce::{Checked, Introduced};
use words::Hidden;

/// An answer's body is read up to here, and as far beyond as what it may echo is long.
const BODY_MAX: usize = 1024 * 1024;
/// A longer `Retry-After` means no more to us: every job is a dead letter by then.
const RETRY_AFTER_MAX: f64 = 365.0 * 86_400.0;
/// A `Retry-After` from here on is kept to as any other, and logged.
const LONG_WAIT: Duration = Duration::from_secs(600);

/// Slack and CleverTap, as the configuration has them.
#[derive(Debug)]
pub struct Destinations {
    client: Client,
    secrets: Secrets,
    slack_api: String,
    /// Whether channels are joined (`slack.join`), which needs a scope.
    joins: bool,
    introduced: Arc<Introduced>,
    webhook_hosts: Vec<String>,
    clevertap: config::Clevertap,
    /// By credential, where its requests go.
    hosts: Mutex<HashMap<String, Arc<str>>>,
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
    /// Nothing was sent: the provider would not take it.
    Rejected(String),
}

/// A provider's answer, read up to a limit.
#[derive(Debug)]
struct Reply {
    status: u16,
    retry_after: Option<Duration>,
    /// What a Slack token may do (`X-OAuth-Scopes`), where the answer says so.
    scopes: Option<String>,
    body: String,
}

impl Destinations {
    pub fn new(config: &Config, secrets: Secrets) -> Result<Self, ClientError> {
        Ok(Self {
            client: http_client::client(config.sender.request_timeout)?,
            secrets,
            slack_api: config.slack.api_url.trim_end_matches('/').to_owned(),
            joins: config.slack.join,
            introduced: Arc::default(),
            webhook_hosts: config.slack.webhook_hosts.clone(),
            clevertap: config.clevertap.clone(),
            hosts: Mutex::default(),
        })
    }

    /// The host that a job's requests go to; a limit of requests in flight rests on it. Empty where it isn't known: a
    /// webhook's URL is a secret, which nobody reads for this, so that its host shows with its first request.
    pub fn host(&self, job: &DeliveryJob) -> Arc<str> {
        if let Some(host) = self.hosts().get(&job.credential) {
            return Arc::clone(host);
        }
        let url = match job.action {
            ActionType::SlackMessage => Url::parse(&self.slack_api).ok(),
            ActionType::SlackWebhook => None,
            _ => self.account(job).ok().map(|(_, url)| url),
        };
        url.map(|url| self.keep_host(job, &url)).unwrap_or_default()
    }

    fn keep_host(&self, job: &DeliveryJob, url: &Url) -> Arc<str> {
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
        let host: Arc<str> = format!("{host}:{}", port.unwrap_or_default()).into();
        self.hosts().insert(job.credential.clone(), Arc::clone(&host));
        host
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Arc<str>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the attempt's one request and gives an answer for each of its jobs. The first message
    /// of a Slack token has the token introduced too, beside it.
    pub async fn attempt(&self, attempt: &Attempt) -> Vec<Answer> {
        let Some(job) = attempt.jobs.first() else {
            return Vec::new();
        };
        if attempt.request == Request::Send && job.action == ActionType::SlackMessage {
            self.introduce_of(job);
        }
        let answers = self.request(attempt, job).await;
        if let Some(Verdict::Throttled {
            retry_after: Some(wait),
            ..
        }) = answers.first().map(|answer| &answer.verdict)
            && *wait >= LONG_WAIT
        {
            tracing::warn!(
                credential = job.credential,
                seconds = wait.as_secs(),
                "the provider asks for a long wait; nothing of its scope is sent before it is over"
            );
        }
        answers
    }

    async fn request(&self, attempt: &Attempt, job: &Arc<DeliveryJob>) -> Vec<Answer> {
        let answer = match (attempt.request, job.action) {
            (Request::Join, _) => self.join(job).await,
            (Request::Open, _) => self.open(job).await,
            (Request::Probe, _) => self.probe(job).await,
            (Request::Send, ActionType::SlackMessage) => self.message(attempt, job).await,
            (Request::Send, ActionType::SlackWebhook) => self.post(job).await,
            (Request::Send, ActionType::ClevertapProfile | ActionType::ClevertapEvent) => {
                return self.upload(&attempt.jobs).await;
            }
        };
        vec![answer; attempt.jobs.len()]
    }

    async fn message(&self, attempt: &Attempt, job: &DeliveryJob) -> Answer {
        let channel = attempt.channel.as_deref();
        let body = match slack::message_body(&job.body, channel, attempt.thread_ts.as_deref()) {
            Ok(body) => body,
            // The parser's own words quote what it found.
            Err(_) => return rejected("the job's body is no JSON object".to_owned()),
        };
        match self.slack_call(job, "chat.postMessage", body).await {
            Ok((reply, token)) => {
                slack::message_answer(&reply, channel.unwrap_or(&job.destination), hidden(&[token], job))
            }
            Err(failure) => failure.into(),
        }
    }

    /// Joins the public channel; who is in it already may join again.
    async fn join(&self, job: &DeliveryJob) -> Answer {
        let body = serde_json::json!({"channel": job.destination}).to_string();
        match self.slack_call(job, "conversations.join", body).await {
            Ok((reply, token)) => slack::join_answer(&reply, hidden(&[token], job)),
            Err(failure) => repeatable(failure.into()),
        }
    }

    /// Opens the member's direct channel, or finds the one that is open.
    async fn open(&self, job: &DeliveryJob) -> Answer {
        let body = serde_json::json!({"users": job.destination}).to_string();
        match self.slack_call(job, "conversations.open", body).await {
            Ok((reply, token)) => slack::open_answer(&reply, hidden(&[token], job)),
            Err(failure) => repeatable(failure.into()),
        }
    }

    /// Asks whether the token works; that does nothing, so asking again is always safe.
    async fn probe(&self, job: &DeliveryJob) -> Answer {
        match self.slack_call(job, "auth.test", "{}".to_owned()).await {
            Ok((reply, token)) => slack::probe_answer(&reply, hidden(&[token], job)),
            Err(failure) => repeatable(failure.into()),
        }
    }

    async fn slack_call(&self, job: &DeliveryJob, method: &str, body: String) -> Result<(Reply, Secret), Failure> {
        let token = in_header(self.secret_of(job).await?, &job.credential)?;
        let reply = call(&self.client, &self.slack_api, method, &token, body).await?;
        Ok((reply, token))
    }

    async fn post(&self, job: &DeliveryJob) -> Answer {
        let (url, secret) = match self.webhook(job).await {
            Ok(found) => found,
            Err(failure) => return failure.into(),
        };
        let mut secrets = within(&url);
        secrets.push(secret);
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .body(job.body.clone());
        match reply(request.send().await, BODY_MAX).await {
            Ok(reply) => slack::webhook_answer(&reply, hidden(&secrets, job)),
            Err(failure) => failure.into(),
        }
    }

    /// Uploads the records that CleverTap may take; the others are answered without it.
    async fn upload(&self, jobs: &[Arc<DeliveryJob>]) -> Vec<Answer> {
        let (taken, refused) = clevertap::checked(jobs);
        clevertap::together(self.upload_all(&taken).await, refused)
    }

    async fn upload_all(&self, jobs: &[Arc<DeliveryJob>]) -> Vec<Answer> {
        let all = |failure: Failure| vec![Answer::from(failure); jobs.len()];
        let Some(job) = jobs.first() else { return Vec::new() };
        let found = async {
            let (account, url) = self.account(job)?;
            let passcode = match job.sealed {
                Some(_) => self.secret_of(job).await?,
                None => self.secrets.find(&account.passcode).await?,
            };
            Ok((account, url, in_header(passcode, &job.credential)?))
        };
        let (account, url, passcode) = match found.await {
            Ok(found) => found,
            Err(failure) => return all(failure),
        };
        let records: Vec<&str> = jobs.iter().map(|job| job.body.as_str()).collect();
        let body = format!("{{\"d\":[{}]}}", records.join(","));
        // The answer echoes the records that failed, with escapes in them.
        let answer_max = BODY_MAX + 2 * body.len();
        let request = self
            .client
            .post(url)
            .header("X-CleverTap-Account-Id", &account.account_id)
            .header("X-CleverTap-Passcode", passcode.reveal())
            .header("content-type", "application/json; charset=utf-8")
            .body(body);
        match reply(request.send().await, answer_max).await {
            Ok(reply) => clevertap::upload_answers(&reply, jobs, &[passcode]),
            Err(failure) => all(failure),
        }
    }

    async fn secret_of(&self, job: &DeliveryJob) -> Result<Secret, Failure> {
        secret(&self.secrets, &job.credential, job.sealed.as_deref()).await
    }

    /// The job's account, and where its records are uploaded to.
    fn account(&self, job: &DeliveryJob) -> Result<(Cow<'_, config::Account>, Url), Failure> {
        let account = match clevertap::own_account(job)? {
            Some(account) => Cow::Owned(account),
            None => {
                let (_, name) = job.credential.split_once(':').unwrap_or_default();
                Cow::Borrowed(self.clevertap.accounts.get(name).ok_or_else(|| {
                    Failure::Credential(format!(
                        "account {name} is not in clevertap.accounts of the sender's configuration"
                    ))
                })?)
            }
        };
        let common = self.clevertap.api_url.as_deref();
        let url = config::safe_url(&format!("{}/1/upload", account.url(common)))
            .map_err(|why| Failure::Credential(format!("the account's URL {why}")))?;
        Ok((account, url))
    }

    async fn webhook(&self, job: &DeliveryJob) -> Result<(Url, Secret), Failure> {
        let secret = self.secret_of(job).await?;
        let refused = |why: &str| Failure::Credential(format!("the webhook URL in secret {} {why}", job.credential));
        let url = config::safe_url(secret.reveal().trim()).map_err(|why| refused(&why))?;
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        let allowed = |allowed: &String| allowed == host || with_port.as_ref() == Some(allowed);
        if !self.webhook_hosts.iter().any(allowed) {
            return Err(refused("has a host that is not in slack.webhook_hosts"));
        }
        self.keep_host(job, &url);
        Ok((url, secret))
    }
}

/// The secret of a credential. Its name is the credential's, behind its kind.
async fn secret(secrets: &Secrets, credential: &str, sealed: Option<&str>) -> Result<Secret, Failure> {
    let (_, name) = credential.split_once(':').unwrap_or_default();
    let secret = match sealed {
        Some(sealed) => secrets.open_as(name, sealed),
        None => secrets.reveal(name).await,
    };
    secret.map_err(Failure::from)
}

/// Calls a method of Slack's Web API.
async fn call(client: &Client, api: &str, method: &str, token: &Secret, body: String) -> Result<Reply, Failure> {
    let request = client
        .post(format!("{api}/{method}"))
        .bearer_auth(token.reveal())
        .header("content-type", "application/json; charset=utf-8")
        .body(body);
    reply(request.send().await, BODY_MAX).await
}

/// A secret that goes into a header as it is. What can't is no token: a line's end in the middle, or
/// a text around it.
fn in_header(secret: Secret, credential: &str) -> Result<Secret, Failure> {
    let is_plain = !secret.reveal().is_empty() && secret.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then_some(secret).ok_or_else(|| {
        Failure::Credential(format!(
            "the secret of {credential} is empty, or has spaces or other characters that no token has; write the token alone into it"
        ))
    })
}

/// Reads an answer whole, its body up to `max` bytes.
async fn reply(sent: Result<Response, reqwest::Error>, max: usize) -> Result<Reply, Failure> {
    let mut response = sent.map_err(Failure::from)?;
    let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
    let scopes = text_of(response.headers(), HeaderName::from_static("x-oauth-scopes")).map(str::to_owned);
    let mut body = Vec::new();
    while body.len() < max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            // The status alone says enough for a failure; a cut-off 200 may mean anything.
            Err(_) if status >= 400 => break,
            Err(error) => return Err(Failure::Unknown(words_of(&error))),
        }
    }
    body.truncate(max);
    Ok(Reply {
        status,
        retry_after,
        scopes,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Seconds, or a date, which is counted from the answer's own `Date`, so that no clock of ours has to
/// be right. What names no time to come (0, a date gone by, no number) is as good as none: then the
/// dispatch's own delay holds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text_of(headers, RETRY_AFTER)?;
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds.ceil(),
        Err(_) => {
            let date = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
            let until = date(text)?;
            (until - date(text_of(headers, DATE)?)?)
                .total(jiff::Unit::Second)
                .ok()?
        }
    };
    (seconds.is_finite() && seconds > 0.0).then(|| Duration::from_secs(seconds.min(RETRY_AFTER_MAX) as u64))
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Failure::Credential(error.to_string())
    }
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
    let kind = if error.is_connect() {
        "no connection"
    } else if error.is_builder() {
        "the request could not be made"
    } else if error.is_timeout() {
        "no answer within sender.request_timeout"
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
            Failure::Rejected(words) => (REJECTED, words),
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

/// The answer to a job that is refused before it is sent.
fn rejected(words: String) -> Answer {
    Answer {
        verdict: REJECTED,
        ..Failure::Unsent(words).into()
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
    fn answer(&self, verdict: Verdict, words: &str, hidden: Hidden<'_>) -> Answer {
        Answer {
            verdict,
            status: Some(self.status),
            words: hidden.words(words),
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

/// What an answer to a request of `job` may repeat.
fn hidden<'h>(secrets: &'h [Secret], job: &'h DeliveryJob) -> Hidden<'h> {
    Hidden {
        secrets,
        body: &job.body,
    }
}

/// What is secret in a webhook's URL, beside the whole: its path, the last step of that, which alone opens it, and what
/// is asked.
fn within(url: &Url) -> Vec<Secret> {
    let path = url.path().trim_matches('/');
    let last = path.rsplit('/').next();
    [Some(path), last, url.query()]
        .into_iter()
        .flatten()
        .map(Secret::new)
        .collect()
}

/// The message will never be taken.
const REJECTED: Verdict = Verdict::Rejected(Reason::MessageRejected);
/// The destination is not there any more.
const GONE: Verdict = Verdict::Rejected(Reason::DestinationGone);

#[cfg(test)]
mod tests;
