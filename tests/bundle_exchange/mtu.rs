//! Clients that agreed to a smaller MTU than the device's: TCP's MSS is lowered both ways, and the sender of a packet
//! that is too big and must not be fragmented learns it by ICMP.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app;
use rustix::net::{AddressFamily, SocketType, ipproto, socket, sockopt};
use testkit::hosts::{Host, forwards_packets};
use testkit::inner::{ACK, DF, Ip, MF, RST, SYN, Seen, Sum, TCP, Tcp, UDP, sum};
use testkit::netns::in_namespace;
use testkit::records::{Got, Vnet, packets_of, record};
use testkit::sockets::{Fragments, path_mtu, raw_sender, segment, set_fragments};
use testkit::wire::{BUNDLE_SEND, VPN_SEND, vpn};
use testkit::{TEST_TIMEOUT, eventually, noise};
use vpn_core::forward::DropCause;

use crate::bridge::route_to_clients;
use crate::lab::{GATEWAY, Lab, drops_since};

/// The device's MTU as on a node.
const DEVICE: &str = "device_mtu=1500\n";
/// "CFV1" and an MTU of 900 bytes, without and with bundles.
const PLAIN: &[u8] = b"CFV1\x02\x02\x84\x03";
const BUNDLED: &[u8] = b"CFV1\x01\x02\xff\xff\x02\x02\x84\x03";
/// The MSS that fits into 900 bytes, and the one that hosts announce for 1500.
const MSS: u16 = 860;
const FULL_MSS: u16 = 1460;

/// Behind an option of one byte, so that the number is at an odd offset.
fn announce(mss: u16) -> Vec<u8> {
    [&[1, 2, 4], mss.to_be_bytes().as_slice(), &[1, 1, 1]].concat()
}

/// A raw socket receives the packet before TCP answers that the port is closed.
fn raw_tcp() -> UdpSocket {
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::TCP)).unwrap();
    rustix::net::bind(&raw, &SocketAddrV4::new(GATEWAY, 0)).unwrap();
    let raw = UdpSocket::from(raw);
    let _ = sockopt::set_socket_recv_buffer_size_force(&raw, 16 << 20);
    raw.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    raw
}

#[test]
fn connections_from_a_client_announce_what_fits() {
    in_namespace("mtu::connections_from_a_client_announce_what_fits", || {
        for (offer, most) in [
            (PLAIN, MSS),
            (BUNDLED, MSS),
            // The server's own limit, which it tells clients that ask for more.
            (b"CFV1\x01\x02\xff\xff\x02\x02\xff\xff", 1350),
            // No device has less than 576.
            (b"CFV1\x02\x02\x00\x00", 536),
            (b"", FULL_MSS),
            (b"CFV1\x01\x02\xff\xff", FULL_MSS),
        ] {
            let lab = Lab::start(DEVICE, offer);
            let raw = raw_tcp();
            let mut ports = (41_100, 9);
            for flags in [SYN, SYN | ACK] {
                for announced in [FULL_MSS, 600, 100, u16::MAX] {
                    let tcp = Tcp { options: announce(announced), ..Tcp::new(7, flags) };
                    let unfinished = Vnet { flags: 1, gso_type: 0, csum_start: 20, csum_offset: 16, ..Vnet::default() };
                    for (is_record, vnet, sum) in [
                        (false, Vnet::default(), Sum::Right),
                        (true, Vnet::default(), Sum::Right),
                        (true, unfinished, Sum::Pseudo),
                    ] {
                        if is_record && !offer.starts_with(b"CFV1\x01") {
                            continue;
                        }
                        ports.0 += 1;
                        let packet = lab.ip().tcp(ports, &tcp, b"", sum);
                        let sent = match is_record {
                            true => vpn(BUNDLE_SEND, lab.peer.usage, &record(vnet, &packet)),
                            false => vpn(VPN_SEND, lab.peer.usage, &packet),
                        };
                        lab.peer.send(&sent);
                        let what = format!("{offer:02x?}, flags {flags:#x}, {announced} announced, record {is_record}");
                        let expected = if most == FULL_MSS { announced } else { announced.min(most) };
                        let tcp = Tcp { options: announce(expected), ..tcp.clone() };
                        let whole = lab.ip().tcp(ports, &tcp, b"", Sum::Right);
                        let unfinished = lab.ip().tcp(ports, &tcp, b"", Sum::Pseudo);
                        let got = next_of(&raw, ports, &what);
                        assert!(got == whole || sum == Sum::Pseudo && got == unfinished, "{what}: {got:02x?}");
                    }
                }
            }
        }
    });
}

fn next_of(raw: &UdpSocket, ports: (u16, u16), what: &str) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = raw.recv(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
        if Seen::new(&buffer[..length]).ports() == ports {
            return buffer[..length].to_vec();
        }
    }
}

