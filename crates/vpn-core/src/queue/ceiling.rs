//! A ceiling for the rate of a sender that looks for the rate of its path: bbr, as kernels have it.
//!
//! Bbr overestimates a slow path, where a packet more or less in a round trip is a difference of several per cent, and
//! then fills the queue before the path's link; and a new connection triples its rate until the path shows no more. A
//! queue that overflows is worse for a stream than for packets: it delivers in order, and stands still until all is
//! repaired. The ceiling lets a new connection grow as bbr does, and once the round trip shows a queue, brings the rate
//! below what the path delivers, in proportion to the queue. From then on the rate grows slowly: bbr does not know yet
//! that it has found the path's rate, and would fill the queue a second time. A queue that stays is another sender's:
//! then, for some time, there is no ceiling but that of growth, because a sender that yields to others for ever gets
//! nothing.

use super::pace::Path;
use std::time::Duration;

/// What a new TCP connection sends in its first round trip, in bytes (RFC 6928): a rate below it says nothing about the
/// path.
const INITIAL_WINDOW: u64 = 14_600;
/// The time in which the memory of the best rate fades.
const FADES_IN: Duration = Duration::from_secs(10);
/// The growth in a round trip while the path's rate is unknown, in percent: bbr's own is 289.
const SEARCH: u64 = 290;
/// The growth in a round trip for [`FADES_IN`] after a queue has shown the path's rate, in percent: that of bbr's
/// probes.
const PROBE: u64 = 125;
/// The queue that counts as one, as a delay, is a quarter of a round trip: bbr's own waves. Less than four milliseconds
/// are jitter, and more than eighteen are heard. It is at least three packets of this many bytes.
const LEAST_QUEUE: Duration = Duration::from_millis(4);
const MOST_QUEUE: Duration = Duration::from_millis(18);
const PACKET: u64 = 1500;
/// A shorter round trip is that of a cable, whose queue is short, and where the bound costs 7 % of the throughput.
const CABLE: Duration = Duration::from_millis(1);
/// How long the best rate of the last round trips is remembered, at least.
const REMEMBERED: Duration = Duration::from_millis(100);
/// How long a queue of our own may last under the ceiling, in round trips and at least.
const ROUND_TRIPS: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long the sender then does without.
const RELEASE: Duration = Duration::from_secs(5);

/// Remembers a path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ceiling {
    best: u64,
    recent: Recent,
    looked: Duration,
    /// Since when there is a queue.
    queue_since: Option<Duration>,
    /// When a queue of this sender last showed the path's rate.
    shown: Option<Duration>,
    released_until: Duration,
}

impl Ceiling {
    /// Returns the ceiling, bytes per second, as the path is now. `is_full`: the sender has more to send than the path
    /// takes. Otherwise a longer round trip is due to others, among them the other direction of the same stream, whose
    /// queue the acknowledgements wait in.
    pub fn of(&mut self, now: Duration, path: &Path, is_full: bool) -> u64 {
        let passed = now.saturating_sub(self.looked).min(FADES_IN);
        let faded = u128::from(self.best) * passed.as_nanos() / FADES_IN.as_nanos();
        self.best = (self.best - faded as u64).max(path.delivery_rate);
        self.looked = now;
        let recent = self.recent.of(now, path);
        if path.shortest < CABLE {
            return u64::MAX;
        }
        let micros = path.shortest.as_micros() as u64;
        let first = INITIAL_WINDOW * 1_000_000 / micros;
        let queue = path.round_trip.saturating_sub(path.shortest);
        let packets = Duration::from_micros(3 * PACKET * 1_000_000 / path.delivery_rate.max(first));
        let accepted = (path.shortest / 4).clamp(LEAST_QUEUE, MOST_QUEUE).max(packets.min(path.shortest));
        if queue <= accepted || now < self.released_until {
            self.queue_since = None;
            let is_known =
                now >= self.released_until && self.shown.is_some_and(|shown| now.saturating_sub(shown) < FADES_IN);
            return self.best.max(first).saturating_mul(if is_known { PROBE } else { SEARCH }) / 100;
        }
        if is_full {
            self.shown = Some(now);
        }
        let since = *self.queue_since.get_or_insert(now);
        if now.saturating_sub(since) > PATIENCE.max(path.shortest * ROUND_TRIPS) {
            self.released_until = now + RELEASE;
        }
        // A fiftieth, because bbr's best rate is a little too high, and a third of what is too much in a round trip: what is
        // seen is as old as that, and the link must not run dry.
        let excess = (queue - accepted).as_micros() as u64;
        let share = 980_u64.saturating_sub(excess.saturating_mul(300) / micros).max(850);
        recent.max(first).saturating_mul(share) / 1000
    }
}

