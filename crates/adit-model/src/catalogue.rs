//! The error catalogue: every code that a reply may carry, with its HTTP status and its message.
//!
//! Owns the table and the shape of a failure ([`ApiError`]); never decides *which* code a rule raises (the modules of the
//! nouns do: [`crate::service`], [`crate::endpoint`], …). Numbers absent here must not be emitted. Spellings are the
//! catalogue's, including the small p of `Endpoint.1018`. A test holds the table against `tests/errors.csv`.

use std::fmt;

macro_rules! codes {
    ($($name:ident, $status:literal, $text:literal, $message:literal;)*) => {
        /// A code of the catalogue; the variant's digits are the code's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = concat!("`", $text, "`, HTTP ", stringify!($status), ": ", $message)] $name,)*
        }

        impl Code {
            /// Every code, in the catalogue's order.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The HTTP status of a reply that carries this code.
            pub const fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// The code as it stands on the wire, such as `EndPoint.0002`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The catalogue's message.
            pub const fn message(self) -> &'static str {
                match self { $(Code::$name => $message,)* }
            }
        }
    };
}

codes! {
    E0001, 500, "EndPoint.0001", "System error. Please retry.";
    E0002, 400, "EndPoint.0002", "Parameter error.";
    E0003, 401, "EndPoint.0003", "Authentication failed or authentication information is invalid.";
    E0004, 403, "EndPoint.0004", "Authentication information is incorrect or you have no permissions.";
    E0005, 404, "EndPoint.0005", "The requested resource does not exist.";
    E0006, 400, "EndPoint.0006", "Invalid limit.";
    E0007, 400, "EndPoint.0007", "Invalid action.";
    E0009, 400, "EndPoint.0009", "The remote address does not match.";
    E0010, 400, "EndPoint.0010", "Invalid offset.";
    E0011, 504, "EndPoint.0011", "The request body is null.";
    E0012, 504, "EndPoint.0012", "The request header is null.";
    E0013, 504, "EndPoint.0013", "The request timed out.";
    E0014, 400, "EndPoint.0014", "Invalid project ID.";
    E0015, 400, "EndPoint.0015", "Invalid specification.";
    E0016, 400, "EndPoint.0016", "The number of batch operated resources exceeded the limit.";
    E0017, 400, "EndPoint.0017", "Invalid sort_key.";
    E0018, 400, "EndPoint.0018", "Invalid sort_dir.";
    E0019, 400, "EndPoint.0019", "Invalid status.";
    E0020, 400, "EndPoint.0020", "Invalid VPC ID.";
    E0021, 400, "EndPoint.0021", "Invalid marker_id.";
    E0022, 400, "EndPoint.0022", "The number of requests exceeded the limit. Please try later.";
    E0023, 400, "EndPoint.0023", "Invalid subnet_id.";
    E1003, 400, "EndPoint.1003", "Invalid service name.";
    E1004, 400, "EndPoint.1004", "Invalid request.";
    E1008, 400, "EndPoint.1008", "Failed to obtain the token.";
    E1018, 400, "Endpoint.1018", "Quota exceeded.";
    E1019, 400, "EndPoint.1019", "Invalid route table ID.";
    E2001, 400, "EndPoint.2001", "The VPC does not exist.";
    E2002, 400, "EndPoint.2002", "The request input parameter is empty.";
    E2003, 400, "EndPoint.2003", "The endpoint service does not exist.";
    E2004, 400, "EndPoint.2004", "The endpoint service is unavailable.";
    E2006, 404, "EndPoint.2006", "The requested endpoint does not exist.";
    E2007, 404, "EndPoint.2007", "The endpoint information does not exist.";
    E2008, 404, "EndPoint.2008", "The endpoint has been deleted.";
    E2009, 400, "EndPoint.2009", "The specification information does not exist.";
    E2010, 400, "EndPoint.2010", "The input parameter subnet ID is empty.";
    E2011, 400, "EndPoint.2011", "The input parameter VPC ID is empty.";
    E2012, 400, "EndPoint.2012", "You have no permission to connect to the VPC endpoint service.";
    E2013, 400, "EndPoint.2013", "The endpoint does not belong to the endpoint service.";
    E2014, 400, "EndPoint.2014", "The endpoint has been connected to the endpoint service.";
    E2015, 400, "EndPoint.2015", "The endpoint has been frozen.";
    E2016, 400, "EndPoint.2016", "The endpoint pool IP address does not exist.";
    E2017, 400, "EndPoint.2017", "Invalid endpoint ID.";
    E2018, 400, "EndPoint.2018", "The endpoint is being deleted.";
    E2019, 400, "EndPoint.2019", "The endpoint is being created.";
    E2020, 400, "EndPoint.2020", "qrMac or sgMac does not exist.";
    E2021, 400, "EndPoint.2021", "Failed to query the VPC.";
    E2022, 400, "EndPoint.2022", "Failed to create an endpoint.";
    E2023, 400, "EndPoint.2023", "CIDR is not found.";
    E2024, 400, "EndPoint.2024", "shadowVpc or shadowPort does not exist.";
    E2025, 400, "EndPoint.2025", "The endpoint port does not exist.";
    E2026, 400, "EndPoint.2026", "VNI is empty.";
    E2027, 400, "EndPoint.2027", "Invalid action.";
    E2028, 400, "EndPoint.2028", "The endpoint service port or protocol is empty.";
    E2029, 400, "EndPoint.2029", "The requested endpoint service ID is empty.";
    E2030, 404, "EndPoint.2030", "markerId is empty.";
    E2031, 400, "EndPoint.2031", "Only one endpoint is allowed.";
    E2033, 400, "EndPoint.2033", "The entered parameter enable_dns is invalid.";
    E2034, 400, "EndPoint.2034", "The entered parameter enable_dns is incorrect.";
    E2035, 400, "EndPoint.2035", "The system parameter dns.enable is invalid.";
    E2037, 400, "EndPoint.2037", "The current network does not belong to the VPC.";
    E2038, 400, "EndPoint.2038", "The pool does not exist.";
    E2039, 400, "EndPoint.2039", "The route table is being used by another VPC endpoint.";
    E2040, 400, "EndPoint.2040", "The VPC endpoint has no route table bound.";
    E2041, 400, "EndPoint.2041", "Invalid Port IP address.";
    E2042, 400, "EndPoint.2042", "The Port IP is in use.";
    E2043, 400, "EndPoint.2043", "The Port IP is not valid for the subnet.";
    E2044, 400, "EndPoint.2044", "Invalid whitelist.";
    E2045, 400, "EndPoint.2045", "The maximum number of whitelist records has been reached.";
    E2046, 400, "EndPoint.2046", "Can not modify a specified mac endpoint.";
    E2047, 400, "EndPoint.2047", "The VPC endpoint in the Failed status cannot be modified.";
    E2048, 400, "EndPoint.2048", "The VPC endpoint policy is invalid.";
    E2049, 400, "EndPoint.2049", "The VPC endpoint has no policy associated.";
    E2050, 400, "EndPoint.2050", "The endpoint has been disabled.";
    E2051, 400, "EndPoint.2051", "The current endpoint is switching to new pool.";
    E2052, 400, "EndPoint.2052", "The current endpoint does not need to be rolled back.";
    E3001, 400, "EndPoint.3001", "Failed to create a port.";
    E3002, 400, "EndPoint.3002", "Invalid permission.";
    E3003, 400, "EndPoint.3003", "Invalid port ID.";
    E3004, 400, "EndPoint.3004", "Invalid port.";
    E3005, 400, "EndPoint.3005", "Failed to delete the endpoint service.";
    E3006, 400, "EndPoint.3006", "The endpoint service is being used.";
    E3008, 400, "EndPoint.3008", "The port does not exist.";
    E3009, 400, "EndPoint.3009", "Invalid CIDR.";
    E3010, 400, "EndPoint.3010", "Invalid IP address.";
    E3011, 400, "EndPoint.3011", "Parameter IP is not required to create an endpoint service (interface).";
    E3013, 400, "EndPoint.3013", "endpointService interface vlan can't have vpcId.";
    E3014, 400, "EndPoint.3014", "endpointService interface can't have cidr.";
    E3015, 400, "EndPoint.3015", "endpointService gateway vlan can't have portId.";
    E3016, 400, "EndPoint.3016", "endpointService gateway vlan can't have ip.";
    E3017, 400, "EndPoint.3017", "Invalid CIDRs.";
    E3018, 400, "EndPoint.3018", "endpointService gateway vlan can't have vpcId.";
    E3021, 400, "EndPoint.3021", "Invalid serverType.";
    E3022, 400, "EndPoint.3022", "Failed to create a network.";
    E3023, 400, "EndPoint.3023", "Failed to create a subnet.";
    E3035, 400, "EndPoint.3035", "Invalid action.";
    E3036, 400, "EndPoint.3036", "Invalid permissions.";
    E3040, 400, "EndPoint.3040", "Failed to add a rollback task.";
    E3042, 400, "EndPoint.3042", "The port ID does not belong to the current VPC.";
    E3043, 400, "EndPoint.3043", "The service port is invalid.";
    E3044, 400, "EndPoint.3044", "The parameter ports conflicted with ports in an existing endpoint service.";
    E3045, 400, "EndPoint.3045", "Other properties cannot be modified in the current endpoint service state.";
    E3046, 400, "EndPoint.3046", "The IP address conflicted with an existing endpoint service.";
    E3049, 400, "EndPoint.3049", "The maximum number of whitelist records has been reached.";
    E3051, 400, "EndPoint.3051", "Endpoint service vip port id is invalid.";
    E3052, 400, "EndPoint.3052", "portId and ip cannot be modified at the same time.";
    E3053, 400, "EndPoint.3053", "vipPortId and ip cannot be modified at the same time.";
    E3054, 400, "EndPoint.3054", "portId or vipPortId cannot be modified.";
    E3055, 400, "EndPoint.3055", "ip cannot be modified.";
    E3056, 400, "EndPoint.3056", "The maximum of VPC endpoint services using the same IP address has been reached.";
    E3057, 400, "EndPoint.3057", "cidr cannot be modified.";
    E3058, 400, "EndPoint.3058", "The domain name is invalid.";
    E3059, 400, "EndPoint.3059", "The domain name already exists.";
    E3060, 400, "EndPoint.3060", "You have no permission to add domain names.";
    E3061, 400, "EndPoint.3061", "The maximum number of domain names has reached.";
    E3062, 400, "EndPoint.3062", "Invalid endpoint service ID.";
    E3063, 400, "EndPoint.3063", "Invalid port ID.";
    E3066, 400, "EndPoint.3066", "The tag cannot be empty.";
    E3067, 400, "EndPoint.3067", "The tag key cannot be duplicated.";
    E3068, 400, "EndPoint.3068", "Tag keys and values should meet relevant requirements.";
    E3069, 400, "EndPoint.3069", "The maximum number of tags has been reached.";
    E3070, 400, "EndPoint.3070", "Invalid resource type.";
    E3071, 400, "EndPoint.3071", "The tag value cannot be duplicated.";
    E3072, 400, "EndPoint.3072", "The tag key size is invalid.";
    E3073, 400, "EndPoint.3073", "The tag value size is invalid.";
    E3074, 400, "EndPoint.3074", "The maximum of ports has been reached.";
    E3075, 400, "EndPoint.3075", "The protocol is invalid.";
    E3076, 400, "EndPoint.3076", "Invalid service name.";
    E4001, 400, "EndPoint.4001", "Failed to query the subnet.";
    E4002, 400, "EndPoint.4002", "Failed to create a subnet.";
    E4003, 400, "EndPoint.4003", "Failed to delete the subnet.";
    E4004, 404, "EndPoint.4004", "The subnet is not found.";
    E4005, 400, "EndPoint.4005", "Failed to query the network.";
    E4006, 400, "EndPoint.4006", "Failed to create a network.";
    E4007, 400, "EndPoint.4007", "Failed to delete the network.";
    E4008, 404, "EndPoint.4008", "Network is unavailable.";
    E4009, 400, "EndPoint.4009", "Failed to query the port.";
    E4010, 400, "EndPoint.4010", "Failed to create a port.";
    E4011, 400, "EndPoint.4011", "Failed to delete the port.";
    E4012, 404, "EndPoint.4012", "The port is not found.";
    E4013, 400, "EndPoint.4013", "Failed to query the proxy.";
    E4014, 400, "EndPoint.4014", "Failed to query the router.";
    E4015, 400, "EndPoint.4015", "The router is not found.";
    E4016, 400, "EndPoint.4016", "Failed to add an interface router.";
    E4017, 400, "EndPoint.4017", "Failed to delete the interface router.";
    E4018, 400, "EndPoint.4018", "Failed to add an extension router.";
    E4019, 400, "EndPoint.4019", "Failed to delete the extension router.";
    E4020, 400, "EndPoint.4020", "Failed to query Neutron L3 Agent.";
    E4021, 404, "EndPoint.4021", "Neutron L3 Agent is not found.";
    E4025, 400, "EndPoint.4025", "The specification is being used.";
    E4026, 400, "EndPoint.4026", "Failed to query the default route table of the VPC.";
    E4027, 400, "EndPoint.4027", "Failed to query route tables of the VPC.";
    E4028, 400, "EndPoint.4028", "Failed to add routes to the VPC's route table.";
    E4029, 400, "EndPoint.4029", "Failed to remove routes from the VPC's route table.";
    E4030, 404, "EndPoint.4030", "The route table is not found.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request that failed: what the client is told.
///
/// Holds the text for the client only; causes that are ours (a store that is down) are logged where they happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The catalogue's code; it decides the HTTP status.
    pub code: Code,
    /// The `error_msg`: the catalogue's message, then the field and the value that broke the rule.
    pub message: String,
}

