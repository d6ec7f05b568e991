//! Processes in namespaces that outlive whoever started them: a number may be another's by the time that it is used, so each is known by
//! the moment of its start, too, and signals go to a descriptor of it.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use adit_netns::Namespace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use serde::{Deserialize, Serialize};

use super::plan::Process;

/// How long the end of a killed process may take: the kernel lets go of its sockets and memory first.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Variables of this program's own, which processes of a lab are not to have from a person's shell; but how much they log.
const OWN_VARIABLES: &str = "ADIT_";
const LOG_VARIABLE: &str = "ADIT_LOG";

/// A process that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its number.
    pub pid: i32,
    /// When it was started, in the kernel's ticks since the machine was.
    pub at: u64,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Alive,
    /// It was stopped (SIGSTOP).
    Stopped,
    /// It has ended.
    Dead,
}

/// Starts a process inside a namespace, with what it prints going to `log`.
///
/// # Errors
/// Where it cannot be started.
pub fn start(namespace: &Namespace, program: &Path, process: &Process, log: &Path) -> io::Result<Started> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = match process.program {
        Some(program) => Command::new(program),
        None => Command::new(program),
    };
    command
        .args(&process.words)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // What ends a person's command by its terminal is not meant for it.
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        if name != LOG_VARIABLE && name.to_string_lossy().starts_with(OWN_VARIABLES) {
            command.env_remove(name);
        }
    }
    // A child is born in the namespace of the thread that starts it.
    let child = namespace.run(|| command.spawn())??;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let (at, _) = look(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(Started { pid, at })
}

impl Started {
    /// What it does now.
    #[must_use]
    pub fn state(self) -> State {
        match look(self.pid) {
            Some((at, letter)) if at == self.at => match letter {
                'Z' | 'X' => State::Dead,
                'T' | 't' => State::Stopped,
                _ => State::Alive,
            },
            _ => State::Dead,
        }
    }

    /// A descriptor of it; `None` where it has ended.
    fn descriptor(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The number cannot be another's any more without the descriptor being of the one that has ended.
        Ok((self.state() != State::Dead).then_some(descriptor))
    }

    /// Sends it a signal; answers whether it was there.
    ///
    /// # Errors
    /// What the kernel says but that it is gone.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(descriptor) = self.descriptor()? else {
            return Ok(false);
        };
        match pidfd_send_signal(descriptor, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// Where it may not be killed, or does not go.
    pub fn kill(self) -> io::Result<()> {
        let Some(descriptor) = self.descriptor()? else {
            self.reap();
            return Ok(());
        };
        match pidfd_send_signal(&descriptor, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        // Its first thread may have ended, which is all that /proc shows, while others still hold its files and locks.
        let mut ended = [PollFd::new(&descriptor, PollFlags::IN)];
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut ended, Some(&left)) {
                Ok(0) => {
                    let what = format!("process {} was killed and does not end", self.pid);
                    return Err(io::Error::other(what));
                }
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.reap();
        Ok(())
    }

    /// SIGSTOP, and waits until nothing of it runs.
    ///
    /// # Errors
    /// Where it may not be stopped, or goes on.
    pub fn stop(self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        self.await_state(State::Stopped)
    }

    fn await_state(self, wanted: State) -> io::Result<()> {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            self.reap();
            let now = self.state();
            if now == wanted || now == State::Dead {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("process {} got its signal and is {now:?}", self.pid);
                return Err(io::Error::other(what));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes in what is left of it, where it is this process's own child.
    pub fn reap(self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }

    /// The process of that number, as it is now.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        look(pid).map(|(at, _)| Self { pid, at })
    }
}

/// When a process was started, and the letter of its state.
fn look(pid: i32) -> Option<(u64, char)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)): the name, in parentheses, may hold anything.
fn parse(stat: &str) -> Option<(u64, char)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?.chars().next()?;
    // The 22nd of all words; the state was the third.
    let at = words.nth(18)?.parse().ok()?;
    Some((at, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_whatever_its_name() {
        let stat = "7 (a) S (b) T 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(parse(stat), Some((4711, 'T')));
        assert_eq!(parse("7 (a"), None);
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = Started::of(pid).unwrap();
        assert_eq!(started.state(), State::Alive);
        started.stop().unwrap();
        assert_eq!(started.state(), State::Stopped);
        let another = Started {
            at: started.at + 1,
            ..started
        };
        assert_eq!(another.state(), State::Dead);
        assert!(!another.signal(Signal::KILL).unwrap());
        started.kill().unwrap();
        assert_eq!(started.state(), State::Dead);
        assert!(!started.signal(Signal::KILL).unwrap());
        let _ = child.wait();
    }
}
