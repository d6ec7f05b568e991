//! Why TOA does not work on a machine, in words that say what to do about it.

use std::error::Error;
use std::{fs, io};

use aya::programs::ProgramError;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::self_test::SelfTestError;

/// The oldest kernel that lets BPF programs write options of TCP.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// The inode of the initial user namespace, the same on every machine (`PROC_USER_INIT_INO` of the kernel).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// Why TOA does not work here. What to do about each is in its [`ToaError::remedy`].
#[derive(Debug, thiserror::Error)]
pub enum ToaError {
    /// The kernel cannot do it.
    #[error("the kernel is {release}, and TOA needs 5.10 or newer")]
    Kernel {
        /// As `uname -r` shows it.
        release: String,
    },
    /// The kernel lets nobody in a user namespace load such programs, whatever capabilities he has in it.
    #[error("the process is in a user namespace, where the kernel loads no BPF programs")]
    UserNamespace,
    /// The process may not.
    #[error("the process has no {missing}")]
    Capabilities {
        /// As in `cap_bpf, cap_net_admin`.
        missing: String,
    },
    /// There is nothing to attach a program to.
    #[error("the cgroup2 directory cannot be opened")]
    Cgroup(#[source] io::Error),
    /// Another program is attached to the cgroup, or to one above it, in a way that admits no second.
    #[error("another BPF program holds the cgroup, or one above it, for itself")]
    Exclusive,
    /// The kernel takes 64 programs of a kind on one cgroup.
    #[error("as many BPF programs are attached to the cgroup as the kernel takes")]
    Full,
    /// Anything else that the kernel said.
    #[error("the kernel does not {attempt}")]
    Refused {
        /// What was attempted.
        attempt: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The object that was built in cannot be used: a mistake of ours.
    #[error("the built-in BPF program is not usable: {0}")]
    Object(String),
    /// Everything was in place, and yet what was on the wire is not what should be.
    #[error("the self-test on the loopback failed: {0}")]
    SelfTest(&'static str),
}

impl From<SelfTestError> for ToaError {
    fn from(error: SelfTestError) -> Self {
        match error {
            SelfTestError::Failed { attempt, source } => Self::of_kernel(attempt, &source),
            SelfTestError::Wrong(how) => Self::SelfTest(how),
        }
    }
}

impl ToaError {
    /// What a person can do about it, in a sentence or two.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Kernel { .. } => "Run a kernel of 5.10 or newer.",
            Self::UserNamespace => {
                "Run as root, in no user namespace (`adit dev` as an ordinary user is in one)."
            }
            Self::Capabilities { .. } => {
                "Run as root, or with cap_bpf, cap_net_admin, cap_net_raw and cap_sys_admin."
            }
            Self::Cgroup(_) => {
                "Mount cgroup2 where the process sees it: `mount -t cgroup2 none /sys/fs/cgroup`; in a container, run \
                 with a cgroup namespace."
            }
            Self::Exclusive => {
                "`bpftool cgroup tree` shows the program. Have its owner attach it with BPF_F_ALLOW_MULTI, or run in \
                 a cgroup that it does not hold."
            }
            Self::Full => "`bpftool cgroup tree` shows them. Detach some, or run in a cgroup of its own.",
            Self::Refused { .. } => {
                "Look for a seccomp filter, a security module or kernel lockdown in the way, and for CONFIG_CGROUP_BPF in \
                 the kernel's configuration."
            }
            Self::Object(_) | Self::SelfTest(_) => {
                "This is a bug in Adit, or in this kernel: please report it."
            }
        }
    }

    /// Takes an error of the loader apart.
    pub(super) fn of(attempt: &'static str, error: &(dyn Error + 'static)) -> Self {
        tracing::debug!(%error, attempt, "BPF is refused");
        let mut cause = Some(error);
        while let Some(here) = cause {
            if let Some(ProgramError::LoadError { verifier_log, .. }) = here.downcast_ref()
                && let log = verifier_log.to_string()
                && let Some(verdict) = verdict(&log)
            {
                return Self::Object(format!("the verifier says {verdict:?}"));
            }
            if let Some(source) = here.downcast_ref::<io::Error>() {
                return Self::of_kernel(attempt, source);
            }
            cause = here.source();
        }
        Self::Object(error.to_string())
    }

