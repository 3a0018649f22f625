//! What is routed into the tunnel beside its subnet: all or a part of the Internet, without the server and what the host
//! routes itself. Nothing of it is left when the client ends, however it ends.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use host::lab::{add_loopback_address, set_loopback_up};
use host::netlink::{Netlink, OUR_ROUTE, RouteEntry};
use rustix::process::Signal;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{code, send};
use testkit::sockets::udp;
use testkit::tunnel::{Client, NETWORK};

use crate::PROGRAM;
use crate::device::ip_at_client;
use crate::judged::put;

/// An address of the Internet, which is on the server's host.
pub(crate) const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 7);
/// Another one, which the client reaches by its own route.
const NEAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// An address of a private network, which is on the server's host too.
const PRIVATE: Ipv4Addr = Ipv4Addr::new(172, 16, 9, 9);
/// The client's address on its cable.
pub(crate) const OUTER: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 2);

/// Creates the hosts: the client's has a default route by the server's.
pub(crate) fn hosts() -> Hosts {
    let hosts = Hosts::new(PROGRAM);
    for address in [INTERNET, NEAR] {
        add_loopback_address(address).unwrap();
    }
    hosts.at(0).run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(Ipv4Addr::new(10, 55, 0, 1)), None).unwrap();
    });
    hosts
}

fn routes(hosts: &Hosts) -> Vec<RouteEntry> {
    hosts.at(0).run(|| Netlink::open().unwrap().routes_in_use().unwrap())
}

fn ours(hosts: &Hosts) -> usize {
    routes(hosts).iter().filter(|route| route.protocol == OUR_ROUTE).count()
}

/// Sends a datagram from the client's host, answered by the server's; returns the source that the server's host sees.
fn source_towards(hosts: &Hosts, target: Ipv4Addr) -> Ipv4Addr {
    let there = udp(target);
    let here: UdpSocket = hosts.at(0).run(|| udp(Ipv4Addr::UNSPECIFIED));
    here.send_to(b"question", there.local_addr().unwrap()).unwrap();
    let (_, from) = there.recv_from(&mut [0; 64]).unwrap();
    there.send_to(b"answer", from).unwrap();
    let (_, by) = here.recv_from(&mut [0; 64]).unwrap();
    assert_eq!(by.ip(), target);
    let IpAddr::V4(source) = from.ip() else { panic!("{from}") };
    source
}

#[test]
fn a_full_tunnel_takes_all_but_the_server_and_the_hosts_own_routes() {
    in_namespace("routes::a_full_tunnel_takes_all_but_the_server_and_the_hosts_own_routes", || {
        let hosts = hosts();
        let before = routes(&hosts);
        let (_server, _) = hosts.server("server");
        assert_eq!([INTERNET, NEAR].map(|target| source_towards(&hosts, target)), [OUTER, OUTER]);

        let client = Client::connect(&hosts, 0, "client", &["--route", "0.0.0.0/0"]);
        assert_eq!([INTERNET, NEAR].map(|target| source_towards(&hosts, target)), [client.address; 2]);
        assert_eq!(source_towards(&hosts, Ipv4Addr::new(10, 55, 0, 1)), OUTER, "the server");
        let all = routes(&hosts);
        assert!(before.iter().all(|route| all.contains(route)), "{all:?}");
        drop(client);
        eventually("the routes are gone", || routes(&hosts) == before);

        let client =
            Client::connect(&hosts, 0, "client", &["--route", "0.0.0.0/0", "--exclude-route", "203.0.113.0/24"]);
        assert_eq!([INTERNET, NEAR].map(|target| source_towards(&hosts, target)), [client.address, OUTER]);
        drop(client);

        let keys = "[vpn_client]\nroutes=[198.18.0.0/15,192.0.2.0/24]\nexclude_routes=[192.0.2.128/25]\n";
        let client = Client::connect(&hosts, 0, "client", &["--config", &hosts.config(keys)]);
        assert_eq!([INTERNET, NEAR].map(|target| source_towards(&hosts, target)), [client.address, OUTER]);
        assert_eq!(ours(&hosts), 2);
        // A client that is killed leaves nothing behind either.
        send(&client.running.child, Signal::KILL);
        eventually("the routes of the killed client are gone", || routes(&hosts) == before);
    });
}

