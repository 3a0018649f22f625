//! ADDR_REPLY byte by byte, and the answer to bundles from a client that may not send them.

use std::fmt;
use std::net::Ipv4Addr;

use dap_chain_net_srv_vpn::app;
use testkit::eventually;
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::records::{Vnet, record};
use testkit::wire::{BUNDLE_SEND, vpn};
use vpn_core::forward::DropCause;

use crate::lab::{BUNDLES, GATEWAY, Lab, Server, drops_since, socket};
use crate::peer::Peer;

/// Returns the expected header, address, gateway, netmask and these TLVs. The token, which is random, follows them.
fn reply(usage: u32, address: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
    let size = 12 + 4 + tlvs.len() + 2;
    let mut reply = vec![0, 0, 0, 0, 0xb3, 0, 0, 0];
    reply.extend(usage.to_le_bytes());
    reply.extend([size as u8 + 16, 0, 0, 0, 0, 0, 0, 0]);
    reply.extend(address);
    reply.extend([10, 98, 0, 1, 255, 255, 255, 0]);
    reply.extend(b"CFV1");
    reply.extend(tlvs);
    reply.extend([5, 16]);
    reply
}

fn ask(server: &Server, data: &[u8]) -> (u32, Vec<u8>) {
    let mut peer = Peer::connect(server.port);
    peer.request();
    let reply = peer.ask(data);
    (peer.usage, reply)
}

fn assert_reply(server: &Server, data: &[u8], tlvs: &[u8]) {
    let (usage, got) = ask(server, data);
    let address = *got[20..].first_chunk().unwrap();
    assert_eq!(address[..3], [10, 98, 0], "{address:?}");
    assert!((2..255).contains(&address[3]), "{address:?}");
    let expected = reply(usage, address, tlvs);
    assert_eq!(got.len(), expected.len() + 16, "for {data:02x?}: {got:02x?}");
    assert_eq!(got[..expected.len()], expected, "for {data:02x?}");
    assert_ne!(got[expected.len()..], [0; 16], "a token without a secret");
}

