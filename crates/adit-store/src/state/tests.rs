//! The state that was kept through any history equals what the documents that are left say.
//!
//! Ids are few, so that histories meet themselves: documents move between projects, services, subnets and VPCs, lose
//! their parents, and are replaced by bytes that nobody can read.

mod documents;

use std::fmt::Debug;

use adit_model::{
    endpoint::EndpointStatus,
    listing::{Listing, SortKey},
    network::Holder,
};
use documents::*;
use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::*;
use crate::keys::encode;

/// How many kinds of keys there are; [`put`] knows each, the last is a key of nobody's.
const KINDS: u8 = 25;

/// The key and the value of a document of this kind.
fn put(kind: u8, id: u8, seed: Seed) -> (Arc<str>, Arc<[u8]>) {
    let at = id % IDS;
    let other = seed[3] % IDS;
    let quota = if seed[0].is_multiple_of(2) {
        QuotaType::Endpoint
    } else {
        QuotaType::EndpointService
    };
    let (key, value) = match kind {
        0 => (Key::Service(ServiceId(uuid(at))), encode(&service(at, seed))),
        1 | 2 => (Key::Endpoint(EndpointId(uuid(id))), encode(&endpoint(id, seed))),
        3 => (Key::Whitelist(ServiceId(uuid(at))), encode(&whitelist(seed))),
        4 => (Key::Claims(PortId(uuid(at))), encode(&claims(seed))),
        5 => (
            Key::Address(SubnetId(uuid(at)), ip(other)),
            encode(&Holder::Port(PortId(uuid(seed[0])))),
        ),
        6 => (
            Key::Source(VpcId(uuid(at)), ip(other)),
            encode(&EndpointId(uuid(seed[0]))),
        ),
        7 => (Key::Marker(marker(at)), encode(&EndpointId(uuid(seed[0])))),
        8 | 9 => (
            Key::Quota(project(at), quota, u32::from(seed[3])),
            encode(&ServiceId(uuid(seed[1]))),
        ),
        10 => (
            Key::Limits(project(at)),
            encode(&Limits {
                endpoint_service: u32::from(seed[0]),
                endpoint: u32::from(seed[1]),
            }),
        ),
        11 => (Key::Subnet(SubnetId(uuid(at))).guard(), encode(&())),
        12 => (Key::Vpc(VpcId(uuid(at))), encode(&vpc(at))),
        13 => (Key::Subnet(SubnetId(uuid(at))), encode(&subnet(at, seed))),
        14 => (Key::Port(PortId(uuid(at))), encode(&port(at, seed))),
        15 => (
            Key::RouteTable(RouteTableId(uuid(at))),
            encode(&route_table(at, seed)),
        ),
        16 => (
            Key::LoadBalancer(LoadBalancerId(uuid(at))),
            encode(&load_balancer(at, seed)),
        ),
        17 => (
            Key::Binding(RouteTableId(uuid(at)), ServiceId(uuid(other))),
            encode(&EndpointId(uuid(seed[0]))),
        ),
        18 => (
            Key::PublicName(format!("name {at}")),
            encode(&ServiceId(uuid(seed[0]))),
        ),
        19 => (Key::Account(account_id(at)), encode(&account(seed))),
        20 => (Key::Pool(PoolId(uuid(at))), encode(&pool(at, seed))),
        21 => (Key::Node(node_name(at)), encode(&node(at, seed))),
        22 => (Key::Placement(PoolId(uuid(at))), encode(&placement(seed))),
        23 => (Key::Drain(node_name(at)), encode(&drain(at, seed))),
        _ => return (format!("other/{at}").into(), encode(&seed)),
    };
    (key.into(), value)
}

/// What happens to one key.
#[derive(Clone, Debug)]
enum Deed {
    Put,
    /// Bytes of no document.
    Spoil,
    Delete,
}

