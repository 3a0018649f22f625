//! Packets as a TUN queue provides them, and a queue that takes and gives them.

use std::time::Duration;

use vpn_core::forward::{Load, Offload, split};
use vpn_core::queue::{Events, Limits, Memory, Queue};
use vpn_core::wire::{VNET_LEN, VnetHeader};

/// What any packet and its header fit into.
pub(crate) const LARGEST: usize = 65_545;
/// The headers of a TCP packet, in bytes.
pub(crate) const TCP_HEADERS: usize = 40;

/// The sum of RFC 1071, one word at a time.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    !bytes.chunks(2).fold(0, |sum: u16, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum + u16::from(carry)
    })
}

fn ip(protocol: u8, tos: u8, transport: &[u8]) -> Vec<u8> {
    let len = (20 + transport.len()) as u16;
    let mut packet = vec![0x45, tos, 0, 0, 0, 7, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 10, 0, 0, 2];
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(transport);
    packet
}

/// A datagram of `len` bytes with its headers. `number` is in the first eight bytes of its payload.
pub(crate) fn udp(port: u16, number: u64, len: usize) -> Vec<u8> {
    let mut transport = vec![0; len - 20];
    transport[..2].copy_from_slice(&port.to_be_bytes());
    transport[4..6].copy_from_slice(&((len - 20) as u16).to_be_bytes());
    transport[8..16].copy_from_slice(&number.to_be_bytes());
    ip(17, 0, &transport)
}

/// A TCP packet or super-packet with this payload, its checksum unfinished.
pub(crate) fn tcp(port: u16, tos: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let pseudo_header = [&[192, 0, 2, 1, 10, 0, 0, 2, 0, 6], len.to_be_bytes().as_slice()].concat();
    let mut transport = vec![0; 20];
    transport[..2].copy_from_slice(&port.to_be_bytes());
    transport[4..8].copy_from_slice(&sequence.to_be_bytes());
    (transport[12], transport[13]) = (0x50, 0x10);
    transport[16..18].copy_from_slice(&(!checksum(&pseudo_header)).to_be_bytes());
    transport.extend_from_slice(payload);
    ip(6, tos, &transport)
}

/// The header of a TCP super-packet of segments of `size` bytes, or of an unfinished packet.
pub(crate) fn unfinished(size: usize) -> VnetHeader {
    VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: if size > 0 { VnetHeader::GSO_TCPV4 } else { VnetHeader::GSO_NONE },
        hdr_len: TCP_HEADERS as u16,
        gso_size: size as u16,
        csum_start: 20,
        csum_offset: 16,
    }
}

/// The source port, and the TCP sequence number or the number of the datagram.
pub(crate) fn label(packet: &[u8]) -> (u16, u64) {
    let port = u16::from_be_bytes([packet[20], packet[21]]);
    let number = match packet[9] {
        6 => u64::from(u32::from_be_bytes(*packet[24..].first_chunk().unwrap())),
        _ => u64::from_be_bytes(*packet[28..].first_chunk().unwrap()),
    };
    (port, number)
}

/// The packets that this one is on a wire without super-packets.
pub(crate) fn segments(header: &VnetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let (_, offload) = Offload::check(header, packet).unwrap();
    let mut segments = Vec::new();
    split(&mut packet.to_vec(), 0, &offload, |segment| segments.push(segment.to_vec()));
    segments
}

/// A queue with a memory of its own.
pub(crate) struct Line {
    pub(crate) queue: Queue,
    pub(crate) memory: Memory,
    pub(crate) events: Events,
    pub(crate) unit: usize,
    space: Vec<u8>,
}

impl Line {
    pub(crate) fn new(bytes: usize) -> Line {
        Line {
            queue: Queue::new(Limits { bytes }),
            memory: Memory::new(64 << 20, 7),
            events: Events::default(),
            unit: 1514,
            space: vec![0; LARGEST],
        }
    }

    pub(crate) fn push(&mut self, now: Duration, header: &VnetHeader, packet: &[u8]) -> Load {
        let (view, offload) = Offload::check(header, packet).unwrap();
        self.queue.push(&mut self.memory, now, packet, (&view, &offload), self.unit, &mut self.events);
        Load::of(&offload, packet.len())
    }

    pub(crate) fn push_udp(&mut self, now: Duration, port: u16, number: u64, len: usize) {
        self.push(now, &VnetHeader::default(), &udp(port, number, len));
    }

    /// The next packet and its header. Its description must fit it.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<(VnetHeader, Vec<u8>)> {
        let len = self.queue.pop(&mut self.memory, now, &mut self.space, &mut self.events)?;
        let (header, packet) = self.space[..len].split_first_chunk::<VNET_LEN>().unwrap();
        let header = VnetHeader::parse(header);
        Offload::check(&header, packet).unwrap();
        Some((header, packet.to_vec()))
    }

    /// The labels of all that can be popped now.
    pub(crate) fn pop_all(&mut self, now: Duration) -> Vec<(u16, u64)> {
        std::iter::from_fn(|| self.pop(now)).map(|(_, packet)| label(&packet)).collect()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.events.drops().map(|(_, load)| load.packets).sum()
    }
}
