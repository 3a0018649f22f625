//! What waits for one peer: its packets, in the order in which the path to the peer takes them.
//!
//! A [`Queue`] belongs to one session and one direction. Its caller pushes what the path cannot take now, and pops when
//! the path takes more. The queues of a worker share a [`Memory`]. Nothing here allocates or locks for a packet once the
//! memory has grown, and an empty queue owns none of it.
//!
//! The order is that of FQ-CoDel (RFC 8290): flows take turns, a flow that has just come goes first, and a flow that
//! makes its own packets wait for long is told so (RFC 8289), by a mark (RFC 3168) or a drop. A super-packet counts as the
//! packets that it stands for: a drop that tells its sender to slow down takes one segment.

mod blocks;
mod bucket;
mod ceiling;
mod codel;
mod delays;
mod events;
mod flows;
mod memory;
mod pace;
mod renewal;

pub use bucket::Rate;
pub use ceiling::Ceiling;
pub use codel::Tuning;
pub use delays::{DELAY_BOUNDS, Delays};
pub use events::Events;
pub use memory::Memory;
pub use pace::{Pace, Path};
pub use renewal::{Phase, Renewal};

use std::time::Duration;

use crate::forward::{DropCause, Load, Offload, Segments, behead, cut, mark_congestion};
use crate::wire::{Ipv4View, VNET_LEN, VnetHeader};
use blocks::{BLOCK, NONE, Unit};
use bucket::Bucket;
use codel::Times;
use flows::Table;

/// Protocols with ports (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The least that a flow may send in its turn, in bytes: a packet of a common path (RFC 8290, 5.2).
const LEAST_QUANTUM: usize = 1514;
const LARGEST_PACKET: usize = 65_535;
const LARGEST_QUEUE: usize = 1 << 30;

/// The bounds of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that wait. Beyond them the queue drops from the head of its fattest flow. Small packets, which take
    /// more memory than they have bytes, are bounded to twice as much memory. More than 1 GiB counts as 1 GiB.
    pub bytes: usize,
}

/// What waits for one peer in one direction. Its owner calls [`Queue::clear`] before it drops a queue that is not empty;
/// all calls are given the same memory.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::forward::{DropCause, Offload};
/// use vpn_core::queue::{Events, Limits, Memory, Queue, Rate};
/// use vpn_core::wire::{VNET_LEN, VnetHeader};
///
/// // An empty UDP datagram from 10.98.0.2, port 1, to 192.0.2.1, port 2.
/// let packet = [
///     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 98, 0, 2, 192, 0, 2, 1, // IPv4
///     0, 1, 0, 2, 0, 8, 0, 0, // UDP
/// ];
/// let now = Duration::from_secs(1);
/// let (view, offload) = Offload::check(&VnetHeader::default(), &packet)?;
/// let (mut memory, mut events) = (Memory::new(1 << 20, 42), Events::default());
/// let mut queue = Queue::new(Limits { bytes: 1 << 16 });
/// // 28 bytes in a millisecond; what the bucket holds passes at once.
/// queue.set_rate(Some(Rate { bytes_per_second: 28_000 }));
/// for _ in 0..200 {
///     queue.push(&mut memory, now, &packet, (&view, &offload), 1500, &mut events);
/// }
/// assert_eq!(queue.bytes(), 200 * 28);
///
/// let mut space = [0; 65_545];
/// let mut pop = |now| queue.pop(&mut memory, now, &mut space, &mut events).map(|len| len - VNET_LEN);
/// assert_eq!(pop(now), Some(28));
/// while pop(now).is_some() {}
/// assert_eq!(pop(now + Duration::from_millis(1)), Some(28), "the rate allows one more");
/// let waits = queue.clear(&mut memory);
/// assert!(waits.packets > 0 && queue.is_empty() && events.drops().count() == 0);
/// # Ok::<(), DropCause>(())
/// ```
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    bytes: usize,
    /// The blocks of memory that it holds.
    blocks: usize,
    /// `None`: nothing waits.
    table: Option<Box<Table>>,
    times: Times,
    /// What a flow sends in its turn, in bytes.
    quantum: i32,
    bucket: Bucket,
}

impl Queue {
    /// Creates an empty queue without a rate limit.
    pub fn new(limits: Limits) -> Queue {
        Queue {
            limits: Limits { bytes: limits.bytes.min(LARGEST_QUEUE) },
            bytes: 0,
            blocks: 0,
            table: None,
            times: Tuning::default().into(),
            quantum: LEAST_QUANTUM as i32,
            bucket: Bucket::default(),
        }
    }