fn history() -> impl Strategy<Value = Vec<(Deed, u8, u8, Seed)>> {
    let deed = prop_oneof![6 => Just(Deed::Put), 1 => Just(Deed::Spoil), 3 => Just(Deed::Delete)];
    let seed = [0..IDS, 0..IDS, 0..4u8, 0..6u8];
    prop::collection::vec((deed, 0..KINDS, 0..2 * IDS, seed), 0..120)
}

/// What the store holds.
type Stock = BTreeMap<Arc<str>, Entry>;

fn change(stock: &mut Stock, revision: u64, deed: &Deed, key: Arc<str>, value: Arc<[u8]>) -> Change {
    let revision = Revision(revision);
    let entry = |value| Entry {
        key: Arc::clone(&key),
        value,
        mod_revision: revision,
        create_revision: revision,
        lease: None,
    };
    let entry = match deed {
        Deed::Put => Some(entry(value)),
        Deed::Spoil => Some(entry(Arc::from(&b"\x01{"[..]))),
        Deed::Delete => None,
    };
    match &entry {
        Some(entry) => stock.insert(Arc::clone(&key), entry.clone()),
        None => stock.remove(&key),
    };
    Change { key, entry }
}

/// The documents of one kind that can be read, straight from the stock.
fn documents<I, T: DeserializeOwned>(stock: &Stock, id: impl Fn(Key) -> Option<I>) -> Vec<(I, Stored<T>)> {
    stock
        .iter()
        .filter_map(|(key, entry)| Some((id(Key::parse(key)?)?, reading::stored(Some(entry))?)))
        .collect()
}

macro_rules! all {
    ($stock:expr, $kind:ident: $type:ty) => {
        documents::<_, $type>($stock, |key| match key {
            Key::$kind(id) => Some(id),
            _ => None,
        })
    };
}

/// Answers by name; what differs between two of them is easy to read.
#[derive(Debug, Default, PartialEq)]
struct Answers(BTreeMap<String, String>);

impl Answers {
    fn say(&mut self, question: impl Into<String>, answer: impl Debug) {
        let repeated = self.0.insert(question.into(), format!("{answer:?}"));
        assert_eq!(repeated, None, "a question is asked once");
    }

    /// A list whose order means nothing.
    fn say_set<T: Ord + Debug>(&mut self, question: String, items: impl IntoIterator<Item = T>) {
        let mut items: Vec<_> = items.into_iter().collect();
        items.sort();
        self.say(question, items);
    }

    /// A look-up, and the list of the whole table.
    fn say_table<I: Debug, T: Debug>(&mut self, what: &str, all: &[(I, Stored<T>)]) {
        for (id, document) in all {
            self.say(format!("{what} {id:?}"), document);
        }
        let mut list: Vec<_> = all.iter().map(|(_, d)| format!("{d:?}")).collect();
        list.sort();
        self.say(format!("all {what}"), list);
    }
}

