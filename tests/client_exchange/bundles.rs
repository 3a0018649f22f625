//! Tests the client with servers that misuse bundles, and the packets that it sends to servers with and without
//! bundles.

use std::fmt;
use std::net::{Ipv4Addr, UdpSocket};

use dap_chain_net_srv_vpn::app;
use testkit::inner::{ACK, Ip, MF, Seen, Sum, Tcp, UDP, sum};
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use testkit::records::{Got, Vnet, one_of_each, packets_of, random_bundle, record};
use testkit::sockets::{every_packet, large_buffer, segment};
use testkit::wire::{BUNDLE_RECV, BUNDLE_SEND, PING, PONG, VPN_RECV, VPN_SEND, vpn};
use testkit::{Noise, TEST_TIMEOUT, eventually, noise};
use vpn_core::forward::DropCause;
use vpn_core::wire::Capabilities;

use crate::server::{ADDRESS, GATEWAY, OUTER, Server, reply};

/// The usage id from the server.
const USAGE: u32 = 1;

/// A connected client, and a socket at its address.
struct Lab<'a> {
    server: &'a Server,
    socket: UdpSocket,
}

impl<'a> Lab<'a> {
    /// Connects to the server, which replies with this bundle size.
    fn connect(server: &'a Server, bundle: Option<u16>) -> Lab<'a> {
        server.will_answer(&reply(Some(Capabilities { bundle, ..Capabilities::default() })));
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.set_broadcast(true).unwrap();
        large_buffer(&socket);
        Lab { server, socket }
    }

    fn ports(&self) -> (u16, u16) {
        (4242, self.socket.local_addr().unwrap().port())
    }

    fn datagram(&self, target: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        Ip::new(GATEWAY, target).udp(self.ports(), payload, Sum::Right)
    }

    fn good(&self, payload: &[u8]) -> Vec<u8> {
        record(Vnet::default(), &self.datagram(ADDRESS, payload))
    }

    /// Sends a bundle with this data. The socket must receive exactly these payloads, and the client must count exactly
    /// these drops.
    fn check(&self, what: &str, data: &[u8], payloads: &[&[u8]], drops: &[(DropCause, u64)]) {
        const MARK: &[u8] = b"the end of what is checked";
        let before = app::client_totals();
        self.server.send(&vpn(BUNDLE_RECV, USAGE, data));
        self.server.send(&vpn(VPN_RECV, USAGE, &self.datagram(ADDRESS, MARK)));
        let mut got = Vec::new();
        let mut buffer = vec![0; 65_536];
        loop {
            let size = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
            if buffer[..size] == *MARK {
                break;
            }
            got.push(buffer[..size].to_vec());
        }
        let same = got == payloads;
        assert!(same, "{what}: {} datagrams arrived, not these {}", got.len(), payloads.len());
        let since = || {
            let now = app::client_totals();
            let counts = DropCause::ALL.map(|cause| (cause, now.dropped(cause) - before.dropped(cause)));
            // Ignores packets that the host itself sends into the tunnel's network.
            let is_ours = |cause: DropCause| cause != DropCause::NotIpv4 || drops.iter().any(|(of, _)| *of == cause);
            counts.into_iter().filter(|(cause, count)| *count > 0 && is_ours(*cause)).collect::<Vec<_>>()
        };
        let counted = fmt::from_fn(|f| write!(f, "{what}: counted {:?}, expected {drops:?}", since()));
        eventually(counted, || since() == drops);
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        app::client_stop();
    }
}

/// Returns the TLVs of the client's first ADDR_REQUEST.
fn offered(server: &Server) -> Vec<u8> {
    let got = server.shared.got.lock();
    let request = got.iter().find(|packet| packet[4..8] == [0xb2, 0, 0, 0]).unwrap();
    request[20..].to_vec()
}

#[test]
fn without_an_agreement_bundles_are_unexpected() {
    in_namespace("bundles::without_an_agreement_bundles_are_unexpected", || {
        let server = Server::start("offload=false\n");
        let lab = Lab::connect(&server, None);
        let asked = offered(&server);
        assert!(asked.starts_with(b"CFV1") && asked[4] != 1, "TLV 1 is offered: {asked:02x?}");
        let two = [lab.good(b"one"), lab.good(b"two")].concat();
        let one = [(DropCause::UnexpectedOp, 1)];
        lab.check("not offered, not answered", &two, &[], &one);
        lab.check("empty", &[], &[], &one);
        app::client_stop();
        server.will_answer(&reply(Some(Capabilities { bundle: Some(65_535), ..Capabilities::default() })));
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        lab.check("not offered, but answered", &two, &[], &one);
        // The client sends no bundles to this server either.
        lab.socket.send_to(b"up", (GATEWAY, 9)).unwrap();
        eventually("the client sends", || lab.server.got(VPN_SEND) > 0);
        assert_eq!(lab.server.got(BUNDLE_SEND), 0);
    });
}

#[test]
fn an_offer_without_an_answer_is_no_agreement() {
    in_namespace("bundles::an_offer_without_an_answer_is_no_agreement", || {
        let server = Server::start("");
        let lab = Lab::connect(&server, None);
        let asked = offered(&server);
        assert_eq!(asked[..8], *b"CFV1\x01\x02\xff\xff", "{asked:02x?}");
        let two = [lab.good(b"one"), lab.good(b"two")].concat();
        lab.check("not answered", &two, &[], &[(DropCause::UnexpectedOp, 1)]);
    });
}

#[test]
fn good_records_are_delivered_and_bad_ones_counted() {
    in_namespace("bundles::good_records_are_delivered_and_bad_ones_counted", || {
        let server = Server::start("");
        let lab = Lab::connect(&server, Some(65_535));
        let payload = noise(1, 3500);
        let cut: Vec<&[u8]> = payload.chunks(1000).collect();
        let ip = Ip::new(GATEWAY, ADDRESS);
        let packet = ip.udp(lab.ports(), &payload, Sum::Pseudo);
        let good = Vnet::udp(1000);
        for vnet in [good, Vnet { hdr_len: 0, ..good }, Vnet { hdr_len: 65_535, flags: 0xff, ..good }] {
            let data = [lab.good(b"before"), record(vnet, &packet), lab.good(b"behind")].concat();
            let expected = [&[b"before".as_slice()], cut.as_slice(), &[b"behind"]].concat();
            lab.check(&format!("{vnet:?}"), &data, &expected, &[]);
        }
        let segments = Ip::new(GATEWAY, ADDRESS).tcp(lab.ports(), &Tcp::new(1, ACK), &payload, Sum::Pseudo);
        let fragment = Ip { fragment: MF, ..ip.clone() }.udp(lab.ports(), &payload, Sum::Pseudo);
        let many = ip.udp(lab.ports(), &payload[..129], Sum::Pseudo);
        let lacks = Vnet { gso_type: 0, ..good };
        let mut six = packet.clone();
        six[0] = 0x65;
        let wrong = lab.datagram(ADDRESS, b"short");
        let cases: [(&str, Vnet, &[u8], DropCause); 16] = [
            ("TCP described as UDP", good, &segments, DropCause::BadOffload),
            ("UDP described as TCP", Vnet::tcp(1000), &packet, DropCause::BadOffload),
            ("TCP, gso_size 31", Vnet::tcp(31), &segments, DropCause::BadOffload),
            ("gso_size 0", Vnet::udp(0), &packet, DropCause::BadOffload),
            ("UDP fragmentation", Vnet { gso_type: 3, ..good }, &packet, DropCause::BadOffload),
            ("TCP over IPv6", Vnet { gso_type: 4, ..Vnet::tcp(1000) }, &segments, DropCause::BadOffload),
            ("ECN on UDP", Vnet { gso_type: 0x85, ..good }, &packet, DropCause::BadOffload),
            ("no NEEDS_CSUM", Vnet { flags: 2, ..good }, &packet, DropCause::BadOffload),
            ("csum_start", Vnet { csum_start: 24, ..good }, &packet, DropCause::BadOffload),
            ("csum_offset", Vnet { csum_offset: 16, ..good }, &packet, DropCause::BadOffload),
            ("a fragment", good, &fragment, DropCause::BadOffload),
            ("129 datagrams", Vnet::udp(1), &many, DropCause::BadOffload),
            ("past the end", Vnet { csum_offset: 65_535, ..lacks }, &packet, DropCause::BadOffload),
            ("in the IP header", Vnet { csum_start: 0, csum_offset: 12, ..lacks }, &packet, DropCause::BadOffload),
            ("not IPv4", good, &six, DropCause::NotIpv4),
            ("not whole", Vnet::default(), &wrong[..wrong.len() - 1], DropCause::Malformed),
        ];
        for (what, vnet, packet, cause) in cases {
            let data = [lab.good(b"before"), record(vnet, packet), lab.good(b"behind")].concat();
            lab.check(what, &data, &[b"before", b"behind"], &[(cause, 1)]);
        }
        let (first, second) = (lab.good(b"first"), lab.good(b"second"));
        for length in 1..second.len() {
            let data = [first.as_slice(), &second[..length]].concat();
            lab.check(&format!("cut off at {length}"), &data, &[b"first"], &[(DropCause::Malformed, 1)]);
        }
    });
}

/// The client's host sends no more for a record than half as much again, and its filters see the bytes that arrive.
#[test]
fn amplifying_records_are_dropped_and_inner_checksums_are_final() {
    in_namespace("bundles::amplifying_records_are_dropped_and_inner_checksums_are_final", || {
        let server = Server::start("");
        let lab = Lab::connect(&server, Some(65_535));
        let ip = Ip::new(GATEWAY, ADDRESS);
        for (vnet, packet) in [
            (Vnet::udp(1), ip.udp((53, 9), &noise(1, 128), Sum::Pseudo)),
            (Vnet::udp(54), ip.udp((53, 9), &noise(1, 128 * 54), Sum::Pseudo)),
            (Vnet::tcp(32), ip.tcp((53, 9), &Tcp::new(1, ACK), &noise(1, 4000), Sum::Pseudo)),
        ] {
            let data = [lab.good(b"before"), record(vnet, &packet), lab.good(b"behind")].concat();
            lab.check(&format!("{vnet:?}"), &data, &[b"before", b"behind"], &[(DropCause::Amplifies, 1)]);
        }
        let watch = every_packet();
        watch.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        // IPv6 in IPv4, with a sum that is said to be missing at the port of what it carries.
        let packet = Ip { id: 77, ..ip }.packet(41, &noise(2, 100));
        let vnet = Vnet { flags: 1, csum_start: 40, csum_offset: 22, ..Vnet::default() };
        lab.server.send(&vpn(BUNDLE_RECV, USAGE, &record(vnet, &packet)));
        let mut finished = packet.clone();
        finished[62..64].copy_from_slice(&(!sum(&packet[40..])).to_be_bytes());
        let mut buffer = [0; 2048];
        loop {
            let length = watch.recv(&mut buffer).unwrap();
            if length == packet.len() && Seen::new(&buffer[..length]).protocol() == 41 {
                break assert_eq!(buffer[..length], finished);
            }
        }
    });
}

/// As for plain packets, a bundle reaches only the leased address of the client's host.
#[test]
fn other_destinations_are_dropped_between_good_records() {
    in_namespace("bundles::other_destinations_are_dropped_between_good_records", || {
        let server = Server::start("");
        let lab = Lab::connect(&server, Some(65_535));
        let others = [Ipv4Addr::LOCALHOST, OUTER, GATEWAY, Ipv4Addr::new(10, 98, 0, 255), Ipv4Addr::BROADCAST];
        for target in others {
            let wrong = record(Vnet::default(), &lab.datagram(target, b"not for you"));
            let data = [lab.good(b"one"), wrong, lab.good(b"two")].concat();
            lab.check(&format!("{target}"), &data, &[b"one", b"two"], &[(DropCause::WrongDestination, 1)]);
            let large = Ip::new(GATEWAY, target).udp(lab.ports(), &noise(2, 900), Sum::Pseudo);
            let before = app::client_totals().dropped(DropCause::WrongDestination);
            let data = [record(Vnet::udp(900 - 1), &large), lab.good(b"behind")].concat();
            lab.server.send(&vpn(BUNDLE_RECV, USAGE, &data));
            let mut buffer = [0; 2048];
            let size = lab.socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..size], b"behind", "a super-packet to {target}");
            // One record with two segments.
            eventually("counted", || {
                let count = app::client_totals().dropped(DropCause::WrongDestination) - before;
                [1, 2].contains(&count)
            });
        }
    });
}

