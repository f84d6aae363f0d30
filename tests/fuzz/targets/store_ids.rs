//! Store ids that clients send, and the files with the keys they are made with.

use super::http::keyring;
use bigbunny::node::request::StoreKey;
use bigbunny::store_id::{KeyRing, parse_store_keys};

thread_local! {
    static KEYRING: std::cell::RefCell<KeyRing> = std::cell::RefCell::new(keyring());
}

/// The first byte says what the rest is: an id, the makings of one that is then altered, or a file of keys.
pub fn store_ids(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    KEYRING.with_borrow_mut(|keyring| match kind % 4 {
        0 | 1 => {
            if let Some(key) = keyring.open("c", rest) {
                let mut again = Vec::new();
                keyring.seal("c", &key, &mut again);
                assert_eq!(again, rest, "an id is written in one way");
            }
        }
        2 => {
            let Some((&[place, flip, cut], rest)) = rest.split_first_chunk() else { return };
            let mut key = StoreKey([0; 20]);
            let length = rest.len().min(20);
            key.0[..length].copy_from_slice(&rest[..length]);
            let mut id = Vec::new();
            keyring.seal("c", &key, &mut id);
            assert_eq!(keyring.open("c", &id), Some(key));
            assert_eq!(keyring.open("d", &id), None, "customers-apart");
            let place = usize::from(place) % id.len();
            let mut other = id.clone();
            other[place] ^= flip;
            other.truncate(id.len() - usize::from(cut) % 4);
            other.extend_from_slice(rest.get(20..).unwrap_or_default());
            assert_eq!(keyring.open("c", &other).is_some(), other == id);
        }
        _ => {
            let Ok(text) = str::from_utf8(rest) else { return };
            match parse_store_keys(text) {
                Ok(keys) => {
                    let current = keys.first().map_or(String::new(), |key| key.id.clone());
                    if let Ok(mut keyring) = KeyRing::new(keys, &current, Some("local")) {
                        let mut id = Vec::new();
                        keyring.seal("c", &StoreKey([7; 20]), &mut id);
                        assert_eq!(keyring.open("c", &id), Some(StoreKey([7; 20])));
                    }
                }
                Err(error) => assert!(!error.to_string().contains('\n')),
            }
        }
    });
}
