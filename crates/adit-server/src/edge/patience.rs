//! How long a client is waited for, and what for.
//!
//! ```text
//!           bytes          request whole         reply handed over
//!   idle ──────────▶ head ──────────────▶ busy ────────────────────▶ idle
//! ```
//!
//! [`Pace`] is pure: it is told what happens on a connection and when, and says until when something has to happen next.
//! `Paced` tells it of the bytes, `Exchange` of the requests. A slow body is not its affair: `unread` ends it with an answer.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// How long a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the head of a request, from its first byte on; on a new connection, from the beginning.
    pub head: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// For the next request.
    pub idle: Duration,
    /// For the client to take anything of what it is sent.
    pub stall: Duration,
    /// For all of one request: from its head until its reply is handed over.
    pub exchange: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(15),
            body: Duration::from_secs(15),
            // Longer than clients' pools keep a connection for reuse, or they find it closed just when they want it.
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            exchange: Duration::from_secs(300),
        }
    }
}

/// What a client was waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Cut {
    #[error("the client did not finish the head of a request")]
    Head,
    #[error("the client sent no further request")]
    Idle,
    #[error("the client took nothing of its reply")]
    Stall,
    #[error("a request was not over in time")]
    Exchange,
}

impl Cut {
    pub(super) const ALL: [Self; 4] = [Self::Head, Self::Idle, Self::Stall, Self::Exchange];

    /// In metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Stall => "stall",
            Self::Exchange => "exchange",
        }
    }
}

/// What a connection is waiting for.
#[derive(Debug)]
struct Pace {
    patience: Patience,
    /// Whether requests come side by side; then bytes alone do not mean that one has begun.
    multiplexed: bool,
    /// When each request in progress began.
    exchanges: BTreeMap<u64, Instant>,
    next_exchange: u64,
    /// Since when nothing has been in progress.
    idle_since: Instant,
    /// When the head of the next request began.
    head_since: Option<Instant>,
    /// Since when the client has taken nothing of what waits for it.
    stalled_since: Option<Instant>,
}

impl Pace {
    fn new(patience: Patience, multiplexed: bool, now: Instant) -> Self {
        Self {
            patience,
            multiplexed,
            exchanges: BTreeMap::new(),
            next_exchange: 0,
            idle_since: now,
            head_since: Some(now),
            stalled_since: None,
        }
    }

    /// Bytes came.
    fn heard(&mut self, now: Instant) {
        if self.exchanges.is_empty() && !self.multiplexed {
            self.head_since.get_or_insert(now);
        }
    }

    /// The client took bytes.
    fn took(&mut self, now: Instant) {
        self.stalled_since = None;
        if self.exchanges.is_empty() {
            self.idle_since = now;
        }
    }

    /// The client takes none at the moment.
    fn takes_none(&mut self, now: Instant) {
        self.stalled_since.get_or_insert(now);
    }

    /// The client has taken everything.
    fn took_all(&mut self) {
        self.stalled_since = None;
    }

    fn begin(&mut self, now: Instant) -> u64 {
        self.head_since = None;
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.exchanges.insert(exchange, now);
        exchange
    }

    fn end(&mut self, exchange: u64, now: Instant) {
        self.exchanges.remove(&exchange);
        self.idle_since = now;
    }

    /// Until when something has to happen, and what it means if it does not.
    fn deadline(&self) -> (Instant, Cut) {
        let Patience {
            head,
            idle,
            stall,
            exchange,
            ..
        } = self.patience;
        let next = match (self.exchanges.first_key_value(), self.head_since) {
            (Some((_, begun)), _) => (*begun + exchange, Cut::Exchange),
            (None, Some(since)) => (since + head, Cut::Head),
            (None, None) => (self.idle_since + idle, Cut::Idle),
        };
        match self.stalled_since.map(|since| (since + stall, Cut::Stall)) {
            Some(stalled) if stalled.0 < next.0 => stalled,
            _ => next,
        }
    }
}

/// The pace of one connection, shared by those who see what happens on it.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<Mutex<Pace>>);

impl Watch {
    pub(super) fn new(patience: Patience, multiplexed: bool) -> Self {
        Self(Arc::new(Mutex::new(Pace::new(
            patience,
            multiplexed,
            Instant::now(),
        ))))
    }

    /// A request begins, until the answer is dropped.
    pub(super) fn begin(&self) -> Exchange {
        let number = self.0.lock().begin(Instant::now());
        Exchange {
            watch: self.clone(),
            number,
        }
    }

