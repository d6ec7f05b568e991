//! Whose address it is, when others say that it is theirs (RFC 5227), and when no control plane says anything.
//!
//! ```text
//!   another station announces an address that is held here
//!     in contact  ─► asked: whose is it? ─► not ours any more: we are told to let go of it
//!                                        └► ours: announced once more, at most once in DEFEND_INTERVAL
//!     no contact  ─► yielded at once, connections cut
//!   an address is to be put in the kernel (also: again)
//!     in contact  ─► by the control plane's word
//!     no contact  ─► once nobody has answered a probe; asked again after ASK_INTERVAL
//! ```
//!
//! So two gateways never fight for an address: one without contact always gives way, and of two in contact the control plane
//! names one. Owns this decision and nothing of its execution.

use std::{sync::Arc, time::Duration};

use adit_model::{
    feed::{EndpointReport, EndpointSpec, Report},
    id::EndpointId,
};
use tokio::time::Instant;

use super::{Gateway, OnControlLoss, renew::ANNOUNCEMENTS, work::Obstacle};
use crate::{
    neighbours::{Conflict, Station},
    plan::{At, Held, HeldAddress},
    queue::Queue,
    succession::Stage,
};

/// An address is defended no more often than so (RFC 5227, section 1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is asked, without contact, whether another station has an address: one that is held, and one that is
/// another's.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// How often the control plane is asked whose an address is.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// Another station that has announced an address which is held here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contest {
    by: Station,
    asked: Instant,
    /// The control plane has not said whose it is.
    open: bool,
}

impl Gateway {
    /// Another station has announced an address, or answered a probe for it.
    pub(super) fn heard(&self, conflict: &Conflict, queue: &mut Queue) -> Option<Report> {
        let id = self.claims.lock().holder(&conflict.place, conflict.ip)?;
        let by = conflict.by;
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&id)?;
        let held = line.address()?;
        if held.place != conflict.place || held.at != At::Address(conflict.ip) {
            return None;
        }
        let now = Instant::now();
        if !self.is_in_contact() {
            tracing::warn!(
                endpoint.id = %id, endpoint.ip = %conflict.ip, station.mac = %by,
                "Another station has an endpoint's address, and no control plane says that it is ours: it is left to it."
            );
            line.yields_to = Some(by);
            queue.add(id);
            return None;
        }
        // Whoever is right, two that go on announcing would draw clients to and fro. What was not announced yet still is, once.
        if line.announced > 0 {
            line.announced = ANNOUNCEMENTS;
        }
        let former = line.contest.replace(Contest {
            by,
            asked: now,
            open: true,
        });
        if let Some(former) = former.filter(|former| now < former.asked + QUESTION_INTERVAL) {
            line.contest = Some(Contest {
                asked: former.asked,
                by,
                open: true,
            });
            return None;
        }
        // Whoever gets an endpoint announces it before this one is told to let go: mostly that is all.
        tracing::debug!(
            endpoint.id = %id, endpoint.ip = %conflict.ip, station.mac = %by,
            "Another station has announced an endpoint's address; the control plane is asked whose it is."
        );
        let status = EndpointReport::Contested { by: by.to_string() };
        Some(Report { id, status })
    }

    /// The control plane says that an address is this gateway's, whoever else has announced it.
    pub(super) fn defend(&self, id: EndpointId) {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(&id) else {
            return;
        };
        if let Some(contest) = &mut line.contest {
            contest.open = false;
            tracing::warn!(
                endpoint.id = %id, station.mac = %contest.by,
                "Another station has announced an endpoint's address, which is ours by the control plane's word."
            );
        }
        let now = Instant::now();
        let lately = line.defended.is_some_and(|last| now < last + DEFEND_INTERVAL);
        let Some(held) = line.address().cloned().filter(|_| !lately) else {
            return;
        };
        line.defended = Some(now);
        let apply = Arc::clone(&self.apply);
        tokio::spawn(async move { apply.announce(&held).await });
    }

    /// The address is announced as if it had just come, whatever was announced before.
    pub(super) fn announce_anew(&self, id: EndpointId) {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(&id) else {
            return;
        };
        let Some(held) = line.address().cloned() else {
            return;
        };
        line.announced = 1;
        let apply = Arc::clone(&self.apply);
        tokio::spawn(async move { apply.announce(&held).await });
    }

    /// There is contact with a control plane again, or none any more.
    pub(super) fn contact_turned(&self, there: bool, queue: &mut Queue) {
        let fences = self.on_control_loss == OnControlLoss::Fence;
        if fences && !there {
            tracing::warn!(
                "No control plane answers: nothing is served until one does (--on-control-loss fence)."
            );
        }
        *self.fenced.lock() = fences && !there;
        self.in_contact.send_replace(there);
        for (id, line) in self.lines.lock().iter_mut() {
            let contest = line.contest.take_if(|contest| !there && contest.open);
            if let Some(contest) = contest.filter(|_| line.address().is_some()) {
                line.yields_to = Some(contest.by);
            }
            let missing = line.wanted.is_some() && line.address().is_none();
            if line.yields_to.is_some() || (there && missing) || (fences && !there) {
                queue.add(*id);
            }
        }
    }

    /// Whether a control plane's word counts, which is what this gateway knows to be wanted.
    pub(super) fn is_in_contact(&self) -> bool {
        *self.in_contact.borrow() && self.contact.is_there()
    }

    /// Why an endpoint is not served, though it is wanted.
    pub(super) fn is_withheld(&self, held: &Held, yields_to: Option<Station>) -> Option<Obstacle> {
        let at = held.address.as_ref().map(|held| held.at.clone());
        match (yields_to, at) {
            (Some(by), Some(at)) => Some(Obstacle::Taken { at, by }),
            _ => self.is_fenced().then_some(Obstacle::Fenced),
        }
    }

    /// Whether nothing is served for want of a control plane.
    pub(super) fn is_fenced(&self) -> bool {
        *self.fenced.lock()
    }

    /// Which other station has an address that is to be put in the kernel; asked only where no control plane says whose it is.
    /// `spec` is what was wanted when this work began: where something else is by now, the address is not taken by that, not
    /// even for a moment, since whoever has it would lose its clients.
    pub(super) async fn look_who_has(
        &self,
        id: EndpointId,
        spec: Option<&EndpointSpec>,
        wanted: &HeldAddress,
    ) -> Result<Option<Station>, Obstacle> {
        // The process before this one, which is about to hand over, has it on this very machine.
        let succeeds = *self.stage.borrow() == Stage::Taking;
        let mut found = None;
        if !self.is_in_contact() && !succeeds {
            let mut told = self.in_contact.subscribe();
            found = tokio::select! {
                _ = told.wait_for(|told| *told) => return Err(Obstacle::Told),
                found = self.apply.probe(wanted) => found?,
            };
        }
        let lines = self.lines.lock();
        let is_wanted = lines.get(&id).is_some_and(|line| line.wanted.as_ref() == spec);
        match is_wanted {
            true => Ok(found),
            false => Err(Obstacle::Told),
        }
    }
}
