//! The reconcilers' queue: each piece of work at most once, never twice at a time, and later again after a failure.
//!
//! Pure: the time is passed in.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::Work;

/// How long the first retry waits; each further one waits twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest that a retry waits.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// For how much work room is kept at rest.
const IDLE_CAPACITY: usize = 1024;

#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Work>,
    queued: HashSet<Work>,
    running: HashSet<Work>,
    /// Asked for while it ran: it may have acted on what was there before.
    again: HashSet<Work>,
    retries: BTreeSet<(Instant, u64)>,
    retry_of: HashMap<u64, Work>,
    next_retry_number: u64,
    failures: HashMap<Work, u32>,
}

impl Queue {
    /// Asks for a look at something.
    pub(super) fn add(&mut self, work: Work) {
        if self.running.contains(&work) {
            self.again.insert(work);
        } else if self.queued.insert(work) {
            self.waiting.push_back(work);
        }
    }

    /// Takes the next piece of work, which is running until [`Queue::done`] or [`Queue::retry`].
    pub(super) fn start(&mut self, now: Instant) -> Option<Work> {
        while let Some((when, number)) = self.retries.first().copied()
            && when <= now
        {
            self.retries.pop_first();
            if let Some(work) = self.retry_of.remove(&number) {
                self.add(work);
            }
        }
        let Some(work) = self.waiting.pop_front() else {
            // A start asks for a look at everything; at rest that room is nobody's.
            self.waiting.shrink_to(IDLE_CAPACITY);
            self.queued.shrink_to(IDLE_CAPACITY);
            return None;
        };
        self.queued.remove(&work);
        self.running.insert(work);
        Some(work)
    }

    /// How many pieces of work there are, by what they do.
    pub(super) fn lengths(&self) -> [(&'static str, usize); 3] {
        [
            ("waiting", self.waiting.len()),
            ("running", self.running.len()),
            ("retrying", self.retries.len()),
        ]
    }

    /// It went well.
    pub(super) fn done(&mut self, work: Work) {
        self.failures.remove(&work);
        self.stop(work);
    }

    /// It is to be looked at again after the answered time.
    pub(super) fn retry(&mut self, work: Work, now: Instant) -> Duration {
        let failures = self.failures.entry(work).or_default();
        let after = BACKOFF_MIN
            .saturating_mul(1 << (*failures).min(10))
            .min(BACKOFF_MAX);
        *failures += 1;
        self.wake(work, now + after);
        self.stop(work);
        after
    }

    /// There is nothing to do before `when`, and then there is.
    pub(super) fn later(&mut self, work: Work, when: Instant) {
        self.failures.remove(&work);
        self.wake(work, when);
        self.stop(work);
    }

    fn wake(&mut self, work: Work, when: Instant) {
        self.retries.insert((when, self.next_retry_number));
        self.retry_of.insert(self.next_retry_number, work);
        self.next_retry_number += 1;
    }

    fn stop(&mut self, work: Work) {
        self.running.remove(&work);
        if self.again.remove(&work) {
            self.add(work);
        }
    }

    /// When the next retry is due.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(when, _)| *when)
    }
}

#[cfg(test)]
mod tests {
    use adit_model::id::ServiceId;

    use super::*;

    #[test]
    fn a_piece_of_work_is_queued_once_and_never_runs_twice_at_a_time() {
        let (now, work) = (Instant::now(), Work::Service(ServiceId::random()));
        let mut queue = Queue::default();
        queue.add(work);
        queue.add(work);
        assert_eq!(queue.start(now), Some(work));
        assert_eq!(queue.start(now), None);
        queue.add(work);
        assert_eq!(queue.start(now), None);
        queue.done(work);
        assert_eq!(queue.start(now), Some(work));
        queue.done(work);
        assert_eq!(queue.start(now), None);
    }

    #[test]
    fn what_is_for_later_comes_then_and_is_no_failure() {
        let (now, work) = (Instant::now(), Work::Service(ServiceId::random()));
        let mut queue = Queue::default();
        queue.add(work);
        assert_eq!(queue.start(now), Some(work));
        queue.retry(work, now);
        let at = now + BACKOFF_MIN;
        assert_eq!(queue.start(at), Some(work));
        let when = at + Duration::from_secs(30);
        queue.later(work, when);
        assert_eq!((queue.start(at), queue.next_retry()), (None, Some(when)));
        assert_eq!(queue.start(when), Some(work));
        assert_eq!(queue.retry(work, when), BACKOFF_MIN);
    }

    #[test]
    fn failures_wait_longer_each_time_and_success_forgets_them() {
        let (now, work) = (Instant::now(), Work::Service(ServiceId::random()));
        let mut queue = Queue::default();
        queue.add(work);
        let mut waits = Vec::new();
        let mut at = now;
        for _ in 0..12 {
            assert_eq!(queue.start(at), Some(work));
            let wait = queue.retry(work, at);
            assert_eq!(queue.start(at), None);
            assert_eq!(queue.next_retry(), Some(at + wait));
            at += wait;
            waits.push(wait);
        }
        assert_eq!(waits[0], BACKOFF_MIN);
        assert_eq!(waits[1], BACKOFF_MIN * 2);
        assert_eq!(waits[11], BACKOFF_MAX);
        assert_eq!(queue.start(at), Some(work));
        queue.done(work);
        queue.add(work);
        assert_eq!(queue.start(at), Some(work));
        assert_eq!(queue.retry(work, at), BACKOFF_MIN);
    }
}
