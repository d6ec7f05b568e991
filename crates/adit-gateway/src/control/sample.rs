//! What the tests here have a gateway be told.

use adit_model::{
    feed::{ConsumerLeg, EndpointSpec, Ingress, ProviderLeg},
    id::{EndpointId, MarkerId, ServiceId},
    proxy::ProxyHeader,
    service::TcpProxy,
};

/// An endpoint without ports.
pub(super) fn spec() -> EndpointSpec {
    EndpointSpec {
        id: EndpointId::random(),
        generation: 1,
        service: ServiceId::random(),
        marker: MarkerId::from_random(7),
        consumer: ConsumerLeg {
            namespace: "consumer".into(),
            vni: None,
            ingress: Ingress::Blocks(Vec::new()),
        },
        provider: ProviderLeg {
            namespace: "provider".into(),
            source: [198, 19, 128, 1].into(),
            slice: None,
            backend: None,
            more_backends: Box::default(),
        },
        ports: Vec::new(),
        tcp_proxy: TcpProxy::Close,
        proxy: ProxyHeader::default(),
        connections_max: 1,
        new_per_second_max: None,
        drain_s: 0,
        allowed: None,
    }
}
