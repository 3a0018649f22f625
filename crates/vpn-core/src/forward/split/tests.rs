use super::*;
use crate::forward::Segments;
use crate::forward::test_packets::{Packet, is_sound, naive_sum, payload, super_packet};
use crate::wire::VnetHeader;
use proptest::prelude::*;

/// Splits, and overwrites each packet after copying it, as encryption in place does.
fn split_all(packet: &[u8], headroom: usize, offload: &Offload) -> Vec<Vec<u8>> {
    let mut buffer = [vec![0x5a; headroom].as_slice(), packet].concat();
    let mut packets = Vec::new();
    split(&mut buffer, headroom, offload, |emitted| {
        packets.push(emitted[headroom..].to_vec());
        emitted.fill(0xee);
    });
    packets
}

fn cut(packet: &Packet, size: usize) -> Vec<Vec<u8>> {
    split_all(&packet.unfinished(), 16, &Offload::Segments(packet.segments(size)))
}

fn bytes(packets: &[Packet]) -> Vec<Vec<u8>> {
    packets.iter().map(Packet::bytes).collect()
}

#[test]
fn without_work_the_packet_stays_unchanged() {
    let packet = Packet::tcp(1, b"payload").bytes();
    assert_eq!(split_all(&packet, 0, &Offload::None), std::slice::from_ref(&packet));
    assert_eq!(split_all(&packet, 33, &Offload::None), [packet]);
}

#[test]
fn a_checksum_is_completed() {
    for packet in [Packet::tcp(1, b"odd"), Packet::udp(b"even"), Packet::udp(b""), Packet::tcp(9, &payload(1400))] {
        let offload = Offload::Checksum { start: 20, offset: if packet.is_tcp { 16 } else { 6 } };
        assert_eq!(split_all(&packet.unfinished(), 8, &offload), [packet.bytes()]);
        assert!(is_sound(&packet.bytes()));
    }
}

/// Returns a datagram whose checksum comes out as 0.
fn datagram_of_sum_zero() -> Packet {
    let mut packet = Packet::udp(&[0, 0]);
    let missing = !naive_sum(&packet.unfinished()[20..]);
    packet.payload = missing.to_be_bytes().to_vec();
    packet
}

#[test]
fn a_checksum_of_zero_is_written_as_ones_for_udp_alone() {
    let packet = datagram_of_sum_zero();
    let completed = split_all(&packet.unfinished(), 0, &Offload::Checksum { start: 20, offset: 6 });
    assert_eq!(completed[0][26..28], [0xff, 0xff]);
    assert!(is_sound(&completed[0]));

    let mut super_packet = packet.clone();
    super_packet.payload.extend_from_slice(&packet.payload);
    let datagrams = cut(&super_packet, 2);
    assert_eq!(datagrams, bytes(&super_packet.cut(2)));
    assert_eq!(datagrams[0][26..28], [0xff, 0xff]);

    let mut tcp = Packet::tcp(1, &[0, 0]);
    tcp.payload = (!naive_sum(&tcp.unfinished()[20..])).to_be_bytes().to_vec();
    let completed = split_all(&tcp.unfinished(), 0, &Offload::Checksum { start: 20, offset: 16 });
    assert_eq!(completed[0][36..38], [0, 0]);
}

#[test]
fn a_checksum_outside_the_packet_emits_nothing() {
    let packet = Packet::udp(b"1234").unfinished();
    for (start, offset) in [(20, 11), (33, 0), (20, u16::MAX), (u16::MAX, u16::MAX)] {
        assert!(split_all(&packet, 4, &Offload::Checksum { start, offset }).is_empty());
    }
}

#[test]
fn the_payload_is_cut_at_its_size() {
    for (len, lens) in [
        (100, &[100][..]),
        (101, &[100, 1]),
        (199, &[100, 99]),
        (200, &[100, 100]),
        (201, &[100, 100, 1]),
        (300, &[100, 100, 100]),
    ] {
        for packet in [Packet::tcp(1, &payload(len)), Packet::udp(&payload(len))] {
            let packets = cut(&packet, 100);
            assert_eq!(packets, bytes(&packet.cut(100)), "{len}");
            let found: Vec<_> = packets.iter().map(|segment| segment.len() - packet.header_len()).collect();
            assert_eq!(found, lens);
        }
    }
}

