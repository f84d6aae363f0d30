//! Owns where secrets come from and how they are kept: text that is never shown and wiped when dropped, files with a checked
//! mode, systemd's credentials, and reading all of them again for a rotation. Does not own what a store key is good for.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{ConfigError, shown};
use crate::store_id::{MAX_MASTER_KEYS, MasterKey, parse_store_keys};

/// The most that is read of a file with secrets; a key takes 82 bytes at most.
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;
/// The longest internal token.
const MAX_TOKEN_BYTES: usize = 1024;
/// The internal token of `--dev`, which everybody knows.
pub const DEV_INTERNAL_TOKEN: &str = "bbd --dev";
/// The permission bits that a file with secrets may have.
const SECRET_FILE_MODE: u32 = 0o600;

/// Text that nobody is shown: its `Debug` says nothing, and its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps a text secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for whoever must use it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the node keeps to itself.
pub struct Secrets {
    /// The store keys, at least one, no id twice.
    pub store_keys: Vec<MasterKey>,
    /// The id of the key that new store ids are made with; one of `store_keys`.
    pub store_key_current: String,
    /// What the peer must know too. There is one if there is a peer.
    pub internal_token: Option<Secret>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// Where one secret is to be read.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The value of this flag, given on the command line or in the environment.
    Given(&'static str, Secret),
    /// The file that this flag names; its mode is checked.
    File(&'static str, PathBuf),
    /// A file in `$CREDENTIALS_DIRECTORY`, whose access the service manager sees to.
    Credential(PathBuf),
}

impl Place {
    /// The name for messages: a flag, or a path.
    fn name(&self) -> String {
        match self {
            Self::Given(flag, _) => format!("--{flag}"),
            Self::File(flag, path) => format!("--{flag}: {}", shown(path.as_os_str())),
            Self::Credential(path) => format!("credential {}", shown(path.as_os_str())),
        }
    }

    /// The file it is in, if it is in one.
    pub(super) fn file(&self) -> Option<String> {
        self.path().map(|path| path.display().to_string())
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Given(..) => None,
            Self::File(_, path) | Self::Credential(path) => Some(path),
        }
    }

    /// The text, which must be a token.
    pub(super) fn read_token(&self) -> Result<Secret, ConfigError> {
        let token = self.read()?;
        let length = token.expose().len();
        if (1..=MAX_TOKEN_BYTES).contains(&length) && !token.expose().contains(char::is_control) {
            return Ok(token);
        }
        Err(ConfigError::new(format!(
            "{}: not a token; allowed: 1 to {MAX_TOKEN_BYTES} bytes of text on one line",
            self.name()
        )))
    }

    /// The text, without the white space around it: files end in a newline.
    fn read(&self) -> Result<Secret, ConfigError> {
        let text = match self {
            Self::Given(_, secret) => return Ok(Secret::new(secret.expose().trim().to_owned())),
            Self::File(_, path) => read_file(path, Some(SECRET_FILE_MODE)),
            Self::Credential(path) => read_file(path, None),
        };
        match text {
            Ok(text) => Ok(Secret::new(text.trim().to_owned())),
            Err(problem) => Err(ConfigError::new(format!("{}: {problem}", self.name()))),
        }
    }
}

/// The token that users of the cluster map send: the one given, or the one in a file, whose mode is checked.
///
/// # Errors
/// The file cannot be read, others may read it, or the text is no token.
pub fn client_token(given: Option<Secret>, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    let given = given.map(|secret| Place::Given("client-token", secret));
    let place = given.or_else(|| file.map(|path| Place::File("client-token-file", path.to_owned())));
    place.map(|place| place.read_token()).transpose()
}

/// Where all secrets are to be read, now and again at each rotation.
#[derive(Clone, Debug, Default)]
pub(super) struct SecretPlaces {
    /// The fixed keys are allowed where no others are given.
    pub(super) dev: bool,
    /// Sessions are served, which takes store keys.
    pub(super) needs_store_keys: bool,
    /// The store keys.
    pub(super) store_keys: Option<Place>,
    /// The key for new ids; `None`: the greatest id.
    pub(super) store_key_current: Option<String>,
    /// The internal token.
    pub(super) internal_token: Option<Place>,
}

impl SecretPlaces {
    /// Every file that is read.
    pub(super) fn files(&self) -> Vec<&Path> {
        [&self.store_keys, &self.internal_token].into_iter().flatten().filter_map(Place::path).collect()
    }

    /// Reads and checks everything.
    pub(super) fn read(&self) -> Result<Secrets, ConfigError> {
        let store_keys = self.read_store_keys()?;
        let ids = || store_keys.iter().map(|key| key.id.as_str());
        let store_key_current = match &self.store_key_current {
            Some(id) if ids().any(|known| known == id) => id.clone(),
            Some(id) => {
                let known = ids().collect::<Vec<&str>>().join(", ");
                return Err(ConfigError::new(format!(
                    "--store-key-current: {} is not the id of a store key; allowed: {known}",
                    shown(id.as_ref())
                )));
            }
            // Text order, so that ids made of dates, as `bbd keygen` makes them, grow as they should.
            None => ids().max().map(str::to_owned).unwrap_or_default(),
        };
        Ok(Secrets { store_key_current, internal_token: self.read_internal_token()?, store_keys })
    }

    fn read_store_keys(&self) -> Result<Vec<MasterKey>, ConfigError> {
        let Some(place) = &self.store_keys else {
            if self.dev {
                return Ok(vec![MasterKey::dev()]);
            }
            if !self.needs_store_keys {
                return Ok(Vec::new());
            }
            return Err(ConfigError::new(
                "no store keys: set --store-keys-file or --store-keys, BBD_STORE_KEYS, or the credential store-keys; \
                 `bbd keygen` makes a key, and --dev has a fixed one for trying things out",
            ));
        };
        let text = place.read()?;
        let keys = parse_store_keys(text.expose())
            .map_err(|problem| ConfigError::new(format!("{}: {problem}", place.name())))?;
        if keys.len() > MAX_MASTER_KEYS {
            return Err(ConfigError::new(format!(
                "{}: {} store keys are too many; allowed: {MAX_MASTER_KEYS}",
                place.name(),
                keys.len()
            )));
        }
        Ok(keys)
    }

    fn read_internal_token(&self) -> Result<Option<Secret>, ConfigError> {
        let Some(place) = &self.internal_token else {
            return Ok(self.dev.then(|| Secret::new(DEV_INTERNAL_TOKEN.to_owned())));
        };
        place.read_token().map(Some)
    }
}

/// Reads a small file; `mode` is what its permission bits may be at most.
fn read_file(path: &Path, mode: Option<u32>) -> Result<Zeroizing<String>, String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    if let Some(allowed) = mode {
        // The open file is asked, not the path, which could name another file by now.
        let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
        let found = metadata.permissions().mode() & 0o7777;
        if found & !allowed != 0 {
            return Err(format!("has mode {found:04o}; allowed: {allowed:04o} or stricter (chmod {allowed:03o})"));
        }
    }
    // With room for the whole from the start, no half of a secret is left behind in memory that grew.
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET_FILE_BYTES as usize + 1));
    let read = file.take(MAX_SECRET_FILE_BYTES + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 <= MAX_SECRET_FILE_BYTES => Ok(text),
        Ok(_) => Err(format!("is too long; allowed: {MAX_SECRET_FILE_BYTES} bytes")),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
