//! What no peer may make the server's host do: send many more bytes than the peer's record has, follow a route in a
//! packet's options, pass bytes through its filters that are not those that arrive.

use std::fs;
use std::net::Ipv4Addr;

use dap_chain_net_srv_vpn::app;
use host::netlink::Netlink;
use testkit::eventually;
use testkit::hosts::{Host, forwards_packets};
use testkit::inner::{ACK, Ip, Seen, Sum, Tcp, UDP, pseudo_sum, sum};
use testkit::netns::in_namespace;
use testkit::noise;
use testkit::records::{Vnet, record};
use testkit::sockets::{every_packet, raw_sender};
use testkit::wire::{BUNDLE_SEND, vpn};
use vpn_core::forward::DropCause;

use crate::lab::{BUNDLES, Lab, drops_since};
use crate::peer::Peer;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 2);

/// Returns a super-packet to this address with segments of `size` bytes, and the case's name.
fn super_packet(lab: &Lab, target: Ipv4Addr, is_tcp: bool, size: usize, options: [usize; 2]) -> (String, Vec<u8>) {
    let [ip_options, tcp_options] = options;
    let ip = Ip { options: vec![1; ip_options], ..Ip::new(lab.address, target) };
    let csum_start = 20 + ip_options as u16;
    let payload = noise(size as u64, size * 120);
    let (vnet, packet) = match is_tcp {
        true => {
            let tcp = Tcp { options: vec![1; tcp_options], ..Tcp::new(7, ACK) };
            (Vnet::tcp(size as u16), ip.tcp((4242, 9), &tcp, &payload, Sum::Pseudo))
        }
        false => (Vnet::udp(size as u16), ip.udp((4242, 9), &payload, Sum::Pseudo)),
    };
    let protocol = if is_tcp { "TCP" } else { "UDP" };
    (format!("{protocol} of {size} bytes, options {options:?}"), record(Vnet { csum_start, ..vnet }, &packet))
}

#[test]
fn super_packets_that_amplify_are_dropped() {
    in_namespace("refused::super_packets_that_amplify_are_dropped", || {
        let lab = Lab::start("", &BUNDLES);
        for (is_tcp, size, options) in [
            (false, 1, [0, 0]),
            (false, 1, [40, 0]),
            (false, 24, [0, 0]),
            (false, 55, [0, 0]),
            (false, 134, [40, 0]),
            (true, 32, [0, 0]),
            (true, 78, [0, 0]),
            (true, 32, [40, 40]),
            (true, 236, [40, 40]),
        ] {
            let (what, amplifies) = super_packet(&lab, crate::lab::GATEWAY, is_tcp, size, options);
            let data = [lab.good(b"before"), amplifies, lab.good(b"behind")].concat();
            lab.check(&what, &data, &[b"before", b"behind"], &[(DropCause::Amplifies, 1)]);
        }
    });
}

