//! Three members of etcd, three `adit api` and one gateway, each on its machine; and whoever runs this, on one more.

use std::{
    fs::File,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use adit_server::{leader::LEADER, replica::Leading};
use adit_store::{EtcdConfig, EtcdStore, Store, keys::decode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    machines::Fabric,
    process::{Region, cluster::Role, instance, until},
};

/// Of each kind.
pub(crate) const REPLICAS: usize = 3;
/// The machine of whoever asks, after those of etcd and of the control planes.
const CLIENTS: usize = 2 * REPLICAS;
/// Short, so that a run sees many elections.
const ETCD_TIMES: [&str; 4] = ["--heartbeat-interval", "100", "--election-timeout", "600"];
const API_TIMES: [&str; 4] = ["--leader-lease", "2s", "--etcd-timeout", "700ms"];
const SECRET: &str = "node-token";
/// How long one look at a member may take.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) struct Bed {
    pub(crate) fabric: Fabric,
    etcd: Vec<Option<Child>>,
    apis: Vec<Option<Region>>,
    _roles: [Role; 2],
    looks: ureq::Agent,
    runtime: Runtime,
    pub(crate) store: EtcdStore,
    folder: TempDir,
    /// Where logs go, to be read afterwards.
    logs: PathBuf,
}

/// Which machine it is.
pub(crate) fn etcd(n: usize) -> usize {
    n
}

/// Which machine it is.
pub(crate) fn api(n: usize) -> usize {
    REPLICAS + n
}

/// Does something on the machine of whoever asks, where only that reaches the others.
pub(crate) fn on_machines<T: Send>(work: impl FnOnce(Fabric) -> T + Send) -> T {
    let fabric = Fabric::new(CLIENTS as u8 + 1);
    let inside = fabric.machines[CLIENTS].inside.clone();
    inside.run(move || work(fabric)).unwrap()
}

impl Bed {
    /// Starts everything, in the namespace that [`on_machines`] is in.
    pub(crate) fn start(fabric: Fabric, logs: &Path) -> Self {
        std::fs::create_dir_all(logs).unwrap();
        // Where nothing outlives the machine anyway, a write is no wait for the disk.
        let folder = match Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm"),
            false => tempfile::tempdir(),
        };
        let folder = folder.unwrap();
        let ips: Vec<_> = fabric.machines.iter().map(|machine| machine.ip).collect();
        let members = (0..REPLICAS).map(|n| Some(start_etcd(&fabric, &ips, n, folder.path(), logs)));
        let etcd: Vec<_> = members.collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = EtcdConfig {
            urls: urls(&ips, 0),
            root: "adit".to_owned(),
            attempt_timeout: LOOK,
            ..EtcdConfig::default()
        };
        let store = until("etcd", || runtime.block_on(EtcdStore::open(config.clone())).ok());
        let started = |n| Some(start_api(&fabric, &ips, n, folder.path(), logs));
        let apis: Vec<_> = (0..REPLICAS).map(started).collect();
        let control: Vec<_> = (0..REPLICAS)
            .map(|n| format!("http://{}:7118", ips[api(n)]))
            .collect();
        let [secret, networks, state] = [SECRET, "networks", "gateway"].map(|name| folder.path().join(name));
        let roles = [
            Role::networks(&control, &secret, &networks),
            Role::gateway("gateway", &control, &secret, &state, &networks),
        ];
        Self {
            fabric,
            etcd,
            apis,
            _roles: roles,
            looks: ureq::Agent::config_builder()
                .timeout_global(Some(LOOK))
                .max_idle_connections(0)
                .build()
                .into(),
            runtime,
            store,
            folder,
            logs: logs.to_owned(),
        }
    }

    fn ips(&self) -> Vec<Ipv4Addr> {
        self.fabric.machines.iter().map(|machine| machine.ip).collect()
    }

    /// Where the API of a control plane is.
    pub(crate) fn url(&self, n: usize) -> String {
        format!("http://{}:7117", self.fabric.machines[api(n)].ip)
    }

    /// Where a control plane keeps its files, for commands of the operator.
    pub(crate) fn data(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("api{n}"))
    }

    /// What is read from the store.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The member that most members say leads.
    pub(crate) fn etcd_leader(&self) -> Option<usize> {
        let said: Vec<_> = (0..REPLICAS).map(|n| self.status(n)).collect();
        (0..REPLICAS).find(|n| {
            let Some((id, _)) = &said[*n] else {
                return false;
            };
            said.iter().flatten().filter(|(_, leader)| leader == id).count() > REPLICAS / 2
        })
    }

    /// Whether all members are there and agree who leads.
    pub(crate) fn etcd_is_whole(&self) -> bool {
        let leaders: Vec<_> = (0..REPLICAS).filter_map(|n| Some(self.status(n)?.1)).collect();
        leaders.len() == REPLICAS && leaders.iter().all(|leader| *leader == leaders[0])
    }

    /// Which member it is, and which one it says leads.
    fn status(&self, n: usize) -> Option<(String, String)> {
        let url = format!(
            "http://{}:2379/v3/maintenance/status",
            self.fabric.machines[etcd(n)].ip
        );
        let text = self
            .looks
            .post(url)
            .send("{}")
            .ok()?
            .into_body()
            .read_to_string()
            .ok()?;
        let said: Value = serde_json::from_str(&text).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some((text(&said["header"]["member_id"])?, text(&said["leader"])?))
    }

    /// The control plane that runs the reconcilers, as the store says.
    pub(crate) fn api_leader(&self) -> Option<usize> {
        let entry = self.wait(self.store.get(LEADER)).ok()??;
        let Leading { name, .. } = decode(&entry.value).ok()?;
        (0..REPLICAS).find(|n| instance(&self.data(*n)).to_string() == name)
    }

    pub(crate) fn etcd_kill(&mut self, n: usize) {
        if let Some(mut child) = self.etcd[n].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn etcd_start(&mut self, n: usize) {
        let child = start_etcd(&self.fabric, &self.ips(), n, self.folder.path(), &self.logs);
        self.etcd[n] = Some(child);
    }

    pub(crate) fn etcd_signal(&self, n: usize, signal: rustix::process::Signal) {
        let child = self.etcd[n].as_ref().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }

    pub(crate) fn api_kill(&mut self, n: usize) {
        self.apis[n].take().unwrap().kill();
    }

    pub(crate) fn api_start(&mut self, n: usize) {
        let region = start_api(&self.fabric, &self.ips(), n, self.folder.path(), &self.logs);
        self.apis[n] = Some(region);
    }

    pub(crate) fn api_signal(&self, n: usize, signal: rustix::process::Signal) {
        self.apis[n].as_ref().unwrap().signal(signal);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // What was stopped is to end now, and what has no store any more, before it.
        for region in self.apis.iter().flatten() {
            region.signal(rustix::process::Signal::CONT);
        }
        self.apis.clear();
        (0..REPLICAS).for_each(|n| self.etcd_kill(n));
    }
}

