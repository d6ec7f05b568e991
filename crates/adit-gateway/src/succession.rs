//! From one gateway process to the next, without one refused connection.
//!
//! ```text
//!   old: serves, and waits at its door      new: take_over ─ knocks, receives listeners and gates
//!        hand_over ─ nothing is changed          Gateway::run ─ the first snapshot's endpoints take what is theirs
//!        stops, its connections end   ◀─ done ─  opens its own door
//! ```
//!
//! Addresses and routes stay where they are: the new process finds them. Connections stay with the process that accepted
//! them until they end, their time is up, or the new process is told to end them. Without `done` (the new process died, or took too long) the old one goes on as if nothing had
//! been. Owns when what is handed over; the form of it is the relay's.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adit_model::error_chain;
use adit_relay::{Close, HandOverError, Inherited, knock, open_door};
use tokio::{net::UnixListener, task};

use crate::gateway::Gateway;

/// How long the new process may take to serve everything that it has taken over.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a gateway lets another process follow it.
#[derive(Clone, Debug)]
pub struct Succession {
    /// The file that the next process knocks at.
    pub door: PathBuf,
    /// What becomes of this process's connections then.
    pub ending: Close,
    /// What else it gets, by numbers that are no endpoint's.
    pub keepsakes: Vec<(u128, Arc<OwnedFd>)>,
}

/// Why nothing could be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Nobody is behind the door.
    #[error("no gateway waits at {}: start without taking over", door.display())]
    Nobody {
        /// The file.
        door: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What came.
    #[error("the running gateway hands nothing over")]
    HandOver(#[from] HandOverError),
}

/// Takes over the listeners of the gateway that runs, for [`adit_relay::Config::inherited`]. It goes on serving until this process's
/// gateway does, and is told so.
///
/// # Errors
/// See [`TakeOverError`]; the other gateway goes on.
pub async fn take_over(door: &Path) -> Result<Arc<Inherited>, TakeOverError> {
    let channel = knock(door).map_err(|source| TakeOverError::Nobody {
        door: door.to_owned(),
        source,
    })?;
    let received = task::spawn_blocking(|| Inherited::receive(channel)).await;
    Ok(Arc::new(received.unwrap_or(Err(HandOverError::Gone))?))
}

/// Opens a gateway's door. One that cannot be opened leaves it without a successor, and serving.
pub(crate) fn open(succession: &Succession) -> Option<UnixListener> {
    let opened = open_door(&succession.door).and_then(UnixListener::from_std);
    opened
        .inspect_err(|e| {
            tracing::error!(error = %e, path = %succession.door.display(), "No other gateway can take over from this one.");
        })
        .ok()
}

/// Waits until somebody knocks.
pub(crate) async fn knocked(door: Option<&UnixListener>) -> io::Result<OwnedFd> {
    match door {
        None => std::future::pending().await,
        Some(door) => {
            let channel = door.accept().await?.0.into_std()?;
            channel.set_nonblocking(false)?;
            Ok(channel.into())
        }
    }
}

/// How far a gateway is with its succession.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It does not serve yet all that the process before it did.
    Taking,
    /// It serves.
    Serving,
    /// Another process serves; only connections are left here.
    Followed,
    /// None is left.
    Left,
}

impl Gateway {
    /// Waits until this process serves what the one before it did; at once, where there was none.
    pub async fn serves(&self) {
        self.reached(Stage::Serving).await;
    }

    /// Waits until another process serves what this one did. From then on this one only has connections, and listens to no feed.
    pub async fn followed(&self) {
        self.reached(Stage::Followed).await;
    }

    /// Waits until no connection is left here, either.
    pub async fn left(&self) {
        self.reached(Stage::Left).await;
    }

    async fn reached(&self, stage: Stage) {
        let mut now = self.stage.subscribe();
        // The sender lives as long as the gateway.
        let _ = now.wait_for(|now| *now >= stage).await;
    }

    /// Whether another process has taken over.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.stage.borrow() >= Stage::Followed
    }

    /// Hands over to whoever has knocked, as the gateway was started to, and ends its connections.
    pub(crate) async fn follow_up(self: Arc<Self>, channel: OwnedFd) {
        let Some(succession) = &self.succession else {
            return;
        };
        tracing::info!("Another process takes the listeners over.");
        let channel = Arc::new(channel);
        match self.hand_over(Arc::clone(&channel), succession).await {
            Ok(listeners) => {
                tracing::info!(gateway.listeners = listeners, "Another process serves.");
                let (relay, ending) = (Arc::clone(&self.relay), succession.ending);
                let _ = task::spawn_blocking(move || relay.follow(&*channel, ending)).await;
                tracing::info!("No connection is left here.");
                self.stage.send_replace(Stage::Left);
            }
            Err(e) => tracing::warn!(
                error = error_chain(&e),
                "The other process did not take over; this one goes on."
            ),
        }
    }

    async fn hand_over(
        &self,
        channel: Arc<OwnedFd>,
        succession: &Succession,
    ) -> Result<usize, HandOverError> {
        // What is held stays as it is meanwhile.
        let _unchanged = self.changes.write().await;
        if self.is_leaving() {
            return Err(HandOverError::Gone);
        }
        let mut keepsakes = self.apply.gates().await;
        keepsakes.extend(succession.keepsakes.iter().cloned());
        let relay = Arc::clone(&self.relay);
        let handed = task::spawn_blocking(move || relay.hand_over(&*channel, &keepsakes, PATIENCE)).await;
        let count = handed.unwrap_or(Err(HandOverError::Gone))?;
        self.stage.send_replace(Stage::Followed);
        self.apply.forget_gates().await;
        Ok(count)
    }
}
