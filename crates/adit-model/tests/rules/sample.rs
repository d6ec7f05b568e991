//! The documents and requests that the tests begin from. Every id is a number, so that failures read well.

use adit_model::{
    ApiError, Code,
    body::Body,
    endpoint::{Endpoint, EndpointCreate, EndpointPlace, EndpointStatus, GatewayLeg, InterfaceLeg, Leg},
    id::{
        DomainId, EndpointId, MarkerId, PoolId, PortId, ProjectId, RouteTableId, ServiceId, SubnetId, VpcId,
    },
    network::{Route, RouteTableView, VpcView},
    port_mapping::{PortMapping, Protocol},
    service::{
        Backend, Fault, Public, PublicCreate, ServerType, Service, ServiceCreate, ServicePlace,
        ServiceStatus, TcpProxy,
    },
    tag::Tag,
    time::{Created, Timestamp},
};
use serde_json::Value;
use uuid::Uuid;

pub(crate) const REGION: &str = "eu-de";

/// The id with this number, of any kind.
pub(crate) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub(crate) fn object(value: Value) -> Body {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

/// Sets the fields of `patch` in `body`.
pub(crate) fn set(body: &mut Body, patch: Value) {
    body.extend(object(patch));
}

pub(crate) fn project() -> ProjectId {
    "d3362c03bc845e29b17a567d211112dd".parse().unwrap()
}

pub(crate) fn domain() -> DomainId {
    "fbc0afa08ab352d1adb9e1c9a4396da1".parse().unwrap()
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_s(seconds)
}

pub(crate) fn fault() -> Fault {
    ApiError::because(Code::E3001, "for a test").into()
}

pub(crate) fn service_request() -> ServiceCreate {
    ServiceCreate {
        port: PortId(uuid(1)),
        vpc: VpcId(uuid(2)),
        server_type: ServerType::Lb,
        short_name: "orders-api".to_owned(),
        approval_enabled: true,
        ports: vec![PortMapping {
            client_port: 443,
            server_port: 8443,
            protocol: Protocol::Tcp,
        }],
        tcp_proxy: TcpProxy::ProxyOpen,
        tags: vec![Tag {
            key: "team".to_owned(),
            value: "checkout".to_owned(),
        }],
        description: "Order service".to_owned(),
        pool: None,
    }
}

pub(crate) fn service_place() -> ServicePlace<'static> {
    ServicePlace {
        id: ServiceId(uuid(3)),
        project: project(),
        domain: domain(),
        region: REGION,
        pool: PoolId(uuid(4)),
        backend_ip: Some([192, 168, 0, 10].into()),
        quota_slot: Some(7),
        created: Created {
            order: 1_000_000_001,
            at: at(1000),
        },
    }
}

/// A service that came to this state in the shortest way.
pub(crate) fn service(status: ServiceStatus) -> Service {
    let mut service = Service::new(service_request(), service_place());
    match status {
        ServiceStatus::Creating => {}
        ServiceStatus::Available => assert!(service.build(at(1001))),
        ServiceStatus::Failed => assert!(service.fail(fault(), at(1001))),
        ServiceStatus::Deleting => {
            assert!(service.build(at(1001)));
            assert_eq!(service.delete(0, at(1002)), Ok(true));
        }
    }
    assert_eq!(service.status(), status);
    service
}

/// A VPC with one route table, which is the default one.
pub(crate) fn vpc_view(id: VpcId, cidrs: &[&str], custom_routes: &[&str]) -> VpcView {
    let mut view = VpcView {
        id,
        cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        route_tables: vec![RouteTableView {
            id: RouteTableId(uuid(20)),
            default: true,
            routes: Vec::new(),
            routes_max: 200,
        }],
        vni: None,
    };
    custom_routes.iter().for_each(|route| add_route(&mut view, route));
    view
}

/// Adds a custom route to the default table.
pub(crate) fn add_route(vpc: &mut VpcView, destination: &str) {
    vpc.route_tables[0].routes.push(custom_route(destination));
}

