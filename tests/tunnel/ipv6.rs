//! A host with IPv6 behind a tunnel that carries IPv4 alone: nothing leaves around the tunnel, and applications hear at
//! once that IPv6 does not work. Nothing of it is left when the client ends, however it ends.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use host::netlink::{Netlink, OUR_ROUTE, Route6Entry, RouteEntry};
use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::send;
use testkit::sockets::{echo, every_packet, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY};
use testkit::{TEST_TIMEOUT, eventually};

use crate::PROGRAM;

/// An address of the Internet, which is on the server's host.
const INTERNET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
/// Another address of the server's host, behind the client's default route, too.
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1);
/// The two ends of the cable.
const NEAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 55, 0, 0, 0, 0, 1);
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 55, 0, 0, 0, 0, 2);
const DEFAULT: (Ipv6Addr, u8) = (Ipv6Addr::UNSPECIFIED, 0);
/// How long an application may wait for an answer.
const AT_ONCE: Duration = Duration::from_millis(200);
const ALL: [&str; 2] = ["--route", "0.0.0.0/0"];

/// Creates the hosts: the client's has a default route by the server's, for IPv6 too.
pub(crate) fn hosts() -> Hosts {
    let hosts = with_link_local_addresses();
    hosts.at(0).run(|| {
        let mut netlink = Netlink::open().unwrap();
        let cable = netlink.link_index("far0").unwrap();
        netlink.add_address6(cable, FAR, 64).unwrap();
        netlink.add_route6(DEFAULT, NEAR, 1024).unwrap();
    });
    hosts
}

/// Creates the same hosts, but the client's has link-local addresses of IPv6 alone.
fn with_link_local_addresses() -> Hosts {
    let hosts = Hosts::new(PROGRAM);
    let mut netlink = Netlink::open().unwrap();
    for (link, address, prefix) in [("near0", NEAR, 64), ("lo", INTERNET, 128), ("lo", SERVER, 128)] {
        let index = netlink.link_index(link).unwrap();
        netlink.add_address6(index, address, prefix).unwrap();
    }
    hosts.at(0).run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(Ipv4Addr::new(10, 55, 0, 1)), None).unwrap();
    });
    hosts
}

fn routes(hosts: &Hosts) -> (Vec<RouteEntry>, Vec<Route6Entry>) {
    hosts.at(0).run(|| {
        let mut netlink = Netlink::open().unwrap();
        (netlink.routes_in_use().unwrap(), netlink.routes6().unwrap())
    })
}

fn ours(hosts: &Hosts) -> usize {
    routes(hosts).1.iter().filter(|route| route.protocol == OUR_ROUTE).count()
}

/// Connects from the client's host to a listener at this address of the server's; returns the error, and the time.
fn connect(hosts: &Hosts, address: impl Into<IpAddr>) -> (Option<ErrorKind>, Duration) {
    let listener = TcpListener::bind((address.into(), 0)).unwrap();
    let target = listener.local_addr().unwrap();
    hosts.at(0).run(move || timed(|| TcpStream::connect_timeout(&target, TEST_TIMEOUT)))
}

fn timed<T>(work: impl FnOnce() -> io::Result<T>) -> (Option<ErrorKind>, Duration) {
    let began = Instant::now();
    let error = work().err().map(|error| error.kind());
    (error, began.elapsed())
}

/// Sends a datagram on a connected socket, as QUIC does, and waits for what comes back.
fn ask(hosts: &Hosts, target: Ipv6Addr) -> (Option<ErrorKind>, Duration) {
    hosts.at(0).run(move || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.connect((target, 443)).unwrap();
        socket.send(&[7; 1200]).unwrap();
        timed(|| socket.recv(&mut [0; 64]))
    })
}

/// Both a TCP connection and a datagram are refused, without a wait.
fn assert_blocked(hosts: &Hosts, what: &str) {
    for (error, time) in [connect(hosts, INTERNET), ask(hosts, INTERNET)] {
        assert_eq!(error, Some(ErrorKind::ConnectionRefused), "{what}: after {time:?}");
        assert!(time < AT_ONCE, "{what}: {time:?}");
    }
}

/// Counts the packets to or from the address among those that a socket has received.
fn seen(capture: &UdpSocket, address: Ipv6Addr) -> usize {
    capture.set_nonblocking(true).unwrap();
    let mut packet = [0; 2048];
    let mut count = 0;
    while let Ok(len) = capture.recv(&mut packet) {
        let is_ipv6 = len >= 40 && packet[0] >> 4 == 6;
        count += usize::from(is_ipv6 && [&packet[8..24], &packet[24..40]].contains(&&address.octets()[..]));
    }
    count
}

