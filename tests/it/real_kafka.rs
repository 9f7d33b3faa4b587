//! On a real Apache Kafka: what the promises rest on.

mod chaos;
mod clients;
mod commands;
mod inlets;
mod owned;
mod processor;
mod sealed;
mod sender;
mod tools;
