//! One piece of work: an endpoint, from what is held for it to what is wanted.
//!
//! Owns the order of its steps and what is reported of how they ended.

use std::{collections::HashMap, sync::Arc, time::Duration};

use adit_model::{
    error_chain,
    feed::{EndpointReport, EndpointSpec, Report},
    id::EndpointId,
    service::TcpProxy,
};
use adit_relay::Close;
use tokio::{task, time::Instant};

use super::{
    Gateway, RETRY_MAX, RETRY_MIN,
    dispute::{ASK_INTERVAL, Contest},
};
use crate::{
    apply::{ApplyError, Terms},
    claims::AddressHeld,
    neighbours::Station,
    plan::{Action, At, Held, HeldAddress, plan},
    queue::Queue,
    setback::Setback,
};

/// How one endpoint stands.
#[derive(Default)]
pub(super) struct Line {
    pub(super) wanted: Option<EndpointSpec>,
    /// Until when its connections may go on once nothing is served.
    pub(super) end_by: Option<Instant>,
    pub(super) held: Held,
    pub(super) running: bool,
    /// Something has changed since the work that is running began.
    pub(super) again: bool,
    pub(super) failures: u32,
    /// Its address may have lapsed since the work that is running began.
    pub(super) lost: bool,
    /// How often it was said that its address is here; not at all before it is listened on.
    pub(super) announced: u8,
    /// Who is to have its address.
    pub(super) yields_to: Option<Station>,
    /// Who else has its address, and what the control plane says of that.
    pub(super) contest: Option<Contest>,
    /// When its address was last defended.
    pub(super) defended: Option<Instant>,
}

impl Line {
    /// The address that it has, as far as is known.
    pub(super) fn address(&self) -> Option<&HeldAddress> {
        self.held
            .address
            .as_ref()
            .filter(|_| !self.lost && !self.held.lost)
    }
}

/// A piece of work: one endpoint, from what is held to what is wanted.
pub(super) struct Task {
    id: EndpointId,
    wanted: Option<EndpointSpec>,
    /// Until when connections may go on once nothing is served.
    end_by: Option<Instant>,
    held: Held,
    yields_to: Option<Station>,
    /// Whether the neighbours were told of the address.
    announced: bool,
}

impl Task {
    fn ending(&self, now: Instant) -> Close {
        match self.end_by.map(|by| by.saturating_duration_since(now)) {
            None | Some(Duration::ZERO) => Close::Cut,
            Some(within) => Close::Drain { within },
        }
    }
}

/// How a piece of work ended.
pub(super) struct Done {
    task: Task,
    result: Result<(), Obstacle>,
}

/// What stands in the way for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    AddressHeld(#[from] AddressHeld),
    #[error("this gateway cannot serve tcp_proxy {0}")]
    Mode(TcpProxy),
    #[error("address {at} is another station's, {by}")]
    Taken { at: At, by: Station },
    #[error("no control plane answers (--on-control-loss fence)")]
    Fenced,
    #[error("something was told meanwhile")]
    Told,
}

impl Obstacle {
    fn setback(&self) -> Option<Setback> {
        match self {
            Self::Apply(error) => Setback::of(error),
            Self::AddressHeld(_) => Some(Setback::AddressHeld),
            Self::Mode(_) => Some(Setback::Mode),
            Self::Taken { .. } => Some(Setback::AddressTaken),
            Self::Fenced => Some(Setback::Fenced),
            Self::Told => None,
        }
    }
}

impl Gateway {
    /// Takes in how a piece of work ended; one that died is done again.
    pub(super) fn ended(
        &self,
        done: Result<(task::Id, Done), task::JoinError>,
        at_work: &mut HashMap<task::Id, EndpointId>,
        queue: &mut Queue,
    ) -> Option<Report> {
        match done {
            Ok((task, done)) => {
                at_work.remove(&task);
                self.finish(done, queue)
            }
            Err(e) => {
                let id = at_work.remove(&e.id())?;
                tracing::error!(endpoint.id = %id, error = %e, "Work on an endpoint died.");
                if let Some(line) = self.lines.lock().get_mut(&id) {
                    line.running = false;
                    queue.add_at(Instant::now() + RETRY_MAX, id);
                }
                None
            }
        }
    }

