//! The servers as processes: starting them, talking to them, and what they use.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::region::Tenant;

/// The unit of CPU times in `/proc`: a hundredth of a second, on every Linux.
const TICK_US: u64 = 10_000;

/// A server, killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it is reached.
    pub(crate) url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command on one core, where there are two: the load on the other one then takes nothing from the server.
pub(crate) fn pinned(program: impl AsRef<std::ffi::OsStr>, core: Option<usize>) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match core.filter(|_| cores > 1) {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
    }
}

impl Process {
    /// The bare server of these files, which it serves at `/0`, `/1` and so on.
    pub(crate) fn bare(files: &[PathBuf]) -> Self {
        let mut command = pinned(std::env::current_exe().unwrap(), Some(0));
        command.arg("bare").args(files).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            child,
            url: format!("http://127.0.0.1:{}", port.trim()),
        }
    }

    /// The real program on a data directory; also the time until it has answered a first request of a tenant's.
    pub(crate) fn adit(
        data: &Path,
        region: &Path,
        core: Option<usize>,
        tenant: &Tenant,
    ) -> (Self, Duration, Client) {
        Self::role(&["dev", "--no-gateway"], data, region, core, tenant)
    }

    /// The control plane alone, on its own store or the one that `more` names.
    pub(crate) fn control(
        data: &Path,
        region: &Path,
        more: &[&str],
        tenant: &Tenant,
    ) -> (Self, Duration, Client) {
        let words = [&["api", "--node-listen", "127.0.0.1:0"], more].concat();
        Self::role(&words, data, region, None, tenant)
    }

    fn role(
        words: &[&str],
        data: &Path,
        region: &Path,
        core: Option<usize>,
        tenant: &Tenant,
    ) -> (Self, Duration, Client) {
        let address = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap();
        let program = std::env::current_exe().unwrap().parent().unwrap().join("../adit");
        let mut command = pinned(program, core);
        command.args(words);
        command.args(["--listen", &address.to_string(), "--region-file"]);
        command.arg(region).arg("--data").arg(data);
        // The limits are looked at as on a region that has them, and never reached.
        let no_limit = u32::MAX.to_string();
        command.args(["--rate-reads", &no_limit, "--rate-writes", &no_limit]);
        command.args(["--rate-failed-logins", &no_limit]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let child = command.spawn().unwrap();
        let server = Self {
            child,
            url: format!("http://{address}"),
        };
        while std::net::TcpStream::connect(address).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "adit does not start"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let client = Client::new(&server, tenant);
        client.get("vpc-endpoint-services?limit=1");
        (server, started.elapsed(), client)
    }

    /// Stops it as an operator does.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// User and system time so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        cpu_us_of(self.child.id())
    }

    /// Its memory in bytes: anonymous pages, which nothing else pays for.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits until it has nothing to do: what it took up at its start is done.
    pub(crate) fn wait_idle(&self) {
        let second = Duration::from_secs(1);
        for _ in 0..120 {
            let before = self.cpu_us();
            std::thread::sleep(second);
            if self.cpu_us() - before < 20_000 {
                return;
            }
        }
        panic!("the server is never idle");
    }
}

/// User and system time of a process so far, in microseconds.
pub(crate) fn cpu_us_of(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in parentheses may hold spaces; after it, user and system time are the 12th and 13th fields.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().unwrap()).sum();
    ticks * TICK_US
}

/// A tenant's way to a server.
pub(crate) struct Client {
    agent: ureq::Agent,
    pub(crate) base: String,
    pub(crate) token: String,
}

impl Client {
    pub(crate) fn new(server: &Process, tenant: &Tenant) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let domain = json!({"name": format!("{}-domain", tenant.name)});
        let user =
            json!({"name": tenant.name, "password": format!("{}-password", tenant.name), "domain": domain});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": tenant.name, "domain": domain}},
        }});
        let reply = agent
            .post(format!("{}/v3/auth/tokens", server.url))
            .send_json(&body)
            .unwrap();
        let token = reply.headers()["x-subject-token"].to_str().unwrap().to_owned();
        Self {
            agent,
            base: format!("{}/v1/{}", server.url, tenant.project()),
            token,
        }
    }

    /// The same on a connection of its own.
    pub(crate) fn again(&self) -> Self {
        Self {
            agent: ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into(),
            base: self.base.clone(),
            token: self.token.clone(),
        }
    }

    /// A reply's body, as it was sent.
    pub(crate) fn get_text(&self, path: &str) -> String {
        let request = self.agent.get(format!("{}/{path}", self.base));
        let mut reply = request.header("x-auth-token", &self.token).call().unwrap();
        let text = reply
            .body_mut()
            .with_config()
            .limit(u64::MAX)
            .read_to_string()
            .unwrap();
        assert!(reply.status().is_success(), "{path}: {text}");
        text
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.get_text(path)).unwrap()
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Value {
        let request = self.agent.put(format!("{}/{path}", self.base));
        json_of(
            path,
            request
                .header("x-auth-token", &self.token)
                .send_json(body)
                .unwrap(),
        )
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}/{path}", self.base));
        json_of(
            path,
            request
                .header("x-auth-token", &self.token)
                .send_json(body)
                .unwrap(),
        )
    }
}

fn json_of(path: &str, mut reply: ureq::http::Response<ureq::Body>) -> Value {
    let text = reply.body_mut().read_to_string().unwrap();
    assert!(reply.status().is_success(), "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}
