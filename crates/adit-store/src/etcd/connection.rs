//! A connection to one member of etcd, and one call on it, or one stream.
//!
//! Never: which member, whether again ([`super::client`]).

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::failure::{Failure, GivenUp, meaning};

/// Largest answer: a page of the largest documents, or a watch that catches up.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// What etcd knows us by after a login.
pub(super) type Token = MetadataValue<Ascii>;

/// A connection to a member.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(super) channel: Channel,
    pub(super) member: usize,
    /// Becomes true when somebody has found it not to work.
    pub(super) broken: Arc<watch::Sender<bool>>,
    /// Becomes true when the member was found to hang.
    pub(super) hangs: Arc<watch::Sender<bool>>,
}

impl Connection {
    /// Waits until somebody finds the connection not to work.
    pub(crate) fn broken(&self) -> watch::Receiver<bool> {
        self.broken.subscribe()
    }

    /// Waits for an answer, until somebody finds the member to hang.
    pub(super) async fn unless_it_hangs<T>(
        &self,
        answered: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut hangs = self.hangs.subscribe();
        tokio::select! {
            answered = answered => answered,
            _ = hangs.wait_for(|hangs| *hangs) => Err(Failure::Lost(GivenUp::Hangs.into())),
        }
    }
}

pub(super) async fn unary<Req, Res>(
    connection: &Connection,
    path: &'static str,
    mut request: Request<Req>,
    until: Instant,
) -> Result<Res, Failure>
where
    Req: Message + 'static,
    Res: Message + Default + 'static,
{
    request.set_timeout(until.saturating_duration_since(Instant::now()));
    let mut grpc = Grpc::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answered = async {
        grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
        let path = PathAndQuery::from_static(path);
        grpc.unary(request, path, ProstCodec::<Req, Res>::default()).await
    };
    within(until, answered).await.map(tonic::Response::into_inner)
}

pub(super) async fn streaming<Req, Res>(
    connection: &Connection,
    path: &'static str,
    message: Req,
    token: Option<&Token>,
    until: Instant,
) -> Result<Streaming<Res>, Failure>
where
    Req: Message + 'static,
    Res: Message + Default + 'static,
{
    let request =
        request((), token).map(|()| stream::once(std::future::ready(message)).chain(stream::pending()));
    let mut grpc = Grpc::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let opened = async {
        grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
        let path = PathAndQuery::from_static(path);
        grpc.streaming(request, path, ProstCodec::<Req, Res>::default())
            .await
    };
    let opened = connection.unless_it_hangs(within(until, opened)).await;
    opened.map(tonic::Response::into_inner)
}

/// A request that a member without a leader refuses at once, instead of letting it wait.
pub(super) fn request<T>(message: T, token: Option<&Token>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("authorization", token.clone());
    }
    request
}

async fn within<T>(until: Instant, answered: impl Future<Output = Result<T, Status>>) -> Result<T, Failure> {
    match timeout_at(until, answered).await {
        Ok(answered) => answered.map_err(meaning),
        Err(elapsed) => Err(Failure::Lost(elapsed.into())),
    }
}
