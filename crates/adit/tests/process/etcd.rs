//! An etcd of one member, with its data in a folder that goes with it.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use super::until;

pub(crate) struct Etcd {
    child: Child,
    /// Where it is, as `--store` names it.
    pub(crate) store: String,
    _folder: tempfile::TempDir,
}

impl Etcd {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Held together, so that they differ; somebody else may still take one before etcd does.
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = held.map(|held| format!("http://{}", held.local_addr().unwrap()));
        let child = Command::new("etcd")
            .args(["--name", "one", "--data-dir"])
            .arg(folder.path())
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
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self {
            child,
            store: format!("etcd:{client}"),
            _folder: folder,
        };
        until("etcd", || {
            let health = ureq::get(format!("{client}/health")).call().ok()?;
            let text = health.into_body().read_to_string().ok()?;
            text.contains("\"true\"").then_some(())
        });
        etcd
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
