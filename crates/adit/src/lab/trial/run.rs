//! One lab under load, and one failure after the other in it.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, SocketAddrV4},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use adit_netns::Namespace;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    callers::Callers,
    cells::{Cell, Fault, Target},
    connections::{Connections, Shown},
    longest_gap,
    watchers::{Found, Watcher},
};
use crate::lab::{
    Kind, Lab, LabError, Shape, State, Wish,
    caller::Caller,
    command::{furnish, serving},
    plan::{PROVIDER, SERVER_PORT},
    record::Endpoint,
    tenants::{BACKEND_PORT, Tenants},
};

/// How long a fault lasts: longer than any lease, so that whoever takes over has done so.
const HOLD: Duration = Duration::from_secs(7);
/// How long everything may take to answer again after that.
const RECOVERY: Duration = Duration::from_secs(40);
/// How long ago the last success may be where all is well.
const FRESH: Duration = Duration::from_millis(400);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Server ports of services that are ordered at the moment of a fault; the callers' own are below.
const FIRST_PORT: u16 = 50_000;
/// The key of the control plane that leads, in etcd.
const LEADER: &str = "adit/data/leader/reconcilers";

/// What came of one failure. Times are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What failed, and how.
    pub cell: String,
    /// Which machines.
    pub machines: Vec<String>,
    /// The longest time in which no client of the API had an answer.
    pub api_gap_ms: u128,
    /// What clients of the API saw but success, and how often.
    pub api_errors: BTreeMap<String, u32>,
    /// How many requests were answered.
    pub api_answers: usize,
    /// How long a service that was ordered with the fault took to be available; none where it was not.
    pub ordered_ms: Option<u128>,
    /// The longest time in which no new connection went through the endpoint.
    pub endpoint_gap_ms: u128,
    /// What new connections met with, and how often.
    pub endpoint_errors: BTreeMap<String, u32>,
    /// How many went through.
    pub endpoint_answers: usize,
    /// What ended the connection that was open, and how often.
    pub open_ends: BTreeMap<String, u32>,
    /// The longest time in which the open connection, or its successor, had no echo.
    pub open_gap_ms: u128,
    /// The longest time in which nobody answered for the endpoint's address.
    pub nobody_ms: u128,
    /// How long two gateways did.
    pub two_ms: u128,
    /// Machines whose process ended by itself.
    pub ended: Vec<String>,
    /// How long after mending a member of etcd itself answered a read that all of them agree on; only where all of them failed.
    pub etcd_ms: Option<u128>,
    /// How long after mending everything answered again; none where it did not.
    pub recovered_ms: Option<u128>,
    /// What did not, where it did not.
    pub not_recovered: Option<String>,
    /// What was promised and does not hold.
    pub lost: Vec<String>,
}

impl Outcome {
    /// Whether everything came back, and nothing was lost.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.recovered_ms.is_some() && self.lost.is_empty()
    }
}

/// A lab under load.
#[derive(Debug)]
pub struct Trial {
    /// The lab.
    pub lab: Lab,
    /// Clients of the API.
    pub callers: Option<Callers>,
    /// Clients of the endpoint.
    pub connections: Connections,
    /// Who answers for it.
    pub watcher: Watcher,
    /// Where it is connected to.
    pub endpoint: Endpoint,
    /// What the tenants do besides.
    pub tenants: Tenants,
    desk: Namespace,
    apis: Vec<String>,
    ports: Arc<AtomicU16>,
}

impl Trial {
    /// Brings a lab up in `directory` and puts it under load.
    ///
    /// # Errors
    /// Where that does not go.
    pub fn start(directory: &Path, tell: &mut dyn FnMut(&str)) -> Result<Self, LabError> {
        let program = std::env::current_exe();
        let wish = Wish {
            directory: directory.to_owned(),
            program: program.map_err(|e| LabError::Api(format!("this program is not found: {e}")))?,
            shape: Shape::default(),
            small_disks: true,
        };
        let mut lab = Lab::up(&wish, tell)?;
        furnish(&mut lab, tell)?;
        let endpoint = lab.record().endpoint.clone();
        let endpoint = endpoint.ok_or_else(|| LabError::Api("there is no endpoint".to_owned()))?;
        let (desk, apis) = (lab.namespace("desk")?, lab.plan().apis());
        let tenants = on(&desk, || Tenants::login(&apis))?;
        let callers = Callers::start(&desk, &apis).map_err(LabError::Api)?;
        let to = SocketAddr::from(SocketAddrV4::new(endpoint.ip, SERVER_PORT));
        Ok(Self {
            connections: Connections::start(&lab.namespace("client-1")?, to),
            watcher: Watcher::start(&lab.namespace("client-2")?, endpoint.ip),
            callers: Some(callers),
            ports: Arc::new(AtomicU16::new(FIRST_PORT)),
            lab,
            endpoint,
            tenants,
            desk,
            apis,
        })
    }

