//! One direction of a path: a drop-tail queue before a link of a given rate, then a delay. No IO and no clock.
//!
//! The caller offers packets and takes those that are due; time is a `Duration` since any origin that it keeps.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::noise::Noise;

/// What a packet occupies on the link beside itself: Ethernet's header (14), check sequence (4), preamble (8) and
/// inter-frame gap (12), in bytes.
pub const FRAMING: usize = 38;

/// The properties of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// The rate of the link in bits per second, framing included; `None` is a link without a bottleneck.
    pub rate: Option<u64>,
    /// The buffer before the link in bytes, framing included. A packet that finds more waiting is dropped.
    pub buffer: usize,
    /// The time from the end of a packet's transmission to its arrival.
    pub delay: Duration,
    /// The most by which `delay` grows, evenly spread. Packets keep their order.
    pub jitter: Duration,
    /// The share of packets that are lost, each by itself, before they reach the buffer.
    pub loss: f64,
    /// The share of packets that others overtake: they arrive later by `late_by`.
    pub late: f64,
    /// See `late`.
    pub late_by: Duration,
    /// Of the random numbers: the same seed loses the same packets of a sequence.
    pub seed: u64,
}

impl Conditions {
    /// Returns a link without any of these.
    pub fn perfect() -> Conditions {
        let none = Duration::ZERO;
        Conditions { rate: None, buffer: 0, delay: none, jitter: none, loss: 0.0, late: 0.0, late_by: none, seed: 0 }
    }

    /// Returns how long the link takes for a packet of `length` bytes.
    fn transmission(&self, length: usize) -> Duration {
        let nanos = |rate: u64| (length + FRAMING) as u64 * 8 * 1_000_000_000 / rate;
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_nanos(nanos(rate)))
    }

    /// Returns how long the link takes for a full buffer.
    fn longest_wait(&self) -> Duration {
        let seconds = |rate: u64| self.buffer as f64 * 8.0 / rate as f64;
        self.rate.map_or(Duration::MAX, |rate| Duration::from_secs_f64(seconds(rate)))
    }
}

/// What has become of the packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that came to this direction.
    pub offered: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the buffer was full.
    pub overflowed: u64,
    /// Arrived at the other end.
    pub delivered: u64,
}

/// One direction with the packets in it. `P` is what the caller keeps of a packet.
#[derive(Debug)]
pub struct Link<P> {
    conditions: Conditions,
    longest_wait: Duration,
    /// When the link has sent all that waits before it.
    free_at: Duration,
    /// No packet but a late one arrives before this.
    last_due: Duration,
    /// By arrival; the number keeps the order of packets that arrive together.
    on_the_way: BTreeMap<(Duration, u64), P>,
    noise: Noise,
    counts: Counts,
}

impl<P> Link<P> {
    /// Returns an empty link.
    pub fn new(conditions: &Conditions) -> Link<P> {
        Link {
            longest_wait: conditions.longest_wait(),
            free_at: Duration::ZERO,
            last_due: Duration::ZERO,
            on_the_way: BTreeMap::new(),
            noise: Noise::new(conditions.seed),
            counts: Counts::default(),
            conditions: conditions.clone(),
        }
    }

    /// Sends a packet of `length` bytes, without framing. `now` must not go back.
    ///
    /// # Errors
    /// The packet itself, if it is lost or dropped.
    pub fn offer(&mut self, now: Duration, length: usize, packet: P) -> Result<(), P> {
        self.counts.offered += 1;
        if self.draws(self.conditions.loss) {
            self.counts.lost += 1;
            return Err(packet);
        }
        let begins = self.free_at.max(now);
        if begins - now > self.longest_wait {
            self.counts.overflowed += 1;
            return Err(packet);
        }
        self.free_at = begins + self.conditions.transmission(length);
        let jitter = match self.conditions.jitter {
            Duration::ZERO => Duration::ZERO,
            most => most.mul_f64(self.share()),
        };
        let due = (self.free_at + self.conditions.delay + jitter).max(self.last_due);
        self.last_due = due;
        let late = if self.draws(self.conditions.late) { self.conditions.late_by } else { Duration::ZERO };
        self.on_the_way.insert((due + late, self.counts.offered), packet);
        Ok(())
    }

    /// Returns when the next packet arrives.
    pub fn next_due(&self) -> Option<Duration> {
        self.on_the_way.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes a packet that has arrived, the earliest first.
    pub fn take_due(&mut self, now: Duration) -> Option<P> {
        let first = self.on_the_way.first_entry().filter(|first| first.key().0 <= now)?;
        self.counts.delivered += 1;
        Some(first.remove())
    }

    /// Returns what has become of the packets so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn draws(&mut self, share: f64) -> bool {
        share > 0.0 && self.share() < share
    }

    /// Returns a number from 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.noise.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// A packet that occupies 1000 bytes of the link.
    const KILOBYTE: usize = 1000 - FRAMING;

