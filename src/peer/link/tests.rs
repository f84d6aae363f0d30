//! Both ends of a link in memory: against links of another implementation, and with everything tampered with that crosses the wire.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;
use crate::peer::message::write_message;

/// Links made with Python's `cryptography`; the file says what its columns are.
const VECTORS: &str = include_str!("../../../tests/data/link_vectors.txt");
const MANUAL: &str = include_str!("../../../man/bbd-internals.7");

const TOKEN: &[u8] = b"correct horse battery staple";
const RULES: Rules = Rules { lease_ms: 2000, grace_ms: 1000, on_peer_loss: OnPeerLoss::Available };
const MESSAGE: &[u8] = b"\x05 a message";
const PATH: Path = Path::Replicate;

fn hex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}

fn identity(host_id: &str, peer_host_id: &str) -> Identity {
    let incarnation = host_id.bytes().fold(7, |sum, byte| sum * 1_000_003 + u64::from(byte));
    Identity {
        site: "site".to_owned(),
        host_id: host_id.to_owned(),
        incarnation,
        peer_host_id: Some(peer_host_id.to_owned()),
        rules: RULES,
    }
}

/// The node that dials.
fn ada() -> Identity {
    identity("ada", "bob")
}

/// The node that is dialled.
fn bob() -> Identity {
    identity("bob", "ada")
}

fn dialler() -> (Dialler, Vec<u8>) {
    Dialler::new(&ada(), TOKEN, [1; CHALLENGE_BYTES])
}

fn acceptor() -> Acceptor {
    Acceptor::new(&bob(), TOKEN, [2; CHALLENGE_BYTES])
}

/// The bodies of an honest handshake.
struct Handshake {
    hello: Vec<u8>,
    answer: Vec<u8>,
    proof: Vec<u8>,
}

/// A link that is up, and what it took.
fn link() -> (Dialler, Acceptor, Handshake) {
    let ((mut dialler, hello), mut acceptor) = (dialler(), acceptor());
    let answer = acceptor.on_hello(&hello).unwrap();
    let (proof, peer) = dialler.on_answer(&answer).unwrap();
    assert_eq!(peer, Peer { host_id: "bob".to_owned(), incarnation: bob().incarnation, rules: RULES });
    let peer = acceptor.on_proof(&proof).unwrap();
    assert_eq!(peer, Peer { host_id: "ada".to_owned(), incarnation: ada().incarnation, rules: RULES });
    dialler.on_accepted(b"").unwrap();
    (dialler, acceptor, Handshake { hello, answer, proof: proof.to_vec() })
}

fn sealed(dialler: &mut Dialler, path: Path, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    dialler.seal(path, message, &mut out);
    out
}

fn opened(acceptor: &mut Acceptor, path: Path, sealed: &[u8]) -> Result<Vec<u8>, LinkError> {
    let mut out = Vec::new();
    acceptor.open(path, sealed, &mut out).map(|()| out)
}

/// Such a message does not open, nothing of it is let out, and the link has ended.
fn ends(acceptor: &mut Acceptor, path: Path, sealed: &[u8]) {
    let mut out = b"before".to_vec();
    assert_eq!(acceptor.open(path, sealed, &mut out), Err(LinkError::Altered));
    assert_eq!(out, b"before");
    assert_eq!(acceptor.awaited(), Awaited::Nothing);
    assert_eq!(acceptor.open(path, sealed, &mut out), Err(LinkError::OutOfTurn));
}

/// Every change of one bit, and which bit it is.
fn bit_flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

/// Every beginning, and one byte too many.
fn other_lengths(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|cut| bytes[..cut].to_vec()).chain([[bytes, b"\0"].concat(), [b"\0", bytes].concat()])
}

