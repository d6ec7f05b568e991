//! `adit store`: whether a store is sound, and moving it into another one.

use std::{
    fmt::Write as _,
    io,
    time::{Duration, Instant},
};

use adit_server::{leader::LEADER, replica::Leading};
use adit_store::{
    PageToken, Store,
    check::{Finding, check},
    keys::decode,
    migrate::{MigrateError, Progress, migrate},
};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{EtcdArgs, Existing, Location, StoreArgs, open, open_existing};
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
    /// Nobody may be using either of them: what is written meanwhile is left behind. What lives with a lease is not copied. For example: `adit store migrate
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
    /// Copy although a control plane works on FROM.
    #[arg(long)]
    pub force: bool,
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
    /// The source is a running region's.
    #[error(
        "{from} is in use: the control plane {leader:?} leads there; end all of them first, or copy with --force what is there just now"
    )]
    InUse {
        /// The source.
        from: Location,
        /// Who leads.
        leader: String,
    },
    /// Reading it.
    #[error("the store cannot be read")]
    Read(#[from] adit_store::StoreError),
    /// Copying it.
    #[error("cannot copy {from} into {to} (what a copy that was cut short has left there: {clearing})")]
    Migrate {
        /// What was to be copied.
        from: Location,
        /// Where to.
        to: Location,
        /// How the target is cleared.
        clearing: String,
        /// Why not.
        source: Box<MigrateError>,
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

async fn run_check(args: &StoreCheck) -> Result<bool, Error> {
    args.store.etcd.must_concern(&[&args.store.store])?;
    let existing = open_existing(&args.store.store, &args.store.etcd).await?;
    let store = existing.store();
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
    let mut findings = check(&entries);
    if let Existing::Etcd(store) = &existing {
        let strangers = store.strangers().await?.into_iter();
        findings.extend(strangers.map(|key| Finding {
            key,
            problem: "it is no key of a store".to_owned(),
        }));
    }
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
    let StoreMigrate {
        from,
        to,
        force,
        etcd,
    } = args;
    if from == to {
        return Err(Error::Same(from.clone()));
    }
    etcd.must_concern(&[from, to])?;
    let source = open_existing(from, etcd).await?;
    // Whoever works on a file has locked it.
    if let Existing::Etcd(store) = &source
        && !force
        && let Some(leader) = leader(store).await?
    {
        return Err(Error::InUse {
            from: from.clone(),
            leader,
        });
    }
    let target = open(to, etcd, None).await?;
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
    let copied = migrate(source.store(), &*target, say).await;
    let count = copied.map_err(|source| Error::Migrate {
        from: from.clone(),
        to: to.clone(),
        clearing: clearing(to, etcd),
        source: Box::new(source),
    })?;
    terminal::print(&format!(
        "{count} entries copied into {to}, read back and found equal.\n"
    ));
    Ok(())
}

/// Who leads on a store, where anybody works on it.
async fn leader(store: &impl Store) -> Result<Option<String>, Error> {
    let Some(entry) = store.get(LEADER).await? else {
        return Ok(None);
    };
    // Another version's word is none that we can read.
    let leading =
        decode::<Leading>(&entry.value).map(|leading| format!("{} at {}", leading.name, leading.url));
    Ok(Some(leading.unwrap_or_default()))
}

/// How a person clears the target of a copy, to copy again.
fn clearing(to: &Location, etcd: &EtcdArgs) -> String {
    match to {
        Location::Redb(path) => format!("rm {}", terminal::quoted(path)),
        Location::Etcd(urls) => format!(
            "etcdctl --endpoints {} del --prefix {}/",
            urls.join(","),
            etcd.root()
        ),
    }
}
