//! Owns the one table of client commands: name, flags, arguments, help line, handler. The parser, the help texts and the check of
//! bbd.1 all read it. Does not own what a command does.

use std::ops::RangeInclusive;

use super::Outcome;
use super::invocation::Invocation;
use super::{bench, cluster, completions, doctor, kv, modify, named, operate, stores, top};

/// A flag of client commands.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandFlag {
    /// Without dashes.
    pub name: &'static str,
    /// What its value is called in help texts; `None` for a switch.
    pub value_name: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// A flag as one command takes it.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    /// Which.
    pub flag: &'static CommandFlag,
    /// The command cannot do without.
    pub is_needed: bool,
}

/// One client command.
pub struct Command {
    /// One word, or two.
    pub name: &'static str,
    /// The flags that it takes, in the order of help texts; [`UDS`] goes without saying where there is no [`ADDR`].
    pub flags: &'static [Takes],
    /// Its positional arguments, as in help texts.
    pub arguments: &'static str,
    /// How many there may be.
    pub argument_count: RangeInclusive<usize>,
    /// One line of help.
    pub help: &'static str,
    /// What it does.
    pub(super) run: fn(&Invocation) -> Outcome,
}

impl Command {
    /// Its flags and arguments on one line, needed flags without brackets: `--lock LOCK [--ttl S] ID`.
    #[must_use]
    pub fn synopsis(&self) -> String {
        let flags = self.flags.iter().filter(|takes| !takes.flag.is_common()).map(|takes| {
            let value = takes.flag.value_name.map(|name| format!(" {name}")).unwrap_or_default();
            let (open, close) = if takes.is_needed { ("", "") } else { ("[", "]") };
            format!("{open}--{}{value}{close}", takes.flag.name)
        });
        let arguments = std::iter::once(self.arguments.to_owned()).filter(|arguments| !arguments.is_empty());
        flags.chain(arguments).collect::<Vec<String>>().join(" ")
    }

    /// The flag of that name, if it takes it.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&'static CommandFlag> {
        self.all_flags().find(|flag| flag.name == name)
    }

    /// Every flag that it takes.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static CommandFlag> {
        let uds = (!self.asks_map()).then_some(&UDS);
        self.flags.iter().map(|takes| takes.flag).chain(uds)
    }

    /// Whether it is about the cluster map, which is asked over TCP.
    #[must_use]
    pub fn asks_map(&self) -> bool {
        self.flags.iter().any(|takes| *takes.flag == ADDR)
    }
}

impl CommandFlag {
    /// Whether it says whom to ask and for whom, which the manual tells once for all commands.
    #[must_use]
    pub fn is_common(&self) -> bool {
        [CUSTOMER, UDS, ADDR, CLIENT_TOKEN_FILE].contains(self)
    }
}

/// The command of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

const fn may(flag: &'static CommandFlag) -> Takes {
    Takes { flag, is_needed: false }
}

const fn needs(flag: &'static CommandFlag) -> Takes {
    Takes { flag, is_needed: true }
}

const fn switch(name: &'static str, help: &'static str) -> CommandFlag {
    CommandFlag { name, value_name: None, help }
}

const fn valued(name: &'static str, value_name: &'static str, help: &'static str) -> CommandFlag {
    CommandFlag { name, value_name: Some(value_name), help }
}

/// Every command takes it, but those about the cluster map.
pub const UDS: CommandFlag = valued("uds", "PATH", "The daemon's socket (or BBD_UDS; default /tmp/bbd.sock)");
/// Every command that is about a customer's stores takes it.
pub const CUSTOMER: CommandFlag = valued("customer", "ID", "Whose stores (or BBD_CUSTOMER; default \"default\")");
/// Every command about the cluster map takes it.
pub const ADDR: CommandFlag =
    valued("addr", "HOST:PORT", "A node of the cluster map (or BBD_ADDR; default 127.0.0.1:8080)");
/// Every command about the cluster map takes it.
pub const CLIENT_TOKEN_FILE: CommandFlag =
    valued("client-token-file", "FILE", "The token of its users (or BBD_CLIENT_TOKEN_FILE, BBD_CLIENT_TOKEN)");
pub(super) const DATA: CommandFlag = valued("data", "D", "The contents; without it, standard input");
pub(super) const SHOW_DATA: CommandFlag = switch("data", "Write the contents to standard error");
pub(super) const TTL: CommandFlag = valued("ttl", "S", "Time to live: seconds, or such as 500ms, 30m, 12h, 7d");
pub(super) const SHOW_TTL: CommandFlag = switch("ttl", "Write the seconds left to live to standard error");
pub(super) const NAME: CommandFlag = valued("name", "N", "Give the store this name");
pub(super) const REUSE: CommandFlag = switch("reuse", "If the name is taken, print the id of the store that has it");
pub(super) const LOCK: CommandFlag = valued("lock", "LOCK", "The lock id that begin-modify printed");
pub(super) const HOLD: CommandFlag =
    valued("hold", "MS", "Hold the lock for so long; default: the daemon's --lock-timeout");
