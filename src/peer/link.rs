//! The sealed link between two nodes, as pure code: the handshake in which both sides prove that they know the internal token, and the
//! sealing of what follows. bbd-internals(7) has every byte of it, and why it holds.
//!
//! A link carries messages from the node that dialled it to the node that accepted it. This module owns who is let in and the keys;
//! `seal` the count of messages, `strands` how long ones are sealed. It knows no sockets and no deadlines, and what a message means is not its business.
//!
//! Whatever is wrong ends a link: after an error, every further call is refused. Nothing of an error is ever told to the other side.

mod seal;
mod strands;

use std::fmt;
use std::mem;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use self::seal::Seal;
use super::message::{MESSAGE_MAX_BYTES, Message, Path, read_message};
use crate::config::values::{MAX_ID_BYTES, MAX_SITE_BYTES};
use crate::http::HttpError;
use crate::node::OnPeerLoss;
use crate::siv::BLOCK_BYTES;
use crate::wire::{Malformed, Reader, Write as _};

/// The version of everything that two nodes say to each other, messages included.
pub const VERSION: u8 = 2;
/// Bytes of the random that each side draws for each handshake.
pub const CHALLENGE_BYTES: usize = 32;
/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;
/// Bytes of a hello at most: magic, version, site, host id, incarnation, rules, challenge.
pub const HELLO_MAX_BYTES: usize =
    MAGIC.len() + 1 + (4 + MAX_SITE_BYTES) + (4 + MAX_ID_BYTES) + 8 + RULES_BYTES + CHALLENGE_BYTES;
/// So much longer is a message when it is sealed.
pub const SEAL_BYTES: usize = BLOCK_BYTES;
/// Bytes of a sealed message at most.
pub const SEALED_MAX_BYTES: usize = MESSAGE_MAX_BYTES + SEAL_BYTES;

/// Lease, grace, and what is done without a lease.
const RULES_BYTES: usize = 4 + 4 + 1;
const MAGIC: &[u8; 8] = b"bbd link";
const ACCEPTOR_PROOF_INFO: &[u8] = b"bbd link v1 acceptor proof";
const DIALLER_PROOF_INFO: &[u8] = b"bbd link v1 dialler proof";
const DIALLER_KEY_INFO: &[u8] = b"bbd link v1 dialler key";

/// What a node goes by that the other one relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `--lease`
    pub lease_ms: u32,
    /// `--grace`
    pub grace_ms: u32,
    /// `--on-peer-loss`
    pub on_peer_loss: OnPeerLoss,
}

impl Rules {
    /// Whether one of two that go by these would take over while the other may still answer.
    fn clash(self, other: Self) -> bool {
        let patience_ms = |rules: Self| u64::from(rules.lease_ms) + u64::from(rules.grace_ms);
        u64::from(self.lease_ms) >= patience_ms(other) || u64::from(other.lease_ms) >= patience_ms(self)
    }
}

/// Who we are, and who the other side must be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Our site, which must be the other's too.
    pub site: String,
    /// Our host id.
    pub host_id: String,
    /// Drawn anew whenever the process starts.
    pub incarnation: u64,
    /// The host id that the other side must have; `None` if anybody who knows the token is let in.
    pub peer_host_id: Option<String>,
    /// What we go by.
    pub rules: Rules,
}

/// The node at the other end, once it has proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its host id: the one we expected.
    pub host_id: String,
    /// Which run of its daemon it is. Another one has lost all that it held in memory.
    pub incarnation: u64,
    /// What it goes by.
    pub rules: Rules,
}

/// Why a link ends: one variant for each thing that the other side can do wrong. `Display` is a line for the log that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// What it sent is no HTTP.
    NotHttp(HttpError),
    /// A request that no node makes: another method or path, a query, a body of unknown length.
    StrangeRequest,
    /// Not one of the two answers that a node gives.
    StrangeAnswer,
    /// An answer for which no request was waiting.
    UnaskedAnswer,
    /// A body longer than anything that can stand there.
    TooLong {
        /// Its length, as the head of the request says.
        bytes: u64,
    },
    /// What it sent is not what it was the turn of.
    OutOfTurn,
    /// A hello or a proof that is none.
    Malformed,
    /// It speaks another version of the protocol.
    OtherVersion {
        /// Which.
        version: u8,
    },
    /// It is at another site.
    OtherSite {
        /// Where.
        site: String,
    },
    /// It has our own host id.
    OurOwnHostId,
    /// It is not the configured peer.
    UnexpectedHostId {
        /// Who it says it is.
        host_id: String,
    },
    /// It would take over while we may still answer, or we while it may.
    ClashingTimes {
        /// What it goes by.
        its: Rules,
        /// What we go by.
        ours: Rules,
    },
    /// It does not know our internal token.
    WrongToken,
    /// A message does not open.
    Altered,
    /// A message opens and is none.
    MalformedMessage,
    /// A message came under the path of another kind.
    OtherPath,
}

