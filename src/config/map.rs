//! Owns what the daemon is told about the cluster map: where it serves, where its data is, who may ask. Does not own the table of flags
//! ([`super::flags`]), nor what is made of any of it ([`crate::server::map`]).

use std::path::{Path, PathBuf};

use super::secrets::{Place, Secret};
use super::values::HostPort;
use super::{Config, ConfigError, Origin, index_of};
use crate::log;

/// Where data is kept unless the service manager or `--data-dir` says otherwise; the port tells several nodes apart.
const DATA_FOLDER: &str = "bbd-data";

/// All that is set about the cluster map.
#[derive(Clone, Debug)]
pub struct MapConfig {
    /// `--bind-addr`
    pub bind_addr: HostPort,
    /// `--advertise-addr`: where the other nodes reach this one
    pub advertise_addr: HostPort,
    /// `--data-dir`
    pub data_dir: PathBuf,
    /// `--kv-memory-limit`: 0 is no limit
    pub memory_limit_bytes: u64,
    /// `--client-token`: what users must send; `None` if anybody may ask
    pub client_token: Option<Secret>,
    /// `--internal-token`: what the other nodes must know; `None` is that of `--dev`, which everybody knows
    pub internal_token: Option<Secret>,
    /// `--no-sandbox`
    pub no_sandbox: bool,
    /// Sessions are served by the same process.
    pub has_sessions: bool,
    client_token_place: Option<Place>,
    internal_token_place: Option<Place>,
    /// `--log-level`
    pub log_level: log::Level,
    /// `--log-format`
    pub log_format: log::Format,
}

impl MapConfig {
    /// The files that a reload reads.
    #[must_use]
    pub fn reloaded_files(&self) -> Vec<&Path> {
        let places = [&self.client_token_place, &self.internal_token_place];
        places.into_iter().flatten().filter_map(Place::path).collect()
    }

    /// Reads both tokens again. Says which have changed, none of them on an error.
    ///
    /// # Errors
    /// As at the start.
    pub fn read_tokens_again(&mut self) -> Result<ChangedTokens, ConfigError> {
        let read = |place: &Option<Place>| place.as_ref().map(Place::read_token).transpose();
        let (client, internal) = (read(&self.client_token_place)?, read(&self.internal_token_place)?);
        let is_other = |old: &Option<Secret>, new: &Option<Secret>| {
            old.as_ref().map(Secret::expose) != new.as_ref().map(Secret::expose)
        };
        // Without a place the internal token is that of --dev, if any.
        let internal = internal.or_else(|| self.internal_token.clone());
        let changed = ChangedTokens {
            client: is_other(&self.client_token, &client),
            internal: is_other(&self.internal_token, &internal),
        };
        (self.client_token, self.internal_token) = (client, internal);
        Ok(changed)
    }
}

/// What a reload has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedTokens {
    /// Users send another token from now on.
    pub client: bool,
    /// Nodes prove another token from now on.
    pub internal: bool,
}

impl Config {
    /// Whether sessions are served: always, but for a node that was told about the cluster map alone.
    #[must_use]
    pub fn serves_sessions(&self) -> bool {
        let origin = |name: &str| index_of(name).map(|index| &self.origins[index]);
        let is_given = |name: &str| origin(name).is_some_and(|origin| *origin != Origin::Default);
        // `BBD_UDS` is the clients' variable too, and says nothing about what this daemon is for.
        self.bind_addr.is_none()
            || origin("uds") == Some(&Origin::CommandLine)
            || ["dev", "uds-for", "peers"].into_iter().any(is_given)
    }

    /// The settings of the cluster map, if it is served; `state_directory` is what the service manager says.
    pub(super) fn settle_map(&mut self, state_directory: Option<PathBuf>) -> Result<(), ConfigError> {
        let Some(bind_addr) = self.bind_addr.clone() else { return Ok(()) };
        let advertise_addr = self.advertise_addr.clone().unwrap_or_else(|| bind_addr.clone());
        let is_anywhere = advertise_addr.host.is_empty() || advertise_addr.ip().is_some_and(|ip| ip.is_unspecified());
        let is_loopback = bind_addr.host == "localhost" || bind_addr.ip().is_some_and(|ip| ip.is_loopback());
        if is_anywhere {
            return Err(ConfigError::new(format!(
                "--bind-addr: {bind_addr} needs --advertise-addr, the address at which other nodes reach this one"
            )));
        }
        let client_token = self.client_token.clone();
        if !is_loopback && !self.insecure {
            for (flag, is_there) in
                [("internal-token", self.secrets.internal_token.is_some()), ("client-token", client_token.is_some())]
            {
                if !is_there {
                    return Err(ConfigError::new(format!(
                        "--bind-addr: {bind_addr} can be reached by others: set --{flag}-file or --{flag} (bbd keygen makes a \
                         token), or --insecure if everybody there may read and write everything"
                    )));
                }
            }
        }
        let data_dir = self.data_dir.clone().or(state_directory);
        let data_dir = data_dir.unwrap_or_else(|| PathBuf::from(DATA_FOLDER).join(bind_addr.port.to_string()));
        if self.insecure && !is_loopback {
            self.warnings.push(format!(
                "--insecure: whoever reaches {bind_addr} may read and write everything, or be a node of the cluster; NOT FOR \
                 PRODUCTION"
            ));
        }
        let memory_limit_bytes = self.kv_memory_limit_bytes;
        self.map = Some(MapConfig {
            bind_addr,
            advertise_addr,
            data_dir,
            memory_limit_bytes,
            client_token,
            internal_token: self.secrets.internal_token.clone(),
            no_sandbox: self.no_sandbox,
            has_sessions: self.serves_sessions(),
            client_token_place: self.client_token_place.clone(),
            internal_token_place: self.places.internal_token.clone(),
            log_level: self.log_level,
            log_format: self.log_format,
        });
        Ok(())
    }
}
