//! One client as the server sees it, without its address: whether it is allowed, alive, and using the service.

use std::time::Duration;

use super::liveness::{Liveness, Verdict};

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
    /// Closes the stream: the client has left the server's pings unanswered, and has been silent for this long.
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
    liveness: Liveness,
}

impl Session {
    /// Creates the session of a channel that has just opened.
    pub fn new(now: Duration) -> Session {
        Session { is_allowed: false, since: now, answers_pings: false, liveness: Liveness::new(now) }
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
        self.liveness.heard()
    }

    /// Checks the session periodically. `heard` is when the last packet arrived, `pending` the number of bytes that
    /// wait for the client. After a silence of `keep_alive` a client that answers pings is pinged. When it has left the
    /// pings of twice this time unanswered, its stream is closed. A pause of this process counts for nothing.
    pub fn check(
        &mut self,
        now: Duration,
        heard: Duration,
        pending: usize,
        is_leased: bool,
        keep_alive: Duration,
    ) -> SessionAction {
        self.liveness.hear(heard);
        // What the client has sent in a pause may still have to be read.
        self.since += self.liveness.look(now, pending);
        if is_leased != self.is_allowed && now.saturating_sub(self.since) >= UNUSED_TIMEOUT {
            return SessionAction::CloseUnused;
        }
        if !self.answers_pings {
            return SessionAction::None;
        }
        match self.liveness.judge(now, keep_alive, keep_alive * 3) {
            Verdict::Wait => SessionAction::None,
            Verdict::Ask => SessionAction::Ping,
            Verdict::Gone(silent) => SessionAction::CloseSilent(silent),
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

    /// Checks a session each second, as the driver does, and returns the times of the pings and of the end.
    fn checks(session: &mut Session, from: u64, to: u64, pending: impl Fn(u64) -> usize) -> (Vec<u64>, Option<u64>) {
        let mut pings = Vec::new();
        for second in from..=to {
            match session.check(at(second), at(0), pending(second), true, KEEP_ALIVE) {
                SessionAction::None => {}
                SessionAction::Ping => pings.push(second),
                SessionAction::CloseUnused | SessionAction::CloseSilent(_) => return (pings, Some(second)),
            }
        }
        (pings, None)
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_disconnected() {
        assert_eq!(checks(&mut served(true), 1, 90, |_| 0), (vec![20, 40], Some(60)));
    }

    #[test]
    fn a_pause_of_the_server_ends_no_session_without_a_question() {
        let mut session = served(true);
        assert_eq!(checks(&mut session, 1, 45, |_| 0), (vec![20, 40], None));
        assert_eq!(checks(&mut session, 345, 600, |_| 0), (vec![345, 365], Some(385)));
    }

    #[test]
    fn a_client_that_answers_no_pings_may_be_silent() {
        let mut session = served(false);
        assert_eq!(session.check(at(3600), at(0), 0, true, KEEP_ALIVE), SessionAction::None);
    }

    #[test]
    fn a_draining_queue_is_a_sign_of_life() {
        let mut session = served(true);
        let pending = |second| if second < 59 { 9000 } else { 8000 };
        assert_eq!(checks(&mut session, 1, 79, pending), (vec![20, 40, 79], None));
        assert_eq!(session.heard(), at(59));
    }

    #[test]
    fn a_pause_of_the_server_is_no_time_without_use() {
        let mut session = served(true);
        assert_eq!(session.check(at(1), at(1), 0, false, KEEP_ALIVE), SessionAction::None);
        // The request for an address waits to be read.
        assert_eq!(session.check(at(301), at(1), 0, false, KEEP_ALIVE), SessionAction::Ping);
        assert_eq!(session.check(at(302), at(302), 0, true, KEEP_ALIVE), SessionAction::None);
    }

    #[test]
    fn service_and_lease_belong_together() {
        let mut session = served(true);
        let check = |session: &mut Session, from: u64, to: u64, is_leased| {
            (from..=to).find(|second| {
                let action = session.check(at(*second), at(*second), 0, is_leased, KEEP_ALIVE);
                action == SessionAction::CloseUnused
            })
        };
        // Service for a minute without a lease.
        assert_eq!(check(&mut session, 1, 90, false), Some(60));
        // A lease for a minute without service.
        assert_eq!(check(&mut session, 61, 99, true), None);
        assert_eq!(session.set_allowed(at(100), false), UsageChange::Ends);
        assert_eq!(session.set_allowed(at(100), false), UsageChange::None);
        assert_eq!(check(&mut session, 100, 190, true), Some(160));
        // Neither service nor a lease: no time limit.
        assert_eq!(check(&mut session, 161, 999, false), None);
    }
}
