//! One lab: bringing it up, what can be done to its machines, and taking it down.
//!
//! Every change is written down before it is made, or can be found without that: processes by the namespaces that they are in. So
//! `down` removes everything whatever came before it.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use adit_netns::{Namespace, disk, userns};
use rustix::process::Signal;

use super::{
    REGION,
    fabric::{Fabric, FabricError},
    plan::{Kind, Link, Place, Plan, Shape, Side, prefix},
    process::{self, Started, State},
    record::{Endpoint, Files, Record},
};
use crate::secret::{self, SecretError};

/// How large a small disk is, in bytes: etcd keeps two files of 64 MB ready for its log, and each crash leaves some behind; others need
/// next to nothing.
const ETCD_DISK: u64 = 2 << 30;
const DISK: u64 = 8 << 20;
/// What fills a disk.
const FILLER: &str = "filler";

/// Why a lab does not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Not root.
    #[error("a lab makes network namespaces of the system, which takes root: `sudo adit lab …`")]
    Root,
    /// No etcd.
    #[error(
        "a lab runs etcd, which is not installed here: `apt-get install etcd-server` (Debian, Ubuntu), or have `etcd` in PATH"
    )]
    NoEtcd,
    /// There is one already.
    #[error("there is a lab in {} already: `adit lab status`, or `adit lab down`", .0.display())]
    There(PathBuf),
    /// There is none.
    #[error("there is no lab in {}: `adit lab up`", .0.display())]
    None(PathBuf),
    /// A name that is none here.
    #[error("there is no {name} in this lab; there are: {}", there.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Those that are there.
        there: Vec<String>,
    },
    /// It cannot be done with this machine now.
    #[error("{name} {why}")]
    Unfit {
        /// The machine.
        name: String,
        /// Why not.
        why: String,
    },
    /// Something that was waited for did not come about.
    #[error("{name} {how}; its log is {}", log.display())]
    NotReady {
        /// The machine.
        name: String,
        /// How it is instead.
        how: String,
        /// Its log.
        log: PathBuf,
    },
    /// So many machines cannot be.
    #[error("{0}")]
    Shape(String),
    /// The kernel.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// The nodes' secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file, or a process.
    #[error("cannot {action}")]
    System {
        /// What was attempted.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// A request to the lab's API.
    #[error("{0}")]
    Api(String),
}

pub(super) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
    let action = action.into();
    move |source| LabError::System { action, source }
}

/// How a lab is to be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Where its files are.
    pub directory: PathBuf,
    /// The program that its machines run: this one.
    pub program: PathBuf,
    /// How many machines.
    pub shape: Shape,
    /// Whether each has a small disk, to be filled up.
    pub small_disks: bool,
}

/// A lab that is there.
#[derive(Debug)]
pub struct Lab {
    files: Files,
    /// What is written down of it.
    record: Record,
    plan: Plan,
    fabric: Fabric,
    runtime: tokio::runtime::Runtime,
}

