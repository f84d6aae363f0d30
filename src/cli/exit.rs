//! Owns the exit statuses of client commands and which error of the daemon becomes which (section 12 of the specification).

use crate::api::errors::{Code, ERRORS};
use crate::config::values::MAX_ID_BYTES;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The store or name is not there.
    NotThere,
    /// The command line, or what it made of a request, is wrong.
    Usage,
    /// Somebody holds the lock, a version or lock is not the expected one, a name is taken.
    Conflict,
    /// A limit was met.
    Limit,
    /// The daemon does not answer, or not now; worth a retry.
    Unavailable,
    /// Not permitted, on the socket file too.
    NotPermitted,
    /// `bbd doctor` found something wrong.
    Wrong,
    /// Anything else.
    Other,
    /// What the command run by `bbd modify` ended with.
    OfCommand(u8),
}

/// The statuses that are fixed, with what they mean, for help texts and the manual.
pub const EXITS: [(Exit, &str); 8] = [
    (Exit::Done, "done"),
    (Exit::NotThere, "not there: not found, or expired; of doctor: something is wrong"),
    (Exit::Usage, "usage: the command line or the request is wrong"),
    (Exit::Conflict, "conflict: locked, lock, version or value mismatch, name exists"),
    (Exit::Limit, "a limit: rate, quota, capacity, size, tombstones, bound"),
    (Exit::Unavailable, "unavailable, worth a retry: 503, no daemon on the socket, no answer in time"),
    (Exit::NotPermitted, "not permitted, on the socket file too"),
    (Exit::Other, "anything else"),
];

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotThere | Self::Wrong => 1,
            Self::Usage => 2,
            Self::Conflict => 3,
            Self::Limit => 4,
            Self::Unavailable => 5,
            Self::NotPermitted => 6,
            Self::Other => 70,
            Self::OfCommand(status) => status,
        }
    }

    /// What an error code means.
    #[must_use]
    pub fn of_code(code: Code) -> Self {
        match code {
            Code::NotFound | Code::StoreExpired => Self::NotThere,
            Code::TypeMismatch | Code::ValueOutOfBounds | Code::InvalidBounds => Self::Usage,
            Code::StoreLocked
            | Code::LockMismatch
            | Code::LockStateUnknown
            | Code::NameExists
            | Code::VersionMismatch => Self::Conflict,
            Code::RateLimited | Code::TombstoneLimitExceeded | Code::CapacityExceeded | Code::CustomerQuotaExceeded => {
                Self::Limit
            }
            Code::LeaderChanged | Code::StoreUnavailable | Code::NotReplicated => Self::Unavailable,
            Code::Unauthorized => Self::NotPermitted,
            Code::IdempotencyMismatch | Code::Overflow => Self::Other,
        }
    }

    /// What an answer that is no success means: by its error code, or by its HTTP status where it has none that we know.
    #[must_use]
    pub fn of_answer(status: u16, code: Option<&str>) -> Self {
        let known = ERRORS.iter().find(|row| Some(row.name) == code);
        known.map_or_else(|| Self::of_status(status), |row| Self::of_code(row.code))
    }

    /// What an answer of the cluster map that is no success means.
    #[must_use]
    pub fn of_map_status(status: u16) -> Self {
        match status {
            // A key, or the history that a watch wants.
            404 | 410 => Self::NotThere,
            409 => Self::Conflict,
            422 => Self::Usage,
            401 => Self::NotPermitted,
            _ => Self::of_status(status),
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            400 => Self::Usage,
            403 => Self::NotPermitted,
            413 | 429 | 507 => Self::Limit,
            408 | 503 => Self::Unavailable,
            _ => Self::Other,
        }
    }
}

/// Why a command did not do what it was asked for: how to end, and one line for standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How to end.
    pub exit: Exit,
    /// What was wrong and what to do; empty if somebody else has said it already.
    pub message: String,
}

impl Failure {
    /// A failure with its line.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A command line that is wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A customer id that is none.
    #[must_use]
    pub fn bad_customer(customer: &str) -> Self {
        Self::usage(format!(
            "{customer:?} cannot be a customer; allowed for --customer and BBD_CUSTOMER: 1 to {MAX_ID_BYTES} of A-Z a-z 0-9 _ -"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_daemon_is_known() {
        for (status, code, exit) in [
            (404, "NotFound", 1),
            (410, "StoreExpired", 1),
            (400, "TypeMismatch", 2),
            (409, "StoreLocked", 3),
            (412, "VersionMismatch", 3),
            (429, "RateLimited", 4),
            (507, "CapacityExceeded", 4),
            (503, "LeaderChanged", 5),
            (503, "StoreUnavailable", 5),
            (503, "NotReplicated", 5),
            (403, "Unauthorized", 6),
            (409, "Overflow", 70),
        ] {
            assert_eq!(Exit::of_answer(status, Some(code)).status(), exit, "{code}");
        }
    }

    #[test]
    fn what_has_no_known_code_goes_by_its_status() {
        for (status, exit) in [(400, 2), (404, 70), (405, 70), (413, 4), (429, 4), (503, 5), (500, 70)] {
            assert_eq!(Exit::of_answer(status, None).status(), exit, "{status} without a code");
            assert_eq!(Exit::of_answer(status, Some("OfALaterDaemon")).status(), exit, "{status} with a later code");
        }
    }
}