#[test]
fn id_and_sequence_number_wrap() {
    let packet = Packet { id: 0xffff, ..Packet::tcp(u32::MAX - 40, &payload(100)) };
    let packets = cut(&packet, 40);
    let ids: Vec<_> = packets.iter().map(|segment| u16::from_be_bytes([segment[4], segment[5]])).collect();
    assert_eq!(ids, [0xffff, 0, 1]);
    let sequences: Vec<_> = packets.iter().map(|segment| segment[24..28].to_vec()).collect();
    assert_eq!(sequences, [[0xff, 0xff, 0xff, 0xd7], [0xff, 0xff, 0xff, 0xff], [0, 0, 0, 39]]);
    assert!(packets.iter().all(|segment| is_sound(segment)));
}

fn flags(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.iter().map(|segment| segment[33]).collect()
}

#[test]
fn each_flag_has_its_place() {
    for (given, expected) in [
        (0x10, [0x10, 0x10, 0x10]),
        // FIN, PSH
        (0x11, [0x10, 0x10, 0x11]),
        (0x18, [0x10, 0x10, 0x18]),
        // CWR, ECE
        (0x90, [0x90, 0x10, 0x10]),
        (0x50, [0x50, 0x50, 0x50]),
        (0xd9, [0xd0, 0x50, 0x59]),
        (0x00, [0x00, 0x00, 0x00]),
    ] {
        let packets = cut(&Packet { flags: given, ..Packet::tcp(1, &payload(110)) }, 50);
        assert_eq!(flags(&packets), expected, "{given:#x}");
        assert!(packets.iter().all(|segment| is_sound(segment)));
    }
}

#[test]
fn the_urgent_pointer_is_each_segment_s_own() {
    for (urgent, flags_expected, expected) in [
        (0, [0x30, 0x10, 0x10], [0, 0, 0]),
        (1, [0x30, 0x10, 0x10], [1, 0, 0]),
        (50, [0x30, 0x10, 0x10], [50, 0, 0]),
        (51, [0x30, 0x30, 0x10], [51, 1, 0]),
        (100, [0x30, 0x30, 0x10], [100, 50, 0]),
        (110, [0x30, 0x30, 0x30], [110, 60, 10]),
        (65535, [0x30, 0x30, 0x30], [65535, 65485, 65435]),
    ] {
        let packets = cut(&Packet { flags: 0x30, urgent, ..Packet::tcp(1, &payload(110)) }, 50);
        assert_eq!(flags(&packets), flags_expected, "{urgent}");
        let pointers: Vec<_> = packets.iter().map(|segment| u16::from_be_bytes([segment[38], segment[39]])).collect();
        assert_eq!(pointers, expected, "{urgent}");
        assert!(packets.iter().all(|segment| is_sound(segment)));
    }
    let meaningless = Packet { urgent: 60, ..Packet::tcp(1, &payload(110)) };
    assert_eq!(cut(&meaningless, 50), bytes(&meaningless.cut(50)), "without URG it is no pointer");
}

#[test]
fn options_and_ecn_bits_are_in_each_segment() {
    let tcp = Packet {
        tos: 0xb9 | 0x03,
        ip_options: vec![1; 40],
        tcp_options: (1..=40).collect(),
        dont_fragment: false,
        ..Packet::tcp(5, &payload(333))
    };
    let udp = Packet { is_tcp: false, tcp_options: Vec::new(), ..tcp.clone() };
    for packet in [tcp, udp] {
        let packets = cut(&packet, 64);
        assert_eq!(packets, bytes(&packet.cut(64)));
        assert_eq!(packets.len(), 6);
        assert!(packets.iter().all(|segment| is_sound(segment)));
    }
}

#[test]
fn segments_shorter_than_headroom_and_headers() {
    let packet = Packet { ip_options: vec![1; 40], ..Packet::udp(&payload(100)) };
    for headroom in [0, 1, 7, 500] {
        let packets = split_all(&packet.unfinished(), headroom, &Offload::Segments(packet.segments(1)));
        assert_eq!(packets, bytes(&packet.cut(1)));
    }
}

#[test]
fn the_largest_super_packet() {
    let packet = Packet::tcp(1, &payload(65535 - 40));
    let packets = cut(&packet, 1340);
    assert_eq!(packets, bytes(&packet.cut(1340)));
    assert_eq!(packets.len() as u32, Offload::Segments(packet.segments(1340)).packets(65535));
}

