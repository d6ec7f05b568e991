//! Kernel settings of one namespace (`/proc/sys/net`, which shows each thread its own namespace's).

use std::fs;
use std::io;

use crate::Namespace;

/// A setting: its path under `/proc/sys/net` and the value to write.
pub type Setting = (&'static str, &'static str);

/// For every namespace: all ports may be bound and used as source (in this order: the kernel compares the two), ports
/// in TIME_WAIT are reused at once (else 28,000 ports in 60 s is all that an endpoint gets), and no IPv6, whose
/// address detection would keep links busy for a second.
pub const PORT: &[Setting] = &[
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv4/ip_local_port_range", "1024 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
];

/// For a VPC's router, beside [`PORT`]: it forwards, also along the asymmetric paths of custom routes; each bridge
/// answers ARP for its own addresses alone and asks with them; an address outlives the one it was added after.
pub const ROUTER: &[Setting] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/all/promote_secondaries", "1"),
];

/// For a namespace that only ends connections, beside [`PORT`]: a fresh namespace takes over the host's word on forwarding,
/// and this one must lead nowhere.
pub const DEAD_END: &[Setting] = &[("ipv4/ip_forward", "0"), ("ipv4/conf/all/rp_filter", "0")];

/// Why a setting was not made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set net/{key} to {value:?} in namespace {namespace}")]
pub struct SysctlError {
    /// The namespace's name.
    pub namespace: String,
    /// The path under `/proc/sys/net`.
    pub key: String,
    /// What should have been written; empty when the namespace could not even be entered.
    pub value: String,
    /// What the kernel said. `EROFS` is usual in containers without `--privileged`.
    pub source: io::Error,
}

/// Makes the settings inside `namespace`, in order. Settings of IPv6 are left out where the kernel has no IPv6.
/// Blocks for about 100 microseconds.
///
/// # Errors
///
/// The first setting that failed; those before it are made.
pub fn apply(namespace: &Namespace, settings: &[Setting]) -> Result<(), SysctlError> {
    let error = |key: &str, value: &str, source| SysctlError {
        namespace: namespace.name().to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    };
    let write_all = || {
        for (key, value) in settings {
            match fs::write(format!("/proc/sys/net/{key}"), value) {
                Err(source) if source.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => {}
                written => written.map_err(|source| error(key, value, source))?,
            }
        }
        Ok(())
    };
    namespace.run(write_all).map_err(|source| error("", "", source))?
}

/// Reads the setting `key` (a path under `/proc/sys/net`) inside `namespace`, without the line's end.
///
/// # Errors
///
/// What the kernel answers; `NotFound` when it knows no such setting.
pub fn read(namespace: &Namespace, key: &str) -> io::Result<String> {
    let value = namespace.run(|| fs::read_to_string(format!("/proc/sys/net/{key}")))??;
    Ok(value.trim_end().to_owned())
}
