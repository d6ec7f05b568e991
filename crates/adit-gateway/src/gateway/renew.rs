//! Addresses that do not outlive their gateway: the kernel takes them away unless they are renewed.
//!
//! A gateway that is dead or stopped loses its addresses with nobody's help, so that another may answer for them. One that
//! has lost its control plane goes on renewing.

use std::{sync::Arc, time::Duration};

use adit_model::error_chain;
use tokio::time::{MissedTickBehavior, interval};

use super::Gateway;
use crate::plan::HeldAddress;

/// How often an address is renewed within its life: two renewals may come late, or not at all.
const RENEWALS: u32 = 4;

impl Gateway {
    /// Renews what is held, for ever; ends at once where addresses live for ever.
    pub(super) async fn renew(self: Arc<Self>) {
        let Some(life) = self.apply.address_life_s() else {
            return;
        };
        let mut period = interval(Duration::from_secs(life.into()) / RENEWALS);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            // Another process renews what it has taken over.
            if self.is_leaving() {
                return;
            }
            let held: Vec<HeldAddress> = {
                let lines = self.lines.lock();
                lines
                    .values()
                    .filter_map(|line| line.held.address.clone())
                    .collect()
            };
            for address in held {
                if let Err(e) = self.apply.renew(&address).await {
                    tracing::warn!(error = error_chain(&e), "An address could not be renewed.");
                }
            }
        }
    }
}
