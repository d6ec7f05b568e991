//! Names for namespaces: one file per namespace in a folder, as `ip netns` does it.
//!
//! A namespace's file is a bind mount of `/proc/…/ns/net`. After a kill of a process with mounts of its own
//! (see [`crate::userns`]) plain empty files stay behind; they count as names, so that sweeping finds them, and
//! [`Directory::create`] makes good use of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::Namespace;
use crate::enter::on_own_thread;
use crate::unshare::unshare_network;

/// What `statfs` says of a file that is a namespace (`NSFS_MAGIC` of linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// How often one file is unmounted before it is given up: mounts pile up only by other programs' doing.
const UNMOUNT_TRIES_MAX: usize = 16;

/// A folder of namespaces, such as `/run/netns`.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

/// Why something could not be done with a namespace of a [`Directory`].
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DirectoryError {
    /// What was attempted, as in "create the network namespace".
    pub action: &'static str,
    /// The namespace's file or the folder.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Directory {
    /// The folder that `ip netns` uses.
    pub const SYSTEM: &str = "/run/netns";

    /// Uses the folder `path`, made if it is missing. [`Directory::SYSTEM`] is set up just as `ip netns add` would,
    /// so that its namespaces are seen from every mount namespace of the host.
    ///
    /// # Errors
    ///
    /// When the folder can neither be found nor be made.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, DirectoryError> {
        let path = path.into();
        let directory = Self { path };
        fs::create_dir_all(&directory.path)
            .map_err(|source| directory.error("make the folder", "", source))?;
        if directory.path == Path::new(Self::SYSTEM) {
            directory
                .share()
                .map_err(|source| directory.error("share the mounts of", "", source))?;
        }
        Ok(directory)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the namespace `name`, or opens it when it is there already. A fresh one holds a downed `lo` and nothing
    /// else. Blocks for about a millisecond.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_SYS_ADMIN`; `ENOSPC` when the limit `user.max_net_namespaces` is reached.
    pub fn create(&self, name: &str) -> Result<Namespace, DirectoryError> {
        let path = self.path.join(name);
        if is_namespace(&path) {
            return self.open(name);
        }
        self.create_fresh(&path)
            .and_then(|()| Namespace::open(&path))
            .map_err(|source| {
                // A file without a namespace behind it must not stay behind.
                let _ = fs::remove_file(&path);
                self.error("create the network namespace", name, source)
            })
    }

    /// Opens the namespace `name`.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file, or only the empty file of a namespace that is gone.
    pub fn open(&self, name: &str) -> Result<Namespace, DirectoryError> {
        let path = self.path.join(name);
        let opened = if path.exists() && !is_namespace(&path) {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Namespace::open(&path)
        };
        opened.map_err(|source| self.error("open the network namespace", name, source))
    }

    /// Removes the name `name`. The namespace itself goes when nothing holds it any more: no process, no socket, no
    /// [`Namespace`]. Already gone is success.
    ///
    /// # Errors
    ///
    /// What `umount2` and `unlink` answer.
    pub fn remove(&self, name: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        detach(&path)
            .and_then(|()| match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
            .map_err(|source| self.error("remove the network namespace", name, source))
    }

    /// Whether `name` is a namespace, and not only a file that was left behind.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        is_namespace(&self.path.join(name))
    }

    /// The names that start with `prefix`, sorted; among them files whose namespace is gone.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, DirectoryError> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                if let Ok(name) = entry?.file_name().into_string()
                    && name.starts_with(prefix)
                {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|source| self.error("list the network namespaces of", "", source))
    }

    fn create_fresh(&self, path: &Path) -> io::Result<()> {
        fs::OpenOptions::new().create(true).append(true).open(path)?;
        on_own_thread(|| {
            unshare_network()?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", path)?;
            Ok(())
        })?
    }

    /// What `ip netns add` does before its first mount: without it a mount made here would pin the namespace in
    /// every mount namespace that is copied from this one, long after its removal.
    fn share(&self) -> io::Result<()> {
        let shared = || {
            rustix::mount::mount_change(
                &self.path,
                MountPropagationFlags::SHARED | MountPropagationFlags::REC,
            )
        };
        if shared() == Err(rustix::io::Errno::INVAL) {
            rustix::mount::mount_bind_recursive(&self.path, &self.path)?;
            shared()?;
        }
        Ok(())
    }

    fn error(&self, action: &'static str, name: &str, source: io::Error) -> DirectoryError {
        let path = if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        };
        DirectoryError { action, path, source }
    }
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(NSFS_MAGIC))
}

/// Unmounts whatever lies on the file, until the plain file shows.
fn detach(path: &Path) -> io::Result<()> {
    for _ in 0..UNMOUNT_TRIES_MAX {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            // Who may not unmount can still own a plain file, left by a process with mounts of its own.
            Err(rustix::io::Errno::PERM) if !is_namespace(path) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("too many mounts lie on it"))
}
