//! The packets that the client delivers on its host.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use embedded::config::{self, Config};
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::wire::{PONG, VPN_RECV, vpn};
use testkit::{TEST_TIMEOUT, eventually};
use vpn_core::forward::DropCause;

use crate::server::{ADDRESS, GATEWAY, OUTER, Server, reply};

/// A server must not reach services of the client's host that listen on other addresses than the tunnel's.
#[test]
fn only_packets_to_the_leased_address_are_delivered() {
    in_namespace("packets::only_packets_to_the_leased_address_are_delivered", || {
        let server = Server::start("");
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        let others = [
            Ipv4Addr::LOCALHOST,
            OUTER,
            GATEWAY,
            Ipv4Addr::new(10, 98, 0, 255),
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(224, 0, 0, 1),
        ];
        for target in others {
            server.send(&from_gateway(target, port, b"not for you"));
        }
        server.send(&from_gateway(ADDRESS, port, b"for you"));
        let mut buffer = [0; 64];
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let size = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], b"for you");
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(socket.recv(&mut buffer).is_err());
        let totals = app::client_totals();
        assert_eq!(totals.dropped(DropCause::WrongDestination), others.len() as u64);
        assert_eq!(totals.down_packets, 1);
        app::client_stop();
    });
}

/// A program in C adds routes to the device by itself, so that it takes packets from everywhere; its configuration can
/// name the networks.
#[test]
fn sources_are_those_of_the_configuration() {
    in_namespace("packets::sources_are_those_of_the_configuration", || {
        let [lan, resolver] = [Ipv4Addr::new(192, 168, 77, 99), Ipv4Addr::new(8, 8, 8, 8)];
        let never = [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(240, 0, 0, 1), Ipv4Addr::new(0, 0, 0, 9)];
        let server = Server::start("");
        for (line, passes) in [
            ("", &[GATEWAY, lan, resolver][..]),
            ("allow_source=", &[GATEWAY]),
            ("allow_source=subnet", &[GATEWAY]),
            ("allow_source=[subnet,192.168.0.0/16]", &[GATEWAY, lan]),
        ] {
            configure(&server, line);
            assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
            let socket = UdpSocket::bind((ADDRESS, 0)).unwrap();
            socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            let port = socket.local_addr().unwrap().port();
            for source in [lan, resolver].into_iter().chain(never).chain([GATEWAY]) {
                server.send(&vpn(VPN_RECV, 1, &Ip::new(source, ADDRESS).udp((53, port), b"hello", Sum::Right)));
            }
            let mut seen = Vec::new();
            while seen.last() != Some(&GATEWAY.into()) {
                seen.push(socket.recv_from(&mut [0; 64]).unwrap().1.ip());
            }
            seen.sort();
            assert_eq!(seen, {
                let mut passes = passes.to_vec();
                passes.sort();
                passes
            });
            let dropped = 2 + never.len() - (passes.len() - 1);
            eventually("counted", || app::client_totals().dropped(DropCause::WrongSource) == dropped as u64);
            app::client_stop();
        }
    });
}

#[test]
fn a_list_of_sources_that_cannot_be_read_stops_the_start() {
    in_namespace("packets::a_list_of_sources_that_cannot_be_read_stops_the_start", || {
        let server = Server::start("");
        for line in ["allow_source=lan", "allow_source=[192.168.0.0/16,10.0.0.1/8]"] {
            configure(&server, line);
            assert_eq!(server.connect(), -2);
            let said = app::client_last_error().unwrap().to_string();
            assert!(said.starts_with("[vpn_client] allow_source = "), "{said}");
            assert!(said.contains("expected a list of IPv4 networks"), "{said}");
        }
    });
}

/// What a peer must not make a host do holds at the client, too; [`crate::bundles`] has it for bundles.
#[test]
fn source_routes_are_dropped() {
    in_namespace("packets::source_routes_are_dropped", || {
        let server = Server::start("");
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let socket = UdpSocket::bind((ADDRESS, 0)).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let port = socket.local_addr().unwrap().port();
        for options in [[131, 7, 4, 10, 98, 0, 3, 0], [137, 7, 4, 192, 0, 2, 1, 0], [1, 1, 1, 1, 7, 9, 4, 0]] {
            let ip = Ip { options: options.to_vec(), ..Ip::new(GATEWAY, ADDRESS) };
            server.send(&vpn(VPN_RECV, 1, &ip.udp((53, port), b"around", Sum::Right)));
        }
        server.send(&from_gateway(ADDRESS, port, b"for you"));
        let mut buffer = [0; 64];
        let size = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], b"for you");
        assert_eq!(app::client_totals().dropped(DropCause::BadOptions), 3);
        app::client_stop();
    });
}

/// A C server answers PING with a packet of type 0x64, and its own client looks at no type.
#[test]
fn packets_of_every_type_are_delivered() {
    in_namespace("packets::packets_of_every_type_are_delivered", || {
        let server = Server::start("");
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let socket = UdpSocket::bind((ADDRESS, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        for kind in [0x00, 0x01, 0x02, 0x64, 0xff] {
            server.send_typed(kind, &vpn(PONG, 1, b""));
            server.send_typed(kind, &from_gateway(ADDRESS, port, &[kind]));
            let mut buffer = [0; 64];
            let size = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..size], [kind]);
        }
        assert_eq!(app::client_totals().all_dropped(), 0);
        app::client_stop();
    });
}

/// These packets arrive before the device exists.
#[test]
fn packets_before_the_device_are_counted() {
    in_namespace("packets::packets_before_the_device_are_counted", || {
        let server = Server::start("");
        *server.shared.answers.lock() =
            vec![from_gateway(ADDRESS, 9, b"early"), from_gateway(ADDRESS, 9, b"early"), reply(None).encode(1, 0)];
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        eventually("counted", || app::client_totals().dropped(DropCause::TunWrite) == 2);
        app::client_stop();
        assert_eq!(app::client_totals().all_dropped(), 0);
    });
}

/// Gives the client's next start this line in its section.
pub(crate) fn configure(server: &Server, line: &str) {
    let directory = server.directory.path().display();
    let text = format!("[general]\nstate_dir={directory}\n[vpn_client]\nroutes=[]\n{line}\n");
    config::set_current(Config::parse(&text, "test").0);
}

/// Returns a VPN_RECV with a UDP datagram from the gateway, without a checksum.
fn from_gateway(target: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    vpn(VPN_RECV, 1, &Ip::new(GATEWAY, target).udp((53, port), payload, Sum::Zero))
}
