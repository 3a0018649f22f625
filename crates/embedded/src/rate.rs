//! A bound on the number of events per second.

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
}
