//! Whether what clients saw of one resource can have happened one after the other, each at some moment between its request and
//! its answer: linearizability, by the search of Wing and Gong. Pure.
//!
//! ```text
//!   absent ──create──▶ live, with a text ──delete──▶ going ──by itself──▶ gone
//!                       └─update─┘
//! ```

use std::{collections::HashSet, fmt};

/// Most deeds of one history: they are kept as the bits of a number.
pub(crate) const DEEDS_MAX: usize = u128::BITS as usize;

/// What a reader saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    /// With which text; 0 at first.
    Live(u32),
    Going,
}

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Create,
    Update(u32),
    Delete,
    Read(Seen),
}

/// A deed with when it was asked for and when it was answered; one whose outcome nobody learnt has no end, and may have
/// happened at any time since, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) deed: Deed,
    pub(crate) begun: u64,
    pub(crate) ended: Option<u64>,
    /// Who was asked.
    pub(crate) replica: usize,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self
            .ended
            .map_or_else(|| "?".to_owned(), |ended| ended.to_string());
        let deed = format!("{:?}", self.deed);
        write!(f, "{:>10} {ended:>10}  api{}  {deed}", self.begun, self.replica)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Absent,
    Live(u32),
    Going,
    Gone,
}

/// What a deed leaves, if it can be answered so in this phase.
fn after(phase: Phase, deed: Deed) -> Option<Phase> {
    match (deed, phase) {
        (Deed::Create, Phase::Absent) => Some(Phase::Live(0)),
        (Deed::Update(text), Phase::Live(_)) => Some(Phase::Live(text)),
        (Deed::Delete, Phase::Live(_) | Phase::Going) => Some(Phase::Going),
        (Deed::Read(Seen::Nothing), Phase::Absent | Phase::Gone) => Some(phase),
        (Deed::Read(Seen::Live(seen)), Phase::Live(text)) => (seen == text).then_some(phase),
        (Deed::Read(Seen::Going), Phase::Going) => Some(phase),
        _ => None,
    }
}

/// Whether there is an order in which all of it can have happened.
///
/// What changes nothing, and could not at any later time, is put into the order as soon as it fits; so only changes are tried out.
pub(crate) fn is_linearizable(history: &[Act]) -> bool {
    let history: Vec<_> = history.iter().filter(|act| is_of_use(act, history)).collect();
    assert!(history.len() <= DEEDS_MAX, "{} deeds", history.len());
    let answered = history.iter().enumerate().filter(|(_, act)| act.ended.is_some());
    let answered = answered.fold(0u128, |mask, (n, _)| mask | 1 << n);
    let mut seen = HashSet::new();
    let mut open = vec![(0u128, Phase::Absent)];
    while let Some((mut done, phase)) = open.pop() {
        let mut changes = Vec::new();
        loop {
            let left = || history.iter().enumerate().filter(|(n, _)| done & 1 << n == 0);
            // Whoever was asked for after somebody else's answer comes after that.
            let first_end = left().filter_map(|(_, act)| act.ended).min().unwrap_or(u64::MAX);
            let in_turn = left().filter(|(_, act)| act.begun <= first_end);
            changes.clear();
            changes.extend(in_turn.filter_map(|(n, act)| Some((1 << n, act.deed, after(phase, act.deed)?))));
            let is_idle =
                |(_, deed, next): &&(u128, Deed, Phase)| *next == phase && !matches!(deed, Deed::Update(_));
            let idle = changes.iter().filter(is_idle);
            let idle = idle.fold(0u128, |mask, (bit, ..)| mask | bit);
            done |= idle;
            if idle == 0 {
                break;
            }
        }
        if done & answered == answered {
            return true;
        }
        if !seen.insert((done, phase)) {
            continue;
        }
        if phase == Phase::Going {
            open.push((done, Phase::Gone));
        }
        open.extend(changes.iter().map(|(bit, _, next)| (done | bit, *next)));
    }
    false
}

