//! Single unusual packets, built by hand, among ordinary ones of the same flow.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::net::ipproto;
use testkit::inner::{DF, Ip, MF, Seen, Sum};
use testkit::sockets::{echo, every_packet, large_buffer, raw_sender, received, udp};
use testkit::{TEST_TIMEOUT, noise};

use super::{Tunnel, Way, in_tunnel, on, raw_receiver};

/// The payload of each datagram, so that merged datagrams can be told apart.
const SIZE: usize = 64;
/// The id of a fragment whose rest never arrives.
const LONE: u16 = 0x7777;
/// No operation, three times, and the end of the list.
const NOPS: [u8; 4] = [1, 1, 1, 0];
/// Record route with space for two addresses, and the end of the list.
const ROUTE: [u8; 12] = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn both_ends() {
    in_tunnel("offload::odd::both_ends", true, true, odd_packets_arrive);
}

#[test]
fn server_alone() {
    in_tunnel("offload::odd::server_alone", true, false, odd_packets_arrive);
}

#[test]
fn client_alone() {
    in_tunnel("offload::odd::client_alone", false, true, odd_packets_arrive);
}

#[test]
fn neither_end() {
    in_tunnel("offload::odd::neither_end", false, false, odd_packets_arrive);
}

struct Sent {
    what: &'static str,
    ip: Ip,
    payload: Vec<u8>,
    checksum: Sum,
}

fn odd_packets_arrive(tunnel: &Tunnel) {
    for way in tunnel.ways() {
        let Way { source, target, .. } = way;
        let sender = on(way.from, raw_sender);
        let packets = on(way.to, move || raw_receiver(ipproto::UDP, target, source));
        let datagrams = on(way.to, move || udp(target));
        large_buffer(&datagrams);
        let device = on(way.to, every_packet);
        let ports = (4242, datagrams.local_addr().unwrap().port());

        let sent = datagrams_to_send(&way);
        for (at, one) in sent.iter().enumerate() {
            send(&sender, &one.ip.udp(ports, &one.payload, one.checksum));
            if at == sent.len() / 2 {
                let ip = Ip { id: LONE, fragment: MF, ..Ip::new(source, target) };
                send(&sender, &ip.udp(ports, &noise(7, SIZE), Sum::Right));
            }
        }
        compare(&packets, ports, &sent);
        // The kernel has verified checksums, and has cut merged datagrams again.
        for one in &sent {
            let (got, from) = received(&datagrams, one.what);
            assert_eq!((got, from.ip(), from.port()), (one.payload.clone(), source.into(), ports.0), "{}", one.what);
        }
        let lone = Ip { id: LONE, fragment: MF, ..Ip::new(source, target) }.udp(ports, &noise(7, SIZE), Sum::Right);
        assert!(saw(&device, &lone), "the lone fragment did not arrive as it was sent");
        datagrams.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(datagrams.recv(&mut [0; 2048]).is_err(), "a datagram was delivered twice, or the lone fragment");
        echo(&on(way.from, move || udp(source)), &on(way.to, move || udp(target)), b"still working");
    }
}

