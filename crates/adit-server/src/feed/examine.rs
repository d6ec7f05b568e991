//! Questions to a gateway how an endpoint stands, now: asked once, answered by a number, waited for no longer than a moment.

use std::{collections::HashMap, time::Duration};

use adit_model::{
    diagnosis::Examination,
    feed::{EndpointSpec, FeedEvent},
    id::EndpointId,
};
use tokio::sync::oneshot;

use super::{Feed, node::asks_the_same};

/// Examinations that may be under way: each has a gateway call a backend.
const EXAMINATIONS_MAX: usize = 16;
/// How long a gateway may take to answer one; it waits for a backend no longer than three seconds.
pub(crate) const EXAMINATION_TIMEOUT: Duration = Duration::from_secs(8);

/// Who waits for which examination.
#[derive(Default)]
pub(super) struct Examinations {
    /// By its number.
    waiting: HashMap<u64, oneshot::Sender<Examination>>,
    /// The number of the last one.
    last: u64,
}

impl Examinations {
    /// A new one; `None` where too many are under way.
    fn begin(&mut self, answer: oneshot::Sender<Examination>) -> Option<u64> {
        // Of those that gave up waiting.
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        if self.waiting.len() >= EXAMINATIONS_MAX {
            return None;
        }
        self.last += 1;
        self.waiting.insert(self.last, answer);
        Some(self.last)
    }

    pub(super) fn answer(&mut self, number: u64, examination: Examination) {
        // Nobody waits for what came too late.
        if let Some(waiting) = self.waiting.remove(&number) {
            let _ = waiting.send(examination);
        }
    }
}

impl Feed {
    /// Whether a gateway has been told to do this, whether it does it or not.
    pub fn is_told(&self, spec: &EndpointSpec) -> bool {
        let inner = self.inner.lock();
        let mut told = inner.nodes.values().filter_map(|node| node.told.get(&spec.id));
        told.any(|told| told.spec.as_ref().is_some_and(|told| asks_the_same(told, spec)))
    }

    /// Has an endpoint's gateway find out how one of its client ports stands. `None` where too many ask at a time.
    pub async fn examine(&self, id: EndpointId, port: u16) -> Option<Examination> {
        let (answer, answered) = oneshot::channel();
        {
            let mut inner = self.inner.lock();
            let number = inner.examinations.begin(answer)?;
            let owner = inner.owner(id).cloned();
            let Some(node) = owner.and_then(|owner| inner.nodes.get_mut(&owner)) else {
                inner.examinations.answer(number, Examination::Silence);
                return Some(Examination::Silence);
            };
            node.questions.push_back(FeedEvent::Examine { id, port, number });
            self.told.send_replace(());
        }
        let examination = tokio::time::timeout(EXAMINATION_TIMEOUT, answered).await;
        Some(
            examination
                .ok()
                .and_then(Result::ok)
                .unwrap_or(Examination::Silence),
        )
    }
}
