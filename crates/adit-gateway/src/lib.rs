//! The node daemon as a library: it makes endpoints answer.
//!
//! ```text
//! control (by HTTP, or in process)
//!   └► feed ─► Gateway::run ─► plan (pure: what is wanted, what is held → actions) ─► apply (kernel and relay) ─► reports
//! ```
//!
//! Owns an endpoint's address in the consumer's VPC, its listeners, and what they lead to. Never decides who may connect
//! to what, never touches a byte of a connection (the relay does), and makes nothing in the kernel but the endpoints'
//! addresses, the ways to gateway endpoints' blocks, and the local route of its own source range. Read next: [`plan`], [`gateway`], [`apply`].

pub mod connection_log;
pub mod contact;
pub mod control;
pub mod gateway;
pub mod health;
pub mod modes;
pub mod plan;
pub mod setback;
pub mod succession;

mod apply;
mod claims;
mod gate;
mod neighbours;
mod queue;

pub use contact::Contact;
pub use gateway::{Config, Gateway, OnControlLoss, StartError};
pub use modes::capabilities;
