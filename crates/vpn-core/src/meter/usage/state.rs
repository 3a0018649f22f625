//! The parts of a meter's state.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was granted yet.
    Idle,
    /// Served before the first payment.
    Grace {
        until: Duration,
        bytes_limit: u64,
    },
    /// Served.
    Served,
    /// Not served any more, until a payment comes.
    Stopped,
    Ended,
}

/// The state of the next receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Not asked for.
    No,
    /// The driver or the client is to answer.
    Open,
    /// Refused; asked for again at this time.
    Again(Duration),
    /// Not asked for again.
    Never,
}

/// Units that were taken back, and could be granted again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned {
    pub(super) steps: u128,
    pub(super) switch_at: Option<u128>,
}

/// The service since the client's last sign of life, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence {
    /// The start of the service that goes on, or that stopped last, and its stop.
    pub(super) run: (Duration, Duration),
    pub(super) served: u128,
    /// The part of `served` that is written off.
    pub(super) written_off: u128,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GraceUse {
    pub(super) time: Duration,
    pub(super) bytes: u64,
}

impl Silence {
    /// The client shows that it was there at `alive`.
    pub(super) fn end(&mut self, alive: Duration) {
        let (start, stop) = self.run;
        if alive >= start {
            self.served = self.served.min(stop.saturating_sub(alive).as_nanos());
            self.written_off = self.written_off.min(self.served);
        }
    }
}
