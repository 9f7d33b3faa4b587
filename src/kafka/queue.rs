//! Reads a consumer's records in batches, from a queue of their own.
//!
//! rdkafka gives one record a call and makes an event of each, which costs more than all that librdkafka does for it. This
//! module calls librdkafka's own `rd_kafka_consume_batch_queue`, and is therefore the one with unsafe code. A batch call on the
//! client's own queue would swallow rebalances, which rdkafka takes as events. So each partition's records are forwarded
//! to a queue of our own, and whoever reads that polls the client's queue beside it.
//!
//! For the same reason [`flush`] is here: rdkafka's own doesn't wait, so that librdkafka forgets that it was asked before it
//! has sent anything.
//!
//! What is unsafe here rests on three things. A [`Queue`] is freed before its client is: [`super::worker::Worker`] drops its
//! queue first. A [`ConsumerRecord`] borrows the queue, and so doesn't outlive it. And what librdkafka gives for a record
//! stays where it is until the record is destroyed. `tests/run --full` runs its tests under valgrind.

#![expect(unsafe_code, reason = "rdkafka has no batch calls; see the module's head")]

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, Timestamp};
use rdkafka::types::RDKafkaErrorCode;

/// The most records that one call gives.
const RECORDS_MAX: usize = 1024;

/// A queue that partitions are forwarded to.
#[derive(Debug)]
pub(super) struct Queue(NonNull<native::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues have a lock of their own, and any thread may use them.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// A queue of this client. It has to go before the client does.
    pub(super) fn of(client: &Client<impl ClientContext>) -> Self {
        // SAFETY: the client is there, and the queue is ours to destroy.
        let queue = unsafe { native::rd_kafka_queue_new(client.native_ptr()) };
        Self(NonNull::new(queue).unwrap_or_else(|| unreachable!("librdkafka ends the process when it has no memory")))
    }

    /// Whatever is fetched of the partition comes to this queue, until librdkafka stops fetching it. Where this is done before
    /// the partition is assigned, nothing of it comes to the client's own queue. Done before librdkafka has stopped, it is undone
    /// without a word; a group assigns nothing before that.
    pub(super) fn forward(
        &self,
        client: &Client<impl ClientContext>,
        topic: &str,
        partition: i32,
    ) -> Result<(), KafkaError> {
        let unknown = || KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownPartition);
        let topic = CString::new(topic).map_err(|_| unknown())?;
        // SAFETY: the client and the name are there for the call; the queue that it gives is ours to destroy.
        let from = unsafe { native::rd_kafka_queue_get_partition(client.native_ptr(), topic.as_ptr(), partition) };
        let from = Self(NonNull::new(from).ok_or_else(unknown)?);
        // SAFETY: both queues are there. librdkafka counts who uses the target.
        unsafe { native::rd_kafka_queue_forward(from.0.as_ptr(), self.0.as_ptr()) };
        Ok(())
    }

    /// Waits for a record, and takes those that are ready behind it. The error is what librdkafka says in place of a
    /// record; those before it are taken.
    pub(super) fn read<'q>(
        &'q self,
        wait: Duration,
        records: &mut VecDeque<ConsumerRecord<'q>>,
    ) -> Result<(), KafkaError> {
        let millis = i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        let mut failed = None;
        let mut take = |record| match self.record(record) {
            Some(Ok(record)) => records.push_back(record),
            Some(Err(error)) => {
                failed.get_or_insert(error);
            }
            None => {}
        };
        // The batch call waits until it is full. So one record is waited for, and then what is there is taken.
        if millis > 0 {
            // SAFETY: the queue is there; what it gives is ours.
            let first = unsafe { native::rd_kafka_consume_queue(self.0.as_ptr(), millis) };
            if first.is_null() {
                return Ok(());
            }
            take(first);
        }
        let mut found = [ptr::null_mut(); RECORDS_MAX];
        // SAFETY: the queue is there, and the array has room for as many as are asked for.
        let count =
            unsafe { native::rd_kafka_consume_batch_queue(self.0.as_ptr(), 0, found.as_mut_ptr(), found.len()) };
        let count = usize::try_from(count).unwrap_or_default();
        found.into_iter().take(count).for_each(take);
        failed.map_or(Ok(()), Err)
    }

    /// What librdkafka gave: a record, or an error in place of one.
    fn record(&self, record: *mut native::rd_kafka_message_t) -> Option<Result<ConsumerRecord<'_>, KafkaError>> {
        let record = ConsumerRecord {
            record: NonNull::new(record)?,
            headers: OnceCell::new(),
            queue: PhantomData,
        };
        let code = RDKafkaErrorCode::from(record.native().err);
        Some(match code {
            RDKafkaErrorCode::NoError => Ok(record),
            RDKafkaErrorCode::Fatal => Err(KafkaError::MessageConsumptionFatal(code)),
            _ => Err(KafkaError::MessageConsumption(code)),
        })
    }
}

