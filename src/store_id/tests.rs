//! Store ids against ids of another implementation, changed ids, and the primitives against their RFCs.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::*;
use aes_siv::KeyInit;
use aes_siv::siv::Aes128Siv;
use base64ct::{Base64UrlUnpadded, Encoding};

/// Ids and SIV ciphertexts made with Python's `cryptography`; each file says what its columns are.
const STORE_IDS: &str = include_str!("../../tests/data/store_ids.txt");
const AES_SIV: &str = include_str!("../../tests/data/aes_siv.txt");

fn hex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}

/// The lines of a data file, each split into `N` columns.
fn rows<const N: usize>(file: &str) -> Vec<[&str; N]> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(' ').collect::<Vec<_>>().try_into().unwrap()).collect()
}

fn master(id: &str, first_byte: u8) -> MasterKey {
    let mut key = Zeroizing::new([7; MASTER_KEY_BYTES]);
    key[0] = first_byte;
    MasterKey { id: id.to_owned(), key }
}

fn ring() -> KeyRing {
    KeyRing::new(vec![master("a", 1), master("b", 2)], "b", Some("local")).unwrap()
}

fn store_key(number: u64) -> StoreKey {
    let mut bytes = [0; 20];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(index as u32 * 11) >> 32) as u8;
    }
    StoreKey(bytes)
}

fn sealed(ring: &mut KeyRing, customer: &str, key: &StoreKey) -> String {
    let mut id = Vec::new();
    ring.seal(customer, key, &mut id);
    String::from_utf8(id).unwrap()
}

#[test]
fn agrees_with_another_implementation() {
    let rows = rows::<6>(STORE_IDS);
    assert_eq!(rows.len(), 5 * 4 * 6 + 5 * 4 * 2);
    for [key_id, master, site, customer, key, id] in rows {
        let site = (site != ".").then_some(site);
        let keys = vec![
            MasterKey { id: key_id.to_owned(), key: Zeroizing::new(hex(master).try_into().unwrap()) },
            super::tests::master("other", 9),
        ];
        let mut ring = KeyRing::new(keys, key_id, site).unwrap();
        let key = StoreKey(hex(key).try_into().unwrap());
        assert_eq!(ring.open(customer, id.as_bytes()), Some(key));
        assert_eq!(sealed(&mut ring, customer, &key), id);
        assert!(id.len() <= MAX_STORE_ID_CHARS);
    }
}

#[test]
fn appends_to_what_is_there() {
    let mut out = b"before ".to_vec();
    ring().seal("c", &store_key(1), &mut out);
    assert!(out.starts_with(b"before v1:b:"));
}

#[test]
fn opens_for_its_own_customer_site_and_key_alone() {
    let key = store_key(5);
    let id = sealed(&mut ring(), "shop", &key);
    let open = |key_byte, key_id: &str, site, customer| {
        KeyRing::new(vec![master(key_id, key_byte)], key_id, site).unwrap().open(customer, id.as_bytes())
    };
    assert_eq!(open(2, "b", Some("local"), "shop"), Some(key));
    assert_eq!(open(2, "b", Some("local"), "Shop"), None);
    assert_eq!(open(2, "b", Some("local"), "sho"), None);
    assert_eq!(open(2, "b", Some("local"), ""), None);
    assert_eq!(open(2, "b", Some("loca"), "shop"), None);
    assert_eq!(open(2, "b", None, "shop"), None);
    assert_eq!(open(3, "b", Some("local"), "shop"), None);
    assert_eq!(open(2, "c", Some("local"), "shop"), None);
}

#[test]
fn a_site_is_no_part_of_a_customer() {
    // With the site `x` the customer `y`, and without a site the customer `x:y`, have the same derived key; no customer has a
    // colon, and the associated data differs all the same.
    let keys = || vec![master("b", 2)];
    let id = sealed(&mut KeyRing::new(keys(), "b", Some("x")).unwrap(), "y", &store_key(1));
    assert_eq!(KeyRing::new(keys(), "b", None).unwrap().open("x:y", id.as_bytes()), None);
}

