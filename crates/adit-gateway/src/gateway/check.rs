//! Whether what is held is still there: namespaces, addresses and the ways to blocks may be removed by others, and addresses
//! lapse while this process is stopped.

use std::collections::HashMap;

use adit_model::id::EndpointId;

use super::Gateway;
use crate::{
    plan::{At, Place},
    queue::Queue,
};

impl Gateway {
    /// Takes up the endpoints whose namespaces or addresses are not what they were.
    pub(super) async fn check(&self, queue: &mut Queue) {
        let gone = self.apply.gone().await;
        if !gone.is_empty() {
            for (id, line) in self.lines.lock().iter() {
                let address = line.held.address.iter().map(|a| &a.place);
                let targets = line.held.listeners.values().flatten().map(|t| &t.place);
                if address.chain(targets).any(|place| gone.contains(place)) {
                    queue.add(*id);
                }
            }
        }
        self.apply.mend_sources().await;
        self.check_addresses(queue).await;
    }

    /// Takes up the endpoints whose address is no longer where it was put: somebody removed it, or its link.
    async fn check_addresses(&self, queue: &mut Queue) {
        let mut held: HashMap<Place, Vec<(EndpointId, At)>> = HashMap::new();
        for (id, line) in self.lines.lock().iter() {
            if let Some(address) = line.address() {
                let inside = held.entry(address.place.clone()).or_default();
                inside.push((*id, address.at.clone()));
            }
        }
        for (place, inside) in held {
            let Some(lost) = self
                .apply
                .lost(&place, inside)
                .await
                .filter(|lost| !lost.is_empty())
            else {
                continue;
            };
            self.apply.forget_links(&place).await;
            let mut lines = self.lines.lock();
            for (id, at) in lost {
                let Some(line) = lines.get_mut(&id).filter(|line| !line.running) else {
                    continue;
                };
                // What listens on the address stays: it works again with the address.
                if line
                    .address()
                    .is_some_and(|held| held.place == place && held.at == at)
                {
                    line.held.lost = true;
                    tracing::warn!(endpoint.id = %id, endpoint.address = %at, "An endpoint's address was gone.");
                    queue.add(id);
                }
            }
        }
    }

    /// Takes up the endpoints whose addresses have lapsed: this process was stopped, or was too late to renew them. They are
    /// not put back before it is known that they are nobody else's.
    pub(super) fn lapsed(&self, queue: &mut Queue) {
        let mut count = 0;
        for (id, line) in self.lines.lock().iter_mut() {
            let address = line.held.address.as_ref();
            if line.running || address.is_some_and(|held| matches!(held.at, At::Address(_))) {
                line.lost = true;
                count += 1;
                queue.add(*id);
            }
        }
        if count > 0 {
            tracing::warn!(
                gateway.addresses = count,
                "Addresses were not renewed in time: this process was stopped."
            );
        }
    }
}