    /// Ends the load and takes the lab down.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn end(self) -> Result<(), LabError> {
        let Self {
            lab,
            callers,
            connections,
            watcher,
            ..
        } = self;
        drop((callers, connections, watcher));
        lab.down()
    }

    /// Has one failure happen.
    ///
    /// # Errors
    /// Where the lab cannot be made to fail, or was not well before.
    pub fn fail(&mut self, cell: Cell) -> Result<Outcome, LabError> {
        self.settle().map_err(LabError::Api)?;
        let machines = self.machines(cell.target)?;
        self.begin();
        let from = Instant::now();
        self.break_down(&machines, cell.fault)?;
        let order = self.order(from);
        std::thread::sleep(HOLD);
        let ended: Vec<_> = match cell.fault {
            Fault::Kill => Vec::new(),
            _ => {
                let dead = machines
                    .iter()
                    .filter(|name| self.lab.state(name) == Some(State::Dead));
                dead.map(|name| format!("{name}: {}", self.lab.last_line(name)))
                    .collect()
            }
        };
        let mended = Instant::now();
        self.mend(&machines, cell.fault)?;
        let etcd = (cell.target == Target::Etcd).then(|| self.etcd_answers());
        let settled = self.settle();
        let recovered = settled.is_ok().then(|| mended.elapsed());
        let until = Instant::now();
        let shown = self.connections.shown();
        let found = self.watcher.found(from);
        let ordered = order.join().ok().flatten();
        let lost = self.read_back();
        let mut outcome = self.outcome(cell, machines, (from, until), &shown, found);
        outcome.ended = ended;
        outcome.ordered_ms = ordered.map(|took| took.as_millis());
        let answered = etcd
            .into_iter()
            .flatten()
            .filter_map(|member| member.join().ok().flatten());
        outcome.etcd_ms = answered.min().map(|at| at.duration_since(mended).as_millis());
        outcome.recovered_ms = recovered.map(|took| took.as_millis());
        outcome.not_recovered = settled.err();
        outcome.lost = lost;
        Ok(outcome)
    }

    fn outcome(
        &self,
        cell: Cell,
        machines: Vec<String>,
        (from, until): (Instant, Instant),
        shown: &Shown,
        found: Found,
    ) -> Outcome {
        let (answers, api_errors) = self.callers.as_ref().map(Callers::seen).unwrap_or_default();
        let gap = |moments: &[Instant]| longest_gap(moments, from, until).as_millis();
        Outcome {
            cell: cell.to_string(),
            machines,
            api_gap_ms: gap(&answers),
            api_answers: answers.len(),
            api_errors,
            ordered_ms: None,
            endpoint_gap_ms: gap(&shown.successes),
            endpoint_answers: shown.successes.len(),
            endpoint_errors: shown.errors.clone(),
            open_ends: shown.ends.clone(),
            open_gap_ms: gap(&shown.echoes),
            nobody_ms: found.none.as_millis(),
            two_ms: found.both.as_millis(),
            ended: Vec::new(),
            etcd_ms: None,
            recovered_ms: None,
            not_recovered: None,
            lost: Vec::new(),
        }
    }

    fn begin(&self) {
        if let Some(callers) = &self.callers {
            callers.begin();
        }
        self.connections.begin();
        self.watcher.begin();
    }

    /// Which machines a failure is of.
    fn machines(&self, target: Target) -> Result<Vec<String>, LabError> {
        let all = |kind| {
            self.lab
                .plan()
                .of(kind)
                .map(|place| place.name.clone())
                .collect::<Vec<_>>()
        };
        let one = |name: String| Ok(vec![name]);
        let other = |kind, than: String| {
            let mut others = all(kind).into_iter().filter(|name| *name != than);
            others.next().into_iter().collect()
        };
        match target {
            Target::EtcdLeader => one(self.etcd_leader()?),
            Target::EtcdMember => Ok(other(Kind::Etcd, self.etcd_leader()?)),
            Target::ApiLeader => one(self.api_leader()?),
            Target::ApiOther => Ok(other(Kind::Api, self.api_leader()?)),
            Target::Gateway => one(serving(&self.lab)?),
            Target::ControlPlane => Ok(all(Kind::Api)),
            Target::Etcd => Ok(all(Kind::Etcd)),
        }
    }

    fn etcd_leader(&self) -> Result<String, LabError> {
        let names: Vec<_> = self
            .lab
            .plan()
            .of(Kind::Etcd)
            .map(|place| place.name.clone())
            .collect();
        let urls = self.lab.plan().etcds();
        on(&self.desk, || {
            let leads = |url: &String| {
                let status = etcd(url, "maintenance/status", &json!({}));
                status.is_ok_and(|status| status["leader"] == status["header"]["member_id"])
            };
            let at = urls.iter().position(leads).ok_or("no member of etcd leads")?;
            Ok(names[at].clone())
        })
    }

    fn api_leader(&self) -> Result<String, LabError> {
        let apis: Vec<_> = self.lab.plan().of(Kind::Api).cloned().collect();
        let urls = self.lab.plan().etcds();
        let said = on(&self.desk, || {
            let key = BASE64_STANDARD.encode(LEADER);
            let mut answers = urls
                .iter()
                .filter_map(|url| etcd(url, "kv/range", &json!({"key": key})).ok());
            let value = answers.find_map(|answer| answer["kvs"][0]["value"].as_str().map(str::to_owned));
            let value = value.ok_or("no control plane leads")?;
            let bytes = BASE64_STANDARD.decode(value).map_err(|e| e.to_string())?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })?;
        let leads = |place: &&crate::lab::plan::Place| {
            let mut links = place.links.iter();
            links.any(|link| said.contains(&format!("//{}:", link.address.addr())))
        };
        let leader = apis.iter().find(leads).map(|place| place.name.clone());
        leader.ok_or_else(|| LabError::Api(format!("it is not known who leads: {said}")))
    }

    fn break_down(&mut self, machines: &[String], fault: Fault) -> Result<(), LabError> {
        for name in machines {
            match fault {
                Fault::Kill => match self.lab.kill(name) {
                    // It may have ended by itself: what it depends on went first.
                    Err(_) if self.lab.state(name) == Some(State::Dead) => {}
                    killed => killed?,
                },
                Fault::Stop => self.lab.stop(name)?,
                Fault::Cut(from) => self.lab.cut(name, from)?,
                Fault::FullDisk => self.lab.fill(name)?,
            }
        }
        Ok(())
    }

    /// Makes it good, and starts what has ended.
    fn mend(&mut self, machines: &[String], fault: Fault) -> Result<(), LabError> {
        for name in machines {
            match fault {
                Fault::Kill => {}
                Fault::Stop => self.lab.cont(name)?,
                Fault::Cut(from) => self.lab.mend(name, from)?,
                Fault::FullDisk => self.lab.free(name)?,
            }
            if self.lab.state(name) == Some(State::Dead) {
                self.lab.restart(name)?;
            }
        }
        Ok(())
    }

    /// Orders a service, and answers how long after `from` it is available.
    fn order(&self, from: Instant) -> std::thread::JoinHandle<Option<Duration>> {
        let (desk, urls, ports) = (self.desk.clone(), self.apis.clone(), Arc::clone(&self.ports));
        let caller = self.tenants.demo.clone();
        std::thread::spawn(move || {
            let order = || ordered(caller.within(&urls, TIMEOUT), &ports);
            desk.run(order).ok()?.map(|()| from.elapsed())
        })
    }

    /// Asks each member of etcd itself, until it answers.
    fn etcd_answers(&self) -> Vec<std::thread::JoinHandle<Option<Instant>>> {
        let deadline = Instant::now() + RECOVERY;
        let ask = |url: String| {
            let desk = self.desk.clone();
            std::thread::spawn(move || {
                let key = json!({"key": BASE64_STANDARD.encode(LEADER)});
                while Instant::now() < deadline {
                    if on(&desk, || etcd(&url, "kv/range", &key)).is_ok() {
                        return Some(Instant::now());
                    }
                    std::thread::sleep(POLL);
                }
                None
            })
        };
        self.lab.plan().etcds().into_iter().map(ask).collect()
    }

    /// Waits until everything answers; says what does not.
    ///
    /// # Errors
    /// What does not, in time.
    pub fn settle(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let unwell = self.unwell();
            if unwell.is_none() || Instant::now() > deadline {
                return unwell.map_or(Ok(()), Err);
            }
            std::thread::sleep(POLL);
        }
    }

    /// What is not well, if anything.
    fn unwell(&mut self) -> Option<String> {
        for place in self.lab.machines() {
            if self.lab.state(&place.name) != Some(State::Alive) {
                return Some(format!("{} does not run", place.name));
            }
        }
        let fresh = |moments: &[Instant]| moments.last().is_some_and(|at| at.elapsed() < FRESH);
        if let Some(callers) = &self.callers
            && !fresh(&callers.seen().0)
        {
            return Some("clients of the API have no answers".to_owned());
        }
        let shown = self.connections.shown();
        if !fresh(&shown.successes) || !fresh(&shown.echoes) {
            return Some("the endpoint carries no bytes".to_owned());
        }
        let (apis, count) = (&self.apis, self.lab.plan().of(Kind::Gateway).count());
        let operator = self.tenants.operator.clone();
        let asked = on(&self.desk, || {
            for url in apis {
                // One that answers by itself, and knows what the others know.
                let (status, listed) = operator
                    .at(url)
                    .ask("GET", "/admin/v1/gateways", None)
                    .map_err(|e| format!("{url}: {e}"))?;
                let gateways = listed["gateways"].as_array().cloned().unwrap_or_default();
                let served = |g: &&Value| g["status"] == "up" && g["shards"].as_u64() > Some(0);
                if status != 200 || gateways.iter().filter(served).count() != count {
                    return Err(format!("{url} lists: {status} {listed}"));
                }
            }
            Ok(())
        });
        asked.err().map(|e| e.to_string())
    }

    /// What was promised and does not hold, at any control plane.
    fn read_back(&self) -> Vec<String> {
        let Some(callers) = &self.callers else {
            return Vec::new();
        };
        let read = |url: &String| {
            let caller = self.tenants.demo.at(url);
            let read = on(&self.desk, || callers.read_back(caller, RECOVERY));
            read.unwrap_or_else(|e| vec![format!("{url} could not be read back: {e}")])
        };
        let mut lost: Vec<_> = self.apis.iter().flat_map(read).collect();
        lost.sort();
        lost.dedup();
        lost
    }

    /// Where requests come from.
    #[must_use]
    pub fn desk(&self) -> &Namespace {
        &self.desk
    }
}

