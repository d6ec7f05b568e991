//! Changing which route tables a gateway endpoint is behind (spec B.2).

use std::time::Duration;

use adit_model::{
    ApiError, Code,
    body::Body,
    endpoint::{Endpoint, check_route_tables, parse_route_tables_update},
    id::{EndpointId, RouteTableId},
    network::{RouteClash, VpcView, route_to_endpoint},
    service::Backend,
};
use adit_store::{Key, State, Txn, keys::encode};
use ipnet::Ipv4Net;

use super::{
    ATTEMPTS_MAX, App, EFFECT_TIMEOUT, Scope,
    endpoint::{bind, own_endpoint, unbound},
    fence,
};
use crate::error::Failure;

/// How often the network is asked for the effect where nothing else says that it may be there.
const POLL: Duration = Duration::from_millis(100);

/// What has become of a change of route tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTablesSeen {
    /// The endpoint's route tables.
    pub tables: Vec<RouteTableId>,
    /// Those of the wanted ones that cannot be among them, and why.
    pub failed: Vec<(RouteTableId, String)>,
}

impl App {
    /// Replaces a gateway endpoint's route tables, and waits a bounded moment for their routes. Tables that have no room for
    /// the routes are left out and said.
    ///
    /// # Errors
    /// By spec B.2; 4028 where none of the tables has room, and then nothing has changed.
    pub async fn route_table_update(
        &self,
        scope: &Scope,
        id: EndpointId,
        body: &Body,
    ) -> Result<RouteTablesSeen, Failure> {
        let wanted = parse_route_tables_update(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let old = own_endpoint(&self.cache.read(), scope, id)?;
            let mut new = (*old.value).clone();
            new.set_route_tables(wanted.clone(), self.now())?;
            let Some(vpc) = self.network.get_vpc(old.vpc, &scope.project).await? else {
                return Err(Code::E2001.into());
            };
            let exists = match wanted
                .iter()
                .find(|table| vpc.view.route_table(**table).is_none())
            {
                Some(foreign) => self.network.has_route_table(*foreign, &scope.project).await?,
                None => false,
            };
            let (txn, seen, prefixes) = {
                let state = self.cache.read();
                let is_free = |table| {
                    let holder = state.binding(table, old.service);
                    holder.is_none_or(|holder| *holder.value == id)
                };
                check_route_tables(&wanted, &vpc.view, exists, is_free)?;
                let prefixes = prefixes(&state, &old)?;
                let seen = judge(&state, &old, &wanted, &vpc.view, &prefixes)?;
                new.set_route_tables(seen.tables.clone(), self.now())?;
                (plan(&state, &old, &new, old.revision), seen, prefixes)
            };
            if self.commit(fence(txn, &vpc.fences)).await? {
                let effect = self.routed(scope, &new, &seen.tables, &prefixes);
                // Late is not wrong: the reconciler goes on.
                let _ = tokio::time::timeout(EFFECT_TIMEOUT, effect).await;
                return Ok(seen);
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Waits until the network leads the endpoint's tables, and no others of its VPC, to the service.
    async fn routed(
        &self,
        scope: &Scope,
        endpoint: &Endpoint,
        tables: &[RouteTableId],
        prefixes: &[Ipv4Net],
    ) {
        let mut notices = self.cache.subscribe();
        loop {
            match self.network.get_vpc(endpoint.vpc, &scope.project).await {
                Ok(Some(vpc)) if !is_routed(&vpc.view, endpoint.id, tables, prefixes) => {}
                _ => return,
            }
            tokio::select! {
                notice = notices.next() => if notice.is_none() { return },
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

fn is_routed(vpc: &VpcView, endpoint: EndpointId, tables: &[RouteTableId], prefixes: &[Ipv4Net]) -> bool {
    vpc.route_tables.iter().all(|table| {
        let wanted = if tables.contains(&table.id) { prefixes } else { &[] };
        route_to_endpoint(&table.routes, endpoint, wanted, table.routes_max).is_ok_and(|r| r == table.routes)
    })
}

fn prefixes(state: &State, endpoint: &Endpoint) -> Result<Vec<Ipv4Net>, ApiError> {
    match state.service(&endpoint.service).map(|s| &s.backend) {
        Some(Backend::Prefixes { prefixes }) => Ok(prefixes.clone()),
        _ => Err(ApiError::because(
            Code::E2003,
            format!("Endpoint service {} is gone.", endpoint.service),
        )),
    }
}

/// Which of the wanted tables can have the routes. A route of an endpoint on its way out is as good as gone.
fn judge(
    state: &State,
    endpoint: &Endpoint,
    wanted: &[RouteTableId],
    vpc: &VpcView,
    prefixes: &[Ipv4Net],
) -> Result<RouteTablesSeen, ApiError> {
    let bound = endpoint.gateway().map_or(&[][..], |leg| &leg.route_tables);
    let mut seen = RouteTablesSeen {
        tables: Vec::new(),
        failed: Vec::new(),
    };
    for id in wanted {
        let clash = vpc
            .route_table(*id)
            .filter(|_| !bound.contains(id))
            .and_then(|table| route_to_endpoint(&table.routes, endpoint.id, prefixes, table.routes_max).err())
            .filter(|clash| match clash {
                RouteClash::Endpoint(_, other) => is_live(state, other),
                RouteClash::Taken(_) | RouteClash::Full(_) => true,
            });
        match clash {
            None => seen.tables.push(*id),
            Some(clash) => seen.failed.push((*id, clash.to_string())),
        }
    }
    match seen.failed.first() {
        Some((id, why)) if seen.tables.is_empty() => Err(ApiError::because(
            Code::E4028,
            format!("routetables: {id}: {why}."),
        )),
        _ => Ok(seen),
    }
}

fn is_live(state: &State, endpoint: &str) -> bool {
    let found = endpoint.parse().ok().and_then(|id| state.endpoint(&id));
    found.is_some_and(|endpoint| endpoint.is_live())
}

fn plan(state: &State, old: &Endpoint, new: &Endpoint, revision: adit_store::Revision) -> Txn {
    let tables = |endpoint: &Endpoint| {
        endpoint
            .gateway()
            .map_or_else(Vec::new, |leg| leg.route_tables.clone())
    };
    let (before, after) = (tables(old), tables(new));
    let without = |all: &[RouteTableId], others: &[RouteTableId]| -> Vec<RouteTableId> {
        all.iter().filter(|t| !others.contains(t)).copied().collect()
    };
    let txn = Txn::new()
        .unchanged(Key::Endpoint(old.id), revision)
        .put(Key::Endpoint(old.id), encode(new));
    let txn = bind(txn, new, &without(&after, &before));
    unbound(state, old, &without(&before, &after))
        .into_iter()
        .fold(txn, |txn, (key, revision)| {
            txn.unchanged(key.clone(), revision).delete(key)
        })
}