/// Whether an act can matter: an update of which nobody knows whether it happened, and whose text nobody has seen, did not.
fn is_of_use(act: &Act, history: &[Act]) -> bool {
    let Deed::Update(text) = act.deed else {
        return true;
    };
    let is_seen = |other: &Act| other.deed == Deed::Read(Seen::Live(text));
    act.ended.is_some() || history.iter().any(is_seen)
}

/// The smallest useful part of a history that has no order: up to the moment when it had none any more, without readers
/// that change nothing of it.
pub(crate) fn smallest(history: &[Act]) -> Vec<Act> {
    let mut ends: Vec<_> = history.iter().filter_map(|act| act.ended).collect();
    ends.sort_unstable();
    let until = |end: u64| -> Vec<Act> {
        let begun = history.iter().filter(|act| act.begun <= end);
        begun
            .filter_map(|act| match (act.deed, act.ended.filter(|ended| *ended <= end)) {
                (Deed::Read(_), None) => None,
                (_, ended) => Some(Act { ended, ..*act }),
            })
            .collect()
    };
    let mut part = ends
        .into_iter()
        .map(until)
        .find(|part| !is_linearizable(part))
        .unwrap_or_else(|| history.to_vec());
    part.sort_unstable_by_key(|act| act.begun);
    for n in (0..part.len()).rev() {
        let mut less = part.clone();
        if matches!(less.remove(n).deed, Deed::Read(_)) && !is_linearizable(&less) {
            part = less;
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn act(deed: Deed, begun: u64, ended: u64) -> Act {
        Act {
            deed,
            begun,
            ended: Some(ended),
            replica: 0,
        }
    }

    fn lost(deed: Deed, begun: u64) -> Act {
        Act {
            deed,
            begun,
            ended: None,
            replica: 0,
        }
    }

    #[test]
    fn what_must_not_be_is_refused_and_what_may_be_is_not() {
        use Deed::{Create, Delete, Read, Update};
        let created = act(Create, 0, 10);
        for (holds, history) in [
            (true, vec![created, act(Read(Seen::Live(0)), 11, 12)]),
            // An acknowledged create is lost.
            (false, vec![created, act(Read(Seen::Nothing), 11, 12)]),
            // While it is under way, both may be seen; but time does not go back.
            (
                true,
                vec![
                    created,
                    act(Read(Seen::Nothing), 1, 2),
                    act(Read(Seen::Live(0)), 3, 4),
                ],
            ),
            (
                false,
                vec![
                    created,
                    act(Read(Seen::Live(0)), 1, 2),
                    act(Read(Seen::Nothing), 3, 4),
                ],
            ),
            // A stale read after an acknowledged delete.
            (
                false,
                vec![created, act(Delete, 20, 30), act(Read(Seen::Live(0)), 31, 32)],
            ),
            (
                true,
                vec![created, act(Delete, 20, 30), act(Read(Seen::Live(0)), 29, 32)],
            ),
            (
                true,
                vec![
                    created,
                    act(Delete, 20, 30),
                    act(Read(Seen::Going), 31, 32),
                    act(Read(Seen::Nothing), 33, 34),
                ],
            ),
            (
                false,
                vec![
                    created,
                    act(Delete, 20, 30),
                    act(Read(Seen::Nothing), 31, 32),
                    act(Read(Seen::Going), 33, 34),
                ],
            ),
            // Nobody deletes it.
            (false, vec![created, act(Read(Seen::Going), 20, 30)]),
            // Nobody knows whether it was deleted, and from when on.
            (
                true,
                vec![created, lost(Delete, 20), act(Read(Seen::Live(0)), 100, 110)],
            ),
            (
                true,
                vec![created, lost(Delete, 20), act(Read(Seen::Nothing), 100, 110)],
            ),
            (
                false,
                vec![created, lost(Delete, 120), act(Read(Seen::Nothing), 100, 110)],
            ),
            // An acknowledged update is lost, or seen too early, or a stale one is read.
            (
                true,
                vec![created, act(Update(1), 20, 30), act(Read(Seen::Live(1)), 31, 32)],
            ),
            (
                false,
                vec![created, act(Update(1), 20, 30), act(Read(Seen::Live(0)), 31, 32)],
            ),
            (
                false,
                vec![created, act(Read(Seen::Live(1)), 11, 12), act(Update(1), 20, 30)],
            ),
            (
                false,
                vec![
                    created,
                    act(Update(1), 20, 30),
                    act(Update(2), 40, 50),
                    act(Read(Seen::Live(2)), 41, 42),
                    act(Read(Seen::Live(1)), 43, 44),
                ],
            ),
            (
                true,
                vec![
                    created,
                    lost(Update(1), 20),
                    act(Read(Seen::Live(0)), 31, 32),
                    act(Read(Seen::Live(1)), 33, 34),
                ],
            ),
            // What is deleted is not changed any more.
            (false, vec![created, act(Delete, 20, 30), act(Update(1), 31, 32)]),
            (true, vec![lost(Create, 0), act(Read(Seen::Live(0)), 5, 6)]),
            (true, vec![lost(Create, 0), act(Read(Seen::Nothing), 5, 6)]),
        ] {
            assert_eq!(is_linearizable(&history), holds, "{history:?}");
        }
    }

    #[test]
    fn of_what_must_not_be_the_reader_and_what_it_contradicts_are_shown() {
        use Deed::{Create, Delete, Read, Update};
        let stale = act(Read(Seen::Live(0)), 31, 32);
        let (created, updated) = (act(Create, 0, 10), act(Update(1), 20, 30));
        let others = [
            act(Read(Seen::Live(0)), 11, 12),
            act(Read(Seen::Live(0)), 13, 14),
            act(Read(Seen::Live(1)), 33, 60),
            act(Delete, 40, 50),
        ];
        let history = [&[created, updated, stale], &others[..]].concat();
        assert!(!is_linearizable(&history));
        assert_eq!(smallest(&history), [created, updated, stale]);
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            Just(Deed::Create),
            (0u32..3).prop_map(Deed::Update),
            Just(Deed::Delete),
            Just(Deed::Read(Seen::Nothing)),
            (0u32..3).prop_map(|text| Deed::Read(Seen::Live(text))),
            Just(Deed::Read(Seen::Going)),
        ]
    }

    /// By trying every order of every choice of those whose outcome is not known.
    fn is_linearizable_by_force(history: &[Act]) -> bool {
        fn from(phase: Phase, left: &[Act]) -> bool {
            if left.iter().all(|act| act.ended.is_none()) {
                return true;
            }
            if phase == Phase::Going && from(Phase::Gone, left) {
                return true;
            }
            (0..left.len()).any(|n| {
                let mut rest = left.to_vec();
                let act = rest.remove(n);
                let in_turn = rest
                    .iter()
                    .all(|other| other.ended.is_none_or(|ended| ended >= act.begun));
                in_turn && after(phase, act.deed).is_some_and(|next| from(next, &rest))
            })
        }
        from(Phase::Absent, history)
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_everything(acts in prop::collection::vec((deed(), 0u64..12, prop::option::of(0u64..6)), 0..6)) {
            let history: Vec<_> = acts
                .into_iter()
                .map(|(deed, begun, takes)| Act { deed, begun, ended: takes.map(|takes| begun + takes), replica: 0 })
                .collect();
            prop_assert_eq!(is_linearizable(&history), is_linearizable_by_force(&history));
        }

        /// What does happen one after the other is never refused, however late answers are.
        #[test]
        fn what_happened_is_accepted(steps in prop::collection::vec((deed(), 0u64..30, 0u64..30, any::<bool>()), 0..40)) {
            let mut phase = Phase::Absent;
            let mut history = Vec::new();
            for (n, (deed, before, later, is_answered)) in steps.into_iter().enumerate() {
                let at = 100 + 10 * n as u64;
                let Some(next) = after(phase, deed) else {
                    continue;
                };
                phase = next;
                let ended = is_answered.then_some(at + later);
                history.push(Act { deed, begun: at - before, ended, replica: 0 });
                if phase == Phase::Going && n % 3 == 0 {
                    phase = Phase::Gone;
                }
            }
            prop_assert!(is_linearizable(&history));
        }
    }
}
