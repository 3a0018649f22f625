//! Consecutive TCP segments, some with properties that forbid merging. The test builds the flow by hand, so that every
//! flag is in its place: no kernel has a connection for it, and the kernels' answers are ignored.

use std::net::UdpSocket;

use rustix::net::ipproto;
use testkit::inner::{ACK, CWR, DF, ECE, FIN, Ip, PSH, Seen, Sum, Tcp, URG};
use testkit::noise;
use testkit::sockets::raw_sender;

use super::{Tunnel, Way, in_tunnel, on, raw_receiver};

const PORTS: (u16, u16) = (41_001, 41_002);
/// The payload of a segment.
const SIZE: usize = 1000;
const SEGMENTS: usize = 48;
/// The segment with the wrong checksum.
const BROKEN: usize = 25;
/// The flags of segments besides ACK; the others have none.
const MARKED: [(usize, u8); 12] = [
    (0, CWR),
    (4, PSH),
    (8, URG),
    (9, URG),
    (13, CWR),
    (17, ECE),
    (18, ECE),
    (21, PSH | URG),
    (30, FIN),
    (34, CWR | ECE | PSH),
    (38, PSH | FIN),
    (42, CWR),
];
/// The payload of the last segment, which is shorter.
const LAST: usize = 137;

#[test]
fn both_ends() {
    in_tunnel("offload::segments::both_ends", true, true, marked_segments_stay_apart);
}

#[test]
fn server_alone() {
    in_tunnel("offload::segments::server_alone", true, false, marked_segments_stay_apart);
}

#[test]
fn client_alone() {
    in_tunnel("offload::segments::client_alone", false, true, marked_segments_stay_apart);
}

#[test]
fn neither_end() {
    in_tunnel("offload::segments::neither_end", false, false, marked_segments_stay_apart);
}

fn marked_segments_stay_apart(tunnel: &Tunnel) {
    for way in tunnel.ways() {
        let Way { source, target, .. } = way;
        let sender = on(way.from, raw_sender);
        let receiver = on(way.to, move || raw_receiver(ipproto::TCP, target, source));
        // An end with offload merges packets from a peer without. The merging depends on how much of a burst it finds
        // queued, so it gets more than two bursts; one in a hundred has to suffice.
        let must_join = way.to_offloads && !way.from_offloads;
        let mut joined = false;
        let mut bursts = 0;
        while bursts < 2 || (must_join && !joined && bursts < 100) {
            joined |= burst(&sender, &receiver, &way, bursts);
            bursts += 1;
        }
        assert!(joined || !must_join, "no segments were merged in {bursts} bursts from {source} to {target}");
        assert!(!joined || way.to_offloads, "a super-packet on a device without offload, from {source} to {target}");
    }
}

/// The sent data, segment by segment.
struct Burst {
    seq: u32,
    payload: Vec<u8>,
    packets: Vec<Vec<u8>>,
}

impl Burst {
    fn new(way: &Way<'_>, number: u32) -> Burst {
        // The second burst starts where the sequence numbers wrap.
        let seq = if number == 1 { 0u32.wrapping_sub(20_500) } else { 1_000_000 * (number + 1) };
        let payload = noise(u64::from(number), SIZE * (SEGMENTS - 1) + LAST);
        let packets = payload.chunks(SIZE).enumerate().map(|(at, payload)| {
            let marks = marks(at);
            let ip = Ip { id: 500 + at as u16, fragment: DF, ..Ip::new(way.source, way.target) };
            let urgent = if marks & URG == 0 { 0 } else { 7 + at as u16 };
            let tcp = Tcp { urgent, ..Tcp::new(seq.wrapping_add((at * SIZE) as u32), ACK | marks) };
            ip.tcp(PORTS, &tcp, payload, if at == BROKEN { Sum::Wrong } else { Sum::Right })
        });
        Burst { seq, packets: packets.collect(), payload }
    }

