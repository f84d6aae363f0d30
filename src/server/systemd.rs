//! What systemd is told: readiness, stopping, and that the loop still turns.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells the service manager that requests are answered from here on. Without one (`NOTIFY_SOCKET` unset) nothing happens; nor
/// does anything if it does not listen, since a daemon must not fall over its supervisor.
pub(super) fn notify_ready(status: &str) {
    let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells what the node is now.
pub(super) fn notify_status(status: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(status)]);
}

/// Tells that a clean stop has begun.
pub(super) fn notify_stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Tells that the loop turns.
pub(super) fn notify_watchdog() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}

/// How often [`notify_watchdog`] is due: twice as often as `WATCHDOG_USEC` asks (sd_watchdog_enabled(3)); `None` without one.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 2).filter(|interval| !interval.is_zero())
}
