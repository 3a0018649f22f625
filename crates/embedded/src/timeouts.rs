//! How long this crate waits for peers and for callbacks. A program may set other times, as tests do, before it needs
//! them.

use parking_lot::RwLock;
use std::time::Duration;

/// The times that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept, or the connection's establishment, to the end of the hello.
    pub handshake: Duration,
    /// How long a stop and [`quiesce`](crate::lifecycle::quiesce) wait for a callback that does not return, such as one
    /// that waits for the stopping thread.
    pub callback: Duration,
}

impl Timeouts {
    /// What holds until [`set`] is called.
    pub const DEFAULT: Timeouts = Timeouts { handshake: Duration::from_secs(10), callback: Duration::from_secs(10) };
}

static CURRENT: RwLock<Timeouts> = RwLock::new(Timeouts::DEFAULT);

/// The times that hold now.
pub fn current() -> Timeouts {
    *CURRENT.read()
}

/// Sets the times for all waits that begin from now on.
pub fn set(timeouts: Timeouts) {
    *CURRENT.write() = timeouts;
}