pub(super) const VALUE: CommandFlag = valued("value", "N", "The value");
pub(super) const MIN: CommandFlag = valued("min", "N", "The lower bound");
pub(super) const MAX: CommandFlag = valued("max", "N", "The upper bound");
pub(super) const WITH_MIN: CommandFlag = switch("with-min", "Accepted for old scripts; --min is enough");
pub(super) const WITH_MAX: CommandFlag = switch("with-max", "Accepted for old scripts; --max is enough");
pub(super) const DELTA: CommandFlag = valued("delta", "N", "The step; default 1");
pub(super) const REJECT: CommandFlag =
    switch("reject", "Leave the counter alone if the step would pass a bound, and exit with 4");
pub(super) const TOUCH: CommandFlag = valued("touch", "S", "Give it this time to live while reading it");
pub(super) const IF_ABSENT: CommandFlag = switch("if-absent", "Only make a new store, never replace one");
pub(super) const IF_PRESENT: CommandFlag = switch("if-present", "Only replace a store, never make one");
pub(super) const PREFIX: CommandFlag = valued("prefix", "P", "Only what begins so");
pub(super) const AFTER: CommandFlag = valued("after", "N", "Only what stands behind this in byte order");
pub(super) const LIMIT: CommandFlag = valued("limit", "N", "At most so many; default: all");
pub(super) const EXPECT: CommandFlag = valued("expect", "V", "The value that must be there; else nothing is done");
pub(super) const STALE: CommandFlag =
    switch("stale", "What the asked node has, which may be old; how old goes to standard error");
pub(super) const FROM: CommandFlag = valued("from", "INDEX", "What happened behind this index; default: from now on");
pub(super) const JSON: CommandFlag = switch("json", "As the daemon's own JSON");
pub(super) const CONNECTIONS: CommandFlag = valued("connections", "N", "Connections that ask at once; default 50");
pub(super) const PIPELINE: CommandFlag = valued("pipeline", "N", "Requests in flight on each; default 1");
pub(super) const BENCH_SIZE: CommandFlag = valued("size", "BYTES", "Contents of a blob; default 512");
pub(super) const IDS: CommandFlag = valued("ids", "N", "Blobs, and counters, to draw from; default 10000");
pub(super) const DURATION: CommandFlag = valued("duration", "S", "How long each operation is measured; default 5");
pub(super) const FORCE: CommandFlag =
    switch("force", "At once: without asking the other node, and even if this one does not have the data yet");
pub(super) const ONCE: CommandFlag = switch("once", "Print it once, for scripts, as where no terminal is");
pub(super) const INTERVAL: CommandFlag =
    valued("interval", "S", "The time between two looks; default 2, with --once 1");
pub(super) const DATA_DIR: CommandFlag =
    valued("data-dir", "PATH", "The data folder to make; there must be nothing in it");
pub(super) const ENV: CommandFlag = switch("env", "As lines of an environment file");

const NONE: RangeInclusive<usize> = 0..=0;
const ONE: RangeInclusive<usize> = 1..=1;
const SOME: RangeInclusive<usize> = 1..=usize::MAX;

/// The first words that need a second, with what these commands are about.
pub const FAMILIES: [(&str, &str); 3] = [
    ("named", "Commands about stores by name"),
    ("kv", "Commands about keys of the cluster map"),
    ("cluster", "Commands about nodes of the cluster map"),
];

