//! The host takes the tunnel's device away, at either end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use host::netlink::Netlink;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::noise;
use testkit::program::{Running, code, stderr};
use testkit::sockets::{connect_from, tcp};
use testkit::tun_devices;
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// The server's device, by its name and what the host knows of it: addresses and MTU.
fn server_device(name: &str) -> Option<(Vec<(Ipv4Addr, u8)>, u32)> {
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link_index(name).ok()?;
    let addresses = netlink.addresses_of(index).unwrap();
    let (mtu, is_up) = netlink.link(index).map(|link| (link.mtu, link.up)).unwrap();
    is_up.then(|| (addresses.iter().map(|address| (address.addr, address.prefix)).collect(), mtu))
}

/// A server with two workers, whose device is `vpn0`.
fn server(hosts: &Hosts) -> Running {
    let keys = format!("[resources]\nthreads_cnt=2\n{NETWORK}device=vpn0\n");
    hosts.server_with("server", &["--config", &hosts.config(&keys)]).0
}

/// A TCP connection through the tunnel.
fn through(hosts: &Hosts) -> (TcpStream, TcpStream) {
    tcp(&TcpListener::bind((GATEWAY, 0)).unwrap(), connect_from(hosts.at(0)))
}

/// Sends as many bytes both ways of a connection, which stays open.
fn talk((one, other): &(TcpStream, TcpStream), size: usize, seed: u64) {
    std::thread::scope(|scope| {
        for (from, to, seed) in [(one, other, seed), (other, one, seed + 1000)] {
            let sent = noise(seed, size);
            let expected = sent.clone();
            scope.spawn(move || (&mut &*from).write_all(&sent).unwrap());
            scope.spawn(move || {
                let mut got = vec![0; expected.len()];
                (&mut &*to).read_exact(&mut got).unwrap();
                assert!(got == expected, "other bytes");
            });
        }
    });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs ip(8) on the client's host.
pub(crate) fn ip_at_client(hosts: &Hosts, arguments: &str) {
    let arguments = arguments.to_owned();
    hosts.at(0).run(move || ip(&arguments));
}

/// What the server's host can take away, and the line that the log then has.
fn ways(client: &Client) -> [(String, &'static str); 5] {
    let there = client.running.child.id();
    [
        ("link del vpn0".into(), "made after"),
        (format!("link set vpn0 netns {there}"), "made after"),
        ("address flush dev vpn0".into(), "had lost its address or its route"),
        ("route flush dev vpn0".into(), "had lost its address or its route"),
        ("link del vpn0".into(), "made after"),
    ]
}

#[test]
fn the_server_makes_its_device_again_and_sessions_go_on() {
    in_namespace("device::the_server_makes_its_device_again_and_sessions_go_on", || {
        let hosts = Hosts::new(PROGRAM);
        let mut server = server(&hosts);
        let client = Client::connect(&hosts, 0, "client", &[]);
        let before = server_device("vpn0");
        assert_eq!(before, Some((vec![(GATEWAY, 24)], 1390)));
        let inside = through(&hosts);
        talk(&inside, 100_000, 1);
        for (number, (way, says)) in ways(&client).into_iter().enumerate() {
            let lines = |server: &Running| server.log().matches(says).count();
            let known = lines(&server);
            ip(&way);
            server.wait_until(&way, |server| lines(server) > known);
            assert_eq!(server_device("vpn0"), before, "{way}");
            talk(&inside, 300_000, number as u64);
            talk(&through(&hosts), 300_000, number as u64);
            assert_eq!(client.running.stdout().matches("connected to ").count(), 1, "{way}: {}", client.running.log());
            assert!(!client.running.log().contains("lost"), "{way}: {}", client.running.log());
            assert!(!hosts.stat("server").contains("tunnel is down"), "{way}");
        }
        assert_eq!(code(&hosts.far(&["check", "10.55.0.1"])), 0);
    });
}

#[test]
fn a_device_with_a_taken_name_gets_another() {
    in_namespace("device::a_device_with_a_taken_name_gets_another", || {
        let hosts = Hosts::new(PROGRAM);
        let mut server = server(&hosts);
        let _client = Client::connect(&hosts, 0, "client", &[]);
        let inside = through(&hosts);
        talk(&inside, 100_000, 1);
        // In one go, before the service can make it again.
        let script = "ip link set vpn0 down && ip link set vpn0 name gone && \
                      ip link add vpn0 type veth peer name other && ip link del gone";
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
        server.wait_for_log("made after");
        talk(&inside, 300_000, 2);
    });
}

/// A new name is no loss.
#[test]
fn a_renamed_device_serves_on() {
    in_namespace("device::a_renamed_device_serves_on", || {
        let hosts = Hosts::new(PROGRAM);
        let mut server = server(&hosts);
        let client = Client::connect(&hosts, 0, "client", &[]);
        let inside = through(&hosts);
        let rename = |from: &str, to: &str| {
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.link_index(from).unwrap();
            // Linux before 6.2 renames a link only while it is down.
            if netlink.rename(index, to).is_err() {
                ip(&format!("link set {from} down"));
                netlink.rename(index, to).unwrap();
                ip(&format!("link set {to} up"));
            }
        };
        rename("vpn0", "inner0");
        hosts.at(0).run(move || rename("tun0", "far-tun"));
        server.wait_for_log("TUN device vpn0 was renamed to inner0");
        talk(&inside, 300_000, 1);
        eventually("status has the new name", || {
            let arguments = ["status", "--state-dir", &hosts.state("client")];
            String::from_utf8(hosts.near(&arguments).stdout).unwrap().contains("far-tun")
        });
        // Also the device that takes its place has that name.
        ip("link del inner0");
        server.wait_for_log("device up again: inner0");
        talk(&inside, 300_000, 2);
        assert_eq!(client.running.stdout().matches("connected to ").count(), 1);
        testkit::program::send(&server.child, rustix::process::Signal::TERM);
        assert_eq!(server.exit_code(), Some(0), "{}", server.log());
        assert_eq!(server_device("inner0"), None);
    });
}

#[test]
fn a_server_whose_device_is_down_says_so_until_it_is_up() {
    in_namespace("device::a_server_whose_device_is_down_says_so_until_it_is_up", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let mut server = server(&hosts);
        let client = Client::connect(&hosts, 0, "client", &[]);
        let inside = through(&hosts);
        talk(&inside, 100_000, 1);
        ip("link set vpn0 down");
        server.wait_for_log("vpn0 was set down: it carries nothing");
        let check = hosts.far(&["check", "10.55.0.1"]);
        assert_eq!(code(&check), 8, "{}", stderr(&check));
        assert!(stderr(&check).contains("its service carries nothing now, its tunnel is down"), "{}", stderr(&check));
        assert!(
            hosts.stat("server").starts_with("VPN tunnel is down: device vpn0 is down\n"),
            "{}",
            hosts.stat("server")
        );
        let mut other = hosts.client_at(1, "other", &[]);
        assert!(other.exit_code().is_some_and(|code| code != 0), "{}", other.log());
        assert!(other.log().contains("its tunnel is down"), "{}", other.log());

        ip("link set vpn0 up");
        server.wait_for_log("vpn0 is up again");
        talk(&inside, 300_000, 2);
        assert!(!client.running.log().contains("lost"), "{}", client.running.log());
        assert!(!hosts.stat("server").contains("tunnel is down"));
        assert_eq!(code(&hosts.far(&["check", "10.55.0.1"])), 0);
        let _other = Client::connect(&hosts, 1, "other", &[]);
    });
}

#[test]
fn a_server_that_cannot_make_its_device_again_ends_with_a_code() {
    in_namespace("device::a_server_that_cannot_make_its_device_again_ends_with_a_code", || {
        let hosts = Hosts::new(PROGRAM);
        let mut server = server(&hosts);
        let mut client = Client::connect(&hosts, 0, "client", &["--no-reconnect"]);
        // No driver any more, as when the module is gone.
        let status = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/dev/net"]).status().unwrap();
        assert!(status.success());
        ip("link del vpn0");
        server.wait_for_log("vpn0 is gone, the service makes it again");
        let stat = hosts.stat("server");
        assert!(stat.starts_with("VPN tunnel is down: device vpn0 is gone, it is being made again\n"), "{stat}");
        assert_ne!(code(&hosts.far(&["check", "10.55.0.1"])), 0);
        assert_eq!(server.exit_code(), Some(1), "{}", server.log());
        let log = server.log();
        assert!(log.contains("vpn0 cannot be made again within 5 s: open /dev/net/tun"), "{log}");
        assert!(log.lines().last().unwrap().contains("the tunnel's device is gone and cannot be made again"), "{log}");
        assert_eq!(client.running.exit_code(), Some(1), "{}", client.running.log());
    });
}

/// What the client's host can do, and the loss that follows.
const AT_CLIENT: [(&str, &str); 5] = [
    ("link del DEVICE", "the tunnel's device was deleted"),
    ("link set DEVICE netns PID", "moved to another network namespace"),
    ("link set DEVICE down", "the tunnel's device was set down"),
    ("address flush dev DEVICE", "the tunnel's device has lost its address"),
    ("route flush dev DEVICE", "the tunnel's device has lost its route"),
];

fn done_at_client(hosts: &Hosts, way: &str, device: &str, elsewhere: u32) {
    ip_at_client(hosts, &way.replace("DEVICE", device).replace("PID", &elsewhere.to_string()));
}

#[test]
fn a_client_without_its_device_ends_with_a_code() {
    in_namespace("device::a_client_without_its_device_ends_with_a_code", || {
        let hosts = Hosts::new(PROGRAM);
        let server = server(&hosts);
        for (way, says) in AT_CLIENT {
            let mut client = Client::connect(&hosts, 0, "client", &["--no-reconnect"]);
            done_at_client(&hosts, way, &client.device, server.child.id());
            if way.starts_with("link del") {
                let status = hosts.near(&["status", "--state-dir", &hosts.state("client")]);
                assert!(!String::from_utf8_lossy(&status.stdout).contains("tarted"), "{status:?}");
            }
            assert_eq!(client.running.exit_code(), Some(1), "{way}: {}", client.running.log());
            assert!(client.running.log().contains(says), "{way}: {}", client.running.log());
            let left = hosts.at(0).run(tun_devices);
            assert!(left.is_empty(), "{way}: {left:?}");
        }
    });
}

#[test]
fn a_client_that_retries_makes_its_device_again() {
    in_namespace("device::a_client_that_retries_makes_its_device_again", || {
        let hosts = Hosts::new(PROGRAM);
        let server = server(&hosts);
        // Takes the first name, so that the client's device has another, and frees it.
        ip_at_client(&hosts, "link add tun0 type veth peer name tun0-far");
        let mut client = Client::connect(&hosts, 0, "client", &["--retry"]);
        ip_at_client(&hosts, "link del tun0");
        assert_eq!(client.device, "tun1");
        let inside = through(&hosts);
        talk(&inside, 100_000, 1);
        let address = client.address;
        for (number, (way, says)) in AT_CLIENT.into_iter().enumerate() {
            done_at_client(&hosts, way, "tun1", server.child.id());
            client = Client::connected(client.running, number + 2);
            assert_eq!((client.address, client.device.as_str()), (address, "tun1"), "{way}");
            assert!(client.running.log().contains(says), "{way}: {}", client.running.log());
            talk(&inside, 300_000, number as u64);
        }
    });
}