/// Counts what leaves the server's host for another: whatever the size of the segments, it is at most half as much again
/// as the client's packets.
#[test]
fn a_host_outside_gets_no_more_than_half_as_much_again() {
    const NAME: &str = "refused::a_host_outside_gets_no_more_than_half_as_much_again";
    in_namespace(NAME, || {
        if !forwards_packets(NAME) {
            return;
        }
        let outside = Host::new(0);
        let lab = Lab::start("", &BUNDLES);
        // What arrives has been cut, by the kernel or by the server; a watch there sees each packet's own bytes.
        let watch = outside.run(every_packet);
        watch.set_nonblocking(true).unwrap();
        for is_tcp in [false, true] {
            for size in [1, 8, 32, 40, 56, 57, 80, 81, 104, 120, 180, 241, 300, 500] {
                for options in [[0, 0], [12, 12], [40, 40]] {
                    let (what, record) = super_packet(&lab, OUTSIDE, is_tcp, size, options);
                    let own = record.len() - 12;
                    let before = app::server_totals().unwrap();
                    lab.peer.send(&vpn(BUNDLE_SEND, lab.peer.usage, &record));
                    lab.peer.ping();
                    let dropped = !drops_since(&before).is_empty();
                    let sent = app::server_totals().unwrap().up_bytes - before.up_bytes;
                    assert_eq!(dropped, sent == 0, "{what}");
                    assert!(2 * sent as usize <= 3 * own, "{what}: {own} bytes become {sent}");
                    let mut arrived = 0;
                    let mut packet = vec![0; 65_536];
                    eventually(&what, || {
                        while let Ok(length) = watch.recv(&mut packet) {
                            if packet[12..20] == [lab.address.octets(), OUTSIDE.octets()].concat() {
                                let seen = Seen::new(&packet[..length]);
                                let headers = length - seen.payload().len();
                                // A cable between namespaces leaves super-packets whole: their headers count for each.
                                let segments = seen.payload().len().div_ceil(size).max(1);
                                arrived += length + (segments - 1) * headers;
                            }
                        }
                        arrived as u64 >= sent
                    });
                    assert!(2 * arrived <= 3 * own, "{what}: {own} bytes became {arrived}");
                }
            }
        }
    });
}

#[test]
fn source_routes_and_broken_options_are_dropped() {
    in_namespace("refused::source_routes_and_broken_options_are_dropped", || {
        let lab = Lab::start("", &BUNDLES);
        let other = Peer::leased(lab.server.port, &BUNDLES).1;
        let route = |kind: u8| [&[kind, 7, 4], other.octets().as_slice(), &[0]].concat();
        let bad = [
            route(131),
            route(137),
            [&[1, 1, 1, 1], route(131).as_slice()].concat(),
            [&[148, 4, 0, 0], route(137).as_slice()].concat(),
            vec![131, 3, 4, 0],
            vec![7, 0, 0, 0],
            vec![7, 1, 4, 0],
            vec![1, 1, 1, 7],
            vec![68, 40, 5, 0],
            vec![1, 1, 1, 131],
            vec![0x82, 255, 0, 0],
        ];
        for options in bad {
            let ip = Ip { options: options.clone(), ..lab.ip() };
            let csum_start = ip.header_len() as u16;
            let large =
                record(Vnet { csum_start, ..Vnet::udp(500) }, &ip.udp(lab.ports(), &noise(1, 2000), Sum::Pseudo));
            let plain = record(Vnet::default(), &ip.udp(lab.ports(), b"around", Sum::Right));
            let data = [lab.good(b"before"), plain, large, lab.good(b"behind")].concat();
            lab.check(&format!("{options:?}"), &data, &[b"before", b"behind"], &[(DropCause::BadOptions, 2)]);
        }
        // Time stamps and the route alert are only requests; behind the end of the list there is none.
        for options in [vec![1, 1, 1, 0], vec![148, 4, 0, 0], vec![0, 131, 137, 1]] {
            let ip = Ip { options: options.clone(), ..lab.ip() };
            let data = record(Vnet::default(), &ip.udp(lab.ports(), b"fine", Sum::Right));
            lab.check(&format!("{options:?}"), &data, &[b"fine"], &[]);
        }
    });
}

