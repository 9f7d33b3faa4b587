//! Reports to people and Prometheus: the notices of `sending`, gauges, and the credentials that are refused.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Loop;
use super::back::Back;
use crate::action::Provider;
use crate::delivery::OutcomeResult;
use crate::delivery::dispatch::Settled;
use crate::delivery::ledger::NewerOutcomes;
use crate::delivery::limit::Micros;
use crate::delivery::sending::{Event, Gone, Notice, What, Writing};
use crate::metrics::{FROZEN, StartedOver};

impl Loop {
    /// Says what the sending has to say, in the log and in metrics.
    pub(super) fn say(&self, notice: Notice) {
        match notice {
            Notice::Settled(settled) => self.settled(&settled),
            Notice::NoJob { at, reason, detail } => tracing::warn!(
                kafka.partition = at.partition,
                kafka.offset = at.offset,
                reason = reason.as_str(),
                detail,
                "a record is no delivery job; dead letter"
            ),
            Notice::JobGone(at) => {
                self.wiring.metrics.events_lost(1);
                tracing::error!(
                    kafka.partition = at.partition,
                    kafka.offset = at.offset,
                    "a waiting job is gone from Kafka before it was sent: is the topic's retention long enough?"
                );
            }
            Notice::NotRecalled { partition, message } => tracing::warn!(
                kafka.partition = partition,
                message,
                "outcomes could not be read back; trying again"
            ),
            Notice::Refused(writing) => self.refused(&writing),
            Notice::Gone { partition, what } => self.gone(partition, what),
        }
    }

    /// Jobs or outcomes that were there are gone from Kafka.
    fn gone(&self, partition: i32, what: Gone) {
        let (topics, metrics) = (&self.wiring.config.topics, &self.wiring.metrics);
        match what {
            Gone::StartedOver { from, end, lost } => {
                metrics.started_over(StartedOver::Jobs);
                metrics.events_lost(lost);
                tracing::error!(
                    kafka.topic = topics.jobs,
                    kafka.partition = partition,
                    from,
                    end,
                    lost,
                    "the jobs that were read are not there any more: the topic was made anew or has lost its end; \
                     it is started over, and everything that is in it is sent"
                );
            }
            Gone::Passed { lost } => {
                metrics.events_lost(lost);
                tracing::error!(
                    kafka.topic = topics.jobs,
                    kafka.partition = partition,
                    lost,
                    "jobs were lost to retention before they were sent: is the topic's retention long enough?"
                );
            }
            Gone::OutcomesAnew { end } => {
                metrics.started_over(StartedOver::Outcomes);
                tracing::error!(
                    kafka.topic = topics.outcomes,
                    kafka.partition = partition,
                    end,
                    "the outcomes that were read are not there any more: the topic was made anew or has lost its end; \
                     it is read from its beginning, and jobs whose outcomes are gone are sent again"
                );
            }
            Gone::OutcomeWentBack { offset } => {
                metrics.started_over(StartedOver::Outcomes);
                tracing::error!(
                    kafka.topic = topics.outcomes,
                    kafka.partition = partition,
                    kafka.offset = offset,
                    "the outcomes written before are not there any more: the topic was made anew or has lost its end; \
                     whoever takes over reads it from its beginning, and may send again what it doesn't tell of"
                );
            }
            Gone::AnotherJob => {
                metrics.started_over(StartedOver::Jobs);
                tracing::error!(
                    kafka.topic = topics.jobs,
                    kafka.partition = partition,
                    "outcomes tell of jobs that are not there any more: the topic was made anew or has lost its end; \
                     everything that is in it is sent"
                );
            }
        }
    }

