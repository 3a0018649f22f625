//! Paths with a smaller MTU than 1500: behind the server, where a router's ICMP has to find the socket inside the tunnel,
//! and between client and server.
//!
//! ```text
//! client -- server -- router --(narrow)-- router -- far host
//! ```

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use host::lab::{Cable, Namespace, Plug, add_loopback_address};
use host::netlink::Netlink;
use host::nft::{BaseChain, Batch, ChainHook, Family, Nft, Rule};
use testkit::eventually;
use testkit::hosts::{Hosts, forward_packets};
use testkit::netns::in_namespace;
use testkit::program::Running;
use testkit::sockets::{Fragments, connect_from, exchange, path_mtu, received, set_fragments, tcp, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};
use testkit::{TEST_TIMEOUT, noise};

use crate::PROGRAM;

/// The router's address on the server's cable: the source of its ICMP messages.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 55, 1, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 57, 0, 2);
/// An MTU that the tunnel's packets fit into, that of IPv6's smallest links, and that of IPv4's.
const MTUS: [u32; 3] = [1400, 1280, 576];
/// The tunnel's own MTU.
const TUNNEL: usize = 1390;

/// The hosts behind the server.
struct Lab {
    hosts: Hosts,
    routers: [Namespace; 2],
    far: Namespace,
}

impl Lab {
    fn new() -> Lab {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let routers = [hosts.at(1).namespace().clone(), Namespace::new().unwrap()];
        let far = Namespace::new().unwrap();
        for (number, near, other) in [(56, &routers[0], &routers[1]), (57, &routers[1], &far)] {
            let plug = |name: &str, last| Plug {
                link: format!("{name}{number}"),
                address: Ipv4Addr::new(10, number, 0, last),
                prefix: 24,
            };
            let (cable, other) = (Cable { near: plug("near", 1), far: plug("far", 2) }, other.clone());
            near.run(move || cable.connect(&other).unwrap());
        }
        for router in &routers {
            router.run(|| forward_packets().unwrap());
        }
        let route = |to: Ipv4Addr, prefix, gateway: [u8; 4]| {
            Netlink::open().unwrap().add_route(to, prefix, Some(gateway.into()), None).unwrap();
        };
        route(Ipv4Addr::UNSPECIFIED, 0, ROUTER.octets());
        routers[0].run(move || route(Ipv4Addr::new(10, 57, 0, 0), 24, [10, 56, 0, 2]));
        routers[1].run(move || route(Ipv4Addr::new(10, 55, 1, 0), 24, [10, 56, 0, 1]));
        far.run(move || route(Ipv4Addr::UNSPECIFIED, 0, [10, 57, 0, 1]));
        hosts.at(0).run(move || route(Ipv4Addr::UNSPECIFIED, 0, [10, 55, 0, 1]));
        Lab { hosts, routers, far }
    }

    /// Gives all links but the client's own IPv6, with addresses of the same numbers.
    fn have_ipv6(&self) {
        let address = |number, last| Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, last);
        let set = move |links: &[(&str, u16, u16)], routes: &[(Ipv6Addr, u8, Ipv6Addr)]| {
            let mut netlink = Netlink::open().unwrap();
            for (link, number, last) in links {
                let index = netlink.link_index(link).unwrap();
                netlink.add_address6(index, address(*number, *last), 64).unwrap();
            }
            for (to, prefix, gateway) in routes {
                netlink.add_route6((*to, *prefix), *gateway, 1024).unwrap();
            }
            let _ = fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        };
        let all = Ipv6Addr::UNSPECIFIED;
        set(&[("near1", 55, 1)], &[(all, 0, address(55, 2))]);
        let to_far = (address(57, 0), 64, address(56, 2));
        self.routers[0].run(move || set(&[("far1", 55, 2), ("near56", 56, 1)], &[to_far]));
        self.routers[1].run(move || set(&[("far56", 56, 2), ("near57", 57, 1)], &[(SERVER6, 64, address(56, 1))]));
        self.far.run(move || set(&[("far57", 57, 2)], &[(all, 0, address(57, 1))]));
        // New links take a moment: until a closed port of the server's host answers.
        let connect = || TcpStream::connect_timeout(&(SERVER6, 9).into(), Duration::from_millis(300));
        eventually("IPv6 on all links", || {
            self.far.run(move || connect().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
        });
    }