/// `lease,grace,on-peer-loss`
fn read_rules(text: &str) -> Rules {
    let fields: Vec<&str> = text.split(',').collect();
    let on_peer_loss = if fields[2] == "safe" { OnPeerLoss::Safe } else { OnPeerLoss::Available };
    Rules { lease_ms: fields[0].parse().unwrap(), grace_ms: fields[1].parse().unwrap(), on_peer_loss }
}

#[test]
fn agrees_with_another_implementation() {
    let mut links = 0;
    let mut current = None;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split(' ').collect();
        match columns[..] {
            [
                "link",
                token,
                site,
                dialler_id,
                dialler_run,
                dialler_rules,
                dialler_random,
                acceptor_id,
                acceptor_run,
                acceptor_rules,
                acceptor_random,
                hello,
                answer,
                proof,
            ] => {
                let identity = |host_id: &str, incarnation: &str, rules: &str, peer_host_id: &str| Identity {
                    site: site.to_owned(),
                    host_id: host_id.to_owned(),
                    incarnation: incarnation.parse().unwrap(),
                    peer_host_id: Some(peer_host_id.to_owned()),
                    rules: read_rules(rules),
                };
                let dialling = identity(dialler_id, dialler_run, dialler_rules, acceptor_id);
                let accepting = identity(acceptor_id, acceptor_run, acceptor_rules, dialler_id);
                let challenge = |digits| hex(digits).try_into().unwrap();
                let (mut dialler, our_hello) = Dialler::new(&dialling, &hex(token), challenge(dialler_random));
                let mut acceptor = Acceptor::new(&accepting, &hex(token), challenge(acceptor_random));
                assert_eq!(our_hello, hex(hello));
                assert!(our_hello.len() <= HELLO_MAX_BYTES);
                assert_eq!(acceptor.on_hello(&our_hello), Ok(hex(answer)));
                let (our_proof, peer) = dialler.on_answer(&hex(answer)).unwrap();
                assert_eq!(our_proof[..], hex(proof));
                let is_acceptor = Peer {
                    host_id: acceptor_id.to_owned(),
                    incarnation: accepting.incarnation,
                    rules: accepting.rules,
                };
                assert_eq!(peer, is_acceptor);
                let peer = acceptor.on_proof(&our_proof).unwrap();
                let is_dialler =
                    Peer { host_id: dialler_id.to_owned(), incarnation: dialling.incarnation, rules: dialling.rules };
                assert_eq!(peer, is_dialler);
                dialler.on_accepted(b"").unwrap();
                links += 1;
                current = Some((dialler, acceptor));
            }
            ["message", path, message, seal] => {
                let (dialler, acceptor) = current.as_mut().unwrap();
                let path = Path::of(path).unwrap();
                assert_eq!(sealed(dialler, path, &hex(message)), hex(seal));
                assert_eq!(opened(acceptor, path, &hex(seal)), Ok(hex(message)));
            }
            _ => panic!("a line of another kind: {line}"),
        }
    }
    assert_eq!(links, 20);
}

#[test]
fn messages_of_every_length_and_path_arrive() {
    let (mut dialler, mut acceptor, _) = link();
    let message: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for length in (0..300).chain(1000..1300).chain([4095, 4096, 4097, 65_536, 100_000]) {
        for path in Path::ALL {
            let seal = sealed(&mut dialler, path, &message[..length]);
            assert_eq!(seal.len(), length + SEAL_BYTES);
            assert_eq!(opened(&mut acceptor, path, &seal).unwrap(), &message[..length]);
        }
    }
}

#[test]
fn the_longest_message_arrives() {
    let (mut dialler, mut acceptor, _) = link();
    let message = vec![3; MESSAGE_MAX_BYTES];
    let seal = sealed(&mut dialler, PATH, &message);
    assert_eq!(seal.len(), SEALED_MAX_BYTES);
    assert!(opened(&mut acceptor, PATH, &seal).unwrap() == message);
}

