//! A tenant's HTTP client: a token, and JSON both ways.

use std::time::Duration;

use adit_cloud::Login;
use serde_json::{Value, json};

use super::Error;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A tenant, logged in.
pub(super) struct Client {
    agent: ureq::Agent,
    api: String,
    token: String,
    project: String,
}

impl Client {
    /// Logs in.
    pub(super) fn login(api: &str, login: &Login) -> Result<Self, Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build()
            .into();
        let domain = json!({"name": login.domain});
        let user = json!({"name": login.user, "password": login.password, "domain": domain});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": login.project, "domain": domain}},
        }});
        let reply = agent
            .post(format!("{api}/v3/auth/tokens"))
            .send_json(&body)
            .map_err(broke_off("log in"))?;
        let token = reply
            .headers()
            .get("x-subject-token")
            .and_then(|t| t.to_str().ok())
            .map(str::to_owned);
        let status = reply.status();
        let token = token.ok_or_else(|| Error::Step(format!("{} could not log in: {status}", login.user)))?;
        Ok(Self {
            agent,
            api: api.to_owned(),
            token,
            project: login.project_id.to_string(),
        })
    }

    /// Sends a request below the project and answers the status and the body.
    pub(super) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let url = format!("{}/v1/{}/{path}", self.api, self.project);
        let what = format!("{method} {path}");
        let builder = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("x-auth-token", &self.token);
        let reply = match body {
            Some(body) => {
                let request = builder
                    .header("content-type", "application/json")
                    .body(body.to_string());
                self.agent
                    .run(request.map_err(|e| Error::Step(format!("{what}: {e}")))?)
            }
            None => self.agent.run(
                builder
                    .body(())
                    .map_err(|e| Error::Step(format!("{what}: {e}")))?,
            ),
        };
        let mut reply = reply.map_err(broke_off(&what))?;
        let text = reply.body_mut().read_to_string().map_err(broke_off(&what))?;
        let json = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok((reply.status().as_u16(), json))
    }

    /// Sends a request that has to succeed.
    pub(super) fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let (status, json) = self.call(method, path, body)?;
        if (200..300).contains(&status) {
            Ok(json)
        } else {
            Err(Error::Step(format!("{method} {path}: {status} {json}")))
        }
    }
}

fn broke_off(what: &str) -> impl Fn(ureq::Error) -> Error {
    move |e| Error::Step(format!("{what}: {e}"))
}