/// They are lost, like plain packets.
#[test]
fn bundles_before_the_device_are_counted() {
    in_namespace("bundles::bundles_before_the_device_are_counted", || {
        let server = Server::start("");
        let bundle = vpn(BUNDLE_RECV, USAGE, &early().repeat(3));
        let agrees = reply(Some(Capabilities { bundle: Some(65_535), ..Capabilities::default() })).encode(1, 0);
        *server.shared.answers.lock() = vec![agrees, bundle];
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        // The device may have become ready in between; it then delivers the packets that are not lost.
        eventually("counted or delivered", || {
            let totals = app::client_totals();
            totals.dropped(DropCause::TunWrite) + totals.down_packets == 3
        });
        assert_eq!(app::client_totals().dropped(DropCause::UnexpectedOp), 0);
        app::client_stop();
    });
}

/// There is no agreement yet.
#[test]
fn bundles_before_the_reply_are_unexpected() {
    in_namespace("bundles::bundles_before_the_reply_are_unexpected", || {
        let server = Server::start("");
        let bundle = vpn(BUNDLE_RECV, USAGE, &early().repeat(3));
        let agrees = reply(Some(Capabilities { bundle: Some(65_535), ..Capabilities::default() })).encode(1, 0);
        *server.shared.answers.lock() = vec![bundle, agrees];
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let totals = app::client_totals();
        let counted = [DropCause::UnexpectedOp, DropCause::TunWrite].map(|cause| totals.dropped(cause));
        assert_eq!(counted, [1, 0], "unexpected_op, tun_write");
        app::client_stop();
    });
}

