//! Clients of today, which keep no token, come back: they get the address that they had.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::sdk::channel::sessions;
use host::tun::{Device, DeviceConfig};
use testkit::eventually;
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::sockets::received;
use testkit::wire::{ADDR_REPLY, ADDR_REQUEST, PING, VPN_SEND, op, vpn};

use crate::lab::{GATEWAY, Lab, Server};
use crate::peer::Peer;

const MINE: [u8; 32] = [0xaa; 32];
const OTHER: [u8; 32] = [0xbb; 32];

/// Returns a client of today with this key, and the last octet of its address.
fn client(server: &Server, key: [u8; 32]) -> (Peer, u8) {
    let mut peer = Peer::connect(server.port);
    peer.key = key;
    peer.request();
    let last = peer.ask(&[])[23];
    (peer, last)
}

/// Returns how many sessions have an address.
fn leased() -> usize {
    sessions().iter().filter(|session| session.address != 0).count()
}

/// Ends a client's stream, and waits until the server has noticed.
fn leave(peer: Peer, left: usize) {
    drop(peer);
    eventually("the end of the lease", || leased() == left);
}

#[test]
fn the_same_address_while_it_is_free() {
    in_namespace("returning::the_same_address_while_it_is_free", || {
        // Without a hold time it is free as well, until another client needs it.
        for keys in ["", "lease_time=0\n"] {
            let server = Server::start(keys);
            let (mine, at_first) = client(&server, MINE);
            let (other, others) = client(&server, OTHER);
            assert_eq!((at_first, others), (2, 3));
            leave(mine, 1);
            for _ in 0..3 {
                let (mine, again) = client(&server, MINE);
                assert_eq!(again, 2);
                leave(mine, 1);
            }
            leave(other, 0);
            assert_eq!(client(&server, OTHER).1, 3, "in whatever order they return");
            assert_eq!(client(&server, [0xcc; 32]).1, 4, "unused addresses go first");
        }
    });
}

#[test]
fn a_blank_key_is_nobodys() {
    in_namespace("returning::a_blank_key_is_nobodys", || {
        let server = Server::start("");
        let (peer, last) = client(&server, [0; 32]);
        assert_eq!(last, 2);
        leave(peer, 0);
        assert_eq!(client(&server, [0; 32]).1, 3);
    });
}

/// The peer answers no PING, as clients of today: its TCP shows that it is alive.
#[test]
fn two_sessions_of_one_key_get_two_addresses() {
    in_namespace("returning::two_sessions_of_one_key_get_two_addresses", || {
        let lab = Lab::start("", b"");
        let (first, at_first) = client(&lab.server, MINE);
        assert_eq!(at_first, 3);
        let began = Instant::now();
        let (second, at_second) = client(&lab.server, MINE);
        assert_eq!(at_second, 4);
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        assert_eq!(op(&first.next("the question whether it is alive")), PING);
        // Both are served.
        for (peer, last) in [(&first, 3), (&second, 4)] {
            let ip = Ip::new(Ipv4Addr::new(10, 98, 0, last), GATEWAY);
            peer.send(&vpn(VPN_SEND, peer.usage, &ip.udp(lab.ports(), &[last; 4], Sum::Right)));
            assert_eq!(received(&lab.socket, "a datagram").0, [last; 4]);
        }
    });
}

/// Two devices with one wallet: each keeps its address, whichever of them leaves. The C module leased the address that
/// was released last.
#[test]
fn each_session_of_one_key_gets_its_address_back() {
    in_namespace("returning::each_session_of_one_key_gets_its_address_back", || {
        let server = Server::start("");
        let (_first, at_first) = client(&server, MINE);
        let (mut second, at_second) = client(&server, MINE);
        assert_eq!((at_first, at_second), (2, 3));
        for round in 0..3 {
            leave(second, 1);
            let (back, again) = client(&server, MINE);
            assert_eq!(again, 3, "round {round}: the key's free address goes before a new one");
            second = back;
        }
    });
}

#[test]
fn a_silent_session_loses_its_address_to_its_key() {
    in_namespace("returning::a_silent_session_loses_its_address_to_its_key", || {
        let server = Server::start("");
        let address = Ipv4Addr::new(10, 9, 9, 1);
        let (outer, _queues) = Device::create(&DeviceConfig {
            name: Some("outer".into()),
            queues: 1,
            addr: address,
            prefix: 24,
            mtu: 1500,
            txqlen: None,
            offload: false,
        })
        .unwrap();
        // Several, so that they come back in different parts of the second in which the server looks after sessions.
        let keys = [0xa1, 0xa2, 0xa3, 0xa4].map(|byte| [byte; 32]);
        let mut lost = Vec::new();
        for (key, last) in keys.into_iter().zip(2..) {
            let mut peer = Peer::connect_to(&address.to_string(), server.port);
            peer.key = key;
            peer.request();
            assert_eq!(peer.ask(&[])[23], last);
            lost.push(peer);
        }
        // Nothing passes between the two ends any more, and neither is told.
        drop((outer, _queues));
        let mut back = Vec::new();
        for (key, last) in keys.into_iter().zip(2..) {
            let began = Instant::now();
            let (peer, again) = client(&server, key);
            let took = began.elapsed();
            assert_eq!(again, last, "after {took:?}");
            assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "{took:?}");
            back.push(peer);
        }
        eventually("the end of the silent sessions", || leased() == 4);
        drop((lost, back));
    });
}

/// A client of today sends ADDR_REQUEST once; one that repeats it is answered once.
#[test]
fn a_request_that_is_repeated_while_it_waits_is_answered_once() {
    in_namespace("returning::a_request_that_is_repeated_while_it_waits_is_answered_once", || {
        let server = Server::start("");
        let (_first, _) = client(&server, MINE);
        let mut second = Peer::connect(server.port);
        second.key = MINE;
        second.request();
        for _ in 0..20 {
            second.send(&vpn(ADDR_REQUEST, second.usage, &[]));
        }
        let reply = second.next("an address");
        assert_eq!((op(&reply), reply[23]), (ADDR_REPLY, 3));
        while let Some(more) = second.next_within(Duration::from_millis(700)) {
            assert_eq!(op(&more), 0xae, "{more:02x?}");
        }
    });
}
