//! SIGKILL while creates are being answered: what was answered is there after the restart, and comes true.

#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use process::{Client, Region, until};
use serde_json::{Value, json};

/// How many creates are asked for, over all rounds.
const CREATES: u32 = 1000;
/// By how many clients.
const CLIENTS: usize = 16;
/// After how many answers, counted over all rounds, the region is killed.
const KILL_AT: [usize; 3] = [37, 331, 777];

/// A region file in which a project may have as much as this test makes.
fn region_file(dir: &std::path::Path) -> std::path::PathBuf {
    let text = adit_cloud::Region::embedded_text().replace(
        "endpoint_service = 20, endpoint = 50",
        "endpoint_service = 5000, endpoint = 5000",
    );
    let path = dir.join("region.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// What clients share: the next port to ask for, and what was answered.
#[derive(Default)]
struct Ledger {
    next: AtomicU32,
    answers: AtomicUsize,
    services: Mutex<BTreeSet<String>>,
    endpoints: Mutex<BTreeSet<String>>,
}

fn order_service(port: u32) -> Value {
    json!({
        "port_id": "4189d3c2-8882-4871-a3c2-d380272eed88",
        "vpc_id": "4189d3c2-8882-4871-a3c2-d380272eed80",
        "server_type": "VM",
        "approval_enabled": false,
        "ports": [{"client_port": 80, "server_port": port}],
    })
}

fn order_endpoint(service: &str) -> Value {
    json!({
        "endpoint_service_id": service,
        "vpc_id": "4189d3c2-8882-4871-a3c2-d380272eed80",
        "subnet_id": "4189d3c2-8882-4871-a3c2-d380272eed81",
    })
}

/// Creates services, and an endpoint for every eighth, until there are enough or the region is gone.
fn create(client: &Client, ledger: &Ledger, shared_service: &str) {
    loop {
        let n = ledger.next.fetch_add(1, Ordering::Relaxed);
        if n >= CREATES {
            return;
        }
        // The block of the demo VPC holds some 150 automatic addresses.
        let (path, body, made) = match n % 8 {
            0 => ("vpc-endpoints", order_endpoint(shared_service), &ledger.endpoints),
            _ => ("vpc-endpoint-services", order_service(1000 + n), &ledger.services),
        };
        let Some((status, reply)) = client.try_call("POST", path, Some(&body)) else {
            return;
        };
        assert_eq!(status, 200, "{reply}");
        made.lock()
            .unwrap()
            .insert(reply["id"].as_str().unwrap().to_owned());
        ledger.answers.fetch_add(1, Ordering::Relaxed);
    }
}

fn settled(client: &Client, path: &str, id: &str, status: &str) -> bool {
    let (code, reply) = client.try_call("GET", &format!("{path}/{id}"), None).unwrap();
    assert_eq!(code, 200, "an answered create is gone: {path}/{id} {reply}");
    assert_ne!(reply["status"], "failed", "{reply}");
    reply["status"] == status
}

#[test]
fn every_answered_create_survives_a_kill_and_comes_true() {
    let dir = tempfile::tempdir().unwrap();
    let region_file = region_file(dir.path());
    let data = dir.path().join("data");
    let start = || {
        Region::start(
            &data,
            &["--no-gateway", "--region-file", region_file.to_str().unwrap()],
        )
    };
    let ledger = Arc::new(Ledger::default());
    let mut region = Some(start());
    let api = |region: &Option<Region>| region.as_ref().map(|r| r.api.clone()).unwrap();
    let client = Client::demo(&api(&region));
    let shared = client.must("POST", "vpc-endpoint-services", Some(&order_service(1)))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    until("the shared service", || {
        settled(&client, "vpc-endpoint-services", &shared, "available").then_some(())
    });

    for kill_at in KILL_AT.into_iter().map(Some).chain([None]) {
        let client = Client::demo(&api(&region));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| create(&client.clone(), &ledger, &shared)))
                .collect();
            if let Some(kill_at) = kill_at {
                until("enough answers", || {
                    let enough = ledger.answers.load(Ordering::Relaxed) >= kill_at;
                    (enough || workers.iter().all(std::thread::ScopedJoinHandle::is_finished)).then_some(())
                });
                region.take().unwrap().kill();
                region = Some(start());
            }
        });
    }

    let client = Client::demo(&api(&region));
    let (services, endpoints) = (ledger.services.lock().unwrap(), ledger.endpoints.lock().unwrap());
    assert!(
        services.len() + endpoints.len() > 900,
        "{} services, {} endpoints",
        services.len(),
        endpoints.len()
    );
    for id in services.iter() {
        until("a service", || {
            settled(&client, "vpc-endpoint-services", id, "available").then_some(())
        });
    }
    for id in endpoints.iter() {
        until("an endpoint", || {
            settled(&client, "vpc-endpoints", id, "accepted").then_some(())
        });
    }
    // What was committed and not answered counts too, and nothing is there that nobody ordered.
    let listed = client.must("GET", "vpc-endpoint-services?limit=1000", None)["total_count"]
        .as_u64()
        .unwrap();
    let ordered = u64::from(CREATES) + 1;
    assert!(
        listed > services.len() as u64 && listed <= ordered,
        "{listed} services listed"
    );
    let quotas = client.must("GET", "quotas?type=endpoint_service", None);
    assert_eq!(
        quotas["quotas"]["resources"][0]["used"], listed,
        "the quota counts what is there"
    );
    assert!(region.unwrap().stop(), "a clean stop");
}
