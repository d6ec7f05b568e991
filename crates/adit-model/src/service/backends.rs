//! More than one backend behind a service (spec B.10): what only Huawei's API has. Connections are spread over all of them.
//!
//! The first backend is the service's port, as everywhere; the others are load balancers of the same VPC. Each of their ports
//! is claimed as the first one's is. They can be added and not taken away, since the API has no call for that.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ServerType, Service, ServiceStatus};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::{LoadBalancerId, PortId},
    time::Timestamp,
};

/// At most so many backends of one service, the first one included: each is a claim in every change's transaction.
pub const BACKENDS_MAX: usize = 8;

/// A further backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoreBackend {
    /// The load balancer.
    pub balancer: LoadBalancerId,
    /// The port that holds its private address.
    pub port: PortId,
    /// That address.
    pub ip: Ipv4Addr,
    /// The availability zone that was said; kept, nothing more.
    pub zone: Option<String>,
}

/// A load balancer that is to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerResource {
    /// Its id.
    pub balancer: LoadBalancerId,
    /// Its availability zone, where one was said.
    pub zone: Option<String>,
}

/// Reads the load balancers to add; repeats collapse.
///
/// # Errors
/// 2002 (list or id missing), 0016 (too many), 0002 (an id, or of the wrong type).
pub fn parse_server_resources(body: &Body) -> Result<Vec<ServerResource>, ApiError> {
    let list = match body::get(body, "server_resources") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        None | Some(Value::Array(_)) => {
            return Err(ApiError::because(
                Code::E2002,
                "server_resources is missing or empty.",
            ));
        }
        Some(other) => {
            return Err(ApiError::because(
                Code::E0002,
                format!("server_resources: {} is not an array.", body::show(other)),
            ));
        }
    };
    check_count(list.len())?;
    let mut resources: Vec<ServerResource> = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let fields = item.as_object().ok_or_else(|| {
            ApiError::because(
                Code::E0002,
                format!("server_resources[{i}]: {} is not an object.", body::show(item)),
            )
        })?;
        let balancer = body::id(fields, "resource_id", Code::E2002, Code::E0002)?;
        let zone = body::string(fields, "availability_zone_id", Code::E0002)?.map(str::to_owned);
        if !resources.iter().any(|known| known.balancer == balancer) {
            resources.push(ServerResource { balancer, zone });
        }
    }
    Ok(resources)
}

fn check_count(count: usize) -> Result<(), ApiError> {
    if count <= BACKENDS_MAX {
        return Ok(());
    }
    Err(ApiError::because(
        Code::E0016,
        format!("server_resources: {count} backends are more than {BACKENDS_MAX}."),
    ))
}

impl Service {
    /// The ports of all of its backends, the first one first.
    pub fn backend_ports(&self) -> impl Iterator<Item = PortId> {
        let more = self.more_backends.iter().map(|backend| backend.port);
        self.port().map(|port| port.id).into_iter().chain(more)
    }

    /// Whether load balancers can be added to it.
    ///
    /// # Errors
    /// 3045 in any state but `available`, 3021 where its backend is no load balancer.
    pub fn check_more_backends(&self) -> Result<(), ApiError> {
        if self.status() != ServiceStatus::Available {
            return Err(ApiError::because(
                Code::E3045,
                format!("Endpoint service {} is {}.", self.id, self.status()),
            ));
        }
        if self.port().is_none_or(|port| port.server_type != ServerType::Lb) {
            return Err(ApiError::because(
                Code::E3021,
                format!("The backend of endpoint service {} is not of type LB.", self.id),
            ));
        }
        Ok(())
    }

    /// Adds backends whose ports are not behind it yet; answers those.
    ///
    /// # Errors
    /// 0016 where they would be more than 8.
    pub fn add_backends(&mut self, more: Vec<MoreBackend>, now: Timestamp) -> Result<Vec<PortId>, ApiError> {
        let mut added = Vec::new();
        for backend in more {
            if self.backend_ports().all(|port| port != backend.port) {
                added.push(backend.port);
                self.more_backends.push(backend);
            }
        }
        check_count(self.backend_ports().count())?;
        if !added.is_empty() {
            self.updated_at = now.at_least(self.updated_at);
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_rule_has_its_code() {
        let parse = |value: Value| {
            parse_server_resources(json!({"server_resources": value}).as_object().unwrap())
                .map_err(|e| e.code)
        };
        let id = LoadBalancerId::random();
        let many = |n: usize| -> Value {
            (0..n)
                .map(|_| json!({"resource_id": LoadBalancerId::random()}))
                .collect()
        };
        let zoned = parse(json!([{"resource_id": id, "availability_zone_id": "eu-de-01"}])).unwrap();
        assert_eq!(zoned[0].zone.as_deref(), Some("eu-de-01"));
        let twice = parse(json!([{"resource_id": id}, {"resource_id": id, "x": 1}])).unwrap();
        assert_eq!(twice.len(), 1);
        assert!(parse(many(8)).is_ok());
        for (bad, code) in [
            (Value::Null, Code::E2002),
            (json!([]), Code::E2002),
            (json!({}), Code::E0002),
            (json!(["x"]), Code::E0002),
            (json!([{}]), Code::E2002),
            (json!([{"resource_id": "x"}]), Code::E0002),
            (
                json!([{"resource_id": id, "availability_zone_id": 1}]),
                Code::E0002,
            ),
            (many(9), Code::E0016),
        ] {
            assert_eq!(parse(bad.clone()), Err(code), "{bad}");
        }
    }
}