impl LinkError {
    /// Its name, as in bbd-internals(7).
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotHttp(_) => "NotHttp",
            Self::StrangeRequest => "StrangeRequest",
            Self::StrangeAnswer => "StrangeAnswer",
            Self::UnaskedAnswer => "UnaskedAnswer",
            Self::TooLong { .. } => "TooLong",
            Self::OutOfTurn => "OutOfTurn",
            Self::Malformed => "Malformed",
            Self::OtherVersion { .. } => "OtherVersion",
            Self::OtherSite { .. } => "OtherSite",
            Self::OurOwnHostId => "OurOwnHostId",
            Self::UnexpectedHostId { .. } => "UnexpectedHostId",
            Self::ClashingTimes { .. } => "ClashingTimes",
            Self::WrongToken => "WrongToken",
            Self::Altered => "Altered",
            Self::MalformedMessage => "MalformedMessage",
            Self::OtherPath => "OtherPath",
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp(error) => write!(formatter, "what it sent is no HTTP: {}", error.message),
            Self::StrangeRequest => write!(formatter, "its request is not one that a node makes; is it a node?"),
            Self::StrangeAnswer => {
                write!(formatter, "its answer is not one that a node gives; does --peers name the other node's --tcp?")
            }
            Self::UnaskedAnswer => write!(formatter, "it answered what was never asked"),
            Self::TooLong { bytes } => write!(formatter, "its request has {bytes} bytes, which is too many here"),
            Self::OutOfTurn => write!(formatter, "it did not keep to the order of the handshake"),
            Self::Malformed => write!(formatter, "its handshake is malformed; is it a node?"),
            Self::OtherVersion { version } => write!(
                formatter,
                "it speaks version {version} of the link and this node version {VERSION}; run the same bbd on both"
            ),
            Self::OtherSite { site } => {
                write!(formatter, "it is at the site {site:?}; --site must be the same on both")
            }
            Self::OurOwnHostId => write!(
                formatter,
                "it has our own host id; --host-id must differ, and --peers name the other node's address"
            ),
            Self::UnexpectedHostId { host_id } => {
                write!(formatter, "it is {host_id:?}, and not the host id that --peers names")
            }
            Self::ClashingTimes { its, ours } => write!(
                formatter,
                "its lease and grace are {} and {} ms, ours {} and {} ms; the lease of each must end before lease and \
                 grace of the other",
                its.lease_ms, its.grace_ms, ours.lease_ms, ours.grace_ms
            ),
            Self::WrongToken => {
                write!(formatter, "it does not know our internal token; --internal-token must be the same on both")
            }
            Self::Altered => {
                write!(formatter, "a message does not open: it was altered, left out, repeated or put elsewhere")
            }
            Self::MalformedMessage => write!(formatter, "a message is malformed; run the same bbd on both"),
            Self::OtherPath => {
                write!(formatter, "a message came under the path of another kind; run the same bbd on both")
            }
        }
    }
}

impl std::error::Error for LinkError {}

impl From<Malformed> for LinkError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The side of a link that dials and sends.
pub struct Dialler {
    state: Dialling,
}

enum Dialling {
    /// Our hello has gone.
    Hello { identity: Identity, token: Zeroizing<Vec<u8>>, hello: Vec<u8> },
    /// Our proof has gone.
    Proof(Box<Seal>),
    /// The other side has accepted it.
    Messages(Box<Seal>),
    /// Something was wrong.
    Ended,
}

impl Dialler {
    /// A new link, and the body of its first request, to [`Path::Hello`]. The challenge must be fresh random.
    #[must_use]
    pub fn new(identity: &Identity, token: &[u8], challenge: [u8; CHALLENGE_BYTES]) -> (Self, Vec<u8>) {
        let hello = write_hello(identity, &challenge);
        let token = Zeroizing::new(token.to_vec());
        (Self { state: Dialling::Hello { identity: identity.clone(), token, hello: hello.clone() } }, hello)
    }

    /// The first answer: the body of the second request, to [`Path::Hello`], and who has answered. It knows the token and was there after
    /// our challenge was drawn.
    ///
    /// # Errors
    ///
    /// The other node is not the one we want, or does not know the token.
    pub fn on_answer(&mut self, body: &[u8]) -> Result<([u8; PROOF_BYTES], Peer), LinkError> {
        let Dialling::Hello { identity, token, hello } = mem::replace(&mut self.state, Dialling::Ended) else {
            return Err(LinkError::OutOfTurn);
        };
        let (acceptor_hello, proof) = body.split_last_chunk::<PROOF_BYTES>().ok_or(LinkError::Malformed)?;
        let peer = identity.admit(&read_hello(acceptor_hello)?)?;
        let agreed = Agreed::new(&token, &hello, acceptor_hello);
        check_proof(&agreed.acceptor_proof, proof)?;
        self.state = Dialling::Proof(agreed.seal);
        Ok((*agreed.dialler_proof, peer))
    }

