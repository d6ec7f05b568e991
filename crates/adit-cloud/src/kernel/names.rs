//! Names of namespaces and links: short enough for the kernel (15 characters), unique by a hash of the id, and for
//! namespaces with the region's instance in them, so that two regions on one host never meet.

use std::fmt;
use std::str::FromStr;

use adit_model::id::{Malformed, PortId, SubnetId, VpcId};
pub use adit_model::network::vpc_hash;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long an instance's text is, characters.
const INSTANCE_LEN: usize = 5;

/// How long the hash of an id is in a name, hexadecimal digits.
const HASH_LEN: usize = 8;

/// A region's id in the names of its namespaces: 5 lower-case letters or digits, made up once for each data directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance(String);

impl Instance {
    /// What the names of all its namespaces begin with.
    pub(super) fn prefix(&self) -> String {
        format!("a{}", self.0)
    }

    /// Whether a name is one that this module gives in this region.
    pub(super) fn owns(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.prefix());
        let hash = rest.and_then(|rest| rest.strip_prefix(['v', 'p']));
        hash.is_some_and(|hash| hash.len() == HASH_LEN && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

impl FromStr for Instance {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if text.len() == INSTANCE_LEN && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed)
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a VPC's namespace, as in `aq7x2mv1f3870be`.
#[must_use]
pub fn vpc_namespace(instance: &Instance, vpc: VpcId) -> String {
    format!("{}v{}", instance.prefix(), vpc_hash(vpc))
}

/// The name of a port's namespace, as in `aq7x2mp1f3870be`.
#[must_use]
pub fn port_namespace(instance: &Instance, port: PortId) -> String {
    format!("{}p{}", instance.prefix(), hash(port.0))
}

/// The name of a subnet's bridge in its VPC's namespace.
pub(super) fn bridge(subnet: SubnetId) -> String {
    format!("s{}", hash(subnet.0))
}

/// The name of a port's veth end in its VPC's namespace.
pub(super) fn veth(port: PortId) -> String {
    format!("p{}", hash(port.0))
}

/// Not the id's own beginning: ids that people make up often share it.
fn hash(id: Uuid) -> String {
    Sha256::digest(id.as_bytes())
        .iter()
        .take(HASH_LEN / 2)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_tell_alike_ids_apart() {
        let instance: Instance = "q7x2m".parse().unwrap();
        let vpc: VpcId = "4189d3c2-8882-4871-a3c2-d380272eed80".parse().unwrap();
        let name = vpc_namespace(&instance, vpc);
        assert_eq!(name.len(), 15);
        assert!(name.starts_with("aq7x2mv"));
        assert!(instance.owns(&name));
        let port: PortId = "4189d3c2-8882-4871-a3c2-d380272eed88".parse().unwrap();
        let name = port_namespace(&instance, port);
        assert_eq!(name.len(), 15);
        assert!(instance.owns(&name));
        assert_ne!(veth(port), veth(PortId(vpc.0)));
    }

    #[test]
    fn foreign_names_are_not_owned() {
        let instance: Instance = "q7x2m".parse().unwrap();
        for name in [
            "aq7x2m",
            "aq7x2mv",
            "aq7x2mx1f3870be",
            "aq7x2mv1f3870beff",
            "aq7x2nv1f3870be",
            "q7x2m",
        ] {
            assert!(!instance.owns(name), "{name}");
        }
        for text in ["", "q7x2", "q7x2mm", "Q7x2m", "q7/2m"] {
            assert_eq!(text.parse::<Instance>(), Err(Malformed), "{text}");
        }
    }
}
