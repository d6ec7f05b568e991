//! Requests that are signed with an access key (`Authorization: SDK-HMAC-SHA256 …`).
//!
//! The region's access keys are read and kept ([`crate::region::AccessKey`]); signatures are not checked yet, so that every
//! signed request is refused as one that does not fit.

use adit_server::{Caller, Evidence, Rejection};
use axum::http::header::AUTHORIZATION;

use crate::region::Region;

/// How the header of a signed request begins.
const ALGORITHM: &[u8] = b"SDK-HMAC-SHA256";

/// Whether a request claims to be signed.
pub(super) fn is_signed(evidence: &Evidence<'_>) -> bool {
    let header = evidence.headers.get(AUTHORIZATION);
    header.is_some_and(|value| value.as_bytes().starts_with(ALGORITHM))
}

/// Who signed a request.
pub(super) fn verify(_region: &Region, _evidence: &Evidence<'_>) -> Result<Caller, Rejection> {
    Err(Rejection::Signature(
        "signed requests are not supported yet; use a token.".to_owned(),
    ))
}
