//! The PROXY protocol's headers: what a backend is told of its client, before any of the client's bytes. Pure.
//!
//! Version 2 is binary and carries TLVs, which name the endpoint (marker id, or its id as text) and the consumer's
//! virtual network; version 1 is one line of text with the addresses alone. Which TLVs there are is the profile's: what
//! parsers in the field already understand. A header is made ready once per listener ([`Header`]); for each connection
//! only the addresses are filled in.
//!
//! ```text
//!   signature 12 | 0x21 PROXY, 0x20 LOCAL | 0x11 TCP over IPv4 | length u16 | addresses 12 | TLVs: type, length u16, value
//! ```
//!
//! Source: HAProxy's `proxy-protocol.txt`.

use std::net::SocketAddrV4;
use std::sync::Arc;

/// What every binary header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Two IPv4 addresses and two ports.
const ADDRESSES_BYTES: usize = 12;
const VERSION_2_LOCAL: u8 = 0x20;
const VERSION_2_PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;

const TYPE_CRC32C: u8 = 0x03;
const TYPE_GCP: u8 = 0xe0;
const TYPE_AWS: u8 = 0xea;
const TYPE_ARCHER: u8 = 0xec;
const TYPE_AZURE: u8 = 0xee;
/// The one sub-type that the AWS and Azure TLVs are used with here: the endpoint.
const SUBTYPE_ENDPOINT: u8 = 1;

/// Whose TLVs a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Marker id as u32, big-endian, and the virtual network as 3 bytes, with types of one's own choice.
    Vpcep,
    /// The endpoint's id as text, as AWS names its endpoints.
    Aws,
    /// Marker id as u64, big-endian, as Google names a connection (`pscConnectionId`).
    Gcp,
    /// Marker id as u32, little-endian, as Azure names a link (`LINKID`).
    Azure,
    /// The endpoint's id as text, as SAP's Archer does.
    Archer,
    /// Version 1: a line of text, which can name neither endpoint nor network.
    V1,
}

/// The endpoint that connections come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub endpoint: u128,
    /// Its marker id.
    pub marker: u32,
    /// The consumer's virtual network, 24 bits, where it is to be told.
    pub vni: Option<u32>,
}

/// The types of the TLVs that have no number of their own in the field. They must differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlvTypes {
    /// Of the marker id, in the profile `Vpcep`.
    pub marker: u8,
    /// Of the virtual network, in every binary profile.
    pub vni: u8,
}

impl Default for TlvTypes {
    fn default() -> Self {
        Self {
            marker: 0xe4,
            vni: 0xe5,
        }
    }
}

/// A header, complete but for the addresses. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header(Form);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Form {
    Text,
    Binary { tlvs: Arc<[u8]>, checksum: bool },
}

impl Header {
    /// The header that a profile has for an endpoint; `checksum` adds a CRC32C to a binary one.
    pub fn new(profile: Profile, identity: &Identity, types: TlvTypes, checksum: bool) -> Self {
        let mut tlvs = Vec::new();
        match profile {
            Profile::V1 => return Self(Form::Text),
            Profile::Vpcep => push(&mut tlvs, types.marker, [&identity.marker.to_be_bytes()]),
            Profile::Gcp => push(&mut tlvs, TYPE_GCP, [&u64::from(identity.marker).to_be_bytes()]),
            Profile::Azure => {
                let marker = identity.marker.to_le_bytes();
                push(&mut tlvs, TYPE_AZURE, [&[SUBTYPE_ENDPOINT][..], &marker]);
            }
            Profile::Aws => {
                let id = id_text(identity.endpoint);
                push(&mut tlvs, TYPE_AWS, [&[SUBTYPE_ENDPOINT], id.as_bytes()]);
            }
            Profile::Archer => push(&mut tlvs, TYPE_ARCHER, [id_text(identity.endpoint).as_bytes()]),
        }
        if let Some(vni) = identity.vni {
            push(&mut tlvs, types.vni, [&vni.to_be_bytes()[1..]]);
        }
        Self(Form::Binary {
            tlvs: tlvs.into(),
            checksum,
        })
    }

    /// The bytes for a connection from `source` to `destination`.
    pub fn encode(&self, source: SocketAddrV4, destination: SocketAddrV4) -> Box<[u8]> {
        match &self.0 {
            Form::Text => text(source, destination),
            Form::Binary { tlvs, checksum } => {
                let addresses = addresses(source, destination);
                binary(VERSION_2_PROXY, TCP_OVER_IPV4, &addresses, tlvs, *checksum)
            }
        }
    }

    /// The bytes for a connection of our own, such as a health probe: it speaks for nobody else, and so has neither addresses nor
    /// an endpoint, but the checksum, since a receiver may insist on that. Version 1 has no such command, and says `UNKNOWN`.
    pub fn local(&self) -> Box<[u8]> {
        match self.0 {
            Form::Text => (*b"PROXY UNKNOWN\r\n").into(),
            Form::Binary { checksum, .. } => binary(VERSION_2_LOCAL, UNSPECIFIED, &[], &[], checksum),
        }
    }
}

