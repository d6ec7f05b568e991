//! The edge on real connections: what it waits for, what it refuses, what it says of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

mod rig;

mod connections;
mod crowd;
mod health;
mod http2;
mod log;
