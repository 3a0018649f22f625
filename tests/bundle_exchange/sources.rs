//! What clients of one source may have of the pool, and what they can make the server log.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::sdk::channel::sessions;
use embedded::store;
use host::lab::add_loopback_address;
use testkit::eventually;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use testkit::wire::{ADDR_REPLY, ADDR_REQUEST, VPN_SEND, op, vpn};
use vpn_core::forward::DropCause;
use vpn_core::wire::op::PROBLEM;

use crate::lab::{GATEWAY, Server, drops_since};
use crate::peer::Peer;
use testkit::inner::{Ip, Sum};

/// 61 addresses for clients: a quarter are 15.
const SMALL: &str = "network_address=10.98.0.0\nnetwork_mask=255.255.255.192\n";
/// Five addresses.
const FIVE: &str = "network_address=10.98.0.0\nnetwork_mask=255.255.255.248\n";
/// TLV 4: the client answers pings.
const KEEPS_ALIVE: [u8; 8] = *b"CFV1\x04\x02\x14\x00";

/// A host of its own in the test's namespace. A stream to it comes from it.
fn host_at(last: u8) -> String {
    let address = [192, 0, 2, last].into();
    add_loopback_address(address).unwrap();
    format!("{address}")
}

/// Asks for an address on a new stream to this host. Returns the last octet of the address, or `None` for "no free
/// address".
fn come(server: &Server, host: &str, caps: &[u8]) -> (Peer, Option<u8>) {
    let mut peer = Peer::connect_to(host, server.port);
    // Each client has a key of its own, and is not known by it.
    peer.key = [0; 32];
    peer.request();
    let asked = ask(&peer, caps);
    (peer, asked)
}

fn ask(peer: &Peer, caps: &[u8]) -> Option<u8> {
    peer.send(&vpn(ADDR_REQUEST, peer.usage, caps));
    let reply = peer.next("an answer to ADDR_REQUEST");
    match op(&reply) {
        ADDR_REPLY => Some(reply[23]),
        PROBLEM => {
            assert_eq!(reply[12], 1, "{reply:02x?}");
            None
        }
        _ => panic!("{reply:02x?}"),
    }
}

fn leave(peer: Peer) {
    let before = sessions().len();
    drop(peer);
    eventually("the end of the session", || sessions().len() < before);
}

#[test]
fn one_source_has_a_quarter_of_the_pool() {
    in_namespace("sources::one_source_has_a_quarter_of_the_pool", || {
        let server = Server::start(SMALL);
        let (attacker, other) = (host_at(1), host_at(2));
        let held: Vec<_> = (0..20).map(|_| come(&server, &attacker, b"")).collect();
        assert_eq!(held.iter().filter(|(_, address)| address.is_some()).count(), 15);
        assert_eq!(come(&server, &other, b"").1, Some(2 + 15));
        let refused = log_lines("address refused: ");
        assert!(refused.iter().any(|line| line.contains("192.0.2.1 has 15 addresses, its share")), "{refused:#?}");
    });
}

#[test]
fn an_office_of_50_has_addresses_of_the_default_network() {
    in_namespace("sources::an_office_of_50_has_addresses_of_the_default_network", || {
        let server = Server::start("");
        let office: Vec<_> = (0..50).map(|_| come(&server, "127.0.0.1", b"")).collect();
        assert!(office.iter().all(|(_, address)| address.is_some()));
    });
}

#[test]
fn a_source_that_churns_leaves_others_what_they_had() {
    in_namespace("sources::a_source_that_churns_leaves_others_what_they_had", || {
        let server = Server::start(SMALL);
        let (attacker, other) = (host_at(1), host_at(2));
        let mut away = Peer::connect_to(&other, server.port);
        away.key = [0xaa; 32];
        away.request();
        assert_eq!(ask(&away, b""), Some(2));
        leave(away);
        // More than the network has, and more than may be new in a minute, one after another.
        let mut last = 0;
        for _ in 0..70 {
            let (peer, address) = come(&server, &attacker, b"");
            last = last.max(address.unwrap());
            leave(peer);
        }
        assert_eq!(last, 2 + 15, "as many as it may have at once");
        let mut back = Peer::connect_to(&other, server.port);
        back.key = [0xaa; 32];
        back.request();
        assert_eq!(ask(&back, b""), Some(2));
    });
}

