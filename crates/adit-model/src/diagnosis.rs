//! Whether an endpoint passes traffic, and if not, what stands in the way first.
//!
//! ```text
//! state → service → account → switch → acceptance → whitelist → port     what the documents say
//!       → gateway → namespace → listener → limit → route → backend → header   what the gateway found
//! ```
//!
//! Owns the steps, their order and their words ([`diagnose`], pure); never finds anything out: what is known comes in as
//! [`Facts`], what the gateway has found as [`Findings`]. A step comes before those that cannot hold without it, so that the
//! first that fails is the reason.

mod remedy;

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    endpoint::EndpointStatus,
    id::{DomainId, EndpointId, ServiceId},
    port_mapping::PortMapping,
    service::{ServiceStatus, TcpProxy, words},
};

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The client port; the first that is mapped where it is not said.
    pub port: Option<u16>,
    /// The client that is to get through; without one, whether anybody does.
    pub client: Option<Ipv4Addr>,
}

impl Question {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// 0002 for a port that is not an integer from 1 to 65535, and a client that is no IPv4 address.
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let wrong = |name: &str, value: &serde_json::Value, what: &str| {
            ApiError::because(
                Code::E0002,
                format!("{name}: {} is not {what}.", body::show(value)),
            )
        };
        let port = body::get(body, "port").map(|value| {
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
            port.filter(|port| *port > 0)
                .ok_or_else(|| wrong("port", value, "an integer in 1..=65535"))
        });
        let client = body::get(body, "client").map(|value| {
            let client = value.as_str().and_then(|client| client.parse().ok());
            client.ok_or_else(|| wrong("client", value, "an IPv4 address"))
        });
        Ok(Self {
            port: port.transpose()?,
            client: client.transpose()?,
        })
    }
}

/// All that is known of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The endpoint.
    pub id: EndpointId,
    /// Its state.
    pub status: EndpointStatus,
    /// Why it has failed, where it has.
    pub fault: Option<String>,
    /// The account that owns it.
    pub domain: DomainId,
    /// Why that is frozen; empty where it is not.
    pub frozen: Vec<&'static str>,
    /// Whether the operator has switched it off.
    pub disabled: bool,
    /// Who may connect; absent for everybody.
    pub allowed: Option<Vec<Ipv4Net>>,
    /// Its service, while that is there.
    pub service: Option<ServiceFacts>,
    /// Whether a gateway has been told to serve it.
    pub told: bool,
    /// Where the gateway that is to serve it is not there: which is away, in words.
    pub away: Option<String>,
    /// What its gateway waits for, as far as it has said.
    pub waiting: Option<String>,
    /// What its gateway has found; not asked yet, the steps end before it.
    pub examined: Option<Examination>,
}

/// What is known of an endpoint's service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The service.
    pub id: ServiceId,
    /// Its state.
    pub status: ServiceStatus,
    /// Why it has failed, where it has.
    pub fault: Option<String>,
    /// Its mappings.
    pub ports: Vec<PortMapping>,
    /// How its backend learns of clients.
    pub tcp_proxy: TcpProxy,
}

/// What came of asking a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Examination {
    /// No gateway answered in time.
    Silence,
    /// The region has no gateway that could move bytes.
    NoNetworks,
    /// The gateway knows no such endpoint, or no such port of it.
    Unknown,
    /// It looked.
    Found(Findings),
}

/// What a gateway has found of an endpoint and one of its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Namespaces that are not there; where there are some, nothing more was looked for.
    pub missing_namespaces: Vec<String>,
    /// What else keeps it from finding its way, for a person.
    pub obstacle: Option<String>,
    /// Whether the address, or the routes to it, are in the consumer's namespace.
    pub address: bool,
    /// Whether the port is listened on.
    pub listening: bool,
    /// How many connections it has.
    #[serde(default)]
    pub connections: u32,
    /// How many it may have.
    #[serde(default)]
    pub connections_max: u32,
    /// Each backend; empty where the client chooses it.
    pub backends: Vec<BackendFound>,
}

