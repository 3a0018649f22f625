//! What leaves the client's host around the tunnel with a kill switch: nothing, from the first packet in the tunnel to the
//! stop, whatever becomes of server and client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use host::lab::set_loopback_up;
use host::netlink::Netlink;
use host::nft::{Nft, kill_switch, repair};
use rustix::process::Signal;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{code, send, stderr, stdout};
use testkit::sockets::{echo, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY};

use crate::judged::put;
use crate::routes::{INTERNET, OUTER, relay};

/// The server's outer address.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 1);

/// Creates the hosts: the client's has a default route by the server's.
fn hosts() -> Hosts {
    let hosts = crate::routes::hosts();
    hosts.at(0).run(|| set_loopback_up().unwrap());
    hosts
}

fn rules(hosts: &Hosts) -> Vec<Vec<u8>> {
    hosts.at(0).run(|| Nft::open().unwrap().ruleset().unwrap())
}

fn is_up(hosts: &Hosts) -> bool {
    hosts.at(0).run(|| kill_switch::standing().unwrap().is_some())
}

/// The end of a wire on the server's host, where a test sees what comes from the client's host around the tunnel.
struct Wire {
    sockets: Vec<UdpSocket>,
    listener: TcpListener,
}

impl Wire {
    fn watch() -> Wire {
        let sockets: Vec<UdpSocket> = [(INTERNET, 9), (INTERNET, 53), (SERVER, 53), (SERVER, 8079)]
            .map(|place| UdpSocket::bind(place).unwrap())
            .into();
        sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        let listener = TcpListener::bind((INTERNET, 80)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Wire { sockets, listener }
    }

    /// Tries everything from the client's host; returns what has come from its outer address.
    fn leaks(&self, hosts: &Hosts) -> Vec<String> {
        let targets: Vec<SocketAddr> = self.sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        hosts.at(0).run(move || {
            for target in targets {
                // By the usual way, and from the outer address.
                for from in [Ipv4Addr::UNSPECIFIED, OUTER] {
                    let _ = UdpSocket::bind((from, 0)).unwrap().send_to(b"leak", target);
                }
            }
            let _ = TcpStream::connect_timeout(&SocketAddr::from((INTERNET, 80)), Duration::from_millis(300));
        });
        std::thread::sleep(Duration::from_millis(50));
        let mut seen = Vec::new();
        for socket in &self.sockets {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                seen.push((from, socket.local_addr().unwrap()));
            }
        }
        while let Ok((_, from)) = self.listener.accept() {
            seen.push((from, self.listener.local_addr().unwrap()));
        }
        let is_outer = |(from, _): &(SocketAddr, SocketAddr)| from.ip() == IpAddr::V4(OUTER);
        seen.into_iter().filter(is_outer).map(|(from, to)| format!("{from} -> {to}")).collect()
    }
}

#[test]
fn nothing_leaves_around_the_tunnel_until_the_stop() {
    in_namespace("kill_switch::nothing_leaves_around_the_tunnel_until_the_stop", || {
        let hosts = hosts();
        let before = rules(&hosts);
        let (server, _) = hosts.server("server");
        let wire = Wire::watch();
        assert!(wire.leaks(&hosts).len() >= 8, "the test sees what leaves");

        // A split tunnel: what is not routed into it has no way at all.
        let mut client = Client::connect(&hosts, 0, "client", &["--kill-switch", "--no-routes"]);
        assert_eq!(wire.leaks(&hosts), [""; 0]);
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"through the tunnel");

        drop(server);
        client.running.wait_for_log("next attempt");
        assert_eq!(wire.leaks(&hosts), [""; 0]);
        let _server = hosts.server("server");
        let client = Client::connected(client.running, 2);
        assert_eq!(wire.leaks(&hosts), [""; 0]);
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"again");

        let stop = hosts.near(&["stop", "--state-dir", &hosts.state("client")]);
        assert_eq!(code(&stop), 0, "{}", stderr(&stop));
        let mut running = client.running;
        assert_eq!(running.exit_code(), Some(0), "{}", running.log());
        assert_eq!(rules(&hosts), before);
        assert!(!wire.leaks(&hosts).is_empty());
    });
}

#[test]
fn a_full_tunnel_with_a_kill_switch_carries_everything() {
    in_namespace("kill_switch::a_full_tunnel_with_a_kill_switch_carries_everything", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        let mut client = Client::connect(&hosts, 0, "client", &["--kill-switch", "--route", "0.0.0.0/0"]);
        assert_eq!(Wire::watch().leaks(&hosts), [""; 0]);
        let there = udp(INTERNET);
        let here = hosts.at(0).run(|| udp(Ipv4Addr::UNSPECIFIED));
        here.send_to(b"question", there.local_addr().unwrap()).unwrap();
        let (_, from) = there.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from.ip(), client.address);
        // IPv6 has no way out.
        let left = hosts.at(0).run(|| {
            let index = Netlink::open().unwrap().link_index("far0").unwrap();
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.send_to(b"x", std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 9, 0, index))
        });
        assert!(left.is_err(), "{left:?}");
        send(&client.running.child, Signal::INT);
        assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
        assert!(!is_up(&hosts));
    });
}

