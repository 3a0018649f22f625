//! Builds and reads inner packets by hand: IPv4 (RFC 791), UDP (RFC 768), TCP (RFC 9293). It uses no code of the
//! library, so that both do not share a mistake.

use std::net::Ipv4Addr;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// "Don't fragment", in the field of the fragment offset.
pub const DF: u16 = 0x4000;
/// "More fragments", in the same field.
pub const MF: u16 = 0x2000;

/// TCP's flag FIN.
pub const FIN: u8 = 1;
/// TCP's flag SYN.
pub const SYN: u8 = 2;
/// TCP's flag RST.
pub const RST: u8 = 4;
/// TCP's flag PSH.
pub const PSH: u8 = 8;
/// TCP's flag ACK.
pub const ACK: u8 = 16;
/// TCP's flag URG.
pub const URG: u8 = 32;
/// TCP's flag ECE (RFC 3168).
pub const ECE: u8 = 64;
/// TCP's flag CWR (RFC 3168).
pub const CWR: u8 = 128;

/// The content of a transport header's checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// The correct checksum.
    Right,
    /// A wrong checksum, other than UDP's "none".
    Wrong,
    /// UDP's "none".
    Zero,
    /// The sum of the pseudo header: the receiver completes it.
    Pseudo,
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub struct Ip {
    /// The source address.
    pub source: Ipv4Addr,
    /// The destination address.
    pub target: Ipv4Addr,
    /// DSCP and ECN.
    pub tos: u8,
    /// The identification.
    pub id: u16,
    /// [`DF`], [`MF`] and the fragment offset in units of 8 bytes.
    pub fragment: u16,
    /// The time to live.
    pub ttl: u8,
    /// The options, a multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Ip {
    /// A header of a whole packet with id 1, TTL 64 and no options.
    pub fn new(source: Ipv4Addr, target: Ipv4Addr) -> Ip {
        Ip { source, target, tos: 0, id: 1, fragment: 0, ttl: 64, options: Vec::new() }
    }

    /// The length of the header in bytes.
    pub fn header_len(&self) -> usize {
        20 + self.options.len()
    }

    /// Returns the packet with this header in front of `transport`. Length and header checksum are correct.
    pub fn packet(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
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

    /// Returns the packet with a datagram from one port to another.
    pub fn udp(&self, (from, to): (u16, u16), payload: &[u8], checksum: Sum) -> Vec<u8> {
        let mut datagram = Vec::new();
        for field in [from, to, (8 + payload.len()) as u16, 0] {
            datagram.extend(field.to_be_bytes());
        }
        datagram.extend(payload);
        self.put_sum(UDP, &mut datagram, 6, checksum);
        self.packet(UDP, &datagram)
    }

    /// Returns the packet with a segment from one port to another.
    pub fn tcp(&self, ports: (u16, u16), tcp: &Tcp, payload: &[u8], checksum: Sum) -> Vec<u8> {
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
            Sum::Wrong => (right ^ 0x1111).max(1),
            Sum::Zero => 0,
            Sum::Pseudo => pseudo,
        };
        transport[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// A TCP header without the ports.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// The sequence number.
    pub seq: u32,
    /// The acknowledgement number.
    pub ack: u32,
    /// The flags, such as [`ACK`].
    pub flags: u8,
    /// The window, without scaling.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// The options, a multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Tcp {
    /// A header that acknowledges 1, with a large window and no options.
    pub fn new(seq: u32, flags: u8) -> Tcp {
        Tcp { seq, ack: 1, flags, window: 65_000, urgent: 0, options: Vec::new() }
    }
}

/// A received IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The whole packet.
    pub whole: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Panics unless this is one whole packet with a correct header: a tunnel must deliver nothing else.
    pub fn new(whole: &'a [u8]) -> Seen<'a> {
        let seen = Seen { whole };
        assert!(whole.len() >= 20 && whole[0] >> 4 == 4, "not an IPv4 packet: {whole:02x?}");
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

    /// The length of the IP header in bytes.
    pub fn header_len(&self) -> usize {
        usize::from(self.whole[0] & 15) * 4
    }

    /// DSCP and ECN.
    pub fn tos(&self) -> u8 {
        self.whole[1]
    }

    /// The identification.
    pub fn id(&self) -> u16 {
        self.word(4)
    }

    /// [`DF`], [`MF`] and the fragment offset.
    pub fn fragment(&self) -> u16 {
        self.word(6)
    }

    /// The protocol behind the IP header.
    pub fn protocol(&self) -> u8 {
        self.whole[9]
    }

    /// The source address.
    pub fn source(&self) -> Ipv4Addr {
        self.whole[12..16].first_chunk::<4>().copied().unwrap().into()
    }

    /// The destination address.
    pub fn target(&self) -> Ipv4Addr {
        self.whole[16..20].first_chunk::<4>().copied().unwrap().into()
    }

    /// The IP header's options.
    pub fn options(&self) -> &'a [u8] {
        &self.whole[20..self.header_len()]
    }

    /// Everything behind the IP header.
    pub fn transport(&self) -> &'a [u8] {
        &self.whole[self.header_len()..]
    }

    /// The source and the destination port.
    pub fn ports(&self) -> (u16, u16) {
        (self.word(self.header_len()), self.word(self.header_len() + 2))
    }

    fn data_offset(&self) -> usize {
        usize::from(self.transport()[12] >> 4) * 4
    }

    /// The data behind the UDP or TCP header.
    pub fn payload(&self) -> &'a [u8] {
        let header = if self.protocol() == TCP { self.data_offset() } else { 8 };
        &self.transport()[header..]
    }

    /// TCP's sequence number.
    pub fn seq(&self) -> u32 {
        u32::from_be_bytes(*self.transport()[4..].first_chunk().unwrap())
    }

    /// TCP's acknowledgement number.
    pub fn ack(&self) -> u32 {
        u32::from_be_bytes(*self.transport()[8..].first_chunk().unwrap())
    }

    /// TCP's flags.
    pub fn flags(&self) -> u8 {
        self.transport()[13]
    }

    /// The MSS that TCP's options announce.
    pub fn mss(&self) -> Option<u16> {
        let mut options = &self.transport()[20..self.data_offset()];
        while let [kind, rest @ ..] = options {
            options = match (kind, rest) {
                (0, _) => return None,
                (1, _) => rest,
                (2, [4, high, low, ..]) => return Some(u16::from_be_bytes([*high, *low])),
                (_, [len, ..]) => options.get(usize::from(*len).max(2)..)?,
                _ => return None,
            };
        }
        None
    }

    /// TCP's window.
    pub fn window(&self) -> u16 {
        self.word(self.header_len() + 14)
    }

    /// TCP's urgent pointer.
    pub fn urgent(&self) -> u16 {
        self.word(self.header_len() + 18)
    }

    /// The checksum field of UDP or TCP.
    pub fn checksum(&self) -> u16 {
        self.word(self.header_len() + if self.protocol() == TCP { 16 } else { 6 })
    }

    /// Whether the IP header's checksum is correct.
    pub fn has_right_header_sum(&self) -> bool {
        sum(&self.whole[..self.header_len()]) == 0xffff
    }

    fn pseudo_sum(&self) -> u16 {
        pseudo_sum(self.source(), self.target(), self.protocol(), self.transport().len())
    }

    /// Whether UDP's or TCP's checksum is correct; so is a missing UDP checksum (RFC 768).
    pub fn has_right_sum(&self) -> bool {
        (self.protocol() == UDP && self.checksum() == 0) || add(self.pseudo_sum(), sum(self.transport())) == 0xffff
    }

    /// Whether the checksum field holds the sum of the pseudo header, which the receiver completes.
    pub fn has_pseudo_sum(&self) -> bool {
        self.checksum() == self.pseudo_sum()
    }
}

/// The sum of RFC 1071, not inverted.
pub fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    fold(words.sum())
}

/// The sum of the pseudo header of UDP and TCP over `length` bytes, not inverted.
pub fn pseudo_sum(source: Ipv4Addr, target: Ipv4Addr, protocol: u8, length: usize) -> u16 {
    let addresses = add(sum(&source.octets()), sum(&target.octets()));
    fold(u64::from(addresses) + u64::from(protocol) + length as u64)
}

/// The sum of two sums.
pub fn add(one: u16, other: u16) -> u16 {
    fold(u64::from(one) + u64::from(other))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
