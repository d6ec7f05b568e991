//! How soon it is over: a gateway's death, until bytes go through another; and the wait for a new endpoint, until its first byte.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    percentile,
    run::{Trial, on},
};
use crate::lab::{
    LabError,
    command::{carries, serving},
    plan::{CONSUMER, SERVER_PORT},
    tenants::CLIENT_SUBNET,
};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a new endpoint is asked for, and connected to.
const POLL: Duration = Duration::from_millis(2);

/// Times, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Times {
    /// How many were taken.
    pub count: usize,
    /// Half of them were no longer.
    pub median_ms: u128,
    /// One in a hundred was longer.
    pub p99_ms: u128,
    /// The longest.
    pub worst_ms: u128,
}

impl Times {
    /// Of these.
    #[must_use]
    pub fn of(mut values: Vec<Duration>) -> Self {
        let mut at = |percent| percentile(&mut values, percent).unwrap_or_default().as_millis();
        Self {
            median_ms: at(50),
            p99_ms: at(99),
            worst_ms: at(100),
            count: values.len(),
        }
    }
}

/// What the deaths of gateways showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Failovers {
    /// From the kill to the first new connection through another.
    pub traffic: Times,
    /// The longest time in which nobody answered for the address.
    pub nobody: Times,
    /// How long two did.
    pub two: Times,
}

/// Kills the gateway that serves, so many times.
///
/// # Errors
/// Where nobody takes over, or the lab cannot be used.
pub fn failovers(trial: &mut Trial, count: usize, tell: &mut dyn FnMut(&str)) -> Result<Failovers, LabError> {
    let (mut traffic, mut nobody, mut two) = (Vec::new(), Vec::new(), Vec::new());
    for n in 1..=count {
        trial.settle().map_err(LabError::Api)?;
        let gateway = serving(&trial.lab)?;
        trial.watcher.begin();
        trial.connections.begin();
        let killed = Instant::now();
        trial.lab.kill(&gateway)?;
        let gone = Instant::now();
        let again = loop {
            let shown = trial.connections.shown();
            if let Some(at) = shown.successes.iter().find(|at| **at > gone) {
                break *at;
            }
            if gone.elapsed() > PATIENCE {
                return Err(LabError::Api(format!("nobody took over from {gateway}")));
            }
            std::thread::sleep(POLL);
        };
        let took = again.duration_since(killed);
        let found = trial.watcher.found(killed);
        tell(&format!(
            "{n} of {count}: {gateway} killed, traffic again after {} ms",
            took.as_millis()
        ));
        traffic.push(took);
        nobody.push(found.none);
        two.push(found.both);
        trial.lab.start(&gateway)?;
    }
    trial.settle().map_err(LabError::Api)?;
    Ok(Failovers {
        traffic: Times::of(traffic),
        nobody: Times::of(nobody),
        two: Times::of(two),
    })
}

/// Creates so many endpoints, one after the other, and waits for the first byte through each.
///
/// # Errors
/// Where one has none in time.
pub fn first_bytes(trial: &mut Trial, count: usize) -> Result<Times, LabError> {
    let desk = trial.desk().clone();
    let client = trial.lab.namespace("client-1")?;
    let service = trial.endpoint.service.clone();
    let mut times = Vec::new();
    let open = json!({"approval_enabled": false});
    let path = format!("vpc-endpoint-services/{service}");
    let tenants = &mut trial.tenants;
    on(&desk, || tenants.demo.must("PUT", &path, Some(&open), PATIENCE))?;
    for _ in 0..count {
        let body = json!({"endpoint_service_id": service, "vpc_id": CONSUMER.id, "subnet_id": CLIENT_SUBNET});
        let asked = Instant::now();
        let (path, ip) = on(&desk, || {
            let made = tenants
                .other
                .must("POST", "vpc-endpoints", Some(&body), PATIENCE)?;
            let path = format!("vpc-endpoints/{}", made["id"].as_str().unwrap_or_default());
            let address = |seen: &Value| seen["ip"].as_str()?.parse::<Ipv4Addr>().ok();
            let ip = tenants.other.until(&path, PATIENCE, address)?;
            Ok((path, ip))
        })?;
        let to = SocketAddr::from(SocketAddrV4::new(ip, SERVER_PORT));
        let deadline = asked + PATIENCE;
        on(&client, || {
            while let Err(e) = carries(&to) {
                if Instant::now() > deadline {
                    return Err(format!("{to}: {e}"));
                }
                std::thread::sleep(POLL);
            }
            Ok(())
        })?;
        times.push(asked.elapsed());
        on(&desk, || tenants.other.must("DELETE", &path, None, PATIENCE))?;
    }
    Ok(Times::of(times))
}
