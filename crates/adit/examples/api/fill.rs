//! Fills a store with services and endpoints as they are after a long life: `available` and `accepted`, with every key that
//! goes with them. Straight through the store, many to a transaction; the documents are made by the rules' own types.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
};

use adit_cloud::{Cloud, Region};
use adit_model::{
    body::Body,
    endpoint::{Endpoint, EndpointDraft, EndpointPlace, Leg, Source},
    id::{EndpointId, MarkerId, PortId, ServiceId, SubnetId, VpcId},
    network::{Holder, Mac, OWNER_ENDPOINT, Port, RESERVED, SubnetRange, SubnetView, VpcView},
    port_mapping::Claims,
    quota::{QuotaType, Usage},
    service::{Service, ServiceCreate, ServicePlace},
    time::Created,
    whitelist::Whitelist,
};
use adit_store::{Cache, Key, RedbStore, State, Store, Txn, keys::encode, txn::TXN_OPERATIONS_MAX};
use serde_json::{Value, json};

use crate::region::{CONSUMER, PROVIDER, VPCS};

/// How many services share a backend port; one in so many has endpoints.
const EACH: usize = 10;

/// What was written.
pub(crate) struct Filled {
    /// The JSON of all services and endpoints as they are stored, in bytes.
    pub(crate) json_bytes: u64,
}

/// Writes so many services, and endpoints to a tenth of them, into the store of a data directory.
pub(crate) fn fill(data: &Path, services: usize, endpoints: usize) -> Filled {
    std::fs::create_dir_all(data).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(data.join("store.redb")).unwrap());
    runtime.block_on(fill_store(store, services, endpoints))
}

/// The same, into any store.
pub(crate) async fn fill_store(store: Arc<dyn Store>, services: usize, endpoints: usize) -> Filled {
    let region = Region::parse(&crate::region::text()).unwrap();
    let pool = region.pool;
    let cache = Cache::<State>::start(Arc::clone(&store), "");
    // The networks, as the region makes them at its first start.
    drop(Cloud::start(Arc::clone(&store), cache, region).await.unwrap());
    let mut writer = Writer::new(store);
    let mut fill = Fill {
        created: Created::after(1_700_000_000_000_000, 0),
        services: Vec::new(),
        sources: HashMap::new(),
        json_bytes: 0,
    };
    for port in 0..services.div_ceil(EACH) {
        let entries = fill.backend(port, services.min((port + 1) * EACH) - port * EACH, pool);
        writer.write(entries).await;
    }
    for n in 0..endpoints {
        let entries = fill.endpoint(n);
        writer.write(entries).await;
    }
    writer.finish().await;
    Filled {
        json_bytes: fill.json_bytes,
    }
}

/// Keys and what they hold.
type Entries = Vec<(Key, Arc<[u8]>)>;

struct Fill {
    created: Created,
    services: Vec<Service>,
    /// How many source addresses of a provider's VPC are in use.
    sources: HashMap<VpcId, u32>,
    json_bytes: u64,
}

fn fields(value: Value) -> Body {
    match value {
        Value::Object(body) => body,
        other => panic!("{other}"),
    }
}

impl Fill {
    fn tick(&mut self) -> Created {
        // A few each second, so that times differ as they do in life.
        self.created = Created::after(self.created.order + 250_000, 0);
        self.created
    }

