//! Whether the backends of services answer: a probe of each port now and then, by the way that clients' connections go.
//!
//! Owns which backends are probed (those that some endpoint's listener here leads to, each port once for its service) and what
//! was found last. Changes nothing: an endpoint whose backend is away listens on, and refuses.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use adit_model::{
    feed::{EndpointReport, ProbedPort, Report},
    id::{EndpointId, ServiceId},
};
use adit_relay::{End, probe, proxy_protocol::Header};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    apply::Apply,
    plan::{Place, Target},
};

/// How long a backend may take to answer a probe.
const PATIENCE: Duration = Duration::from_secs(2);
/// Probes at a time: each takes a thread for as long as it lasts.
const PROBES_MAX: usize = 16;

/// One port of one service's backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// An endpoint that leads there, by which the control plane knows the service.
    endpoint: EndpointId,
    place: Place,
    source: Ipv4Addr,
    backend: SocketAddrV4,
    header: Option<Header>,
}

/// What is to be probed, each port of a service once. Pure.
pub(crate) fn probes<'a>(
    listeners: impl Iterator<Item = (ServiceId, EndpointId, &'a Target)>,
) -> BTreeMap<(ServiceId, u16), Probe> {
    let mut probes = BTreeMap::new();
    for (service, endpoint, target) in listeners {
        // What clients dial themselves has no address of its own to ask.
        if let adit_relay::Backend::At(backend) = target.backend {
            probes.entry((service, backend.port())).or_insert(Probe {
                endpoint,
                place: target.place.clone(),
                source: target.source,
                backend,
                header: target.header.clone(),
            });
        }
    }
    probes
}

/// What was found last, by service.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<BTreeMap<ServiceId, Vec<ProbedPort>>>);

/// How backends stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// Ports that answer.
    pub up: usize,
    /// Ports that do not.
    pub down: usize,
}

impl Health {
    /// How many ports there are of each kind.
    pub(crate) fn count(&self) -> Backends {
        let mut count = Backends::default();
        for port in self.0.lock().values().flatten() {
            match port.fault {
                None => count.up += 1,
                Some(_) => count.down += 1,
            }
        }
        count
    }

    /// Probes, and answers what is new.
    pub(crate) async fn look(&self, apply: &Apply, wanted: BTreeMap<(ServiceId, u16), Probe>) -> Vec<Report> {
        let mut by_service: BTreeMap<ServiceId, (EndpointId, Vec<ProbedPort>)> = BTreeMap::new();
        let mut running = JoinSet::new();
        let mut waiting = wanted.into_iter();
        loop {
            while running.len() < PROBES_MAX
                && let Some(((service, port), probe)) = waiting.next()
            {
                let namespace = apply.namespace(&probe.place).await;
                running.spawn(async move {
                    let (endpoint, fault) = (probe.endpoint, ask(namespace, probe).await.err());
                    (service, endpoint, ProbedPort { port, fault })
                });
            }
            match running.join_next().await {
                None => break,
                Some(Ok((service, endpoint, port))) => {
                    by_service
                        .entry(service)
                        .or_insert((endpoint, Vec::new()))
                        .1
                        .push(port);
                }
                Some(Err(e)) => tracing::error!(error = %e, "A probe died."),
            }
        }
        self.note(by_service)
    }

    /// Takes in what was found, and answers what was not so before.
    fn note(&self, found: BTreeMap<ServiceId, (EndpointId, Vec<ProbedPort>)>) -> Vec<Report> {
        let mut known = self.0.lock();
        known.retain(|service, _| found.contains_key(service));
        let mut news = Vec::new();
        for (service, (id, mut ports)) in found {
            ports.sort_by_key(|port| port.port);
            if known.get(&service) != Some(&ports) {
                known.insert(service, ports.clone());
                let status = EndpointReport::Backend { ports };
                news.push(Report { id, status });
            }
        }
        news
    }
}

async fn ask(namespace: Option<adit_netns::Namespace>, of: Probe) -> Result<(), String> {
    let Some(namespace) = namespace else {
        return Err(End::NamespaceGone.name().to_owned());
    };
    let asked = tokio::task::spawn_blocking(move || {
        namespace.run(|| probe(of.source, of.backend, of.header.as_ref(), PATIENCE))
    });
    match asked.await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(end))) => Err(end.name().to_owned()),
        Ok(Err(_)) => Err(End::NamespaceGone.name().to_owned()),
        Err(_) => Err(End::Failed.name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16, source: u8) -> Target {
        Target {
            place: Place {
                name: "p".to_owned(),
                inode: 1,
            },
            source: [198, 19, 128, source].into(),
            backend: SocketAddrV4::new([10, 0, 0, 10].into(), port).into(),
            header: None,
            toa: false,
        }
    }

    #[test]
    fn each_port_of_a_service_is_asked_once() {
        let (one, other) = (ServiceId::random(), ServiceId::random());
        let endpoints = [EndpointId::random(), EndpointId::random()];
        let targets = [target(80, 1), target(81, 1), target(80, 2)];
        let dialled = Target {
            backend: adit_relay::Backend::AsDialled([].into()),
            ..target(80, 3)
        };
        let listeners = [
            (one, endpoints[0], &targets[0]),
            (one, endpoints[0], &targets[1]),
            (one, endpoints[1], &targets[2]),
            (other, endpoints[1], &targets[2]),
            (other, endpoints[1], &dialled),
        ];
        let found = probes(listeners.into_iter());
        let mut keys = vec![(one, 80), (one, 81), (other, 80)];
        keys.sort();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), keys);
        assert_eq!(found[&(one, 80)].endpoint, endpoints[0]);
    }

    #[test]
    fn only_what_is_new_is_told_and_what_is_gone_is_forgotten() {
        let health = Health::default();
        let (service, endpoint) = (ServiceId::random(), EndpointId::random());
        let up = ProbedPort {
            port: 80,
            fault: None,
        };
        let down = ProbedPort {
            port: 81,
            fault: Some("backend_refused".to_owned()),
        };
        let found = |ports: &[&ProbedPort]| {
            let ports = ports.iter().map(|port| (*port).clone()).collect();
            BTreeMap::from([(service, (endpoint, ports))])
        };
        let told = health.note(found(&[&down, &up]));
        assert_eq!(
            told,
            [Report {
                id: endpoint,
                status: EndpointReport::Backend {
                    ports: vec![up.clone(), down.clone()]
                }
            }]
        );
        assert_eq!(health.count(), Backends { up: 1, down: 1 });
        assert_eq!(health.note(found(&[&up, &down])), []);
        assert_eq!(health.note(BTreeMap::new()), []);
        assert_eq!(health.count(), Backends::default());
        assert_eq!(health.note(found(&[&up, &down])).len(), 1);
    }
}