    /// Sets the bounds, from now on: what waits already may exceed them.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = Limits { bytes: limits.bytes.min(LARGEST_QUEUE) };
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.table.is_none()
    }

    /// The bytes that wait, as the packets' lengths.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets CoDel's parameters, from now on.
    pub fn tune(&mut self, tuning: Tuning) {
        self.times = tuning.into();
    }

    /// Sets or removes the rate limit, from now on.
    pub fn set_rate(&mut self, rate: Option<Rate>) {
        self.bucket.set_rate(rate);
    }

    /// Appends a packet that [`Offload::check`] described as `view` and `offload`. A super-packet is cut into smaller ones
    /// of at most `unit` bytes each, or single packets.
    pub fn push(
        &mut self,
        memory: &mut Memory,
        now: Duration,
        packet: &[u8],
        (view, offload): (&Ipv4View, &Offload),
        unit: usize,
        events: &mut Events,
    ) {
        let now = nanoseconds(now);
        // Flows send whole units: with less, most visits of a flow would only add to its deficit.
        self.quantum = unit.clamp(LEAST_QUANTUM, LARGEST_PACKET) as i32;
        let hash = memory.hash(flow(packet, view));
        let is_cut = cut(packet, offload, unit, |piece| {
            self.append(memory, now, hash, [piece.headers, piece.payload], &piece.offload, events);
        });
        if !is_cut {
            self.append(memory, now, hash, [packet, &[]], offload, events);
        }
    }

    fn append(
        &mut self,
        memory: &mut Memory,
        now: u64,
        hash: u64,
        [front, back]: [&[u8]; 2],
        offload: &Offload,
        events: &mut Events,
    ) {
        let len = front.len() + back.len();
        let load = Load::of(offload, len);
        let unit = Unit {
            len: (VNET_LEN + len) as u32,
            packets: load.packets as u32,
            billed: load.bytes as u32,
            next: NONE,
            since: now,
        };
        if self.table.is_none() {
            self.table = memory.lend_table();
        }
        let Some(table) = &mut self.table else { return events.dropped(DropCause::QueueMemory, load) };
        let place = table.place(hash);
        while let Some(cause) = lacks(&self.limits, self.bytes + len, self.blocks, unit.blocks(), memory) {
            // The oldest packet, as the sender learns soonest from it; one at a time, as a super-packet is many already.
            let fattest = table.fattest(place, unit.blocks());
            let Some((first, dropped)) = table.unlink(&mut memory.blocks, fattest) else {
                events.dropped(cause, load);
                return self.rest(memory);
            };
            memory.blocks.free(first);
            self.bytes = self.bytes.saturating_sub(dropped.len as usize - VNET_LEN);
            self.blocks = self.blocks.saturating_sub(dropped.blocks());
            events.dropped(cause, dropped.load());
        }
        let header = offload.to_header().to_bytes();
        let Some(first) = memory.store([&header, front, back], unit) else {
            events.dropped(DropCause::QueueMemory, load);
            return self.rest(memory);
        };
        table.append(&mut memory.blocks, place, first, &unit, self.quantum);
        self.bytes += len;
        self.blocks += unit.blocks();
    }

    /// Writes the packet that is next to the front of `space`, with its header as a TUN queue provides it, and returns the
    /// bytes written. `None` if nothing waits, the rate allows nothing now, or `space` is too small: 65,545 bytes always
    /// suffice.
    pub fn pop(&mut self, memory: &mut Memory, now: Duration, space: &mut [u8], events: &mut Events) -> Option<usize> {
        let now = nanoseconds(now);
        let table = self.table.as_mut()?;
        if !self.bucket.is_open(now) {
            return None;
        }
        loop {
            let (place, first) = table.turn(self.quantum)?;
            let unit = *memory.blocks.unit(first)?;
            let space = space.get_mut(..unit.len as usize)?;
            let (waited, behind) = (now.saturating_sub(unit.since), table.bytes(place).saturating_sub(unit.len));
            let (mut lost, mut is_marked) = (0, false);
            while lost < unit.packets && table.codel(place).signals(&self.times, now, waited, behind) {
                is_marked = can_be_marked(memory.blocks.front(first)?);
                if is_marked {
                    break;
                }
                lost += 1;
            }
            table.unlink(&mut memory.blocks, place)?;
            self.bytes = self.bytes.saturating_sub(unit.len as usize - VNET_LEN);
            self.blocks = self.blocks.saturating_sub(unit.blocks());
            if lost == unit.packets {
                memory.blocks.free(first);
                events.dropped(DropCause::Codel, unit.load());
                if self.blocks == 0 {
                    self.rest(memory);
                    return None;
                }
                continue;
            }
            memory.blocks.take(first, space);
            events.waited(waited);
            let (len, load) = finish(space, &unit, lost, is_marked, events);
            table.charge(place, len);
            self.bucket.charge(load.bytes);
            self.rest(memory);
            return Some(len);
        }
    }

    /// Returns when the rate allows the next packet: `None` if nothing waits, a time that has passed if `pop` would return
    /// a packet.
    pub fn ready_at(&self, now: Duration) -> Option<Duration> {
        (!self.is_empty()).then(|| self.bucket.open_at(nanoseconds(now)))
    }

    /// Drops all that waits and returns its load.
    pub fn clear(&mut self, memory: &mut Memory) -> Load {
        let mut load = Load::default();
        if let Some(table) = &mut self.table {
            while let Some((place, _)) = table.turn(self.quantum) {
                let Some((first, unit)) = table.unlink(&mut memory.blocks, place) else { break };
                memory.blocks.free(first);
                load += unit.load();
            }
        }
        (self.bytes, self.blocks) = (0, 0);
        self.rest(memory);
        load
    }

    /// Gives the table back if nothing waits.
    fn rest(&mut self, memory: &mut Memory) {
        if self.blocks == 0
            && let Some(mut table) = self.table.take()
        {
            table.rest();
            memory.return_table(table);
        }
    }
}

