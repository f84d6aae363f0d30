//! The examples of the manuals and of the README, run as they stand.
//!
//! An example is a block (`.Bd -literal` under EXAMPLES in a manual, a fence in the README) with lines that begin with `$ `:
//! they are commands, longer where a line ends in a backslash, and the lines behind one are what it prints on both of its
//! outputs. There `…` stands for anything within a line, and alone on a line for any lines.
//!
//! All blocks of a document run in one `sh`, in a fresh directory, with the `bbd` under test first in `PATH`. They speak of the
//! default socket, `/tmp/bbd.sock`; here one in that directory stands for it, in their text and in `BBD_UDS`. A `bbd --dev` is
//! started for them, unless a command of theirs starts a daemon behind its back (it ends in `&`). For the ports 8080 to 8089 that
//! they speak of, here stand ten that nobody has. `scripts` is there as in the source.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::support::{Daemon, TempDir, free_ports, has_tool, kill_nodes_in};

const DEFAULT_SOCKET: &str = "/tmp/bbd.sock";
/// How the ports begin that examples speak of, all but their last digit.
const PORTS: &str = "808";
/// How long all examples of a document may take on a busy machine.
const EXAMPLES_TIME: Duration = Duration::from_secs(60);
const ANYTHING: &str = "…";

/// A command, and the lines that it should print.
#[derive(Debug, Default, PartialEq)]
struct Example {
    command: String,
    output: Vec<String>,
}

/// The lines of all blocks of a manual's EXAMPLES, as a reader sees them; blocks are parted by `None`.
fn manual_lines(manual: &str) -> Vec<Option<String>> {
    let (_, rest) = manual.split_once("\n.Sh EXAMPLES\n").expect("the manual has EXAMPLES");
    let section = rest.split("\n.Sh ").next().unwrap();
    let mut lines = Vec::new();
    let mut is_inside = false;
    for line in section.lines() {
        if line.starts_with(".Bd -literal") || line == ".Ed" {
            is_inside = line != ".Ed";
            lines.push(None);
        } else if is_inside {
            assert!(!line.starts_with(['.', '\'']), "a macro inside of an example: {line}");
            let line = line.replace("\\e", "\u{0}").replace("\\&", "").replace("\\(dq", "\"").replace("\\-", "-");
            assert!(!line.contains('\\'), "an escape that this test does not know: {line}");
            lines.push(Some(line.replace('\u{0}', "\\")));
        }
    }
    lines
}

/// The same of a text in Markdown.
fn markdown_lines(text: &str) -> Vec<Option<String>> {
    let mut lines = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_inside = !is_inside;
            lines.push(None);
        } else if is_inside {
            lines.push(Some(line.to_owned()));
        }
    }
    lines
}

/// Sorts lines into commands and what they print. What stands in a block before its first command is no example.
fn read_examples(lines: &[Option<String>]) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_example = false;
    for line in lines {
        let Some(line) = line else {
            is_example = false;
            continue;
        };
        if let Some(command) = line.strip_prefix("$ ") {
            is_example = true;
            examples.push(Example { command: command.to_owned(), output: Vec::new() });
        } else if let Some(example) = examples.last_mut().filter(|_| is_example) {
            if example.output.is_empty() && example.command.ends_with('\\') {
                example.command.push('\n');
                example.command.push_str(line);
            } else {
                example.output.push(line.clone());
            }
        }
    }
    examples
}

/// Whether a line is as expected, `…` standing for anything.
fn line_matches(expected: &str, line: &str) -> bool {
    let parts: Vec<&str> = expected.split(ANYTHING).collect();
    let [first, middle @ .., last] = &parts[..] else { return expected == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Whether all lines are as expected, a line that is `…` alone standing for any lines.
fn output_matches(expected: &[String], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, others)) if first == ANYTHING => {
            (0..=lines.len()).any(|skipped| output_matches(others, &lines[skipped..]))
        }
        Some((first, others)) => lines
            .split_first()
            .is_some_and(|(line, behind)| line_matches(first, line) && output_matches(others, behind)),
    }
}

