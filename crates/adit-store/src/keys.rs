//! What a key means: the product's key space, and how its documents are encoded.
//!
//! A key is a path, its first part names the kind. What must be unique is a key of its own, so that unrelated creates never
//! touch one document (design, section 3):
//!
//! ```text
//! service/{service}            guard/service/{service}      vpc/{vpc}                   guard/vpc/{vpc}
//! endpoint/{endpoint}          whitelist/{service}          subnet/{subnet}             guard/subnet/{subnet}
//! claims/{port}                marker/{marker id}           port/{port}                 guard/port/{port}
//! address/{subnet}/{ip}        source/{vpc}/{ip}            routetable/{table}          loadbalancer/{balancer}
//! quota/{project}/{type}/{n}   limits/{project}             binding/{table}/{service}   publicname/{name}
//! node/{gateway}               placement/{pool}             drain/{gateway}
//! anything else: its owner's business
//! ```
//!
//! A **guard** closes write skew: whoever creates a dependent puts its parent's guard, whoever checks that there is no
//! dependent compares it. A value is one byte, the version of its encoding, and a JSON document.

use std::{net::Ipv4Addr, str::FromStr, sync::Arc};

use adit_model::{
    id::{
        DomainId, EndpointId, LoadBalancerId, MarkerId, PoolId, PortId, ProjectId, RouteTableId, ServiceId,
        SubnetId, VpcId,
    },
    node::NodeName,
    quota::QuotaType,
};
use serde::{Serialize, de::DeserializeOwned};

/// The version of the encoding that is written.
const ENCODING: u8 = 1;

/// A value as it is stored.
pub fn encode<T: Serialize>(document: &T) -> Arc<[u8]> {
    let mut bytes = vec![ENCODING];
    // Our documents are structs with string keys, which always have a JSON form.
    #[expect(
        clippy::expect_used,
        reason = "a document without a JSON form is a bug found by the first test that stores one"
    )]
    serde_json::to_writer(&mut bytes, document).expect("a document has a JSON form");
    bytes.into()
}

/// Why stored bytes are no document.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a version of Adit that this one does not know.
    #[error("its encoding has version {0:?}, this program reads version {ENCODING}")]
    Version(Option<u8>),
    /// Not the JSON that the kind has.
    #[error("it is not a document of its kind")]
    Json(#[from] serde_json::Error),
}

/// Reads a value back.
///
/// # Errors
/// For an unknown version, and for anything that is not the JSON of a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&ENCODING, json)) => Ok(serde_json::from_slice(json)?),
        other => Err(DecodeError::Version(other.map(|(version, _)| *version))),
    }
}

/// The first words of the keys that have a meaning here.
pub const KINDS: &[&str] = &[
    "service",
    "endpoint",
    "whitelist",
    "claims",
    "address",
    "source",
    "marker",
    "quota",
    "limits",
    "account",
    "pool",
    "guard",
    "vpc",
    "subnet",
    "port",
    "routetable",
    "binding",
    "publicname",
    "loadbalancer",
    "node",
    "placement",
    "drain",
];

/// A key, read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// An endpoint service.
    Service(ServiceId),
    /// An endpoint.
    Endpoint(EndpointId),
    /// A service's whitelist records.
    Whitelist(ServiceId),
    /// Who uses which port of a backend port.
    Claims(PortId),
    /// Who holds an address.
    Address(SubnetId, Ipv4Addr),
    /// Which endpoint's connections come from an address in a provider's VPC.
    Source(VpcId, Ipv4Addr),
    /// Which endpoint has a packet id.
    Marker(MarkerId),
    /// A quota slot in use.
    Quota(ProjectId, QuotaType, u32),
    /// A project's quotas.
    Limits(ProjectId),
    /// An account's standing with the operator.
    Account(DomainId),
    /// A pool that the operator made.
    Pool(PoolId),
    /// A gateway that has been heard of lately.
    Node(NodeName),
    /// A gateway that is being drained.
    Drain(NodeName),
    /// Which gateway serves which endpoints of a pool.
    Placement(PoolId),
    /// A guard; the parent's own key.
    Guard(Box<Key>),
    /// A VPC.
    Vpc(VpcId),
    /// A subnet.
    Subnet(SubnetId),
    /// A port.
    Port(PortId),
    /// A route table.
    RouteTable(RouteTableId),
    /// Which endpoint of a gateway service a route table serves.
    Binding(RouteTableId, ServiceId),
    /// Which public service has a name.
    PublicName(String),
    /// A load balancer.
    LoadBalancer(LoadBalancerId),
}

impl Key {
    /// The guard of this key.
    #[must_use]
    pub fn guard(self) -> Key {
        Key::Guard(Box::new(self))
    }