/// Why a queue that would have `bytes` bytes, and `more` blocks beside its `blocks`, must drop.
fn lacks(limits: &Limits, bytes: usize, blocks: usize, more: usize, memory: &Memory) -> Option<DropCause> {
    let blocks = (blocks + more) * BLOCK;
    if bytes > limits.bytes || blocks > limits.bytes * 2 + LARGEST_PACKET {
        return Some(DropCause::QueueOverflow);
    }
    // A queue holds at most as much as is left for the others.
    (blocks > memory.available().saturating_sub(more * BLOCK)).then_some(DropCause::QueueMemory)
}

/// What a flow is: addresses, protocol, and the ports of TCP and UDP unless it is a fragment.
fn flow(packet: &[u8], view: &Ipv4View) -> [u64; 2] {
    let addresses = u64::from(view.source.to_bits()) << 32 | u64::from(view.destination.to_bits());
    let ports = match view.protocol {
        TCP | UDP if !view.is_fragment => packet.get(view.header_len..).and_then(<[u8]>::first_chunk),
        _ => None,
    };
    [addresses, u64::from(view.protocol) << 32 | u64::from(u32::from_be_bytes(ports.copied().unwrap_or_default()))]
}

/// Whether the packet behind the header, of which this is the front, may be marked.
fn can_be_marked(front: &[u8; BLOCK]) -> bool {
    front[VNET_LEN + 1] & 3 != 0
}

/// Removes the segments that are lost, or marks the packet. `space` is the header and the packet. Returns the length and
/// the load of what remains.
fn finish(space: &mut [u8], unit: &Unit, lost: u32, is_marked: bool, events: &mut Events) -> (usize, Load) {
    let whole = (space.len(), unit.load());
    let Some((header, packet)) = space.split_first_chunk_mut::<VNET_LEN>() else { return whole };
    if is_marked && mark_congestion(packet) {
        events.add_marked(unit.packets.into());
    }
    if lost == 0 {
        return whole;
    }
    let segments = segments(&VnetHeader::parse(header));
    let Some((len, offload)) = behead(packet, &segments, lost as usize) else { return whole };
    *header = offload.to_header().to_bytes();
    let load = Load::of(&offload, len);
    let Load { packets, bytes } = unit.load();
    events.dropped(
        DropCause::Codel,
        Load { packets: packets.saturating_sub(load.packets), bytes: bytes.saturating_sub(load.bytes) },
    );
    (VNET_LEN + len, load)
}

/// The description from which the header of a super-packet was made.
fn segments(header: &VnetHeader) -> Segments {
    Segments {
        is_tcp: header.gso_type != VnetHeader::GSO_UDP_L4,
        ecn: header.gso_type & VnetHeader::GSO_ECN != 0,
        size: header.gso_size,
        ip_len: header.csum_start,
        header_len: header.hdr_len,
    }
}

/// Since the fixed point: enough for five centuries.
#[inline]
fn nanoseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}
