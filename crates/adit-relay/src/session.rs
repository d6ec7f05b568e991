//! One connection: the client's socket, the backend's, and the bytes on their way.
//!
//! Each direction copies through the worker's one buffer at first. Once it has moved
//! [`SPLICE_AFTER_BYTES`] it splices through a pooled pipe, as long as much comes at once. While
//! nothing is on its way a connection owns no buffer and no pipe.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{self, SpliceFlags};

use crate::control::Mapping;
use crate::direction::{Direction, Filled, Step};
use crate::pipes::{Pipe, Pipes};
use crate::record::Record;
use crate::socket;
use crate::spec::ListenerId;
use crate::stats::End;
use crate::toa::{Registrar, Registration};

/// The worker's buffer: what one copy moves at most.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;
/// A direction that has moved so much is spliced: below it two more system calls cost more than the copy.
const SPLICE_AFTER_BYTES: u64 = 64 << 10;
/// A direction of which less came the last time is copied again: requests and answers travel on long connections too, and a
/// splice takes three system calls for each where a copy takes two.
const SPLICE_AT_ONCE_BYTES_MIN: u32 = 16 << 10;
/// What one copy moves then, or when there is no pipe to splice through: bounds what a slow reader can make us hold.
const LATE_COPY_BYTES_MAX: usize = 64 << 10;
/// What one splice is asked to move; the pipe takes less.
const SPLICE_BYTES_MAX: usize = 1 << 20;
/// What one connection may move before the others of its worker get their turn.
const TURN_BYTES_MAX: u64 = 1 << 20;
/// Who has moved so much in one turn lets others go first in the next.
const HEAVY_TURN_BYTES: u64 = 64 << 10;
/// Steps that one connection may take in a turn, for those that move very little with each.
const TURN_STEPS_MAX: u32 = 256;

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

/// What a worker lends to the connection whose turn it is.
pub(crate) struct Means {
    pub(crate) buffer: Box<[u8]>,
    pub(crate) pipes: Pipes,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing to do until an event.
    Wait,
    /// There is more to do; others first.
    Again,
    /// It is over.
    Over(End),
}

/// Bytes taken from a source and not yet out.
#[derive(Debug)]
enum Carry {
    Nothing,
    Bytes { bytes: Box<[u8]>, out: u32 },
    Pipe(Pipe),
}

#[derive(Debug)]
struct Flow {
    direction: Direction,
    carry: Carry,
}

impl Flow {
    fn new(opening: Opening) -> Self {
        let Opening { bytes, early } = opening;
        let preface = bytes.len() as u32 - early;
        let carry = if bytes.is_empty() {
            Carry::Nothing
        } else {
            Carry::Bytes { bytes, out: 0 }
        };
        Self {
            direction: Direction::new(preface, early),
            carry,
        }
    }
}

/// What goes to the backend as soon as it is connected.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// A header of ours, and what the client had said when it was let in.
    pub(crate) bytes: Box<[u8]>,
    /// How many of the bytes, at the end, are the client's.
    pub(crate) early: u32,
}

/// Who talks to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties {
    pub(crate) client: SocketAddrV4,
    /// Where the backend sees the client come from.
    pub(crate) source: SocketAddrV4,
    pub(crate) backend: SocketAddrV4,
    pub(crate) began: Instant,
}

#[derive(Debug)]
pub(crate) struct Session {
    client: OwnedFd,
    backend: OwnedFd,
    parties: Parties,
    mapping: Arc<Mapping>,
    /// How long the backend took to answer; beyond an hour it does not matter how much.
    connected_after_us: u32,
    to_backend: Flow,
    to_client: Flow,
    /// The worker's tick at which it began, was connected, or last moved a byte.
    pub(crate) last_tick: u32,
    pub(crate) connecting: bool,
    /// Whether it waits for a turn in the worker's queue.
    pub(crate) queued: bool,
    /// Whether it moved much in its last turn.
    heavy: bool,
    /// If it is still to be seen that the client's address goes out in the TCP header.
    toa: Option<Registration>,
    /// Whether the kernel asks both ends now and then if they are still there.
    kept_alive: bool,
    /// Whether epoll tells of bytes that come: from the client, from the backend.
    told: [bool; 2],
}

impl Session {
    pub(crate) fn new(
        client: OwnedFd,
        backend: OwnedFd,
        parties: Parties,
        mapping: Arc<Mapping>,
        opening: Opening,
        toa: Option<Registration>,
        tick: u32,
    ) -> Self {
        Self {
            client,
            backend,
            parties,
            mapping,
            connected_after_us: 0,
            to_backend: Flow::new(opening),
            to_client: Flow::new(Opening::default()),
            last_tick: tick,
            connecting: true,
            queued: false,
            heavy: false,
            toa,
            kept_alive: false,
            told: [true; 2],
        }
    }

