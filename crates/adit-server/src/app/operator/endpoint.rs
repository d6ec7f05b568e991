//! Endpoints of all projects, and their switch.

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    ApiError, Code,
    body::{self, Body},
    endpoint::{Endpoint, EndpointStatus, parse_drain_s, parse_enable_status},
    id::{EndpointId, ProjectId, ServiceId, VpcId},
    listing::{LIMIT_MAX, Listing, Query},
    name,
};
use adit_store::{Key, State, Txn, keys::encode};

use super::Whose;
use crate::{
    app::{ATTEMPTS_MAX, App, endpoint::EndpointSeen},
    error::Failure,
};

/// What an endpoint waits for where nobody can say.
const NO_LEADER: &str = "no process of the control plane leads just now, or it does not answer";

/// An endpoint, as the operator sees it.
#[derive(Clone, Debug)]
pub struct EndpointInspected {
    /// As its owner sees it.
    pub seen: EndpointSeen,
    /// The project of its service, while that is there.
    pub service_project: Option<ProjectId>,
    /// Why it does not answer yet, as far as a gateway has said.
    pub waiting_for: Option<String>,
    /// The address that the backend sees; a gateway of its own process knows it alone.
    pub source: Option<Ipv4Addr>,
}

impl App {
    fn inspect(state: &State, endpoint: Arc<Endpoint>) -> EndpointInspected {
        EndpointInspected {
            service_project: state.service(&endpoint.service).map(|s| s.project.clone()),
            waiting_for: None,
            source: None,
            seen: EndpointSeen::of(state, endpoint),
        }
    }

    /// Adds what the documents do not say: what those wait for that are not ready, and where connections come from.
    async fn ask_about(&self, mut inspected: Vec<EndpointInspected>) -> Vec<EndpointInspected> {
        if self.feed.is_alone() {
            for endpoint in &mut inspected {
                endpoint.source = endpoint.seen.endpoint.source.map(|source| source.ip);
            }
        }
        let creating = |e: &&mut EndpointInspected| e.seen.endpoint.status() == EndpointStatus::Creating;
        let waiting = inspected.iter_mut().filter(creating);
        let waiting: Vec<_> = waiting.collect();
        let words = self
            .words(waiting.iter().map(|e| e.seen.endpoint.id).collect())
            .await;
        for (n, endpoint) in waiting.into_iter().enumerate() {
            endpoint.waiting_for = match &words {
                Some(words) => words[n].waiting.clone(),
                None => Some(NO_LEADER.to_owned()),
            };
        }
        inspected
    }

    /// A page of all endpoints, and how many there are.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_endpoint_list(
        &self,
        query: &Query,
    ) -> Result<(Vec<EndpointInspected>, usize), Failure> {
        let whose = Whose::parse(query)?;
        let name = query.get("endpoint_service_name");
        name.map_or(Ok(()), name::check_filter)?;
        let id = query.id::<EndpointId>("id", Code::E2017)?;
        let service = query.id::<ServiceId>("endpoint_service_id", Code::E3062)?;
        let status = query.status(EndpointStatus::from_wire)?;
        let vpc = query.id::<VpcId>("vpc_id", Code::E0020)?;
        let disabled = parse_switch(query)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        let name = name.map(str::to_lowercase);
        self.barrier().await?;
        let (seen, total) = {
            let state = self.cache.read();
            let named = |e: &Endpoint| match (&name, state.service(&e.service)) {
                (None, _) => true,
                (Some(name), Some(service)) => service.name.to_lowercase().contains(name),
                (Some(name), None) => e.service_name.to_lowercase().contains(name),
            };
            let matching: Vec<_> = state
                .endpoints()
                .filter(|e| whose.fits(&e.project, &e.domain))
                .filter(|e| id.is_none_or(|id| e.id == id))
                .filter(|e| service.is_none_or(|service| e.service == service))
                .filter(|e| status.is_none_or(|status| e.status() == status))
                .filter(|e| vpc.is_none_or(|vpc| e.vpc == vpc))
                .filter(|e| disabled.is_none_or(|disabled| e.is_disabled() == disabled))
                .filter(|e| named(e))
                .collect();
            let total = matching.len();
            let page = listing.page(matching, |e| (e.created, e.updated_at));
            let seen = page
                .into_iter()
                .map(|e| Self::inspect(&state, Arc::clone(&e.value)));
            (seen.collect(), total)
        };
        Ok((self.ask_about(seen).await, total))
    }

    /// Any endpoint.
    ///
    /// # Errors
    /// 2006.
    pub async fn operator_endpoint_show(&self, id: EndpointId) -> Result<EndpointInspected, Failure> {
        self.barrier().await?;
        let seen = {
            let state = self.cache.read();
            let endpoint = state.endpoint(&id).ok_or_else(|| absent(id))?;
            Self::inspect(&state, Arc::clone(&endpoint.value))
        };
        let mut seen = self.ask_about(vec![seen]).await;
        seen.pop().ok_or_else(|| absent(id).into())
    }

    /// Switches an endpoint on or off, and waits a bounded moment until its gateway has: off means that what was open is
    /// cut, or may go on for as long as the call says, or else the region's setting.
    ///
    /// # Errors
    /// 2002, 0002 (the words); 2006; 2018 in `deleting`.
    pub async fn operator_endpoint_set(
        &self,
        id: EndpointId,
        body: &Body,
    ) -> Result<EndpointInspected, Failure> {
        let on = parse_enable_status(body)?;
        let drain_s = parse_drain_s(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let old = state.endpoint(&id).ok_or_else(|| absent(id))?;
                let mut new = (*old.value).clone();
                let changed = new.switch(on, self.now())?;
                let drains = new.drain(true, drain_s.filter(|_| !on));
                (changed || drains).then(|| {
                    Txn::new()
                        .unchanged(Key::Endpoint(id), old.revision)
                        .put(Key::Endpoint(id), encode(&new))
                })
            };
            let done = match txn {
                None => true,
                Some(txn) => self.commit(txn).await?,
            };
            if done {
                self.on_the_wire(vec![id]).await;
                return self.operator_endpoint_show(id).await;
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}

pub(super) fn absent(id: EndpointId) -> ApiError {
    ApiError::because(Code::E2006, format!("There is no endpoint {id}."))
}

/// The `enable_status` filter: whether those are wanted that are switched off.
fn parse_switch(query: &Query) -> Result<Option<bool>, ApiError> {
    match query.get("enable_status") {
        None => Ok(None),
        Some("enable") => Ok(Some(false)),
        Some("disable") => Ok(Some(true)),
        Some(other) => Err(ApiError::because(
            Code::E0019,
            format!(
                "enable_status: {} is neither enable nor disable.",
                body::quote(other)
            ),
        )),
    }
}