#[test]
fn what_is_sealed_and_opened_is_appended() {
    let (mut dialler, mut acceptor, _) = link();
    let mut out = b"head".to_vec();
    dialler.seal(PATH, MESSAGE, &mut out);
    let mut messages = b"others ".to_vec();
    acceptor.open(PATH, out.strip_prefix(b"head").unwrap(), &mut messages).unwrap();
    assert_eq!(messages, [b"others ", MESSAGE].concat());
}

#[test]
fn the_other_node_is_refused_by_name() {
    let other_site = |identity: Identity| Identity { site: "elsewhere".to_owned(), ..identity };
    let other_id = |host_id: &str| Identity { host_id: host_id.to_owned(), ..ada() };
    let other_times = |lease_ms, grace_ms| Identity { rules: Rules { lease_ms, grace_ms, ..RULES }, ..ada() };
    let clash =
        |lease_ms, grace_ms| LinkError::ClashingTimes { its: Rules { lease_ms, grace_ms, ..RULES }, ours: RULES };
    let refusals = [
        (other_site(ada()), LinkError::OtherSite { site: "elsewhere".to_owned() }),
        (other_times(3000, 9000), clash(3000, 9000)),
        (other_times(1500, 500), clash(1500, 500)),
        (other_times(u32::MAX, u32::MAX), clash(u32::MAX, u32::MAX)),
        (other_id("bob"), LinkError::OurOwnHostId),
        (other_id("eve"), LinkError::UnexpectedHostId { host_id: "eve".to_owned() }),
        (other_id("ad"), LinkError::UnexpectedHostId { host_id: "ad".to_owned() }),
        (other_id("Ada"), LinkError::UnexpectedHostId { host_id: "Ada".to_owned() }),
    ];
    for (stranger, error) in refusals {
        // It dials us.
        let (_, hello) = Dialler::new(&stranger, TOKEN, [1; CHALLENGE_BYTES]);
        let mut acceptor = acceptor();
        assert_eq!(acceptor.on_hello(&hello), Err(error.clone()));
        assert_eq!(acceptor.awaited(), Awaited::Nothing);

        // We dial it; it would take us for its peer.
        let stranger = Identity { peer_host_id: Some("bob".to_owned()), ..stranger };
        let (mut dialler, hello) = Dialler::new(&bob(), TOKEN, [1; CHALLENGE_BYTES]);
        let mut answer = write_hello(&stranger, &[2; CHALLENGE_BYTES]);
        let agreed = Agreed::new(TOKEN, &hello, &answer);
        answer.extend_from_slice(&*agreed.acceptor_proof);
        assert_eq!(dialler.on_answer(&answer), Err(error));
        assert_eq!(dialler.on_answer(&answer), Err(LinkError::OutOfTurn));
    }
}

#[test]
fn times_and_rules_may_differ_as_far_as_they_do_not_clash() {
    let rules = |lease_ms, grace_ms, on_peer_loss| Rules { lease_ms, grace_ms, on_peer_loss };
    for other in [
        rules(2999, 1, OnPeerLoss::Available),
        rules(1, 2000, OnPeerLoss::Available),
        rules(2000, 1000, OnPeerLoss::Safe),
    ] {
        let (mut dialler, hello) = Dialler::new(&Identity { rules: other, ..ada() }, TOKEN, [1; CHALLENGE_BYTES]);
        let mut acceptor = acceptor();
        let (proof, bob) = dialler.on_answer(&acceptor.on_hello(&hello).unwrap()).unwrap();
        assert_eq!((bob.rules, acceptor.on_proof(&proof).unwrap().rules), (RULES, other));
    }
}

#[test]
fn another_version_is_refused_whatever_stands_behind_it() {
    let version = VERSION - 1;
    for behind in [&b""[..], b"anything", &[0xff; HELLO_MAX_BYTES]] {
        let hello = [MAGIC, &[version][..], behind].concat();
        assert_eq!(acceptor().on_hello(&hello), Err(LinkError::OtherVersion { version }));
        let answer = [&hello[..], &[0; PROOF_BYTES]].concat();
        assert_eq!(dialler().0.on_answer(&answer), Err(LinkError::OtherVersion { version }));
    }
}

