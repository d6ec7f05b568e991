//! TOA ("TCP option address"): the client's address in an option of the TCP header, for backends that read it there.
//!
//! [`Sender`] writes it on connections that are registered for it, by a BPF program on the process's own cgroup; it exists
//! only where a self-test has seen the option on the wire. [`Receiver`] shows it to unmodified servers, by BPF programs
//! on theirs. Neither takes a kernel module. The programs are in the folder `bpf` of this crate, with their sources.
//!
//! It never decides which connections carry the option, and a process that makes no [`Sender`] has nothing to do with BPF.
//!
//! Read next: [`option`] (the bytes), [`sender`], [`self_test`]; [`error`] for what can be in the way.

mod cgroup;
mod error;
mod option;
mod program;
mod receiver;
mod self_test;
mod sender;
mod shared;

pub use cgroup::Cgroup;
pub use error::{ToaError, check_kernel, in_user_namespace};
pub use option::KIND_DEFAULT;
pub use receiver::{Outcomes, Receiver};
pub use sender::Sender;

pub(crate) use sender::{Registrar, Registration};
