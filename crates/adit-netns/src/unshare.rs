//! The one system call here that Rust calls unsafe.
#![expect(
    unsafe_code,
    reason = "rustix marks unshare as unsafe because of CLONE_FILES, which is never asked for here"
)]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread a fresh network namespace, in which nothing but a downed `lo` exists.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: CLONE_FILES is not among the flags: the table of descriptors stays shared with all threads.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Gives the process a fresh user namespace and a fresh mount namespace owned by it. The kernel refuses
/// (`EINVAL`) when the process has a second thread.
pub(crate) fn unshare_user_and_mounts() -> io::Result<()> {
    // SAFETY: CLONE_FILES is not among the flags: the table of descriptors stays as it is.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }?)
}
