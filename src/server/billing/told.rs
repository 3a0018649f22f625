//! What the log says of what a client has left: at the grant, at half, at the end.

use std::time::Duration;

use vpn_core::meter::{Event, StopReason, Use};

use crate::sdk::NOTICE;
use crate::server::account::Metered;
use crate::server::journal::Amount;
use crate::server::session::Session;

/// Returns what is left of the current receipt or rest, as the log shows it.
pub(super) fn left(session: &Session, metered: &Metered, now: Duration) -> Amount {
    let used = Use { bytes: session.carried.total(), alive: metered.alive };
    Amount(metered.meter.terms().unit, metered.meter.left(now, used).current)
}

/// Returns what an event has granted, for [`log_grant`] after the account's lock. A next receipt is granted when it takes
/// over.
pub(super) fn grant(
    session: &Session,
    metered: &mut Metered,
    now: Duration,
    event: Event,
) -> Option<(&'static str, Amount)> {
    let from = match event {
        Event::Paid if metered.meter.left(now, Use::default()).next == 0 => "by the first receipt",
        Event::Resumed { rest } if rest.of(metered.meter.terms().unit) > 0 => "from earlier payments",
        _ => return None,
    };
    metered.told_half = false;
    Some((from, left(session, metered, now)))
}

/// Logs what has been granted.
pub(super) fn log_grant(session: &Session, now: Duration, (from, left): (&str, Amount)) {
    session.journal.pays();
    log::log!(session.journal.level(now, "limits granted"), "limits granted: {}, {from}, {left} left", session.who());
}

/// Logs that the next receipt takes over.
pub(super) fn log_switch(session: &Session, now: Duration) {
    let left = session.account.lock().metered.as_mut().map(|metered| {
        metered.told_half = false;
        left(session, metered, now)
    });
    if let Some(left) = left {
        log_grant(session, now, ("by the next receipt", left));
    }
}

/// Logs once for each receipt that half of it is used.
pub(super) fn log_half(session: &Session, now: Duration) {
    let left = session.account.lock().metered.as_mut().filter(|metered| !metered.told_half).map(|metered| {
        metered.told_half = true;
        left(session, metered, now)
    });
    if let Some(left) = left {
        log::log!(session.journal.level(now, "limits at half"), "limits at half: {}, {left} left", session.who());
    }
}

/// Returns why a service stops; `None` if its session ends.
pub(super) fn stop_text(reason: StopReason) -> Option<&'static str> {
    match reason {
        StopReason::UnitsUsed => Some("the paid units are used"),
        StopReason::GraceTime => Some("the time of grace is over"),
        StopReason::GraceBytes => Some("the bytes of grace are used"),
        StopReason::NotConfirmed => Some("its payment did not reach the ledger"),
        StopReason::Ended => None,
    }
}

/// Logs why a session's packets are stopped.
pub(super) fn log_stop(session: &Session, reason: StopReason, now: Duration) {
    let Some(why) = stop_text(reason) else { return };
    let left = session.account.lock().metered.as_ref().map(|metered| left(session, metered, now));
    if let Some(left) = left {
        let level = session.journal.level(now, "limits used up");
        log::log!(target: NOTICE, level, "limits used up: {}, {why}, {left} left", session.who());
    }
}
