//! Writes and reads jobs and outcomes as Avro single objects: `C3 01`, the fingerprint of the writer's schema, and the
//! fields.
//!
//! A version of Leadlane writes one schema of each, and reads every schema that was ever released. Bytes of the
//! current schema go straight into the struct. Bytes of another schema are first resolved by Avro's rules: a field
//! that the writer didn't know gets its default, and a field that the reader doesn't know is dropped. A fingerprint
//! that no table has is [`Unreadable::UnknownSchema`]: either another version of Leadlane wrote the record or a
//! stranger did, and only the record's headers show which.
//!
//! `schemas/delivery_job.avsc` and `schemas/delivery_outcome.avsc` are the current schemas. `schemas/released/` keeps
//! every released one, each with a record of it. ARCHITECTURE.md describes how to change a schema.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DeliveryJob, Outcome};
use crate::credential::one_spelling;

mod datum;

/// The schema that jobs are written with, and every one that they were ever written with.
pub(super) const JOB: &str = include_str!("../../schemas/delivery_job.avsc");
const JOBS: [&str; 1] = [include_str!("../../schemas/released/delivery_job-1.avsc")];
/// The same of outcomes.
const OUTCOME: &str = include_str!("../../schemas/delivery_outcome.avsc");
const OUTCOMES: [&str; 1] = [include_str!("../../schemas/released/delivery_outcome-1.avsc")];

static SHIPPED: LazyLock<Codec> = LazyLock::new(|| {
    let codec = Codec::new((JOB, &JOBS), (OUTCOME, &OUTCOMES));
    codec.expect("a test reads the schemas of this repository")
});

/// What names a schema in front of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

/// Why bytes are no job or outcome that this version reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("not an Avro single object")]
    NotSingleObject,
    #[error("the schema's fingerprint {0} is unknown")]
    UnknownSchema(Fingerprint),
    #[error("the bytes do not fit the schema")]
    Malformed,
    /// Of a schema that this version reads and doesn't write, such as an enum's symbol that came with it.
    #[error("the bytes of schema {0} can't be resolved to this version's")]
    Unresolved(Fingerprint),
    /// One that no job of ours has, so that nothing bounds it.
    #[error("{0}")]
    Id(&'static str),
}

impl Unreadable {
    /// The schema of another version, which may read the record; none where no version does.
    pub fn of_another_version(self) -> Option<Fingerprint> {
        match self {
            Self::UnknownSchema(fingerprint) | Self::Unresolved(fingerprint) => Some(fingerprint),
            Self::NotSingleObject | Self::Malformed | Self::Id(_) => None,
        }
    }
}

/// What it takes to read a record that this version can't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    pub fingerprint: Fingerprint,
    /// The version of Leadlane that wrote it, as the record's header says.
    pub version: Option<String>,
}

/// What one version of Leadlane writes and reads.
#[derive(Debug)]
pub struct Codec {
    jobs: Table<DeliveryJob>,
    outcomes: Table<Outcome>,
}

impl Codec {
    /// This version's.
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// Of jobs and of outcomes: the schema that is written, and all that are read beside it.
    ///
    /// # Errors
    /// A text is no schema, or one that is read can't be resolved to the one that is written.
    pub fn new(jobs: (&str, &[&str]), outcomes: (&str, &[&str])) -> Result<Self, String> {
        Ok(Self {
            jobs: Table::new(jobs.0, jobs.1)?,
            outcomes: Table::new(outcomes.0, outcomes.1)?,
        })
    }

    pub fn write_job(&self, job: &DeliveryJob) -> Vec<u8> {
        self.jobs.write(job)
    }

    /// The same of texts that may be borrowed, behind what `into` holds already.
    pub fn write_job_into<S: Serialize>(&self, job: &DeliveryJob<S>, into: &mut Vec<u8>) {
        self.jobs.write_into(job, into);
    }

    pub fn read_job(&self, bytes: &[u8]) -> Result<DeliveryJob, Unreadable> {
        let mut job = self.jobs.read(bytes)?;
        job.check_ids().map_err(Unreadable::Id)?;
        if let Cow::Owned(credential) = one_spelling(&job.credential) {
            job.credential = credential;
        }
        Ok(job)
    }