/// A text that speaks of ten other ports, from `first` on.
fn with_ports(text: &str, first: u16) -> String {
    let mut parts = text.split(PORTS);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_digit = |character: Option<char>| character.is_some_and(|character| character.is_ascii_digit());
        let is_apart = !is_digit(replaced.chars().next_back()) && !is_digit(part.chars().nth(1));
        match part.chars().next().and_then(|digit| digit.to_digit(10)).filter(|_| is_apart) {
            Some(digit) => replaced.push_str(&format!("{}{}", u32::from(first) + digit, &part[1..])),
            None => replaced.push_str(&format!("{PORTS}{part}")),
        }
    }
    replaced
}

/// Runs the examples and says which printed something else.
fn differences(examples: &[Example]) -> Vec<String> {
    let dir = TempDir::new();
    let starts_daemon = examples.iter().any(|example| example.command.ends_with('&'));
    let daemon = (!starts_daemon).then(|| Daemon::start::<&str>(&[]));
    let socket = daemon.as_ref().map_or(dir.path().join("bbd.sock"), |daemon| daemon.socket().to_owned());
    let socket = socket.to_str().unwrap();
    let first_port = free_ports(10);
    let here = |text: &str| with_ports(&text.replace(DEFAULT_SOCKET, socket), first_port);
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"), dir.path().join("scripts"))
        .unwrap();

    // `jobs -p` would not do: in dash's command substitution it prints nothing, and the daemons would stay.
    let mut script = String::from("trap 'kill $daemons 2>/dev/null; wait' EXIT\ntrap 'exit 1' TERM\n");
    for (index, example) in examples.iter().enumerate() {
        script.push_str(&format!("{{ {}\n}} >.output-{index} 2>&1\n", here(&example.command)));
        if example.command.ends_with('&') {
            let own = example.command.split_whitespace().find_map(|word| word.strip_prefix("--uds="));
            let socket = here(own.unwrap_or(DEFAULT_SOCKET));
            script.push_str(&format!(
                "daemons=\"$daemons $!\"\nfor i in 1 2 3 4 5 6 7 8 9 10; do [ -S {socket} ] || sleep 0.5; done\n"
            ));
        }
    }
    let directory_of_bbd = Path::new(env!("CARGO_BIN_EXE_bbd")).parent().unwrap().to_str().unwrap();
    // How it ends is how the last command ends: what the commands print is what counts.
    let mut shell = Command::new("sh")
        .arg("-c")
        .arg(&script)
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", format!("{directory_of_bbd}:{}", std::env::var("PATH").unwrap_or_default()))
        .env("HOME", dir.path())
        .env("LC_ALL", "C.UTF-8")
        .env("BBD_UDS", socket)
        .env("BBD", env!("CARGO_BIN_EXE_bbd"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("sh runs");
    // One that waits for what never comes is ended, and its missing output tells which it was.
    let deadline = Instant::now() + EXAMPLES_TIME;
    while shell.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            rustix::process::kill_process(Pid::from_child(&shell), Signal::TERM).unwrap();
            shell.wait().unwrap();
        }
        sleep(Duration::from_millis(5));
    }
    kill_nodes_in(&dir.path().join("bbd-data"));
    let mut differences = Vec::new();
    for (index, example) in examples.iter().enumerate() {
        let output = fs::read(dir.path().join(format!(".output-{index}"))).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = output.lines().collect();
        let expected: Vec<String> = example.output.iter().map(|line| here(line)).collect();
        if !output_matches(&expected, &lines) {
            let (command, expected) = (&example.command, expected.join("\n"));
            differences.push(format!("$ {command}\n--- should print\n{expected}\n--- prints\n{output}"));
        }
    }
    differences
}

/// Runs all examples of a document, which must have some.
fn run_document(path: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
    let lines = if path.ends_with(".md") { markdown_lines(&text) } else { manual_lines(&text) };
    let examples = read_examples(&lines);
    assert!(!examples.is_empty(), "{path} has no examples");
    let needs = |tool: &str| examples.iter().any(|example| example.command.contains(&format!("{tool} ")));
    if ["curl", "jq"].into_iter().any(|tool| needs(tool) && !has_tool(tool)) {
        return;
    }
    let differences = differences(&examples);
    assert!(differences.is_empty(), "{path}:\n{}", differences.join("\n\n"));
}

