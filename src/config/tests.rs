#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::args::Arity;
use super::*;

const KEY_A: &str = "a:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const KEY_B: &str = "b:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
/// Digits of both keys, which must not be seen anywhere.
const KEY_DIGITS: [&str; 2] = ["0011223344", "ffeeddccbb"];

fn parse_in(environment: &[(&str, &str)], args: &[&str]) -> Result<Config, ConfigError> {
    let environment: HashMap<&str, &str> = environment.iter().copied().collect();
    parse(args, &|name| environment.get(name).map(OsString::from))
}

fn error_in(environment: &[(&str, &str)], args: &[&str]) -> String {
    parse_in(environment, args).unwrap_err().to_string()
}

/// A directory of its own for a test, gone when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bbd-config-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_table_is_in_order() {
    for (index, flag) in FLAGS.iter().enumerate() {
        assert!(FLAGS[..index].iter().all(|earlier| earlier.name != flag.name), "{} stands twice", flag.name);
        assert!(!flag.help.is_empty() && !flag.help.ends_with('.') && flag.help.len() <= 100, "{}", flag.name);
        let says_default = flag.default.is_some() || !flag.default_words.is_empty();
        assert_eq!(
            says_default,
            flag.value_name.is_some(),
            "{}: switches are off, others say their default",
            flag.name
        );
    }
    for (_, name) in flags::OLDER_ENVIRONMENT_NAMES {
        assert!(flags::find(name).is_some(), "{name}");
    }
}

#[test]
fn defaults_are_those_of_the_specification() {
    let config = parse_in(&[], &["--dev"]).unwrap();
    assert_eq!(config.site, "local");
    assert_eq!(config.uds, Path::new("/tmp/bbd.sock"));
    assert_eq!(config.uds_mode, 0o600);
    assert_eq!(config.tcp.to_string(), ":8080");
    assert_eq!(config.peer, None);
    assert_eq!(config.heartbeat_interval, Duration::from_millis(200));
    assert_eq!((config.lease, config.grace), (Duration::from_secs(2), Duration::from_secs(2)));
    assert_eq!(config.on_peer_loss, OnPeerLoss::Available);
    assert_eq!(config.durability, Durability::Async);
    assert_eq!(config.replication_backlog_bytes, 16 << 20);
    assert_eq!((config.limits.rate_limit_per_second, config.limits.burst_size), (100, 200));
    assert_eq!((config.limits.memory_limit_bytes, config.limits.customer_memory_quota_bytes), (0, 0));
    assert_eq!(config.max_store_size_bytes, 2048);
    assert_eq!(config.lock_timeout, Duration::from_millis(500));
    assert_eq!(config.max_lock_timeout, Duration::from_secs(30));
    assert_eq!(config.default_ttl, Duration::from_secs(1_209_600));
    assert_eq!(config.max_connections, 1024);
    assert_eq!(config.http_read_timeout, Duration::from_secs(30));
    assert_eq!(config.http_read_header_timeout, Duration::from_secs(10));
    assert_eq!(config.http_write_timeout, Duration::from_secs(30));
    assert_eq!(config.http_idle_timeout, Duration::from_secs(120));
    assert_eq!(config.http_max_header_bytes, 65536);
    assert_eq!(config.secrets.store_key_current, "0");
    assert_eq!(*config.secrets.store_keys[0].key, std::array::from_fn(|index| index as u8));
    let defaults = NodeConfig::default();
    assert_eq!(format!("{:?}", config.node()), format!("{defaults:?}"), "the node's own defaults are the flags'");
}

