//! The cloud's APIs, through their front door: a real router over a real store.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

mod companion;
mod elb;
mod garbage;
mod identity;
mod network_trait;
mod neutron;
mod race;
mod restart;
mod signature;
mod stage;
mod token;
mod vpc;
