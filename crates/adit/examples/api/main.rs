//! What the control plane's API costs, beside the plainest server and the plainest store that could do the same.
//!
//! Run it by `bench/api.sh`, which prints the tables of `docs/benchmarks.md`. Each part measures several things in turns, round
//! by round, so that whatever else the machine does meanwhile falls on all of them; what is printed is the median of the
//! rounds with the smallest and the largest. `wrk` makes the load.
//!
//! - `reads`: the real process (`adit dev --no-gateway`, store on disk) against a bare axum handler that answers the same bytes;
//!   with ten services in the store, and with a hundred thousand and as many endpoints.
//! - `scale`: the control plane with ever more in its store, and gateways that follow its feed.
//! - `replicas`: one to three `adit api` on an etcd of three members, and orders beside etcd alone.
//! - `creates`: orders of endpoints by 64 clients against redb alone, which commits the same records for 64 clients.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that cannot go on has nothing to say"
)]

mod bare;
mod creates;
mod etcd;
mod fill;
mod process;
mod reads;
mod redb;
mod region;
mod replicas;
mod scale;
mod signed;
mod table;
mod wrk;

use std::path::PathBuf;

/// What can be set from the environment, so that a quick look takes seconds.
struct Plan {
    /// How many rounds.
    rounds: usize,
    /// How long one measurement takes, in seconds.
    seconds: u64,
    /// How many services, and as many endpoints, the full store has.
    resources: usize,
    /// Where stores are put; a real disk.
    folder: PathBuf,
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |n| n.parse().unwrap())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["bare", files @ ..] => return bare::serve(files),
        ["fill", data, resources] => {
            let data = PathBuf::from(data);
            let resources = resources.parse().unwrap();
            fill::fill(&data, resources, resources);
            return region::write(&data.join("region.toml"));
        }
        _ => {}
    }
    let folder = std::env::var_os("ADIT_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let plan = Plan {
        rounds: number("ADIT_BENCH_ROUNDS", 7),
        seconds: number("ADIT_BENCH_SECONDS", 2) as u64,
        resources: number("ADIT_BENCH_RESOURCES", 100_000),
        folder: folder.join(format!("adit-bench-api-{}", std::process::id())),
    };
    std::fs::create_dir_all(&plan.folder).unwrap();
    match arguments.as_slice() {
        [] => {
            reads::run(&plan);
            creates::run(&plan);
        }
        ["reads"] => reads::run(&plan),
        ["creates"] => creates::run(&plan),
        ["replicas"] => replicas::run(&plan),
        ["scale", sizes @ ..] => {
            let sizes: Vec<usize> = sizes.iter().map(|n| n.parse().unwrap()).collect();
            scale::run(&plan, if sizes.is_empty() { &scale::SIZES } else { &sizes });
        }
        other => panic!("{other:?}: there are reads, creates, replicas, and scale with sizes"),
    }
    std::fs::remove_dir_all(&plan.folder).unwrap();
}
