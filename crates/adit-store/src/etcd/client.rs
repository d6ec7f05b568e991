//! Calls to etcd's members: which one is asked, for how long, and what a failure means for what was asked.
//!
//! One member is asked at a time, until it fails; then all go on with the next, watches included. A call that may have been
//! done although its answer is missing is never repeated unless that does no harm.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, ConnectError, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::metrics::Metrics;
use super::proto::{AuthenticateRequest, AuthenticateResponse};

/// How long one member may take to answer before the next one is asked, where nothing is said. A slow disk's fsync is under it.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a silent connection is probed, and how long the answer may take. etcd cuts clients off that ask more often
/// than every 5 s.
const PROBE_INTERVAL: Duration = Duration::from_secs(6);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer: a page of the largest documents, or a watch that catches up.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// How an etcd is reached.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// The URLs of its members: `http://HOST:PORT`, `https://HOST:PORT`.
    pub urls: Vec<String>,
    /// What the names of our keys in it begin with; a path.
    pub root: String,
    /// The authority that its certificates are from, PEM; with https alone.
    pub ca: Option<PathBuf>,
    /// Our own certificate with its chain, and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Our name and password in it.
    pub login: Option<(String, String)>,
    /// How long one member may take to answer before the next one is asked; [`ATTEMPT_TIMEOUT`]. A call with all its attempts takes
    /// less than three times as long.
    pub attempt_timeout: Duration,
}

impl Default for EtcdConfig {
    /// No member at all.
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            root: String::new(),
            ca: None,
            identity: None,
            login: None,
            attempt_timeout: ATTEMPT_TIMEOUT,
        }
    }
}

impl EtcdConfig {
    /// How long a call may take, with all its attempts.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.attempt_timeout * 8 / 3
    }

    /// How long a connection may take to come about.
    fn connect_timeout(&self) -> Duration {
        self.attempt_timeout * 2 / 3
    }
}

/// A certificate or key cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path:?}")]
struct FileError {
    path: PathBuf,
    source: io::Error,
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
    pub(crate) fn into_source(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::NotSent(source) | Self::Lost(source) => source,
            Self::Refused(status) => status.into(),
        }
    }
}

/// The members.
pub(crate) struct Client {
    config: EtcdConfig,
    members: Vec<Member>,
    /// Which one is asked now.
    current: AtomicUsize,
    pub(crate) metrics: Metrics,
    token: Mutex<Option<MetadataValue<Ascii>>>,
}

struct Member {
    url: String,
    /// The connection, while it is thought to work. Held while connecting: who comes meanwhile shares it.
    connection: tokio::sync::Mutex<Option<Connection>>,
}

/// A connection to a member.
#[derive(Clone)]
pub(crate) struct Connection {
    channel: Channel,
    member: usize,
    /// Becomes true when somebody has found it not to work.
    broken: Arc<watch::Sender<bool>>,
}

impl Connection {
    /// Waits until somebody finds the connection not to work.
    pub(crate) fn broken(&self) -> watch::Receiver<bool> {
        self.broken.subscribe()
    }
}

impl Client {
    pub(crate) fn new(config: EtcdConfig) -> Self {
        let member = |url: &String| Member {
            url: url.clone(),
            connection: tokio::sync::Mutex::default(),
        };
        Self {
            members: config.urls.iter().map(member).collect(),
            metrics: Metrics::new(&config.urls),
            config,
            current: AtomicUsize::new(0),
            token: Mutex::new(None),
        }
    }