impl ApiError {
    /// A failure with the catalogue's message alone.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            message: code.message().to_owned(),
        }
    }

    /// A failure whose message goes on to say what exactly is wrong, naming the field and the value.
    pub fn because(code: Code, detail: impl fmt::Display) -> Self {
        Self {
            code,
            message: format!("{} {detail}", code.message()),
        }
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_catalogue() {
        let mut csv = Vec::new();
        for line in include_str!("../tests/errors.csv").lines().skip(1) {
            let (status, rest) = line.split_once(',').unwrap();
            let (code, rest) = rest.split_once(',').unwrap();
            // No message of the catalogue holds a comma: what follows the first is our own meaning of it.
            let (message, _) = rest.split_once(',').unwrap();
            csv.push((status.parse::<u16>().unwrap(), code, message));
        }
        let table: Vec<_> = Code::ALL
            .iter()
            .map(|c| (c.status(), c.as_str(), c.message()))
            .collect();
        assert_eq!(table, csv);
        assert_eq!(table.len(), 155);
    }

    #[test]
    fn a_failure_names_what_broke_the_rule() {
        let e = ApiError::because(Code::E3043, "ports[0].server_port: 65536 is not in 1..=65535.");
        assert_eq!(
            e.message,
            "The service port is invalid. ports[0].server_port: 65536 is not in 1..=65535."
        );
    }
}
