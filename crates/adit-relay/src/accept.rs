//! From a client that waits on a listener to a session: who is let in, and the socket to the backend.

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use crate::session::{Session, Side};
use crate::slab::Key;
use crate::socket;
use crate::stats::End;
use crate::worker::{Token, Worker, spare_descriptor};

/// Connections that one listener may take in before others get their turn.
const ACCEPTS_PER_TURN_MAX: u32 = 64;

impl Worker {
    /// Takes in what waits on a listener, up to a turn's share.
    pub(crate) fn accept_turn(&mut self, key: Key) {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            let Some(serving) = self.listeners.get_mut(key) else {
                return;
            };
            match socket::accept(&serving.listen.socket) {
                Ok((client, from)) => self.take_in(key, client, from),
                Err(Errno::AGAIN) => return,
                // The kernel reports on the one connection here, not on the listener.
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::PROTO
                    | Errno::NOPROTOOPT
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::NONET
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::OPNOTSUPP
                    | Errno::PERM,
                ) => {}
                // Without a descriptor the kernel does not even say whether somebody waits.
                Err(Errno::MFILE | Errno::NFILE) => match self.refuse_with_the_spare(key) {
                    Ok(()) => {}
                    Err(Errno::AGAIN) => return,
                    Err(error) => return self.stall(key, error),
                },
                Err(error) => return self.stall(key, error),
            }
        }
        if self.queue(key) {
            self.ready.push_back(Token::Listener(key));
        }
    }

    /// Marks a listener as one that will get its turn; false if it has a place already, or is gone.
    fn queue(&mut self, key: Key) -> bool {
        self.listeners
            .get_mut(key)
            .is_some_and(|serving| !std::mem::replace(&mut serving.queued, true))
    }

    /// Nothing can be had now, and no event will say when. Asking at once again would spin.
    fn stall(&mut self, key: Key, error: Errno) {
        tracing::debug!(%error, "a listener cannot accept; trying again with the next tick");
        if self.queue(key) {
            self.stalled.push(key);
        }
    }

    /// Gives the spare descriptor up for the moment that it takes to reset one client.
    fn refuse_with_the_spare(&mut self, key: Key) -> Result<(), Errno> {
        drop(self.spare.take());
        let Some(serving) = self.listeners.get_mut(key) else {
            return Ok(());
        };
        let result = socket::accept(&serving.listen.socket).map(|(client, _)| {
            serving.mapping.counters.refuse(End::OutOfDescriptors);
            socket::reset(client);
        });
        self.spare = spare_descriptor();
        result
    }

    fn take_in(&mut self, key: Key, client: OwnedFd, from: SocketAddrV4) {
        let Some(serving) = self.listeners.get_mut(key) else {
            return;
        };
        let (mapping, route) = (&serving.mapping, &serving.route);
        let counters = &mapping.counters;
        if mapping.admit(*from.ip()).is_err() {
            return socket::reset(client);
        }
        if !self.budget.take_connection() {
            counters.end(End::OutOfDescriptors);
            return socket::reset(client);
        }
        let backend = self
            .whereabouts
            .enter(&route.namespace)
            .map_err(|error| {
                (
                    End::NamespaceGone,
                    Errno::from_io_error(&error).unwrap_or(Errno::IO),
                )
            })
            .and_then(|()| {
                let backend = socket::outgoing(route.source)?;
                if route.toa {
                    let toa = self.toa.as_mut().ok_or((End::NoToa, Errno::OPNOTSUPP))?;
                    toa.register(&backend, from)
                        .map_err(|errno| (End::NoToa, errno))?;
                }
                socket::connect(&backend, route.backend)?;
                Ok(backend)
            });
        let backend = match backend {
            Ok(backend) => backend,
            Err((end, error)) => {
                tracing::debug!(owner = %format_args!("{:032x}", counters.owner()), backend = %route.backend, %error,
                    end = end.name(), "a connection does not reach its backend");
                counters.end(end);
                self.budget.give_connection();
                return socket::reset(client);
            }
        };
        let preface = match &route.header {
            Some(header) => header.encode(from, mapping.address),
            None => Box::default(),
        };
        let session = Session::new(client, backend, mapping.clone(), preface, route.toa, self.tick);
        let session = match self.sessions.insert(session) {
            Ok(session) => session,
            Err(session) => {
                session.end(End::OutOfDescriptors, &mut self.means.pipes);
                return self.budget.give_connection();
            }
        };
        if let Err(error) = self.watch(session) {
            tracing::debug!(%error, "a connection cannot be watched");
            self.end(session, End::Failed);
        }
    }

    /// One registration per socket, for its whole life.
    fn watch(&mut self, key: Key) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        for side in [Side::Client, Side::Backend] {
            epoll::add(
                &self.epoll,
                session.socket(side),
                Token::Socket(key, side).data(),
                flags,
            )?;
        }
        Ok(())
    }
}
