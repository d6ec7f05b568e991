//! Clients of the API that create, read and delete services without a pause, each at every control plane in turn, and the ledger of what they
//! were promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use adit_netns::Namespace;
use parking_lot::Mutex;
use serde_json::json;

use crate::lab::{
    caller::{Answer, Caller, DEMO, NoAnswer},
    plan::PROVIDER,
    tenants::BACKEND_PORT,
};

/// How many there are.
const CALLERS: usize = 3;
/// How long a client waits for an answer before it asks another control plane.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a log-in may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long each rests between two requests.
const PACE: Duration = Duration::from_millis(25);
/// The server ports of their services: each has its own, since no two services may have the same port of one backend.
const FIRST_PORT: u16 = 1024;
/// How often what is waited for is looked at.
const POLL: Duration = Duration::from_millis(50);

/// What was promised, and what was seen.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Creates that were answered, and no delete was asked for since.
    created: BTreeSet<String>,
    /// Deletes that were answered.
    deleted: BTreeSet<String>,
    /// Moments at which something was answered well.
    pub successes: Vec<Instant>,
    /// What else clients saw, and how often.
    pub errors: BTreeMap<String, u32>,
    /// What must not be.
    pub broken: Vec<String>,
}

/// Running clients.
#[derive(Debug)]
pub struct Callers {
    ledger: Arc<Mutex<Ledger>>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// Starts them, inside `desk`.
    ///
    /// # Errors
    /// Where they cannot log in.
    pub fn start(desk: &Namespace, urls: &[String]) -> Result<Self, String> {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let end = Arc::new(AtomicBool::new(false));
        let ports = Arc::new(AtomicU16::new(FIRST_PORT));
        let login = || Caller::login(urls, DEMO, TIMEOUT, PATIENCE);
        let caller = desk.run(login).map_err(|e| e.to_string())??;
        let threads = (0..CALLERS).map(|n| {
            let mut caller = caller.clone();
            for _ in 0..n {
                caller.next();
            }
            let (ledger, end, ports) = (Arc::clone(&ledger), Arc::clone(&end), Arc::clone(&ports));
            let desk = desk.clone();
            std::thread::spawn(move || {
                let call = || {
                    while !end.load(Ordering::Relaxed) {
                        round(&mut caller, &ledger, ports.fetch_add(1, Ordering::Relaxed));
                    }
                };
                if let Err(e) = desk.run(call) {
                    ledger.lock().broken.push(format!("a client could not call: {e}"));
                }
            })
        });
        Ok(Self {
            threads: threads.collect(),
            ledger,
            end,
        })
    }

    /// Forgets what was seen so far, but not what was promised.
    pub fn begin(&self) {
        let mut ledger = self.ledger.lock();
        ledger.successes.clear();
        ledger.errors.clear();
    }

    /// What was seen since: moments of success, and errors.
    #[must_use]
    pub fn seen(&self) -> (Vec<Instant>, BTreeMap<String, u32>) {
        let ledger = self.ledger.lock();
        (ledger.successes.clone(), ledger.errors.clone())
    }

    /// How many promises there are: creates, deletes.
    #[must_use]
    pub fn promised(&self) -> (usize, usize) {
        let ledger = self.ledger.lock();
        (ledger.created.len(), ledger.deleted.len())
    }