    /// A job was answered for, or ended without a request.
    fn settled(&self, settled: &Settled) {
        let (metrics, provider, outcome) = (&self.wiring.metrics, settled.job.action.provider(), &settled.outcome);
        // A test is no match.
        if !settled.is_test {
            metrics.settled(provider, outcome.result);
        }
        if outcome.result == OutcomeResult::Sent && !settled.is_test {
            let age = outcome.ended_at.saturating_sub(settled.job.occurred_at);
            metrics.delivered(provider, Duration::from_millis(u64::try_from(age).unwrap_or_default()));
        }
        tracing::debug!(
            event.id = outcome.event_id,
            rule.id = outcome.rule_id,
            job.id = outcome.job_id,
            lane = outcome.lane,
            attempt = outcome.attempt,
            result = outcome.result.as_str(),
            "outcome"
        );
        if let Some(reason) = settled.dead {
            tracing::warn!(
                event.id = outcome.event_id,
                rule.id = outcome.rule_id,
                job.id = outcome.job_id,
                reason = reason.as_str(),
                words = outcome.words.as_deref().unwrap_or_default(),
                "dead letter"
            );
        }
    }

    /// A topic doesn't take even the smallest form of an outcome or a dead letter.
    fn refused(&self, writing: &Writing) {
        let topics = &self.wiring.config.topics;
        match &writing.what {
            What::Outcome(settled, _) => tracing::error!(
                job.id = settled.outcome.job_id,
                "{} doesn't take an outcome of a few hundred bytes; raise its max.message.bytes",
                topics.outcomes
            ),
            What::DeadLetter(..) => tracing::error!(
                kafka.partition = writing.posting.at.partition,
                kafka.offset = writing.posting.at.offset,
                "{} doesn't take a dead letter of a few hundred bytes; raise its max.message.bytes",
                topics.dead_letters
            ),
        }
    }

    pub(super) fn gauges(&self) {
        let now = (self.wiring.steady)();
        let mut waiting: HashMap<Provider, usize> = HashMap::new();
        let mut frozen: HashMap<(Provider, &str), usize> = HashMap::new();
        let mut ready = 0;
        for lane in self.sending.dispatch.lanes(now) {
            *waiting.entry(lane.provider).or_default() += lane.waiting;
            if let Some(why) = lane.frozen_why {
                *frozen.entry((lane.provider, why)).or_default() += 1;
            }
            ready += lane.ready;
        }
        let in_flight = self.sending.dispatch.in_flight_by_provider();
        for provider in Provider::ALL {
            let count = in_flight.get(&provider).copied().unwrap_or(0);
            self.wiring
                .metrics
                .waiting(provider, waiting.get(&provider).copied().unwrap_or(0), count);
            for reason in FROZEN {
                self.wiring
                    .metrics
                    .frozen(provider, reason, frozen.get(&(provider, reason)).copied().unwrap_or(0));
            }
        }
        // Even when every request times out, so many end in a second.
        let sender = &self.wiring.config.sender;
        let slowest = sender.in_flight_max as f64 / sender.request_timeout.as_secs_f64();
        let capacity = ready as f64 / self.pace.per_second(now).max(slowest);
        let limit = self.sending.dispatch.limit_wait(now) as f64 / 1e6;
        self.wiring.metrics.backlog(limit, capacity);
        self.wiring.metrics.dedup_reach(self.sending.dispatch.dedup_reach(now));
        self.wiring.metrics.payload_bytes(self.sending.dispatch.bytes());
    }

    /// The oldest job's age, and half of `job_age_max` is the time to look after it.
    pub(super) fn oldest(&mut self) {
        let age_max = self.wiring.config.sender.job_age_max;
        let oldest = self.sending.dispatch.oldest((self.wiring.steady)());
        self.wiring.metrics.oldest_job_age(oldest.unwrap_or_default());
        let old = oldest.filter(|age| *age > age_max / 2);
        if let Some(age) = old.filter(|_| !self.old) {
            tracing::warn!(
                age_seconds = age.as_secs(),
                job_age_max_seconds = age_max.as_secs(),
                "the oldest waiting job is past half of sender.job_age_max, after which it becomes a dead letter"
            );
        }
        self.old = old.is_some();
    }

