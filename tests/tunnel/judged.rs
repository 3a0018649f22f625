//! What a server gives, judged by its client before anything on the client's host changes.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use host::netlink::Netlink;
use testkit::hosts::Hosts;
use testkit::netns::{in_namespace, mount};
use testkit::program::{Running, code, stderr};
use testkit::sockets::{echo, udp_at};
use testkit::tun_devices;
use testkit::tunnel::{Client, GATEWAY};

use crate::PROGRAM;

/// Starts a server with this network.
fn server(hosts: &Hosts, state: &str, network: &str, mask: &str) -> Running {
    let keys = format!("[srv_vpn]\nnetwork_address={network}\nnetwork_mask={mask}\n");
    hosts.server_with(state, &["--config", &hosts.config(&keys)]).0
}

/// Fails to connect: exit code 5, with this reason, and no device is left.
fn refused(hosts: &Hosts, says: &str) {
    let mut client = hosts.client(&[]);
    assert_eq!(client.exit_code(), Some(5), "{says}: {}", client.log());
    let log = client.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains("refused: its address cannot be used: it gives the subnet"), "{log}");
    assert!(last.contains(says) && last.ends_with("expected"), "{says}: {log}");
    let left = hosts.at(0).run(tun_devices);
    assert!(left.is_empty(), "{left:?}");
}

fn accepted(hosts: &Hosts, arguments: &[&str]) {
    let client = Client::connect(hosts, 0, "client", arguments);
    assert_eq!(hosts.at(0).run(tun_devices).len(), 1);
    drop(client);
}

/// Shows this text in the place of a file, in the mount namespace of the test.
pub(crate) fn put(hosts: &Hosts, file: &str, text: &str) {
    let ours = hosts.path().join(format!("shown-{}", fs::read_dir(hosts.path()).unwrap().count()));
    fs::write(&ours, text).unwrap();
    fs::create_dir_all(Path::new(file).parent().unwrap()).unwrap();
    if !Path::new(file).exists() {
        fs::write(file, "").unwrap();
    }
    mount(&["--bind", ours.to_str().unwrap(), file]);
}

/// Changes the routes of the client's host, whose cable leads to 10.55.0.1.
fn on_client(hosts: &Hosts, change: impl FnOnce(&mut Netlink, u32) + Send + 'static) {
    hosts.at(0).run(move || {
        let mut netlink = Netlink::open().unwrap();
        let link = netlink.link_index("far0").unwrap();
        change(&mut netlink, link);
    });
}

#[test]
fn a_public_subnet_needs_the_users_word() {
    in_namespace("judged::a_public_subnet_needs_the_users_word", || {
        let hosts = Hosts::new(PROGRAM);
        let running = server(&hosts, "server", "8.0.0.0", "255.0.0.0");
        refused(&hosts, "8.0.0.0/8, which is in no private network; one in 10.0.0.0/8");
        accepted(&hosts, &["--allow-subnet", "1.0.0.0/8", "--allow-subnet", "8.0.0.0/7"]);
        let key = |value: &str| hosts.config(&format!("[vpn_client]\nallow_subnet={value}\n"));
        accepted(&hosts, &["--config", &key("[1.0.0.0/8, 8.0.0.0/8]")]);
        for value in ["[8.0.0.0/8, 10.0.0.1/8]", "everything", "8.0.0.0", "[8.0.0.0/33]"] {
            let mut client = hosts.client(&["--config", &key(value)]);
            assert_eq!(client.exit_code(), Some(2), "{}", client.log());
            let log = client.log();
            assert!(log.contains("[vpn_client] allow_subnet = "), "{log}");
            assert!(log.contains("expected a list of networks such as 203.0.113.0/24"), "{log}");
        }
        let output = hosts.far(&["client", "--connect", "10.55.0.1", "--allow-subnet", "8.0.0.1/8"]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains("expected a network such as 203.0.113.0/24"), "{}", stderr(&output));
        drop(running);
    });
}

