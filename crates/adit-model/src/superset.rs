//! What only Huawei's API takes in requests that both have (spec B.13): fields that ask for what there is not are refused,
//! never dropped. Read only where the operator has switched the superset on.

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
};

/// The fields of a request to create a service.
///
/// # Errors
/// 3011 for an `ip`, which services of type `interface` do not have; 0002 for another `ip_version` than `ipv4`.
pub fn check_service_create(body: &Body) -> Result<(), ApiError> {
    if let Some(ip) = body::get(body, "ip") {
        return Err(ApiError::because(
            Code::E3011,
            format!("ip: {}; the backend is named by port_id.", body::show(ip)),
        ));
    }
    check_ip_version(body)
}

/// The fields of a request to change a service.
///
/// # Errors
/// 3055 for an `ip`.
pub fn check_service_update(body: &Body) -> Result<(), ApiError> {
    match body::get(body, "ip") {
        None => Ok(()),
        Some(ip) => Err(ApiError::because(
            Code::E3055,
            format!("ip: {}; the backend is named by port_id.", body::show(ip)),
        )),
    }
}

/// The fields of a request to create an endpoint.
///
/// # Errors
/// 0002 for anything of IPv6.
pub fn check_endpoint_create(body: &Body) -> Result<(), ApiError> {
    check_ip_version(body)?;
    match body::get(body, "ipv6_address") {
        None => Ok(()),
        Some(ip) => Err(ApiError::because(
            Code::E0002,
            format!("ipv6_address: {}; there is no IPv6 here.", body::show(ip)),
        )),
    }
}

fn check_ip_version(body: &Body) -> Result<(), ApiError> {
    match body::get(body, "ip_version") {
        None => Ok(()),
        Some(version) if version == "ipv4" => Ok(()),
        Some(version) => Err(ApiError::because(
            Code::E0002,
            format!(
                "ip_version: {} is not ipv4, which is all there is.",
                body::show(version)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_there_is_not_is_refused() {
        type Check = fn(&Body) -> Result<(), ApiError>;
        let of = |check: Check, value: Value| check(value.as_object().unwrap()).err().map(|e| e.code);
        for (check, value, code) in [
            (check_service_create as Check, json!({}), None),
            (
                check_service_create,
                json!({"ip": null, "ip_version": "ipv4"}),
                None,
            ),
            (check_service_create, json!({"ip": "10.0.0.1"}), Some(Code::E3011)),
            (
                check_service_create,
                json!({"ip_version": "ipv6"}),
                Some(Code::E0002),
            ),
            (check_service_create, json!({"ip_version": 4}), Some(Code::E0002)),
            (check_service_update, json!({"ip_version": "ipv6"}), None),
            (check_service_update, json!({"ip": "10.0.0.1"}), Some(Code::E3055)),
            (check_endpoint_create, json!({"ip_version": "ipv4"}), None),
            (
                check_endpoint_create,
                json!({"ip_version": "dualstack"}),
                Some(Code::E0002),
            ),
            (
                check_endpoint_create,
                json!({"ipv6_address": "fd00::1"}),
                Some(Code::E0002),
            ),
        ] {
            assert_eq!(of(check, value.clone()), code, "{value}");
        }
    }
}
