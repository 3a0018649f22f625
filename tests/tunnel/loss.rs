//! One side disappears without notice.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use host::netlink::Netlink;
use rustix::process::Signal;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::send;
use testkit::sockets::{connect_from, echo, exchange, tcp, udp, udp_at};
use testkit::tun_devices;
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;
use crate::leases::NETWORK_FOR_ONE;

#[test]
fn a_killed_client_leaves_nothing() {
    in_namespace("loss::a_killed_client_leaves_nothing", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(NETWORK_FOR_ONE);
        let _server = hosts.server_with("server", &["--config", &config]);
        let mut client = Client::connect(&hosts, 0, "client", &[]);
        assert!(hosts.stat("server").contains("client addr........10.98.0.2\n"), "{}", hosts.stat("server"));
        assert_eq!(hosts.at(0).run(tun_devices).len(), 1);
        // In the middle of a transfer, so that packets are on their way in both directions.
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let transfer = tcp(&listener, connect_from(hosts.at(0)));
        for end in [&transfer.0, &transfer.1] {
            end.set_nonblocking(true).unwrap();
            while (&mut &*end).write(&[0; 65_536]).is_ok() {}
        }

        send(&client.running.child, Signal::KILL);
        assert_eq!(client.running.exit_code(), None);
        eventually("no session is left", || hosts.stat("server").starts_with("No VPN connections"));
        let left = hosts.at(0).run(tun_devices);
        assert!(left.is_empty(), "{left:?}");

        let other = Client::connect(&hosts, 1, "other", &[]);
        assert_eq!(other.address, client.address, "the only address");
        echo(&udp_at(hosts.at(1), other.address), &udp(GATEWAY), b"another one");
    });
}

#[test]
fn a_client_comes_back_to_a_server_that_was_killed() {
    in_namespace("loss::a_client_comes_back_to_a_server_that_was_killed", || {
        let hosts = Hosts::new(PROGRAM);
        let (mut server, pin) = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &["--retry", "--pin", &pin]);
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        exchange(&tcp(&listener, connect_from(hosts.at(0))), 100_000, 1);

        send(&server.child, Signal::KILL);
        assert_eq!(server.exit_code(), None);
        assert!(tun_devices().is_empty(), "the server's device went with it");
        let (_server, again) = hosts.server("server");
        assert_eq!(again, pin, "the same server");
        let client = Client::connected(client.running, 2);
        let far = hosts.at(0).run(tun_devices);
        assert_eq!(far.len(), 1, "{far:?}");
        assert_eq!(far[0].1, [(client.address, 24)]);
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        exchange(&tcp(&listener, connect_from(hosts.at(0))), 1_000_000, 2);
        echo(&udp(GATEWAY), &udp_at(hosts.at(0), client.address), b"down");
    });
}

/// A cut cable closes no connection: each side must notice the silence.
#[test]
fn a_cut_cable_is_noticed_by_both() {
    in_namespace("loss::a_cut_cable_is_noticed_by_both", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}keep_alive=1\n[vpn_client]\nkeep_alive=1\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let mut client = Client::connect(&hosts, 0, "client", &["--config", &config, "--no-reconnect"]);
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"before");

        let mut netlink = Netlink::open().unwrap();
        let cable = netlink.link_index("near0").unwrap();
        netlink.set_down(cable).unwrap();
        assert_eq!(client.running.exit_code(), Some(1), "{}", client.running.log());
        assert!(client.running.log().contains("the server is silent"), "{}", client.running.log());
        assert!(hosts.at(0).run(tun_devices).is_empty());
        eventually("no session is left", || hosts.stat("server").starts_with("No VPN connections"));
        // The questions are asked at looks of a second.
        let log = server.log();
        assert!([3, 4].iter().any(|seconds| log.contains(&format!(", silent for {seconds} s, "))), "{log}");

        netlink.set_up(cable).unwrap();
        let client = Client::connect(&hosts, 0, "client", &["--config", &config]);
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"after");
    });
}

/// A telephone leaves the Wi-Fi: its connection is dead, but the server will not notice that for a minute. The token
/// identifies the client, so it keeps the address, even the only one (take-over).
#[test]
fn a_client_that_changes_networks_keeps_its_address() {
    in_namespace("loss::a_client_that_changes_networks_keeps_its_address", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK_FOR_ONE}[vpn_client]\nkeep_alive=1\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &["--retry", "--config", &config]);
        hosts.at(0).run(|| {
            let mut netlink = Netlink::open().unwrap();
            let link = netlink.link_index("far0").unwrap();
            netlink.del_address(link, Ipv4Addr::new(10, 55, 0, 2), 24).unwrap();
            netlink.add_address(link, Ipv4Addr::new(10, 55, 0, 3), 24).unwrap();
        });
        let address = client.address;
        let client = Client::connected(client.running, 2);
        assert_eq!(client.address, address);
        assert!(!server.log().contains(", silent for "), "{}", server.log());
        echo(&udp_at(hosts.at(0), address), &udp(GATEWAY), b"on the road");
    });
}
