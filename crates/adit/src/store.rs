//! Which store a process works on, as a person names it, and opening it.
//!
//! Owns `adit store` ([`command`]), what is probably wrong where etcd is not reached ([`advice`]), the words (`redb:PATH`, `etcd:URL,…`) and the flags beside them; the engines are `adit-store`'s.

mod advice;
pub mod command;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use adit_store::{EtcdConfig, EtcdStore, OpenError, RedbStore, Store, etcd};
use clap::Args;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::cli::duration;

/// Where a process keeps its state.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// Where state is kept: `redb:PATH`, a file for one process; or `etcd:http://HOST:PORT,…` (or `https`), the members of an
    /// etcd for any number of processes.
    #[arg(long, env = "ADIT_STORE", value_name = "STORE")]
    pub store: Location,
    /// How etcd is reached.
    #[command(flatten)]
    pub etcd: EtcdArgs,
}

/// How etcd is reached.
#[derive(Clone, Debug, Args)]
pub struct EtcdArgs {
    /// The certificate of the authority that etcd's certificates are from: PEM. With https alone.
    #[arg(long, env = "ADIT_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,
    /// Our own certificate for etcd: PEM, its chain following it.
    #[arg(long, env = "ADIT_ETCD_CERT", value_name = "FILE", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,
    /// That certificate's private key, PEM.
    #[arg(long, env = "ADIT_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// Our user name in etcd, where it asks for one.
    #[arg(
        long,
        env = "ADIT_ETCD_USER",
        value_name = "NAME",
        requires = "etcd_password_file"
    )]
    pub etcd_user: Option<String>,
    /// A file with that user's password in its first line.
    #[arg(
        long,
        env = "ADIT_ETCD_PASSWORD_FILE",
        value_name = "FILE",
        requires = "etcd_user"
    )]
    pub etcd_password_file: Option<PathBuf>,
    /// What the names of the region's keys in etcd begin with [default: adit].
    #[arg(long, env = "ADIT_ETCD_ROOT", value_name = "PATH", value_parser = root)]
    pub etcd_root: Option<String>,
    /// How long one member of etcd may take to answer before the next one is asked [default: 3s].
    #[arg(long, env = "ADIT_ETCD_TIMEOUT", value_name = "DURATION", value_parser = patience, hide_short_help = true)]
    pub etcd_timeout: Option<Duration>,
}

/// What the names of a region's keys begin with, where nothing is said.
const ROOT: &str = "adit";

/// Reads how long to wait: some time.
fn patience(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it is nothing".to_owned()),
        some => Ok(some),
    }
}

/// Reads a root: words between slashes.
fn root(text: &str) -> Result<String, String> {
    match text.trim_matches('/') {
        "" => Err("it is empty".to_owned()),
        root => Ok(root.to_owned()),
    }
}

impl EtcdArgs {
    fn config(&self, urls: &[String]) -> Result<EtcdConfig, StoreError> {
        let password = |path: &PathBuf| match fs::read_to_string(path) {
            Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
            Err(source) => Err(StoreError::Password {
                path: path.clone(),
                source,
            }),
        };
        if !urls.iter().any(|url| url.starts_with("https://")) {
            self.refuse_tls("no URL of etcd is an https:// one")?;
        }
        let pem = |flag, path: &Option<PathBuf>, label| match path {
            Some(path) => must_hold(flag, path, label),
            None => Ok(()),
        };
        pem("--etcd-ca", &self.etcd_ca, "CERTIFICATE")?;
        pem("--etcd-cert", &self.etcd_cert, "CERTIFICATE")?;
        pem("--etcd-key", &self.etcd_key, "PRIVATE KEY")?;
        let password = self.etcd_password_file.as_ref().map(password).transpose()?;
        Ok(EtcdConfig {
            urls: urls.to_vec(),
            root: self.root().to_owned(),
            ca: self.etcd_ca.clone(),
            identity: self.etcd_cert.clone().zip(self.etcd_key.clone()),
            login: self.etcd_user.clone().zip(password),
            attempt_timeout: self.etcd_timeout.unwrap_or(etcd::ATTEMPT_TIMEOUT),
        })
    }

    /// Refuses files that nobody would look at.
    fn refuse_tls(&self, why: &'static str) -> Result<(), StoreError> {
        for (flag, given) in [("--etcd-ca", &self.etcd_ca), ("--etcd-cert", &self.etcd_cert)] {
            if given.is_some() {
                return Err(StoreError::Ignored { flag, why });
            }
        }
        Ok(())
    }

    /// Refuses what says how etcd is reached, where none of the stores is one. Without any store that is named, it is a file.
    pub(crate) fn must_concern(&self, stores: &[&Location]) -> Result<(), StoreError> {
        if stores.iter().any(|store| matches!(store, Location::Etcd(_))) {
            return Ok(());
        }
        let why = match stores {
            [] => "without --store etcd:… the store is a file in the data directory",
            _ => "the store is no etcd",
        };
        self.refuse_tls(why)?;
        for (flag, is_given) in [
            ("--etcd-user", self.etcd_user.is_some()),
            ("--etcd-root", self.etcd_root.is_some()),
            ("--etcd-timeout", self.etcd_timeout.is_some()),
        ] {
            if is_given {
                return Err(StoreError::Ignored { flag, why });
            }
        }
        Ok(())
    }

    /// What the names of the region's keys begin with.
    pub(crate) fn root(&self) -> &str {
        self.etcd_root.as_deref().unwrap_or(ROOT)
    }
}

