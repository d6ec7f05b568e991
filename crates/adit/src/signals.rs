//! The signals that end a region.

use std::{future::poll_fn, io, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM, SIGQUIT and SIGHUP; the last only where it was not ignored from the start, as `nohup` does it.
///
/// From [`Signals::open`] on none of them ends the process by itself, and one that comes before [`Signals::next`] is asked
/// for is not lost.
#[derive(Debug)]
pub struct Signals(Vec<Signal>);

impl Signals {
    /// Must be called within a runtime, and before there is anything that has to be removed again.
    ///
    /// # Errors
    /// Where the system gives no handler.
    pub fn open() -> io::Result<Self> {
        let mut kinds = vec![
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::quit(),
        ];
        if !hangup_is_ignored() {
            kinds.push(SignalKind::hangup());
        }
        kinds.into_iter().map(signal).collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        poll_fn(|context| {
            let came = self.0.iter_mut().any(|s| s.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// SIGHUP is signal 1: the lowest bit of the mask.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}
