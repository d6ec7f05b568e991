//! `adit toa-receiver`: servers that know nothing of TOA see the client's address, without a kernel module.

use std::{
    ffi::OsString,
    fmt, io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use adit_model::error_chain;
use adit_relay::toa::{Cgroup, Receiver, ToaError};
use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::{cli::ToaReceiver, signals::Signals, terminal};

/// What the cgroups that are made for commands are called, with the process's id behind it.
const CGROUP_PREFIX: &str = "adit-toa-";
/// How often it is looked whether anybody is left in a command's cgroup. Only servers that go to the background are
/// waited for like this.
const LOOK: Duration = Duration::from_millis(100);
/// How often the removal of a cgroup is tried, whose last process is on its way out.
const REMOVALS_MAX: u32 = 50;

/// Why it did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup that was named.
    #[error("cannot open the cgroup {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A cgroup of the command's own.
    #[error("cannot make a cgroup for the command")]
    Cgroup(#[source] io::Error),
    /// The programs.
    #[error("{}. {}", error_chain(.0), .0.remedy())]
    Toa(ToaError),
    /// The command.
    #[error("cannot run {}", command.display())]
    Start {
        /// Its name.
        command: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime, or a signal handler.
    #[error("the system refuses what is needed to wait")]
    System(#[source] io::Error),
}

impl Error {
    /// The exit status, as a shell gives it: 127 for a command that is not there, 126 for one that cannot be run, else 1.
    pub fn status(&self) -> u8 {
        match self {
            Error::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Error::Start { .. } => 126,
            _ => 1,
        }
    }
}

/// Runs until a signal comes, or the command and all that it started have ended; answers the exit status.
///
/// # Errors
/// By what is missing.
pub fn run(args: &ToaReceiver) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::System)?;
    // The handlers come first: from then on nothing is left behind.
    let signals = runtime.block_on(async { Signals::open(false) });
    let signals = signals.map_err(Error::System)?;
    match (&args.cgroup, args.command.split_first()) {
        (Some(path), _) => attend(args, path, &runtime, signals),
        (None, Some((command, arguments))) => accompany(args, command, arguments, &runtime, signals),
        // The command line's own rules leave no third case.
        (None, None) => Ok(2),
    }
}

/// Stays attached to a cgroup until a signal comes.
fn attend(
    args: &ToaReceiver,
    path: &Path,
    runtime: &tokio::runtime::Runtime,
    mut signals: Signals,
) -> Result<u8, Error> {
    let cgroup = Cgroup::open(path).map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })?;
    let mut receiver = Receiver::load(args.believe, args.kind).map_err(Error::Toa)?;
    receiver.attach(&cgroup).map_err(Error::Toa)?;
    terminal::print(&format!(
        "Servers in {} see the client's address of connections from {}. Ctrl-C ends it.\n",
        path.display(),
        args.believe
    ));
    runtime.block_on(signals.end());
    terminal::warn(&Seen(&receiver).to_string());
    Ok(0)
}

/// Runs a command in a cgroup of its own, and stays until nobody is left in it.
fn accompany(
    args: &ToaReceiver,
    command: &OsString,
    arguments: &[OsString],
    runtime: &tokio::runtime::Runtime,
    mut signals: Signals,
) -> Result<u8, Error> {
    // First: who may not do this is told so in better words than those of a directory that cannot be made.
    let mut receiver = Receiver::load(args.believe, args.kind).map_err(Error::Toa)?;
    let cgroup = CommandCgroup::new().map_err(Error::Cgroup)?;
    receiver.attach(&cgroup.inside).map_err(Error::Toa)?;
    let mut command_line = tokio::process::Command::new(command);
    command_line.args(arguments);
    cgroup.inside.enter().map_err(Error::Cgroup)?;
    let started = runtime.block_on(async { command_line.spawn() });
    cgroup.outside.enter().map_err(Error::Cgroup)?;
    let mut child = started.map_err(|source| Error::Start {
        command: command.clone(),
        source,
    })?;
    let ended = runtime.block_on(async {
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break ended.map_err(Error::System)?,
                () = signals.end() => cgroup.signal(Signal::TERM),
            }
        };
        while !cgroup.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = signals.end() => cgroup.signal(Signal::TERM),
            }
        }
        Ok(ended)
    })?;
    tracing::info!("{}", Seen(&receiver));
    Ok(status_of(ended))
}

/// As a shell says it: 128 and the signal's number for a command that was ended by one.
fn status_of(ended: ExitStatus) -> u8 {
    let status = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal));
    status.and_then(|status| u8::try_from(status).ok()).unwrap_or(1)
}

/// What a receiver has seen, in a sentence.
struct Seen<'a>(&'a Receiver);

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.0.outcomes();
        write!(
            f,
            "Connections with a client's address: {}; without: {}; with one that was not believed: {}.",
            seen.believed, seen.without, seen.not_believed
        )
    }
}

/// A cgroup for a command, below the process's own. It goes when this is dropped.
struct CommandCgroup {
    outside: Cgroup,
    inside: Cgroup,
    name: String,
}

impl CommandCgroup {
    fn new() -> io::Result<Self> {
        let outside = Cgroup::own()?;
        sweep(&outside);
        let name = format!("{CGROUP_PREFIX}{}", getpid());
        let inside = outside.create(&name)?;
        Ok(Self {
            outside,
            inside,
            name,
        })
    }

    fn is_empty(&self) -> bool {
        self.inside
            .processes()
            .is_ok_and(|processes| processes.is_empty())
    }

    /// Sends a signal to the command and to all that it started.
    fn signal(&self, signal: Signal) {
        for process in self.inside.processes().unwrap_or_default() {
            if let Some(process) = Pid::from_raw(process) {
                let _ = kill_process(process, signal);
            }
        }
    }
}

impl Drop for CommandCgroup {
    fn drop(&mut self) {
        for _ in 0..REMOVALS_MAX {
            if self.outside.remove(&self.name).is_ok() {
                return;
            }
            std::thread::sleep(LOOK / 10);
        }
        tracing::warn!(cgroup = self.name, "a cgroup could not be removed");
    }
}

/// Removes what killed ones have left; where processes live on, their cgroup does.
fn sweep(outside: &Cgroup) {
    for name in outside.below().unwrap_or_default() {
        let process = name.strip_prefix(CGROUP_PREFIX);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = outside.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_s_status_is_passed_on() {
        // As `wait` encodes them: an exit with 3, and an end by SIGTERM.
        assert_eq!(status_of(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(status_of(ExitStatus::from_raw(15)), 128 + 15);
    }
}
