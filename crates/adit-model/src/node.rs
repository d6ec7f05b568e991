//! A gateway of its own process, and the lines that it and the control plane exchange.
//!
//! The feed's events and reports are [`crate::feed`]'s; here is what they travel in by HTTP: lines of JSON down
//! ([`FeedLine`]), bodies of JSON up ([`NodeStatus`]). Owns their form; never how often they are sent.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    feed::{Capabilities, FeedEvent, Report},
    id::{Malformed, PortId, RouteTableId, SubnetId, VpcId},
    network::{Port, RouteTable, Subnet, Vpc},
    time::Timestamp,
};

/// A gateway that was not heard of for so long is away, and others get what it served.
///
/// Four signs of life long, so that a loaded machine is not taken for a dead one; and short enough that traffic goes again within three
/// seconds of a death.
pub const SILENCE: Duration = Duration::from_secs(2);
/// A gateway whose words were not answered for so long is on its own. Reckoned from when it spoke, so that it knows this
/// before anybody gets what it serves, with time left to stop.
pub const CONTACT: Duration = Duration::from_millis(1250);
const _: () = assert!(CONTACT.as_millis() < SILENCE.as_millis());

/// The longest name of a gateway, in characters: that of a host.
pub const NODE_NAME_CHARS_MAX: usize = 63;

/// The name of a gateway, which its operator gives it: 1 to 63 lower-case letters, digits, `-` and `.`, a letter or digit first.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        let all = text.bytes().all(|b| plain(b) || b == b'-' || b == b'.');
        match first && all && text.len() <= NODE_NAME_CHARS_MAX {
            true => Ok(Self(text.into())),
            false => Err(Malformed),
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.to_string()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a gateway has read its feed: `INCARNATION.REVISION`.
///
/// Revisions count the changes of one gateway's feed in one process of the control plane; another process's, or those from
/// before a restart, have another incarnation, and then the gateway is sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FeedPosition {
    /// Whose count it is.
    pub incarnation: Uuid,
    /// The last change that was read.
    pub revision: u64,
}

impl FeedPosition {
    /// Where nobody can go on: before all of what there is was told.
    pub const NOWHERE: Self = Self {
        incarnation: Uuid::nil(),
        revision: 0,
    };
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation.simple(), self.revision)
    }
}

impl FromStr for FeedPosition {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (incarnation, revision) = text.split_once('.').ok_or(Malformed)?;
        let digits = !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_digit());
        match (Uuid::try_parse(incarnation), revision.parse()) {
            (Ok(incarnation), Ok(revision)) if digits => Ok(Self {
                incarnation,
                revision,
            }),
            _ => Err(Malformed),
        }
    }
}

impl TryFrom<String> for FeedPosition {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<FeedPosition> for String {
    fn from(position: FeedPosition) -> Self {
        position.to_string()
    }
}

/// A line of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "line")]
pub enum FeedLine {
    /// Something is to be done.
    Event {
        /// Where the feed is once this is done.
        position: FeedPosition,
        /// What.
        what: Box<FeedEvent>,
    },
    /// Nothing is new: whoever hears neither for a while has lost the other.
    Beat,
}

/// What a gateway says of itself, now and then, and of its endpoints, at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Which gateway.
    pub node: NodeName,
    /// The version of its program.
    pub version: String,
    /// Which networks it is on, by whatever names them apart from others: two gateways on the same share their namespaces.
    #[serde(default)]
    pub machine: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it does.
    pub load: Load,
    /// What it has done.
    #[serde(default)]
    pub reports: Vec<Report>,
    /// Which VPCs have come or gone there since it said so last; absent where none have. Whoever never says anything of them
    /// has all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legs: Option<Legs>,
}

/// A VPC that a gateway has a namespace of, and so can have a leg in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Which: [`crate::network::vpc_hash`] of its id.
    pub vpc: String,
    /// The gateway's own addresses there, by which others reach it.
    pub addresses: Vec<Ipv4Addr>,
}

/// What has changed of a gateway's legs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legs {
    /// Whether `here` is all that there is.
    pub all: bool,
    /// Those that are new, or have other addresses.
    pub here: Vec<Leg>,
    /// Those that are no more: [`Leg::vpc`].
    #[serde(default)]
    pub gone: Vec<String>,
}

/// What a gateway does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Endpoints that it was told to serve.
    pub endpoints: u64,
    /// Connections that are open.
    pub connections: u64,
}

/// A gateway that has been heard of lately, as it is kept in the store for as long as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where it was heard from.
    pub address: String,
    /// The version of its program.
    pub version: String,
    /// Which networks it is on, by whatever names them apart from others; empty where that is not known.
    #[serde(default)]
    pub machine: String,
    /// What it does.
    pub load: Load,
    /// The epoch of the placement that it was last told by.
    #[serde(default)]
    pub epoch: u64,
    /// When it was last heard of.
    pub seen_at: Timestamp,
}

/// A gateway that gets no shards, since its operator is about to stop it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Its name.
    pub name: NodeName,
    /// Since when.
    pub since: Timestamp,
}

/// The embedded cloud's networks, or some of them: for gateways that make its VPCs themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// Where the stream is with this: whoever comes again with it gets what has changed since. Its numbers are the store's
    /// revisions, the same in every process of the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<FeedPosition>,
    /// Its VPCs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vpcs: Vec<Arc<Vpc>>,
    /// Their subnets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Arc<Subnet>>,
    /// What is in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Arc<Port>>,
    /// Their routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route_tables: Vec<Arc<RouteTable>>,
}

