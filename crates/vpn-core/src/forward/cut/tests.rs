use super::*;
use crate::forward::split;
use crate::forward::test_packets::{Packet, payload, super_packet};
use crate::wire::inspect;
use proptest::prelude::*;

fn segments_of(packet: &[u8], offload: &Offload) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    split(&mut packet.to_vec(), 0, offload, |segment| segments.push(segment.to_vec()));
    segments
}

/// The pieces, each with what is left to do.
fn pieces(packet: &[u8], offload: &Offload, unit: usize) -> Vec<(Vec<u8>, Offload)> {
    let mut pieces = Vec::new();
    let is_cut = cut(packet, offload, unit, |piece| {
        pieces.push(([piece.headers, piece.payload].concat(), piece.offload));
    });
    assert_eq!(is_cut, !pieces.is_empty());
    pieces
}

#[test]
fn a_packet_that_fits_is_not_cut() {
    let packet = Packet::tcp(1, &payload(1000));
    let bytes = packet.unfinished();
    assert!(pieces(&bytes, &Offload::Segments(packet.segments(100)), bytes.len()).is_empty());
    for offload in [Offload::None, Offload::Checksum { start: 20, offset: 16 }] {
        assert!(pieces(&bytes, &offload, 0).is_empty());
    }
}

#[test]
fn a_piece_has_whole_segments_and_at_least_one() {
    let packet = Packet::tcp(1, &payload(1050));
    let offload = Offload::Segments(packet.segments(100));
    for (unit, lens) in [
        (0, &[140, 140, 140, 140, 140, 140, 140, 140, 140, 140, 90][..]),
        (339, &[240, 240, 240, 240, 240, 90]),
        (340, &[340, 340, 340, 190]),
        (1040, &[1040, 90]),
        (1089, &[1040, 90]),
    ] {
        let pieces = pieces(&packet.unfinished(), &offload, unit);
        assert_eq!(pieces.iter().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>(), lens, "{unit}");
        for (bytes, offload) in pieces {
            let expected = match bytes.len() {
                ..=140 => Offload::Checksum { start: 20, offset: 16 },
                _ => Offload::Segments(packet.segments(100)),
            };
            assert_eq!(offload, expected, "{unit}");
            // What a kernel or a peer would say of it.
            assert_eq!(Offload::check(&offload.to_header(), &bytes), Ok((inspect(&bytes).unwrap(), offload)));
        }
    }
}

#[test]
fn only_the_first_piece_can_have_cwr() {
    let packet = Packet { flags: 0x90, ..Packet::tcp(1, &payload(400)) };
    let offload = Offload::Segments(Segments { ecn: true, ..packet.segments(100) });
    let found: Vec<_> = pieces(&packet.unfinished(), &offload, 240)
        .iter()
        .map(|(bytes, offload)| (bytes[33] & 0x80, matches!(offload, Offload::Segments(Segments { ecn: true, .. }))))
        .collect();
    assert_eq!(found, [(0x80, true), (0, false)]);
}

#[test]
fn beheaded_of_all_segments_nothing_is_left() {
    let packet = Packet::udp(&payload(250));
    let segments = packet.segments(100);
    for (count, expected) in [(0, Some(278)), (1, Some(178)), (2, Some(78)), (3, None), (usize::MAX, None)] {
        let found = behead(&mut packet.unfinished(), &segments, count);
        assert_eq!(found.map(|(len, _)| len), expected, "{count}");
    }
}

proptest! {
    #[test]
    fn the_segments_of_the_pieces_are_those_of_the_whole(
        (packet, size) in super_packet(),
        urgent: u16,
        flags: u8,
        unit in 0_usize..66_000,
    ) {
        let packet = Packet { urgent, flags: flags & !0x06, ..packet };
        let (whole, offload) = (packet.unfinished(), Offload::Segments(packet.segments(size)));
        let expected = segments_of(&whole, &offload);
        let pieces = pieces(&whole, &offload, unit);
        if whole.len() <= unit {
            prop_assert!(pieces.is_empty());
        } else {
            let smallest = packet.header_len() + size;
            prop_assert!(pieces.iter().all(|(piece, _)| piece.len() <= unit.max(smallest)));
            let found: Vec<_> = pieces.iter().flat_map(|(piece, offload)| segments_of(piece, offload)).collect();
            prop_assert!(found == expected);
            for (piece, offload) in &pieces {
                let checked = Offload::check(&offload.to_header(), piece);
                prop_assert_eq!(checked, Ok((inspect(piece).unwrap(), *offload)));
            }
        }
    }

    #[test]
    fn a_beheaded_super_packet_has_the_other_segments(
        (packet, size) in super_packet(),
        flags: u8,
        count in 0_usize..20,
    ) {
        let packet = Packet { flags: flags & !0x26, ..packet };
        let (mut bytes, segments) = (packet.unfinished(), packet.segments(size));
        let expected = segments_of(&bytes, &Offload::Segments(segments));
        let rest = behead(&mut bytes, &segments, count);
        prop_assert_eq!(rest.is_some(), count < expected.len());
        if let Some((len, offload)) = rest {
            prop_assert!(segments_of(&bytes[..len], &offload) == expected[count..]);
        }
    }

    #[test]
    fn no_description_makes_it_panic(
        mut packet in prop::collection::vec(any::<u8>(), 0..400),
        words: (bool, bool, u16, u16, u16),
        unit in 0_usize..500,
        count: usize,
    ) {
        let (is_tcp, ecn, size, ip_len, header_len) = words;
        for modulus in [50, 200, u16::MAX] {
            let segments =
                Segments { is_tcp, ecn, size, ip_len: ip_len % modulus, header_len: header_len % modulus };
            cut(&packet, &Offload::Segments(segments), unit, |piece| assert!(!piece.payload.is_empty()));
            behead(&mut packet, &segments, count % modulus as usize);
        }
    }
}
