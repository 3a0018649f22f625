//! The counters of the data path, a set for each worker.

use super::Offload;
use super::drops::DropCause;
use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts packets, bytes and drops of a server or client.
///
/// Each worker adds to its own set, on cache lines of its own; a reader sums over all sets. The sums are consistent
/// only while no worker adds: good for statistics, not for accounting.
///
/// ```
/// use vpn_core::forward::{Counters, DropCause, Load, Offload};
///
/// let counters = Counters::new(2);
/// counters.up(0, Load::of(&Offload::None, 1390));
/// counters.up(1, Load::of(&Offload::None, 60));
/// counters.dropped(1, DropCause::NoRoute);
///
/// let totals = counters.totals();
/// assert_eq!((totals.up_packets, totals.up_bytes), (2, 1450));
/// assert_eq!(totals.dropped(DropCause::NoRoute), 1);
/// ```
#[derive(Debug)]
pub struct Counters {
    workers: Box<[CachePadded<Cells>]>,
}

#[derive(Debug, Default)]
struct Cells {
    up_packets: AtomicU64,
    up_bytes: AtomicU64,
    down_packets: AtomicU64,
    down_bytes: AtomicU64,
    marked: AtomicU64,
    drops: [AtomicU64; DropCause::COUNT],
    /// Those of them that came from clients.
    drops_up: [AtomicU64; DropCause::COUNT],
}

/// Forwarded packets, or packets that are being forwarded. The number of packets is that on a wire without
/// super-packets; the bytes are those of the packets here, where the segments of a super-packet share their headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The number of packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Load {
    /// Returns the load of one packet or super-packet of `len` bytes, as the packets that it is on a wire without
    /// super-packets: what is counted and charged does not depend on the offloads of the two ends.
    pub fn of(offload: &Offload, len: usize) -> Load {
        Load { packets: u64::from(offload.packets(len)), bytes: offload.billed(len) as u64 }
    }

    /// Returns whether the load has no packets.
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }
}

impl std::ops::AddAssign for Load {
    fn add_assign(&mut self, other: Load) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// The sums over all workers since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Inner packets from clients that were forwarded.
    pub up_packets: u64,
    /// Their bytes.
    pub up_bytes: u64,
    /// Inner packets to clients that were forwarded.
    pub down_packets: u64,
    /// Their bytes.
    pub down_bytes: u64,
    /// Packets that a queue marked with "congestion experienced" in place of a drop (RFC 3168). They are forwarded.
    pub marked: u64,
    /// Packets dropped, by cause, in the order of [`DropCause::ALL`].
    pub drops: [(DropCause, u64); DropCause::COUNT],
}

impl Totals {
    /// Packets dropped for one cause.
    pub fn dropped(&self, cause: DropCause) -> u64 {
        self.drops.iter().filter(|(other, _)| *other == cause).map(|(_, packets)| packets).sum()
    }

    /// Packets dropped for any cause.
    pub fn all_dropped(&self) -> u64 {
        self.drops.iter().map(|(_, packets)| packets).sum()
    }
}

impl Counters {
    /// Creates zeroed counters, a set for each of `workers` (at least one). In the methods a worker's number beyond
    /// them counts for the last.
    pub fn new(workers: usize) -> Self {
        Counters { workers: (0..workers.max(1)).map(|_| CachePadded::default()).collect() }
    }

    /// Counts forwarded packets from clients.
    #[inline]
    pub fn up(&self, worker: usize, load: Load) {
        if let Some(cells) = self.cells(worker) {
            add(&cells.up_packets, load.packets);
            add(&cells.up_bytes, load.bytes);
        }
    }

    /// Counts forwarded packets to clients.
    #[inline]
    pub fn down(&self, worker: usize, load: Load) {
        if let Some(cells) = self.cells(worker) {
            add(&cells.down_packets, load.packets);
            add(&cells.down_bytes, load.bytes);
        }
    }

    /// Reclassifies packets from clients, which were counted as forwarded but then refused by the device, as drops.
    pub fn uncount_up(&self, worker: usize, load: Load) {
        if let Some(cells) = self.cells(worker).filter(|_| !load.is_empty()) {
            cells.up_packets.fetch_sub(load.packets, Ordering::Relaxed);
            cells.up_bytes.fetch_sub(load.bytes, Ordering::Relaxed);
            self.dropped_up(worker, DropCause::TunWrite, load.packets);
        }
    }

    /// Like [`Counters::uncount_up`], for packets to clients.
    pub fn uncount_down(&self, worker: usize, load: Load) {
        if let Some(cells) = self.cells(worker).filter(|_| !load.is_empty()) {
            cells.down_packets.fetch_sub(load.packets, Ordering::Relaxed);
            cells.down_bytes.fetch_sub(load.bytes, Ordering::Relaxed);
            self.dropped_all(worker, DropCause::TunWrite, load.packets);
        }
    }

    /// Counts packets that a queue marked.
    pub fn marked(&self, worker: usize, packets: u64) {
        if let Some(cells) = self.cells(worker) {
            add(&cells.marked, packets);
        }
    }

    /// Counts a dropped packet.
    #[inline]
    pub fn dropped(&self, worker: usize, cause: DropCause) {
        self.dropped_all(worker, cause, 1);
    }

    /// Counts dropped packets.
    #[inline]
    pub fn dropped_all(&self, worker: usize, cause: DropCause, packets: u64) {
        if let Some(counter) = self.cells(worker).and_then(|cells| cells.drops.get(cause as usize)) {
            add(counter, packets);
        }
    }

