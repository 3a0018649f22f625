use super::*;
use crate::forward::test_packets::{Packet, payload};
use proptest::prelude::*;

const TCP_SIZE: usize = 100;

fn tcp() -> Packet {
    Packet::tcp(1, &payload(250))
}

fn udp() -> Packet {
    Packet::udp(&payload(250))
}

fn check(header: &VnetHeader, packet: &Packet) -> Result<Offload, DropCause> {
    Offload::check(header, &packet.unfinished()).map(|(_, offload)| offload)
}

/// Asserts that a good super-packet is refused after a change of its header.
fn assert_refused(packet: &Packet, change: impl Fn(&mut VnetHeader)) {
    let mut header = packet.vnet(TCP_SIZE);
    assert_eq!(check(&header, packet), Ok(Offload::Segments(packet.segments(TCP_SIZE))));
    change(&mut header);
    assert_eq!(check(&header, packet), Err(DropCause::BadOffload), "{header:?}");
}

#[test]
fn a_header_without_offload() {
    // Hints have no effect, nor does a flag of no meaning here (DATA_VALID, 2).
    let hints = VnetHeader { flags: 2, hdr_len: 9999, csum_start: 9999, csum_offset: 9, ..VnetHeader::default() };
    for header in [VnetHeader::default(), hints, VnetHeader { gso_size: 1, ..hints }] {
        assert_eq!(check(&header, &tcp()), Ok(Offload::None));
    }
    let (view, _) = Offload::check(&VnetHeader::default(), &udp().bytes()).unwrap();
    assert_eq!((view.protocol, view.header_len, view.total_len), (17, 20, 278));
}

#[test]
fn an_invalid_packet_has_no_offload() {
    let header = VnetHeader::default();
    assert_eq!(Offload::check(&header, &[]).err(), Some(DropCause::Malformed));
    assert_eq!(Offload::check(&header, &tcp().bytes()[..100]).err(), Some(DropCause::Malformed));
    assert_eq!(Offload::check(&tcp().vnet(TCP_SIZE), &[0x60; 60]).err(), Some(DropCause::NotIpv4));
}

#[test]
fn a_checksum_is_the_packet_s_own_or_an_inner_packet_s() {
    let packet = Packet { ip_options: vec![1; 8], ..Packet::udp(b"12") };
    // 28 bytes of IPv4, 8 of UDP, 2 of payload.
    for (start, offset, is_good) in [
        (28, 6, true),
        // The ports, the length, the payload.
        (28, 0, false),
        (28, 2, false),
        (28, 4, false),
        (28, 8, false),
        (34, 0, false),
        (36, 0, true),
        (37, 0, false),
        (27, 6, false),
        (0, 30, false),
        (u16::MAX, u16::MAX, false),
        (28, u16::MAX, false),
    ] {
        let header = VnetHeader { flags: 1, csum_start: start, csum_offset: offset, ..VnetHeader::default() };
        let expected = match (is_good, start) {
            (true, 28) => Ok(Offload::Checksum { start, offset }),
            (true, _) => Ok(Offload::InnerChecksum { start, offset }),
            (false, _) => Err(DropCause::BadOffload),
        };
        assert_eq!(check(&header, &packet), expected, "{start} {offset}");
    }
}

#[test]
fn a_super_packet_matches_its_header() {
    for packet in [tcp(), udp(), Packet { ip_options: vec![1; 40], tcp_options: vec![1; 40], ..tcp() }] {
        assert_eq!(check(&packet.vnet(TCP_SIZE), &packet), Ok(Offload::Segments(packet.segments(TCP_SIZE))));
        // The length of the headers is only a hint.
        let wrong = VnetHeader { hdr_len: 3, ..packet.vnet(TCP_SIZE) };
        assert_eq!(check(&wrong, &packet), Ok(Offload::Segments(packet.segments(TCP_SIZE))));
    }
    let ecn = VnetHeader { gso_type: 0x81, ..tcp().vnet(TCP_SIZE) };
    let expected = Segments { ecn: true, ..tcp().segments(TCP_SIZE) };
    assert_eq!(check(&ecn, &tcp()), Ok(Offload::Segments(expected)));
}

