//! Packets that exceed a session's inner MTU, and the ICMP message that tells their sender (RFC 1191).
//!
//! A stream carries packets of any size, and a TUN device accepts them, so a packet that may be fragmented is delivered
//! whole. Only one that must not be fragmented is refused: its sender asks for the path's MTU that way.

use super::checksum::Sum;
use super::fields::{DONT_FRAGMENT, IP_CHECKSUM, IP_FLAGS, IP_LEN, get, put};
use super::offload::{ICMP, IP_HEADER, Offload};
use crate::wire::Ipv4View;
use std::net::Ipv4Addr;

/// The largest ICMP error, in bytes with its IPv4 header (RFC 1812, 4.3.2.3).
pub const MAX_ICMP_ERROR: usize = 576;

const ICMP_HEADER: usize = 8;
/// Where an ICMP error has the MTU of the next hop (RFC 1191).
const ICMP_MTU: usize = 6;
const ICMP_CHECKSUM: usize = 2;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
/// The types of ICMP messages that report no error (IANA): only about these may an error be sent.
const ICMP_QUERIES: [u8; 11] = [0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 30];

/// Returns whether a packet exceeds `mtu` and must not be fragmented. A super-packet counts as its segments.
#[inline]
pub fn is_too_big(packet: &[u8], offload: &Offload, mtu: u16) -> bool {
    offload.largest(packet.len()) > usize::from(mtu) && is_unfragmentable(packet)
}

#[cold]
fn is_unfragmentable(packet: &[u8]) -> bool {
    get(packet, IP_FLAGS).is_some_and(|flags| u16::from_be_bytes(flags) & DONT_FRAGMENT != 0)
}

