//! Inner packets that a test makes and reads by hand: IPv4 (RFC 791), UDP (RFC 768), TCP (RFC 9293). Nothing of the
//! library's is used, so that a mistake there is not made here too.
//!
//! Use from an integration test: `#[path = "../support/inner.rs"] mod inner;`
#![allow(dead_code, clippy::unwrap_used)]

use std::net::Ipv4Addr;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Bits of the field that the fragment offset is in.
pub(crate) const DF: u16 = 0x4000;
pub(crate) const MF: u16 = 0x2000;

/// TCP's flags.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;
pub(crate) const ECE: u8 = 64;
pub(crate) const CWR: u8 = 128;

/// What stands in a transport header's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Right,
    Wrong,
    /// UDP may do without.
    Zero,
    /// The sum of the pseudo header: somebody else will complete it.
    Pseudo,
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) source: Ipv4Addr,
    pub(crate) target: Ipv4Addr,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) options: Vec<u8>,
}

impl Ip {
    pub(crate) fn new(source: Ipv4Addr, target: Ipv4Addr) -> Ip {
        Ip { source, target, tos: 0, id: 1, fragment: 0, ttl: 64, options: Vec::new() }
    }

    pub(crate) fn header_len(&self) -> usize {
        20 + self.options.len()
    }

    pub(crate) fn packet(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        assert_eq!(self.options.len() % 4, 0);
        let mut packet = vec![0x40 | (self.header_len() / 4) as u8, self.tos];
        packet.extend(((self.header_len() + transport.len()) as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.ttl, protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.target.octets());
        packet.extend(&self.options);
        let checksum = !sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(transport);
        packet
    }

    pub(crate) fn udp(&self, (from, to): (u16, u16), payload: &[u8], checksum: Sum) -> Vec<u8> {
        let mut datagram = Vec::new();
        for field in [from, to, (8 + payload.len()) as u16, 0] {
            datagram.extend(field.to_be_bytes());
        }
        datagram.extend(payload);
        self.put_sum(UDP, &mut datagram, 6, checksum);
        self.packet(UDP, &datagram)
    }

    pub(crate) fn tcp(&self, ports: (u16, u16), tcp: &Tcp, payload: &[u8], checksum: Sum) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(ports.0.to_be_bytes());
        segment.extend(ports.1.to_be_bytes());
        segment.extend(tcp.seq.to_be_bytes());
        segment.extend(tcp.ack.to_be_bytes());
        segment.extend([(5 + tcp.options.len() / 4) as u8 * 16, tcp.flags]);
        segment.extend(tcp.window.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(tcp.urgent.to_be_bytes());
        segment.extend(&tcp.options);
        segment.extend(payload);
        self.put_sum(TCP, &mut segment, 16, checksum);
        self.packet(TCP, &segment)
    }

    fn put_sum(&self, protocol: u8, transport: &mut [u8], at: usize, kind: Sum) {
        let pseudo = pseudo_sum(self.source, self.target, protocol, transport.len());
        let right = match !add(pseudo, sum(transport)) {
            0 if protocol == UDP => 0xffff,
            other => other,
        };
        let value = match kind {
            Sum::Right => right,
            // Neither the right one nor UDP's "none".
            Sum::Wrong => (right ^ 0x1111).max(1),
            Sum::Zero => 0,
            Sum::Pseudo => pseudo,
        };
        transport[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// A TCP header without the ports.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
}

impl Tcp {
    pub(crate) fn new(seq: u32, flags: u8) -> Tcp {
        Tcp { seq, ack: 1, flags, window: 65_000, urgent: 0, options: Vec::new() }
    }
}

/// An IPv4 packet as it was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) whole: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Panics when it is no whole packet with a right header: nothing else may come out of a tunnel.
    pub(crate) fn new(whole: &'a [u8]) -> Seen<'a> {
        let seen = Seen { whole };
        assert!(whole.len() >= 20 && whole[0] >> 4 == 4, "no IPv4 packet: {whole:02x?}");
        assert!(seen.header_len() >= 20 && seen.header_len() <= whole.len(), "header length: {whole:02x?}");
        assert_eq!(usize::from(seen.word(2)), whole.len(), "total length: {:02x?}", &whole[..20]);
        match seen.protocol() {
            UDP => assert!(seen.transport().len() >= 8, "no whole UDP header: {whole:02x?}"),
            TCP => assert!(seen.data_offset() >= 20 && seen.data_offset() <= seen.transport().len(), "{whole:02x?}"),
            _ => {}
        }
        seen
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.whole[at], self.whole[at + 1]])
    }

    pub(crate) fn header_len(&self) -> usize {
        usize::from(self.whole[0] & 15) * 4
    }

    pub(crate) fn tos(&self) -> u8 {
        self.whole[1]
    }

    pub(crate) fn id(&self) -> u16 {
        self.word(4)
    }

    pub(crate) fn fragment(&self) -> u16 {
        self.word(6)
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.whole[9]
    }

    pub(crate) fn source(&self) -> Ipv4Addr {
        self.whole[12..16].first_chunk::<4>().copied().unwrap().into()
    }

    pub(crate) fn target(&self) -> Ipv4Addr {
        self.whole[16..20].first_chunk::<4>().copied().unwrap().into()
    }

    pub(crate) fn options(&self) -> &'a [u8] {
        &self.whole[20..self.header_len()]
    }

