//! When bbr's memory of the shortest round trip is renewed, so that bbr does not stop the stream to measure it.
//!
//! Bbr (version 1, as kernels have it) remembers the shortest round trip for ten seconds. Unless a shorter one comes, it
//! then lets four packets travel at a time, for 200 ms and a round trip: a person in a call hears that. The kernel itself
//! remembers the shortest round trip for minutes, and bbr takes that memory over when it begins. So it is begun anew in
//! time, while the path still has that round trip. It then looks for the path's rate once more, at several times the rate,
//! and for as long as there is less to send than that; the rate that it knew before is therefore its bound until it has
//! found it again.
//!
//! If the round trips have become longer, bbr is left alone, and measures as ever.

use super::pace::Path;
use std::time::Duration;

/// After this time the memory is renewed, at the next look at which no packet is being repaired.
const EARLY: Duration = Duration::from_millis(8_500);
/// After this time it is renewed in any case: bbr stops at 10 s.
const LATE: Duration = Duration::from_millis(9_500);
/// The shortest round trip of the last time may exceed the remembered one by half, as bbr lets twice the packets travel
/// that fill the path, and by this, the jitter of a short path.
const JITTER: Duration = Duration::from_millis(4);
/// How long packets must have been on the path all the time: bbr measures in each pause, without a stop.
const WITHOUT_PAUSE: Duration = Duration::from_secs(1);
/// A shorter round trip is that of a cable, which four packets nearly fill.
const CABLE: Duration = Duration::from_millis(1);
/// The share of the rate that bbr sends at, in percent.
const SHARE: u64 = 99;

/// What bbr is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It looks for the path's rate.
    Searching,
    /// It sends at the rate that it has found.
    Steady,
    /// It measures the round trip: the stream nearly stands still.
    Measuring,
}

impl Phase {
    /// Tells the phase by the gain of bbr's window, of which 256 is one.
    pub fn of(window_gain: u32) -> Phase {
        match window_gain {
            256 => Phase::Measuring,
            512 => Phase::Steady,
            _ => Phase::Searching,
        }
    }
}

/// Remembers one stream's bbr.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// When bbr's memory was last known to be new.
    renewed: Option<Duration>,
    /// Since when packets have been on the path all the time.
    busy_since: Option<Duration>,
    /// The shortest round trip since then.
    shortest: Duration,
    /// The bound while bbr looks for the rate anew.
    bound: Option<u64>,
    /// The memory will soon be too old.
    is_due: bool,
}

impl Default for Renewal {
    fn default() -> Renewal {
        Renewal { renewed: None, busy_since: None, shortest: Duration::MAX, bound: None, is_due: false }
    }
}

impl Renewal {
    /// Returns whether bbr's phase has to be known now, for [`Renewal::decide`]. `is_busy`: packets are on the path.
    /// `repairs`: some are sent again.
    pub fn asks(&mut self, now: Duration, path: &Path, is_busy: bool, repairs: bool) -> bool {
        if !path.round_trip.is_zero() {
            self.shortest = self.shortest.min(path.round_trip);
        }
        let age = self.renewed.map_or(Duration::MAX, |renewed| now.saturating_sub(renewed));
        self.busy_since = if is_busy { self.busy_since.or(Some(now)) } else { None };
        let has_no_pause = self.busy_since.is_some_and(|since| now.saturating_sub(since) >= WITHOUT_PAUSE);
        let is_true = path.shortest >= CABLE && self.shortest <= path.shortest * 3 / 2 + JITTER;
        self.is_due = has_no_pause && is_true && age >= if repairs { LATE } else { EARLY };
        self.is_due || self.bound.is_some()
    }

    /// Returns whether bbr is to begin anew, under [`Renewal::bound`]. `rate` is the path's as bbr knows it, in bytes per
    /// second.
    pub fn decide(&mut self, now: Duration, phase: Phase, rate: u64) -> bool {
        let is_due = std::mem::take(&mut self.is_due);
        if is_due {
            (self.renewed, self.shortest) = (Some(now), Duration::MAX);
        }
        self.bound = match phase {
            // What it has found so far is less than what it knew.
            Phase::Searching => self.bound,
            Phase::Steady => is_due.then_some(rate / 100 * SHARE),
            Phase::Measuring => None,
        };
        is_due && phase != Phase::Measuring
    }

