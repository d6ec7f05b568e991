//! The guards before every operation: token → IAM action → project, in that order (spec 0.2); token → role, for the
//! operator's.

use std::{borrow::Cow, sync::Arc};

use adit_model::{ApiError, Code, id::ProjectId};
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{Uri, header, request::Parts},
    middleware::Next,
    response::Response,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;

use crate::{
    app::{App, Scope},
    audit::Initiator,
    edge::Note,
    error::Failure,
    iam,
    identity::{Caller, Evidence},
    unread::TooSlow,
};

/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Lets a request through to its operation with a [`Scope`] in its extensions and its whole body at hand, or answers what
/// is wrong with its credentials.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let (mut parts, caller, body) = authenticated(&app, request).await?;
    iam::authorise(&caller, iam::action(&parts.method, path.as_str()))?;
    let project = project_in(&parts.uri);
    let project: ProjectId = project.parse().map_err(|_| {
        ApiError::because(
            Code::E0014,
            format!(
                "project_id: {} is not 32 hexadecimal digits.",
                adit_model::body::quote(&project)
            ),
        )
    })?;
    if caller.project.as_ref() != Some(&project) {
        return Err(ApiError::because(
            Code::E0004,
            format!("The credentials are not for project {project}."),
        )
        .into());
    }
    if let Some(note) = parts.extensions.get::<Note>() {
        note.project(&project);
    }
    app.rates.admit(&project, &parts.method)?;
    // Only those who may do a thing see it fail.
    app.failures.strike(&parts.method, path.as_str())?;
    parts.extensions.insert(Scope {
        project,
        domain: caller.domain.clone(),
    });
    pass(parts, body, next).await
}

/// Lets a request of the operator through, whatever the token's scope is.
pub(crate) async fn guard_operator(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let (mut parts, caller, body) = authenticated(&app, request).await?;
    iam::authorise_operator(&caller)?;
    parts.extensions.insert(caller);
    pass(parts, body, next).await
}

/// A body that has been read already, or is still to be.
enum Pending {
    Read(Bytes),
    Unread(Body),
}

/// Finds out who sent a request.
async fn authenticated(app: &App, request: Request) -> Result<(Parts, Arc<Caller>, Pending), Failure> {
    let (parts, body) = request.into_parts();
    // A signature covers the body, so that is read first; whoever has no good token is not waited for.
    let signed = parts.headers.contains_key(header::AUTHORIZATION);
    let pending = if signed {
        Pending::Read(read_body(body).await?)
    } else {
        Pending::Unread(body)
    };
    let early = match &pending {
        Pending::Read(bytes) => bytes.clone(),
        Pending::Unread(_) => Bytes::new(),
    };
    let evidence = Evidence {
        method: &parts.method,
        uri: &parts.uri,
        headers: &parts.headers,
        body: &early,
    };
    let caller = app.identity.authenticate(evidence).await?;
    Initiator::is(&parts.extensions, &caller);
    Ok((parts, caller, pending))
}

/// Hands a request with its whole body on to its operation.
async fn pass(parts: Parts, body: Pending, next: Next) -> Result<Response, Failure> {
    let body = match body {
        Pending::Read(bytes) => bytes,
        Pending::Unread(body) => read_body(body).await?,
    };
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// The project in the path, which has the same place in every route: `/v1/{project_id}/…`. What is no text (`%FF`) is no
/// project.
fn project_in(uri: &Uri) -> Cow<'_, str> {
    let part = uri.path().split('/').nth(2).unwrap_or_default();
    percent_decode_str(part).decode_utf8_lossy()
}

/// Reads a body that is neither too large nor too slow; how long it may take is the edge's to say.
///
/// # Errors
/// 1004 for one that is too large or breaks off; a time-out for one that is too slow.
pub async fn read_body(body: Body) -> Result<Bytes, Failure> {
    let too_large = || {
        ApiError::because(
            Code::E1004,
            format!("The body is larger than {BODY_BYTES_MAX} bytes."),
        )
    };
    // What is announced need not be waited for.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large().into());
    }
    let limited = Limited::new(body, BODY_BYTES_MAX);
    match limited.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => Err(too_large().into()),
        Err(e) if TooSlow::is_in(&*e) => Err(Failure::Timeout("the request's body")),
        Err(_) => Err(ApiError::because(Code::E1004, "The body broke off.").into()),
    }
}
