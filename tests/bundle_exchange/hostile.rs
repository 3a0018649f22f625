//! Malformed, forged and random bundles.

use dap_chain_net_srv_vpn::app;
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::records::{Vnet, one_of_each, random_bundle, record};
use testkit::sockets::received;
use testkit::wire::{BUNDLE_SEND, VPN_SEND, vpn};
use testkit::{Noise, TEST_TIMEOUT, noise};
use vpn_core::forward::DropCause;

use crate::lab::{BUNDLES, GATEWAY, Lab};
use crate::peer::Peer;

#[test]
fn forged_sources_are_dropped_between_good_records() {
    in_namespace("hostile::forged_sources_are_dropped_between_good_records", || {
        let lab = Lab::start("", &BUNDLES);
        let victim = Peer::leased(lab.server.port, &BUNDLES).1;
        let payload = noise(1, 2000);
        let mut data = lab.good(b"first");
        let sources = [victim, GATEWAY, [192, 0, 2, 1].into(), [127, 0, 0, 1].into(), [255; 4].into(), [0; 4].into()];
        for source in sources {
            let forged = Ip::new(source, GATEWAY);
            data.extend(record(Vnet::default(), &forged.udp(lab.ports(), b"forged", Sum::Right)));
            data.extend(record(Vnet::udp(500), &forged.udp(lab.ports(), &payload, Sum::Pseudo)));
            data.extend(lab.good(b"between"));
        }
        let between = [b"between".as_slice(); 6];
        let expected = [[b"first".as_slice()].as_slice(), &between].concat();
        // One count for a record, or one for each segment of a super-packet: the document leaves that open.
        let before = app::server_totals().unwrap();
        lab.peer.send(&vpn(BUNDLE_SEND, lab.peer.usage, &data));
        for expected in expected {
            assert_eq!(received(&lab.socket, "forged").0, expected);
        }
        lab.peer.ping();
        let drops = crate::lab::drops_since(&before);
        assert_eq!(drops.len(), 1, "{drops:?}");
        assert_eq!(drops[0].0, DropCause::SpoofedSource);
        assert!([12, 6 + 6 * 4].contains(&drops[0].1), "{drops:?}");
    });
}

#[test]
fn bundles_do_not_reach_isolated_clients() {
    in_namespace("hostile::bundles_do_not_reach_isolated_clients", || {
        let lab = Lab::start("client_isolation=true\n", &BUNDLES);
        let victim = Peer::leased(lab.server.port, &BUNDLES).1;
        let peer = Ip::new(lab.address, victim).udp(lab.ports(), b"let me in", Sum::Right);
        let data = [lab.good(b"one"), record(Vnet::default(), &peer), lab.good(b"two")].concat();
        lab.check("isolated", &data, &[b"one", b"two"], &[(DropCause::PeerIsolated, 1)]);
    });
}

#[test]
fn a_truncated_record_ends_the_bundle() {
    in_namespace("hostile::a_truncated_record_ends_the_bundle", || {
        let lab = Lab::start("", &BUNDLES);
        let (first, second) = (lab.good(b"first"), lab.good(b"second"));
        for length in 0..=second.len() {
            let data = [first.as_slice(), &second[..length]].concat();
            let what = format!("{length} of {} bytes of the second record", second.len());
            match length {
                0 => lab.check(&what, &data, &[b"first"], &[]),
                _ if length == second.len() => lab.check(&what, &data, &[b"first", b"second"], &[]),
                _ => lab.check(&what, &data, &[b"first"], &[(DropCause::Malformed, 1)]),
            }
        }
        for length in 1..first.len() {
            lab.check(&format!("{length} bytes"), &first[..length], &[], &[(DropCause::Malformed, 1)]);
        }
    });
}

