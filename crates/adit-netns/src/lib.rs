//! Network namespaces: making and entering them, and the links, addresses and routes inside.
//!
//! Owns every `setns`, `unshare`, `mount` and netlink request of Adit. It knows nothing of VPCs, endpoints or
//! tenants: those who do (`adit-cloud`'s kernel, `adit-gateway`) call it with names and addresses.
//!
//! Read next: [`enter`].

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Moves the **calling thread** into the network namespace that `ns` denotes (2 to 3 microseconds).
///
/// `ns` is an open `/proc/…/ns/net` or a bind mount of one. Only call this on a thread of your own which runs
/// nothing else: a thread of tokio's pool would carry the namespace over to unrelated tasks. Sockets opened
/// afterwards belong to the namespace; those opened before stay where they are.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` over the namespace, `EINVAL` when `ns` is not a network namespace.
pub fn enter(ns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(ns, Some(LinkNameSpaceType::Network))?)
}