/// Creates a service until that is answered, and waits until it is available.
fn ordered(mut caller: Caller, ports: &AtomicU16) -> Option<()> {
    let deadline = Instant::now() + HOLD + RECOVERY;
    let id = loop {
        // An attempt without an answer may have taken its port.
        let port = ports.fetch_add(1, Ordering::Relaxed);
        let ports = json!([{"client_port": 80, "server_port": port, "protocol": "TCP"}]);
        let body =
            json!({"port_id": BACKEND_PORT, "vpc_id": PROVIDER.id, "server_type": "VM", "ports": ports});
        match caller.ask("POST", "vpc-endpoint-services", Some(&body)) {
            Ok((200..300, made)) => break made["id"].as_str()?.to_owned(),
            _ if Instant::now() > deadline => return None,
            _ => caller.next(),
        }
        std::thread::sleep(POLL);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let path = format!("vpc-endpoint-services/{id}");
    let available = |seen: &Value| (seen["status"] == "available").then_some(());
    caller.until(&path, left, available).ok()?;
    // It was for this alone.
    let _ = caller.must("DELETE", &path, None, left);
    Some(())
}

/// One request to a member of etcd, by its gateway for JSON.
fn etcd(url: &str, what: &str, body: &Value) -> Result<Value, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let reply = agent.post(format!("{url}/v3/{what}")).send_json(body);
    let text = reply.and_then(|mut reply| reply.body_mut().read_to_string());
    serde_json::from_str(&text.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// Does something inside a namespace.
pub(super) fn on<T: Send>(
    place: &Namespace,
    what: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, LabError> {
    let ran = place.run(what);
    ran.map_err(|e| LabError::Api(e.to_string()))?
        .map_err(LabError::Api)
}
