//! A network for a moment, for trying out what the kernel does.

use std::io;

use crate::enter::on_own_thread;
use crate::links::Links;
use crate::namespace::Namespace;
use crate::unshare::unshare_network;

/// Runs `work` in a fresh network namespace, in which `lo` is up and nothing else exists, on a thread that lives for it
/// alone. The namespace goes when nothing that `work` opened in it is left. Blocks for some milliseconds on top of
/// `work`; not to be called from async code. A panic of `work` goes on in the caller.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; what the kernel answers to bringing `lo` up.
pub fn in_fresh_network<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(|| {
        unshare_network()?;
        let here = Namespace::open("/proc/thread-self/ns/net".as_ref())?;
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?
            .block_on(async { Links::open(&here).await?.link_up("lo").await })
            .map_err(|error| error.source)?;
        Ok(work())
    })?
}
