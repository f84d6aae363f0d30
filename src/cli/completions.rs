//! Owns `bbd completions`: what a shell needs to complete our command lines, made of the tables of commands and flags. Each script
//! knows three things: which words may follow `bbd`, which flags each command and the daemon take, and which of these want a file.

use std::fmt::Write as _;

use super::commands::{COMMANDS, Command, FAMILIES};
use super::exit::Failure;
use super::invocation::Invocation;
use super::{Outcome, print};
use crate::config::flags::FLAGS;

/// The shells that are known.
const SHELLS: &str = "bash, zsh, fish";
/// How help texts call values that are names of files.
const FILE_VALUES: [&str; 2] = ["FILE", "PATH"];

/// A flag, of a command or of the daemon.
struct Completed {
    name: &'static str,
    value_name: Option<&'static str>,
    help: &'static str,
}

impl Completed {
    fn takes_file(&self) -> bool {
        self.value_name.is_some_and(|name| FILE_VALUES.contains(&name))
    }
}

fn flags_of(command: &Command) -> Vec<Completed> {
    command
        .all_flags()
        .map(|flag| Completed { name: flag.name, value_name: flag.value_name, help: flag.help })
        .collect()
}

fn flags_of_daemon() -> Vec<Completed> {
    let flags = FLAGS.iter();
    flags.map(|flag| Completed { name: flag.name, value_name: flag.value_name, help: flag.help }).collect()
}

/// The words that may stand first, each once, with what they do; of two that belong together the first, without.
fn first_words() -> Vec<(&'static str, &'static str)> {
    let mut words: Vec<(&str, &str)> = Vec::new();
    for command in COMMANDS {
        match command.name.split_once(' ') {
            None => words.push((command.name, command.help)),
            Some((first, _)) if words.iter().any(|(word, _)| *word == first) => {}
            Some((first, _)) => words.extend(FAMILIES.iter().find(|(family, _)| *family == first)),
        }
    }
    words
}

/// The words that may stand behind a first one, with what they do.
fn second_words(first: &str) -> Vec<(&'static str, &'static str)> {
    let pairs = COMMANDS.iter().filter_map(|command| Some((command.name.split_once(' ')?, command.help)));
    pairs.filter(|((found, _), _)| *found == first).map(|((_, second), help)| (second, help)).collect()
}

/// `bbd completions SHELL`
pub(super) fn completions(invocation: &Invocation) -> Outcome {
    let script = match invocation.first() {
        b"bash" => bash(),
        b"zsh" => zsh(),
        b"fish" => fish(),
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(Failure::usage(format!("there are none for {other:?}; there are some for: {SHELLS}")));
        }
    };
    print(script.as_bytes())
}

fn names(words: &[(&str, &str)]) -> String {
    words.iter().map(|(word, _)| *word).collect::<Vec<&str>>().join(" ")
}

fn dashed(flags: &[Completed]) -> String {
    flags.iter().map(|flag| format!("--{}", flag.name)).collect::<Vec<String>>().join(" ")
}

fn bash() -> String {
    let mut cases = String::new();
    // Writing to a String cannot fail.
    let mut case = |pattern: &str, words: &str, flags: &[Completed]| {
        let with_values = |is_file: bool| {
            let some = flags.iter().filter(|flag| flag.value_name.is_some() && flag.takes_file() == is_file);
            some.map(|flag| format!(" --{} ", flag.name)).collect::<String>()
        };
        let _ = writeln!(
            cases,
            "    {pattern}) words='{words}' files='{}' values='{}' ;;",
            with_values(true),
            with_values(false)
        );
    };
    case("'-'*", &dashed(&flags_of_daemon()), &flags_of_daemon());
    for (first, _) in first_words() {
        let second = second_words(first);
        if !second.is_empty() {
            case(&format!("'{first} '"), &names(&second), &[]);
        }
        for command in COMMANDS.iter().filter(|command| command.name.split(' ').next() == Some(first)) {
            let flags = flags_of(command);
            let more = if command.name == "help" { names(&first_words()) + " " } else { String::new() };
            case(&format!("'{} '*", command.name), &(more + &dashed(&flags)), &flags);
        }
    }
    format!(
        r#"# bash completion for bbd; made by: bbd completions bash
_bbd() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} words='' files='' values=''
  # --flag=value is three words to bash.
  if [ "$current" = = ]; then
    current=
  elif [ "$previous" = = ]; then
    previous=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  COMPREPLY=()
  case "${{COMP_WORDS[*]:1:COMP_CWORD-1}} " in
    ' ') words='{first} --help' ;;
{cases}  esac
  case $current in
    -*) [ "$COMP_CWORD" -gt 1 ] || words='{daemon}' ;;
  esac
  case "$files" in
    *" $previous "*)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
  esac
  case "$values" in
    *" $previous "*) return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -F _bbd bbd
