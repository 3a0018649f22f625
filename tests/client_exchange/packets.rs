//! What comes out of the tunnel on the client's host.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use vpn_core::forward::DropCause;
use vpn_core::wire::{HEADER_LEN, Header, op};

use crate::netns::in_namespace;
use crate::server::{ADDRESS, GATEWAY, OUTER, PATIENCE, Server, eventually, reply};

/// A server must not reach the services of the client's host that listen on other addresses than the tunnel's.
#[test]
fn only_what_goes_to_the_leased_address_is_delivered() {
    in_namespace("packets::only_what_goes_to_the_leased_address_is_delivered", || {
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
            server.send(&received(target, port, b"not for you"));
        }
        server.send(&received(ADDRESS, port, b"for you"));
        let mut buffer = [0; 64];
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
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

/// The device is not there yet when these come.
#[test]
fn packets_before_the_device_are_counted() {
    in_namespace("packets::packets_before_the_device_are_counted", || {
        let server = Server::start("");
        *server.shared.answers.lock() =
            vec![received(ADDRESS, 9, b"early"), received(ADDRESS, 9, b"early"), reply(None).encode(1, 0)];
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        eventually("counted", || app::client_totals().dropped(DropCause::TunWrite) == 2);
        app::client_stop();
        assert_eq!(app::client_totals().all_dropped(), 0);
    });
}

/// VPN_RECV with a UDP datagram from the gateway, as a kernel takes it: UDP may do without a checksum (RFC 768), IPv4
/// not (RFC 791).
fn received(target: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (28 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(GATEWAY.octets());
    packet.extend(target.octets());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(53u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    let mut whole = vec![0; HEADER_LEN];
    let header = Header { sock_id: 0, op: op::VPN_RECV, usage_id: 1, value: packet.len() as u32 };
    whole.copy_from_slice(&header.to_bytes());
    whole.extend(packet);
    whole
}
