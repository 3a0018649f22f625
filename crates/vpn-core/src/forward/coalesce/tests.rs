use super::*;
use crate::forward::split;
use crate::forward::test_packets::{Packet, is_sound, payload};
use crate::wire::{VnetHeader, inspect};
use proptest::prelude::*;

type Emitted = Vec<(VnetHeader, Vec<u8>)>;

fn push_all<'a>(coalescer: &mut Coalescer, packets: impl IntoIterator<Item = &'a Vec<u8>>) -> Emitted {
    packets.into_iter().flat_map(|packet| push(coalescer, &VnetHeader::default(), packet)).collect()
}

fn push(coalescer: &mut Coalescer, header: &VnetHeader, packet: &[u8]) -> Emitted {
    let mut emitted = Emitted::new();
    let (view, offload) = Offload::check(header, packet).unwrap();
    coalescer.push(packet, &view, &offload, &mut |offload, bytes| emitted.push((offload.to_header(), bytes.to_vec())));
    emitted
}

/// Returns the packet as a host sends its own: the checksum is still to be completed.
fn unfinished(packet: &[u8]) -> (VnetHeader, Vec<u8>) {
    let (is_tcp, mut packet) = (packet[9] == TCP, packet.to_vec());
    let csum_offset = if is_tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
    let header = VnetHeader { flags: VnetHeader::NEEDS_CSUM, csum_start: 20, csum_offset, ..VnetHeader::default() };
    let len = (packet.len() - IP_HEADER) as u16;
    let sum = Sum::of_pseudo_header(&get(&packet, IP_ADDRESSES).unwrap(), packet[9], len).fold();
    let at = IP_HEADER + usize::from(csum_offset);
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    (header, packet)
}

fn flush(coalescer: &mut Coalescer) -> Emitted {
    let mut emitted = Emitted::new();
    coalescer.flush(&mut |offload, bytes| emitted.push((offload.to_header(), bytes.to_vec())));
    assert!(coalescer.is_empty());
    emitted
}

fn coalesce_bytes(packets: &[Vec<u8>]) -> Emitted {
    let mut coalescer = Coalescer::new(true);
    let mut emitted = push_all(&mut coalescer, packets);
    emitted.extend(flush(&mut coalescer));
    emitted
}

fn coalesce(packets: &[Packet]) -> Emitted {
    coalesce_bytes(&bytes(packets))
}

fn bytes(packets: &[Packet]) -> Vec<Vec<u8>> {
    packets.iter().map(Packet::bytes).collect()
}

/// Returns the packets as the coalescer emits them unchanged.
fn untouched(packets: &[Packet]) -> Emitted {
    bytes(packets).into_iter().map(|packet| (VnetHeader::default(), packet)).collect()
}

/// Returns the packets for a host without super-packets; each must match its header.
fn split_all(emitted: &Emitted) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (header, packet) in emitted {
        let (_, offload) = Offload::check(header, packet).unwrap();
        assert_eq!(offload.to_header(), *header);
        split(&mut packet.clone(), 0, &offload, |packet| packets.push(packet.to_vec()));
    }
    packets
}

fn stream() -> Packet {
    Packet::tcp(u32::MAX - 150, &payload(400))
}

#[test]
fn segments_become_the_super_packet_they_were() {
    let options = Packet { tcp_options: (1..=12).collect(), tos: 0x02, ..stream() };
    let counted = Packet { dont_fragment: false, id: 0xfffe, ..stream() };
    for packet in [stream(), options, counted, Packet::udp(&payload(400)), Packet::udp(&payload(330))] {
        assert_eq!(coalesce(&packet.cut(100)), [(packet.vnet(100), packet.unfinished())]);
    }
}

#[test]
fn a_packet_that_completes_a_super_packet_emits_it_at_once() {
    let pushed = Packet { flags: 0x18, ..stream() };
    let short = Packet { payload: payload(333), ..stream() };
    for packet in [pushed, short.clone(), Packet { is_tcp: false, ..short }] {
        let mut coalescer = Coalescer::new(true);
        let emitted = push_all(&mut coalescer, &bytes(&packet.cut(100)));
        assert_eq!(emitted, [(packet.vnet(100), packet.unfinished())]);
        assert!(coalescer.is_empty());
    }
}

