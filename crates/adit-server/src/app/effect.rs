//! Waiting, for a bounded moment, until what was ordered is so on the wire: a reply that comes after that is one that can
//! be relied on. Late is not wrong; the reconcilers go on.

use std::time::Duration;

use adit_model::id::EndpointId;

use super::App;
use crate::{
    feed,
    replica::{Effect, REST},
};

/// How long `receive` waits for the listener, `reject` for its end, and other calls for what they promise, before they answer
/// what is so far.
pub(crate) const EFFECT_TIMEOUT: Duration = Duration::from_millis(1500);

impl App {
    /// Waits until gateways do for these endpoints what the documents say.
    pub(crate) async fn on_the_wire(&self, endpoints: Vec<EndpointId>) {
        self.effect(Effect::OnTheWire, endpoints).await;
    }

    /// Waits until something is so of all of these endpoints, in this process or the one that leads. Answers whether it is.
    pub(crate) async fn effect(&self, effect: Effect, mut endpoints: Vec<EndpointId>) -> bool {
        let mut notices = self.cache.subscribe();
        let mut reported = self.feed.reported();
        let looked = async {
            loop {
                if self.sees_effects() {
                    endpoints.retain(|id| !self.is_so(effect, *id));
                    if endpoints.is_empty() {
                        return;
                    }
                    tokio::select! {
                        notice = notices.next() => if notice.is_none() { return },
                        counted = reported.changed() => if counted.is_err() { return },
                    }
                } else if self.effect_elsewhere(effect, &endpoints).await {
                    return;
                } else {
                    tokio::time::sleep(REST).await;
                }
            }
        };
        let seen = tokio::time::timeout(EFFECT_TIMEOUT, looked).await.is_ok();
        if !seen {
            tracing::debug!(
                effect = ?effect,
                "What was ordered is not on the wire within {} ms; the order stands.",
                EFFECT_TIMEOUT.as_millis()
            );
        }
        seen
    }

    fn is_so(&self, effect: Effect, id: EndpointId) -> bool {
        match effect {
            Effect::Silent => self.feed.is_silent(id),
            Effect::OnTheWire => {
                let spec = feed::specify(&self.cache.read(), &self.config, id);
                self.feed.follows(id, spec.as_ref())
            }
        }
    }
}