    /// The listener that it came in by.
    pub(crate) fn listener(&self) -> ListenerId {
        self.mapping.id
    }

    /// The endpoint that it came through.
    pub(crate) fn owner(&self) -> u128 {
        self.mapping.owner.endpoint
    }

    /// How long it has been there.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.parties.began)
    }

    /// Whether it is one of those that move bytes in bulk, as far as its last turn tells.
    pub(crate) fn is_heavy(&self) -> bool {
        self.heavy
    }

    /// Where the backend sees it come from.
    pub(crate) fn source(&self) -> SocketAddrV4 {
        self.parties.source
    }

    /// All that is to be known of it; `end` if it has just ended.
    pub(crate) fn record(&self, end: Option<End>) -> Record {
        let Parties {
            client,
            source,
            backend,
            began,
        } = self.parties;
        let connected = Duration::from_micros(self.connected_after_us.into());
        Record {
            source: Some(source),
            connected_after: (!self.connecting).then_some(connected),
            bytes_to_backend: self.to_backend.direction.moved(),
            bytes_to_client: self.to_client.direction.moved(),
            end,
            ..self.mapping.record(client, backend, began)
        }
    }

    pub(crate) fn socket(&self, side: Side) -> &OwnedFd {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }

    /// Has the kernel find out when an end vanishes. Not done at the beginning, since most connections do not live long enough
    /// to need it.
    pub(crate) fn keep_alive(&mut self) {
        if !self.connecting && !self.kept_alive {
            // Without it the idle time-out still ends the connection.
            let kept = [&self.backend, &self.client].map(socket::keep_alive);
            self.kept_alive = kept.iter().all(Result::is_ok);
        }
    }

    /// Counts the connection, which has ended, if its client's address did not go out with it.
    pub(crate) fn check_toa_at_end(&mut self, registrar: Option<&Registrar>) {
        // First words complete the handshake. Before they leave, the backend knows of no connection.
        let is_silent = self.to_backend.direction.moved() == 0
            && matches!(self.to_backend.carry, Carry::Bytes { out: 0, .. });
        if !is_silent {
            self.check_toa(registrar);
        }
    }

    /// Counts the connection, once, if its client's address did not go out with it. To be called some time after it was
    /// connected: epoll may tell of that before the segment that completes the handshake is sent, and where there are first
    /// words to be sent, that waits for them for up to 200 ms.
    pub(crate) fn check_toa(&mut self, registrar: Option<&Registrar>) {
        if self.connecting {
            return;
        }
        if let Some((registration, registrar)) = self.toa.take().zip(registrar)
            && !registrar.is_sent(&self.backend, registration)
        {
            self.mapping.counters.miss_toa();
            registrar.complain();
        }
    }

    /// What epoll is to be asked for from now on about a side, if something else than before.
    pub(crate) fn changed_interest(&mut self, side: Side) -> Option<EventFlags> {
        let flow = match side {
            Side::Client => &self.to_backend,
            Side::Backend => &self.to_client,
        };
        if self.connecting {
            return None;
        }
        let told = &mut self.told[side as usize];
        let was_told = std::mem::replace(told, flow.direction.is_to_be_told(*told));
        (was_told != *told).then(|| interest(*told))
    }

    /// Takes note of what epoll said about one side.
    pub(crate) fn event(&mut self, side: Side, flags: EventFlags, tick: u32) -> Result<(), End> {
        if side == Side::Backend && self.connecting {
            if !flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                return Ok(());
            }
            if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
                socket::connected(&self.backend)?;
            }
            self.connecting = false;
            self.last_tick = tick;
            let after = self.parties.began.elapsed();
            self.connected_after_us = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
            self.mapping.counters.connected(after);
        }
        let (from, to) = match side {
            Side::Client => (&mut self.to_backend, &mut self.to_client),
            Side::Backend => (&mut self.to_client, &mut self.to_backend),
        };
        let thorough =
            flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::PRI | EventFlags::ERR);
        if thorough || flags.contains(EventFlags::IN) {
            from.direction.source_ready(thorough);
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP) {
            to.direction.sink_ready();
        }
        if flags.contains(EventFlags::ERR) {
            Err(lost(side))
        } else {
            Ok(())
        }
    }

    /// Moves what can be moved, up to a turn's share.
    pub(crate) fn turn(&mut self, means: &mut Means, tick: u32) -> Turn {
        if self.connecting {
            return Turn::Wait;
        }
        let (up, down) = (
            self.to_backend.direction.moved(),
            self.to_client.direction.moved(),
        );
        let result = self.pump_both(means);
        let (up, down) = (
            self.to_backend.direction.moved() - up,
            self.to_client.direction.moved() - down,
        );
        self.heavy = up + down >= HEAVY_TURN_BYTES;
        if up + down > 0 {
            self.last_tick = tick;
            self.mapping.counters.add_bytes(up, down);
        }
        match result {
            Err(end) => Turn::Over(end),
            Ok(_) if self.to_backend.direction.is_done() && self.to_client.direction.is_done() => {
                Turn::Over(End::Closed)
            }
            Ok(true) => Turn::Again,
            Ok(false) => Turn::Wait,
        }
    }

    /// Moves both directions along; true when there is more to do.
    fn pump_both(&mut self, means: &mut Means) -> Result<bool, End> {
        let (up, down) = (&mut self.to_backend, &mut self.to_client);
        let (client, backend) = (&self.client, &self.backend);
        // What the backend says goes first: its end is as a rule what a client waits for.
        let last = up.direction.is_done();
        let more = pump(down, backend, client, means, Side::Backend, last)?;
        let last = down.direction.is_done();
        Ok(more | pump(up, client, backend, means, Side::Client, last)?)
    }

    /// Closes both sockets, by a reset unless both sides had ended, and counts it.
    pub(crate) fn end(self, end: End, pipes: &mut Pipes) {
        for flow in [self.to_backend, self.to_client] {
            if let Carry::Pipe(pipe) = flow.carry {
                pipes.discard(pipe);
            }
        }
        if end != End::Closed {
            socket::reset(self.client);
            socket::reset(self.backend);
        }
        self.mapping.counters.end(end);
    }
}

