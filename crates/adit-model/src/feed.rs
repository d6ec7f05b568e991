//! The node feed: what a gateway is told, and what it answers.
//!
//! The control plane says what should be ([`EndpointSpec`], all that a gateway needs to serve one endpoint); the gateway
//! says what is ([`EndpointReport`]). Owns the types of both directions; never how they travel (in process, or by HTTP).

use std::{collections::BTreeMap, net::Ipv4Addr, num::NonZeroU32, sync::Arc};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    diagnosis::Examination,
    id::{EndpointId, MarkerId, ServiceId, Vni},
    port_mapping::PortMapping,
    proxy::ProxyHeader,
    service::TcpProxy,
};

/// One endpoint as a gateway has to serve it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The endpoint.
    pub id: EndpointId,
    /// Grows with every change of the specification: the newest store revision that it was made from.
    pub generation: u64,
    /// Its service.
    pub service: ServiceId,
    /// Its packet id.
    pub marker: MarkerId,
    /// Where clients are.
    pub consumer: ConsumerLeg,
    /// Where the backend is.
    pub provider: ProviderLeg,
    /// The port mappings: `client_port` is listened on, `server_port` connected to. One that goes takes no connection
    /// along, unless it was the last.
    pub ports: Vec<PortMapping>,
    /// How the backend learns of the client.
    pub tcp_proxy: TcpProxy,
    /// The header that it gets, in the modes that have one.
    pub proxy: ProxyHeader,
    /// At most so many connections at a time.
    pub connections_max: u32,
    /// At most so many new connections in a second; absent for as many as come.
    pub new_per_second_max: Option<NonZeroU32>,
    /// Without ports: how many seconds the connections that there are may go on; 0 cuts them.
    pub drain_s: u32,
    /// The only clients that may connect (spec semantics 10); absent for everybody, empty for nobody.
    pub allowed: Option<Vec<Ipv4Net>>,
}

/// The side that listens: in the consumer's VPC.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConsumerLeg {
    /// The name of the VPC's namespace on the node.
    pub namespace: Arc<str>,
    /// The number of the VPC's virtual network, where it has one.
    pub vni: Option<Vni>,
    /// What of the VPC leads to the endpoint.
    pub ingress: Ingress,
}

/// What of the consumer's VPC leads to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ingress {
    /// An address of its own (interface endpoint).
    Address {
        /// The address.
        ip: Ipv4Addr,
        /// The subnet that it is from: the address goes on the link that has an address in this block.
        subnet: Ipv4Net,
    },
    /// The service's own addresses: clients connect to those of the backends (gateway endpoint). None of the blocks
    /// overlaps another.
    Blocks(Vec<Ipv4Net>),
}

/// The side that connects: the provider's VPC.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProviderLeg {
    /// The name of the VPC's namespace on the node.
    pub namespace: Arc<str>,
    /// The address that connections come from, out of 198.19.128.0/17; where the gateway has a slice it picks one itself.
    pub source: Ipv4Addr,
    /// The part of that range that is the gateway's own; absent where all of it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Ipv4Net>,
    /// The backend port's address; absent where it is the one that the client connects to.
    pub backend: Option<Ipv4Addr>,
    /// Further backends: connections go to each of all of them in turn.
    #[serde(default, skip_serializing_if = "<[Ipv4Addr]>::is_empty")]
    pub more_backends: Box<[Ipv4Addr]>,
}

/// Everything a gateway should serve.
pub type Desired = BTreeMap<EndpointId, EndpointSpec>;

