//! Route tables and their custom routes.

use adit_model::{
    id::{EndpointId, ProjectId, RouteTableId, VpcId},
    network::{Route, RouteClash, RouteTable, Subnet, route_to_endpoint},
};
use adit_server::NetworkError;
use adit_store::{Key, State, Stored, Txn, keys::encode};
use ipnet::Ipv4Net;

use super::{Clash, Failure, Kind, compare_guard, own_vpc, put_guard, reservation::unavailable};
use crate::cloud::Cloud;

/// Most route tables of a VPC: all of them are compared by whoever decides on the VPC's routes.
const TABLES_MAX: usize = 10;
/// Most custom routes of a table, as the real service has it.
pub(super) const ROUTES_MAX: usize = 200;

/// What a new route table is to be.
#[derive(Clone, Debug)]
pub struct RouteTableCreate {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The VPC that it belongs to.
    pub vpc: VpcId,
    /// Its first routes.
    pub routes: Vec<Route>,
}

/// What of a route table is to change.
#[derive(Clone, Debug, Default)]
pub struct RouteTableUpdate {
    /// Its name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Routes to take out, by destination; done first.
    pub delete: Vec<Ipv4Net>,
    /// Routes to change, by destination.
    pub modify: Vec<Route>,
    /// Routes to add.
    pub add: Vec<Route>,
}

/// How a router's routes are to change, in Neutron's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterRoutes {
    /// These and no others.
    Replace,
    /// These too.
    Add,
    /// These no more.
    Remove,
}

/// A route table, and the subnets that it routes for.
#[derive(Clone, Debug)]
pub struct RouteTableSeen {
    /// The table.
    pub table: Stored<RouteTable>,
    /// The VPC's subnets, which all follow its default table.
    pub subnets: Vec<Stored<Subnet>>,
}

impl RouteTableSeen {
    fn of(state: &State, table: &Stored<RouteTable>) -> Self {
        let mut subnets = Vec::new();
        if table.default {
            subnets.extend(state.subnets_of_vpc(table.vpc).cloned());
        }
        Self {
            table: table.clone(),
            subnets,
        }
    }
}

impl Cloud {
    pub(crate) async fn route_table_create(
        &self,
        project: &ProjectId,
        wanted: RouteTableCreate,
    ) -> Result<RouteTableId, Failure> {
        self.decide(|state| {
            let RouteTableCreate {
                name,
                description,
                vpc,
                routes,
            } = wanted.clone();
            let parent = own_vpc(state, project, vpc)?;
            if state.route_tables_of_vpc(vpc).count() >= TABLES_MAX {
                return Err(Failure::clash(
                    Clash::Quota,
                    format!("VPC {vpc} has {TABLES_MAX} route tables, which is the limit."),
                ));
            }
            let created = self.created();
            let mut table = RouteTable {
                id: RouteTableId::random(),
                project: project.clone(),
                vpc,
                name,
                description,
                default: false,
                routes: Vec::new(),
                created,
                updated_at: created.at,
            };
            change_routes(
                &mut table.routes,
                &RouteTableUpdate {
                    add: routes,
                    ..Default::default()
                },
            )?;
            let txn = Txn::new().unchanged(Key::Vpc(vpc), parent.revision);
            // Compared too, so that the count holds.
            let txn = put_guard(compare_guard(txn, Key::Vpc(vpc), state), Key::Vpc(vpc));
            Ok((txn.put(Key::RouteTable(table.id), encode(&table)), table.id))
        })
        .await
    }

    pub(crate) async fn route_table_list(&self, project: &ProjectId) -> Result<Vec<RouteTableSeen>, Failure> {
        self.look(|state| {
            let own = state.route_tables().filter(|table| table.project == *project);
            own.map(|table| RouteTableSeen::of(state, table)).collect()
        })
        .await
    }

    pub(crate) async fn route_table_show(
        &self,
        project: &ProjectId,
        id: RouteTableId,
    ) -> Result<RouteTableSeen, Failure> {
        self.look(|state| own_table(state, project, id).map(|table| RouteTableSeen::of(state, &table)))
            .await?
    }

    pub(crate) async fn route_table_update(
        &self,
        project: &ProjectId,
        id: RouteTableId,
        update: RouteTableUpdate,
    ) -> Result<(), Failure> {
        self.decide(|state| {
            let old = own_table(state, project, id)?;
            let mut table = (*old.value).clone();
            change_routes(&mut table.routes, &update)?;
            table.name = update.name.clone().unwrap_or(table.name);
            table.description = update.description.clone().unwrap_or(table.description);
            Ok((self.plan_table(&old, table), ()))
        })
        .await
    }

