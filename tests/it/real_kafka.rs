//! On a real Apache Kafka: what the promises rest on.

mod anew;
mod chaos;
mod clients;
mod commands;
mod control;
mod desk;
mod doors;
mod files;
mod hostile;
mod inlet_topics;
mod inlets;
mod isolation;
mod owned;
mod pages;
mod processor;
mod recipes;
mod registry;
mod resident;
mod rules;
mod schemas;
mod sealed;
mod secured;
mod sender;
mod texts;
mod tools;
mod versions;