#[test]
fn no_single_bit_change_opens() {
    let mut ring = ring();
    let mut changes = 0;
    for number in 0.. {
        let mut id = sealed(&mut ring, "customer", &store_key(number)).into_bytes();
        for bit in 0..id.len() * 8 {
            id[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ring.open("customer", &id), None, "{}", String::from_utf8_lossy(&id));
            id[bit / 8] ^= 1 << (bit % 8);
            changes += 1;
        }
        assert_eq!(ring.open("customer", &id), Some(store_key(number)));
        if changes >= 1_000_000 {
            break;
        }
    }
}

#[test]
fn no_other_byte_and_no_other_length_opens() {
    let mut ring = ring();
    let id = sealed(&mut ring, "c", &store_key(3)).into_bytes();
    for index in 0..id.len() {
        for byte in (0..=u8::MAX).filter(|&byte| byte != id[index]) {
            let mut other = id.clone();
            other[index] = byte;
            assert_eq!(ring.open("c", &other), None);
        }
        assert_eq!(ring.open("c", &id[..index]), None, "cut off at {index}");
        assert_eq!(ring.open("c", &id[index + 1..]), None, "cut off before {index}");
        for byte in [b'A', b'=', b':', b'v', b' ', 0] {
            let mut longer = id.clone();
            longer.insert(index, byte);
            assert_eq!(ring.open("c", &longer), None);
            let mut shorter = id.clone();
            shorter.remove(index);
            assert_eq!(ring.open("c", &shorter), None);
        }
    }
    for end in ["A", "=", "==", " ", "\n", "\0"] {
        assert_eq!(ring.open("c", &[&id[..], end.as_bytes()].concat()), None);
    }
    assert_eq!(ring.open("c", &vec![b'A'; 1 << 16]), None);
    assert_eq!(ring.open("c", b""), None);
    assert_eq!(ring.open("c", b"v1::"), None);
}

#[test]
fn only_canonical_base64_opens() {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut ring = ring();
    let id = sealed(&mut ring, "c", &store_key(8)).into_bytes();
    let (&last, before) = id.split_last().unwrap();
    let value = ALPHABET.iter().position(|&character| character == last).unwrap();
    assert_eq!(value % 4, 0, "two bits of the last character are spare");
    for spare in 1..4 {
        assert_eq!(ring.open("c", &[before, &[ALPHABET[value + spare]]].concat()), None);
    }
}

/// Seals any text, as no daemon would.
fn seal_raw(ring: &KeyRing, customer: &str, plaintext: &[u8]) -> Vec<u8> {
    let mut siv_key = [0; 32];
    let info = [ring.info_prefix.as_bytes(), customer.as_bytes()];
    ring.keys.keys[ring.keys.current].hkdf.expand_multi_info(&info, &mut siv_key).unwrap();
    let associated_data = format!("{ASSOCIATED_DATA_PREFIX}{customer}");
    let token = Aes128Siv::new(&siv_key.into()).encrypt([associated_data], plaintext).unwrap();
    format!("v1:b:{}", Base64UrlUnpadded::encode_string(&token)).into_bytes()
}

#[test]
fn only_a_shard_and_a_unique_part_open_even_if_authentic() {
    let mut ring = ring();
    for (plaintext, opens) in [
        ("AAAAAAAAAAA:AAAAAAAAAAAAAAAA", true),
        ("AAAAAAAAAAB:AAAAAAAAAAAAAAAA", false), // spare bits
        ("AAAAAAAAAAA-AAAAAAAAAAAAAAAA", false),
        ("AAAAAAAAAA:AAAAAAAAAAAAAAAAA", false),
        ("AAAAAAAAAAA:AAAAAAAAAAAAAAA=", false),
        ("AAAAAAAAAAA:AAAAAAAAAAAAAAA", false),
        ("AAAAAAAAAAA:AAAAAAAAAAAAAAAAA", false),
        ("", false),
    ] {
        let id = seal_raw(&ring, "c", plaintext.as_bytes());
        assert_eq!(ring.open("c", &id).is_some(), opens, "{plaintext}");
    }
}

