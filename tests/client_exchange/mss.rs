//! The MSS that TCP connections through the tunnel announce (RFC 9293, 3.7.1): a server of the C module lowers none, and
//! behind the client may be hosts, such as containers, that know nothing of the tunnel's MTU.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::thread;

use dap_chain_net_srv_vpn::app;
use host::lab::{Cable, Namespace, Plug};
use host::netlink::Netlink;
use host::nft::nat::{self, Nat};
use testkit::hosts::forwards_packets;
use testkit::inner::{ACK, Ip, RST, SYN, Seen, Sum, TCP, Tcp};
use testkit::netns::in_namespace;
use testkit::records::{Got, Vnet, packets_of, record};
use testkit::sockets::{every_packet, raw_sender};
use testkit::wire::{BUNDLE_RECV, BUNDLE_SEND, VPN_RECV, VPN_SEND, op, vpn};
use testkit::{TEST_TIMEOUT, eventually};
use vpn_core::wire::Capabilities;

use crate::server::{ADDRESS, GATEWAY, Server, reply};

/// What fits into the client's MTU of 1390.
const FITTING: u16 = 1350;
/// What a host on Ethernet announces.
const ETHERNET: u16 = 1460;
/// The client's host on the cable to the host behind it.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
/// The host behind it.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);

fn mss(value: u16) -> Vec<u8> {
    [&[2, 4], value.to_be_bytes().as_slice()].concat()
}

fn is_tcp(packet: &[u8], ports: (u16, u16)) -> bool {
    packet[0] >> 4 == 4 && Seen::new(packet).protocol() == TCP && Seen::new(packet).ports() == ports
}

/// Returns the packet to this port that the client has sent to the server.
fn sent(server: &Server, to: u16) -> Vec<u8> {
    let find = || {
        let got = server.shared.got.lock();
        let data = got.iter().filter(|packet| [VPN_SEND, BUNDLE_SEND].contains(&op(packet)));
        let packets = data.flat_map(|packet| match op(packet) {
            VPN_SEND => vec![packet[20..].to_vec()],
            _ => packets_of(packet, 65_535, &mut Got::default()).into_iter().map(|(packet, _)| packet).collect(),
        });
        packets.into_iter().find(|packet| is_tcp(packet, (Seen::new(packet).ports().0, to)))
    };
    eventually("sent to the server", || find().is_some());
    find().unwrap()
}

/// Returns the packet with these ports that arrives on the socket of [`every_packet`].
fn arrived(watch: &UdpSocket, ports: (u16, u16)) -> Vec<u8> {
    watch.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut buffer = [0; 2048];
    loop {
        let length = watch.recv(&mut buffer).unwrap();
        if length >= 40 && is_tcp(&buffer[..length], ports) {
            return buffer[..length].to_vec();
        }
    }
}

/// A host behind the client opens a connection, as its kernel does.
fn a_connection_from_behind_the_client(test: &str, caps: Option<Capabilities>) {
    in_namespace(test, || {
        if !forwards_packets(test) {
            return;
        }
        let has_bundles = caps.is_some();
        let server = Server::start("");
        server.will_answer(&reply(caps));
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let behind = Namespace::new().unwrap();
        let plug = |link: &str, address| Plug { link: link.into(), address, prefix: 24 };
        Cable { near: plug("near60", NEAR), far: plug("far60", BEHIND) }.connect(&behind).unwrap();
        behind.run(|| Netlink::open().unwrap().add_route(Ipv4Addr::UNSPECIFIED, 0, Some(NEAR), None).unwrap());
        let translate = Some((NEAR, 24));
        nat::put_up(&Nat { device: "near60".into(), translate, forwarding_was_off: Vec::new() }, None).unwrap();

        const PORT: u16 = 7007;
        let watch = behind.run(every_packet);
        let host = behind.clone();
        let connecting = thread::spawn(move || {
            host.run(|| TcpStream::connect_timeout(&SocketAddrV4::new(GATEWAY, PORT).into(), TEST_TIMEOUT))
        });
        let syn = sent(&server, PORT);
        let syn = Seen::new(&syn);
        assert_eq!((syn.source(), syn.flags() & (SYN | ACK), syn.mss()), (ADDRESS, SYN, Some(FITTING)));
        assert!(syn.has_right_sum() || has_bundles && syn.has_pseudo_sum());
        // What the kernel of the host behind has sent.
        let own = arrived(&watch, (syn.ports().0, PORT));
        assert_eq!(Seen::new(&own).mss(), Some(ETHERNET));

        let tcp = Tcp { ack: syn.seq().wrapping_add(1), options: mss(ETHERNET), ..Tcp::new(1000, SYN | ACK) };
        let back = |sum| Ip::new(GATEWAY, ADDRESS).tcp((PORT, syn.ports().0), &tcp, &[], sum);
        server.send(&match has_bundles {
            false => vpn(VPN_RECV, 1, &back(Sum::Right)),
            true => vpn(BUNDLE_RECV, 1, &record(Vnet { gso_type: 0, ..Vnet::tcp(0) }, &back(Sum::Pseudo))),
        });
        let back = arrived(&watch, (PORT, syn.ports().0));
        let back = Seen::new(&back);
        assert_eq!((back.target(), back.flags(), back.mss()), (BEHIND, SYN | ACK, Some(FITTING)));
        assert!(has_bundles || back.has_right_sum());
        // The kernel of the host behind takes it: its checksum is right, too.
        let connection = connecting.join().unwrap().unwrap();
        nat::take_down("near60").unwrap();
        drop(connection);
        app::client_stop();
    });
}

