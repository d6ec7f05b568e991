//! The byte path: TCP listeners in one network namespace, connections to a backend in another, and
//! the bytes between them.
//!
//! It owns the listeners, the connections, the worker threads and the descriptors they need. It
//! never decides who may connect to whom (the gateway's plan does), never makes a
//! namespace or an address (`adit-netns` does), and speaks no HTTP.
//!
//! Start at [`Relay`] and the words of [`spec`](Listener).

mod error;
mod relay;
mod spec;
#[expect(dead_code, reason = "the workers that count are not there yet")]
mod stats;

pub use error::{OpenError, RetargetError, Stalled};
pub use relay::Relay;
pub use spec::{Close, Config, Consumer, Listener, ListenerId, MAX_CONNECTIONS_DEFAULT, Target};
pub use stats::{End, OwnerStats, Snapshot};
