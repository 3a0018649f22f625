//! One client as the server sees it, without its address: whether it is allowed, alive, and using the service.

use std::time::Duration;

/// How long a client may keep a lease without the right to use the service, or this right without a lease: as long as a
/// payment may reasonably take.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(60);

/// What the driver does after the periodic check of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// No action.
    None,
    /// Sends PING.
    Ping,
    /// Closes the stream: the client has had service without a lease, or a lease without service, for a minute.
    CloseUnused,
    /// Closes the stream: the client has been silent for this long.
    CloseSilent(Duration),
}

/// The change of the client's right to use the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageChange {
    /// The right is unchanged.
    None,
    /// The right begins.
    Begins,
    /// The right ends.
    Ends,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    /// The billing side allows this client to use the service.
    is_allowed: bool,
    /// When the billing side last changed its decision.
    since: Duration,
    /// The client announced that it answers pings.
    answers_pings: bool,
    /// The bytes that waited for the client at the last check.
    pending: usize,
    /// When the last packet from the client arrived, as of the last check.
    heard: Duration,
}

impl Session {
    /// Creates the session of a channel that has just opened.
    pub fn new(now: Duration) -> Session {
        Session { is_allowed: false, since: now, answers_pings: false, pending: 0, heard: now }
    }

    /// Returns whether the client may use the service.
    pub fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// Sets the billing side's decision.
    pub fn set_allowed(&mut self, now: Duration, is_allowed: bool) -> UsageChange {
        if std::mem::replace(&mut self.is_allowed, is_allowed) == is_allowed {
            return UsageChange::None;
        }
        self.since = now;
        if is_allowed { UsageChange::Begins } else { UsageChange::Ends }
    }

    /// Records that the client has a lease, and whether it announced that it answers pings.
    pub(super) fn leased(&mut self, answers_pings: bool) {
        self.answers_pings = answers_pings;
    }

    /// Returns whether the client announced that it answers pings.
    pub fn answers_pings(&self) -> bool {
        self.answers_pings
    }

    /// Returns when the client last showed liveness: the last packet that the driver reported, or a drained send queue.
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// Checks the session periodically. `heard` is when the last packet arrived, `pending` the number of bytes that
    /// wait for the client. After a silence of `keep_alive` a client that answers pings is pinged; after three times as
    /// long its stream is closed.
    pub fn check(
        &mut self,
        now: Duration,
        heard: Duration,
        pending: usize,
        is_leased: bool,
        keep_alive: Duration,
    ) -> SessionAction {
        self.heard = self.heard.max(heard);
        if is_leased != self.is_allowed && now.saturating_sub(self.since) >= UNUSED_TIMEOUT {
            return SessionAction::CloseUnused;
        }
        // Liveness: a client that drains its send queue is alive, even while its answer to a ping waits behind data.
        if pending < std::mem::replace(&mut self.pending, pending) {
            self.heard = self.heard.max(now);
        }
        let silent = now.saturating_sub(self.heard);
        match self.answers_pings {
            true if silent >= keep_alive * 3 => SessionAction::CloseSilent(silent),
            true if silent >= keep_alive => SessionAction::Ping,
            _ => SessionAction::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Creates a session that is allowed from the beginning, with a lease.
    fn served(answers_pings: bool) -> Session {
        let mut session = Session::new(at(0));
        assert_eq!(session.set_allowed(at(0), true), UsageChange::Begins);
        session.leased(answers_pings);
        session
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_disconnected() {
        let mut session = served(true);
        let mut check_at = |seconds| session.check(at(seconds), at(0), 0, true, KEEP_ALIVE);
        assert_eq!(
            [check_at(19), check_at(20), check_at(59)],
            [SessionAction::None, SessionAction::Ping, SessionAction::Ping]
        );
        assert_eq!(check_at(60), SessionAction::CloseSilent(at(60)));
    }

    #[test]
    fn a_client_that_answers_no_pings_may_be_silent() {
        let mut session = served(false);
        assert_eq!(session.check(at(3600), at(0), 0, true, KEEP_ALIVE), SessionAction::None);
    }

    #[test]
    fn a_draining_queue_is_a_sign_of_life() {
        let mut session = served(true);
        assert_eq!(session.check(at(30), at(0), 9000, true, KEEP_ALIVE), SessionAction::Ping);
        assert_eq!(session.check(at(59), at(0), 8000, true, KEEP_ALIVE), SessionAction::None);
        assert_eq!(session.heard(), at(59));
        assert_eq!(session.check(at(90), at(0), 8000, true, KEEP_ALIVE), SessionAction::Ping);
    }

    #[test]
    fn service_and_lease_belong_together() {
        let mut session = served(true);
        // Service for a minute without a lease.
        assert_eq!(session.check(at(59), at(59), 0, false, KEEP_ALIVE), SessionAction::None);
        assert_eq!(session.check(at(60), at(60), 0, false, KEEP_ALIVE), SessionAction::CloseUnused);
        // A lease for a minute without service.
        assert_eq!(session.set_allowed(at(100), false), UsageChange::Ends);
        assert_eq!(session.set_allowed(at(130), false), UsageChange::None);
        assert_eq!(session.check(at(159), at(159), 0, true, KEEP_ALIVE), SessionAction::None);
        assert_eq!(session.check(at(160), at(160), 0, true, KEEP_ALIVE), SessionAction::CloseUnused);
        // Neither service nor a lease: no time limit.
        assert_eq!(session.check(at(9999), at(9999), 0, false, KEEP_ALIVE), SessionAction::None);
    }
}
