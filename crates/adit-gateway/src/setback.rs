//! What endpoints had to wait for, counted. Words and numbers alone: what is done about it is the gateway's loop's.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use adit_relay::OpenError;

use crate::apply::ApplyError;

/// Why an endpoint could not be served as it should be, for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// A VPC's namespace is not there.
    NamespaceMissing,
    /// The VPC has no link of the subnet, or an address was gone again.
    AddressMissing,
    /// Another endpoint still holds the address.
    AddressHeld,
    /// Another station has the address.
    AddressTaken,
    /// No control plane answers, and this gateway was told to serve nothing then.
    Fenced,
    /// Somebody else listens on the port.
    PortTaken,
    /// The relay has no descriptors left for listeners.
    OutOfDescriptors,
    /// This gateway cannot serve the mode, or not in this VPC.
    Mode,
    /// Anything else that the kernel, or the relay, refused.
    Failed,
}

impl Setback {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::NamespaceMissing,
        Self::AddressMissing,
        Self::AddressHeld,
        Self::AddressTaken,
        Self::Fenced,
        Self::PortTaken,
        Self::OutOfDescriptors,
        Self::Mode,
        Self::Failed,
    ];

    /// Whether somebody has to look after it, as a rule, and few endpoints meet it at a time.
    pub(crate) fn needs_somebody(self) -> bool {
        matches!(self, Self::PortTaken | Self::Failed)
    }

    /// Stable name for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NamespaceMissing => "namespace_missing",
            Self::AddressMissing => "address_missing",
            Self::AddressHeld => "address_held",
            Self::AddressTaken => "address_taken",
            Self::Fenced => "fenced",
            Self::PortTaken => "port_taken",
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::Mode => "mode",
            Self::Failed => "failed",
        }
    }

    /// `None` for what is only waited for: connections that drain.
    pub(crate) fn of(error: &ApplyError) -> Option<Self> {
        Some(match error {
            ApplyError::Draining(_) => return None,
            ApplyError::Namespace { .. } | ApplyError::Open(OpenError::Namespace { .. }) => {
                Self::NamespaceMissing
            }
            ApplyError::NoLink { .. } | ApplyError::Open(OpenError::AddressNotAvailable(_)) => {
                Self::AddressMissing
            }
            ApplyError::Open(OpenError::AddressInUse(_)) => Self::PortTaken,
            ApplyError::Open(OpenError::Descriptors { .. }) => Self::OutOfDescriptors,
            ApplyError::Open(OpenError::NoToa) | ApplyError::Header(_) => Self::Mode,
            ApplyError::Open(OpenError::Stopped | OpenError::Stalled | OpenError::Other { .. })
            | ApplyError::Link(_)
            | ApplyError::Descriptor(_)
            | ApplyError::NoSource { .. }
            | ApplyError::Neighbours(_)
            | ApplyError::Setting(_)
            | ApplyError::NoLinkAddress(_)
            | ApplyError::NoGate
            | ApplyError::Retarget(_)
            | ApplyError::Close(_)
            | ApplyError::Cancelled(_) => Self::Failed,
        })
    }
}

/// How often there was each.
#[derive(Debug, Default)]
pub(crate) struct Setbacks([AtomicU64; Setback::ALL.len()]);

impl Setbacks {
    pub(crate) fn count(&self, setback: Setback) {
        self.0[setback as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn all(&self) -> Vec<(Setback, u64)> {
        let counts = self.0.iter().map(|count| count.load(Relaxed));
        Setback::ALL.into_iter().zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_as_itself() {
        let setbacks = Setbacks::default();
        for (n, setback) in Setback::ALL.into_iter().enumerate() {
            assert_eq!(setback as usize, n, "{}", setback.name());
            (0..n).for_each(|_| setbacks.count(setback));
        }
        let counts = setbacks.all().into_iter().map(|(_, count)| count);
        assert_eq!(counts.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