#[test]
fn connections_to_a_client_announce_what_fits() {
    in_namespace("mtu::connections_to_a_client_announce_what_fits", || {
        for (offer, limit, most) in [(PLAIN, 0, MSS), (BUNDLED, 65_535, MSS), (b"".as_slice(), 0, FULL_MSS)] {
            let lab = Lab::start(DEVICE, offer);
            // The answer to a client's SYN.
            let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
            let ports = (41_101, listener.local_addr().unwrap().port());
            let hello = Tcp { ack: 0, options: announce(FULL_MSS), ..Tcp::new(100, SYN) };
            lab.peer.send(&vpn(VPN_SEND, lab.peer.usage, &lab.ip().tcp(ports, &hello, &[], Sum::Right)));
            assert_eq!(mss_of_next(&lab, limit, SYN | ACK), Some(most), "SYN, ACK for {offer:02x?}");
            // A SYN of a host behind the server.
            let target = (lab.address, 9).into();
            let connecting =
                std::thread::spawn(move || TcpStream::connect_timeout(&target, Duration::from_millis(500)));
            assert_eq!(mss_of_next(&lab, limit, SYN), Some(most), "SYN for {offer:02x?}");
            let _ = connecting.join().unwrap();
        }
    });
}

/// Returns the MSS of the next TCP packet with these flags; its checksum is checked on the way.
fn mss_of_next(lab: &Lab, limit: usize, flags: u8) -> Option<u16> {
    loop {
        for (packet, _) in packets_of(&lab.peer.next("a packet of TCP"), limit, &mut Got::default()) {
            let seen = Seen::new(&packet);
            if seen.protocol() == TCP && seen.flags() & (SYN | ACK | RST) == flags {
                return seen.mss();
            }
        }
    }
}

#[test]
fn the_sender_of_a_packet_that_is_too_big_learns_the_mtu() {
    in_namespace("mtu::the_sender_of_a_packet_that_is_too_big_learns_the_mtu", || {
        for (offer, limit) in [(PLAIN, 0), (BUNDLED, 65_535)] {
            let lab = Lab::start(DEVICE, offer);
            let before = app::server_totals().unwrap();
            let target = (lab.address, 4242);
            let sender = || {
                let socket = UdpSocket::bind((GATEWAY, 0)).unwrap();
                socket.connect(target).unwrap();
                socket
            };
            // What may be fragmented is delivered whole, and a super-packet of it too.
            let allowed = sender();
            set_fragments(&allowed, Fragments::Allowed);
            for size in [873, 1300, 1472] {
                allowed.send(&noise(1, size)).unwrap();
                assert!(next_datagram(&lab, limit) == noise(1, size), "{size} bytes that may be fragmented");
            }
            let forbidden = sender();
            set_fragments(&forbidden, Fragments::Forbidden);
            forbidden.send(&noise(2, 872)).unwrap();
            assert!(next_datagram(&lab, limit) == noise(2, 872), "a packet that fits");
            assert_eq!(path_mtu(&forbidden), 1500);
            assert_eq!(drops_since(&before), []);

            // Several datagrams in one super-packet, each of them too big.
            segment(&forbidden, 1000);
            let sent = forbidden.send(&noise(3, 3000));
            segment(&forbidden, 0);
            let segments = match sent {
                Ok(_) => 3,
                // A kernel before 6.11, and a device that leaves checksums to it.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    forbidden.send(&noise(3, 1000)).unwrap();
                    1
                }
                Err(error) => panic!("{error}"),
            };
            eventually("the kernel knows the MTU", || path_mtu(&forbidden) == 900);
            eventually("counted", || drops_since(&before) == [(DropCause::TooBig, segments)]);
            // The error that ICMP has left is returned once; then the kernel refuses by itself.
            let error = (0..2).find_map(|_| forbidden.send(&noise(4, 873)).err()).unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            assert!(
                lab.peer.next_within(Duration::from_millis(50)).is_none(),
                "a packet that is too big was delivered"
            );
        }
    });
}

/// Returns the payload of the next datagram to the client's port 4242, whatever its size.
fn next_datagram(lab: &Lab, limit: usize) -> Vec<u8> {
    loop {
        let vpn = lab.peer.next("a datagram");
        let packet = if limit > 0 && vpn[4] == 0xbf { &vpn[32..] } else { &vpn[20..] };
        let seen = Seen::new(packet);
        if seen.protocol() == UDP && seen.ports().1 == 4242 {
            return seen.payload().to_vec();
        }
    }
}