    /// Runs a connection for as long as its client keeps pace.
    pub(super) async fn over<T>(&self, connection: impl Future<Output = T>) -> Result<T, Cut> {
        let idle = self.0.lock().patience.idle;
        let mut connection = std::pin::pin!(connection);
        let mut alarm = std::pin::pin!(tokio::time::sleep_until(self.0.lock().deadline().0));
        std::future::poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Ok(ended));
            }
            loop {
                let (deadline, cut) = self.0.lock().deadline();
                let now = Instant::now();
                if deadline <= now {
                    return Poll::Ready(Err(cut));
                }
                // Requests that end in tasks of their own do not wake us: at the latest after an idle time we look again.
                let look = deadline.min(now + idle);
                if alarm.deadline() > look || alarm.is_elapsed() {
                    alarm.as_mut().reset(look);
                }
                if alarm.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct Exchange {
    watch: Watch,
    number: u64,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.watch.0.lock().end(self.number, Instant::now());
    }
}

/// A reply's body, whose request is in progress for as long as this is.
pub(super) struct Reply {
    pub(super) body: Body,
    pub(super) _exchange: Exchange,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A stream that tells its connection's pace of the bytes.
pub(super) struct Paced<S> {
    pub(super) stream: S,
    pub(super) watch: Watch,
}

impl<S> Paced<S> {
    fn sent<T>(&self, sent: &Poll<io::Result<T>>, all: bool) {
        let mut pace = self.watch.0.lock();
        match sent {
            Poll::Pending => pace.takes_none(Instant::now()),
            Poll::Ready(_) if all => pace.took_all(),
            Poll::Ready(_) => pace.took(Instant::now()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.watch.0.lock().heard(Instant::now());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(&sent, false);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.sent(&sent, false);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(context);
        self.sent(&sent, true);
        sent
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_shutdown(context);
        self.sent(&sent, true);
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(1),
        body: Duration::from_secs(2),
        idle: Duration::from_secs(10),
        stall: Duration::from_secs(3),
        exchange: Duration::from_secs(100),
    };

    struct Told {
        pace: Pace,
        begin: Instant,
    }

    impl Told {
        fn new(multiplexed: bool) -> Self {
            let begin = Instant::now();
            Self {
                pace: Pace::new(PATIENCE, multiplexed, begin),
                begin,
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.begin + Duration::from_secs(seconds)
        }

        fn until(&self) -> (u64, Cut) {
            let (deadline, cut) = self.pace.deadline();
            ((deadline - self.begin).as_secs(), cut)
        }
    }

    #[test]
    fn a_head_is_waited_for_from_its_first_byte_and_the_first_from_the_beginning() {
        let mut told = Told::new(false);
        assert_eq!(told.until(), (1, Cut::Head));
        told.pace.heard(told.at(5));
        assert_eq!(told.until(), (1, Cut::Head), "more of it is no new one");
        let first = told.pace.begin(told.at(6));
        assert_eq!(told.until(), (106, Cut::Exchange));
        told.pace.heard(told.at(7));
        told.pace.end(first, told.at(20));
        assert_eq!(told.until(), (30, Cut::Idle), "what came meanwhile was its body");
        told.pace.heard(told.at(25));
        assert_eq!(told.until(), (26, Cut::Head));
    }

    #[test]
    fn who_reads_slowly_is_waited_for_and_who_does_not_read_is_not() {
        let mut told = Told::new(false);
        let first = told.pace.begin(told.at(0));
        told.pace.takes_none(told.at(1));
        told.pace.takes_none(told.at(2));
        assert_eq!(told.until(), (4, Cut::Stall));
        told.pace.took(told.at(3));
        assert_eq!(told.until(), (100, Cut::Exchange));
        told.pace.end(first, told.at(3));
        // The rest of the reply is in our buffers, and goes out bit by bit.
        told.pace.took(told.at(9));
        assert_eq!(told.until(), (19, Cut::Idle));
        told.pace.takes_none(told.at(10));
        assert_eq!(told.until(), (13, Cut::Stall));
        told.pace.took_all();
        assert_eq!(told.until(), (19, Cut::Idle));
    }

    #[test]
    fn of_requests_side_by_side_the_oldest_counts_and_frames_are_no_requests() {
        let mut told = Told::new(true);
        let first = told.pace.begin(told.at(0));
        let second = told.pace.begin(told.at(5));
        assert_eq!(told.until(), (100, Cut::Exchange));
        told.pace.end(first, told.at(6));
        assert_eq!(told.until(), (105, Cut::Exchange));
        told.pace.end(second, told.at(7));
        told.pace.heard(told.at(8));
        assert_eq!(told.until(), (17, Cut::Idle));
    }
}
