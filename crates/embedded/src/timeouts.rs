//! How long this crate waits for peers and for callbacks. A program, such as a test, may set other times before the
//! waits begin.

use parking_lot::RwLock;
use std::time::Duration;

/// The configurable times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept, or from the connection's establishment, to the end of the hello.
    pub handshake: Duration,
    /// An HTTP request, from its first byte to the peer's close.
    pub request: Duration,
    /// How long a stop and [`quiesce`](crate::lifecycle::quiesce) wait for a callback that does not return, such as one
    /// that waits for the stopping thread.
    pub callback: Duration,
}

impl Timeouts {
    /// The values before the first call of [`set`].
    pub const DEFAULT: Timeouts = Timeouts {
        handshake: Duration::from_secs(10),
        request: Duration::from_secs(5),
        callback: Duration::from_secs(10),
    };
}

static CURRENT: RwLock<Timeouts> = RwLock::new(Timeouts::DEFAULT);

/// The current times.
pub fn current() -> Timeouts {
    *CURRENT.read()
}

/// Sets the times for all waits that begin afterwards.
pub fn set(timeouts: Timeouts) {
    *CURRENT.write() = timeouts;
}