    /// Counts dropped packets that came from clients. [`Totals`] has them among all.
    pub fn dropped_up(&self, worker: usize, cause: DropCause, packets: u64) {
        if let Some(counter) = self.cells(worker).and_then(|cells| cells.drops_up.get(cause as usize)) {
            add(counter, packets);
        }
        self.dropped_all(worker, cause, packets);
    }

    /// Returns the packets from clients, and those to clients, that were dropped, by cause.
    pub fn drops_both_ways(&self) -> [(DropCause, u64, u64); DropCause::COUNT] {
        DropCause::ALL.map(|cause| {
            let sum = |of: fn(&Cells) -> &[AtomicU64]| {
                self.workers
                    .iter()
                    .filter_map(|cells| of(cells).get(cause as usize))
                    .fold(0_u64, |sum, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
            };
            // A packet from a client is added here first, so that there are never more of them than of all.
            let all = sum(|cells| &cells.drops);
            let up = sum(|cells| &cells.drops_up).min(all);
            (cause, up, all - up)
        })
    }

    /// Returns the sums over all workers.
    pub fn totals(&self) -> Totals {
        let sum = |counter: &dyn Fn(&Cells) -> &AtomicU64| {
            self.workers.iter().fold(0_u64, |sum, cells| sum.wrapping_add(counter(cells).load(Ordering::Relaxed)))
        };
        Totals {
            up_packets: sum(&|cells| &cells.up_packets),
            up_bytes: sum(&|cells| &cells.up_bytes),
            down_packets: sum(&|cells| &cells.down_packets),
            down_bytes: sum(&|cells| &cells.down_bytes),
            marked: sum(&|cells| &cells.marked),
            drops: DropCause::ALL.map(|cause| (cause, sum(&|cells| &cells.drops[cause as usize]))),
        }
    }

    fn cells(&self, worker: usize) -> Option<&Cells> {
        self.workers.get(worker).or(self.workers.last()).map(|cells| &**cells)
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(packets: u64, bytes: u64) -> Load {
        Load { packets, bytes }
    }

    #[test]
    fn sums_over_workers() {
        let counters = Counters::new(2);
        counters.up(0, load(1, 100));
        counters.up(1, load(1, 20));
        counters.down(1, load(4, 3));
        counters.dropped(0, DropCause::SpoofedSource);
        counters.dropped(1, DropCause::SpoofedSource);
        counters.dropped_all(1, DropCause::NotAllowed, 5);
        counters.marked(0, 2);
        counters.marked(1, 6);
        let totals = counters.totals();
        assert_eq!((totals.up_packets, totals.up_bytes), (2, 120));
        assert_eq!((totals.down_packets, totals.down_bytes), (4, 3));
        assert_eq!(totals.dropped(DropCause::SpoofedSource), 2);
        assert_eq!((totals.all_dropped(), totals.marked), (7, 8));
        assert_eq!(totals.drops.map(|(cause, _)| cause), DropCause::ALL);
    }

    #[test]
    fn packets_that_the_device_refused_count_as_dropped() {
        let counters = Counters::new(2);
        counters.up(1, load(5, 500));
        counters.uncount_up(1, load(2, 200));
        counters.down(0, load(3, 30));
        counters.uncount_down(0, load(1, 10));
        counters.uncount_down(0, Load::default());
        let totals = counters.totals();
        assert_eq!((totals.up_packets, totals.up_bytes), (3, 300));
        assert_eq!((totals.down_packets, totals.down_bytes), (2, 20));
        assert_eq!((totals.dropped(DropCause::TunWrite), totals.all_dropped()), (3, 3));
        assert_eq!(counters.drops_both_ways()[DropCause::TunWrite as usize], (DropCause::TunWrite, 2, 1));
    }

    #[test]
    fn each_cause_has_a_counter_of_its_own() {
        let counters = Counters::new(1);
        for (number, cause) in DropCause::ALL.into_iter().enumerate() {
            for _ in 0..=number {
                counters.dropped(0, cause);
            }
        }
        for (number, (cause, packets)) in counters.totals().drops.into_iter().enumerate() {
            assert_eq!((cause, packets), (DropCause::ALL[number], number as u64 + 1));
        }
    }

    #[test]
    fn a_number_beyond_the_workers_counts_for_the_last() {
        let counters = Counters::new(2);
        counters.up(7, load(1, 1));
        counters.down(usize::MAX, load(1, 1));
        counters.dropped(2, DropCause::NoRoute);
        assert_eq!(counters.workers[0].up_packets.load(Ordering::Relaxed), 0);
        assert_eq!(counters.workers[1].up_packets.load(Ordering::Relaxed), 1);
        assert_eq!(counters.workers[1].down_packets.load(Ordering::Relaxed), 1);
        assert_eq!(counters.totals().dropped(DropCause::NoRoute), 1);
        let none = Counters::new(0);
        none.up(0, load(1, 9));
        assert_eq!(none.totals().up_bytes, 9);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let counters = Counters::new(3);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let counters = &counters;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        counters.up(worker, load(1, 2));
                        counters.dropped(worker, DropCause::QueueFull);
                    }
                });
            }
        });
        let totals = counters.totals();
        assert_eq!((totals.up_packets, totals.up_bytes, totals.all_dropped()), (40_000, 80_000, 40_000));
    }

    #[test]
    fn workers_do_not_share_a_cache_line() {
        let counters = Counters::new(2);
        let [first, second] = [0, 1].map(|worker| &raw const *counters.workers[worker] as usize);
        assert!(second - first >= size_of::<Cells>().next_multiple_of(64));
        assert_eq!(first % 64, 0);
    }
}
