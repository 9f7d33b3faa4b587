//! Destinations: one HTTP request, one classified answer.
//!
//! This module alone decides what an answer means. It has no retry, no waiting and no limit; the dispatch has those.
//! It looks up a secret at the moment of sending, and masks it in the provider's answer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url};

use crate::action::ActionType;
use crate::action::clevertap::is_marked;
use crate::config::{self, Config};
use crate::delivery::DeliveryJob;
use crate::delivery::dispatch::{Answer, Attempt, Request, Verdict};
use crate::http_client::{self, ClientError, Reply, Unanswered};
use crate::reason::Reason;
use crate::secrets::{Found, Secret, SecretError, Secrets};
use crate::slack::WebApi;

pub mod clevertap;
pub mod examine;
mod introduce;
pub mod slack;
mod words;

use introduce::{Checked, Introduced};
use words::Hidden;

/// An answer's body is read up to here, and as far beyond as what it may echo is long.
const BODY_MAX: usize = 1024 * 1024;
/// A `Retry-After` from here on is kept to as any other, and logged.
const LONG_WAIT: Duration = Duration::from_secs(600);

/// Slack and CleverTap, as the configuration has them.
#[derive(Debug)]
pub struct Destinations {
    client: Client,
    secrets: Secrets,
    slack: WebApi,
    /// Whether channels are joined (`slack.join`), which needs a scope.
    joins: bool,
    introduced: Arc<Introduced>,
    webhook_hosts: Vec<String>,
    clevertap: config::Clevertap,
    slack_host: Arc<str>,
    /// The host of webhooks whose URL wasn't read yet.
    unread_host: Arc<str>,
    /// The host of each webhook's URL as it was last read, by credential.
    read_hosts: Mutex<HashMap<String, Arc<str>>>,
    /// The secret of each credential as it was last used, or why there was none.
    used: Mutex<HashMap<String, Found>>,
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

impl Destinations {
    pub fn new(config: &Config, secrets: Secrets) -> Result<Self, ClientError> {
        let client = http_client::client(config.sender.request_timeout)?;
        Ok(Self {
            slack: WebApi::new(&config.slack.api_url, client.clone()),
            slack_host: Url::parse(&config.slack.api_url).map_or_else(|_| "slack".into(), |url| host_of(&url)),
            unread_host: unread_host(&config.slack.webhook_hosts),
            read_hosts: Mutex::default(),
            used: Mutex::default(),
            client,
            secrets,
            joins: config.slack.join,
            introduced: Arc::default(),
            webhook_hosts: config.slack.webhook_hosts.clone(),
            clevertap: config.clevertap.clone(),
        })
    }

    /// The host that a job's requests go to; the limit of requests in flight to one host rests on it. A webhook's URL is
    /// a secret, which nobody reads for this: each request of the webhook shows the host.
    pub fn host(&self, job: &DeliveryJob) -> Arc<str> {
        match job.action {
            ActionType::SlackMessage => Arc::clone(&self.slack_host),
            ActionType::SlackWebhook => Arc::clone(self.read_hosts().get(&job.credential).unwrap_or(&self.unread_host)),
            // A job may name another region than the job before it.
            ActionType::ClevertapProfile | ActionType::ClevertapEvent => match self.account(job) {
                Ok((_, url)) => host_of(&url),
                Err(_) => job.credential.as_str().into(),
            },
        }
    }