    /// The routers send no ICMP errors any more.
    fn silence(&self) {
        for router in &self.routers {
            // What a router forwards does not come here.
            let chain =
                BaseChain { name: "silent", kind: "filter", hook: ChainHook::Output, priority: 0, accepts: true };
            router.run(move || {
                let mut batch = Batch::new();
                batch.put_table(Family::Inet, "silent");
                batch.add_chain(Family::Inet, "silent", &chain);
                for (is_ipv6, protocol, kind) in [(false, libc::IPPROTO_ICMP, 3), (true, libc::IPPROTO_ICMPV6, 2)] {
                    let rule = Rule::new("silent").of_family(is_ipv6).of_protocol(protocol).of_icmp_type(kind).drop();
                    batch.add_rule(Family::Inet, "silent", "silent", rule);
                }
                Nft::open().unwrap().perform(batch).unwrap();
            });
        }
    }

    /// Narrows the link between the routers.
    fn narrow(&self, mtu: u32) {
        for (router, link) in self.routers.iter().zip(["near56", "far56"]) {
            router.run(move || set_mtu(link, mtu));
        }
    }

    fn start(&self, server: &str, client: &str, arguments: &[&str]) -> (Running, Client) {
        let config = self.hosts.config(&format!("{NETWORK}{server}\n[vpn_client]\n{client}\n"));
        let (server, _) = self.hosts.server_with("server", &["--config", &config]);
        let arguments = [&["--config", &config], arguments].concat();
        let client = Client::connect(&self.hosts, 0, "client", &arguments);
        assert_eq!(client.mtu, TUNNEL);
        (server, client)
    }

    /// Sends a megabyte each way between the client's host and the far one.
    fn tcp(&self, seed: u64) {
        let listener = self.far.run(|| TcpListener::bind((FAR, 0)).unwrap());
        exchange(&tcp(&listener, connect_from(self.hosts.at(0))), 1_000_000, seed);
    }

    /// Returns a socket on the client's host and one on the far host, each connected with the other.
    fn udp(&self, client: &Client) -> [UdpSocket; 2] {
        let (here, there) = (udp_at(self.hosts.at(0), client.address), self.far.run(|| udp(FAR)));
        here.connect(there.local_addr().unwrap()).unwrap();
        here.send(b"hello").unwrap();
        // The server's host has translated the source.
        let (_, from) = received(&there, "the first datagram");
        there.connect(from).unwrap();
        [here, there]
    }
}

fn set_mtu(link: &str, mtu: u32) {
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link_index(link).unwrap();
    netlink.set_mtu(index, mtu).unwrap();
}

/// Sends datagrams as QUIC does, which must not be fragmented: what fits arrives, and what does not is answered so that
/// the socket learns how much does.
fn probe([from, to]: [&UdpSocket; 2], mtu: usize, what: &str) {
    set_fragments(from, Fragments::Forbidden);
    let fitting = noise(1, mtu - 28);
    from.send(&fitting).unwrap();
    assert!(received(to, what).0 == fitting, "{what}");
    // The kernel refuses what exceeds its own link, or what it knows of the path already.
    let _ = from.send(&noise(2, mtu - 27));
    eventually(format!("{what}: the kernel knows the MTU"), || path_mtu(from) == mtu);
    let error = (0..2).find_map(|_| from.send(&noise(2, mtu - 27)).err()).unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE), "{what}");
    // The error that ICMP has left may come once more.
    from.send(&fitting).or_else(|_| from.send(&fitting)).unwrap();
    assert!(received(to, what).0 == fitting, "{what}");
}

fn tcp_both_ways(test: &str, offload: bool) {
    in_namespace(test, || {
        let lab = Lab::new();
        let offload = format!("offload={offload}");
        let (_server, _client) = lab.start(&format!("{offload}\ndevice_mtu=1500"), &offload, &[]);
        for mtu in MTUS {
            lab.narrow(mtu);
            lab.tcp(mtu.into());
        }
    });
}

#[test]
fn super_packets_of_tcp_go_both_ways() {
    tcp_both_ways("pmtu::super_packets_of_tcp_go_both_ways", true);
}

#[test]
fn packets_of_tcp_go_both_ways() {
    tcp_both_ways("pmtu::packets_of_tcp_go_both_ways", false);
}