#[test]
fn a_single_packet_stays_plain() {
    for packet in [stream(), Packet::udp(&payload(1)), Packet { flags: 0x18, ..stream() }] {
        assert_eq!(coalesce(std::slice::from_ref(&packet)), untouched(&[packet]));
    }
    let mut coalescer = Coalescer::new(true);
    assert!(coalescer.is_empty());
    assert!(push_all(&mut coalescer, [&stream().bytes()]).is_empty());
    assert!(!coalescer.is_empty());
    assert_eq!(flush(&mut coalescer).len(), 1);
    assert!(flush(&mut coalescer).is_empty());
}

#[test]
fn an_unmergeable_packet_is_not_copied() {
    for packet in [Packet { flags: 0x18, ..stream() }, Packet { flags: 0x12, ..stream() }, Packet::tcp(1, b"")] {
        let (packet, mut count) = (packet.bytes(), 0);
        Coalescer::new(true).push(&packet, &inspect(&packet).unwrap(), &Offload::None, &mut |_, bytes| {
            assert_eq!(bytes.as_ptr(), packet.as_ptr());
            count += 1;
        });
        assert_eq!(count, 1);
    }
}

/// Changes the second of two segments, and asserts that they are not merged.
fn assert_apart(of: &Packet, change: impl Fn(&mut Packet)) {
    let mut segments = of.cut(of.payload.len() / 2);
    assert_eq!(coalesce(&segments).len(), 1);
    change(&mut segments[1]);
    assert_eq!(coalesce(&segments), untouched(&segments));
}

#[test]
fn another_flow_or_service_is_not_merged() {
    for packet in [stream(), Packet::udp(&payload(400))] {
        assert_apart(&packet, |second| second.flow = 2);
        assert_apart(&packet, |second| second.tos = 0x03);
        assert_apart(&packet, |second| second.ttl = 63);
        assert_apart(&packet, |second| second.dont_fragment = false);
        assert_apart(&packet, |second| second.ip_options = vec![1; 4]);
        assert_apart(&packet, |second| second.is_tcp = !second.is_tcp);
        assert_apart(&packet, |second| second.payload = Vec::new());
        assert_apart(&packet, |second| second.payload.push(0));
    }
}

#[test]
fn segments_with_different_tcp_fields_are_not_merged() {
    let packet = Packet { tcp_options: (1..=12).collect(), ..stream() };
    assert_apart(&packet, |second| second.sequence = second.sequence.wrapping_add(1));
    assert_apart(&packet, |second| second.sequence = second.sequence.wrapping_sub(200));
    assert_apart(&packet, |second| second.ack += 1);
    assert_apart(&packet, |second| second.window += 1);
    assert_apart(&packet, |second| second.urgent = 1);
    assert_apart(&packet, |second| second.tcp_options[11] += 1);
    assert_apart(&packet, |second| second.tcp_options.truncate(8));
    // FIN, SYN, RST, URG, ECE, CWR, no ACK
    for flags in [0x11, 0x12, 0x14, 0x30, 0x50, 0x90, 0x00, 0x08] {
        assert_apart(&packet, |second| second.flags = flags);
    }
}

#[test]
fn flags_of_the_first_packet_count_too() {
    for flags in [0x11, 0x12, 0x14, 0x18, 0x30, 0x50, 0x90, 0x00] {
        let mut segments = stream().cut(100);
        segments[0].flags = flags;
        let emitted = coalesce(&segments);
        assert_eq!(emitted.len(), 2, "{flags:#x}");
        assert_eq!(emitted[0], untouched(&segments)[0]);
    }
}

#[test]
fn a_reserved_bit_of_tcp_is_left_alone() {
    let mut packets = bytes(&stream().cut(200));
    for packet in &mut packets {
        packet[32] |= 1;
        // Corrects the checksum.
        let checksum = u16::from_be_bytes([packet[36], packet[37]]);
        let (lower, borrow) = checksum.overflowing_sub(0x0100);
        packet[36..38].copy_from_slice(&(lower - u16::from(borrow)).to_be_bytes());
        assert!(is_sound(packet));
    }
    assert_eq!(coalesce_bytes(&packets).len(), 2);
}

