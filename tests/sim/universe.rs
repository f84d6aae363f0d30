//! What the simulated clients can say: names, customers, keys, bytes. All of it lives as long as the process, so that requests
//! and the model hold references instead of copies.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The longest blob a client sends; `--max-store-size` is the API's business, so anything will do.
pub(crate) const MAX_BLOB_BYTES: usize = 2048;
const POOL_BYTES: usize = 64 * 1024;
/// Names a run can draw from.
pub(crate) const NAMES: usize = 4096;
/// Customers a run can draw from.
pub(crate) const CUSTOMERS: usize = 64;
/// Idempotency keys a run can draw from.
pub(crate) const IDEMPOTENCY_KEYS: usize = 512;

/// Everything, made once.
pub(crate) struct Universe {
    pool: Vec<u8>,
    names: Vec<String>,
    customers: Vec<String>,
    idempotency_keys: Vec<String>,
    /// Bodies of counter updates, good and bad.
    counter_bodies: Vec<Vec<u8>>,
    counter_values: BTreeMap<Vec<u8>, i64>,
    prefixes: Vec<String>,
}

/// Bodies that are no update of a counter: no JSON objects, and then objects that say something else.
const JUNK_BODIES: [&[u8]; 8] = [
    b"",
    b"55",
    b"{\"value\":}",
    b"\xff\x00",
    b"{\"value\":9223372036854775808}",
    b"{\"valeu\":1}",
    b"{\"value\":1.5}",
    b"{}",
];
const JUNK_OBJECTS: &[&[u8]] = JUNK_BODIES.split_at(4).1;

/// The one universe.
pub(crate) fn universe() -> &'static Universe {
    static UNIVERSE: OnceLock<Universe> = OnceLock::new();
    UNIVERSE.get_or_init(Universe::new)
}

impl Universe {
    fn new() -> Self {
        let mut rng = Rng::new(0x0062_6967_6275_6e6e);
        let pool = (0..POOL_BYTES + MAX_BLOB_BYTES).map(|_| rng.next() as u8).collect();
        let names = (0..NAMES).map(name).collect();
        let customers = (0..CUSTOMERS)
            .map(|n| match n {
                0 => "a".to_owned(),
                1 => "A".to_owned(),
                2 => "-".to_owned(),
                3 => "x".repeat(64),
                n => format!("customer_{n}"),
            })
            .collect();
        let idempotency_keys = (0..IDEMPOTENCY_KEYS)
            .map(|n| if n % 16 == 1 { format!("{n:0>128}") } else { format!("key {n}") })
            .collect();
        let mut counter_values = BTreeMap::new();
        for edge in [0, 1, -1, 7, 100, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
            counter_values.insert(format!("{{\"value\":{edge}}}").into_bytes(), edge);
        }
        for _ in 0..50 {
            let value = rng.between(0, 400) as i64 - 200;
            counter_values.insert(format!("{{\"value\":{value}}}").into_bytes(), value);
        }
        let counter_bodies =
            counter_values.keys().cloned().chain(JUNK_BODIES.iter().map(|body| body.to_vec())).collect();
        let prefixes =
            ["", "s", "s/", "s/1", "u:", "u:7/", "é", "\u{10fffd}", "nobody", "l"].map(str::to_owned).to_vec();
        Self { pool, names, customers, idempotency_keys, counter_bodies, counter_values, prefixes }
    }

    pub(crate) fn name(&'static self, n: usize) -> &'static str {
        &self.names[n % NAMES]
    }

    pub(crate) fn customer(&'static self, n: usize) -> &'static str {
        &self.customers[n % CUSTOMERS]
    }

    pub(crate) fn idempotency_key(&'static self, n: usize) -> &'static str {
        &self.idempotency_keys[n % IDEMPOTENCY_KEYS]
    }

    pub(crate) fn prefix(&'static self, rng: &mut Rng) -> &'static str {
        &self.prefixes[rng.index(self.prefixes.len())]
    }

    /// `len` bytes that hardly ever come twice.
    pub(crate) fn blob(&'static self, rng: &mut Rng, len: usize) -> &'static [u8] {
        let at = rng.index(POOL_BYTES);
        &self.pool[at..at + len]
    }

    /// A body for the update of a counter, right four times in five.
    pub(crate) fn counter_body(&'static self, rng: &mut Rng) -> &'static [u8] {
        let right = self.counter_bodies.len() - JUNK_BODIES.len();
        if rng.one_in(5) {
            &self.counter_bodies[right + rng.index(JUNK_BODIES.len())]
        } else {
            &self.counter_bodies[rng.index(right)]
        }
    }

    /// Whether a body is an object, but no update.
    pub(crate) fn is_junk_object(body: &[u8]) -> bool {
        JUNK_OBJECTS.contains(&body)
    }

    /// What such a body says; `None` for any other body.
    pub(crate) fn counter_value(&self, body: &[u8]) -> Option<i64> {
        self.counter_values.get(body).copied()
    }
}

/// Families of names: of one length, nested prefixes, letters of several bytes, the shortest and the longest.
fn name(n: usize) -> String {
    match n % 8 {
        0 => format!("s/{n}"),
        1 => format!("s/{n:06}"),
        2 => format!("u:{}/{n}", n % 9),
        3 => format!("é{n}\u{1f407}"),
        4 => format!("\u{10fffd}{n}"),
        5 if n < 256 => "l".repeat(n),
        5 => format!("{n:l>256}"),
        6 if n < 128 => char::from(b'!' + (n / 8) as u8).to_string(),
        6 => format!("%2F {n}?&"),
        _ => format!("plain{n}"),
    }
}
