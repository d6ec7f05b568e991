//! The rules of a VPC Endpoint service as pure values.
//!
//! Read in this order: [`service`] and [`endpoint`] (documents, state machines, validators), [`port_mapping`],
//! [`whitelist`], [`tag`], [`quota`] (their parts), [`network`] (the embedded cloud's documents), [`feed`] (what a gateway
//! is told), [`catalogue`] (every error a reply may carry). Nothing here does I/O, reads a clock or knows HTTP; whoever
//! decides passes the time in.

pub mod catalogue;
pub mod id;
pub mod network;
pub mod time;

pub use catalogue::{ApiError, Code};
