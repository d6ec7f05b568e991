//! What one gateway is told, in order; the way of that to a gateway of this process, and what stands in for one.

use std::sync::Arc;

use adit_model::{
    diagnosis::Examination,
    feed::{EndpointReport, EndpointSpec, FeedEvent, Pieces, Report},
    node::{FeedPosition, NodeName},
};
use tokio::sync::{mpsc, watch};

use super::{Feed, node::Everything};

/// What one gateway is told, in order.
pub struct Subscription {
    pub(super) feed: Arc<Feed>,
    pub(super) changed: watch::Receiver<()>,
    pub(super) name: NodeName,
    pub(super) serial: u64,
    /// The last change that was read; `None` before the snapshot.
    pub(super) read: Option<u64>,
    /// What is left of the snapshot.
    pub(super) first: Everything,
}

impl Subscription {
    /// Whether it goes on where a former one was.
    pub fn resumes(&self) -> bool {
        self.read.is_some()
    }

    /// Whether it has had everything, up to the present.
    pub fn is_told(&self) -> bool {
        self.read.is_some() && self.first.is_empty()
    }

    /// The next event, once there is one, and where the feed is after it; `None` once this gateway has subscribed anew, was
    /// let go of, or the feed is closed.
    pub async fn next(&mut self) -> Option<(FeedPosition, FeedEvent)> {
        loop {
            self.changed.borrow_and_update();
            if let Some(found) = self.look()? {
                return Some(found);
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// What there is now; `None` inside where that is nothing yet.
    #[expect(clippy::option_option, reason = "the end is not the same as nothing yet")]
    pub(super) fn look(&mut self) -> Option<Option<(FeedPosition, FeedEvent)>> {
        let mut inner = self.feed.inner.lock();
        let open = inner.open && !inner.nodes.values().any(|node| node.is_awaited);
        // What is not in the snapshot, the gateway ends.
        let is_known = inner.unsettled.is_empty();
        let node = inner.nodes.get_mut(&self.name);
        let node = node.filter(|node| node.subscription == self.serial)?;
        if !open {
            return Some(None);
        }
        let read = match self.read {
            Some(read) => read,
            None if !is_known => return Some(None),
            None => {
                let (first, revision) = node.snapshot();
                self.first = first;
                *self.read.insert(revision)
            }
        };
        if !self.first.is_empty() {
            let [begun, done] = [0, read].map(|revision| node.position(revision));
            // Nobody else need wait while a piece is made.
            drop(inner);
            return Some(self.first.next().map(|event| {
                let position = match (self.first.is_open(), self.first.is_empty()) {
                    (true, _) => FeedPosition::NOWHERE,
                    // Only with all of it is everything known.
                    (false, false) => begun,
                    (false, true) => done,
                };
                (position, event)
            }));
        }
        if let Some(question) = node.questions.pop_front() {
            return Some(Some((node.position(read), question)));
        }
        Some(node.after(read).map(|(revision, event)| {
            self.read = Some(revision);
            (node.position(revision), event)
        }))
    }
}

/// Carries the feed to a gateway of this process, and its reports back, until either ends.
pub async fn carry(
    feed: Arc<Feed>,
    name: NodeName,
    mut subscription: Subscription,
    events: mpsc::Sender<FeedEvent>,
    mut reports: mpsc::Receiver<Report>,
) {
    let down = async {
        let mut pieces = Pieces::default();
        while let Some((_, event)) = subscription.next().await {
            if let Some(event) = pieces.join(event)
                && events.send(event).await.is_err()
            {
                return;
            }
        }
    };
    let up = async {
        while let Some(report) = reports.recv().await {
            feed.report(&name, report);
        }
    };
    tokio::join!(down, up);
}

/// Stands in for a gateway where there is none: reports every endpoint as served, and serves nothing.
///
/// For regions that run the control plane alone, which say so loudly.
pub fn null_gateway(feed: Arc<Feed>, name: NodeName) -> impl Future<Output = ()> + Send {
    let subscription = feed.subscribe_alone(name.clone());
    agree(feed, name, subscription)
}

async fn agree(feed: Arc<Feed>, name: NodeName, mut subscription: Subscription) {
    let listening = |e: &EndpointSpec| Report {
        id: e.id,
        status: EndpointReport::Listening {
            generation: e.generation,
        },
    };
    while let Some((_, event)) = subscription.next().await {
        let answers = match &event {
            FeedEvent::Snapshot { endpoints, .. } => endpoints.iter().map(listening).collect(),
            FeedEvent::Put { endpoint } => vec![listening(endpoint)],
            FeedEvent::Remove { id, .. } => vec![Report {
                id: *id,
                status: EndpointReport::Removed,
            }],
            FeedEvent::Examine { id, number, .. } => vec![Report {
                id: *id,
                status: EndpointReport::Examined {
                    number: *number,
                    examination: Examination::NoNetworks,
                },
            }],
            FeedEvent::Peers { .. } | FeedEvent::Defend { .. } | FeedEvent::Announce { .. } => Vec::new(),
        };
        for answer in answers {
            feed.report(&name, answer);
        }
    }
}
