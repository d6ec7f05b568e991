//! `adit store`: whether a store is sound, and moving it into another one.

use std::{
    fmt::Write as _,
    io,
    time::{Duration, Instant},
};

use adit_store::{
    PageToken,
    check::{Finding, check},
    migrate::{MigrateError, Progress, migrate},
};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{EtcdArgs, Location, StoreArgs, open, open_store};
use crate::{cli::Output, terminal};

/// How many entries are read at a time.
const PAGE_ENTRIES: usize = 1000;
/// How often a long copy says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read everything, and say what does not agree: keys and documents that cannot be read, and what one says of another.
    ///
    /// Changes nothing. What a running region is in the middle of is no fault. The exit status is 1 where something is wrong.
    Check(StoreCheck),
    /// Copy a store into an empty one, read it back and compare: from a file into etcd, or back.
    ///
    /// Nobody may be using either of them. What lives with a lease is not copied. For example: `adit store migrate
    /// redb:/var/lib/adit/store.redb etcd:https://a:2379,https://b:2379 --etcd-ca ca.pem`.
    Migrate(StoreMigrate),
}

/// Whether a store is sound.
#[derive(Debug, Args)]
pub struct StoreCheck {
    /// Which store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The form of what is printed.
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// Copies a store.
#[derive(Debug, Args)]
pub struct StoreMigrate {
    /// The store that is copied: redb:PATH or etcd:http://HOST:PORT,…
    #[arg(value_name = "FROM")]
    pub from: Location,
    /// Where to; has to be empty.
    #[arg(value_name = "TO")]
    pub to: Location,
    /// How etcd is reached.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store.
    #[error(transparent)]
    Store(#[from] super::StoreError),
    /// There is no such file: looking at a store does not make one.
    #[error("{0} does not exist")]
    Missing(Location),
    /// Reading it.
    #[error("the store cannot be read")]
    Read(#[from] adit_store::StoreError),
    /// Copying it.
    #[error("cannot copy {from} into {to}")]
    Migrate {
        /// What was to be copied.
        from: Location,
        /// Where to.
        to: Location,
        /// Why not.
        source: MigrateError,
    },
    /// The same twice.
    #[error("{0} cannot be copied into itself")]
    Same(Location),
    /// The runtime.
    #[error("the system refuses what this needs")]
    System(#[from] io::Error),
}

/// Does it, and answers whether all is well.
///
/// # Errors
/// Where a store cannot be used.
pub fn run(command: &StoreCommand) -> Result<bool, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        StoreCommand::Check(args) => runtime.block_on(run_check(args)),
        StoreCommand::Migrate(args) => runtime.block_on(run_migrate(args)).map(|()| true),
    }
}

fn must_exist(location: &Location) -> Result<(), Error> {
    match location {
        Location::Redb(path) if !path.exists() => Err(Error::Missing(location.clone())),
        _ => Ok(()),
    }
}

async fn run_check(args: &StoreCheck) -> Result<bool, Error> {
    must_exist(&args.store.store)?;
    let store = open_store(&args.store).await?;
    let mut entries = Vec::new();
    let mut after: Option<PageToken> = None;
    loop {
        let page = store.list("", after.as_ref(), PAGE_ENTRIES).await?;
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let findings = check(&entries);
    let text = match args.output {
        Output::Json => format!("{:#}\n", json!({"entries": entries.len(), "findings": findings})),
        Output::Table => table(entries.len(), &findings),
    };
    terminal::print(&text);
    Ok(findings.is_empty())
}

fn table(entries: usize, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return format!("{entries} entries, all of them sound.\n");
    }
    let widest = findings.iter().map(|finding| finding.key.len()).max();
    let width = widest.unwrap_or(0).max("KEY".len());
    let mut text = format!("{:width$}  PROBLEM\n", "KEY");
    for Finding { key, problem } in findings {
        let _ = writeln!(text, "{key:width$}  {problem}");
    }
    let _ = writeln!(text, "{entries} entries; wrong: {}.", findings.len());
    text
}

async fn run_migrate(args: &StoreMigrate) -> Result<(), Error> {
    let StoreMigrate { from, to, etcd } = args;
    must_exist(from)?;
    if from == to {
        return Err(Error::Same(from.clone()));
    }
    let (source, target) = (open(from, etcd, None).await?, open(to, etcd, None).await?);
    let mut said = Instant::now();
    let say = |progress| {
        if said.elapsed() >= PROGRESS_INTERVAL {
            said = Instant::now();
            terminal::warn(&match progress {
                Progress::Copied(count) => format!("{count} entries copied …"),
                Progress::Compared(count) => format!("{count} entries compared …"),
            });
        }
    };
    let copied = migrate(&*source, &*target, say).await;
    let count = copied.map_err(|source| Error::Migrate {
        from: from.clone(),
        to: to.clone(),
        source,
    })?;
    terminal::print(&format!(
        "{count} entries copied into {to}, read back and found equal.\n"
    ));
    Ok(())
}