/// Every client command, in the order of help texts.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "create",
        flags: &[may(&DATA), may(&TTL), may(&NAME), may(&REUSE), may(&CUSTOMER)],
        arguments: "",
        argument_count: NONE,
        help: "Make a blob and print its store id",
        run: stores::create,
    },
    Command {
        name: "get",
        flags: &[may(&SHOW_TTL), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Print the contents of a store; of a counter, its JSON",
        run: stores::get,
    },
    Command {
        name: "update",
        flags: &[may(&DATA), may(&TTL), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Replace the contents of a store",
        run: stores::update,
    },
    Command {
        name: "touch",
        flags: &[needs(&TTL), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Move the expiry of a store",
        run: stores::touch,
    },
    Command {
        name: "delete",
        flags: &[may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Delete a store; one that is not there is fine",
        run: stores::delete,
    },
    Command {
        name: "delete-named",
        flags: &[may(&CUSTOMER)],
        arguments: "NAME",
        argument_count: ONE,
        help: "Delete the store of that name; one that is not there is fine",
        run: stores::delete_named,
    },
    Command {
        name: "lookup",
        flags: &[may(&CUSTOMER)],
        arguments: "NAME",
        argument_count: ONE,
        help: "Print the store id of a name",
        run: stores::lookup,
    },
    Command {
        name: "begin-modify",
        flags: &[may(&SHOW_DATA), may(&HOLD), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Lock a blob and print the lock id",
        run: stores::begin_modify,
    },
    Command {
        name: "complete-modify",
        flags: &[needs(&LOCK), may(&DATA), may(&TTL), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Write a locked blob and release the lock",
        run: stores::complete_modify,
    },
    Command {
        name: "cancel-modify",
        flags: &[needs(&LOCK), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Release a lock without writing",
        run: stores::cancel_modify,
    },
    Command {
        name: "modify",
        flags: &[may(&HOLD), may(&TTL), may(&CUSTOMER)],
        arguments: "ID -- COMMAND [ARGUMENT ...]",
        argument_count: 2..=usize::MAX,
        help: "Replace a blob by what COMMAND makes of it, under the lock",
        run: modify::modify,
    },
    Command {
        name: "counter-create",
        flags: &[
            may(&VALUE),
            may(&MIN),
            may(&MAX),
            may(&WITH_MIN),
            may(&WITH_MAX),
            may(&NAME),
            may(&REUSE),
            may(&TTL),
            may(&CUSTOMER),
        ],
        arguments: "",
        argument_count: NONE,
        help: "Make a counter and print its store id",
        run: stores::counter_create,
    },
    Command {
        name: "counter-get",
        flags: &[may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Print the value of a counter",
        run: stores::counter_get,
    },
    Command {
        name: "counter-increment",
        flags: &[may(&DELTA), may(&TTL), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Add to a counter and print its value",
        run: stores::counter_increment,
    },
    Command {
        name: "counter-decrement",
        flags: &[may(&DELTA), may(&TTL), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Take from a counter and print its value",
        run: stores::counter_decrement,
    },
    Command {
        name: "counter-set",
        flags: &[needs(&VALUE), may(&TTL), may(&CUSTOMER)],
        arguments: "ID",
        argument_count: ONE,
        help: "Give a counter a value",
        run: stores::counter_set,
    },
    Command {
        name: "named get",
        flags: &[may(&SHOW_TTL), may(&TOUCH), may(&CUSTOMER)],
        arguments: "NAME",
        argument_count: ONE,
        help: "Print the contents of a named store; of a counter, its JSON",
        run: named::get,
    },
    Command {
        name: "named put",
        flags: &[may(&DATA), may(&TTL), may(&IF_ABSENT), may(&IF_PRESENT), may(&CUSTOMER)],
        arguments: "NAME",
        argument_count: ONE,
        help: "Make or replace a named blob and print its store id",
        run: named::put,
    },
    Command {
        name: "named delete",
        flags: &[may(&CUSTOMER)],
        arguments: "NAME",
        argument_count: ONE,
        help: "Delete a named store; one that is not there is fine",
        run: named::delete,
    },
    Command {
        name: "named touch",
        flags: &[needs(&TTL), may(&CUSTOMER)],
        arguments: "NAME",
        argument_count: ONE,
        help: "Move the expiry of a named store",
        run: named::touch,
    },
    Command {
        name: "named increment",
        flags: &[may(&DELTA), may(&VALUE), may(&MIN), may(&MAX), may(&TTL), may(&REJECT), may(&CUSTOMER)],
        arguments: "NAME",
        argument_count: ONE,
        help: "Add to a named counter, made with value, bounds and ttl if missing; print its value",
        run: named::increment,
    },
    Command {
        name: "named list",
        flags: &[may(&PREFIX), may(&AFTER), may(&LIMIT), may(&CUSTOMER)],
        arguments: "",
        argument_count: NONE,
        help: "Print names in byte order, one a line",
        run: named::list,
    },
    Command {
        name: "kv get",
        flags: &[may(&STALE), may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "KEY",
        argument_count: ONE,
        help: "Print the value of a key",
        run: kv::get,
    },
    Command {
        name: "kv set",
        flags: &[may(&DATA), may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "KEY",
        argument_count: ONE,
        help: "Give a key a value and print the index of the write",
        run: kv::set,
    },
    Command {
        name: "kv cas",
        flags: &[may(&EXPECT), may(&DATA), may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "KEY",
        argument_count: ONE,
        help: "Give a key a value if it has the expected one, or without --expect, if it has none",
        run: kv::cas,
    },
    Command {
        name: "kv delete",
        flags: &[may(&EXPECT), may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "KEY",
        argument_count: ONE,
        help: "Delete a key and print the index of the write; one that is not there is fine",
        run: kv::delete,
    },
    Command {
        name: "kv list",
        flags: &[may(&PREFIX), may(&AFTER), may(&LIMIT), may(&JSON), may(&STALE), may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "",
        argument_count: NONE,
        help: "Print keys in byte order, one a line; with --json each with its value",
        run: kv::list,
    },
    Command {
        name: "kv watch",
        flags: &[may(&PREFIX), may(&FROM), may(&LIMIT), may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "",
        argument_count: NONE,
        help: "Print changes as they happen, one a line, as JSON",
        run: kv::watch,
    },
    Command {
        name: "cluster init",
        flags: &[may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "",
        argument_count: NONE,
        help: "Make a cluster of the node alone",
        run: cluster::init,
    },
    Command {
        name: "cluster status",
        flags: &[may(&JSON), may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "",
        argument_count: NONE,
        help: "Print what the node says of itself and its cluster",
        run: cluster::status,
    },
    Command {
        name: "cluster add",
        flags: &[may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "HOST:PORT",
        argument_count: ONE,
        help: "Add the node there, without a vote, and print its id",
        run: cluster::add,
    },
    Command {
        name: "cluster promote",
        flags: &[may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "NODE ...",
        argument_count: SOME,
        help: "Let these nodes vote too, each named by its id or address",
        run: cluster::promote,
    },
    Command {
        name: "cluster remove",
        flags: &[may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "NODE ...",
        argument_count: SOME,
        help: "Let these nodes be members no more",
        run: cluster::remove,
    },
    Command {
        name: "cluster transfer",
        flags: &[may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "[NODE]",
        argument_count: 0..=1,
        help: "Let this node lead, or whichever is furthest",
        run: cluster::transfer,
    },
    Command {
        name: "cluster backup",
        flags: &[may(&ADDR), may(&CLIENT_TOKEN_FILE)],
        arguments: "FILE",
        argument_count: ONE,
        help: "Write the whole map to a file and print the index that it is of",
        run: cluster::backup,
    },
    Command {
        name: "cluster restore",
        flags: &[needs(&DATA_DIR)],
        arguments: "FILE",
        argument_count: ONE,
        help: "Make a data folder of a backup: of a new node, alone in a new cluster",
        run: cluster::restore,
    },
    Command {
        name: "status",
        flags: &[may(&JSON)],
        arguments: "",
        argument_count: NONE,
        help: "Print what the daemon says of itself",
        run: operate::status,
    },
    Command {
        name: "top",
        flags: &[may(&ONCE), may(&INTERVAL)],
        arguments: "",
        argument_count: NONE,
        help: "Show what the daemon does, on a live screen",
        run: top::top,
    },
    Command {
        name: "doctor",
        flags: &[may(&JSON)],
        arguments: "",
        argument_count: NONE,
        help: "Say what is wrong with the daemon and its host, and what to do",
        run: doctor::doctor,
    },
    Command {
        name: "promote",
        flags: &[may(&FORCE)],
        arguments: "",
        argument_count: NONE,
        help: "Make this node the primary; the other hands over to it if it can",
        run: operate::promote,
    },
    Command {
        name: "release-lock",
        flags: &[],
        arguments: "ID",
        argument_count: ONE,
        help: "Drop the lock of a store, whoever holds it",
        run: operate::release_lock,
    },
    Command {
        name: "bench",
        flags: &[
            may(&CONNECTIONS),
            may(&PIPELINE),
            may(&BENCH_SIZE),
            may(&IDS),
            may(&DURATION),
            may(&JSON),
            may(&CUSTOMER),
        ],
        arguments: "[OPERATION ...]",
        argument_count: 0..=usize::MAX,
        help: "Measure how fast the daemon answers: snapshot, update, increment, create, mixed",
        run: bench::bench,
    },
    Command {
        name: "keygen",
        flags: &[may(&ENV)],
        arguments: "",
        argument_count: NONE,
        help: "Print a new store key and a new internal token",
        run: operate::keygen,
    },
    Command {
        name: "completions",
        flags: &[],
        arguments: "SHELL",
        argument_count: ONE,
        help: "Print what bash, zsh or fish needs to complete command lines",
        run: completions::completions,
    },
    Command {
        name: "help",
        flags: &[],
        arguments: "[COMMAND]",
        argument_count: 0..=2,
        help: "Print help, on one command or on all",
        run: super::help::run,
    },
    Command {
        name: "version",
        flags: &[],
        arguments: "",
        argument_count: NONE,
        help: "Print the version",
        run: super::help::version,
    },
];