#[test]
fn impossible_sizes_and_packets() {
    in_namespace("hostile::impossible_sizes_and_packets", || {
        let lab = Lab::start("", &BUNDLES);
        let (one, two) = (lab.good(b"one"), lab.good(b"two"));
        let amid = |what: &str, packet: &[u8], cause| {
            let data = [one.as_slice(), &record(Vnet::default(), packet), &two].concat();
            lab.check(what, &data, &[b"one", b"two"], &[(cause, 1)]);
        };
        amid("size 0", &[], DropCause::Malformed);
        let good = lab.datagram(b"whole");
        for length in [1, 19, 20, good.len() - 1] {
            amid(&format!("{length} bytes of a packet"), &good[..length], DropCause::Malformed);
        }
        amid("a byte too many", &[good.as_slice(), &[0]].concat(), DropCause::Malformed);
        let altered = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet
        };
        amid("a short IP header", &altered(0, 0x44), DropCause::Malformed);
        amid("an IP header beyond the packet", &altered(0, 0x4f), DropCause::Malformed);
        for version in [0x05, 0x55, 0x65, 0xf5] {
            amid(&format!("version and header length {version:#04x}"), &altered(0, version), DropCause::NotIpv4);
        }
        let super_six = record(Vnet::udp(10), &altered(0, 0x65));
        let data = [one.as_slice(), &super_six, &two].concat();
        lab.check("a super-packet that is not IPv4", &data, &[b"one", b"two"], &[(DropCause::NotIpv4, 1)]);

        let mut large = one.clone();
        large.extend(65_535u16.to_le_bytes());
        large.extend([0; 4000]);
        lab.check("size 65535 of which 4000 are present", &large, &[b"one"], &[(DropCause::Malformed, 1)]);
        let payload = noise(2, 65_535 - 12 - 28);
        let largest = lab.good(&payload);
        assert_eq!(largest.len(), 65_535);
        lab.check("one packet that fills the largest bundle", &largest, &[&payload], &[]);
    });
}

#[test]
fn the_size_in_the_header_must_be_right() {
    in_namespace("hostile::the_size_in_the_header_must_be_right", || {
        let lab = Lab::start("", &BUNDLES);
        let right = vpn(BUNDLE_SEND, lab.peer.usage, &lab.good(b"payload"));
        let size = right.len() as u32 - 20;
        for wrong in [0, 1, size - 1, size + 1, 65_536, u32::MAX] {
            let mut bundle = right.clone();
            bundle[12..16].copy_from_slice(&wrong.to_le_bytes());
            lab.check_packets(&format!("{wrong}"), vec![bundle], &[], &[(DropCause::SizeMismatch, 1)]);
        }
        // Only a server sends BUNDLE_RECV.
        let theirs = vpn(0xbf, lab.peer.usage, &lab.good(b"payload"));
        lab.check_packets("BUNDLE_RECV", vec![theirs], &[], &[(DropCause::UnexpectedOp, 1)]);
        lab.check_packets("right", vec![right], &[b"payload"], &[]);
    });
}

#[test]
fn many_tiny_records() {
    in_namespace("hostile::many_tiny_records", || {
        let lab = Lab::start("", &BUNDLES);
        let tiny = record(Vnet::default(), &[0x45]).repeat(5000);
        assert!(tiny.len() < 65_536);
        lab.check("5000 records of one byte", &tiny, &[], &[(DropCause::Malformed, 5000)]);
        let zeros = record(Vnet::default(), &[]).repeat(5000);
        lab.check("5000 records of no byte", &zeros, &[], &[(DropCause::Malformed, 5000)]);
        let empty = lab.good(b"").repeat(1600);
        assert!(empty.len() < 65_536);
        lab.check("1600 datagrams without payload", &empty, &[b"".as_slice(); 1600], &[]);
        let numbered: Vec<Vec<u8>> = (0..1300u16).map(|number| number.to_be_bytes().to_vec()).collect();
        let data: Vec<u8> = numbered.iter().flat_map(|payload| lab.good(payload)).collect();
        let expected: Vec<&[u8]> = numbered.iter().map(Vec::as_slice).collect();
        lab.check("1300 datagrams of two bytes", &data, &expected, &[]);
    });
}

