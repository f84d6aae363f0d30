//! Where to dial: the addresses of the peer. A name is asked for anew every now and then; a literal address never touches the
//! system's resolver.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use mio::{Registry, Token, Waker};

use super::super::limits::ADDRESSES_KEPT_TIME;
use super::super::resolver::{Answer, resolve};
use crate::config::values::HostPort;
use crate::peer::outgoing::Address;
use crate::time::Instant;

/// The addresses of the peer.
pub(super) struct Addresses {
    known: Vec<SocketAddr>,
    /// Dials so far: all addresses are tried in turn, the system's favourite first.
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
            None => {
                let waker = Arc::new(Waker::new(registry, token)?);
                Some(Resolver { host: host.clone(), waker, answer: None, asked_at: None })
            }
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
        let address = self.known[self.next % self.known.len()];
        self.next = self.next.wrapping_add(1);
        Address::Known(address)
    }

    /// Takes the resolver's answer, if it is there: whether it was good.
    pub(super) fn take_answer(&mut self) -> Option<io::Result<()>> {
        let answer = self.resolver.as_mut()?.take()?;
        Some(answer.map(|addresses| self.known = addresses))
    }
}

/// Asks for the addresses of one host, one question at a time.
struct Resolver {
    host: HostPort,
    waker: Arc<Waker>,
    /// Of a question that has no answer yet.
    answer: Option<Receiver<Answer>>,
    asked_at: Option<Instant>,
}

impl Resolver {
    fn ask_if_old(&mut self, now: Instant) -> io::Result<()> {
        let is_fresh = self.asked_at.is_some_and(|at| now.since(at) < ADDRESSES_KEPT_TIME);
        if self.answer.is_none() && !is_fresh {
            self.answer = Some(resolve((self.host.host.clone(), self.host.port), &self.waker)?);
            self.asked_at = Some(now);
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Answer> {
        let answer = self.answer.as_ref()?.try_recv().ok()?;
        self.answer = None;
        if answer.is_err() {
            // It is asked again with the next try.
            self.asked_at = None;
        }
        Some(answer)
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
        assert!(addresses.resolver.as_ref().unwrap().answer.is_none());
        let later = NOW + ADDRESSES_KEPT_TIME;
        assert!(matches!(addresses.next(later), Address::Known(_)), "what is known does until then");
        assert!(addresses.resolver.as_ref().unwrap().answer.is_some());
    }
}
