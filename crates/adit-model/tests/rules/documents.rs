//! The stored form of documents, and what travels to gateways: neither changes unnoticed, and both read back.
//!
//! A snapshot that differs means data of earlier versions: either it still reads (a new field has a default), or the
//! store's encoding version goes up.

use std::fmt::Debug;

use adit_model::{
    diagnosis::{Examination, Findings},
    endpoint::{Endpoint, EndpointStatus, Source},
    feed::{
        Capabilities, ConsumerLeg, EndpointReport, EndpointSpec, FeedEvent, Ingress, MissingMode, Peer,
        ProviderLeg, Report,
    },
    id::{EndpointId, MarkerId, ServiceId, Vni, VpcId},
    policy::full_access,
    proxy::ProxyHeader,
    service::{Service, ServiceStatus, TcpProxy},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::sample::{at, endpoint, gateway_endpoint, public_service, service, service_request, uuid};

fn read_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(document: &T) {
    let bytes = serde_json::to_vec(document).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&bytes).unwrap(), *document);
}

fn served() -> Endpoint {
    let mut endpoint = endpoint(EndpointStatus::Accepted);
    endpoint.source = Some(Source {
        vpc: VpcId(uuid(2)),
        ip: [198, 19, 128, 1].into(),
    });
    endpoint
}

#[test]
fn a_service_in_every_state_reads_back() {
    for status in ServiceStatus::ALL {
        read_back(&service(*status));
    }
    insta::assert_json_snapshot!("service", service(ServiceStatus::Available));
    insta::assert_json_snapshot!("service-failed", service(ServiceStatus::Failed));
    read_back(&public_service());
    insta::assert_json_snapshot!("service-public", public_service());
}

#[test]
fn an_endpoint_in_every_state_reads_back() {
    for status in EndpointStatus::ALL {
        read_back(&endpoint(*status));
    }
    let mut orphan = endpoint(EndpointStatus::Rejected);
    assert!(orphan.orphan("eu-de.orders", at(1200)));
    read_back(&orphan);
    read_back(&served());
    insta::assert_json_snapshot!("endpoint", served());
    insta::assert_json_snapshot!("endpoint-failed", orphan);
    let mut behind_routes = gateway_endpoint(EndpointStatus::Accepted);
    read_back(&behind_routes);
    behind_routes.set_policy(full_access(), at(1300)).unwrap();
    read_back(&behind_routes);
    insta::assert_json_snapshot!("endpoint-gateway", behind_routes);
}

#[test]
fn a_document_without_a_fault_has_no_field_for_it() {
    let json = serde_json::to_value(service(ServiceStatus::Available)).unwrap();
    assert!(json.get("fault").is_none());
    assert!(serde_json::from_value::<Service>(json).unwrap().fault().is_none());
}

#[test]
fn what_a_gateway_is_told_and_what_it_answers_read_back() {
    let spec = EndpointSpec {
        id: EndpointId(uuid(7)),
        generation: 12,
        service: ServiceId(uuid(3)),
        marker: MarkerId::new(201_515_901).unwrap(),
        consumer: ConsumerLeg {
            namespace: "vpc-5".into(),
            vni: Vni::new(0x00_12ab),
            ingress: Ingress::Address {
                ip: [10, 20, 5, 40].into(),
                subnet: "10.20.0.0/16".parse().unwrap(),
            },
        },
        provider: ProviderLeg {
            namespace: "vpc-2".into(),
            source: [198, 19, 128, 1].into(),
            slice: Some("198.19.128.0/22".parse().unwrap()),
            backend: Some([192, 168, 0, 10].into()),
            more_backends: Box::default(),
        },
        ports: service_request().ports,
        tcp_proxy: TcpProxy::ProxyVni,
        proxy: ProxyHeader::default(),
        connections_max: 3000,
        new_per_second_max: None,
        drain_s: 30,
        allowed: Some(vec!["10.20.0.0/24".parse().unwrap()]),
    };
    let id = spec.id;
    let events = vec![
        FeedEvent::Snapshot {
            endpoints: vec![spec.clone()],
            more: false,
        },
        FeedEvent::Snapshot {
            endpoints: vec![],
            more: true,
        },
        FeedEvent::Put { endpoint: spec },
        FeedEvent::Remove { id, drain_s: 0 },
        FeedEvent::Examine {
            id,
            port: 7000,
            number: 1,
        },
        FeedEvent::Peers {
            vpc: "1f3870be".to_owned(),
            peers: vec![Peer {
                slice: "198.19.132.0/22".parse().unwrap(),
                addresses: vec![[192, 168, 0, 3].into()],
            }],
        },
        FeedEvent::Defend { id },
    ];
    let reports: Vec<_> = [
        EndpointReport::Listening { generation: 12 },
        EndpointReport::Waiting {
            generation: 12,
            reason: "no namespace vpc-5".to_owned(),
        },
        EndpointReport::Removed,
        EndpointReport::Contested {
            by: "fa:16:3e:01:02:03".to_owned(),
        },
        EndpointReport::Examined {
            number: 1,
            examination: Examination::Found(Findings {
                missing_namespaces: vec!["vpc-5".to_owned()],
                ..Findings::default()
            }),
        },
    ]
    .map(|status| Report { id, status })
    .into();
    let capabilities = Capabilities {
        tcp_proxy: vec![TcpProxy::Close, TcpProxy::ProxyOpen, TcpProxy::ProxyVni],
        missing: vec![MissingMode {
            tcp_proxy: TcpProxy::ToaOpen,
            reason: "the kernel is 5.4, and TOA needs 5.10 or newer".into(),
            remedy: "Run a kernel of 5.10 or newer.".into(),
        }],
    };
    read_back(&events);
    read_back(&reports);
    read_back(&capabilities);
    insta::assert_json_snapshot!("feed", (events, reports, capabilities));
}