/// A client without bundles, whose packets the server merges: a packet that the host would refuse alone must not become
/// valid by being merged with its neighbours.
#[test]
fn wrong_checksums_of_plain_packets_are_not_repaired() {
    in_namespace("hostile::wrong_checksums_of_plain_packets_are_not_repaired", || {
        let lab = Lab::start("", b"");
        for (first, round) in [(true, 0), (false, 1), (true, 2), (false, 3)] {
            let payloads: Vec<_> = (0..60).map(|at| noise(100 * round + at, 500)).collect();
            let mut good: Vec<&[u8]> = Vec::new();
            let mut packets = Vec::new();
            for (at, payload) in payloads.iter().enumerate() {
                let is_wrong = if first { at % 6 == 0 } else { at % 6 == 3 };
                let by_udp = is_wrong && at % 4 < 2;
                let ip = Ip { id: at as u16, ..lab.ip() };
                let mut packet = ip.udp(lab.ports(), payload, if by_udp { Sum::Wrong } else { Sum::Right });
                if is_wrong && !by_udp {
                    packet[10] ^= 0x55;
                }
                if !is_wrong {
                    good.push(payload);
                }
                packets.push(vpn(VPN_SEND, lab.peer.usage, &packet));
            }
            assert_eq!(good.len(), 50);
            lab.check_packets(&format!("round {round}"), packets, &good, &[]);
        }
    });
}

/// docs/wire.md leaves open whether an empty bundle is malformed, and how a bundle beyond the server's TLV 1 is
/// counted. However they are counted, the session continues.
#[test]
fn empty_and_oversized_bundles() {
    in_namespace("hostile::empty_and_oversized_bundles", || {
        let lab = Lab::start("", &BUNDLES);
        let too_many = lab.good(&noise(3, 1200)).repeat(100);
        for data in [Vec::new(), too_many] {
            let bundle = vpn(BUNDLE_SEND, lab.peer.usage, &data);
            lab.peer.send(&bundle);
            lab.peer.ping();
        }
        lab.socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
        let mut buffer = vec![0; 65_536];
        while lab.socket.recv(&mut buffer).is_ok() {}
        lab.socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        lab.check("afterwards", &lab.good(b"good"), &[b"good"], &[]);
    });
}

/// Valid bundles with a few bytes changed, and random bytes.
#[test]
fn the_server_survives_random_bundles() {
    in_namespace("hostile::the_server_survives_random_bundles", || {
        const ROUNDS: usize = 100;
        const EACH: usize = 300;
        let lab = Lab::start("", &BUNDLES);
        // Uses another port than the socket's, so that packets that pass do not disturb the checks.
        let ports = (4242, 9);
        let ip = lab.ip();
        let good = one_of_each(&ip, ports);
        let before = app::server_totals().unwrap();
        let mut noise = Noise::new(0x5eed);
        for _ in 0..ROUNDS {
            let bundles =
                (0..EACH).map(|_| vpn(BUNDLE_SEND, lab.peer.usage, &random_bundle(&mut noise, &good))).collect();
            lab.peer.send_all(bundles);
            lab.peer.ping();
        }
        let drops = crate::lab::drops_since(&before);
        for cause in [DropCause::Malformed, DropCause::BadOffload, DropCause::SpoofedSource, DropCause::NotIpv4] {
            let count = drops.iter().find(|(other, _)| *other == cause).map_or(0, |(_, count)| *count);
            assert!(count > 100, "the bundles did not provoke {cause:?}: {drops:?}");
        }
        let passed = app::server_totals().unwrap().up_packets - before.up_packets;
        assert!(passed > 1000, "only {passed} packets got through: {drops:?}");
        lab.check("the same client", &lab.good(b"served"), &[b"served"], &[]);
        let (peer, address) = Peer::leased(lab.server.port, &BUNDLES);
        peer.send(&vpn(VPN_SEND, peer.usage, &Ip::new(address, GATEWAY).udp(lab.ports(), b"served too", Sum::Right)));
        let (payload, from) = received(&lab.socket, "another client");
        assert_eq!((payload.as_slice(), from.ip()), (b"served too".as_slice(), address.into()));
    });
}