    fn of_kernel(attempt: &'static str, error: &io::Error) -> Self {
        let code = Errno::from_io_error(error);
        if matches!(code, Some(Errno::PERM | Errno::ACCESS)) {
            if in_user_namespace() {
                return Self::UserNamespace;
            }
            if let Some(missing) = missing_capabilities() {
                return Self::Capabilities { missing };
            }
        }
        match code {
            Some(Errno::PERM) if attempt == ATTACH => Self::Exclusive,
            Some(Errno::TOOBIG) if attempt == ATTACH => Self::Full,
            // The error itself may belong to a value that is gone by now.
            _ => Self::Refused {
                attempt,
                source: match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(error.kind(), error.to_string()),
                },
            },
        }
    }
}

pub(super) const LOAD: &str = "load the BPF program";
pub(super) const ATTACH: &str = "attach the BPF program to the cgroup";

/// Whether the kernel is new enough for TOA. One that is too old would fail in words that say less.
///
/// # Errors
/// [`ToaError::Kernel`].
pub fn check_kernel() -> Result<(), ToaError> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    match version(&release) {
        Some(version) if version < KERNEL_MIN => Err(ToaError::Kernel {
            release: release.into_owned(),
        }),
        // One that is written in another way is tried.
        _ => Ok(()),
    }
}

/// What it does not like about a program: the last line that is not a statistic.
fn verdict(log: &str) -> Option<&str> {
    let statistics = ["verification time", "stack depth", "processed "];
    let mut lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    lines.find(|line| !statistics.iter().any(|statistic| line.starts_with(statistic)))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the process is in a user namespace other than the machine's own: its capabilities are then good for less.
pub fn in_user_namespace() -> bool {
    fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() != INITIAL_USER_NAMESPACE)
}

fn missing_capabilities() -> Option<String> {
    let has = capabilities(None).ok()?.effective;
    let needed = [
        ("cap_bpf", CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
        ("cap_net_admin", CapabilitySet::NET_ADMIN),
        ("cap_net_raw", CapabilitySet::NET_RAW),
        ("cap_sys_admin", CapabilitySet::SYS_ADMIN),
    ];
    let missing = needed.iter().filter(|(_, any)| !has.intersects(*any));
    let missing = missing.map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    (!missing.is_empty()).then_some(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        for (release, known) in [
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.10.0-28-amd64", Some((5, 10))),
            ("5.4", Some((5, 4))),
            ("4.19-rc1", Some((4, 19))),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(version(release), known, "{release}");
        }
        assert!((5, 9) < KERNEL_MIN && (5, 10) >= KERNEL_MIN && (6, 1) > KERNEL_MIN);
        check_kernel().unwrap();
    }

    #[test]
    fn the_verifiers_verdict_is_found() {
        let log = "61: (61) r1 = *(u32 *)(r1 +0)\ndereference of modified ctx ptr R1 off=24 disallowed\n\
                   verification time 175 usec\nstack depth 16\nprocessed 40 insns (limit 1000000)\n\n";
        assert_eq!(
            verdict(log),
            Some("dereference of modified ctx ptr R1 off=24 disallowed")
        );
        assert_eq!(verdict("processed 0 insns\n"), None);
        assert_eq!(verdict(""), None);
    }

    #[test]
    fn an_error_of_the_loader_keeps_what_the_kernel_said() {
        let invalid = io::Error::from_raw_os_error(22);
        let error = ToaError::of(LOAD, &invalid);
        assert_eq!(error.to_string(), "the kernel does not load the BPF program");
        assert_eq!(error.source().unwrap().to_string(), invalid.to_string());
        let full = io::Error::from_raw_os_error(7);
        assert!(matches!(ToaError::of(ATTACH, &full), ToaError::Full));
        let ours = std::fmt::Error;
        assert!(matches!(ToaError::of(LOAD, &ours), ToaError::Object(_)));
    }
}