/// Returns each unusual datagram twice in a row, with ordinary ones before and after; all differ in id and payload.
fn datagrams_to_send(way: &Way<'_>) -> Vec<Sent> {
    let plain = Ip::new(way.source, way.target);
    let tos = |tos| Ip { tos, ..plain.clone() };
    let with = |options: &[u8]| Ip { options: options.to_vec(), ..plain.clone() };
    let odd: [(_, _, usize, _); 11] = [
        ("not ECN-capable, DSCP 46", tos(0xb8), SIZE, Sum::Right),
        ("ECT(1)", tos(0xb9), SIZE, Sum::Right),
        ("ECT(0)", tos(0xba), SIZE, Sum::Right),
        ("congestion experienced", tos(0xbb), SIZE, Sum::Right),
        ("NOP options", with(&NOPS), SIZE, Sum::Right),
        ("record route", with(&ROUTE), SIZE, Sum::Right),
        ("no payload", plain.clone(), 0, Sum::Right),
        ("no payload, no checksum", plain.clone(), 0, Sum::Zero),
        ("no checksum", plain.clone(), SIZE, Sum::Zero),
        ("don't fragment", Ip { fragment: DF, ..plain.clone() }, SIZE, Sum::Right),
        ("another TTL", Ip { ttl: 3, ..plain.clone() }, SIZE, Sum::Right),
    ];
    let mut sent = Vec::new();
    for (what, ip, size, checksum) in odd {
        for (what, ip, size, checksum) in [
            ("an ordinary one", plain.clone(), SIZE, Sum::Right),
            (what, ip.clone(), size, checksum),
            (what, ip, size, checksum),
            ("an ordinary one", plain.clone(), SIZE, Sum::Right),
        ] {
            let id = 100 + sent.len() as u16;
            sent.push(Sent { what, ip: Ip { id, ..ip }, payload: noise(u64::from(id), size), checksum });
        }
    }
    sent
}

fn send(raw: &UdpSocket, packet: &[u8]) {
    let target = Seen::new(packet).target();
    assert_eq!(raw.send_to(packet, (target, 0)).unwrap(), packet.len());
}

/// Checks that the packets arrive as they were sent, or several of equal headers as one.
fn compare(packets: &UdpSocket, ports: (u16, u16), sent: &[Sent]) {
    let mut buffer = vec![0; 65_536];
    let mut at = 0;
    while at < sent.len() {
        let size = packets.recv(&mut buffer).unwrap_or_else(|error| panic!("{}, {at}: {error}", sent[at].what));
        let seen = Seen::new(&buffer[..size]);
        if seen.ports() != ports {
            continue;
        }
        let payload = seen.payload();
        let count = payload.len().div_ceil(SIZE).max(1);
        assert!(at + count <= sent.len(), "more datagrams than were sent");
        let parts = &sent[at..at + count];
        let what = format!("{at} ({count} together): {}, came as {:02x?}", parts[0].what, &buffer[..size.min(48)]);
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.payload.clone()).collect();
        assert!(payload == bytes, "{what}: other payload");
        for part in parts {
            let of = (seen.tos(), seen.fragment(), seen.whole[8], seen.options().len());
            let should = (part.ip.tos, part.ip.fragment, part.ip.ttl, part.ip.options.len());
            assert_eq!(of, should, "TOS, fragment, TTL, length of options of {}: {what}", part.what);
        }
        if count == 1 {
            compare_one(&seen, &parts[0], ports, &what);
        } else {
            let options = parts.iter().any(|part| !part.ip.options.is_empty());
            let without = parts.iter().any(|part| part.checksum == Sum::Zero);
            assert!(!options && !without, "these must not be merged: {what}");
            assert_eq!(seen.id(), parts[0].ip.id, "{what}");
        }
        at += count;
    }
}

/// Compares byte by byte. A receiving kernel writes its own address into a recorded route, and leaves the header's
/// checksum unchanged; no kernel may rewrite anything else.
fn compare_one(seen: &Seen<'_>, sent: &Sent, ports: (u16, u16), what: &str) {
    let mut expected = sent.ip.udp(ports, &sent.payload, sent.checksum);
    if sent.ip.options == ROUTE {
        expected[20 + 2] += 4;
        expected[20 + 3..20 + 7].copy_from_slice(&sent.ip.target.octets());
    } else {
        assert!(seen.has_right_header_sum(), "checksum of the IP header: {what}");
    }
    assert!(seen.has_right_sum(), "UDP checksum: {what}");
    assert!(seen.whole == expected, "{what}\n  expected {:02x?}", &expected[..expected.len().min(48)]);
}

/// Whether this packet arrived on a device.
fn saw(device: &UdpSocket, packet: &[u8]) -> bool {
    device.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut buffer = vec![0; 65_536];
    while Instant::now() < deadline {
        let Ok(size) = device.recv(&mut buffer) else { return false };
        if buffer[..size] == *packet {
            return true;
        }
    }
    false
}