#[test]
fn a_full_tunnel_refuses_ipv6_at_once_and_nothing_leaves_around_it() {
    in_namespace("ipv6::a_full_tunnel_refuses_ipv6_at_once_and_nothing_leaves_around_it", || {
        let hosts = hosts();
        let (_server, _) = hosts.server("server");
        let wire = every_packet();
        assert_eq!(connect(&hosts, INTERNET).0, None);
        assert!(seen(&wire, INTERNET) > 2, "the capture works");
        let before = routes(&hosts);

        let client = Client::connect(&hosts, 0, "client", &ALL);
        assert_blocked(&hosts, "the tunnel is up");
        // An application that tries all addresses of a name.
        let listener = TcpListener::bind("10.98.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let both = [SocketAddr::from((INTERNET, port)), SocketAddr::from((GATEWAY, port))];
        let (error, time) = hosts.at(0).run(move || timed(|| TcpStream::connect(&both[..])));
        assert!(error.is_none() && time < AT_ONCE, "{error:?} after {time:?}");
        // The network of the host itself stays.
        assert_eq!(connect(&hosts, NEAR).0, None);
        // Routes for the whole Internet that a router advertises later, with a better metric.
        hosts.at(0).run(|| {
            let mut netlink = Netlink::open().unwrap();
            for (network, prefix) in [("::", 0), ("::", 1), ("2000::", 3)] {
                netlink.add_route6((network.parse().unwrap(), prefix), NEAR, 1).unwrap();
            }
        });
        assert_blocked(&hosts, "after an advertisement");
        assert_eq!(seen(&wire, INTERNET), 0);
        assert!(client.running.log().contains("IPv6 leads into tunnel device"), "{}", client.running.log());
        hosts.at(0).run(|| {
            let mut netlink = Netlink::open().unwrap();
            for (network, prefix) in [("::", 0), ("::", 1), ("2000::", 3)] {
                netlink.del_route6((network.parse().unwrap(), prefix), NEAR, 1).unwrap();
            }
        });

        drop(client);
        eventually("the routes are gone", || routes(&hosts) == before);
        assert_eq!(connect(&hosts, INTERNET).0, None);

        let client = Client::connect(&hosts, 0, "client", &ALL);
        assert_blocked(&hosts, "the second tunnel is up");
        send(&client.running.child, Signal::KILL);
        eventually("the routes of the killed client are gone", || routes(&hosts) == before);
        assert_eq!(connect(&hosts, INTERNET).0, None);
    });
}

#[test]
fn ipv6_stays_blocked_while_the_client_connects_again() {
    in_namespace("ipv6::ipv6_stays_blocked_while_the_client_connects_again", || {
        let hosts = hosts();
        let (server, _) = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &[&ALL[..], &["--retry"]].concat());
        let count = ours(&hosts);
        let wire = every_packet();
        drop(server);
        eventually("the loss is seen", || client.running.log().contains("next attempt"));
        assert_eq!(ours(&hosts), count);
        assert_blocked(&hosts, "the server is gone");
        // Another lease, and so another device.
        let config = hosts.config(&testkit::tunnel::NETWORK.replace("10.98.0.0", "10.97.0.0"));
        let (_server, _) = hosts.server_with("server", &["--config", &config]);
        let client = Client::connected(client.running, 2);
        assert_eq!(client.address.octets()[..2], [10, 97]);
        assert_blocked(&hosts, "connected again");
        assert_eq!((ours(&hosts), seen(&wire, INTERNET)), (count, 0));
    });
}

