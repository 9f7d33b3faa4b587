//! Leadlane turns lead events on Kafka into Slack messages and CleverTap records.
//!
//! ```text
//! producers ──► lead-events ──► processor ──► delivery-jobs ──► sender ──► Slack / CleverTap
//!                               (exactly once)                  (lanes)
//! people ─────► tracking-rules ──►│                                └──► delivery-outcomes
//!                                 └──► dead-letters ◄──────────────┘
//! ```
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | lead event | one fact about one lead, call or contact, as a producer published it |
//! | trigger | what happened: `lms.lead_sold`, `call_logic.buyer_response`, … |
//! | rule | trigger + scope + filters + one action; lives in `tracking-rules` under its id |
//! | match | a rule that holds for an event |
//! | delivery job | one match, rendered and addressed, waiting to be sent |
//! | credential | what a destination authenticates with: a Slack token, a webhook URL, a CleverTap account |
//! | lane | the FIFO of one destination |
//! | attempt | one try to send one job, or one batch of jobs |
//! | outcome | how a job ended, or where it stands: one record per attempt in `delivery-outcomes` |
//! | dead letter | a record that failed: kept whole, with the reason |
//! | inlet | a named way in for events that no producer of ours publishes |
//!
//! Verbs: decode, match, render, plan, commit, send, settle.
//!
//! # The modules, in reading order
//!
//! - The core, which is pure (no I/O, no clock, no randomness): [`lead`], [`json`] and [`path`], [`rules`] and the
//!   [`action`]s in them, [`template`] and [`text`], what values are ([`dates`], [`ids`], [`amounts`]), [`delivery`],
//!   [`mapping`], [`reader`], [`credential`], [`sealed`], [`reason`], [`trail`], [`yaml`].
//! - What adapters are set up with: [`config`], [`secrets`], [`http_client`]; and [`slack`], the API that two of them call.
//! - Adapters, which don't know each other: [`kafka`], [`registry`], [`destination`], [`metrics`], [`admin`], [`sandbox`].
//! - What they stand on: [`clock`], which reads the time, [`listen`], which takes in connections, and [`parts`],
//!   which sees threads and tasks end.
//! - [`batches`], which reads and commits for the loops that write in transactions.
//! - Loops, which don't know each other either: [`feed`], [`processor`], [`sender`], [`inlets`].
//! - [`desk`], the services that people's commands and pages call.
//! - [`web`], the rule desk over HTTP: pages for people, an API for programs.
//! - [`doctor`], which looks at everything that a run needs.
//! - [`app`], the only place that knows them all; above it [`demo`] and [`cli`].
//!
//! # The way of one lead event
//!
//! 1. [`kafka::worker::Worker::poll`] gives a worker the next record.
//! 2. [`lead::decode::decode`] makes a [`lead::LeadEvent`] of it, or gives the reason why not.
//! 3. [`rules::index::RuleIndex::matches`] finds the rules that hold.
//! 4. [`delivery::plan::plan_in`] renders each match into a [`delivery::DeliveryJob`].
//! 5. [`kafka::worker::Worker::write`] and [`kafka::worker::Worker::commit`] make jobs, dead letters and consumed
//!    offsets visible in one transaction. Steps 2 to 4 are pure.
//! 6. [`kafka::jobs::Jobs`] brings the job to [`sender::run`], which puts it into its lane.
//! 7. [`delivery::dispatch::Dispatch::next`] decides when it may start, and [`destination::Destinations::attempt`] makes
//!    the request and classifies the answer.
//! 8. [`delivery::dispatch::Dispatch::answered`] decides what follows, and the sender settles the job with one final
//!    [`delivery::Outcome`].
//!
//! # Invariants
//!
//! - The writes of a batch and the offsets that it consumed commit together, or not at all.
//! - The committed offset of `delivery-jobs` never passes a job without an acknowledged final outcome.
//! - A job's id comes from its event's id and its rule's id alone.
//! - Rules are an immutable snapshot, swapped whole and taken once for a batch.
//! - Input never ends a process: an unreadable record is a dead letter, and a passing trouble is waited out.
//! - Secrets are looked up at the moment of sending, and no type that holds one prints it.
//!
//! Deliberately absent: a database, a shared store of rates, an async runtime inside the processor's loop, and traits
//! for what has one implementation.

pub mod action;
pub mod admin;
pub mod amounts;
pub mod app;
pub mod batches;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod dates;
pub mod delivery;
pub mod demo;
pub mod desk;
pub mod destination;
pub mod doctor;
pub mod feed;
pub mod http_client;
pub mod ids;
pub mod inlets;
pub mod json;
pub mod kafka;
pub mod lead;
pub mod listen;
pub mod mapping;
pub mod metrics;
pub mod parts;
pub mod path;
pub mod processor;
pub mod reader;
pub mod reason;
pub mod registry;
pub mod rules;
pub mod sandbox;
pub mod sealed;
pub mod secrets;
pub mod sender;
pub mod slack;
pub mod template;
pub mod text;
pub mod trail;
pub mod web;
pub mod yaml;
