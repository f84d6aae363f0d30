//! Where to dial: the addresses of the peer. Names are resolved by a thread of their own, one at a time, because the system's
//! resolver may take as long as it likes; a literal address never touches it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mio::{Registry, Token, Waker};

use super::super::limits::{ADDRESSES_KEPT_TIME, ADDRESSES_MAX};
use crate::config::values::HostPort;
use crate::peer::outgoing::Address;
use crate::time::Instant;

/// The addresses of the peer.
pub(super) struct Addresses {
    known: Vec<SocketAddr>,
    /// Which of them is next; all are tried in turn.
    next: usize,
    /// Set if the host is a name.
    resolver: Option<Resolver>,
}

impl Addresses {
    /// Those of a host. `token` is what the loop is woken with if it is a name.
    pub(super) fn new(host: &HostPort, registry: &Registry, token: Token) -> io::Result<Self> {
        let literal = host.ip().map(|ip| SocketAddr::new(ip, host.port));
        let resolver = match literal {
            Some(_) => None,
            None => Some(Resolver::new(host.clone(), Arc::new(Waker::new(registry, token)?))),
        };
        Ok(Self { known: literal.into_iter().collect(), next: 0, resolver })
    }

    /// The address to dial now. A name is asked for anew every now and then; until the answer is there, or if it never comes, the
    /// addresses known so far are used.
    pub(super) fn next(&mut self, now: Instant) -> Address {
        let asked = self.resolver.as_mut().map_or(Ok(()), |resolver| resolver.ask_if_old(now));
        if self.known.is_empty() {
            return asked.map_or_else(Address::Unknown, |()| Address::Awaited);
        }
        self.next = (self.next + 1) % self.known.len();
        Address::Known(self.known[self.next])
    }

    /// Takes the resolver's answer, if it is there: whether it was good.
    pub(super) fn take_answer(&mut self) -> Option<io::Result<()>> {
        let answer = self.resolver.as_mut()?.take()?;
        Some(answer.map(|addresses| self.known = addresses))
    }
}

type Answer = io::Result<Vec<SocketAddr>>;

/// Asks for the addresses of one host.
struct Resolver {
    host: HostPort,
    waker: Arc<Waker>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    /// A question has no answer yet.
    is_asking: bool,
    asked_at: Option<Instant>,
}

impl Resolver {
    fn new(host: HostPort, waker: Arc<Waker>) -> Self {
        let (sender, answers) = channel();
        Self { host, waker, sender, answers, is_asking: false, asked_at: None }
    }

    fn ask_if_old(&mut self, now: Instant) -> io::Result<()> {
        let is_fresh = self.asked_at.is_some_and(|at| now.since(at) < ADDRESSES_KEPT_TIME);
        if self.is_asking || is_fresh {
            return Ok(());
        }
        let (host, waker, sender) = (self.host.clone(), Arc::clone(&self.waker), self.sender.clone());
        let ask = move || {
            let found = (host.host.as_str(), host.port).to_socket_addrs();
            let answer = found.map(|addresses| addresses.take(ADDRESSES_MAX).collect());
            // Nobody is there to hear it once the daemon ends.
            let _ = sender.send(answer);
            let _ = waker.wake();
        };
        thread::Builder::new().name("resolver".to_owned()).spawn(ask)?;
        self.is_asking = true;
        self.asked_at = Some(now);
        Ok(())
    }

    fn take(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.is_asking = false;
        if answer.is_err() {
            // It is asked again with the next try.
            self.asked_at = None;
        }
        Some(answer.and_then(|addresses| match addresses.is_empty() {
            true => Err(io::Error::other("the name has no address")),
            false => Ok(addresses),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    const NOW: Instant = Instant::from_millis(1_000_000);

    fn host(host: &str) -> HostPort {
        HostPort { host: host.to_owned(), port: 8080 }
    }

    #[test]
    fn a_literal_is_no_question() {
        let poll = Poll::new().unwrap();
        for (text, address) in [("127.0.0.1", "127.0.0.1:8080"), ("::1", "[::1]:8080")] {
            let mut addresses = Addresses::new(&host(text), poll.registry(), Token(7)).unwrap();
            assert!(addresses.resolver.is_none());
            for _ in 0..3 {
                assert!(matches!(addresses.next(NOW), Address::Known(found) if found == address.parse().unwrap()));
            }
        }
    }

    #[test]
    fn a_name_is_asked_for_elsewhere_and_again_after_a_while() {
        let mut poll = Poll::new().unwrap();
        let mut addresses = Addresses::new(&host("localhost"), poll.registry(), Token(7)).unwrap();
        assert!(matches!(addresses.next(NOW), Address::Awaited));
        assert!(matches!(addresses.next(NOW), Address::Awaited), "one question at a time");
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(events.iter().any(|event| event.token() == Token(7)));
        addresses.take_answer().unwrap().unwrap();
        assert!(addresses.take_answer().is_none());
        let Address::Known(found) = addresses.next(NOW) else { panic!("nothing") };
        assert!(found.ip().is_loopback() && found.port() == 8080, "{found}");
        assert!(!addresses.resolver.as_ref().unwrap().is_asking);
        let later = NOW + ADDRESSES_KEPT_TIME;
        assert!(matches!(addresses.next(later), Address::Known(_)), "what is known does until then");
        assert!(addresses.resolver.as_ref().unwrap().is_asking);
    }
}
