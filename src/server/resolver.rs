//! Asks the system for the addresses of a name, on a thread of its own, because the system's resolver may take as long as it likes.
//! When to ask, and which address to take, is its callers'.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use mio::Waker;

use super::limits::ADDRESSES_MAX;

/// What a name stands for: one address at least.
pub(super) type Answer = io::Result<Vec<SocketAddr>>;

/// Asks for the addresses of `name`; the loop is woken when the answer is there.
///
/// # Errors
///
/// There is no room for another thread.
pub(super) fn resolve(name: impl ToSocketAddrs + Send + 'static, waker: &Arc<Waker>) -> io::Result<Receiver<Answer>> {
    let (sender, receiver) = channel();
    let waker = Arc::clone(waker);
    let ask = move || {
        let answer = name.to_socket_addrs().and_then(|found| {
            let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
            (!addresses.is_empty()).then_some(addresses).ok_or_else(|| io::Error::other("the name has no address"))
        });
        // Nobody is there to hear it once the daemon ends; without a wake it is seen when something else happens.
        let _ = sender.send(answer);
        let _ = waker.wake();
    };
    thread::Builder::new().name("resolver".to_owned()).spawn(ask)?;
    Ok(receiver)
}
