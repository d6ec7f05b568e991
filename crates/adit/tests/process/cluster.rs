//! The roles of a region of several processes.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use adit_cloud::kernel::port_namespace;
use adit_model::id::PortId;
use adit_netns::{Directory, Namespace};
use serde_json::Value;

use super::{Region, end, instance, until};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane of its own process.
pub(crate) struct Control {
    pub(crate) region: Region,
    /// Where gateways come to.
    pub(crate) nodes: String,
    pub(crate) secret: String,
    token_file: PathBuf,
    data: PathBuf,
}

impl Control {
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_logged(data, more, Stdio::inherit())
    }

    /// The same, with its log where the test wants it.
    pub(crate) fn start_logged(data: &Path, more: &[&str], log: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command.args(["api", "--data"]);
        command.arg(data).args(more);
        if !more.contains(&"--node-listen") {
            command.args(["--node-listen", "127.0.0.1:0"]);
        }
        let region = Region::of(command, log);
        let run: Value = serde_json::from_slice(&std::fs::read(data.join("run.json")).unwrap()).unwrap();
        let named = more.iter().position(|word| *word == "--node-token-file");
        let token_file: PathBuf = named.map_or_else(|| data.join("node-token"), |at| more[at + 1].into());
        let secret = std::fs::read_to_string(&token_file).unwrap_or_default();
        Self {
            region,
            nodes: run["nodes"].as_str().unwrap().to_owned(),
            secret: secret.trim().to_owned(),
            token_file,
            data: data.to_owned(),
        }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, secret: &str, body: &str) -> (u16, ureq::Body) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(super::any_certificate())
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .build()
            .into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.nodes))
            .header("authorization", format!("Bearer {secret}"));
        let reply = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        (reply.status().as_u16(), reply.into_body())
    }

    /// What a command of the operator's prints, as JSON.
    pub(crate) fn operator(&self, words: &[&str]) -> Value {
        let printed = self.command(words);
        assert!(
            printed.status.success(),
            "{}",
            String::from_utf8_lossy(&printed.stderr)
        );
        serde_json::from_slice(&printed.stdout).unwrap()
    }

    /// Has a command carried out that has nothing to print.
    pub(crate) fn done(&self, words: &[&str]) {
        let printed = self.command(words);
        let said = String::from_utf8_lossy(&printed.stderr);
        assert!(printed.status.success() && printed.stdout.is_empty(), "{said}");
    }

    /// What a command says that is not carried out.
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let printed = self.command(words);
        assert!(!printed.status.success());
        String::from_utf8_lossy(&printed.stderr).into_owned()
    }

    fn command(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(words)
            .args(["-o", "json", "--data"])
            .arg(&self.data)
            .output()
            .unwrap()
    }

    /// What `adit gateways` lists of one.
    pub(crate) fn listed(&self, gateway: &str) -> Option<Value> {
        let listed = self.operator(&["gateways"]);
        let mut gateways = listed["gateways"].as_array()?.iter();
        gateways.find(|listed| listed["name"] == gateway).cloned()
    }

    /// What `adit admin` shows of an endpoint.
    pub(crate) fn shown(&self, endpoint: &str) -> Value {
        self.operator(&["admin", "endpoint", "show", endpoint])
    }

    /// The file with the secret.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.token_file.clone()
    }
}

/// A role that says when it is ready, and is ended when it goes out of scope.
pub(crate) struct Role(Child);

impl Role {
    /// Starts `adit` with these words, and waits for the line of its data directory.
    fn start(words: &[&str], control: &[String], token_file: &Path, state: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(words)
            .args(["--control", &control.join(","), "--node-token-file"])
            .arg(token_file)
            .arg("--state")
            .arg(state)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.trim().starts_with("Data")));
        assert!(ready, "{words:?} ended before it was ready");
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }

    /// A gateway between the VPCs that `networks` makes.
    pub(crate) fn gateway(
        name: &str,
        control: &[String],
        token_file: &Path,
        state: &Path,
        networks: &Path,
    ) -> Self {
        Self::gateway_with(name, control, token_file, state, networks, &[])
    }

    /// The same, with further words.
    pub(crate) fn gateway_with(
        name: &str,
        control: &[String],
        token_file: &Path,
        state: &Path,
        networks: &Path,
        more: &[&str],
    ) -> Self {
        let networks = networks.to_str().unwrap();
        let words = [
            "gateway",
            "run",
            "--node",
            name,
            "--networks",
            networks,
            "--probe-period-s",
            "0",
        ];
        Self::start(&[&words, more].concat(), control, token_file, state)
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended by itself, and answers whether well.
    pub(crate) fn wait(&mut self) -> bool {
        until("it to end", || self.0.try_wait().unwrap()).success()
    }

    /// A gateway between VPCs whose namespaces are named so.
    pub(crate) fn gateway_by_pattern(
        name: &str,
        control: &[String],
        token_file: &Path,
        state: &Path,
        pattern: &str,
    ) -> Self {
        Self::gateway_by_pattern_with(name, control, token_file, state, pattern, &[])
    }

    /// The same, with further words.
    pub(crate) fn gateway_by_pattern_with(
        name: &str,
        control: &[String],
        token_file: &Path,
        state: &Path,
        pattern: &str,
        more: &[&str],
    ) -> Self {
        let words = ["gateway", "run", "--node", name, "--namespaces", pattern];
        Self::start(&[&words, more].concat(), control, token_file, state)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    /// The networks of this machine.
    pub(crate) fn networks(control: &[String], token_file: &Path, state: &Path) -> Self {
        Self::networks_with(control, token_file, state, &[])
    }

    /// The same, with further words.
    pub(crate) fn networks_with(control: &[String], token_file: &Path, state: &Path, more: &[&str]) -> Self {
        Self::start(&[&["networks"], more].concat(), control, token_file, state)
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// The namespace of a port that `adit networks` made, once it is there.
pub(crate) fn port_of(networks: &Path, port: &str) -> Namespace {
    let name = port_namespace(&instance(networks), port.parse::<PortId>().unwrap());
    let directory = Directory::at(Directory::SYSTEM).unwrap();
    until(&name, || {
        directory
            .open(&name)
            .ok()
            .filter(|inside| inside.run(|| ()).is_ok())
    })
}
