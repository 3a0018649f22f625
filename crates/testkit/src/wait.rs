//! Waits for conditions by polling.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// The time limit of every wait in a test: long enough for a loaded machine. A test that reaches it fails.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until the condition holds. Panics after [`TEST_TIMEOUT`] with `what`, which is formatted only then, so that
/// [`std::fmt::from_fn`] can show the final state.
pub fn eventually(what: impl Display, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {TEST_TIMEOUT:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
