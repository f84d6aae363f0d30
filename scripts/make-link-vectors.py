#!/usr/bin/env python3
"""Makes tests/data/link_vectors.txt with an independent implementation of AES-SIV and HKDF.

usage: make-link-vectors.py DIRECTORY

Needs Python's `cryptography` package. The output is always the same; the tests read what is in the repository, so this is run
only when the vectors themselves should change.
"""

import hashlib
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PATHS = ["hello", "heartbeat", "replicate", "snapshot", "handover", "forward"]


def pseudorandom(label, length):
    """Bytes that depend on the label alone."""
    return hashlib.shake_256(b"link vectors: " + label.encode()).digest(length)


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def hello(site, host_id, incarnation, rules, challenge):
    """The table in bbd-internals(7)."""
    lease_ms, grace_ms, on_peer_loss = rules
    numbers = struct.pack("<QIIB", incarnation, lease_ms, grace_ms, on_peer_loss == "safe")
    return b"bbd link" + b"\x02" + text(site) + text(host_id) + numbers + challenge


def derive(token, transcript, what):
    salt = hashlib.sha256(transcript).digest()
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=f"bbd link v1 {what}".encode()).derive(token)


def seal(key, message, associated_data):
    """"Sealed messages" in bbd-internals(7)."""
    strand = len(message) // 128 * 16 if len(message) >= 1024 else 0
    strands = [message[start : start + strand] for start in range(0, 7 * strand, strand)] if strand else []
    tag = AESSIV(key).encrypt(message[7 * strand :], associated_data + strands)[:16]
    counter = int.from_bytes(tag, "big") & ~(1 << 63 | 1 << 31)
    encryptor = Cipher(AES(key[16:]), CTR(counter.to_bytes(16, "big"))).encryptor()
    return tag + encryptor.update(message)


def lines():
    yield "# Links made by scripts/make-link-vectors.py. Bytes are in hexadecimal."
    yield "# link: token, site, host id, incarnation, rules (lease,grace,on-peer-loss) and challenge of the dialler, the same of the acceptor, bodies: hello, answer, proof"
    yield "# message of the link above: path, message, sealed"
    sites = ["local", "s", "0123456789-abcde"]
    host_ids = [("a", "b"), ("edge-1.example", "edge-2.example"), ("B" * 64, "A" * 64), ("z_9", "y.0")]
    tokens = [b"bbd --dev", b"t", pseudorandom("token", 32).hex().encode(), "schlüssel".encode(), b"x" * 1024]
    for index in range(20):
        token, site = tokens[index % 5], sites[index % 3]
        dialler_id, acceptor_id = host_ids[index % 4]
        number = lambda label: int.from_bytes(pseudorandom(f"{label} {index}", 8), "little")
        rules = [(2000 + index, 2000, ["available", "safe"][index % 2]), (2000, 1000 * (index + 1), "available")]
        dialler = [dialler_id, number("dialler"), rules[0], pseudorandom(f"dialler challenge {index}", 32)]
        acceptor = [acceptor_id, number("acceptor"), rules[1], pseudorandom(f"acceptor challenge {index}", 32)]
        if index == 0:
            dialler[1:], acceptor[1:] = [0, rules[0], bytes(32)], [2**64 - 1, rules[1], bytes(32)]
        dialler_hello, acceptor_hello = hello(site, *dialler), hello(site, *acceptor)
        transcript = dialler_hello + acceptor_hello
        answer = acceptor_hello + derive(token, transcript, "acceptor proof")
        proof = derive(token, transcript, "dialler proof")
        sides = [
            f"{host_id} {incarnation} {','.join(map(str, rules))} {challenge.hex()}"
            for host_id, incarnation, rules, challenge in [dialler, acceptor]
        ]
        yield " ".join(["link", token.hex(), site, *sides, dialler_hello.hex(), answer.hex(), proof.hex()])
        key = derive(token, transcript, "dialler key")
        lengths = [1 + (index * 8 + number) % 70 for number in range(8)] + [1023 + 8 * index]
        for message_number, length in enumerate(lengths):
            path = "/internal/" + PATHS[(index + message_number) % len(PATHS)]
            message = pseudorandom(f"message {index} {message_number}", length)
            sealed = seal(key, message, [struct.pack("<Q", message_number), path.encode()])
            yield " ".join(["message", path, message.hex(), sealed.hex()])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    (Path(sys.argv[1]) / "link_vectors.txt").write_text("".join(line + "\n" for line in lines()))


main()