/// The MSS of a SYN in fragments is not looked at, so the host's super-packets have segments of 1460 bytes: as of a
/// connection that is older than the session.
#[test]
fn a_connection_with_a_larger_mss_recovers() {
    in_namespace("mtu::a_connection_with_a_larger_mss_recovers", || {
        let lab = Lab::start(DEVICE, BUNDLED);
        let before = app::server_totals().unwrap();
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let ports = (41_102, listener.local_addr().unwrap().port());
        let hello = Tcp { ack: 0, options: vec![2, 4, 5, 180, 1, 3, 3, 7], ..Tcp::new(100, SYN) };
        let whole = lab.ip().tcp(ports, &hello, &[], Sum::Right);
        let (first, second) = whole[20..].split_at(24);
        for (fragment, part) in [(MF, first), (3, second)] {
            let packet = Ip { fragment, ..lab.ip() }.packet(TCP, part);
            lab.peer.send(&vpn(VPN_SEND, lab.peer.usage, &packet));
        }
        let payload = noise(5, 100_000);
        let (accepted, accept) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
                stream.write_all(&payload).unwrap();
                accepted.send(stream).unwrap();
            });
            let mut first = None;
            let mut got: Vec<u8> = Vec::new();
            while got.len() < payload.len() {
                let vpn_packet = lab.peer.next("more of the stream");
                for (packet, size) in packets_of(&vpn_packet, 65_535, &mut Got::default()) {
                    let seen = Seen::new(&packet);
                    if seen.protocol() != TCP || seen.ports() != (ports.1, ports.0) {
                        continue;
                    }
                    if seen.flags() & SYN != 0 {
                        first = Some(seen.seq().wrapping_add(1));
                        continue;
                    }
                    let largest = size.unwrap_or(seen.payload().len());
                    assert!(largest <= usize::from(MSS), "a segment of {largest} bytes for an MTU of 900");
                    let at = seen.seq().wrapping_sub(first.unwrap()) as usize;
                    // What was lost comes later.
                    if at <= got.len() && at + seen.payload().len() > got.len() {
                        got.extend(&seen.payload()[got.len() - at..]);
                    }
                }
                let ack = first.unwrap().wrapping_add(got.len() as u32);
                let packet = lab.ip().tcp(ports, &Tcp { ack, ..Tcp::new(101, ACK) }, &[], Sum::Right);
                lab.peer.send(&vpn(VPN_SEND, lab.peer.usage, &packet));
            }
            assert!(got == payload, "the bytes are not those that were sent");
        });
        let too_big =
            drops_since(&before).iter().find(|(cause, _)| *cause == DropCause::TooBig).map(|(_, count)| *count);
        assert!(too_big > Some(1), "the host has not sent larger segments: {too_big:?}");
        drop(accept.recv_timeout(TEST_TIMEOUT).unwrap());
    });
}

/// The host outside gets the message through the server's host, which accepts and forwards it.
#[test]
fn a_host_outside_learns_the_mtu() {
    const NAME: &str = "mtu::a_host_outside_learns_the_mtu";
    in_namespace(NAME, || {
        if !forwards_packets(NAME) {
            return;
        }
        let outside = Host::new(0);
        let source = Ipv4Addr::new(10, 55, 0, 2);
        let lab = Lab::start(DEVICE, PLAIN);
        let (sender, icmp) = outside.run(|| {
            route_to_clients();
            let icmp = UdpSocket::from(socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap());
            icmp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            (raw_sender(), icmp)
        });
        let before = app::server_totals().unwrap();
        let ip = Ip { fragment: DF, id: 77, ..Ip::new(source, lab.address) };
        let packet = ip.udp((4000, 4242), &noise(6, 1200), Sum::Right);
        sender.send_to(&packet, (lab.address, 0)).unwrap();
        let mut message = [0; 2048];
        let length = icmp.recv(&mut message).unwrap();
        let seen = Seen::new(&message[..length]);
        assert_eq!((seen.source(), seen.target(), length), (lab.address, source, 576));
        let icmp_message = seen.transport();
        assert_eq!(icmp_message[..2], [3, 4]);
        assert_eq!(icmp_message[4..8], [0, 0, 0x03, 0x84]);
        assert_eq!(sum(icmp_message), 0xffff);
        // The server's host has counted down the TTL of the quoted packet.
        let quoted = &icmp_message[8..];
        assert_eq!((quoted[8], &quoted[12..]), (63, &packet[12..548]));
        eventually("counted", || drops_since(&before) == [(DropCause::TooBig, 1)]);

        // One that may be fragmented arrives whole.
        let packet = Ip { fragment: 0, ..ip.clone() }.udp((4000, 4242), &noise(7, 1200), Sum::Right);
        sender.send_to(&packet, (lab.address, 0)).unwrap();
        assert!(next_datagram(&lab, 0) == noise(7, 1200));

        // A flood of large packets does not become a flood of messages.
        let packet = ip.udp((4000, 4242), &noise(8, 1200), Sum::Right);
        let started = Instant::now();
        for _ in 0..2000 {
            sender.send_to(&packet, (lab.address, 0)).unwrap();
        }
        icmp.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let messages = std::iter::from_fn(|| match icmp.recv(&mut message) {
            Ok(length) => Some(length),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        let messages = messages.count();
        // Two workers, each 100 at once and 100 a second.
        let most = 200 * (2 + started.elapsed().as_secs() as usize);
        assert!((1..=most).contains(&messages), "{messages} messages in {:?}", started.elapsed());
    });
}
