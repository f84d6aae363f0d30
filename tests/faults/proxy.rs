//! A TCP proxy that does to the bytes what networks do: holds them up, cuts them into pieces, changes them, ends the connection.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// How often a stalled connection looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes taken in at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// What is done to whatever passes. Everything is 0, and off, at first.
#[derive(Default)]
pub(crate) struct Faults {
    /// Nothing passes, and nobody is told.
    pub(crate) stalled: AtomicBool,
    /// New connections are closed at once, those that are up end.
    pub(crate) closed: AtomicBool,
    /// Every piece is held up for up to twice this, in microseconds.
    pub(crate) delay_us: AtomicU64,
    /// Pieces have so many bytes at most; 0 is no limit.
    pub(crate) piece_bytes: AtomicU64,
    /// Of so many bytes one has a bit turned; 0 is none.
    pub(crate) flip_every_bytes: AtomicU64,
    /// Bits turned so far.
    pub(crate) flipped: AtomicU64,
}

/// A listening proxy. It stays until the process ends.
pub(crate) struct Proxy {
    address: String,
    pub(crate) faults: Arc<Faults>,
}

impl Proxy {
    /// Passes everything on from one address to another.
    pub(crate) fn start(address: String, to: String) -> Self {
        let listener = TcpListener::bind(&address).unwrap();
        let faults = Arc::new(Faults::default());
        let shared = Arc::clone(&faults);
        spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.closed.load(Ordering::Relaxed) {
                    continue;
                }
                // Nobody there is told as the end of the connection: a proxy cannot refuse any more.
                let Ok(server) = TcpStream::connect(&to) else { continue };
                for (from, into) in [(&client, &server), (&server, &client)] {
                    let (from, into, faults) = (from.try_clone(), into.try_clone(), Arc::clone(&shared));
                    if let (Ok(from), Ok(into)) = (from, into) {
                        spawn(move || pump(from, into, &faults));
                    }
                }
            }
        });
        Self { address, faults }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Passes on what comes, until either side ends.
fn pump(mut from: TcpStream, mut into: TcpStream, faults: &Faults) {
    let _ = (from.set_nodelay(true), into.set_nodelay(true), from.set_read_timeout(Some(LOOK)));
    let mut random = 1_u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let mut buffer = [0; PIECE_BYTES];
    let mut until_flip = 0;
    loop {
        if faults.closed.load(Ordering::Relaxed) {
            break;
        }
        if faults.stalled.load(Ordering::Relaxed) {
            sleep(LOOK);
            continue;
        }
        let limit = match faults.piece_bytes.load(Ordering::Relaxed) {
            0 => PIECE_BYTES,
            most => 1 + (next() % most) as usize,
        };
        let length = match from.read(&mut buffer[..limit]) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        let delay_us = faults.delay_us.load(Ordering::Relaxed);
        if delay_us > 0 {
            sleep(Duration::from_micros(next() % (2 * delay_us)));
        }
        let every = faults.flip_every_bytes.load(Ordering::Relaxed);
        if every > 0 {
            until_flip = if until_flip == 0 { 1 + next() % (2 * every) } else { until_flip };
            if until_flip <= length as u64 {
                buffer[until_flip as usize - 1] ^= 1 << (next() % 8);
                faults.flipped.fetch_add(1, Ordering::Relaxed);
                until_flip = 0;
            } else {
                until_flip -= length as u64;
            }
        }
        while faults.stalled.load(Ordering::Relaxed) && !faults.closed.load(Ordering::Relaxed) {
            sleep(LOOK);
        }
        if into.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
}
