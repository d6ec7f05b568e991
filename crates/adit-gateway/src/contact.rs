//! Whether a control plane has answered lately: what it says counts only for so long.
//!
//! Owns the moment up to which a gateway may believe that it was not given up. Reckoned from when the gateway spoke, not from
//! when the answer came, so that it ends before the control plane's patience does ([`adit_model::node::SILENCE`]), also after
//! the process was stopped for a while. Never decides what follows from it.

use std::time::Duration;

use adit_model::node::CONTACT;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// As good as for ever.
const ALWAYS: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// Contact with a control plane.
#[derive(Debug)]
pub struct Contact(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Whether the gateway has what the control plane that is spoken to has told.
    fed: bool,
    /// Up to when its last answer counts.
    until: Option<Instant>,
}

impl State {
    fn until(&self) -> Option<Instant> {
        self.until.filter(|_| self.fed)
    }
}

impl Contact {
    /// Without any yet.
    #[must_use]
    pub fn none() -> Self {
        Self(watch::Sender::default())
    }

    /// With a control plane of the same process, which is there as long as this one.
    #[must_use]
    pub fn inside() -> Self {
        let state = State {
            fed: true,
            until: Some(Instant::now() + ALWAYS),
        };
        Self(watch::Sender::new(state))
    }

    /// What the control plane says is known, up to the present.
    pub fn fed(&self) {
        self.0.send_modify(|state| state.fed = true);
    }

    /// It has answered what was said at `spoken`.
    pub fn answered(&self, spoken: Instant) {
        self.0.send_modify(|state| state.until = Some(spoken + CONTACT));
    }

    /// It is lost.
    pub fn lost(&self) {
        self.0.send_replace(State::default());
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0
            .borrow()
            .until()
            .is_some_and(|until| until > Instant::now())
    }

    /// Waits until there is contact and there was none, or the other way round.
    pub(crate) async fn turned(&self, was_there: bool) -> bool {
        let mut changes = self.0.subscribe();
        loop {
            let until = changes.borrow_and_update().until();
            let there = until.is_some_and(|until| until > Instant::now());
            if there != was_there {
                return there;
            }
            // The sender lives as long as this.
            let changed = changes.changed();
            let _ = match until.filter(|_| there) {
                Some(until) => timeout_at(until, changed).await.is_ok(),
                None => changed.await.is_ok(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_counts_from_when_was_spoken_and_only_with_what_was_told() {
        let contact = Contact::none();
        contact.answered(Instant::now());
        assert!(!contact.is_there(), "it is not known yet what is wanted");
        contact.fed();
        assert!(contact.turned(false).await);
        contact.answered(Instant::now() - CONTACT);
        assert!(!contact.is_there(), "the process was stopped meanwhile");
        contact.answered(Instant::now());
        // Nobody says anything any more.
        assert!(!contact.turned(true).await);
        contact.answered(Instant::now());
        contact.lost();
        assert!(!contact.is_there());
        contact.answered(Instant::now());
        assert!(!contact.is_there(), "another may have been told what to do since");
    }

    #[tokio::test]
    async fn who_is_in_the_process_is_there() {
        assert!(Contact::inside().is_there());
    }
}
