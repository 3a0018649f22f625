//! CoDel (RFC 8289): decides, as a flow's packet leaves, whether the flow's sender must be told to slow down.

use std::time::Duration;

use super::bucket::Rate;
use super::nanoseconds;

/// How long packets may wait: the parameters of CoDel (RFC 8289).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The delay of a standing queue that is accepted.
    pub target: Duration,
    /// The time in which a flow is expected to react to a drop or a mark: about a round trip.
    pub interval: Duration,
}

impl Default for Tuning {
    /// RFC 8289's values, for round trips up to 100 ms.
    fn default() -> Tuning {
        Tuning { target: Duration::from_millis(5), interval: Duration::from_millis(100) }
    }
}

impl Tuning {
    /// Returns the tuning for flows over a path with this round trip, of which the tunnel knows its own part: the flows
    /// may go twice as far. A flow that halves its window at a signal leaves the link idle unless its queue held what the
    /// link carries in a round trip. With half a round trip as the target it uses over 97 % (with 5 ms, at a round trip of
    /// 160 ms, 79 %), and its queue is its own: others take their turns beside it. The interval has room for the stops of the
    /// stream that the path is: where it repairs a loss, or looks for the shortest round trip, it stands still for up to
    /// 200 ms more than a round trip, which is no fault of the flows.
    pub fn for_round_trip(round_trip: Duration) -> Tuning {
        Tuning {
            target: (round_trip / 2).clamp(Duration::from_millis(5), Duration::from_millis(100)),
            interval: (round_trip * 3 + Duration::from_millis(200)).min(Duration::from_secs(1)),
        }
    }

    /// Returns the tuning for a queue with a rate limit: at a low rate two packets alone may take longer than the target,
    /// and a flow would be told to slow down although it cannot send less (RFC 8289, 4.4).
    pub fn at_rate(self, rate: Rate) -> Tuning {
        let target = self.target.max(rate.time_of(2 * u64::from(LARGEST_PACKET)));
        Tuning { target, interval: self.interval.max(target.saturating_mul(2)) }
    }
}

/// A tuning in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    target: u64,
    interval: u64,
}

impl From<Tuning> for Times {
    fn from(tuning: Tuning) -> Times {
        Times { target: nanoseconds(tuning.target), interval: nanoseconds(tuning.interval).max(1) }
    }
}

/// The largest packet of a common path, in bytes: a queue of one is no standing queue.
const LARGEST_PACKET: u32 = 1514;
/// A flow that exceeds the target again within this many intervals gets the rate of signals that it had.
const MEMORY: u64 = 16;

/// CoDel's state of one flow. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Codel {
    /// When the flow will have been above the target for an interval; 0 while it is below.
    above_at: u64,
    /// When the next signal is due, or the last one was.
    next_at: u64,
    /// The signals since the flow began to exceed the target.
    count: u32,
    /// The count when it last began.
    first_count: u32,
    is_signalling: bool,
}

impl Codel {
    /// Whether to tell the sender now: to drop the packet at the head of the flow, or to mark it. To be called until it
    /// returns false or the packet is marked, for each packet that gets to the head. `waited` is that packet's time in
    /// the queue, `behind` the bytes that wait behind it in its flow.
    pub(super) fn signals(&mut self, times: &Times, now: u64, waited: u64, behind: u32) -> bool {
        if !self.is_above(times, now, waited, behind) {
            self.is_signalling = false;
            return false;
        }
        if !self.is_signalling {
            let since = self.count.saturating_sub(self.first_count);
            let is_again = since > 1 && now.saturating_sub(self.next_at) < times.interval.saturating_mul(MEMORY);
            self.count = if is_again { since } else { 1 };
            self.first_count = self.count;
            self.is_signalling = true;
            self.next_at = self.after(now, times);
            return true;
        }
        if now < self.next_at {
            return false;
        }
        self.count = self.count.saturating_add(1);
        // Signals that a stall of the path kept back say nothing about the flow: at most those of one interval count.
        self.next_at = self.after(self.next_at.max(now.saturating_sub(times.interval)), times);
        true
    }