/// All members of etcd, one of them first.
fn urls(ips: &[Ipv4Addr], first: usize) -> Vec<String> {
    let mut urls: Vec<_> = (0..REPLICAS)
        .map(|n| format!("http://{}:2379", ips[etcd(n)]))
        .collect();
    urls.rotate_left(first);
    urls
}

fn log(logs: &Path, name: &str) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(logs.join(format!("{name}.log")))
        .unwrap()
}

fn start_etcd(fabric: &Fabric, ips: &[Ipv4Addr], n: usize, folder: &Path, logs: &Path) -> Child {
    let (client, peer) = (
        format!("http://{}:2379", ips[etcd(n)]),
        format!("http://{}:2380", ips[etcd(n)]),
    );
    let all: Vec<_> = (0..REPLICAS)
        .map(|n| format!("etcd{n}=http://{}:2380", ips[etcd(n)]))
        .collect();
    let name = format!("etcd{n}");
    let mut command = Command::new("etcd");
    command
        .args(["--name", &name, "--data-dir"])
        .arg(folder.join(&name))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &all.join(",")])
        .args(ETCD_TIMES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log(logs, &name));
    fabric.machines[etcd(n)]
        .inside
        .run(|| command.spawn())
        .unwrap()
        .unwrap()
}

fn start_api(fabric: &Fabric, ips: &[Ipv4Addr], n: usize, folder: &Path, logs: &Path) -> Region {
    let (name, ip) = (format!("api{n}"), ips[api(n)]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command
        .args(["api", "--allow-plain-http", "--listen", &format!("{ip}:7117")])
        .args(["--node-listen", &format!("{ip}:7118"), "--node-token-file"])
        .arg(folder.join(SECRET))
        .arg("--data")
        .arg(folder.join(&name))
        .args(["--store", &format!("etcd:{}", urls(ips, n).join(","))])
        .args(API_TIMES);
    let log = log(logs, &name);
    fabric.machines[api(n)]
        .inside
        .run(|| Region::of(command, log))
        .unwrap()
}
