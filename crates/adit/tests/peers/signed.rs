//! Plain requests as gophertelekomcloud sends them: with a token, or signed with an access key in its dialect.
//!
//! A second implementation of the signature, from the document of what clients do; nothing of it is the server's.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use ureq::http;

/// An access key.
#[derive(Clone, Copy)]
pub(crate) struct AccessKey {
    pub(crate) access: &'static str,
    pub(crate) secret: &'static str,
}

impl AccessKey {
    /// That of the built-in region's tenant.
    pub(crate) fn demo() -> Self {
        Self {
            access: "DEMOACCESSKEY",
            secret: "DEMOSECRETKEY",
        }
    }
}

/// How a client proves who it is.
pub(crate) enum Credentials {
    None,
    Token(String),
    /// The domain's id goes along unsigned.
    Signed {
        key: AccessKey,
        domain: Option<String>,
    },
}

/// A client with one connection for each request.
pub(crate) struct Client {
    pub(crate) credentials: Credentials,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) json: Value,
    headers: http::HeaderMap,
}

impl Reply {
    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.json);
        self.json
    }

    pub(crate) fn header(&self, name: &str) -> String {
        self.headers[name].to_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn new(credentials: Credentials) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(std::time::Duration::from_secs(60)))
            .build()
            .into();
        Self { credentials, agent }
    }

    pub(crate) fn get(&self, url: &str) -> Reply {
        self.call("GET", url, None)
    }

    pub(crate) fn delete(&self, url: &str) -> Reply {
        self.call("DELETE", url, None)
    }

    pub(crate) fn post(&self, url: &str, body: &Value) -> Reply {
        self.call("POST", url, Some(body))
    }

    pub(crate) fn put(&self, url: &str, body: &Value) -> Reply {
        self.call("PUT", url, Some(body))
    }

    fn call(&self, method: &str, url: &str, body: Option<&Value>) -> Reply {
        let url: http::Uri = url.parse().unwrap();
        let body = body.map_or(String::new(), Value::to_string);
        let mut headers = vec![
            ("accept", "application/json".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("host", url.authority().unwrap().to_string()),
            ("user-agent", "golangsdk/2.0.0".to_owned()),
        ];
        match &self.credentials {
            Credentials::None => {}
            Credentials::Token(token) => headers.push(("x-auth-token", token.clone())),
            Credentials::Signed { key, domain } => {
                headers.push(("x-sdk-date", now()));
                headers.push((
                    "authorization",
                    sign(key, method, &url, &headers, body.as_bytes()),
                ));
                headers.extend(domain.iter().map(|id| ("x-domain-id", id.clone())));
            }
        }
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.header("connection", "close").body(body).unwrap();
        let mut reply = self.agent.run(request).unwrap();
        let text = reply.body_mut().read_to_string().unwrap();
        Reply {
            status: reply.status().as_u16(),
            json: serde_json::from_str(&text).unwrap_or(Value::String(text)),
            headers: reply.headers().clone(),
        }
    }
}

/// `YYYYMMDDTHHMMSSZ`.
fn now() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The value of `Authorization`; `headers` are in the order of their names, the date last.
fn sign(key: &AccessKey, method: &str, url: &http::Uri, headers: &[(&str, String)], body: &[u8]) -> String {
    let date = &headers.last().unwrap().1;
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let mut query: Vec<_> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty())
        .collect();
    query.sort_unstable();
    let canonical = format!(
        "{method}\n{}/\n{}\n{lines}\n{names}\n{}",
        url.path().trim_end_matches('/'),
        query.join("&"),
        hex(&Sha256::digest(body))
    );
    // Region and service are empty in gopher's scope.
    let day = &date[..8];
    let scope = format!("{day}///sdk_request");
    let text = format!(
        "SDK-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(canonical))
    );
    let mut derived = format!("SDK{}", key.secret).into_bytes();
    for part in [day, "", "", "sdk_request"] {
        derived = mac(&derived, part);
    }
    let signature = hex(&mac(&derived, &text));
    format!(
        "SDK-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        key.access
    )
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
