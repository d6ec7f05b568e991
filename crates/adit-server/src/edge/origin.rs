//! Where a client has reached us: the address that links and catalogs in replies must lead back to.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{header::HOST, request::Parts, uri::Authority},
};

/// The header by which a proxy that ends TLS says so.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Marks a request, among its extensions, that came over a TLS connection of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secured;

/// Scheme, host and port that a client has used, as `https://vpcep.example:443` without a slash at its end.
///
/// What the client says of the host is taken: it can only mislead itself with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub String);

impl Origin {
    /// The origin of a request.
    pub fn of(parts: &Parts) -> Self {
        let forwarded = parts.headers.get(FORWARDED_PROTO);
        let secured =
            parts.extensions.get::<Secured>().is_some() || forwarded.is_some_and(|scheme| scheme == "https");
        let scheme = if secured { "https" } else { "http" };
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.and_then(|host| host.parse::<Authority>().ok());
        match parts.uri.authority().or(host.as_ref()) {
            Some(host) => Self(format!("{scheme}://{host}")),
            None => Self(format!("{scheme}://localhost")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_client_is_led_back_to_where_it_came_to() {
        for (uri, host, forwarded, secured, expected) in [
            (
                "/v3",
                Some("a.example:7117"),
                None,
                false,
                "http://a.example:7117",
            ),
            ("/v3", Some("a.example"), None, true, "https://a.example"),
            (
                "/v3",
                Some("a.example"),
                Some("https"),
                false,
                "https://a.example",
            ),
            ("/v3", Some("a.example"), Some("ftp"), false, "http://a.example"),
            ("/v3", Some("[::1]:80"), None, false, "http://[::1]:80"),
            (
                "https://b.example/v3",
                Some("a.example"),
                None,
                true,
                "https://b.example",
            ),
            ("/v3", Some("no host"), None, false, "http://localhost"),
            ("/v3", None, None, true, "https://localhost"),
        ] {
            let mut request = Request::builder().uri(uri);
            for (name, value) in [("host", host), ("x-forwarded-proto", forwarded)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let mut request = request.body(()).unwrap();
            if secured {
                request.extensions_mut().insert(Secured);
            }
            let (parts, ()) = request.into_parts();
            assert_eq!(Origin::of(&parts).0, expected, "{uri} {host:?} {forwarded:?}");
        }
    }
}
