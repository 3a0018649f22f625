//! How long something took, counted by classes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the classes, seconds, each inclusive; a last class has all above.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The times of events of one kind, from milliseconds to seconds. Any thread may add, without a lock.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::times::Times;
///
/// static TIMES: Times = Times::new();
/// TIMES.add(Duration::from_millis(7));
/// let (counts, seconds) = TIMES.read();
/// assert_eq!((counts[1], seconds), (1, 0.007));
/// ```
#[derive(Debug, Default)]
pub struct Times {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Times {
    /// Creates it without an event.
    pub const fn new() -> Times {
        Times { counts: [const { AtomicU64::new(0) }; BOUNDS.len() + 1], nanoseconds: AtomicU64::new(0) }
    }

    /// Counts an event that took this long.
    pub fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let class = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Returns the events of each class, and the sum of all times in seconds.
    pub fn read(&self) -> ([u64; BOUNDS.len() + 1], f64) {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        (counts, self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_class() {
        let times = Times::new();
        [5, 6, 60_000].into_iter().for_each(|milliseconds| times.add(Duration::from_millis(milliseconds)));
        let (counts, sum) = times.read();
        assert_eq!((counts[0], counts[1], counts[11], counts.iter().sum::<u64>()), (1, 1, 1, 3));
        assert!((sum - 60.011).abs() < 1e-9, "{sum}");
    }
}