    /// The flow has no packets.
    pub(super) fn rest(&mut self) {
        (self.above_at, self.is_signalling) = (0, false);
    }

    fn is_above(&mut self, times: &Times, now: u64, waited: u64, behind: u32) -> bool {
        if waited < times.target || behind <= LARGEST_PACKET {
            self.above_at = 0;
            return false;
        }
        if self.above_at == 0 {
            self.above_at = now.saturating_add(times.interval);
            return false;
        }
        now >= self.above_at
    }

    /// The time between signals falls with the square root of their number, as a TCP's rate does with its losses.
    fn after(&self, time: u64, times: &Times) -> u64 {
        time.saturating_add((times.interval as f64 / f64::from(self.count).sqrt()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const TIMES: Times = Times { target: 5 * MS, interval: 100 * MS };

    /// Asks once a millisecond about packets that have waited `waited`, and returns when CoDel signals.
    fn signals(codel: &mut Codel, from: u64, to: u64, waited: u64) -> Vec<u64> {
        (from..to).filter(|time| codel.signals(&TIMES, time * MS, waited, 9000)).collect()
    }

    #[test]
    fn signals_come_an_interval_after_the_target_is_exceeded_and_then_faster() {
        let found = signals(&mut Codel::default(), 1, 450, 5 * MS);
        // 101, then 100/sqrt(1), 100/sqrt(2), 100/sqrt(3) ... later.
        assert_eq!(found, [101, 201, 272, 330, 380, 425]);
    }

    #[test]
    fn a_short_queue_or_wait_is_no_reason() {
        let mut codel = Codel::default();
        assert!(signals(&mut codel, 1, 1000, 5 * MS - 1).is_empty());
        assert!((1000..2000).all(|time| !codel.signals(&TIMES, time * MS, 900 * MS, LARGEST_PACKET)));
        // One packet that waited less begins the interval anew.
        assert!(signals(&mut codel, 2000, 2099, 6 * MS).is_empty());
        assert!(signals(&mut codel, 2099, 2100, MS).is_empty());
        assert_eq!(signals(&mut codel, 2100, 2250, 6 * MS), [2200]);
    }

    #[test]
    fn the_rate_is_remembered_for_a_while() {
        let mut codel = Codel::default();
        assert_eq!(signals(&mut codel, 1, 450, 5 * MS).len(), 6);
        signals(&mut codel, 450, 500, 0);
        // 600, then from the fifth on.
        assert_eq!(signals(&mut codel, 500, 700, 5 * MS), [600, 645, 686]);
        let mut forgets = codel;
        signals(&mut forgets, 700, 3000, 0);
        assert_eq!(signals(&mut forgets, 3000, 3250, 5 * MS), [3100, 3200]);
    }

    #[test]
    fn a_stall_makes_no_burst_of_signals() {
        let mut codel = Codel::default();
        signals(&mut codel, 1, 250, 5 * MS);
        let at_once = (0..1000).take_while(|_| codel.signals(&TIMES, 60_000 * MS, 60_000 * MS, 9000)).count();
        assert!((1..=3).contains(&at_once), "{at_once}");
    }

    /// At 1 Mbit/s two packets take 24 ms, which 5 ms would call a standing queue.
    #[test]
    fn a_low_rate_has_a_target_of_two_packets() {
        let tuning = Tuning::default();
        let at = |bytes_per_second| tuning.at_rate(Rate { bytes_per_second });
        assert_eq!(at(125_000), Tuning { target: Duration::from_micros(24_224), ..tuning });
        assert_eq!(at(1_000_000), tuning);
        let slow = at(1000);
        assert_eq!((slow.target, slow.interval), (Duration::from_millis(3028), Duration::from_millis(6056)));
        at(0);
    }

    #[test]
    fn the_extremes_end() {
        for interval in [1, u64::MAX] {
            let times = Times { target: 0, interval };
            let mut codel = Codel { count: u32::MAX, is_signalling: true, above_at: 1, ..Codel::default() };
            for now in [0, 1, u64::MAX / 2, u64::MAX, 3] {
                codel.signals(&times, now, u64::MAX, u32::MAX);
            }
        }
    }
}
