//! What this machine lets the region do: namespaces as root, as an ordinary user, or not at all.
//!
//! Must be found out before the process has a second thread.

use std::path::Path;

use adit_netns::{Directory, userns};

/// What kind of networks the region can have.
#[derive(Debug)]
pub enum Networks {
    /// Namespaces of the system, as `ip netns` lists them.
    System,
    /// Namespaces of the user's own, in a user namespace that this process is now in.
    Rootless,
    /// Those of gateways of their own processes: this one has none.
    Elsewhere,
    /// None: the control plane alone.
    None {
        /// Why, and what can be done about it.
        reason: String,
    },
}

impl Networks {
    /// Finds out, and enters a user namespace where that is what it takes. `wanted` is the user's word.
    pub fn prepare(wanted: bool) -> Self {
        if !wanted {
            return Networks::None {
                reason: "--no-gateway was given.".to_owned(),
            };
        }
        let none = |e: userns::UsernsError| {
            let why = adit_model::error_chain(&e);
            Networks::None {
                reason: format!("{why}. {}", e.advice()),
            }
        };
        let networks = if userns::is_privileged() {
            Networks::System
        } else {
            match userns::enter() {
                Ok(_) => Networks::Rootless,
                Err(e) => return none(e),
            }
        };
        match userns::probe() {
            Ok(()) => networks,
            Err(e) => none(e),
        }
    }

    /// Whether the process is in a user namespace of its own.
    pub fn is_rootless(&self) -> bool {
        matches!(self, Networks::Rootless)
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        matches!(self, Networks::System | Networks::Rootless)
    }

    /// Where namespaces are named; `own` is the directory for those that only this process sees.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub fn directory(&self, own: &Path) -> Result<Option<Directory>, adit_netns::DirectoryError> {
        match self {
            Networks::System => Directory::at(Directory::SYSTEM).map(Some),
            Networks::Rootless => Directory::at(own).map(Some),
            Networks::Elsewhere | Networks::None { .. } => Ok(None),
        }
    }

    /// In a few words, for a person.
    pub fn describe(&self) -> &'static str {
        match self {
            Networks::System => "Linux namespaces (seen by `ip netns`)",
            Networks::Rootless => "Linux namespaces in a user namespace",
            Networks::Elsewhere => "those of gateways that come (adit gateway run)",
            Networks::None { .. } => "NONE: control plane only, nothing can be connected to",
        }
    }
}
