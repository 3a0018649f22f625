//! What the service counts besides packets: sessions, refusals, leases, and how long things take.
//!
//! Workers add with single atomic operations and take no lock for it; a reader sees each number at some moment.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::utils::CachePadded;
use vpn_core::forward::Totals;
use vpn_core::lease::{LeaseError, Occupancy, Origin};
use vpn_core::queue::{DELAY_BOUNDS, Delays};
use vpn_core::times::Times;
use vpn_core::wire::error_code;

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Raises the counter to `sum` if that is larger, and returns the counter. So a reader never sees it fall, which would
    /// mean a restart, when a sum takes back what was counted too early.
    fn grow_to(&self, sum: u64) -> u64 {
        self.0.fetch_max(sum, Ordering::Relaxed).max(sum)
    }
}

/// Delays by the classes of [`DELAY_BOUNDS`], the last one open.
#[derive(Debug, Default)]
struct DelayTimes {
    counts: [Count; DELAY_BOUNDS.len() + 1],
    /// Nanoseconds.
    sum: Count,
}

impl DelayTimes {
    fn add(&self, delays: &Delays) {
        for (count, more) in self.counts.iter().zip(delays.counts).filter(|(_, more)| *more > 0) {
            count.add(more.into());
        }
        self.sum.add(delays.sum);
    }

    /// Returns the counts of the classes, and the sum in seconds.
    fn get(&self) -> ([u64; DELAY_BOUNDS.len() + 1], f64) {
        (self.counts.each_ref().map(Count::get), self.sum.get() as f64 / 1e9)
    }
}

/// How a session is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without payment.
    Free,
    /// Until the ledger has the payment.
    Grace,
    /// Paid.
    Paid,
    /// Not, or not yet.
    Unserved,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Free, Kind::Grace, Kind::Paid, Kind::Unserved];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Free => "free",
            Kind::Grace => "grace",
            Kind::Paid => "paid",
            Kind::Unserved => "none",
        }
    }
}

/// Why a client did not get what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The service is not free, and the client does not pay.
    NotFree,
    /// The request names a network that is unknown, offline, or not served.
    Network,
    /// The request names no order of this server.
    Order,
    /// The conditional transaction cannot pay.
    Payment,
    /// The receipt did not come back as it should.
    Receipt,
    /// The client, its transaction or its stream is served already.
    InUse,
    /// All addresses are leased.
    NoAddress,
    /// The client's network has as many addresses as it may.
    AddressShare,
    /// The client's network gets new addresses too fast.
    AddressRate,
    /// Another reason.
    Other,
}

impl Refusal {
    pub(super) const ALL: [Refusal; 10] = [
        Refusal::NotFree,
        Refusal::Network,
        Refusal::Order,
        Refusal::Payment,
        Refusal::Receipt,
        Refusal::InUse,
        Refusal::NoAddress,
        Refusal::AddressShare,
        Refusal::AddressRate,
        Refusal::Other,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Refusal::NotFree => "not_free",
            Refusal::Network => "network",
            Refusal::Order => "order",
            Refusal::Payment => "payment",
            Refusal::Receipt => "receipt",
            Refusal::InUse => "in_use",
            Refusal::NoAddress => "no_address",
            Refusal::AddressShare => "address_share",
            Refusal::AddressRate => "address_rate",
            Refusal::Other => "other",
        }
    }

    /// The reason that an error code of channel 'R' stands for: the codes of one subject lie beside each other.
    pub(super) fn of_code(code: u32) -> Refusal {
        use error_code as e;
        match code {
            e::FREE_IS_NOT_ALLOWED => Refusal::NotFree,
            e::CANT_ADD_USAGE => Refusal::InUse,
            e::NETWORK_IS_OFFLINE | e::NETWORK_NOT_FOUND | e::SERVICE_NODE_ROLE_ERROR => Refusal::Network,
            e::SERVICE_NOT_FOUND | e::PRICE_ERROR | e::PRICE_NO_ORDER_HASH => Refusal::Order,
            e::PRICE_NO_TX_HASH => Refusal::Payment,
            0x400..=0x4ff => Refusal::Payment,
            0x500..=0x5ff => Refusal::Receipt,
            _ => Refusal::Other,
        }
    }
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Refusal {
        match error {
            LeaseError::Exhausted => Refusal::NoAddress,
            LeaseError::Share { .. } => Refusal::AddressShare,
            LeaseError::Rate { .. } => Refusal::AddressRate,
        }
    }
}