/// A switch of the host's IPv6 flushes its routes, and a host may get IPv6 at any time.
#[test]
fn ipv6_that_comes_later_is_blocked_too() {
    in_namespace("ipv6::ipv6_that_comes_later_is_blocked_too", || {
        let hosts = with_link_local_addresses();
        let _server = hosts.server("server");
        let switch = |off: bool| {
            let value = if off { "1" } else { "0" };
            hosts.at(0).run(move || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", value).unwrap());
        };
        let add_routes = || {
            hosts.at(0).run(|| {
                let mut netlink = Netlink::open().unwrap();
                let cable = netlink.link_index("far0").unwrap();
                netlink.add_address6(cable, FAR, 64).unwrap();
                netlink.add_route6(DEFAULT, NEAR, 1024).unwrap();
            });
        };
        switch(true);
        let client = Client::connect(&hosts, 0, "client", &ALL);
        for _ in 0..2 {
            assert_eq!(ours(&hosts), 0);
            switch(false);
            add_routes();
            eventually("IPv6 leads into the tunnel", || ours(&hosts) > 0);
            assert_blocked(&hosts, "after the switch");
            switch(true);
        }
        assert!(!client.running.log().contains(" WARN "), "{}", client.running.log());
    });
}

#[test]
fn ipv6_is_left_alone_by_the_key_and_by_a_split_tunnel() {
    in_namespace("ipv6::ipv6_is_left_alone_by_the_key_and_by_a_split_tunnel", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        let config = hosts.config("[vpn_client]\nroutes=[0.0.0.0/0]\nipv6=leave\n");
        for arguments in [
            &["--route", "0.0.0.0/0", "--ipv6", "leave"][..],
            &["--config", &config],
            &["--route", "198.18.0.0/15"],
            &["--no-routes"],
        ] {
            let client = Client::connect(&hosts, 0, "client", arguments);
            assert_eq!((connect(&hosts, INTERNET).0, ours(&hosts)), (None, 0), "{arguments:?}");
            drop(client);
        }
        // The option is before the file.
        let _client = Client::connect(&hosts, 0, "client", &["--config", &config, "--ipv6", "block"]);
        assert_blocked(&hosts, "by the option");
    });
}

#[test]
fn a_server_is_reached_over_ipv6() {
    in_namespace("ipv6::a_server_is_reached_over_ipv6", || {
        let hosts = hosts();
        let config = hosts.config("[server]\nlisten_address=[[::]:8079]\n");
        let _server = hosts.server_with("server", &["--config", &config]);
        let arguments = [&["client", "--connect", "[2001:db8:7::1]"][..], &ALL].concat();
        let client = Client::connected(hosts.start_at(0, "client", &arguments), 1);
        echo(&udp(GATEWAY), &udp_at(hosts.at(0), client.address), b"over IPv6");
        assert_blocked(&hosts, "beside the server");
        assert_eq!(connect(&hosts, SERVER).0, None);
        assert!(ours(&hosts) > 100, "{}", ours(&hosts));
    });
}

/// It has no source for packets to the Internet but its link-local address, and must not wait either.
#[test]
fn a_host_without_a_global_address_hears_at_once_too() {
    in_namespace("ipv6::a_host_without_a_global_address_hears_at_once_too", || {
        let hosts = with_link_local_addresses();
        let _server = hosts.server("server");
        assert_eq!(connect(&hosts, INTERNET).0, Some(ErrorKind::NetworkUnreachable));
        let _client = Client::connect(&hosts, 0, "client", &ALL);
        assert_blocked(&hosts, "with a link-local address");
    });
}

#[test]
fn a_host_without_ipv6_gets_none() {
    in_namespace("ipv6::a_host_without_ipv6_gets_none", || {
        let hosts = with_link_local_addresses();
        let _server = hosts.server("server");
        hosts.at(0).run(|| fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
        let before = routes(&hosts).1;
        let client = Client::connect(&hosts, 0, "client", &ALL);
        assert_eq!(routes(&hosts).1, before);
        let file = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", client.device);
        assert_eq!(hosts.at(0).run(move || fs::read_to_string(file).unwrap()), "1\n");
        assert!(!client.running.log().contains("IPv6"), "{}", client.running.log());
    });
}

/// The kernel has no IPv6 on a device with a smaller MTU than 1280.
#[test]
fn an_mtu_that_is_too_small_for_ipv6_stops_a_client_whose_host_has_it() {
    in_namespace("ipv6::an_mtu_that_is_too_small_for_ipv6_stops_a_client_whose_host_has_it", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        let before = routes(&hosts);
        let config = hosts.config("[vpn_client]\nmtu=1279\nroutes=[0.0.0.0/0]\n");
        let output = hosts.far(&["client", "--connect", "10.55.0.1", "--config", &config]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("[vpn_client] ipv6 = block: an MTU of 1279 is below the 1280"), "{said}");
        assert_eq!(routes(&hosts), before);
        let _client = Client::connect(&hosts, 0, "client", &["--config", &config, "--ipv6", "leave"]);
    });
}
