//! What an operator sets for the control plane.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use adit_model::{
    ApiError, Code,
    id::{PoolId, VpcId},
    proxy::{ProxyHeader, ProxyProfile},
    service::TcpProxy,
};

use crate::rate::Rates;

/// The control plane's settings.
#[derive(Clone)]
pub struct Config {
    /// The region's name: the first part of every composed service name. Letters, digits, `_` and `-`.
    pub region: String,
    /// Whether the operations that only Huawei's API has are served (spec part B); without them their paths do not exist.
    pub superset: bool,
    /// The pool that services are put in where the caller names none.
    pub pool: PoolId,
    /// Refuse `toa_open` and `open` for tenants' services, as the documents' word would have it (spec semantics 12).
    pub strict_toa: bool,
    /// At most so many services on one backend port; no cap by default (spec A.4, rule 29).
    pub services_per_port_max: Option<usize>,
    /// What the names of endpoints in the private DNS end in (spec semantics 16).
    pub dns_suffix: String,
    /// At most so many connections at a time through one endpoint.
    pub connections_per_endpoint_max: u32,
    /// At most so many new connections in a second through one endpoint; absent for as many as come.
    pub new_connections_per_second_max: Option<NonZeroU32>,
    /// The PROXY header of services that have no profile of their own.
    pub proxy: ProxyHeader,
    /// The modes that the region's gateways can serve; a service that asks for another fails and says so.
    pub tcp_proxy: BTreeSet<&'static str>,
    /// The name of a VPC's namespace on a node.
    pub namespace: Arc<dyn Fn(VpcId) -> String + Send + Sync>,
    /// Whether Keystone's API is served beside ours, and so belongs in the list of versions.
    pub embedded_identity: bool,
    /// How often each project may ask.
    pub rates: Rates,
    /// How often reconcilers look at everything that is not at rest, signals or not.
    pub reconcile_period: Duration,
}

impl Config {
    /// Whether the region's gateways can serve a mode, with the header that a service has by its profile.
    pub fn can_serve(&self, mode: TcpProxy, profile: Option<ProxyProfile>) -> bool {
        self.tcp_proxy.contains(mode.as_str()) && self.proxy.in_profile(profile).profile.can_carry(mode)
    }

    /// What is said of a mode that they cannot serve.
    pub(crate) fn cannot_serve(&self, mode: TcpProxy, profile: Option<ProxyProfile>) -> ApiError {
        let profile = self.proxy.in_profile(profile).profile;
        if !profile.can_carry(mode) {
            return ApiError::because(
                Code::E0002,
                format!(
                    "tcp_proxy: the service's PROXY header has the profile {profile}, which cannot carry {mode}."
                ),
            );
        }
        let can: Vec<_> = self.tcp_proxy.iter().copied().collect();
        let can = can.join(", ");
        ApiError::because(
            Code::E0002,
            format!("tcp_proxy: the gateways of this region cannot serve {mode}; they can serve: {can}."),
        )
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("region", &self.region)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