/// How an address was given, as a label says it.
pub(super) const ORIGINS: [(Origin, &str); 4] =
    [(Origin::New, "new"), (Origin::Resumed, "resumed"), (Origin::Static, "static"), (Origin::TakenOver, "taken_over")];

/// What one worker counts.
#[derive(Debug, Default)]
pub(super) struct OfWorker {
    /// Its sessions by [`Kind`], as of its last look, once a second.
    sessions: [AtomicU32; Kind::ALL.len()],
    /// The bytes that wait for these sessions and from them.
    queued: AtomicU64,
    delay_down: DelayTimes,
    delay_up: DelayTimes,
}

/// All figures of a service.
#[derive(Debug)]
pub(super) struct Figures {
    workers: Box<[CachePadded<OfWorker>]>,
    /// Sessions that have begun: channels 'S' that were opened.
    pub(super) opened: Count,
    /// Sessions that have got a service.
    pub(super) served: Count,
    refused: [Count; Refusal::ALL.len()],
    leases: [Count; ORIGINS.len()],
    /// From the begin of a session to its service, and to its address.
    pub(super) to_service: Times,
    pub(super) to_lease: Times,
    /// The pool, as of the last look of worker 0.
    pool: [AtomicU32; 6],
    /// What the forwarded packets and bytes, up and down, have been at most.
    forwarded: [Count; 4],
    /// When the details of sessions were last asked for, milliseconds on the server's clock.
    watched: AtomicU64,
}

/// For how long workers look at details after somebody has asked for them.
const WATCHED_FOR: Duration = Duration::from_secs(15);

