//! Whether everything in a store agrees with everything else: each key reads, each document is one of its kind, and what one
//! key says of another is so. Pure.
//!
//! It knows which keys come and go together (see [`crate::keys`]): a resource's quota slot, marker id, addresses, claims,
//! bindings and guards. What reconcilers are in the middle of is no fault. Never mends anything. Networks that are not in
//! this store are not looked for.

use std::net::Ipv4Addr;

use adit_model::{
    account::Account,
    endpoint::{Endpoint, EndpointStatus, Leg, Source},
    id::{EndpointId, PoolId, PortId, ProjectId, RouteTableId, ServiceId, SubnetId, VpcId},
    network::{Holder, LoadBalancer, OWNER_ENDPOINT, Port, RouteTable, Subnet, Vpc},
    node::{Drain, Node},
    placement::Placement,
    pool::Pool,
    port_mapping::{Claims, Protocol},
    quota::{Limits, QuotaType},
    service::{Service, ServiceStatus},
    whitelist::Whitelist,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cache::View,
    keys::{self, DecodeError, KINDS, Key},
    state::State,
    store::{Change, Entry},
};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The key that is wrong, or missing.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Looks at a whole store: all its entries, in order of key. Answers what is wrong, in order of key.
pub fn check(entries: &[Entry]) -> Vec<Finding> {
    let mut checker = Checker {
        entries,
        state: State::default(),
        findings: Vec::new(),
    };
    let mut sound = Vec::new();
    for entry in entries {
        match read(entry) {
            Ok(key) => {
                let change = Change {
                    key: entry.key.clone(),
                    entry: Some(entry.clone()),
                };
                checker.state.apply(State::read(&change));
                sound.extend(key);
            }
            Err(problem) => checker.wrong(&*entry.key, problem),
        }
    }
    for key in &sound {
        checker.look(key);
    }
    checker.look_at_vnis();
    let mut findings = checker.findings;
    findings.sort();
    findings.dedup();
    findings
}

/// Reads a key and its value. `None` is a key that is its owner's business.
fn read(entry: &Entry) -> Result<Option<Key>, String> {
    let kind = entry.key.split('/').next().unwrap_or_default();
    let Some(key) = Key::parse(&entry.key) else {
        return match KINDS.contains(&kind) {
            true => Err(format!("it is no key of the kind {kind:?}")),
            false => whole::<serde_json::Value>(entry).map(|_| None),
        };
    };
    if key.to_string() != *entry.key {
        return Err(format!("such a key is written {key}"));
    }
    let named = |matches: bool| match matches {
        true => Ok(()),
        false => Err("its document is of another id".to_owned()),
    };
    match &key {
        Key::Service(id) => named(whole::<Service>(entry)?.id == *id)?,
        Key::Endpoint(id) => named(whole::<Endpoint>(entry)?.id == *id)?,
        Key::Whitelist(_) => drop(whole::<Whitelist>(entry)?),
        Key::Claims(_) => drop(whole::<Claims>(entry)?),
        Key::Address(..) => {
            let _ = whole::<Holder>(entry)?;
        }
        Key::Source(..) | Key::Marker(_) | Key::Binding(..) => {
            let _ = whole::<EndpointId>(entry)?;
        }
        Key::Quota(_, QuotaType::Endpoint, _) => {
            let _ = whole::<EndpointId>(entry)?;
        }
        Key::Quota(_, QuotaType::EndpointService, _) | Key::PublicName(_) => {
            let _ = whole::<ServiceId>(entry)?;
        }
        Key::Limits(_) => drop(whole::<Limits>(entry)?),
        Key::Account(_) => drop(whole::<Account>(entry)?),
        Key::Pool(id) => named(whole::<Pool>(entry)?.id == *id)?,
        Key::Node(name) => named(whole::<Node>(entry)?.name == *name)?,
        Key::Drain(name) => named(whole::<Drain>(entry)?.name == *name)?,
        Key::Placement(_) => drop(whole::<Placement>(entry)?),
        Key::Guard(_) => whole::<()>(entry)?,
        Key::Vpc(id) => named(whole::<Vpc>(entry)?.id == *id)?,
        Key::Subnet(id) => named(whole::<Subnet>(entry)?.id == *id)?,
        Key::Port(id) => named(whole::<Port>(entry)?.id == *id)?,
        Key::RouteTable(id) => named(whole::<RouteTable>(entry)?.id == *id)?,
        Key::LoadBalancer(id) => named(whole::<LoadBalancer>(entry)?.id == *id)?,
    }
    Ok(Some(key))
}

