//! Clients that nobody here wrote, against the real binary: what they need is installed by name from the Python package
//! index, and what they call is `adit dev --ephemeral`, with the `clouds.yaml` that it prints.
//!
//! [`terraform`] is the one that is not foreign: the calls of the Terraform provider, in its order.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

mod huawei;
mod openstack;
mod otcextensions;
#[path = "../process/mod.rs"]
mod process;
mod schemathesis;
mod signed;
mod terraform;
mod venv;
