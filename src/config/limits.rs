//! Owns `--limits-file`: the limits that a reload can change, in a file of lines `FLAG=VALUE`. What stands in it counts more than the
//! command line, or a reload would change nothing; what does not is as it was given at the start.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::flags::{self, Flag};
use super::{Config, ConfigError, Origin, index_of, set, shown};
use crate::node::Limits;

/// The flags that may stand in the file: those whose limits nothing was measured out by at the start.
pub const RELOADABLE: [&str; 6] = [
    "memory-limit",
    "customer-memory-quota",
    "rate-limit",
    "burst-size",
    "tombstone-customer-limit",
    "tombstone-global-limit",
];
/// The most that is read of the file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

impl Config {
    /// Reads the file at the start, if there is one.
    pub(super) fn settle_limits(&mut self) -> Result<(), ConfigError> {
        let Some(path) = self.limits_file.clone() else { return Ok(()) };
        self.given_limits = Some(self.limits);
        let mut of_file = Vec::new();
        let limits = self.read_limits(&path, |index| of_file.push(index))?;
        self.limits = limits;
        for index in of_file {
            self.origins[index] = Origin::Elsewhere(path.display().to_string());
        }
        Ok(())
    }

    /// Reads the file again, for a change without a restart; without a file the limits stay.
    ///
    /// # Errors
    /// As at the start; nothing has changed then.
    pub fn read_limits_again(&self) -> Result<Limits, ConfigError> {
        match &self.limits_file {
            Some(path) => self.read_limits(path, |_| {}),
            None => Ok(self.limits),
        }
    }

    /// The limits given at the start, with those of the file in their place; `found` hears where each of these is in the table of flags.
    fn read_limits(&self, path: &Path, mut found: impl FnMut(usize)) -> Result<Limits, ConfigError> {
        let wrong =
            |problem: String| ConfigError::new(format!("--limits-file: {}: {problem}", shown(path.as_os_str())));
        let text = read_file(path).map_err(wrong)?;
        let mut scratch = Self::blank();
        scratch.limits = self.given_limits.unwrap_or(self.limits);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let (name, value) = (name.trim(), value.trim());
            let flag: Option<&Flag> = flags::find(name).filter(|flag| RELOADABLE.contains(&flag.name));
            let (Some(flag), Some(index)) = (flag, index_of(name)) else {
                let names = RELOADABLE.join(", ");
                return Err(wrong(format!("line {}: {name:?} cannot stand here; allowed: {names}", number + 1)));
            };
            set(&mut scratch, flag, OsStr::new(value), &Origin::CommandLine)
                .map_err(|problem| wrong(format!("line {}: {problem}", number + 1)))?;
            found(index);
        }
        Ok(scratch.limits)
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 <= FILE_BYTES_MAX => Ok(text),
        Ok(_) => Err(format!("is too long; allowed: {FILE_BYTES_MAX} bytes")),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