/// While the client connects again the routes lead into the device, which stays: nothing leaves around the tunnel. They
/// follow the host's own routes at the next connection, and move to another device with the lease.
#[test]
fn the_routes_stay_while_the_client_connects_again() {
    in_namespace("routes::the_routes_stay_while_the_client_connects_again", || {
        let hosts = hosts();
        let (server, _) = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &["--route", "0.0.0.0/0", "--retry"]);
        let count = ours(&hosts);
        drop(server);
        eventually("the loss is seen", || client.running.log().contains("next attempt"));
        assert_eq!(ours(&hosts), count);
        let socket = hosts.at(0).run(|| udp(Ipv4Addr::UNSPECIFIED));
        socket.connect((INTERNET, 9)).unwrap();
        assert_eq!(socket.local_addr().unwrap().ip(), client.address, "into the device");

        hosts.at(0).run(|| {
            let mut netlink = Netlink::open().unwrap();
            let cable = netlink.link_index("far0").unwrap();
            netlink.add_route(Ipv4Addr::new(203, 0, 113, 0), 24, None, Some(cable)).unwrap();
        });
        let keys = NETWORK.replace("10.98.0.0", "10.97.0.0");
        let (_server, _) = hosts.server_with("server", &["--config", &hosts.config(&keys)]);
        let client = Client::connected(client.running, 2);
        assert_eq!(client.address.octets()[..2], [10, 97]);
        assert_eq!(source_towards(&hosts, INTERNET), client.address);
        let near = hosts.at(0).run(|| udp(Ipv4Addr::UNSPECIFIED));
        near.connect((NEAR, 9)).unwrap();
        assert_eq!(near.local_addr().unwrap().ip(), OUTER, "the host's new route");
    });
}

/// Whatever routes the host has to the server and to the Internet: all goes through the tunnel but the server, and nothing
/// of it changes.
#[test]
fn each_layout_of_routes_is_kept() {
    in_namespace("routes::each_layout_of_routes_is_kept", || {
        let hosts = Hosts::new(PROGRAM);
        add_loopback_address(INTERNET).unwrap();
        add_loopback_address(PRIVATE).unwrap();
        let _server = hosts.server("server");
        let layouts: [(&str, &[&str]); 6] = [
            ("10.55.0.1", &[]),
            ("10.55.0.1", &["default via 10.55.0.1 metric 100", "default via 10.55.0.77 metric 200"]),
            ("10.55.0.1", &["default dev far0"]),
            ("10.55.0.1", &["0.0.0.0/1 via 10.55.0.1", "128.0.0.0/1 via 10.55.0.1"]),
            ("172.16.9.9", &["172.16.0.0/12 via 10.55.0.1"]),
            ("172.16.9.9", &["default via 10.55.0.1", "unreachable 172.16.0.0/16", "172.16.9.9 via 10.55.0.1"]),
        ];
        for (server, layout) in layouts {
            layout.iter().for_each(|route| ip_at_client(&hosts, &format!("route add {route}")));
            let before = routes(&hosts);
            let client = Client::connected(hosts.start_at(0, "client", &["client", "--connect", server]), 1);
            assert_eq!(source_towards(&hosts, INTERNET), client.address, "{layout:?}");
            assert_eq!(source_towards(&hosts, server.parse().unwrap()), OUTER, "{layout:?}");
            let log = client.running.log();
            assert!(!log.contains("WARN") || !log.contains("around the tunnel"), "{layout:?}: {log}");
            drop(client);
            eventually("the host is what it was", || routes(&hosts) == before);
            layout.iter().for_each(|route| ip_at_client(&hosts, &format!("route del {route}")));
        }
    });
}

/// A rule of the host that comes before its main table takes packets past the routes: the user hears of it.
#[test]
fn a_routing_rule_that_leads_around_the_tunnel_is_told() {
    in_namespace("routes::a_routing_rule_that_leads_around_the_tunnel_is_told", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        for change in ["route add default via 10.55.0.1 table 100", "rule add pref 100 lookup 100"] {
            ip_at_client(&hosts, change);
        }
        let client = Client::connect(&hosts, 0, "client", &[]);
        assert_eq!(source_towards(&hosts, INTERNET), OUTER);
        let log = client.running.log();
        assert!(log.contains("leave this host around the tunnel: one of its routing rules"), "{log}");
    });
}

/// The name server is reached through the tunnel that is lost: the name cannot be looked up again before it is back.
#[test]
fn a_server_is_found_again_without_a_name_server() {
    in_namespace("routes::a_server_is_found_again_without_a_name_server", || {
        let hosts = hosts();
        let (server, _) = hosts.server("server");
        put(&hosts, "/etc/hosts", "10.55.0.1 vpn.test\n");
        put(&hosts, "/etc/resolv.conf", "nameserver 198.18.7.53\n");
        let arguments = ["client", "--connect", "vpn.test", "--route", "0.0.0.0/0", "--retry"];
        let client = Client::connected(hosts.start_at(0, "client", &arguments), 1);
        put(&hosts, "/etc/hosts", "127.0.0.1 localhost\n");
        drop(server);
        eventually("the loss is seen", || client.running.log().contains("next attempt"));
        let _server = hosts.server("server");
        let client = Client::connected(client.running, 2);
        assert!(client.running.log().contains("which answered last, is tried"), "{}", client.running.log());
        assert_eq!(source_towards(&hosts, INTERNET), client.address);
    });
}