#[test]
fn ids_must_count_up_if_fragmenting_is_allowed() {
    for packet in [stream(), Packet::udp(&payload(400))] {
        for (dont_fragment, id, count) in [(true, 7, 1), (true, 99, 1), (false, 7, 2), (false, 9, 2), (false, 8, 1)] {
            let mut segments = Packet { dont_fragment, ..packet.clone() }.cut(200);
            segments[1].id = id;
            assert_eq!(coalesce(&segments).len(), count, "{dont_fragment} {id}");
        }
    }
}

#[test]
fn fragments_are_left_alone() {
    for flags in [0x2000_u16, 0x0001, 0x4001, 0x8000] {
        let mut packets = bytes(&Packet { dont_fragment: false, ..stream() }.cut(200));
        for packet in &mut packets {
            packet[6..8].copy_from_slice(&flags.to_be_bytes());
            packet[10..12].fill(0);
            let checksum = Sum::of(&packet[..20]).checksum();
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            assert!(is_sound(packet));
        }
        let emitted: Vec<_> = coalesce_bytes(&packets).into_iter().map(|(_, packet)| packet).collect();
        assert_eq!(emitted, packets, "{flags:#x}");
    }
}

#[test]
fn corrupted_packets_are_passed_on_unchanged() {
    for packet in [stream(), Packet::udp(&payload(400))] {
        let good = bytes(&packet.cut(100));
        for (bad, count) in [(0, 2), (1, 3), (3, 2)] {
            // The checksums of IPv4 and of the transport header; a byte of the payload.
            for at in [10, packet.checksum_at(), 60] {
                let mut packets = good.clone();
                packets[bad][at] ^= 0x10;
                let emitted = coalesce_bytes(&packets);
                assert_eq!(emitted.iter().filter(|(_, bytes)| *bytes == packets[bad]).count(), 1);
                assert_eq!(emitted.len(), count, "{bad} {at}");
                assert!(split_all(&emitted).iter().eq(&packets), "{bad} {at}");
            }
        }
    }
}

#[test]
fn a_tcp_segment_too_short_to_be_cut_again_starts_no_super_packet() {
    let packet = Packet { payload: payload(62), ..stream() };
    assert_eq!(coalesce(&packet.cut(32)), [(packet.vnet(32), packet.unfinished())], "the last may be shorter");
    assert_eq!(coalesce(&packet.cut(31)), untouched(&packet.cut(31)));
}

#[test]
fn datagrams_are_merged_on_request() {
    let segments = Packet::udp(&payload(300)).cut(100);
    let mut coalescer = Coalescer::new(false);
    assert_eq!(push_all(&mut coalescer, &bytes(&segments)), untouched(&segments));
    assert!(coalescer.is_empty());
    assert!(push_all(&mut coalescer, &bytes(&stream().cut(200))).is_empty(), "TCP is merged without the flag");
    assert_eq!(flush(&mut coalescer).len(), 1);
}

#[test]
fn packets_with_unfinished_checksums_are_merged_with_all_others() {
    for packet in [Packet::udp(&payload(300)), stream()] {
        let segments = bytes(&packet.cut(100));
        for finished in [0, 1, 2, segments.len()] {
            let mut coalescer = Coalescer::new(true);
            let mut emitted = Emitted::new();
            for (number, segment) in segments.iter().enumerate() {
                let (header, bytes) = match number == finished {
                    true => (VnetHeader::default(), segment.clone()),
                    false => unfinished(segment),
                };
                emitted.extend(push(&mut coalescer, &header, &bytes));
            }
            emitted.extend(flush(&mut coalescer));
            assert_eq!(emitted, [(packet.vnet(100), packet.unfinished())], "{finished}");
        }
    }
}

#[test]
fn a_single_packet_with_an_unfinished_checksum_keeps_its_header() {
    let alone = unfinished(&Packet::udp(b"alone").bytes());
    let mut coalescer = Coalescer::new(true);
    assert!(push(&mut coalescer, &alone.0, &alone.1).is_empty());
    assert_eq!(flush(&mut coalescer), [alone]);
    // A packet that is never merged, and one with a wrong start of the sum.
    let mut inner = unfinished(&Packet::udp(&payload(100)).bytes());
    (inner.0.csum_start, inner.0.csum_offset) = (60, 16);
    assert_eq!(push(&mut coalescer, &inner.0, &inner.1), [inner]);
    let [first, mut second] = [0, 1].map(|id| unfinished(&Packet { id, ..Packet::udp(&payload(9)) }.bytes()));
    second.1[26] ^= 1;
    assert!(push(&mut coalescer, &first.0, &first.1).is_empty());
    assert_eq!(push(&mut coalescer, &second.0, &second.1), [first, second]);
}

