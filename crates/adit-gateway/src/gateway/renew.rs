//! Addresses that do not outlive their gateway: the kernel takes them away unless they are renewed.
//!
//! A gateway that is dead or stopped loses its addresses with nobody's help, so that another may answer for them. One that
//! has lost its control plane goes on renewing.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Gateway, Line, dispute::ASK_INTERVAL};
use crate::plan::HeldAddress;

/// How often an address is renewed within its life: two renewals may come late, or not at all.
const RENEWALS: u32 = 4;

/// How often it is said that an address is here: twice would do (RFC 5227, section 1.1), but either may get lost.
pub(super) const ANNOUNCEMENTS: u8 = 3;

impl Gateway {
    /// Renews what is held, for ever; ends at once where addresses live for ever.
    pub(super) async fn renew(&self) {
        let Some(life) = self.apply.address_life_s() else {
            return;
        };
        let life = Duration::from_secs(life.into());
        let mut period = interval(life / RENEWALS);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut renewed, mut asked) = (Instant::now(), Instant::now());
        loop {
            period.tick().await;
            // Another process renews what it has taken over.
            if self.is_leaving() {
                return;
            }
            let begun = Instant::now();
            let is_late = |since: Instant| since.elapsed() >= life;
            if !is_late(renewed) {
                self.renew_all().await;
            }
            // Asked once more: this process may have been stopped in between, and have put back what was another's.
            if is_late(renewed) {
                self.late.notify_one();
            }
            renewed = begun;
            if !self.is_in_contact() && asked.elapsed() >= ASK_INTERVAL {
                asked = begun;
                for held in self.held() {
                    self.apply.ask(&held).await;
                }
            }
        }
    }

    async fn renew_all(&self) {
        if self.is_fenced() {
            return;
        }
        self.apply.renew(&self.held()).await;
        let fresh: Vec<HeldAddress> = {
            let mut lines = self.lines.lock();
            let is_fresh = |line: &&mut Line| (1..ANNOUNCEMENTS).contains(&line.announced);
            let fresh = lines.values_mut().filter(is_fresh);
            let told = fresh.filter_map(|line| {
                line.announced += 1;
                line.address().cloned()
            });
            told.collect()
        };
        for held in fresh {
            self.apply.announce(&held).await;
        }
    }

    /// The addresses that are held.
    fn held(&self) -> Vec<HeldAddress> {
        let lines = self.lines.lock();
        lines
            .values()
            .filter_map(|line| line.address().cloned())
            .collect()
    }
}
