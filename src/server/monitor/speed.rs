//! The rates of the last seconds: what one reading of counters cannot show.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;
use vpn_core::forward::{DropCause, Totals};

/// The seconds that a rate is the mean of.
const SPAN: usize = 5;
/// The seconds over which drops are judged.
const LONG: usize = 60;

/// The totals of the last minute, one reading a second.
#[derive(Debug, Default)]
pub(super) struct Speed {
    /// The newest last. Only the monitor's thread takes the lock.
    readings: Mutex<VecDeque<(Instant, Totals)>>,
}

/// Numbers a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) up_packets: f64,
    pub(super) up_bytes: f64,
    pub(super) down_packets: f64,
    pub(super) down_bytes: f64,
}

impl Speed {
    /// Adds a reading.
    pub(super) fn read(&self, now: Instant, totals: Totals) {
        let mut readings = self.readings.lock();
        readings.push_back((now, totals));
        while readings.len() > LONG + 1 {
            readings.pop_front();
        }
    }

    /// Returns the traffic of the last seconds.
    pub(super) fn rates(&self) -> Rates {
        let readings = self.readings.lock();
        let (Some((end, last)), Some((begin, first))) = (readings.back(), nth_last(&readings, SPAN)) else {
            return Rates::default();
        };
        let seconds = end.saturating_duration_since(*begin).as_secs_f64().max(0.001);
        let rate = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
        Rates {
            up_packets: rate(last.up_packets, first.up_packets),
            up_bytes: rate(last.up_bytes, first.up_bytes),
            down_packets: rate(last.down_packets, first.down_packets),
            down_bytes: rate(last.down_bytes, first.down_bytes),
        }
    }

    /// Returns the packets of the last minute: those that were forwarded, and those that were dropped, by cause.
    pub(super) fn last_minute(&self) -> (u64, Vec<(DropCause, u64)>) {
        let readings = self.readings.lock();
        let (Some((_, last)), Some((_, first))) = (readings.back(), readings.front()) else { return (0, Vec::new()) };
        let forwarded = |of: &Totals| of.up_packets.saturating_add(of.down_packets);
        let drops = last
            .drops
            .iter()
            .zip(&first.drops)
            .map(|((cause, last), (_, first))| (*cause, last.saturating_sub(*first)));
        (forwarded(last).saturating_sub(forwarded(first)), drops.filter(|(_, packets)| *packets > 0).collect())
    }
}

/// Returns the reading `before` places before the last one, or the oldest.
fn nth_last(readings: &VecDeque<(Instant, Totals)>, before: usize) -> Option<&(Instant, Totals)> {
    readings.get(readings.len().checked_sub(1)?.saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use vpn_core::forward::{Counters, Load};

    #[test]
    fn rates_are_means_of_the_last_seconds() {
        let (speed, counters, begin) = (Speed::default(), Counters::new(1), Instant::now());
        assert_eq!((speed.rates(), speed.last_minute()), (Rates::default(), (0, Vec::new())));
        for second in 0..100 {
            counters.up(0, Load { packets: 1, bytes: if second > 90 { 1000 } else { 0 } });
            counters.dropped(0, DropCause::NoRoute);
            speed.read(begin + Duration::from_secs(second), counters.totals());
        }
        let rates = speed.rates();
        assert_eq!((rates.up_bytes, rates.up_packets, rates.down_bytes), (1000.0, 1.0, 0.0));
        assert_eq!(speed.last_minute(), (60, vec![(DropCause::NoRoute, 60)]));
    }
}
