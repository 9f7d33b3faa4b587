//! A worker's partitions as they come and go, and the place from which it reads each of them.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::super::place::Places;
use super::super::queue::Queue;
use super::super::words::Words;
use super::super::{ANSWER_WAIT, Fault};
use super::transaction::Transaction;
use super::{GONE, LOST};
use crate::config::Start;
use crate::trail::{Look, Trail};

pub(super) struct WorkerContext {
    pub(super) words: Words,
    pub(super) transaction: Arc<Transaction>,
    pub(super) places: Places,
    pub(super) start: Start,
    /// Where the partitions' records go. None before the worker has it, and once the client closes.
    pub(super) queue: Mutex<Option<Arc<Queue>>>,
}

impl ClientContext for WorkerContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }
}

impl WorkerContext {
    pub(super) fn reads_from(&self, queue: Option<Arc<Queue>>) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = queue;
    }

    /// Has all records of the partitions come by the worker's queue.
    fn forward<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &TopicPartitionList,
    ) -> Result<(), Fault> {
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            for element in partitions.elements() {
                queue.forward(consumer.client(), element.topic(), element.partition())?;
            }
        }
        Ok(())
    }

    /// `partitions` with the offsets to read from: what is committed, else where reading starts. What is gone
    /// before it was read is counted and passed; where what was read is gone, reading starts over.
    pub(super) fn placed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &TopicPartitionList,
    ) -> Result<TopicPartitionList, Fault> {
        let committed = consumer
            .committed_offsets(partitions.clone(), ANSWER_WAIT)
            .map_err(|error| self.transaction.writer.reads.fault(error))?;
        let mut placed = TopicPartitionList::with_capacity(partitions.count());
        for element in partitions.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let element = committed.find_partition(topic, partition);
            let next = element.as_ref().and_then(|element| match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
            let trail = element
                .map(|element| Trail::parse(element.metadata()))
                .unwrap_or_default();
            let from = self.from(topic, partition, next, trail)?;
            placed.add_partition_offset(topic, partition, Offset::Offset(from))?;
        }
        Ok(placed)
    }

    /// The offset from which to read a partition that is committed at `next`.
    fn from(&self, topic: &str, partition: i32, next: Option<i64>, mut trail: Trail) -> Result<i64, Fault> {
        let Some(number) = self.transaction.number(topic) else {
            unreachable!("only what was subscribed to is assigned");
        };
        let key = (number, partition);
        let (ours, old_end) = {
            let remembered = self.transaction.remembered();
            let trail = remembered.trails.get(&key).cloned().unwrap_or_default();
            (trail, remembered.ends.get(&key).copied().unwrap_or_default())
        };
        let position = ours.newest().map(|newest| newest.offset + 1);
        let fault = |error| self.transaction.writer.reads.fault(error);
        let check = |next, trail: &Trail| self.places.check(topic, partition, next, trail).map_err(fault);
        let mut anew = match next {
            Some(next) => check(next, &trail)?,
            None => None,
        };
        let (low, high) = self.places.ends(topic, partition).map_err(fault)?;
        let mut from = match (anew, next) {
            (Some(anew), _) => anew.from,
            (None, Some(next)) => next.max(low),
            (None, None) if self.start == Start::Latest => high,
            (None, None) => low,
        };
        // Kafka may have forgotten, or gone back itself, where we haven't.
        if let (None, Some(position)) = (anew, position) {
            anew = check(position, &ours)?;
            if next.is_none() {
                from = anew.map_or(position, |anew| anew.from).max(low);
            }
        }
        if anew.is_some() && self.transaction.state().was_assigned {
            // A client that knew the old topic may take the new one for an outdated word of it.
            return Err(Fault::Retriable(GONE.to_owned()));
        }
        let read = next.max(position).unwrap_or(low);
        let lost = match anew {
            Some(_) => (old_end - read).max(0).unsigned_abs(),
            None => next.map_or(0, |next| (low - next).max(0).unsigned_abs()),
        };
        match anew {
            Some(_) => tracing::error!(
                kafka.topic = topic,
                kafka.partition = partition,
                kafka.offset = read,
                from,
                end = high,
                lost,
                "the records that were read are not there any more: the topic was made anew or has lost its end; \
                 it is started over, and everything that is in it is read"
            ),
            None if lost > 0 => tracing::error!(
                kafka.topic = topic,
                kafka.partition = partition,
                kafka.offset = next,
                lost,
                "records were lost to retention before they were read; reading goes on behind them"
            ),
            None => {}
        }
        trail.cut(from);
        let happened = &mut self.transaction.state().happened;
        happened.lost += lost;
        happened.started_over += u64::from(anew.is_some());
        let mut remembered = self.transaction.remembered();
        remembered.looks.insert(key, Look::of(&trail));
        remembered.trails.insert(key, trail);
        remembered.ends.insert(key, high);
        Ok(from)
    }
}

impl ConsumerContext for WorkerContext {
    /// In place of the default, so that each partition gets its offset at once: a partition without
    /// one would raise an error that doesn't say which it is.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list, cooperative),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list, cooperative),
            _ => consumer.unassign().map_err(Fault::from),
        };
        // Whatever went wrong, the loop has to see it.
        if let Err(fault) = done {
            tracing::warn!(%fault, "a rebalance did not go as it should");
            self.transaction.state().fault = Some(fault);
        }
    }
}

impl WorkerContext {
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList, cooperative: bool) -> Result<(), Fault> {
        let placed = if list.count() == 0 {
            Ok(list.clone())
        } else {
            self.placed(consumer, list)
        };
        // Without its offsets a partition is not read; the worker is built anew and asks again.
        let (list, asked) = match placed {
            Ok(placed) => (placed, Ok(())),
            Err(fault) => (TopicPartitionList::new(), Err(Fault::Retriable(fault.to_string()))),
        };
        self.forward(consumer, &list)?;
        if cooperative {
            consumer.incremental_assign(&list)?
        } else {
            consumer.assign(&list)?
        };
        // The client keeps a partition's pause for its next time with us.
        if list.count() > 0 {
            consumer.resume(&list)?;
        }
        tracing::info!(
            kafka.topics = self.transaction.topics.join(", "),
            partitions = list.count(),
            "partitions assigned"
        );
        let mut state = self.transaction.state();
        state.assigned = asked.is_ok();
        state.was_assigned |= list.count() > 0;
        if list.count() > 0 {
            state.missing.clear();
        }
        asked
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList, cooperative: bool) -> Result<(), Fault> {
        let gone = list.elements();
        let gone = gone.iter().map(|gone| (gone.topic().to_owned(), gone.partition()));
        self.transaction.state().revoked.extend(gone);
        let ended = if consumer.assignment_lost() {
            // Kafka was away and may come back with other topics of these names, which a client that knew the old ones
            // may take for outdated words of them.
            self.transaction
                .abort()
                .and_then(|_| Err(Fault::Retriable(LOST.to_owned())))
        } else {
            let begun = self.transaction.commit(consumer);
            begun.and_then(|()| self.transaction.settle())
        };
        tracing::info!(
            kafka.topics = self.transaction.topics.join(", "),
            partitions = list.count(),
            "partitions revoked"
        );
        // The partitions go either way.
        if cooperative {
            consumer.incremental_unassign(list)?
        } else {
            consumer.unassign()?
        };
        ended
    }
}