/// What the documents themselves say, by looking at all of them for each question.
fn expected(stock: &Stock) -> Answers {
    let mut say = Answers::default();
    let services = all!(stock, Service: Service);
    let endpoints = all!(stock, Endpoint: Endpoint);
    say.say_table("service", &services);
    say.say_table("endpoint", &endpoints);
    say.say_table("whitelist", &all!(stock, Whitelist: Whitelist));
    say.say_table("claims", &all!(stock, Claims: Claims));
    say.say_table("limits", &all!(stock, Limits: Limits));
    let accounts = all!(stock, Account: Account);
    say.say_table("account", &accounts);
    say.say_table("pool", &all!(stock, Pool: Pool));
    say.say_table("node", &all!(stock, Node: Node));
    say.say_table("placement", &all!(stock, Placement: Placement));
    say.say_table("drain", &all!(stock, Drain: Drain));
    for n in 0..IDS {
        let found = accounts.iter().find(|(id, _)| *id == account_id(n));
        let frozen = found.is_some_and(|(_, account)| !account.frozen.is_empty());
        say.say(format!("frozen {n}"), frozen);
    }
    say.say_table("vpc", &all!(stock, Vpc: Vpc));
    let subnets = all!(stock, Subnet: Subnet);
    say.say_table("subnet", &subnets);
    let ports = all!(stock, Port: Port);
    say.say_table("port", &ports);
    let tables = all!(stock, RouteTable: RouteTable);
    say.say_table("route table", &tables);
    say.say_table("load balancer", &all!(stock, LoadBalancer: LoadBalancer));
    let mut public: Vec<_> = services.iter().filter(|(_, s)| s.public.is_some()).collect();
    public.sort_by_key(|(id, s)| (s.created.order, *id));
    let public: Vec<_> = public.iter().map(|(id, _)| id).collect();
    say.say("public services", public);
    for n in 0..IDS {
        let project = project(n);
        let own = |s: &Service| s.project == project && s.public.is_none();
        let mut own: Vec<_> = services.iter().filter(|(_, s)| own(s)).collect();
        own.sort_by_key(|(id, s)| (s.created.order, *id));
        let own: Vec<_> = own.iter().map(|(id, _)| id).collect();
        say.say(format!("services of project {n}"), (own.len(), &own));
        let port = PortId(uuid(n));
        let on_port = services
            .iter()
            .filter(|(_, s)| s.port().is_some_and(|p| p.id == port));
        let on_port = on_port.map(|(id, _)| *id);
        say.say_set(format!("services of port {n}"), on_port);
        let ids = |keep: &dyn Fn(&Endpoint) -> bool| {
            let mut kept: Vec<_> = endpoints.iter().filter(|(_, e)| keep(e)).collect();
            kept.sort_by_key(|(id, e)| (e.created.order, *id));
            kept.iter().map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let own = ids(&|e| e.project == project);
        say.say(format!("endpoints of project {n}"), (own.len(), &own));
        let service = ServiceId(uuid(n));
        let of_service = ids(&|e| e.service == service);
        say.say(
            format!("endpoints of service {n}"),
            (of_service.len(), &of_service),
        );
        let subnet = SubnetId(uuid(n));
        say.say_set(
            format!("endpoints of subnet {n}"),
            ids(&|e| e.interface().is_some_and(|leg| leg.subnet == subnet)),
        );
        let live = [EndpointStatus::Creating, EndpointStatus::Accepted];
        let live = ids(&|e| e.service == service && live.contains(&e.status()));
        say.say(format!("live endpoints of service {n}"), live.len());
        let vpc = VpcId(uuid(n));
        let joined = subnets.iter().filter(|(_, s)| s.vpc == Some(vpc));
        say.say_set(format!("subnets of vpc {n}"), joined.map(|(id, _)| *id));
        for which in [0, 1] {
            let id = neutron(n, which);
            let of = |s: &Subnet| s.range.as_ref().is_some_and(|r| r.id == id);
            let found = subnets.iter().find(|(_, s)| of(s)).map(|(id, _)| *id);
            say.say(format!("neutron subnet {n} {which}"), found);
        }
        let on = ports.iter().filter(|(_, p)| p.subnet == subnet);
        say.say_set(format!("ports of subnet {n}"), on.map(|(id, _)| *id));
        let of = tables.iter().filter(|(_, t)| t.vpc == vpc);
        say.say_set(format!("route tables of vpc {n}"), of.map(|(id, _)| *id));
    }
    expected_of_keys(stock, &mut say);
    say
}

/// What the keys say that are indexes themselves.
fn expected_of_keys(stock: &Stock, say: &mut Answers) {
    let held = documents::<_, Holder>(stock, |key| match key {
        Key::Address(subnet, ip) => Some((subnet, ip)),
        _ => None,
    });
    let sources = documents::<_, EndpointId>(stock, |key| match key {
        Key::Source(vpc, ip) => Some((vpc, ip)),
        _ => None,
    });
    let bindings = documents::<_, EndpointId>(stock, |key| match key {
        Key::Binding(table, service) => Some((table, service)),
        _ => None,
    });
    let names = all!(stock, PublicName: ServiceId);
    let markers = all!(stock, Marker: EndpointId);
    let limits = all!(stock, Limits: Limits);
    for n in 0..IDS {
        let of = held.iter().filter(|((s, _), _)| *s == SubnetId(uuid(n)));
        say.say_set(format!("addresses of subnet {n}"), of.map(|((_, ip), _)| *ip));
        for m in 0..IDS {
            let find = held.iter().find(|(at, _)| *at == (SubnetId(uuid(n)), ip(m)));
            say.say(format!("address {n} {m}"), find.map(|(_, d)| d));
            let find = sources.iter().find(|(at, _)| *at == (VpcId(uuid(n)), ip(m)));
            say.say(format!("source {n} {m}"), find.map(|(_, d)| *d.value));
        }
        let table = RouteTableId(uuid(n));
        let of = bindings.iter().filter(|((t, _), _)| *t == table);
        let of = of.map(|((_, service), d)| (*service, *d.value));
        say.say_set(format!("bindings of table {n}"), of);
        for m in 0..IDS {
            let find = bindings.iter().find(|(at, _)| *at == (table, ServiceId(uuid(m))));
            say.say(format!("binding {n} {m}"), find.map(|(_, d)| d));
        }
        let name = format!("name {n}");
        let find = names.iter().find(|(at, _)| *at == name);
        say.say(format!("public {name}"), find.map(|(_, d)| *d.value));
        let find = markers.iter().find(|(at, _)| *at == marker(n));
        say.say(format!("marker {n}"), find.map(|(_, d)| *d.value));
        for kind in [QuotaType::Endpoint, QuotaType::EndpointService] {
            let slots: Vec<_> = (0..8u32)
                .filter(|s| stock.contains_key(&Arc::<str>::from(Key::Quota(project(n), kind, *s))))
                .collect();
            let limits = limits.iter().find(|(p, _)| *p == project(n));
            let quota = limits.map_or(Limits::default(), |(_, l)| *l.value).of(kind);
            say.say(format!("usage {n} {kind}"), (slots.len(), quota));
            let free: Vec<_> = (0..quota).filter(|s| !slots.contains(s)).collect();
            let left = (quota as usize).saturating_sub(slots.len());
            say.say(format!("free slots {n} {kind}"), &free[..left.min(free.len())]);
        }
        let guard = Arc::<str>::from(Key::Subnet(SubnetId(uuid(n))).guard());
        say.say(format!("guard {n}"), stock.get(&guard).map(|e| e.mod_revision));
        say.say(format!("other {n}"), stock.get(format!("other/{n}").as_str()));
    }
}

/// Every page is what sorting everything and cutting it gives.
fn check_pages<T: Listed + Debug>(records: &Records<'_, T::Id, T>, keep: impl Fn(&T) -> bool + Copy) {
    let all: Vec<_> = records.iter().collect();
    let sorts = [SortKey::CreatedAt, SortKey::UpdatedAt];
    for (sort_key, ascending) in sorts.into_iter().flat_map(|key| [(key, false), (key, true)]) {
        for (offset, limit) in [(0, 10), (1, 1), (0, 0), (usize::MAX, 10)] {
            let listing = Listing {
                limit,
                offset,
                sort_key,
                ascending,
            };
            let dates = |d: &&Stored<T>| (d.created(), d.updated_at());
            let ids = |page: Vec<&Stored<T>>| page.into_iter().map(|d| d.id()).collect::<Vec<_>>();
            let (page, total) = records.select(&listing, None, None::<fn(&T) -> bool>);
            assert_eq!(total, all.len());
            assert!(ids(page) == ids(listing.page(all.clone(), dates)));
            let kept: Vec<_> = all.iter().copied().filter(|d| keep(d)).collect();
            let (page, total) = records.select(&listing, None, Some(keep));
            assert_eq!(total, kept.len());
            assert!(ids(page) == ids(listing.page(kept, dates)));
            for one in &all {
                let (page, total) = records.select(&listing, Some(one.id()), Some(keep));
                let kept = Vec::from_iter(keep(one).then_some(*one));
                assert_eq!(total, kept.len());
                assert!(ids(page) == ids(listing.page(kept, dates)));
            }
        }
    }
}

/// What the state says, question by question.
fn answers(state: &State) -> Answers {
    let mut say = Answers::default();
    macro_rules! tables {
        ($($what:literal: $get:ident, $all:ident, $make:expr;)*) => {$(
            let found: Vec<_> = (0..2 * IDS)
                .map($make)
                .filter_map(|id| state.$get(&id).map(|d| (id, d.clone())))
                .collect();
            assert_eq!(state.$all().count(), found.len(), $what);
            say.say_table($what, &found);
        )*};
    }
    tables! {
        "service": service, services, |n| ServiceId(uuid(n));
        "endpoint": endpoint, endpoints, |n| EndpointId(uuid(n));
        "whitelist": whitelist, whitelists, |n| ServiceId(uuid(n));
        "claims": claims_of, claims, |n| PortId(uuid(n));
        "limits": limits_of, limits, project;
        "account": account, accounts, account_id;
        "pool": pool, pools, |n| PoolId(uuid(n));
        "node": node, nodes, node_name;
        "drain": drain, drains, node_name;
        "placement": placement, placements, |n| PoolId(uuid(n));
        "vpc": vpc, vpcs, |n| VpcId(uuid(n));
        "subnet": subnet, subnets, |n| SubnetId(uuid(n));
        "port": port, ports, |n| PortId(uuid(n));
        "route table": route_table, route_tables, |n| RouteTableId(uuid(n));
        "load balancer": load_balancer, load_balancers, |n| LoadBalancerId(uuid(n));
    }
    let counted = (state.limits_ids().count(), state.account_ids().count());
    assert_eq!(counted, (state.limits().count(), state.accounts().count()));
    for n in 0..IDS {
        say.say(format!("frozen {n}"), state.is_frozen(&account_id(n)));
    }
    let public: Vec<_> = state.public_services().iter().map(|s| s.id).collect();
    say.say("public services", public);
    check_pages(&state.public_services(), |s| s.id.0.as_bytes()[15] % 2 == 0);
    for n in 0..IDS {
        let project = project(n);
        let (service, port, subnet) = (ServiceId(uuid(n)), PortId(uuid(n)), SubnetId(uuid(n)));
        let vpc = VpcId(uuid(n));
        check_pages(&state.services_of_project(&project), |s| {
            s.id.0.as_bytes()[15] % 2 == 0
        });
        check_pages(&state.endpoints_of_project(&project), Endpoint::is_live);
        check_pages(&state.endpoints_of_service(service), |e| !e.is_live());
        let own: Vec<_> = state.services_of_project(&project).iter().map(|s| s.id).collect();
        let count = state.services_of_project(&project).len();
        say.say(format!("services of project {n}"), (count, own));
        say.say_set(format!("services of port {n}"), state.services_of_port(port));
        let own: Vec<_> = state
            .endpoints_of_project(&project)
            .iter()
            .map(|e| e.id)
            .collect();
        let count = state.endpoints_of_project(&project).len();
        say.say(format!("endpoints of project {n}"), (count, own));
        let of: Vec<_> = state.endpoints_of_service(service).iter().map(|e| e.id).collect();
        let count = state.endpoints_of_service(service).len();
        say.say(format!("endpoints of service {n}"), (count, of));
        let of = state.endpoints_of_subnet(subnet).map(|e| e.id);
        say.say_set(format!("endpoints of subnet {n}"), of);
        say.say(
            format!("live endpoints of service {n}"),
            state.live_endpoints(service),
        );
        say.say_set(
            format!("subnets of vpc {n}"),
            state.subnets_of_vpc(vpc).map(|s| s.id),
        );
        for which in [0, 1] {
            let found = state.neutron_subnet(neutron(n, which)).map(|s| s.id);
            say.say(format!("neutron subnet {n} {which}"), found);
        }
        let on = state.ports_of_subnet(subnet).map(|p| p.id);
        say.say_set(format!("ports of subnet {n}"), on);
        let of = state.route_tables_of_vpc(vpc).map(|t| t.id);
        say.say_set(format!("route tables of vpc {n}"), of);
        let held = state.addresses_of_subnet(subnet).map(|(ip, _)| ip);
        say.say_set(format!("addresses of subnet {n}"), held);
        for m in 0..IDS {
            let held = state.address(subnet, ip(m)).map(|held| Stored {
                value: Arc::new(held.holder),
                revision: held.revision,
            });
            say.say(format!("address {n} {m}"), held.as_ref());
            say.say(format!("source {n} {m}"), state.source(vpc, ip(m)));
        }
        let table = RouteTableId(uuid(n));
        let of = state.bindings_of_table(table);
        let of = of.map(|(service, endpoint)| (service, *endpoint.value));
        say.say_set(format!("bindings of table {n}"), of);
        for m in 0..IDS {
            let found = state.binding(table, ServiceId(uuid(m)));
            say.say(format!("binding {n} {m}"), found);
        }
        let name = format!("name {n}");
        say.say(format!("public {name}"), state.public_name(&name));
        say.say(format!("marker {n}"), state.marker(marker(n)));
        for kind in [QuotaType::Endpoint, QuotaType::EndpointService] {
            let usage = state.usage(&project, kind);
            say.say(format!("usage {n} {kind}"), (usage.used, usage.quota));
            let free: Vec<_> = state.free_slots(&project, kind, 0).collect();
            say.say(format!("free slots {n} {kind}"), free.as_slice());
            // A place says where they begin, and no more.
            for place in [1 << 30, u32::MAX] {
                let mut from: Vec<_> = state.free_slots(&project, kind, place).collect();
                from.sort_unstable();
                assert_eq!(from, free);
            }
        }
        say.say(format!("guard {n}"), state.guard(Key::Subnet(subnet)));
        say.say(format!("other {n}"), state.other(&format!("other/{n}")));
    }
    say
}

/// Everything was deleted: no table, no index and no count keeps anything.
fn check_empty(state: &State) {
    let empty = State {
        newest_order: state.newest_order,
        ..State::default()
    };
    assert_eq!(format!("{state:?}"), format!("{empty:?}"));
}

proptest! {
    #[test]
    fn what_is_kept_is_what_the_documents_say(history in history()) {
        let (mut stock, mut kept) = (Stock::new(), State::default());
        let mut newest = 0;
        for (i, (deed, kind, id, seed)) in history.iter().enumerate() {
            let (key, value) = put(*kind, *id, *seed);
            kept.apply(State::read(&change(&mut stock, i as u64 + 1, deed, key, value)));
            newest = newest.max(kept.services().map(|s| s.created.order).max().unwrap_or(0));
            newest = newest.max(kept.endpoints().map(|e| e.created.order).max().unwrap_or(0));
        }
        let answered = answers(&kept);
        prop_assert_eq!(&answered, &expected(&stock));
        // New marks go above those of what is gone, too.
        prop_assert_eq!(kept.newest_order(), newest);

        let mut rebuilt = State::default();
        for (key, entry) in stock.clone() {
            rebuilt.apply(State::read(&Change { key, entry: Some(entry) }));
        }
        prop_assert_eq!(&answers(&rebuilt), &answered);

        for key in stock.into_keys() {
            kept.apply(State::read(&Change { key, entry: None }));
        }
        check_empty(&kept);
    }
}
