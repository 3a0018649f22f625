//! The time of day. Durations are measured by `Instant`; this is for what an operator reads and what outlasts a process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a test has set; 0 for nothing.
static SET: AtomicU64 = AtomicU64::new(0);

/// Returns the seconds since 1970.
pub fn wall() -> u64 {
    match SET.load(Ordering::Relaxed) {
        0 => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        set => set,
    }
}

/// Stops the clock at a time, in seconds since 1970, for a test that plays days in minutes; 0 lets it go again.
pub fn set_wall(seconds: u64) {
    SET.store(seconds, Ordering::Relaxed);
}