/// A server with two addresses, of which the one in use answers no more, and neither does a name server: the client finds
/// the other one, which the tunnel and the kill switch kept from leaving around it until then.
#[test]
fn another_address_of_the_servers_name_is_found_again() {
    in_namespace("routes::another_address_of_the_servers_name_is_found_again", || {
        let hosts = hosts();
        hosts.at(0).run(|| set_loopback_up().unwrap());
        let one = |address: &str| {
            let config = hosts.config(&format!("{NETWORK}[server]\nlisten_address=[{address}:8079]\n"));
            hosts.server_with("server", &["--config", &config]).0
        };
        let first = one("10.55.0.1");
        put(&hosts, "/etc/hosts", "10.55.0.1 vpn.test\n198.18.7.7 vpn.test\n");
        let arguments = ["client", "--connect", "vpn.test", "--kill-switch", "--dns", "off"];
        let client = Client::connected(hosts.start_at(0, "client", &arguments), 1);
        put(&hosts, "/etc/hosts", "127.0.0.1 localhost\n");
        let passes = |target: Ipv4Addr, port: u16| {
            hosts.at(0).run(move || UdpSocket::bind((OUTER, 0)).unwrap().send_to(b"x", (target, port)).is_ok())
        };
        assert_eq!(source_towards(&hosts, INTERNET), client.address);

        drop(first);
        let _second = one("198.18.7.7");
        let client = Client::connected(client.running, 2);
        // Now this address is the one outside, for the server's port alone.
        let connected = hosts.at(0).run(|| TcpStream::connect((INTERNET, 8079)).unwrap().local_addr().unwrap());
        assert_eq!(connected.ip(), OUTER);
        assert!(!passes(INTERNET, 8079) && !passes(INTERNET, 9), "no datagrams");
        assert_eq!(source_towards(&hosts, NEAR), client.address);
    });
}

/// While the client connects again the host's link goes and comes back, and the client has opened the way to the other
/// address of the server's name meanwhile: the local network stays with the host, the gateway of its next default route
/// too.
#[test]
fn the_local_network_of_a_link_that_comes_back_stays_with_the_host() {
    in_namespace("routes::the_local_network_of_a_link_that_comes_back_stays_with_the_host", || {
        let hosts = hosts();
        let (server, _) = hosts.server("server");
        put(&hosts, "/etc/hosts", "10.55.0.1 vpn.test\n198.18.7.7 vpn.test\n");
        let arguments = ["client", "--connect", "vpn.test", "--dns", "off"];
        let mut client = Client::connected(hosts.start_at(0, "client", &arguments), 1);
        let neighbour = || hosts.at(0).run(|| host::outer_path::source_towards(Ipv4Addr::new(10, 55, 0, 77).into()));
        assert_eq!(neighbour(), Some(OUTER.into()));

        ip_at_client(&hosts, "link set far0 down");
        drop(server);
        client
            .running
            .wait_until("attempts without a link", |client| client.log().matches("next attempt in").count() == 3);
        ip_at_client(&hosts, "link set far0 up");
        assert_eq!(neighbour(), Some(OUTER.into()));
        ip_at_client(&hosts, "route add default via 10.55.0.77");
        let _server = hosts.server("server");
        Client::connected(client.running, 2);
        assert_eq!(neighbour(), Some(OUTER.into()));
    });
}

#[test]
fn networks_that_cannot_be_read_stop_the_client() {
    in_namespace("routes::networks_that_cannot_be_read_stop_the_client", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        let before = routes(&hosts);
        for (key, value) in [("routes", "0.0.0.0"), ("routes", "10.0.0.1/8"), ("exclude_routes", "fd00::/8")] {
            let config = hosts.config(&format!("[vpn_client]\nroutes=[1.0.0.0/8]\n{key}=[{value}]\n"));
            let output = hosts.far(&["client", "--connect", "10.55.0.1", "--config", &config]);
            let said = String::from_utf8_lossy(&output.stderr);
            let expected = format!("[vpn_client] {key} = {value}: expected a list of networks such as 203.0.113.0/24");
            assert!(said.contains(&expected), "{said}");
            assert_eq!(code(&output), 2, "{said}");
        }
        assert_eq!(routes(&hosts), before);
    });
}

/// Runs a relay to the server on the client's host, at 127.0.0.1:8079, for one connection.
pub(crate) fn relay(hosts: &Hosts) {
    hosts.at(0).run(|| {
        set_loopback_up().unwrap();
        let listener = TcpListener::bind("127.0.0.1:8079").unwrap();
        let server = TcpStream::connect("10.55.0.1:8079").unwrap();
        std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let ends = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
            for (mut from, mut to) in ends {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        });
    });
}

/// A server behind a relay on this host, such as ssh's: the relay's own way to it is not known, and must not go into the
/// tunnel.
#[test]
fn a_server_behind_a_relay_on_this_host_gets_no_routes() {
    in_namespace("routes::a_server_behind_a_relay_on_this_host_gets_no_routes", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        relay(&hosts);
        let arguments = ["client", "--connect", "127.0.0.1", "--route", "0.0.0.0/0"];
        let client = Client::connected(hosts.start_at(0, "client", &arguments), 1);
        assert!(client.running.log().contains("only the tunnel's subnet is routed"), "{}", client.running.log());
        assert_eq!(ours(&hosts), 0);
        assert_eq!(source_towards(&hosts, INTERNET), OUTER);
    });
}