    fn read_hosts(&self) -> MutexGuard<'_, HashMap<String, Arc<str>>> {
        self.read_hosts.lock().unwrap_or_else(PoisonError::into_inner)
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
        let answer = match job.action {
            ActionType::SlackMessage => match attempt.request {
                Request::Send => self.message(attempt, job).await,
                Request::Join => self.join(job).await,
                Request::Open => self.open(job).await,
                Request::Probe => self.probe(job).await,
            },
            // Their pacing has no probe, and their answers never ask for a channel.
            ActionType::SlackWebhook => self.post(job).await,
            ActionType::ClevertapProfile | ActionType::ClevertapEvent => {
                return self.upload(&attempt.jobs, attempt.is_test).await;
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
        let reply = self.slack.post(method, &token, body).await?;
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
        match http_client::reply(request.send().await, BODY_MAX)
            .await
            .map_err(Failure::from)
        {
            Ok(reply) => slack::webhook_answer(&reply, hidden(&secrets, job)),
            Err(failure) => failure.into(),
        }
    }

    /// Uploads the records that CleverTap may take; the others are answered without it.
    async fn upload(&self, jobs: &[Arc<DeliveryJob>], is_test: bool) -> Vec<Answer> {
        let (taken, refused) = clevertap::checked(jobs);
        // What doesn't show that it is a test must change no customer.
        let is_dry_run = is_test && !taken.iter().all(|job| is_marked(&job.body));
        clevertap::together(self.upload_all(&taken, is_dry_run).await, refused)
    }

    /// The upload of a body by an account; a dry run stores nothing of it.
    fn upload_request(
        &self,
        mut url: Url,
        is_dry_run: bool,
        account_id: &str,
        passcode: &Secret,
        body: String,
    ) -> RequestBuilder {
        if is_dry_run {
            url.query_pairs_mut().append_pair("dryRun", "1");
        }
        self.client
            .post(url)
            .header("X-CleverTap-Account-Id", account_id)
            .header("X-CleverTap-Passcode", passcode.reveal())
            .header("content-type", "application/json; charset=utf-8")
            .body(body)
    }

    async fn upload_all(&self, jobs: &[Arc<DeliveryJob>], is_dry_run: bool) -> Vec<Answer> {
        let all = |failure: Failure| vec![Answer::from(failure); jobs.len()];
        let Some(job) = jobs.first() else { return Vec::new() };
        let found = async {
            let (account, url) = self.account(job)?;
            let passcode = match job.sealed {
                Some(_) => self.secret_of(job).await?,
                None => self.used(&job.credential, self.secrets.find(&account.passcode).await)?,
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
        let request = self.upload_request(url, is_dry_run, &account.account_id, &passcode, body);
        match http_client::reply(request.send().await, answer_max)
            .await
            .map_err(Failure::from)
        {
            Ok(reply) => clevertap::upload_answers(&reply, jobs, &[passcode]),
            Err(failure) => all(failure),
        }
    }

    async fn secret_of(&self, job: &DeliveryJob) -> Result<Secret, Failure> {
        let found = secret(&self.secrets, &job.credential, job.sealed.as_deref()).await;
        self.used(&job.credential, found)
    }

    /// Remembers what is used for a credential.
    fn used(&self, credential: &str, found: Found) -> Result<Secret, Failure> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(credential.to_owned(), found.clone());
        found.map_err(Failure::from)
    }

    /// Whether the secret of a credential is another than the one that was used last. One that a rule carries sealed
    /// never changes: it would be another credential.
    pub async fn has_changed(&self, credential: &str) -> bool {
        let (kind, name) = credential.split_once(':').unwrap_or_default();
        let found = match (kind, self.clevertap.accounts.get(name)) {
            _ if name.starts_with("sealed-") => return false,
            ("clevertap", None) => return false,
            ("clevertap", Some(account)) => self.secrets.find(&account.passcode).await,
            _ => self.secrets.reveal(name).await,
        };
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.get(credential).is_some_and(|used| *used != found)
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
        self.url(job, &self.webhook_hosts, "slack.webhook_hosts").await
    }

    /// The URL that is the job's secret. Its host must be one of `hosts`, which the configuration has under `key`.
    async fn url(&self, job: &DeliveryJob, hosts: &[String], key: &str) -> Result<(Url, Secret), Failure> {
        let secret = self.secret_of(job).await?;
        let url = allowed(&job.credential, &secret, hosts, key)?;
        self.read_hosts().insert(job.credential.clone(), host_of(&url));
        Ok((url, secret))
    }
}

/// The URL in a secret, where its host is one of `hosts`.
fn allowed(credential: &str, secret: &Secret, hosts: &[String], key: &str) -> Result<Url, Failure> {
    let refused = |why: &str| Failure::Credential(format!("the webhook URL in secret {credential} {why}"));
    let url = config::safe_url(secret.reveal().trim()).map_err(|why| refused(&why))?;
    let host = url.host_str().unwrap_or_default();
    let with_port = url.port().map(|port| format!("{host}:{port}"));
    let allowed = |allowed: &String| allowed == host || with_port.as_ref() == Some(allowed);
    if !hosts.iter().any(allowed) {
        return Err(refused(&format!("has a host that is not in {key}")));
    }
    Ok(url)
}

fn host_of(url: &Url) -> Arc<str> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
    format!("{host}:{}", port.unwrap_or_default()).into()
}

/// The host that webhooks count as until their URL is read: the only one that they may have, or else one that they all
/// share, so that together they never get more requests in flight than a host may have.
fn unread_host(webhook_hosts: &[String]) -> Arc<str> {
    let only = match webhook_hosts {
        [only] => Url::parse(&format!("https://{only}")).ok(),
        _ => None,
    };
    only.map_or_else(|| "webhooks".into(), |url| host_of(&url))
}

/// The secret of a credential. Its name is the credential's, behind its kind.
async fn secret(secrets: &Secrets, credential: &str, sealed: Option<&str>) -> Found {
    let (_, name) = credential.split_once(':').unwrap_or_default();
    match sealed {
        Some(sealed) => secrets.open_as(name, sealed),
        None => secrets.reveal(name).await,
    }
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

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Failure::Credential(error.to_string())
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NoConnection | Unanswered::NoRequest => Failure::Unsent(unanswered.to_string()),
            Unanswered::TimedOut => Failure::Unknown("no answer within sender.request_timeout".to_owned()),
            Unanswered::Broken => Failure::Unknown(unanswered.to_string()),
        }
    }
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

/// The meaning of the answer.
fn answer(reply: &Reply, verdict: Verdict, words: &str, hidden: Hidden<'_>) -> Answer {
    Answer {
        verdict,
        status: Some(reply.status),
        words: hidden.words(words),
        message_id: None,
        channel: None,
    }
}

/// An answer's body as words for a person: what is HTML is named, not quoted.
fn words_of(reply: &Reply) -> &str {
    let body = reply.body.trim();
    if body.starts_with('<') { "an HTML page" } else { body }
}

/// The values of `job` that an answer to its request may repeat.
fn hidden<'h>(secrets: &'h [Secret], job: &'h DeliveryJob) -> Hidden<'h> {
    Hidden {
        secrets,
        body: &job.body,
    }
}

/// The secret parts of a webhook's URL, beside the whole: its path, the last step of that, which alone opens it, and its
/// query.
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
