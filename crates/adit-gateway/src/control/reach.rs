//! Whether this node reaches the other gateways in a VPC: a leg that is cut off is of no use, and nobody else sees that it is.
//!
//! Owns the asking (an ARP probe of each of the others, twice a second), the listening, and what follows from silence
//! ([`Hearing`], pure). Two witnesses are needed: of two gateways that do not hear each other nobody knows which is cut off.
//! Where all are, all say so, and the placement leaves everything where it is.

use std::{collections::HashSet, net::Ipv4Addr, sync::Arc, time::Duration};

use adit_netns::{Arp, Links, Namespace};
use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How many others have to be silent.
const WITNESSES: usize = 2;
/// How long: four questions to each of them.
const SILENCE: Duration = Duration::from_secs(2);
/// How long they have to be heard before a leg that was cut off is of use again, so that a link that comes and goes moves
/// nothing twice.
const RETURN: Duration = Duration::from_secs(2);
/// For how long there may be no answer, or no question, without anything following from that: an answer may get lost, and this
/// process may have been stopped.
const GAP: Duration = Duration::from_millis(1250);

/// What is found, where it is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None of the others is reached.
    Cut,
    /// One is, or there are none to tell.
    Reached,
}

/// What was heard of the others in one VPC. Pure.
#[derive(Debug, Default)]
struct Hearing {
    /// When it was looked at last.
    looked: Option<Instant>,
    /// Since when they have been asked without a pause.
    asked_since: Option<Instant>,
    /// When one was heard last, and since when without a gap.
    heard: Option<(Instant, Instant)>,
    is_cut: bool,
}

impl Hearing {
    /// One of the others has answered.
    fn hear(&mut self, now: Instant) {
        let since = match self.heard {
            Some((last, since)) if now.saturating_duration_since(last) <= GAP => since,
            _ => now,
        };
        self.heard = Some((now, since));
    }

    /// What follows now, where there are so many others, which are asked all the time.
    fn look(&mut self, now: Instant, others: usize) -> Option<Verdict> {
        let past = |since: Instant| now.saturating_duration_since(since);
        if self.looked.is_none_or(|looked| past(looked) > GAP) {
            self.asked_since = Some(now);
        }
        self.looked = Some(now);
        let was_cut = self.is_cut;
        let asked_since = *self.asked_since.get_or_insert(now);
        self.is_cut = match self.heard {
            _ if others < WITNESSES => {
                self.asked_since = None;
                false
            }
            Some((last, since)) if was_cut => past(last) > GAP || past(since) < RETURN,
            None if was_cut => true,
            heard => past(heard.map_or(asked_since, |(last, _)| last.max(asked_since))) >= SILENCE,
        };
        (self.is_cut != was_cut).then_some(match self.is_cut {
            true => Verdict::Cut,
            false => Verdict::Reached,
        })
    }
}

/// What listens in one VPC.
pub(super) struct Ear {
    inode: u64,
    hearing: Arc<Mutex<Hearing>>,
    others: Arc<Mutex<HashSet<Ipv4Addr>>>,
    links: Vec<Listened>,
}

/// A link that is listened on.
struct Listened {
    network: IpNet,
    arp: Arc<Arp>,
    task: AbortOnDropHandle<()>,
}