/// What a gateway has found of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendFound {
    /// Where it is.
    pub address: SocketAddrV4,
    /// The address that the connection came from.
    pub source: Ipv4Addr,
    /// Why there is no way to it; a reason as the connection log has it. Then it was not called.
    pub route_fault: Option<String>,
    /// Why it did not answer; a reason as the connection log has it.
    pub fault: Option<String>,
    /// How long it took to answer, in microseconds.
    pub took_us: u64,
    /// Whether a PROXY header could be written, where the mode has one.
    pub header: Option<bool>,
}

/// One thing that has to hold, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// The endpoint is neither failed nor going.
    State,
    /// Its service is available.
    Service,
    /// Its account is not frozen.
    Account,
    /// The operator has not switched it off.
    Switch,
    /// The service's owner has accepted it, where that is wanted.
    Acceptance,
    /// Its access control lets the client in.
    Whitelist,
    /// The port is mapped.
    Port,
    /// A gateway serves it, and answers.
    Gateway,
    /// The namespaces of both VPCs are there.
    Namespace,
    /// The address is there, and the port listened on.
    Listener,
    /// It has fewer connections than it may.
    Limit,
    /// There is a way from the source address to the backend.
    Route,
    /// The backend takes a connection.
    Backend,
    /// The PROXY header could be written.
    Header,
}

words!(StepName:
    State = "state", Service = "service", Account = "account", Switch = "switch", Acceptance = "acceptance",
    Whitelist = "whitelist", Port = "port", Gateway = "gateway", Namespace = "namespace", Listener = "listener",
    Limit = "limit", Route = "route", Backend = "backend", Header = "header");

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not matter here, or cannot be known.
    Skipped,
    /// It does not hold: here traffic ends.
    Failed,
}

/// A step that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub step: StepName,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, for a person.
    pub seen: String,
    /// Where it failed: what to do about it, in whole sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What a step came to, before it has its name.