pub(crate) fn custom_route(destination: &str) -> Route {
    Route {
        kind: "nat".to_owned(),
        destination: destination.parse().unwrap(),
        nexthop: uuid(21).to_string(),
        description: String::new(),
    }
}

pub(crate) fn public_request() -> PublicCreate {
    PublicCreate {
        name: "com.t-systems.otc.eu-de.obs".to_owned(),
        public: Public {
            owner: "OTC".to_owned(),
            is_charge: false,
        },
        backend: Backend::Prefixes {
            prefixes: vec!["100.125.0.0/16".parse().unwrap()],
        },
        project: project(),
        vpc: VpcId(uuid(2)),
        ports: vec![PortMapping {
            client_port: 443,
            server_port: 443,
            protocol: Protocol::Tcp,
        }],
        tcp_proxy: TcpProxy::Close,
        description: "Objects".to_owned(),
        pool: None,
    }
}

/// An available gateway service of the operator's.
pub(crate) fn public_service() -> Service {
    let place = ServicePlace {
        quota_slot: None,
        domain: "the-operator".parse().unwrap(),
        ..service_place()
    };
    let mut service = Service::new_public(public_request(), place);
    assert!(service.build(at(1001)));
    service
}

/// A gateway endpoint that came to this state in the shortest way.
pub(crate) fn gateway_endpoint(status: EndpointStatus) -> Endpoint {
    let request = EndpointCreate {
        leg: Leg::Gateway(GatewayLeg {
            route_tables: vec![RouteTableId(uuid(20))],
            policy: Vec::new(),
        }),
        ..endpoint_request()
    };
    let mut endpoint = Endpoint::new(request, &public_service(), endpoint_place());
    match status {
        EndpointStatus::Creating => {}
        EndpointStatus::Accepted => assert!(endpoint.accept(at(1101))),
        EndpointStatus::Failed => assert!(endpoint.fail(fault(), at(1101))),
        EndpointStatus::Deleting => assert!(endpoint.delete(at(1101))),
        EndpointStatus::PendingAcceptance | EndpointStatus::Rejected => {
            panic!("a gateway endpoint needs nobody's approval")
        }
    }
    endpoint
}

pub(crate) fn endpoint_request() -> EndpointCreate {
    EndpointCreate {
        vpc: VpcId(uuid(5)),
        vni: None,
        leg: Leg::Interface(InterfaceLeg {
            subnet: SubnetId(uuid(6)),
            subnet_cidr: "10.20.0.0/16".parse().unwrap(),
            ip: Some([10, 20, 5, 40].into()),
            enable_dns: true,
            whitelist: vec!["10.20.0.0/24".to_owned(), "10.20.7.15".to_owned()],
            enable_whitelist: true,
        }),
        tags: vec![Tag {
            key: "team".to_owned(),
            value: "web".to_owned(),
        }],
        description: "From the web shop".to_owned(),
    }
}

pub(crate) fn endpoint_place() -> EndpointPlace {
    EndpointPlace {
        id: EndpointId(uuid(7)),
        project: project(),
        domain: domain(),
        marker: MarkerId::new(201_515_901).unwrap(),
        quota_slot: 3,
        created: Created {
            order: 1_100_000_001,
            at: at(1100),
        },
    }
}

/// An endpoint that came to this state in the shortest way.
pub(crate) fn endpoint(status: EndpointStatus) -> Endpoint {
    let mut service = service(ServiceStatus::Available);
    service.approval_enabled = matches!(
        status,
        EndpointStatus::PendingAcceptance | EndpointStatus::Rejected
    );
    let mut endpoint = Endpoint::new(endpoint_request(), &service, endpoint_place());
    match status {
        EndpointStatus::PendingAcceptance | EndpointStatus::Creating => {}
        EndpointStatus::Accepted => assert!(endpoint.accept(at(1101))),
        EndpointStatus::Rejected => assert_eq!(endpoint.reject(at(1101)), Ok(true)),
        EndpointStatus::Failed => assert!(endpoint.fail(fault(), at(1101))),
        EndpointStatus::Deleting => assert!(endpoint.delete(at(1101))),
    }
    assert_eq!(endpoint.status(), status);
    endpoint
}