/// A kernel completes a checksum behind the host's filters. A watch on the server's device sees what they see: there
/// every byte of an encapsulated packet must be final, wherever the record says that a sum is missing.
#[test]
fn filters_see_the_bytes_that_arrive() {
    const NAME: &str = "refused::filters_see_the_bytes_that_arrive";
    in_namespace(NAME, || {
        let lab = Lab::start("", &BUNDLES);
        let watch = every_packet();
        watch.set_read_timeout(Some(testkit::TEST_TIMEOUT)).unwrap();
        let ip = |number: u16| Ip { id: number, ..lab.ip() };
        // IPv4 and UDP in IPv4, IPv6 and TCP in IPv4, the same behind GRE, and Ethernet behind UDP; the place is that of
        // the inner checksum, or one that a filter of inner packets reads.
        let mut number = 100;
        for protocol in [4, 41, 47, 17] {
            let body = noise(protocol.into(), 200);
            let inner = match protocol {
                UDP => lab.ip().udp((4242, 4789), &body, Sum::Zero)[20..].to_vec(),
                _ => body,
            };
            for (start, offset) in
                [(40, 6), (40, 16), (60, 16), (40, 18), (40, 22), (44, 40), (60, 2), (28, 0), (28, 30)]
            {
                number += 1;
                let packet = ip(number).packet(protocol, &inner);
                let vnet = Vnet { flags: 1, csum_start: start, csum_offset: offset, ..Vnet::default() };
                let place = usize::from(start + offset);
                let mut finished = packet.clone();
                let sum = match !sum(&packet[usize::from(start)..]) {
                    0 => 0xffff,
                    other => other,
                };
                finished[place..place + 2].copy_from_slice(&sum.to_be_bytes());
                let before = app::server_totals().unwrap();
                lab.peer.send(&vpn(BUNDLE_SEND, lab.peer.usage, &record(vnet, &packet)));
                lab.peer.ping();
                let what = format!("protocol {protocol}, {start} + {offset}");
                let drops = drops_since(&before);
                if !drops.is_empty() {
                    assert_eq!(drops, [(DropCause::BadOffload, 1)], "{what}");
                    assert!(start == 28 && protocol != 17, "{what}: dropped");
                    continue;
                }
                let seen = seen_with_id(&watch, number);
                assert!(seen == finished, "{what}\n  seen {:02x?}\n  want {:02x?}", &seen[20..84], &finished[20..84]);
            }
        }
        // The packet's own checksum is the kernel's: no filter reads it, and what arrives is right.
        let lacks = Vnet { flags: 1, csum_start: 20, csum_offset: 6, ..Vnet::default() };
        let own = ip(7).udp(lab.ports(), b"own", Sum::Pseudo);
        lab.check("its own", &record(lacks, &own), &[b"own"], &[]);
        let header = seen_with_id(&watch, 7);
        let pseudo = pseudo_sum(lab.address, crate::lab::GATEWAY, UDP, 8 + 3);
        assert_eq!(header[26..28], pseudo.to_be_bytes());
    });
}

fn seen_with_id(watch: &std::net::UdpSocket, id: u16) -> Vec<u8> {
    let mut buffer = [0; 4096];
    loop {
        let length = watch.recv(&mut buffer).expect("the packet on the device");
        let packet = buffer[..length].to_vec();
        if packet.len() > 20 && packet[0] >> 4 == 4 && Seen::new(&packet).id() == id {
            return packet;
        }
    }
}

/// The host is made to forward between clients, or has a rule that does: the server keeps them apart in both directions.
#[test]
fn isolation_holds_for_what_the_host_sends() {
    in_namespace("refused::isolation_holds_for_what_the_host_sends", || {
        for isolates in [true, false] {
            let lab = Lab::start(&format!("client_isolation={isolates}\n"), &BUNDLES);
            let other = Peer::leased(lab.server.port, &BUNDLES).1;
            let raw = raw_sender();
            let sources = [
                (other, isolates.then_some(DropCause::PeerIsolated)),
                (Ipv4Addr::new(10, 98, 0, 255), isolates.then_some(DropCause::PeerIsolated)),
                (Ipv4Addr::new(169, 254, 169, 254), Some(DropCause::Denied)),
                (crate::lab::GATEWAY, None),
                (Ipv4Addr::new(192, 0, 2, 7), None),
            ];
            for (source, cause) in sources {
                let before = app::server_totals().unwrap();
                let payload = format!("from {source}");
                let packet = Ip::new(source, lab.address).udp((53, 4242), payload.as_bytes(), Sum::Right);
                raw.send_to(&packet, (lab.address, 0)).unwrap();
                match cause {
                    Some(cause) => {
                        eventually(&payload, || drops_since(&before) == [(cause, 1)]);
                    }
                    None => while !lab.peer.next(&payload).ends_with(payload.as_bytes()) {},
                }
            }
        }
    });
}

