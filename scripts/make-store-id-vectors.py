#!/usr/bin/env python3
"""Makes tests/data/store_ids.txt and tests/data/aes_siv.txt with an independent implementation of AES-SIV and HKDF.

usage: make-store-id-vectors.py DIRECTORY

Needs Python's `cryptography` package. The output is always the same; the tests read what is in the repository, so this is run
only when the vectors themselves should change.
"""

import base64
import hashlib
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def pseudorandom(label, length):
    """Bytes that depend on the label alone."""
    return hashlib.shake_256(b"store id vectors: " + label.encode()).digest(length)


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def seal(key_id, master, site, customer, store_key):
    """Section 2 of the specification, word for word."""
    info = "storeid:v1:enc:" + (site + ":" if site is not None else "") + customer
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info.encode()).derive(master)
    plaintext = base64url(store_key[:8]) + ":" + base64url(store_key[8:])
    token = AESSIV(key).encrypt(plaintext.encode(), [("storeid:v1:" + customer).encode()])
    return f"v1:{key_id}:{base64url(token)}"


def store_ids():
    yield "# Store ids sealed by scripts/make-store-id-vectors.py."
    yield "# key id, master key, site (. for none), customer, store key, store id"
    masters = [("0", bytes(range(32)))]
    for key_id in ["1", "k", "2026-01_a", "z", "0123456789abcdef"]:
        masters.append((key_id, pseudorandom(f"master {key_id}", 32)))
    customers = ["c", "default", "Shop_7-b", "A" * 64]
    sites = [None, "local", "s", "fra-1", "0123456789-abcde"]
    for key_id, master in masters:
        for site in sites:
            for customer in customers:
                edges = [bytes(20), b"\xff" * 20] if key_id == "0" else []
                for store_key in [*edges, pseudorandom(f"{key_id} {site} {customer}", 20)]:
                    store_id = seal(key_id, master, site, customer, store_key)
                    yield " ".join([key_id, master.hex(), site or ".", customer, store_key.hex(), store_id])


def aes_siv():
    yield "# AES-128-SIV made by scripts/make-store-id-vectors.py."
    yield "# key, associated data (. for empty), plaintext, ciphertext (its first 16 bytes being the tag)"
    for length in range(1, 81):
        key = pseudorandom(f"key {length}", 32)
        data = pseudorandom(f"associated data {length}", (length * 7) % 97)
        plaintext = pseudorandom(f"plaintext {length}", length)
        sealed = AESSIV(key).encrypt(plaintext, [data])
        yield " ".join([key.hex(), data.hex() or ".", plaintext.hex(), sealed.hex()])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = Path(sys.argv[1])
    for name, lines in [("store_ids.txt", store_ids()), ("aes_siv.txt", aes_siv())]:
        (directory / name).write_text("".join(line + "\n" for line in lines))


main()