impl Ear {
    /// In the namespace of this number.
    pub(super) fn new(inode: u64) -> Self {
        Self {
            inode,
            hearing: Arc::default(),
            others: Arc::default(),
            links: Vec::new(),
        }
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Asks the others, each of which has some of these addresses, and says what follows from what was heard.
    pub(super) async fn ask(
        &mut self,
        namespace: &Namespace,
        networks: &[Ipv4Net],
        others: &[Vec<Ipv4Addr>],
    ) -> Option<Verdict> {
        *self.others.lock() = others.iter().flatten().copied().collect();
        let verdict = self.hearing.lock().look(Instant::now(), others.len());
        if others.len() >= WITNESSES {
            self.links.retain(|link| !link.task.is_finished());
            for ip in others.iter().flatten() {
                if let Some(arp) = self.link_to(namespace, networks, *ip).await {
                    // What does not go out is not answered.
                    let _ = arp.probe(*ip);
                }
            }
        } else {
            self.links.clear();
        }
        verdict
    }

    /// The link that an address is next to, listened on from now on.
    async fn link_to(
        &mut self,
        namespace: &Namespace,
        networks: &[Ipv4Net],
        ip: Ipv4Addr,
    ) -> Option<Arc<Arp>> {
        let own = networks.iter().find(|network| network.contains(&ip))?;
        let network = IpNet::V4(*own);
        if let Some(known) = self.links.iter().find(|link| link.network == network) {
            return Some(Arc::clone(&known.arp));
        }
        let links = Links::open(namespace).await.ok()?;
        let link = links.link_in(network).await.ok()??;
        let arp = Arc::new(links.arp(&link.name).await.ok()?);
        let (heard, hearing) = (Arc::clone(&arp), Arc::clone(&self.hearing));
        let others = Arc::clone(&self.others);
        let listen = async move {
            // Ends where the link does, and is begun anew with the next question.
            while let Ok(heard) = heard.hear().await {
                if others.lock().contains(&heard.ip) {
                    hearing.lock().hear(Instant::now());
                }
            }
        };
        self.links.push(Listened {
            network,
            arp: Arc::clone(&arp),
            task: AbortOnDropHandle::new(tokio::spawn(listen)),
        });
        Some(arp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found at each half second, where `true` is one in which somebody was heard.
    fn found(
        hearing: &mut Hearing,
        now: &mut Instant,
        others: usize,
        heard: &[bool],
    ) -> Vec<(usize, Verdict)> {
        let mut found = Vec::new();
        for (n, heard) in heard.iter().enumerate() {
            *now += Duration::from_millis(500);
            if *heard {
                hearing.hear(*now);
            }
            found.extend(hearing.look(*now, others).map(|verdict| (n, verdict)));
        }
        found
    }

    #[test]
    fn who_hears_none_of_two_is_cut_off_and_back_when_they_are_heard_for_a_while() {
        let (mut hearing, mut now) = (Hearing::default(), Instant::now());
        let mut half_seconds = |others, heard: &[bool]| found(&mut hearing, &mut now, others, heard);
        assert_eq!(half_seconds(2, &[true; 8]), []);
        // A lost answer, or three, is nothing.
        assert_eq!(half_seconds(2, &[false, true, false, false, false, true]), []);
        assert_eq!(half_seconds(2, &[false; 8]), [(3, Verdict::Cut)]);
        // One that comes and goes is not back.
        assert_eq!(
            half_seconds(2, &[true, false, false, false, true, true, false, false, false]),
            []
        );
        assert_eq!(half_seconds(2, &[true; 8]), [(4, Verdict::Reached)]);
    }

    #[test]
    fn with_fewer_than_two_others_nobody_is_cut_off() {
        let (mut hearing, mut now) = (Hearing::default(), Instant::now());
        let mut half_seconds = |others, heard: &[bool]| found(&mut hearing, &mut now, others, heard);
        assert_eq!(half_seconds(0, &[false; 10]), []);
        assert_eq!(half_seconds(1, &[false; 10]), []);
        // They are asked from now on.
        assert_eq!(half_seconds(2, &[false; 10]), [(4, Verdict::Cut)]);
        // All but one have gone.
        assert_eq!(half_seconds(1, &[false; 2]), [(0, Verdict::Reached)]);
    }

    #[test]
    fn a_process_that_was_stopped_has_heard_nobody_and_is_not_cut_off() {
        let (mut hearing, mut now) = (Hearing::default(), Instant::now());
        assert_eq!(found(&mut hearing, &mut now, 2, &[true; 4]), []);
        now += Duration::from_secs(60);
        assert_eq!(found(&mut hearing, &mut now, 2, &[false, false, true, true]), []);
    }
}
