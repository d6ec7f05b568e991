//! Whether the backends of services answer: a probe of each port now and then, by the way that clients' connections go.
//!
//! Owns which backends are probed (those that some endpoint's listener here leads to, each port of each address once for its
//! service) and what was found last, by port. Changes nothing: an endpoint whose backend is away listens on, and refuses.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use adit_model::{
    feed::{EndpointReport, ProbedPort, Report},
    id::{EndpointId, ServiceId},
};
use adit_relay::{Backend, End, probe, proxy_protocol::Header};
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

/// One port at one address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// An endpoint that leads there, by which the control plane knows the service.
    endpoint: EndpointId,
    place: Place,
    source: Ipv4Addr,
    backend: SocketAddrV4,
    header: Option<Header>,
}

/// What is to be probed, each backend of a service once. Pure.
pub(crate) fn probes<'a>(
    listeners: impl Iterator<Item = (ServiceId, EndpointId, &'a Target)>,
) -> BTreeMap<(ServiceId, SocketAddrV4), Probe> {
    let mut probes = BTreeMap::new();
    for (service, endpoint, target) in listeners {
        let backends = match &target.backend {
            Backend::At(backend) => std::slice::from_ref(backend),
            Backend::InTurn(backends) => backends,
            // What clients dial themselves has no address of its own to ask.
            Backend::AsDialled(_) => &[],
        };
        for &backend in backends {
            probes.entry((service, backend)).or_insert_with(|| Probe {
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

/// How each address of one service's ports answered.
type Answers = BTreeMap<SocketAddrV4, Option<String>>;

/// The ports of a service. One of which an address does not answer has a fault, for its share of connections fails; where there
/// are several addresses, the fault names those that do not. Pure.
fn ports(answers: &Answers) -> Vec<ProbedPort> {
    let mut by_port: BTreeMap<u16, Vec<(Ipv4Addr, Option<&String>)>> = BTreeMap::new();
    for (backend, fault) in answers {
        let of_port = by_port.entry(backend.port()).or_default();
        of_port.push((*backend.ip(), fault.as_ref()));
    }
    let port = |(port, of_port): (u16, Vec<(Ipv4Addr, Option<&String>)>)| {
        let alone = of_port.len() == 1;
        let faults = of_port.into_iter().filter_map(|(ip, fault)| {
            let fault = fault?;
            Some(match alone {
                true => fault.clone(),
                false => format!("{ip}: {fault}"),
            })
        });
        let fault = faults.reduce(|all, next| format!("{all}, {next}"));
        ProbedPort { port, fault }
    };
    by_port.into_iter().map(port).collect()
}

/// What was found last, by service.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<BTreeMap<ServiceId, Vec<ProbedPort>>>);

/// How backends stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// Ports that answer, at every address that they have.
    pub up: usize,
    /// Ports that do not, at one at least.
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
    pub(crate) async fn look(
        &self,
        apply: &Apply,
        wanted: BTreeMap<(ServiceId, SocketAddrV4), Probe>,
    ) -> Vec<Report> {
        let mut by_service: BTreeMap<ServiceId, (EndpointId, Answers)> = BTreeMap::new();
        let mut running = JoinSet::new();
        let mut waiting = wanted.into_iter();
        loop {
            while running.len() < PROBES_MAX
                && let Some(((service, backend), probe)) = waiting.next()
            {
                let namespace = apply.namespace(&probe.place).await;
                running.spawn(async move {
                    let (endpoint, fault) = (probe.endpoint, ask(namespace, probe).await.err());
                    (service, endpoint, backend, fault)
                });
            }
            match running.join_next().await {
                None => break,
                Some(Ok((service, endpoint, backend, fault))) => {
                    let (_, answers) = by_service
                        .entry(service)
                        .or_insert_with(|| (endpoint, Answers::new()));
                    answers.insert(backend, fault);
                }
                Some(Err(e)) => tracing::error!(error = %e, "A probe died."),
            }
        }
        let found = by_service
            .into_iter()
            .map(|(service, (endpoint, answers))| (service, (endpoint, ports(&answers))));
        self.note(found.collect())
    }

    /// Takes in what was found, and answers what was not so before.
    fn note(&self, found: BTreeMap<ServiceId, (EndpointId, Vec<ProbedPort>)>) -> Vec<Report> {
        let mut known = self.0.lock();
        known.retain(|service, _| found.contains_key(service));
        let mut news = Vec::new();
        for (service, (id, ports)) in found {
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

    fn at(host: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new([10, 0, 0, host].into(), port)
    }

    fn target(port: u16, source: u8) -> Target {
        Target {
            place: Place {
                name: "p".to_owned(),
                inode: 1,
            },
            source: [198, 19, 128, source].into(),
            backend: at(10, port).into(),
            header: None,
            toa: false,
        }
    }

    #[test]
    fn each_backend_of_a_service_is_asked_once() {
        let (one, other) = (ServiceId::random(), ServiceId::random());
        let endpoints = [EndpointId::random(), EndpointId::random()];
        let targets = [target(80, 1), target(81, 1), target(80, 2)];
        let dialled = Target {
            backend: Backend::AsDialled([].into()),
            ..target(80, 3)
        };
        let several: [SocketAddrV4; 2] = [at(10, 80), at(11, 80)];
        let in_turn = Target {
            backend: Backend::InTurn(several.into()),
            ..target(80, 3)
        };
        let listeners = [
            (one, endpoints[0], &targets[0]),
            (one, endpoints[0], &targets[1]),
            (one, endpoints[1], &targets[2]),
            (other, endpoints[1], &targets[2]),
            (other, endpoints[1], &dialled),
            (other, endpoints[1], &in_turn),
        ];
        let found = probes(listeners.into_iter());
        let mut keys = vec![
            (one, at(10, 80)),
            (one, at(10, 81)),
            (other, at(10, 80)),
            (other, at(11, 80)),
        ];
        keys.sort();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), keys);
        assert_eq!(found[&(one, at(10, 80))].endpoint, endpoints[0]);
    }

    #[test]
    fn a_port_answers_where_all_its_addresses_do() {
        let (refused, silent) = ("backend_refused".to_owned(), "backend_timeout".to_owned());
        let answers = Answers::from([
            (at(10, 80), None),
            (at(11, 80), None),
            (at(10, 81), None),
            (at(11, 81), Some(refused.clone())),
            (at(10, 82), Some(silent)),
            (at(11, 82), Some(refused.clone())),
            (at(10, 83), Some(refused)),
        ]);
        let expected = [
            (80, None),
            (81, Some("10.0.0.11: backend_refused")),
            (82, Some("10.0.0.10: backend_timeout, 10.0.0.11: backend_refused")),
            (83, Some("backend_refused")),
        ];
        let found = ports(&answers);
        let found: Vec<_> = found.iter().map(|p| (p.port, p.fault.as_deref())).collect();
        assert_eq!(found, expected);
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
        let told = health.note(found(&[&up, &down]));
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
