//! Whom one thing is asked, in which order, and what a member's silence means where another has answered. Pure.

use std::time::{Duration, Instant};

/// How many times longer than the answer of another took a silence has to be.
const RATIO: u32 = 4;

/// The calls of one thing that may be done twice: each member in turn, and then once more, since an election makes all of
/// them fail; and on and on while one of them is silent, since an election in its absence may take long. No member is asked
/// twice at a time.
pub(super) struct Round {
    /// Who is in turn.
    turn: usize,
    members: usize,
    /// How many calls were made.
    made: usize,
    /// Who has not answered yet, and since when.
    silent: Vec<(usize, Instant)>,
}

impl Round {
    /// Begins with one of so many members.
    pub(super) fn new(first: usize, members: usize) -> Self {
        Self {
            turn: first,
            members: members.max(1),
            made: 0,
            silent: Vec::new(),
        }
    }

    /// Whether there is a member that was never asked.
    pub(super) fn has_new(&self) -> bool {
        self.made < self.members
    }

    /// Whether anybody may be asked now.
    pub(super) fn has_next(&self) -> bool {
        let may_go_on = self.made < 2 * self.members || !self.silent.is_empty();
        may_go_on && self.silent.len() < self.members
    }

    /// Whom to ask now.
    pub(super) fn next(&mut self, now: Instant) -> Option<usize> {
        if !self.has_next() {
            return None;
        }
        let in_turn = (0..self.members).map(|n| (self.turn + n) % self.members);
        let is_silent = |member| self.silent.iter().any(|(silent, _)| *silent == member);
        let member = in_turn.into_iter().find(|member| !is_silent(*member))?;
        self.turn = member + 1;
        self.made += 1;
        self.silent.push((member, now));
        Some(member)
    }

    /// A call has failed.
    pub(super) fn fail(&mut self, member: usize) {
        self.silent.retain(|(silent, _)| *silent != member);
    }

    /// Who hangs, where this member has answered: all that is slow, the machine or an election, is slow at both.
    pub(super) fn hanging(&self, answered: usize, now: Instant) -> Vec<usize> {
        let waited = |since: &Instant| now.saturating_duration_since(*since);
        let took = self.silent.iter().find(|(member, _)| *member == answered);
        let took = took.map_or(Duration::MAX, |(_, since)| waited(since));
        let hangs = |(member, since): &&(usize, Instant)| {
            *member != answered && took.saturating_mul(RATIO) <= waited(since)
        };
        self.silent
            .iter()
            .filter(hangs)
            .map(|(member, _)| *member)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_in_turn_and_once_more_and_never_twice_at_a_time() {
        let now = Instant::now();
        let mut round = Round::new(1, 3);
        assert_eq!([round.next(now), round.next(now)], [Some(1), Some(2)]);
        assert!(round.has_new());
        assert_eq!([round.next(now), round.next(now)], [Some(0), None]);
        assert!(!round.has_new());
        // The second and the third fail; the first one is silent.
        round.fail(2);
        round.fail(0);
        assert_eq!(
            [round.next(now), round.next(now), round.next(now)],
            [Some(2), Some(0), None]
        );
        round.fail(2);
        assert_eq!(round.next(now), Some(2));
        (0..3).for_each(|member| round.fail(member));
        assert!(!round.has_next());
        assert_eq!(round.next(now), None);
    }

    #[test]
    fn the_others_are_asked_for_as_long_as_one_is_silent() {
        let now = Instant::now();
        let mut round = Round::new(0, 3);
        assert_eq!(round.next(now), Some(0));
        for _ in 0..20 {
            for member in [1, 2] {
                assert!(round.has_next());
                assert_eq!(round.next(now), Some(member));
                round.fail(member);
            }
        }
        round.fail(0);
        assert!(!round.has_next(), "all of them have failed, and often");
    }

    #[test]
    fn whoever_is_alone_is_asked_twice() {
        let now = Instant::now();
        for members in [0, 1] {
            let mut round = Round::new(0, members);
            assert_eq!(round.next(now), Some(0));
            round.fail(0);
            assert_eq!(round.next(now), Some(0));
            round.fail(0);
            assert!(!round.has_next());
        }
    }

    #[test]
    fn only_who_is_much_slower_than_the_other_hangs() {
        for (silent_ms, answered_after_ms, hangs) in [
            (501, 1, true),
            (600, 150, true),
            (600, 151, false),
            (1500, 1000, false),
        ] {
            let (begin, ms) = (Instant::now(), Duration::from_millis);
            let now = begin + ms(silent_ms);
            let mut round = Round::new(0, 2);
            round.next(begin);
            round.next(now.checked_sub(ms(answered_after_ms)).unwrap());
            let expected = if hangs { vec![0] } else { Vec::new() };
            assert_eq!(round.hanging(1, now), expected, "{silent_ms} {answered_after_ms}");
            assert!(round.hanging(0, now).is_empty(), "who was asked later");
        }
    }
}