#[test]
fn datagrams_that_must_not_be_fragmented_learn_the_path() {
    in_namespace("pmtu::datagrams_that_must_not_be_fragmented_learn_the_path", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("device_mtu=1500", "", &[]);
        let [here, there] = lab.udp(&client);
        for mtu in MTUS {
            lab.narrow(mtu);
            let mtu = TUNNEL.min(mtu as usize);
            probe([&here, &there], mtu, &format!("up, {mtu}"));
            // From a full link of the far host: its own router answers, or the server.
            probe([&there, &here], mtu, &format!("down, {mtu}"));
        }
    });
}

#[test]
fn datagrams_that_may_be_fragmented_arrive() {
    in_namespace("pmtu::datagrams_that_may_be_fragmented_arrive", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("device_mtu=1500", "", &[]);
        let [here, there] = lab.udp(&client);
        for mtu in MTUS {
            lab.narrow(mtu);
            for size in [mtu as usize - 27, 1472, 4000] {
                for (from, to) in [(&here, &there), (&there, &here)] {
                    set_fragments(from, Fragments::Allowed);
                    let sent = noise(3, size);
                    from.send(&sent).unwrap();
                    let got = received(to, &format!("{size} bytes over a link of {mtu}")).0;
                    assert!(got == sent, "{size} bytes over a link of {mtu}");
                }
            }
        }
    });
}

/// The narrow link is the server's own way out, so its kernel sends the ICMP message.
#[test]
fn the_servers_own_link_is_narrow() {
    in_namespace("pmtu::the_servers_own_link_is_narrow", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("", "", &["--route", "10.57.0.0/24"]);
        set_mtu("near1", 1280);
        lab.routers[0].run(|| set_mtu("far1", 1280));
        lab.tcp(1);
        let [here, there] = lab.udp(&client);
        probe([&here, &there], 1280, "up");
    });
}

/// The router is in none of the networks that the client takes packets from.
#[test]
fn a_router_outside_the_clients_networks_is_heard() {
    in_namespace("pmtu::a_router_outside_the_clients_networks_is_heard", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("", "", &["--route", "10.57.0.0/24"]);
        lab.narrow(1280);
        let [here, there] = lab.udp(&client);
        probe([&here, &there], 1280, "up");
        lab.narrow(576);
        lab.tcp(2);
    });
}

/// Such as the address of a container bridge, which many hosts have.
#[test]
fn a_router_with_an_address_of_the_client_is_heard() {
    in_namespace("pmtu::a_router_with_an_address_of_the_client_is_heard", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("", "", &[]);
        lab.hosts.at(0).run(|| add_loopback_address(ROUTER).unwrap());
        lab.narrow(1280);
        let [here, there] = lab.udp(&client);
        probe([&here, &there], 1280, "up");
    });
}

/// The client's host filters sources by its way to them (rp_filter of the kernel's ip-sysctl.rst).
#[test]
fn a_router_whose_address_leads_elsewhere_is_heard() {
    in_namespace("pmtu::a_router_whose_address_leads_elsewhere_is_heard", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("", "", &["--exclude-route", "10.55.1.0/24"]);
        lab.hosts.at(0).run(|| fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap());
        lab.narrow(1280);
        let [here, there] = lab.udp(&client);
        probe([&here, &there], 1280, "up");
    });
}

/// What clients must not reach may still report errors to them.
#[test]
fn a_router_that_the_server_denies_is_heard() {
    in_namespace("pmtu::a_router_that_the_server_denies_is_heard", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("client_isolation=true\ndeny=[10.55.0.0/16,10.56.0.0/16]", "", &[]);
        lab.narrow(1280);
        let [here, there] = lab.udp(&client);
        probe([&here, &there], 1280, "up");
        probe([&there, &here], 1280, "down");
        lab.narrow(576);
        lab.tcp(3);
    });
}

