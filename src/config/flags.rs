//! Owns the one table of the daemon's flags: name, value, default, help line, how it is set and how it is shown. The parser, the
//! environment, `--help`, `--check-config` and the check of bbd.8 all read it. Does not own the forms of values ([`super::values`]).

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::args::Arity;
use super::peer::{Durability, ON_PEER_LOSS_NAMES};
use super::secrets::Secret;
use super::values::{self, Allowed};
use super::{Config, CustomerSocket};
use crate::log;

/// One flag of the daemon.
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What its value is called in help texts; `None` for a switch.
    pub value_name: Option<&'static str>,
    /// The default, as it would be written on the command line.
    pub default: Option<&'static str>,
    /// The default in words, where there is none that could be written.
    pub default_words: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The value is never shown, and warned about on the command line.
    pub is_secret: bool,
    /// May stand several times; in the environment the values are separated by commas.
    pub is_repeatable: bool,
    /// Takes the value over, or says what would have been allowed.
    pub(super) set: fn(&mut Config, &OsStr) -> Result<(), Allowed>,
    /// The value in effect, for `--check-config`; of secrets, what may be said.
    pub(super) show: fn(&Config) -> String,
}

impl Flag {
    /// The name of the variable that may be set instead: `BBD_` and the name.
    #[must_use]
    pub fn environment_name(&self) -> String {
        format!("BBD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// Whether it takes a value.
    #[must_use]
    pub fn arity(&self) -> Arity {
        if self.value_name.is_some() { Arity::Value } else { Arity::Switch }
    }
}

/// The flag of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The names that older start scripts use for the environment.
pub const OLDER_ENVIRONMENT_NAMES: [(&str, &str); 4] = [
    ("SERIALD_STORE_KEYS", "store-keys"),
    ("SERIALD_STORE_KEY_CURRENT", "store-key-current"),
    ("SERIALD_ROUTING_SECRET", "routing-secret"),
    ("SERIALD_INTERNAL_TOKEN", "internal-token"),
];

/// The most that `--max-store-size` may be.
pub const MAX_STORE_SIZE_BYTES: u64 = 1 << 20;
/// The most that `--http-max-header-bytes` may be, and the least with which ordinary clients still get through.
const MAX_HEADER_BYTES: u64 = 1 << 20;
const MIN_HEADER_BYTES: u64 = 1 << 10;
/// The longest that `--max-lock-timeout` may be: a lock is for the length of one change, not of a visit.
const LONGEST_LOCK: Duration = Duration::from_secs(3600);
/// The longest time to live (section 3 of the specification).
const LONGEST_TTL: Duration = Duration::from_secs(315_360_000);
/// The range of the `--http-…` times.
const SHORTEST_HTTP_TIME: Duration = Duration::from_millis(10);
const LONGEST_HTTP_TIME: Duration = Duration::from_secs(86_400);
/// The most connections: a process that has a descriptor for each can be made, but not more.
const MAX_CONNECTIONS: usize = 1_000_000;
/// The most for rates and bursts: more than a node answers is as good as none.
const MAX_RATE: u32 = 1_000_000_000;

/// The ranges of the times of two nodes: below them a busy machine would look dead, above them a dead one alive for too long.
const HEARTBEAT_TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
const LEASE_TIMES: RangeInclusive<Duration> = Duration::from_millis(30)..=Duration::from_secs(60);
/// The range of `--replication-backlog`: less is used up by a few batches, more is better spent on a snapshot.
const BACKLOG_SIZES: RangeInclusive<u64> = 256 << 10..=64 << 30;

/// A flag without anything special about it; the table's entries name what differs.
const PLAIN: Flag = Flag {
    name: "",
    value_name: None,
    default: None,
    default_words: "",
    help: "",
    is_secret: false,
    is_repeatable: false,
    set: |_, _| Ok(()),
    show: |_| String::new(),
};

/// Every flag of the daemon, in the order of help texts.
pub const FLAGS: &[Flag] = &[
    Flag {
        name: "dev",
        help: "A fixed key and no internal token, for trying things out; not for production",
        set: |config, value| put(&mut config.dev, values::switch(value)),
        show: |config| config.dev.to_string(),
        ..PLAIN
    },
    Flag {
        name: "host-id",
        value_name: Some("ID"),
        default_words: "the host's name",
        help: "This node's name, 1 to 64 of A-Z a-z 0-9 . _ -",
        set: |config, value| put(&mut config.host_id, values::host_id(value)),
        show: |config| config.host_id.clone(),
        ..PLAIN
    },
    Flag {
        name: "site",
        value_name: Some("SITE"),
        default: Some("local"),
        help: "The point of presence, 1 to 16 of a-z 0-9 -; store ids open at their own site only",
        set: |config, value| put(&mut config.site, values::site(value)),
        show: |config| config.site.clone(),
        ..PLAIN
    },
    Flag {
        name: "uds",
        value_name: Some("PATH"),
        default: Some("/tmp/bbd.sock"),
        help: "The Unix socket to serve on",
        set: |config, value| put(&mut config.uds, values::socket_path(value)),
        show: |config| config.uds.display().to_string(),
        ..PLAIN
    },
    Flag {
        name: "uds-mode",
        value_name: Some("MODE"),
        default: Some("0600"),
        help: "The permission bits of the socket files, in octal",
        set: |config, value| put(&mut config.uds_mode, values::file_mode(value)),
        show: |config| format!("{:04o}", config.uds_mode),
        ..PLAIN
    },
    Flag {
        name: "uds-group",
        value_name: Some("GROUP"),
        default_words: "the daemon's own",
        help: "The group of the socket files, by name or number",
        set: |config, value| {
            // Read here and not through the C library, which a static binary could not ask for names.
            let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
            put(&mut config.uds_gid, values::group_id(value, &groups).map(Some))
        },
        show: |config| config.uds_gid.map_or_else(String::new, |gid| gid.to_string()),
        ..PLAIN
    },
    Flag {
        name: "uds-for",
        value_name: Some("CUSTOMER=PATH"),
        default_words: "none",
        help: "A further socket on which every request is that customer's; repeatable",
        is_repeatable: true,
        set: |config, value| {
            config.uds_for.push(customer_socket(value)?);
            Ok(())
        },
        show: |config| {
            let sockets = config.uds_for.iter().map(|socket| format!("{}={}", socket.customer, socket.path.display()));
            sockets.collect::<Vec<String>>().join(",")
        },
        ..PLAIN
    },
    Flag {
        name: "tcp",
        value_name: Some("HOST:PORT"),
        default: Some(":8080"),
        help: "The address for the peer; only opened with a peer",
        set: |config, value| put(&mut config.tcp, values::tcp_address(value)),
        show: |config| config.tcp.to_string(),
        ..PLAIN
    },
    Flag {
        name: "peers",
        value_name: Some("ID@HOST:PORT"),
        default_words: "none",
        help: "The other node of the site: its --host-id and its --tcp as seen from here; one peer",
        set: |config, value| put(&mut config.peer, values::peer(value).map(Some)),
        show: |config| {
            config.peer.as_ref().map_or_else(String::new, |peer| format!("{}@{}", peer.host_id, peer.address))
        },
        ..PLAIN
    },
    Flag {
        name: "heartbeat-interval",
        value_name: Some("DURATION"),
        default: Some("200ms"),
        help: "How often a primary tells its peer that it lives; at most a third of --lease",
        set: |config, value| put(&mut config.heartbeat_interval, values::duration(value, HEARTBEAT_TIMES)),
        show: |config| values::show_duration(config.heartbeat_interval),
        ..PLAIN
    },
    Flag {
        name: "lease",
        value_name: Some("DURATION"),
        default: Some("2s"),
        help: "How long a heartbeat that the peer answered lets a primary be sure; the same on both nodes",
        set: |config, value| put(&mut config.lease, values::duration(value, LEASE_TIMES)),
        show: |config| values::show_duration(config.lease),
        ..PLAIN
    },
    Flag {
        name: "grace",
        value_name: Some("DURATION"),
        default: Some("2s"),
        help: "How long a secondary waits beyond the lease; at least --heartbeat-interval",
        set: |config, value| put(&mut config.grace, values::duration(value, LEASE_TIMES)),
        show: |config| values::show_duration(config.grace),
        ..PLAIN
    },
    Flag {
        name: "on-peer-loss",
        value_name: Some("POLICY"),
        default: Some("available"),
        help: "A primary without its peer: available goes on alone, safe refuses changes",
        set: |config, value| put(&mut config.on_peer_loss, values::choice(value, &ON_PEER_LOSS_NAMES)),
        show: |config| values::name_of(config.on_peer_loss, &ON_PEER_LOSS_NAMES),
        ..PLAIN
    },
    Flag {
        name: "durability",
        value_name: Some("DURABILITY"),
        default: Some("async"),
        help: "A change is answered when this node has it (async), or both have it (replicated)",
        set: |config, value| put(&mut config.durability, values::choice(value, &Durability::NAMES)),
        show: |config| values::name_of(config.durability, &Durability::NAMES),
        ..PLAIN
    },
    Flag {
        name: "replication-backlog",
        value_name: Some("SIZE"),
        default: Some("16M"),
        help: "Changes kept for a peer that is away; at least four times --max-store-size",
        set: |config, value| put(&mut config.replication_backlog_bytes, values::size(value, BACKLOG_SIZES)),
        show: |config| values::show_size(config.replication_backlog_bytes),
        ..PLAIN
    },
    Flag {
        name: "store-keys",
        value_name: Some("ID:HEX,..."),
        default_words: "none",
        help: "The keys that store ids are sealed with: an id and 64 hex digits each; \"dev\" is the key of --dev",
        is_secret: true,
        set: |config, value| put(&mut config.given.store_keys, secret(value)),
        show: |config| {
            let ids: Vec<&str> = config.secrets.store_keys.iter().map(|key| key.id.as_str()).collect();
            ids.iter().map(|id| format!("{id}:(secret)")).collect::<Vec<String>>().join(",")
        },
        ..PLAIN
    },
    Flag {
        name: "store-keys-file",
        value_name: Some("FILE"),
        default_words: "none",
        help: "The same from a file of mode 0600 or stricter",
        set: |config, value| put(&mut config.given.store_keys_file, values::path(value).map(Some)),
        show: |config| show_path(config.given.store_keys_file.as_deref()),
        ..PLAIN
    },
    Flag {
        name: "store-key-current",
        value_name: Some("ID"),
        default_words: "the greatest id",
        help: "The id of the key for new store ids; all others still open",
        set: |config, value| {
            put(&mut config.places.store_key_current, values::text(value).map(|text| Some(text.to_owned())))
        },
        show: |config| config.secrets.store_key_current.clone(),
        ..PLAIN
    },
    Flag {
        name: "internal-token",
        value_name: Some("TOKEN"),
        default_words: "none",
        help: "What both nodes of a site know; required with a peer, unless --dev",
        is_secret: true,
        set: |config, value| put(&mut config.given.internal_token, secret(value)),
        show: |config| match &config.secrets.internal_token {
            Some(_) => "(secret)".to_owned(),
            None => String::new(),
        },
        ..PLAIN
    },
    Flag {
        name: "internal-token-file",
        value_name: Some("FILE"),
        default_words: "none",
        help: "The same from a file of mode 0600 or stricter",
        set: |config, value| put(&mut config.given.internal_token_file, values::path(value).map(Some)),
        show: |config| show_path(config.given.internal_token_file.as_deref()),
        ..PLAIN
    },
    Flag {
        name: "routing-secret",
        value_name: Some("SECRET"),
        default_words: "none",
        help: "Accepted for old start scripts and not used: two nodes need no routing",
        is_secret: true,
        set: |_, value| secret(value).map(|_| ()),
        show: |_| "(not used)".to_owned(),
        ..PLAIN
    },
    Flag {
        name: "memory-limit",
        value_name: Some("SIZE"),
        default: Some("0"),
        help: "Memory for all stores together; 0 is no limit",
        set: |config, value| put(&mut config.limits.memory_limit_bytes, values::size(value, 0..=u64::MAX >> 1)),
        show: |config| values::show_size(config.limits.memory_limit_bytes),
        ..PLAIN
    },
    Flag {
        name: "customer-memory-quota",
        value_name: Some("SIZE"),
        default: Some("0"),
        help: "Memory for the stores of one customer; 0 is no limit",
        set: |config, value| {
            put(&mut config.limits.customer_memory_quota_bytes, values::size(value, 0..=u64::MAX >> 1))
        },
        show: |config| values::show_size(config.limits.customer_memory_quota_bytes),
        ..PLAIN
    },
    Flag {
        name: "rate-limit",
        value_name: Some("N"),
        default: Some("100"),
        help: "Requests a second and customer in the long run; 0 is no limit",
        set: |config, value| put(&mut config.limits.rate_limit_per_second, values::number(value, 0..=MAX_RATE)),
        show: |config| config.limits.rate_limit_per_second.to_string(),
        ..PLAIN
    },
    Flag {
        name: "burst-size",
        value_name: Some("N"),
        default: Some("200"),
        help: "Requests of a customer that may come at once",
        set: |config, value| put(&mut config.limits.burst_size, values::number(value, 1..=MAX_RATE)),
        show: |config| config.limits.burst_size.to_string(),
        ..PLAIN
    },
    Flag {
        name: "tombstone-customer-limit",
        value_name: Some("N"),
        default: Some("0"),
        help: "Deletions remembered for one customer; 0 is no limit",
        set: |config, value| put(&mut config.limits.tombstone_customer_limit, values::number(value, 0..=u64::MAX)),
        show: |config| config.limits.tombstone_customer_limit.to_string(),
        ..PLAIN
    },
    Flag {
        name: "tombstone-global-limit",
        value_name: Some("N"),
        default: Some("0"),
        help: "Deletions remembered altogether; 0 is no limit",
        set: |config, value| put(&mut config.limits.tombstone_global_limit, values::number(value, 0..=u64::MAX)),
        show: |config| config.limits.tombstone_global_limit.to_string(),
        ..PLAIN
    },
    Flag {
        name: "limits-file",
        value_name: Some("FILE"),
        default_words: "none",
        help: "Lines such as rate-limit=200, read again at a reload; they count more than flags",
        set: |config, value| put(&mut config.limits_file, values::path(value).map(Some)),
        show: |config| show_path(config.limits_file.as_deref()),
        ..PLAIN
    },
    Flag {
        name: "max-store-size",
        value_name: Some("SIZE"),
        default: Some("2048"),
        help: "The longest blob, up to 1M",
        set: |config, value| {
            put(&mut config.max_store_size_bytes, values::size_in_memory(value, 1..=MAX_STORE_SIZE_BYTES))
        },
        show: |config| config.max_store_size_bytes.to_string(),
        ..PLAIN
    },
    Flag {
        name: "lock-timeout",
        value_name: Some("DURATION"),
        default: Some("500ms"),
        help: "How long a lock is held unless asked otherwise",
        set: |config, value| put(&mut config.lock_timeout, values::duration(value, ONE_MS..=LONGEST_LOCK)),
        show: |config| values::show_duration(config.lock_timeout),
        ..PLAIN
    },
    Flag {
        name: "max-lock-timeout",
        value_name: Some("DURATION"),
        default: Some("30s"),
        help: "The longest hold that a client may ask for",
        set: |config, value| put(&mut config.max_lock_timeout, values::duration(value, ONE_MS..=LONGEST_LOCK)),
        show: |config| values::show_duration(config.max_lock_timeout),
        ..PLAIN
    },
    Flag {
        name: "default-ttl",
        value_name: Some("DURATION"),
        default: Some("14d"),
        help: "The time to live of stores that are made without one",
        set: |config, value| {
            put(&mut config.default_ttl, values::duration(value, Duration::from_secs(1)..=LONGEST_TTL))
        },
        show: |config| values::show_duration(config.default_ttl),
        ..PLAIN
    },
    Flag {
        name: "max-connections",
        value_name: Some("N"),
        default: Some("1024"),
        help: "Connections at a time; a further one gets 503 and is closed",
        set: |config, value| put(&mut config.max_connections, values::number(value, 1..=MAX_CONNECTIONS)),
        show: |config| config.max_connections.to_string(),
        ..PLAIN
    },
    Flag {
        name: "http-read-timeout",
        value_name: Some("DURATION"),
        default: Some("30s"),
        help: "The time for a whole request to arrive",
        set: |config, value| put(&mut config.http_read_timeout, http_time(value)),
        show: |config| values::show_duration(config.http_read_timeout),
        ..PLAIN
    },
    Flag {
        name: "http-read-header-timeout",
        value_name: Some("DURATION"),
        default: Some("10s"),
        help: "The time for the head of a request to arrive",
        set: |config, value| put(&mut config.http_read_header_timeout, http_time(value)),
        show: |config| values::show_duration(config.http_read_header_timeout),
        ..PLAIN
    },
    Flag {
        name: "http-write-timeout",
        value_name: Some("DURATION"),
        default: Some("30s"),
        help: "The time for a client to take its answer",
        set: |config, value| put(&mut config.http_write_timeout, http_time(value)),
        show: |config| values::show_duration(config.http_write_timeout),
        ..PLAIN
    },
    Flag {
        name: "http-idle-timeout",
        value_name: Some("DURATION"),
        default: Some("120s"),
        help: "The time that a connection may stay without a request",
        set: |config, value| put(&mut config.http_idle_timeout, http_time(value)),
        show: |config| values::show_duration(config.http_idle_timeout),
        ..PLAIN
    },
    Flag {
        name: "http-max-header-bytes",
        value_name: Some("SIZE"),
        default: Some("65536"),
        help: "The longest head of a request, from 1K to 1M",
        set: |config, value| {
            put(&mut config.http_max_header_bytes, values::size_in_memory(value, MIN_HEADER_BYTES..=MAX_HEADER_BYTES))
        },
        show: |config| config.http_max_header_bytes.to_string(),
        ..PLAIN
    },
    Flag {
        name: "disable-site-verification",
        help: "Store ids open at every site that has their key",
        set: |config, value| put(&mut config.disable_site_verification, values::switch(value)),
        show: |config| config.disable_site_verification.to_string(),
        ..PLAIN
    },
    Flag {
        name: "log-level",
        value_name: Some("LEVEL"),
        default: Some("info"),
        help: "How much is logged: error, warn, info or debug",
        set: |config, value| {
            put(&mut config.log_level, values::choice(value, &log::Level::ALL.map(|level| (level, level.name()))))
        },
        show: |config| config.log_level.name().to_owned(),
        ..PLAIN
    },
    Flag {
        name: "log-format",
        value_name: Some("FORMAT"),
        default: Some("text"),
        help: "How a line of the log looks: text or json",
        set: |config, value| put(&mut config.log_format, values::choice(value, &LOG_FORMATS)),
        show: |config| match config.log_format {
            log::Format::Text => "text".to_owned(),
            log::Format::Json => "json".to_owned(),
        },
        ..PLAIN
    },
    Flag {
        name: "metrics-listen",
        value_name: Some("ADDRESS:PORT"),
        default_words: "off",
        help: "A TCP address for /metrics, /healthz and /readyz alone, such as 127.0.0.1:9120",
        set: |config, value| put(&mut config.metrics_listen, values::socket_address(value).map(Some)),
        show: |config| config.metrics_listen.map_or_else(String::new, |address| address.to_string()),
        ..PLAIN
    },
    Flag {
        name: "metrics-listen-any",
        help: "Let --metrics-listen be an address that other hosts reach",
        set: |config, value| put(&mut config.metrics_listen_any, values::switch(value)),
        show: |config| config.metrics_listen_any.to_string(),
        ..PLAIN
    },
    Flag {
        name: "no-sandbox",
        help: "Keep all system calls and files within reach, for debuggers and profilers",
        set: |config, value| put(&mut config.no_sandbox, values::switch(value)),
        show: |config| config.no_sandbox.to_string(),
        ..PLAIN
    },
    Flag {
        name: "bind-addr",
        value_name: Some("[HOST:]PORT"),
        default_words: "no cluster map",
        help: "Serve the cluster map here over TCP; alone, unless --uds, --uds-for, --peers or --dev is set too",
        set: |config, value| put(&mut config.bind_addr, values::tcp_address(value).map(Some)),
        show: |config| show_address(config.bind_addr.as_ref()),
        ..PLAIN
    },
    Flag {
        name: "advertise-addr",
        value_name: Some("HOST:PORT"),
        default_words: "--bind-addr",
        help: "Where the other nodes of the cluster map reach this one",
        set: |config, value| put(&mut config.advertise_addr, values::tcp_address(value).map(Some)),
        show: |config| show_address(config.advertise_addr.as_ref()),
        ..PLAIN
    },
    Flag {
        name: "data-dir",
        value_name: Some("DIR"),
        default_words: "$STATE_DIRECTORY, else ./bbd-data/PORT",
        help: "The folder with the cluster map's log and snapshots; one for each node",
        set: |config, value| put(&mut config.data_dir, values::path(value).map(Some)),
        show: |config| show_path(config.data_dir.as_deref()),
        ..PLAIN
    },
    Flag {
        name: "kv-memory-limit",
        value_name: Some("SIZE"),
        default: Some("256M"),
        help: "The most that keys and values of the cluster map take, about; 0 is no limit",
        set: |config, value| put(&mut config.kv_memory_limit_bytes, values::size(value, 0..=u64::MAX)),
        show: |config| values::show_size(config.kv_memory_limit_bytes),
        ..PLAIN
    },
    Flag {
        name: "client-token",
        value_name: Some("TOKEN"),
        default_words: "none",
        help: "What users of the cluster map send: Authorization: Bearer TOKEN",
        is_secret: true,
        set: |config, value| put(&mut config.given.client_token, secret(value)),
        show: |config| if config.client_token.is_some() { "(set)" } else { "" }.to_owned(),
        ..PLAIN
    },
    Flag {
        name: "client-token-file",
        value_name: Some("FILE"),
        default_words: "none",
        help: "The same from a file of mode 0600 or stricter",
        set: |config, value| put(&mut config.given.client_token_file, values::path(value).map(Some)),
        show: |config| show_path(config.given.client_token_file.as_deref()),
        ..PLAIN
    },
    Flag {
        name: "insecure",
        help: "Let --bind-addr be an address that others reach, without tokens",
        set: |config, value| put(&mut config.insecure, values::switch(value)),
        show: |config| config.insecure.to_string(),
        ..PLAIN
    },
    Flag {
        name: "check-config",
        help: "Validate everything, print the result without secrets, and exit",
        set: |config, value| put(&mut config.check_config, values::switch(value)),
        show: |config| config.check_config.to_string(),
        ..PLAIN
    },
];

/// The forms of the log by name.
const LOG_FORMATS: [(log::Format, &str); 2] = [(log::Format::Text, "text"), (log::Format::Json, "json")];
/// The shortest lock.
const ONE_MS: Duration = Duration::from_millis(1);

/// Stores what a parser made of a value.
fn put<T>(place: &mut T, value: Result<T, Allowed>) -> Result<(), Allowed> {
    *place = value?;
    Ok(())
}

/// One of the `--http-…` times.
fn http_time(value: &OsStr) -> Result<Duration, Allowed> {
    values::duration(value, SHORTEST_HTTP_TIME..=LONGEST_HTTP_TIME)
}

/// A secret as it was given; what is in it is checked when all places are known.
fn secret(value: &OsStr) -> Result<Option<Secret>, Allowed> {
    let text = values::text(value)?;
    if text.is_empty() { Err("something that is not empty".to_owned()) } else { Ok(Some(Secret::new(text.to_owned()))) }
}

/// `CUSTOMER=PATH`
fn customer_socket(value: &OsStr) -> Result<CustomerSocket, Allowed> {
    let allowed = || "CUSTOMER=PATH, a customer id of A-Z a-z 0-9 _ - and the path of a socket".to_owned();
    let (customer, path) = values::text(value)?.split_once('=').ok_or_else(allowed)?;
    let customer = values::customer(customer).map_err(|_| allowed())?;
    Ok(CustomerSocket { customer, path: values::socket_path(OsStr::new(path))? })
}

fn show_address(address: Option<&values::HostPort>) -> String {
    address.map_or_else(String::new, ToString::to_string)
}

fn show_path(path: Option<&std::path::Path>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}