#[test]
fn a_legacy_server_and_a_host_behind_the_client() {
    a_connection_from_behind_the_client("mss::a_legacy_server_and_a_host_behind_the_client", None);
}

#[test]
fn a_server_with_bundles_and_a_host_behind_the_client() {
    let caps = Capabilities { bundle: Some(65_535), ..Capabilities::default() };
    a_connection_from_behind_the_client("mss::a_server_with_bundles_and_a_host_behind_the_client", Some(caps));
}

/// Byte by byte: what is too large is lowered, and everything else stays.
#[test]
fn odd_options_stay() {
    in_namespace("mss::odd_options_stay", || {
        let server = Server::start("");
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let (raw, watch) = (raw_sender(), every_packet());
        let lowered = |options: &[u8], to: &[u8]| (SYN, options.to_vec(), to.to_vec());
        let stays = |flags, options: &[u8]| (flags, options.to_vec(), options.to_vec());
        let cases = [
            lowered(&mss(ETHERNET), &mss(FITTING)),
            lowered(&mss(u16::MAX), &mss(FITTING)),
            // At an odd offset, behind others.
            lowered(&[1, 2, 4, 5, 180, 4, 2, 0], &[1, 2, 4, 5, 70, 4, 2, 0]),
            (SYN | ACK, mss(ETHERNET), mss(FITTING)),
            stays(SYN, &mss(FITTING)),
            stays(SYN, &mss(536)),
            stays(SYN, &[]),
            stays(SYN, &[1, 3, 3, 7]),
            // Another length, and behind the end, behind a malformed option, cut off.
            stays(SYN, &[2, 3, 5, 180]),
            stays(SYN, &[0, 2, 4, 5, 180, 0, 0, 0]),
            stays(SYN, &[8, 0, 2, 4, 5, 180, 1, 1]),
            stays(SYN, &[1, 1, 2, 4]),
            // These open no connection.
            stays(ACK, &mss(ETHERNET)),
            stays(SYN | RST, &mss(ETHERNET)),
        ];
        for (number, (flags, options, expected)) in cases.into_iter().enumerate() {
            let ports = (40_000 + number as u16, 50_000 + number as u16);
            let packets = |source, target, ports| {
                let ip = Ip { id: 7, ..Ip::new(source, target) };
                [&options, &expected].map(|options| {
                    ip.tcp(ports, &Tcp { options: options.clone(), ..Tcp::new(5, flags) }, &[], Sum::Right)
                })
            };
            let [given, expected] = packets(ADDRESS, GATEWAY, ports);
            raw.send_to(&given, SocketAddrV4::new(GATEWAY, 0)).unwrap();
            assert_eq!(sent(&server, ports.1), expected, "up, case {number}");
            let ports = (ports.1, ports.0);
            let [given, expected] = packets(GATEWAY, ADDRESS, ports);
            server.send(&vpn(VPN_RECV, 1, &given));
            assert_eq!(arrived(&watch, ports), expected, "down, case {number}");
        }
        app::client_stop();
    });
}