fn text(source: SocketAddrV4, destination: SocketAddrV4) -> Box<[u8]> {
    let (from, to) = (source.ip(), destination.ip());
    let (from_port, to_port) = (source.port(), destination.port());
    format!("PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        .into_bytes()
        .into()
}

fn addresses(source: SocketAddrV4, destination: SocketAddrV4) -> [u8; ADDRESSES_BYTES] {
    let mut bytes = [0; ADDRESSES_BYTES];
    bytes[..4].copy_from_slice(&source.ip().octets());
    bytes[4..8].copy_from_slice(&destination.ip().octets());
    bytes[8..10].copy_from_slice(&source.port().to_be_bytes());
    bytes[10..].copy_from_slice(&destination.port().to_be_bytes());
    bytes
}

fn binary(command: u8, family: u8, addresses: &[u8], tlvs: &[u8], checksum: bool) -> Box<[u8]> {
    let checksum_bytes = if checksum { 3 + 4 } else { 0 };
    let rest = addresses.len() + tlvs.len() + checksum_bytes;
    let mut bytes = Vec::with_capacity(FIXED_BYTES + rest);
    bytes.extend_from_slice(&SIGNATURE);
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(rest as u16).to_be_bytes());
    bytes.extend_from_slice(addresses);
    bytes.extend_from_slice(tlvs);
    if checksum {
        // Of the whole header, with zeros where it will be.
        push(&mut bytes, TYPE_CRC32C, [&[0; 4]]);
        let crc = crc32c::crc32c(&bytes);
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.into()
}

fn push<const N: usize>(bytes: &mut Vec<u8>, kind: u8, value: [&[u8]; N]) {
    let length: usize = value.iter().map(|part| part.len()).sum();
    bytes.push(kind);
    bytes.extend_from_slice(&(length as u16).to_be_bytes());
    for part in value {
        bytes.extend_from_slice(part);
    }
}

/// A UUID as it is written.
fn id_text(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: &str = "192.168.14.50:41234";
    const DESTINATION: &str = "192.168.14.23:8080";
    const IDENTITY: Identity = Identity {
        endpoint: 0x4189_d3c2_8882_4871_a3c2_d380_272e_ed83,
        marker: 201_515_772,
        vni: None,
    };
    const WITH_VNI: Identity = Identity {
        vni: Some(0x0012ab),
        ..IDENTITY
    };

    fn encoded(profile: Profile, identity: &Identity, checksum: bool) -> Box<[u8]> {
        Header::new(profile, identity, TlvTypes::default(), checksum)
            .encode(SOURCE.parse().unwrap(), DESTINATION.parse().unwrap())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_profile_is_byte_exact() {
        let head = "0d0a0d0a000d0a515549540a2111";
        let addresses = "c0a80e32c0a80e17a1121f90";
        for (profile, identity, checksum, length, tlvs) in [
            (Profile::Vpcep, IDENTITY, false, "0013", "e400040c02e2fc"),
            (
                Profile::Vpcep,
                WITH_VNI,
                false,
                "0019",
                "e400040c02e2fce500030012ab",
            ),
            (
                Profile::Vpcep,
                IDENTITY,
                true,
                "001a",
                "e400040c02e2fc030004375ffd13",
            ),
            (Profile::Gcp, IDENTITY, false, "0017", "e00008000000000c02e2fc"),
            (Profile::Azure, IDENTITY, false, "0014", "ee000501fce2020c"),
            (
                Profile::Archer,
                IDENTITY,
                false,
                "0033",
                "ec002434313839643363322d383838322d343837312d613363322d643338303237326565643833",
            ),
            (
                Profile::Aws,
                IDENTITY,
                false,
                "0034",
                "ea00250134313839643363322d383838322d343837312d613363322d643338303237326565643833",
            ),
            (
                Profile::Gcp,
                WITH_VNI,
                false,
                "001d",
                "e00008000000000c02e2fce500030012ab",
            ),
        ] {
            let expected = format!("{head}{length}{addresses}{tlvs}");
            assert_eq!(
                hex(&encoded(profile, &identity, checksum)),
                expected,
                "{profile:?}"
            );
        }
    }

    #[test]
    fn text_is_one_line() {
        assert_eq!(
            &*encoded(Profile::V1, &WITH_VNI, true),
            b"PROXY TCP4 192.168.14.50 192.168.14.23 41234 8080\r\n"
        );
    }

    #[test]
    fn types_can_be_chosen() {
        let types = TlvTypes {
            marker: 0xe1,
            vni: 0xf0,
        };
        let header = Header::new(Profile::Vpcep, &WITH_VNI, types, false);
        let bytes = header.encode(SOURCE.parse().unwrap(), DESTINATION.parse().unwrap());
        assert_eq!(hex(&bytes[28..]), "e100040c02e2fcf000030012ab");
    }

    #[test]
    fn a_probe_speaks_for_nobody() {
        let local =
            |profile, checksum| Header::new(profile, &IDENTITY, TlvTypes::default(), checksum).local();
        let bare = "0d0a0d0a000d0a515549540a20000000";
        assert_eq!(hex(&local(Profile::Vpcep, false)), bare);
        let checked = "0d0a0d0a000d0a515549540a20000007030004a9b87e8f";
        assert_eq!(hex(&local(Profile::Vpcep, true)), checked);
        assert_eq!(&*local(Profile::V1, true), b"PROXY UNKNOWN\r\n");
    }

    /// Parsers that nobody here wrote.
    mod read_by_others {
        use ppp::{v1, v2};
        use proxy_header::{ParseConfig, ProxyHeader};

        use super::*;

        const PROFILES: [Profile; 5] = [
            Profile::Vpcep,
            Profile::Aws,
            Profile::Gcp,
            Profile::Azure,
            Profile::Archer,
        ];

        fn address() -> impl Strategy<Value = SocketAddrV4> {
            (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port))
        }

        fn value(profile: Profile, identity: &Identity) -> Vec<u8> {
            let id = id_text(identity.endpoint).into_bytes();
            match profile {
                Profile::Vpcep => identity.marker.to_be_bytes().into(),
                Profile::Gcp => u64::from(identity.marker).to_be_bytes().into(),
                Profile::Azure => [&[1][..], &identity.marker.to_le_bytes()].concat(),
                Profile::Aws => [&[1][..], &id].concat(),
                Profile::Archer | Profile::V1 => id,
            }
        }

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn both_read_every_field(
                source in address(),
                destination in address(),
                endpoint in any::<u128>(),
                marker in any::<u32>(),
                vni in proptest::option::of(0_u32..1 << 24),
                checksum in any::<bool>(),
                profile in proptest::sample::select(PROFILES.as_slice()),
            ) {
                let identity = Identity { endpoint, marker, vni };
                let bytes = Header::new(profile, &identity, TlvTypes::default(), checksum).encode(source, destination);
                let mut expected = vec![value(profile, &identity)];
                expected.extend(vni.map(|vni| vni.to_be_bytes()[1..].to_vec()));

                let header = v2::Header::try_from(&*bytes).expect("ppp reads it");
                prop_assert_eq!(header.command, v2::Command::Proxy);
                prop_assert_eq!(header.protocol, v2::Protocol::Stream);
                prop_assert_eq!(
                    header.addresses,
                    v2::Addresses::IPv4(v2::IPv4::new(*source.ip(), *destination.ip(), source.port(), destination.port()))
                );
                let tlvs = header.tlvs().map(|tlv| tlv.expect("a whole TLV"));
                let (checksums, others): (Vec<_>, Vec<_>) = tlvs.partition(|tlv| tlv.kind == TYPE_CRC32C);
                prop_assert_eq!(checksums.len(), usize::from(checksum));
                let values: Vec<_> = others.iter().map(|tlv| tlv.value.to_vec()).collect();
                prop_assert_eq!(&values, &expected);

                let (header, length) = ProxyHeader::parse(&bytes, ParseConfig::default()).expect("proxy-header reads it");
                prop_assert_eq!(length, bytes.len());
                let addresses = header.proxied_address().expect("an address");
                prop_assert_eq!((addresses.source, addresses.destination), (source.into(), destination.into()));
                let tlvs = header.tlvs().map(|tlv| tlv.expect("a whole TLV"));
                let values: Vec<_> = tlvs
                    .filter_map(|tlv| match tlv {
                        proxy_header::Tlv::Custom(_, value) => Some(value.into_owned()),
                        _ => None,
                    })
                    .collect();
                prop_assert_eq!(values, expected);
            }

            #[test]
            fn both_read_the_line(source in address(), destination in address()) {
                let line = text(source, destination);
                let header = v1::Header::try_from(&*line).expect("ppp reads it");
                let expected = v1::Addresses::new_tcp4(*source.ip(), *destination.ip(), source.port(), destination.port());
                prop_assert_eq!(header.addresses, expected);
                let (header, length) = ProxyHeader::parse(&line, ParseConfig::default()).expect("proxy-header reads it");
                prop_assert_eq!(length, line.len());
                let addresses = header.proxied_address().expect("an address");
                prop_assert_eq!((addresses.source, addresses.destination), (source.into(), destination.into()));
            }
        }

        #[test]
        fn a_probe_is_local_to_both() {
            let each = [
                (Profile::Vpcep, false),
                (Profile::Vpcep, true),
                (Profile::V1, false),
            ];
            for (profile, checksum) in each {
                let bytes = Header::new(profile, &IDENTITY, TlvTypes::default(), checksum).local();
                if profile == Profile::V1 {
                    let header = v1::Header::try_from(&*bytes).unwrap();
                    assert_eq!(header.addresses, v1::Addresses::Unknown);
                } else {
                    let header = v2::Header::try_from(&*bytes).unwrap();
                    assert_eq!(header.command, v2::Command::Local);
                }
                let (header, length) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
                assert_eq!((length, header.proxied_address()), (bytes.len(), None));
                let tlvs: Vec<_> = header.tlvs().map(|tlv| tlv.expect("a whole TLV")).collect();
                assert_eq!(tlvs.len(), usize::from(checksum));
            }
        }
    }
}
