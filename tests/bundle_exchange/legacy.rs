//! Fields that the C module never reads: whatever a legacy client writes there, it is served.

use std::net::Ipv4Addr;

use dap_chain_net_srv_vpn::app;
use testkit::inner::{Ip, Seen, Sum, UDP};
use testkit::netns::in_namespace;
use testkit::sockets::received;
use testkit::wire::{ADDR_REPLY, ADDR_REQUEST, PING, PONG, VPN_SEND, op, vpn};
use vpn_core::forward::DropCause;

use crate::lab::{GATEWAY, Lab, Server, drops_since, socket};
use crate::peer::Peer;

/// What the header of a legacy client's VPN packets may have where the C module does not look.
#[derive(Clone, Copy)]
struct Odd {
    /// The type of the channel packet.
    kind: u8,
    sock_id: [u8; 4],
    usage_id: [u8; 4],
    padding: [u8; 4],
}

/// A node's client sends type 0x02, the public GUI 0x00.
const ODD: [Odd; 7] = [
    Odd { kind: 0x00, sock_id: [0; 4], usage_id: [0; 4], padding: [0; 4] },
    Odd { kind: 0x01, sock_id: [0xff; 4], usage_id: [0; 4], padding: [0x5a; 4] },
    Odd { kind: 0x02, sock_id: [0, 0, 0, 0x80], usage_id: [0xff; 4], padding: [0xff; 4] },
    Odd { kind: 0x11, sock_id: [7, 0, 0, 0], usage_id: [1, 2, 3, 4], padding: [0; 4] },
    // NOTIFY_STOPPED, which only a server sends.
    Odd { kind: 0x20, sock_id: [0; 4], usage_id: [9; 4], padding: [1, 0, 0, 0] },
    Odd { kind: 0x64, sock_id: [0; 4], usage_id: [0; 4], padding: [0; 4] },
    Odd { kind: 0xff, sock_id: [1; 4], usage_id: [0x80; 4], padding: [0x80; 4] },
];

impl Odd {
    /// Returns a VPN packet with these values.
    fn vpn(&self, op: u32, data: &[u8]) -> Vec<u8> {
        let mut packet = vpn(op, 0, data);
        packet[0..4].copy_from_slice(&self.sock_id);
        packet[8..12].copy_from_slice(&self.usage_id);
        packet[16..20].copy_from_slice(&self.padding);
        packet
    }

    /// Returns a VPN packet that declares another size than that of its data.
    fn sized(&self, op: u32, size: u32, data: &[u8]) -> Vec<u8> {
        let mut packet = self.vpn(op, data);
        packet[12..16].copy_from_slice(&size.to_le_bytes());
        packet
    }
}

