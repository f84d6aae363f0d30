//! What `bbd completions` prints, as the shells themselves understand it: every command and every flag of the tables is offered where
//! it belongs, and nowhere else.

use std::fs;
use std::process::Command;

use bigbunny::cli::commands::{COMMANDS, FAMILIES};
use bigbunny::config::flags::FLAGS;

use crate::support::{TempDir, has_tool};

/// The script for a shell, in a file.
fn script(dir: &TempDir, shell: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bbd")).args(["completions", shell]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let path = dir.path().join(format!("bbd.{shell}"));
    fs::write(&path, output.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs a shell; its output by lines, without what stands behind a tab.
fn lines_of(shell: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(shell).args(arguments).env("HOME", "/nonexistent").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{shell}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words.dedup();
    words
}

/// The words that may stand first.
fn first_words() -> Vec<String> {
    sorted(COMMANDS.iter().map(|command| command.name.split(' ').next().unwrap().to_owned()).collect())
}

/// Each first word that needs a second, and these.
fn families() -> Vec<(&'static str, Vec<String>)> {
    let pairs = || COMMANDS.iter().filter_map(|command| command.name.split_once(' '));
    let seconds =
        |family: &str| pairs().filter(|(first, _)| *first == family).map(|(_, second)| second.to_owned()).collect();
    assert!(pairs().all(|(first, _)| FAMILIES.iter().any(|(family, _)| *family == first)));
    FAMILIES.iter().map(|(family, _)| (*family, sorted(seconds(family)))).collect()
}

/// Each beginning of a command line that ends in two dashes, and the flags that belong there.
fn flags() -> Vec<(String, Vec<String>)> {
    let dashed = |names: &mut dyn Iterator<Item = &str>| sorted(names.map(|name| format!("--{name}")).collect());
    let mut places = vec![("--dev".to_owned(), dashed(&mut FLAGS.iter().map(|flag| flag.name)))];
    for command in COMMANDS {
        places.push((command.name.to_owned(), dashed(&mut command.all_flags().map(|flag| flag.name))));
    }
    places
}

#[test]
fn bash_completes_everything() {
    let dir = TempDir::new();
    let script = script(&dir, "bash");
    let completed = |line: &[&str]| {
        let words: String = line.iter().map(|word| format!("'{word}' ")).collect();
        let program = format!(
            "source {script}; COMP_WORDS=(bbd {words}); COMP_CWORD={}; _bbd; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.len()
        );
        sorted(lines_of("bash", &["--norc", "-u", "-c", &program]))
    };
    let with_help = sorted([first_words(), vec!["--help".to_owned()]].concat());
    assert_eq!(completed(&[""]), with_help);
    for (family, seconds) in families() {
        assert_eq!(completed(&[family, ""]), seconds);
    }
    assert_eq!(completed(&["named", "l"]), ["list"]);
    assert_eq!(completed(&["help", "ke"]), ["keygen"]);
    assert_eq!(completed(&["--no-s"]), ["--no-sandbox"]);
    for (before, flags) in flags() {
        let line: Vec<&str> = before.split(' ').chain(["--"]).collect();
        assert_eq!(completed(&line), flags, "{before}");
    }
    // A value is no flag; a file is offered where one is wanted, also behind an equals sign.
    assert_eq!(completed(&["create", "--ttl", "--"]), [] as [&str; 0]);
    let file = dir.path().join("bbd.ba");
    assert_eq!(completed(&["status", "--uds", file.to_str().unwrap()]), [script.as_str()]);
    assert_eq!(completed(&["kv", "get", "--client-token-file", file.to_str().unwrap()]), [script.as_str()]);
    assert_eq!(completed(&["--store-keys-file", "=", file.to_str().unwrap()]), [script.as_str()]);
}

#[test]
fn fish_completes_everything() {
    if !has_tool("fish") {
        return;
    }
    let dir = TempDir::new();
    let script = script(&dir, "fish");
    let completed = |line: &str| {
        let program = format!("source {script}; complete -C 'bbd {line}'");
        sorted(lines_of("fish", &["--no-config", "-c", &program]))
    };
    assert_eq!(completed(""), first_words());
    for (family, seconds) in families() {
        assert_eq!(completed(&format!("{family} ")), seconds);
    }
    assert_eq!(completed("help ke"), ["keygen"]);
    for (before, flags) in flags() {
        assert_eq!(completed(&format!("{before} --")), flags, "{before}");
    }
}

/// zsh completes on a terminal alone, so its helpers are played: what they are handed is what would be offered.
#[test]
fn zsh_completes_everything() {
    if !has_tool("zsh") {
        return;
    }
    let dir = TempDir::new();
    let script = script(&dir, "zsh");
    let completed = |line: &[&str]| {
        let words: String = line.iter().map(|word| format!("'{word}' ")).collect();
        let program = format!(
            "compdef() {{ }}; _arguments() {{ print -l -- \"$@\" }}; _describe() {{ print -l -- ${{(P)2}} }}; \
             source {script}; words=(bbd {words}); CURRENT={}; _bbd",
            line.len() + 1
        );
        let offered = lines_of("zsh", &["-f", "-c", &program]).into_iter().filter(|line| !line.starts_with('*'));
        let word = |line: String| line.split(['=', '[', ':']).next().unwrap().to_owned();
        sorted(offered.map(word).collect())
    };
    assert_eq!(completed(&[""]), first_words());
    for (family, seconds) in families() {
        assert_eq!(completed(&[family, ""]), seconds);
    }
    for (before, flags) in flags() {
        let line: Vec<&str> = before.split(' ').chain(["--"]).collect();
        assert_eq!(completed(&line), flags, "{before}");
    }
}

#[test]
fn other_shells_are_refused_with_what_there_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_bbd")).args(["completions", "tcsh"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bash, zsh, fish"), "{output:?}");
}
