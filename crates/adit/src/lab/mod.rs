//! `adit lab`: many machines on one, to play with and to break: etcd, control planes, gateways and two VPCs that are stretched over
//! all of them, each machine a network namespace, each process real.
//!
//! Owns what a lab is made of ([`plan`], pure), how it is made ([`fabric`], [`process`]), what is known of it ([`record`]) and what can be
//! done to it ([`machines`]); [`trial`] breaks one under load and measures. Knows of the region's inside nothing: tenants ([`tenants`]) come by the API.

pub mod args;
pub mod caller;
pub mod command;
pub mod fabric;
pub mod machines;
pub mod plan;
pub mod process;
mod ready;
pub mod record;
pub mod serve;
pub mod tenants;
pub mod trial;

pub use machines::{Lab, LabError, Wish};
pub use plan::{Kind, Shape, Side};
pub use process::State;

/// The region file of every lab.
pub const REGION: &str = include_str!("region.toml");
