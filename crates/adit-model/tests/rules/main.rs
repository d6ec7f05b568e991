//! The rules of the model against its specification: tables of rules, state machines, documented exchanges, any JSON.
//!
//! [`broken`] holds the way to test a table of rules with its order, [`sample`] the values that the tests begin from.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod any_json;
mod broken;
mod connection;
mod documents;
mod endpoint_create;
mod endpoint_exchanges;
mod endpoint_gateway;
mod endpoint_states;
mod sample;
mod service_create;
mod service_exchanges;
mod service_public;
mod service_states;
mod service_update;