    pub(crate) fn transport(&self) -> &'a [u8] {
        &self.whole[self.header_len()..]
    }

    pub(crate) fn ports(&self) -> (u16, u16) {
        (self.word(self.header_len()), self.word(self.header_len() + 2))
    }

    fn data_offset(&self) -> usize {
        usize::from(self.transport()[12] >> 4) * 4
    }

    /// Behind the UDP or TCP header.
    pub(crate) fn payload(&self) -> &'a [u8] {
        let header = if self.protocol() == TCP { self.data_offset() } else { 8 };
        &self.transport()[header..]
    }

    pub(crate) fn seq(&self) -> u32 {
        u32::from_be_bytes(*self.transport()[4..].first_chunk().unwrap())
    }

    pub(crate) fn ack(&self) -> u32 {
        u32::from_be_bytes(*self.transport()[8..].first_chunk().unwrap())
    }

    pub(crate) fn flags(&self) -> u8 {
        self.transport()[13]
    }

    pub(crate) fn window(&self) -> u16 {
        self.word(self.header_len() + 14)
    }

    pub(crate) fn urgent(&self) -> u16 {
        self.word(self.header_len() + 18)
    }

    /// UDP's or TCP's checksum as it stands there.
    pub(crate) fn checksum(&self) -> u16 {
        self.word(self.header_len() + if self.protocol() == TCP { 16 } else { 6 })
    }

    pub(crate) fn has_right_header_sum(&self) -> bool {
        sum(&self.whole[..self.header_len()]) == 0xffff
    }

    fn pseudo_sum(&self) -> u16 {
        pseudo_sum(self.source(), self.target(), self.protocol(), self.transport().len())
    }

    /// UDP without a checksum has a right one (RFC 768).
    pub(crate) fn has_right_sum(&self) -> bool {
        (self.protocol() == UDP && self.checksum() == 0) || add(self.pseudo_sum(), sum(self.transport())) == 0xffff
    }

    /// In the checksum's place is what somebody else has to complete.
    pub(crate) fn has_pseudo_sum(&self) -> bool {
        self.checksum() == self.pseudo_sum()
    }
}

/// The sum of RFC 1071, not inverted.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    fold(words.sum())
}

pub(crate) fn pseudo_sum(source: Ipv4Addr, target: Ipv4Addr, protocol: u8, length: usize) -> u16 {
    let addresses = add(sum(&source.octets()), sum(&target.octets()));
    fold(u64::from(addresses) + u64::from(protocol) + length as u64)
}

pub(crate) fn add(one: u16, other: u16) -> u16 {
    fold(u64::from(one) + u64::from(other))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
