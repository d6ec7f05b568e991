//! `adit dev` as a process of its own, for tests that kill it or look at it from outside.
#![allow(dead_code, reason = "each test target uses its own part of this")]

pub(crate) mod cluster;
pub(crate) mod etcd;
pub(crate) mod gateway;
pub(crate) mod machines;
pub(crate) mod metrics;
pub(crate) mod pattern;
pub(crate) mod stage;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use adit_cloud::kernel::{Instance, port_namespace, vpc_namespace};
use adit_model::id::{PortId, VpcId};
use adit_netns::{Directory, Namespace, userns};
use serde_json::{Value, json};

/// How long a condition may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a region may take to stop after a failed test.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The port of the demo tenant's server, 10.0.0.10 in its VPC.
pub(crate) const BACKEND_PORT: &str = "4189d3c2-8882-4871-a3c2-d380272eed88";
/// The demo tenant's VPC.
pub(crate) const BACKEND_VPC: &str = "4189d3c2-8882-4871-a3c2-d380272eed80";
/// The demo tenant's subnet.
pub(crate) const BACKEND_SUBNET: &str = "4189d3c2-8882-4871-a3c2-d380272eed81";
/// The demo tenant's subnet, as Neutron knows it.
pub(crate) const BACKEND_NEUTRON_SUBNET: &str = "4189d3c2-8882-4871-a3c2-d380272eed82";
/// The port of the other tenant's client, 10.0.0.20 in its VPC.
pub(crate) const CLIENT_PORT: &str = "5290e4d3-9993-4982-b4d3-e491383ffe98";
/// The other tenant's VPC.
pub(crate) const CLIENT_VPC: &str = "5290e4d3-9993-4982-b4d3-e491383ffe90";
/// The other tenant's subnet.
pub(crate) const CLIENT_SUBNET: &str = "5290e4d3-9993-4982-b4d3-e491383ffe91";

/// Whether a test that needs namespaces of the system has to be skipped; says so by name. In CI that is a failure.
pub(crate) fn skip_without_root(test: &str) -> bool {
    if userns::is_privileged() {
        return false;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs root, and CI has to have it"
    );
    eprintln!("SKIPPED: {test} needs root; run it with `sudo -E cargo test -p adit {test}`");
    true
}

/// Whether a test has to be skipped for want of a program; says so by name. In CI that is a failure.
pub(crate) fn skip_without(program: &str, test: &str) -> bool {
    let there = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "{test} needs {program}, and CI has to have it"
    );
    if !there {
        eprintln!("SKIPPED: {test} needs {program}");
    }
    !there
}

/// The demo tenant's project.
pub(crate) const PROJECT: &str = "6e9dfd51d1124e8d8498dce894923a0d";
/// The demo tenant's account.
pub(crate) const DOMAIN: &str = "a3f1c2d4e5b60718293a4b5c6d7e8f90";
/// The other tenant's project.
pub(crate) const OTHER_PROJECT: &str = "7fae0e62e2235f9e95a9edf9a5a34b1e";

/// Waits until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            PATIENCE.as_secs()
        );
        std::thread::sleep(POLL);
    }
}

