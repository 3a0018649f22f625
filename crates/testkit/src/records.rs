//! Builds bundles and their records by hand, and checks them by the rules of docs/wire.md, without the library's code.

use crate::inner::{ACK, Ip, MF, Seen, Sum, TCP, Tcp, UDP};
use crate::noise::{Noise, noise};
use crate::wire::{BUNDLE_RECV, BUNDLE_SEND, PING, PONG, VPN_RECV, VPN_SEND, op};

/// The unfinished work on a packet, with the fields of docs/wire.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vnet {
    /// 1: the checksum is incomplete.
    pub flags: u8,
    /// 0: one packet; 1: TCP, with 0x80 for ECN; 5: UDP.
    pub gso_type: u8,
    /// The length of the headers, which a receiver ignores.
    pub hdr_len: u16,
    /// The payload of each segment.
    pub gso_size: u16,
    /// The offset from which the checksum is computed.
    pub csum_start: u16,
    /// The offset of the checksum field from there.
    pub csum_offset: u16,
}

impl Vnet {
    /// A UDP super-packet without IP options.
    pub fn udp(gso_size: u16) -> Vnet {
        Vnet { flags: 1, gso_type: 5, hdr_len: 28, gso_size, csum_start: 20, csum_offset: 6 }
    }

    /// A TCP super-packet without IP options.
    pub fn tcp(gso_size: u16) -> Vnet {
        Vnet { flags: 1, gso_type: 1, hdr_len: 40, gso_size, csum_start: 20, csum_offset: 16 }
    }
}

/// A record of a bundle.
pub fn record(vnet: Vnet, packet: &[u8]) -> Vec<u8> {
    let mut record = (packet.len() as u16).to_le_bytes().to_vec();
    record.extend([vnet.flags, vnet.gso_type]);
    for field in [vnet.hdr_len, vnet.gso_size, vnet.csum_start, vnet.csum_offset] {
        record.extend(field.to_le_bytes());
    }
    record.extend(packet);
    record
}

/// Counts of the received VPN packets and their contents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Got {
    /// Bundles.
    pub bundles: usize,
    /// Records in them.
    pub records: usize,
    /// Super-packets among the records.
    pub supers: usize,
    /// Plain packets.
    pub plain: usize,
}

/// Returns the packets in a VPN packet for a peer that accepts bundles of at most `limit` bytes. Each is checked; a
/// super-packet comes with its segments' payload size.
pub fn packets_of(vpn: &[u8], limit: usize, got: &mut Got) -> Vec<(Vec<u8>, Option<usize>)> {
    let size = u32::from_le_bytes(*vpn[12..].first_chunk().unwrap()) as usize;
    let data = &vpn[20..];
    match op(vpn) {
        VPN_SEND | VPN_RECV => {
            assert_eq!(size, data.len());
            got.plain += 1;
            check_complete(&Seen::new(data));
            vec![(data.to_vec(), None)]
        }
        BUNDLE_SEND | BUNDLE_RECV => {
            assert_eq!(size, data.len());
            assert!(size <= limit, "a bundle of {size} bytes for a peer that accepts {limit}");
            assert!(size > 0, "an empty bundle");
            got.bundles += 1;
            let packets = records(data);
            got.records += packets.len();
            got.supers += packets.iter().filter(|(_, size)| size.is_some()).count();
            packets
        }
        PING | PONG => Vec::new(),
        other => panic!("op {other:#x} carries no packet"),
    }
}

fn records(mut data: &[u8]) -> Vec<(Vec<u8>, Option<usize>)> {
    let mut packets = Vec::new();
    while !data.is_empty() {
        assert!(data.len() > 12, "truncated record: {data:02x?}");
        let number = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
        let vnet = Vnet {
            flags: data[2],
            gso_type: data[3],
            hdr_len: number(4),
            gso_size: number(6),
            csum_start: number(8),
            csum_offset: number(10),
        };
        let end = 12 + usize::from(number(0));
        assert!(end > 12 && end <= data.len(), "a record of {end} bytes, of which {} are present", data.len());
        let packet = &data[12..end];
        packets.push((packet.to_vec(), check(vnet, &Seen::new(packet))));
        data = &data[end..];
    }
    packets
}

