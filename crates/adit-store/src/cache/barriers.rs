//! Looks at the store's newest revision: one at a time, each shared by all who came before it began.
//!
//! A look costs a distributed store more than an answer out of the cache, so each is to be shared by as many as ask at the time. Whom
//! one look has told comes back soon with what it asks next, while others have waited for the next look already; begun at once,
//! looks would have half of them each, in turns. So a look waits for most of them, but only a moment.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::store::{Revision, Store, StoreError};

/// Fewer than so many are not waited for.
const GATHER_MIN: usize = 4;
/// How long a look waits for those who may come: the shortest that the clock can, and about as long as a look takes.
const GATHER: Duration = Duration::from_millis(1);

type Look = Result<Revision, StoreError>;

/// What somebody who waits is told.
enum Told {
    /// What a look that began after it came has found.
    Look(Look),
    /// To look itself, for all who wait.
    Turn(Turn),
}

/// Looks that callers share.
#[derive(Default)]
pub(super) struct Barriers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    looks: Mutex<Looks>,
    /// Told when as many wait as are waited for.
    enough: Notify,
}

#[derive(Default)]
struct Looks {
    /// Whether somebody looks, or is about to.
    under_way: bool,
    /// Who shares the next look, beside the one who looks.
    waiting: Vec<oneshot::Sender<Told>>,
    /// How many are likely to share the next look; 0 where a look costs nothing.
    likely: usize,
}

impl Looks {
    fn are_enough(&self) -> bool {
        // Not all of them: one that is slow or gone would keep the others waiting.
        self.waiting.len() + 1 >= self.likely - self.likely / 8
    }
}

impl Barriers {
    /// The newest revision, by a look that begins after this call does: it sees all that was answered before.
    pub(super) async fn pass(&self, store: &dyn Store) -> Look {
        loop {
            let told = {
                let mut looks = self.0.looks.lock();
                if looks.under_way {
                    let (tell, told) = oneshot::channel();
                    looks.waiting.push(tell);
                    if looks.are_enough() {
                        self.0.enough.notify_one();
                    }
                    Some(told)
                } else {
                    looks.under_way = true;
                    None
                }
            };
            match told {
                None => return Turn(Some(Arc::clone(&self.0))).look(store).await,
                Some(told) => match told.await {
                    Ok(Told::Look(look)) => return look,
                    Ok(Told::Turn(turn)) => return turn.look(store).await,
                    // Whoever looked has given up.
                    Err(_) => {}
                },
            }
        }
    }
}

/// The turn to look: given on when it ends, also where whoever has it gives up, or never takes it.
struct Turn(Option<Arc<Shared>>);

impl Turn {
    /// Looks, and tells all who have come before.
    async fn look(self, store: &dyn Store) -> Look {
        let Some(shared) = &self.0 else {
            return store.barrier().await;
        };
        if shared.looks.lock().likely >= GATHER_MIN {
            let gathered = async {
                while !shared.looks.lock().are_enough() {
                    shared.enough.notified().await;
                }
            };
            // Whoever has come by then shares it.
            let _ = timeout(GATHER, gathered).await;
        }
        let sharing = mem::take(&mut shared.looks.lock().waiting);
        let mut asked = store.barrier();
        let at_once = (&mut asked).now_or_never();
        // A store in this process costs nothing to ask: nobody is waited for.
        let costs = at_once.is_none();
        let look = match at_once {
            Some(look) => look,
            None => asked.await,
        };
        {
            let mut looks = shared.looks.lock();
            let likely = sharing.len() + 1 + looks.waiting.len();
            looks.likely = if costs { likely } else { 0 };
        }
        for one in sharing {
            let _ = one.send(Told::Look(look.clone()));
        }
        look
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else {
            return;
        };
        loop {
            let next = {
                let mut looks = shared.looks.lock();
                if looks.waiting.is_empty() {
                    looks.under_way = false;
                    return;
                }
                looks.waiting.remove(0)
            };
            match next.send(Told::Turn(Self(Some(Arc::clone(&shared))))) {
                // Who has gone takes no turn.
                Err(Told::Turn(mut turn)) => drop(turn.0.take()),
                Ok(()) | Err(Told::Look(_)) => return,
            }
        }
    }
}