/// The id of a data directory's region in the names of its namespaces: its file's first word.
pub(crate) fn instance(data: &Path) -> Instance {
    let text = std::fs::read_to_string(data.join("instance")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// A running region; it is ended when it goes out of scope.
pub(crate) struct Region {
    child: Child,
    data: PathBuf,
    clouds: PathBuf,
    pub(crate) api: String,
}

impl Region {
    /// Starts a region on a data directory and waits until it says that it is ready.
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_logged(data, more, Stdio::inherit())
    }

    /// The same, with its log where the test wants it.
    pub(crate) fn start_logged(data: &Path, more: &[&str], log: impl Into<Stdio>) -> Self {
        let data = data.to_str().unwrap();
        Self::launch(&[&["--data", data], more].concat(), log)
    }

    /// Starts a region that keeps nothing.
    pub(crate) fn ephemeral() -> Self {
        Self::launch(&["--ephemeral"], Stdio::inherit())
    }

    fn launch(args: &[&str], log: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        // What a test's server accepts is the test's.
        command.args(["dev", "--probe-period-s", "0"]).args(args);
        Self::of(command, log)
    }

    /// The region that a command starts.
    pub(crate) fn of(mut command: Command, log: impl Into<Stdio>) -> Self {
        let mut child = command
            .env("ADIT_LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = |label: &str| loop {
            let line = lines
                .next()
                .expect("the region ended before it was ready")
                .unwrap();
            if let Some(rest) = line.trim().strip_prefix(label) {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        let api = printed("API");
        let data = printed("Data").into();
        let clouds = printed("export OS_CLIENT_CONFIG_FILE=").into();
        // The rest is read as it comes: a full pipe would hold the region up.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            data,
            clouds,
            api,
        }
    }

    /// The file for OpenStack clients, as printed.
    pub(crate) fn clouds(&self) -> &Path {
        &self.clouds
    }

    /// The region's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The region's id in the names of its namespaces.
    pub(crate) fn instance(&self) -> Instance {
        instance(&self.data)
    }

    /// The namespace of a port, once it is there.
    pub(crate) fn port(&self, port: &str) -> Namespace {
        self.namespace(&port_namespace(&self.instance(), port.parse::<PortId>().unwrap()))
    }

    /// The namespace of a VPC, once it is there.
    pub(crate) fn vpc(&self, vpc: &str) -> Namespace {
        self.namespace(&vpc_namespace(&self.instance(), vpc.parse::<VpcId>().unwrap()))
    }

    fn namespace(&self, name: &str) -> Namespace {
        let directory = Directory::at(Directory::SYSTEM).unwrap();
        // The file is there before the namespace is.
        until(name, || {
            directory
                .open(name)
                .ok()
                .filter(|inside| inside.run(|| ()).is_ok())
        })
    }

    /// A number of the metrics, by name and labels; `None` where it is not shown.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let metrics = ureq::get(format!("{}/metrics", self.api)).call().unwrap();
        let metrics = metrics.into_body().read_to_string().unwrap();
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }

    /// How many connections have ended for a reason.
    pub(crate) fn ended(&self, reason: &str) -> u64 {
        let name = format!("adit_gateway_connections_ended_total{{reason=\"{reason}\"}}");
        self.metric(&name).unwrap()
    }

    /// How many descriptors the region has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }

    /// The region's namespaces that are named.
    pub(crate) fn namespaces(instance: &Instance) -> Vec<String> {
        Directory::at(Directory::SYSTEM)
            .unwrap()
            .names(&format!("a{instance}"))
            .unwrap()
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends the region a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn stop(mut self) -> bool {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().success()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a process that still runs after a failed test: by SIGTERM, so that it removes its namespaces, else by SIGKILL.
pub(crate) fn end(child: &mut Child) {
    let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
    if ended(child) {
        return;
    }
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::TERM,
    );
    let deadline = Instant::now() + END_TIMEOUT;
    while !ended(child) && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// For tests of what is said over TLS, and not of whom it is said to.
pub(crate) fn any_certificate() -> ureq::tls::TlsConfig {
    ureq::tls::TlsConfig::builder().disable_verification(true).build()
}

/// A logged-in tenant.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    api: String,
    base: String,
    token: String,
}

impl Client {
    pub(crate) fn login(api: &str, user: &str, project: &str, project_id: &str) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .tls_config(any_certificate())
            .build()
            .into();
        let domain = json!({"name": format!("{user}-domain")});
        let user = json!({"name": user, "password": format!("{user}-password"), "domain": domain});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let reply = agent
            .post(format!("{api}/v3/auth/tokens"))
            .send_json(&body)
            .unwrap();
        assert_eq!(reply.status(), 201);
        let token = reply.headers()["x-subject-token"].to_str().unwrap().to_owned();
        Self {
            agent,
            api: api.to_owned(),
            base: format!("{api}/v1/{project_id}"),
            token,
        }
    }

    /// The demo tenant.
    pub(crate) fn demo(api: &str) -> Self {
        Self::login(api, "demo", "eu-de_demo", PROJECT)
    }

    /// The other tenant.
    pub(crate) fn other(api: &str) -> Self {
        Self::login(api, "other", "eu-de_other", OTHER_PROJECT)
    }

    /// The operator.
    pub(crate) fn operator(api: &str) -> Self {
        Self::login(
            api,
            "operator",
            "eu-de_operator",
            "80bf1f73f33460afa6bafe0ab6b45c2f",
        )
    }

    /// The same tenant with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// Where the region is.
    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    /// The token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Publishes the demo tenant's server without approval, open to everybody, and answers the service's id.
    pub(crate) fn publish(&self, ports: &Value) -> String {
        let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
            "approval_enabled": false, "ports": ports});
        let id = self.must("POST", "vpc-endpoint-services", Some(&body))["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = format!("vpc-endpoint-services/{id}");
        until("the service", || {
            (self.must("GET", &path, None)["status"] == "available").then_some(())
        });
        let body = json!({"permissions": ["*"], "action": "add"});
        self.must("POST", &format!("{path}/permissions/action"), Some(&body));
        id
    }

    /// Connects the other tenant's VPC to a service, and answers the endpoint's id and address.
    pub(crate) fn connect(&self, service: &str) -> (String, std::net::Ipv4Addr) {
        let body = json!({"endpoint_service_id": service, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET});
        let id = self.must("POST", "vpc-endpoints", Some(&body))["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = format!("vpc-endpoints/{id}");
        let ip = until("the endpoint", || {
            self.must("GET", &path, None)["ip"].as_str().map(str::to_owned)
        });
        (id, ip.parse().unwrap())
    }

    /// A request below the project, or from the root where the path begins with a slash; `None` where no answer came.
    pub(crate) fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let url = if path.starts_with('/') {
            format!("{}{path}", self.api)
        } else {
            format!("{}/{path}", self.base)
        };
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("x-auth-token", &self.token)
            .header("content-type", "application/json");
        let reply = match body {
            Some(body) => self.agent.run(request.body(body.to_string()).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut reply = reply.ok()?;
        let text = reply.body_mut().read_to_string().ok()?;
        let json = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap()
        };
        Some((reply.status().as_u16(), json))
    }

    /// A request that is answered with success.
    pub(crate) fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, json) = self.try_call(method, path, body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {json}");
        json
    }
}