    /// Reads back what was promised so far, at one control plane; answers what does not hold, within `patience`: deletes take their time.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read_back(&self, mut caller: Caller, patience: Duration) -> Result<Vec<String>, String> {
        let deadline = Instant::now() + patience;
        loop {
            let (created, deleted, mut broken) = {
                let ledger = self.ledger.lock();
                (
                    ledger.created.clone(),
                    ledger.deleted.clone(),
                    ledger.broken.clone(),
                )
            };
            let there = list(&mut caller, patience)?;
            let mut lost = Vec::new();
            for id in created.iter().filter(|id| !there.contains(*id)) {
                // A deletion meanwhile moves others from one page to the one before it: that they were not listed says nothing.
                // What is deleted meanwhile is not missed.
                if is_gone(&mut caller, id, patience)? && self.ledger.lock().created.contains(id) {
                    lost.push(format!("service {id}, whose create was answered, is gone"));
                }
            }
            let back = deleted.iter().filter(|id| there.contains(*id));
            let back: Vec<_> = back
                .map(|id| format!("service {id}, whose delete was answered, is there"))
                .collect();
            if lost.is_empty() && (back.is_empty() || Instant::now() > deadline) {
                broken.extend(back);
                return Ok(broken);
            }
            if !lost.is_empty() {
                broken.extend(lost);
                return Ok(broken);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends them.
    pub fn stop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The ids of all services.
fn list(caller: &mut Caller, patience: Duration) -> Result<BTreeSet<String>, String> {
    const PAGE: usize = 1000;
    let mut ids = BTreeSet::new();
    let mut offset = 0;
    loop {
        let path = format!("vpc-endpoint-services?limit={PAGE}&offset={offset}");
        let page = caller.must("GET", &path, None, patience)?;
        let listed = page["endpoint_services"].as_array().cloned().unwrap_or_default();
        let gone = |status: &serde_json::Value| status == "deleting";
        let there = listed.iter().filter(|service| !gone(&service["status"]));
        ids.extend(
            there
                .filter_map(|service| service["id"].as_str())
                .map(str::to_owned),
        );
        if listed.len() < PAGE {
            return Ok(ids);
        }
        offset += PAGE;
    }
}

/// Whether there is no such service, or it is on its way out.
fn is_gone(caller: &mut Caller, id: &str, patience: Duration) -> Result<bool, String> {
    let path = format!("vpc-endpoint-services/{id}");
    let deadline = Instant::now() + patience;
    loop {
        let failed = match caller.ask("GET", &path, None) {
            Ok((200, service)) => return Ok(service["status"] == "deleting"),
            Ok((404, _)) => return Ok(true),
            Ok((status, body)) => format!("GET {path}: {status} {body}"),
            Err(e) => format!("GET {path}: {e}"),
        };
        if Instant::now() > deadline {
            return Err(failed);
        }
        caller.next();
        std::thread::sleep(POLL);
    }
}

/// Creates a service, reads it elsewhere, and deletes every other one.
fn round(caller: &mut Caller, ledger: &Mutex<Ledger>, port: u16) {
    let ports = json!([{"client_port": 80, "server_port": port, "protocol": "TCP"}]);
    let body = json!({"port_id": BACKEND_PORT, "vpc_id": PROVIDER.id, "server_type": "VM", "ports": ports});
    let made = caller.ask("POST", "vpc-endpoint-services", Some(&body));
    let Some(id) = noted(ledger, "create", &made) else {
        caller.next();
        return std::thread::sleep(PACE);
    };
    ledger.lock().created.insert(id.clone());
    std::thread::sleep(PACE);
    // What one has answered, every other knows.
    caller.next();
    let path = format!("vpc-endpoint-services/{id}");
    let read = caller.ask("GET", &path, None);
    if let Ok((404, _)) = read {
        let mut ledger = ledger.lock();
        ledger
            .broken
            .push(format!("service {id} was created, and then was not found"));
    }
    noted(ledger, "read", &read);
    if read.is_err() {
        caller.next();
    }
    std::thread::sleep(PACE);
    if !port.is_multiple_of(2) {
        return;
    }
    // From here on it may be gone, whatever is answered.
    ledger.lock().created.remove(&id);
    let deleted = caller.ask("DELETE", &path, None);
    noted(ledger, "delete", &deleted);
    match deleted {
        Ok((204, _)) => {
            ledger.lock().deleted.insert(id);
        }
        Ok(_) | Err(_) => caller.next(),
    }
    std::thread::sleep(PACE);
}

/// Notes how a request went; answers the id in an answer that is well.
fn noted(ledger: &Mutex<Ledger>, what: &str, answer: &Result<Answer, NoAnswer>) -> Option<String> {
    let mut ledger = ledger.lock();
    let error = match answer {
        Ok((200..300, body)) => {
            ledger.successes.push(Instant::now());
            return body["id"].as_str().map(str::to_owned);
        }
        Ok((status, body)) => {
            let code = body["error_code"].as_str().unwrap_or_default();
            format!("{what} {status} {code}")
        }
        Err(e) => format!("{what} {e}"),
    };
    *ledger.errors.entry(error.trim_end().to_owned()).or_default() += 1;
    None
}
