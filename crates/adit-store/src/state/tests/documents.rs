//! Documents of every kind out of a few small numbers, so that histories of them meet themselves.

use adit_model::{
    ApiError, Code,
    account::Freeze,
    endpoint::{EndpointCreate, EndpointPlace, GatewayLeg, InterfaceLeg, Leg},
    id::{DomainId, PoolId, RecordId, Vni},
    network::{Mac, Route, SubnetRange},
    node::{Drain, Load, Node, NodeName},
    placement::Placement,
    port_mapping::{Claim, PortMapping, Protocol},
    service::{Backend, Public, PublicCreate, ServerType, ServiceCreate, ServicePlace, TcpProxy},
    time::{Created, Timestamp},
    whitelist::WhitelistRecord,
};
use uuid::Uuid;

use super::super::*;

/// So many ids of each kind.
pub(super) const IDS: u8 = 3;

pub(super) fn uuid(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n))
}

pub(super) fn project(n: u8) -> ProjectId {
    format!("{n:032x}").parse().unwrap()
}

pub(super) fn domain() -> DomainId {
    "an-account".parse().unwrap()
}

pub(super) fn account_id(n: u8) -> DomainId {
    format!("account-{n}").parse().unwrap()
}

pub(super) fn account([a, b, ..]: Seed) -> Account {
    Account {
        frozen: Freeze::ALL.iter().copied().take(usize::from(a % 2)).collect(),
        updated_at: Timestamp::from_unix_s(i64::from(a)),
        drain_s: (b % 2 == 1).then_some(b.into()),
    }
}

pub(super) fn pool(id: u8, [a, ..]: Seed) -> Pool {
    Pool {
        id: PoolId(uuid(id)),
        name: format!("pool-{a}"),
        created: created(a),
    }
}

pub(super) fn node_name(n: u8) -> NodeName {
    format!("gateway-{n}").parse().unwrap()
}

pub(super) fn node(id: u8, [a, b, ..]: Seed) -> Node {
    Node {
        name: node_name(id),
        address: "192.0.2.1".to_owned(),
        version: format!("0.{a}"),
        machine: String::new(),
        load: Load {
            endpoints: u64::from(b),
            ..Load::default()
        },
        epoch: u64::from(a),
        seen_at: Timestamp::from_unix_s(i64::from(a)),
    }
}

pub(super) fn drain(id: u8, [a, ..]: Seed) -> Drain {
    Drain {
        name: node_name(id),
        since: Timestamp::from_unix_s(i64::from(a)),
    }
}

pub(super) fn placement([a, ..]: Seed) -> Placement {
    Placement::default().next(&[node_name(a)].into()).unwrap()
}

pub(super) fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub(super) fn marker(n: u8) -> MarkerId {
    MarkerId::new(u32::from(n) + 1).unwrap()
}

/// Two Neutron ids for each subnet, because a network can lose its subnet and get another.
pub(super) fn neutron(subnet: u8, which: u8) -> NeutronSubnetId {
    NeutronSubnetId(uuid(100 + 2 * subnet + which % 2))
}

pub(super) fn created(n: u8) -> Created {
    Created {
        order: u64::from(n % 4),
        at: Timestamp::from_unix_s(0),
    }
}

/// What a document is made of: a few small numbers, read differently by each kind.
pub(super) type Seed = [u8; 4];

pub(super) fn service(id: u8, [a, b, c, status]: Seed) -> Service {
    let request = ServiceCreate {
        port: PortId(uuid(a)),
        vpc: VpcId(uuid(b)),
        server_type: ServerType::Vm,
        short_name: String::new(),
        approval_enabled: status % 2 == 0,
        ports: vec![PortMapping {
            client_port: 1,
            server_port: u16::from(c) + 1,
            protocol: Protocol::Tcp,
        }],
        tcp_proxy: TcpProxy::Close,
        tags: Vec::new(),
        description: String::new(),
        pool: None,
    };
    let public = PublicCreate {
        name: "public".to_owned(),
        public: Public {
            owner: "OTC".to_owned(),
            is_charge: false,
        },
        backend: Backend::Prefixes {
            prefixes: vec!["100.125.0.0/16".parse().unwrap()],
        },
        project: project(b),
        vpc: request.vpc,
        ports: request.ports.clone(),
        tcp_proxy: request.tcp_proxy,
        description: String::new(),
        pool: None,
    };
    let place = ServicePlace {
        id: ServiceId(uuid(id)),
        project: project(b),
        domain: domain(),
        region: "eu-de",
        pool: PoolId(uuid(9)),
        backend_ip: None,
        quota_slot: Some(0),
        created: created(c),
    };
    let now = place.created.at;
    // One in a few is the operator's.
    let mut service = match c {
        3 => Service::new_public(public, place),
        _ => Service::new(request, place),
    };
    let fault = || ApiError::new(Code::E3001).into();
    match status % 4 {
        0 => {}
        1 => assert!(service.build(now)),
        2 => assert!(service.fail(fault(), now)),
        _ => {
            assert!(service.fail(fault(), now));
            assert_eq!(service.delete(0, now), Ok(true));
        }
    }
    service
}