/// Every flag with every kind of value that it could be given by mistake.
#[test]
fn every_flag_refuses_nonsense_by_name() {
    let good: HashMap<&str, &str> = HashMap::from([
        ("host-id", "edge-1"),
        ("site", "fra"),
        ("uds", "/tmp/x.sock"),
        ("uds-mode", "0660"),
        ("uds-group", "0"),
        ("uds-for", "acme=/tmp/acme.sock"),
        ("tcp", ":9000"),
        ("peers", "other@10.0.0.2:8080"),
        ("store-keys", KEY_A),
        ("store-keys-file", "/nonexistent/keys"),
        ("store-key-current", "0"),
        ("internal-token", "token"),
        ("internal-token-file", "/nonexistent/token"),
        ("routing-secret", "secret"),
        ("bind-addr", "127.0.0.1:9000"),
        ("advertise-addr", "10.0.0.1:9000"),
        ("data-dir", "/nonexistent/data"),
        ("client-token", "token"),
        ("client-token-file", "/nonexistent/token"),
        ("log-level", "debug"),
        ("log-format", "json"),
    ]);
    // Some of it happens to be legal for flags that take free text.
    let is_legal = |flag: &str, value: &str| match flag {
        "host-id" => ["-1", "1e9", "99999999999999999999999"].contains(&value),
        "site" => ["-1", "1e9"].contains(&value),
        "uds" => !value.is_empty() && value.len() < 100,
        "data-dir" => !value.is_empty(),
        "internal-token" | "client-token" => !value.trim().is_empty() && value.len() < 100,
        "routing-secret" => !value.is_empty(),
        _ => false,
    };
    let long = "x".repeat(100_000);
    let nonsense = ["", " ", ",", "nonsense!", "-1", "1e9", "99999999999999999999999", "\n", "=", "ä", long.as_str()];
    for flag in FLAGS {
        let dashed = format!("--{}", flag.name);
        if flag.arity() == Arity::Value {
            let error = error_in(&[], &["--dev", &dashed]);
            assert!(error.contains(&dashed) && error.contains("needs a value"), "{error}");
        }
        for value in nonsense {
            if is_legal(flag.name, value) {
                continue;
            }
            for args in [
                vec!["--dev".to_owned(), format!("{dashed}={value}")],
                vec![format!("-{}={value}", flag.name), "-dev".to_owned()],
            ] {
                let error = error_in(&[], &args.iter().map(String::as_str).collect::<Vec<&str>>());
                assert!(error.contains(&dashed), "{}={value:.40}: {error}", flag.name);
                assert!(error.lines().count() == 1 && error.len() < 1000, "{}={value:.40}: {error}", flag.name);
                if flag.is_secret && value.len() > 3 {
                    assert!(!error.contains(value), "{error}");
                }
            }
            if !value.is_empty() {
                let error = error_in(&[("BBD_DEV", "1"), (&flag.environment_name(), value)], &[]);
                assert!(error.contains(&dashed), "{}={value:.40}: {error}", flag.name);
            }
        }
        if let Some(value) = good.get(flag.name).copied().or(flag.default) {
            let result = parse_in(&[], &["--dev", &dashed, value]);
            if flag.name.ends_with("-file") {
                assert!(result.unwrap_err().to_string().contains("cannot be read"), "{}", flag.name);
            } else if let Err(error) = result {
                panic!("{}={value}: {error}", flag.name);
            }
        }
    }
}