/// Whether a file has a PEM block whose label ends so: a key in the place of a certificate is read as no certificate at all.
fn must_hold(flag: &'static str, path: &Path, label: &'static str) -> Result<(), StoreError> {
    let wrong = |source| StoreError::Pem {
        flag,
        path: path.to_owned(),
        label,
        source,
    };
    let text = fs::read(path).map_err(|e| wrong(Some(e)))?;
    let ending = format!("{label}-----");
    let begins =
        |line: &[u8]| line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(ending.as_bytes());
    match text.split(|byte| *byte == b'\n').any(begins) {
        true => Ok(()),
        false => Err(wrong(None)),
    }
}

/// A store, as it is named: `redb:/var/lib/adit/store.redb`, `etcd:https://a:2379,https://b:2379`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file.
    Redb(PathBuf),
    /// The URLs of etcd's members; at least one.
    Etcd(Vec<String>),
}

impl Location {
    /// The address of the first of several places, where there are any.
    pub fn first(&self) -> Option<&str> {
        match self {
            Self::Redb(_) => None,
            Self::Etcd(urls) => urls.first().map(String::as_str),
        }
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("redb", path)) if !path.is_empty() => Ok(Self::Redb(path.into())),
            Some(("etcd", urls)) => {
                let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
                let wrong = urls.iter().find(|url| {
                    let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
                    let host = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
                    host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' ']))
                });
                match wrong {
                    Some(url) => Err(format!(
                        "{url:?} is no URL of etcd; write http://HOST:PORT or https://HOST:PORT"
                    )),
                    None => Ok(Self::Etcd(urls)),
                }
            }
            _ => Err("write redb:PATH or etcd:http://HOST:PORT,…".to_owned()),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redb(path) => write!(f, "redb:{}", path.display()),
            Self::Etcd(urls) => write!(f, "etcd:{}", urls.join(",")),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file.
    #[error("cannot open the store")]
    Redb(#[from] OpenError),
    /// The thread that opens it has panicked.
    #[error("cannot open the store {0}")]
    Panicked(Location),
    /// There is no such file: looking at a store does not make one.
    #[error("{0} does not exist")]
    Missing(Location),
    /// A flag that would be ignored.
    #[error("{flag} is of no use: {why}")]
    Ignored {
        /// The flag.
        flag: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A certificate or a key.
    #[error("{flag} has to name a PEM file with a {label}; {} is none", path.display())]
    Pem {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What it has to hold.
        label: &'static str,
        /// What the system said, where it cannot be read.
        source: Option<io::Error>,
    },
    /// etcd.
    #[error("cannot open the store {location}{}", advice.map(|it| format!(" ({it})")).unwrap_or_default())]
    Etcd {
        /// Where it is.
        location: Location,
        /// What is probably wrong, and which flag mends it.
        advice: Option<&'static str>,
        /// What is wrong.
        source: etcd::OpenError,
    },
    /// The password for etcd.
    #[error("cannot read the password file {}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens a store, and makes it where it is missing; a registry may be to show its numbers.
///
/// # Errors
/// By what is wrong with it.
pub async fn open(
    location: &Location,
    etcd: &EtcdArgs,
    registry: Option<&Mutex<Registry>>,
) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Redb(path) => {
            let store = open_file(path).await?;
            if let Some(registry) = registry {
                store.metrics().register(&mut registry.lock());
            }
            Ok(Arc::new(store))
        }
        Location::Etcd(urls) => {
            let config = etcd.config(urls)?;
            let opened = EtcdStore::open(config.clone()).await;
            let store = opened.map_err(|source| not_opened(urls, &config, source))?;
            if let Some(registry) = registry {
                store.metrics().register(&mut registry.lock());
            }
            Ok(Arc::new(store))
        }
    }
}

/// A store that is there already, by its engine.
enum Existing {
    Redb(RedbStore),
    Etcd(EtcdStore),
}

impl Existing {
    fn store(&self) -> &dyn Store {
        match self {
            Self::Redb(store) => store,
            Self::Etcd(store) => store,
        }
    }
}

/// Opens a store without making one.
async fn open_existing(location: &Location, etcd: &EtcdArgs) -> Result<Existing, StoreError> {
    match location {
        Location::Redb(path) if !path.exists() => Err(StoreError::Missing(location.clone())),
        Location::Redb(path) => Ok(Existing::Redb(open_file(path).await?)),
        Location::Etcd(urls) => {
            let config = etcd.config(urls)?;
            let opened = EtcdStore::open_existing(config.clone()).await;
            let store = opened.map_err(|source| not_opened(urls, &config, source))?;
            Ok(Existing::Etcd(store))
        }
    }
}

async fn open_file(path: &Path) -> Result<RedbStore, StoreError> {
    let path = path.to_owned();
    let location = Location::Redb(path.clone());
    let opened = tokio::task::spawn_blocking(move || RedbStore::open(path)).await;
    Ok(opened.map_err(|_| StoreError::Panicked(location))??)
}

fn not_opened(urls: &[String], config: &EtcdConfig, source: etcd::OpenError) -> StoreError {
    StoreError::Etcd {
        location: Location::Etcd(urls.to_vec()),
        advice: advice::advice(config, &source),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_reads_back_and_a_wrong_one_is_named() {
        for text in [
            "redb:/x/y.redb",
            "redb:y",
            "etcd:http://a:1",
            "etcd:https://a:1,https://[::1]:2",
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), text);
        }
        for (text, named) in [
            ("", "redb:PATH"),
            ("redb", "redb:PATH"),
            ("redb:", "redb:PATH"),
            ("/x/y.redb", "redb:PATH"),
            ("etcd:", "\"\""),
            ("etcd:a:1", "\"a:1\""),
            ("etcd:http://a:1,", "\"\""),
            ("etcd:http://", "\"http://\""),
            ("etcd:https://a/foo", "\"https://a/foo\""),
            ("etcd:https://a/?x", "\"https://a/?x\""),
            ("etcd:https://u@a:1", "\"https://u@a:1\""),
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
