//! Port mappings: which port of an endpoint leads to which port of the backend (spec 0.6).
//!
//! Owns their syntax and the list's own rules. The rule across services that share a backend port is a claim
//! ([`Claims`]), because what must be unique has to be one document in the store.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body,
    catalogue::{ApiError, Code},
    fitted,
    id::ServiceId,
};

/// At most so many mappings in a call (spec 0.6, rule 2).
pub const MAPPINGS_MAX: usize = 200;

/// The transport protocol of a mapping; TCP is all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
}

/// One mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The port that is opened on the endpoint, 1 to 65535.
    pub client_port: u16,
    /// The backend's port, 1 to 65535.
    pub server_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// Reads and checks the `ports` of a request: rules 10 to 15 of spec A.4, in that order over the whole list.
///
/// # Errors
/// The rule's code: 2028 (missing or empty), 3004 (not an array, client port, duplicate), 3074 (too many), 3043 (server
/// port), 3075 (protocol).
pub fn parse_list(value: Option<&Value>) -> Result<Vec<PortMapping>, ApiError> {
    let list = match value {
        None | Some(Value::Null) => return Err(ApiError::because(Code::E2028, "ports is missing.")),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(ApiError::because(
                Code::E3004,
                format!("ports: {} is not an array.", body::show(other)),
            ));
        }
    };
    if list.is_empty() {
        return Err(ApiError::because(Code::E2028, "ports: [] holds no mapping."));
    }
    for (i, item) in list.iter().enumerate() {
        if !item.is_object() {
            return Err(ApiError::because(
                Code::E3004,
                format!("ports[{i}]: {} is not an object.", body::show(item)),
            ));
        }
        for field in ["client_port", "server_port"] {
            if body::field(item, field).is_none() {
                return Err(ApiError::because(
                    Code::E2028,
                    format!("ports[{i}].{field} is missing."),
                ));
            }
        }
    }
    if list.len() > MAPPINGS_MAX {
        return Err(ApiError::because(
            Code::E3074,
            format!("ports holds {} mappings, more than {MAPPINGS_MAX}.", list.len()),
        ));
    }
    let client_ports = parse_ports(list, "client_port", Code::E3004)?;
    let server_ports = parse_ports(list, "server_port", Code::E3043)?;
    let protocols = list
        .iter()
        .enumerate()
        .map(|(i, item)| parse_protocol(i, body::field(item, "protocol")))
        .collect::<Result<Vec<_>, _>>()?;
    let mappings: Vec<_> = client_ports
        .into_iter()
        .zip(server_ports)
        .zip(protocols)
        .map(|((client_port, server_port), protocol)| PortMapping {
            client_port,
            server_port,
            protocol,
        })
        .collect();
    check_duplicates(&mappings)?;
    Ok(mappings)
}

fn parse_ports(list: &[Value], field: &str, code: Code) -> Result<Vec<u16>, ApiError> {
    let parse = |(i, item): (usize, &Value)| {
        let value = &item[field];
        value
            .as_u64()
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n != 0)
            .ok_or_else(|| {
                ApiError::because(
                    code,
                    format!(
                        "ports[{i}].{field}: {} is not an integer in 1..=65535.",
                        body::show(value)
                    ),
                )
            })
    };
    list.iter().enumerate().map(parse).collect()
}

fn parse_protocol(i: usize, value: Option<&Value>) -> Result<Protocol, ApiError> {
    match value {
        None => Ok(Protocol::Tcp),
        // Clients that always send the field send it empty (spec semantics 21, row 3).
        Some(Value::String(text)) if text.is_empty() || text.eq_ignore_ascii_case("tcp") => Ok(Protocol::Tcp),
        Some(other) => Err(ApiError::because(
            Code::E3075,
            format!("ports[{i}].protocol: {} is not TCP.", body::show(other)),
        )),
    }
}

