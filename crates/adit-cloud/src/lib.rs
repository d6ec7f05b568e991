//! The embedded cloud around the control plane, for `adit dev`.
//!
//! One region with everything that clients of VPCEP expect beside it: identity (Keystone v3), networks (VPC v1, Neutron v2),
//! load balancers as addresses (ELB v2 and v3), and VPCs as Linux network namespaces. All of it lives in the control plane's
//! own store. A [`Cloud`] is the control plane's [`Identity`](adit_server::Identity) and
//! [`Network`](adit_server::Network); it never decides a rule of VPCEP.
//!
//! ```text
//!   region.toml ─ seed ─► store ◄─ network::* (one decision, one transaction) ◄─ api::* (HTTP in and out)
//!                                                                               identity::* (tokens, who is who)
//! ```
//!
//! Read next: [`region`], [`cloud`], then [`network`] and [`identity`], then [`api`].

pub mod api;
pub mod cloud;
pub mod identity;
pub mod kernel;
mod login;
pub mod network;
pub mod region;
mod seed;

pub use api::router;
pub use cloud::{Clock, Cloud, StartError};
pub use login::Login;
pub use region::{Region, RegionError};
