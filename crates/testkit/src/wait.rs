//! Waiting for a condition that nobody announces.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long anything in a test may take: long enough for a loaded machine, and a test that needs it all has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the condition holds. Panics after [`PATIENCE`], and says then what did not come true: `what` is displayed
/// no earlier, so [`std::fmt::from_fn`] can show the state at the end.
pub fn eventually(what: impl Display, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