#[test]
fn a_type_must_be_known_and_the_packet_s() {
    // 3 is UDP's fragmentation, 4 TCP over IPv6; ECN is TCP's.
    for gso_type in [2, 3, 4, 5, 6, 0x7f, 0x80, 0x83, 0x85, 0xff] {
        assert_refused(&tcp(), |header| header.gso_type = gso_type);
    }
    for gso_type in [1, 0x81, 0x85, 0x80] {
        assert_refused(&udp(), |header| header.gso_type = gso_type);
    }
    let as_udp = VnetHeader { gso_type: VnetHeader::GSO_UDP_L4, csum_offset: UDP_CHECKSUM, ..tcp().vnet(TCP_SIZE) };
    assert_eq!(check(&as_udp, &tcp()), Err(DropCause::BadOffload));
}

#[test]
fn the_checksum_must_be_the_transport_header_s() {
    for packet in [tcp(), udp()] {
        assert_refused(&packet, |header| header.flags = 0);
        assert_refused(&packet, |header| header.flags = 2);
        assert_refused(&packet, |header| header.csum_start = 0);
        assert_refused(&packet, |header| header.csum_start += 1);
        assert_refused(&packet, |header| header.csum_offset += 1);
        assert_refused(&packet, |header| header.csum_offset = 22 - header.csum_offset);
    }
}

#[test]
fn segments_must_not_be_too_small_or_too_many() {
    for size in [0, 1, MIN_TCP_SEGMENT - 1] {
        assert_refused(&tcp(), |header| header.gso_size = size);
    }
    assert!(check(&tcp().vnet(MIN_TCP_SEGMENT.into()), &tcp()).is_ok());
    assert_refused(&udp(), |header| header.gso_size = 0);
    // 250 bytes in 125 datagrams, and in 250.
    assert!(check(&udp().vnet(2), &udp()).is_ok());
    assert_refused(&udp(), |header| header.gso_size = 1);
    let most = Packet::udp(&payload(MAX_DATAGRAMS * 10));
    assert!(check(&most.vnet(10), &most).is_ok());
    let more = Packet::udp(&payload(MAX_DATAGRAMS * 10 + 1));
    assert_eq!(check(&more.vnet(10), &more), Err(DropCause::BadOffload));
}

#[test]
fn a_fragment_is_no_super_packet() {
    for packet in [tcp(), udp()] {
        for flags in [[0x20, 0], [0, 1]] {
            let mut bytes = packet.unfinished();
            bytes[6..8].copy_from_slice(&flags);
            let checked = Offload::check(&packet.vnet(TCP_SIZE), &bytes);
            assert_eq!(checked.err(), Some(DropCause::BadOffload));
        }
    }
}

#[test]
fn the_headers_must_be_whole() {
    let good = tcp().unfinished();
    let cut = |len: usize| {
        let mut bytes = good[..len].to_vec();
        bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        Offload::check(&tcp().vnet(TCP_SIZE), &bytes).map(|(_, offload)| offload)
    };
    for len in [20, 32, 33, 39] {
        assert_eq!(cut(len), Err(DropCause::BadOffload), "{len}");
    }
    assert!(cut(40).is_ok());
    for (words, is_good) in [(0, false), (4, false), (5, true), (15, true)] {
        let mut bytes = good.clone();
        bytes[32] = words << 4;
        assert_eq!(Offload::check(&tcp().vnet(TCP_SIZE), &bytes).is_ok(), is_good, "{words}");
    }
    let short = Packet::udp(b"").unfinished();
    let mut shorter = short[..27].to_vec();
    shorter[3] = 27;
    assert!(Offload::check(&udp().vnet(TCP_SIZE), &short).is_ok());
    assert_eq!(Offload::check(&udp().vnet(TCP_SIZE), &shorter).err(), Some(DropCause::BadOffload));
}