    /// Takes an endpoint up, unless it is being worked on.
    pub(super) fn begin(&self, id: EndpointId) -> Option<Task> {
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&id)?;
        if line.running {
            line.again = true;
            return None;
        }
        line.running = true;
        line.again = false;
        line.held.lost |= std::mem::take(&mut line.lost) && line.held.address.is_some();
        Some(Task {
            id,
            wanted: line.wanted.clone(),
            end_by: line.end_by,
            held: line.held.clone(),
            announced: line.announced > 0 && !line.held.lost,
            yields_to: line.yields_to.take(),
        })
    }

    /// Leads one endpoint from what is held to what is wanted, as far as it goes.
    pub(super) async fn work(self: Arc<Self>, mut task: Task) -> Done {
        let result = self.lead(&mut task).await;
        Done { task, result }
    }

    async fn lead(&self, task: &mut Task) -> Result<(), Obstacle> {
        let _change = self.changes.read().await;
        let id = task.id;
        let mut ending = task.ending(Instant::now());
        let (wanted_spec, held) = (task.wanted.as_ref(), &mut task.held);
        if self.is_leaving() {
            // Only connections are left here, and the other process says when they end.
            *held = Held::default();
            return Ok(());
        }
        held.connections |= self.apply.connections(id) > 0;
        if wanted_spec.is_some()
            && let Some(obstacle) = self.is_withheld(held, task.yields_to)
        {
            self.withdraw(id, held).await?;
            return Err(obstacle);
        }
        let mut result = Ok(());
        let wanted = match wanted_spec {
            None => None,
            // Served in another way it would be served wrongly.
            Some(spec) if spec.tcp_proxy.has_toa() && !self.sends_toa => {
                result = Err(Obstacle::Mode(spec.tcp_proxy));
                None
            }
            Some(spec) => match self.apply.find(spec).await {
                Ok(found) => Some(found),
                // What is held is of no use without its namespaces.
                Err(e @ ApplyError::Namespace { .. }) => {
                    ending = Close::Cut;
                    result = Err(e.into());
                    None
                }
                // Anything else may pass, and is no reason to touch what works.
                Err(e) => return Err(e.into()),
            },
        };
        if let Some(wanted) = &wanted
            && (held.lost || held.address.as_ref() != Some(&wanted.address))
            && let Some(by) = self.look_who_has(id, wanted_spec, &wanted.address).await?
        {
            let at = wanted.address.at.clone();
            self.withdraw(id, held).await?;
            return Err(Obstacle::Taken { at, by });
        }
        let terms = match wanted_spec {
            Some(spec) => Terms::of(spec, ending),
            None => Terms::without(id, ending),
        };
        if wanted_spec.is_some() {
            self.apply.admit(id, held.listeners.keys().copied(), &terms);
        }
        for action in plan(wanted.as_ref(), held) {
            let address = held.address.as_ref();
            match &action {
                Action::AddAddress(added) => {
                    let service = wanted_spec.map(|spec| spec.service);
                    self.claims.lock().claim(id, service, added)?;
                    let performed = self.apply.perform(id, address, &terms, &action).await;
                    performed.inspect_err(|_| self.claims.lock().unclaim(id, added))?;
                    task.announced = false;
                }
                Action::RemoveAddress(removed) => {
                    // What has lapsed may be another process's by now.
                    match held.lost && matches!(removed.at, At::Address(_)) {
                        true => self.apply.let_lapse(removed).await,
                        false => self.apply.perform(id, address, &terms, &action).await?,
                    }
                    self.claims.lock().unclaim(id, removed);
                }
                _ => {
                    let performed = self.apply.perform(id, address, &terms, &action).await;
                    performed.inspect_err(|_| held.after_failed(&action))?;
                }
            }
            held.after(&action);
        }
        // Who knew the address elsewhere comes here from now on, and finds somebody who listens.
        if let (Some(address), Ok(()), false) = (&held.address, &result, task.announced) {
            self.apply.announce(address).await;
            task.announced = true;
        }
        result
    }

    /// Takes away all that is held for an endpoint. The address goes whatever becomes of the rest; last, so that clients hear
    /// of their connections' end.
    async fn withdraw(&self, id: EndpointId, held: &mut Held) -> Result<(), Obstacle> {
        let terms = Terms::without(id, Close::Cut);
        let mut result = Ok(());
        for action in plan(None, held) {
            let performed = match &action {
                // What has lapsed may be another process's by now.
                Action::RemoveAddress(address) if held.lost && matches!(address.at, At::Address(_)) => {
                    self.apply.let_lapse(address).await;
                    Ok(())
                }
                Action::RemoveAddress(address) => self.apply.remove_address(id, address).await,
                _ => self.apply.perform(id, None, &terms, &action).await,
            };
            match performed {
                Ok(()) => {
                    if let Action::RemoveAddress(address) = &action {
                        self.claims.lock().unclaim(id, address);
                    }
                    held.after(&action);
                }
                Err(e) => result = Err(e.into()),
            }
        }
        result
    }

    /// Notes what is held now, and says what is to be reported.
    fn finish(&self, done: Done, queue: &mut Queue) -> Option<Report> {
        let Done { task, result } = done;
        let Task {
            id,
            wanted,
            held,
            announced,
            ..
        } = task;
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&id)?;
        line.running = false;
        if held.address.is_none() || line.held.lost || line.held.address != held.address {
            line.announced = 0;
        }
        if announced {
            line.announced = line.announced.max(1);
        }
        line.held = held;
        if line.again || line.wanted != wanted {
            queue.add(id);
            return None;
        }
        let status = match (&wanted, result) {
            (None, Ok(())) => {
                lines.remove(&id);
                EndpointReport::Removed
            }
            (Some(spec), Ok(())) => {
                line.failures = 0;
                EndpointReport::Listening {
                    generation: spec.generation,
                }
            }
            (_, Err(Obstacle::Told)) => {
                queue.add(id);
                return None;
            }
            (wanted, Err(obstacle)) => {
                let wait = match obstacle {
                    Obstacle::Taken { .. } | Obstacle::Fenced => ASK_INTERVAL,
                    _ => RETRY_MIN
                        .saturating_mul(1 << line.failures.min(10))
                        .min(RETRY_MAX),
                };
                let setback = obstacle.setback();
                setback.inspect(|setback| self.setbacks.count(*setback));
                let reason = error_chain(&obstacle);
                // What may well pass by itself is the metrics' to tell.
                if line.failures == 0 && setback.is_some_and(Setback::needs_somebody) {
                    tracing::warn!(endpoint.id = %id, endpoint.reason = reason, "An endpoint cannot be served; it is tried again.");
                } else {
                    tracing::debug!(endpoint.id = %id, endpoint.reason = reason, "An endpoint has to wait.");
                }
                line.failures = line.failures.saturating_add(1);
                queue.add_at(Instant::now() + wait, id);
                match wanted {
                    Some(spec) => EndpointReport::Waiting {
                        generation: spec.generation,
                        reason,
                    },
                    // Said once it is true.
                    None => return None,
                }
            }
        };
        Some(Report { id, status })
    }
}
