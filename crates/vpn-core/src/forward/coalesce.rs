//! Merges the segments of a flow into super-packets, as a network card or the kernel's GRO does: the host's stack then
//! handles one packet instead of all segments.

use super::checksum::Sum;
use super::fields::*;
use super::offload::{
    IP_HEADER, MIN_TCP_SEGMENT, Offload, Segments, TCP, TCP_CHECKSUM, TCP_HEADER, UDP, UDP_CHECKSUM, UDP_HEADER,
};
use crate::wire::Ipv4View;

/// The maximum of the total length field, in bytes.
const MAX_PACKET: usize = 65535;
/// The datagrams in one super-packet: as many as every Linux with UDP super-packets accepts (its `UDP_MAX_SEGMENTS` was
/// 64, then 128).
const MAX_DATAGRAMS: usize = 64;

/// Merges consecutive packets into super-packets, and keeps their order: there is one open super-packet, which is
/// emitted before a packet that does not fit into it.
///
/// It merges only packets that [`split`](super::split) restores identically, except for the ids of packets that must
/// not be fragmented, which are meaningless (RFC 6864). It leaves a corrupted packet alone: inside a super-packet the
/// packet would get a new, correct checksum. It merges a packet whose checksum is still to be completed, as a host
/// sends its own, without checking the payload.
#[derive(Debug)]
pub struct Coalescer {
    buffer: Box<[u8]>,
    open: Option<Open>,
    udp: bool,
}

/// The packets in the buffer: the first one unchanged, then the payloads of the others.
#[derive(Clone, Copy, Debug)]
struct Open {
    len: usize,
    packets: usize,
    /// The payload of each segment but the last, in bytes.
    size: usize,
    last: Shape,
    /// The unfinished work on the first packet, if it stays alone.
    alone: Offload,
    /// Whether the first packet's checksums were verified. The coalescer verifies them when the next packet fits, which
    /// spares the work for a packet that stays alone.
    verified: bool,
}

/// A packet that may be part of a super-packet, if its checksums are correct.
#[derive(Clone, Copy, Debug)]
struct Shape {
    header_len: usize,
    payload: usize,
    id: u16,
    /// `None`: UDP.
    tcp: Option<Tcp>,
    /// The checksum is still to be completed: its field has the pseudo header's sum.
    is_partial: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tcp {
    sequence: u32,
    /// The packet ends its super-packet: the sender wants it delivered at once.
    push: bool,
}

enum Appended {
    /// Appended; more packets may follow.
    Open,
    /// Appended as the last packet.
    Complete,
    /// Not part of the open super-packet; the state of the packet's checksums.
    No(Checksums),
}

#[derive(PartialEq)]
enum Checksums {
    Unknown,
    Right,
    Wrong,
}

impl Coalescer {
    /// Creates an empty coalescer with a buffer for the largest packet. With `udp` it also merges UDP datagrams, which
    /// kernels before 6.2 do not accept from a TUN device.
    pub fn new(udp: bool) -> Coalescer {
        Coalescer { buffer: vec![0; MAX_PACKET].into(), open: None, udp }
    }

    /// Returns whether no packet waits to be emitted.
    pub fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Adds the next packet, with the result of [`Offload::check`]. Emits completed packets, none, one or two, each
    /// with its unfinished work.
    pub fn push(&mut self, packet: &[u8], view: &Ipv4View, offload: &Offload, emit: &mut impl FnMut(&Offload, &[u8])) {
        let Some(shape) = Shape::of(packet, view, offload, self.udp) else { return self.pass(packet, offload, emit) };
        match self.append(packet, &shape) {
            Appended::Open => {}
            Appended::Complete => self.flush(emit),
            Appended::No(checksums) if checksums == Checksums::Wrong || !shape.can_be_first() => {
                self.pass(packet, offload, emit);
            }
            Appended::No(checksums) => {
                self.flush(emit);
                self.begin(packet, shape, offload, checksums == Checksums::Right);
            }
        }
    }

