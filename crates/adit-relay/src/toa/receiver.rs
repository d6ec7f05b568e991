//! The receiving side: servers of one cgroup see the client's address where the option names it.
//!
//! `accept` and `getpeername` answer the client's address and port; nothing else changes (`ss`, firewalls and captures show
//! the peer's). It goes for listeners that are made inside the cgroup once this is attached.
//!
//! Anybody can send the option. It is believed of peers in one block of addresses, which has to be out of everybody else's
//! reach.

use std::fmt;

use aya::maps::Array;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, SockOps};
use aya::{Ebpf, EbpfLoader};
use ipnet::Ipv4Net;

use super::cgroup::Cgroup;
use super::error::{ATTACH, LOAD, ToaError, check_kernel};
use super::program::{load, named};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/toa_receiver.bpf.o");

/// The programs that answer for a peer's address, one for each family of sockets.
const PEER_NAMES: [&str; 2] = ["toa_peer4", "toa_peer6"];

/// What became of the connections that were accepted in the cgroup, counted since the receiver was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    /// With a client's address that is shown.
    pub believed: u64,
    /// With an option whose sender is not believed.
    pub not_believed: u64,
    /// Without the option.
    pub without: u64,
}

/// The programs, in the kernel. Dropped, they are detached, and servers see the peer's address again.
pub struct Receiver {
    programs: Ebpf,
}

impl Receiver {
    /// Loads the programs: options of `kind` are believed of peers in `believed`. Takes tens of milliseconds; not to be
    /// called from async code.
    ///
    /// # Errors
    /// See [`ToaError`].
    pub fn load(believed: Ipv4Net, kind: u8) -> Result<Self, ToaError> {
        check_kernel()?;
        let network = u32::from_ne_bytes(believed.network().octets());
        let mask = u32::from_ne_bytes(believed.netmask().octets());
        let mut programs = load(OBJECT, |loader: &mut EbpfLoader<'_>| {
            loader
                .override_global("believed_network", &network, true)
                .override_global("believed_mask", &mask, true)
                .override_global("option_kind", &kind, true);
        })?;
        for name in PEER_NAMES {
            let program: &mut CgroupSockAddr = named(&mut programs, name)?;
            program.load().map_err(|error| ToaError::of(LOAD, &error))?;
        }
        let program: &mut SockOps = named(&mut programs, "toa_receiver")?;
        program.load().map_err(|error| ToaError::of(LOAD, &error))?;
        Ok(Self { programs })
    }

    /// Attaches the programs to a cgroup.
    ///
    /// # Errors
    /// See [`ToaError`]. What is attached by then is detached when this is dropped.
    pub fn attach(&mut self, cgroup: &Cgroup) -> Result<(), ToaError> {
        for name in PEER_NAMES {
            let program: &mut CgroupSockAddr = named(&mut self.programs, name)?;
            let attached = program.attach(cgroup, CgroupAttachMode::Single);
            attached.map_err(|error| ToaError::of(ATTACH, &error))?;
        }
        // Last, so that no connection is taken in of which nothing would be shown.
        let program: &mut SockOps = named(&mut self.programs, "toa_receiver")?;
        let attached = program.attach(cgroup, CgroupAttachMode::Single);
        attached.map(drop).map_err(|error| ToaError::of(ATTACH, &error))
    }

    /// What it has seen so far.
    pub fn outcomes(&self) -> Outcomes {
        let counted = self
            .programs
            .map("outcomes")
            .and_then(|map| Array::<_, u64>::try_from(map).ok());
        // The map is part of the object; an index of its own is always there.
        let count = |index| {
            counted
                .as_ref()
                .and_then(|array| array.get(&index, 0).ok())
                .unwrap_or(0)
        };
        Outcomes {
            believed: count(0),
            not_believed: count(1),
            without: count(2),
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("outcomes", &self.outcomes())
            .finish_non_exhaustive()
    }
}
