//! The bytes of a stream: every position has its own, so that nothing can be lost, doubled or moved unseen.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

/// How many bytes there are before they begin again. Prime, so that no block of the relay's fits it.
const BLOCK: usize = 65_521;

/// A block of them.
#[derive(Clone)]
pub(crate) struct Pattern(std::sync::Arc<[u8]>);

impl Pattern {
    pub(crate) fn new() -> Self {
        let byte = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
        Self((0..BLOCK as u32).map(byte).collect())
    }

    pub(crate) fn send(&self, to: &mut TcpStream, length: usize) -> io::Result<()> {
        let mut sent = 0;
        while sent < length {
            let from = sent % BLOCK;
            let n = (BLOCK - from).min(length - sent);
            to.write_all(&self.0[from..from + n])?;
            sent += n;
        }
        Ok(())
    }

    /// Reads so many bytes. Other bytes than were sent are [`io::ErrorKind::InvalidData`], an end before them
    /// [`io::ErrorKind::UnexpectedEof`].
    pub(crate) fn take(&self, from: &mut TcpStream, length: usize) -> io::Result<()> {
        let (mut received, mut buffer) = (0, vec![0; 65_536.min(length)]);
        while received < length {
            let most = buffer.len().min(length - received);
            let n = from.read(&mut buffer[..most])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut checked = 0;
            while checked < n {
                let at = (received + checked) % BLOCK;
                let run = (BLOCK - at).min(n - checked);
                if buffer[checked..checked + run] != self.0[at..at + run] {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                checked += run;
            }
            received += n;
        }
        Ok(())
    }

    /// The same, and the end has to come where it should.
    pub(crate) fn receive(&self, from: &mut TcpStream, length: usize) -> io::Result<()> {
        self.take(from, length)?;
        match from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
