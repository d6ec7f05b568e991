//! Identifiers as types, so that one cannot stand where another belongs.
//!
//! Owns their syntax; never says which error code a malformed one raises (that depends on the field).

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not an identifier of the wanted form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed identifier")]
pub struct Malformed;

/// A UUID in its 36-character form only: `Uuid` itself also reads braced, URN and bare forms, which the API does not.
fn parse_uuid(text: &str) -> Result<Uuid, Malformed> {
    if text.len() != 36 {
        return Err(Malformed);
    }
    Uuid::try_parse(text).map_err(|_| Malformed)
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random identifier.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                parse_uuid(text).map(Self)
            }
        }
    )*};
}

uuid_id! {
    /// An endpoint service.
    ServiceId;
    /// An endpoint; also the id of the connection that it is to its service's owner.
    EndpointId;
    /// A VPC; in Neutron's words a router.
    VpcId;
    /// A subnet as VPC v1 and VPCEP name it; in Neutron's words the id of its *network*.
    SubnetId;
    /// The same subnet's own id in Neutron (`neutron_subnet_id`).
    NeutronSubnetId;
    /// A port (a network interface, or the port of a load balancer's private address).
    PortId;
    /// A VPC's route table.
    RouteTableId;
    /// A load balancer.
    LoadBalancerId;
    /// A pool of gateways (`pool_id`, `endpoint_pool_id`).
    PoolId;
    /// A whitelist record.
    RecordId;
}

// A few accounts and projects own everything: their ids are cheap to copy, and those who keep many documents keep each
// text once.
macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident, $rule:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;
            fn from_str(text: &str) -> Result<Self, Malformed> {
                let rule: fn(&str) -> bool = $rule;
                if rule(text) { Ok(Self(text.into())) } else { Err(Malformed) }
            }
        }
    )*};
}

text_id! {
    /// An IAM project: 32 hexadecimal digits (spec 0.1).
    ProjectId, |t| t.len() == 32 && t.bytes().all(|b| b.is_ascii_hexdigit());
    /// An account (domain): opaque, 1 to 64 characters (spec 0.1), of letters, digits, `-` and `_`.
    DomainId, |t| (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
}

/// The packet id of a connection: positive, 31 bits, unique among all endpoints (spec A.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MarkerId(u32);

impl MarkerId {
    /// Takes the number if it is in `1..=2^31-1`.
    pub fn new(number: u32) -> Option<Self> {
        (1..=i32::MAX as u32).contains(&number).then_some(Self(number))
    }

    /// Folds any number into the range; for picking one at random.
    pub fn from_random(number: u32) -> Self {
        Self((number & i32::MAX as u32).max(1))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for MarkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a virtual network: positive, 24 bits, unique among the VPCs of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vni(u32);

impl Vni {
    /// The largest one.
    pub const MAX: u32 = (1 << 24) - 1;

    /// Takes the number if it is in `1..=2^24-1`.
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// Folds any number into the range; for picking one at random.
    pub fn from_random(number: u32) -> Self {
        Self((number & Self::MAX).max(1))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_36_character_form_is_a_uuid() {
        let id = "4189d3c2-8882-4871-a3c2-d380272eed88";
        assert_eq!(id.parse::<PortId>().unwrap().to_string(), id);
        assert_eq!(id.to_uppercase().parse::<PortId>().unwrap().to_string(), id);
        for bad in [
            "",
            "port-1",
            "4189d3c288824871a3c2d380272eed88",
            "{4189d3c2-8882-4871-a3c2-d380272eed88}",
            "urn:uuid:4189d3c2-8882-4871-a3c2-d380272eed88",
        ] {
            assert_eq!(bad.parse::<PortId>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn a_project_is_32_hexadecimal_digits() {
        assert!("6e9dfd51d1124e8d8498dce894923a0d".parse::<ProjectId>().is_ok());
        for bad in [
            "",
            "6e9dfd51d1124e8d8498dce894923a0",
            "6e9dfd51d1124e8d8498dce894923a0d0",
            "xe9dfd51d1124e8d8498dce894923a0d",
        ] {
            assert_eq!(bad.parse::<ProjectId>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn a_marker_id_is_positive_and_fits_31_bits() {
        assert_eq!(MarkerId::new(0), None);
        assert_eq!(MarkerId::new(1 << 31), None);
        assert_eq!(
            MarkerId::new(i32::MAX as u32).map(MarkerId::get),
            Some(i32::MAX as u32)
        );
        assert_eq!(MarkerId::from_random(1 << 31).get(), 1);
    }

    #[test]
    fn a_vni_is_positive_and_fits_24_bits() {
        assert_eq!(Vni::new(0), None);
        assert_eq!(Vni::new(1 << 24), None);
        assert_eq!(Vni::new(Vni::MAX).map(Vni::get), Some(0xff_ffff));
        assert_eq!(Vni::from_random(1 << 24).get(), 1);
    }
}