/// What epoll is asked for about a socket, with or without the bytes that come. Their end is told in any case.
pub(crate) fn interest(told_of_bytes: bool) -> EventFlags {
    let always = EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    // A segment that comes is told as both, urgent or not.
    let bytes = EventFlags::IN | EventFlags::PRI;
    if told_of_bytes { always | bytes } else { always }
}

fn lost(side: Side) -> End {
    match side {
        Side::Client => End::ClientReset,
        Side::Backend => End::BackendReset,
    }
}

/// Moves one direction along; true when it stopped only because its turn is over. The `last` direction needs no end of its own:
/// the sockets are closed when it is done, which says the same.
fn pump(
    flow: &mut Flow,
    source: &OwnedFd,
    sink: &OwnedFd,
    means: &mut Means,
    from: Side,
    last: bool,
) -> Result<bool, End> {
    let to = if from == Side::Client {
        Side::Backend
    } else {
        Side::Client
    };
    let turn_end = flow.direction.moved() + TURN_BYTES_MAX;
    for _ in 0..TURN_STEPS_MAX {
        match flow.direction.next() {
            Step::Wait | Step::Done => return Ok(false),
            Step::Fill if flow.direction.moved() >= turn_end => return Ok(true),
            Step::Fill => fill(flow, source, sink, means, from)?,
            Step::Flush => flush(flow, sink, means, to)?,
            Step::Shut => {
                if !last {
                    net::shutdown(sink, Shutdown::Write).map_err(|_| lost(to))?;
                }
                flow.direction.shut();
            }
        }
    }
    Ok(true)
}

fn fill(flow: &mut Flow, source: &OwnedFd, sink: &OwnedFd, means: &mut Means, from: Side) -> Result<(), End> {
    if flow.direction.moved() < SPLICE_AFTER_BYTES {
        return copy(flow, source, sink, &mut means.buffer, from);
    }
    let is_bulk = flow.direction.filled_last() >= SPLICE_AT_ONCE_BYTES_MIN;
    match is_bulk.then(|| means.pipes.take()).flatten() {
        Some(pipe) => splice_in(flow, pipe, source, means, from),
        None => copy(flow, source, sink, &mut means.buffer[..LATE_COPY_BYTES_MAX], from),
    }
}

/// Reads once and writes once; only what the sink does not take at once is put aside.
fn copy(flow: &mut Flow, source: &OwnedFd, sink: &OwnedFd, buffer: &mut [u8], from: Side) -> Result<(), End> {
    let room = buffer.len();
    let n = match net::recv(source, &mut *buffer, RecvFlags::empty()) {
        Ok((0, _)) => {
            flow.direction.filled(Filled::Ended);
            return Ok(());
        }
        Ok((n, _)) => n,
        Err(Errno::INTR) => return Ok(()),
        Err(Errno::AGAIN) => {
            flow.direction.filled(Filled::Dry);
            return Ok(());
        }
        Err(_) => return Err(lost(from)),
    };
    flow.direction.filled(if n < room {
        Filled::Short(n as u32)
    } else {
        Filled::More(n as u32)
    });
    let out = match net::send(sink, &buffer[..n], SendFlags::NOSIGNAL) {
        Ok(out) => out,
        Err(Errno::INTR) => 0,
        Err(Errno::AGAIN) => {
            flow.direction.sink_full();
            0
        }
        Err(_) => {
            return Err(if from == Side::Client {
                End::BackendReset
            } else {
                End::ClientReset
            });
        }
    };
    flow.direction.flushed(out as u32);
    if out < n {
        flow.carry = Carry::Bytes {
            bytes: buffer[out..n].into(),
            out: 0,
        };
    }
    Ok(())
}

