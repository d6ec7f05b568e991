//! The PROXY protocol as a setting: which header a backend gets in the modes of `tcp_proxy` that have one.
//!
//! Owns the words and what goes with what; the bytes are the relay's. The operator's setting is the default, a service
//! may have a profile of its own.

use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    service::{TcpProxy, words},
};

/// Whose parsers the header is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProfile {
    /// Our own: marker id and virtual network as numbers.
    #[default]
    Vpcep,
    /// As AWS names its endpoints.
    Aws,
    /// As Google names its connections.
    Gcp,
    /// As Azure names its links.
    Azure,
    /// As SAP's Archer names its endpoints.
    Archer,
    /// Version 1, a line of text: the addresses alone.
    V1,
}

words!(
    ProxyProfile: Vpcep = "vpcep", Aws = "aws", Gcp = "gcp", Azure = "azure", Archer = "archer", V1 = "v1"
);

impl ProxyProfile {
    /// Whether the header of a mode can be written in this profile: a line of text names no network.
    pub fn can_carry(self, mode: TcpProxy) -> bool {
        !(self == Self::V1 && mode == TcpProxy::ProxyVni)
    }
}

/// Reads a service's new profile; `null` is the region's.
///
/// # Errors
/// 0002 where it is missing, or not one of the words.
pub fn parse_profile(body: &Body) -> Result<Option<ProxyProfile>, ApiError> {
    match body.get("proxy_profile") {
        None => Err(ApiError::because(Code::E0002, "proxy_profile is missing.")),
        Some(serde_json::Value::Null) => Ok(None),
        Some(value) => {
            let profile = value.as_str().and_then(ProxyProfile::from_wire);
            profile.map(Some).ok_or_else(|| {
                ApiError::because(
                    Code::E0002,
                    format!(
                        "proxy_profile: {} is not one of vpcep, aws, gcp, azure, archer, v1, and not null.",
                        body::show(value)
                    ),
                )
            })
        }
    }
}

/// The header that a gateway writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProxyHeader {
    /// Whose parsers it is for.
    pub profile: ProxyProfile,
    /// The TLV type of the marker id, in the profile `vpcep`.
    pub marker_type: u8,
    /// The TLV type of the virtual network, in every binary profile.
    pub vni_type: u8,
    /// Whether a binary header has a CRC32C.
    pub checksum: bool,
}

impl Default for ProxyHeader {
    fn default() -> Self {
        Self {
            profile: ProxyProfile::Vpcep,
            marker_type: 0xe4,
            vni_type: 0xe5,
            checksum: false,
        }
    }
}

/// The types that the protocol leaves to its users: custom ones and experiments.
const TYPES_FREE: std::ops::RangeInclusive<u8> = 0xe0..=0xf7;
/// The types of the marker id in the other profiles, in whose headers the virtual network has a place too.
const TYPES_TAKEN: [(u8, ProxyProfile); 4] = [
    (0xe0, ProxyProfile::Gcp),
    (0xea, ProxyProfile::Aws),
    (0xec, ProxyProfile::Archer),
    (0xee, ProxyProfile::Azure),
];

impl ProxyHeader {
    /// Whether each TLV can be told from the others.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn check(&self) -> Result<(), String> {
        for (name, number) in [("marker", self.marker_type), ("VNI", self.vni_type)] {
            if !TYPES_FREE.contains(&number) {
                let (first, last) = (TYPES_FREE.start(), TYPES_FREE.end());
                return Err(format!(
                    "the {name} type {number:#04x} is not one of {first:#04x} to {last:#04x}"
                ));
            }
        }
        if self.marker_type == self.vni_type {
            return Err(format!(
                "the marker and the VNI have the same type {:#04x}",
                self.vni_type
            ));
        }
        match TYPES_TAKEN.iter().find(|(number, _)| *number == self.vni_type) {
            Some((number, profile)) => Err(format!(
                "the VNI type {number:#04x} is the endpoint's in the profile {profile}"
            )),
            None => Ok(()),
        }
    }

    /// The same in another profile, if a service has one of its own.
    #[must_use]
    pub fn in_profile(self, profile: Option<ProxyProfile>) -> Self {
        Self {
            profile: profile.unwrap_or(self.profile),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_must_be_free_and_differ() {
        for (marker_type, vni_type, right) in [
            (0xe4, 0xe5, true),
            (0xe0, 0xe1, true),
            (0xf7, 0xe0 + 1, true),
            (0xe4, 0xe4, false),
            (0xdf, 0xe5, false),
            (0xf8, 0xe5, false),
            (0xe4, 0x03, false),
            (0xe4, 0xe0, false),
            (0xe4, 0xee, false),
        ] {
            let header = ProxyHeader {
                marker_type,
                vni_type,
                ..ProxyHeader::default()
            };
            assert_eq!(header.check().is_ok(), right, "{header:?}: {:?}", header.check());
        }
    }

    #[test]
    fn only_text_cannot_name_a_network() {
        for profile in ProxyProfile::ALL {
            for mode in TcpProxy::ALL {
                let right = !(*profile == ProxyProfile::V1 && *mode == TcpProxy::ProxyVni);
                assert_eq!(profile.can_carry(*mode), right, "{profile} {mode}");
            }
        }
    }
}