    /// Returns the segment numbers of the packet's bytes, which must begin and end at segment boundaries.
    fn segments(&self, seen: &Seen<'_>) -> std::ops::Range<usize> {
        let start = seen.seq().wrapping_sub(self.seq) as usize;
        let end = start + seen.payload().len();
        assert!(start < end && end <= self.payload.len(), "bytes {start} to {end} were never sent");
        assert_eq!(start % SIZE, 0, "begins within a segment: {start}");
        assert!(end.is_multiple_of(SIZE) || end == self.payload.len(), "ends within a segment: {end}");
        assert!(seen.payload() == &self.payload[start..end], "bytes {start} to {end} differ from those sent");
        start / SIZE..end.div_ceil(SIZE)
    }
}

fn marks(segment: usize) -> u8 {
    MARKED.iter().find(|(at, _)| *at == segment).map_or(0, |(_, marks)| *marks)
}

/// Sends a burst and compares the received packets. Returns whether segments were merged.
fn burst(sender: &UdpSocket, receiver: &UdpSocket, way: &Way<'_>, number: u32) -> bool {
    let burst = Burst::new(way, number);
    for packet in &burst.packets {
        assert_eq!(sender.send_to(packet, (way.target, 0)).unwrap(), packet.len());
    }
    let mut got = [false; SEGMENTS];
    let mut joined = false;
    let mut next = 0;
    let mut buffer = vec![0; 65_536];
    while got.contains(&false) {
        let missing = got.iter().position(|got| !got).unwrap();
        let size = receiver
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("burst {number}, segment {missing} did not arrive: {error}"));
        let seen = Seen::new(&buffer[..size]);
        if seen.ports() != PORTS {
            continue;
        }
        let segments = burst.segments(&seen);
        let what = format!("burst {number}, segments {segments:?}, flags {:#04x}", seen.flags());
        assert_eq!(segments.start, next, "out of order: {what}");
        next = segments.end;
        for segment in segments.clone() {
            assert!(!got[segment], "segment {segment} arrived twice: {what}");
            got[segment] = true;
        }
        joined |= segments.len() > 1;
        compare(&burst, &seen, segments, &what);
    }
    joined
}

fn compare(burst: &Burst, seen: &Seen<'_>, segments: std::ops::Range<usize>, what: &str) {
    if segments.len() == 1 {
        // A segment that arrives alone is byte-identical to the sent one, with a wrong checksum too: no kernel has to
        // rewrite it.
        let sent = &burst.packets[segments.start];
        assert!(seen.whole == sent, "{what}\n  came {:02x?}\n  sent {:02x?}", &seen.whole[..40], &sent[..40]);
        assert_eq!(seen.has_right_sum(), segments.start != BROKEN, "checksum: {what}");
        return;
    }
    assert!(!segments.contains(&BROKEN), "the segment with the wrong checksum was merged: {what}");
    assert!(seen.has_right_header_sum(), "IP checksum: {what}");
    // The kernel accepts a super-packet with an incomplete checksum; either form of a verified one is allowed.
    assert!(seen.has_pseudo_sum() || seen.has_right_sum(), "checksum {:#06x}: {what}", seen.checksum());
    let first = Seen::new(&burst.packets[segments.start]);
    let of = (seen.tos(), seen.id(), seen.fragment(), seen.whole[8], seen.ack(), seen.window(), seen.urgent());
    let should = (first.tos(), first.id(), first.fragment(), 64, first.ack(), first.window(), first.urgent());
    assert_eq!(of, should, "TOS, id, fragment, TTL, ack, window, urgent pointer: {what}");
    let (head, last) = (segments.start, segments.end - 1);
    for segment in segments {
        let marks = marks(segment);
        assert_eq!(marks & URG, 0, "segment {segment} is urgent and not alone: {what}");
        assert_eq!(marks & ECE, seen.flags() & ECE, "ECE of segment {segment}: {what}");
        assert!(marks & CWR == 0 || segment == head, "CWR of segment {segment} is not at the head: {what}");
        assert!(marks & (PSH | FIN) == 0 || segment == last, "PSH or FIN of segment {segment} is inside: {what}");
    }
    let should = ACK | marks(head) & (CWR | ECE) | marks(last) & (PSH | FIN | ECE);
    assert_eq!(seen.flags(), should, "flags: {what}");
}