/// Fills an empty pipe from the source.
fn splice_in(
    flow: &mut Flow,
    pipe: Pipe,
    source: &OwnedFd,
    means: &mut Means,
    from: Side,
) -> Result<(), End> {
    // Never MORE: the kernel would hold the last segment back.
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let filled = match pipe::splice(source, None, &pipe.write, None, SPLICE_BYTES_MAX, flags) {
        Ok(0) => Filled::Ended,
        // A short splice says nothing: a pipe is full when its slots are.
        Ok(n) => {
            flow.direction.filled(Filled::More(n as u32));
            flow.carry = Carry::Pipe(pipe);
            return Ok(());
        }
        Err(Errno::AGAIN) => Filled::Dry,
        Err(Errno::INTR) => {
            means.pipes.give(pipe);
            return Ok(());
        }
        Err(_) => {
            means.pipes.give(pipe);
            return Err(lost(from));
        }
    };
    means.pipes.give(pipe);
    flow.direction.filled(filled);
    Ok(())
}

/// Hands what is held to the sink.
fn flush(flow: &mut Flow, sink: &OwnedFd, means: &mut Means, to: Side) -> Result<(), End> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let result = match &flow.carry {
        Carry::Nothing => {
            debug_assert!(false, "bytes held nowhere");
            return Err(End::Failed);
        }
        Carry::Bytes { bytes, out } => net::send(sink, &bytes[*out as usize..], SendFlags::NOSIGNAL),
        Carry::Pipe(pipe) => pipe::splice(
            &pipe.read,
            None,
            sink,
            None,
            flow.direction.held() as usize,
            flags,
        ),
    };
    match result {
        Ok(n) => {
            flow.direction.flushed(n as u32);
            if let Carry::Bytes { out, .. } = &mut flow.carry {
                *out += n as u32;
            }
            if flow.direction.held() == 0
                && let Carry::Pipe(pipe) = std::mem::replace(&mut flow.carry, Carry::Nothing)
            {
                means.pipes.give(pipe);
            }
        }
        Err(Errno::INTR) => {}
        Err(Errno::AGAIN) => flow.direction.sink_full(),
        Err(_) => return Err(lost(to)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;
    use crate::descriptors::Budget;

    #[test]
    fn a_long_direction_is_spliced_while_much_comes_at_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let pair = || {
            let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (far, listener.accept().unwrap().0)
        };
        let ((mut client, source), (_backend, sink)) = (pair(), pair());
        let peeked = source.try_clone().unwrap();
        let (source, sink) = (OwnedFd::from(source), OwnedFd::from(sink));
        let mut means = Means {
            buffer: vec![0; BUFFER_BYTES].into(),
            pipes: Pipes::new(Arc::new(Budget::new(100))),
        };
        let mut flow = Flow::new(Opening::default());
        flow.direction.sink_ready();
        flow.direction.source_ready(false);
        let much = SPLICE_AFTER_BYTES as u32;
        flow.direction.filled(Filled::More(much));
        flow.direction.flushed(much);
        for is_spliced in [true, false, false] {
            client.write_all(b"ping").unwrap();
            peeked.peek(&mut [0]).unwrap();
            flow.direction.source_ready(false);
            fill(&mut flow, &source, &sink, &mut means, Side::Client).unwrap();
            assert_eq!(matches!(flow.carry, Carry::Pipe(_)), is_spliced);
            // What was copied is out already.
            assert_eq!(flow.direction.next() == Step::Flush, is_spliced);
            if is_spliced {
                flush(&mut flow, &sink, &mut means, Side::Backend).unwrap();
            }
            assert_eq!(flow.direction.held(), 0);
        }
        assert_eq!(flow.direction.moved(), u64::from(much) + 12);
    }

    #[test]
    fn an_idle_connection_is_small() {
        // The bar is 512 bytes of user memory; the slab may have twice the slots that are taken.
        assert!(size_of::<Session>() <= 200, "{} bytes", size_of::<Session>());
    }
}
