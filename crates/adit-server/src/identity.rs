//! Who is calling: the trait that an identity service is behind, and what a caller is.
//!
//! Owns the three answers (a caller, a refusal, "cannot say now"), which are three different things to a client. The
//! embedded identity lives in `adit-cloud`. What a caller may do is [`crate::iam`]'s.

use std::sync::Arc;

use adit_model::{
    iam::Policy,
    id::{DomainId, ProjectId},
};
use async_trait::async_trait;
use axum::http::{HeaderMap, Method, Uri};

/// What a request proves itself with: a token header or a signature over all of it.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, whole.
    pub body: &'a [u8],
}

/// Somebody who has proven who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's id.
    pub user_id: String,
    /// The user's name.
    pub user_name: String,
    /// The user's account.
    pub domain: DomainId,
    /// The project that the token is scoped to; without one, no project's resources are within reach.
    pub project: Option<ProjectId>,
    /// The names of the roles that the caller has in that scope.
    pub roles: Vec<String>,
    /// What the account's own policies among those roles say, beside the system's roles.
    pub policies: Vec<Arc<Policy>>,
}

/// Why a caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No evidence, or evidence that is not (or no longer) good.
    #[error("{0}")]
    Invalid(String),
    /// A signature that does not fit; answered with a code of its own (spec semantics 21, row 7).
    #[error("{0}")]
    Signature(String),
    /// The identity service cannot be asked now; the same request may succeed later.
    #[error("{0}")]
    Unavailable(String),
}

/// An identity service.
#[async_trait]
pub trait Identity: Send + Sync + 'static {
    /// Who sent this request.
    ///
    /// # Errors
    /// A [`Rejection`]; its text is for the client and never holds a secret.
    async fn authenticate(&self, evidence: Evidence<'_>) -> Result<Arc<Caller>, Rejection>;
}
