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

/// Logs what an event has granted. A next receipt is granted when it takes over.
pub(super) fn log_grant(session: &Session, metered: &mut Metered, now: Duration, event: Event) {
    let from = match event {
        Event::Paid if metered.meter.left(now, Use::default()).next == 0 => "by the first receipt",
        Event::Resumed { rest } if rest.of(metered.meter.terms().unit) > 0 => "from earlier payments",
        _ => return,
    };
    metered.told_half = false;
    let left = left(session, metered, now);
    log::info!("limits granted: {}, {from}, {left} left", session.who());
}

/// Logs once for each receipt that half of it is used.
pub(super) fn log_half(session: &Session, now: Duration) {
    let mut account = session.account.lock();
    let Some(metered) = account.metered.as_mut().filter(|metered| !metered.told_half) else { return };
    metered.told_half = true;
    log::info!("limits at half: {}, {} left", session.who(), left(session, metered, now));
}

/// Logs why a session's packets are stopped.
pub(super) fn log_stop(session: &Session, reason: StopReason, now: Duration) {
    let why = match reason {
        StopReason::UnitsUsed => "the paid units are used",
        StopReason::GraceTime => "the time of grace is over",
        StopReason::GraceBytes => "the bytes of grace are used",
        StopReason::NotConfirmed => "its payment did not reach the ledger",
        StopReason::Ended => return,
    };
    let account = session.account.lock();
    let Some(metered) = &account.metered else { return };
    let left = left(session, metered, now);
    log::info!(target: NOTICE, "limits used up: {}, {why}, {left} left", session.who());
}
