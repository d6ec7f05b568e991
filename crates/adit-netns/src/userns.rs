//! Namespaces without root: an ordinary user's own user namespace, in which he may make network namespaces, bind
//! mounts, veths and bridges.
//!
//! [`enter`] and [`join`] change the whole process and must come before its first thread: they check that, and the
//! kernel insists on it. So no tokio runtime, no logger with a thread, before them. The process keeps the network of
//! the host (its API socket lives there); only its user ids and its mounts become its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::mount::MountPropagationFlags;
use rustix::process::{Pid, PidfdFlags, getgid, getuid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::enter::on_own_thread;
use crate::links::{Links, Veth};
use crate::namespace::Namespace;
use crate::unshare::{unshare_network, unshare_user_and_mounts};

/// What the process became by [`enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The user id that the process has outside, where it looks like 0 inside.
    pub uid: u32,
    /// The group id that the process has outside, where it looks like 0 inside.
    pub gid: u32,
}

/// Why namespaces are not to be had. The advice of each is in its [`UsernsError::advice`].
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// A second thread runs: a mistake of the program, not of the machine.
    #[error("the process has {count} threads, and a user namespace must be entered before the second")]
    Threads {
        /// How many there are.
        count: usize,
    },
    /// The kernel gave no user namespace. The process is as it was.
    #[error("cannot create a user namespace")]
    Unshare(#[source] io::Error),
    /// The user namespace is there but without rights in it (AppArmor does that). The process is in it, can do less
    /// than before and is good for a control plane alone.
    #[error("cannot set up the new user namespace ({step})")]
    SetUp {
        /// What was attempted.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// No veth pair could be made in a network namespace.
    #[error("cannot create a veth pair in a network namespace")]
    Veth(#[source] io::Error),
    /// The other process's namespaces cannot be entered.
    #[error("cannot enter the namespaces of process {pid}")]
    Join {
        /// The other process.
        pid: u32,
        /// What the kernel said: `ESRCH` when it is gone, `EPERM` when it is another user's.
        source: io::Error,
    },
}

impl UsernsError {
    /// What the user can do about it, in a sentence or two.
    #[must_use]
    pub fn advice(&self) -> String {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
        if let Self::Threads { .. } = self {
            return "This is a bug in Adit, please report it.".to_owned();
        }
        if let Self::Join { .. } = self {
            return "Run it as the user who runs the region, while the region runs.".to_owned();
        }
        if read("/proc/sys/user/max_user_namespaces").is_ok_and(|max| max == "0") {
            return "User namespaces are switched off here: `sudo sysctl -w user.max_user_namespaces=10000`, \
                    or run as root."
                .to_owned();
        }
        if read("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|on| on == "0") {
            return "User namespaces are root's alone here: `sudo sysctl -w kernel.unprivileged_userns_clone=1`, \
                    or run as root."
                .to_owned();
        }
        if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|on| on == "1") {
            return "AppArmor restricts user namespaces here: \
                    `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, give the executable an AppArmor \
                    profile with `userns,`, or run as root."
                .to_owned();
        }
        "Run as root; in a container, run it with `--privileged`, or with `--cap-add SYS_ADMIN --cap-add NET_ADMIN \
         --security-opt seccomp=unconfined --security-opt apparmor=unconfined`."
            .to_owned()
    }
}

/// Whether the process can make namespaces, mounts and links, and speak ARP, as it is: it is then in no need of [`enter`].
#[must_use]
pub fn is_privileged() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Moves the process into a user namespace and a mount namespace of its own, where it is root (user and group 0 are the
/// user himself, nobody else exists) and where its mounts are seen by nobody outside.
///
/// # Errors
///
/// [`UsernsError::Threads`] and [`UsernsError::Unshare`] leave the process as it was; [`UsernsError::SetUp`] does not.
pub fn enter() -> Result<Entered, UsernsError> {
    single_threaded()?;
    let entered = Entered {
        uid: getuid().as_raw(),
        gid: getgid().as_raw(),
    };
    unshare_user_and_mounts().map_err(UsernsError::Unshare)?;
    let step = |step| move |source| UsernsError::SetUp { step, source };
    // Without `deny` the kernel lets nobody but real root write the map of groups.
    fs::write("/proc/self/setgroups", "deny").map_err(step("forbid setgroups"))?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", entered.uid)).map_err(step("map the user"))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", entered.gid)).map_err(step("map the group"))?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| step("make the mounts private")(error.into()))?;
    Ok(entered)
}

/// Proves that namespaces work, by the one thing that everything else needs: makes a veth pair in a fresh network
/// namespace, which goes with it. Leaves no thread behind; blocks for a few milliseconds. Not to be called from async
/// code.
///
/// # Errors
///
/// [`UsernsError::Veth`].
pub fn probe() -> Result<(), UsernsError> {
    let prove = || -> io::Result<()> {
        unshare_network()?;
        let here = Namespace::open("/proc/thread-self/ns/net".as_ref())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let pair = Veth {
            name: "probe0",
            bridge: None,
            peer_namespace: &here,
            peer_name: "probe1",
            peer_mac: None,
            mtu: None,
        };
        runtime
            .block_on(async { Links::open(&here).await?.veth_create(pair).await })
            .map_err(|error| error.source)
    };
    on_own_thread(prove)
        .and_then(|proved| proved)
        .map_err(UsernsError::Veth)
}

/// Moves the process into the user and mount namespaces of process `pid`, as far as they differ from its own: so that
/// the namespaces' files of a region run by an ordinary user are there. The working directory stays what it is.
///
/// # Errors
///
/// [`UsernsError::Threads`], or [`UsernsError::Join`] when the process is gone or is another user's.
pub fn join(pid: u32) -> Result<(), UsernsError> {
    single_threaded()?;
    let enter = || -> io::Result<()> {
        let folder = std::env::current_dir();
        let mut different = ThreadNameSpaceType::empty();
        for (kind, flag) in [
            ("user", ThreadNameSpaceType::USER),
            ("mnt", ThreadNameSpaceType::MOUNT),
        ] {
            let theirs = fs::metadata(format!("/proc/{pid}/ns/{kind}"))?;
            if theirs.ino() != fs::metadata(format!("/proc/self/ns/{kind}"))?.ino() {
                different |= flag;
            }
        }
        if different.is_empty() {
            return Ok(());
        }
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = pidfd_open(raw.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
        move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&process), different)?;
        // Entering a mount namespace puts the process at its root.
        folder.and_then(std::env::set_current_dir)
    };
    enter().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => UsernsError::Join {
            pid,
            source: rustix::io::Errno::SRCH.into(),
        },
        _ => UsernsError::Join { pid, source },
    })
}

fn single_threaded() -> Result<(), UsernsError> {
    // Where even this cannot be read the kernel's own check remains.
    let count = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if count == 1 {
        Ok(())
    } else {
        Err(UsernsError::Threads { count })
    }
}