/// One client port can lead to one place only (spec 0.6, rule 3).
fn check_duplicates(mappings: &[PortMapping]) -> Result<(), ApiError> {
    let mut seen = std::collections::HashMap::new();
    for (i, mapping) in mappings.iter().enumerate() {
        if let Some(first) = seen.insert((mapping.client_port, mapping.protocol), i) {
            return Err(ApiError::because(
                Code::E3004,
                format!(
                    "ports[{i}].client_port: {} is mapped by ports[{first}] already.",
                    mapping.client_port
                ),
            ));
        }
    }
    Ok(())
}

/// Who uses which of a backend port's own ports: one document for each backend port (`port_id`), because a pair
/// (`server_port`, `protocol`) may be used by one service only (spec 0.6, rule 4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The pairs in use, with the service that uses each.
    #[serde(deserialize_with = "fitted::list")]
    pub claims: Vec<Claim>,
}

/// How many pairs of one backend port may be in use: they are one document, which has to fit into a transaction of the store.
pub const CLAIMS_MAX: usize = 10_000;

/// One pair in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The backend's port.
    pub server_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The endpoint service that leads to it.
    pub service: ServiceId,
}

impl Claims {
    /// These claims without those of `service`.
    #[must_use]
    pub fn without(&self, service: ServiceId) -> Claims {
        Claims {
            claims: self
                .claims
                .iter()
                .filter(|c| c.service != service)
                .copied()
                .collect(),
        }
    }

    /// These claims with `service`'s own replaced by what `mappings` need.
    ///
    /// # Errors
    /// 3044 where another service has a pair, 3056 where there are more than [`CLAIMS_MAX`].
    pub fn replace(&self, service: ServiceId, mappings: &[PortMapping]) -> Result<Claims, ApiError> {
        let mut next = self.without(service);
        for (i, mapping) in mappings.iter().enumerate() {
            let same = |c: &&Claim| c.server_port == mapping.server_port && c.protocol == mapping.protocol;
            match next.claims.iter().find(same) {
                // Several client ports may lead to one server port inside one service.
                Some(held) if held.service == service => {}
                Some(_) => {
                    return Err(ApiError::because(
                        Code::E3044,
                        format!(
                            "ports[{i}].server_port: {}/TCP of this port_id is used by another endpoint service.",
                            mapping.server_port
                        ),
                    ));
                }
                None => next.claims.push(Claim {
                    server_port: mapping.server_port,
                    protocol: mapping.protocol,
                    service,
                }),
            }
        }
        if next.claims.len() > CLAIMS_MAX {
            let why = format!(
                "port_id: the endpoint services of this backend port would have {} server ports; at most {CLAIMS_MAX} are possible.",
                next.claims.len()
            );
            return Err(ApiError::because(Code::E3056, why));
        }
        Ok(next)
    }

