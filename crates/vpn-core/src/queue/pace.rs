//! How much is handed to a path at once, so that what is handed down waits there for a few milliseconds at most.

use std::time::Duration;

/// What is below the queue, at most: the time in which the path sends it. The sender wakes up when half of it has left,
/// and must not be late; and all of it is before a packet that is in a hurry.
const BELOW: Duration = Duration::from_millis(4);
/// The time in which the path sends one unit.
const UNIT: Duration = Duration::from_micros(1500);
/// The least that is handed down, in bytes: five packets, of which two are left when the sender wakes up.
const LEAST: usize = 8 * 1024;
/// The largest unit, in bytes: a whole super-packet.
const WHOLE: usize = 65_535;

/// What the sender's TCP knows of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The rate at which it sends, bytes per second; `u64::MAX` if it does not say.
    pub pacing_rate: u64,
    /// The rate at which the peer has received lately, bytes per second; 0 if it does not say.
    pub delivery_rate: u64,
    /// The congestion window, in bytes.
    pub window: u64,
    /// The round trip as it is; zero before the first sample.
    pub round_trip: Duration,
    /// The shortest round trip of the last time, which has no queue in it; zero before the first sample.
    pub shortest: Duration,
}

impl Path {
    /// The bytes on the path that fill it.
    pub fn capacity(&self) -> usize {
        let bytes = u128::from(self.rate()) * self.shortest.as_nanos() / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The rate that the path is given now, bytes per second. With bbr the congestion window is no bound but while it looks
    /// for the shortest round trip: then the stream nearly stands still at an unchanged pacing rate.
    fn rate(&self) -> u64 {
        let by_window = match self.round_trip.as_micros() {
            0 => u128::from(u64::MAX),
            micros => u128::from(self.window) * 1_000_000 / micros,
        };
        u128::from(self.pacing_rate).min(by_window) as u64
    }
}

/// How much may be below the queue, and in which pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    window: usize,
    unit: usize,
}

impl Pace {
    /// The pace of a path that is faster than anything that waits for it: `window` bytes, and whole super-packets.
    pub fn open(window: usize) -> Pace {
        Pace { window, unit: WHOLE }
    }

    /// Returns the pace of a path, to which at most `most` bytes are handed down.
    pub fn of(path: &Path, most: usize) -> Pace {
        let rate = u128::from(path.rate());
        let in_time = |time: Duration| usize::try_from(rate * time.as_nanos() / 1_000_000_000).unwrap_or(usize::MAX);
        match in_time(BELOW) {
            window if window >= most => Pace::open(most),
            window => Pace { window: window.max(LEAST).min(most), unit: in_time(UNIT).min(WHOLE) },
        }
    }

    /// The bytes that may be below the queue.
    pub fn window(&self) -> usize {
        self.window
    }

    /// The largest unit, in bytes. A packet may be larger, a super-packet is cut.
    pub fn unit(&self) -> usize {
        self.unit
    }

    /// Whether the pace differs by so much that the kernel is told.
    pub fn differs(&self, other: &Pace) -> bool {
        self.window.abs_diff(other.window) > other.window / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(rate: u64) -> Path {
        let round_trip = Duration::from_millis(40);
        Path { pacing_rate: rate, delivery_rate: rate, window: u64::MAX, round_trip, shortest: round_trip }
    }

    #[test]
    fn a_slow_path_gets_little_at_once_and_a_fast_one_all() {
        let of_megabits = |megabits: u64| Pace::of(&path(megabits * 125_000), 1024 * 1024);
        let (slow, middle, fast) = (of_megabits(5), of_megabits(100), of_megabits(5000));
        assert_eq!((slow.window(), slow.unit()), (LEAST, 937));
        assert_eq!((middle.window(), middle.unit()), (50_000, 18_750));
        assert_eq!(fast, Pace::open(1024 * 1024));
        assert_eq!(Pace::of(&path(u64::MAX), 4096), Pace::open(4096));
        assert_eq!(Pace::of(&path(0), 4096).window(), 4096);
    }

    #[test]
    fn a_small_congestion_window_bounds_the_rate() {
        let narrow = Path { window: 4 * 1448, ..path(12_500_000) };
        assert_eq!(Pace::of(&narrow, 1024 * 1024).window(), LEAST);
        let unknown = Path { round_trip: Duration::ZERO, ..narrow };
        assert_eq!(Pace::of(&unknown, 1024 * 1024).window(), 50_000);
    }

    #[test]
    fn small_changes_are_not_told() {
        let of = |rate| Pace::of(&path(rate), 1 << 20);
        assert!(!of(10_000_000).differs(&of(11_000_000)) && of(10_000_000).differs(&of(20_000_000)));
    }
}
