//! From a client with bundles to one without: the server's host finishes the packets before the other client gets them.

use std::net::Ipv4Addr;

use testkit::hosts::forwards_packets;
use testkit::inner::{ACK, CWR, ECE, FIN, Ip, PSH, Seen, Sum, TCP, Tcp, UDP, add, pseudo_sum, sum};
use testkit::netns::in_namespace;
use testkit::noise;
use testkit::records::{Got, Vnet, packets_of, record};
use testkit::wire::{BUNDLE_SEND, vpn};

use crate::lab::{BUNDLES, Lab};
use crate::peer::Peer;

const PORTS: (u16, u16) = (41_005, 41_006);

/// The lab's client, another client, and a host between them that forwards; `None` if forwarding cannot be enabled.
struct Pair {
    lab: Lab,
    other: Peer,
    address: Ipv4Addr,
}

impl Pair {
    fn start(test: &str, offer: &[u8]) -> Option<Pair> {
        if !forwards_packets(test) {
            return None;
        }
        let lab = Lab::start("", &BUNDLES);
        let (other, address) = Peer::leased(lab.server.port, offer);
        Some(Pair { lab, other, address })
    }

    fn ip(&self) -> Ip {
        Ip { id: 77, ..Ip::new(self.lab.address, self.address) }
    }

    fn send(&self, vnet: Vnet, packet: &[u8]) {
        self.lab.peer.send(&vpn(BUNDLE_SEND, self.lab.peer.usage, &record(vnet, packet)));
    }

    /// Returns the next packet with the test's ports at the other client, which accepts no bundles, so the packet is
    /// complete.
    fn next(&self, what: &str) -> Vec<u8> {
        loop {
            let packets = packets_of(&self.other.next(what), 0, &mut Got::default());
            let ours = packets.into_iter().find(|(packet, _)| {
                let seen = Seen::new(packet);
                [TCP, UDP].contains(&seen.protocol()) && seen.ports() == PORTS
            });
            if let Some((packet, size)) = ours {
                assert_eq!(size, None);
                return packet;
            }
        }
    }
}

/// The case's name, its IP header, its virtio header, TCP's flags and options, and the size of its payload.
type Case<'a> = (&'a str, &'a Ip, Vnet, u8, &'a [u8], usize);

#[test]
fn tcp_super_packets_are_cut() {
    const NAME: &str = "forwarded::tcp_super_packets_are_cut";
    in_namespace(NAME, || {
        let Some(pair) = Pair::start(NAME, b"") else { return };
        let plain = pair.ip();
        let options = Ip { options: vec![1, 1, 1, 0], ..pair.ip() };
        let tos = Ip { tos: 0xb9, ..pair.ip() };
        let stamps = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let good = Vnet::tcp(1000);
        let cases: [Case<'_>; 14] = [
            ("plain", &plain, good, 0, &[], 3500),
            ("no rest", &plain, good, 0, &[], 4000),
            ("PSH", &plain, good, PSH, &[], 3500),
            ("FIN", &plain, good, FIN | PSH, &[], 3500),
            ("ECE", &plain, good, ECE, &[], 3500),
            ("CWR", &plain, Vnet { gso_type: 0x81, ..good }, CWR, &[], 3500),
            ("CWR that the header does not announce", &plain, good, CWR, &[], 3500),
            ("ECN bit without CWR", &plain, Vnet { gso_type: 0x81, ..good }, 0, &[], 3500),
            ("all", &plain, Vnet { gso_type: 0x81, ..good }, CWR | ECE | PSH | FIN, &[], 3500),
            ("DSCP and ECN", &tos, good, 0, &[], 3500),
            ("time stamps", &plain, good, PSH, &stamps, 3500),
            ("IP options", &options, Vnet { csum_start: 24, ..good }, PSH, &stamps, 3500),
            ("small", &plain, Vnet::tcp(81), PSH, &[], 3500),
            ("odd and large", &plain, Vnet { hdr_len: 9, ..Vnet::tcp(1349) }, PSH, &[], 65_000),
        ];
        for (number, (what, ip, vnet, marks, options, length)) in cases.into_iter().enumerate() {
            let payload = noise(number as u64, length);
            // The sequence numbers wrap in the middle.
            let first = Tcp { options: options.to_vec(), ..Tcp::new(0u32.wrapping_sub(2500), ACK | marks) };
            pair.send(vnet, &ip.tcp(PORTS, &first, &payload, Sum::Pseudo));
            let segments = payload.chunks(vnet.gso_size.into()).count();
            for (at, payload) in payload.chunks(vnet.gso_size.into()).enumerate() {
                let what = format!("{what}, segment {at} of {segments}");
                let packet = pair.next(&what);
                let seen = Seen::new(&packet);
                let mut flags = ACK | marks & ECE;
                flags |= if at == 0 { marks & CWR } else { 0 };
                flags |= if at + 1 == segments { marks & (PSH | FIN) } else { 0 };
                let seq = first.seq.wrapping_add((at * usize::from(vnet.gso_size)) as u32);
                let tcp = Tcp { seq, flags, ..first.clone() };
                // The router decrements the TTL. Each segment has its own id, or all have that of the first.
                let expected = Ip { ttl: 63, id: seen.id(), ..ip.clone() }.tcp(PORTS, &tcp, payload, Sum::Right);
                assert!([77, 77 + at as u16].contains(&seen.id()), "id {}: {what}", seen.id());
                let heads = (&packet[..packet.len().min(72)], &expected[..expected.len().min(72)]);
                assert!(packet == expected, "{what}\n  came     {:02x?}\n  expected {:02x?}", heads.0, heads.1);
            }
        }
    });
}