    /// How many endpoint services lead to this backend port.
    pub fn services(&self) -> usize {
        let mut ids: Vec<_> = self.claims.iter().map(|c| c.service).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn code(value: Value) -> Code {
        parse_list(Some(&value)).unwrap_err().code
    }

    #[test]
    fn of_one_backend_port_no_more_pairs_are_in_use_than_a_transaction_takes() {
        let mapping = |port: usize| PortMapping {
            client_port: 1,
            server_port: u16::try_from(port).unwrap(),
            protocol: Protocol::Tcp,
        };
        let claim = |port: usize| Claim {
            server_port: u16::try_from(port).unwrap(),
            protocol: Protocol::Tcp,
            service: ServiceId(uuid::Uuid::from_u128(port as u128 / 200 + 1)),
        };
        let full = Claims {
            claims: (1..=CLAIMS_MAX).map(claim).collect(),
        };
        let bytes = serde_json::to_vec(&full).unwrap().len();
        assert!(bytes < 1 << 20, "{bytes}");
        let one = ServiceId(uuid::Uuid::from_u128(1 << 64));
        let refused = full.replace(one, &[mapping(CLAIMS_MAX + 1)]).unwrap_err();
        assert_eq!(refused.code, Code::E3056);
        let own = ServiceId(uuid::Uuid::from_u128(1));
        assert!(full.replace(own, &[mapping(CLAIMS_MAX + 1)]).is_ok());
    }

    #[test]
    fn every_rule_of_the_list_has_its_code() {
        let ok = json!({"client_port": 1, "server_port": 65535});
        assert_eq!(parse_list(None).unwrap_err().code, Code::E2028);
        assert_eq!(code(Value::Null), Code::E2028);
        assert_eq!(code(json!([])), Code::E2028);
        assert_eq!(code(json!({})), Code::E3004);
        assert_eq!(code(json!("80")), Code::E3004);
        assert_eq!(code(json!([80])), Code::E3004);
        assert_eq!(code(json!([{"client_port": 1}])), Code::E2028);
        assert_eq!(code(json!([{"server_port": 1}])), Code::E2028);
        assert_eq!(
            code(json!([{"client_port": null, "server_port": 1}])),
            Code::E2028
        );
        for bad in [
            json!(0),
            json!(65536),
            json!(-1),
            json!("80"),
            json!(true),
            json!(80.5),
            json!([]),
        ] {
            assert_eq!(
                code(json!([{"client_port": bad, "server_port": 1}])),
                Code::E3004,
                "{bad}"
            );
            assert_eq!(
                code(json!([{"client_port": 1, "server_port": bad}])),
                Code::E3043,
                "{bad}"
            );
        }
        for bad in [json!("UDP"), json!("TCP "), json!(6), json!(true)] {
            assert_eq!(
                code(json!([{"client_port": 1, "server_port": 1, "protocol": bad}])),
                Code::E3075,
                "{bad}"
            );
        }
        for good in [json!("TCP"), json!("tcp"), json!(""), Value::Null] {
            assert!(
                parse_list(Some(
                    &json!([{"client_port": 1, "server_port": 1, "protocol": good}])
                ))
                .is_ok()
            );
        }
        assert_eq!(code(json!([ok, ok])), Code::E3004);
        assert!(
            parse_list(Some(
                &json!([{"client_port": 1, "server_port": 7}, {"client_port": 2, "server_port": 7}])
            ))
            .is_ok()
        );
    }

    #[test]
    fn two_hundred_mappings_and_not_one_more() {
        let list = |n: u16| {
            Value::Array(
                (1..=n)
                    .map(|p| json!({"client_port": p, "server_port": p}))
                    .collect(),
            )
        };
        assert_eq!(parse_list(Some(&list(200))).unwrap().len(), 200);
        assert_eq!(code(list(201)), Code::E3074);
        // The number of mappings is judged before what is in them.
        let mut mixed = list(201);
        mixed[0]["client_port"] = json!(0);
        assert_eq!(code(mixed), Code::E3074);
    }

    #[test]
    fn a_pair_belongs_to_one_service() {
        let (a, b) = (ServiceId::random(), ServiceId::random());
        let map = |c, s| PortMapping {
            client_port: c,
            server_port: s,
            protocol: Protocol::Tcp,
        };
        let claims = Claims::default().replace(a, &[map(1, 80), map(2, 80)]).unwrap();
        assert_eq!(claims.claims.len(), 1);
        assert_eq!(claims.replace(b, &[map(9, 80)]).unwrap_err().code, Code::E3044);
        let claims = claims.replace(b, &[map(9, 81)]).unwrap();
        assert_eq!(claims.services(), 2);
        // A service may move to other ports, and what it leaves is free.
        let claims = claims.replace(a, &[map(1, 82)]).unwrap();
        assert!(claims.replace(b, &[map(9, 80)]).is_ok());
        assert_eq!(claims.without(a).services(), 1);
    }

    proptest! {
        #[test]
        fn a_list_is_taken_exactly_if_its_client_ports_differ(ports in prop::collection::vec((1u16.., 1u16..), 1..20)) {
            let value = Value::Array(ports.iter().map(|(c, s)| json!({"client_port": c, "server_port": s})).collect());
            let distinct: std::collections::HashSet<_> = ports.iter().map(|p| p.0).collect();
            let parsed = parse_list(Some(&value));
            prop_assert_eq!(parsed.is_ok(), distinct.len() == ports.len());
            if let Ok(parsed) = parsed {
                prop_assert_eq!(parsed.iter().map(|m| (m.client_port, m.server_port)).collect::<Vec<_>>(), ports);
            }
        }
    }
}