#[test]
fn keys_rotate() {
    let key = store_key(1);
    let mut ring = KeyRing::new(vec![master("a", 1)], "a", None).unwrap();
    let old = sealed(&mut ring, "c", &key);
    ring.replace_keys(vec![master("b", 2), master("a", 1)], "b").unwrap();
    let new = sealed(&mut ring, "c", &key);
    assert!(new.starts_with("v1:b:"));
    for id in [&old, &new] {
        assert_eq!(ring.open("c", id.as_bytes()), Some(key));
    }
    ring.use_key("a");
    assert_eq!(ring.current_id(), "a");
    ring.use_key("z");
    assert_eq!(ring.current_id(), "a", "there is no z");
    ring.use_key("b");
    let refused = ring.replace_keys(vec![master("c", 3)], "d");
    assert_eq!(refused, Err(KeyError::UnknownCurrent { id: "d".to_owned() }));
    assert_eq!(sealed(&mut ring, "c", &key), new, "a refused change changes nothing");
    ring.replace_keys(vec![master("b", 2)], "b").unwrap();
    assert_eq!(ring.open("c", old.as_bytes()), None);
    assert_eq!(ring.open("c", new.as_bytes()), Some(key));
    // The same id for another key: what was derived from the old one is gone.
    ring.replace_keys(vec![master("b", 9)], "b").unwrap();
    assert_eq!(ring.open("c", new.as_bytes()), None);
}

#[test]
fn what_is_kept_of_customers_shows_in_nothing() {
    let mut ring = ring();
    let ids: Vec<(String, String)> = (0..ciphers::READY_CIPHERS_MAX * 2 + 10)
        .map(|number| format!("customer-{number}"))
        .map(|customer| (sealed(&mut ring, &customer, &store_key(1)), customer))
        .collect();
    for _ in 0..2 {
        for (id, customer) in &ids {
            assert_eq!(ring.open(customer, id.as_bytes()), Some(store_key(1)));
            assert_eq!(ring.open(customer, id.replace(":b:", ":a:").as_bytes()), None);
        }
    }
}

#[test]
fn each_master_key_has_its_own_ciphers() {
    // Often enough for two ciphers of one customer to collide in all of the hash that the table compares.
    for number in 0..2000 {
        let mut ring = ring();
        let id = sealed(&mut ring, "c", &store_key(number));
        assert_eq!(ring.open("c", id.replace(":b:", ":a:").as_bytes()), None);
    }
}

#[test]
fn checks_keys_and_site() {
    let new = |keys, current, site| KeyRing::new(keys, current, site).err();
    assert_eq!(new(vec![], "a", None), Some(KeyError::NoKeys));
    assert_eq!(new(vec![master("a", 1)], "b", None), Some(KeyError::UnknownCurrent { id: "b".to_owned() }));
    assert_eq!(
        new(vec![master("a", 1), master("a", 2)], "a", None),
        Some(KeyError::DuplicateId { id: "a".to_owned() })
    );
    assert_eq!(new(vec![master("A", 1)], "A", None), Some(KeyError::MalformedId { entry: 1 }));
    for site in ["", "Fra", "a_b", "a:b", "0123456789abcdefg"] {
        let refused = Some(KeyError::MalformedSite { site: site.to_owned() });
        assert_eq!(new(vec![master("a", 1)], "a", Some(site)), refused);
    }
    let many = |count| (0..count).map(|number| master(&format!("k{number}"), 0)).collect();
    assert_eq!(new(many(MAX_MASTER_KEYS), "k0", None), None);
    assert_eq!(new(many(MAX_MASTER_KEYS + 1), "k0", None), Some(KeyError::TooManyKeys));
}

#[test]
fn reads_lists_of_keys() {
    let digits = "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100";
    let keys = parse_store_keys(&format!(" a:{digits},dev, 0_-9:{digits}\n")).unwrap();
    let read: Vec<_> = keys.iter().map(|key| (key.id.as_str(), key.key.to_vec())).collect();
    assert_eq!(read, [("a", hex(digits)), ("0", (0..32).collect()), ("0_-9", hex(digits))]);

    let error = |text: &str| parse_store_keys(text).unwrap_err();
    assert_eq!(error(""), KeyError::NoKeys);
    assert_eq!(error(" \n"), KeyError::NoKeys);
    assert_eq!(error(digits), KeyError::MalformedEntry { entry: 1 });
    assert_eq!(error("dev,"), KeyError::MalformedEntry { entry: 2 });
    assert_eq!(error("dev,dev"), KeyError::DuplicateId { id: "0".to_owned() });
    for id in ["", "A", "-a", "_a", "a.b", "ä", "0123456789abcdefg", "a b"] {
        assert_eq!(error(&format!("dev,{id}:{digits}")), KeyError::MalformedId { entry: 2 });
    }
    for bad in ["", "00", &digits[1..], &format!("{digits}0"), &digits.replace("00", "0g"), &digits.replace("00", "+0")]
    {
        assert_eq!(error(&format!("a:{bad}")), KeyError::MalformedKey { id: "a".to_owned() });
    }
}

