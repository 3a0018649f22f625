//! The addresses of clients, from lease to return.

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use host::netlink::Netlink;
use rustix::process::Signal;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{code, send, stderr, stdout};
use testkit::sockets::{echo, ping, udp, udp_at};
use testkit::tun_devices;
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 3);

/// A network for one client: .1 is the gateway, .2 the client, .3 the broadcast address.
pub(crate) const NETWORK_FOR_ONE: &str = "[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.252\n";

#[test]
fn both_ends_have_their_addresses_and_reach_each_other() {
    in_namespace("leases::both_ends_have_their_addresses_and_reach_each_other", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &[]);
        assert_eq!((client.address, client.gateway), (FIRST, GATEWAY));

        let near = tun_devices();
        let [(device, addresses)] = near.as_slice() else { panic!("{near:?}") };
        assert!(device.up && *addresses == [(GATEWAY, 24)], "{near:?}");
        let far = hosts.at(0).run(tun_devices);
        let [(device, addresses)] = far.as_slice() else { panic!("{far:?}") };
        assert!(device.up && *addresses == [(FIRST, 24)], "{far:?}");
        assert_eq!((&device.name, device.mtu as usize), (&client.device, client.mtu));

        assert!(hosts.at(0).run(|| ping(GATEWAY)), "the client's pings");
        assert!(ping(FIRST), "the server's pings");
        let (server, client) = (udp(GATEWAY), udp_at(hosts.at(0), FIRST));
        echo(&client, &server, b"asked by the client");
        echo(&server, &client, b"asked by the server");
    });
}

#[test]
fn a_full_network_refuses_and_recovers() {
    in_namespace("leases::a_full_network_refuses_and_recovers", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(NETWORK_FOR_ONE);
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        assert!(server.stdout().contains("network 10.98.0.0/30"), "{}", server.stdout());
        let mut first = Client::connect(&hosts, 0, "first", &[]);
        assert_eq!((first.address, first.gateway), (FIRST, GATEWAY));

        let mut second = hosts.client_at(1, "second", &[]);
        assert_eq!(second.exit_code(), Some(8), "{}", second.log());
        assert!(second.log().contains("10.55.1.1:8079 refused: it has no free address"), "{}", second.log());
        assert_eq!(second.stdout(), "");
        assert_eq!(hosts.at(1).run(tun_devices).len(), 0, "a refused client has no device");
        echo(&udp_at(hosts.at(0), FIRST), &udp(GATEWAY), b"the first has not noticed");

        send(&first.running.child, Signal::TERM);
        assert_eq!(first.running.exit_code(), Some(0), "{}", first.running.log());
        let second = Client::connect(&hosts, 1, "second", &[]);
        assert_eq!((second.address, second.gateway), (FIRST, GATEWAY));
        echo(&udp_at(hosts.at(1), FIRST), &udp(GATEWAY), b"the second");
    });
}

#[test]
fn a_returning_client_gets_the_same_address() {
    in_namespace("leases::a_returning_client_gets_the_same_address", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let _server = hosts.server("server");
        let leave = |mut client: Client| {
            send(&client.running.child, Signal::TERM);
            assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
        };
        let first = Client::connect(&hosts, 0, "first", &[]);
        assert_eq!(first.address, FIRST);
        leave(first);
        let second = Client::connect(&hosts, 1, "second", &[]);
        assert_eq!(second.address, SECOND, "the first one's address is kept for it");
        let first = Client::connect(&hosts, 0, "first", &[]);
        assert_eq!(first.address, FIRST);
        echo(&udp_at(hosts.at(0), FIRST), &udp(GATEWAY), b"back again");

        // Neither the order of their return matters nor the host: the state directory identifies a client.
        leave(first);
        leave(second);
        let second = Client::connect(&hosts, 1, "second", &[]);
        assert_eq!(second.address, SECOND);
        leave(second);
        let stranger = Client::connect(&hosts, 1, "stranger", &[]);
        assert_eq!(stranger.address, Ipv4Addr::new(10, 98, 0, 4));
        let first = Client::connect(&hosts, 0, "first", &[]);
        assert_eq!(first.address, FIRST);
    });
}

#[test]
fn an_address_is_its_clients_while_it_is_free() {
    in_namespace("leases::an_address_is_its_clients_while_it_is_free", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config("[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.252\nlease_time=0\n");
        let _server = hosts.server_with("server", &["--config", &config]);
        let connect_once = |state: &str| {
            let mut client = Client::connect(&hosts, 0, state, &[]);
            assert_eq!(client.address, FIRST, "the only one");
            send(&client.running.child, Signal::TERM);
            assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
        };
        // Another client's need ends it, and then the first one's token leads nowhere.
        ["first", "first", "second", "first"].into_iter().for_each(connect_once);
    });
}

