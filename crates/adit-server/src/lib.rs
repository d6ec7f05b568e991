//! The control plane as a library.
//!
//! A request is four hops with the same noun in each file name: [`mod@router`] → `api::service` (HTTP in and out) →
//! [`app::service`] (authorise, check rules, one store transaction) → the store. No side effect outside of the store
//! happens in a request; [`reconcile`] makes it true, and [`feed`] tells the gateways. Never imports the gateway.

pub mod router;

mod api;
pub mod app;
pub mod reconcile;

pub mod audit;
pub mod auth;
pub mod config;
pub mod edge;
pub mod error;
pub mod feed;
pub mod iam;
pub mod identity;
pub mod leader;
pub mod network;
pub mod node;
pub mod planned;
pub mod rate;
pub mod replica;
mod unread;
mod written;

pub use app::App;
pub use config::Config;
pub use identity::{Caller, Evidence, Identity, Rejection};
pub use network::{Fence, Network, NetworkError, Reservation, Seen};
pub use router::router;
