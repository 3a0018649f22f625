//! Where packets leave for one peer: straight into its stream while the path takes them, else by way of a queue.
//!
//! A stream delivers in order, so whatever is in it is before every later packet. The outlet therefore keeps little in it,
//! as [`Pace`] says, and lets the rest wait where order, drops and marks are still its own to decide.

use std::time::{Duration, Instant};

use super::bbr::{Bbr, State};
use super::black_hole::BlackHole;
use super::drain;
use crate::sdk::channel::Channel;
use vpn_core::forward::{Load, Offload};
use vpn_core::queue::{Events, Limits, Memory, Pace, Path, Queue, Rate, Tuning};
use vpn_core::wire::Ipv4View;

/// What an outlet holds of a path without a memory of its own, such as a cable, in the stream and in the queue each, bytes:
/// twice what a wake-up of the device brings, because a detour by the queue copies a packet twice.
const SHORT: usize = 2 * drain::BYTES;
/// How often the kernel is asked for the path's rate, at most.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the outlets of one worker share.
pub(crate) struct Shared {
    pub(super) memory: Memory,
    epoch: Instant,
}

impl Shared {
    /// Creates it for packets of at most `limit` bytes in all.
    pub(crate) fn new(limit: usize) -> Shared {
        let mut seed = [0; 8];
        // Without random numbers a peer could guess which flows share a place: it slows down flows of its own.
        let _ = rustix::rand::getrandom(seed.as_mut_slice(), rustix::rand::GetRandomFlags::empty());
        Shared { memory: Memory::new(limit, u64::from_ne_bytes(seed)), epoch: Instant::now() }
    }

    /// Changes the limit, for what comes from now on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.memory.set_limit(limit);
    }

    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Gives back what a burst has left. To be called about once a second.
    pub(crate) fn trim(&mut self) {
        let now = self.now();
        self.memory.trim(now);
    }
}

/// What may pass straight into a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    bytes: usize,
    unit: usize,
}

impl Room {
    /// Room for every packet.
    pub(crate) fn unbounded() -> Room {
        Room { bytes: usize::MAX, unit: usize::MAX }
    }

    /// Whether a packet of `len` bytes may pass, and counts it if so. The last one may exceed the room.
    pub(crate) fn takes(&mut self, len: usize, offload: &Offload) -> bool {
        let takes = self.bytes > 0 && (len <= self.unit || !matches!(offload, Offload::Segments(_)));
        self.bytes = if takes { self.bytes.saturating_sub(len) } else { self.bytes };
        takes
    }

    /// Lets nothing more pass: a packet waits, which the next ones must not overtake.
    pub(crate) fn close(&mut self) {
        self.bytes = 0;
    }
}

/// One peer's outlet, on the worker of its stream.
pub(crate) struct Outlet {
    queue: Queue,
    pace: Pace,
    /// The most bytes in the stream and in the queue together.
    limit: usize,
    /// When the kernel was last asked for the rate.
    looked: Option<Duration>,
    /// What [`Outlet::pop`] may still hand down.
    room: usize,
    /// `None` if its stream has another congestion control.
    bbr: Option<Bbr>,
    black_hole: BlackHole,
    tuning: Tuning,
    /// The rate that its peer may have.
    rate: Option<Rate>,
}

impl Outlet {
    /// Creates an outlet of which at most `limit` bytes wait.
    pub(crate) fn new(limit: usize) -> Outlet {
        let short = short(limit);
        let queue = Queue::new(Limits { bytes: short });
        Outlet {
            queue,
            pace: Pace::open(short),
            limit,
            looked: None,
            room: 0,
            bbr: None,
            black_hole: BlackHole::default(),
            tuning: Tuning::default(),
            rate: None,
        }
    }

    /// Sets or removes the rate limit. All packets of a limited peer go through the queue.
    pub(crate) fn set_rate(&mut self, rate: Option<Rate>) {
        if self.rate != rate {
            self.rate = rate;
            self.queue.set_rate(rate);
            self.tune();
        }
    }

