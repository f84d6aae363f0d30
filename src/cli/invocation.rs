//! Owns one use of a client command: its flags and arguments, checked against the table, and what the environment adds. Does not
//! own what is done with them.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{Ask, Client, Reply};
use super::commands::{ADDR, CLIENT_TOKEN_FILE, CUSTOMER, Command, CommandFlag, DATA, HOLD, LIMIT, UDS};
use super::exit::{Exit, Failure};
use crate::config::args::{self, Arity};
use crate::config::secrets::{Secret, client_token};
use crate::config::values::HostPort;
use crate::config::{flags, values};

/// The customer where none is named.
const DEFAULT_CUSTOMER: &str = "default";
/// The node of the cluster map where none is named.
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8080;
/// The most that is read where data is: a byte more than any store may have, so that the daemon says that it is too much.
pub(super) const MAX_DATA_BYTES: u64 = (1 << 20) + 1;
/// The longest time to live (section 3 of the specification).
const LONGEST_TTL: Duration = Duration::from_secs(315_360_000);

/// One use of a command.
pub struct Invocation {
    /// Which.
    pub command: &'static Command,
    flags: Vec<(&'static CommandFlag, Option<OsString>)>,
    /// What is no flag, as many as the command takes.
    pub positionals: Vec<OsString>,
    /// `--help` was asked for; nothing else was checked.
    pub help: bool,
    uds: PathBuf,
    customer: String,
    node: NodeOfMap,
}

/// The node of the cluster map that a command asks.
pub struct NodeOfMap {
    /// Where it is.
    pub addr: HostPort,
    /// What its users send.
    pub token: Option<Secret>,
}

impl Invocation {
    /// Reads what follows the command's name.
    ///
    /// # Errors
    /// What is wrong with it, with the command's usage.
    pub fn parse(
        command: &'static Command,
        args: Vec<OsString>,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let arity_of = |name: &str| {
            let flag = command.flag(name)?;
            Some(if flag.value_name.is_some() { Arity::Value } else { Arity::Switch })
        };
        let wrong =
            |problem: String| Failure::usage(format!("{problem}; usage: bbd {} {}", command.name, command.synopsis()));
        let arguments = args::parse(args, &arity_of).map_err(wrong)?;
        let mut flags = Vec::new();
        for (name, value) in arguments.flags {
            flags.extend(command.flag(&name).map(|flag| (flag, value)));
        }
        let mut invocation = Self {
            command,
            flags,
            positionals: arguments.positionals,
            help: arguments.help,
            uds: PathBuf::new(),
            customer: String::new(),
            node: NodeOfMap { addr: HostPort { host: DEFAULT_HOST.to_owned(), port: DEFAULT_PORT }, token: None },
        };
        if !invocation.help {
            invocation.check().map_err(wrong)?;
            invocation.take_environment(env)?;
        }
        Ok(invocation)
    }

    fn check(&self) -> Result<(), String> {
        for (flag, value) in &self.flags {
            if let (None, Some(value)) = (flag.value_name, value) {
                values::switch(value).map_err(|allowed| format!("--{}: allowed: {allowed}", flag.name))?;
            }
        }
        if let Some(missing) = self.command.flags.iter().find(|takes| takes.is_needed && !self.has(takes.flag)) {
            return Err(format!("--{} is needed", missing.flag.name));
        }
        let count = self.positionals.len();
        if count < *self.command.argument_count.start() {
            return Err(format!("{} is needed", self.command.arguments));
        }
        if let Some(stray) = self.positionals.get(*self.command.argument_count.end()) {
            return Err(format!("{stray:?} is one argument too many"));
        }
        if self.command.arguments != "[COMMAND]" && self.positionals.first().is_some_and(|first| first.is_empty()) {
            return Err("an empty argument names nothing".to_owned());
        }
        Ok(())
    }

    /// Where the daemon is, and whose stores: the command line wins over the environment, and an empty variable is none.
    fn take_environment(&mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), Failure> {
        let from_env = |name: &str| env(name).filter(|value| !value.is_empty());
        if self.command.asks_map() {
            return self.take_node(&from_env);
        }
        let default_uds = flags::find(UDS.name).and_then(|flag| flag.default).unwrap_or_default();
        let uds = self.value(&UDS).map(OsStr::to_owned).or_else(|| from_env("BBD_UDS")).unwrap_or(default_uds.into());
        self.uds = values::socket_path(&uds)
            .map_err(|allowed| Failure::usage(format!("--uds: {uds:?} is not allowed; allowed: {allowed}")))?;
        let customer = self.value(&CUSTOMER).map(OsStr::to_owned).or_else(|| from_env("BBD_CUSTOMER"));
        let customer = customer.unwrap_or(DEFAULT_CUSTOMER.into()).to_string_lossy().into_owned();
        self.customer = values::customer(&customer).map_err(|_| Failure::bad_customer(&customer))?;
        Ok(())
    }