    /// Emits the waiting packet. The caller calls this when no packet follows at once, so that no packet is delayed.
    pub fn flush(&mut self, emit: &mut impl FnMut(&Offload, &[u8])) {
        let Some(open) = self.open.take() else { return };
        let Some(packet) = self.buffer.get_mut(..open.len) else { return };
        if open.packets == 1 {
            emit(&open.alone, packet);
        } else if let Some(offload) = open.describe(packet) {
            emit(&offload, packet);
        }
    }

    /// Emits a packet that cannot be merged with any other.
    fn pass(&mut self, packet: &[u8], offload: &Offload, emit: &mut impl FnMut(&Offload, &[u8])) {
        self.flush(emit);
        emit(offload, packet);
    }

    fn begin(&mut self, packet: &[u8], shape: Shape, alone: &Offload, verified: bool) {
        if let Some(space) = self.buffer.get_mut(..packet.len()) {
            space.copy_from_slice(packet);
            let (len, size, alone) = (packet.len(), shape.payload, *alone);
            self.open = Some(Open { len, packets: 1, size, last: shape, alone, verified });
        }
    }

    fn append(&mut self, packet: &[u8], shape: &Shape) -> Appended {
        let unrelated = Appended::No(Checksums::Unknown);
        let Some(open) = &mut self.open else { return unrelated };
        let Some((filled, spare)) = self.buffer.split_at_mut_checked(open.len) else { return unrelated };
        let (Some(payload), Some(spare)) = (packet.get(shape.header_len..), spare.get_mut(..shape.payload)) else {
            return unrelated;
        };
        if shape.payload > open.size || !shape.follows(&open.last, filled, packet) {
            return unrelated;
        }
        if !shape.is_intact(packet) {
            return Appended::No(Checksums::Wrong);
        }
        open.verified = open.verified || open.last.is_intact(filled);
        if !open.verified {
            return Appended::No(Checksums::Right);
        }
        spare.copy_from_slice(payload);
        open.len += payload.len();
        open.packets += 1;
        open.last = *shape;
        let is_last = match shape.tcp {
            Some(tcp) => tcp.push,
            None => open.packets == MAX_DATAGRAMS,
        };
        if is_last || shape.payload < open.size { Appended::Complete } else { Appended::Open }
    }
}

impl Open {
    /// Turns the first packet's headers into those of the super-packet.
    fn describe(&self, packet: &mut [u8]) -> Option<Offload> {
        let (total_len, addresses) = (packet.len() as u16, get(packet, IP_ADDRESSES)?);
        let (ip, transport) = packet.split_at_mut_checked(IP_HEADER)?;
        put(ip, IP_LEN, total_len.to_be_bytes())?;
        put(ip, IP_CHECKSUM, [0; 2])?;
        put(ip, IP_CHECKSUM, Sum::of(ip).checksum().to_be_bytes())?;
        let len = transport.len() as u16;
        let (protocol, checksum_at) = match self.last.tcp {
            Some(tcp) => {
                let [flags] = get(transport, TCP_FLAGS)?;
                put(transport, TCP_FLAGS, [if tcp.push { flags | PSH } else { flags }])?;
                (TCP, TCP_CHECKSUM)
            }
            None => {
                put(transport, UDP_LEN, len.to_be_bytes())?;
                (UDP, UDP_CHECKSUM)
            }
        };
        let sum = Sum::of_pseudo_header(&addresses, protocol, len);
        put(transport, checksum_at.into(), sum.fold().to_be_bytes())?;
        let (is_tcp, size, header_len) = (self.last.tcp.is_some(), self.size as u16, self.last.header_len as u16);
        let segments = Segments { is_tcp, ecn: false, size, ip_len: IP_HEADER as u16, header_len };
        Some(Offload::Segments(segments))
    }
}

impl Shape {
    /// Returns `None` for a packet that is never merged.
    fn of(packet: &[u8], view: &Ipv4View, offload: &Offload, udp: bool) -> Option<Shape> {
        let (ip, transport) = packet.split_first_chunk::<IP_HEADER>()?;
        let flags = u16::from_be_bytes(get(ip, IP_FLAGS)?);
        if view.header_len != IP_HEADER || packet.len() > MAX_PACKET || flags & !DONT_FRAGMENT != 0 {
            return None;
        }
        let (len, tcp) = match view.protocol {
            TCP => {
                let [len, flags] = get(transport, TCP_DATA_OFFSET)?;
                let sequence = u32::from_be_bytes(get(transport, TCP_SEQUENCE)?);
                // The low bits beside the length are reserved, or belong to an extension with its own flags.
                let is_plain = flags & !PSH == ACK && len & 0x0f == 0;
                let len = usize::from(len >> 4) * 4;
                let tcp = Tcp { sequence, push: flags & PSH != 0 };
                (is_plain && len >= TCP_HEADER).then_some((len, Some(tcp)))?
            }
            UDP if udp => {
                let is_whole = usize::from(u16::from_be_bytes(get(transport, UDP_LEN)?)) == transport.len();
                let has_checksum = get(transport, UDP_CHECKSUM.into())? != [0; 2];
                (is_whole && has_checksum).then_some((UDP_HEADER, None))?
            }
            _ => return None,
        };
        let own_checksum = if tcp.is_some() { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let is_partial = match *offload {
            Offload::None => false,
            Offload::Checksum { start, offset } if usize::from(start) == IP_HEADER && offset == own_checksum => true,
            _ => return None,
        };
        let payload = transport.len().checked_sub(len).filter(|payload| *payload > 0)?;
        Some(Shape { header_len: IP_HEADER + len, payload, id: u16::from_be_bytes(get(ip, IP_ID)?), tcp, is_partial })
    }

    fn can_be_first(&self) -> bool {
        self.tcp.is_none_or(|tcp| !tcp.push && self.payload >= usize::from(MIN_TCP_SEGMENT))
    }

    /// Returns whether `packet`, of this shape, is the next packet of the sender of `last`, and agrees with `first`,
    /// the first packet of the super-packet, in all fields that a super-packet has only once.
    fn follows(&self, last: &Shape, first: &[u8], packet: &[u8]) -> bool {
        let same = |from: usize, to: usize| first.get(from..to) == packet.get(from..to);
        let transport = |at: usize| IP_HEADER + at;
        let in_sequence = match (last.tcp, self.tcp) {
            (Some(last_tcp), Some(tcp)) => {
                last_tcp.sequence.wrapping_add(last.payload as u32) == tcp.sequence
                    && self.header_len == last.header_len
                    && same(transport(TCP_ACK), transport(TCP_DATA_OFFSET))
                    && same(transport(TCP_WINDOW), transport(TCP_CHECKSUM.into()))
                    && same(transport(TCP_URGENT), self.header_len)
            }
            (None, None) => true,
            _ => false,
        };
        in_sequence
            // The IPv4 header without lengths, id and checksum, and both ports.
            && same(0, IP_LEN)
            && same(IP_FLAGS, IP_CHECKSUM)
            && same(IP_ADDRESSES, transport(PORTS_END))
            && (self.id == last.id.wrapping_add(1) || get(packet, IP_FLAGS) == Some(DONT_FRAGMENT.to_be_bytes()))
    }

    fn is_intact(&self, packet: &[u8]) -> bool {
        let (protocol, place) = if self.tcp.is_some() { (TCP, TCP_CHECKSUM) } else { (UDP, UDP_CHECKSUM) };
        let addresses = get(packet, IP_ADDRESSES);
        packet.split_at_checked(IP_HEADER).zip(addresses).is_some_and(|((ip, transport), addresses)| {
            let pseudo_header = Sum::of_pseudo_header(&addresses, protocol, transport.len() as u16);
            let is_right = match self.is_partial {
                true => get(transport, place.into()) == Some(pseudo_header.fold().to_be_bytes()),
                false => (pseudo_header + Sum::of(transport)).is_intact(),
            };
            Sum::of(ip).is_intact() && is_right
        })
    }
}

#[cfg(test)]
mod tests;
