//! The byte path: TCP listeners in one network namespace, connections to a backend in another, and
//! the bytes between them.
//!
//! It owns the listeners, the connections, the worker threads and the descriptors they need. It
//! never decides who may connect to whom (the gateway's plan does; what it decided is enforced here,
//! client by client), never makes a namespace or an address (`adit-netns` does), and speaks no HTTP.
//!
//! ```text
//!   Relay ──commands──▶ Worker (one thread per core: epoll, its listeners, its connections)
//!                         accept: client → admitted → socket in the provider's namespace
//!                         session: two directions, copied, then spliced
//! ```
//!
//! A process that uses it must ignore SIGPIPE, as Rust programs do unless told otherwise.
//!
//! Start at [`Relay`] and [`Listener`]; then the modules in the order below.

pub mod proxy_protocol;
mod spec;
pub mod toa;

mod error;
mod record;
mod stats;

mod relay;

mod control;
mod descriptors;
mod hand_over;
mod namespace;

mod commands;
mod worker;

mod accept;
mod session;

mod direction;
mod pipes;
mod probe;
mod rate;
mod slab;
mod socket;

pub use error::{OpenError, RetargetError, Stalled};
pub use hand_over::{HandOverError, Inherited, hand_over_channel, knock, open_door};
pub use probe::{Probed, probe, route};
pub use record::{Record, Recorder};
pub use relay::Relay;
pub use spec::{
    Admission, Backend, Close, Config, Consumer, Listener, ListenerId, MAX_CONNECTIONS_DEFAULT, Owner, Target,
};
pub use stats::{CONNECT_BOUNDS, ConnectTimes, End, OwnerStats, Snapshot};
