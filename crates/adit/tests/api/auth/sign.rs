//! Signs requests as clients do, by the description and not by our own code.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{Request, request::Builder},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// An access key with its secret, and when it signs.
pub(super) struct Key {
    access: String,
    secret: String,
    at: SystemTime,
}

impl Key {
    pub(super) fn new(access: &str, secret: &str) -> Self {
        Self {
            access: access.to_owned(),
            secret: secret.to_owned(),
            at: SystemTime::now(),
        }
    }

    /// The demo user's.
    pub(super) fn demo() -> Self {
        Self::new("DEMOACCESSKEY", "DEMOSECRETKEY")
    }

    /// The same, whose clock is an hour late.
    pub(super) fn an_hour_ago(&self) -> Self {
        Self {
            at: self.at - Duration::from_secs(3600),
            ..Self::new(&self.access, &self.secret)
        }
    }

    /// A request without a query, signed.
    pub(super) fn sign(&self, request: Builder, body: &'static str) -> Request<Body> {
        let at = jiff::Timestamp::try_from(self.at).unwrap();
        let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let headers = request.headers_ref().unwrap();
        let host = headers["host"].to_str().unwrap();
        let canonical = format!(
            "{}\n{}/\n\nhost:{host}\nx-sdk-date:{date}\n\nhost;x-sdk-date\n{}",
            request.method_ref().unwrap(),
            request.uri_ref().unwrap().path(),
            hex(&Sha256::digest(body))
        );
        let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hex(&Sha256::digest(canonical)));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        let authorization = format!(
            "SDK-HMAC-SHA256 Access={}, SignedHeaders=host;x-sdk-date, Signature={signature}",
            self.access
        );
        let request = request
            .header("x-sdk-date", date)
            .header("authorization", authorization);
        request.body(Body::from(body)).unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