#[test]
fn an_acceptor_without_the_token_is_refused() {
    for token in [&b""[..], b"correct horse battery stapl", b"correct horse battery staple\n", b"bbd --dev"] {
        let (mut dialler, hello) = dialler();
        let answer = Acceptor::new(&bob(), token, [2; CHALLENGE_BYTES]).on_hello(&hello).unwrap();
        assert_eq!(dialler.on_answer(&answer), Err(LinkError::WrongToken));
    }
}

#[test]
fn a_dialler_without_the_token_is_refused() {
    for token in [&b""[..], b"correct horse battery stapl", b"correct horse battery staple\n", b"bbd --dev"] {
        // It goes on though the acceptor's proof is none for it.
        let (_, hello) = Dialler::new(&ada(), token, [1; CHALLENGE_BYTES]);
        let mut acceptor = acceptor();
        let answer = acceptor.on_hello(&hello).unwrap();
        let agreed = Agreed::new(token, &hello, answer.split_last_chunk::<PROOF_BYTES>().unwrap().0);
        assert_eq!(acceptor.on_proof(&*agreed.dialler_proof), Err(LinkError::WrongToken));
        assert_eq!(acceptor.awaited(), Awaited::Nothing);
    }
}

#[test]
fn no_changed_bit_of_a_hello_is_overlooked() {
    let (_, _, honest) = link();
    for (bit, hello) in bit_flips(&honest.hello) {
        let (mut dialler, _) = dialler();
        let mut acceptor = acceptor();
        match acceptor.on_hello(&hello) {
            // The challenge, the rules or the incarnation: the acceptor cannot know better, but its proof tells the dialler.
            Ok(answer) => {
                assert!(bit / 8 >= honest.hello.len() - CHALLENGE_BYTES - RULES_BYTES - 8, "bit {bit}");
                assert_eq!(dialler.on_answer(&answer), Err(LinkError::WrongToken), "bit {bit}");
                assert_eq!(acceptor.on_proof(&honest.proof), Err(LinkError::WrongToken), "bit {bit}");
            }
            Err(error) => match bit / 8 {
                0..8 => assert_eq!(error, LinkError::Malformed, "bit {bit}"),
                8 => assert!(matches!(error, LinkError::OtherVersion { .. }), "bit {bit}: {error:?}"),
                13..17 => assert!(matches!(error, LinkError::OtherSite { .. } | LinkError::Malformed), "bit {bit}"),
                21..24 => {
                    assert!(matches!(error, LinkError::UnexpectedHostId { .. } | LinkError::Malformed), "bit {bit}")
                }
                _ => assert!(is_clash(&error) || error == LinkError::Malformed, "bit {bit}: {error:?}"),
            },
        }
    }
}

fn is_clash(error: &LinkError) -> bool {
    matches!(error, LinkError::ClashingTimes { .. })
}

#[test]
fn no_changed_bit_of_an_answer_is_overlooked() {
    let (_, _, honest) = link();
    for (bit, answer) in bit_flips(&honest.answer) {
        let (mut dialler, _) = dialler();
        let error = dialler.on_answer(&answer).unwrap_err();
        let behind_rules = honest.answer.len() - PROOF_BYTES - CHALLENGE_BYTES;
        if (behind_rules - RULES_BYTES..behind_rules).contains(&(bit / 8)) {
            let is_refused = matches!(error, LinkError::WrongToken | LinkError::Malformed) || is_clash(&error);
            assert!(is_refused, "bit {bit}: {error:?}");
        } else if bit / 8 >= behind_rules - RULES_BYTES - 8 {
            assert_eq!(error, LinkError::WrongToken, "bit {bit}");
        }
        assert_eq!(dialler.on_answer(&honest.answer), Err(LinkError::OutOfTurn), "there is no second attempt");
    }
}