    pub(crate) async fn route_table_delete(
        &self,
        project: &ProjectId,
        id: RouteTableId,
    ) -> Result<(), Failure> {
        self.decide(|state| {
            let old = own_table(state, project, id)?;
            if old.default {
                return Err(Failure::clash(
                    Clash::DefaultTable,
                    format!(
                        "Route table {id} is the default one of VPC {} and goes with it.",
                        old.vpc
                    ),
                ));
            }
            check_unbound(state, id, Clash::RouteTableInUse)?;
            let txn = Txn::new()
                .unchanged(Key::RouteTable(id), old.revision)
                .delete(Key::RouteTable(id));
            // An endpoint that comes to be behind one of the VPC's tables puts its guard.
            Ok((compare_guard(txn, Key::Vpc(old.vpc), state), ()))
        })
        .await
    }

    /// Makes a VPC's route tables lead to a gateway endpoint: those in `tables` to exactly the `prefixes`, the others not at
    /// all. First those that are to lead there, so that an endpoint that changes its tables is never without.
    pub(super) async fn route_endpoint(
        &self,
        endpoint: EndpointId,
        vpc: VpcId,
        tables: &[RouteTableId],
        prefixes: &[Ipv4Net],
    ) -> Result<(), NetworkError> {
        let all: Vec<RouteTableId> = self
            .look(|state| state.route_tables_of_vpc(vpc).map(|table| table.id).collect())
            .await
            .map_err(unavailable)?;
        if let Some(gone) = tables.iter().find(|table| !all.contains(table)) {
            return Err(NetworkError::NotFound(format!("route table {gone}")));
        }
        for table in tables {
            self.route_one(endpoint, *table, prefixes).await?;
        }
        for table in all.iter().filter(|table| !tables.contains(table)) {
            self.route_one(endpoint, *table, &[]).await?;
        }
        Ok(())
    }

    async fn route_one(
        &self,
        endpoint: EndpointId,
        id: RouteTableId,
        prefixes: &[Ipv4Net],
    ) -> Result<(), NetworkError> {
        let decided = self.decide(|state| {
            let Some(old) = state.route_table(&id) else {
                return Ok((Txn::new(), Ok(())));
            };
            // Routes to an endpoint that is gone, or on its way, would stay for ever.
            let stands = state.endpoint(&endpoint).filter(|e| e.is_live());
            let prefixes = stands.map_or(&[][..], |_| prefixes);
            let routes = match route_to_endpoint(&old.routes, endpoint, prefixes, ROUTES_MAX) {
                Ok(routes) if routes == old.routes => return Ok((Txn::new(), Ok(()))),
                Ok(routes) => routes,
                Err(why) => return Ok((Txn::new(), Err(refusal(state, id, why)))),
            };
            let table = RouteTable {
                routes,
                ..(*old.value).clone()
            };
            let mut txn = self.plan_table(old, table);
            if let Some(endpoint) = stands {
                txn = txn.unchanged(Key::Endpoint(endpoint.id), endpoint.revision);
            }
            Ok((txn, Ok(())))
        });
        decided.await.map_err(unavailable)?
    }

    /// The custom routes of a router: those of its default table, less those to endpoints, which Neutron knows nothing of.
    pub(crate) async fn router_routes(
        &self,
        project: &ProjectId,
        router: VpcId,
    ) -> Result<Vec<Route>, Failure> {
        self.look(|state| {
            let table = default_table(state, project, router)?;
            Ok(table
                .routes
                .iter()
                .filter(|r| !r.is_endpoint())
                .cloned()
                .collect())
        })
        .await?
    }

