//! `adit dev` as a process of its own, for tests that kill it or look at it from outside.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long a condition may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The demo tenant's project.
pub(crate) const PROJECT: &str = "6e9dfd51d1124e8d8498dce894923a0d";

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

/// A running region; it is killed when it goes out of scope.
pub(crate) struct Region {
    child: Child,
    pub(crate) api: String,
}

impl Region {
    /// Starts a region on a data directory and waits until it says that it is ready.
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let api = loop {
            let line = lines
                .next()
                .expect("the region ended before it was ready")
                .unwrap();
            if let Some(rest) = line.trim().strip_prefix("API") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // The rest is read as it comes: a full pipe would hold the region up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, api }
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn stop(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A logged-in tenant.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    token: String,
}

impl Client {
    pub(crate) fn login(api: &str, user: &str, project: &str, project_id: &str) -> Self {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
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
            base: format!("{api}/v1/{project_id}"),
            token,
        }
    }

    /// The demo tenant.
    pub(crate) fn demo(api: &str) -> Self {
        Self::login(api, "demo", "eu-de_demo", PROJECT)
    }

    /// A request below the project; `None` where no answer came.
    pub(crate) fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.base))
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