#[test]
fn a_killed_clients_kill_switch_holds_until_the_next_stop_or_repair() {
    in_namespace("kill_switch::a_killed_clients_kill_switch_holds_until_the_next_stop_or_repair", || {
        let hosts = hosts();
        let before = rules(&hosts);
        let _server = hosts.server("server");
        let wire = Wire::watch();
        let kill = |mut client: Client| {
            send(&client.running.child, Signal::KILL);
            client.running.child.wait().unwrap();
            assert_eq!(wire.leaks(&hosts), [""; 0], "after SIGKILL");
        };
        kill(Client::connect(&hosts, 0, "client", &["--kill-switch"]));
        let output = hosts.repair_at(0);
        let said = stdout(&output);
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("removed the kill switch") && last.contains("10.55.0.1:8079"), "{said}");
        assert_eq!(code(&output), 0, "{said}");
        assert_eq!(stdout(&hosts.repair_at(0)), "nothing to repair\n");
        assert_eq!(rules(&hosts), before);
        assert!(!wire.leaks(&hosts).is_empty());

        // The next start takes it over, with the option and without.
        for option in [&["--kill-switch"][..], &[]] {
            kill(Client::connect(&hosts, 0, "client", &["--kill-switch"]));
            let mut client = Client::connect(&hosts, 0, "client", option);
            assert_eq!(wire.leaks(&hosts), [""; 0]);
            assert!(client.running.log().contains("this one takes it over"), "{}", client.running.log());
            let held = hosts.at(0).run(|| repair().unwrap());
            assert!(held[0].contains("stays") && is_up(&hosts), "{held:?}");
            send(&client.running.child, Signal::TERM);
            assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
            assert_eq!(rules(&hosts), before);
        }
    });
}

/// The name server is out of reach after a crash, and the next start finds the address in the kernel's table.
#[test]
fn a_server_given_by_name_is_found_after_a_crash() {
    in_namespace("kill_switch::a_server_given_by_name_is_found_after_a_crash", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        put(&hosts, "/etc/hosts", "10.55.0.1 vpn.test\n");
        put(&hosts, "/etc/resolv.conf", "nameserver 198.18.7.7\n");
        let start = |host: &str| hosts.start_at(0, "client", &["client", "--connect", host, "--kill-switch"]);
        let mut client = Client::connected(start("VPN.test"), 1);
        send(&client.running.child, Signal::KILL);
        client.running.child.wait().unwrap();
        put(&hosts, "/etc/hosts", "127.0.0.1 localhost\n");
        let mut other = start("other.test");
        assert_eq!(other.exit_code(), Some(1), "{}", other.log());
        let said = "no name server can be asked for other.test:8079";
        assert!(other.log().contains(said) && is_up(&hosts), "{}", other.log());
        let client = Client::connected(start("vpn.test"), 1);
        assert!(client.running.log().contains("which the kill switch lets through"), "{}", client.running.log());
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"found");
    });
}

/// With `--no-reconnect` the program ends with the loss, and nobody has asked for an open host.
#[test]
fn a_loss_leaves_it_up_and_a_failed_first_start_does_not() {
    in_namespace("kill_switch::a_loss_leaves_it_up_and_a_failed_first_start_does_not", || {
        let hosts = hosts();
        let before = rules(&hosts);
        let failed = hosts.far(&["client", "--connect", "10.55.0.1", "--kill-switch"]);
        assert_ne!(code(&failed), 0);
        assert_eq!(rules(&hosts), before);
        let (server, _) = hosts.server("server");
        let mut client = Client::connect(&hosts, 0, "client", &["--kill-switch", "--no-reconnect"]);
        drop(server);
        assert_eq!(client.running.exit_code(), Some(1), "{}", client.running.log());
        assert!(client.running.log().contains("the kill switch stays up"), "{}", client.running.log());
        assert_eq!(Wire::watch().leaks(&hosts), [""; 0]);
        // A failed start leaves it as it is.
        let failed = hosts.far(&["client", "--connect", "10.55.0.1"]);
        assert_ne!(code(&failed), 0);
        assert!(is_up(&hosts));
    });
}

#[test]
fn one_client_holds_it_and_a_relay_on_this_host_is_refused() {
    in_namespace("kill_switch::one_client_holds_it_and_a_relay_on_this_host_is_refused", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        relay(&hosts);
        let own = hosts.far(&["client", "--connect", "127.0.0.1", "--kill-switch"]);
        assert_eq!(code(&own), 1);
        assert!(stderr(&own).contains("127.0.0.1 is this host, as of a relay"), "{}", stderr(&own));
        assert!(!is_up(&hosts));
        let first = Client::connect(&hosts, 0, "first", &["--kill-switch"]);
        let second = hosts.far(&["client", "--connect", "10.55.0.1", "--kill-switch"]);
        let said = format!("the client of process {} holds it", first.running.child.id());
        assert!(stderr(&second).contains(&said), "{}", stderr(&second));
        echo(&udp_at(hosts.at(0), first.address), &udp(GATEWAY), b"undisturbed");
    });
}

#[test]
fn local_networks_pass_with_the_option_but_their_name_servers() {
    in_namespace("kill_switch::local_networks_pass_with_the_option_but_their_name_servers", || {
        let hosts = hosts();
        let _server = hosts.server("server");
        let _client = Client::connect(&hosts, 0, "client", &["--kill-switch", "--kill-switch-local"]);
        let leaks = Wire::watch().leaks(&hosts);
        assert_eq!(leaks.len(), 2, "{leaks:?}");
        assert!(leaks.iter().all(|leak| leak.ends_with("-> 10.55.0.1:8079")), "{leaks:?}");
        eventually("it is up", || is_up(&hosts));
    });
}
