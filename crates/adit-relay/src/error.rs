//! The errors of the relay's interface. Each says what the caller can do next.

use std::io;
use std::net::SocketAddrV4;

/// Why a listener was not opened. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another socket listens there: another owner's, or another process's.
    #[error("{0} is in use in the consumer's namespace")]
    AddressInUse(SocketAddrV4),
    /// The address is not configured in the consumer's namespace (yet, or any more).
    #[error("{0} is not an address of the consumer's namespace")]
    AddressNotAvailable(SocketAddrV4),
    /// A namespace descriptor could not be examined or entered: it is gone, no network namespace, or not ours to enter.
    #[error("the {leg} namespace cannot be entered")]
    Namespace {
        /// `consumer` or `provider`.
        leg: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The relay holds as many descriptors as it may. Closing something, or a higher limit, helps.
    #[error("descriptor budget spent: {used} of {budget} in use")]
    Descriptors {
        /// Descriptors that the relay holds.
        used: usize,
        /// Descriptors that it may hold.
        budget: usize,
    },
    /// The target asks for TOA, and the relay was started without a sender of it.
    #[error("this relay cannot send TOA")]
    NoToa,
    /// The relay is stopping or has stopped.
    #[error("the relay has stopped")]
    Stopped,
    /// A worker did not answer in time. What was asked is undone if it happens later.
    #[error("a relay worker did not answer in time")]
    Stalled,
    /// Anything else that the kernel said.
    #[error("cannot listen on {address}")]
    Other {
        /// What was to be bound.
        address: SocketAddrV4,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a listener's target was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum RetargetError {
    /// No such listener is open.
    #[error("no such listener")]
    Unknown,
    /// The target asks for TOA, and the relay was started without a sender of it.
    #[error("this relay cannot send TOA")]
    NoToa,
    /// The new namespace descriptor could not be examined or entered.
    #[error("the provider namespace cannot be entered")]
    Namespace(#[source] io::Error),
    /// A worker did not answer in time; whether new connections go to the new target is unknown. Ask again.
    #[error("a relay worker did not answer in time")]
    Stalled,
}

/// Why it is not known that a listener is closed. Ask again.
#[derive(Debug, thiserror::Error)]
#[error("a relay worker did not answer in time")]
pub struct Stalled;