/// The best rate of the last round trips. The rate of the last one alone is low after the ceiling has been: a ceiling
/// below that would leave the link idle.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// The best since `since`, and of as long a time before.
    best: [u64; 2],
    since: Duration,
}

impl Recent {
    fn of(&mut self, now: Duration, path: &Path) -> u64 {
        let passed = now.saturating_sub(self.since);
        let time = REMEMBERED.max(path.shortest * 4);
        if passed >= time {
            self.best = [0, if passed < time * 2 { self.best[0] } else { 0 }];
            self.since = now;
        }
        self.best[0] = self.best[0].max(path.delivery_rate);
        self.best[0].max(self.best[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(delivery_rate: u64, round_trip: u64) -> Path {
        let (round_trip, shortest) = (Duration::from_millis(round_trip), Duration::from_millis(40));
        Path { pacing_rate: u64::MAX, delivery_rate, window: u64::MAX, round_trip, shortest }
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_rate_grows_as_bbr_does_until_a_queue_shows_and_slowly_from_then_on() {
        let mut ceiling = Ceiling::default();
        assert_eq!(ceiling.of(at(0), &path(1_000_000, 40), true), 2_900_000);
        assert_eq!(ceiling.of(at(40), &path(1_500_000, 41), true), 4_350_000);
        assert_eq!(ceiling.of(at(80), &path(2_000_000, 60), true), 2_000_000 * 905 / 1000);
        assert_eq!(ceiling.of(at(120), &path(2_000_000, 120), true), 1_700_000);
        assert_eq!(ceiling.of(at(160), &path(2_000_000, 49), true), 2_500_000);
        assert_eq!(ceiling.of(at(10_200), &path(2_000_000, 49), true), 5_800_000, "after ten seconds without a queue");
    }

    /// Acknowledgements wait in the queue of the other direction.
    #[test]
    fn the_queue_of_another_does_not_show_the_rate_of_the_path() {
        let mut ceiling = Ceiling::default();
        assert_eq!(ceiling.of(at(0), &path(2_000_000, 60), false), 2_000_000 * 905 / 1000);
        assert_eq!(ceiling.of(at(40), &path(2_000_000, 40), true), 5_800_000);
    }

    #[test]
    fn a_queue_that_stays_is_anothers() {
        let mut ceiling = Ceiling::default();
        let rates: Vec<u64> = (0..800).map(|look| ceiling.of(at(10 * look), &path(1_000_000, 80), true)).collect();
        let held = rates.iter().filter(|rate| **rate < 1_000_000).count();
        assert!((190..=320).contains(&held), "{held} looks of 800: a second of each six");
    }

    /// The rate that follows from the ceiling itself is no news of the path.
    #[test]
    fn a_lower_ceiling_does_not_lower_the_next_one() {
        let mut ceiling = Ceiling::default();
        ceiling.of(at(0), &path(1_000_000, 40), true);
        assert_eq!(ceiling.of(at(60), &path(900_000, 52), true), 1_000_000 * 965 / 1000);
        assert_eq!(ceiling.of(at(120), &path(850_000, 51), true), 1_000_000 * 973 / 1000);
        // A path that has become slower is believed after some round trips.
        let rates = (16..100).map(|look| ceiling.of(at(10 * look), &path(500_000, 52), true));
        assert_eq!(rates.last(), Some(500_000 * 965 / 1000));
    }

    /// A path over which a flow of a few packets goes is not known to be slow.
    #[test]
    fn a_new_connection_may_send_its_initial_window() {
        let first = INITIAL_WINDOW * 25;
        assert_eq!(Ceiling::default().of(at(0), &path(500, 40), true), first * 29 / 10);
        assert_eq!(Ceiling::default().of(at(0), &path(500, 400), true), first * 17 / 20);
        let unknown = Path { shortest: Duration::ZERO, ..path(500, 40) };
        assert_eq!(Ceiling::default().of(at(0), &unknown, true), u64::MAX);
        let cable = Path { shortest: Duration::from_micros(900), ..path(500, 40) };
        assert_eq!(Ceiling::default().of(at(0), &cable, true), u64::MAX);
    }

    #[test]
    fn the_best_rate_fades() {
        let mut ceiling = Ceiling::default();
        ceiling.of(at(0), &path(10_000_000, 40), true);
        for tenth in 1..=50 {
            ceiling.of(at(100 * tenth), &path(0, 40), true);
        }
        let faded = ceiling.of(at(5_000), &path(0, 40), true) * 10 / 29;
        assert!((5_500_000..6_500_000).contains(&faded), "{faded}: e to the power of -1/2");
        assert_eq!(ceiling.of(at(60_000), &path(400_000, 40), true), 1_160_000, "after a long silence");
    }
}
