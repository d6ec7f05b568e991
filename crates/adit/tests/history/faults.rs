//! What goes wrong in an episode, by its seed; and how it is done and undone.

use std::sync::atomic::Ordering::Relaxed;

use rustix::process::Signal;

use crate::{
    bed::{self, Bed, REPLICAS},
    clients::{Dice, Episode},
    process::until,
};

/// Faults of one episode, one after the other.
const FAULTS: usize = 3;
/// How many requests are answered before each; and how many during each, once one was not.
const ANSWERED_BEFORE: usize = 100;
const ANSWERED_DURING: usize = 20;
/// How many are, where all are.
const ANSWERED_ALL: usize = 150;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A member of etcd dies, and comes back.
    EtcdKilled,
    /// A member does nothing for a while.
    EtcdPaused,
    /// Nobody reaches a member.
    EtcdCutOff,
    /// What a member says reaches no other member and no control plane, and what they say reaches it.
    EtcdMute,
    /// A control plane dies, and comes back.
    ApiKilled,
    /// A control plane does nothing for a while.
    ApiPaused,
    /// Nobody reaches a control plane.
    ApiCutOff,
    /// What a control plane asks arrives at etcd, and no answer does.
    ApiDeaf,
    /// A control plane and one member of etcd reach each other and clients, and nobody else.
    Minority,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::EtcdKilled,
        Self::ApiPaused,
        Self::Minority,
        Self::ApiKilled,
        Self::EtcdPaused,
        Self::ApiDeaf,
        Self::EtcdCutOff,
        Self::ApiCutOff,
        Self::EtcdMute,
    ];
}

/// Whom it strikes: who leads at that moment, or who comes so many after that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target(usize);

impl Target {
    /// Two of three times whoever leads.
    fn roll(dice: &mut Dice) -> Self {
        Self([0, 0, 0, 0, 1, 2][dice.roll(6)])
    }

    fn of(self, leader: usize) -> usize {
        (leader + self.0) % REPLICAS
    }

    fn leads(self) -> bool {
        self.0 == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    etcd: Target,
    api: Target,
}

/// The faults of a seed. Three seeds in a row have every kind.
pub(crate) fn schedule(seed: u64) -> Vec<Fault> {
    let mut dice = Dice(seed);
    let first = FAULTS * usize::try_from(seed % Kind::ALL.len() as u64).unwrap();
    (first..first + FAULTS)
        .map(|n| Fault {
            kind: Kind::ALL[n % Kind::ALL.len()],
            etcd: Target::roll(&mut dice),
            api: Target::roll(&mut dice),
        })
        .collect()
}

/// Does one fault after the other, and undoes it; answers what was done when, in microseconds of the episode.
pub(crate) fn strike(bed: &mut Bed, episode: &Episode<'_>, faults: &[Fault]) -> Vec<String> {
    let answered = |count: usize| {
        let wanted = episode.answered.load(Relaxed) + count;
        until("requests to be answered", || {
            (episode.answered.load(Relaxed) >= wanted).then_some(())
        });
    };
    let mut done = Vec::new();
    for fault in faults {
        answered(ANSWERED_BEFORE);
        let etcd_leader = until("a leader of etcd", || bed.etcd_leader());
        let api_leader = until("a leader of the control planes", || bed.api_leader());
        let (etcd, api) = (fault.etcd.of(etcd_leader), fault.api.of(api_leader));
        let begun = episode.begun.elapsed().as_micros();
        fault.begin(bed, etcd, api);
        let (etcd_moves, api_moves) = fault.moves();
        if etcd_moves {
            until("another leader of etcd", || {
                bed.etcd_leader().filter(|n| *n != etcd)
            });
        }
        if api_moves {
            until("another leader of the control planes", || {
                bed.api_leader().filter(|n| *n != api)
            });
        }
        let moved = episode.begun.elapsed().as_micros();
        let [answered_at, unanswered_at] =
            [&episode.answered, &episode.unanswered].map(|count| count.load(Relaxed));
        until("clients to notice, or not", || {
            let answered = episode.answered.load(Relaxed) - answered_at;
            let is_noticed = episode.unanswered.load(Relaxed) > unanswered_at;
            (answered >= if is_noticed { ANSWERED_DURING } else { ANSWERED_ALL }).then_some(())
        });
        let noticed = episode.begun.elapsed().as_micros();
        fault.end(bed, etcd, api);
        until("etcd to be whole", || bed.etcd_is_whole().then_some(()));
        let ended = episode.begun.elapsed().as_micros();
        done.push(format!(
            "{begun:>10} {moved:>10} {noticed:>10} {ended:>10}  {fault:?} etcd{etcd} api{api}"
        ));
    }
    answered(ANSWERED_BEFORE);
    done
}

impl Fault {
    fn begin(self, bed: &mut Bed, etcd: usize, api: usize) {
        match self.kind {
            Kind::EtcdKilled => bed.etcd_kill(etcd),
            Kind::EtcdPaused => bed.etcd_signal(etcd, Signal::STOP),
            Kind::EtcdCutOff => bed.fabric.cut(bed::etcd(etcd), true),
            Kind::ApiKilled => bed.api_kill(api),
            Kind::ApiPaused => bed.api_signal(api, Signal::STOP),
            Kind::ApiCutOff => bed.fabric.cut(bed::api(api), true),
            Kind::EtcdMute | Kind::ApiDeaf | Kind::Minority => self.mute(bed, etcd, api, true),
        }
    }

    fn end(self, bed: &mut Bed, etcd: usize, api: usize) {
        match self.kind {
            Kind::EtcdKilled => bed.etcd_start(etcd),
            Kind::EtcdPaused => bed.etcd_signal(etcd, Signal::CONT),
            Kind::EtcdCutOff => bed.fabric.cut(bed::etcd(etcd), false),
            Kind::ApiKilled => bed.api_start(api),
            Kind::ApiPaused => bed.api_signal(api, Signal::CONT),
            Kind::ApiCutOff => bed.fabric.cut(bed::api(api), false),
            Kind::EtcdMute | Kind::ApiDeaf | Kind::Minority => self.mute(bed, etcd, api, false),
        }
    }

    /// What is lost on its way.
    fn mute(self, bed: &Bed, etcd: usize, api: usize, mute: bool) {
        let all: Vec<_> = (0..REPLICAS).flat_map(|n| [bed::etcd(n), bed::api(n)]).collect();
        let members: Vec<_> = (0..REPLICAS).map(bed::etcd).collect();
        let (etcd, api) = (bed::etcd(etcd), bed::api(api));
        match self.kind {
            Kind::EtcdMute => bed.fabric.mute(&[etcd], &all, mute),
            Kind::ApiDeaf => bed.fabric.mute(&members, &[api], mute),
            _ => {
                let few = [etcd, api];
                let most: Vec<_> = all.into_iter().filter(|n| !few.contains(n)).collect();
                bed.fabric.mute(&few, &most, mute);
                bed.fabric.mute(&most, &few, mute);
            }
        }
    }

    /// Whether etcd, and whether the control planes have another leader by it.
    fn moves(self) -> (bool, bool) {
        match self.kind {
            Kind::EtcdKilled | Kind::EtcdPaused | Kind::EtcdCutOff | Kind::EtcdMute => {
                (self.etcd.leads(), false)
            }
            Kind::ApiKilled | Kind::ApiPaused | Kind::ApiCutOff | Kind::ApiDeaf => (false, self.api.leads()),
            Kind::Minority => (self.etcd.leads(), self.api.leads()),
        }
    }
}
