//! A request in the one form that both sides compute and sign (spec companion, section 2).
//!
//! ```text
//! METHOD LF path LF query LF headers LF names of the signed headers LF hash of the body
//! ```
//!
//! Pure. Two requests have one canonical form only if they mean the same: what may be written in several ways (percent
//! signs, the order of the query) is decoded and written in one.

use std::borrow::Cow;

use axum::http::{HeaderMap, Method, Uri, header::HOST};
use sha2::{Digest, Sha256};

/// The header that says when a request was signed.
pub(super) const DATE: &str = "x-sdk-date";
/// The header in which a client says what it signed in place of the body.
const CONTENT: &str = "x-sdk-content-sha256";
/// What a client says there that has not signed the body.
const UNSIGNED: &[u8] = b"UNSIGNED-PAYLOAD";

/// What a signature is over.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, whole.
    pub body: &'a [u8],
}

impl Parts<'_> {
    /// The canonical form with a payload that [`Parts::payloads`] allows.
    ///
    /// # Errors
    /// Where a signed header is missing, or there more than once: what of it was signed cannot be known.
    pub fn canonical(&self, signed: &[&str], payload: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b'\n');
        path(self.uri.path(), &mut out);
        out.push(b'\n');
        query(self.uri.query().unwrap_or_default(), &mut out);
        out.push(b'\n');
        for name in signed {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            out.extend_from_slice(self.header(name)?.trim_ascii());
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(signed.join(";").as_bytes());
        out.push(b'\n');
        out.extend_from_slice(payload);
        Ok(out)
    }

    /// The only value of a header. The host is the header's as it was sent, or what HTTP/2 has in its place.
    fn header(&self, name: &str) -> Result<&[u8], String> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.as_bytes()),
            (Some(_), Some(_)) => Err(format!("the signed header {name} is there more than once")),
            (None, _) if name == HOST.as_str() => match self.uri.authority() {
                Some(authority) => Ok(authority.as_str().as_bytes()),
                None => Err("the signed header host is missing".to_owned()),
            },
            (None, _) => Err(format!("the signed header {name} is missing")),
        }
    }

    /// What a client may have signed for this body, one of which it has to be: its hash; where it says so, that it has signed
    /// none. A hash that is sent along has to be the body's. Clients that send no body sign the hash of nothing, whatever they
    /// say.
    ///
    /// # Errors
    /// Where the header is none of that.
    pub fn payloads(&self) -> Result<Vec<Cow<'static, [u8]>>, String> {
        let hash = hex(&Sha256::digest(self.body)).into_bytes();
        if self.headers.get(CONTENT).is_none() {
            return Ok(vec![hash.into()]);
        }
        let said = self.header(CONTENT)?.trim_ascii();
        if said == UNSIGNED {
            let mut payloads = vec![Cow::Borrowed(UNSIGNED)];
            if self.body.is_empty() {
                payloads.push(hash.into());
            }
            return Ok(payloads);
        }
        if said != hash {
            return Err(
                "X-Sdk-Content-Sha256 is neither the body's hash in lower case nor UNSIGNED-PAYLOAD"
                    .to_owned(),
            );
        }
        Ok(vec![hash.into()])
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|b| [b >> 4, b & 15]);
    digits.map(|d| char::from(DIGITS[usize::from(d)])).collect()
}

/// Each part of the path decoded and encoded anew, with a slash at the end.
fn path(path: &str, out: &mut Vec<u8>) {
    for part in path.strip_prefix('/').unwrap_or(path).split_inclusive('/') {
        out.push(b'/');
        encode(&decode(part.strip_suffix('/').unwrap_or(part), false), out);
    }
    out.push(b'/');
}

/// The pairs of the query decoded, sorted, and encoded anew.
fn query(query: &str, out: &mut Vec<u8>) {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key, true), decode(value, true)))
        .collect();
    pairs.sort();
    for (i, (key, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push(b'&');
        }
        encode(key, out);
        out.push(b'=');
        encode(value, out);
    }
}

/// What percent signs say; one that says nothing stands for itself, as for the router. In a query, plus is a space.
fn decode(text: &str, plus: bool) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let escaped = match (first, rest) {
            (b'%', [high, low, after @ ..]) => digit(*high).zip(digit(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        out.push(match (escaped, first) {
            (Some(((high, low), after)), _) => {
                bytes = after;
                high << 4 | low
            }
            (None, b'+') if plus => b' ',
            (None, other) => *other,
        });
    }
    out
}

/// Percent signs for everything that RFC 3986 does not leave unreserved.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for b in bytes {
        if b.is_ascii_alphanumeric() || b"-._~".contains(b) {
            out.push(*b);
        } else {
            out.extend([b'%', DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_in_one_way() {
        for (from, to) in [
            ("/", "/"),
            ("/v1", "/v1/"),
            ("/v1/", "/v1/"),
            ("/v1/a-b_c.d~e", "/v1/a-b_c.d~e/"),
            ("/%41%7e/%2f", "/A~/%2F/"),
            ("/a b/é", "/a%20b/%C3%A9/"),
            ("/%c3%a9/+", "/%C3%A9/%2B/"),
            ("/%/%4/%zz", "/%25/%254/%25zz/"),
            ("/a//b", "/a//b/"),
            ("//a", "//a/"),
            ("/a//", "/a//"),
            ("/%ff", "/%FF/"),
        ] {
            let mut out = Vec::new();
            path(from, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), to, "{from}");
        }
    }

    #[test]
    fn a_query_is_written_in_one_way() {
        for (from, to) in [
            ("", ""),
            ("a", "a="),
            ("a=", "a="),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1&a=10", "a=1&a=10&a=2"),
            ("a=b=c", "a=b%3Dc"),
            ("a=x+y&b=x%20y", "a=x%20y&b=x%20y"),
            ("a=x%2By", "a=x%2By"),
            (
                "permission=iam%3Adomain%3A%3A*",
                "permission=iam%3Adomain%3A%3A%2A",
            ),
            ("&&a=1&", "a=1"),
            ("=1", "=1"),
            ("a=%", "a=%25"),
            // By what is meant, not by how it is written.
            ("a=~&a=%C3%A9", "a=~&a=%C3%A9"),
        ] {
            let mut out = Vec::new();
            query(from, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), to, "{from}");
        }
    }
}