/// Routers of a private link, such as that of a cloud's gateway, may have addresses of RFC 3927 alone.
#[test]
fn a_router_with_a_link_local_address_is_heard() {
    in_namespace("pmtu::a_router_with_a_link_local_address_is_heard", || {
        let lab = Lab::new();
        let (_server, client) = lab.start("", "", &[]);
        lab.routers[0].run(|| {
            // Then an error's source is the link's first address, unless another one is in the network of its receiver.
            fs::write("/proc/sys/net/ipv4/icmp_errors_use_inbound_ifaddr", "1").unwrap();
            let mut netlink = Netlink::open().unwrap();
            let link = netlink.link_index("far1").unwrap();
            netlink.del_address(link, ROUTER, 24).unwrap();
            netlink.add_address(link, Ipv4Addr::new(169, 254, 9, 2), 24).unwrap();
            netlink.add_address(link, ROUTER, 32).unwrap();
            netlink.add_route(Ipv4Addr::new(10, 55, 1, 0), 24, None, Some(link)).unwrap();
        });
        lab.narrow(1280);
        let [here, there] = lab.udp(&client);
        probe([&here, &there], 1280, "up");
    });
}

/// A client on the far host, so that the narrow link is between it and the server.
struct Outside {
    _server: Running,
    client: Client,
    /// Behind the programs, which end before its hosts look at what they have left.
    lab: Lab,
}

/// The server's address by IPv6.
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 55, 0, 0, 0, 0, 1);

impl Outside {
    fn new(over: Over, mtu: u32, is_black_hole: bool) -> Outside {
        let lab = Lab::new();
        lab.have_ipv6();
        lab.narrow(mtu);
        if is_black_hole {
            lab.silence();
        }
        let config = lab.hosts.config(&format!("[server]\nlisten_address=[[::]:8079]\n{NETWORK}"));
        let (server, _) = lab.hosts.server_with("server", &["--config", &config]);
        let mut command = PROGRAM.command(lab.hosts.path());
        let target = match over {
            Over::V4 => "10.55.1.1".into(),
            Over::V6 => format!("[{SERVER6}]"),
        };
        let config = ["--config", &config];
        command.args(["client", "--connect", &target, "--state-dir", &lab.hosts.state("client")]).args(config);
        let far = lab.far.clone();
        let running = Running::start(lab.hosts.path(), "client", command, |mut command| {
            far.run(move || command.spawn().unwrap())
        });
        Outside { lab, _server: server, client: Client::connected(running, 1) }
    }

    /// Sends a megabyte each way through the tunnel.
    fn exchange(&self, seed: u64) {
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let target = listener.local_addr().unwrap();
        let connecting = self.lab.far.run(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap());
        exchange(&(connecting, listener.accept().unwrap().0), 1_000_000, seed);
    }
}

/// What carries the stream.
#[derive(Clone, Copy)]
enum Over {
    V4,
    V6,
}

fn narrow_from_the_start(test: &str, over: Over, mtu: u32, is_black_hole: bool) {
    in_namespace(test, || Outside::new(over, mtu, is_black_hole).exchange(mtu.into()));
}

#[test]
fn the_stream_learns_a_narrow_path() {
    narrow_from_the_start("pmtu::the_stream_learns_a_narrow_path", Over::V4, 576, false);
}

/// Without the routers' ICMP, and with a kernel that does not probe (net.ipv4.tcp_mtu_probing), as it is by default.
#[test]
fn the_stream_gets_through_a_black_hole() {
    narrow_from_the_start("pmtu::the_stream_gets_through_a_black_hole", Over::V4, 576, true);
}

#[test]
fn the_stream_gets_through_a_black_hole_of_ipv6() {
    narrow_from_the_start("pmtu::the_stream_gets_through_a_black_hole_of_ipv6", Over::V6, 1280, true);
}

/// The path of a stream that is up becomes a narrow one, such as after a change of routes.
fn narrow_later(test: &str, over: Over, mtu: u32) {
    in_namespace(test, || {
        let outside = Outside::new(over, 1500, true);
        outside.exchange(1);
        outside.lab.narrow(mtu);
        outside.exchange(2);
        let running = &outside.client.running;
        assert_eq!(running.stdout().matches("connected to ").count(), 1, "the stream has survived: {}", running.log());
    });
}

#[test]
fn a_stream_survives_a_path_that_becomes_a_black_hole() {
    narrow_later("pmtu::a_stream_survives_a_path_that_becomes_a_black_hole", Over::V4, 576);
}

#[test]
fn a_stream_survives_a_path_of_ipv6_that_becomes_a_black_hole() {
    narrow_later("pmtu::a_stream_survives_a_path_of_ipv6_that_becomes_a_black_hole", Over::V6, 1280);
}
