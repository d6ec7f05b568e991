//! What other stations on a VPC's link say of the addresses that endpoints have there.
//!
//! Owns one socket for each link, and what is listened for on it. Tells of a conflict; what is done about it is the gateway's.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use adit_netns::{Arp, LinkError, Links};
use parking_lot::Mutex;
use tokio::{sync::mpsc, sync::oneshot, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::plan::Place;

/// How often it is asked whether somebody has an address, and how long an answer may take. RFC 5227 waits for seconds, for
/// bridges that have just come up; here the link has been up for long.
const PROBES: usize = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Another station has an address that an endpoint has here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The consumer's namespace.
    pub(crate) place: Place,
    /// The address.
    pub(crate) ip: Ipv4Addr,
    /// Who has it.
    pub(crate) by: Station,
}

/// A station, by its hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Station(pub(crate) [u8; 6]);

impl std::fmt::Display for Station {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The stations on one link, but for this one.
#[derive(Debug)]
pub(crate) struct Neighbours {
    arp: Arc<Arp>,
    known: Arc<Mutex<Known>>,
    listening: AbortOnDropHandle<()>,
}

/// What is listened for.
#[derive(Debug, Default)]
struct Known {
    /// Addresses that endpoints have here.
    held: HashSet<Ipv4Addr>,
    /// Who waits to hear of an address.
    asked: HashMap<Ipv4Addr, Vec<oneshot::Sender<Station>>>,
}

impl Neighbours {
    /// Listens on a link of a VPC; conflicts go to `conflicts`.
    pub(crate) async fn open(
        links: &Links,
        link: &str,
        place: Place,
        conflicts: mpsc::Sender<Conflict>,
    ) -> Result<Self, LinkError> {
        let arp = Arc::new(links.arp(link).await?);
        let known = Arc::<Mutex<Known>>::default();
        let listen = listen(Arc::clone(&arp), Arc::clone(&known), place, conflicts);
        Ok(Self {
            arp,
            known,
            listening: AbortOnDropHandle::new(tokio::spawn(listen)),
        })
    }

    /// Whether nothing is heard any more: the link has gone down.
    pub(crate) fn is_over(&self) -> bool {
        self.listening.is_finished()
    }

    /// The kernel's number of the link.
    pub(crate) fn link(&self) -> u32 {
        self.arp.link()
    }

    /// An endpoint has an address here.
    pub(crate) fn hold(&self, ip: Ipv4Addr) {
        self.known.lock().held.insert(ip);
    }

    /// It has it no more.
    pub(crate) fn release(&self, ip: Ipv4Addr) {
        self.known.lock().held.remove(&ip);
    }

    /// Says that an address is here.
    pub(crate) fn announce(&self, ip: Ipv4Addr) -> std::io::Result<()> {
        self.arp.announce(ip)
    }

    /// Asks whether anybody else has an address that is held here; whoever does is a conflict.
    pub(crate) fn ask(&self, ip: Ipv4Addr) -> std::io::Result<()> {
        self.arp.probe(ip)
    }

    /// Asks whether anybody else has an address, and waits for an answer. Nobody has it who does not answer in time.
    pub(crate) async fn probe(&self, ip: Ipv4Addr) -> std::io::Result<Option<Station>> {
        let (answer, mut answered) = oneshot::channel();
        self.known.lock().asked.entry(ip).or_default().push(answer);
        let mut found = None;
        for _ in 0..PROBES {
            self.arp.probe(ip)?;
            if let Ok(by) = timeout(PROBE_INTERVAL, &mut answered).await {
                found = by.ok();
                break;
            }
        }
        drop(answered);
        let mut known = self.known.lock();
        if let Some(asked) = known.asked.get_mut(&ip) {
            asked.retain(|answer| !answer.is_closed());
            if asked.is_empty() {
                known.asked.remove(&ip);
            }
        }
        Ok(found)
    }
}

async fn listen(arp: Arc<Arp>, known: Arc<Mutex<Known>>, place: Place, conflicts: mpsc::Sender<Conflict>) {
    loop {
        let heard = match arp.hear().await {
            Ok(heard) => heard,
            Err(e) => {
                tracing::debug!(netns.name = place.name, error = %e, "A link is not listened on any more.");
                return;
            }
        };
        let (ip, by) = (heard.ip, Station(heard.mac));
        let held = {
            let mut known = known.lock();
            for answer in known.asked.remove(&ip).into_iter().flatten() {
                let _ = answer.send(by);
            }
            known.held.contains(&ip)
        };
        if held {
            let place = place.clone();
            // What is lost among too many is heard of again: both stations go on answering.
            let _ = conflicts.try_send(Conflict { place, ip, by });
        }
    }
}