    /// Changes a router's routes in Neutron's form. Routes that stay keep their type and description.
    pub(crate) async fn router_routes_update(
        &self,
        project: &ProjectId,
        router: VpcId,
        how: RouterRoutes,
        routes: Vec<Route>,
    ) -> Result<(), Failure> {
        self.decide(|state| {
            let old = default_table(state, project, router)?;
            let same = |a: &Route, b: &Route| a.destination == b.destination && a.nexthop == b.nexthop;
            let mut table = (*old.value).clone();
            let named = |route: &Route| routes.iter().any(|r| same(r, route));
            match how {
                RouterRoutes::Replace => table.routes.retain(|route| route.is_endpoint() || named(route)),
                RouterRoutes::Remove => table.routes.retain(|route| route.is_endpoint() || !named(route)),
                RouterRoutes::Add => {}
            }
            if how != RouterRoutes::Remove {
                let known = table.routes.clone();
                let new = routes
                    .iter()
                    .filter(|route| !known.iter().any(|r| same(r, route)));
                let add = new.cloned().collect();
                change_routes(
                    &mut table.routes,
                    &RouteTableUpdate {
                        add,
                        ..Default::default()
                    },
                )?;
            }
            Ok((self.plan_table(&old, table), ()))
        })
        .await
    }

    fn plan_table(&self, old: &Stored<RouteTable>, mut table: RouteTable) -> Txn {
        table.updated_at = self.now().at_least(table.updated_at);
        let key = Key::RouteTable(table.id);
        Txn::new()
            .unchanged(key.clone(), old.revision)
            .put(key, encode(&table))
    }
}

pub(super) fn own_table(
    state: &State,
    project: &ProjectId,
    id: RouteTableId,
) -> Result<Stored<RouteTable>, Failure> {
    let found = state.route_table(&id).filter(|table| table.project == *project);
    found
        .cloned()
        .ok_or_else(|| Failure::not_found(Kind::RouteTable, id))
}

fn default_table(state: &State, project: &ProjectId, vpc: VpcId) -> Result<Stored<RouteTable>, Failure> {
    own_vpc(state, project, vpc)?;
    let found = state.route_tables_of_vpc(vpc).find(|table| table.default);
    found
        .cloned()
        .ok_or_else(|| Failure::not_found(Kind::RouteTable, format!("of VPC {vpc}")))
}

/// What of a clash is worth another try: a route of an endpoint that is gone, or on its way, goes by itself.
fn refusal(state: &State, table: RouteTableId, why: RouteClash) -> NetworkError {
    if let RouteClash::Endpoint(_, other) = &why {
        let found = other.parse().ok().and_then(|id| state.endpoint(&id));
        if found.is_none_or(|endpoint| !endpoint.is_live()) {
            return NetworkError::Unavailable(format!("route table {table}: {why}, which is on its way out"));
        }
    }
    NetworkError::Route { table, why }
}

/// Refuses where an endpoint is behind a table.
pub(super) fn check_unbound(state: &State, table: RouteTableId, clash: Clash) -> Result<(), Failure> {
    match state.bindings_of_table(table).next() {
        None => Ok(()),
        Some((_, endpoint)) => Err(Failure::clash(
            clash,
            format!(
                "Route table {table} is in use: endpoint {} is behind it.",
                endpoint.value
            ),
        )),
    }
}

/// Deletes, modifies, adds, in this order; each destination occurs once. Routes to endpoints are the service's own.
fn change_routes(routes: &mut Vec<Route>, update: &RouteTableUpdate) -> Result<(), Failure> {
    let unknown = |destination| Failure::Invalid(format!("routes: the table has no route to {destination}."));
    let named = update
        .delete
        .iter()
        .chain(update.modify.iter().map(|r| &r.destination));
    for destination in named {
        let theirs = |r: &&Route| r.destination == *destination && r.is_endpoint();
        if let Some(route) = routes.iter().find(theirs) {
            return Err(Failure::clash(
                Clash::RouteInUse,
                format!(
                    "routes: the route to {destination} is endpoint {}'s, and goes with it.",
                    route.nexthop
                ),
            ));
        }
    }
    for destination in &update.delete {
        let at = routes
            .iter()
            .position(|r| r.destination == *destination)
            .ok_or_else(|| unknown(destination))?;
        routes.remove(at);
    }
    for new in &update.modify {
        let old = routes.iter_mut().find(|r| r.destination == new.destination);
        *old.ok_or_else(|| unknown(&new.destination))? = new.clone();
    }
    for new in &update.add {
        if routes.iter().any(|r| r.destination == new.destination) {
            return Err(Failure::Invalid(format!(
                "routes: the table has a route to {} already.",
                new.destination
            )));
        }
        routes.push(new.clone());
    }
    if routes.len() > ROUTES_MAX {
        return Err(Failure::clash(
            Clash::Quota,
            format!(
                "routes: the table would have {} of at most {ROUTES_MAX} routes.",
                routes.len()
            ),
        ));
    }
    Ok(())
}
