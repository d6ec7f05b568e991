//! The header of a signed request, taken apart.
//!
//! ```text
//! SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date, Signature=hex
//! SDK-HMAC-SHA256 Credential=AK/YYYYMMDD/region/service/sdk_request, SignedHeaders=host;x-sdk-date, Signature=hex
//! ```
//!
//! Pure; believes nothing. The second form is the older one, and its clients leave region and service empty.

use std::fmt;

/// How the header of a signed request begins.
pub const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// What the scope of the older form ends in.
pub const TERMINATOR: &str = "sdk_request";
/// Longest header that is looked at, in bytes; clients' have a few hundred.
const HEADER_BYTES_MAX: usize = 4096;
/// How many headers may be signed; clients sign five or six.
const SIGNED_MAX: usize = 64;

/// The header of a signed request.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// The name of the key.
    pub access: &'a str,
    /// What the key is narrowed to, in the older form.
    pub scope: Option<Scope<'a>>,
    /// The names of the signed headers, in lower case and in the order in which they were signed.
    pub signed: Vec<&'a str>,
    /// The signature.
    pub signature: [u8; 32],
}

/// What a key is narrowed to, in the older form of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The day, as eight digits.
    pub date: &'a str,
    /// The region; clients leave it empty.
    pub region: &'a str,
    /// The service; clients leave it empty.
    pub service: &'a str,
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            region,
            service,
        } = self;
        write!(f, "{date}/{region}/{service}/{TERMINATOR}")
    }
}

impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("access", &self.access)
            .field("scope", &self.scope)
            .field("signed", &self.signed)
            .finish_non_exhaustive()
    }
}

/// Whether a header claims to be that of a signed request.
pub fn is_signed(header: &[u8]) -> bool {
    let rest = header.strip_prefix(ALGORITHM.as_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|b| *b == b' '))
}

impl<'a> Authorization<'a> {
    /// Takes a header apart.
    ///
    /// # Errors
    /// What is wrong with its form. Never repeats what was in it.
    pub fn parse(header: &'a [u8]) -> Result<Self, &'static str> {
        if header.len() > HEADER_BYTES_MAX {
            return Err("the header Authorization is too long");
        }
        let text = std::str::from_utf8(header).map_err(|_| "the header Authorization is no text")?;
        let fields = text
            .strip_prefix(ALGORITHM)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or("the header Authorization is not of the form SDK-HMAC-SHA256 name=value, …")?;
        let (mut key, mut signed, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field
                .trim()
                .split_once('=')
                .ok_or("a part of the header Authorization is not name=value")?;
            let place = match name {
                "Access" | "Credential" => &mut key,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err("the header Authorization has a part with an unknown name"),
            };
            if place.replace((name, value)).is_some() {
                return Err("the header Authorization has a part twice");
            }
        }
        let missing = "the header Authorization lacks Access or Credential, SignedHeaders or Signature";
        let ((form, key), (_, signed), (_, signature)) = (
            key.ok_or(missing)?,
            signed.ok_or(missing)?,
            signature.ok_or(missing)?,
        );
        let (access, scope) = match form {
            "Access" => (key, None),
            _ => credential(key)
                .map(|(access, scope)| (access, Some(scope)))
                .ok_or("Credential is not AK/YYYYMMDD/region/service/sdk_request")?,
        };
        if access.is_empty() {
            return Err("the header Authorization names no key");
        }
        Ok(Self {
            access,
            scope,
            signed: signed_headers(signed)?,
            signature: digest(signature).ok_or("Signature is not 64 hexadecimal digits")?,
        })
    }
}

fn credential(text: &str) -> Option<(&str, Scope<'_>)> {
    let mut parts = text.split('/');
    let (access, date, region, service) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let ends = parts.next() == Some(TERMINATOR) && parts.next().is_none();
    let scope = Scope {
        date,
        region,
        service,
    };
    ends.then_some((access, scope))
}

fn signed_headers(text: &str) -> Result<Vec<&str>, &'static str> {
    let names: Vec<&str> = text.split(';').collect();
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    if names.len() > SIGNED_MAX || names.iter().any(|n| n.is_empty() || !n.bytes().all(token)) {
        return Err("SignedHeaders is not a list of names in lower case");
    }
    let twice = |(i, name): (usize, &&str)| names.iter().take(i).any(|earlier| earlier == name);
    if names.iter().enumerate().any(twice) {
        return Err("SignedHeaders has a name twice");
    }
    Ok(names)
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let pairs = text.as_bytes().as_chunks::<2>();
    let mut digest = [0; 32];
    if pairs.0.len() != digest.len() || !pairs.1.is_empty() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs.0) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

    #[test]
    fn both_forms_are_read() {
        let digest: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let header = format!("SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date, Signature={HEX}");
        let read = Authorization::parse(header.as_bytes()).unwrap();
        assert_eq!((read.access, read.scope, read.signature), ("AK", None, digest));
        assert_eq!(read.signed, ["host", "x-sdk-date"]);
        let header = format!(
            "SDK-HMAC-SHA256 Credential=AK/20270115///sdk_request,SignedHeaders=host,Signature={HEX}"
        );
        let read = Authorization::parse(header.as_bytes()).unwrap();
        let scope = read.scope.unwrap();
        assert_eq!((read.access, scope.date), ("AK", "20270115"));
        assert_eq!(scope.to_string(), "20270115///sdk_request");
        let shown = format!("{read:?}");
        assert!(!shown.contains("signature"), "{shown}");
    }

    #[test]
    fn every_other_form_is_refused() {
        let good = format!("SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date, Signature={HEX}");
        assert!(Authorization::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            ("SDK-HMAC-SHA256 ", "SDK-HMAC-SHA256"),
            ("SDK-HMAC-SHA256 ", "SDK-HMAC-SM3 "),
            ("Access=AK, ", ""),
            ("Access=AK", "Access="),
            ("Access=AK", "access=AK"),
            ("Access=AK", "Access=AK, Access=AK"),
            ("Access=AK", "Access=AK, Credential=AK/1///sdk_request"),
            ("Access=AK", "Credential=AK"),
            ("Access=AK", "Credential=AK/20270115///other"),
            ("Access=AK", "Credential=AK/20270115///sdk_request/x"),
            ("Access=AK", "Credential=/20270115///sdk_request"),
            ("host;", "Host;"),
            ("host;", ";"),
            ("host;", "host;host;"),
            ("host;", "ho st;"),
            ("SignedHeaders=host;x-sdk-date", "SignedHeaders="),
            ("SignedHeaders=host;x-sdk-date, ", ""),
            (HEX, &HEX[1..]),
            (HEX, &HEX[2..]),
            ("000102", "00010g"),
            (HEX, &format!("{HEX}00")),
            (", Signature", " Signature"),
            (", Signature", ",, Signature"),
            ("Signature=", "Realm=x, Signature="),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = good.replacen(from, to, 1);
            assert!(Authorization::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Authorization::parse(b"SDK-HMAC-SHA256 Access=\xff").is_err());
        assert!(Authorization::parse(&vec![b'x'; HEADER_BYTES_MAX + 1]).is_err());
        let many = good.replacen("host;", &"h;".repeat(1000), 1);
        assert!(Authorization::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn only_this_algorithm_counts_as_signed() {
        for (header, signed) in [
            ("SDK-HMAC-SHA256", true),
            ("SDK-HMAC-SHA256 ", true),
            ("SDK-HMAC-SHA256X a", false),
            ("Basic SDK-HMAC-SHA256", false),
            ("", false),
        ] {
            assert_eq!(is_signed(header.as_bytes()), signed, "{header}");
        }
    }
}
