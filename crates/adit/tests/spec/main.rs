//! The VPCEP specification as tables, read on its own and asked of a running region over HTTP.
//!
//! One module for each part of it; a module is a list of questions and the answers that the specification gives. All answers
//! that differ are reported, not the first alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

mod ask;
mod connections;
mod endpoints;
mod fields;
mod listings;
mod public;
mod services;
mod tags;
mod updates;
mod whitelists;

#[path = "../process/mod.rs"]
mod process;