    /// A backend port with its services.
    fn backend(&mut self, n: usize, services: usize, pool: adit_model::id::PoolId) -> Entries {
        let vpc = n % VPCS;
        let id = PortId::random();
        let subnet: SubnetId = PROVIDER.id(vpc, 1);
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, vpc as u8, 0, 100)) + (n / VPCS) as u32);
        let created = self.tick();
        let port = Port {
            id,
            project: PROVIDER.project(),
            name: format!("nic-{n}"),
            subnet,
            ip: Some(ip),
            mac: Mac::of_port(id),
            device_id: PortId::random().to_string(),
            device_owner: "compute:eu-de-01".to_owned(),
            created,
            updated_at: created.at,
        };
        let mut entries = vec![
            (Key::Port(id), encode(&port)),
            (Key::Address(subnet, ip), encode(&Holder::Port(id))),
            (Key::Subnet(subnet).guard(), encode(&())),
        ];
        let mut claims = Claims::default();
        for k in 0..services {
            let service = self.service(id, vpc, ip, k, pool);
            claims = claims.replace(service.id, &service.ports).unwrap();
            let slot = Key::Quota(
                PROVIDER.project(),
                QuotaType::EndpointService,
                service.quota_slot.unwrap(),
            );
            let document = encode(&service);
            self.json_bytes += document.len() as u64 - 1;
            entries.push((Key::Service(service.id), document));
            entries.push((slot, encode(&service.id)));
            self.services.push(service);
        }
        entries.push((Key::Claims(id), encode(&claims)));
        entries
    }

    fn service(
        &mut self,
        port: PortId,
        vpc: usize,
        ip: Ipv4Addr,
        k: usize,
        pool: adit_model::id::PoolId,
    ) -> Service {
        let n = self.services.len();
        let body = fields(json!({
            "port_id": port, "vpc_id": PROVIDER.id::<VpcId>(vpc, 0), "server_type": "VM",
            "service_name": format!("svc-{n}"), "approval_enabled": false,
            "ports": [{"client_port": 80, "server_port": 8080 + k}, {"client_port": 443, "server_port": 8443 + k}],
            "tags": [{"key": "team", "value": "payments"}],
            "description": "Made to see how many fit.",
        }));
        let created = self.tick();
        let place = ServicePlace {
            id: ServiceId::random(),
            project: PROVIDER.project(),
            domain: PROVIDER.domain(),
            region: "eu-de",
            pool,
            backend_ip: Some(ip),
            quota_slot: Some(n as u32),
            created,
        };
        let mut service = Service::new(ServiceCreate::parse(&body, false).unwrap(), place);
        assert!(service.build(created.at));
        service
    }

    fn endpoint(&mut self, n: usize) -> Entries {
        let service = self.services[n % self.services.len().div_ceil(EACH)].clone();
        let first_of_service = n < self.services.len().div_ceil(EACH);
        let vpc = n % VPCS;
        let id = EndpointId::random();
        let subnet: SubnetId = CONSUMER.id(vpc, 1);
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, vpc as u8, 0, 100)) + (n / VPCS) as u32);
        let created = self.tick();
        let mut endpoint = new_endpoint(&service, vpc, id, n, created);
        let used = self.sources.entry(service.vpc).or_default();
        *used += 1;
        let source = Ipv4Addr::from(u32::from(RESERVED.network()) + *used);
        if let Leg::Interface(leg) = &mut endpoint.leg {
            leg.ip = Some(ip);
        }
        endpoint.source = Some(Source {
            vpc: service.vpc,
            ip: source,
        });
        assert!(endpoint.accept(created.at));
        let document = encode(&endpoint);
        self.json_bytes += document.len() as u64 - 1;
        let port = Port {
            id: PortId(id.0),
            project: CONSUMER.project(),
            name: String::new(),
            subnet,
            ip: Some(ip),
            mac: Mac::of_port(PortId(id.0)),
            device_id: id.to_string(),
            device_owner: OWNER_ENDPOINT.to_owned(),
            created,
            updated_at: created.at,
        };
        let mut entries = vec![
            (Key::Endpoint(id), document),
            (Key::Marker(endpoint.marker), encode(&id)),
            (
                Key::Quota(CONSUMER.project(), QuotaType::Endpoint, endpoint.quota_slot),
                encode(&id),
            ),
            (Key::Source(service.vpc, source), encode(&id)),
            (Key::Port(port.id), encode(&port)),
            (Key::Address(subnet, ip), encode(&Holder::Endpoint(id))),
            (Key::Subnet(subnet).guard(), encode(&())),
        ];
        if first_of_service {
            let permission = format!("iam:domain::{}", CONSUMER.domain());
            let whitelist = Whitelist::default()
                .add([(permission.as_str(), "")], || created)
                .unwrap();
            entries.push((Key::Whitelist(service.id), encode(&whitelist)));
            entries.push((Key::Service(service.id).guard(), encode(&())));
        }
        entries
    }
}

fn new_endpoint(service: &Service, vpc: usize, id: EndpointId, n: usize, created: Created) -> Endpoint {
    let vpc_id: VpcId = CONSUMER.id(vpc, 0);
    let subnet: SubnetId = CONSUMER.id(vpc, 1);
    let body = fields(json!({
        "endpoint_service_id": service.id, "vpc_id": vpc_id, "subnet_id": subnet, "enable_dns": true,
        "tags": [{"key": "team", "value": "shop"}], "description": "Made to see how many fit.",
    }));
    let cidr = format!("10.{vpc}.0.0/16").parse().unwrap();
    let vpc_view = VpcView {
        id: vpc_id,
        cidrs: vec![cidr],
        route_tables: Vec::new(),
        vni: None,
    };
    let subnet_view = SubnetView {
        id: subnet,
        vpc: Some(vpc_id),
        range: Some(SubnetRange {
            id: CONSUMER.id(vpc, 2),
            name: String::new(),
            cidr,
            gateway: Ipv4Addr::new(10, vpc as u8, 0, 1),
            dhcp: true,
            dns: Vec::new(),
        }),
    };
    let quota = Usage { used: 0, quota: 1 };
    let draft = EndpointDraft::parse(body).unwrap();
    let request = draft
        .finish(&vpc_view, subnet, Some(&subnet_view), |_| true, quota)
        .unwrap();
    let place = EndpointPlace {
        id,
        project: CONSUMER.project(),
        domain: CONSUMER.domain(),
        marker: MarkerId::new(n as u32 + 1).unwrap(),
        quota_slot: n as u32,
        created,
    };
    Endpoint::new(request, service, place)
}

/// Commits many entries at a time, and many transactions at a time.
struct Writer {
    store: Arc<dyn Store>,
    waiting: BTreeMap<Key, Arc<[u8]>>,
    commits: tokio::task::JoinSet<()>,
}

impl Writer {
    fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            waiting: BTreeMap::new(),
            commits: tokio::task::JoinSet::new(),
        }
    }

    async fn write(&mut self, entries: Entries) {
        if self.waiting.len() + entries.len() > TXN_OPERATIONS_MAX {
            self.commit().await;
        }
        self.waiting.extend(entries);
    }

    async fn commit(&mut self) {
        let entries = std::mem::take(&mut self.waiting);
        let txn = entries
            .into_iter()
            .fold(Txn::new(), |txn, (key, value)| txn.put(key, value));
        let store = Arc::clone(&self.store);
        self.commits.spawn(async move {
            let _ = store.commit(txn).await.unwrap();
        });
        while self.commits.len() > 256 {
            self.commits.join_next().await.unwrap().unwrap();
        }
    }

    async fn finish(mut self) {
        self.commit().await;
        while let Some(done) = self.commits.join_next().await {
            done.unwrap();
        }
    }
}