#[test]
fn the_manual_of_the_api() {
    run_document("man/bbd-api.7");
}

#[test]
fn the_manual_of_the_commands() {
    run_document("man/bbd.1");
}

#[test]
fn the_manual_of_the_daemon() {
    run_document("man/bbd.8");
}

#[test]
fn the_manual_of_two_nodes() {
    run_document("man/bbd-cluster.7");
}

#[test]
fn the_manual_of_the_cluster_map() {
    run_document("man/bbd-kv.7");
}

#[test]
fn the_readme() {
    run_document("README.md");
}

#[test]
fn examples_are_found_in_both_kinds_of_text() {
    let manual = "x\n.Sh EXAMPLES\nText.\n.Bd -literal\nnot $ this\n$ a \\e\n   b\nout \\&1\n$ c\n.Ed\n.Bd -literal -offset indent\n\
                  no\n$ d\n\n…\n.Ed\n.Sh SEE ALSO\n$ e\n";
    let markdown =
        "$ x\n```sh\ncargo y\n```\n$ z\n```sh\nnot $ this\n$ a \\\n   b\nout 1\n$ c\n```\n```sh\nno\n$ d\n\n…\n```\n";
    let example = |command: &str, output: &[&str]| Example {
        command: command.to_owned(),
        output: output.iter().map(|line| (*line).to_owned()).collect(),
    };
    let expected = [example("a \\\n   b", &["out 1"]), example("c", &[]), example("d", &["", ANYTHING])];
    assert_eq!(read_examples(&manual_lines(manual)), expected);
    assert_eq!(read_examples(&markdown_lines(markdown)), expected);
}

#[test]
fn ports_are_replaced_where_they_stand_alone() {
    assert_eq!(with_ports("8080 x:8081/ 18082 80833 808 808a 8089", 700), "700 x:701/ 18082 80833 808 808a 709");
}

#[test]
fn what_an_example_prints_is_compared_line_by_line() {
    for (expected, line, is_same) in [
        ("ab", "ab", true),
        ("ab", "abc", false),
        ("a…c", "abbc", true),
        ("a…c", "ac", true),
        ("a…c", "abcd", false),
        ("a…a", "a", false),
        ("…", "", true),
        ("a…b…c", "a-b-b-c", true),
        ("a…b…c", "a-c", false),
    ] {
        assert_eq!(line_matches(expected, line), is_same, "{expected} {line}");
    }
    let output = |expected: &[&str], lines: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        output_matches(&expected, lines)
    };
    assert!(output(&["a", "…", "d"], &["a", "b", "c", "d"]) && output(&["a", "…"], &["a"]));
    assert!(!output(&["a"], &["a", "b"]) && !output(&["a", "b"], &["a"]) && !output(&["…", "d"], &["a"]));
}

/// The test itself can fail: a wrong output and a command that is not there are noticed, and the shell keeps its variables.
#[test]
fn wrong_examples_are_noticed() {
    let example =
        |command: &str, output: &str| Example { command: command.to_owned(), output: vec![output.to_owned()] };
    let examples = [
        example("x=1; echo $x", "1"),
        example("echo $x", "2"),
        example("bbd-that-is-not-there", "found"),
        example("test -S /tmp/bbd.sock && echo ok", "ok"),
    ];
    let differences = differences(&examples);
    assert_eq!(differences.len(), 2, "{differences:?}");
    assert!(differences[0].contains("should print\n2") && differences[0].contains("prints\n1"));
}

/// What an example starts in the background ends with the examples.
#[test]
fn nothing_that_an_example_starts_stays() {
    let example = |command: &str| Example { command: command.to_owned(), output: vec!["its number".to_owned()] };
    let daemon = Example { command: "bbd --dev 2>log &".to_owned(), output: Vec::new() };
    let differences = differences(&[daemon, example("echo number=$!")]);
    // What the daemon says while it runs is another difference, in front of that.
    let number = differences.last().and_then(|said| said.rsplit_once("number=")).expect("the shell says it").1.trim();
    assert!(number.parse::<u32>().is_ok() && !Path::new("/proc").join(number).exists(), "{number}");
}
