//! Small disks: file systems in memory that run full soon, for whoever tries what happens then.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// Mounts a file system of that many bytes on the folder `path`.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOENT` where there is no such folder.
pub fn mount(path: &Path, bytes: u64) -> io::Result<()> {
    let options = CString::new(format!("size={bytes},mode=0700")).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount(
        "adit-disk",
        path,
        "tmpfs",
        flags,
        options.as_c_str(),
    )?)
}

/// Takes it away, with all that is on it; at once, also where somebody still has files open. Where none is mounted this is
/// success.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn unmount(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
