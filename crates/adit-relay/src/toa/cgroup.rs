//! Control groups (cgroup2): the process's own, one by its path, and one made for a command.
//!
//! BPF programs on sockets hang on a cgroup's directory, and run for the sockets that were made inside it or below.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// `CGROUP2_SUPER_MAGIC` of the kernel.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// An open directory of cgroup2.
#[derive(Debug)]
pub struct Cgroup {
    directory: OwnedFd,
}

impl Cgroup {
    /// The one that the calling process is in. Found by its mount, or, where that is hidden (`ip netns exec` mounts another
    /// `/sys` over it), by a mount of our own that nobody sees.
    ///
    /// # Errors
    /// `NotFound` where the kernel has no cgroup2 or the process's is out of reach; what the kernel answers.
    pub fn own() -> io::Result<Self> {
        let membership = fs::read_to_string("/proc/self/cgroup")?;
        let Some(path) = own_path(&membership) else {
            return Err(io::Error::new(ErrorKind::NotFound, "the kernel has no cgroup2"));
        };
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        let found = places(&mountinfo, path).find_map(|place| Self::open(&place).ok());
        found.map_or_else(|| Self::unmounted(path), Ok)
    }

    /// The one that a path names.
    ///
    /// # Errors
    /// What `open` answers; `InvalidInput` where the path is no directory of cgroup2.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?.into())
    }

    /// By a mount that is attached nowhere, and goes with its last descriptor.
    fn unmounted(path: &str) -> io::Result<Self> {
        let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Self::of(open_below(&root, path.trim_start_matches('/'))?)
    }

    fn of(directory: OwnedFd) -> io::Result<Self> {
        let kind = fstatfs(&directory)?.f_type;
        if u64::try_from(kind).is_ok_and(|kind| kind == CGROUP2_MAGIC) {
            Ok(Self { directory })
        } else {
            Err(io::Error::new(
                ErrorKind::InvalidInput,
                "not a directory of cgroup2",
            ))
        }
    }

    /// Makes a cgroup below this one. The caller removes it.
    ///
    /// # Errors
    /// What `mkdir` and `open` answer.
    pub fn create(&self, name: &str) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.directory, name, Mode::from_raw_mode(0o755))?;
        Self::of(open_below(&self.directory, name)?)
    }

    /// Removes a cgroup below this one, in which no process is left.
    ///
    /// # Errors
    /// `EBUSY` while a process is in it; what `rmdir` answers.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.directory,
            name,
            rustix::fs::AtFlags::REMOVEDIR,
        )?)
    }

    /// The names of the cgroups right below this one.
    ///
    /// # Errors
    /// What reading the directory answers.
    pub fn below(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// Moves the calling process here, with all its threads. What it starts from now on is here too.
    ///
    /// # Errors
    /// What the kernel answers: `EACCES` and `EPERM` to those who may not.
    pub fn enter(&self) -> io::Result<()> {
        fs::write(self.path().join("cgroup.procs"), "0")
    }

    /// The processes in it.
    ///
    /// # Errors
    /// What reading the file answers.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let text = fs::read_to_string(self.path().join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Reaches it wherever it is mounted, if it is.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.directory.as_raw_fd()).into()
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn open_below(directory: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(directory, path, flags, Mode::empty())?)
}

/// The process's path in cgroup2, out of `/proc/self/cgroup`.
fn own_path(membership: &str) -> Option<&str> {
    membership.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Where the cgroup at `path` may be seen, out of `/proc/self/mountinfo`; the last mount first, since it may cover another.
fn places(mountinfo: &str, path: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().rev().filter_map(move |line| {
        // id, parent, device, root, mount point, options, optional fields, "-", type, …
        let (mount, filesystem) = line.split_once(" - ")?;
        if filesystem.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = Path::new(path).strip_prefix(root).ok()?;
        // Joining nothing would leave a slash at the end, which is as good.
        Some(Path::new(&point).join(below))
    })
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(code) => {
                text.push(code.into());
                text.push_str(&part[3..]);
            }
            None => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str, path: &str) -> Vec<String> {
        let text = |place: PathBuf| place.to_str().unwrap().to_owned();
        places(mountinfo, path).map(text).collect()
    }

    #[test]
    fn its_own_line_is_the_one_of_hierarchy_0() {
        assert_eq!(
            own_path("4:memory:/a\n0::/user.slice/x.scope\n"),
            Some("/user.slice/x.scope")
        );
        assert_eq!(own_path("4:memory:/a\n"), None);
    }

    #[test]
    fn it_is_looked_for_on_every_mount_of_cgroup2() {
        let systemd = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(
            found(systemd, "/system.slice/adit.service"),
            ["/sys/fs/cgroup/system.slice/adit.service"]
        );
        assert_eq!(found(systemd, "/"), ["/sys/fs/cgroup/"]);
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(found(hybrid, "/"), ["/sys/fs/cgroup/unified/"]);
        // A container that sees the host's path, and its own part of the tree alone.
        let container = "31 23 0:28 /docker/4f /sys/fs/cgroup ro - cgroup2 cgroup rw";
        assert_eq!(found(container, "/docker/4f/x"), ["/sys/fs/cgroup/x"]);
        assert!(found(container, "/docker/5a").is_empty());
        let odd = r"31 23 0:28 / /mnt/two\040words\134x rw - cgroup2 none rw";
        assert_eq!(found(odd, "/a"), [r"/mnt/two words\x/a"]);
        assert!(found("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw", "/").is_empty());
        assert!(found("", "/").is_empty());
    }

    #[test]
    fn what_is_no_cgroup_is_none() {
        let error = Cgroup::open("/proc".as_ref()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = Cgroup::open("/nowhere".as_ref()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