    fn take_node(&mut self, from_env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), Failure> {
        let addr = self.value(&ADDR).map(OsStr::to_owned).or_else(|| from_env("BBD_ADDR"));
        if let Some(addr) = addr {
            self.node.addr = values::tcp_address(&addr)
                .map_err(|allowed| Failure::usage(format!("--addr: {addr:?} is not allowed; allowed: {allowed}")))?;
        }
        let given = |name: &str| from_env(name).map(|text| Secret::new(text.to_string_lossy().into_owned()));
        let token = match self.value(&CLIENT_TOKEN_FILE) {
            Some(file) => client_token(None, Some(Path::new(file))),
            None => client_token(given("BBD_CLIENT_TOKEN"), from_env("BBD_CLIENT_TOKEN_FILE").as_ref().map(Path::new)),
        };
        self.node.token = token.map_err(|error| Failure::usage(error.to_string()))?;
        Ok(())
    }

    /// The node of the cluster map that is to be asked.
    #[must_use]
    pub fn node(&self) -> &NodeOfMap {
        &self.node
    }

    /// The value of a flag, the last one if there are several.
    #[must_use]
    pub fn value(&self, flag: &CommandFlag) -> Option<&OsStr> {
        self.flags.iter().rev().find(|(found, _)| *found == flag).and_then(|(_, value)| value.as_deref())
    }

    /// Whether a flag stands there, and is not switched off.
    #[must_use]
    pub fn has(&self, flag: &CommandFlag) -> bool {
        let found = self.flags.iter().rev().find(|(found, _)| *found == flag);
        found.is_some_and(|(flag, value)| flag.value_name.is_some() || !is_off(value.as_deref()))
    }

    /// A whole number, of either sign.
    ///
    /// # Errors
    /// It is none, or does not fit 64 bits.
    pub fn integer(&self, flag: &CommandFlag) -> Result<Option<i64>, Failure> {
        let Some(value) = self.value(flag) else { return Ok(None) };
        let number = value.to_str().filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| {
            Failure::usage(format!(
                "--{}: {value:?} is not allowed; allowed: a whole number of 64 bits with sign",
                flag.name
            ))
        })
    }

    /// `--limit`, without which there is none.
    ///
    /// # Errors
    /// It is no whole number, or 0.
    pub fn limit(&self) -> Result<u64, Failure> {
        let Some(limit) = self.value(&LIMIT) else { return Ok(u64::MAX) };
        values::number(limit, 1..=u64::MAX)
            .map_err(|allowed| Failure::usage(format!("--limit: {limit:?} is not allowed; allowed: {allowed}")))
    }

    /// A time to live.
    ///
    /// # Errors
    /// It is none.
    pub fn ttl(&self, flag: &CommandFlag) -> Result<Option<Duration>, Failure> {
        let Some(value) = self.value(flag) else { return Ok(None) };
        let ttl = values::duration(value, Duration::from_millis(1)..=LONGEST_TTL);
        let ttl = ttl.map_err(|allowed| format!("--{}: {value:?} is not allowed; allowed: {allowed}", flag.name));
        ttl.map(Some).map_err(Failure::usage)
    }

    /// `--hold`, in milliseconds.
    ///
    /// # Errors
    /// It is no whole number; whether it is too long, the daemon says.
    pub fn hold_ms(&self) -> Result<Option<u64>, Failure> {
        let Some(value) = self.value(&HOLD) else { return Ok(None) };
        let hold = values::number(value, 1..=u64::from(u32::MAX));
        let hold = hold.map_err(|_| format!("--hold: {value:?} is not allowed; allowed: milliseconds, at least 1"));
        hold.map(Some).map_err(Failure::usage)
    }

    /// The contents to write: `--data`, or standard input up to its end.
    ///
    /// # Errors
    /// Standard input cannot be read.
    pub fn data(&self) -> Result<Vec<u8>, Failure> {
        if let Some(data) = self.value(&DATA) {
            return Ok(data.as_bytes().to_vec());
        }
        let mut data = Vec::new();
        match std::io::stdin().lock().take(MAX_DATA_BYTES).read_to_end(&mut data) {
            Ok(_) => Ok(data),
            Err(error) => Err(Failure::new(Exit::Other, format!("standard input cannot be read: {error}"))),
        }
    }

    /// The first positional argument, as bytes.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        self.positionals.first().map(|argument| argument.as_bytes()).unwrap_or_default()
    }

    /// Where the daemon is.
    #[must_use]
    pub fn uds(&self) -> &Path {
        &self.uds
    }

    /// A connection to the daemon.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.uds)
    }

    /// Whose stores.
    #[must_use]
    pub fn customer(&self) -> &str {
        &self.customer
    }

    /// A request with the customer's name on it.
    #[must_use]
    pub fn as_customer<'a>(&self, ask: Ask<'a>) -> Ask<'a> {
        ask.header("X-Customer-ID", self.customer.clone())
    }

    /// Asks the daemon one thing for the customer.
    ///
    /// # Errors
    /// No answer, or one that is no success.
    pub fn ask(&self, ask: Ask<'_>) -> Result<Reply, Failure> {
        self.connect()?.ask(&self.as_customer(ask))?.success()
    }
}

/// A switch with a value, as `--reuse=false`.
fn is_off(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| values::switch(value) == Ok(false))
}