fn early() -> Vec<u8> {
    record(Vnet::default(), &Ip::new(GATEWAY, ADDRESS).udp((53, 9), b"early", Sum::Right))
}

/// A checksum field at a port would change the port when it is completed, behind the host's packet filter.
#[test]
fn a_checksum_is_completed_only_where_the_protocol_has_it() {
    in_namespace("bundles::a_checksum_is_completed_only_where_the_protocol_has_it", || {
        let server = Server::start("");
        let lab = Lab::connect(&server, Some(65_535));
        let packet = Ip::new(GATEWAY, ADDRESS).udp(lab.ports(), b"payload", Sum::Zero);
        for (csum_start, csum_offset) in [(20, 0), (20, 2), (20, 4), (22, 0), (22, 4)] {
            let vnet = Vnet { flags: 1, csum_start, csum_offset, ..Vnet::default() };
            let data = [lab.good(b"before"), record(vnet, &packet), lab.good(b"behind")].concat();
            lab.check(&format!("{vnet:?}"), &data, &[b"before", b"behind"], &[(DropCause::BadOffload, 1)]);
        }
    });
}

#[test]
fn the_client_survives_random_bundles() {
    in_namespace("bundles::the_client_survives_random_bundles", || {
        let server = Server::start("");
        let lab = Lab::connect(&server, Some(65_535));
        // Uses another port than the socket's, so that packets that pass do not disturb the checks.
        let good = one_of_each(&Ip::new(GATEWAY, ADDRESS), (4242, 9));
        let mut noise = Noise::new(0xc11e);
        for _ in 0..80 {
            for _ in 0..50 {
                server.send(&vpn(BUNDLE_RECV, USAGE, &random_bundle(&mut noise, &good)));
            }
            // The client has processed all of them when it answers. All 4000 at once are more than a stream takes, and
            // 200 are on a loaded machine.
            let pongs = server.got(PONG);
            server.send(&vpn(PING, USAGE, &[]));
            eventually("PONG", || server.got(PONG) > pongs);
        }
        lab.check("afterwards", &lab.good(b"good"), &[b"good"], &[]);
        let totals = app::client_totals();
        for cause in [DropCause::Malformed, DropCause::BadOffload, DropCause::WrongDestination, DropCause::NotIpv4] {
            assert!(totals.dropped(cause) > 100, "the bundles did not provoke {cause:?}: {totals:?}");
        }
        assert!(totals.down_packets > 1000, "{totals:?}");
        assert_eq!(log_lines("ERROR"), [""; 0]);
    });
}