    /// Changes the bytes that may wait. The path's share of them is known anew after the next look at it.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        if self.limit != limit {
            self.limit = limit;
            self.queue.limit(Limits { bytes: short(limit) });
        }
    }

    /// The bytes that wait here.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.bytes()
    }

    /// How long packets of this peer may wait, as its path demands.
    pub(crate) fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Returns what may pass straight into the stream now.
    pub(crate) fn room(&mut self, shared: &Shared, channel: &Channel) -> Room {
        if !self.queue.is_empty() || self.rate.is_some() {
            return Room::default();
        }
        Room { bytes: self.measure(shared.now(), channel), unit: self.pace.unit() }
    }

    /// Appends a packet. The caller counts `events`.
    pub(crate) fn push(
        &mut self,
        shared: &mut Shared,
        packet: &[u8],
        described: (&Ipv4View, &Offload),
        events: &mut Events,
    ) {
        let now = shared.now();
        let unit = self.rate.map_or(usize::MAX, |rate| rate.unit()).min(self.pace.unit());
        self.queue.push(&mut shared.memory, now, packet, described, unit, events);
    }

    /// Begins to hand down what waits.
    pub(crate) fn begin(&mut self, shared: &Shared, channel: &Channel) {
        let now = shared.now();
        let is_due = self.queue.ready_at(now).is_some_and(|due| due <= now);
        let room = if is_due { self.measure(now, channel) } else { 0 };
        // The kernel calls when half has left. A refill before that puts one packet into each record, whose headers are 4 %
        // of it.
        self.room = if self.is_paced() && room < self.pace.window() / 2 { 0 } else { room };
    }

    /// Writes the next packet to the front of `space`, as a TUN queue does, and returns its length with the header. `None`
    /// if nothing waits, or the stream has enough. The caller counts `events`.
    pub(crate) fn pop(&mut self, shared: &mut Shared, space: &mut [u8], events: &mut Events) -> Option<usize> {
        if self.room == 0 {
            return None;
        }
        let now = shared.now();
        let len = self.queue.pop(&mut shared.memory, now, space, events)?;
        self.room = self.room.saturating_sub(len);
        Some(len)
    }

    /// Ends what [`Outlet::begin`] began: while packets wait, the channel calls `drained` when it takes more. Returns true
    /// if they wait for the rate limit alone: the caller then comes back, as an idle channel would call at once.
    pub(crate) fn end(&mut self, shared: &Shared, channel: &Channel) -> bool {
        let now = shared.now();
        let waits_for_rate = self.queue.ready_at(now).is_some_and(|due| due > now);
        channel.wake_on_drain(!self.queue.is_empty() && !waits_for_rate);
        waits_for_rate
    }

    /// Drops what waits.
    pub(crate) fn clear(&mut self, shared: &mut Shared) -> Load {
        self.queue.clear(&mut shared.memory)
    }

    fn tune(&mut self) {
        self.queue.tune(self.rate.map_or(self.tuning, |rate| self.tuning.at_rate(rate)));
    }

    fn is_paced(&self) -> bool {
        self.pace.window() < short(self.limit)
    }

    /// Returns how many bytes the stream may be given.
    fn measure(&mut self, now: Duration, channel: &Channel) -> usize {
        if self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_EVERY) {
            self.look(now, channel);
        }
        let Some(pending) = channel.pending() else { return 0 };
        let unsent = if self.is_paced() { channel.unsent().unwrap_or(0) } else { 0 };
        self.pace.window().saturating_sub(pending + unsent)
    }

    /// Asks the kernel how fast the path is, and tells it what follows: when to wake the stream up, and how fast to become.
    fn look(&mut self, now: Duration, channel: &Channel) {
        if self.looked.replace(now).is_none() {
            self.bbr = Bbr::of(channel);
        }
        let Some(path) = channel.path() else { return };
        self.black_hole.look(now, &path, channel);
        let is_full = !self.queue.is_empty();
        let state = State { is_busy: path.unacked > 0, is_full, repairs: path.ca_state != 0 };
        let path = Path {
            pacing_rate: path.pacing_rate,
            delivery_rate: if path.delivery_rate == u64::MAX { 0 } else { path.delivery_rate },
            window: path.cwnd,
            round_trip: Duration::from_micros(path.rtt.into()),
            shortest: Duration::from_micros(if path.min_rtt == u32::MAX { 0 } else { path.min_rtt.into() }),
        };
        let short = short(self.limit);
        // A flow that halves its rate at a drop leaves the path idle unless as much waits as the path holds; another such
        // amount is for bursts.
        self.queue.limit(Limits { bytes: path.capacity().saturating_mul(2).clamp(short, self.limit - short) });
        self.tuning = Tuning::for_round_trip(path.shortest);
        self.tune();
        let pace = Pace::of(&path, short);
        if pace.differs(&self.pace) {
            self.pace = pace;
            channel.set_unsent_limit(if self.is_paced() { pace.window() as u32 } else { u32::MAX });
        }
        if let Some(bbr) = &mut self.bbr {
            bbr.look(now, &path, state, channel);
        }
    }
}

/// The part of `limit` that each of stream and queue may hold on any path.
fn short(limit: usize) -> usize {
    SHORT.min(limit / 2)
}
