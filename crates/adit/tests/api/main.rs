//! The VPCEP API on a whole region without a kernel: requests in, replies out, one module for each noun of the router.
//!
//! Read [`app`] first: how a test gets a region and speaks with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

mod agreement;
mod app;
mod network;

mod access;
mod backend;
mod connection;
mod endpoint;
mod endpoint_rules;
mod gateway_endpoint;
mod gateway_rules;
mod public_service;
mod quota;
mod service;
mod service_rules;
mod service_update;
mod tag;
mod versions;
mod whitelist;
mod whitelist_batch;

mod operator;
mod superset;

mod audit;
mod auth;
mod companion;
mod edge;
mod hostile;
mod leaders;
mod lifecycle;
mod openapi;
mod race;
mod rehearsal;
mod skew;
mod soundness;