#[test]
fn errors_and_debug_output_show_no_key() {
    let digits = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    for text in [digits.to_owned(), format!("{digits}:a"), format!("a:{digits}0"), format!("dev,{digits}")] {
        let error = parse_store_keys(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("001122"), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
    let debug = format!("{:?}", parse_store_keys(&format!("a:{digits}")).unwrap());
    assert_eq!(debug, r#"[MasterKey { id: "a", .. }]"#);
}

/// RFC 5297 appendix A, both examples.
#[test]
fn siv_agrees_with_its_rfc() {
    for (key, associated_data, plaintext, expected) in [
        (
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            &["101112131415161718191a1b1c1d1e1f2021222324252627"][..],
            "112233445566778899aabbccddee",
            "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c",
        ),
        (
            "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
            &[
                "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
                "102030405060708090a0",
                "09f911029d74e35bd84156c5635688c0",
            ],
            "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
            "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c\
             485b62a3fd5c0d",
        ),
    ] {
        let mut siv = Aes128Siv::new_from_slice(&hex(key)).unwrap();
        let associated_data: Vec<Vec<u8>> = associated_data.iter().map(|text| hex(text)).collect();
        assert_eq!(siv.encrypt(&associated_data, &hex(plaintext)).unwrap(), hex(expected));
        assert_eq!(siv.decrypt(&associated_data, &hex(expected)).unwrap(), hex(plaintext));
    }
}

#[test]
fn siv_agrees_with_another_implementation_and_refuses_every_change() {
    let rows = rows::<4>(AES_SIV);
    assert_eq!(rows.len(), 80);
    for [key, associated_data, plaintext, ciphertext] in rows {
        let [key, plaintext, ciphertext] = [key, plaintext, ciphertext].map(hex);
        let associated_data = if associated_data == "." { vec![] } else { hex(associated_data) };
        let mut siv = Aes128Siv::new_from_slice(&key).unwrap();
        assert_eq!(siv.encrypt([&associated_data], &plaintext).unwrap(), ciphertext);
        assert_eq!(siv.decrypt([&associated_data], &ciphertext).unwrap(), plaintext);

        for bit in 0..ciphertext.len() * 8 {
            let mut changed = ciphertext.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(siv.decrypt([&associated_data], &changed).is_err(), "bit {bit} of tag or text");
        }
        for length in 0..ciphertext.len() {
            assert!(siv.decrypt([&associated_data], &ciphertext[..length]).is_err(), "cut off at {length}");
        }
        let longer = [&ciphertext[..], &[0]].concat();
        assert!(siv.decrypt([&associated_data], &longer).is_err());
        let other_data = [&associated_data[..], &[0]].concat();
        assert!(siv.decrypt([&other_data], &ciphertext).is_err());
        assert!(siv.decrypt([[0; 0]; 0], &ciphertext).is_err(), "no associated data is not empty associated data");
        for byte in 0..key.len() {
            let mut other_key = key.clone();
            other_key[byte] ^= 1;
            assert!(Aes128Siv::new_from_slice(&other_key).unwrap().decrypt([&associated_data], &ciphertext).is_err());
        }
    }
}

/// RFC 5869 appendix A, the three examples with SHA-256.
#[test]
fn hkdf_agrees_with_its_rfc() {
    let range = |range: std::ops::Range<u8>| range.collect::<Vec<u8>>();
    for (key, salt, info, expected) in [
        (
            vec![0x0b; 22],
            Some(range(0x00..0x0d)),
            range(0xf0..0xfa),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            range(0x00..0x50),
            Some(range(0x60..0xb0)),
            (0xb0..=0xff).collect(),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8\
             367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            None,
            vec![],
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ] {
        let mut output = vec![0; expected.len() / 2];
        Hkdf::<Sha256>::new(salt.as_deref(), &key).expand(&info, &mut output).unwrap();
        assert_eq!(output, hex(expected));
    }
}