#[test]
fn datagrams_without_a_checksum_or_with_a_trailer_are_left_alone() {
    let segments = Packet::udp(&payload(300)).cut(100);
    let mut packets = bytes(&segments);
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(coalesce_bytes(&packets).len(), 3);

    let mut packets = bytes(&segments);
    for packet in &mut packets {
        // The length is one byte less than the data; the checksum agrees with it.
        packet[25] -= 1;
        let checksum = u16::from_be_bytes([packet[26], packet[27]]) + 1;
        packet[26..28].copy_from_slice(&checksum.to_be_bytes());
    }
    assert_eq!(coalesce_bytes(&packets).len(), 3);
}

#[test]
fn a_super_packet_has_64_datagrams_at_most() {
    let packet = Packet::udp(&payload(130));
    let emitted = coalesce(&packet.cut(1));
    let lens: Vec<_> = emitted.iter().map(|(_, bytes)| bytes.len() - 28).collect();
    assert_eq!(lens, [64, 64, 2]);
}

#[test]
fn a_super_packet_is_as_long_as_a_packet_can_be() {
    let segments = Packet::tcp(1, &payload(100_000)).cut(1340);
    let emitted = coalesce(&segments);
    // 48 segments of 1340 bytes and a header of 40 are 64360.
    let lens: Vec<_> = emitted.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lens, [64360, 100_000 - 64320 + 40]);
    let exact = Packet::tcp(1, &payload(65535 - 40));
    assert_eq!(coalesce(&exact.cut(13099)), [(exact.vnet(13099), exact.unfinished())]);
}

#[test]
fn order_is_kept_between_flows() {
    let [one, two] = [stream(), Packet { flow: 2, ..stream() }].map(|packet| packet.cut(100));
    let ack = Packet::tcp(1, b"");
    let order = [&one[0], &one[1], &two[0], &ack, &one[2], &one[3], &two[1], &two[2]].map(Clone::clone);
    let emitted = coalesce(&order);
    assert_eq!(emitted.len(), 5);
    assert_eq!(split_all(&emitted), bytes(&order));
}

/// How the next packet of one of several senders differs.
#[derive(Clone, Debug)]
struct Step {
    flow: usize,
    len: usize,
    flags: u8,
    /// The corrupted bit.
    corrupt: Option<prop::sample::Index>,
    event: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop::sample::select(vec![1400_usize, 1400, 100, 100, 99, 40, 10, 0]);
    let flags = prop::sample::select(vec![0x10_u8, 0x10, 0x10, 0x10, 0x18, 0x11, 0x30, 0x90, 0x50]);
    (0_usize..4, len, flags, prop::option::weighted(0.05, any::<prop::sample::Index>()), 0_u8..30)
        .prop_map(|(flow, len, flags, corrupt, event)| Step { flow, len, flags, corrupt, event })
}

/// Packets of four flows, TCP and UDP, with and without "don't fragment"; each step creates as many packets as its
/// number.
fn packets(steps: &[(Step, usize)]) -> Vec<Vec<u8>> {
    let mut flows = [0_u8, 1, 2, 3].map(|flow| Packet {
        flow,
        is_tcp: flow < 2,
        dont_fragment: flow % 2 == 0,
        ..Packet::tcp(u32::MAX - 5000, b"")
    });
    let mut packets = Vec::new();
    for (step, count) in steps {
        let flow = &mut flows[step.flow];
        match step.event {
            0 => flow.id = flow.id.wrapping_add(1),
            1 => flow.ack += 1,
            2 => flow.sequence = flow.sequence.wrapping_sub(100),
            3 => flow.tos ^= 3,
            _ => {}
        }
        for number in 1..=*count {
            let is_last = number == *count;
            flow.payload = payload(step.len);
            flow.flags = if is_last { step.flags } else { 0x10 };
            let mut packet = flow.bytes();
            if let (Some(index), true) = (step.corrupt, is_last) {
                // Corrupts a byte behind the lengths, so that the packet stays whole.
                let bit = 64 + index.index((packet.len() - 8) * 8);
                packet[bit / 8] ^= 1 << (bit % 8);
            }
            packets.push(packet);
            flow.sequence = flow.sequence.wrapping_add(step.len as u32);
            flow.id = flow.id.wrapping_add(1);
        }
    }
    packets
}

