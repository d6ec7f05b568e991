//! The signals that a region heeds: those that end it, and the one that has it read its certificate again.

use std::{fs::File, future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To end: SIGINT, SIGTERM, SIGQUIT, and SIGHUP unless it means the other.
    End,
    /// To read files again: SIGHUP, where there are files to read and it is not the terminal that went away.
    Reload,
}

/// SIGINT, SIGTERM, SIGQUIT and SIGHUP.
///
/// From [`Signals::open`] on none of them ends the process by itself, and one that comes before [`Signals::next`] is asked
/// for is not lost. SIGHUP never ends a process that was started to ignore it, as `nohup` does.
#[derive(Debug)]
pub struct Signals {
    ending: Vec<Signal>,
    hangup: Option<Signal>,
    reloads: bool,
    /// Whether SIGHUP was ignored when the process began.
    ignored: bool,
    /// Whether the process began on a terminal.
    terminal: bool,
}

impl Signals {
    /// Must be called within a runtime, and before there is anything that has to be removed again. `reloads` says whether
    /// there are files to read again.
    ///
    /// # Errors
    /// Where the system gives no handler.
    pub fn open(reloads: bool) -> io::Result<Self> {
        let ignored = hangup_is_ignored();
        let ending = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::quit(),
        ];
        let hangup = (reloads || !ignored).then(|| signal(SignalKind::hangup()));
        Ok(Self {
            ending: ending.into_iter().map(signal).collect::<io::Result<_>>()?,
            hangup: hangup.transpose()?,
            reloads,
            ignored,
            terminal: has_terminal(),
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) -> Asked {
        poll_fn(|context| {
            if self.ending.iter_mut().any(|s| s.poll_recv(context).is_ready()) {
                return Poll::Ready(Asked::End);
            }
            match &mut self.hangup {
                Some(hangup) => hangup.poll_recv(context).map(|_| ()),
                None => Poll::Pending,
            }
            .map(|()| {
                let gone = self.terminal && !has_terminal();
                if self.ignored || self.reloads && !gone {
                    Asked::Reload
                } else {
                    Asked::End
                }
            })
        })
        .await
    }

    /// Waits for the next one that asks to end.
    pub async fn end(&mut self) {
        while self.next().await != Asked::End {}
    }
}

/// Whether the process has a terminal that controls it; one that was closed does so no more.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// SIGHUP is signal 1: the lowest bit of the mask.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}
