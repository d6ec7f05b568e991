//! A tenant's HTTP client for the lab's API, which tries one address after the other. Blocks; its thread has to be inside.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Somebody of the lab's region file.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// The user; the password is `USER-password`, the account `USER-domain`, the project `eu-de_USER`.
    pub user: &'static str,
    /// The project's id.
    pub project: &'static str,
}

/// Who publishes services.
pub const DEMO: Account = Account {
    user: "demo",
    project: "6e9dfd51d1124e8d8498dce894923a0d",
};
/// Who uses them.
pub const OTHER: Account = Account {
    user: "other",
    project: "7fae0e62e2235f9e95a9edf9a5a34b1e",
};
/// Who runs the region.
pub const OPERATOR: Account = Account {
    user: "operator",
    project: "80bf1f73f33460afa6bafe0ab6b45c2f",
};

/// Why there is no answer, in the words of the failure table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoAnswer {
    /// Nobody accepts connections.
    Refused,
    /// None came in time.
    Timeout,
    /// The connection ended before it.
    Broken(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Timeout => f.write_str("timeout"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// A client that is logged in.
#[derive(Clone, Debug)]
pub struct Caller {
    agent: ureq::Agent,
    urls: Vec<String>,
    at: usize,
    account: Account,
    token: String,
}

/// An answer: its status and body.
pub type Answer = (u16, Value);

impl Caller {
    /// Logs in at the first of the addresses that lets it, within `patience`; each request may take `timeout`.
    ///
    /// # Errors
    /// What the last said.
    pub fn login(
        urls: &[String],
        account: Account,
        timeout: Duration,
        patience: Duration,
    ) -> Result<Self, String> {
        let mut caller = Self {
            agent: agent(timeout),
            urls: urls.to_vec(),
            at: 0,
            account,
            token: String::new(),
        };
        let deadline = Instant::now() + patience;
        loop {
            match caller.log_in() {
                Ok(()) => return Ok(caller),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => std::thread::sleep(POLL),
            }
            caller.next();
        }
    }

    fn log_in(&mut self) -> Result<(), String> {
        let Account { user, .. } = self.account;
        let domain = json!({"name": format!("{user}-domain")});
        let named = json!({"name": user, "password": format!("{user}-password"), "domain": domain});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": named}},
            "scope": {"project": {"name": format!("eu-de_{user}"), "domain": domain}},
        }});
        let url = format!("{}/v3/auth/tokens", self.url());
        let reply = self.agent.post(&url).send_json(&body);
        let reply = reply.map_err(|e| format!("{url}: {}", no_answer(&e)))?;
        let token = reply
            .headers()
            .get("x-subject-token")
            .and_then(|token| token.to_str().ok());
        let token = token.ok_or_else(|| format!("{user} could not log in at {url}: {}", reply.status()))?;
        self.token = token.to_owned();
        Ok(())
    }

    /// The same, speaking to this address alone.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self {
            urls: vec![url.to_owned()],
            at: 0,
            ..self.clone()
        }
    }

    /// The same, with its own time-out for each request.
    #[must_use]
    pub fn within(&self, urls: &[String], timeout: Duration) -> Self {
        Self {
            agent: agent(timeout),
            urls: urls.to_vec(),
            ..self.clone()
        }
    }

    fn url(&self) -> &str {
        &self.urls[self.at]
    }

    /// Goes over to the next address.
    pub fn next(&mut self) {
        self.at = (self.at + 1) % self.urls.len();
    }

    /// One request to the present address, below the project, or from the root where the path begins with a slash.
    ///
    /// # Errors
    /// Where no answer comes.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, NoAnswer> {
        let url = match path.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.url()),
            None => format!("{}/v1/{}/{path}", self.url(), self.account.project),
        };
        let broken = |e: &dyn fmt::Display| NoAnswer::Broken(e.to_string());
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("x-auth-token", &self.token)
            .header("content-type", "application/json");
        let reply = match body {
            Some(body) => self
                .agent
                .run(request.body(body.to_string()).map_err(|e| broken(&e))?),
            None => self.agent.run(request.body(()).map_err(|e| broken(&e))?),
        };
        let mut reply = reply.map_err(|e| no_answer(&e))?;
        let text = reply.body_mut().read_to_string().map_err(|e| no_answer(&e))?;
        let body = match text.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        };
        Ok((reply.status().as_u16(), body))
    }

    /// A request that has to be answered with success, at whichever address does so within `patience`. For what may be asked twice.
    ///
    /// # Errors
    /// What was said last.
    pub fn must(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Value, String> {
        let deadline = Instant::now() + patience;
        loop {
            let failed = match self.ask(method, path, body) {
                Ok((200..300, body)) => return Ok(body),
                Ok((status, body)) => format!("{method} {path}: {status} {body}"),
                Err(e) => format!("{method} {path} at {}: {e}", self.url()),
            };
            if Instant::now() > deadline {
                return Err(failed);
            }
            self.next();
            std::thread::sleep(POLL);
        }
    }

    /// Asks until the answer is as it should be.
    ///
    /// # Errors
    /// What was said last.
    pub fn until<T>(
        &mut self,
        path: &str,
        patience: Duration,
        holds: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = self.must("GET", path, None, left)?;
            if let Some(found) = holds(&seen) {
                return Ok(found);
            }
            if left.is_zero() {
                return Err(format!("GET {path}, for {} s: {seen}", patience.as_secs()));
            }
            std::thread::sleep(POLL);
        }
    }
}

fn agent(timeout: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(timeout));
    config.build().into()
}

/// How often what is waited for is asked for.
const POLL: Duration = Duration::from_millis(10);

fn no_answer(error: &ureq::Error) -> NoAnswer {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Timeout(_) => NoAnswer::Timeout,
        ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => NoAnswer::Refused,
        ureq::Error::Io(e) if e.kind() == ErrorKind::TimedOut => NoAnswer::Timeout,
        ureq::Error::Io(e) if e.kind() == ErrorKind::HostUnreachable => NoAnswer::Timeout,
        ureq::Error::Io(e) => NoAnswer::Broken(e.kind().to_string()),
        other => NoAnswer::Broken(other.to_string()),
    }
}
