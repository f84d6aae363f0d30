//! What the log says of what the node tells. The end of a connection is told where it is known why it ended.

use crate::log::{Log, LogEvent, Value};
use crate::node::Event;
use crate::status::role_name;
use crate::time::Now;

/// Writes what the node tells.
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
