//! Waiting, for a bounded moment, until what was ordered is so on the wire: a reply that comes after that is one that can
//! be relied on. Late is not wrong; the reconcilers go on.

use adit_model::id::EndpointId;

use super::{App, connection::EFFECT_TIMEOUT};
use crate::feed;

impl App {
    /// Waits until gateways do for these endpoints what the documents say.
    pub(crate) async fn on_the_wire(&self, mut endpoints: Vec<EndpointId>) {
        let mut notices = self.cache.subscribe();
        let mut reported = self.feed.reported();
        let effect = async {
            loop {
                endpoints.retain(|id| !self.is_on_the_wire(*id));
                if endpoints.is_empty() {
                    return;
                }
                tokio::select! {
                    notice = notices.next() => if notice.is_none() { return },
                    counted = reported.changed() => if counted.is_err() { return },
                }
            }
        };
        let _ = tokio::time::timeout(EFFECT_TIMEOUT, effect).await;
    }

    fn is_on_the_wire(&self, id: EndpointId) -> bool {
        let spec = feed::specify(&self.cache.read(), &self.config, id);
        self.feed.follows(id, spec.as_ref())
    }
}