    /// How long a call may take, with all its attempts.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.config.call_timeout()
    }

    /// Asks, and asks the next member where one fails, for at most [`EtcdConfig::call_timeout`]. Only for what may be done twice.
    pub(crate) async fn ask<Req, Res>(&self, path: &'static str, message: Req) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let until = Instant::now() + self.config.call_timeout();
        let mut attempts_left = self.members.len() + 1;
        loop {
            attempts_left -= 1;
            let attempt = self.ask_once(path, message.clone(), self.config.attempt_timeout);
            let failure = match attempt.await {
                Err(failure @ (Failure::NotSent(_) | Failure::Lost(_))) => failure,
                answered => return answered,
            };
            if attempts_left == 0 || Instant::now() >= until {
                return Err(failure);
            }
            self.metrics.retries.inc();
        }
    }

    /// Asks for what must not be done twice: members that are not reached are passed over, and the first that is reached
    /// decides.
    pub(crate) async fn ask_carefully<Req, Res>(
        &self,
        path: &'static str,
        message: Req,
    ) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let mut attempts_left = self.members.len();
        loop {
            attempts_left -= 1;
            let attempt = self.ask_once(path, message.clone(), self.call_timeout() / 2);
            match attempt.await {
                Err(Failure::NotSent(_)) if attempts_left > 0 => {
                    self.metrics.retries.inc();
                }
                answered => return answered,
            }
        }
    }

    async fn ask_once<Req, Res>(
        &self,
        path: &'static str,
        message: Req,
        patience: Duration,
    ) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let asked = Instant::now();
        let answered = self.attempt(path, message, patience).await;
        self.metrics.asked(path, &answered, asked.elapsed());
        answered
    }

    async fn attempt<Req, Res>(
        &self,
        path: &'static str,
        message: Req,
        patience: Duration,
    ) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let connection = self.connection().await.map_err(Failure::NotSent)?;
        let until = Instant::now() + patience;
        let mut answered = self.call(&connection, path, message.clone(), until).await;
        // A token lapses; what it was refused for was not done.
        if matches!(&answered, Err(Failure::Refused(status)) if status.code() == Code::Unauthenticated)
            && self.config.login.is_some()
        {
            self.token.lock().take();
            answered = self.call(&connection, path, message, until).await;
        }
        if matches!(&answered, Err(Failure::NotSent(_) | Failure::Lost(_))) {
            self.leave(&connection).await;
        }
        answered
    }

    async fn call<Req, Res>(
        &self,
        connection: &Connection,
        path: &'static str,
        message: Req,
        until: Instant,
    ) -> Result<Res, Failure>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        let request = self.request(connection, message, until).await?;
        unary(connection, path, request, until).await
    }

    /// How long one member may take for what it answers out of its memory.
    pub(crate) fn soon(&self) -> Duration {
        self.config.attempt_timeout / 3
    }

    /// How long one member may take.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.config.attempt_timeout
    }

    /// Opens a stream that begins with this message, and stays open on our side if `open`. It has to be open within `patience`.
    pub(crate) async fn stream<Req, Res>(
        &self,
        path: &'static str,
        message: Req,
        open: bool,
        patience: Duration,
    ) -> Result<(Connection, Streaming<Res>), Failure>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        let asked = Instant::now();
        let opened = self.open(path, message, open, patience).await;
        self.metrics.asked(path, &opened, asked.elapsed());
        opened
    }

    async fn open<Req, Res>(
        &self,
        path: &'static str,
        message: Req,
        open: bool,
        patience: Duration,
    ) -> Result<(Connection, Streaming<Res>), Failure>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        let connection = self.connection().await.map_err(Failure::NotSent)?;
        let until = Instant::now() + patience;
        let request = self.request(&connection, (), until).await?.map(|()| {
            let first = stream::once(std::future::ready(message));
            match open {
                true => first.chain(stream::pending()).left_stream(),
                false => first.right_stream(),
            }
        });
        let mut grpc = Grpc::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opened = async {
            grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
            let path = PathAndQuery::from_static(path);
            grpc.streaming(request, path, ProstCodec::<Req, Res>::default())
                .await
        };
        let opened = within(until, opened).await;
        if matches!(opened, Err(Failure::NotSent(_) | Failure::Lost(_))) {
            self.leave(&connection).await;
        }
        Ok((connection, opened?.into_inner()))
    }

    /// A request that a member without a leader refuses at once, instead of letting it wait.
    async fn request<T>(
        &self,
        connection: &Connection,
        message: T,
        until: Instant,
    ) -> Result<Request<T>, Failure> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some((name, password)) = &self.config.login {
            let known = self.token.lock().clone();
            let token = match known {
                Some(token) => token,
                None => {
                    let login = AuthenticateRequest {
                        name: name.clone(),
                        password: password.clone(),
                    };
                    let path = "/etcdserverpb.Auth/Authenticate";
                    // Nothing of the call itself was sent yet.
                    let answer: AuthenticateResponse = unary(connection, path, Request::new(login), until)
                        .await
                        .map_err(|failure| match failure {
                            Failure::Lost(source) => Failure::NotSent(source),
                            other => other,
                        })?;
                    let token: MetadataValue<Ascii> =
                        answer.token.parse().map_err(|e| Failure::NotSent(Box::new(e)))?;
                    self.token.lock().replace(token.clone());
                    token
                }
            };
            metadata.insert("authorization", token);
        }
        Ok(request)
    }

    /// The connection to the member that is asked now. Nobody waits longer than one connection may take, however many wait
    /// for the same one.
    async fn connection(&self) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let index = self.current.load(Ordering::Relaxed);
        let connected = match timeout(self.config.connect_timeout(), self.connect(index)).await {
            Ok(connected) => connected,
            Err(elapsed) => Err(elapsed.into()),
        };
        connected.inspect_err(|_| self.pass_over(index))
    }

    async fn connect(&self, index: usize) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let member = self.members.get(index).ok_or("no member of etcd is named")?;
        let mut held = member.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let channel = self.endpoint(&member.url)?.connect().await?;
        let connection = Connection {
            channel,
            member: index,
            broken: Arc::new(watch::Sender::new(false)),
        };
        Ok(held.insert(connection).clone())
    }

    /// Certificates are read for every connection: who replaces them need not restart us.
    fn endpoint(&self, url: &str) -> Result<Endpoint, Box<dyn Error + Send + Sync>> {
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(self.config.connect_timeout())
            .http2_keep_alive_interval(PROBE_INTERVAL)
            .keep_alive_timeout(PROBE_TIMEOUT)
            .keep_alive_while_idle(true);
        if !url.starts_with("https://") {
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new().timeout(self.config.connect_timeout());
        if let Some(ca) = &self.config.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        if let Some((certificate, key)) = &self.config.identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(endpoint.tls_config(tls)?)
    }

    /// Gives a connection up that does not work, for all who use it.
    pub(crate) async fn leave(&self, connection: &Connection) {
        connection.broken.send_replace(true);
        self.pass_over(connection.member);
        let mut held = self.members[connection.member].connection.lock().await;
        if held
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(&held.broken, &connection.broken))
        {
            *held = None;
        }
    }

    /// Has the next member be asked, unless another caller has done so already.
    fn pass_over(&self, member: usize) {
        let next = (member + 1) % self.members.len().max(1);
        let passed = self
            .current
            .compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        if passed.is_ok() {
            self.metrics.asks(&self.config.urls, next);
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError {
        path: path.to_owned(),
        source,
    })
}

async fn unary<Req, Res>(
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

async fn within<T>(until: Instant, answered: impl Future<Output = Result<T, Status>>) -> Result<T, Failure> {
    match timeout_at(until, answered).await {
        Ok(answered) => answered.map_err(meaning),
        Err(elapsed) => Err(Failure::Lost(elapsed.into())),
    }
}

/// What a status says of the thing asked for.
pub(crate) fn meaning(status: Status) -> Failure {
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