#[test]
fn one_segment_is_no_super_packet() {
    for (size, is_one) in [(249, false), (250, true), (251, true), (65535, true)] {
        for packet in [tcp(), udp()] {
            let offset = if packet.is_tcp { 16 } else { 6 };
            let expected = match is_one {
                true => Offload::Checksum { start: 20, offset },
                false => Offload::Segments(packet.segments(size)),
            };
            assert_eq!(check(&packet.vnet(size), &packet), Ok(expected));
        }
    }
}

#[test]
fn counts_packets() {
    assert_eq!(Offload::None.packets(1400), 1);
    assert_eq!(Offload::Checksum { start: 20, offset: 6 }.packets(65535), 1);
    let segments = Offload::Segments(tcp().segments(100));
    for (len, packets) in [(40, 0), (41, 1), (140, 1), (141, 2), (240, 2), (65535, 655), (0, 0)] {
        assert_eq!(segments.packets(len), packets, "{len}");
    }
    assert_eq!(Offload::Segments(Segments { size: 0, ..tcp().segments(1) }).packets(41), 1);
}

proptest! {
    #[test]
    fn an_accepted_header_is_restored(
        mut bytes in prop::collection::vec(any::<u8>(), 20..400),
        numbers: (u8, u8, u16, u16, u16, u16),
        likely: bool,
        is_tcp: bool,
    ) {
        let (flags, gso_type, hdr_len, gso_size, csum_start, csum_offset) = numbers;
        let mut header = VnetHeader { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset };
        bytes[0] = 0x45;
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        if likely {
            bytes[6..10].copy_from_slice(&[0x40, 0, 64, if is_tcp { TCP } else { UDP }]);
            header = VnetHeader {
                flags: 1,
                gso_type: if is_tcp { 1 | gso_type & 0x80 } else { 5 },
                gso_size: gso_size % 300,
                csum_start: 20,
                csum_offset: if is_tcp { 16 } else { 6 },
                ..header
            };
        }
        if let Ok((view, offload)) = Offload::check(&header, &bytes) {
            prop_assert_eq!(Offload::check(&offload.to_header(), &bytes), Ok((view, offload)));
            prop_assert!(offload.packets(bytes.len()) >= 1);
        }
    }
}

#[test]
fn super_packets_that_no_host_sends_are_refused() {
    for flag in [0x02, 0x04] {
        let mut packet = tcp();
        packet.flags |= flag;
        assert_eq!(check(&packet.vnet(TCP_SIZE), &packet), Err(DropCause::BadOffload), "flag {flag:#x}");
    }
    let header = udp().vnet(TCP_SIZE);
    for wrong in [0, 9, 8 + TCP_SIZE as u16, u16::MAX] {
        let mut bytes = udp().bytes();
        bytes[24..26].copy_from_slice(&wrong.to_be_bytes());
        assert_eq!(Offload::check(&header, &bytes).err(), Some(DropCause::BadOffload), "UDP length {wrong}");
    }
}

#[test]
fn a_packet_in_an_icmp_error_or_in_tcp_has_no_checksum_to_complete() {
    let mut bytes = Packet::udp(&[7; 100]).bytes();
    for (protocol, start, offset, is_good) in [
        (1, 40, 6, false),
        (1, 20, 2, false),
        (4, 40, 6, true),
        (4, 40, 2, false),
        (4, 20, 22, false),
        (47, 44, 16, true),
        (6, 40, 6, false),
        (6, 60, 16, false),
    ] {
        bytes[9] = protocol;
        let header = VnetHeader { flags: 1, csum_start: start, csum_offset: offset, ..VnetHeader::default() };
        let checked = Offload::check(&header, &bytes).map(|(_, offload)| offload);
        let expected = if is_good { Ok(Offload::InnerChecksum { start, offset }) } else { Err(DropCause::BadOffload) };
        assert_eq!(checked, expected, "protocol {protocol}, {start} {offset}");
    }
}