#[test]
fn an_unused_lease_ends_when_another_client_needs_it() {
    in_namespace("sources::an_unused_lease_ends_when_another_client_needs_it", || {
        let hosts = [1, 2, 3].map(host_at);
        // With keep-alive and without.
        for caps in [b"".as_slice(), &KEEPS_ALIVE] {
            let keys = format!("{FIVE}lease_unused=3\nleases_per_address=3\n");
            let server = Server::start(&keys);
            let used = come(&server, &hosts[0], caps);
            let idle = [&hosts[0], &hosts[0], &hosts[1], &hosts[1]].map(|host| come(&server, host, caps));
            assert_eq!(idle.each_ref().map(|(_, address)| address.unwrap()), [3, 4, 5, 6]);
            let (newcomer, refused) = come(&server, &hosts[2], caps);
            assert_eq!(refused, None, "all are new");
            let datagram = Ip::new([10, 98, 0, 2].into(), GATEWAY).udp((4242, 4242), b"x", Sum::Right);
            let carries = || used.0.send(&vpn(VPN_SEND, used.0.usage, &datagram));
            for _ in 0..9 {
                carries();
                idle.iter().for_each(|(peer, _)| peer.ping());
                thread::sleep(Duration::from_millis(500));
            }
            // The one that is used stays; of the others the longest unused of the source with the most goes first.
            assert_eq!(ask(&newcomer, caps), Some(3));
            carries();
            let second = come(&server, &hosts[2], caps);
            assert!(second.1.is_some_and(|address| (4..=6).contains(&address)), "{:?}", second.1);
            // Of both ends, as they are of one source.
            eventually("a line", || !log_lines("another client needed its unused address").is_empty());
            used.0.ping();
            drop((idle, newcomer, second, used));
        }
    });
}

#[test]
fn requests_for_an_address_have_a_rate() {
    in_namespace("sources::requests_for_an_address_have_a_rate", || {
        let server = Server::start("");
        let (peer, address) = come(&server, "127.0.0.1", b"");
        assert!(address.is_some());
        let before = app::server_totals().unwrap();
        peer.send_all(vec![vpn(ADDR_REQUEST, peer.usage, b""); 1000]);
        peer.send(&vpn(ADDR_REQUEST, peer.usage, b""));
        let too_often = || {
            let counted = drops_since(&before);
            counted.iter().find(|(cause, _)| *cause == DropCause::TooOften).map_or(0, |(_, number)| *number)
        };
        eventually("the drops", || too_often() > 900);
    });
}

/// Each GET reads a rest from the store.
#[test]
fn requests_to_a_server_with_a_broken_store_log_a_line() {
    in_namespace("sources::requests_to_a_server_with_a_broken_store_log_a_line", || {
        let server = Server::start("");
        // The client's part of the library reads pins from the same store when it connects.
        let mut peer = Peer::connect(server.port);
        let _ = fs::remove_file(server.directory().join("store.redb"));
        fs::create_dir(server.directory().join("store.redb")).unwrap();
        // The service has opened it for its leases.
        store::close();
        let path =
            format!("/remain_limits_vpn?net_id={}&user_pkey_hash=0x{}", 0x0404_2022_0000_0000_u64, "0A".repeat(32));
        for _ in 0..300 {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        }
        let errors = log_lines("ERROR");
        assert!(errors.len() == 1 && errors[0].contains("dap_global_db_get_sync"), "{errors:#?}");
        // Leases are given all the same.
        peer.request();
        peer.ask(&[]);
        eventually("a line on the leases", || log_lines("leases not stored: the store refused").len() == 1);
        server.stop_with_errors();
    });
}

/// A free service is anybody's: what earns a place is the lease.
#[test]
fn a_free_service_without_a_lease_has_a_life() {
    in_namespace("sources::a_free_service_without_a_lease_has_a_life", || {
        let server = Server::start("[server]\nidle_timeout=2\n");
        let (leased, address) = come(&server, "127.0.0.1", b"");
        assert!(address.is_some());
        let mut idle = Peer::connect(server.port);
        idle.request();
        assert_eq!(sessions().len(), 2);
        eventually("the end of the stream without a lease", || sessions().len() == 1);
        thread::sleep(Duration::from_secs(3));
        leased.ping();
    });
}

#[test]
fn a_stream_has_the_idle_timeout_of_the_reload_before_it() {
    in_namespace("sources::a_stream_has_the_idle_timeout_of_the_reload_before_it", || {
        let server = Server::start("");
        server.reload("[server]\nidle_timeout=2\n");
        let mut idle = Peer::connect(server.port);
        idle.request();
        assert_eq!(sessions().len(), 1);
        eventually("the end of the stream", || sessions().is_empty());
    });
}

/// The bytes of the server's lines about clients.
fn logged() -> usize {
    log_lines("client without a key").iter().map(|line| line.len() + 1).sum()
}

#[test]
fn two_hundred_sessions_of_strangers_log_a_few_lines() {
    in_namespace("sources::two_hundred_sessions_of_strangers_log_a_few_lines", || {
        let server = Server::start("");
        let (before, one) = (logged(), host_at(1));
        for _ in 0..100 {
            drop(come(&server, &one, b""));
        }
        let of_one = logged() - before;
        let many: Vec<_> = (2..102).map(host_at).collect();
        for host in &many {
            drop(come(&server, host, b""));
        }
        let of_many = logged() - before - of_one;
        println!("bytes of log: {of_one} of 100 sessions of one address, {of_many} of 100 addresses");
        // Before: 217 bytes a session.
        assert!(of_one < 5_000 && of_many < 12_000, "{of_one} {of_many}");
        for event in ["service starts: client", "session ended: client"] {
            let lines = log_lines(event);
            let here = lines.iter().filter(|line| line.contains(" at 192.0.2.1:")).count();
            assert_eq!((here, lines.len()), (1, 16), "{event}");
        }
    });
}
