//! Every connection that clients made, to be compared with the connection log.

use std::{collections::HashMap, io::BufRead, net::SocketAddrV4, path::Path};

use parking_lot::Mutex;
use serde_json::Value;

/// The same client port is used again and again, so each pair has numbers.
type Pair = (SocketAddrV4, SocketAddrV4);

/// How many connections of one pair of addresses there were.
#[derive(Clone, Copy, Default)]
struct Count {
    /// The kernel said that it was connected.
    attempted: u64,
    /// The backend has answered.
    greeted: u64,
    /// Lines in the log.
    logged: u64,
}

#[derive(Default)]
pub(crate) struct Ledger(Mutex<HashMap<Pair, Count>>);

impl Ledger {
    pub(crate) fn attempted(&self, client: SocketAddrV4, to: SocketAddrV4) {
        self.0.lock().entry((client, to)).or_default().attempted += 1;
    }

    pub(crate) fn greeted(&self, client: SocketAddrV4, to: SocketAddrV4) {
        self.0.lock().entry((client, to)).or_default().greeted += 1;
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.lock().values().map(|count| count.greeted).sum()
    }

    /// Compares it with the log, and answers how many lines that has, by why connections ended. A connection that the backend has
    /// answered has one line. One that it has not may have waited at a listener when that was closed: the kernel resets it, and no
    /// line can tell of it; so it has one, or none.
    pub(crate) fn compare(&self, log: &Path) -> HashMap<String, u64> {
        let mut counts = self.0.lock();
        let mut ends: HashMap<String, u64> = HashMap::new();
        let file = std::io::BufReader::new(std::fs::File::open(log).unwrap());
        for line in file.lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let address = |name: &str| line[name].as_str().unwrap().parse::<SocketAddrV4>().unwrap();
            let pair = (address("client"), address("address"));
            counts.entry(pair).or_default().logged += 1;
            *ends.entry(line["end"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        let wrong = counts
            .iter()
            .filter(|(_, count)| !(count.greeted..=count.attempted).contains(&count.logged));
        let wrong: Vec<_> = wrong
            .map(|((client, to), count)| {
                format!(
                    "{client} to {to}: {} connected, {} answered, {} in the log",
                    count.attempted, count.greeted, count.logged
                )
            })
            .collect();
        assert!(
            wrong.is_empty(),
            "{} of {} pairs are not in the log as they were, as {:#?}",
            wrong.len(),
            counts.len(),
            &wrong[..wrong.len().min(10)]
        );
        ends
    }
}