/// Both clients show the same token, because the state directory was copied.
#[test]
fn two_clients_with_one_token_do_not_evict_each_other() {
    in_namespace("leases::two_clients_with_one_token_do_not_evict_each_other", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let (_server, _) = hosts.server("server");
        let mut first = Client::connect(&hosts, 0, "original", &[]);
        send(&first.running.child, Signal::TERM);
        assert_eq!(first.running.exit_code(), Some(0));
        fs::create_dir(hosts.state("copy")).unwrap();
        fs::copy(hosts.path().join("original/store.redb"), hosts.path().join("copy/store.redb")).unwrap();
        let mut original = Client::connect(&hosts, 0, "original", &["--retry"]);
        assert_eq!(original.address, first.address);
        // Tokens are stored by the server's address, so the copy's host needs a route to the same address.
        let (server, gateway) = (hosts.at(0).server, hosts.at(1).server);
        hosts.at(1).run(move || Netlink::open().unwrap().add_route(server, 32, Some(gateway), None).unwrap());
        let target = server.to_string();
        let mut copy = Client::connected(hosts.start_at(1, "copy", &["client", "--connect", &target, "--retry"]), 1);
        assert_ne!(copy.address, original.address);
        // Long enough for one eviction and the answer to it.
        thread::sleep(Duration::from_secs(3));
        for client in [&mut original, &mut copy] {
            assert_eq!(client.running.stdout().matches("connected to ").count(), 1, "{}", client.running.log());
            send(&client.running.child, Signal::TERM);
            assert_eq!(client.running.exit_code(), Some(0));
        }
    });
}

#[test]
fn the_operator_sees_the_leases_and_ends_one() {
    in_namespace("leases::the_operator_sees_the_leases_and_ends_one", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let key = format!("0x{}", "AB".repeat(32));
        let config = hosts.config(&format!("{NETWORK}static_leases=[{key}:10.98.0.200]\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        assert!(server.log().contains("1 addresses are reserved for one client each"), "{}", server.log());
        let state = hosts.state("server");
        let run = |words: &[&str]| hosts.near(&[&["leases", "--state-dir", &state], words].concat());
        let leases = || {
            let output = run(&["--json"]);
            assert_eq!(code(&output), 0, "{}", stderr(&output));
            serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()
        };
        let states = || {
            let all = leases();
            let one = |lease: &serde_json::Value| format!("{} {}", lease["address"], lease["state"]).replace('"', "");
            all["leases"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(states(), ["10.98.0.200 reserved"]);
        let first = Client::connect(&hosts, 0, "first", &[]);
        let mut second = Client::connect(&hosts, 1, "second", &[]);
        send(&second.running.child, Signal::TERM);
        assert_eq!(second.running.exit_code(), Some(0));
        let expected = ["10.98.0.2 leased", "10.98.0.3 kept", "10.98.0.200 reserved"];
        eventually("the end of the second", || states() == expected);
        let all = leases();
        let (leased, reserved) = (&all["leases"][0], &all["leases"][2]);
        assert!(leased["peer"].as_str().unwrap().starts_with("10.55.0.2:"), "{leased}");
        assert!(leased["usage"].as_u64().unwrap() > 0 && leased["seconds"].as_u64().is_some(), "{leased}");
        assert!(leased["client"].as_str().unwrap().len() == 66 && leased["static"] == false, "{leased}");
        assert!(reserved["client"] == key.as_str() && reserved["static"] == true, "{reserved}");
        let text = stdout(&run(&[]));
        assert!(text.starts_with("10.98.0.2       leased, "), "{text}");
        assert!(text.contains(&format!("\n10.98.0.200     reserved, static, client {key}\n")), "{text}");

        for (address, said) in [
            ("10.98.0.3", "-drop 10.98.0.3: no session has 10.98.0.3"),
            ("10.98.0.1", "10.98.0.1 is no address of a client; expected one of 10.98.0.2 to 10.98.0.254"),
        ] {
            let output = run(&["--drop", address]);
            assert!(code(&output) == 1 && stderr(&output).contains(said), "{output:?}");
        }
        assert_eq!(code(&run(&["--drop", "10.98.0"])), 2);
        let output = run(&["--drop", "10.98.0.2"]);
        assert!(stdout(&output).starts_with("dropped the session of 10.98.0.2: client 0x"), "{output:?}");
        let first = Client::connected(first.running, 2);
        assert_eq!(first.address, FIRST, "it connects again");
        assert!(server.log().contains(", the operator has dropped it, "), "{}", server.log());
    });
}

#[test]
fn static_leases_that_make_no_sense_stop_the_start() {
    in_namespace("leases::static_leases_that_make_no_sense_stop_the_start", || {
        let hosts = Hosts::new(PROGRAM);
        let [one, other] = ["AB", "CD"].map(|digits| format!("0x{}", digits.repeat(32)));
        for (value, said) in [
            (format!("{one}:10.97.0.2"), "an address for clients in 10.98.0.0/24, which are 10.98.0.2 to 10.98.0.254"),
            (format!("{one}:10.98.0.255"), "an address for clients in 10.98.0.0/24"),
            (format!("{one}:10.98.0.1"), "10.98.0.1 is the server's own"),
            (format!("{one}:10.98.0.2,{other}:10.98.0.2"), "each address once; 10.98.0.2 is there twice"),
            (format!("{one}:10.98.0.2,{one}:10.98.0.3"), "each key once"),
            (format!("{one}=10.98.0.2"), "a list of 0x<64 hexadecimal digits>:<IPv4 address>"),
            (format!("{}:10.98.0.2", &one[..65]), "a list of 0x<64 hexadecimal digits>:<IPv4 address>"),
            (format!("0x{}:10.98.0.2", "00".repeat(32)), "zeros name no client"),
        ] {
            let config = hosts.config(&format!("{NETWORK}static_leases=[{value}]\n"));
            let output = hosts.near(&["server", "--config", &config, "--state-dir", &hosts.state("server")]);
            let log = stderr(&output);
            assert!(log.contains("[srv_vpn] static_leases = 0x") && log.contains(said), "{value}: {log}");
            assert_eq!(code(&output), 2, "{log}");
        }
    });
}
