//! Which network namespace the calling thread is in, and going to another only when it differs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A network namespace, known by its identity.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    descriptor: Arc<OwnedFd>,
    /// Device and inode. They stay unique for as long as a descriptor or a thread holds the namespace.
    identity: (u64, u64),
}

impl Namespace {
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(crate) fn of(descriptor: Arc<OwnedFd>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&descriptor)?;
        Ok(Self {
            descriptor,
            identity: (stat.st_dev, stat.st_ino),
        })
    }
}

/// The calling thread's whereabouts. Only for threads that change namespace through nothing else.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    home: Namespace,
    here: (u64, u64),
}

impl Whereabouts {
    /// Home is where the thread starts, if it can come back there. From a user namespace there is no way back into the
    /// host's network, so the thread gets an empty network of its own as its home.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let present = || Namespace::of(Arc::new(File::open("/proc/thread-self/ns/net")?.into()));
        let mut home = present()?;
        // Where not even that is allowed the thread will never leave: it can enter no other namespace either.
        if adit_netns::enter(home.descriptor.as_fd()).is_err() && adit_netns::unshare_network().is_ok() {
            home = present()?;
        }
        Ok(Self {
            here: home.identity,
            home,
        })
    }

    pub(crate) fn enter(&mut self, namespace: &Namespace) -> io::Result<()> {
        if self.here != namespace.identity {
            adit_netns::enter(namespace.descriptor.as_fd())?;
            self.here = namespace.identity;
        }
        Ok(())
    }

    /// Goes back to where the thread started, so that it keeps no namespace alive that others want gone.
    pub(crate) fn go_home(&mut self) {
        if self.here == self.home.identity {
            return;
        }
        match adit_netns::enter(self.home.descriptor.as_fd()) {
            Ok(()) => self.here = self.home.identity,
            Err(error) => tracing::warn!(%error, "a relay worker cannot leave a network namespace"),
        }
    }
}
