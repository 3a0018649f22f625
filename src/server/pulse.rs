//! How fast a session is at the moment, as its worker sees it once a second.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Written by the session's worker, read by any thread.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// When the worker last looked, milliseconds on the server's clock, and the bytes that were carried then.
    at: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    /// Bytes a second between the last two looks.
    rate_up: AtomicU64,
    rate_down: AtomicU64,
    /// The smoothed round trip to the client, microseconds; 0 if nobody has asked for it.
    round_trip: AtomicU32,
}

impl Pulse {
    /// Notes what the session has carried, and its round trip in microseconds, if that is known.
    pub(super) fn look(&self, now: Duration, (up, down): (u64, u64), round_trip: Option<u32>) {
        let now = now.as_millis() as u64;
        let passed = now.saturating_sub(self.at.swap(now, Ordering::Relaxed)).max(1);
        let rate = |before: u64, after: u64| after.saturating_sub(before).saturating_mul(1000) / passed;
        let up_before = self.up.swap(up, Ordering::Relaxed);
        let down_before = self.down.swap(down, Ordering::Relaxed);
        self.rate_up.store(rate(up_before, up), Ordering::Relaxed);
        self.rate_down.store(rate(down_before, down), Ordering::Relaxed);
        self.round_trip.store(round_trip.unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the bytes a second up and down.
    pub(super) fn rates(&self) -> (u64, u64) {
        (self.rate_up.load(Ordering::Relaxed), self.rate_down.load(Ordering::Relaxed))
    }

    /// Returns the round trip between the client and this host.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let microseconds = self.round_trip.load(Ordering::Relaxed);
        (microseconds != 0).then(|| Duration::from_micros(microseconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_between_two_looks() {
        let pulse = Pulse::default();
        let at = Duration::from_millis;
        pulse.look(at(1000), (500, 0), None);
        pulse.look(at(3000), (2500, 100), Some(1500));
        assert_eq!((pulse.rates(), pulse.round_trip()), ((1000, 50), Some(Duration::from_micros(1500))));
        pulse.look(at(3000), (2500, 100), None);
        assert_eq!((pulse.rates(), pulse.round_trip()), ((0, 0), None));
    }
}
