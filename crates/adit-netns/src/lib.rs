//! Network namespaces: making and entering them, and the links, addresses and routes inside.
//!
//! Owns every `setns`, `unshare`, `mount` and netlink request of Adit. It knows nothing of VPCs, endpoints or
//! tenants: those who do (`adit-cloud`'s kernel, `adit-gateway`, `adit-relay`) call it with names and addresses.
//! It never makes anything in the namespace of the host: a veth pair is born with each end in its place.
//!
//! Everything is idempotent: "already there" and "already gone" are success.
//!
//! Read next: [`Directory`] (names to namespaces), [`Links`] (what is inside one), [`sysctl`], [`userns`] (how an
//! ordinary user may do all of this).

mod arp;
mod directory;
pub mod disk;
mod enter;
mod fresh;
mod links;
mod namespace;
pub mod sysctl;
mod unshare;
pub mod userns;

pub use arp::{Arp, Elsewhere};
pub use directory::{Directory, DirectoryError};
pub use enter::enter;
pub use fresh::in_fresh_network;
pub use links::{Address, Link, LinkError, Links, NextHop, Renewal, Route, Veth};
pub use namespace::Namespace;
pub use unshare::unshare_network;
