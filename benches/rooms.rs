//! The pure rooms, per packet and per lease: `cargo bench --bench rooms`.
//!
//! What the data path does for each packet beside the kernel and the SDK: parse the VPN header, look at the IPv4 header,
//! check the source, find the session.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use dap_chain_net_srv_vpn::forward::{Route, Table, check_upstream};
use dap_chain_net_srv_vpn::lease::{Pool, Subnet, Token};
use dap_chain_net_srv_vpn::wire::{self, HEADER_LEN, Header, op};
use divan::Bencher;

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
    let mut packet = vec![0; PACKET];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(PACKET as u16).to_be_bytes());
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
        bencher.bench(|| {
            let (_, message) = wire::parse_from_client(black_box(&packet)).ok()?;
            let wire::FromClient::Send(inner) = message else { return None };
            check_upstream(inner, Some(address(2)), &SUBNET, true).ok()
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

    /// The look-up alone, of addresses all over the table.
    #[divan::bench(args = LEASES)]
    fn look_up(bencher: Bencher<'_, '_>, leases: u32) {
        let table = table(leases);
        let mut host = 0;
        bencher.bench_local(|| {
            // A step that has no factor in common with the number of leases visits them all.
            host = (host + 7_919) % leases;
            table.get(black_box(address(2 + host)))
        });
    }

    fn table(leases: u32) -> Table {
        let table = Table::new(&SUBNET);
        for host in 0..leases {
            assert!(table.set(address(2 + host), Route { worker: 0, generation: 1, slot: host }));
        }
        table
    }
}

mod lease {
    use super::*;

    #[divan::bench(args = LEASES)]
    fn lease_and_release(bencher: Bencher<'_, '_>, leases: u32) {
        let mut pool = Pool::new(SUBNET, Duration::from_secs(60));
        let mut drawn = 0;
        for _ in 0..leases {
            pool.lease(Duration::ZERO, None, token(&mut drawn)).expect("the subnet has room");
        }
        let mut now = Duration::ZERO;
        bencher.bench_local(|| {
            // So that some thousand addresses are being kept for their clients at any time.
            now += Duration::from_millis(12);
            let lease = pool.lease(now, None, token(&mut drawn)).expect("the subnet has room");
            pool.release(lease.addr, lease.id, now)
        });
    }

    /// As random as real ones, without the kernel.
    fn token(drawn: &mut u64) -> Token {
        *drawn += 1;
        u128::from(*drawn).wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).to_le_bytes()
    }
}