#[test]
fn values_that_are_no_text_are_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    for flag in FLAGS {
        // Paths may be any bytes.
        if ["uds", "data-dir"].contains(&flag.name) || flag.name.ends_with("-file") {
            continue;
        }
        let mut argument = format!("--{}=", flag.name).into_bytes();
        argument.push(0xff);
        let args = vec![OsString::from("--dev"), OsString::from_vec(argument)];
        let error = parse(args, &|_| None).unwrap_err().to_string();
        assert!(error.contains(&format!("--{}", flag.name)), "{error}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let environment = [("BBD_DEV", "true"), ("BBD_SITE", "fra"), ("BBD_RATE_LIMIT", "7"), ("BBD_HOST_ID", "")];
    let config = parse_in(&environment, &["-rate-limit", "9"]).unwrap();
    assert!(config.dev);
    assert_eq!(config.site, "fra");
    assert_eq!(config.limits.rate_limit_per_second, 9);
    assert!(!config.host_id.is_empty(), "an empty variable counts as not set");
    assert!(!parse_in(&[("BBD_DEV", "1"), ("BBD_STORE_KEYS", KEY_A)], &["--dev=false"]).unwrap().dev);
    let error = error_in(&[("BBD_DEV", "1"), ("BBD_BURST_SIZE", "many")], &[]);
    assert!(
        error.contains("--burst-size") && error.contains("BBD_BURST_SIZE") && error.contains("\"many\""),
        "{error}"
    );
}

#[test]
fn the_last_of_a_flag_counts() {
    assert_eq!(parse_in(&[], &["--dev", "--site=a", "-site", "b"]).unwrap().site, "b");
}

#[test]
fn older_names_of_variables_work() {
    let environment = [
        ("SERIALD_STORE_KEYS", &*format!("{KEY_B},{KEY_A}")),
        ("SERIALD_STORE_KEY_CURRENT", "a"),
        ("SERIALD_ROUTING_SECRET", "routing"),
        ("SERIALD_INTERNAL_TOKEN", "token"),
    ];
    let config = parse_in(&environment, &[]).unwrap();
    assert_eq!(config.secrets.store_keys.len(), 2);
    assert_eq!(config.secrets.store_key_current, "a");
    assert_eq!(config.secrets.internal_token.unwrap().expose(), "token");
    let newer = [environment[0], ("BBD_STORE_KEYS", KEY_B)];
    assert_eq!(parse_in(&newer, &[]).unwrap().secrets.store_keys.len(), 1, "the newer name wins");
}

#[test]
fn sockets_of_customers_are_listed_and_distinct() {
    let config = parse_in(&[("BBD_UDS_FOR", "a=/tmp/a,b=/tmp/b")], &["--dev"]).unwrap();
    assert_eq!(config.uds_for.len(), 2);
    let config =
        parse_in(&[("BBD_UDS_FOR", "a=/tmp/a")], &["--dev", "--uds-for=b=/tmp/b", "-uds-for", "c=/tmp/=,c"]).unwrap();
    let paths: Vec<&Path> = config.uds_for.iter().map(|socket| socket.path.as_path()).collect();
    assert_eq!(paths, [Path::new("/tmp/b"), Path::new("/tmp/=,c")], "the command line replaces the environment's list");
    for args in [
        &["--uds-for=a=/tmp/bbd.sock"][..],
        &["--uds-for=a=/x", "--uds-for=b=/x"],
        &["--uds-for=a="],
        &["--uds-for==/x"],
    ] {
        let error = error_in(&[("BBD_DEV", "1")], args);
        assert!(error.contains("--uds-for"), "{error}");
    }
}

#[test]
fn without_keys_the_error_says_how_to_get_one() {
    let error = error_in(&[], &[]);
    for hint in ["--store-keys-file", "BBD_STORE_KEYS", "bbd keygen", "--dev"] {
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn the_current_key_is_the_greatest_or_the_named_one() {
    let keys = format!("{KEY_B},{KEY_A},dev");
    let config = parse_in(&[("BBD_STORE_KEYS", &keys)], &[]).unwrap();
    assert_eq!(config.secrets.store_key_current, "b");
    let config = parse_in(&[("BBD_STORE_KEYS", &keys)], &["--store-key-current=0"]).unwrap();
    assert_eq!(config.secrets.store_key_current, "0");
    let error = error_in(&[("BBD_STORE_KEYS", &keys)], &["--store-key-current=c"]);
    assert!(error.contains("--store-key-current") && error.contains("\"c\"") && error.contains("b, a, 0"), "{error}");
}

#[test]
fn files_of_secrets_are_private() {
    let directory = Directory::new("modes");
    let token = directory.file("token", "a token\n", 0o600);
    for mode in [0o600, 0o400] {
        let keys = directory.file("keys", &format!("{KEY_A}\n"), mode);
        let config = parse_in(&[], &["--store-keys-file", &keys, "--internal-token-file", &token]).unwrap();
        assert_eq!(config.secrets.store_key_current, "a");
        assert_eq!(config.secrets.internal_token.as_ref().unwrap().expose(), "a token");
        assert!(config.warnings.is_empty());
    }
    for mode in [0o640, 0o604, 0o700, 0o610, 0o666, 0o4600] {
        let keys = directory.file("keys", KEY_A, mode);
        let error = error_in(&[], &["--store-keys-file", &keys]);
        assert!(error.contains("--store-keys-file") && error.contains(&format!("{mode:04o}")), "{error}");
        assert!(error.contains("chmod 600"), "{error}");
    }
    for (content, problem) in
        [("", "store key"), ("a:12", "64 hex"), ("\u{0}", "store key"), (&"x".repeat(65537), "too long")]
    {
        let keys = directory.file("keys", content, 0o600);
        let error = error_in(&[], &["--store-keys-file", &keys]);
        assert!(error.contains("--store-keys-file") && error.contains(problem), "{error}");
    }
    let empty = directory.file("empty", "\n", 0o600);
    let error = error_in(&[("BBD_DEV", "1")], &["--internal-token-file", &empty]);
    assert!(error.contains("--internal-token-file"), "{error}");
}

#[test]
fn a_rotation_reads_the_files_again() {
    let directory = Directory::new("rotation");
    let keys = directory.file("keys", KEY_A, 0o600);
    let config = parse_in(&[], &["--store-keys-file", &keys]).unwrap();
    directory.file("keys", &format!("{KEY_A},{KEY_B}"), 0o600);
    assert_eq!(config.read_secrets_again().unwrap().store_key_current, "b");
    directory.file("keys", "garbage", 0o600);
    assert!(config.read_secrets_again().is_err());
}

#[test]
fn credentials_are_the_last_resort() {
    let directory = Directory::new("credentials");
    directory.file("store-keys", KEY_A, 0o440);
    directory.file("internal-token", "token", 0o440);
    let credentials = [("CREDENTIALS_DIRECTORY", directory.0.to_str().unwrap())];
    let config = parse_in(&credentials, &[]).unwrap();
    assert_eq!(config.secrets.store_key_current, "a");
    assert!(config.secrets.internal_token.is_some());
    let config = parse_in(&[credentials[0], ("BBD_STORE_KEYS", KEY_B)], &[]).unwrap();
    assert_eq!(config.secrets.store_key_current, "b");
}

#[test]
fn a_value_and_a_file_for_one_secret() {
    let directory = Directory::new("pairs");
    let file = directory.file("keys", KEY_A, 0o600);
    let config = parse_in(&[("BBD_STORE_KEYS", KEY_B)], &["--store-keys-file", &file]).unwrap();
    assert_eq!(config.secrets.store_key_current, "a", "the command line wins");
    let config = parse_in(&[("BBD_STORE_KEYS_FILE", &file)], &["--store-keys", KEY_B]).unwrap();
    assert_eq!(config.secrets.store_key_current, "b", "the command line wins");
    let error = error_in(&[("BBD_STORE_KEYS_FILE", &file), ("BBD_STORE_KEYS", KEY_B)], &[]);
    assert!(error.contains("--store-keys and --store-keys-file"), "{error}");
}

#[test]
fn secrets_are_warned_about_and_never_shown() {
    let keys = format!("{KEY_A},{KEY_B}");
    let args = ["--store-keys", &keys, "--internal-token=opensesame", "--routing-secret=opensesame"];
    let config = parse_in(&[], &args).unwrap();
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
    let in_environment = [("BBD_STORE_KEYS", keys.as_str()), ("BBD_INTERNAL_TOKEN", "opensesame")];
    assert!(parse_in(&in_environment, &[]).unwrap().warnings.is_empty());
    for text in [config.report(), format!("{config:?}")] {
        assert!(!text.contains("opensesame") && KEY_DIGITS.iter().all(|digits| !text.contains(digits)), "{text}");
    }
    let error = error_in(&[], &["--store-keys", &format!("{KEY_A},b:{}", &KEY_B[2..60])]);
    assert!(KEY_DIGITS.iter().all(|digits| !error.contains(digits)), "{error}");
}

#[test]
fn what_is_risky_is_warned_about() {
    let config = parse_in(&[], &["--dev", "--disable-site-verification"]).unwrap();
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings[0].contains("NOT FOR PRODUCTION"));
}

#[test]
fn locks_fit_their_limit() {
    let error = error_in(&[], &["--dev", "--lock-timeout=31s"]);
    assert!(
        error.contains("--lock-timeout") && error.contains("31s") && error.contains("--max-lock-timeout"),
        "{error}"
    );
    assert!(parse_in(&[], &["--dev", "--lock-timeout=31s", "--max-lock-timeout=1m"]).is_ok());
}

/// What a node with a peer is started with.
const PAIR: [&str; 3] = ["--dev", "--host-id=a", "--peers=b@10.0.0.2:8080"];

fn pair(more: &[&str]) -> Result<Config, ConfigError> {
    parse_in(&[], &[&PAIR[..], more].concat())
}

#[test]
fn the_node_is_told_about_its_peer() {
    let peer = pair(&[]).unwrap().node().peer.unwrap();
    assert_eq!((peer.own_id.as_str(), peer.peer_id.as_str()), ("a", "b"));
    assert_eq!((peer.heartbeat_interval_ms, peer.lease_ms, peer.grace_ms), (200, 2000, 2000));
    assert_eq!((peer.on_peer_loss, peer.replicate_all), (OnPeerLoss::Available, false));
    assert_eq!(peer.backlog_limit_bytes, 16 << 20);
    let peer = pair(&[
        "--heartbeat-interval=50ms",
        "--lease=400ms",
        "--grace=300ms",
        "--on-peer-loss=safe",
        "--durability=replicated",
        "--replication-backlog=1M",
    ]);
    let peer = peer.unwrap().node().peer.unwrap();
    assert_eq!((peer.heartbeat_interval_ms, peer.lease_ms, peer.grace_ms), (50, 400, 300));
    assert_eq!((peer.on_peer_loss, peer.replicate_all), (OnPeerLoss::Safe, true));
    assert_eq!(peer.backlog_limit_bytes, 1 << 20);
}

#[test]
fn there_is_one_peer_and_it_is_another_node() {
    for peer in ["b@c:1,d@e:2", "b@:8080", "b", "@c:1", "b@fd00::2:8080"] {
        let error = error_in(&[("BBD_DEV", "1")], &["--peers", peer]);
        assert!(error.contains("--peers") && error.contains("one peer, ID@HOST:PORT"), "{error}");
    }
    let error = pair(&["--host-id=b"]).unwrap_err().to_string();
    assert!(error.contains("--peers") && error.contains("--host-id"), "{error}");
    let error = pair(&["--tcp=10.0.0.2:8080"]).unwrap_err().to_string();
    assert!(error.contains("--peers") && error.contains("--tcp"), "{error}");
    let environment = [("BBD_PEERS", "b@[fd00::2]:8080"), ("BBD_DEV", "1"), ("BBD_HOST_ID", "a")];
    let peer = parse_in(&environment, &[]).unwrap().peer.unwrap();
    assert_eq!((peer.host_id.as_str(), peer.address.to_string().as_str()), ("b", "[fd00::2]:8080"));
}

#[test]
fn times_of_two_nodes_fit_each_other() {
    for (args, flag, limit) in [
        (&["--heartbeat-interval=667ms"][..], "--heartbeat-interval: 667ms", "a third of --lease, which is 2s"),
        (&["--lease=599ms"], "--heartbeat-interval: 200ms", "a third of --lease, which is 599ms"),
        (&["--grace=199ms"], "--grace: 199ms", "at least --heartbeat-interval, which is 200ms"),
        (&["--heartbeat-interval=9ms"], "--heartbeat-interval", "from 10ms to 10s"),
        (&["--lease=61s"], "--lease", "to 1m"),
        (&["--grace=1h"], "--grace", "to 1m"),
        (&["--max-store-size=1M", "--replication-backlog=4095K"], "--replication-backlog: 4095K", "which makes 4M"),
        (&["--replication-backlog=255K"], "--replication-backlog", "from 256K to 64G"),
    ] {
        // With a peer or without one.
        for first in [&PAIR[..], &["--dev"]] {
            let error = error_in(&[], &[first, args].concat());
            assert!(error.contains(flag) && error.contains(limit), "{args:?}: {error}");
        }
    }
    for args in [
        &["--heartbeat-interval=666ms"][..],
        &["--lease=600ms", "--grace=200ms"],
        &["--max-store-size=1M", "--replication-backlog=4M"],
        &["--heartbeat-interval=10s", "--lease=1m", "--grace=1m"],
        &["--heartbeat-interval=10ms", "--lease=30ms", "--grace=30ms"],
    ] {
        assert!(pair(args).is_ok(), "{args:?}");
    }
}

#[test]
fn nothing_is_replicated_without_a_peer() {
    let error = error_in(&[], &["--dev", "--durability=replicated"]);
    assert!(error.contains("--durability") && error.contains("--peers"), "{error}");
}

#[test]
fn a_peer_needs_a_token() {
    let environment = [("BBD_STORE_KEYS", KEY_A), ("BBD_PEERS", "b@10.0.0.2:8080"), ("BBD_HOST_ID", "a")];
    let error = error_in(&environment, &[]);
    for hint in ["--internal-token-file", "BBD_INTERNAL_TOKEN", "bbd keygen", "both nodes"] {
        assert!(error.contains(hint), "{error}");
    }
    for name in ["BBD_INTERNAL_TOKEN", "SERIALD_INTERNAL_TOKEN"] {
        let token = "a token of good length";
        let config = parse_in(&[&environment[..], &[(name, token)]].concat(), &[]).unwrap();
        assert_eq!(config.secrets.internal_token.unwrap().expose(), token);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
    let config = parse_in(&[&environment[..], &[("BBD_INTERNAL_TOKEN", "short")]].concat(), &[]).unwrap();
    assert!(config.warnings.len() == 1 && config.warnings[0].contains("guess"), "{:?}", config.warnings);
}

#[test]
fn dev_has_a_token_too_and_says_so() {
    let config = pair(&[]).unwrap();
    assert_eq!(config.secrets.internal_token.as_ref().unwrap().expose(), secrets::DEV_INTERNAL_TOKEN);
    assert!(config.warnings.iter().any(|warning| warning.contains("internal token is known to everybody")));
    assert!(config.report().lines().any(|line| line.starts_with("internal-token ") && line.ends_with("# --dev")));
    let config = pair(&["--internal-token=a token of good length"]).unwrap();
    assert_eq!(config.secrets.internal_token.as_ref().unwrap().expose(), "a token of good length");
    assert!(!config.warnings.iter().any(|warning| warning.contains("internal token is known")));
    assert_eq!(
        parse_in(&[], &["--dev"]).unwrap().warnings.len(),
        1,
        "without a peer nobody needs to hear of the token"
    );
}

#[test]
fn strays_and_unknown_flags_are_refused() {
    assert!(error_in(&[], &["--dev", "status"]).contains("\"status\""));
    assert!(error_in(&[], &["--dev", "--data=x"]).contains("unknown flag"));
}

#[test]
fn the_report_names_every_flag_and_its_origin() {
    let config = parse_in(&[("BBD_SITE", "fra")], &["--dev", "--rate-limit=5", "--check-config"]).unwrap();
    let report = config.report();
    assert_eq!(report.lines().count(), FLAGS.len());
    for (flag, line) in FLAGS.iter().zip(report.lines()) {
        assert!(line.starts_with(flag.name), "{line}");
    }
    for (flag, value, origin) in [
        ("site", "fra", "BBD_SITE"),
        ("rate-limit", "5", "command line"),
        ("burst-size", "200", "default"),
        ("store-keys", "0:(secret)", "--dev"),
    ] {
        let line = report.lines().find(|line| line.split_whitespace().next() == Some(flag)).unwrap();
        assert!(line.contains(value) && line.ends_with(&format!("# {origin}")), "{line}");
    }
}

#[test]
fn limits_come_from_their_file_and_from_flags_where_it_is_silent() {
    let directory = Directory::new("limits");
    let file = directory.file("limits", "# Saturday\n\n rate-limit = 50\nmemory-limit=1M\n", 0o644);
    let flags = ["--dev", "--rate-limit=7", "--burst-size=8", &format!("--limits-file={file}")];
    let config = parse_in(&[("BBD_MEMORY_LIMIT", "2M")], &flags).unwrap();
    let limits = config.limits;
    assert_eq!((limits.rate_limit_per_second, limits.burst_size, limits.memory_limit_bytes), (50, 8, 1 << 20));
    assert!(
        config.report().lines().any(|line| line.starts_with("rate-limit ") && line.ends_with(&format!("# {file}")))
    );
    // What is taken out of the file is again as it was given.
    directory.file("limits", "burst-size=9\n", 0o644);
    let limits = config.read_limits_again().unwrap();
    assert_eq!((limits.rate_limit_per_second, limits.burst_size, limits.memory_limit_bytes), (7, 9, 2 << 20));
    for (text, said) in [
        ("rate-limit=many", "line 1: --rate-limit: \"many\" is not allowed; allowed: "),
        ("\nuds=/x", "line 2: \"uds\" cannot stand here; allowed: memory-limit, "),
        ("rate-limit", "is not allowed"),
    ] {
        directory.file("limits", text, 0o644);
        let error = config.read_limits_again().unwrap_err().to_string();
        assert!(error.starts_with("--limits-file: \"") && error.contains(said), "{error}");
    }
    assert!(error_in(&[], &["--dev", "--limits-file=/no/such"]).contains("cannot be read"));
    assert_eq!(
        parse_in(&[], &["--dev"]).unwrap().read_limits_again().unwrap(),
        parse_in(&[], &["--dev"]).unwrap().limits
    );
}
