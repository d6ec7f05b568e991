//! Control planes, one after the other.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed},
    },
};

use adit::lab::{
    Shape,
    caller::{Caller, DEMO, NoAnswer},
};
use serde_json::{Value, json};

use crate::{
    Bed, CLIENTS, Over, PATIENCE, more,
    process::{BACKEND_PORT, BACKEND_VPC, skip_without, skip_without_root, until},
};

const SERVICES: &str = "vpc-endpoint-services";
/// What all clients together do between two steps of an upgrade.
const ROUNDS: usize = 12;

/// What clients of the API have been told is so.
#[derive(Default)]
struct Ledger {
    kept: Mutex<BTreeSet<String>>,
    gone: Mutex<BTreeSet<String>>,
    rounds: AtomicUsize,
    ports: AtomicU16,
    over: AtomicBool,
}

/// A request that somebody answers: who is not reached was not asked, and the next one is. Anything else is no answer, and a request lost.
fn ask(client: &mut Caller, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    until("somebody to be reached", || {
        // Another one each time, so that what one has answered is asked of the next.
        client.next();
        match client.ask(method, path, body) {
            Ok(answer) => Some(answer),
            Err(NoAnswer::Refused) => None,
            Err(e) => panic!("{method} {path}: asked, and not answered: {e}"),
        }
    })
}

impl Ledger {
    /// Makes services, changes and deletes them, and reads after each.
    fn work(&self, mut client: Caller) {
        while !self.over.load(Relaxed) {
            let n = self.ports.fetch_add(1, Relaxed);
            let port = 1000 + n;
            let order = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
                "ports": [{"client_port": port, "server_port": port}]});
            let (status, made) = ask(&mut client, "POST", SERVICES, Some(&order));
            assert_eq!(status, 200, "{made}");
            let path = format!("{SERVICES}/{}", made["id"].as_str().unwrap());
            let shown = until("the service", || {
                let (status, shown) = ask(&mut client, "GET", &path, None);
                assert_eq!(status, 200, "it was made, and is not there: {shown}");
                (shown["status"] == "available").then_some(shown)
            });
            assert_eq!(shown["id"], made["id"]);
            let text = json!({"description": format!("number {n}")});
            let (status, changed) = ask(&mut client, "PUT", &path, Some(&text));
            assert_eq!(status, 200, "{changed}");
            let (_, shown) = ask(&mut client, "GET", &path, None);
            assert_eq!(shown["description"], text["description"]);
            if n.is_multiple_of(4) {
                self.kept.lock().unwrap().insert(path);
            } else {
                let (status, refused) = ask(&mut client, "DELETE", &path, None);
                assert_eq!(status, 204, "{refused}");
                let (status, shown) = ask(&mut client, "GET", &path, None);
                assert!(status == 404 || shown["status"] == "deleting", "{shown}");
                self.gone.lock().unwrap().insert(path);
            }
            self.rounds.fetch_add(1, Relaxed);
        }
    }

    /// All that was answered is so, wherever it is asked.
    fn check(&self, client: &Caller, urls: &[String]) {
        let (kept, gone) = (self.kept.lock().unwrap(), self.gone.lock().unwrap());
        assert!(!kept.is_empty() && !gone.is_empty());
        for url in urls {
            let there = client.at(url);
            for path in &*kept {
                assert_eq!(there.ask("GET", path, None).unwrap().0, 200, "{url}: {path}");
            }
            until("what was deleted to be gone", || {
                let gone_there = |path: &String| there.ask("GET", path, None).unwrap().0 == 404;
                gone.iter().all(gone_there).then_some(())
            });
        }
    }
}

#[test]
fn control_planes_are_upgraded_and_no_answer_is_lost() {
    let test = "control_planes_are_upgraded_and_no_answer_is_lost";
    if skip_without_root(test) || skip_without("etcd", test) {
        return;
    }
    let mut bed = Bed::up(Shape {
        etcd: 1,
        api: 3,
        gateway: 0,
    });
    let urls = bed.lab().plan().apis();
    let desk = bed.lab().namespace("desk").unwrap();
    let client = desk.run(|| Caller::login(&urls, DEMO, PATIENCE, PATIENCE));
    let client = client.unwrap().unwrap();
    let ledger = Ledger::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (desk, ledger) = (&desk, &ledger);
                // With connections of its own.
                let own = desk.run(|| Caller::login(&urls, DEMO, PATIENCE, PATIENCE));
                let own = own.unwrap().unwrap();
                scope.spawn(move || desk.run(|| ledger.work(own)).unwrap())
            })
            .collect();
        let over = Over(&ledger.over);
        let failed = || clients.iter().any(std::thread::ScopedJoinHandle::is_finished);
        let go_on = || more(&ledger.rounds, ROUNDS, &failed);
        for n in 1..=urls.len() {
            let name = format!("api-{n}");
            go_on();
            bed.terminate(&name);
            go_on();
            bed.lab().start(&name).unwrap();
        }
        go_on();
        drop(over);
        for client in clients {
            client.join().expect("a client lost what was answered");
        }
    });
    desk.run(|| ledger.check(&client, &urls)).unwrap();
}