/// The legacy reply, byte for byte; its first field is a copy of the request's.
fn assert_legacy_reply(reply: &[u8], odd: &Odd, usage: u32, what: &str) {
    let mut expected = odd.sock_id.to_vec();
    expected.extend(ADDR_REPLY.to_le_bytes());
    expected.extend(usage.to_le_bytes());
    expected.extend([8, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([10, 98, 0, reply[23], 10, 98, 0, 1]);
    assert_eq!(reply, expected, "{what}");
    assert!((2..255).contains(&reply[23]), "{what}");
}

#[test]
fn odd_headers_are_served() {
    in_namespace("legacy::odd_headers_are_served", || {
        let server = Server::start("");
        let socket = socket();
        let before = app::server_totals().unwrap();
        for odd in &ODD {
            let what = format!("packet type {:#x}", odd.kind);
            let mut peer = Peer::connect(server.port);
            peer.request_as([0xa5; 10], b"bytes behind the request");
            peer.send_typed(odd.kind, vec![odd.vpn(ADDR_REQUEST, &[])]);
            let reply = peer.next(&what);
            assert_legacy_reply(&reply, odd, peer.usage, &what);

            let address = Ipv4Addr::from(*reply[20..].first_chunk::<4>().unwrap());
            let ports = (4242, socket.local_addr().unwrap().port());
            let ip = Ip::new(address, GATEWAY);
            let datagram = ip.udp(ports, b"up", Sum::Right);
            peer.send_typed(odd.kind, vec![odd.vpn(VPN_SEND, &datagram)]);
            let (payload, from) = received(&socket, &what);
            assert_eq!((payload.as_slice(), from.ip()), (b"up".as_slice(), address.into()), "{what}");
            socket.send_to(b"down", from).unwrap();
            let down = peer.next(&what);
            let seen = Seen::new(&down[20..]);
            assert_eq!((seen.protocol(), seen.payload()), (UDP, b"down".as_slice()), "{what}");

            // The size of PING and PONG is not read, and they may have data.
            for (size, data) in [(0, b"".as_slice()), (u32::MAX, b""), (1, b"some data")] {
                peer.send_typed(odd.kind, vec![odd.sized(PONG, size, data), odd.sized(PING, size, data)]);
                assert_eq!(op(&peer.next(&what)), PONG, "{what}, size {size}");
            }
        }
        assert_eq!(drops_since(&before), []);
    });
}

/// The C module reads neither the size nor the data of ADDR_REQUEST.
#[test]
fn any_address_request_without_capabilities_gets_the_legacy_reply() {
    in_namespace("legacy::any_address_request_without_capabilities_gets_the_legacy_reply", || {
        let server = Server::start("");
        let before = app::server_totals().unwrap();
        let odd = ODD[0];
        for (size, data) in [
            (0, b"".as_slice()),
            (8, b""),
            (u32::MAX, b""),
            (7, b"garbage"),
            (0, b"garbage"),
            (6, b"garbage"),
            (0x1000_0000, b"garbage"),
            (0, &[0; 4]),
            (3, b"CFV"),
            (0, b"CFV"),
            (8, b"cfv1\x01\x02\xff\xff"),
            (0, &[0xff; 3000]),
        ] {
            let what = format!("size {size} and {} bytes", data.len());
            let mut peer = Peer::connect(server.port);
            peer.request();
            peer.send_typed(odd.kind, vec![odd.sized(ADDR_REQUEST, size, data)]);
            assert_legacy_reply(&peer.next(&what), &odd, peer.usage, &what);
        }
        assert_eq!(drops_since(&before), []);
    });
}

/// What the C module does read is judged as before, whatever the packet's type: VPN_SEND's size, the op, and the data
/// of a peer with capabilities.
#[test]
fn what_is_read_is_judged_for_every_packet_type() {
    in_namespace("legacy::what_is_read_is_judged_for_every_packet_type", || {
        let lab = Lab::start("", b"");
        for kind in [0x00, 0x02, 0x20, 0x64] {
            let odd = Odd { kind, ..ODD[0] };
            let datagram = lab.datagram(b"dropped");
            let len = datagram.len() as u32;
            let cases = [
                (odd.sized(VPN_SEND, 0, &datagram), DropCause::SizeMismatch),
                (odd.sized(VPN_SEND, len + 1, &datagram), DropCause::SizeMismatch),
                (odd.sized(VPN_SEND, len - 1, &datagram), DropCause::SizeMismatch),
                (odd.vpn(ADDR_REPLY, &[10, 98, 0, 9, 10, 98, 0, 1]), DropCause::UnexpectedOp),
                (odd.vpn(0xbd, &datagram), DropCause::UnexpectedOp),
                (odd.sized(ADDR_REQUEST, 7, b"CFV1\x01\x02\xff\xff"), DropCause::SizeMismatch),
                (vec![0; 19], DropCause::Malformed),
            ];
            for (packet, cause) in cases {
                let what = format!("type {kind:#x}, {cause:?}");
                let before = app::server_totals().unwrap();
                lab.peer.send_typed(kind, vec![packet]);
                lab.peer.ping();
                assert_eq!(drops_since(&before), [(cause, 1)], "{what}");
            }
        }
    });
}
