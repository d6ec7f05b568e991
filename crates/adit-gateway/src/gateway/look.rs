//! What can be seen of a gateway while it runs.

use std::{net::SocketAddrV4, sync::Arc};

use adit_relay::{Snapshot, Stalled};
use tokio::task;

use super::Gateway;
use crate::{connection_log::Entry, health::Backends, setback::Setback};

impl Gateway {
    /// The connections that are alive and that a backend sees come from this address: one for each provider's VPC that has it.
    ///
    /// # Errors
    /// Where the relay does not answer in time.
    pub async fn who(&self, source: SocketAddrV4) -> Result<Vec<Entry>, Stalled> {
        let relay = Arc::clone(&self.relay);
        let found = task::spawn_blocking(move || relay.who(source)).await;
        Ok(found
            .map_err(|_| Stalled)??
            .into_iter()
            .map(Entry::from)
            .collect())
    }

    /// The relay's counters.
    pub fn snapshot(&self) -> Snapshot {
        self.relay.snapshot()
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        let owners = self.snapshot().owners;
        owners.iter().map(|owner| u64::from(owner.active)).sum()
    }

    /// How often endpoints had to wait, and for what: each attempt counts.
    pub fn setbacks(&self) -> Vec<(Setback, u64)> {
        self.setbacks.all()
    }

    /// How the backends stood when they were last asked.
    pub fn backends(&self) -> Backends {
        self.health.count()
    }
}
