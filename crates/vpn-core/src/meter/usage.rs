//! One usage of one session.

use super::books::{Books, Holding, Left};
use super::terms::{Action, Allowance, Event, Terms, Use};
use std::time::Duration;

/// Counts what one session is served against what its client paid.
#[derive(Debug)]
pub struct Meter {
    terms: Terms,
}

impl Meter {
    /// Creates the meter of a session that has no right yet.
    pub fn new(terms: Terms) -> Meter {
        Meter { terms }
    }

    /// Returns the terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Takes an event. `now` is the monotonic time since any fixed origin. The driver then performs the actions that
    /// [`Meter::next_action`] returns.
    pub fn handle(&mut self, now: Duration, used: Use, event: Event) {
        let _ = (now, used, event);
        todo!()
    }

    /// Returns the next action; `None` if all were returned.
    pub fn next_action(&mut self) -> Option<Action> {
        todo!()
    }

    /// Returns whether the client's packets may pass.
    pub fn is_allowed(&self) -> bool {
        todo!()
    }

    /// Returns how far the data path may go before the next event.
    pub fn allowance(&self) -> Allowance {
        todo!()
    }

    /// Returns what is left, for `GET /remain_limits_vpn` and the SDK's fields. Changes nothing.
    pub fn left(&self, now: Duration, used: Use) -> Left {
        let _ = (now, used);
        todo!()
    }

    /// Returns what outlasts the session, as of the last event.
    pub fn holding(&self) -> Holding {
        todo!()
    }

    /// Returns the time and the bytes of grace that were used, for [`Grace::release`](super::Grace::release).
    pub fn grace_used(&self) -> (Duration, u64) {
        todo!()
    }

    /// Returns the account, as of the last event.
    pub fn books(&self) -> Books {
        todo!()
    }
}