pub(super) fn endpoint(id: u8, [a, b, c, status]: Seed) -> Endpoint {
    let request = EndpointCreate {
        vpc: VpcId(uuid(a)),
        vni: None,
        leg: match c {
            // One in a few is of a gateway service.
            3 => Leg::Gateway(GatewayLeg {
                route_tables: vec![RouteTableId(uuid(b))],
                policy: Vec::new(),
            }),
            _ => Leg::Interface(InterfaceLeg {
                subnet: SubnetId(uuid(b)),
                subnet_cidr: "10.0.0.0/24".parse().unwrap(),
                ip: None,
                enable_dns: false,
                whitelist: Vec::new(),
                enable_whitelist: false,
            }),
        },
        tags: Vec::new(),
        description: String::new(),
    };
    let place = EndpointPlace {
        id: EndpointId(uuid(id)),
        project: project(c % IDS),
        domain: domain(),
        marker: marker(id),
        quota_slot: 0,
        created: created(c),
    };
    let now = place.created.at;
    let mut of = service(a, [a, b, c, 0]);
    // Only an endpoint that waits for approval begins elsewhere than in `creating`.
    of.approval_enabled = status.is_multiple_of(6);
    let mut endpoint = Endpoint::new(request, &of, place);
    match status % 6 {
        0 | 1 => {}
        2 => assert!(endpoint.accept(now)),
        3 => {
            assert!(endpoint.accept(now));
            assert_eq!(endpoint.reject(now), Ok(true));
        }
        4 => assert!(endpoint.fail(ApiError::new(Code::E3001).into(), now)),
        _ => assert!(endpoint.delete(now)),
    }
    endpoint
}

pub(super) fn subnet(id: u8, [vpc, which, c, d]: Seed) -> Subnet {
    let range = SubnetRange {
        id: neutron(id, which),
        name: String::new(),
        cidr: "10.0.0.0/24".parse().unwrap(),
        gateway: ip(1),
        dhcp: false,
        dns: Vec::new(),
    };
    Subnet {
        id: SubnetId(uuid(id)),
        project: project(0),
        name: String::new(),
        description: String::new(),
        vpc: (c != 0).then_some(VpcId(uuid(vpc))),
        range: (d != 0).then_some(range),
        created: created(0),
        updated_at: Timestamp::from_unix_s(0),
    }
}

pub(super) fn port(id: u8, [subnet, ..]: Seed) -> Port {
    Port {
        id: PortId(uuid(id)),
        project: project(0),
        name: String::new(),
        subnet: SubnetId(uuid(subnet)),
        ip: None,
        mac: Mac::of_port(PortId(uuid(id))),
        device_id: String::new(),
        device_owner: String::new(),
        created: created(0),
        updated_at: Timestamp::from_unix_s(0),
    }
}

pub(super) fn vpc(id: u8) -> Vpc {
    Vpc {
        id: VpcId(uuid(id)),
        project: project(0),
        name: String::new(),
        description: String::new(),
        cidr: None,
        vni: Vni::from_random(id.into()),
        created: created(0),
        updated_at: Timestamp::from_unix_s(0),
    }
}

pub(super) fn route_table(id: u8, [vpc, ..]: Seed) -> RouteTable {
    RouteTable {
        id: RouteTableId(uuid(id)),
        project: project(0),
        vpc: VpcId(uuid(vpc)),
        name: String::new(),
        description: String::new(),
        default: true,
        routes: Vec::<Route>::new(),
        created: created(0),
        updated_at: Timestamp::from_unix_s(0),
    }
}

pub(super) fn load_balancer(id: u8, [port, ..]: Seed) -> LoadBalancer {
    LoadBalancer {
        id: LoadBalancerId(uuid(id)),
        project: project(0),
        name: String::new(),
        description: String::new(),
        port: PortId(uuid(port)),
        v3: false,
        zones: Vec::new(),
        created: created(0),
        updated_at: Timestamp::from_unix_s(0),
    }
}

pub(super) fn whitelist(seed: Seed) -> Whitelist {
    Whitelist {
        records: vec![WhitelistRecord {
            id: RecordId(uuid(seed[0])),
            permission: "*".to_owned(),
            description: String::new(),
            created: created(0),
        }],
    }
}

pub(super) fn claims(seed: Seed) -> Claims {
    Claims {
        claims: vec![Claim {
            server_port: 80,
            protocol: Protocol::Tcp,
            service: ServiceId(uuid(seed[0])),
        }],
    }
}