#[test]
fn no_changed_bit_of_a_proof_is_overlooked() {
    let (_, _, honest) = link();
    for (bit, proof) in bit_flips(&honest.proof) {
        let mut acceptor = acceptor();
        acceptor.on_hello(&honest.hello).unwrap();
        assert_eq!(acceptor.on_proof(&proof), Err(LinkError::WrongToken), "bit {bit}");
        assert_eq!(acceptor.on_proof(&honest.proof), Err(LinkError::OutOfTurn), "there is no second attempt");
    }
}

#[test]
fn the_handshake_has_no_other_length() {
    let (_, _, honest) = link();
    for hello in other_lengths(&honest.hello) {
        assert_eq!(acceptor().on_hello(&hello), Err(LinkError::Malformed), "{} bytes", hello.len());
    }
    for answer in other_lengths(&honest.answer) {
        let error = dialler().0.on_answer(&answer).unwrap_err();
        assert_eq!(error, LinkError::Malformed, "{} bytes", answer.len());
    }
    for proof in other_lengths(&honest.proof) {
        let mut acceptor = acceptor();
        acceptor.on_hello(&honest.hello).unwrap();
        assert_eq!(acceptor.on_proof(&proof), Err(LinkError::Malformed), "{} bytes", proof.len());
    }
    let (mut dialler, _) = dialler();
    dialler.on_answer(&honest.answer).unwrap();
    assert_eq!(dialler.on_accepted(b"\0"), Err(LinkError::Malformed));
}

#[test]
fn names_in_a_hello_have_their_limits() {
    for (site, host_id) in [("s".repeat(17), "ada".to_owned()), ("site".to_owned(), "a".repeat(65))] {
        let (_, hello) = Dialler::new(&Identity { site, host_id, ..ada() }, TOKEN, [1; CHALLENGE_BYTES]);
        assert_eq!(acceptor().on_hello(&hello), Err(LinkError::Malformed));
    }
    let (_, hello) =
        Dialler::new(&Identity { site: "s".repeat(16), host_id: "a".repeat(64), ..ada() }, TOKEN, [1; CHALLENGE_BYTES]);
    assert_eq!(hello.len(), HELLO_MAX_BYTES);
    assert_eq!(acceptor().on_hello(&hello), Err(LinkError::OtherSite { site: "s".repeat(16) }));
}

#[test]
fn a_recorded_handshake_fits_no_other() {
    let (_, _, recorded) = link();
    // Played to the acceptor again, which draws another challenge.
    let mut acceptor = Acceptor::new(&bob(), TOKEN, [3; CHALLENGE_BYTES]);
    assert_ne!(acceptor.on_hello(&recorded.hello).unwrap(), recorded.answer);
    assert_eq!(acceptor.on_proof(&recorded.proof), Err(LinkError::WrongToken));
    // Played to the dialler again, which has drawn another challenge.
    let (mut dialler, _) = Dialler::new(&ada(), TOKEN, [3; CHALLENGE_BYTES]);
    assert_eq!(dialler.on_answer(&recorded.answer), Err(LinkError::WrongToken));
}

#[test]
fn a_node_that_restarted_is_another_incarnation() {
    let restarted = Identity { incarnation: 99, ..ada() };
    let (mut dialler, hello) = Dialler::new(&restarted, TOKEN, [1; CHALLENGE_BYTES]);
    let mut acceptor = acceptor();
    let (proof, _) = dialler.on_answer(&acceptor.on_hello(&hello).unwrap()).unwrap();
    assert_eq!(acceptor.on_proof(&proof).unwrap().incarnation, 99);
    assert_ne!(ada().incarnation, 99);
}