"#,
        first = names(&first_words()),
        daemon = dashed(&flags_of_daemon()),
    )
}

/// Text between single quotes of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn zsh() -> String {
    // Descriptions end at a bracket, and words at a colon.
    let escaped = |text: &str| text.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    let described = |words: &[(&str, &str)]| -> String {
        words.iter().map(|(word, help)| format!("    {}\n", quoted(&format!("{word}:{}", escaped(help))))).collect()
    };
    let specified = |flags: &[Completed]| -> String {
        let specification = |flag: &Completed| {
            let action = if flag.takes_file() { "_files" } else { " " };
            let value = flag.value_name.map(|name| format!(":{}:{action}", escaped(name))).unwrap_or_default();
            let equals = if flag.value_name.is_some() { "=" } else { "" };
            format!("      {} \\\n", quoted(&format!("--{}{equals}[{}]{value}", flag.name, escaped(flag.help))))
        };
        flags.iter().map(specification).collect()
    };
    let mut cases = String::new();
    for command in COMMANDS {
        let shifts = command.name.split(' ').count();
        let rest = if command.name == "help" { "'*:command:_bbd_commands'" } else { "'*: :_default'" };
        let _ = writeln!(
            cases,
            "    {})\n      shift {shifts} words; (( CURRENT -= {shifts} ))\n      _arguments \\\n{}      {rest} ;;",
            quoted(command.name),
            specified(&flags_of(command)),
        );
    }
    let mut families = String::new();
    for (first, _) in first_words() {
        let second = second_words(first);
        if !second.is_empty() {
            let _ = writeln!(
                families,
                "  if (( CURRENT == 3 )) && [[ $words[2] == {first} ]]; then\n    commands=(\n{}    )\n    \
                 _describe command commands\n    return\n  fi",
                described(&second)
            );
        }
    }
    format!(
        r#"#compdef bbd
# zsh completion for bbd; made by: bbd completions zsh
_bbd_commands() {{
  local -a commands
  commands=(
{first}  )
  _describe command commands
}}
_bbd() {{
  local -a commands
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    _bbd_commands
    return
  fi
  if [[ $words[2] == -* ]]; then
    _arguments \
{daemon}      && return
  fi
{families}  local name=$words[2]
  [[ -n $name && $name == (named) ]] && name="$name $words[3]"
  case $name in
{cases}  esac
}}
if [[ $funcstack[1] == _bbd ]]; then _bbd "$@"; else compdef _bbd bbd; fi
"#,
        first = described(&first_words()),
        daemon = specified(&flags_of_daemon()),
    )
    .replace("(named)", &format!("({})", families_pattern()))
}

/// The first words that need a second, as a pattern.
fn families_pattern() -> String {
    let families = first_words().into_iter().map(|(word, _)| word).filter(|word| !second_words(word).is_empty());
    families.collect::<Vec<&str>>().join("|")
}

fn fish() -> String {
    let mut text = String::from(
        "# fish completion for bbd; made by: bbd completions fish\n\
         function __bbd_begins_with\n\
         \x20   set -l words (commandline -opc)\n\
         \x20   set -l begin (string join ' ' -- $words[2..(math 1 + (count $argv))])\n\
         \x20   test \"$begin\" = \"$argv\"\n\
         end\n\
         function __bbd_is_daemon\n\
         \x20   set -l words (commandline -opc)\n\
         \x20   test (count $words) -eq 1; or string match -q -- '-*' $words[2]\n\
         end\n\
         function __bbd_has_no_word\n\
         \x20   test (count (commandline -opc)) -eq $argv[1]\n\
         end\n\
         complete -c bbd -f\n",
    );
    let mut words = |condition: &str, words: &[(&str, &str)]| {
        for (word, help) in words {
            let _ = writeln!(text, "complete -c bbd -n {} -a {word} -d {}", quoted(condition), quoted(help));
        }
    };
    words("__bbd_has_no_word 1", &first_words());
    words("__bbd_begins_with help", &first_words());
    for (first, _) in first_words() {
        words(&format!("__bbd_begins_with {first}; and __bbd_has_no_word 2"), &second_words(first));
    }
    let mut flags = |condition: &str, flags: &[Completed]| {
        for flag in flags {
            let value = match (flag.value_name, flag.takes_file()) {
                (None, _) => "",
                (Some(_), true) => " -r -F",
                (Some(_), false) => " -x",
            };
            let (condition, help) = (quoted(condition), quoted(flag.help));
            let _ = writeln!(text, "complete -c bbd -n {condition} -l {}{value} -d {help}", flag.name);
        }
    };
    flags("__bbd_is_daemon", &flags_of_daemon());
    for command in COMMANDS {
        flags(&format!("__bbd_begins_with {}", command.name), &flags_of(command));
    }
    text
}
