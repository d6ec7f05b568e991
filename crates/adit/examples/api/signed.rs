//! Signing GET requests with an access key, as Huawei Cloud's SDKs do.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::region::Tenant;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a GET of a URL without a query proves itself with, for the next quarter of an hour.
pub(crate) fn headers(tenant: &Tenant, url: &str) -> Vec<(&'static str, String)> {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let nothing = hex(Sha256::digest(""));
    let canonical = format!("GET\n/{path}/\n\nhost:{host}\nx-sdk-date:{date}\n\nhost;x-sdk-date\n{nothing}");
    let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hex(Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(tenant.secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    let signature = hex(mac.finalize().into_bytes());
    let access = tenant.access;
    vec![
        ("X-Sdk-Date", date),
        (
            "Authorization",
            format!("SDK-HMAC-SHA256 Access={access}, SignedHeaders=host;x-sdk-date, Signature={signature}"),
        ),
    ]
}