#[test]
fn nothing_can_be_sent_back_where_it_came_from() {
    let (_, _, honest) = link();
    // Our hello, to the port we listen on ourselves, and as the answer to itself.
    let mut own = Acceptor::new(&ada(), TOKEN, [2; CHALLENGE_BYTES]);
    assert_eq!(own.on_hello(&honest.hello), Err(LinkError::OurOwnHostId));
    let answer = [&honest.hello[..], &[0; PROOF_BYTES]].concat();
    assert_eq!(dialler().0.on_answer(&answer), Err(LinkError::OurOwnHostId));
    // The acceptor's proof as that of the dialler.
    let mut acceptor = acceptor();
    acceptor.on_hello(&honest.hello).unwrap();
    let acceptor_proof = honest.answer.last_chunk::<PROOF_BYTES>().unwrap();
    assert_eq!(acceptor.on_proof(acceptor_proof), Err(LinkError::WrongToken));
}

/// A link from Bob to Ada while there is one from Ada to Bob, drawn with the same challenges.
fn link_back(bobs: [u8; CHALLENGE_BYTES], adas: [u8; CHALLENGE_BYTES]) -> (Dialler, Acceptor) {
    let (mut dialler, hello) = Dialler::new(&bob(), TOKEN, bobs);
    let mut acceptor = Acceptor::new(&ada(), TOKEN, adas);
    let (proof, _) = dialler.on_answer(&acceptor.on_hello(&hello).unwrap()).unwrap();
    acceptor.on_proof(&proof).unwrap();
    dialler.on_accepted(b"").unwrap();
    (dialler, acceptor)
}

#[test]
fn what_is_sealed_for_one_direction_does_not_open_in_the_other() {
    for (bobs, adas) in [([1; 32], [2; 32]), ([2; 32], [1; 32]), ([5; 32], [6; 32])] {
        let (mut to_bob, _, _) = link();
        let (_, mut at_ada) = link_back(bobs, adas);
        ends(&mut at_ada, PATH, &sealed(&mut to_bob, PATH, MESSAGE));
    }
}

#[test]
fn what_is_sealed_for_one_connection_does_not_open_on_the_next() {
    let (mut first, _, _) = link();
    let mut next = Acceptor::new(&bob(), TOKEN, [3; CHALLENGE_BYTES]);
    let (mut dialler, hello) = dialler();
    let (proof, _) = dialler.on_answer(&next.on_hello(&hello).unwrap()).unwrap();
    next.on_proof(&proof).unwrap();
    ends(&mut next, PATH, &sealed(&mut first, PATH, MESSAGE));
}

#[test]
fn no_changed_bit_of_a_message_is_overlooked() {
    for length in [1, 15, 16, 17, 40, 1023, 1024, 1153] {
        let (mut dialler, _, _) = link();
        let seal = sealed(&mut dialler, PATH, &[7; 1153][..length]);
        for (_, seal) in bit_flips(&seal) {
            ends(&mut link().1, PATH, &seal);
        }
    }
}

#[test]
fn a_message_has_no_other_length() {
    for message in [MESSAGE, &[7; 1030]] {
        for seal in other_lengths(&sealed(&mut link().0, PATH, message)) {
            ends(&mut link().1, PATH, &seal);
        }
    }
}

#[test]
fn a_message_opens_under_its_own_path_alone() {
    for path in Path::ALL {
        for other in Path::ALL {
            let (mut dialler, mut acceptor, _) = link();
            let seal = sealed(&mut dialler, path, MESSAGE);
            if path == other {
                assert_eq!(opened(&mut acceptor, other, &seal).unwrap(), MESSAGE);
            } else {
                ends(&mut acceptor, other, &seal);
            }
        }
    }
}

