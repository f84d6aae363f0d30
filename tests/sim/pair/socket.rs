//! A connection as the kernels of two machines have it, and the socket that a process holds of it: reads and writes of any size, now and
//! then none, and errors. When bytes fly is the network's business.

use crate::rng::Rng;
use bigbunny::peer::Socket;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

/// How rough the kernels are with the processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roughness {
    /// The bytes of one read or write at most.
    pub(crate) piece_bytes: u64,
    /// In a thousand reads or writes: one is interrupted, takes a part, or nothing yet.
    pub(crate) hiccups: u64,
    /// What a kernel keeps of one direction.
    pub(crate) buffer_bytes: usize,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// Written, and not yet on its way.
    pub(crate) written: Vec<u8>,
    /// On its way.
    pub(crate) flying_bytes: usize,
    /// There, from `read_bytes` on.
    pub(crate) arrived: Vec<u8>,
    read_bytes: usize,
    /// Nothing comes behind it.
    pub(crate) has_ended: bool,
    /// There was no room.
    pub(crate) was_full: bool,
}

impl Pipe {
    pub(crate) fn unread_bytes(&self) -> usize {
        self.arrived.len() - self.read_bytes
    }
}

/// A connection, seen from both kernels. End 0 has dialled, and writes into pipe 0.
#[derive(Debug)]
pub(crate) struct Kernels {
    pub(crate) pipes: [Pipe; 2],
    pub(crate) is_connected: bool,
    /// A process holds this end.
    pub(crate) is_open: [bool; 2],
    /// What this end will hear of whatever it tries.
    pub(crate) error: [Option<ErrorKind>; 2],
    /// This end was told that there is nothing to do although there is.
    pub(crate) was_put_off: [bool; 2],
    /// Hiccups so far.
    pub(crate) hiccups: u64,
    roughness: Roughness,
    rng: Rng,
}

impl Kernels {
    pub(crate) fn new(roughness: Roughness, rng: Rng) -> Self {
        Self {
            pipes: Default::default(),
            is_connected: false,
            is_open: [true, false],
            error: [None; 2],
            was_put_off: [false; 2],
            hiccups: 0,
            roughness,
            rng,
        }
    }

    /// How much of so many bytes is taken now.
    fn take(&mut self, end: usize, most: usize) -> io::Result<usize> {
        if !self.rng.chance(self.roughness.hiccups) {
            return Ok(most.min(self.roughness.piece_bytes as usize));
        }
        self.hiccups += 1;
        match self.rng.below(4) {
            0 => Err(ErrorKind::Interrupted.into()),
            1 => {
                self.was_put_off[end] = true;
                Err(ErrorKind::WouldBlock.into())
            }
            _ => Ok(self.rng.log_between(1, (most as u64).min(self.roughness.piece_bytes)) as usize),
        }
    }

    /// The network may have something to do after what the process of this end has done.
    pub(crate) fn has_news_of(&self, end: usize) -> bool {
        let [mine, others] = [&self.pipes[end], &self.pipes[1 - end]];
        !mine.written.is_empty() || others.was_full || self.was_put_off[end] || !self.is_open[end]
    }

    pub(crate) fn room(&self, end: usize) -> usize {
        let pipe = &self.pipes[end];
        self.roughness.buffer_bytes.saturating_sub(pipe.written.len() + pipe.flying_bytes + pipe.unread_bytes())
    }
}

/// The socket of one end.
#[derive(Debug)]
pub(crate) struct Plug {
    pub(crate) connection: u64,
    pub(crate) end: usize,
    pub(crate) kernels: Rc<RefCell<Kernels>>,
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.kernels.borrow_mut().is_open[self.end] = false;
    }
}

impl Socket for Plug {
    fn is_connected(&self) -> io::Result<bool> {
        let kernels = self.kernels.borrow();
        kernels.error[self.end].map_or(Ok(kernels.is_connected), |kind| Err(kind.into()))
    }
}

impl io::Read for Plug {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut kernels = self.kernels.borrow_mut();
        if let Some(kind) = kernels.error[self.end] {
            return Err(kind.into());
        }
        let unread = kernels.pipes[1 - self.end].unread_bytes();
        if unread == 0 {
            return if kernels.pipes[1 - self.end].has_ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let length = kernels.take(self.end, unread.min(buffer.len()))?;
        let pipe = &mut kernels.pipes[1 - self.end];
        buffer[..length].copy_from_slice(&pipe.arrived[pipe.read_bytes..pipe.read_bytes + length]);
        pipe.read_bytes += length;
        if pipe.unread_bytes() == 0 {
            pipe.arrived.clear();
            pipe.read_bytes = 0;
        }
        Ok(length)
    }
}

impl io::Write for Plug {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kernels = self.kernels.borrow_mut();
        if let Some(kind) = kernels.error[self.end] {
            return Err(kind.into());
        }
        let room = kernels.room(self.end);
        if room == 0 {
            kernels.pipes[self.end].was_full = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let length = kernels.take(self.end, room.min(bytes.len()))?;
        kernels.pipes[self.end].written.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