/// What the control plane sends down the feed, in order. The first event is a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum FeedEvent {
    /// Everything there is; whatever is not in it is to be removed. Comes in pieces where it is much: see [`Pieces`].
    Snapshot {
        /// All specifications, or as many as this piece has.
        endpoints: Vec<EndpointSpec>,
        /// Whether another piece follows.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    /// One endpoint is new or has changed.
    Put {
        /// Its specification.
        endpoint: EndpointSpec,
    },
    /// One endpoint is to be served no more: close its listeners, end its connections, and answer
    /// [`EndpointReport::Removed`], also where it is not known.
    Remove {
        /// The endpoint.
        id: EndpointId,
        /// How many seconds its connections may go on; 0 cuts them.
        drain_s: u32,
    },
    /// Somebody wants to know whether one endpoint passes traffic, now: look, call its backend, and answer
    /// [`EndpointReport::Examined`]. Changes nothing.
    Examine {
        /// The endpoint.
        id: EndpointId,
        /// The client port that is asked about.
        port: u16,
        /// By which the answer is known.
        number: u64,
    },
    /// Who else is in a VPC that the gateway has a namespace of.
    Peers {
        /// The VPC: [`crate::network::vpc_hash`] of its id.
        vpc: String,
        /// The other gateways.
        peers: Vec<Peer>,
    },
    /// The answer to [`EndpointReport::Contested`] for whoever serves the endpoint by the present placement: the address is
    /// its own, and it may say so once more.
    Defend {
        /// The endpoint.
        id: EndpointId,
    },
    /// Say once more where the endpoint's address is: another gateway serves it, too, or has until now, and clients may know the
    /// address as that one's.
    Announce {
        /// The endpoint.
        id: EndpointId,
    },
}

/// Joins the pieces of a snapshot: nothing is done on a part of it, since what is missing would be removed.
#[derive(Debug, Default)]
pub struct Pieces(Vec<EndpointSpec>);

impl Pieces {
    /// The event, once it is whole; others pass as they are. Whoever hears the feed from its beginning again joins anew.
    pub fn join(&mut self, event: FeedEvent) -> Option<FeedEvent> {
        let FeedEvent::Snapshot { mut endpoints, more } = event else {
            return Some(event);
        };
        self.0.append(&mut endpoints);
        (!more).then(|| FeedEvent::Snapshot {
            endpoints: std::mem::take(&mut self.0),
            more: false,
        })
    }
}

/// Another gateway in a VPC: what is sent to its source addresses has to get there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its source addresses.
    pub slice: Ipv4Net,
    /// Its own addresses in the VPC.
    pub addresses: Vec<Ipv4Addr>,
}

/// What a gateway says of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The endpoint.
    pub id: EndpointId,
    /// What is.
    pub status: EndpointReport,
}

/// How one endpoint stands on a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EndpointReport {
    /// Every mapping of the specification of this generation is listened on.
    Listening {
        /// [`EndpointSpec::generation`] of what is served.
        generation: u64,
    },
    /// Not yet, and it will be tried again: a namespace that is not there, an address that is still held.
    Waiting {
        /// [`EndpointSpec::generation`] of what is tried.
        generation: u64,
        /// What it waits for, for a person.
        reason: String,
    },
    /// It serves nothing for this endpoint any more.
    Removed,
    /// Another station has announced the endpoint's address: whose is it? Says nothing of the state.
    Contested {
        /// The station's hardware address.
        by: String,
    },
    /// How the backend of the endpoint's service has answered a probe; says nothing of the endpoint.
    Backend {
        /// Each port that the service leads to.
        ports: Vec<ProbedPort>,
    },
    /// The answer to [`FeedEvent::Examine`]; says nothing of the state.
    Examined {
        /// The question's number.
        number: u64,
        /// What was found.
        examination: Examination,
    },
}

/// How a backend's port has answered a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedPort {
    /// The port.
    pub port: u16,
    /// Why it does not answer: a reason as the connection log has it, after the address where the port has several, each that
    /// does not answer; absent where all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// What a gateway can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The modes that it can serve.
    pub tcp_proxy: Vec<TcpProxy>,
    /// Why it cannot serve others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingMode>,
}

/// A mode that a gateway cannot serve where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingMode {
    /// The mode.
    pub tcp_proxy: TcpProxy,
    /// What is in the way, as the part of a sentence.
    pub reason: String,
    /// What its operator can do about it, in whole sentences.
    pub remedy: String,
}