/// Addresses that no router passes on, and the host's own with `deny_host`.
#[test]
fn what_clients_must_not_reach_is_denied() {
    const NAME: &str = "refused::what_clients_must_not_reach_is_denied";
    in_namespace(NAME, || {
        let own = Ipv4Addr::new(192, 0, 2, 9);
        let added = Ipv4Addr::new(192, 0, 2, 10);
        let netlink = || Netlink::open().unwrap();
        let loopback = netlink().link_index("lo").unwrap();
        netlink().add_address(loopback, own, 32).unwrap();
        let cases: [(&str, &[(Ipv4Addr, bool)]); 4] = [
            ("", &[(own, true)]),
            ("deny=[10.0.0.0/8,192.0.2.0/24]\n", &[(own, false), (Ipv4Addr::new(10, 7, 7, 7), false)]),
            ("deny=192.0.2.9\n", &[(own, false)]),
            ("deny_host=true\n", &[(own, false), (Ipv4Addr::new(192, 0, 2, 11), true)]),
        ];
        for (keys, targets) in cases {
            let lab = Lab::start(keys, &BUNDLES);
            let never = ["169.254.169.254", "127.0.0.1", "0.0.0.0", "224.0.0.251", "255.255.255.255", "240.0.0.1"];
            let never = never.map(|text| (text.parse().unwrap(), false));
            for (target, passes) in targets.iter().copied().chain(never) {
                let packet = Ip::new(lab.address, target).udp((4242, 9), b"away", Sum::Right);
                let large = Ip::new(lab.address, target).udp((4242, 9), &noise(1, 2000), Sum::Pseudo);
                let records = [record(Vnet::default(), &packet), record(Vnet::udp(900), &large)];
                let data = [lab.good(b"before"), records.concat(), lab.good(b"behind")].concat();
                let drops: &[_] = if passes { &[] } else { &[(DropCause::Denied, 2)] };
                lab.check(&format!("{keys} {target}"), &data, &[b"before", b"behind"], drops);
            }
            if keys.starts_with("deny_host") {
                let reaches = |target: Ipv4Addr| {
                    let before = app::server_totals().unwrap();
                    let packet = Ip::new(lab.address, target).udp((4242, 9), b"away", Sum::Right);
                    lab.peer.send(&vpn(BUNDLE_SEND, lab.peer.usage, &record(Vnet::default(), &packet)));
                    lab.peer.ping();
                    drops_since(&before).is_empty()
                };
                assert!(reaches(added));
                netlink().add_address(loopback, added, 32).unwrap();
                eventually("a new address is denied", || !reaches(added));
                netlink().del_address(loopback, added, 32).unwrap();
                eventually("a former address is not", || reaches(added));
                assert!(!reaches(own));
                // An address of the host inside the tunnel's subnet is not a client's.
                let [a, b, c, _] = lab.address.octets();
                let inside = Ipv4Addr::new(a, b, c, 200);
                assert!(reaches(inside));
                netlink().add_address(loopback, inside, 32).unwrap();
                eventually("an address inside the subnet is denied", || !reaches(inside));
                let gateway = Ipv4Addr::new(a, b, c, 1);
                assert!(reaches(gateway), "{gateway}");
                netlink().del_address(loopback, inside, 32).unwrap();
                eventually("a client may have it again", || reaches(inside));
            }
        }
        let threads = fs::read_dir("/proc/self/task").unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        assert!(threads.flatten().all(|task| name(task).trim() != "vpn-addresses"), "a thread stayed");
    });
}
