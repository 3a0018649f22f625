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

/// Returns what `count` counts once five counts in a row, 20 ms apart, are equal: what a thread has for a moment, or a
/// thread that is just ending, does not count. Panics after [`TEST_TIMEOUT`].
pub fn settled<T: PartialEq>(mut count: impl FnMut() -> T) -> T {
    let (mut last, mut same) = (count(), 0);
    eventually("equal counts", || {
        thread::sleep(Duration::from_millis(20));
        let now = count();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == 4
    });
    last
}
