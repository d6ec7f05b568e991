//! The data directory: one region's files, and the lock that makes it one region.
//!
//! ```text
//! lock          held while the region runs
//! store.redb    everything
//! instance      the region's id in the names of its namespaces, and which directory it was made for
//! hand-over.sock where a gateway waits for the one that is to take over from it
//! run.json      where the running region is: for `adit exec` and `adit admin`
//! clouds.yaml   for clients, written at each start
//! tls-*         the certificate that it made for itself, where it was asked to, its key, and what it was made for
//! netns/        the namespaces' names, where the region is run by an ordinary user
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use adit_cloud::kernel::Instance;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::terminal::quoted;

/// What the name of a directory begins with that goes with its region; 32 hexadecimal digits follow.
const EPHEMERAL: &str = "adit-";
/// At most so many directories of killed regions are swept at one start: nobody should wait for them.
const LEFTOVERS_MAX: usize = 100;
/// The mode of a file with passwords in it.
const OWNER_ALONE: u32 = 0o600;

/// A data directory that this process has for itself.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Whether it goes with the region.
    ephemeral: bool,
    /// Whether run.json is this process's word.
    announced: AtomicBool,
    /// Held by whoever has a descriptor of it.
    lock: Arc<OwnedFd>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another process runs on it.
    #[error("a process of Adit runs on {} already (process {pid}); stop it, or name another directory (--data; --state for gateways and networks)", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
        /// The process, as far as it has said.
        pid: String,
    },
    /// No region runs on it.
    #[error("no region runs on {}; start one with `adit dev --data {}` (where gateways are processes of their own, `adit networks --state` has the VPCs), or name the directory of one that runs", path.display(), quoted(path))]
    NotRunning {
        /// The directory.
        path: PathBuf,
    },
    /// What was handed over is not its lock.
    #[error("the process that was to be taken over from runs on another directory than {}", path.display())]
    Strange {
        /// The directory.
        path: PathBuf,
    },
    /// A file.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a running region says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Its process.
    pub pid: u32,
    /// Where its API is; none of a process that serves none.
    pub api: Option<String>,
    /// Where gateways come to, where they are processes of their own.
    #[serde(default)]
    pub nodes: Option<String>,
    /// The certificate to trust there, where it is the region's own.
    #[serde(default)]
    pub cacert: Option<PathBuf>,
    /// Where its metrics are, if not beside the API.
    #[serde(default)]
    pub metrics: Option<String>,
    /// The entry of clouds.yaml that is the operator's, if there is one.
    #[serde(default)]
    pub operator: Option<String>,
    /// Its connection log, where that is a file.
    #[serde(default)]
    pub connection_log: Option<PathBuf>,
    /// The region's id in the names of its namespaces.
    pub instance: String,
    /// Where its namespaces are named; none where it runs the control plane alone.
    pub namespaces: Option<PathBuf>,
    /// Whether they are those of an ordinary user, seen only from the region's own mounts.
    pub rootless: bool,
}

/// The directory that is used where none is named: `$XDG_STATE_HOME/adit`, else `~/.local/state/adit`.
pub fn default_path() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("adit")
}

fn attempt<T>(result: io::Result<T>, action: &'static str, path: &Path) -> Result<T, DataError> {
    result.map_err(|source| DataError::Io {
        action,
        path: path.to_owned(),
        source,
    })
}

