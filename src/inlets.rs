//! The inlets' loops: what other systems send becomes lead events.

pub mod topic;