#[test]
fn messages_open_once_in_order_and_without_gaps() {
    let seals = |count| {
        let (mut dialler, acceptor, _) = link();
        (acceptor, (0..count).map(|_| sealed(&mut dialler, PATH, MESSAGE)).collect::<Vec<_>>())
    };
    for replayed in 0..4 {
        let (mut acceptor, seals) = seals(4);
        seals.iter().for_each(|seal| assert!(opened(&mut acceptor, PATH, seal).is_ok()));
        ends(&mut acceptor, PATH, &seals[replayed]);
    }
    for first in 0..4 {
        for then in (0..4).filter(|&then| then != first + 1) {
            let (mut acceptor, seals) = seals(4);
            if first == 0 {
                assert!(opened(&mut acceptor, PATH, &seals[0]).is_ok());
                ends(&mut acceptor, PATH, &seals[then]);
            } else {
                ends(&mut acceptor, PATH, &seals[first]);
            }
        }
    }
}

#[test]
fn equal_messages_never_look_equal() {
    let (mut dialler, _, _) = link();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        assert!(seen.insert(sealed(&mut dialler, PATH, b"")));
    }
}

#[test]
fn neither_the_token_nor_a_message_is_on_the_wire() {
    let (mut dialler, _, handshake) = link();
    let seal = sealed(&mut dialler, PATH, MESSAGE);
    for bytes in [&handshake.hello, &handshake.answer, &handshake.proof, &seal] {
        for secret in [TOKEN, MESSAGE] {
            assert!(!secret.windows(4).any(|part| bytes.windows(4).any(|other| other == part)));
        }
    }
}

/// What is done to an acceptor.
type Step<'a> = &'a dyn Fn(&mut Acceptor) -> Result<(), LinkError>;

#[test]
fn nothing_comes_before_its_turn_or_after_it() {
    let (_, _, honest) = link();
    let seal = sealed(&mut link().0, PATH, MESSAGE);
    // An acceptor in each of its states, and what it takes there.
    let reached: [(fn() -> Acceptor, Awaited); 4] = [
        (acceptor, Awaited::Hello),
        (
            || {
                let mut acceptor = acceptor();
                acceptor.on_hello(&link().2.hello).unwrap();
                acceptor
            },
            Awaited::Proof,
        ),
        (|| link().1, Awaited::Message),
        (
            || {
                let mut acceptor = acceptor();
                acceptor.on_hello(b"").unwrap_err();
                acceptor
            },
            Awaited::Nothing,
        ),
    ];
    for (reach, awaited) in reached {
        assert_eq!(reach().awaited(), awaited);
        let steps: [(Awaited, Step<'_>); 3] = [
            (Awaited::Hello, &|acceptor| acceptor.on_hello(&honest.hello).map(|_| ())),
            (Awaited::Proof, &|acceptor| acceptor.on_proof(&honest.proof).map(|_| ())),
            (Awaited::Message, &|acceptor| opened(acceptor, PATH, &seal).map(|_| ())),
        ];
        for (turn, step) in steps {
            let mut acceptor = reach();
            if turn == awaited {
                assert_eq!(step(&mut acceptor), Ok(()));
            } else {
                assert_eq!(step(&mut acceptor), Err(LinkError::OutOfTurn), "{turn:?} while {awaited:?}");
                assert_eq!(acceptor.awaited(), Awaited::Nothing);
            }
        }
    }

    let (mut fresh, _) = dialler();
    assert_eq!(fresh.on_accepted(b""), Err(LinkError::OutOfTurn));
    assert_eq!(fresh.on_answer(&honest.answer), Err(LinkError::OutOfTurn), "it has ended");
    let (mut up, _, _) = link();
    assert_eq!(up.on_answer(&honest.answer), Err(LinkError::OutOfTurn));
}

#[test]
#[should_panic(expected = "before the handshake is over")]
fn nothing_is_sealed_before_the_acceptor_has_accepted() {
    let (_, _, honest) = link();
    let (mut dialler, _) = dialler();
    dialler.on_answer(&honest.answer).unwrap();
    dialler.seal(PATH, MESSAGE, &mut Vec::new());
}

#[test]
fn garbage_is_refused() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000 {
        // Half of it begins as it should.
        let mut bytes = if round % 2 == 0 { [&MAGIC[..], &[VERSION]].concat() } else { Vec::new() };
        let length = random() as usize % 200;
        bytes.extend((0..length).map(|_| if random() % 3 == 0 { random() as u8 } else { 0 }));
        assert!(acceptor().on_hello(&bytes).is_err());
        assert!(dialler().0.on_answer(&bytes).is_err());
    }
}

