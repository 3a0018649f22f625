//! Packets for this module's tests, built independently of the code under test: field by field, with a checksum that
//! adds one word at a time.

use super::Segments;
use crate::wire::{VnetHeader, inspect};
use proptest::prelude::*;

/// The ones'-complement sum as RFC 1071 defines it.
pub(super) fn naive_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// The fields of a packet; lengths and checksums follow from them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Packet {
    pub(super) flow: u8,
    pub(super) tos: u8,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    pub(super) ttl: u8,
    pub(super) ip_options: Vec<u8>,
    pub(super) is_tcp: bool,
    pub(super) sequence: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) urgent: u16,
    pub(super) tcp_options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// Returns bytes without two equal parts.
pub(super) fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

impl Packet {
    pub(super) fn tcp(sequence: u32, payload: &[u8]) -> Packet {
        Packet {
            flow: 1,
            tos: 0,
            id: 7,
            dont_fragment: true,
            ttl: 64,
            ip_options: Vec::new(),
            is_tcp: true,
            sequence,
            ack: 0x1122_3344,
            flags: 0x10,
            window: 501,
            urgent: 0,
            tcp_options: Vec::new(),
            payload: payload.to_vec(),
        }
    }

    pub(super) fn udp(payload: &[u8]) -> Packet {
        Packet { is_tcp: false, ..Packet::tcp(0, payload) }
    }

    /// Cuts the packet into segments of `size` payload bytes.
    pub(super) fn cut(&self, size: usize) -> Vec<Packet> {
        let count = self.payload.len().div_ceil(size);
        let segment = |(number, piece): (usize, &[u8])| Packet {
            id: self.id.wrapping_add(number as u16),
            sequence: self.sequence.wrapping_add((number * size) as u32),
            flags: if number + 1 < count { self.flags & !0x09 } else { self.flags }
                & if number > 0 { !0x80 } else { 0xff },
            payload: piece.to_vec(),
            ..self.clone()
        };
        self.payload.chunks(size).enumerate().map(segment).collect()
    }

    pub(super) fn ip_len(&self) -> usize {
        20 + self.ip_options.len()
    }

    pub(super) fn header_len(&self) -> usize {
        self.ip_len() + if self.is_tcp { 20 + self.tcp_options.len() } else { 8 }
    }

    /// Returns the packet as on a wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.unfinished();
        let at = self.ip_len();
        let transport = &bytes[at..];
        let checksum = match (!naive_sum(transport), self.is_tcp) {
            (0, false) => 0xffff,
            (checksum, _) => checksum,
        };
        bytes[self.checksum_at()..][..2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Returns the packet with the pseudo header's sum in place of the checksum.
    pub(super) fn unfinished(&self) -> Vec<u8> {
        let total_len = self.header_len() + self.payload.len();
        let mut ip = vec![0; self.ip_len()];
        ip[0] = 0x40 | (self.ip_len() / 4) as u8;
        ip[1] = self.tos;
        ip[2..4].copy_from_slice(&(total_len as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&self.id.to_be_bytes());
        ip[6] = if self.dont_fragment { 0x40 } else { 0 };
        ip[8] = self.ttl;
        ip[9] = if self.is_tcp { 6 } else { 17 };
        ip[12..20].copy_from_slice(&[192, 0, 2, 1, 10, 0, 0, self.flow]);
        ip[20..].copy_from_slice(&self.ip_options);
        let checksum = !naive_sum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());

        let transport_len = total_len - ip.len();
        let mut pseudo_header = [&ip[12..20], &[0, ip[9]]].concat();
        pseudo_header.extend_from_slice(&(transport_len as u16).to_be_bytes());
        let mut transport = [443_u16.to_be_bytes(), (50_000 + u16::from(self.flow)).to_be_bytes()].concat();
        if self.is_tcp {
            transport.extend_from_slice(&self.sequence.to_be_bytes());
            transport.extend_from_slice(&self.ack.to_be_bytes());
            transport.extend_from_slice(&[((20 + self.tcp_options.len()) / 4 * 16) as u8, self.flags]);
            transport.extend_from_slice(&self.window.to_be_bytes());
            transport.extend_from_slice(&naive_sum(&pseudo_header).to_be_bytes());
            transport.extend_from_slice(&self.urgent.to_be_bytes());
            transport.extend_from_slice(&self.tcp_options);
        } else {
            transport.extend_from_slice(&(transport_len as u16).to_be_bytes());
            transport.extend_from_slice(&naive_sum(&pseudo_header).to_be_bytes());
        }
        [ip, transport, self.payload.clone()].concat()
    }

    pub(super) fn checksum_at(&self) -> usize {
        self.ip_len() + if self.is_tcp { 16 } else { 6 }
    }

    /// Returns the description of a super-packet with these fields.
    pub(super) fn segments(&self, size: usize) -> Segments {
        Segments {
            is_tcp: self.is_tcp,
            ecn: false,
            size: size as u16,
            ip_len: self.ip_len() as u16,
            header_len: self.header_len() as u16,
        }
    }

    /// Returns the same description as the kernel writes it.
    pub(super) fn vnet(&self, size: usize) -> VnetHeader {
        VnetHeader {
            flags: 1,
            gso_type: if self.is_tcp { 1 } else { 5 },
            hdr_len: self.header_len() as u16,
            gso_size: size as u16,
            csum_start: self.ip_len() as u16,
            csum_offset: if self.is_tcp { 16 } else { 6 },
        }
    }
}

/// Returns whether this is one whole packet with correct checksums.
pub(super) fn is_sound(packet: &[u8]) -> bool {
    let Ok(view) = inspect(packet) else { return false };
    let (ip, transport) = packet.split_at(view.header_len);
    let mut pseudo_header = [&ip[12..20], &[0, ip[9]]].concat();
    pseudo_header.extend_from_slice(&(transport.len() as u16).to_be_bytes());
    let lens_agree = ip[9] == 6 || transport[4..6] == (transport.len() as u16).to_be_bytes();
    let has_checksum = ip[9] == 6 || transport[6..8] != [0, 0];
    let sums = [naive_sum(ip), naive_sum(&[pseudo_header.as_slice(), transport].concat())];
    lens_agree && has_checksum && sums == [0xffff; 2]
}

/// A packet with any fields, and the payload of its segments.
pub(super) fn super_packet() -> impl Strategy<Value = (Packet, usize)> {
    let ip = (any::<u8>(), any::<u16>(), any::<bool>(), any::<u8>(), 0..=10_usize);
    // Without URG, whose pointer has its own test, and without SYN and RST, which no super-packet has.
    let tcp = (any::<bool>(), any::<u32>(), any::<u8>().prop_map(|flags| flags & !0x26), any::<u16>(), 0..=10_usize);
    (ip, tcp, 32_usize..1500, 2_usize..100, any::<prop::sample::Index>()).prop_map(|(ip, tcp, size, count, last)| {
        let (tos, id, dont_fragment, ttl, ip_words) = ip;
        let (is_tcp, sequence, flags, window, tcp_words) = tcp;
        let len = (size * (count - 1) + last.index(size) + 1).min(65535 - 120);
        let packet = Packet {
            tos,
            id,
            dont_fragment,
            ttl,
            ip_options: vec![1; ip_words * 4],
            is_tcp,
            flags,
            window,
            tcp_options: payload(if is_tcp { tcp_words * 4 } else { 0 }),
            ..Packet::tcp(sequence, &payload(len))
        };
        (packet, size)
    })
}
