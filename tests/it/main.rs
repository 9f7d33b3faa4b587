//! Everything that is tested from outside the crate, in one binary. `tests/run` starts the real
//! parts that it needs.

mod real_kafka;
mod support;
