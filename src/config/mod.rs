//! Owns the configuration of the daemon: what it is made of ([`Config`]), the order in which the command line, the environment and
//! defaults count, and what must hold between values. The table of flags is in [`flags`], the forms of values in [`values`], the
//! shape of a command line in [`args`], the handling of secrets in [`secrets`], all about the peer in [`peer`]. Nothing here opens
//! a socket or logs.

pub mod args;
pub mod flags;
pub mod limits;
pub mod map;
pub mod peer;
pub mod secrets;
pub mod values;

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log;
use crate::node::{Limits, NodeConfig, OnPeerLoss};
use flags::{FLAGS, Flag};
use map::MapConfig;
use peer::{Durability, Peer};
use secrets::{Place, Secret, SecretPlaces, Secrets};
use values::HostPort;

/// The most of a bad value that an error repeats.
const MAX_SHOWN_VALUE_CHARS: usize = 80;

/// Everything that the daemon was told, checked. One field per flag, in the order of the table.
#[derive(Debug)]
pub struct Config {
    /// `--dev`
    pub dev: bool,
    /// `--host-id`: 1 to 64 of `A-Z a-z 0-9 . _ -`
    pub host_id: String,
    /// `--site`: 1 to 16 of `a-z 0-9 -`
    pub site: String,
    /// `--uds`
    pub uds: PathBuf,
    /// `--uds-mode`: permission bits
    pub uds_mode: u32,
    /// `--uds-group`: the number of the group that the socket files get
    pub uds_gid: Option<u32>,
    /// `--uds-for`, in the order given; no path twice
    pub uds_for: Vec<CustomerSocket>,
    /// `--tcp`: where to listen for the peer, with a peer only; an empty host is every address of this one
    pub tcp: HostPort,
    /// `--peers`: the other node
    pub peer: Option<Peer>,
    /// `--heartbeat-interval`: whole milliseconds, at most a third of `lease`
    pub heartbeat_interval: Duration,
    /// `--lease`: whole milliseconds
    pub lease: Duration,
    /// `--grace`: whole milliseconds, at least `heartbeat_interval`
    pub grace: Duration,
    /// `--on-peer-loss`
    pub on_peer_loss: OnPeerLoss,
    /// `--durability`
    pub durability: Durability,
    /// `--replication-backlog`: room for several changes of the greatest size
    pub replication_backlog_bytes: u64,
    /// `--store-keys`, `--store-key-current`, `--internal-token` and their files
    pub secrets: Secrets,
    /// `--memory-limit` and the others that `--limits-file` may change
    pub limits: Limits,
    /// `--limits-file`
    pub limits_file: Option<PathBuf>,
    /// `--max-store-size`: 1 to 1 MiB
    pub max_store_size_bytes: usize,
    /// `--lock-timeout`: whole milliseconds, no longer than `max_lock_timeout`
    pub lock_timeout: Duration,
    /// `--max-lock-timeout`: whole milliseconds
    pub max_lock_timeout: Duration,
    /// `--default-ttl`: whole milliseconds
    pub default_ttl: Duration,
    /// `--max-connections`: at least 1
    pub max_connections: usize,
    /// `--http-read-timeout`
    pub http_read_timeout: Duration,
    /// `--http-read-header-timeout`
    pub http_read_header_timeout: Duration,
    /// `--http-write-timeout`
    pub http_write_timeout: Duration,
    /// `--http-idle-timeout`
    pub http_idle_timeout: Duration,
    /// `--http-max-header-bytes`: 1 KiB to 1 MiB
    pub http_max_header_bytes: usize,
    /// `--disable-site-verification`
    pub disable_site_verification: bool,
    /// `--log-level`
    pub log_level: log::Level,
    /// `--log-format`
    pub log_format: log::Format,
    /// `--metrics-listen`: loopback, unless `metrics_listen_any`
    pub metrics_listen: Option<SocketAddr>,
    /// `--metrics-listen-any`
    pub metrics_listen_any: bool,
    /// `--no-sandbox`
    pub no_sandbox: bool,
    /// `--bind-addr`: where the cluster map is served, if it is
    pub bind_addr: Option<HostPort>,
    /// `--advertise-addr`
    pub advertise_addr: Option<HostPort>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--kv-memory-limit`: 0 is no limit
    pub kv_memory_limit_bytes: u64,
    /// `--client-token` or its file
    pub client_token: Option<Secret>,
    client_token_place: Option<Place>,
    /// `--insecure`
    pub insecure: bool,
    /// What comes of these six
    pub map: Option<MapConfig>,
    /// `--check-config`: print [`Config::report`] and exit
    pub check_config: bool,
    /// What an operator should hear at the start, one sentence each, without secrets.
    pub warnings: Vec<String>,
    given: GivenSecrets,
    /// The limits without `limits_file`.
    given_limits: Option<Limits>,
    places: SecretPlaces,
    /// Where the value of each flag came from, in the order of the table.
    origins: Vec<Origin>,
}

/// One `--uds-for`: a socket that belongs to one customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerSocket {
    /// Whose requests come in on it.
    pub customer: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Flags that name secrets, as given, before it is settled which of a pair counts.
#[derive(Debug, Default)]
struct GivenSecrets {
    store_keys: Option<Secret>,
    store_keys_file: Option<PathBuf>,
    internal_token: Option<Secret>,
    internal_token_file: Option<PathBuf>,
    client_token: Option<Secret>,
    client_token_file: Option<PathBuf>,
}

/// Where a value came from; a later one counts more.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    Environment(String),
    CommandLine,
    /// A secret that no value was given for: the file it was read from, or `--dev`.
    Elsewhere(String),
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Environment(_) => 1,
            Self::CommandLine | Self::Elsewhere(_) => 2,
        }
    }
}

/// What is wrong with a configuration: one line that names the flag, the value (unless secret) and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// What the daemon's command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// To run (or to check) with this configuration.
    Config(Box<Config>),
    /// `--help` stood somewhere: nothing else was looked at.
    Help,
}

/// Reads a configuration from the arguments behind the program's name, the environment and the files they name.
///
/// The command line counts more than the environment, that more than the defaults. An empty variable counts as not set.
///
/// # Errors
/// The first thing that is wrong. `--help` is none: see [`parse_or_help`].
pub fn parse(
    args: impl IntoIterator<Item = impl Into<OsString>>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, ConfigError> {
    match parse_or_help(args.into_iter().map(Into::into).collect(), env)? {
        Parsed::Config(config) => Ok(*config),
        Parsed::Help => Err(ConfigError::new("--help is not a setting")),
    }
}

/// As [`parse`], but hears `--help`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_or_help(args: Vec<OsString>, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Parsed, ConfigError> {
    let arguments = args::parse(args, &|name| flags::find(name).map(Flag::arity))
        .map_err(|problem| ConfigError::new(format!("{problem} (see bbd --help)")))?;
    if arguments.help {
        return Ok(Parsed::Help);
    }
    if let Some(stray) = arguments.positionals.first() {
        return Err(ConfigError::new(format!(
            "{} is not a flag; the daemon takes flags only, and a client command stands first: bbd COMMAND [FLAGS]",
            shown(stray)
        )));
    }
    let mut config = Config::blank();
    config.take_defaults()?;
    config.take_environment(env)?;
    for (name, value) in &arguments.flags {
        config.take_argument(name, value.as_deref())?;
    }
    config.settle_secrets(env)?;
    config.settle_limits()?;
    config.check_relations()?;
    config.collect_warnings();
    config.settle_map(env("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from))?;
    Ok(Parsed::Config(Box::new(config)))
}

impl Config {
    /// Nothing set. Not a configuration yet: the defaults stand in the table of flags, and are taken from there.
    fn blank() -> Self {
        Self {
            dev: false,
            host_id: String::new(),
            site: String::new(),
            uds: PathBuf::new(),
            uds_mode: 0,
            uds_gid: None,
            uds_for: Vec::new(),
            tcp: HostPort { host: String::new(), port: 0 },
            peer: None,
            heartbeat_interval: Duration::ZERO,
            lease: Duration::ZERO,
            grace: Duration::ZERO,
            on_peer_loss: OnPeerLoss::Available,
            durability: Durability::Async,
            replication_backlog_bytes: 0,
            secrets: Secrets { store_keys: Vec::new(), store_key_current: String::new(), internal_token: None },
            limits: Limits::default(),
            limits_file: None,
            max_store_size_bytes: 0,
            lock_timeout: Duration::ZERO,
            max_lock_timeout: Duration::ZERO,
            default_ttl: Duration::ZERO,
            max_connections: 0,
            http_read_timeout: Duration::ZERO,
            http_read_header_timeout: Duration::ZERO,
            http_write_timeout: Duration::ZERO,
            http_idle_timeout: Duration::ZERO,
            http_max_header_bytes: 0,
            disable_site_verification: false,
            log_level: log::Level::default(),
            log_format: log::Format::default(),
            metrics_listen: None,
            metrics_listen_any: false,
            no_sandbox: false,
            bind_addr: None,
            advertise_addr: None,
            data_dir: None,
            kv_memory_limit_bytes: 0,
            client_token: None,
            client_token_place: None,
            insecure: false,
            map: None,
            check_config: false,
            warnings: Vec::new(),
            given: GivenSecrets::default(),
            given_limits: None,
            places: SecretPlaces::default(),
            origins: vec![Origin::Default; FLAGS.len()],
        }
    }

    fn take_defaults(&mut self) -> Result<(), ConfigError> {
        for flag in FLAGS {
            if let Some(default) = flag.default {
                set(self, flag, OsStr::new(default), &Origin::Default)?;
            }
        }
        Ok(())
    }

    fn take_environment(&mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        for (index, flag) in FLAGS.iter().enumerate() {
            let older_names = flags::OLDER_ENVIRONMENT_NAMES.iter().filter(|(_, name)| *name == flag.name);
            let mut names =
                std::iter::once(flag.environment_name()).chain(older_names.map(|(old, _)| (*old).to_owned()));
            let found = names.find_map(|name| env(&name).filter(|value| !value.is_empty()).map(|value| (name, value)));
            let Some((name, value)) = found else { continue };
            let origin = Origin::Environment(name);
            if flag.is_repeatable {
                for part in value.as_bytes().split(|byte| *byte == b',') {
                    set(self, flag, OsStr::from_bytes(part), &origin)?;
                }
            } else {
                set(self, flag, &value, &origin)?;
            }
            self.origins[index] = origin;
        }
        Ok(())
    }

    /// One flag of the command line; the last one of a name counts, as elsewhere.
    fn take_argument(&mut self, name: &str, value: Option<&OsStr>) -> Result<(), ConfigError> {
        let Some(index) = index_of(name) else {
            return Err(ConfigError::new(format!("unknown flag --{name}")));
        };
        let flag = &FLAGS[index];
        if flag.is_repeatable && self.origins[index] != Origin::CommandLine {
            // What the environment listed does not mix with what the command line lists.
            self.uds_for.clear();
        }
        set(self, flag, value.unwrap_or(OsStr::new("true")), &Origin::CommandLine)?;
        self.origins[index] = Origin::CommandLine;
        Ok(())
    }

    /// Decides for each secret between value, file and credential, and reads it.
    fn settle_secrets(&mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        let credential = |name: &str| {
            let directory = env("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty())?;
            let path = PathBuf::from(directory).join(name);
            path.exists().then_some(Place::Credential(path))
        };
        let store_keys_given = self.given.store_keys.clone().map(|secret| Place::Given("store-keys", secret));
        let store_keys_file = self.given.store_keys_file.clone().map(|path| Place::File("store-keys-file", path));
        self.places.store_keys = self
            .settle_pair(("store-keys", store_keys_given), ("store-keys-file", store_keys_file))?
            .or_else(|| credential("store-keys"));
        let token_given = self.given.internal_token.clone().map(|secret| Place::Given("internal-token", secret));
        let token_file = self.given.internal_token_file.clone().map(|path| Place::File("internal-token-file", path));
        self.places.internal_token = self
            .settle_pair(("internal-token", token_given), ("internal-token-file", token_file))?
            .or_else(|| credential("internal-token"));
        let client_given = self.given.client_token.clone().map(|secret| Place::Given("client-token", secret));
        let client_file = self.given.client_token_file.clone().map(|path| Place::File("client-token-file", path));
        let client_token = self
            .settle_pair(("client-token", client_given), ("client-token-file", client_file))?
            .or_else(|| credential("client-token"));
        self.client_token = client_token.as_ref().map(Place::read_token).transpose()?;
        self.client_token_place = client_token;
        self.places.dev = self.dev;
        self.places.needs_store_keys = self.serves_sessions();
        self.secrets = self.places.read()?;
        let dev = self.dev.then(|| "--dev".to_owned());
        let keys_elsewhere = self.places.store_keys.as_ref().map_or(dev.clone(), Place::file);
        let token_elsewhere = self.places.internal_token.as_ref().map_or(dev, Place::file);
        for (name, elsewhere) in [("store-keys", keys_elsewhere), ("internal-token", token_elsewhere)] {
            if let (Some(index), Some(elsewhere)) = (index_of(name), elsewhere) {
                self.origins[index] = Origin::Elsewhere(elsewhere);
            }
        }
        Ok(())
    }

    /// The internal token is the one of `--dev`, which everybody knows.
    fn uses_dev_token(&self) -> bool {
        self.dev && self.places.internal_token.is_none()
    }

    /// Of a value and a file for the same secret, the one given in the place that counts more.
    fn settle_pair(
        &self,
        (value_flag, value): (&str, Option<Place>),
        (file_flag, file): (&str, Option<Place>),
    ) -> Result<Option<Place>, ConfigError> {
        let rank = |name: &str| index_of(name).map(|index| self.origins[index].rank());
        match (value, file) {
            (Some(value), Some(file)) => match rank(value_flag).cmp(&rank(file_flag)) {
                std::cmp::Ordering::Less => Ok(Some(file)),
                std::cmp::Ordering::Greater => Ok(Some(value)),
                std::cmp::Ordering::Equal => Err(ConfigError::new(format!(
                    "--{value_flag} and --{file_flag} are both set; allowed: one of them"
                ))),
            },
            (value, file) => Ok(value.or(file)),
        }
    }

    /// What must hold between values.
    fn check_relations(&mut self) -> Result<(), ConfigError> {
        if self.host_id.is_empty() {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            self.host_id = values::host_id(OsStr::new(&name)).map_err(|allowed| {
                ConfigError::new(format!(
                    "the host's name {name:?} cannot be its id: set --host-id; allowed: {allowed}"
                ))
            })?;
        }
        if self.lock_timeout > self.max_lock_timeout {
            return Err(ConfigError::new(format!(
                "--lock-timeout: {} is not allowed; allowed: at most --max-lock-timeout, which is {}",
                values::show_duration(self.lock_timeout),
                values::show_duration(self.max_lock_timeout)
            )));
        }
        if let Some(address) = self.metrics_listen.filter(|address| !address.ip().is_loopback())
            && !self.metrics_listen_any
        {
            return Err(ConfigError::new(format!(
                "--metrics-listen: {address} is not allowed; allowed: an address of this host alone, such as 127.0.0.1, or \
                 --metrics-listen-any beside it"
            )));
        }
        for (index, socket) in self.uds_for.iter().enumerate() {
            if socket.path == self.uds || self.uds_for[..index].iter().any(|earlier| earlier.path == socket.path) {
                return Err(ConfigError::new(format!(
                    "--uds-for: {} is used twice; allowed: a path of its own for each socket",
                    shown(socket.path.as_os_str())
                )));
            }
        }
        self.check_peer()
    }

    fn collect_warnings(&mut self) {
        if self.dev {
            self.warnings.push(
                "--dev: the store key is known to everybody, so anybody can make store ids; NOT FOR PRODUCTION"
                    .to_owned(),
            );
        }
        self.collect_peer_warnings();
        if let Some(address) = self.metrics_listen.filter(|address| !address.ip().is_loopback()) {
            self.warnings.push(format!(
                "--metrics-listen-any: whoever reaches {address} can see who this node is and how much is asked of it"
            ));
        }
        if self.no_sandbox {
            self.warnings
                .push("--no-sandbox: a fault in the daemon would give away all that its user may do".to_owned());
        }
        if self.disable_site_verification {
            self.warnings
                .push("--disable-site-verification: store ids of other sites with the same key open here".to_owned());
        }
        for (flag, origin) in FLAGS.iter().zip(&self.origins) {
            if flag.is_secret && *origin == Origin::CommandLine {
                let file = if flags::find(&format!("{}-file", flag.name)).is_some() {
                    format!("--{}-file or ", flag.name)
                } else {
                    String::new()
                };
                self.warnings.push(format!(
                    "--{} on the command line can be seen by everybody with ps; use {file}{}",
                    flag.name,
                    flag.environment_name()
                ));
            }
        }
    }

    /// Reads the keys and the token again from where they came from, for a rotation without a restart.
    ///
    /// # Errors
    /// As at the start; nothing has changed then.
    pub fn read_secrets_again(&self) -> Result<Secrets, ConfigError> {
        self.places.read()
    }

    /// The files that a reload reads.
    #[must_use]
    pub fn reloaded_files(&self) -> Vec<&Path> {
        let mut files = self.places.files();
        files.extend(self.limits_file.as_deref());
        files
    }

    /// The part of the node. The rest is the shell's and the API's.
    #[must_use]
    pub fn node(&self) -> NodeConfig {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        NodeConfig {
            limits: self.limits,
            lock_timeout_ms: millis(self.lock_timeout),
            default_ttl_ms: millis(self.default_ttl),
            peer: self.peer_config(),
        }
    }

    /// The configuration in effect, one flag a line with where it comes from, without secrets. For `--check-config`.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (flag, origin) in FLAGS.iter().zip(&self.origins) {
            let origin = match origin {
                Origin::Default => "default",
                Origin::Environment(place) | Origin::Elsewhere(place) => place,
                Origin::CommandLine => "command line",
            };
            let value = Some((flag.show)(self)).filter(|value| !value.is_empty()).unwrap_or("-".to_owned());
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<26} {value:<24} # {origin}", flag.name);
        }
        text
    }
}

/// Where a flag stands in the table.
fn index_of(name: &str) -> Option<usize> {
    FLAGS.iter().position(|flag| flag.name == name)
}

/// Hands a value to its flag, and puts the flag's name and the value in front of what it complains of.
fn set(config: &mut Config, flag: &Flag, value: &OsStr, origin: &Origin) -> Result<(), ConfigError> {
    (flag.set)(config, value).map_err(|allowed| {
        let given = if flag.is_secret { "the value (secret)".to_owned() } else { shown(value) };
        let from = match origin {
            Origin::Environment(name) => format!(" (from {name})"),
            Origin::Default | Origin::CommandLine | Origin::Elsewhere(_) => String::new(),
        };
        ConfigError::new(format!("--{}{from}: {given} is not allowed; allowed: {allowed}", flag.name))
    })
}

/// A value in quotes, on one line, not too long.
fn shown(value: &OsStr) -> String {
    let text = value.to_string_lossy();
    let mut shown: String = text.chars().take(MAX_SHOWN_VALUE_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests;