#[test]
fn an_opened_message_is_one_and_of_its_path() {
    let heartbeat = Message::Heartbeat { epoch: 1, sent_at_ns: 2 };
    let mut bytes = Vec::new();
    write_message(&mut bytes, &heartbeat).unwrap();
    assert!(matches!(read_opened(Path::Heartbeat, &bytes), Ok(Message::Heartbeat { epoch: 1, sent_at_ns: 2 })));
    assert_eq!(read_opened(Path::Forward, &bytes).unwrap_err(), LinkError::OtherPath);
    bytes.push(0);
    assert_eq!(read_opened(Path::Heartbeat, &bytes).unwrap_err(), LinkError::MalformedMessage);
    assert_eq!(read_opened(Path::Heartbeat, b"").unwrap_err(), LinkError::MalformedMessage);
}

/// One of each. A new one does not compile until it has a place in [`LinkError::name`], and is missed below until it stands here.
fn errors() -> Vec<LinkError> {
    let text = || "a\nb".to_owned();
    vec![
        LinkError::NotHttp(HttpError { status: 400, message: "no" }),
        LinkError::StrangeRequest,
        LinkError::StrangeAnswer,
        LinkError::UnaskedAnswer,
        LinkError::TooLong { bytes: 7 },
        LinkError::OutOfTurn,
        LinkError::Malformed,
        LinkError::OtherVersion { version: 2 },
        LinkError::OtherSite { site: text() },
        LinkError::OurOwnHostId,
        LinkError::UnexpectedHostId { host_id: text() },
        LinkError::ClashingTimes {
            its: Rules { lease_ms: u32::MAX, grace_ms: u32::MAX, ..RULES },
            ours: Rules { lease_ms: u32::MAX, grace_ms: u32::MAX, ..RULES },
        },
        LinkError::WrongToken,
        LinkError::Altered,
        LinkError::MalformedMessage,
        LinkError::OtherPath,
    ]
}

#[test]
fn the_manual_has_every_refusal_and_no_other() {
    let section = MANUAL.split(".Ss Refusals").nth(1).unwrap().split(".Ss ").next().unwrap();
    let items = section.lines().filter_map(|line| line.strip_prefix(".It Sy "));
    let mut in_manual: Vec<&str> = items.flat_map(|names| names.split(" , ")).collect();
    let errors = errors();
    let mut names: Vec<&str> = errors.iter().map(LinkError::name).collect();
    in_manual.sort_unstable();
    names.sort_unstable();
    assert_eq!(in_manual, names);
    for error in errors {
        let line = error.to_string();
        assert!(!line.contains(['\n', '\r']) && line.len() < 200, "{line}");
        assert!(format!("{error:?}").starts_with(error.name()));
    }
}

#[test]
fn the_manual_has_the_bytes() {
    for info in [ACCEPTOR_PROOF_INFO, DIALLER_PROOF_INFO, DIALLER_KEY_INFO] {
        let row = format!("HKDF-Expand, 32 bytes; info: Li {}\n", str::from_utf8(info).unwrap());
        assert!(MANUAL.contains(&row), "{row}");
    }
    assert!(MANUAL.contains(".It magic Ta 8 bytes Ta Li bbd\\ link\n") && MAGIC == b"bbd link");
    assert!(MANUAL.contains(&format!(": {VERSION}\n.It site")));
    assert!(MANUAL.contains(&format!(".It a hello Ta {HELLO_MAX_BYTES} bytes\n")));
    assert!(MANUAL.contains(&format!(".It a message before it is sealed Ta {MESSAGE_MAX_BYTES} bytes\n")));
}
