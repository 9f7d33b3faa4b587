//! The tests that look at the program, its documents and its deployment from the outside, in one
//! binary. `tests/run` starts the real parts that they need.
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod demo;
mod deploy;
mod docs;
mod real_kafka;
mod recipes;
mod refusals;
mod secrets;
mod support;
mod tidy;
