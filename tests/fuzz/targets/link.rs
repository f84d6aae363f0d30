//! The sealed link: nothing opens but what the other node has sealed, whole and in order.

use bigbunny::node::OnPeerLoss;
use bigbunny::peer::http::{read_answer, read_request_head, take_no_contents};
use bigbunny::peer::link::{Acceptor, Awaited, Dialler, Identity, LinkError, PROOF_BYTES, Rules, SEALED_MAX_BYTES};
use bigbunny::peer::message::Path;

use super::bytes::Bytes;

const TOKEN: &[u8] = b"a token for the fuzzer";

fn identity(own: &str, other: &str) -> Identity {
    let incarnation = u64::from(own.as_bytes()[0]);
    let rules = Rules { lease_ms: 2000, grace_ms: 2000, on_peer_loss: OnPeerLoss::Available };
    Identity {
        site: "local".to_owned(),
        host_id: own.to_owned(),
        incarnation,
        peer_host_id: Some(other.to_owned()),
        rules,
    }
}

/// The first byte says who is at the other end: a stranger who dials, one who answers, or the peer behind somebody who alters,
/// repeats, leaves out and mixes up what it says.
pub fn sealed_link(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => stranger_dials(rest),
        1 => stranger_answers(rest),
        2 => altered_handshake(rest),
        _ => altered_messages(rest),
    }
}

fn stranger_dials(mut input: &[u8]) {
    let mut acceptor = Acceptor::new(&identity("b", "a"), TOKEN, [2; 32]);
    let mut opened = Vec::new();
    loop {
        let mut scanned = 0;
        let head = match read_request_head(input, &mut scanned, acceptor.awaited()) {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return check(&error),
        };
        assert!(head.body_bytes <= SEALED_MAX_BYTES && head.head_bytes <= input.len());
        let Some(body) = input[head.head_bytes..].get(..head.body_bytes) else { return };
        let done = match acceptor.awaited() {
            Awaited::Hello => acceptor.on_hello(body).map(drop),
            Awaited::Proof => acceptor.on_proof(body).map(|_| panic!("a stranger has proved itself")),
            Awaited::Message => acceptor.open(head.path, body, &mut opened),
            Awaited::Nothing => return,
        };
        if let Err(error) = done {
            assert_eq!(acceptor.awaited(), Awaited::Nothing);
            return check(&error);
        }
        input = &input[head.head_bytes + head.body_bytes..];
    }
}

fn stranger_answers(input: &[u8]) {
    let mut awaited = 3;
    if let Ok(taken) = take_no_contents(input, &mut awaited) {
        assert!(taken <= input.len() && awaited <= 3);
    }
    let answer = match read_answer(input) {
        Ok(Some((body, length))) => {
            assert!(body.len() < length && length <= input.len());
            for cut in 0..length.min(200) {
                assert_eq!(read_answer(&input[..cut]), Ok(None), "cut at {cut}");
            }
            body
        }
        Ok(None) => return,
        Err(error) => return check(&error),
    };
    let (mut dialler, _) = Dialler::new(&identity("a", "b"), TOKEN, [1; 32]);
    match dialler.on_answer(answer) {
        Ok(_) => panic!("a stranger has proved itself"),
        Err(error) => check(&error),
    }
    assert_eq!(dialler.on_accepted(&[]), Err(LinkError::OutOfTurn), "it is over");
}

/// Bytes with one of them changed, or cut, or lengthened.
fn altered(original: &[u8], bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut altered = original.to_vec();
    match bytes.below(4) {
        0 => {}
        1 if !altered.is_empty() => {
            let place = bytes.number() as usize % altered.len();
            altered[place] ^= bytes.byte();
        }
        2 => altered.truncate(bytes.number() as usize % (original.len() + 1)),
        _ => altered.extend_from_slice(bytes.piece()),
    }
    altered
}

fn altered_handshake(input: &[u8]) {
    let mut bytes = Bytes(input);
    let challenge = [bytes.byte(); 32];
    let (mut dialler, hello) = Dialler::new(&identity("a", "b"), TOKEN, challenge);
    let mut acceptor = Acceptor::new(&identity("b", "a"), TOKEN, [2; 32]);
    let hello_then = altered(&hello, &mut bytes);
    let answer = match acceptor.on_hello(&hello_then) {
        Ok(answer) => answer,
        Err(error) => return check(&error),
    };
    let answer_then = altered(&answer, &mut bytes);
    let proof = match dialler.on_answer(&answer_then) {
        Ok((proof, peer)) => {
            assert_eq!((hello_then, answer_then), (hello, answer), "it was altered");
            assert_eq!(peer.host_id, "b");
            proof
        }
        Err(error) => return check(&error),
    };
    let proof_then = altered(&proof, &mut bytes);
    match acceptor.on_proof(&proof_then) {
        Ok(peer) => {
            assert_eq!(proof_then, proof, "it was altered");
            assert_eq!(peer.host_id, "a");
        }
        Err(error) => check(&error),
    }
}

fn altered_messages(input: &[u8]) {
    let mut bytes = Bytes(input);
    let (mut dialler, hello) = Dialler::new(&identity("a", "b"), TOKEN, [1; 32]);
    let mut acceptor = Acceptor::new(&identity("b", "a"), TOKEN, [2; 32]);
    let answer = acceptor.on_hello(&hello).expect("the hello is good");
    let (proof, _): ([u8; PROOF_BYTES], _) = dialler.on_answer(&answer).expect("the answer is good");
    acceptor.on_proof(&proof).expect("the proof is good");
    dialler.on_accepted(&[]).expect("it is accepted");
    let mut sealed: Vec<(Path, &[u8], Vec<u8>)> = Vec::new();
    let mut opened_count = 0;
    while !bytes.is_empty() && acceptor.awaited() == Awaited::Message {
        let path = Path::ALL[bytes.below(Path::ALL.len())];
        let message = bytes.piece();
        let mut out = Vec::new();
        dialler.seal(path, message, &mut out);
        sealed.push((path, message, out));
        // What arrives: mostly the next one, as it is.
        let chosen = if bytes.below(8) == 7 { bytes.below(sealed.len()) } else { opened_count.min(sealed.len() - 1) };
        let arrives = altered(&sealed[chosen].2, &mut bytes);
        let under = if bytes.below(8) == 7 { Path::ALL[bytes.below(Path::ALL.len())] } else { sealed[chosen].0 };
        let mut opened = b"before".to_vec();
        let result = acceptor.open(under, &arrives, &mut opened);
        let (path, message, original) = &sealed[chosen];
        let is_next = chosen == opened_count && arrives == *original && under == *path;
        assert_eq!(result.is_ok(), is_next, "{result:?}");
        if is_next {
            assert_eq!(opened, [b"before", *message].concat());
            opened_count += 1;
        } else {
            assert_eq!(opened, b"before", "nothing of it is kept");
        }
    }
    if acceptor.awaited() == Awaited::Nothing {
        let mut opened = Vec::new();
        assert_eq!(acceptor.open(Path::Hello, &[0; 40], &mut opened), Err(LinkError::OutOfTurn));
    }
}

fn check(error: &LinkError) {
    assert!(!error.name().is_empty() && !error.to_string().contains('\n'));
}
