//! The packets that the client delivers on its host.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
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

/// Returns a VPN_RECV with a UDP datagram from the gateway, without a checksum.
fn from_gateway(target: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    vpn(VPN_RECV, 1, &Ip::new(GATEWAY, target).udp((53, port), payload, Sum::Zero))
}
