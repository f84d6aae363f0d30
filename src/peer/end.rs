//! Why a connection between two nodes ends.

use std::{fmt, io};

use super::link::LinkError;
use crate::node::PeerMisbehaved;

/// Why a connection ended, or did not come up.
#[derive(Debug)]
pub enum End {
    /// The other side closed it.
    Closed,
    /// Nobody listens there.
    Refused,
    /// The name of the peer cannot be resolved.
    Unresolved(io::Error),
    /// The network or the system ended it.
    Failed(io::Error),
    /// The handshake took too long.
    TimedOut,
    /// Too many others came that had not proved themselves either.
    Crowded,
    /// The other side sent what no peer sends, or is not the one we want.
    Wrong(LinkError),
    /// What it said was well-formed and cannot be.
    Misbehaved(PeerMisbehaved),
    /// It takes in too little of what there is to say.
    Overflowed,
    /// It took in too little while we had the lease, and what waits may not be said without one.
    LeaseOver,
}

impl End {
    /// The end of a try to connect.
    #[must_use]
    pub fn of_connect(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused { Self::Refused } else { Self::Failed(error) }
    }

    /// The other side did what no peer does, so that dialling it at once would not help.
    #[must_use]
    pub fn is_its_fault(&self) -> bool {
        match self {
            Self::Wrong(_) | Self::Misbehaved(_) | Self::Overflowed => true,
            Self::Closed
            | Self::Refused
            | Self::Unresolved(_)
            | Self::Failed(_)
            | Self::TimedOut
            | Self::Crowded
            | Self::LeaseOver => false,
        }
    }

    /// One word for the log: of what the other side did wrong, the name in bbd-internals(7).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Refused => "Refused",
            Self::Unresolved(_) => "Unresolved",
            Self::Failed(_) => "Failed",
            Self::TimedOut => "TimedOut",
            Self::Crowded => "Crowded",
            Self::Wrong(error) => error.name(),
            Self::Misbehaved(PeerMisbehaved::AcknowledgedTheFuture) => "AcknowledgedTheFuture",
            Self::Misbehaved(PeerMisbehaved::ImpossibleRecord) => "ImpossibleRecord",
            Self::Misbehaved(PeerMisbehaved::RepeatedRequest) => "RepeatedRequest",
            Self::Overflowed => "Overflowed",
            Self::LeaseOver => "LeaseOver",
        }
    }
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Wrong(error)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "it closed the connection; its log may say why"),
            Self::Refused => write!(f, "nobody listens there"),
            Self::Unresolved(error) => write!(f, "its host name cannot be resolved: {error}"),
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut => write!(f, "it did not prove in time that it knows the internal token"),
            Self::Crowded => write!(f, "others came before it had proved that it knows the internal token"),
            Self::Wrong(error) => error.fmt(f),
            Self::Misbehaved(PeerMisbehaved::AcknowledgedTheFuture) => {
                write!(f, "it acknowledged what was never sent; run the same bbd on both")
            }
            Self::Misbehaved(PeerMisbehaved::ImpossibleRecord) => {
                write!(f, "its changes do not fit what it sent before; run the same bbd on both")
            }
            Self::Misbehaved(PeerMisbehaved::RepeatedRequest) => {
                write!(f, "it passed on two requests under one number; run the same bbd on both")
            }
            Self::Overflowed => write!(f, "it takes in too little of what is sent to it"),
            Self::LeaseOver => write!(f, "the lease ended before it had taken in the answers to its clients"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANUAL: &str = include_str!("../../man/bbd-internals.7");

    #[test]
    fn the_manual_has_every_end() {
        let error = || io::Error::other("why");
        let ends = [
            End::Closed,
            End::Refused,
            End::Unresolved(error()),
            End::Failed(error()),
            End::TimedOut,
            End::Crowded,
            End::Misbehaved(PeerMisbehaved::AcknowledgedTheFuture),
            End::Misbehaved(PeerMisbehaved::ImpossibleRecord),
            End::Misbehaved(PeerMisbehaved::RepeatedRequest),
            End::Overflowed,
            End::LeaseOver,
        ];
        let section = MANUAL.split_once(".Ss Other ends").and_then(|(_, rest)| rest.split_once(".Ss "));
        let items = section.into_iter().flat_map(|(section, _)| section.lines());
        let mut listed: Vec<&str> =
            items.filter_map(|line| line.strip_prefix(".It Sy ")).flat_map(|names| names.split(" , ")).collect();
        let mut names: Vec<&str> = ends.iter().map(End::name).collect();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names);
        for end in ends {
            let line = end.to_string();
            assert!(!line.is_empty() && !line.contains('\n'), "{line}");
        }
    }
}
