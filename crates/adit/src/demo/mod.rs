//! `adit demo`: the main job from one end to the other, on real parts, as a tour that proves itself.
//!
//! Owns the order of the tour ([`tour`]) and how it is told; [`client`] is two tenants' HTTP client and [`inside`] is what
//! happens within their networks. Holds no knowledge of how the region works: everything goes through the front doors.

mod client;
mod inside;
mod tour;

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Demo, Dev},
    dev::{self, Prepared, Served},
    signals::Signals,
    terminal,
};
use tour::{Place, Tour};

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
    /// A signal.
    #[error("interrupted; everything that the demo made is removed")]
    Interrupted,
    /// The runtime.
    #[error("the system refuses what a server needs")]
    System(#[from] std::io::Error),
}

impl Error {
    /// The exit status: 130 after a signal, else 1.
    pub fn status(&self) -> u8 {
        match self {
            Error::Interrupted => 130,
            _ => 1,
        }
    }
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
    let prepared = Prepared::new(&Dev::passing())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::open(false) })?;
    let interrupted = CancellationToken::new();
    let mut tour = Tour::new(!args.json, interrupted.clone());
    let served = tour.step("Start a region", || {
        let served = runtime.block_on(Served::start(prepared))?;
        let seen = format!("{} with {}", served.api, served.networks.describe());
        Ok((served, seen))
    })?;
    let place = match Place::of(&served) {
        Ok(place) => place,
        Err(e) => {
            runtime.block_on(served.stop())?;
            return Err(e);
        }
    };
    let told_of = place.clone();
    let teller = runtime.spawn_blocking(move || {
        let told = tour.tell(&told_of);
        (tour, told)
    });
    let told = runtime.block_on(async {
        tokio::select! {
            biased;
            () = signals.end() => None,
            told = teller => Some(told),
        }
    });
    let Some(told) = told else {
        interrupted.cancel();
        let stopped = runtime.block_on(served.stop_or_cut(signals.end()));
        // The tour may still wait for an answer that nobody gives.
        runtime.shutdown_background();
        return stopped.map_or_else(|e| Err(e.into()), |()| Err(Error::Interrupted));
    };
    let (mut tour, told) = told.unwrap_or_else(|e| {
        let broken = Err(Error::Step(format!("the tour broke off: {e}")));
        (Tour::new(!args.json, interrupted), broken)
    });
    let stopped = tour.step("Stop the region and remove everything that it made", || {
        runtime.block_on(served.stop_or_cut(signals.end()))?;
        let left = inside::left_over(&place.instance.to_string(), place.directory.path());
        if left.is_empty() {
            Ok(((), "nothing is left".to_owned()))
        } else {
            Err(Error::Step(format!("left: {left:?}")))
        }
    });
    let held = told.is_ok() && stopped.is_ok() && tour.steps.iter().all(|s| s.held);
    if args.json {
        terminal::print(&format!("{}\n", report(&tour.steps, held)));
    } else {
        let verdict = if held { "All" } else { "NOT all" };
        terminal::print(&format!("\n{verdict} of it held.\n"));
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