#[test]
fn the_billed_bytes_are_those_of_the_segments() {
    for (len, expected) in [(1, 41), (99, 139), (100, 140), (101, 181), (200, 280), (201, 321), (65_000, 91_000)] {
        let packet = Packet::tcp(1, &payload(len));
        let billed = Offload::Segments(packet.segments(100)).billed(packet.header_len() + len);
        assert_eq!(billed, expected, "{len}");
        assert_eq!(cut(&packet, 100).iter().map(Vec::len).sum::<usize>(), expected);
    }
    for offload in [Offload::None, Offload::Checksum { start: 20, offset: 16 }] {
        assert_eq!(offload.billed(1390), 1390);
    }
    let unchecked = Segments { size: 0, header_len: u16::MAX, ..Packet::udp(b"").segments(1) };
    assert_eq!(Offload::Segments(unchecked).billed(20), 20);
    Offload::Segments(Segments { header_len: 30_000, ..unchecked }).billed(usize::MAX >> 32);
}

#[test]
fn the_description_of_another_packet_emits_nothing() {
    let packet = Packet::tcp(1, &payload(100));
    let good = packet.segments(50);
    for bad in [
        Segments { size: 0, ..good },
        Segments { header_len: 141, ..good },
        Segments { header_len: 121, ..good },
        Segments { ip_len: 41, ..good },
        Segments { ip_len: 10, ..good },
        Segments { header_len: 30, ..good },
        Segments { header_len: 0, ..good },
    ] {
        assert!(split_all(&packet.unfinished(), 0, &Offload::Segments(bad)).is_empty(), "{bad:?}");
    }
    let mut buffer = packet.unfinished();
    for headroom in [buffer.len(), buffer.len() - 37, buffer.len() + 1, usize::MAX] {
        for offload in [Offload::Segments(good), Offload::Checksum { start: 20, offset: 16 }] {
            split(&mut buffer, headroom, &offload, |_| panic!("there is no such packet"));
        }
    }
}

proptest! {
    #[test]
    fn segments_are_sound_and_hold_the_payload((packet, size) in super_packet(), headroom in 0_usize..200) {
        let unfinished = packet.unfinished();
        let (_, offload) = Offload::check(&packet.vnet(size), &unfinished).unwrap();
        let packets = split_all(&unfinished, headroom, &offload);
        prop_assert!(packets.iter().all(|segment| is_sound(segment)));
        let joined: Vec<u8> = packets.iter().flat_map(|segment| &segment[packet.header_len()..]).copied().collect();
        prop_assert!(joined == packet.payload);
        prop_assert_eq!(packets.len() as u32, offload.packets(unfinished.len()));
        prop_assert_eq!(packets.iter().map(Vec::len).sum::<usize>(), offload.billed(unfinished.len()));
        prop_assert!(packets == bytes(&packet.cut(size)));
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut buffer in prop::collection::vec(any::<u8>(), 0..300),
        headroom in 0_usize..320,
        header in (0_u8..2, prop::sample::select(vec![0_u8, 1, 0x81, 5, 3, 0x80]), any::<u16>(), 0_u16..200),
        place in (0_u16..140, prop::sample::select(vec![6_u16, 16, 0, 0xffff])),
        likely: bool,
        words: (bool, u16, u16, u16),
    ) {
        let header = VnetHeader {
            flags: header.0,
            gso_type: header.1,
            hdr_len: header.2,
            gso_size: header.3,
            csum_start: if likely { 20 } else { place.0 },
            csum_offset: place.1,
        };
        if let (Some(packet), true) = (buffer.get_mut(headroom..).filter(|packet| packet.len() >= 48), likely) {
            let len = packet.len() as u16;
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[6] &= 0x40;
            packet[9] = if header.csum_offset == 6 { 17 } else { 6 };
        }
        if let Ok((_, offload)) = Offload::check(&header, buffer.get(headroom..).unwrap_or_default()) {
            let len = buffer.len() - headroom;
            let expected = (offload.packets(len), offload.billed(len));
            let mut found = (0, 0);
            split(&mut buffer, headroom, &offload, |packet| found = (found.0 + 1, found.1 + packet.len() - headroom));
            prop_assert_eq!(found, expected);
        }
        // An unchecked description must not panic either.
        let (is_tcp, size, ip_len, header_len) = words;
        for modulus in [50, 200, u16::MAX] {
            let [ip_len, header_len] = [ip_len % modulus, header_len % modulus];
            let segments = Segments { is_tcp, ecn: false, size, ip_len, header_len };
            split(&mut buffer, headroom, &Offload::Segments(segments), |_| {});
        }
        split(&mut buffer, headroom, &Offload::Checksum { start: ip_len, offset: header_len }, |_| {});
    }
}