    /// Reads a key; `None` for one whose meaning is its owner's business.
    pub fn parse(text: &str) -> Option<Key> {
        let (kind, rest) = text.split_once('/')?;
        fn one<T: FromStr>(rest: &str, make: impl Fn(T) -> Key) -> Option<Key> {
            rest.parse().ok().map(make)
        }
        fn two<A: FromStr, B: FromStr>(rest: &str, make: impl Fn(A, B) -> Key) -> Option<Key> {
            let (a, b) = rest.split_once('/')?;
            Some(make(a.parse().ok()?, b.parse().ok()?))
        }
        match kind {
            "service" => one(rest, Key::Service),
            "endpoint" => one(rest, Key::Endpoint),
            "whitelist" => one(rest, Key::Whitelist),
            "claims" => one(rest, Key::Claims),
            "address" => two(rest, Key::Address),
            "source" => two(rest, Key::Source),
            "marker" => MarkerId::new(rest.parse().ok()?).map(Key::Marker),
            "quota" => {
                let (project, rest) = rest.split_once('/')?;
                let (kind, n) = rest.split_once('/')?;
                Some(Key::Quota(
                    project.parse().ok()?,
                    QuotaType::from_wire(kind)?,
                    n.parse().ok()?,
                ))
            }
            "limits" => one(rest, Key::Limits),
            "account" => one(rest, Key::Account),
            "pool" => one(rest, Key::Pool),
            "node" => one(rest, Key::Node),
            "drain" => one(rest, Key::Drain),
            "placement" => one(rest, Key::Placement),
            "guard" => Key::parse(rest).map(Key::guard),
            "vpc" => one(rest, Key::Vpc),
            "subnet" => one(rest, Key::Subnet),
            "port" => one(rest, Key::Port),
            "routetable" => one(rest, Key::RouteTable),
            "binding" => two(rest, Key::Binding),
            "publicname" if !rest.is_empty() => Some(Key::PublicName(rest.to_owned())),
            "loadbalancer" => one(rest, Key::LoadBalancer),
            _ => None,
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Service(id) => write!(f, "service/{id}"),
            Key::Endpoint(id) => write!(f, "endpoint/{id}"),
            Key::Whitelist(id) => write!(f, "whitelist/{id}"),
            Key::Claims(port) => write!(f, "claims/{port}"),
            Key::Address(subnet, ip) => write!(f, "address/{subnet}/{ip}"),
            Key::Source(vpc, ip) => write!(f, "source/{vpc}/{ip}"),
            Key::Marker(marker) => write!(f, "marker/{marker}"),
            Key::Quota(project, kind, n) => write!(f, "quota/{project}/{kind}/{n}"),
            Key::Limits(project) => write!(f, "limits/{project}"),
            Key::Account(domain) => write!(f, "account/{domain}"),
            Key::Pool(id) => write!(f, "pool/{id}"),
            Key::Node(name) => write!(f, "node/{name}"),
            Key::Drain(name) => write!(f, "drain/{name}"),
            Key::Placement(pool) => write!(f, "placement/{pool}"),
            Key::Guard(parent) => write!(f, "guard/{parent}"),
            Key::Vpc(id) => write!(f, "vpc/{id}"),
            Key::Subnet(id) => write!(f, "subnet/{id}"),
            Key::Port(id) => write!(f, "port/{id}"),
            Key::RouteTable(id) => write!(f, "routetable/{id}"),
            Key::Binding(table, service) => write!(f, "binding/{table}/{service}"),
            Key::PublicName(name) => write!(f, "publicname/{name}"),
            Key::LoadBalancer(id) => write!(f, "loadbalancer/{id}"),
        }
    }
}

impl From<Key> for Arc<str> {
    fn from(key: Key) -> Self {
        key.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_back() {
        let project: ProjectId = "6e9dfd51d1124e8d8498dce894923a0d".parse().unwrap();
        for key in [
            Key::Service(ServiceId::random()),
            Key::Endpoint(EndpointId::random()),
            Key::Whitelist(ServiceId::random()),
            Key::Claims(PortId::random()),
            Key::Address(SubnetId::random(), Ipv4Addr::new(10, 0, 0, 1)),
            Key::Source(VpcId::random(), Ipv4Addr::new(198, 19, 128, 1)),
            Key::Marker(MarkerId::from_random(7)),
            Key::Quota(project.clone(), QuotaType::Endpoint, 49),
            Key::Limits(project),
            Key::Account("a-b_C".parse().unwrap()),
            Key::Pool(PoolId::random()),
            Key::Pool(PoolId::random()).guard(),
            Key::Node("gateway-1.edge".parse().unwrap()),
            Key::Placement(PoolId::random()),
            Key::Drain("g".parse().unwrap()),
            Key::Service(ServiceId::random()).guard(),
            Key::Subnet(SubnetId::random()).guard(),
            Key::Vpc(VpcId::random()),
            Key::Subnet(SubnetId::random()),
            Key::Port(PortId::random()),
            Key::RouteTable(RouteTableId::random()),
            Key::LoadBalancer(LoadBalancerId::random()),
            Key::Binding(RouteTableId::random(), ServiceId::random()),
            Key::PublicName("com.t-systems.otc.eu-de.obs / 1".to_owned()),
        ] {
            let text = key.to_string();
            assert!(
                KINDS.iter().any(|kind| text.starts_with(&format!("{kind}/"))),
                "{text}"
            );
            assert_eq!(Key::parse(&text), Some(key));
        }
        for other in [
            "",
            "service",
            "service/x",
            "identity/key",
            "marker/0",
            "guard/x/y",
            "publicname/",
            "binding/x/y",
        ] {
            assert_eq!(Key::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_value_says_its_version() {
        let bytes = encode(&vec![1, 2]);
        assert_eq!(decode::<Vec<u8>>(&bytes).unwrap(), [1, 2]);
        assert!(matches!(decode::<Vec<u8>>(&[]), Err(DecodeError::Version(None))));
        assert!(matches!(
            decode::<Vec<u8>>(&[9, b'1']),
            Err(DecodeError::Version(Some(9)))
        ));
        assert!(matches!(decode::<Vec<u8>>(&[1, b'{']), Err(DecodeError::Json(_))));
    }
}
