//! A peer made of the project's own pure code and ordinary blocking sockets, for what no real node would do.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use bigbunny::config::secrets::DEV_INTERNAL_TOKEN;
use bigbunny::node::{OnPeerLoss, Role};
use bigbunny::peer::http::{
    NO_CONTENT, read_answer, read_request_head, take_no_contents, write_answer, write_request_head,
};
use bigbunny::peer::link::{Acceptor, Awaited, Dialler, Identity, LinkError, Rules, SEAL_BYTES};
use bigbunny::peer::message::{Message, Path, write_message};
use rustix::time::{ClockId, clock_gettime};

use crate::support::PATIENCE;

/// The clock that the nodes use, in nanoseconds.
pub(super) fn clock_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Who the test peer is to `host_id`'s node.
pub(super) fn identity(own_id: &str, peer_id: &str) -> Identity {
    Identity {
        site: "local".to_owned(),
        host_id: own_id.to_owned(),
        incarnation: clock_ns(),
        peer_host_id: Some(peer_id.to_owned()),
        // They clash with none that the node has.
        rules: Rules { lease_ms: 1, grace_ms: 60_000, on_peer_loss: OnPeerLoss::Available },
    }
}

/// What a node said: when it arrived, and the message's bytes.
pub(super) struct Heard {
    pub(super) at_ns: u64,
    pub(super) path: Path,
    pub(super) bytes: Vec<u8>,
}

/// Accepts one connection of a node after another and takes in what it says; `pause` after every 64 KiB plays a slow network.
pub(super) fn listen(address: &str, identity: Identity, pause: Duration) -> Receiver<Heard> {
    let listener = TcpListener::bind(address).unwrap();
    let (sender, heard) = channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // A connection that ends is not the test's end.
            let _ = take_in(stream, &identity, pause, &sender);
        }
    });
    heard
}

fn take_in(mut stream: TcpStream, identity: &Identity, pause: Duration, sender: &Sender<Heard>) -> io::Result<()> {
    let wrong = |error: LinkError| io::Error::other(error);
    stream.set_nodelay(true)?;
    let mut acceptor = Acceptor::new(identity, DEV_INTERNAL_TOKEN.as_bytes(), [7; 32]);
    let (mut input, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        while let Some(head) = read_request_head(&input, &mut 0, acceptor.awaited()).map_err(wrong)? {
            let whole = head.head_bytes + head.body_bytes;
            let Some(body) = input.get(head.head_bytes..whole) else { break };
            let mut answer = Vec::new();
            match acceptor.awaited() {
                Awaited::Hello => write_answer(&mut answer, &acceptor.on_hello(body).map_err(wrong)?),
                Awaited::Proof => {
                    acceptor.on_proof(body).map_err(wrong)?;
                    write_answer(&mut answer, &[]);
                }
                Awaited::Message | Awaited::Nothing => {
                    let mut bytes = Vec::new();
                    acceptor.open(head.path, body, &mut bytes).map_err(wrong)?;
                    answer.extend_from_slice(NO_CONTENT);
                    let _ = sender.send(Heard { at_ns: clock_ns(), path: head.path, bytes });
                }
            }
            stream.write_all(&answer)?;
            input.drain(..whole);
        }
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..length]);
        if pause > Duration::ZERO {
            thread::sleep(pause.mul_f64(length as f64 / 65_536.0));
        }
    }
}

/// The test peer's own connection to a node.
pub(super) struct Line {
    pub(super) stream: TcpStream,
    dialler: Dialler,
    unanswered: usize,
}

impl Line {
    /// Dials a node and shakes hands.
    pub(super) fn dial(address: &str, identity: &Identity) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut dialler, hello) = Dialler::new(identity, DEV_INTERNAL_TOKEN.as_bytes(), [9; 32]);
        post(&mut stream, Path::Hello, &hello)?;
        let answer = answer(&mut stream)?;
        let (proof, _) = dialler.on_answer(&answer).map_err(io::Error::other)?;
        post(&mut stream, Path::Hello, &proof)?;
        let end = self::answer(&mut stream)?;
        dialler.on_accepted(&end).map_err(io::Error::other)?;
        Ok(Self { stream, dialler, unanswered: 0 })
    }

    /// Says something, without waiting for the answer.
    pub(super) fn say(&mut self, message: &Message<'_>) {
        let bytes = self.sealed(message);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The bytes of a request that carries a message, the next one on this connection.
    pub(super) fn sealed(&mut self, message: &Message<'_>) -> Vec<u8> {
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        write_message(&mut plain, message).unwrap();
        write_request_head(&mut out, "node", message.path(), plain.len() + SEAL_BYTES);
        self.dialler.seal(message.path(), &plain, &mut out);
        self.unanswered += 1;
        out
    }

    /// Waits until all is answered.
    pub(super) fn wait_for_answers(&mut self) -> io::Result<()> {
        let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
        while self.unanswered > 0 {
            let length = self.stream.read(&mut buffer)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            input.extend_from_slice(&buffer[..length]);
            let taken = take_no_contents(&input, &mut self.unanswered).map_err(io::Error::other)?;
            input.drain(..taken);
        }
        Ok(())
    }

    /// What a joiner that has nothing says first.
    pub(super) fn join(&mut self) {
        self.say(&Message::Status { role: Role::Joining, epoch: 0, number: 0 });
        self.say(&Message::Join { epoch: 0, primary: 0, number: 0 });
    }
}

pub(super) fn post(stream: &mut TcpStream, path: Path, body: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    write_request_head(&mut out, "node", path, body.len());
    out.extend_from_slice(body);
    stream.write_all(&out)
}

/// The body of one answer of the handshake.
pub(super) fn answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut input, mut byte) = (Vec::new(), [0; 1]);
    loop {
        if let Some((body, _)) = read_answer(&input).map_err(io::Error::other)? {
            return Ok(body.to_vec());
        }
        stream.read_exact(&mut byte)?;
        input.push(byte[0]);
    }
}
