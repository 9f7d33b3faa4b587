//! On a real Apache Kafka: what the promises rest on.

mod chaos;
mod commands;
mod owned;
mod processor;
mod sealed;
mod sender;
mod tools;
