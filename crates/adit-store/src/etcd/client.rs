//! Calls to etcd's members: which one is asked, for how long, and when it is given up.
//!
//! One member is asked at a time, until it fails; then all go on with the next, watches included. Each process begins with one
//! at random, so that a member that hangs holds up only some of them. What may be done twice is asked of the next member, too,
//! where the first is silent ([`super::round`]). A call that may have been done although its answer is missing is never
//! repeated unless that does no harm: it is given up where its member hangs or another leader was elected meanwhile, and whoever
//! has sent it settles what became of it.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::RANGE;
use super::connection::{Connection, Token, request, streaming, unary};
use super::failure::{Failure, GivenUp};
use super::metrics::Metrics;
use super::proto::{Answer, AuthenticateRequest, AuthenticateResponse, RangeRequest, RangeResponse};
use super::request::{Keys, range_one};
use super::round::Round;
use super::space::Space;

/// How long one member may take to answer before the next one is asked, where nothing is said. A slow disk's fsync is under it.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one member may be silent at most before another is asked, too: far above what an answer out of memory takes, and
/// what a client hardly minds.
const HEDGE_AFTER_MAX: Duration = Duration::from_millis(500);
/// How often a silent connection is probed, and how long the answer may take. etcd cuts clients off that ask more often
/// than every 5 s.
const PROBE_INTERVAL: Duration = Duration::from_secs(6);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
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

    /// How long one member may be silent before another is asked, too.
    fn hedge_after(&self) -> Duration {
        (self.attempt_timeout / 6).min(HEDGE_AFTER_MAX)
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

/// The members.
pub(crate) struct Client {
    config: EtcdConfig,
    members: Vec<Member>,
    /// Which one is asked now.
    current: AtomicUsize,
    /// The newest term of a leader that was heard of; 0 for none.
    term: AtomicU64,
    /// What is asked to find out whether a member hangs; held by whoever does.
    probe: tokio::sync::Mutex<RangeRequest>,
    pub(crate) metrics: Metrics,
    pub(crate) space: Space,
    token: Mutex<Option<Token>>,
}

struct Member {
    url: String,
    /// The connection, while it is thought to work. Held while connecting: who comes meanwhile shares it.
    connection: tokio::sync::Mutex<Option<Connection>>,
}

impl Client {
    pub(crate) fn new(config: EtcdConfig) -> Self {
        let member = |url: &String| Member {
            url: url.clone(),
            connection: tokio::sync::Mutex::default(),
        };
        let first = rand::random_range(0..config.urls.len().max(1));
        Self {
            members: config.urls.iter().map(member).collect(),
            metrics: Metrics::new(&config.urls, first),
            space: Space::default(),
            current: AtomicUsize::new(first),
            term: AtomicU64::new(0),
            probe: tokio::sync::Mutex::new(range_one(Keys::new(&config.root).head())),
            config,
            token: Mutex::new(None),
        }
    }

    /// How long a call may take, with all its attempts.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.config.call_timeout()
    }

    /// Asks the member that is asked now, and others where it fails or is silent, for at most [`EtcdConfig::call_timeout`].
    /// Only for what may be done twice.
    pub(crate) async fn ask<Req, Res>(&self, path: &'static str, message: Req) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Answer,
    {
        let member = self.current.load(Ordering::Relaxed);
        self.ask_around(member, path, &message).await
    }

    /// Asks a member; the next at once where that one fails, and one more now and then while nobody answers. The first answer
    /// counts, and shows who hangs.
    async fn ask_around<Req, Res>(
        &self,
        first: usize,
        path: &'static str,
        message: &Req,
    ) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Answer,
    {
        let end = tokio::time::sleep(self.config.call_timeout());
        tokio::pin!(end);
        let mut round = Round::new(first, self.members.len());
        let mut calls = FuturesUnordered::new();
        let mut failure = None;
        let mut at_once = true;
        loop {
            if at_once && let Some(member) = round.next(Instant::now().into_std()) {
                let message = message.clone();
                calls.push(async move {
                    let patience = self.config.attempt_timeout;
                    (member, self.ask_once(member, path, message, patience).await)
                });
            }
            let (member, answered) = tokio::select! {
                Some(answered) = calls.next() => answered,
                () = tokio::time::sleep(self.config.hedge_after()), if round.has_next() => {
                    self.metrics.retries.inc();
                    at_once = true;
                    continue;
                }
                () = &mut end => return Err(failure.unwrap_or_else(|| Failure::Lost(GivenUp::Late.into()))),
            };
            match answered {
                Err(failed @ (Failure::NotSent(_) | Failure::Lost(_))) => {
                    round.fail(member);
                    if calls.is_empty() && !round.has_next() {
                        return Err(failed);
                    }
                    failure = Some(failed);
                    at_once = round.has_new();
                    self.metrics.retries.inc_by(u64::from(at_once));
                }
                answered => {
                    let hanging = round.hanging(member, Instant::now().into_std());
                    hanging.into_iter().for_each(|member| self.give_up(member));
                    return answered;
                }
            }
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
        Res: Answer,
    {
        let mut attempts_left = self.members.len();
        loop {
            attempts_left -= 1;
            let member = self.current.load(Ordering::Relaxed);
            let term = self.term.load(Ordering::Relaxed);
            let attempt = self.ask_once(member, path, message.clone(), self.call_timeout() / 2);
            let answered = tokio::select! {
                answered = attempt => answered,
                () = self.await_election(member, term) => Err(Failure::Lost(GivenUp::Elected.into())),
            };
            match answered {
                Err(Failure::NotSent(_)) if attempts_left > 0 => {
                    self.metrics.retries.inc();
                }
                answered => return answered,
            }
        }
    }

    /// Beside a call that must not be done twice: finds out whether its member hangs, by asking it for something else, and
    /// waits until the leader is another than when it was sent, who may never have heard of it, and a moment longer.
    async fn await_election(&self, member: usize, term: u64) {
        let is_another = || term != 0 && self.term.load(Ordering::Relaxed) > term;
        let mut known = false;
        loop {
            tokio::time::sleep(self.config.hedge_after()).await;
            if known {
                return;
            }
            // One asks for all who wait.
            if let Ok(probe) = self.probe.try_lock() {
                let _: Result<RangeResponse, _> = self.ask_around(member, RANGE, &*probe).await;
            }
            known = is_another();
        }
    }

    async fn ask_once<Req, Res>(
        &self,
        member: usize,
        path: &'static str,
        message: Req,
        patience: Duration,
    ) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Answer,
    {
        let asked = Instant::now();
        let answered: Result<Res, _> = self.attempt(member, path, message, patience).await;
        self.metrics.asked(path, &answered, asked.elapsed());
        self.space.asked(path, &answered);
        let header = answered.as_ref().ok().and_then(Answer::header);
        if let Some(header) = header {
            self.term.fetch_max(header.raft_term, Ordering::Relaxed);
        }
        answered
    }

    async fn attempt<Req, Res>(
        &self,
        member: usize,
        path: &'static str,
        message: Req,
        patience: Duration,
    ) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Answer,
    {
        let connection = self.connection(member).await.map_err(Failure::NotSent)?;
        let until = Instant::now() + patience;
        let called = self.call(&connection, path, message, until);
        let answered = connection.unless_it_hangs(called).await;
        if matches!(&answered, Err(Failure::NotSent(_) | Failure::Lost(_))) {
            self.leave(&connection).await;
        }
        answered
    }

    /// A token lapses, and every change of etcd's users makes it old: what it was refused for was not done, and is asked anew,
    /// once, with another.
    async fn call<Req, Res>(
        &self,
        connection: &Connection,
        path: &'static str,
        message: Req,
        until: Instant,
    ) -> Result<Res, Failure>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let token = self.token(connection, until).await?;
        let first = unary(connection, path, request(message.clone(), token.as_ref()), until).await;
        if !matches!(&first, Err(failure) if failure.is_of_token() && self.forget(token.as_ref())) {
            return first;
        }
        let token = self.token(connection, until).await?;
        unary(connection, path, request(message, token.as_ref()), until).await
    }

    /// How long one member may take.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.config.attempt_timeout
    }

    /// Opens a stream that begins with this message, and stays open on our side. It has to be open within `patience`.
    pub(crate) async fn stream<Req, Res>(
        &self,
        path: &'static str,
        message: Req,
        patience: Duration,
    ) -> Result<(Connection, Streaming<Res>), Failure>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let asked = Instant::now();
        let opened = self.open(path, message, patience).await;
        self.metrics.asked(path, &opened, asked.elapsed());
        opened
    }

    async fn open<Req, Res>(
        &self,
        path: &'static str,
        message: Req,
        patience: Duration,
    ) -> Result<(Connection, Streaming<Res>), Failure>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let member = self.current.load(Ordering::Relaxed);
        let connection = self.connection(member).await.map_err(Failure::NotSent)?;
        let until = Instant::now() + patience;
        let token = self.token(&connection, until).await?;
        let first = streaming(&connection, path, message.clone(), token.as_ref(), until).await;
        let opened = match first {
            Err(failure) if failure.is_of_token() && self.forget(token.as_ref()) => {
                let token = self.token(&connection, until).await?;
                streaming(&connection, path, message, token.as_ref(), until).await
            }
            first => first,
        };
        if matches!(opened, Err(Failure::NotSent(_) | Failure::Lost(_))) {
            self.leave(&connection).await;
        }
        Ok((connection, opened?))
    }

    /// The token that calls carry, where etcd asks for a name: the one that is known, or another.
    async fn token(&self, connection: &Connection, until: Instant) -> Result<Option<Token>, Failure> {
        let Some((name, password)) = &self.config.login else {
            return Ok(None);
        };
        let known = self.token.lock().clone();
        if known.is_some() {
            return Ok(known);
        }
        let login = AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let path = "/etcdserverpb.Auth/Authenticate";
        // Nothing of the call itself was sent yet.
        let answer: AuthenticateResponse = unary(connection, path, request(login, None), until)
            .await
            .map_err(|failure| match failure {
                Failure::Lost(source) => Failure::NotSent(source),
                other => other,
            })?;
        let token: Token = answer.token.parse().map_err(|e| Failure::NotSent(Box::new(e)))?;
        self.token.lock().replace(token.clone());
        Ok(Some(token))
    }

    /// Has the next call ask for another token, unless somebody has done so already. Whether there was one at all.
    fn forget(&self, refused: Option<&Token>) -> bool {
        let mut known = self.token.lock();
        if refused.is_some() && known.as_ref() == refused {
            *known = None;
        }
        refused.is_some()
    }

    /// Has the next call ask for another token, since a stream said that its own is worth nothing. Whether there was one.
    pub(crate) fn forget_token(&self) -> bool {
        self.token.lock().take().is_some()
    }

    /// The connection to a member. Nobody waits longer than one connection may take, however many wait for the same one.
    async fn connection(&self, index: usize) -> Result<Connection, Box<dyn Error + Send + Sync>> {
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
            hangs: Arc::new(watch::Sender::new(false)),
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

    /// Gives a member up that hangs, for all who wait for it.
    fn give_up(&self, member: usize) {
        self.pass_over(member);
        let held = self
            .members
            .get(member)
            .map(|member| member.connection.try_lock());
        // Else somebody is connecting: nobody waits for an answer.
        if let Some(Ok(mut held)) = held
            && let Some(connection) = held.take()
        {
            connection.hangs.send_replace(true);
            connection.broken.send_replace(true);
            tracing::info!(
                etcd.url = self.members[member].url,
                "A member of etcd hangs; asking another."
            );
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
