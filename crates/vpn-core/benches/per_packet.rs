//! Micro-benchmarks, per packet and per lease: `cargo bench -p vpn-core`.
//!
//! They measure the data path without kernel and SDK: parsing the VPN header, inspecting the IPv4 header, checking the
//! source, finding the session; cutting super-packets for a peer that does not accept them, and merging packets; what waits for a peer.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use divan::Bencher;
use divan::counter::BytesCount;
use vpn_core::forward::{Coalescer, Networks, Offload, Policy, Route, Table, split};
use vpn_core::lease::{Applicant, Limits, Pool, Subnet, Token};
use vpn_core::source::Source;
use vpn_core::wire::{self, HEADER_LEN, Header, VnetHeader, op};

/// A full-sized packet of a tunnel with the default MTU.
const PACKET: usize = 1390;
const SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 8 };
const LEASES: [u32; 3] = [10, 1_000, 65_000];

fn main() {
    divan::main();
}

fn address(host: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(SUBNET.network) | host)
}

fn ipv4_packet(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    ipv4_packet_of(PACKET, source, destination)
}

fn ipv4_packet_of(len: usize, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet
}

mod upstream {
    use super::*;

    /// A VPN packet from a client: header, inner header, source.
    #[divan::bench]
    fn parse_and_check(bencher: Bencher<'_, '_>) {
        let inner = ipv4_packet(address(2), Ipv4Addr::new(192, 0, 2, 1));
        let header = Header { sock_id: 0, op: op::VPN_SEND, usage_id: 1, value: inner.len() as u32 };
        let packet = [header.to_bytes().as_slice(), &inner].concat();
        let policy = Policy { subnet: &SUBNET, isolate: true, deny: &Networks::default() };
        bencher.bench(|| {
            let (_, message) = wire::parse_from_client(black_box(&packet)).ok()?;
            let wire::FromClient::Send(inner) = message else { return None };
            policy.check_upstream(&VnetHeader::default(), inner, Some(address(2))).ok()
        });
    }
}

mod downstream {
    use super::*;

    /// A packet from the host: inner header, session, VPN header.
    #[divan::bench(args = LEASES)]
    fn inspect_route_and_header(bencher: Bencher<'_, '_>, leases: u32) {
        let table = table(leases);
        let mut filled = [vec![0; HEADER_LEN], ipv4_packet(Ipv4Addr::new(192, 0, 2, 1), address(leases / 2))].concat();
        bencher.bench_local(|| {
            let view = wire::inspect(black_box(&filled[HEADER_LEN..])).ok()?;
            let route = table.get(view.destination)?;
            let header = Header { sock_id: 0, op: op::VPN_RECV, usage_id: 1, value: PACKET as u32 };
            header.write_to(filled.first_chunk_mut()?);
            Some(route)
        });
    }

    /// The look-up alone, of addresses all over the table; every sample looks up each.
    #[divan::bench(args = LEASES, sample_size = 65_000)]
    fn look_up(bencher: Bencher<'_, '_>, leases: u32) {
        let table = table(leases);
        let mut host = 0;
        bencher.bench_local(|| {
            // The step has no factor in common with the number of leases, so it visits all of them.
            host = (host + 7_919) % leases;
            table.get(black_box(address(2 + host)))
        });
    }

    fn table(leases: u32) -> Table {
        let table = Table::new(&SUBNET, 2);
        for host in 0..leases {
            assert!(table.set(address(2 + host), Route { worker: 0, slot: host }));
        }
        table
    }
}

mod offload {
    use super::*;

    /// The payload of a segment of a tunnel with the default MTU, and the number of segments in the largest
    /// super-packet.
    const SEGMENT: usize = 1340;
    const SEGMENTS: usize = 48;
    const HEADERS: usize = 40;
    const LARGEST: usize = HEADERS + SEGMENT * SEGMENTS;
    /// Headroom for the headers of a bundle or a VPN packet.
    const HEADROOM: usize = 64;

    /// The checksum alone, as it is completed: of a packet of 1400 bytes and of one with the maximum length.
    #[divan::bench(args = [1_400, 65_535])]
    fn checksum(bencher: Bencher<'_, '_>, len: usize) {
        let mut packet = tcp_packet(len);
        let offload = Offload::Checksum { start: 20, offset: 16 };
        bencher.counter(BytesCount::new(len - 20)).bench_local(|| {
            split(black_box(&mut packet), 0, &offload, |packet| {
                black_box(packet);
            });
        });
    }

