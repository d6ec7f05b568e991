//! What an operator sets for the control plane.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use adit_model::{
    ApiError, Code,
    feed::Capabilities,
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
    /// How many seconds connections may go on once their endpoint is served no more, where the call does not say; 0 cuts them.
    pub drain_s: u32,
    /// The PROXY header of services that have no profile of their own.
    pub proxy: ProxyHeader,
    /// What the region's gateways can do; a service that asks for a mode that they cannot serve fails and says why.
    pub gateways: Capabilities,
    /// The name of a VPC's namespace on a node.
    pub namespace: Arc<dyn Fn(VpcId) -> String + Send + Sync>,
    /// Whether Keystone's API is served beside ours, and so belongs in the list of versions.
    pub embedded_identity: bool,
    /// How long everything stays `creating` at least, for people who test their own code.
    pub delay: Duration,
    /// How often each project may ask.
    pub rates: Rates,
    /// How often reconcilers look at everything that is not at rest, signals or not.
    pub reconcile_period: Duration,
}

impl Config {
    /// Whether the region's gateways can serve a mode, with the header that a service has by its profile.
    pub fn can_serve(&self, mode: TcpProxy, profile: Option<ProxyProfile>) -> bool {
        self.gateways.tcp_proxy.contains(&mode) && self.proxy.in_profile(profile).profile.can_carry(mode)
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
        refuse(mode, &self.gateways)
    }
}

/// What is said of a mode that gateways which can do no more than this cannot serve.
pub(crate) fn refuse(mode: TcpProxy, gateways: &Capabilities) -> ApiError {
    let can: Vec<_> = gateways.tcp_proxy.iter().map(|mode| mode.as_str()).collect();
    let can = can.join(", ");
    let mut missing = gateways.missing.iter();
    let message = match missing.find(|missing| missing.tcp_proxy == mode) {
        None => format!("cannot serve {mode}; they can serve: {can}."),
        Some(m) => format!(
            "cannot serve {mode}: {}. {} They can serve: {can}.",
            m.reason, m.remedy
        ),
    };
    ApiError::because(
        Code::E0002,
        format!("tcp_proxy: the gateways of this region {message}"),
    )
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("region", &self.region)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
