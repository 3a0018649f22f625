//! The sources that the program's client takes packets of: the tunnel's subnet, and what its configuration adds.

use std::net::Ipv4Addr;
use std::time::Duration;

use host::lab::plug_in;
use testkit::hosts::Hosts;
use testkit::inner::{Ip, Sum};
use testkit::netns::in_namespace;
use testkit::program::code;
use testkit::sockets::{raw_sender, received, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY};

use crate::PROGRAM;

#[test]
fn a_server_speaks_only_for_the_networks_that_the_client_names() {
    in_namespace("sources::a_server_speaks_only_for_the_networks_that_the_client_names", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        let raw = raw_sender();
        let [lan, resolver, client2] =
            ["192.168.77.99", "8.8.8.8", "10.98.0.200"].map(|text| text.parse::<Ipv4Addr>().unwrap());
        hosts.at(0).run(move || plug_in("far0", Ipv4Addr::new(192, 168, 77, 1), 24).unwrap());
        for (number, (keys, mut passes)) in [
            ("[vpn_client]\nroutes=[]\n", vec![client2]),
            // All is routed into the tunnel but the client's local network, for which the server does not speak.
            ("", vec![client2, resolver]),
            ("[vpn_client]\nroutes=[]\nallow_source=\n", vec![client2]),
            ("[vpn_client]\nroutes=[]\nallow_source=subnet\n", vec![client2]),
            ("[vpn_client]\nroutes=[]\nallow_source=[192.168.77.0/24]\n", vec![client2, lan]),
            ("[vpn_client]\nroutes=[]\nallow_source=[subnet,0.0.0.0/0]\n", vec![client2, lan, resolver]),
        ]
        .into_iter()
        .enumerate()
        {
            let config = hosts.config(keys);
            let client = Client::connect(&hosts, 0, &format!("client{number}"), &["--config", &config]);
            let socket = udp_at(hosts.at(0), client.address);
            let to = (53, socket.local_addr().unwrap().port());
            for source in [client2, lan, resolver] {
                let packet = Ip::new(source, client.address).udp(to, b"spoofed", Sum::Right);
                raw.send_to(&packet, (client.address, 0)).unwrap();
            }
            udp(GATEWAY).send_to(b"the end", socket.local_addr().unwrap()).unwrap();
            // Packets of different sources may cross: they come by the workers' queues.
            let (mut seen, mut has_ended) = (Vec::new(), false);
            while !has_ended || seen.len() < passes.len() {
                let (payload, from) = received(&socket, keys);
                match payload == b"the end" {
                    true => has_ended = true,
                    false => seen.push(from.ip()),
                }
            }
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            assert!(socket.recv(&mut [0; 64]).is_err(), "{keys}: more than {seen:?}");
            seen.sort();
            passes.sort();
            assert_eq!(seen, passes, "{keys}");
            drop(client);
        }
    });
}

#[test]
fn a_list_that_cannot_be_read_stops_the_client() {
    in_namespace("sources::a_list_that_cannot_be_read_stops_the_client", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        for (value, item) in [("lan", "lan"), ("[10.0.0.0/8,10.0.0.1/8]", "10.0.0.1/8"), ("fd00::/8", "fd00::/8")] {
            let config = hosts.config(&format!("[vpn_client]\nallow_source={value}\n"));
            let output = hosts.far(&["client", "--connect", "10.55.0.1", "--config", &config]);
            let said = String::from_utf8_lossy(&output.stderr);
            let expected = format!("[vpn_client] allow_source = {item}: expected a list of IPv4 networks");
            assert!(said.contains(&expected), "{said}");
            assert_eq!(code(&output), 2, "{said}");
        }
    });
}

#[test]
fn denied_networks_that_cannot_be_read_stop_the_server() {
    in_namespace("sources::denied_networks_that_cannot_be_read_stop_the_server", || {
        let hosts = Hosts::new(PROGRAM);
        for (key, value, expected) in [
            ("deny", "lan", "[srv_vpn] deny = lan: expected a list of IPv4 networks"),
            (
                "deny",
                "[10.0.0.0/8,192.168.0.0/33]",
                "[srv_vpn] deny = 192.168.0.0/33: expected a list of IPv4 networks",
            ),
            ("deny", "fd00::/8", "[srv_vpn] deny = fd00::/8: expected a list of IPv4 networks"),
            ("dns", "x", "[srv_vpn] dns = x: expected auto, or a list of IPv4 addresses"),
            ("payment_timeout", "3", "[srv_vpn] payment_timeout = 3: expected"),
            ("session_queue", "1", "[srv_vpn] session_queue = 1: expected"),
            ("leases_per_address", "0", "[srv_vpn] leases_per_address = 0: expected"),
            ("deny_host", "enabled", "[srv_vpn] deny_host = enabled: expected true or false"),
            ("deny_host", "[true]", "[srv_vpn] deny_host = [true]: expected true or false"),
            ("deny_host", "", "[srv_vpn] deny_host = : expected true or false"),
        ] {
            let config = hosts.config(&format!("{}{key}={value}\n", testkit::tunnel::NETWORK));
            let output = hosts.near(&["server", "--config", &config, "--state-dir", &hosts.state("server")]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(expected), "{key}={value}: {said}");
            assert_eq!(code(&output), 2, "{said}");
        }
    });
}
