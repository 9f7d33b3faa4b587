//! The tests that look at the program, its documents and its deployment from the outside.

mod deploy;
mod docs;
mod tidy;
