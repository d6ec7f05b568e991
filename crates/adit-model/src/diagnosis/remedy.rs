//! What to do about each step that fails.

use crate::id::{DomainId, EndpointId, ServiceId};

pub(super) const FAILED: &str = "Mend what it names, delete the endpoint and create it anew.";
pub(super) const DELETING: &str = "It is on its way out; create another endpoint.";
pub(super) const NO_SERVICE: &str = "Delete the endpoint; create one to a service that is there.";
pub(super) const SERVICE_FAILED: &str =
    "Its owner has to mend what is named, delete the service and create it anew.";
pub(super) const SERVICE_ON_ITS_WAY: &str =
    "Wait for one that is being created; of one that goes, its owner knows why.";
pub(super) const NOT_ALLOWED: &str =
    "The endpoint's owner can add the client to the endpoint's whitelist, or set enable_whitelist to false.";
pub(super) const NOT_MAPPED: &str =
    "Connect to a port that is mapped, or have the service's owner map this one (PUT of the service, ports).";
pub(super) const NOT_TOLD: &str =
    "Wait a moment and ask again. If it stays so, the log of the control plane says what the reconciler met.";
pub(super) const AWAY: &str = "Start it again, or another gateway: endpoints go within seconds to one that is there. \
     `adit gateways` lists them all; the log of one that has ended says why.";
pub(super) const NO_NETWORKS: &str =
    "Run the region as root, or where user namespaces are allowed, and without --no-gateway.";
pub(super) const UNKNOWN: &str =
    "Ask again: it may just have been told. If it stays so, restart the gateway; it hears everything anew.";
pub(super) const SILENCE: &str = "See whether the gateway's process runs and is connected to the control plane; its log says what it does.";
pub(super) const NO_NAMESPACE: &str = "Somebody has removed it, or it was never made. Where Adit makes the networks it does so anew within seconds, or the log says why; where they are yours (--namespaces), make it.";
pub(super) const NO_LISTENER: &str = "The gateway tries again by itself. If it stays so, its log says what the kernel refuses; \
     see whether another process holds the address or the port.";
pub(super) const FULL: &str =
    "Have clients close connections that they do not need, or raise the region's --connections-per-endpoint.";
pub(super) const NO_HEADER: &str = "The backend has closed at once. It has to expect a PROXY header, or the service has to have tcp_proxy close.";

pub(super) fn frozen(domain: &DomainId) -> String {
    format!("`adit admin account unfreeze {domain}`, once its reason is gone.")
}

pub(super) fn disabled(id: EndpointId) -> String {
    format!("`adit admin endpoint enable {id}`.")
}

pub(super) fn accept(id: EndpointId, service: Option<ServiceId>) -> String {
    let (of, named) = match service {
        Some(service) => (format!(" of service {service}"), service.to_string()),
        None => (String::new(), "SERVICE".to_owned()),
    };
    format!(
        "The owner{of} has to accept it: POST …/connections/action with \
         {{\"action\": \"receive\", \"endpoints\": [\"{id}\"]}}, or \
         `openstack vpcep service connection set {named} {id} --accept`."
    )
}

/// What it means that a connection to a backend ended so, with the backend before it.
pub(super) fn words_of_end(end: &str) -> String {
    let words = match end {
        "backend_refused" => "refuses the connection",
        "backend_timeout" => "does not answer",
        "backend_unreachable" => "cannot be reached",
        "backend_reset" => "resets the connection at once",
        _ => "got no connection",
    };
    format!("{words} ({end})")
}

/// What to do where connections end so.
pub(super) fn of_end(end: &str) -> String {
    let remedy = match end {
        "backend_refused" => {
            "The server is there, and nothing listens on the port, or on this address of it: start it there, or correct the \
             service's server_port."
        }
        "backend_timeout" => {
            "The server is off, or a firewall or security group drops what comes from 198.19.128.0/17: let it in. A server \
             whose queue of connections is full looks the same."
        }
        "backend_unreachable" => {
            "No route leads there, the server's host does not answer, or a firewall refuses: look at the server's port and \
             subnet in its VPC."
        }
        "backend_reset" => "Look in the server's log why it closes what it has just taken.",
        "source_missing" => {
            "198.19.128.0/17 is not local in the provider's namespace: somebody has removed the route. The gateway puts it back within seconds; see who removes it if it goes again."
        }
        "source_ports_exhausted" => {
            "Every source port towards this backend is taken: have clients close connections that they do not need."
        }
        "namespace_gone" => NO_NAMESPACE,
        "out_of_descriptors" => "Raise the gateway's limit of open files (ulimit -n), and restart it.",
        _ => "The gateway's log says what the kernel refuses.",
    };
    remedy.to_owned()
}
