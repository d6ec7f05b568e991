//! How one endpoint stands, looked at because somebody asks: namespaces, address, listener, and a connection to its backend by
//! the way that clients' connections go.
//!
//! Finds out and tells; what it means is `adit-model`'s `diagnosis`. Changes nothing.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use adit_model::{
    diagnosis::{BackendFound, Examination, Findings},
    error_chain,
    feed::{EndpointReport, EndpointSpec, Report},
    id::EndpointId,
};
use adit_netns::Namespace;
use adit_relay::{Backend, End, Probed, probe, proxy_protocol::Header, route};
use tokio::task::{self, JoinSet};

use super::Gateway;
use crate::plan::Target;

/// How long a backend may take to answer: a lost SYN is sent again within it.
const PATIENCE: Duration = Duration::from_secs(3);

impl Gateway {
    /// Looks at an endpoint and one of its client ports.
    pub(super) async fn examine(self: Arc<Self>, id: EndpointId, port: u16, number: u64) -> Report {
        let known = {
            let lines = self.lines.lock();
            let line = lines.get(&id);
            line.and_then(|line| Some((line.wanted.clone()?, line.held.listeners.contains_key(&port))))
        };
        let examination = match known {
            Some((spec, listening)) if spec.ports.iter().any(|m| m.client_port == port) => {
                Examination::Found(self.look(&spec, port, listening).await)
            }
            _ => Examination::Unknown,
        };
        let status = EndpointReport::Examined { number, examination };
        Report { id, status }
    }

    async fn look(&self, spec: &EndpointSpec, port: u16, listening: bool) -> Findings {
        let mut found = Findings {
            listening,
            connections: self.apply.connections(spec.id),
            connections_max: spec.connections_max,
            ..Findings::default()
        };
        for name in [&spec.consumer.namespace, &spec.provider.namespace] {
            if !self.apply.is_there(name).await {
                found.missing_namespaces.push(name.to_string());
            }
        }
        if !found.missing_namespaces.is_empty() {
            return found;
        }
        let wanted = match self.apply.find(spec).await {
            Ok(wanted) => wanted,
            Err(e) => {
                found.obstacle = Some(error_chain(&e));
                return found;
            }
        };
        let held = vec![(spec.id, wanted.address.at.clone())];
        let lost = self.apply.lost(&wanted.address.place, held).await;
        found.address = lost.is_some_and(|lost| lost.is_empty());
        if let Some(target) = wanted.listeners.get(&port) {
            found.backends = self.call(target).await;
        }
        found
    }

    /// Calls each backend of a target, all at a time.
    async fn call(&self, target: &Target) -> Vec<BackendFound> {
        let backends: Vec<SocketAddrV4> = match &target.backend {
            Backend::At(backend) => vec![*backend],
            Backend::InTurn(backends) => backends.to_vec(),
            Backend::AsDialled(_) => Vec::new(),
        };
        let namespace = self.apply.namespace(&target.place).await;
        let mut calls = JoinSet::new();
        for (n, backend) in backends.into_iter().enumerate() {
            let (namespace, source, header) = (namespace.clone(), target.source, target.header.clone());
            calls.spawn(async move { (n, call_one(namespace, source, backend, header).await) });
        }
        let mut found: Vec<_> = calls.join_all().await;
        found.sort_by_key(|(n, _)| *n);
        found.into_iter().map(|(_, backend)| backend).collect()
    }
}

async fn call_one(
    namespace: Option<Namespace>,
    source: Ipv4Addr,
    backend: SocketAddrV4,
    header: Option<Header>,
) -> BackendFound {
    let called = task::spawn_blocking(move || {
        let namespace = namespace.ok_or(End::NamespaceGone)?;
        let inside = namespace.run(|| {
            let way = route(source, backend);
            (
                way,
                way.and_then(|()| probe(source, backend, header.as_ref(), PATIENCE)),
            )
        });
        inside.map_err(|_| End::NamespaceGone)
    });
    let (way, answer) = match called.await {
        Ok(Ok(called)) => called,
        Ok(Err(end)) => (Ok(()), Err(end)),
        Err(_) => (Ok(()), Err(End::Failed)),
    };
    let probed = answer.ok();
    BackendFound {
        address: backend,
        source,
        route_fault: way.err().map(|end| end.name().to_owned()),
        fault: answer.err().map(|end| end.name().to_owned()),
        took_us: probed.map_or(0, |Probed { took, .. }| {
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
        }),
        header: probed.and_then(|probed| probed.header),
    }
}
