//! What is probably wrong where etcd is not reached, in a person's words: which flag mends it. Pure.
//!
//! TLS tells a client little: whoever speaks plainly to TLS, or shows no certificate, finds the connection closed.

use adit_model::error_chain;
use adit_store::{EtcdConfig, etcd::OpenError};

/// How the error of a connection reads that the other side has closed.
const CLOSED: &[&str] = &[
    "broken pipe",
    "connection closed",
    "connection reset",
    "connection error",
    "CertificateRequired",
    "BadCertificate",
    "UnknownCA",
    "http2 error",
];

/// What to try, where that can be told.
pub(super) fn advice(config: &EtcdConfig, error: &OpenError) -> Option<&'static str> {
    if let OpenError::Missing { .. } = error {
        return Some("nothing was made; --etcd-root names where a store is");
    }
    advice_on(config, &error_chain(error))
}

fn advice_on(config: &EtcdConfig, said: &str) -> Option<&'static str> {
    let says = |words: &str| said.contains(words);
    let tls = config.urls.iter().any(|url| url.starts_with("https://"));
    let is_foreign = says("UnknownIssuer") || says("BadSignature");
    if is_foreign && config.ca.is_some() {
        return Some("its certificate is not from the authority that --etcd-ca names");
    } else if is_foreign {
        return Some("--etcd-ca has to name the authority that its certificate is from");
    } else if says("NotValidForName") {
        return Some("its certificate is for another host than the URL names");
    } else if says("Expired") {
        return Some("its certificate has expired");
    } else if tls && says("InvalidContentType") {
        return Some("it speaks no TLS: write http://");
    } else if says("user name is empty") {
        return Some("it asks for a name: --etcd-user and --etcd-password-file");
    } else if says("invalid user ID or password") {
        return Some("it does not know --etcd-user with the password in --etcd-password-file");
    } else if says("authentication is not enabled") {
        return Some("it asks for no name: leave --etcd-user out");
    } else if says("permission denied") {
        return Some("the user needs a role that may read and write all below --etcd-root");
    } else if !CLOSED.iter().any(|words| says(words)) || says("refused") {
        return None;
    }
    Some(match (tls, &config.identity) {
        (false, _) => {
            "it closes the connection; if it speaks TLS, write https:// and name its authority with --etcd-ca"
        }
        (true, None) => {
            "it closes the connection; if it asks for a client's certificate: --etcd-cert and --etcd-key"
        }
        (true, Some(_)) => {
            "it closes the connection; it may not know the authority that --etcd-cert is from, or speak no TLS"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_leads_to_a_flag() {
        let config = |url: &str, ca: bool, identity: bool| EtcdConfig {
            urls: vec![url.to_owned()],
            ca: ca.then(|| "ca.pem".into()),
            identity: identity.then(|| ("c".into(), "k".into())),
            ..EtcdConfig::default()
        };
        let http = config("http://a:1", false, false);
        let https = config("https://a:1", true, false);
        for (config, said, flag) in [
            (&http, "stream closed because of a broken pipe", "https://"),
            (
                &https,
                "operation was canceled: connection closed",
                "--etcd-cert and --etcd-key",
            ),
            (
                &config("https://a:1", true, true),
                "connection reset",
                "--etcd-cert",
            ),
            (
                &https,
                "invalid peer certificate: UnknownIssuer",
                "not from the authority",
            ),
            (
                &config("https://a:1", false, false),
                "UnknownIssuer",
                "--etcd-ca has to name",
            ),
            (
                &https,
                "received corrupt message of type InvalidContentType",
                "http://",
            ),
            (&http, "etcdserver: user name is empty", "--etcd-user"),
            (&http, "invalid user ID or password", "--etcd-password-file"),
            (&http, "authentication is not enabled", "leave --etcd-user out"),
            (&http, "etcdserver: permission denied", "--etcd-root"),
        ] {
            let advice = advice_on(config, said).unwrap();
            assert!(advice.contains(flag), "{said}: {advice}");
        }
        let refused = "transport error: tcp connect error: Connection refused (os error 111)";
        assert_eq!(advice_on(&http, refused), None);
    }
}
