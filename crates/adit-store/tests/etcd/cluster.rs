//! A real etcd: processes of our own, on free ports, with their data in a folder that goes with them.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use adit_store::{EtcdConfig, EtcdStore};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long an etcd may take to elect a leader, on a machine that does much else.
const READY_S_MAX: u64 = 60;
/// How often it is asked.
const POLL_MS: u64 = 50;

/// Whether the test can run here; says so where it cannot, and fails where everything must.
pub(crate) fn is_installed(test: &str) -> bool {
    let found = Command::new("etcd")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs etcd (etcd-server)"
    );
    eprintln!("SKIPPED: {test} needs etcd; ./test.sh as root installs it");
    false
}

/// Some members, which end with this.
pub(crate) struct Cluster {
    members: Vec<Member>,
    scheme: &'static str,
    folder: TempDir,
}

struct Member {
    command: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

impl Cluster {
    /// Starts an etcd of so many members.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, "http", &[])
    }

    /// Starts one whose members take further arguments; clients speak `scheme` with it.
    pub(crate) fn start_with(count: usize, scheme: &'static str, arguments: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Held together, so that no two are the same; somebody else may still take one before etcd does.
        let held: Vec<_> = (0..2 * count)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<_> = held
            .iter()
            .map(|held| held.local_addr().unwrap().port())
            .collect();
        drop(held);
        let (clients, peers) = ports.split_at(count);
        let initial: Vec<_> = peers
            .iter()
            .enumerate()
            .map(|(n, port)| format!("m{n}=http://127.0.0.1:{port}"))
            .collect();
        let member = |n: usize| {
            let (client, peer) = (
                format!("{scheme}://127.0.0.1:{}", clients[n]),
                format!("http://127.0.0.1:{}", peers[n]),
            );
            let mut command = vec![
                "--name".to_owned(),
                format!("m{n}"),
                "--data-dir".to_owned(),
                folder.path().join(format!("m{n}")).to_str().unwrap().to_owned(),
                "--listen-client-urls".to_owned(),
                client.clone(),
                "--advertise-client-urls".to_owned(),
                client,
                "--listen-peer-urls".to_owned(),
                peer.clone(),
                "--initial-advertise-peer-urls".to_owned(),
                peer,
                "--initial-cluster".to_owned(),
                initial.join(","),
            ];
            command.extend_from_slice(arguments);
            Member {
                command,
                port: clients[n],
                child: None,
            }
        };
        let members = (0..count).map(member).collect();
        let mut cluster = Self {
            members,
            scheme,
            folder,
        };
        for index in 0..count {
            cluster.restart(index);
        }
        cluster
    }

    /// Starts a member on what it has on its disk.
    pub(crate) fn restart(&mut self, index: usize) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("m{index}.log")))
            .unwrap();
        let member = &mut self.members[index];
        let child = Command::new("etcd")
            .args(&member.command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        member.child = Some(child.unwrap());
    }

    /// Kills a member as a crash does.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, index: usize, signal: Signal) {
        let child = self.members[index].child.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Has a member do nothing, and answer nothing.
    pub(crate) fn pause(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    /// Starts a member and has it stand still as soon as its port is bound: connections come about, and are not served.
    pub(crate) async fn restart_unserved(&mut self, index: usize) {
        self.restart(index);
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let bound = async {
            while TcpStream::connect(("127.0.0.1", self.port(index))).is_err() {
                ticks.tick().await;
            }
        };
        let bound = tokio::time::timeout(Duration::from_secs(READY_S_MAX), bound).await;
        bound.unwrap_or_else(|_| panic!("etcd does not start\n{}", log_of(self.folder.path())));
        self.pause(index);
    }

    /// Where a member is, for clients.
    pub(crate) fn url(&self, index: usize) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.members[index].port)
    }

    /// The port that a member serves clients on.
    pub(crate) fn port(&self, index: usize) -> u16 {
        self.members[index].port
    }

    /// All members, and keys below this root.
    pub(crate) fn config(&self, root: &str) -> EtcdConfig {
        EtcdConfig {
            urls: (0..self.members.len()).map(|index| self.url(index)).collect(),
            root: root.to_owned(),
            ..EtcdConfig::default()
        }
    }

    /// A store in it, as soon as it works.
    pub(crate) async fn open(&self, config: EtcdConfig) -> EtcdStore {
        let mut ticks = tokio::time::interval(Duration::from_millis(POLL_MS));
        let mut last = None;
        let opened = async {
            loop {
                ticks.tick().await;
                match EtcdStore::open(config.clone()).await {
                    Ok(store) => return store,
                    Err(error) => last = Some(error),
                }
            }
        };
        let opened = tokio::time::timeout(Duration::from_secs(READY_S_MAX), opened).await;
        opened.unwrap_or_else(|_| panic!("etcd does not work: {last:?}\n{}", log_of(self.folder.path())))
    }
}

fn log_of(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("m0.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