/// Checks header and packet by docs/wire.md; returns the payload size of a super-packet's segments.
fn check(vnet: Vnet, seen: &Seen<'_>) -> Option<usize> {
    let what = format!("{vnet:?}, {:02x?}", &seen.whole[..seen.whole.len().min(60)]);
    assert!(seen.has_right_header_sum(), "{what}");
    if vnet.flags == 0 {
        assert_eq!(vnet.gso_type, 0, "{what}");
        check_complete(seen);
        return None;
    }
    assert_eq!(vnet.flags, 1, "{what}");
    assert!(seen.has_pseudo_sum(), "the checksum field does not hold the pseudo header's sum: {what}");
    assert_eq!(seen.fragment() & (MF | 0x1fff), 0, "a fragment: {what}");
    assert_eq!(usize::from(vnet.csum_start), seen.header_len(), "{what}");
    let (protocol, offset) = if seen.protocol() == TCP { (TCP, 16) } else { (UDP, 6) };
    assert_eq!((seen.protocol(), vnet.csum_offset), (protocol, offset), "{what}");
    let size = usize::from(vnet.gso_size);
    match vnet.gso_type {
        0 => return None,
        1 | 0x81 => assert!(protocol == TCP && size >= 32, "{what}"),
        5 => assert!(protocol == UDP && size >= 1 && seen.payload().len().div_ceil(size) <= 128, "{what}"),
        other => panic!("gso_type {other}: {what}"),
    }
    assert!(seen.payload().len() > size, "a super-packet of one segment: {what}");
    let segments = seen.payload().len().div_ceil(size);
    let headers = (segments - 1) * (seen.whole.len() - seen.payload().len());
    assert!(2 * headers <= seen.whole.len(), "{} bytes with {headers} of headers to come: {what}", seen.whole.len());
    Some(size)
}

fn check_complete(seen: &Seen<'_>) {
    let what = format!("{:02x?}", &seen.whole[..seen.whole.len().min(60)]);
    assert!(seen.has_right_header_sum(), "IP header: {what}");
    let is_fragment = seen.fragment() & (MF | 0x1fff) != 0;
    let has_ports = [TCP, UDP].contains(&seen.protocol());
    assert!(is_fragment || !has_ports || seen.has_right_sum(), "checksum: {what}");
    assert!(seen.whole.len() <= 1390, "{} bytes in one packet, the MTU is 1390", seen.whole.len());
}

/// Returns a record of each kind that a receiver accepts.
pub fn one_of_each(ip: &Ip, ports: (u16, u16)) -> [Vec<u8>; 4] {
    [
        record(Vnet::default(), &ip.udp(ports, b"plain", Sum::Right)),
        record(Vnet::udp(60), &ip.udp(ports, &noise(4, 170), Sum::Pseudo)),
        record(Vnet::tcp(90), &ip.tcp(ports, &Tcp::new(7, ACK), &noise(5, 210), Sum::Pseudo)),
        record(Vnet { flags: 1, gso_type: 0, ..Vnet::udp(0) }, &ip.udp(ports, b"unfinished", Sum::Pseudo)),
    ]
}

/// Returns the data of a bundle: some of these records with a few bytes changed, or random bytes.
pub fn random_bundle(noise: &mut Noise, good: &[Vec<u8>]) -> Vec<u8> {
    let mut data = Vec::new();
    if noise.below(4) == 0 {
        let size = noise.below(600);
        data = noise.bytes(size);
    } else {
        for _ in 0..1 + noise.below(5) {
            let mut record = good[noise.below(good.len())].clone();
            for _ in 0..noise.below(4) {
                // Changes the record's and the packet's headers rather than the payload.
                let at = noise.below(record.len().min(56));
                record[at] = match noise.below(3) {
                    0 => noise.below(256) as u8,
                    1 => record[at] ^ (1 << noise.below(8)),
                    _ => [0, 1, 0x7f, 0xff][noise.below(4)],
                };
            }
            data.extend(record);
        }
        if noise.below(8) == 0 {
            data.truncate(noise.below(data.len()));
        }
    }
    data
}
