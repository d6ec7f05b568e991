//! A network namespace that is held open.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::enter::{enter, on_own_thread};
use crate::unshare::unshare_network;

/// A network namespace, held open by a descriptor: it lives on at least as long as this value or a clone, even when
/// its file is removed meanwhile. [`Namespace::is_current`] says whether the file still denotes it.
#[derive(Clone, Debug)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    fd: OwnedFd,
    inode: u64,
}

impl Namespace {
    /// Opens the namespace that the file `path` denotes; its name is the file's.
    ///
    /// # Errors
    ///
    /// What `open` and `fstat` answer; `InvalidInput` when the path has no file name in UTF-8.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidInput)?
            .to_owned();
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        let path = path.to_owned();
        let fd = OwnedFd::from(file);
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                path,
                fd,
                inode,
            }),
        })
    }

    /// Makes a namespace that no file names: it goes with the last of this value's clones and of the sockets in it, also
    /// when the process is killed. `name` is for messages alone.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_SYS_ADMIN`; `ENOSPC` when the limit `user.max_net_namespaces` is reached.
    pub fn unnamed(name: &str) -> io::Result<Self> {
        let file = on_own_thread(|| {
            unshare_network()?;
            File::open("/proc/thread-self/ns/net")
        })??;
        Self::unnamed_of(name, file.into())
    }

    /// A namespace that no file names, by a descriptor that another process has handed over. `name` is for messages alone.
    ///
    /// # Errors
    ///
    /// What `fstat` answers.
    pub fn unnamed_of(name: &str, descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        let inode = file.metadata()?.ino();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                path,
                fd: file.into(),
                inode,
            }),
        })
    }

    /// The name of its file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The file that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The kernel's number for it, unique on this machine among the namespaces alive.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inner.inode
    }

    /// Whether its file still denotes the very same namespace: false once it was deleted, or deleted and made anew.
    /// No other namespace can take over the inode while this value holds it open.
    #[must_use]
    pub fn is_current(&self) -> bool {
        fs::metadata(&self.inner.path).is_ok_and(|file| file.ino() == self.inner.inode)
    }

    /// Runs `work` inside, on a thread that lives for it alone, and waits for it (about 50 microseconds on top).
    /// Blocks: from async code only for work that is short. A panic of `work` goes on in the caller.
    ///
    /// # Errors
    ///
    /// When no thread can be had or the namespace cannot be entered ([`enter`]).
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            enter(self.as_fd())?;
            Ok(work())
        })?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }
}

/// Two values are equal when they denote the same namespace of the kernel, whatever they are called.
impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.inode() == other.inode()
    }
}

impl Eq for Namespace {}