#[test]
fn udp_super_packets_are_cut() {
    const NAME: &str = "forwarded::udp_super_packets_are_cut";
    in_namespace(NAME, || {
        let Some(pair) = Pair::start(NAME, b"CFV1\x01\x02\x00\x00") else { return };
        let options = Ip { options: vec![1, 1, 1, 0], ..pair.ip() };
        for (ip, vnet, length) in [
            (pair.ip(), Vnet::udp(1000), 3500),
            (pair.ip(), Vnet::udp(1362), 1362 * 47),
            (pair.ip(), Vnet::udp(57), 128 * 57),
            (pair.ip(), Vnet::udp(64), 800),
            (options, Vnet { csum_start: 24, ..Vnet::udp(511) }, 20_000),
        ] {
            let payload = noise(u64::from(vnet.gso_size), length);
            pair.send(vnet, &ip.udp(PORTS, &payload, Sum::Pseudo));
            for (at, payload) in payload.chunks(vnet.gso_size.into()).enumerate() {
                let what = format!("{vnet:?}, datagram {at}");
                let packet = pair.next(&what);
                let id = Seen::new(&packet).id();
                let expected = Ip { ttl: 63, id, ..ip.clone() }.udp(PORTS, payload, Sum::Right);
                let heads = (&packet[..packet.len().min(48)], &expected[..expected.len().min(48)]);
                assert!(packet == expected, "{what}\n  came     {:02x?}\n  expected {:02x?}", heads.0, heads.1);
            }
        }
    });
}

/// In UDP 0 means "no checksum" (RFC 768): a checksum that computes to 0 is sent as 0xffff.
#[test]
fn a_completed_udp_checksum_is_never_zero() {
    const NAME: &str = "forwarded::a_completed_udp_checksum_is_never_zero";
    in_namespace(NAME, || {
        let Some(pair) = Pair::start(NAME, b"") else { return };
        let zero_sum = |seed: u64| {
            let mut payload = noise(seed, 100);
            payload[98..].fill(0);
            let packet = pair.ip().udp(PORTS, &payload, Sum::Zero);
            let pseudo = pseudo_sum(pair.lab.address, pair.address, UDP, 108);
            let rest = 0xffff - add(pseudo, sum(&packet[20..]));
            payload[98..].copy_from_slice(&rest.to_be_bytes());
            let packet = pair.ip().udp(PORTS, &payload, Sum::Right);
            assert_eq!(Seen::new(&packet).checksum(), 0xffff, "the test's own arithmetic");
            payload
        };
        let lacks = Vnet { flags: 1, csum_start: 20, csum_offset: 6, ..Vnet::default() };
        pair.send(lacks, &pair.ip().udp(PORTS, &zero_sum(1), Sum::Pseudo));
        assert_eq!(Seen::new(&pair.next("one packet")).checksum(), 0xffff);
        let payload: Vec<u8> = (2..6).flat_map(zero_sum).collect();
        pair.send(Vnet::udp(100), &pair.ip().udp(PORTS, &payload, Sum::Pseudo));
        for segment in 0..4 {
            assert_eq!(Seen::new(&pair.next("a segment")).checksum(), 0xffff, "segment {segment}");
        }
    });
}

/// A packet whose checksum field is said to be at the port: the host's packet filter would accept one port, and the
/// packet would be delivered to another.
#[test]
fn a_checksum_cannot_overwrite_a_port() {
    const NAME: &str = "forwarded::a_checksum_cannot_overwrite_a_port";
    in_namespace(NAME, || {
        let Some(pair) = Pair::start(NAME, b"") else { return };
        let hidden = Vnet { flags: 1, csum_start: 20, csum_offset: 2, ..Vnet::default() };
        // It has no UDP checksum, so it is valid with any port.
        pair.send(hidden, &pair.ip().udp(PORTS, b"through the filter", Sum::Zero));
        pair.send(Vnet::default(), &pair.ip().udp(PORTS, b"the end", Sum::Right));
        loop {
            for (packet, _) in packets_of(&pair.other.next("the end"), 0, &mut Got::default()) {
                let seen = Seen::new(&packet);
                if seen.protocol() != UDP {
                    continue;
                }
                assert_eq!(seen.ports(), PORTS, "sent to port {}, delivered to {}", PORTS.1, seen.ports().1);
                if seen.payload() == b"the end" {
                    return;
                }
            }
        }
    });
}