    pub fn write_outcome(&self, outcome: &Outcome) -> Vec<u8> {
        self.outcomes.write(outcome)
    }

    pub fn read_outcome(&self, bytes: &[u8]) -> Result<Outcome, Unreadable> {
        self.outcomes.read(bytes)
    }
}

/// The schemas of one kind of record.
struct Table<T> {
    /// `C3 01` and the fingerprint of the schema that is written.
    head: [u8; HEAD],
    /// Where the schema's fields aren't those of the struct, as of another version's.
    writer: Option<GenericDatumWriter<'static>>,
    reader: GenericDatumReader<'static>,
    /// The others that are read, each resolved to the one that is written.
    others: HashMap<Fingerprint, GenericDatumReader<'static>>,
    of: PhantomData<fn() -> T>,
}

const MAGIC: [u8; 2] = [0xC3, 0x01];
const HEAD: usize = 10;

impl<T: Serialize + DeserializeOwned> Table<T> {
    fn new(written: &str, read: &[&str]) -> Result<Self, String> {
        let (own, schema) = parse(written)?;
        let failed = |error: apache_avro::Error| error.to_string();
        let writer = match fields(schema).eq(datum::fields_of::<T>().iter().copied()) {
            true => None,
            false => Some(GenericDatumWriter::builder(schema).build().map_err(failed)?),
        };
        let mut others = HashMap::new();
        for text in read {
            let (fingerprint, other) = parse(text)?;
            if fingerprint != own {
                let reader = GenericDatumReader::builder(other).reader_schema(schema).build();
                others.insert(fingerprint, reader.map_err(failed)?);
            }
        }
        let mut head = [0; HEAD];
        head[..2].copy_from_slice(&MAGIC);
        head[2..].copy_from_slice(&own.0.to_le_bytes());
        Ok(Self {
            head,
            writer,
            reader: GenericDatumReader::builder(schema).build().map_err(failed)?,
            others,
            of: PhantomData,
        })
    }

    fn write(&self, value: &T) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(768);
        self.write_into(value, &mut bytes);
        bytes
    }

    /// Writes a value that has the fields of a `T`.
    fn write_into(&self, value: &impl Serialize, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.head);
        match &self.writer {
            None => datum::write(value, into).expect("a test writes every kind of field"),
            Some(writer) => {
                let written = writer.write_ser(into, value);
                written.expect("the struct has no field that its schema hasn't");
            }
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<T, Unreadable> {
        let (head, mut fields) = bytes.split_first_chunk::<HEAD>().ok_or(Unreadable::NotSingleObject)?;
        let (value, unfit) = if *head == self.head {
            (self.reader.read_deser(&mut fields), Unreadable::Malformed)
        } else {
            let [c3, one, fingerprint @ ..] = *head;
            if [c3, one] != MAGIC {
                return Err(Unreadable::NotSingleObject);
            }
            let fingerprint = Fingerprint(u64::from_le_bytes(fingerprint));
            let other = self.others.get(&fingerprint);
            let reader = other.ok_or(Unreadable::UnknownSchema(fingerprint))?;
            let resolved = reader.read_value(&mut fields);
            let value = resolved.and_then(|value| apache_avro::from_value(&value));
            (value, Unreadable::Unresolved(fingerprint))
        };
        match value {
            Ok(value) if fields.is_empty() => Ok(value),
            _ => Err(unfit),
        }
    }
}

/// The names of a record's fields.
fn fields(schema: &Schema) -> impl Iterator<Item = &str> {
    let record = match schema {
        Schema::Record(record) => Some(record),
        _ => None,
    };
    let fields = record.into_iter().flat_map(|record| &record.fields);
    fields.map(|field| field.name.as_str())
}

/// A schema, which lives as long as the process, and its fingerprint.
fn parse(text: &str) -> Result<(Fingerprint, &'static Schema), String> {
    let schema = Schema::parse_str(text).map_err(|error| error.to_string())?;
    let [fingerprint, _] = crate::lead::schemas::fingerprints(text)?;
    Ok((Fingerprint(fingerprint), Box::leak(Box::new(schema))))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fingerprint, version } = self;
        let version = version.as_deref().unwrap_or("of another version");
        write!(f, "schema {fingerprint}, written by leadlane {version}")
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("head", &self.head)
            .field("others", &self.others.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
