//! A request that failed, and the one conversion of it to HTTP.
//!
//! What the client is told is [`ApiError`]'s; what happened inside is logged here, once, with its whole chain.

use adit_model::{ApiError, Code, error_chain};
use adit_store::{CacheError, StoreError};
use axum::{
    Extension, Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{audit::ErrorCode, identity::Rejection, network::NetworkError};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A rule of the API.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// A signature that does not fit (spec semantics 21, row 7).
    #[error("{0}")]
    Signature(String),
    /// A known path that does not take this method; the catalogue has no code for it (spec 0.2).
    #[error("{0}")]
    Method(String),
    /// The store does not answer.
    #[error("the store could not be asked")]
    Store(#[from] StoreError),
    /// The cache does not follow the store.
    #[error("the cache does not follow the store")]
    Cache(#[from] CacheError),
    /// The network service does not answer.
    #[error("the network could not be asked")]
    Network(#[source] NetworkError),
    /// Something took longer than it may.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// More requests are in progress than may be.
    #[error("too many requests are in progress")]
    Crowded,
    /// A failure that was asked for.
    #[error("this failure was asked for")]
    Planned {
        /// The status.
        status: u16,
        /// The code.
        code: Code,
    },
    /// The same documents were changed by others again and again.
    #[error("{0} attempts were overtaken by other requests")]
    Busy(usize),
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Failure::Api(code.into())
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Invalid(why) => ApiError::because(Code::E0003, why).into(),
            Rejection::Signature(why) => Failure::Signature(why),
            Rejection::Unavailable(_) => Failure::Timeout("the identity service"),
        }
    }
}

impl From<NetworkError> for Failure {
    fn from(e: NetworkError) -> Self {
        Failure::Network(e)
    }
}

impl Failure {
    /// The status and the two fields of the body. A dependency that is down is a 504, which clients try once more; a fault
    /// of ours is a 500.
    fn parts(&self) -> (u16, &'static str, String) {
        let of = |e: &ApiError| (e.code.status(), e.code.as_str(), e.message.clone());
        match self {
            Failure::Api(e) => of(e),
            Failure::Signature(why) => (
                401,
                "APIGW.0301",
                format!("Incorrect IAM authentication information: {why}"),
            ),
            Failure::Method(what) => (
                405,
                Code::E0002.as_str(),
                format!("{} {what}", Code::E0002.message()),
            ),
            Failure::Planned { status, code } => (
                *status,
                code.as_str(),
                format!("{} This failure was asked for.", code.message()),
            ),
            Failure::Store(StoreError::Unavailable { .. })
            | Failure::Cache(_)
            | Failure::Network(NetworkError::Unavailable(_) | NetworkError::Authentication)
            | Failure::Timeout(_)
            | Failure::Crowded
            | Failure::Busy(_) => of(&Code::E0013.into()),
            Failure::Store(_) | Failure::Network(_) => of(&Code::E0001.into()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, code, message) = self.parts();
        // Of a crowd, every member would write a line; and what was asked for is nobody's fault.
        if status >= 500 && !matches!(self, Failure::Crowded | Failure::Planned { .. }) {
            tracing::error!(
                error.code = code,
                error = error_chain(&self),
                "A request failed on our side."
            );
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(json!({"error_code": code, "error_msg": message}));
        (status, Extension(ErrorCode(code)), body).into_response()
    }
}