/// The client's bundles keep to the server's TLV 1.
#[test]
fn the_client_respects_the_servers_bundle_limit() {
    in_namespace("bundles::the_client_respects_the_servers_bundle_limit", || {
        let server = Server::start("");
        for limit in [Some(65_535), Some(2000), Some(13), Some(0), None] {
            let lab = Lab::connect(&server, limit);
            let mtu = usize::from(app::client_lease().unwrap().mtu);
            lab.server.shared.got.lock().clear();
            let payload = noise(3, 40 * 1000 + 7);
            segment(&lab.socket, 1000);
            let sent = lab.socket.send_to(&payload, (GATEWAY, 4243));
            segment(&lab.socket, 0);
            // A kernel before 6.11 refuses this if the device leaves checksums to it.
            let is_sent = sent.is_ok();
            assert!(is_sent || limit.is_none_or(|limit| limit == 0), "{sent:?}");
            for number in 0..50u8 {
                lab.socket.send_to(&[number; 900], (GATEWAY, 4243)).unwrap();
            }
            let mut expected: Vec<Vec<u8>> = payload.chunks(1000).filter(|_| is_sent).map(<[u8]>::to_vec).collect();
            expected.extend((0..50).map(|number| vec![number; 900]));
            let mut got = Got::default();
            let mut payloads = Vec::new();
            eventually(format!("all datagrams go up to a server that says {limit:?}"), || {
                let packets = std::mem::take(&mut *lab.server.shared.got.lock());
                for packet in packets {
                    for (packet, size) in packets_of(&packet, limit.unwrap_or(0).into(), &mut got) {
                        let seen = Seen::new(&packet);
                        assert!(size.is_some() || packet.len() <= mtu, "{} bytes in one packet", packet.len());
                        if seen.protocol() == UDP && seen.ports().1 == 4243 {
                            assert_eq!(seen.source(), ADDRESS);
                            payloads.extend(seen.payload().chunks(size.unwrap_or(65_535)).map(<[u8]>::to_vec));
                        }
                    }
                }
                payloads.len() >= expected.len()
            });
            assert!(payloads == expected, "{limit:?}: other datagrams, or another order");
            match limit {
                Some(65_535) => assert!(got.supers > 0, "{got:?}"),
                Some(2000) => assert!(got.bundles > 0, "{got:?}"),
                _ => assert!(got.bundles == 0 && got.plain >= 50, "{limit:?}: {got:?}"),
            }
        }
    });
}