    /// The bound of the rate, bytes per second; `u64::MAX` for none.
    pub fn bound(&self) -> u64 {
        self.bound.unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000_000;

    fn path(round_trip: u64) -> Path {
        let (round_trip, shortest) = (at(round_trip), at(40));
        Path { pacing_rate: RATE, delivery_rate: RATE, window: u64::MAX, round_trip, shortest }
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A stream that has been busy since this time, and whose bbr has begun anew a second later.
    fn renewed(milliseconds: u64) -> Renewal {
        let mut renewal = Renewal::default();
        assert!(!renewal.asks(at(milliseconds), &path(50), true, false), "it may pause");
        assert!(renewal.asks(at(milliseconds + 1_000), &path(50), true, false));
        assert!(renewal.decide(at(milliseconds + 1_000), Phase::Steady, RATE));
        assert!(!renewal.decide(at(milliseconds + 1_500), Phase::Steady, RATE));
        renewal
    }

    #[test]
    fn a_busy_stream_is_renewed_before_ten_seconds_have_passed() {
        let mut renewal = renewed(0);
        assert!(!renewal.asks(at(9_490), &path(50), true, false));
        let mut sound = renewal;
        assert!(sound.asks(at(9_500), &path(50), true, false));
        assert!(!renewal.asks(at(10_490), &path(50), true, true), "it repairs");
        assert!(renewal.asks(at(10_500), &path(50), true, true));
        assert!(renewal.decide(at(10_500), Phase::Steady, RATE) && !renewal.decide(at(10_510), Phase::Steady, RATE));
        assert!(!renewal.asks(at(18_990), &path(50), true, false));
    }

    #[test]
    fn a_stream_with_pauses_is_left_alone() {
        let mut renewal = renewed(0);
        for second in 2..60 {
            assert!(!renewal.asks(at(second * 1_000), &path(50), true, false));
            assert!(!renewal.asks(at(second * 1_000 + 500), &path(50), false, false));
        }
    }

    #[test]
    fn the_known_rate_is_the_bound_until_bbr_has_found_it() {
        let mut renewal = Renewal::default();
        assert_eq!(renewal.bound(), u64::MAX);
        renewal.asks(at(0), &path(50), true, false);
        renewal.asks(at(1_000), &path(50), true, false);
        assert!(renewal.decide(at(1_000), Phase::Steady, RATE));
        for now in [1_010, 9_000] {
            assert!(renewal.asks(at(now), &path(50), false, true) && renewal.bound() == 990_000);
            assert!(!renewal.decide(at(now), Phase::Searching, RATE / 2));
        }
        let mut late = renewal;
        late.asks(at(9_000), &path(50), true, false);
        assert!(late.asks(at(10_000), &path(50), true, false) && late.decide(at(10_000), Phase::Searching, RATE / 2));
        assert_eq!(late.bound(), 990_000, "it has not been found meanwhile");
        assert!(!renewal.decide(at(9_000), Phase::Steady, RATE) && renewal.bound() == u64::MAX);
        assert!(!renewal.asks(at(9_010), &path(50), true, false));
    }

    /// A new stream knows no rate that could bound it.
    #[test]
    fn a_first_search_has_no_bound() {
        let mut renewal = Renewal::default();
        renewal.asks(at(0), &path(40), true, false);
        assert!(renewal.asks(at(1_000), &path(40), true, false));
        assert!(renewal.decide(at(1_000), Phase::Searching, RATE));
        assert_eq!(renewal.bound(), u64::MAX);
    }

    #[test]
    fn bbr_that_measures_is_left_alone() {
        let mut renewal = renewed(0);
        assert!(renewal.asks(at(10_000), &path(50), true, false));
        assert!(!renewal.decide(at(10_000), Phase::Measuring, RATE) && renewal.bound() == u64::MAX);
        assert!(!renewal.asks(at(18_490), &path(50), true, false));
        assert!(renewal.asks(at(18_500), &path(50), true, false));
    }

    #[test]
    fn a_longer_round_trip_is_measured() {
        let mut renewal = renewed(0);
        assert!(!renewal.asks(at(10_000), &path(65), true, false));
        assert!(renewal.asks(at(10_100), &path(64), true, false));
        let mut renewal = renewed(0);
        assert!(!renewal.asks(at(5_000), &path(45), true, false));
        assert!(renewal.asks(at(10_000), &path(200), true, false), "a queue, but not all the time");
        for shortest in [Duration::from_micros(900), Duration::ZERO] {
            let short = Path { shortest, ..path(0) };
            assert!(!renewal.asks(at(10_000), &short, true, false), "{shortest:?}");
        }
    }

    #[test]
    fn a_clock_may_jump() {
        let mut renewal = renewed(10_000);
        assert!(!renewal.asks(at(0), &path(50), true, false), "back");
        assert!(renewal.asks(Duration::MAX, &path(50), true, true), "ahead");
    }
}