impl DataDir {
    /// Takes a directory, made where it is missing.
    ///
    /// # Errors
    /// [`DataError::Busy`] while another region has it.
    pub fn take(path: &Path) -> Result<Self, DataError> {
        // What is in it is its owner's: the key that signs tokens, and passwords for clients.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        attempt(made, "make the directory", path)?;
        // An absolute path survives being printed, and read by another process.
        let path = &attempt(path.canonicalize(), "find", path)?;
        let lock_path = path.join("lock");
        let lock = attempt(
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&lock_path),
            "open the lock",
            &lock_path,
        )?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = read_run(path).map_or_else(|| "unknown".to_owned(), |run| run.pid.to_string());
            return Err(DataError::Busy {
                path: path.clone(),
                pid,
            });
        }
        Ok(Self {
            path: path.clone(),
            ephemeral: false,
            announced: AtomicBool::new(false),
            lock: Arc::new(lock.into()),
        })
    }

    /// Takes a directory over from the process that has it and hands this descriptor of its lock over.
    ///
    /// # Errors
    /// Where it is not that directory's.
    pub fn inherit(path: &Path, lock: OwnedFd) -> Result<Self, DataError> {
        let path = attempt(path.canonicalize(), "find", path)?;
        let lock = File::from(lock);
        let lock_path = path.join("lock");
        let (handed, named) = (lock.metadata(), fs::metadata(&lock_path));
        let handed = attempt(handed, "look at", &lock_path)?;
        let named = attempt(named, "look at", &lock_path)?;
        if (handed.dev(), handed.ino()) != (named.dev(), named.ino()) {
            return Err(DataError::Strange { path });
        }
        Ok(Self {
            path,
            ephemeral: false,
            announced: AtomicBool::new(false),
            lock: Arc::new(lock.into()),
        })
    }

    /// The lock, for a process that is to take the directory over. It is locked as long as one of both holds it.
    pub fn lock(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.lock)
    }

    /// Leaves everything to the process that has taken it over.
    pub fn hand_over(self) {
        self.announced.store(false, Relaxed);
    }

    /// Takes a new directory that goes with the region.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn ephemeral() -> Result<Self, DataError> {
        let path = std::env::temp_dir().join(format!("{EPHEMERAL}{}", uuid::Uuid::new_v4().simple()));
        let mut taken = Self::take(&path)?;
        taken.ephemeral = true;
        Ok(taken)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes with the region.
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// Where an ordinary user's namespaces are named.
    pub fn namespaces(&self) -> PathBuf {
        self.path.join("netns")
    }

    /// The region's id in the names of its namespaces: made up at the first start, kept from then on.
    ///
    /// A copy of the directory gets another one: its start would sweep the original's namespaces.
    ///
    /// # Errors
    /// Where the file can neither be read nor be written.
    pub fn instance(&self) -> Result<Instance, DataError> {
        if let Some(instance) = self.known_instance() {
            return Ok(instance);
        }
        let text = uuid::Uuid::new_v4().simple().to_string();
        #[expect(
            clippy::expect_used,
            reason = "five hexadecimal digits are what an instance is made of"
        )]
        let instance: Instance = text[..5].parse().expect("hexadecimal digits");
        let identity = attempt(self.identity(), "look at", &self.path)?;
        let path = self.path.join("instance");
        attempt(
            fs::write(&path, format!("{instance} {identity}\n")),
            "write",
            &path,
        )?;
        Ok(instance)
    }

    /// The instance, if one was made up for this very directory.
    fn known_instance(&self) -> Option<Instance> {
        let text = fs::read_to_string(self.path.join("instance")).ok()?;
        let (instance, identity) = text.trim().split_once(' ')?;
        if identity != self.identity().ok()? {
            return None;
        }
        instance.parse().ok()
    }

    /// What a copy of the directory has not: its device and inode.
    fn identity(&self) -> io::Result<String> {
        let meta = fs::metadata(&self.path)?;
        Ok(format!("{}:{}", meta.dev(), meta.ino()))
    }

    /// Says where the region is.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn announce(&self, run: &Run) -> Result<(), DataError> {
        let json = serde_json::to_vec_pretty(run).map_err(io::Error::from);
        let path = self.path.join("run.json");
        attempt(json.and_then(|json| fs::write(&path, json)), "write", &path)?;
        self.announced.store(true, Relaxed);
        Ok(())
    }

    /// Writes a file for the user and nobody else, whoever may look into the directory, and answers where it is.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn leave(&self, name: &str, text: &str) -> Result<PathBuf, DataError> {
        let path = self.path.join(name);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(OWNER_ALONE)
                .open(&path)?;
            // It may be there from before.
            file.set_permissions(fs::Permissions::from_mode(OWNER_ALONE))?;
            file.write_all(text.as_bytes())
        };
        attempt(write(), "write", &path)?;
        Ok(path)
    }

    /// Removes the directory.
    pub fn remove(mut self) {
        self.ephemeral = true;
    }
}

/// What a killed region that was to keep nothing has left.
#[derive(Debug)]
pub struct Leftover {
    /// Its directory, which is this process's now.
    pub data: DataDir,
    /// Its id in the names of its namespaces.
    pub instance: Instance,
    /// Whether its namespaces were those of an ordinary user, and are gone with it.
    pub rootless: bool,
}

/// What killed regions of this user have left that were to keep nothing.
pub fn leftovers() -> Vec<Leftover> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_ephemeral));
    named
        .filter_map(|entry| leftover(&entry.path()))
        .take(LEFTOVERS_MAX)
        .collect()
}

fn is_ephemeral(name: &str) -> bool {
    let digits = name.strip_prefix(EPHEMERAL);
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// None while its region runs. A directory that has no instance yet may be one that is just being made.
fn leftover(path: &Path) -> Option<Leftover> {
    let meta = fs::symlink_metadata(path).ok()?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let instance = path.join("instance");
    fs::symlink_metadata(instance).ok()?;
    let lock = File::open(path.join("lock")).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    let rootless = read_run(path).is_some_and(|run| run.rootless);
    let data = DataDir {
        path: path.to_owned(),
        ephemeral: false,
        announced: AtomicBool::new(false),
        lock: Arc::new(lock.into()),
    };
    Some(Leftover {
        instance: data.known_instance()?,
        data,
        rootless,
    })
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if *self.announced.get_mut() {
            let _ = fs::remove_file(self.path.join("run.json"));
        }
        if self.ephemeral {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn read_run(path: &Path) -> Option<Run> {
    serde_json::from_slice(&fs::read(path.join("run.json")).ok()?).ok()
}

/// The region that runs on a directory.
///
/// # Errors
/// [`DataError::NotRunning`], also where one was killed and has left its files.
pub fn running(path: &Path) -> Result<Run, DataError> {
    let not_running = || DataError::NotRunning {
        path: path.to_owned(),
    };
    let lock = File::open(path.join("lock"));
    if lock.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Err(not_running());
    }
    let lock = attempt(lock, "open the lock in", path)?;
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        return Err(not_running());
    }
    read_run(path).ok_or_else(not_running)
}
