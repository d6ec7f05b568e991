//! What a region holds of the system.

use std::fmt;

use adit_netns::Directory;

use crate::process::Region;

/// What must not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gauge {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) namespaces: usize,
    /// Links in all of them.
    pub(crate) links: usize,
    /// Memory that is in use, in KiB.
    pub(crate) resident_kib: usize,
}

impl Gauge {
    pub(crate) fn of(region: &Region) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", region.pid())).unwrap();
        let number = |label: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(label));
            line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
        };
        let directory = Directory::at(Directory::SYSTEM).unwrap();
        let names = Region::namespaces(&region.instance());
        // One may just be on its way out.
        let inside = names.iter().filter_map(|name| directory.open(name).ok());
        let links = inside.map(|namespace| {
            let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
            // Two lines of headings.
            namespace.run(read).unwrap().unwrap().lines().count() - 2
        });
        Self {
            descriptors: region.descriptors(),
            threads: number("Threads:"),
            namespaces: names.len(),
            links: links.sum(),
            resident_kib: number("VmRSS:"),
        }
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors, {} threads, {} namespaces, {} links, {} KiB resident",
            self.descriptors, self.threads, self.namespaces, self.links, self.resident_kib
        )
    }
}
