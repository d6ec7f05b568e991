//! Why a call was not answered, and what that means for what was asked.

use std::error::Error;

use tonic::{Code, ConnectError, Status};

/// etcd's words for a token from before a change of its users; an argument's fault by its code.
const OLD_TOKEN: &str = "revision of auth store is old";

/// Why nobody waits any longer for an answer that may come yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum GivenUp {
    #[error("the member hangs: another has answered meanwhile")]
    Hangs,
    #[error("another leader was elected meanwhile")]
    Elected,
    #[error("no member has answered in time")]
    Late,
}

/// Why a call was not answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No member was reached: nothing was done.
    NotSent(Box<dyn Error + Send + Sync>),
    /// etcd's own word: nothing was done.
    Refused(Status),
    /// Done or not.
    Lost(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// Whether it was refused for its token alone, which has lapsed or is older than a change of etcd's users.
    pub(crate) fn is_of_token(&self) -> bool {
        matches!(self, Self::Refused(status)
            if status.code() == Code::Unauthenticated || status.message().contains(OLD_TOKEN))
    }

    pub(crate) fn into_source(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::NotSent(source) | Self::Lost(source) => source,
            Self::Refused(status) => status.into(),
        }
    }
}

/// What a status says of the thing asked for.
pub(super) fn meaning(status: Status) -> Failure {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Failure::Refused(status),
        _ if was_not_connected(&status) => Failure::NotSent(status.into()),
        _ => Failure::Lost(status.into()),
    }
}

fn was_not_connected(status: &Status) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