#[test]
fn a_server_refuses_link_local_and_future_networks() {
    in_namespace("judged::a_server_refuses_link_local_and_future_networks", || {
        let hosts = Hosts::new(PROGRAM);
        for (network, mask, says) in [
            ("169.254.169.0", "255.255.255.0", "169.254.169.0/24 overlaps 169.254.0.0/16, which is link-local"),
            ("169.0.0.0", "255.0.0.0", "169.0.0.0/8 overlaps 169.254.0.0/16"),
            ("240.0.0.0", "255.0.0.0", "240.0.0.0/8 overlaps 240.0.0.0/4, which is reserved for future use"),
            ("250.1.0.0", "255.255.0.0", "250.1.0.0/16 overlaps 240.0.0.0/4"),
        ] {
            let keys = format!("[srv_vpn]\nnetwork_address={network}\nnetwork_mask={mask}\n");
            let output =
                hosts.near(&["server", "--config", &hosts.config(&keys), "--state-dir", &hosts.state("server")]);
            assert_eq!(code(&output), 2, "{}", stderr(&output));
            assert!(
                stderr(&output).contains(&format!("[srv_vpn] network_address = {network}, ")),
                "{}",
                stderr(&output)
            );
            assert!(stderr(&output).contains(says), "{}", stderr(&output));
        }
    });
}

#[test]
fn a_subnet_that_collides_with_a_route_is_refused() {
    in_namespace("judged::a_subnet_that_collides_with_a_route_is_refused", || {
        let hosts = Hosts::with_clients(PROGRAM, 1);
        let running = server(&hosts, "server", "10.98.0.0", "255.255.255.0");
        let gateway = Some(Ipv4Addr::new(10, 55, 0, 1));
        // Destination, its prefix, and what the refusal says; None where the subnet is accepted.
        let cases: [([u8; 4], u8, Option<&str>); 6] = [
            (
                [10, 98, 0, 0],
                24,
                Some("which is 10.98.0.0/24, the destination of this host's route by 10.55.0.1 on far0"),
            ),
            ([10, 98, 0, 64], 26, Some("which holds 10.98.0.64/26, the destination")),
            ([10, 98, 0, 53], 32, Some("which holds 10.98.0.53/32, the destination")),
            ([10, 98, 0, 0], 16, None),
            ([10, 98, 1, 0], 24, None),
            ([0, 0, 0, 0], 0, None),
        ];
        for (to, prefix, says) in cases {
            on_client(&hosts, move |netlink, _| netlink.add_route(to.into(), prefix, gateway, None).unwrap());
            match says {
                Some(says) => refused(&hosts, says),
                None => accepted(&hosts, &[]),
            }
            on_client(&hosts, move |netlink, _| netlink.del_route(to.into(), prefix, gateway, None).unwrap());
        }
        for (to, prefix) in [([0, 0, 0, 0], 1), ([128, 0, 0, 0], 1)] {
            on_client(&hosts, move |netlink, link| netlink.add_route(to.into(), prefix, None, Some(link)).unwrap());
        }
        accepted(&hosts, &[]);
        // Networks that the host is in, by a route alone.
        for (to, prefix) in [([10, 98, 0, 0], 16), ([10, 98, 0, 0], 24), ([10, 98, 0, 8], 30)] {
            on_client(&hosts, move |netlink, link| netlink.add_route(to.into(), prefix, None, Some(link)).unwrap());
            refused(&hosts, "this host's network on far0; one that this host is not in is expected");
            on_client(&hosts, move |netlink, link| netlink.del_route(to.into(), prefix, None, Some(link)).unwrap());
        }
        // And by an address, in each relation.
        for (addr, prefix) in [([10, 98, 0, 9], 24), ([10, 98, 0, 9], 8), ([10, 98, 0, 9], 29), ([10, 98, 0, 9], 32)] {
            on_client(&hosts, move |netlink, link| netlink.add_address(link, addr.into(), prefix).unwrap());
            refused(&hosts, "this host's network on far0; one that this host is not in is expected");
            on_client(&hosts, move |netlink, link| netlink.del_address(link, addr.into(), prefix).unwrap());
        }
        accepted(&hosts, &[]);
        drop(running);
    });
}

