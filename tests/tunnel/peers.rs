//! Traffic between clients: they reach each other or are isolated, and none can impersonate another.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app;
use embedded::config::{self, Config};
use host::netlink::Netlink;
use testkit::hosts::{Host, Hosts, forward_packets, forwards_packets};
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::sockets::{connect_from, echo, every_packet, exchange, raw_sender, received, tcp, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK, stat_number};
use testkit::{TEST_TIMEOUT, eventually, noise};
use vpn_core::forward::DropCause;

use crate::PROGRAM;

#[test]
fn clients_reach_each_other() {
    in_namespace("peers::clients_reach_each_other", || {
        if !forwards_packets("peers::clients_reach_each_other") {
            return;
        }
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let _server = hosts.server("server");
        let [one, other] = [0, 1].map(|number| Client::connect(&hosts, number, &format!("client{number}"), &[]));
        let (here, there) = (udp_at(hosts.at(0), one.address), udp_at(hosts.at(1), other.address));
        for size in [0, one.mtu - 28, 5_000] {
            echo(&here, &there, &noise(1, size));
            echo(&there, &here, &noise(2, size));
        }
        let address = other.address;
        let listener = hosts.at(1).run(move || TcpListener::bind((address, 0)).unwrap());
        exchange(&tcp(&listener, connect_from(hosts.at(0))), 2_000_000, 4);
        for socket in [here, there] {
            echo(&socket, &udp(GATEWAY), b"and the gateway");
        }
    });
}

#[test]
fn isolated_clients_reach_only_the_gateway() {
    in_namespace("peers::isolated_clients_reach_only_the_gateway", || {
        // The host forwards if that can be enabled: only the server isolates the clients.
        let _ = forward_packets();
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(&format!("{NETWORK}client_isolation=true\n"));
        let _server = hosts.server_with("server", &["--config", &config]);
        let clients = [0, 1].map(|number| Client::connect(&hosts, number, &format!("client{number}"), &[]));
        let sockets = [0, 1].map(|number| udp_at(hosts.at(number), clients[number].address));
        let gateway = udp(GATEWAY);
        for (from, to) in [(0, 1), (1, 0)] {
            let (sender, receiver) = (&sockets[from], &sockets[to]);
            for _ in 0..5 {
                sender.send_to(b"let me in", receiver.local_addr().unwrap()).unwrap();
            }
            let lost = || stat_number(&hosts.stat("server"), clients[from].address, "packets send lost");
            eventually("all five are counted as lost", || lost() == 5);
            // The gateway's packet is the first that the other client receives.
            gateway.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
            assert_eq!(received(receiver, "the gateway's").0, b"hello");
            echo(sender, &gateway, b"still welcome");
            assert_eq!(lost(), 5);
        }
    });
}

/// The service runs in the test itself, because only [`app::server_totals`] reports drops by their cause.
#[test]
fn a_forged_source_is_dropped_and_counted() {
    in_namespace("peers::a_forged_source_is_dropped_and_counted", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let text = format!("[general]\nstate_dir={}\n", hosts.state("server"));
        config::set_current(Config::parse(&text, "test").0);
        app::server_start().unwrap();
        let [liar, victim] = [0, 1].map(|number| Client::connect(&hosts, number, &format!("client{number}"), &[]));
        let spoofed = || app::server_totals().unwrap().dropped(DropCause::SpoofedSource);
        assert_eq!(spoofed(), 0);
        let seen = every_packet();
        seen.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let raw = hosts.at(0).run(raw_sender);
        let gateway = udp(GATEWAY);
        let port = gateway.local_addr().unwrap().port();

        let nobody = Ipv4Addr::new(10, 98, 0, 200);
        let outside = Ipv4Addr::new(192, 0, 2, 1);
        let forged = [victim.address, GATEWAY, nobody, outside, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST];
        for source in forged {
            raw.send_to(&Ip::new(source, GATEWAY).udp((4242, port), b"forged", Sum::Zero), (GATEWAY, 0)).unwrap();
        }
        // The simple way: an application binds to another address of its device.
        add_address(hosts.at(0), &liar.device, outside);
        udp_at(hosts.at(0), outside).send_to(b"forged", gateway.local_addr().unwrap()).unwrap();
        let count = forged.len() as u64 + 1;
        eventually("every forged packet is counted", || spoofed() >= count);

        // Built by hand in the same way, but with the true source: this one must arrive, or the checks above prove
        // nothing.
        raw.send_to(&Ip::new(liar.address, GATEWAY).udp((4242, port), b"honest", Sum::Zero), (GATEWAY, 0)).unwrap();
        let (payload, from) = received(&gateway, "the honest packet");
        assert_eq!((payload.as_slice(), from.ip()), (&b"honest"[..], liar.address.into()));
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut packet = vec![0; 65_536];
        loop {
            assert!(Instant::now() < deadline, "the honest packet was not seen on the server's TUN");
            let Ok(size) = seen.recv(&mut packet) else { continue };
            assert!(!contains(&packet[..size], b"forged"), "came out of the server's TUN: {:?}", &packet[..size]);
            if contains(&packet[..size], b"honest") {
                break;
            }
        }
        assert_eq!(spoofed(), count);
        let stat = app::vpn_stat();
        assert_eq!(stat_number(&stat, liar.address, "packets send lost"), count, "{stat}");
        assert_eq!(stat_number(&stat, victim.address, "packets send lost"), 0, "{stat}");
        echo(&udp_at(hosts.at(1), victim.address), &gateway, b"the victim is well");
        app::server_stop();
    });
}

fn add_address(host: &Host, device: &str, address: Ipv4Addr) {
    let device = device.to_owned();
    host.run(move || {
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link_index(&device).unwrap();
        netlink.add_address(index, address, 32).unwrap();
    });
}

fn contains(packet: &[u8], mark: &[u8]) -> bool {
    packet.windows(mark.len()).any(|window| window == mark)
}
