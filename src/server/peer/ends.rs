//! How connections between the nodes end, and what the log says of that and of what the node tells.

use std::{fmt, io};

use crate::log::{Log, LogEvent, Value};
use crate::node::{Event, PeerMisbehaved};
use crate::peer::link::LinkError;
use crate::status::role_name;
use crate::time::Now;

/// Why a connection ended, or did not come up.
#[derive(Debug)]
pub(in crate::server) enum End {
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
    pub(super) fn of_connect(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused { Self::Refused } else { Self::Failed(error) }
    }

    /// The other side did what no peer does, so that dialling it at once would not help.
    pub(super) fn is_its_fault(&self) -> bool {
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
    pub(super) fn name(&self) -> &'static str {
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

/// Writes what the node tells. The end of the connection is told where it is known why it ended.
pub(in crate::server) fn log_event(log: &mut Log, now: Now, event: Event) {
    let epoch = |epoch: u32| ("epoch", Value::Number(u64::from(epoch)));
    match event {
        Event::RoleChanged { role } => log.event(now, LogEvent::RoleChanged, &[("role", Value::Text(role_name(role)))]),
        Event::Promoted { epoch: new, why } => {
            log.event(now, LogEvent::Promoted, &[epoch(new), ("why", Value::Text(why))])
        }
        Event::SteppedDown { old_epoch, new_epoch } => {
            log.event(
                now,
                LogEvent::SteppedDown,
                &[("old_epoch", Value::Number(u64::from(old_epoch))), epoch(new_epoch)],
            );
        }
        Event::ChangesLost { count: 0 } | Event::PeerLinkDown => {}
        Event::ChangesLost { count } => log.event(now, LogEvent::ChangesLost, &[("count", Value::Number(count))]),
        Event::PeerRestarted => log.event(now, LogEvent::PeerRestarted, &[]),
        Event::SnapshotBegun => log.event(now, LogEvent::SnapshotBegun, &[]),
        Event::FollowerInStep => log.event(now, LogEvent::PeerInStep, &[]),
        Event::FollowerLost => log.event(now, LogEvent::PeerOutOfStep, &[]),
        Event::BacklogOverflow => {
            let help = "the other node is too slow or away too long; it will get a snapshot";
            log.event(now, LogEvent::BacklogOverflow, &[("help", Value::Text(help))]);
        }
        Event::HandedOver { epoch: old } => log.event(now, LogEvent::HandedOver, &[epoch(old)]),
        Event::HandoverAborted => log.event(now, LogEvent::HandoverAborted, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::limits::{
        PEER_BYTES_PER_TURN_MAX, PEER_QUEUE_BYTES_MAX, PEER_WINDOW_BYTES, UNPROVED_LINKS_MAX,
    };
    use super::*;

    const MANUAL: &str = include_str!("../../../man/bbd-internals.7");

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

    #[test]
    fn the_manual_has_the_bounds() {
        let queue = format!("More than {PEER_QUEUE_BYTES_MAX} bytes wait");
        let window = format!("At most {PEER_WINDOW_BYTES} bytes of requests");
        let turn = format!("about {PEER_BYTES_PER_TURN_MAX} bytes are heard");
        let unproved = format!(".It connections without a proof Ta {UNPROVED_LINKS_MAX}; ");
        for bound in [queue, window, turn, unproved] {
            assert!(MANUAL.contains(&bound), "{bound}");
        }
    }
}
