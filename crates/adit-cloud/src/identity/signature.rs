//! Requests that are signed with an access key (`Authorization: SDK-HMAC-SHA256 …`), in both forms that clients use.
//!
//! Owns who signed a request and for which project it is meant. Which parts are signed is the client's choice, but for host
//! and date; the body always is, unless the client signed that it has not. Signatures are compared in constant time, and an
//! unknown key is told from a wrong secret by neither the answer nor the time that it takes.
//!
//! Read next: [`authorization`] (the header), [`canonical`] (what is signed).

pub mod authorization;
pub mod canonical;

use adit_model::time::Timestamp;
use adit_server::{Caller, Evidence, Rejection};
use axum::http::{
    HeaderValue,
    header::{AUTHORIZATION, HOST},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use self::{
    authorization::{ALGORITHM, Authorization, Scope, TERMINATOR},
    canonical::{DATE, Parts, hex},
};
use super::{Scope as TokenScope, accounts::Account};
use crate::region::{AccessKey, Project, Region};

/// How far the date of a signature may be from ours, in seconds, before and after.
const SKEW_S_MAX: i64 = 15 * 60;
/// The project that is meant.
const PROJECT_ID: &str = "x-project-id";
/// The account that is meant.
const DOMAIN_ID: &str = "x-domain-id";
/// What comes with temporary keys, which this region does not give out.
const SECURITY_TOKEN: &str = "x-security-token";

/// Whether a request claims to be signed.
pub(super) fn is_signed(evidence: &Evidence<'_>) -> bool {
    let header = evidence.headers.get(AUTHORIZATION);
    header.is_some_and(|value| authorization::is_signed(value.as_bytes()))
}

/// Who signed a request, and for which project.
pub(super) fn verify(region: &Region, evidence: &Evidence<'_>, now: Timestamp) -> Result<Caller, Rejection> {
    let (signed, account, key) = signer(region, evidence, now).map_err(Rejection::Signature)?;
    let scope = scope(&account, key, evidence, &signed).map_err(Rejection::Signature)?;
    let caller = account.caller(&scope);
    caller.ok_or_else(|| Rejection::Signature("the key's user has no place in this region".to_owned()))
}

/// The names of the headers that were signed, by whom, and with which key.
fn signer<'a>(
    region: &'a Region,
    evidence: &Evidence<'a>,
    now: Timestamp,
) -> Result<(Vec<&'a str>, Account<'a>, &'a AccessKey), String> {
    let authorization = Authorization::parse(only(evidence, AUTHORIZATION.as_str())?.unwrap_or_default())?;
    if evidence.headers.contains_key(SECURITY_TOKEN) {
        return Err("X-Security-Token: this region has no temporary keys".to_owned());
    }
    for name in [HOST.as_str(), DATE] {
        if !authorization.signed.contains(&name) {
            return Err(format!("SignedHeaders does not have {name}"));
        }
    }
    let date = only(evidence, DATE)?.and_then(|date| std::str::from_utf8(date).ok());
    let date = date.ok_or("the header X-Sdk-Date is missing, or no text")?;
    fresh(date, now)?;
    if authorization
        .scope
        .is_some_and(|scope| date.get(..8) != Some(scope.date))
    {
        return Err("the day in Credential is not that of X-Sdk-Date".to_owned());
    }
    let Evidence {
        method,
        uri,
        headers,
        body,
    } = *evidence;
    let parts = Parts {
        method,
        uri,
        headers,
        body,
    };
    let known = region.access_key(authorization.access);
    // For a key that nobody has, the work is the same.
    let secret = known.map_or("", |(_, key)| key.secret.expose());
    let mut fits = Choice::from(0);
    for payload in parts.payloads()? {
        let canonical = parts.canonical(&authorization.signed, &payload)?;
        fits |= sign(secret, authorization.scope, date, &canonical).ct_eq(&authorization.signature);
    }
    match known {
        Some((account, key)) if bool::from(fits) => Ok((authorization.signed, account, key)),
        _ => Err(
            "the key is unknown, or the signature is not the one that it makes for this request".to_owned(),
        ),
    }
}

/// The only value of a header.
fn only<'a>(evidence: &Evidence<'a>, name: &str) -> Result<Option<&'a [u8]>, String> {
    let mut values = evidence.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(format!("the header {name} is there more than once")),
        (value, None) => Ok(value.map(HeaderValue::as_bytes)),
    }
}

/// Whether a date is of the form `YYYYMMDDTHHMMSSZ`, and near enough.
fn fresh(date: &str, now: Timestamp) -> Result<(), String> {
    let at = instant(date).ok_or("X-Sdk-Date is not of the form YYYYMMDDTHHMMSSZ")?;
    if at.unix_s().abs_diff(now.unix_s()) > SKEW_S_MAX.unsigned_abs() {
        return Err(format!(
            "X-Sdk-Date {at} is more than {} minutes from our {now}",
            SKEW_S_MAX / 60
        ));
    }
    Ok(())
}

fn instant(date: &str) -> Option<Timestamp> {
    let form = date.len() == 16
        && date.bytes().enumerate().all(|(i, b)| match i {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        });
    if !form {
        return None;
    }
    let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    )
    .parse()
    .ok()
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// The signature of a canonical request. The older form signs its scope too, with a key that is narrowed to it.
fn sign(secret: &str, scope: Option<Scope<'_>>, date: &str, canonical: &[u8]) -> [u8; 32] {
    let hash = hex(&Sha256::digest(canonical));
    match scope {
        None => mac(
            secret.as_bytes(),
            format!("{ALGORITHM}\n{date}\n{hash}").as_bytes(),
        ),
        Some(scope) => {
            let key = mac(format!("SDK{secret}").as_bytes(), scope.date.as_bytes());
            let parts = [scope.region, scope.service, TERMINATOR];
            let key = parts.iter().fold(key, |key, part| mac(&key, part.as_bytes()));
            mac(&key, format!("{ALGORITHM}\n{date}\n{scope}\n{hash}").as_bytes())
        }
    }
}

/// What a signed request is good for: the project that the key's holder has signed, else the one that the path names, else
/// the one that an unsigned header hints at, else the key's own. None of them leads to where the holder has no roles.
fn scope(
    account: &Account<'_>,
    key: &AccessKey,
    evidence: &Evidence<'_>,
    signed: &[&str],
) -> Result<TokenScope, String> {
    if only(evidence, DOMAIN_ID)?.is_some_and(|id| id != account.domain.id.as_str().as_bytes()) {
        return Err("X-Domain-Id is not the account that the key belongs to".to_owned());
    }
    let own = |is: &dyn Fn(&Project) -> bool| account.projects().find(|project| is(project));
    let by_id = |id: &[u8]| own(&|project| project.id.as_str().as_bytes() == id);
    let named = only(evidence, PROJECT_ID)?;
    let in_path = evidence.uri.path().split('/').nth(2);
    let project = match (named, in_path.and_then(|part| by_id(part.as_bytes()))) {
        (Some(named), _) if signed.contains(&PROJECT_ID) => by_id(named),
        (_, Some(project)) => Some(project),
        (Some(hint), None) => by_id(hint),
        (None, None) => own(&|project| project.name == key.project),
    };
    Ok(project.map_or(TokenScope::Nothing, |project| {
        TokenScope::Project(project.id.clone())
    }))
}