/// The reply is byte-identical to the legacy reply, and each client gets the first free address.
fn assert_legacy_reply(server: &Server, data: &[u8]) {
    let (usage, got) = ask(server, data);
    let mut expected = vec![0, 0, 0, 0, 0xb3, 0, 0, 0];
    expected.extend(usage.to_le_bytes());
    expected.extend([8, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([10, 98, 0, got[23], 10, 98, 0, 1]);
    assert_eq!(got, expected, "for {data:02x?}");
    assert!((2..255).contains(&got[23]));
}

#[test]
fn the_reply_accepts_bundles_if_the_request_offers_them() {
    in_namespace("replies::the_reply_accepts_bundles_if_the_request_offers_them", || {
        let server = Server::start("");
        for asked in [65_535u16, 2000, 1] {
            let [low, high] = asked.to_le_bytes();
            let asks = [b"CFV1\x01\x02".as_slice(), &[low, high]].concat();
            assert_reply(&server, &asks, b"\x01\x02\xff\xff");
        }
        assert_reply(
            &server,
            b"CFV1\x04\x02\x05\x00\x01\x02\xff\xff\x02\x02\x84\x03",
            b"\x01\x02\xff\xff\x02\x02\x84\x03\x04\x02\x14\x00",
        );
        assert_reply(&server, b"CFV1\x01\x02\x00\x00", b"");
        assert_reply(&server, b"CFV1\x02\x02\x6e\x05", b"\x02\x02\x6e\x05");
        assert_reply(&server, b"CFV1\x04\x02\x05\x00", b"\x04\x02\x14\x00");
        for legacy in [b"".as_slice(), b"CFV2\x01\x02\xff\xff", b"\x01\x02\xff\xff"] {
            assert_legacy_reply(&server, legacy);
        }
    });
}

#[test]
fn a_server_without_offload_accepts_no_bundles() {
    in_namespace("replies::a_server_without_offload_accepts_no_bundles", || {
        let server = Server::start("offload=false\n");
        assert_reply(&server, b"CFV1\x01\x02\xff\xff\x02\x02\x6e\x05", b"\x02\x02\x6e\x05");
        assert_legacy_reply(&server, b"");
        // This test leaves open whether a server without offload knows TLV 1, and so whether it sends a netmask and a
        // token.
        let (_, got) = ask(&server, &BUNDLES);
        let tlvs = got.get(36..).unwrap_or_default();
        assert!(tlvs.is_empty() || tlvs[0] != 1, "TLV 1 is answered: {got:02x?}");
    });
}

#[test]
fn a_malformed_bundle_capability_is_refused() {
    in_namespace("replies::a_malformed_bundle_capability_is_refused", || {
        let lab = Lab::start("", &BUNDLES);
        let usage = lab.peer.usage;
        for (what, data) in [
            ("one byte", b"CFV1\x01\x01\xff".as_slice()),
            ("three bytes", b"CFV1\x01\x03\xff\xff\xff"),
            ("cut off", b"CFV1\x01\x02\xff"),
            ("no length", b"CFV1\x01"),
        ] {
            lab.check_packets(what, vec![vpn(0xb2, usage, data)], &[], &[(DropCause::Malformed, 1)]);
        }
    });
}

/// Each bundle here would be valid with an agreement.
#[test]
fn without_an_agreement_bundles_are_unexpected() {
    in_namespace("replies::without_an_agreement_bundles_are_unexpected", || {
        for (keys, offer) in [
            ("", b"".as_slice()),
            ("", b"CFV1\x02\x02\x6e\x05"),
            ("", b"CFV2\x01\x02\xff\xff"),
            ("", b"CFV1\x01\x02\x00\x00"),
            ("offload=false\n", &BUNDLES),
            ("offload=false\n", b""),
        ] {
            let lab = Lab::start(keys, offer);
            let what = format!("{keys:?}, the client offered {offer:02x?}");
            let two = [lab.good(b"one"), lab.good(b"two")].concat();
            lab.check(&what, &two, &[], &[(DropCause::UnexpectedOp, 1)]);
            lab.check(&format!("{what}, empty"), &[], &[], &[(DropCause::UnexpectedOp, 1)]);
            lab.check(&format!("{what}, nonsense"), &[7; 999], &[], &[(DropCause::UnexpectedOp, 1)]);
        }
    });
}

/// TLV 1 limits what its sender receives, even if it is small: "each side may send bundles to the other".
#[test]
fn a_client_that_accepts_only_tiny_bundles_may_send_large_ones() {
    in_namespace("replies::a_client_that_accepts_only_tiny_bundles_may_send_large_ones", || {
        let lab = Lab::start("", b"CFV1\x01\x02\x01\x00");
        let two = [lab.good(b"one"), lab.good(b"two")].concat();
        lab.check("bundles of one byte at most", &two, &[b"one", b"two"], &[]);
    });
}

/// A client may send bundles as soon as it has its reply.
#[test]
fn the_agreement_begins_with_the_reply() {
    in_namespace("replies::the_agreement_begins_with_the_reply", || {
        let server = Server::start("");
        let mut peer = Peer::connect(server.port);
        let before = app::server_totals().unwrap();
        let unexpected = |count| {
            let counted = fmt::from_fn(|f| write!(f, "{:?} is not {count} unexpected_op", drops_since(&before)));
            eventually(counted, || drops_since(&before) == [(DropCause::UnexpectedOp, count)]);
        };
        let socket = socket();
        let ports = (4242, socket.local_addr().unwrap().port());
        // The address of the first client.
        let address = Ipv4Addr::new(10, 98, 0, 2);
        let datagram = Ip::new(address, GATEWAY).udp(ports, b"early", Sum::Right);
        let bundle = vpn(BUNDLE_SEND, 0, &record(Vnet::default(), &datagram));
        peer.send(&bundle);
        unexpected(1);
        peer.request();
        peer.send(&bundle);
        unexpected(2);
        let reply = peer.ask(&BUNDLES);
        assert_eq!(reply[20..24], address.octets());
        let lab = Lab { peer, address, socket, server };
        lab.check("agreed", &[lab.good(b"one"), lab.good(b"two")].concat(), &[b"one", b"two"], &[]);
    });
}
