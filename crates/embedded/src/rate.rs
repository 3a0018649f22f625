//! Bounds on events per second and on log lines per minute.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Counts events in windows of one second.
#[derive(Default)]
pub(crate) struct Rate {
    window: Option<Instant>,
    seen: u32,
}

impl Rate {
    /// Counts one event; false if it exceeds `per_second`.
    pub(crate) fn allows(&mut self, now: Instant, per_second: u32) -> bool {
        if self.window.is_none_or(|begin| now.saturating_duration_since(begin) >= Duration::from_secs(1)) {
            *self = Rate { window: Some(now), seen: 0 };
        }
        self.seen += 1;
        self.seen <= per_second
    }
}

/// Lets one event a minute be logged, with the number of those since the last line. Any thread.
pub(crate) struct Seldom(Mutex<(u64, Option<Instant>)>);

impl Seldom {
    /// Time between two lines.
    const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) const fn new() -> Seldom {
        Seldom(Mutex::new((0, None)))
    }

    /// Counts one event. Returns the number of events to log, if it is time for a line.
    pub(crate) fn count(&self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.0 += 1;
        if state.1.is_some_and(|last| now.saturating_duration_since(last) < Self::INTERVAL) {
            return None;
        }
        state.1 = Some(now);
        Some(std::mem::take(&mut state.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_allows_its_limit() {
        let mut rate = Rate::default();
        let begin = Instant::now();
        for _ in 0..8 {
            assert!(rate.allows(begin, 8));
        }
        assert!(!rate.allows(begin + Duration::from_millis(999), 8));
        assert!(rate.allows(begin + Duration::from_secs(1), 8));
    }

    #[test]
    fn a_minute_has_one_line_with_the_number() {
        let (seldom, begin) = (Seldom::new(), Instant::now());
        assert_eq!(seldom.count_at(begin), Some(1));
        assert!((0..59).all(|second| seldom.count_at(begin + Duration::from_secs(second)).is_none()));
        assert_eq!(seldom.count_at(begin + Duration::from_secs(60)), Some(60));
    }
}