    /// Cuts a super-packet of 64 KB repeatedly; only the headers of the first segment are restored in between.
    #[divan::bench]
    fn split_super_packet(bencher: Bencher<'_, '_>) {
        let packet = tcp_packet(LARGEST);
        let (_, offload) = Offload::check(&super_packet_header(), &packet).expect("it is a super-packet");
        let mut buffer = [vec![0; HEADROOM], packet.clone()].concat();
        bencher.counter(BytesCount::new(LARGEST)).bench_local(|| {
            buffer[HEADROOM..HEADROOM + HEADERS].copy_from_slice(&packet[..HEADERS]);
            split(black_box(&mut buffer), HEADROOM, &offload, |segment| {
                black_box(segment);
            });
        });
    }

    /// Merges the segments of a super-packet of 64 KB.
    #[divan::bench]
    fn coalesce_segments(bencher: Bencher<'_, '_>) {
        let mut packet = tcp_packet(LARGEST);
        let (_, offload) = Offload::check(&super_packet_header(), &packet).expect("it is a super-packet");
        let mut segments = Vec::new();
        split(&mut packet, 0, &offload, |segment| segments.push(segment.to_vec()));
        assert_eq!(segments.len(), SEGMENTS);
        let mut coalescer = Coalescer::new(true);
        bencher.counter(BytesCount::new(LARGEST)).bench_local(|| {
            let mut emitted = 0;
            let mut emit = |offload: &Offload, packet: &[u8]| {
                emitted += 1;
                black_box((offload, packet));
            };
            for segment in black_box(&segments) {
                let Ok(view) = wire::inspect(segment) else { return };
                coalescer.push(segment, &view, &Offload::None, &mut emit);
            }
            coalescer.flush(&mut emit);
            assert_eq!(emitted, 1);
        });
    }

    fn super_packet_header() -> VnetHeader {
        VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_TCPV4,
            hdr_len: HEADERS as u16,
            gso_size: SEGMENT as u16,
            csum_start: 20,
            csum_offset: 16,
        }
    }

    fn tcp_packet(len: usize) -> Vec<u8> {
        let mut packet = ipv4_packet(Ipv4Addr::new(192, 0, 2, 1), address(2));
        packet.resize(len, 0x5a);
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[6] = 0x40;
        packet[9] = 6;
        packet[32..34].copy_from_slice(&[0x50, 0x10]);
        packet
    }
}

mod queue {
    use super::*;
    use vpn_core::queue::{Events, Limits, Memory, Queue};

    /// A packet comes and one goes, while 256 KiB of eight flows wait.
    #[divan::bench(args = [40, 1_400, 16_384, 65_000])]
    fn push_and_pop(bencher: Bencher<'_, '_>, len: usize) {
        let mut memory = Memory::new(64 << 20, 7);
        let mut queue = Queue::new(Limits { bytes: 16 << 20 });
        let (mut events, mut space) = (Events::default(), vec![0; 65_545]);
        let packets: Vec<_> = (0..8).map(|host| ipv4_packet_of(len, address(host), address(9))).collect();
        let views: Vec<_> = packets.iter().map(|packet| wire::inspect(packet).expect("it is one")).collect();
        let mut now = Duration::ZERO;
        let mut flows = packets.iter().zip(&views).cycle();
        let mut push = |queue: &mut Queue, memory: &mut Memory, now| {
            let Some((packet, view)) = flows.next() else { return };
            queue.push(memory, now, packet, (view, &Offload::None), 65_535, &mut Events::default());
        };
        while queue.bytes() < 256 << 10 {
            push(&mut queue, &mut memory, now);
        }
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            now += Duration::from_nanos(100);
            push(&mut queue, &mut memory, now);
            queue.pop(&mut memory, now, black_box(&mut space), &mut events)
        });
    }
}

mod lease {
    use super::*;

    #[divan::bench(args = LEASES)]
    fn lease_and_release(bencher: Bencher<'_, '_>, leases: u32) {
        let mut pool =
            Pool::new(SUBNET, Duration::from_secs(60), Limits { leases: u32::MAX, new_per_minute: u32::MAX });
        let by = Applicant { source: Source::of([192, 0, 2, 7].into()), is_paid: false };
        let mut drawn = 0;
        for _ in 0..leases {
            pool.lease(Duration::ZERO, &by, None, token(&mut drawn)).expect("the subnet has a free address");
        }
        let mut now = Duration::ZERO;
        bencher.bench_local(|| {
            // Keeps some thousand addresses for their clients at any time.
            now += Duration::from_millis(12);
            let lease = pool.lease(now, &by, None, token(&mut drawn)).expect("the subnet has a free address");
            pool.release(lease.addr, lease.id, now)
        });
    }

    /// Tokens as random as real ones, without the kernel.
    fn token(drawn: &mut u64) -> Token {
        *drawn += 1;
        u128::from(*drawn).wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).to_le_bytes()
    }
}
