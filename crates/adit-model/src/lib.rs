//! The rules of a VPC Endpoint service as pure values.
//!
//! Read in this order: [`service`] and [`endpoint`] (documents, state machines, validators), [`port_mapping`],
//! [`whitelist`], [`policy`], [`tag`] (with [`tag_action`] and [`tag_query`]), [`name`], [`quota`], [`listing`],
//! [`proxy`] (their parts), [`network`] (VPCs, subnets, ports), [`feed`] (what a gateway is told; [`node`]: by HTTP; [`placement`]: which gateway), [`iam`] (what IAM's policies allow), [`planned`] (failures that were asked for),
//! [`catalogue`] (every error that a reply may carry). Nothing here does I/O, reads a clock or knows
//! HTTP; whoever decides passes the time in.

pub mod account;
pub mod body;
pub mod catalogue;
pub mod chain;
pub mod diagnosis;
pub mod endpoint;
pub mod feed;
mod fitted;
pub mod iam;
pub mod id;
pub mod listing;
pub mod name;
pub mod network;
pub mod node;
pub mod placement;
pub mod planned;
pub mod policy;
pub mod pool;
pub mod port_mapping;
pub mod proxy;
pub mod quota;
pub mod service;
pub mod sink;
pub mod slices;
pub mod superset;
pub mod tag;
pub mod tag_action;
pub mod tag_query;
pub mod time;
pub mod whitelist;
pub mod whitelist_batch;

pub use catalogue::{ApiError, Code};
pub use chain::error_chain;
