//! A worker's pipes for splicing. Only empty pipes are pooled, so that no connection ever sees
//! another's bytes.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{self, PipeFlags};

use crate::descriptors::Budget;

/// The size that was measured best, and the most that an unprivileged process gets by default.
const SIZE_BYTES_MAX: usize = 1 << 20;
/// Below it copying is cheaper.
const SIZE_BYTES_MIN: usize = 64 << 10;
/// Pipes of one worker, full ones that wait for a slow reader included: bounds what they pin to 128 MiB.
const PIPES_MAX: usize = 128;
/// Empty pipes kept for the next use.
const PIPES_IDLE_MAX: usize = 16;
/// After a refusal by the kernel so many requests are answered "none" before it is asked again.
const REFUSALS_SKIPPED_MAX: u32 = 1_000;

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) read: OwnedFd,
    pub(crate) write: OwnedFd,
}

#[derive(Debug)]
pub(crate) struct Pipes {
    idle: Vec<Pipe>,
    /// Pipes that exist, idle or in use.
    count: usize,
    /// The size asked for next; shrinks when the kernel refuses.
    size_bytes: usize,
    skip: u32,
    budget: Arc<Budget>,
}

impl Pipes {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            idle: Vec::new(),
            count: 0,
            size_bytes: SIZE_BYTES_MAX,
            skip: 0,
            budget,
        }
    }

    /// An empty pipe, or none, which is counted: then copy.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        let pipe = self.idle_or_new();
        if pipe.is_none() {
            self.budget.refuse_pipe();
        }
        pipe
    }

    fn idle_or_new(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.count >= PIPES_MAX || !self.budget.take_pipe() {
            return None;
        }
        match self.make() {
            Ok(pipe) => {
                self.count += 1;
                Some(pipe)
            }
            Err(error) => {
                tracing::debug!(%error, "no pipe to splice through; copying");
                self.skip = REFUSALS_SKIPPED_MAX;
                self.size_bytes = SIZE_BYTES_MAX;
                self.budget.give_pipe();
                None
            }
        }
    }

    fn make(&mut self) -> Result<Pipe, Errno> {
        let (read, write) = pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        loop {
            match pipe::fcntl_setpipe_size(&write, self.size_bytes) {
                Ok(_) => return Ok(Pipe { read, write }),
                // Over the user's soft limit of pipe pages, or /proc/sys/fs/pipe-max-size is smaller.
                Err(Errno::PERM) if self.size_bytes > SIZE_BYTES_MIN => self.size_bytes /= 2,
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Takes back a pipe that is empty.
    pub(crate) fn give(&mut self, pipe: Pipe) {
        if self.idle.len() < PIPES_IDLE_MAX {
            self.idle.push(pipe);
        } else {
            self.discard(pipe);
        }
    }

    /// Closes a pipe that may hold bytes.
    pub(crate) fn discard(&mut self, pipe: Pipe) {
        drop(pipe);
        self.count -= 1;
        self.budget.give_pipe();
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        while let Some(pipe) = self.idle.pop() {
            self.discard(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_pipes_come_back_and_the_rest_is_closed() {
        let budget = Arc::new(Budget::new(1_000));
        let mut pipes = Pipes::new(Arc::clone(&budget));
        let taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert!(!taken.is_empty() && taken.len() <= PIPES_MAX);
        assert_eq!(budget.pipes_refused(), 1);
        assert_eq!(budget.used(), 2 * taken.len());
        for pipe in taken {
            pipes.give(pipe);
        }
        assert_eq!(budget.used(), 2 * PIPES_IDLE_MAX);
        drop(pipes);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn without_budget_there_is_none() {
        assert!(Pipes::new(Arc::new(Budget::new(3))).take().is_none());
    }
}