    /// The second answer: from now on messages can be sealed.
    ///
    /// # Errors
    ///
    /// It is not empty, or not its turn.
    pub fn on_accepted(&mut self, body: &[u8]) -> Result<(), LinkError> {
        let Dialling::Proof(seal) = mem::replace(&mut self.state, Dialling::Ended) else {
            return Err(LinkError::OutOfTurn);
        };
        if !body.is_empty() {
            return Err(LinkError::Malformed);
        }
        self.state = Dialling::Messages(seal);
        Ok(())
    }

    /// Appends the next message, sealed, to `out`: [`SEAL_BYTES`] more than the message has. It must be sent under that path, and behind
    /// those sealed before it.
    ///
    /// # Panics
    ///
    /// If [`Self::on_accepted`] has not succeeded, or the message is longer than [`MESSAGE_MAX_BYTES`]. Both are our own mistakes.
    pub fn seal(&mut self, path: Path, message: &[u8], out: &mut Vec<u8>) {
        assert!(message.len() <= MESSAGE_MAX_BYTES, "write_message makes no longer one");
        let Dialling::Messages(seal) = &mut self.state else {
            panic!("nothing is sealed before the handshake is over");
        };
        seal.seal(path, message, out);
    }
}

/// What an [`Acceptor`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// A hello.
    Hello,
    /// A proof.
    Proof,
    /// The next message: the other side has proved itself.
    Message,
    /// Nothing: something was wrong.
    Nothing,
}

/// The side of a link that is dialled and receives.
pub struct Acceptor {
    state: Accepting,
}

enum Accepting {
    /// Nothing has come.
    Hello { identity: Identity, token: Zeroizing<Vec<u8>>, challenge: [u8; CHALLENGE_BYTES] },
    /// Our hello and proof have gone.
    Proof { peer: Peer, proof: Zeroizing<[u8; PROOF_BYTES]>, seal: Box<Seal> },
    /// The other side has proved itself.
    Messages(Box<Seal>),
    /// Something was wrong.
    Ended,
}

impl Acceptor {
    /// A new link. The challenge must be fresh random.
    #[must_use]
    pub fn new(identity: &Identity, token: &[u8], challenge: [u8; CHALLENGE_BYTES]) -> Self {
        let token = Zeroizing::new(token.to_vec());
        Self { state: Accepting::Hello { identity: identity.clone(), token, challenge } }
    }

    /// What it waits for.
    #[must_use]
    pub const fn awaited(&self) -> Awaited {
        match self.state {
            Accepting::Hello { .. } => Awaited::Hello,
            Accepting::Proof { .. } => Awaited::Proof,
            Accepting::Messages(_) => Awaited::Message,
            Accepting::Ended => Awaited::Nothing,
        }
    }

    /// The first request, to [`Path::Hello`]: the body of its answer.
    ///
    /// # Errors
    ///
    /// The other node is not the one we want, so far as one can believe it.
    pub fn on_hello(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let Accepting::Hello { identity, token, challenge } = mem::replace(&mut self.state, Accepting::Ended) else {
            return Err(LinkError::OutOfTurn);
        };
        let peer = identity.admit(&read_hello(body)?)?;
        let mut answer = write_hello(&identity, &challenge);
        let agreed = Agreed::new(&token, body, &answer);
        answer.extend_from_slice(&*agreed.acceptor_proof);
        self.state = Accepting::Proof { peer, proof: agreed.dialler_proof, seal: agreed.seal };
        Ok(answer)
    }

    /// The second request, to [`Path::Hello`]: who has sent it. It knows the token and was there after our challenge was drawn. The body of the
    /// answer is empty.
    ///
    /// # Errors
    ///
    /// The other node does not know the token.
    pub fn on_proof(&mut self, body: &[u8]) -> Result<Peer, LinkError> {
        let Accepting::Proof { peer, proof, seal } = mem::replace(&mut self.state, Accepting::Ended) else {
            return Err(LinkError::OutOfTurn);
        };
        check_proof(&proof, body.try_into().map_err(|_| LinkError::Malformed)?)?;
        self.state = Accepting::Messages(seal);
        Ok(peer)
    }

    /// Opens the body of a further request and appends the message to `out`.
    ///
    /// # Errors
    ///
    /// It is not the next message of the other side under this path; `out` is as it was.
    pub fn open(&mut self, path: Path, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        let Accepting::Messages(seal) = &mut self.state else {
            self.state = Accepting::Ended;
            return Err(LinkError::OutOfTurn);
        };
        let opened = seal.open(path, sealed, out);
        if opened.is_err() {
            self.state = Accepting::Ended;
        }
        opened
    }
}