fn whole<T: DeserializeOwned>(entry: &Entry) -> Result<T, String> {
    keys::decode(&entry.value).map_err(|e| match e {
        DecodeError::Json(e) => format!("its value is not a document of its kind: {e}"),
        e => e.to_string(),
    })
}

struct Checker<'a> {
    entries: &'a [Entry],
    state: State,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn wrong(&mut self, key: impl ToString, problem: String) {
        self.findings.push(Finding {
            key: key.to_string(),
            problem,
        });
    }

    fn expect(&mut self, holds: bool, key: &Key, problem: impl FnOnce() -> String) {
        if !holds {
            self.wrong(key, problem());
        }
    }

    /// What a small key holds.
    fn value<T: DeserializeOwned>(&self, key: impl ToString) -> Option<T> {
        let name = key.to_string();
        let found = self
            .entries
            .binary_search_by(|entry| (*entry.key).cmp(&name))
            .ok()?;
        keys::decode(&self.entries[found].value).ok()
    }

    /// Whether the networks are in this store at all.
    fn has_networks(&self) -> bool {
        self.state.vpcs().next().is_some()
    }

    /// What a document needs beside it, and what a small key leads to.
    fn look(&mut self, key: &Key) {
        match key {
            Key::Service(id) => self.look_at_service(*id),
            Key::Endpoint(id) => self.look_at_endpoint(*id),
            Key::Whitelist(id) => {
                let known = self.state.service(id).is_some();
                self.expect(known, key, || format!("there is no service {id}"));
            }
            Key::Claims(port) => self.look_at_claims(key, *port),
            Key::Address(subnet, ip) => self.look_at_address(key, *subnet, *ip),
            Key::Source(vpc, ip) => self.look_at_source(key, *vpc, *ip),
            Key::Marker(marker) => {
                let holder = self.state.marker(*marker);
                let fits = self.endpoint(holder).is_some_and(|e| e.marker == *marker);
                self.expect(fits, key, || no_such("endpoint", holder, "has this marker id"));
            }
            Key::Binding(table, service) => self.look_at_binding(key, *table, *service),
            Key::Quota(project, kind, slot) => self.look_at_slot(key, project, *kind, *slot),
            Key::PublicName(name) => {
                let holder = self.state.public_name(name);
                let service = holder.and_then(|id| self.state.service(&id));
                let fits = service.is_some_and(|s| s.public.is_some() && *s.name == **name);
                self.expect(fits, key, || no_such("public service", holder, "has this name"));
            }
            Key::Guard(of) => self.look_at_guard(key, of),
            Key::Vpc(id) => self.look_at_vpc(key, *id),
            Key::Subnet(id) => self.look_at_subnet(key, *id),
            Key::Port(id) => self.look_at_port(key, *id),
            Key::RouteTable(id) => self.look_at_route_table(key, *id),
            Key::LoadBalancer(id) => {
                let port = self.state.load_balancer(id).map(|balancer| balancer.port);
                let known = port.is_some_and(|port| self.state.port(&port).is_some());
                self.expect(known, key, || no_such("port", port, "is there"));
            }
            Key::Placement(pool) => {
                let placement = self.state.placement(pool).cloned();
                for fault in placement.iter().flat_map(|placement| placement.faults()) {
                    self.wrong(key, fault);
                }
            }
            Key::Limits(_) | Key::Account(_) | Key::Pool(_) | Key::Node(_) | Key::Drain(_) => {}
        }
    }

    fn endpoint(&self, id: Option<EndpointId>) -> Option<&Endpoint> {
        id.and_then(|id| self.state.endpoint(&id))
            .map(|stored| &*stored.value)
    }

    /// A key that a document needs has to hold the document's id.
    fn needs(&mut self, key: Key, holds: bool, who: &str) {
        self.expect(holds, &key, || format!("{who} needs it, and it does not say so"));
    }

    fn look_at_service(&mut self, id: ServiceId) {
        let Some(service) = self.state.service(&id).cloned() else {
            return;
        };
        let who = format!("service/{id}");
        let is_live = service.status() != ServiceStatus::Deleting;
        if let Some(slot) = service.quota_slot.filter(|_| is_live) {
            let key = Key::Quota(service.project.clone(), QuotaType::EndpointService, slot);
            let holds = self.value(&key) == Some(id);
            self.needs(key, holds, &who);
        }
        if service.public.is_some() && is_live {
            let holds = self.state.public_name(&service.name) == Some(id);
            self.needs(Key::PublicName(service.name.to_string()), holds, &who);
        }
        if matches!(
            service.status(),
            ServiceStatus::Creating | ServiceStatus::Available
        ) {
            for port in service.backend_ports() {
                let claims = self.state.claims_of(&port);
                let claims = claims.map(|stored| stored.claims.clone()).unwrap_or_default();
                let all = service.ports.iter().all(|mapping| {
                    let of_it = claims.iter().filter(|claim| claim.service == id);
                    of_it
                        .into_iter()
                        .any(|c| (c.server_port, c.protocol) == (mapping.server_port, mapping.protocol))
                });
                self.needs(Key::Claims(port), all, &who);
            }
        }
        if !self.state.endpoints_of_service(id).is_empty() {
            self.needs_guard(Key::Service(id), &who);
        }
        // A service outlives its backends, and they their VPC's subnet.
        let mut ports = service.backend_ports().filter_map(|port| self.state.port(&port));
        let is_joined = ports.any(|port| {
            let subnet = self.state.subnet(&port.subnet);
            subnet.is_some_and(|subnet| subnet.vpc.is_some())
        });
        let known = !is_joined || self.state.vpc(&service.vpc).is_some();
        self.expect(known, &Key::Service(id), || {
            no_such("VPC", Some(service.vpc), "is there")
        });
        self.look_at_pool(&Key::Service(id), service.pool);
        if is_live && self.state.pool(&service.pool).is_some() {
            self.needs_guard(Key::Pool(service.pool), &who);
        }
    }

    fn needs_guard(&mut self, of: Key, who: &str) {
        let holds = self.state.guard(of.clone()).is_some();
        self.expect(holds, &of.guard(), || {
            format!("{who} needs it, and it is not there")
        });
    }

    /// The default pool has no document, but a placement as soon as there was a gateway.
    fn look_at_pool(&mut self, key: &Key, pool: PoolId) {
        let placed = |entry: &Entry| entry.key.starts_with("placement/");
        let first = self.entries.partition_point(|entry| *entry.key < *"placement/");
        let tells = self.entries.get(first).is_some_and(placed);
        let known = self.state.pool(&pool).is_some() || self.state.placement(&pool).is_some();
        self.expect(known || !tells, key, || no_such("pool", Some(pool), "is there"));
    }

    fn look_at_vpc(&mut self, key: &Key, id: VpcId) {
        let Some(vpc) = self.state.vpc(&id).cloned() else {
            return;
        };
        let vni = format!("vni/{}", vpc.vni);
        if self.value(&vni) != Some(id) {
            self.wrong(vni, format!("{key} needs it, and it does not say so"));
        }
        let has_default = self.state.route_tables_of_vpc(id).any(|table| table.default);
        self.expect(has_default, key, || "it has no default route table".to_owned());
    }

    /// The numbers of virtual networks, which are the networks' business and not keys of ours.
    fn look_at_vnis(&mut self) {
        let first = self.entries.partition_point(|entry| *entry.key < *"vni/");
        let entries = self.entries[first..].iter();
        for entry in entries.take_while(|entry| entry.key.starts_with("vni/")) {
            let holder: Option<VpcId> = self.value(&entry.key);
            let vpc = holder.and_then(|id| self.state.vpc(&id));
            if vpc.is_none_or(|vpc| *entry.key != format!("vni/{}", vpc.vni)) {
                self.wrong(&entry.key, no_such("VPC", holder, "has this number"));
            }
        }
    }

    fn look_at_subnet(&mut self, key: &Key, id: SubnetId) {
        let Some(vpc) = self.state.subnet(&id).and_then(|subnet| subnet.vpc) else {
            return;
        };
        let known = self.state.vpc(&vpc).is_some();
        self.expect(known, key, || no_such("VPC", Some(vpc), "is there"));
        self.needs_guard(Key::Vpc(vpc), &key.to_string());
        self.needs_guard(Key::Subnet(id), &key.to_string());
    }

    fn look_at_endpoint(&mut self, id: EndpointId) {
        let Some(endpoint) = self.state.endpoint(&id).cloned() else {
            return;
        };
        let key = Key::Endpoint(id);
        let who = key.to_string();
        let is_live = endpoint.status() != EndpointStatus::Deleting;
        if endpoint.status() != EndpointStatus::Failed {
            let known = self.state.service(&endpoint.service).is_some();
            self.expect(known, &key, || {
                format!("there is no service {}", endpoint.service)
            });
        }
        let holds = self.state.marker(endpoint.marker) == Some(id);
        self.needs(Key::Marker(endpoint.marker), holds, &who);
        if let Some(Source { vpc, ip }) = endpoint.source {
            let holds = self.state.source(vpc, ip) == Some(id);
            self.needs(Key::Source(vpc, ip), holds, &who);
        }
        if !is_live {
            return;
        }
        let slot = Key::Quota(endpoint.project.clone(), QuotaType::Endpoint, endpoint.quota_slot);
        let holds = self.value(&slot) == Some(id);
        self.needs(slot, holds, &who);
        match &endpoint.leg {
            Leg::Interface(leg) => {
                if let Some(ip) = leg.ip {
                    let held = self.state.address(leg.subnet, ip).map(|held| held.holder);
                    let holds = held == Some(Holder::Endpoint(id));
                    self.needs(Key::Address(leg.subnet, ip), holds, &who);
                }
                // It is given its source address when it has its port.
                if endpoint.source.is_some() && self.has_networks() {
                    let port = PortId(id.0);
                    self.needs(Key::Port(port), self.state.port(&port).is_some(), &who);
                }
                self.needs_guard(Key::Subnet(leg.subnet), &who);
            }
            Leg::Gateway(leg) => {
                for table in &leg.route_tables {
                    let held = self
                        .state
                        .binding(*table, endpoint.service)
                        .map(|held| *held.value);
                    self.needs(Key::Binding(*table, endpoint.service), held == Some(id), &who);
                }
                self.needs_guard(Key::Vpc(endpoint.vpc), &who);
            }
        }
        self.look_at_place(&key, &endpoint);
    }

    /// Where a live endpoint is: its subnet or its route tables keep the VPC.
    fn look_at_place(&mut self, key: &Key, endpoint: &Endpoint) {
        self.look_at_pool(key, endpoint.pool);
        if endpoint.status() == EndpointStatus::Failed || !self.has_networks() {
            return;
        }
        let vpc = self.state.vpc(&endpoint.vpc).map(|vpc| vpc.vni);
        let tables = endpoint.gateway().map(|leg| leg.route_tables.as_slice());
        let known = vpc.is_some() || tables.is_some_and(<[_]>::is_empty);
        self.expect(known, key, || no_such("VPC", Some(endpoint.vpc), "is there"));
        let same = endpoint.vni.zip(vpc).is_none_or(|(own, vpc)| own == vpc);
        self.expect(same, key, || {
            "its virtual network's number is not its VPC's".to_owned()
        });
        for table in tables.unwrap_or_default() {
            let known = self.state.route_table(table).is_some();
            self.expect(known, key, || no_such("route table", Some(table), "is there"));
        }
    }

    fn look_at_claims(&mut self, key: &Key, port: PortId) {
        let Some(claims) = self.state.claims_of(&port).cloned() else {
            return;
        };
        let mut pairs: Vec<(u16, Protocol)> = Vec::new();
        for claim in &claims.claims {
            let pair = (claim.server_port, claim.protocol);
            self.expect(!pairs.contains(&pair), key, || {
                format!("port {} is claimed twice", pair.0)
            });
            pairs.push(pair);
            let fits = self.state.service(&claim.service).is_some_and(|service| {
                let served = matches!(
                    service.status(),
                    ServiceStatus::Creating | ServiceStatus::Available
                );
                let mut mappings = service.ports.iter();
                served
                    && service.backend_ports().any(|backend| backend == port)
                    && mappings.any(|mapping| (mapping.server_port, mapping.protocol) == pair)
            });
            self.expect(fits, key, || {
                format!("no service {} serves port {}", claim.service, claim.server_port)
            });
        }
    }

    fn look_at_address(&mut self, key: &Key, subnet: SubnetId, ip: Ipv4Addr) {
        let Some(holder) = self.state.address(subnet, ip).map(|held| held.holder) else {
            return;
        };
        match holder {
            Holder::Port(id) => {
                let port = self.state.port(&id);
                let fits = port.is_some_and(|port| port.subnet == subnet && port.ip == Some(ip));
                self.expect(fits, key, || no_such("port", Some(id), "has this address"));
            }
            // Until the endpoint is told, its port alone knows the address.
            Holder::Endpoint(id) => {
                let endpoint = self.endpoint(Some(id)).and_then(|endpoint| match &endpoint.leg {
                    Leg::Interface(leg) => Some((leg.subnet, leg.ip)),
                    Leg::Gateway(_) => None,
                });
                let fits =
                    endpoint.is_some_and(|(of, known)| of == subnet && known.is_none_or(|known| known == ip));
                self.expect(fits, key, || no_such("endpoint", Some(id), "has this address"));
            }
        }
    }

    fn look_at_source(&mut self, key: &Key, vpc: VpcId, ip: Ipv4Addr) {
        let holder = self.state.source(vpc, ip);
        let fits = self
            .endpoint(holder)
            .is_some_and(|endpoint| endpoint.source == Some(Source { vpc, ip }));
        self.expect(fits, key, || {
            no_such("endpoint", holder, "has this source address")
        });
    }

    fn look_at_binding(&mut self, key: &Key, table: RouteTableId, service: ServiceId) {
        let holder = self.state.binding(table, service).map(|held| *held.value);
        let fits = self.endpoint(holder).is_some_and(|endpoint| {
            let bound = endpoint
                .gateway()
                .is_some_and(|leg| leg.route_tables.contains(&table));
            bound && endpoint.service == service && endpoint.status() != EndpointStatus::Deleting
        });
        self.expect(fits, key, || {
            no_such("endpoint", holder, "is bound to this route table")
        });
    }

    fn look_at_slot(&mut self, key: &Key, project: &ProjectId, kind: QuotaType, slot: u32) {
        let (what, fits, holder) = match kind {
            QuotaType::Endpoint => {
                let holder: Option<EndpointId> = self.value(key);
                let endpoint = self.endpoint(holder);
                let fits = endpoint.is_some_and(|e| {
                    e.project == *project && e.quota_slot == slot && e.status() != EndpointStatus::Deleting
                });
                ("endpoint", fits, holder.map(|id| id.to_string()))
            }
            QuotaType::EndpointService => {
                let holder: Option<ServiceId> = self.value(key);
                let service = holder.and_then(|id| self.state.service(&id));
                let fits = service.is_some_and(|s| {
                    s.project == *project
                        && s.quota_slot == Some(slot)
                        && s.status() != ServiceStatus::Deleting
                });
                ("service", fits, holder.map(|id| id.to_string()))
            }
        };
        self.expect(fits, key, || no_such(what, holder, "fills this slot"));
    }

    fn look_at_guard(&mut self, key: &Key, of: &Key) {
        let known = match of {
            Key::Service(id) => self.state.service(id).is_some(),
            Key::Vpc(id) if self.has_networks() => self.state.vpc(id).is_some(),
            Key::Subnet(id) if self.has_networks() => self.state.subnet(id).is_some(),
            Key::Port(id) if self.has_networks() => self.state.port(id).is_some(),
            _ => true,
        };
        self.expect(known, key, || format!("there is no {of}"));
    }

    fn look_at_route_table(&mut self, key: &Key, id: RouteTableId) {
        let Some(table) = self.state.route_table(&id).cloned() else {
            return;
        };
        let known = self.state.vpc(&table.vpc).is_some();
        self.expect(known, key, || no_such("VPC", Some(table.vpc), "is there"));
        for route in table.routes.iter().filter(|route| route.is_endpoint()) {
            // The routes of an endpoint go before it does.
            let endpoint = self.endpoint(route.nexthop.parse().ok());
            let fits =
                endpoint.is_some_and(|endpoint| endpoint.vpc == table.vpc && endpoint.gateway().is_some());
            self.expect(fits, key, || {
                no_such("endpoint", Some(&route.nexthop), "is what a route leads to")
            });
        }
    }

    fn look_at_port(&mut self, key: &Key, id: PortId) {
        let Some(port) = self.state.port(&id).cloned() else {
            return;
        };
        let known = self.state.subnet(&port.subnet).is_some();
        self.expect(known, key, || format!("there is no subnet {}", port.subnet));
        self.needs_guard(Key::Subnet(port.subnet), &key.to_string());
        let Some(ip) = port.ip else {
            return;
        };
        let held = self.state.address(port.subnet, ip).map(|held| held.holder);
        let holds = match port.device_owner == OWNER_ENDPOINT {
            false => held == Some(Holder::Port(id)),
            true => {
                let endpoint = EndpointId(id.0);
                let is_leaving = self
                    .endpoint(Some(endpoint))
                    .is_some_and(|endpoint| endpoint.status() == EndpointStatus::Deleting);
                // Its address is free as soon as its deletion is answered, and may be somebody else's.
                held == Some(Holder::Endpoint(endpoint)) || is_leaving
            }
        };
        self.needs(Key::Address(port.subnet, ip), holds, &key.to_string());
    }
}

fn no_such(what: &str, id: Option<impl std::fmt::Display>, does: &str) -> String {
    match id {
        Some(id) => format!("no {what} {id} {does}"),
        None => format!("no {what} {does}"),
    }
}
