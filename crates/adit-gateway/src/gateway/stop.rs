//! The end of a gateway: its listeners are closed, its connections are cut or drain, its addresses are taken away.
//!
//! Connections that drain need their endpoints' addresses, so those are kept alive meanwhile. What is served is another's
//! already, or will be: an address that another station announces is left to it, and its connections are cut.

use std::{future::pending, sync::Arc};

use adit_model::{error_chain, id::EndpointId};
use adit_relay::Close;
use tokio::task::spawn_blocking;

use super::{Gateway, OnControlLoss};
use crate::{
    neighbours::Conflict,
    plan::{At, HeldAddress},
};

impl Gateway {
    /// Cuts what a [`Gateway::stop`] lets drain.
    pub async fn cut(&self) {
        let relay = Arc::clone(&self.relay);
        let _ = spawn_blocking(move || relay.stop(Close::Cut)).await;
    }

    /// Ends all service: connections are cut or drained, listeners closed, addresses removed.
    pub async fn stop(&self, how: Close) {
        self.stopping.notify_one();
        let _ended = self.serving.lock().await;
        let relay = Arc::clone(&self.relay);
        let drained = spawn_blocking(move || relay.stop(how));
        if self.is_leaving() {
            let _ = drained.await;
            return;
        }
        tokio::pin!(drained);
        tokio::select! {
            _ = &mut drained => {}
            () = self.lose_addresses() => {
                self.cut().await;
                let _ = drained.await;
            }
        }
        let held: Vec<_> = self
            .lines
            .lock()
            .drain()
            .map(|(id, line)| (id, line.held))
            .collect();
        for (id, held) in held {
            if let Some(address) = held.address {
                self.take_away(id, address).await;
            }
        }
    }

    async fn take_away(&self, id: EndpointId, address: HeldAddress) {
        if let Err(e) = self.apply.remove_address(id, &address).await {
            tracing::warn!(endpoint.id = %id, error = error_chain(&e), "An endpoint's address could not be removed.");
        }
    }

    /// Keeps what is held alive until none of it may be used any more: another gateway may have it by now.
    async fn lose_addresses(&self) {
        let fenced = async {
            match self.on_control_loss {
                OnControlLoss::Hold => pending().await,
                OnControlLoss::Fence => {
                    self.contact.turned(true).await;
                }
            }
        };
        // Ends at once where addresses live for ever.
        let renewed = async {
            self.renew().await;
            pending::<()>().await;
        };
        tokio::select! {
            () = fenced => {}
            // This process was stopped: they have lapsed.
            () = self.late.notified() => {}
            () = renewed => {}
            () = self.give_way() => {}
        }
    }

    /// Leaves addresses to whoever else announces them, one after the other.
    async fn give_way(&self) {
        let mut conflicts = self.conflicts.lock().await;
        while let Some(conflict) = conflicts.recv().await {
            // Who is in contact had it by the control plane's word a moment ago.
            let found = if self.is_in_contact() {
                None
            } else {
                self.holder(&conflict)
            };
            let Some((id, address)) = found else { continue };
            tracing::warn!(
                endpoint.id = %id, endpoint.ip = %conflict.ip, station.mac = %conflict.by,
                "Another station has an endpoint's address: what was draining there is cut."
            );
            let relay = Arc::clone(&self.relay);
            let _ = spawn_blocking(move || relay.end(id.0.as_u128(), Close::Cut)).await;
            self.take_away(id, address).await;
            // Held until it is gone: with the last connection the drain may be over before that.
            if let Some(line) = self.lines.lock().get_mut(&id) {
                line.held.address = None;
            }
        }
        pending::<()>().await;
    }

    /// Who holds an address that another station has.
    fn holder(&self, conflict: &Conflict) -> Option<(EndpointId, HeldAddress)> {
        let id = self.claims.lock().holder(&conflict.place, conflict.ip)?;
        let lines = self.lines.lock();
        let held = lines.get(&id)?.held.address.as_ref()?;
        let is_it = held.place == conflict.place && held.at == At::Address(conflict.ip);
        is_it.then(|| (id, held.clone()))
    }
}
