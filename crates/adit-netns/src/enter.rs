//! Moving a thread into a namespace.

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

/// Runs `work` on a thread that lives for it alone, so that whatever namespace it enters ends with it. A panic of
/// `work` goes on in the caller.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("adit-netns".to_owned())
            .spawn_scoped(scope, work)?;
        Ok(thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
