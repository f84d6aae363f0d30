//! Owns the shape of a command line: flags with one dash or two, `--flag=value` or `--flag value`, before or after positional
//! arguments, `--` before arguments that are none. Does not own what flags there are; the caller's table says so.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Whether a flag takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// `--flag`, or `--flag=true`.
    Switch,
    /// `--flag VALUE`.
    Value,
}

/// A command line taken apart, in the order in which things stood.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Each flag with the value it was given; `None` for a switch without one.
    pub flags: Vec<(String, Option<OsString>)>,
    /// What is no flag.
    pub positionals: Vec<OsString>,
    /// `--help` or `-h` stood somewhere.
    pub help: bool,
}

/// Takes a command line apart. `arity_of` says which flags there are; names come without dashes.
///
/// # Errors
/// An unknown flag or one without its value, in a sentence that names it.
pub fn parse(args: Vec<OsString>, arity_of: &dyn Fn(&str) -> Option<Arity>) -> Result<Arguments, String> {
    let mut parser = lexopt::Parser::from_args(with_two_dashes(args, arity_of));
    let mut arguments = Arguments::default();
    loop {
        let argument = match parser.next() {
            Ok(Some(argument)) => argument,
            Ok(None) => return Ok(arguments),
            Err(error) => return Err(error.to_string()),
        };
        let name = match argument {
            lexopt::Arg::Long(name) => name.to_owned(),
            lexopt::Arg::Short(letter) => return Err(format!("unknown flag -{}", letter.escape_default())),
            lexopt::Arg::Value(value) => {
                arguments.positionals.push(value);
                continue;
            }
        };
        match arity_of(&name) {
            Some(Arity::Value) => {
                let value = parser.value().map_err(|_| format!("--{name} needs a value"))?;
                arguments.flags.push((name, Some(value)));
            }
            Some(Arity::Switch) => {
                let value = parser.optional_value();
                arguments.flags.push((name, value));
            }
            None if name == "help" || name == "h" => arguments.help = true,
            None => return Err(format!("unknown flag --{}", name.escape_debug())),
        }
    }
}

/// Gives every flag its two dashes: lexopt takes `-host-id` for a bundle of one-letter flags, of which there are none here.
///
/// A flag's value is copied as it is, whatever it looks like, and so is all that follows `--`.
fn with_two_dashes(args: Vec<OsString>, arity_of: &dyn Fn(&str) -> Option<Arity>) -> Vec<OsString> {
    let mut normal = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            normal.push(arg);
            break;
        }
        let Some(flag) = flag_part(&arg) else {
            normal.push(arg);
            continue;
        };
        let mut whole = b"--".to_vec();
        whole.extend_from_slice(flag);
        let takes_next = !flag.contains(&b'=')
            && std::str::from_utf8(flag).ok().and_then(arity_of).is_some_and(|arity| arity == Arity::Value);
        normal.push(OsString::from_vec(whole));
        if takes_next {
            normal.extend(args.next());
        }
    }
    normal.extend(args);
    normal
}

/// What follows the dash or dashes of a flag; `None` for what is none: no dash, a dash alone, a negative number.
fn flag_part(arg: &OsStr) -> Option<&[u8]> {
    let rest = arg.as_bytes().strip_prefix(b"-")?;
    let flag = rest.strip_prefix(b"-").unwrap_or(rest);
    flag.first().is_some_and(u8::is_ascii_alphabetic).then_some(flag)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn arity_of(name: &str) -> Option<Arity> {
        match name {
            "dev" => Some(Arity::Switch),
            "host-id" | "delta" => Some(Arity::Value),
            _ => None,
        }
    }

    fn parsed(args: &[&str]) -> Result<Arguments, String> {
        parse(args.iter().map(OsString::from).collect(), &arity_of)
    }

    #[test]
    fn every_spelling_means_the_same() {
        let expected = vec![("host-id".to_owned(), Some(OsString::from("x")))];
        for args in [
            &["--host-id", "x", "p"][..],
            &["--host-id=x", "p"],
            &["-host-id", "x", "p"],
            &["-host-id=x", "p"],
            &["p", "--host-id", "x"],
            &["p", "-host-id=x"],
        ] {
            let arguments = parsed(args).unwrap();
            assert_eq!(arguments.flags, expected, "{args:?}");
            assert_eq!(arguments.positionals, ["p"], "{args:?}");
        }
    }

    #[test]
    fn a_value_is_taken_as_it_is() {
        for value in ["-5", "-dev", "--dev", "--", "", "-", "a=b"] {
            for spelling in [vec!["-host-id".to_owned(), value.to_owned()], vec![format!("--host-id={value}")]] {
                let arguments = parse(spelling.iter().map(OsString::from).collect(), &arity_of).unwrap();
                assert_eq!(arguments.flags, vec![("host-id".to_owned(), Some(OsString::from(value)))], "{spelling:?}");
                assert!(arguments.positionals.is_empty());
            }
        }
    }

    #[test]
    fn two_dashes_end_the_flags() {
        let arguments = parsed(&["a", "-dev", "--", "-dev", "--host-id", "--"]).unwrap();
        assert_eq!(arguments.flags, vec![("dev".to_owned(), None)]);
        assert_eq!(arguments.positionals, ["a", "-dev", "--host-id", "--"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, message) in [
            (&["--nonsense"][..], "unknown flag --nonsense"),
            (&["-nonsense=1"], "unknown flag --nonsense"),
            (&["-5"], "unknown flag -5"),
            (&["--host-id"], "--host-id needs a value"),
            (&["p", "-delta"], "--delta needs a value"),
        ] {
            assert_eq!(parsed(args).unwrap_err(), message, "{args:?}");
        }
    }

    #[test]
    fn help_is_heard_anywhere() {
        for args in [&["--help"][..], &["-h"], &["-help"], &["p", "--dev", "-h"]] {
            assert!(parsed(args).unwrap().help, "{args:?}");
        }
    }

    /// Every list of up to three of these, in every order: none may panic, and none may lose an argument unheard.
    #[test]
    fn small_command_lines_in_full() {
        let words = [
            "",
            "-",
            "--",
            "-d",
            "--dev",
            "-dev",
            "--dev=",
            "-dev=false",
            "--host-id",
            "-host-id=",
            "--=",
            "-=",
            "-5",
            "é",
            "-é",
            "p",
        ];
        let mut lists: Vec<Vec<&str>> = vec![vec![]];
        for _ in 0..3 {
            let longer: Vec<Vec<&str>> = lists
                .iter()
                .flat_map(|list| words.iter().map(|word| list.iter().copied().chain([*word]).collect()))
                .collect();
            for list in &longer {
                if let Ok(arguments) = parsed(list) {
                    let values =
                        arguments.flags.iter().filter(|(name, value)| name == "host-id" && value.is_some()).count();
                    let heard =
                        arguments.flags.len() + values + arguments.positionals.len() + usize::from(arguments.help);
                    assert!(heard + 1 >= list.len(), "{list:?} became {arguments:?}");
                }
            }
            lists = longer;
        }
    }
}