/// Has the client send what was written at once, whatever its `linger.ms` is, and waits so long for the brokers. Who waits
/// for all of it takes the delivery reports between two calls.
pub(super) fn flush(client: &Client<impl ClientContext>, wait: Duration) {
    let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is there.
    unsafe { native::rd_kafka_flush(client.native_ptr(), millis) };
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: nobody uses it after this; librdkafka keeps what it still needs of it.
        unsafe { native::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// A record as the client has it.
#[derive(Debug)]
pub struct ConsumerRecord<'q> {
    record: NonNull<native::rd_kafka_message_t>,
    /// Once asked for: librdkafka looks for them each time where there are none.
    headers: OnceCell<Option<NonNull<RecordHeaders>>>,
    queue: PhantomData<&'q Queue>,
}

impl ConsumerRecord<'_> {
    fn native(&self) -> &native::rd_kafka_message_t {
        // SAFETY: the record is there until it is dropped, and nobody changes it.
        unsafe { self.record.as_ref() }
    }

    /// `length` bytes that stand at `start`, which the record holds.
    fn bytes(&self, start: *const std::ffi::c_void, length: usize) -> Option<&[u8]> {
        // SAFETY: librdkafka says where its key and its value are, and how long; both stay until the record goes.
        (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), length) })
    }
}

impl Drop for ConsumerRecord<'_> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody has it after this.
        unsafe { native::rd_kafka_message_destroy(self.record.as_ptr()) };
    }
}

impl Message for ConsumerRecord<'_> {
    type Headers = RecordHeaders;

    fn key(&self) -> Option<&[u8]> {
        let native = self.native();
        self.bytes(native.key, native.key_len)
    }

    fn payload(&self) -> Option<&[u8]> {
        let native = self.native();
        self.bytes(native.payload, native.len)
    }

    unsafe fn payload_mut(&mut self) -> Option<&mut [u8]> {
        None
    }

    fn topic(&self) -> &str {
        // SAFETY: a record has a topic, whose name stays for as long as the client does.
        let name = unsafe { CStr::from_ptr(native::rd_kafka_topic_name(self.native().rkt)) };
        name.to_str().unwrap_or_default()
    }

    fn partition(&self) -> i32 {
        self.native().partition
    }

    fn offset(&self) -> i64 {
        self.native().offset
    }

    fn timestamp(&self) -> Timestamp {
        use native::rd_kafka_timestamp_type_t as Kind;
        let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the record is there.
        let millis = unsafe { native::rd_kafka_message_timestamp(self.record.as_ptr(), &mut kind) };
        match kind {
            _ if millis == -1 => Timestamp::NotAvailable,
            Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::NotAvailable,
            Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::CreateTime(millis),
            Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::LogAppendTime(millis),
        }
    }

    fn headers(&self) -> Option<&RecordHeaders> {
        let headers = self.headers.get_or_init(|| {
            let mut headers = ptr::null_mut();
            // SAFETY: the record is there. It keeps its headers, and destroys them with itself.
            let none = unsafe { native::rd_kafka_message_headers(self.record.as_ptr(), &mut headers) };
            let is_there = none == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            NonNull::new(headers.cast()).filter(|_| is_there)
        });
        // SAFETY: the headers live as long as the record does. `RecordHeaders` has no size and reads nothing itself: it
        // is a name for the place.
        headers.map(|headers| unsafe { headers.as_ref() })
    }
}

/// The headers of a record, where librdkafka keeps them.
#[derive(Debug)]
#[repr(C)]
pub struct RecordHeaders {
    opaque: [u8; 0],
}

impl RecordHeaders {
    fn native(&self) -> *const native::rd_kafka_headers_t {
        ptr::from_ref(self).cast()
    }
}

impl Headers for RecordHeaders {
    fn count(&self) -> usize {
        // SAFETY: the headers are there, since their record is.
        unsafe { native::rd_kafka_header_cnt(self.native()) }
    }

    fn try_get(&self, at: usize) -> Option<Header<'_, &[u8]>> {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers are there; the call fills in all three, or says that there is none.
        let none = unsafe { native::rd_kafka_header_get_all(self.native(), at, &mut name, &mut value, &mut length) };
        if none != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: a name ends with a zero byte, and stays for as long as the headers do.
        let key = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
        // SAFETY: the value is as long as the call says, and stays as well.
        let value = (!value.is_null()).then(|| unsafe { std::slice::from_raw_parts(value.cast(), length) });
        Some(Header { key, value })
    }
}

#[cfg(test)]
mod tests;
