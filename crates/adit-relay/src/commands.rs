//! What a worker does when the control side asks: make, serve, retarget and close listeners, end connections, stop.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;

use crate::control::{Command, ListenSocket, Mapping, Route};
use crate::error::OpenError;
use crate::namespace::Namespace;
use crate::record::Record;
use crate::slab::{Key, Slab};
use crate::socket;
use crate::spec::{Close, ListenerId};
use crate::stats::End;
use crate::worker::{Draining, Serving, Token, Worker};

impl Worker {
    /// Does what the control side asked for.
    pub(crate) fn obey(&mut self) {
        let mut count = [0_u8; 8];
        // Empty it first: what is sent from here on rings again.
        let _ = rustix::io::read(&self.wake, &mut count);
        while let Ok(command) = self.commands.try_recv() {
            // An answer that nobody waits for any more is dropped, and what is in it closed.
            match command {
                Command::Bind {
                    consumer,
                    provider,
                    address,
                    count,
                    answer,
                } if self.stop_by.is_none() => {
                    let _ = answer.send(self.bind(&consumer, &provider, address, count));
                }
                Command::Serve {
                    mapping,
                    route,
                    socket,
                    answer,
                } if self.stop_by.is_none() => {
                    let _ = answer.send(self.serve(mapping, route, socket));
                }
                // Without an answer the caller learns that the relay has stopped.
                Command::Bind { .. } | Command::Serve { .. } => {}
                Command::Retarget { id, route, answer } => {
                    let _ = answer.send(self.retarget(id, &route));
                }
                Command::Close { id, how, answer } => {
                    self.close(id, how);
                    // Before the answer: whoever gets it may want the namespaces gone.
                    self.whereabouts.go_home();
                    let _ = answer.send(());
                }
                Command::End { owner, how, answer } => {
                    self.end_as(Draining::Owner(owner), how);
                    let _ = answer.send(());
                }
                Command::Who { source, answer } => {
                    let _ = answer.send(self.who(source));
                }
                Command::Stop { how } => self.stop(how),
            }
        }
        self.whereabouts.go_home();
    }

    fn bind(
        &mut self,
        consumer: &Namespace,
        provider: &Namespace,
        address: SocketAddrV4,
        count: usize,
    ) -> Result<(SocketAddrV4, Vec<OwnedFd>), OpenError> {
        // The provider's is entered only to know that it can be.
        for (leg, namespace) in [("provider", provider), ("consumer", consumer)] {
            self.whereabouts
                .enter(namespace)
                .map_err(|source| OpenError::Namespace { leg, source })?;
        }
        socket::listen(address, count).map_err(|errno| match errno {
            Errno::ADDRINUSE => OpenError::AddressInUse(address),
            Errno::ADDRNOTAVAIL => OpenError::AddressNotAvailable(address),
            Errno::MFILE | Errno::NFILE => OpenError::Descriptors {
                used: self.budget.used(),
                budget: self.budget.total(),
            },
            errno => OpenError::Other {
                address,
                source: errno.into(),
            },
        })
    }

    fn serve(&mut self, mapping: Arc<Mapping>, route: Route, listen: ListenSocket) -> io::Result<()> {
        if mapping.abandoned.load(Relaxed) {
            return Ok(());
        }
        let no_room = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let key = self
            .listeners
            .insert(Serving {
                mapping,
                route,
                listen,
                queued: false,
            })
            .map_err(no_room)?;
        let Some(serving) = self.listeners.get_mut(key) else {
            return Ok(());
        };
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        let added = epoll::add(
            &self.epoll,
            serving.listen.socket.as_fd(),
            Token::Listener(key).data(),
            flags,
        );
        if added.is_err() {
            self.listeners.remove(key);
        }
        Ok(added?)
    }

    fn retarget(&mut self, id: ListenerId, route: &Route) -> io::Result<bool> {
        self.whereabouts.enter(&route.namespace)?;
        let keys = self.served(id);
        for key in &keys {
            if let Some(serving) = self.listeners.get_mut(*key) {
                serving.route = route.clone();
            }
        }
        Ok(!keys.is_empty())
    }

    /// The sockets of a listener that are served here: one as a rule.
    fn served(&self, id: ListenerId) -> Vec<Key> {
        let ours = self
            .listeners
            .iter()
            .filter(|(_, serving)| serving.mapping.id == id);
        ours.map(|(key, _)| key).collect()
    }

    fn close(&mut self, id: ListenerId, how: Close) {
        for key in self.served(id) {
            self.listeners.remove(key);
        }
        self.end_as(Draining::Listener(id), how);
    }

    /// Ends connections now, or by a deadline that takes the place of an earlier one.
    fn end_as(&mut self, draining: Draining, how: Close) {
        self.drains.retain(|(_, earlier)| *earlier != draining);
        match how {
            Close::Cut => self.end_where(End::Cut, |session| draining.concerns(session)),
            Close::Drain { within } => {
                if self
                    .sessions
                    .iter()
                    .any(|(_, session)| draining.concerns(session))
                {
                    self.drains.push((later(within), draining));
                }
            }
        }
    }

    fn who(&self, source: SocketAddrV4) -> Vec<Record> {
        let theirs = self
            .sessions
            .iter()
            .filter(|(_, session)| session.source() == source);
        theirs.map(|(_, session)| session.record(None)).collect()
    }

    fn stop(&mut self, how: Close) {
        // Taking the listeners out closes their sockets.
        self.listeners = Slab::new();
        self.stalled.clear();
        self.ready.retain(|token| !matches!(token, Token::Listener(_)));
        match how {
            Close::Cut => {
                self.stop_by = Some(Instant::now());
                self.end_where(End::Cut, |_| true);
            }
            Close::Drain { within } => self.stop_by = Some(later(within)),
        }
    }
}

/// A drain's deadline; one beyond what the clock can say is as good as a year.
fn later(within: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(within)
        .unwrap_or(now + Duration::from_secs(365 * 24 * 3_600))
}