/// Reads a message that came under `path` and was opened.
///
/// # Errors
///
/// It is none, or belongs under another path.
pub fn read_opened(path: Path, opened: &[u8]) -> Result<Message<'_>, LinkError> {
    let message = read_message(opened).map_err(|Malformed| LinkError::MalformedMessage)?;
    if message.path() == path { Ok(message) } else { Err(LinkError::OtherPath) }
}

/// What a hello says.
struct Hello<'b> {
    site: &'b str,
    host_id: &'b str,
    incarnation: u64,
    rules: Rules,
}

impl Identity {
    /// The other node, if it may be let in once it has proved what it says.
    fn admit(&self, hello: &Hello<'_>) -> Result<Peer, LinkError> {
        if hello.site != self.site {
            return Err(LinkError::OtherSite { site: hello.site.to_owned() });
        }
        if hello.host_id == self.host_id {
            return Err(LinkError::OurOwnHostId);
        }
        if self.peer_host_id.as_ref().is_some_and(|expected| hello.host_id != *expected) {
            return Err(LinkError::UnexpectedHostId { host_id: hello.host_id.to_owned() });
        }
        if self.rules.clash(hello.rules) {
            return Err(LinkError::ClashingTimes { its: hello.rules, ours: self.rules });
        }
        Ok(Peer { host_id: hello.host_id.to_owned(), incarnation: hello.incarnation, rules: hello.rules })
    }
}

fn write_hello(identity: &Identity, challenge: &[u8; CHALLENGE_BYTES]) -> Vec<u8> {
    let mut hello = Vec::with_capacity(HELLO_MAX_BYTES + PROOF_BYTES);
    hello.put_array(MAGIC);
    hello.put_u8(VERSION);
    hello.put_bytes(identity.site.as_bytes());
    hello.put_bytes(identity.host_id.as_bytes());
    hello.put_u64(identity.incarnation);
    hello.put_u32(identity.rules.lease_ms);
    hello.put_u32(identity.rules.grace_ms);
    hello.put_bool(identity.rules.on_peer_loss == OnPeerLoss::Safe);
    hello.put_array(challenge);
    hello
}

/// Reads a hello, which is all of `bytes`. The challenge is checked for being there: it counts as a part of the transcript alone.
fn read_hello(bytes: &[u8]) -> Result<Hello<'_>, LinkError> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != *MAGIC {
        return Err(LinkError::Malformed);
    }
    let version = reader.u8()?;
    if version != VERSION {
        return Err(LinkError::OtherVersion { version });
    }
    let (site, host_id, incarnation) = (reader.str()?, reader.str()?, reader.u64()?);
    let (lease_ms, grace_ms, is_safe) = (reader.u32()?, reader.u32()?, reader.bool()?);
    let on_peer_loss = if is_safe { OnPeerLoss::Safe } else { OnPeerLoss::Available };
    reader.array::<CHALLENGE_BYTES>()?;
    reader.finish()?;
    if site.len() > MAX_SITE_BYTES || host_id.len() > MAX_ID_BYTES {
        return Err(LinkError::Malformed);
    }
    Ok(Hello { site, host_id, incarnation, rules: Rules { lease_ms, grace_ms, on_peer_loss } })
}

fn check_proof(expected: &[u8; PROOF_BYTES], proof: &[u8; PROOF_BYTES]) -> Result<(), LinkError> {
    if bool::from(expected.ct_eq(proof)) { Ok(()) } else { Err(LinkError::WrongToken) }
}

/// What both sides have from the token and the transcript.
struct Agreed {
    acceptor_proof: Zeroizing<[u8; PROOF_BYTES]>,
    dialler_proof: Zeroizing<[u8; PROOF_BYTES]>,
    seal: Box<Seal>,
}

impl Agreed {
    fn new(token: &[u8], dialler_hello: &[u8], acceptor_hello: &[u8]) -> Self {
        let transcript = Sha256::new().chain_update(dialler_hello).chain_update(acceptor_hello).finalize();
        let (mut pseudorandom_key, hkdf) = Hkdf::<Sha256>::extract(Some(&transcript), token);
        pseudorandom_key.as_mut_slice().zeroize();
        let expand = |info| {
            let mut output = Zeroizing::new([0; 32]);
            hkdf.expand(info, &mut *output).expect("32 bytes are no more than 255 blocks of SHA-256");
            output
        };
        Self {
            acceptor_proof: expand(ACCEPTOR_PROOF_INFO),
            dialler_proof: expand(DIALLER_PROOF_INFO),
            seal: Box::new(Seal::new(&expand(DIALLER_KEY_INFO))),
        }
    }
}

#[cfg(test)]
mod tests;