impl Figures {
    pub(super) fn new(workers: usize) -> Figures {
        Figures {
            workers: (0..workers.max(1)).map(|_| CachePadded::default()).collect(),
            opened: Count::default(),
            served: Count::default(),
            refused: Default::default(),
            leases: Default::default(),
            to_service: Times::new(),
            to_lease: Times::new(),
            pool: Default::default(),
            forwarded: Default::default(),
            watched: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn refuse(&self, why: Refusal) {
        if let Some(count) = self.refused.get(why as usize) {
            count.add(1);
        }
    }

    pub(super) fn refused(&self, why: Refusal) -> u64 {
        self.refused.get(why as usize).map_or(0, Count::get)
    }

    /// Counts a session that has got a service, so long after its begin.
    pub(super) fn serve(&self, after: Duration) {
        self.served.add(1);
        self.to_service.add(after);
    }

    /// Counts an address that was given, so long after the session's begin.
    pub(super) fn lease(&self, origin: Origin, after: Duration) {
        if let Some(index) = ORIGINS.iter().position(|(other, _)| *other == origin) {
            self.leases[index].add(1);
        }
        self.to_lease.add(after);
    }

    /// Returns how many addresses were given so, by the label's value.
    pub(super) fn leases(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ORIGINS.iter().zip(&self.leases).map(|((_, name), count)| (*name, count.get()))
    }

    /// Counts how long packets have waited in front of a worker's streams.
    pub(super) fn waited_down(&self, worker: u32, delays: &Delays) {
        if let Some(of) = self.workers.get(worker as usize).filter(|_| !delays.is_empty()) {
            of.delay_down.add(delays);
        }
    }

    /// The same of packets from clients, which wait for rate limits alone.
    pub(super) fn waited_up(&self, worker: u32, delays: &Delays) {
        if let Some(of) = self.workers.get(worker as usize).filter(|_| !delays.is_empty()) {
            of.delay_up.add(delays);
        }
    }

    /// Returns the delays of all workers, up and down: the counts of the classes of [`DELAY_BOUNDS`], and the sum.
    pub(super) fn delays(&self) -> [([u64; DELAY_BOUNDS.len() + 1], f64); 2] {
        let sum = |of: fn(&OfWorker) -> &DelayTimes| {
            self.workers.iter().map(|worker| of(worker).get()).fold(([0; _], 0.0), |(mut counts, sum), (more, time)| {
                counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
                (counts, sum + time)
            })
        };
        [sum(|of| &of.delay_up), sum(|of| &of.delay_down)]
    }

    /// Notes what a worker has seen of its sessions.
    pub(super) fn look(&self, worker: u32, sessions: [u32; Kind::ALL.len()], queued: u64) {
        let Some(of) = self.workers.get(worker as usize) else { return };
        of.sessions.iter().zip(sessions).for_each(|(has, now)| has.store(now, Ordering::Relaxed));
        of.queued.store(queued, Ordering::Relaxed);
    }

    /// Returns the sessions of each worker, by [`Kind`].
    pub(super) fn sessions(&self) -> impl Iterator<Item = [u32; Kind::ALL.len()]> {
        self.workers.iter().map(|of| of.sessions.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Returns the sessions of all workers that are served so.
    pub(super) fn sessions_served(&self, kind: Kind) -> u32 {
        self.sessions().map(|of| of[kind as usize]).sum()
    }

    /// Returns the bytes that waited at the last look.
    pub(super) fn queued(&self) -> u64 {
        self.workers.iter().map(|of| of.queued.load(Ordering::Relaxed)).sum()
    }

    /// Notes how the addresses are used.
    pub(super) fn look_at_pool(&self, pool: &Occupancy) {
        let Occupancy { capacity, leased, kept, reserved, free, all_reserved } = *pool;
        let now = [capacity, leased, kept, reserved, free, all_reserved];
        self.pool.iter().zip(now).for_each(|(has, now)| has.store(now, Ordering::Relaxed));
    }

    /// Returns how the addresses were used at the last look.
    pub(super) fn pool(&self) -> Occupancy {
        let [capacity, leased, kept, reserved, free, all_reserved] =
            self.pool.each_ref().map(|count| count.load(Ordering::Relaxed));
        Occupancy { capacity, leased, kept, reserved, free, all_reserved }
    }

    /// Returns totals of which none is below what was returned before: packets that the device refused are counted as
    /// forwarded for a moment.
    pub(super) fn never_less(&self, mut totals: Totals) -> Totals {
        let now = [&mut totals.up_packets, &mut totals.up_bytes, &mut totals.down_packets, &mut totals.down_bytes];
        now.into_iter().zip(&self.forwarded).for_each(|(now, most)| *now = most.grow_to(*now));
        totals
    }

    /// Somebody looks at the details of sessions.
    pub(super) fn watch(&self, now: Duration) {
        self.watched.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether somebody does, so that a worker asks the kernel about each.
    pub(super) fn is_watched(&self, now: Duration) -> bool {
        let watched = self.watched.load(Ordering::Relaxed);
        watched != u64::MAX && now.saturating_sub(Duration::from_millis(watched)) < WATCHED_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_place_and_a_name_of_its_own() {
        let figures = Figures::new(1);
        for (index, why) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
            (0..=index).for_each(|_| figures.refuse(why));
        }
        assert_eq!(Refusal::ALL.map(|why| figures.refused(why)), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let names: std::collections::HashSet<_> = Refusal::ALL.map(Refusal::name).into();
        assert_eq!(names.len(), Refusal::ALL.len());
        assert_eq!(Refusal::of_code(error_code::TX_COND_NOT_ENOUGH), Refusal::Payment);
        assert_eq!(Refusal::of_code(error_code::RECEIPT_NO_SIGN), Refusal::Receipt);
        assert_eq!(Refusal::of_code(0x1234_5678), Refusal::Other);
    }

    #[test]
    fn times_count_in_their_classes() {
        let figures = Figures::new(1);
        figures.serve(Duration::from_millis(6));
        assert_eq!((figures.to_service.read().0[1], figures.served.get()), (1, 1));
        figures.lease(Origin::TakenOver, Duration::ZERO);
        assert_eq!((figures.leases().last(), figures.to_lease.read().0[0]), (Some(("taken_over", 1)), 1));
    }

    #[test]
    fn a_counter_never_falls() {
        let (figures, counters) = (Figures::new(1), vpn_core::forward::Counters::new(1));
        let load = |packets, bytes| vpn_core::forward::Load { packets, bytes };
        counters.up(0, load(5, 500));
        assert_eq!(figures.never_less(counters.totals()).up_bytes, 500);
        counters.uncount_up(0, load(2, 200));
        let totals = figures.never_less(counters.totals());
        assert_eq!((totals.up_packets, totals.up_bytes), (5, 500));
        counters.up(0, load(4, 400));
        assert_eq!(figures.never_less(counters.totals()).up_bytes, 700);
    }

    #[test]
    fn details_are_looked_at_for_a_while() {
        let figures = Figures::new(1);
        assert!(!figures.is_watched(Duration::ZERO));
        figures.watch(Duration::from_secs(5));
        assert!(figures.is_watched(Duration::from_secs(19)) && !figures.is_watched(Duration::from_secs(20)));
    }
}
