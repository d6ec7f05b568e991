//! The relay through its front door, over real sockets.
#![allow(
    clippy::unwrap_used,
    reason = "this is a test, also where no function is marked so"
)]

mod admission;
mod bytes;
mod ends;
mod listeners;
mod records;
#[path = "../rig/mod.rs"]
mod rig;