/// Returns the packet without its id if the packet must not be fragmented: merging and splitting may change that id.
fn without_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[6] & 0x40 != 0 && is_sound(&packet) {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

proptest! {
    #[test]
    fn undoes_a_split(
        (is_tcp, dont_fragment, push) in any::<(bool, bool, bool)>(),
        (id, sequence, tos, words) in (any::<u16>(), any::<u32>(), any::<u8>(), 0_usize..10),
        (size, count) in (32_usize..1500, 2_usize..=64),
        last: prop::sample::Index,
    ) {
        let max = (65535 - 80) / size;
        let len = size * (count.min(max) - 1) + last.index(size) + 1;
        let packet = Packet {
            id,
            tos,
            is_tcp,
            dont_fragment,
            flags: if push { 0x18 } else { 0x10 },
            tcp_options: payload(if is_tcp { words * 4 } else { 0 }),
            ..Packet::tcp(sequence, &payload(len))
        };
        let unfinished = packet.unfinished();
        let segments = split_all(&vec![(packet.vnet(size), unfinished.clone())]);
        prop_assert!(coalesce_bytes(&segments) == [(packet.vnet(size), unfinished)]);
    }

    #[test]
    fn any_mix_is_restored_in_order(
        steps in prop::collection::vec((step(), prop::sample::select(vec![1_usize, 1, 2, 3, 10, 80])), 1..20),
        flushes in prop::collection::vec(0_usize..200, 0..4),
        unfinished_ones in prop::collection::vec(any::<bool>(), 1..5),
        udp: bool,
    ) {
        let packets = packets(&steps);
        let mut coalescer = Coalescer::new(udp);
        let mut emitted = Emitted::new();
        for (number, packet) in packets.iter().enumerate() {
            // A corrupted packet keeps its checksum: without it the corruption could not be detected.
            let (header, packet) = match is_sound(packet) && unfinished_ones[number % unfinished_ones.len()] {
                true => unfinished(packet),
                false => (VnetHeader::default(), packet.clone()),
            };
            emitted.extend(push(&mut coalescer, &header, &packet));
            if flushes.contains(&number) {
                emitted.extend(flush(&mut coalescer));
            }
        }
        emitted.extend(flush(&mut coalescer));
        // The order holds across all flows, and so within each: no packet overtakes another. A corrupted packet stays
        // unchanged among them.
        let found = split_all(&emitted);
        prop_assert_eq!(found.len(), packets.len());
        for (found, packet) in found.iter().zip(&packets) {
            prop_assert_eq!(is_sound(found), is_sound(packet));
            prop_assert!(without_id(found) == without_id(packet));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..8),
        view in (prop::sample::select(vec![6_u8, 17, 1]), prop::sample::select(vec![20_usize, 24, 0, 99999]), any::<bool>()),
        likely: bool,
    ) {
        let mut coalescer = Coalescer::new(true);
        let (mut pushed, mut emitted) = (0, 0);
        for packet in &mut packets {
            if let (true, len @ 40..) = (likely, packet.len()) {
                packet[..10].copy_from_slice(&[0x45, 0, 0, len as u8, 0, 0, 0x40, 0, 64, view.0]);
                packet[32..34].copy_from_slice(&[0x50, 0x10]);
            }
            // Also with the view of another packet.
            let view = inspect(packet).unwrap_or(Ipv4View {
                source: [10, 0, 0, 1].into(),
                destination: [10, 0, 0, 2].into(),
                header_len: view.1,
                total_len: 77,
                protocol: view.0,
                is_fragment: view.2,
            });
            coalescer.push(packet, &view, &Offload::None, &mut |_, _| emitted += 1);
            pushed += 1;
        }
        coalescer.flush(&mut |_, _| emitted += 1);
        prop_assert!((1..=pushed).contains(&emitted));
    }
}