    /// Says what a newer version wrote and what that holds up: to Prometheus, to who asks whether we are ready, and
    /// once to the log.
    pub(super) fn unreadable(&mut self) {
        let (mut count, mut now) = (0, BTreeSet::new());
        for (credential, jobs, needs) in self.sending.dispatch.held() {
            count += jobs;
            now.insert(format!("{credential} is held by jobs of a newer version: {needs}"));
        }
        let topic = &self.wiring.config.topics.outcomes;
        for (partition, NewerOutcomes { outcomes, needs }) in self.sending.dispatch.ledger.newer() {
            count += outcomes;
            now.insert(format!(
                "partition {partition} of {topic} has outcomes of a newer version, and is not taken over: {needs}"
            ));
        }
        self.wiring.metrics.unreadable_records(count);
        if now == self.unreadable {
            return;
        }
        for held in now.difference(&self.unreadable) {
            tracing::warn!("{held}; upgrade the senders");
        }
        for held in self.unreadable.difference(&now) {
            tracing::info!("no longer: {held}");
        }
        let mut lines: Vec<String> = now.iter().take(LINES_MAX).cloned().collect();
        if now.len() > LINES_MAX {
            lines.push(format!("and {} more", now.len() - LINES_MAX));
        }
        self.wiring.unreadable.send_replace(lines);
        self.unreadable = now;
    }

    /// Says each new cause for which a credential is refused.
    pub(super) fn refused_because(&mut self, credential: &str, cause: &str) {
        if self.refused.get(credential).is_some_and(|said| said == cause) {
            return;
        }
        tracing::error!(
            credential,
            cause,
            "the credential is refused; its jobs wait, and it is probed until it works, at once when its secret changes"
        );
        self.refused.insert(credential.to_owned(), cause.to_owned());
    }

    /// Has the secrets of refused credentials looked at, each second; one that is another by now is tried at once.
    pub(super) fn look_at_secrets(&mut self, now: Micros) {
        if now.saturating_sub(self.secrets_looked_at) < SECOND {
            return;
        }
        self.secrets_looked_at = now;
        for credential in self.sending.dispatch.refused() {
            let (destinations, back) = (Arc::clone(&self.wiring.destinations), self.back.clone());
            let credential = credential.to_owned();
            tokio::spawn(async move {
                if destinations.has_changed(&credential).await {
                    // The loop may be over.
                    drop(back.send(Back::Event(Event::SecretChanged(credential))));
                }
            });
        }
    }

    /// Says once when a credential is found refused, and once when it works again.
    pub(super) fn credentials(&mut self) {
        let refused: HashSet<String> = self.sending.dispatch.refused().into_iter().map(str::to_owned).collect();
        for credential in &refused {
            // A predecessor's outcomes say so; the cause is asked for with the first probe.
            if !self.refused.contains_key(credential) {
                self.refused_because(credential, "it was before this process came");
            }
        }
        self.refused.retain(|credential, _| {
            let still = refused.contains(credential);
            if !still {
                tracing::info!(credential, "the credential works again");
            }
            still
        });
        let failing = self.sending.dispatch.failing();
        for (credential, lanes) in &failing {
            if !self.failing.contains(*credential) {
                tracing::warn!(
                    credential,
                    lanes,
                    "lanes of the credential fail again and again; each of them gets one request at a time until one is taken"
                );
            }
        }
        for credential in &self.failing {
            if !failing.contains_key(credential.as_str()) {
                tracing::info!(credential, "no lane of the credential fails any more");
            }
        }
        self.failing = failing.into_keys().map(str::to_owned).collect();
    }
}

/// The most lines of what is held up that are shown; the log has all of them.
const LINES_MAX: usize = 20;

/// How many jobs were answered for in the last minute, second by second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seconds: VecDeque<(Micros, usize)>,
}

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;

impl Pace {
    pub(super) fn sent(&mut self, count: usize, now: Micros) {
        match self.seconds.back_mut() {
            Some((second, counted)) if now - *second < SECOND => *counted += count,
            _ => self.seconds.push_back((now, count)),
        }
        while self.seconds.front().is_some_and(|(second, _)| now - second > MINUTE) {
            self.seconds.pop_front();
        }
    }

    fn per_second(&self, now: Micros) -> f64 {
        let recent = || self.seconds.iter().filter(|(second, _)| now - second <= MINUTE);
        let since = recent().map(|(second, _)| *second).next().unwrap_or(now);
        let count: usize = recent().map(|(_, count)| count).sum();
        count as f64 / ((now - since).max(SECOND) as f64 / SECOND as f64)
    }
}
