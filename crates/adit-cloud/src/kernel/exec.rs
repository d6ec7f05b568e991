//! Commands inside a VPC's or a port's namespace.
//!
//! The namespace's file is seen only from the region's own mount namespace: for a region of an ordinary user call
//! [`adit_netns::userns::join`] with the region's process first, before any thread.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use adit_netns::{Directory, DirectoryError, Namespace};

/// Why a command did not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The namespace is not there.
    #[error(transparent)]
    Namespace(#[from] DirectoryError),
    /// The namespace cannot be entered.
    #[error("cannot enter namespace {namespace}")]
    Enter {
        /// Its name.
        namespace: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The command cannot be started.
    #[error("cannot run {program}")]
    Start {
        /// Its first word.
        program: String,
        /// `NotFound` when there is no such command.
        source: io::Error,
    },
}

/// Runs a command inside the namespace `namespace` of `directory` and waits for its end. It has this process's standard
/// streams unless the command says otherwise.
///
/// # Errors
///
/// When the namespace is not there or the command cannot be started; how the command ended is no error.
pub fn run(directory: &Directory, namespace: &str, command: &mut Command) -> Result<ExitStatus, ExecError> {
    let inside = directory.open(namespace)?;
    // A child is born in the namespace of the thread that starts it.
    let ran = inside
        .run(|| command.status())
        .map_err(|source| not_entered(&inside, source))?;
    ran.map_err(|source| not_started(command, source))
}

/// Becomes the command, inside the namespace `namespace` of `directory`: what waits for this process gets the command's
/// exit status, and signals reach it directly. For a process with one thread. Returns only if that failed.
#[must_use]
pub fn replace(directory: &Directory, namespace: &str, command: &mut Command) -> ExecError {
    let inside = match directory.open(namespace) {
        Ok(inside) => inside,
        Err(error) => return error.into(),
    };
    match adit_netns::enter(inside.as_fd()) {
        Ok(()) => {
            let source = command.exec();
            not_started(command, source)
        }
        Err(source) => not_entered(&inside, source),
    }
}

fn not_entered(namespace: &Namespace, source: io::Error) -> ExecError {
    ExecError::Enter {
        namespace: namespace.name().to_owned(),
        source,
    }
}

fn not_started(command: &Command, source: io::Error) -> ExecError {
    ExecError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    }
}
