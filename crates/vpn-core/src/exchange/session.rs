//! One client as the server sees it, apart from its address: whether it is allowed, alive, and of use.

use std::time::Duration;

/// How long a lease outlives the right to use the service, and this right a client that asks for no address: as long as
/// a payment may reasonably take.
const UNUSED: Duration = Duration::from_secs(60);

/// What the driver does after the periodic look at a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Nothing.
    Nothing,
    /// Sends PING.
    Ping,
    /// Closes the stream: service without a lease, or a lease without service, for a minute.
    DropUnused,
    /// Closes the stream: the client has been silent for so long.
    DropSilent(Duration),
}

/// What has become of the client's right to use the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageChange {
    /// As it was.
    None,
    /// The client may use it from now on.
    Begins,
    /// It may use it no longer.
    Ends,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    /// The billing side lets this client use the service.
    is_allowed: bool,
    /// Since when it does, or does not.
    since: Duration,
    /// The client said that it answers pings.
    answers_pings: bool,
    /// Bytes that waited for the client at the last look.
    pending: usize,
    /// When the client was last heard, as of the last look.
    heard: Duration,
}

impl Session {
    /// Of a channel that is opened now.
    pub fn new(now: Duration) -> Session {
        Session { is_allowed: false, since: now, answers_pings: false, pending: 0, heard: now }
    }

    /// Whether the client may use the service.
    pub fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// Takes the billing side's word anew.
    pub fn set_allowed(&mut self, now: Duration, is_allowed: bool) -> UsageChange {
        if std::mem::replace(&mut self.is_allowed, is_allowed) == is_allowed {
            return UsageChange::None;
        }
        self.since = now;
        if is_allowed { UsageChange::Begins } else { UsageChange::Ends }
    }

    /// The client has a lease, and with it said whether it answers pings.
    pub(super) fn leased(&mut self, answers_pings: bool) {
        self.answers_pings = answers_pings;
    }

    /// When the client was last heard: what the driver told at the last look, or a sign of life that was seen then.
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// The periodic look. `heard` is when the last packet came, `pending` how many bytes wait for the client. A client
    /// that answers pings gets one after a silence of `keep_alive`, and is dropped after three times as long.
    pub fn look_after(
        &mut self,
        now: Duration,
        heard: Duration,
        pending: usize,
        is_leased: bool,
        keep_alive: Duration,
    ) -> Care {
        self.heard = self.heard.max(heard);
        if is_leased != self.is_allowed && now.saturating_sub(self.since) >= UNUSED {
            return Care::DropUnused;
        }
        // Liveness: a client that drains its send queue lives, also while its answer to a ping waits behind data.
        if pending < std::mem::replace(&mut self.pending, pending) {
            self.heard = self.heard.max(now);
        }
        let silent = now.saturating_sub(self.heard);
        match self.answers_pings {
            true if silent >= keep_alive * 3 => Care::DropSilent(silent),
            true if silent >= keep_alive => Care::Ping,
            _ => Care::Nothing,
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

    /// A session that is allowed from the beginning, with a lease.
    fn served(answers_pings: bool) -> Session {
        let mut session = Session::new(at(0));
        assert_eq!(session.set_allowed(at(0), true), UsageChange::Begins);
        session.leased(answers_pings);
        session
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_dropped() {
        let mut session = served(true);
        let mut look = |seconds| session.look_after(at(seconds), at(0), 0, true, KEEP_ALIVE);
        assert_eq!([look(19), look(20), look(59)], [Care::Nothing, Care::Ping, Care::Ping]);
        assert_eq!(look(60), Care::DropSilent(at(60)));
    }

    #[test]
    fn one_that_answers_no_pings_may_be_silent() {
        let mut session = served(false);
        assert_eq!(session.look_after(at(3600), at(0), 0, true, KEEP_ALIVE), Care::Nothing);
    }

    #[test]
    fn a_draining_queue_is_a_sign_of_life() {
        let mut session = served(true);
        assert_eq!(session.look_after(at(30), at(0), 9000, true, KEEP_ALIVE), Care::Ping);
        assert_eq!(session.look_after(at(59), at(0), 8000, true, KEEP_ALIVE), Care::Nothing);
        assert_eq!(session.heard(), at(59));
        assert_eq!(session.look_after(at(90), at(0), 8000, true, KEEP_ALIVE), Care::Ping);
    }

    #[test]
    fn service_and_lease_belong_together() {
        let mut session = served(true);
        // Allowed for a minute without asking for an address.
        assert_eq!(session.look_after(at(59), at(59), 0, false, KEEP_ALIVE), Care::Nothing);
        assert_eq!(session.look_after(at(60), at(60), 0, false, KEEP_ALIVE), Care::DropUnused);
        // A lease for a minute without service.
        assert_eq!(session.set_allowed(at(100), false), UsageChange::Ends);
        assert_eq!(session.set_allowed(at(130), false), UsageChange::None);
        assert_eq!(session.look_after(at(159), at(159), 0, true, KEEP_ALIVE), Care::Nothing);
        assert_eq!(session.look_after(at(160), at(160), 0, true, KEEP_ALIVE), Care::DropUnused);
        // Neither of both, for ever.
        assert_eq!(session.look_after(at(9999), at(9999), 0, false, KEEP_ALIVE), Care::Nothing);
    }
}
