//! What a lab knows of itself, in its directory: for every command after `up`, and for `down` after a crash of any.
//!
//! ```text
//! lab.json      the instance, what was started, what is cut, the endpoint
//! lock          held while a command changes something
//! node-token    the nodes' secret, of every machine
//! region.toml   the region file, of every control plane
//! logs/NAME     what a machine's process printed
//! NAME/data     what it keeps; NAME is a small disk of its own where that was asked for
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File},
    io,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    plan::{Shape, Side},
    process::Started,
};

/// The file.
const FILE: &str = "lab.json";

/// What is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What the names of its namespaces hold.
    pub instance: String,
    /// How many machines.
    pub shape: Shape,
    /// The program that they run.
    pub program: PathBuf,
    /// Whether each has a small disk.
    pub small_disks: bool,
    /// Processes, by the names of their machines.
    pub started: BTreeMap<String, Started>,
    /// Links that are cut.
    pub cut: BTreeMap<String, BTreeSet<Side>>,
    /// What a person can connect to, once it is there.
    pub endpoint: Option<Endpoint>,
}

/// What a lab shows: a service and an endpoint to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The service.
    pub service: String,
    /// The endpoint.
    pub id: String,
    /// Its address.
    pub ip: Ipv4Addr,
}

/// A lab's directory.
#[derive(Clone, Debug)]
pub struct Files {
    path: PathBuf,
}

/// A lock on it, for as long as it lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Files {
    /// The directory, made where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn make(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::find(path)
    }

    /// The directory.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no other command changes the lab.
    ///
    /// # Errors
    /// Where the file cannot be had.
    pub fn lock(&self) -> io::Result<Lock> {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = options.open(self.path.join("lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Lock(file))
    }

    /// What is written down; `None` where there is no lab.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self) -> io::Result<Option<Record>> {
        match fs::read(self.path.join(FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes it down: whole, or not at all.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        let next = self.path.join("lab.json.next");
        fs::write(&next, text)?;
        fs::rename(next, self.path.join(FILE))
    }

    /// The folder of a machine.
    #[must_use]
    pub fn machine(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The log of a machine.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(name)
    }

    /// Removes what a lab has written, and the directory where nothing else is in it.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub fn remove<'a>(&self, machines: impl Iterator<Item = &'a str>) -> io::Result<()> {
        for folder in machines.chain(["logs"]) {
            gone(fs::remove_dir_all(self.path.join(folder)))?;
        }
        // The record goes last: as long as it is there, this can be done once more.
        for file in [
            "node-token",
            "region.toml",
            "clouds.yaml",
            "lab.json.next",
            "lock",
            FILE,
        ] {
            gone(fs::remove_file(self.path.join(file)))?;
        }
        match fs::remove_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => gone(removed),
        }
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