/// Writes to `out` the ICMP message "fragmentation needed" for a packet, with this next-hop MTU, and returns it. It
/// quotes as much of the packet as fits.
///
/// Its source is the packet's destination, as if the client's end of the tunnel reported its link: a host drops packets
/// from the network that have an address of its own as their source, such as the gateway's.
///
/// Returns `None` for packets about which no error may be sent (RFC 1812, 4.3.2.7): ICMP errors, fragments other than
/// the first, and packets whose source is not one host.
pub fn fragmentation_needed<'a>(
    packet: &[u8],
    view: &Ipv4View,
    mtu: u16,
    out: &'a mut [u8; MAX_ICMP_ERROR],
) -> Option<&'a [u8]> {
    let fragment_offset = u16::from_be_bytes(get(packet, IP_FLAGS)?) & 0x1fff;
    if fragment_offset != 0 || !is_one_host(view.source) {
        return None;
    }
    if view.protocol == ICMP && !ICMP_QUERIES.contains(packet.get(view.header_len)?) {
        return None;
    }
    let quoted = packet.len().min(MAX_ICMP_ERROR - IP_HEADER - ICMP_HEADER);
    let message = out.get_mut(..IP_HEADER + ICMP_HEADER + quoted)?;
    let len = message.len() as u16;
    let (ip, icmp) = message.split_at_mut_checked(IP_HEADER)?;
    // Precedence 6, "internetwork control" (RFC 1812, 4.3.2.5); never fragmented, so its id is meaningless (RFC 6864).
    ip.copy_from_slice(&[0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 64, ICMP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    put(ip, IP_LEN, len.to_be_bytes())?;
    put(ip, 12, view.destination.octets())?;
    put(ip, 16, view.source.octets())?;
    put(ip, IP_CHECKSUM, Sum::of(ip).checksum().to_be_bytes())?;
    let (header, quote) = icmp.split_at_mut_checked(ICMP_HEADER)?;
    header.copy_from_slice(&[UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0, 0, 0]);
    put(header, ICMP_MTU, mtu.to_be_bytes())?;
    quote.copy_from_slice(packet.get(..quoted)?);
    put(icmp, ICMP_CHECKSUM, Sum::of(icmp).checksum().to_be_bytes())?;
    Some(message)
}

fn is_one_host(source: Ipv4Addr) -> bool {
    // 240.0.0.0/4 is reserved, and its last address is the broadcast.
    source.octets()[0] != 0 && !source.is_loopback() && source.octets()[0] < 224
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::test_packets::{Packet, naive_sum, payload};
    use crate::wire::{VnetHeader, inspect};
    use proptest::prelude::*;

    fn needed(packet: &[u8]) -> Option<Vec<u8>> {
        let view = inspect(packet).unwrap();
        fragmentation_needed(packet, &view, 1390, &mut [0xee; MAX_ICMP_ERROR]).map(<[u8]>::to_vec)
    }

    #[test]
    fn only_large_packets_that_must_not_be_fragmented_are_too_big() {
        for (dont_fragment, len, expected) in
            [(true, 1362, false), (true, 1363, true), (false, 1363, false), (true, 60_000, true), (true, 0, false)]
        {
            let packet = Packet { dont_fragment, ..Packet::udp(&payload(len)) };
            let (_, offload) = Offload::check(&VnetHeader::default(), &packet.bytes()).unwrap();
            assert_eq!(is_too_big(&packet.bytes(), &offload, 1390), expected, "{dont_fragment} {len}");
        }
    }

    #[test]
    fn a_super_packet_is_judged_by_its_segments() {
        for (packet, headers) in [(Packet::tcp(1, &payload(20_000)), 40), (Packet::udp(&payload(20_000)), 28)] {
            for (size, dont_fragment, expected) in
                [(1390 - headers, true, false), (1391 - headers, true, true), (1391 - headers, false, false)]
            {
                let packet = Packet { dont_fragment, ..packet.clone() };
                let bytes = packet.unfinished();
                let (_, offload) = Offload::check(&packet.vnet(size), &bytes).unwrap();
                assert_eq!(offload.largest(bytes.len()), headers + size);
                assert_eq!(is_too_big(&bytes, &offload, 1390), expected, "{size} {dont_fragment}");
            }
        }
    }

    #[test]
    fn the_message_quotes_the_packet() {
        let packet = Packet::udp(&payload(1400)).bytes();
        let message = needed(&packet).unwrap();
        let view = inspect(&message).unwrap();
        assert_eq!((view.header_len, view.total_len, view.protocol), (20, 576, 1));
        assert_eq!((view.source, view.destination), ([10, 0, 0, 1].into(), [192, 0, 2, 1].into()));
        assert_eq!([naive_sum(&message[..20]), naive_sum(&message[20..])], [0xffff; 2]);
        assert_eq!(message[20..22], [3, 4]);
        assert_eq!(message[24..28], [0, 0, 0x05, 0x6e]);
        assert_eq!(message[28..], packet[..548]);
        // All of a small packet is quoted; an odd length has its own checksum.
        let small = Packet::udp(&payload(101)).bytes();
        let message = needed(&small).unwrap();
        assert_eq!(message[28..], small);
        assert_eq!(naive_sum(&message[20..]), 0xffff);
    }

    #[test]
    fn no_message_about_errors_later_fragments_and_sources_that_are_no_host() {
        let packet = Packet::udp(&payload(1400)).bytes();
        for (fragment, is_sent) in [(0x6000_u16, true), (0x2000, true), (0x0001, false), (0x3fff, false)] {
            let mut bytes = packet.clone();
            bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
            assert_eq!(needed(&bytes).is_some(), is_sent, "{fragment:#x}");
        }
        for kind in 0..=u8::MAX {
            let mut bytes = packet.clone();
            bytes[9] = 1;
            bytes[20] = kind;
            let is_error = matches!(kind, 3 | 4 | 5 | 11 | 12);
            assert!(!(is_error && needed(&bytes).is_some()), "{kind}");
            assert!(needed(&bytes).is_some() || ![0, 8, 13, 14].contains(&kind), "{kind}");
        }
        for (source, is_host) in [
            ([10, 0, 0, 9], true),
            ([223, 255, 255, 1], true),
            ([224, 0, 0, 1], false),
            ([239, 1, 1, 1], false),
            ([240, 0, 0, 1], false),
            ([255, 255, 255, 255], false),
            ([0, 0, 0, 0], false),
            ([0, 1, 2, 3], false),
            ([127, 0, 0, 1], false),
        ] {
            let mut bytes = packet.clone();
            bytes[12..16].copy_from_slice(&source);
            assert_eq!(needed(&bytes).is_some(), is_host, "{source:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 20..1600),
            header_words in 5_u8..16,
            mtu: u16,
        ) {
            bytes[0] = 0x40 | header_words;
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            if let Ok(view) = inspect(&bytes)
                && let Some(message) = fragmentation_needed(&bytes, &view, mtu, &mut [0; MAX_ICMP_ERROR])
            {
                prop_assert!(inspect(message).is_ok());
                prop_assert_eq!(naive_sum(&message[..20]), 0xffff);
                prop_assert_eq!(naive_sum(&message[20..]), 0xffff);
            }
        }
    }
}
