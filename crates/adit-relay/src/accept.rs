//! From a client that waits on a listener to a session: who is let in, and the socket to the backend.

use rustix::event::epoll;
use rustix::io::Errno;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::control::Route;
use crate::namespace::Whereabouts;
use crate::proxy_protocol::Header;
use crate::record::{Record, Recorder};
use crate::session::{Opening, Parties, Session, Side, interest};
use crate::slab::Key;
use crate::socket;
use crate::stats::End;
use crate::toa::{Registrar, Registration};
use crate::worker::{Serving, Token, Worker, spare_descriptor};

/// Connections that one listener may take in before others get their turn.
const ACCEPTS_PER_TURN_MAX: u32 = 4;
/// What of a client's first words is taken before its backend is connected, so that they leave with the header: a request or a
/// TLS hello, and no more, since it is held for each connection that waits.
const EARLY_BYTES_MAX: usize = 2 << 10;

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
        self.queue_listener(key);
    }

    /// Has a listener wait for its turn.
    pub(crate) fn queue_listener(&mut self, key: Key) {
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
        let result = socket::accept(&serving.listen.socket);
        let result = result.map(|(client, from)| {
            serving.mapping.counters.refuse(End::OutOfDescriptors);
            let (Ok(backend) | Err(backend)) = serving.route.backend(&client);
            socket::reset(client);
            let recorder = self.recorder.as_ref();
            note(
                recorder,
                serving,
                from,
                backend,
                Instant::now(),
                End::OutOfDescriptors,
            );
        });
        self.spare = spare_descriptor();
        result
    }

    fn take_in(&mut self, key: Key, client: OwnedFd, from: SocketAddrV4) {
        let began = Instant::now();
        let Some(serving) = self.listeners.get_mut(key) else {
            return;
        };
        let (mapping, route) = (&serving.mapping, &serving.route);
        let (to, admitted) = match route.backend(&client) {
            Ok(to) => (to, mapping.admit(*from.ip())),
            Err(to) => {
                mapping.counters.refuse(End::NotAllowed);
                (to, Err(End::NotAllowed))
            }
        };
        if let Err(end) = admitted {
            socket::reset(client);
            return note(self.recorder.as_ref(), serving, from, to, began, end);
        }
        let reached = if self.budget.take_connection() {
            let room = &mut self.means.buffer[..EARLY_BYTES_MAX];
            let reached = socket::first_bytes(&client, room)
                .map_err(|errno| (End::ClientReset, errno))
                .and_then(|early| {
                    let opening = open(route.header.as_ref(), from, mapping.dialled(to), &room[..early]);
                    let speaks = !opening.bytes.is_empty();
                    let reached = reach(&mut self.whereabouts, self.toa.as_mut(), route, from, to, speaks)?;
                    Ok((reached, opening))
                });
            reached.inspect_err(|_| self.budget.give_connection())
        } else {
            Err((End::OutOfDescriptors, Errno::MFILE))
        };
        let (reached, opening) = match reached {
            Ok(reached) => reached,
            Err((end, error)) => {
                tracing::debug!(owner = %format_args!("{:032x}", mapping.owner.endpoint), backend = %to, %error,
                    end = end.name(), "a connection does not reach its backend");
                mapping.counters.end(end);
                socket::reset(client);
                return note(self.recorder.as_ref(), serving, from, to, began, end);
            }
        };
        let parties = Parties {
            client: from,
            source: reached.source,
            backend: to,
            began,
        };
        let session = Session::new(
            client,
            reached.socket,
            parties,
            mapping.clone(),
            opening,
            reached.toa,
            self.tick,
        );
        match self.sessions.insert(session) {
            Ok(session) => {
                if let Err(error) = self.watch(session) {
                    tracing::debug!(%error, "a connection cannot be watched");
                    self.end(session, End::Failed);
                }
            }
            Err(session) => self.end_session(session, End::OutOfDescriptors),
        }
    }

    /// One registration per socket, for its whole life.
    fn watch(&mut self, key: Key) -> Result<(), Errno> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        for side in [Side::Client, Side::Backend] {
            epoll::add(
                &self.epoll,
                session.socket(side),
                Token::Socket(key, side).data(),
                interest(true),
            )?;
        }
        Ok(())
    }
}

/// What goes to the backend at once: the header that its mode has, and then what the client has said.
fn open(header: Option<&Header>, from: SocketAddrV4, dialled: SocketAddrV4, early: &[u8]) -> Opening {
    let header = header.map(|header| header.encode(from, dialled));
    let header = header.unwrap_or_default();
    Opening {
        bytes: if early.is_empty() {
            header
        } else {
            [&header, early].concat().into()
        },
        early: early.len() as u32,
    }
}

/// A socket that is going to be connected to a backend.
struct Reached {
    socket: OwnedFd,
    /// Where the backend sees it come from.
    source: SocketAddrV4,
    toa: Option<Registration>,
}

/// Begins a connect in the provider's namespace. `speaks` if there is something to say as soon as it is connected.
fn reach(
    whereabouts: &mut Whereabouts,
    toa: Option<&mut Registrar>,
    route: &Route,
    from: SocketAddrV4,
    to: SocketAddrV4,
    speaks: bool,
) -> Result<Reached, (End, Errno)> {
    whereabouts.enter(&route.namespace).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        (End::NamespaceGone, errno)
    })?;
    let socket = socket::outgoing(route.source)?;
    if speaks {
        socket::speak_at_once(&socket);
    }
    let toa = if route.toa {
        let registrar = toa.ok_or((End::NoToa, Errno::OPNOTSUPP))?;
        Some(registrar.connect(&socket, from, to)?)
    } else {
        socket::connect(&socket, to)?;
        None
    };
    let source = socket::source(&socket).map_err(|errno| (End::Failed, errno))?;
    Ok(Reached { socket, source, toa })
}

/// Records a client that did not get as far as a session.
fn note(
    recorder: Option<&Recorder>,
    serving: &Serving,
    client: SocketAddrV4,
    backend: SocketAddrV4,
    began: Instant,
    end: End,
) {
    if let Some(recorder) = recorder {
        recorder.put(Record {
            end: Some(end),
            ..serving.mapping.record(client, backend, began)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy_protocol::{Identity, Profile, TlvTypes};

    #[test]
    fn a_header_goes_before_a_client_s_first_words() {
        let identity = Identity {
            endpoint: 1,
            marker: 7,
            vni: None,
        };
        let header = Header::new(Profile::Vpcep, &identity, TlvTypes::default(), false);
        let (from, dialled) = (
            "10.0.0.50:4321".parse().unwrap(),
            "10.0.0.100:80".parse().unwrap(),
        );
        let encoded = header.encode(from, dialled);
        for (header, early, bytes) in [
            (None, "", Vec::new()),
            (None, "GET /", b"GET /".to_vec()),
            (Some(&header), "", encoded.to_vec()),
            (Some(&header), "GET /", [&encoded, &b"GET /"[..]].concat()),
        ] {
            let opening = open(header, from, dialled, early.as_bytes());
            assert_eq!(*opening.bytes, *bytes);
            assert_eq!(opening.early as usize, early.len());
        }
    }
}
