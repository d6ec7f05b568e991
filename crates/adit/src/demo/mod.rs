//! `adit demo`: the main job from one end to the other, on real parts, as a tour that proves itself.
//!
//! Owns the order of the tour ([`tour`]) and how it is told; [`client`] is two tenants' HTTP client and [`inside`] is what
//! happens within their networks. Holds no knowledge of how the region works: everything goes through the front doors.

mod client;
mod inside;
mod tour;

use std::{net::SocketAddr, time::Duration};

use serde_json::json;

use crate::{
    cli::{Demo, Dev},
    dev::{self, Prepared, Served},
    host::Networks,
};

/// Why the tour could not even begin, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The region.
    #[error(transparent)]
    Region(#[from] dev::Error),
    /// The demo shows real traffic, and this machine gives no networks.
    #[error("the demo needs networks, and this machine gives none: {0}")]
    NoNetworks(String),
    /// A step that was expected to work.
    #[error("{0}")]
    Step(String),
    /// The runtime.
    #[error("the system refuses what a server needs")]
    System(#[from] std::io::Error),
}

/// One step of the tour.
#[derive(Clone, Debug)]
struct Step {
    what: String,
    took: Duration,
    /// What was seen, for a person.
    seen: String,
    held: bool,
}

/// Runs the tour; answers whether everything held.
///
/// # Errors
/// Where it broke off. The region is stopped and swept all the same.
pub fn run(args: &Demo) -> Result<bool, Error> {
    let mut tour = tour::Tour::new(!args.json);
    let settings = Dev {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: None,
        ephemeral: true,
        region: None,
        region_file: None,
        print_region_file: false,
        no_gateway: false,
    };
    let prepared = Prepared::new(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = tour.step("Start a region", || {
        let served = runtime.block_on(Served::start(prepared))?;
        let seen = format!("{} with {}", served.api, served.networks.describe());
        Ok((served, seen))
    })?;
    if let Networks::None { reason } = &served.networks {
        let reason = reason.clone();
        runtime.block_on(served.stop())?;
        return Err(Error::NoNetworks(reason));
    }
    let told = tour.tell(&served);
    let stopped = tour.step("Stop the region and remove everything that it made", || {
        let namespaces = served.data.namespaces();
        let (instance, system) = (
            served.data.instance().map_err(dev::Error::from)?,
            !served.networks.is_rootless(),
        );
        runtime.block_on(served.stop())?;
        let left = inside::left_over(&instance.to_string(), system, &namespaces);
        if left.is_empty() {
            Ok(((), "nothing is left".to_owned()))
        } else {
            Err(Error::Step(format!("left: {left:?}")))
        }
    });
    let held = told.is_ok() && stopped.is_ok() && tour.steps.iter().all(|s| s.held);
    if args.json {
        println!("{}", report(&tour.steps, held));
    } else {
        println!(
            "\n{}",
            if held {
                "All of it held."
            } else {
                "NOT all of it held."
            }
        );
    }
    told?;
    stopped?;
    Ok(held)
}

fn report(steps: &[Step], held: bool) -> serde_json::Value {
    let steps: Vec<_> = steps
        .iter()
        .map(|s| json!({"step": s.what, "took_ms": s.took.as_secs_f64() * 1000.0, "seen": s.seen, "held": s.held}))
        .collect();
    json!({"held": held, "steps": steps})
}