impl Lab {
    /// Makes the namespaces and starts every machine, but for what tenants do; tells what it does as it does it.
    ///
    /// # Errors
    /// By what is missing. What was made until then is there for [`Lab::down`].
    pub fn up(wish: &Wish, tell: &mut dyn FnMut(&str)) -> Result<Self, LabError> {
        if !userns::is_privileged() {
            return Err(LabError::Root);
        }
        if !is_installed("etcd") {
            return Err(LabError::NoEtcd);
        }
        let files = Files::make(&wish.directory).map_err(system("make the lab's directory"))?;
        let _lock = files.lock().map_err(system("lock the lab's directory"))?;
        if files.read().map_err(system("read lab.json"))?.is_some() {
            return Err(LabError::There(files.path().to_owned()));
        }
        let instance = uuid::Uuid::new_v4().simple().to_string()[..5].to_owned();
        let record = Record {
            instance,
            shape: wish.shape,
            program: wish.program.clone(),
            small_disks: wish.small_disks,
            started: Default::default(),
            cut: Default::default(),
            endpoint: None,
        };
        let mut lab = Self::of(files, record)?;
        lab.write()?;
        tell("Making the namespaces and links …");
        lab.prepare()?;
        lab.runtime.block_on(lab.fabric.raise(&lab.plan))?;
        let names: Vec<_> = lab.machines().map(|place| place.name.clone()).collect();
        let (etcds, others): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| lab.plan.of(Kind::Etcd).any(|place| place.name == *name));
        // Together: members of etcd wait for each other.
        for name in &etcds {
            tell(&format!("Starting {name} …"));
            lab.launch(name)?;
        }
        for name in &etcds {
            lab.await_ready(name)?;
            lab.await_leader(name)?;
        }
        for name in &others {
            tell(&format!("Starting {name} …"));
            lab.launch(name)?;
            lab.await_ready(name)?;
        }
        Ok(lab)
    }

    /// The lab in a directory.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find(directory: &Path) -> Result<Self, LabError> {
        let none = || LabError::None(directory.to_owned());
        let files = Files::find(directory).map_err(|_| none())?;
        let record = files.read().map_err(system("read lab.json"))?.ok_or_else(none)?;
        Self::of(files, record)
    }

    fn of(files: Files, record: Record) -> Result<Self, LabError> {
        let plan = Plan::new(&record.instance, files.path(), record.shape).map_err(LabError::Shape)?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Ok(Self {
            fabric: Fabric::new(&plan)?,
            files,
            record,
            plan,
            runtime: runtime.enable_all().build().map_err(system("make a runtime"))?,
        })
    }

    /// What it is made of.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is written down of it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Its namespaces.
    pub(super) fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Writes down what a person can connect to.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn show(&mut self, endpoint: Endpoint) -> Result<(), LabError> {
        self.change(|record| record.endpoint = Some(endpoint))
    }

    /// What has a process: machines, and the backend.
    pub fn machines(&self) -> impl Iterator<Item = &Place> {
        self.plan.places.iter().filter(|place| place.process.is_some())
    }

    /// The place of that name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn place(&self, name: &str) -> Result<&Place, LabError> {
        self.plan.place(name).ok_or_else(|| LabError::Unknown {
            name: name.to_owned(),
            there: self.plan.places.iter().map(|place| place.name.clone()).collect(),
        })
    }

    /// The namespace of that name: a place's, a gateway's of a VPC (`gateway-1.provider`), or the fabric.
    ///
    /// # Errors
    /// Where there is none.
    pub fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        let inside = self.inside();
        let found = inside.iter().find(|(known, _)| known == name);
        let (_, namespace) = found.ok_or_else(|| LabError::Unknown {
            name: name.to_owned(),
            there: inside.iter().map(|(known, _)| known.clone()).collect(),
        })?;
        Ok(self.fabric.open(namespace)?)
    }

    /// What a person can look into: names, and the namespaces behind them.
    fn inside(&self) -> Vec<(String, String)> {
        let mut known = Vec::new();
        for place in &self.plan.places {
            known.push((place.name.clone(), place.namespace.clone()));
            for link in place
                .links
                .iter()
                .filter(|link| link.namespace != place.namespace)
            {
                known.push((format!("{}.{}", place.name, link.bridge), link.namespace.clone()));
            }
        }
        known.push(("fabric".to_owned(), self.plan.fabric.clone()));
        known
    }

    /// What a machine's process does; `None` where it was never started, or has none.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<State> {
        let started = self.record.started.get(name)?;
        started.reap();
        Some(started.state())
    }

    /// The process of a machine.
    ///
    /// # Errors
    /// Where there is no such machine, it has no process, or that has ended.
    pub fn process(&self, name: &str) -> Result<Started, LabError> {
        let place = self.place(name)?;
        let unfit = |why: &str| LabError::Unfit {
            name: name.to_owned(),
            why: why.to_owned(),
        };
        if place.process.is_none() {
            return Err(unfit("runs nothing"));
        }
        let started = self.record.started.get(name).copied();
        started
            .filter(|started| {
                started.reap();
                started.state() != State::Dead
            })
            .ok_or_else(|| unfit("does not run: `adit lab start` it"))
    }

    /// Ends a machine's process by SIGKILL.
    ///
    /// # Errors
    /// Where none runs.
    pub fn kill(&self, name: &str) -> Result<(), LabError> {
        let process = self.process(name)?;
        process.kill().map_err(system(format!("kill {name}")))
    }

    /// Stops a machine's process (SIGSTOP): nothing of it runs, and all that it holds stays.
    ///
    /// # Errors
    /// Where none runs.
    pub fn stop(&self, name: &str) -> Result<(), LabError> {
        let stopped = self.process(name)?.stop();
        stopped.map_err(system(format!("stop {name}")))
    }

    /// Lets a stopped process go on (SIGCONT).
    ///
    /// # Errors
    /// Where none runs.
    pub fn cont(&self, name: &str) -> Result<(), LabError> {
        let sent = self.process(name)?.signal(Signal::CONT);
        sent.map(drop).map_err(system(format!("let {name} go on")))
    }

    /// Starts a machine's process again, and waits until it is there.
    ///
    /// # Errors
    /// Where it runs, cannot be started, or is not ready in time.
    pub fn start(&mut self, name: &str) -> Result<(), LabError> {
        self.restart(name)?;
        self.await_ready(name)
    }

    /// Starts a machine's process again.
    ///
    /// # Errors
    /// Where it runs, or cannot be started.
    pub fn restart(&mut self, name: &str) -> Result<(), LabError> {
        if self.process(name).is_ok() {
            return Err(LabError::Unfit {
                name: name.to_owned(),
                why: "runs".to_owned(),
            });
        }
        if self.place(name)?.process.is_none() {
            return self.process(name).map(drop);
        }
        self.launch(name)
    }

    /// Cuts a machine's links, or those of one side: what is sent over them is lost.
    ///
    /// # Errors
    /// Where there is no such machine, or it has no link on that side.
    pub fn cut(&mut self, name: &str, from: Option<Side>) -> Result<(), LabError> {
        for link in self.links(name, from)? {
            self.runtime.block_on(self.fabric.cut(&link))?;
            let name = name.to_owned();
            self.change(|record| {
                record.cut.entry(name).or_default().insert(link.side);
            })?;
        }
        Ok(())
    }

    /// Mends them.
    ///
    /// # Errors
    /// As [`Lab::cut`].
    pub fn mend(&mut self, name: &str, from: Option<Side>) -> Result<(), LabError> {
        for link in self.links(name, from)? {
            self.runtime.block_on(self.fabric.mend(&link))?;
            self.change(|record| {
                let sides = record.cut.get_mut(name);
                if sides.is_some_and(|sides| sides.remove(&link.side) && sides.is_empty()) {
                    record.cut.remove(name);
                }
            })?;
        }
        Ok(())
    }

    /// A machine's links.
    fn links(&self, name: &str, from: Option<Side>) -> Result<Vec<Link>, LabError> {
        let links = self.place(name)?.links.iter();
        let links: Vec<_> = links
            .filter(|link| from.is_none_or(|side| link.side == side))
            .cloned()
            .collect();
        match links.is_empty() {
            false => Ok(links),
            true => Err(LabError::Unfit {
                name: name.to_owned(),
                why: "has no link on that side".to_owned(),
            }),
        }
    }

    /// Fills a machine's disk up.
    ///
    /// # Errors
    /// Where it has no small disk.
    pub fn fill(&self, name: &str) -> Result<(), LabError> {
        let path = self.disk(name)?.join(FILLER);
        let failed = || format!("fill the disk of {name}");
        let mut file = fs::File::create(&path).map_err(system(failed()))?;
        // In ever smaller pieces, to the last byte.
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::StorageFull => break,
                    Err(e) => return Err(system(failed())(e)),
                }
            }
        }
        Ok(())
    }

    /// Makes room on it again.
    ///
    /// # Errors
    /// Where it has no small disk.
    pub fn free(&self, name: &str) -> Result<(), LabError> {
        match fs::remove_file(self.disk(name)?.join(FILLER)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(system(format!("free the disk of {name}"))(e))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is full.
    #[must_use]
    pub fn is_full(&self, name: &str) -> bool {
        self.files.machine(name).join(FILLER).exists()
    }

    fn disk(&self, name: &str) -> Result<PathBuf, LabError> {
        self.place(name)?;
        match self.record.small_disks {
            true => Ok(self.files.machine(name)),
            false => Err(LabError::Unfit {
                name: name.to_owned(),
                why: "has the disk of this machine: `adit lab up --small-disks` gives each its own"
                    .to_owned(),
            }),
        }
    }

    /// Ends every process inside, and removes every namespace, disk and file of it. Once more is success.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn down(self) -> Result<(), LabError> {
        let lock = self.files.lock().map_err(system("lock the lab's directory"))?;
        for started in self.record.started.values() {
            started.kill().map_err(system("end a process"))?;
        }
        let instance = &self.record.instance;
        // Those that were started and not written down, and what persons run inside.
        for pid in self.fabric.inhabitants(instance)? {
            let there = || {
                self.fabric
                    .inhabitants(instance)
                    .is_ok_and(|all| all.contains(&pid))
            };
            if let Some(started) = Started::of(pid).filter(|_| there()) {
                started.kill().map_err(system("end a process"))?;
            }
        }
        self.fabric.remove(instance)?;
        if self.record.small_disks {
            for place in &self.plan.places {
                let path = self.files.machine(&place.name);
                disk::unmount(&path).map_err(system("take a small disk away"))?;
            }
        }
        let names = self.plan.places.iter().map(|place| place.name.as_str());
        let removed = self.files.remove(names).map_err(system("remove the lab's files"));
        drop(lock);
        removed
    }

    /// What is left in the kernel of a lab of that instance: namespaces.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub fn left(&self) -> Result<Vec<String>, LabError> {
        let names = self.fabric.directory().names(&prefix(&self.record.instance));
        Ok(names.map_err(FabricError::from)?)
    }

    fn write(&self) -> Result<(), LabError> {
        self.files.write(&self.record).map_err(system("write lab.json"))
    }

    /// Changes what is written down, and nothing that another command has changed meanwhile.
    fn change(&mut self, how: impl FnOnce(&mut Record)) -> Result<(), LabError> {
        let _lock = self.files.lock().map_err(system("lock the lab's directory"))?;
        if let Some(now) = self.files.read().map_err(system("read lab.json"))? {
            self.record = now;
        }
        how(&mut self.record);
        self.write()
    }

    /// The files and disks that processes find.
    fn prepare(&self) -> Result<(), LabError> {
        let files = &self.files;
        secret::keep(&files.path().join("node-token"))?;
        fs::write(files.path().join("region.toml"), REGION).map_err(system("write the region file"))?;
        fs::create_dir_all(files.log("x").with_file_name("")).map_err(system("make the folder of logs"))?;
        for place in self.machines() {
            let path = files.machine(&place.name);
            fs::create_dir_all(&path).map_err(system("make a machine's folder"))?;
            if self.record.small_disks {
                let size = if place.kind == Kind::Etcd { ETCD_DISK } else { DISK };
                disk::mount(&path, size).map_err(system("mount a small disk"))?;
            }
        }
        Ok(())
    }

    /// Starts a process and writes it down.
    fn launch(&mut self, name: &str) -> Result<(), LabError> {
        let place = self.place(name)?;
        let Some(process) = &place.process else {
            return Ok(());
        };
        let namespace = self.fabric.open(&place.namespace)?;
        let started = process::start(&namespace, &self.record.program, process, &self.files.log(name));
        let started = started.map_err(system(format!("start {name}")))?;
        let name = name.to_owned();
        self.record.started.insert(name, started);
        self.write()
    }
}

/// Whether there is a program of that name in the usual places.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