/// One of the embedded cloud's networks, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkId {
    /// A VPC.
    Vpc(VpcId),
    /// A subnet.
    Subnet(SubnetId),
    /// A port.
    Port(PortId),
    /// A route table.
    RouteTable(RouteTableId),
}

/// A line of the networks' stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "line")]
pub enum NetworksLine {
    /// All of them, as they are now.
    Networks(Networks),
    /// What has changed.
    Changes {
        /// What is new, or another.
        put: Networks,
        /// What is no more.
        gone: Vec<NetworkId>,
    },
    /// Nothing is new.
    Beat,
}

/// The networks that somebody was told of, by their ids: what is wanted of the kernel is made of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownNetworks {
    /// As far as they were told.
    pub position: Option<FeedPosition>,
    /// VPCs.
    pub vpcs: BTreeMap<VpcId, Arc<Vpc>>,
    /// Subnets.
    pub subnets: BTreeMap<SubnetId, Arc<Subnet>>,
    /// Ports.
    pub ports: BTreeMap<PortId, Arc<Port>>,
    /// Route tables.
    pub route_tables: BTreeMap<RouteTableId, Arc<RouteTable>>,
}

impl KnownNetworks {
    /// Takes in what a line says. Answers whether anything is another.
    pub fn learn(&mut self, line: NetworksLine) -> bool {
        match line {
            NetworksLine::Beat => return false,
            NetworksLine::Networks(all) => {
                *self = Self::default();
                self.put(all);
            }
            NetworksLine::Changes { put, gone } => {
                let nothing = gone.is_empty()
                    && put
                        == (Networks {
                            position: put.position,
                            ..Networks::default()
                        });
                self.put(put);
                for id in gone {
                    match id {
                        NetworkId::Vpc(id) => drop(self.vpcs.remove(&id)),
                        NetworkId::Subnet(id) => drop(self.subnets.remove(&id)),
                        NetworkId::Port(id) => drop(self.ports.remove(&id)),
                        NetworkId::RouteTable(id) => drop(self.route_tables.remove(&id)),
                    }
                }
                return !nothing;
            }
        }
        true
    }

    fn put(&mut self, networks: Networks) {
        let Networks {
            position,
            vpcs,
            subnets,
            ports,
            route_tables,
        } = networks;
        self.position = position;
        self.vpcs.extend(vpcs.into_iter().map(|vpc| (vpc.id, vpc)));
        self.subnets
            .extend(subnets.into_iter().map(|subnet| (subnet.id, subnet)));
        self.ports.extend(ports.into_iter().map(|port| (port.id, port)));
        self.route_tables
            .extend(route_tables.into_iter().map(|table| (table.id, table)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_hosts() {
        for good in ["a", "gateway-1", "1.edge.example", &"a".repeat(63)] {
            assert_eq!(good.parse::<NodeName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "ä", &"a".repeat(64)] {
            assert_eq!(bad.parse::<NodeName>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let position = FeedPosition {
            incarnation: Uuid::from_u128(7),
            revision: u64::MAX,
        };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", ".", "1", "7.", "x.1", "00000000000000000000000000000007.+1"] {
            assert_eq!(bad.parse::<FeedPosition>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn what_is_known_follows_what_is_said() {
        let vpc = |n: u128, name: &str| {
            let vpc = serde_json::json!({"id": Uuid::from_u128(n), "project": "6e9dfd51d1124e8d8498dce894923a0d",
                "name": name, "description": "", "cidr": null, "vni": 7,
                "created": {"order": 1, "at": "2026-01-01T00:00:00Z"}, "updated_at": "2026-01-01T00:00:00Z"});
            Arc::new(serde_json::from_value::<Vpc>(vpc).unwrap())
        };
        let position = |revision| {
            Some(FeedPosition {
                incarnation: Uuid::from_u128(1),
                revision,
            })
        };
        let some = |revision, vpcs: &[&Arc<Vpc>]| Networks {
            position: position(revision),
            vpcs: vpcs.iter().map(|vpc| Arc::clone(vpc)).collect(),
            ..Networks::default()
        };
        let (one, other, renamed) = (vpc(1, "one"), vpc(2, "two"), vpc(2, "other"));
        let mut known = KnownNetworks::default();
        assert!(known.learn(NetworksLine::Networks(some(1, &[&one, &other]))));
        assert!(!known.learn(NetworksLine::Beat));
        let changes = |put, gone| NetworksLine::Changes { put, gone };
        assert!(!known.learn(changes(some(2, &[]), Vec::new())));
        assert_eq!(known.position, position(2), "also where nothing is another");
        let gone = vec![NetworkId::Vpc(one.id), NetworkId::Vpc(VpcId(Uuid::from_u128(9)))];
        assert!(known.learn(changes(some(3, &[&renamed]), gone)));
        let names: Vec<_> = known.vpcs.values().map(|vpc| vpc.name.as_str()).collect();
        assert_eq!(names, ["other"]);
        // All of them: what is not among them is not there.
        assert!(known.learn(NetworksLine::Networks(some(4, &[&one]))));
        assert_eq!((known.vpcs.len(), known.position), (1, position(4)));
    }
}