enum Outcome {
    Passed(String),
    Skipped(&'static str),
    Failed(String, String),
}
use Outcome::{Failed, Passed, Skipped};

/// The steps that were looked at: all that passed, and the first that failed, which ends them. Where all before the gateway
/// passed and it was not asked, they end there.
pub fn diagnose(facts: &Facts, question: Question) -> Vec<Step> {
    let mut steps = Vec::new();
    for step in StepName::ALL.iter().copied() {
        if step == StepName::Gateway && facts.examined.is_none() {
            break;
        }
        let (verdict, seen, remedy) = match look(step, facts, question) {
            Passed(seen) => (Verdict::Passed, seen, None),
            Skipped(why) => (Verdict::Skipped, why.to_owned(), None),
            Failed(seen, remedy) => (Verdict::Failed, seen, Some(remedy)),
        };
        steps.push(Step {
            step,
            verdict,
            seen,
            remedy,
        });
        if verdict == Verdict::Failed {
            break;
        }
    }
    steps
}

/// Whether none of the steps failed.
pub fn is_healthy(steps: &[Step]) -> bool {
    steps.iter().all(|step| step.verdict != Verdict::Failed)
}

/// The mapping that a question is about.
pub fn mapping(facts: &Facts, question: Question) -> Option<PortMapping> {
    let mut ports = facts.service.iter().flat_map(|service| &service.ports);
    let wanted = |m: &&PortMapping| question.port.is_none_or(|port| m.client_port == port);
    ports.find(wanted).copied()
}

fn look(step: StepName, facts: &Facts, question: Question) -> Outcome {
    match step {
        StepName::State => state(facts),
        StepName::Service => service(facts),
        StepName::Account => account(facts),
        StepName::Switch => switch(facts),
        StepName::Acceptance => acceptance(facts),
        StepName::Whitelist => whitelist(facts, question),
        StepName::Port => port(facts, question),
        StepName::Gateway => gateway(facts),
        StepName::Namespace
        | StepName::Listener
        | StepName::Limit
        | StepName::Route
        | StepName::Backend
        | StepName::Header => {
            let Some(Examination::Found(found)) = &facts.examined else {
                return Skipped("no gateway has looked");
            };
            match step {
                StepName::Namespace => namespace(found),
                StepName::Listener => listener(facts, found),
                StepName::Limit => limit(found),
                StepName::Route => route(found),
                StepName::Backend => backend(found),
                _ => header(facts, found),
            }
        }
    }
}

fn state(facts: &Facts) -> Outcome {
    let status = facts.status;
    match status {
        EndpointStatus::Failed => Failed(
            format!(
                "failed: {}",
                facts.fault.as_deref().unwrap_or("it does not say why")
            ),
            remedy::FAILED.to_owned(),
        ),
        EndpointStatus::Deleting => Failed("deleting".to_owned(), remedy::DELETING.to_owned()),
        EndpointStatus::Creating => Passed("creating: it does not answer yet".to_owned()),
        EndpointStatus::PendingAcceptance | EndpointStatus::Accepted | EndpointStatus::Rejected => {
            Passed(status.to_string())
        }
    }
}

fn service(facts: &Facts) -> Outcome {
    let Some(service) = &facts.service else {
        return Failed("its service is gone".to_owned(), remedy::NO_SERVICE.to_owned());
    };
    let ServiceFacts { id, status, .. } = service;
    match status {
        ServiceStatus::Available => Passed(format!("{id} is available")),
        ServiceStatus::Failed => {
            let why = service.fault.as_deref().unwrap_or("it does not say why");
            Failed(
                format!("{id} is failed: {why}"),
                remedy::SERVICE_FAILED.to_owned(),
            )
        }
        ServiceStatus::Creating | ServiceStatus::Deleting => {
            Failed(format!("{id} is {status}"), remedy::SERVICE_ON_ITS_WAY.to_owned())
        }
    }
}

fn account(facts: &Facts) -> Outcome {
    if facts.frozen.is_empty() {
        return Passed(format!("{} is active", facts.domain));
    }
    let seen = format!("{} is frozen: {}", facts.domain, facts.frozen.join(", "));
    Failed(seen, remedy::frozen(&facts.domain))
}

fn switch(facts: &Facts) -> Outcome {
    if facts.disabled {
        return Failed(
            "the operator has switched it off".to_owned(),
            remedy::disabled(facts.id),
        );
    }
    Passed("on".to_owned())
}

fn acceptance(facts: &Facts) -> Outcome {
    let owner = || {
        let service = facts.service.as_ref().map(|service| service.id);
        remedy::accept(facts.id, service)
    };
    match facts.status {
        EndpointStatus::PendingAcceptance => {
            Failed("it waits for the owner of the service".to_owned(), owner())
        }
        EndpointStatus::Rejected => Failed("the owner of the service has rejected it".to_owned(), owner()),
        _ => Passed("it is accepted, or was never in need of it".to_owned()),
    }
}

fn whitelist(facts: &Facts, question: Question) -> Outcome {
    let Some(allowed) = &facts.allowed else {
        return Passed("every client of the VPC may connect".to_owned());
    };
    let list = || match allowed.as_slice() {
        [] => "nobody".to_owned(),
        some => some
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    match question.client {
        _ if allowed.is_empty() => Failed(
            "its access control lets nobody in".to_owned(),
            remedy::NOT_ALLOWED.to_owned(),
        ),
        Some(client) if !allowed.iter().any(|block| block.contains(&client)) => Failed(
            format!("its access control lets {} in, and not {client}", list()),
            remedy::NOT_ALLOWED.to_owned(),
        ),
        Some(client) => Passed(format!("its access control lets {client} in")),
        None => Passed(format!("its access control lets {} in", list())),
    }
}

fn port(facts: &Facts, question: Question) -> Outcome {
    if let Some(m) = mapping(facts, question) {
        return Passed(format!(
            "{} leads to the backend's {}",
            m.client_port, m.server_port
        ));
    }
    let ports = facts.service.iter().flat_map(|service| &service.ports);
    let ports: Vec<_> = ports.map(|m| m.client_port.to_string()).collect();
    let seen = match question.port {
        Some(port) => format!(
            "client port {port} is not mapped; these are: {}",
            ports.join(", ")
        ),
        None => "the service maps no port".to_owned(),
    };
    Failed(seen, remedy::NOT_MAPPED.to_owned())
}

fn gateway(facts: &Facts) -> Outcome {
    if let (false, Some(away)) = (facts.told, &facts.away) {
        return Failed(away.clone(), remedy::AWAY.to_owned());
    }
    if !facts.told {
        return Failed(
            "no gateway has been told to serve it yet".to_owned(),
            remedy::NOT_TOLD.to_owned(),
        );
    }
    match &facts.examined {
        Some(Examination::Found(_)) => Passed("a gateway serves it, and answers".to_owned()),
        Some(Examination::NoNetworks) => Failed(
            "the region runs its control plane alone: nothing passes bytes".to_owned(),
            remedy::NO_NETWORKS.to_owned(),
        ),
        Some(Examination::Unknown) => Failed(
            "its gateway knows nothing of this endpoint and port".to_owned(),
            remedy::UNKNOWN.to_owned(),
        ),
        Some(Examination::Silence) | None => {
            Failed("no gateway has answered".to_owned(), remedy::SILENCE.to_owned())
        }
    }
}

fn namespace(found: &Findings) -> Outcome {
    match found.missing_namespaces.as_slice() {
        [] => Passed("those of both VPCs are there".to_owned()),
        missing => Failed(
            format!("not there: {}", missing.join(", ")),
            remedy::NO_NAMESPACE.to_owned(),
        ),
    }
}

fn listener(facts: &Facts, found: &Findings) -> Outcome {
    let because = |what: &str| match found.obstacle.as_ref().or(facts.waiting.as_ref()) {
        Some(why) => format!("{what}: {why}"),
        None => what.to_owned(),
    };
    if found.obstacle.is_some() {
        return Failed(because("it cannot be served"), remedy::NO_LISTENER.to_owned());
    }
    if !found.address {
        let seen = because("its address is not in the consumer's VPC");
        return Failed(seen, remedy::NO_LISTENER.to_owned());
    }
    if !found.listening {
        let seen = because("nothing listens on the port");
        return Failed(seen, remedy::NO_LISTENER.to_owned());
    }
    Passed("the address is there, and the port listened on".to_owned())
}

fn limit(found: &Findings) -> Outcome {
    let Findings {
        connections,
        connections_max,
        ..
    } = found;
    let seen = format!("{connections} connections of {connections_max}");
    if connections < connections_max {
        Passed(seen)
    } else {
        Failed(seen, remedy::FULL.to_owned())
    }
}

fn route(found: &Findings) -> Outcome {
    let Some(first) = found.backends.first() else {
        return Skipped("the client chooses among the service's own addresses");
    };
    for backend in &found.backends {
        if let Some(fault) = &backend.route_fault {
            let seen = format!("none from {} to {} ({fault})", backend.source, backend.address);
            return Failed(seen, remedy::of_end(fault));
        }
    }
    let to: Vec<_> = found
        .backends
        .iter()
        .map(|b| b.address.ip().to_string())
        .collect();
    Passed(format!("from {} to {}", first.source, to.join(", ")))
}

fn backend(found: &Findings) -> Outcome {
    if found.backends.is_empty() {
        return Skipped("the client chooses among the service's own addresses");
    }
    for backend in &found.backends {
        if let Some(fault) = &backend.fault {
            let seen = format!("{} {}", backend.address, remedy::words_of_end(fault));
            return Failed(seen, remedy::of_end(fault));
        }
    }
    let answered = found.backends.iter().map(|b| {
        let ms = b.took_us as f64 / 1000.0;
        format!("{} answers ({ms:.2} ms)", b.address)
    });
    Passed(answered.collect::<Vec<_>>().join(", "))
}

fn header(facts: &Facts, found: &Findings) -> Outcome {
    let mode = facts
        .service
        .as_ref()
        .map_or(TcpProxy::Close, |service| service.tcp_proxy);
    if !mode.has_header() {
        return Skipped("this tcp_proxy has no PROXY header");
    }
    if found.backends.is_empty() {
        return Skipped("the client chooses among the service's own addresses");
    }
    match found.backends.iter().find(|backend| backend.header != Some(true)) {
        Some(backend) => Failed(
            format!("{} took the connection, and no PROXY header", backend.address),
            remedy::NO_HEADER.to_owned(),
        ),
        None => Passed("a PROXY header that says LOCAL was written".to_owned()),
    }
}

#[cfg(test)]
mod tests;
