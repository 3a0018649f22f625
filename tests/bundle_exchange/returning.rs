//! Clients of today, which keep no token, come back: they get the address that they had.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::sdk::channel::sessions;
use embedded::config::{self, Config};
use host::lab::set_loopback_up;
use host::tun::{Device, DeviceConfig};
use rustix::process::Signal;
use testkit::hosts::{Host, forwards_packets};
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::program::{Program, Running, send};
use testkit::sockets::{exchange, received};
use testkit::wire::{ADDR_REPLY, ADDR_REQUEST, PING, VPN_SEND, op, vpn};
use testkit::{TEST_TIMEOUT, eventually};

use crate::bridge::{Bridge, OUTSIDE, route_to_clients};
use crate::lab::{GATEWAY, Lab, Server};
use crate::peer::Peer;

const MINE: [u8; 32] = [0xaa; 32];
const OTHER: [u8; 32] = [0xbb; 32];

/// Returns a client of today with this key, and the last octet of its address.
fn client(server: &Server, key: [u8; 32]) -> (Peer, u8) {
    client_of(server.port, key)
}

fn client_of(port: u16, key: [u8; 32]) -> (Peer, u8) {
    let mut peer = Peer::connect(port);
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

/// The service as a program of its own, which can be killed.
fn program(directory: &Path) -> Running {
    let program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));
    let config = directory.join("server.cfg");
    let network = "[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\nnat=off\n";
    std::fs::write(&config, network).unwrap();
    let mut command = program.command(directory);
    command.arg("server").arg("--config").arg(config).arg("--state-dir").arg(directory.join("server"));
    let mut server = Running::start(directory, "server", command, |mut command| command.spawn().unwrap());
    server.wait_for("ready: ");
    server
}

/// The one that came last comes back first: without the stored secret and leases it would get the first one's address.
#[test]
fn the_same_address_after_a_kill_of_the_server() {
    in_namespace("returning::the_same_address_after_a_kill_of_the_server", || {
        if !forwards_packets("returning::the_same_address_after_a_kill_of_the_server") {
            return;
        }
        set_loopback_up().unwrap();
        let (outside, clients_host) = (Host::new(0), Host::new(1));
        outside.run(route_to_clients);
        let directory = tempfile::tempdir().unwrap();
        let text = format!("[general]\nstate_dir={}/peers\n[server]\nenabled=false\n", directory.path().display());
        config::set_current(Config::parse(&text, "test").0);
        app::client_init().unwrap();

        let mut server = program(directory.path());
        let of_bridge = |(peer, last): (Peer, u8)| (peer, Ipv4Addr::new(10, 98, 0, last));
        let bridge = Bridge::start(of_bridge(client_of(8079, MINE)), &clients_host, 1380);
        let (other, others) = client_of(8079, OTHER);
        assert_eq!(others, 3);
        let listener = outside.run(|| TcpListener::bind((OUTSIDE, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        let here = clients_host.run(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap());
        let there = listener.accept().unwrap().0;
        (&here).write_all(b"before").unwrap();
        (&there).read_exact(&mut [0; 6]).unwrap();
        // What has changed is stored within a second.
        std::thread::sleep(Duration::from_millis(1500));

        send(&server.child, Signal::KILL);
        assert_eq!(server.exit_code(), None);
        drop((bridge, other));
        let _server = program(directory.path());
        let (_other, again) = client_of(8079, OTHER);
        assert_eq!(again, 3);
        let mine = client_of(8079, MINE);
        assert_eq!(mine.1, 2);
        let _bridge = Bridge::start(of_bridge(mine), &clients_host, 1380);
        exchange(&(here, there), 100_000, 1);
        app::client_deinit();
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