    /// Offers `count` packets every `interval`, and returns the numbers of those that arrive, with their times.
    fn sent(conditions: &Conditions, count: u32, interval: Duration) -> (Vec<(u32, Duration)>, Counts) {
        let mut link = Link::new(conditions);
        for number in 0..count {
            let _ = link.offer(interval * number, KILOBYTE, number);
        }
        let mut arrived = Vec::new();
        while let Some(due) = link.next_due() {
            assert_eq!(link.take_due(due - Duration::from_nanos(1)), None, "nothing arrives before its time");
            arrived.push((link.take_due(due).unwrap(), due));
        }
        (arrived, link.counts())
    }

    #[test]
    fn a_burst_leaves_at_the_rate_of_the_link() {
        let link = Conditions { rate: Some(8_000_000), buffer: 1 << 20, ..Conditions::perfect() };
        let (arrived, _) = sent(&link, 100, Duration::ZERO);
        let expected: Vec<_> = (0..100).map(|number| (number, MS * (number + 1))).collect();
        assert_eq!(arrived, expected, "a kilobyte takes 1 ms at 8 Mbit/s");
    }

    #[test]
    fn the_delay_comes_after_the_link_and_does_not_limit_the_rate() {
        let link = Conditions { rate: Some(8_000_000), buffer: 1 << 20, delay: 20 * MS, ..Conditions::perfect() };
        let (arrived, _) = sent(&link, 100, MS);
        let expected: Vec<_> = (0..100).map(|number| (number, MS * (number + 21))).collect();
        assert_eq!(arrived, expected);
    }

    #[test]
    fn an_idle_link_sends_at_once_and_saves_nothing_up() {
        let link = Conditions { rate: Some(8_000_000), buffer: 1 << 20, ..Conditions::perfect() };
        let mut link = Link::new(&link);
        link.offer(Duration::from_secs(1), KILOBYTE, ()).unwrap();
        link.offer(Duration::from_secs(1), KILOBYTE, ()).unwrap();
        assert_eq!(link.next_due(), Some(1001 * MS));
        link.take_due(1001 * MS).unwrap();
        assert_eq!(link.next_due(), Some(1002 * MS));
    }

    #[test]
    fn a_full_buffer_drops_the_last_and_keeps_those_that_wait() {
        let link = Conditions { rate: Some(8_000_000), buffer: 10_000, ..Conditions::perfect() };
        let (arrived, counts) = sent(&link, 100, Duration::ZERO);
        // The one that finds exactly the buffer's bytes waiting still enters.
        assert_eq!(arrived.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
        assert_eq!(counts, Counts { offered: 100, lost: 0, overflowed: 89, delivered: 11 });
    }

    #[test]
    fn loss_has_its_share_and_repeats_with_its_seed() {
        let link = |seed| Conditions { delay: MS, loss: 0.01, seed, ..Conditions::perfect() };
        let (first, counts) = sent(&link(7), 100_000, MS);
        assert!((850..1150).contains(&counts.lost), "{counts:?}");
        assert_eq!(counts.lost + counts.delivered, counts.offered);
        assert_eq!(sent(&link(7), 100_000, MS).0, first);
        assert_ne!(sent(&link(8), 100_000, MS).0, first);
    }

    #[test]
    fn a_lost_packet_takes_no_time_of_the_link() {
        let link = Conditions { rate: Some(8_000_000), buffer: 1 << 20, loss: 0.5, ..Conditions::perfect() };
        let (arrived, counts) = sent(&link, 100, Duration::ZERO);
        assert!(counts.lost > 0);
        assert_eq!(arrived.last().map(|(_, due)| *due), Some(MS * counts.delivered as u32));
    }

    #[test]
    fn jitter_spreads_arrivals_and_keeps_the_order() {
        let link = Conditions { delay: 20 * MS, jitter: 10 * MS, ..Conditions::perfect() };
        let (arrived, _) = sent(&link, 1000, MS);
        assert!(arrived.is_sorted_by_key(|(number, _)| *number));
        let delays = arrived.iter().map(|(number, due)| *due - MS * *number);
        let (least, most) =
            delays.fold((Duration::MAX, Duration::ZERO), |(least, most), delay| (least.min(delay), most.max(delay)));
        assert!(least >= 20 * MS && most <= 30 * MS && most - least > 5 * MS, "{least:?} to {most:?}");
    }

    #[test]
    fn late_packets_are_overtaken() {
        let link = Conditions { delay: 20 * MS, late: 0.1, late_by: 5 * MS, ..Conditions::perfect() };
        let (arrived, counts) = sent(&link, 1000, MS);
        assert_eq!(counts.delivered, 1000);
        let late = arrived.iter().filter(|(number, due)| *due - MS * *number == 25 * MS).count();
        let on_time = arrived.iter().filter(|(number, due)| *due - MS * *number == 20 * MS).count();
        assert!((60..140).contains(&late) && late + on_time == 1000, "{late} late, {on_time} on time");
        assert!(!arrived.is_sorted_by_key(|(number, _)| *number));
    }
}
