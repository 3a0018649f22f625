//! What a peer's record becomes on a wire, in proportion to its own bytes.

use crate::forward::test_packets::{Packet, payload};
use crate::forward::{Bundler, DropCause, Load, Offload, Peer, split};
use crate::wire::{HEADER_LEN, MAX_BUNDLE, VNET_LEN, VnetHeader, inspect, op, records};
use proptest::prelude::*;

/// Returns the bytes of all packets that a kernel makes of this one.
fn on_a_wire(packet: &[u8], offload: &Offload) -> usize {
    let mut bytes = 0;
    split(&mut packet.to_vec(), 0, offload, |segment| {
        inspect(segment).unwrap();
        bytes += segment.len();
    });
    bytes
}

fn check(packet: &Packet, size: usize) -> Result<Offload, DropCause> {
    Offload::check_record(&packet.vnet(size), &packet.unfinished()).map(|(_, offload)| offload)
}

#[test]
fn the_headers_of_segments_are_at_most_half_of_the_record() {
    let options = |packet: Packet| Packet { ip_options: vec![1; 40], ..packet };
    let tcp = Packet::tcp(1, &payload(40_000));
    let udp = |size: usize, count: usize| Packet::udp(&payload(size * count));
    for (packet, size, is_fine) in [
        // The found amplifier: 128 datagrams of one byte, without and with options.
        (udp(1, 128), 1, false),
        (options(udp(1, 128)), 1, false),
        (udp(55, 128), 55, false),
        (udp(57, 128), 57, true),
        (options(udp(130, 128)), 130, false),
        (options(udp(137, 128)), 137, true),
        (tcp.clone(), 32, false),
        (tcp.clone(), 79, false),
        (tcp.clone(), 81, true),
        (Packet { tcp_options: vec![1; 40], ..options(tcp.clone()) }, 32, false),
        (Packet { tcp_options: vec![1; 40], ..options(tcp.clone()) }, 238, false),
        (Packet { tcp_options: vec![1; 40], ..options(tcp) }, 241, true),
        // Two small segments are hardly more than one.
        (udp(30, 2), 30, true),
        (udp(1, 2), 1, false),
        (udp(1, 3), 1, false),
    ] {
        let bytes = packet.unfinished();
        let (_, offload) = Offload::check(&packet.vnet(size), &bytes).unwrap();
        let becomes = on_a_wire(&bytes, &offload);
        assert_eq!(becomes, offload.billed(bytes.len()));
        assert_eq!(becomes * 2 <= bytes.len() * 3, is_fine, "{} bytes become {becomes}", bytes.len());
        let expected = if is_fine { Ok(offload) } else { Err(DropCause::Amplifies) };
        assert_eq!(check(&packet, size), expected, "{size}");
    }
}

/// A host with a tiny MSS sends super-packets that a peer would refuse.
#[test]
fn a_sender_cuts_what_a_peer_would_refuse() {
    let peer = Peer { bundle_op: op::BUNDLE_SEND, plain_op: op::VPN_SEND, usage_id: 1, largest: MAX_BUNDLE };
    for packet in [Packet::tcp(1, &payload(4000)), Packet::udp(&payload(4000))] {
        for (size, is_cut) in [(36, true), (52, true), (1000, false)] {
            let mut bundler = Bundler::default();
            let bytes = packet.unfinished();
            let mut sent = Vec::new();
            let mut send = |vpn: &[u8], load: Load| sent.push((vpn.to_vec(), load.packets));
            // A packet waits in the bundle before it.
            for (bytes, header) in
                [(&Packet::udp(b"first").bytes(), VnetHeader::default()), (&bytes, packet.vnet(size))]
            {
                let filled = VNET_LEN + bytes.len();
                bundler.spare_capacity()[..VNET_LEN].copy_from_slice(&header.to_bytes());
                bundler.spare_capacity()[VNET_LEN..filled].copy_from_slice(bytes);
                let (_, offload, load) = bundler.check(filled).unwrap();
                bundler.take(filled, &offload, load, &peer, &mut send);
            }
            bundler.flush(0, &peer, &mut send);
            let total: u64 = sent.iter().map(|(_, packets)| packets).sum();
            assert_eq!(total, 1 + 4000_u64.div_ceil(size as u64));
            let mut got = Vec::new();
            for (vpn, _) in &sent {
                let data = &vpn[HEADER_LEN..];
                match vpn[4..8] == op::BUNDLE_SEND.to_le_bytes() {
                    true => got.extend(records(data).map(|record| {
                        let record = record.unwrap();
                        Offload::check_record(&record.header, record.packet).unwrap();
                        record.packet.to_vec()
                    })),
                    false => got.push(data.to_vec()),
                }
            }
            let expected: Vec<_> = match is_cut {
                true => packet.cut(size).iter().map(Packet::bytes).collect(),
                false => vec![bytes],
            };
            assert_eq!(got[0], Packet::udp(b"first").bytes());
            assert!(got[1..] == expected, "{size}: {} packets", got.len());
        }
    }
}

proptest! {
    #[test]
    fn no_record_becomes_more_than_half_as_much_again(
        is_tcp: bool,
        ip_words in 0_usize..=10,
        tcp_words in 0_usize..=10,
        len in prop_oneof![1_usize..400, 1_usize..20_000],
        size in prop_oneof![0_usize..80, 0_usize..400, 0_usize..2000],
        ecn: bool,
        mut noise in prop::collection::vec((0_usize..120, any::<u8>()), 0..3),
    ) {
        let packet = Packet {
            ip_options: vec![1; ip_words * 4],
            tcp_options: if is_tcp { vec![1; tcp_words * 4] } else { Vec::new() },
            is_tcp,
            ..Packet::tcp(1, &payload(len))
        };
        let mut header = packet.vnet(size);
        header.gso_type |= if ecn { 0x80 } else { 0 };
        let mut bytes = packet.unfinished();
        if ecn {
            noise.clear();
        }
        for (at, byte) in noise {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Ok((_, offload)) = Offload::check_record(&header, &bytes) {
            let mut becomes = 0;
            split(&mut bytes.clone(), 0, &offload, |segment| becomes += segment.len());
            prop_assert!(becomes * 2 <= bytes.len() * 3, "{} bytes become {}", bytes.len(), becomes);
        }
    }

    #[test]
    fn no_bytes_become_more_than_half_as_much_again(
        bytes in prop::collection::vec(any::<u8>(), 20..600),
        header: [u8; VNET_LEN],
        is_tcp: bool,
        header_words in 5_u8..8,
    ) {
        let mut bytes = bytes;
        bytes[0] = 0x40 | header_words;
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[6..8].fill(0);
        bytes[9] = if is_tcp { 6 } else { 17 };
        bytes[20..28.min(usize::from(len))].fill(1);
        let mut header = VnetHeader::parse(&header);
        (header.flags, header.gso_type) = (1, [if is_tcp { 1 } else { 5 }, header.gso_type][usize::from(header.flags & 1)]);
        header.csum_start = u16::from(header_words) * 4;
        header.csum_offset = if is_tcp { 16 } else { 6 };
        header.gso_size %= 200;
        if let Ok((_, offload)) = Offload::check_record(&header, &bytes) {
            let mut becomes = 0;
            split(&mut bytes.clone(), 0, &offload, |segment| becomes += segment.len());
            prop_assert!(becomes * 2 <= bytes.len() * 3, "{} bytes become {}", bytes.len(), becomes);
        }
    }
}
