//! The control plane as a library.
//!
//! A request is four hops with the same noun in each file name: `router` → `api::service` (HTTP in and out) →
//! `app::service` (authorise, check rules, one store transaction) → the store. No side effect outside of the store happens
//! in a request; `reconcile` makes it true, and `feed` tells the gateways. Never imports the gateway.

pub mod identity;
pub mod network;

pub use identity::{Caller, Evidence, Identity, Rejection};
pub use network::{Fence, Network, NetworkError, Reservation, Seen};