#[test]
fn a_subnet_with_a_gateway_or_a_route_of_another_table_is_refused() {
    in_namespace("judged::a_subnet_with_a_gateway_or_a_route_of_another_table_is_refused", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = server(&hosts, "server", "10.98.0.0", "255.255.255.0");
        let ip = |arguments: &'static str| {
            hosts.at(0).run(move || {
                let status = Command::new("ip").args(arguments.split(' ')).status();
                assert!(status.unwrap().success(), "ip {arguments}");
            });
        };
        ip("route add default via 10.98.0.77 dev far0 onlink");
        refused(&hosts, "which holds 10.98.0.77, the gateway of this host's route to 0.0.0.0/0;");
        ip("route del default");
        ip("route add 192.0.2.0/24 nexthop via 10.55.0.1 dev far0 nexthop via 10.98.0.78 dev far0 onlink");
        refused(&hosts, "which holds 10.98.0.78, the gateway of this host's route to 192.0.2.0/24;");
        ip("route del 192.0.2.0/24");
        ip("route add blackhole 10.98.0.128/25");
        refused(&hosts, "which holds 10.98.0.128/25, the destination of this host's route that leads nowhere");
        ip("route del blackhole 10.98.0.128/25");
        // A table that no rule names routes nothing.
        ip("route add 10.98.0.9/32 via 10.55.0.1 table 4711");
        accepted(&hosts, &[]);
        ip("rule add from all lookup 4711");
        refused(
            &hosts,
            "which holds 10.98.0.9/32, the destination of this host's route by 10.55.0.1 on far0 in table 4711",
        );
        ip("rule del from all lookup 4711");
        accepted(&hosts, &[]);
    });
}

#[test]
fn a_subnet_with_a_name_server_is_refused() {
    in_namespace("judged::a_subnet_with_a_name_server_is_refused", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = server(&hosts, "server", "10.98.0.0", "255.255.255.0");
        put(&hosts, "/etc/resolv.conf", "nameserver 192.0.2.53\nnameserver 10.98.0.53\n");
        refused(&hosts, "which holds 10.98.0.53, a name server of this host in /etc/resolv.conf;");
        put(&hosts, "/etc/resolv.conf", "nameserver 127.0.0.53\n");
        accepted(&hosts, &[]);
        let stub = "/run/systemd/resolve/resolv.conf";
        mount(&["-t", "tmpfs", "tmpfs", "/run"]);
        put(&hosts, stub, "nameserver 10.98.0.54\n");
        refused(&hosts, "which holds 10.98.0.54, a name server of this host in /run/systemd/resolve/resolv.conf;");
    });
}

/// The name server of the tunnel is in use while the tunnel is up: a client that comes back must not take offence.
#[test]
fn a_reconnection_to_the_same_network_is_no_collision() {
    in_namespace("judged::a_reconnection_to_the_same_network_is_no_collision", || {
        let hosts = Hosts::new(PROGRAM);
        let first = server(&hosts, "server", "10.98.0.0", "255.255.255.0");
        put(&hosts, "/etc/resolv.conf", "nameserver 192.0.2.53\n");
        let client = Client::connect(&hosts, 0, "client", &["--retry"]);
        put(&hosts, "/etc/resolv.conf", "nameserver 10.98.0.1\n");
        hosts.at(0).run(|| {
            let mut netlink = Netlink::open().unwrap();
            let link = netlink.link_index("tun0").unwrap();
            netlink.add_route(Ipv4Addr::new(10, 30, 0, 0), 16, Some(GATEWAY), Some(link)).unwrap();
        });
        drop(first);
        let again = server(&hosts, "server", "10.98.0.0", "255.255.255.0");
        let client = Client::connected(client.running, 2);
        echo(&udp_at(hosts.at(0), client.address), &testkit::sockets::udp(GATEWAY), b"again");
        // And a server that then gives another network, in which the host has a route, is refused.
        on_client(&hosts, |netlink, _| {
            let gateway = Some(Ipv4Addr::new(10, 55, 0, 1));
            netlink.add_route(Ipv4Addr::new(10, 97, 0, 9), 32, gateway, None).unwrap();
        });
        drop(again);
        let _other = server(&hosts, "server", "10.97.0.0", "255.255.255.0");
        let mut running = client.running;
        running.wait_for_log("which holds 10.97.0.9/32, the destination of this host's route by 10.55.0.1 on far0");
        // Each of the files that were shown has its own copy, and `repair` sees the one on top.
        drop(running);
        assert_eq!(code(&hosts.repair_at(0)), 0);
        assert!(Command::new("umount").arg("/etc/resolv.conf").status().unwrap().success());
    });
}
