//! Who answers for an address: asks by ARP every few milliseconds, from a place that sends nothing else to it, and notes which hardware
//! addresses answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use adit_netns::{Arp, Links, Namespace};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::lab::plan::LINK;

/// How often it is asked.
pub const PERIOD: Duration = Duration::from_millis(5);

/// Who answered, and when.
type Heard = (Instant, [u8; 6]);

/// A watcher.
#[derive(Debug)]
pub struct Watcher {
    heard: Arc<Mutex<Vec<Heard>>>,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What was found: how long at most nobody answered, and how long two did in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The longest time without an answer.
    pub none: Duration,
    /// The time in which two stations answered the same questions.
    pub both: Duration,
}

impl Watcher {
    /// Starts asking for `ip`, from inside `place`.
    #[must_use]
    pub fn start(place: &Namespace, ip: Ipv4Addr) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let end = CancellationToken::new();
        let (noted, ended, place) = (Arc::clone(&heard), end.clone(), place.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async {
                    tokio::select! {
                        () = ended.cancelled() => {}
                        Some(()) = watch(&place, ip, &noted) => {}
                    }
                });
            }
        });
        Self {
            heard,
            end,
            thread: Some(thread),
        }
    }

    /// Forgets what was heard.
    pub fn begin(&self) {
        self.heard.lock().clear();
    }

    /// What was heard since `from`.
    #[must_use]
    pub fn found(&self, from: Instant) -> Found {
        found(&self.heard.lock(), from, Instant::now())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `None` where it cannot ask.
async fn watch(place: &Namespace, ip: Ipv4Addr, heard: &Mutex<Vec<Heard>>) -> Option<()> {
    let links = Links::open(place).await.ok()?;
    let link = links.link(LINK).await.ok()??;
    let arp = Arp::open(place, &link).await.ok()?;
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {
                // What is not sent is not answered, and so seen.
                let _ = arp.probe(ip);
            }
            answer = arp.hear() => {
                if answer.as_ref().is_ok_and(|answer| answer.ip == ip) {
                    heard.lock().push((Instant::now(), answer.ok()?.mac));
                }
            }
        }
    }
}

/// What of the answers is to be told.
fn found(heard: &[Heard], from: Instant, until: Instant) -> Found {
    let heard: Vec<_> = heard.iter().filter(|(at, _)| *at > from).collect();
    let moments: Vec<_> = heard.iter().map(|(at, _)| *at).collect();
    // By the questions: who answered each.
    let mut answers: BTreeMap<u128, BTreeSet<[u8; 6]>> = BTreeMap::new();
    for (at, mac) in heard {
        let question = at.duration_since(from).as_nanos() / PERIOD.as_nanos();
        answers.entry(question).or_default().insert(*mac);
    }
    let both = answers.values().filter(|stations| stations.len() > 1).count();
    Found {
        none: super::longest_gap(&moments, from, until),
        both: PERIOD * u32::try_from(both).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_counted_and_what_follows_is_not() {
        let from = Instant::now();
        let ms = Duration::from_millis;
        let heard = |all: &[(u64, u8)]| {
            let heard: Vec<_> = all.iter().map(|(at, mac)| (from + ms(*at), [*mac; 6])).collect();
            found(&heard, from, from + ms(100))
        };
        // One after the other.
        let one = heard(&[(5, 1), (10, 1), (60, 2), (65, 2), (99, 2)]);
        assert_eq!((one.both, one.none), (ms(0), ms(50)));
        // Together for three questions.
        let two = heard(&[
            (5, 1),
            (15, 1),
            (20, 2),
            (21, 1),
            (25, 1),
            (26, 2),
            (31, 1),
            (32, 2),
            (99, 2),
        ]);
        assert_eq!(two.both, ms(15));
        // There and back is no overlap.
        let back = heard(&[(5, 1), (40, 2), (80, 1), (99, 1)]);
        assert_eq!(back.both, ms(0));
    }
}
