//! A server takes other settings while its sessions live.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use host::netlink::Netlink;
use serde_json::Value;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{code, stderr, stdout};
use testkit::sockets::{connect_from, echo, exchange, tcp, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::{PROGRAM, keys, reload, reloaded};

/// An address of the server's host outside of the tunnel.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

pub(crate) fn stat(hosts: &Hosts) -> Value {
    let output = hosts.near(&["stat", "--json", "--state-dir", &hosts.state("server")]);
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn add_address(link: &str, address: Ipv4Addr) {
    let mut netlink = Netlink::open().unwrap();
    let link = netlink.links().unwrap().into_iter().find(|found| found.name == link).unwrap();
    netlink.add_address(link.index, address, 32).unwrap();
}

#[test]
fn what_can_change_applies_to_the_sessions_that_live() {
    in_namespace("server::what_can_change_applies_to_the_sessions_that_live", || {
        let hosts = Hosts::with_clients(PROGRAM, 3);
        add_address("near0", OUTSIDE);
        let config = hosts.config(NETWORK);
        let (mut server, pin) = hosts.server_with("server", &["--config", &config]);
        let clients =
            [0, 1].map(|number| Client::connect(&hosts, number, &format!("client{number}"), &["--pin", &pin]));
        let [first, second] = [clients[0].address, clients[1].address];
        let here = udp_at(hosts.at(0), first);
        let (gateway, outside, other) = (udp(GATEWAY), udp(OUTSIDE), udp_at(hosts.at(1), second));
        let reaches = |to: &UdpSocket| {
            here.send_to(b"?", to.local_addr().unwrap()).unwrap();
            to.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
            to.recv(&mut [0; 8]).is_ok()
        };
        assert!(reaches(&other) && reaches(&outside) && reaches(&gateway));
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let connection = tcp(&listener, connect_from(hosts.at(0)));

        hosts.config(&format!(
            "[server]\nmax_streams_per_address=1\n{NETWORK}mtu=1400\nclient_isolation=true\ndeny=[10.77.0.0/16]\n\
             limit_down=4000\nlimit_up=3000\nkeep_alive=7\nsession_queue=262144\nlog_addresses=true\n\
             static_leases=[0x{}:10.98.0.9,0x{}:{first}]\n",
            "5A".repeat(32),
            "6B".repeat(32)
        ));
        let report = reloaded(&hosts, &config);
        let expected = [
            "server/max_streams_per_address",
            "srv_vpn/client_isolation",
            "srv_vpn/deny",
            "srv_vpn/keep_alive",
            "srv_vpn/limit_down",
            "srv_vpn/limit_up",
            "srv_vpn/log_addresses",
            "srv_vpn/session_queue",
            "srv_vpn/static_leases",
        ];
        assert_eq!(keys(&report, "applied"), expected, "{report}");
        assert_eq!(keys(&report, "needs_restart"), ["srv_vpn/mtu"]);
        assert_eq!((&report["unchanged"], &report["applied"][3]["after"]), (&3.into(), &"7".into()), "{report}");
        server.wait_for_log("needs a restart: [srv_vpn] mtu: not set -> 1400");
        server.wait_for_log(&format!("static_leases: {first} is another client's now"));

        assert!(!reaches(&other) && !reaches(&outside) && reaches(&gateway));
        eventually("the limits of both sessions", || {
            let stat = stat(&hosts);
            let sessions = stat["sessions"].as_array().unwrap();
            sessions.len() == 2
                && sessions.iter().all(|session| session["limit_down"] == 4000 && session["limit_up"] == 3000)
        });
        exchange(&connection, 100_000, 7);
        assert!(clients.iter().all(|client| client.running.stdout().lines().count() == 1), "a session was lost");
        let leases = hosts.near(&["leases", "--json", "--state-dir", &hosts.state("server")]);
        let leases: Value = serde_json::from_str(&stdout(&leases)).unwrap();
        let state = |address: &str| {
            let mut leases = leases["leases"].as_array().unwrap().iter();
            leases.find(|lease| lease["address"] == address).map_or(Value::Null, |lease| lease["state"].clone())
        };
        assert_eq!((state("10.98.0.9"), state(&first.to_string())), ("reserved".into(), "leased".into()), "{leases}");
        // It counts against the limit of its source, which has a stream already.
        let refused = hosts.far(&["check", &hosts.at(0).server.to_string(), "--pin", &pin, "--timeout", "5"]);
        assert_ne!(code(&refused), 0, "{}", stdout(&refused));

        hosts.config(&format!("{NETWORK}allow_free_srv=false\ndeny_host=true\n"));
        let report = reloaded(&hosts, &config);
        assert_eq!(keys(&report, "needs_restart"), [""; 0]);
        assert!(reaches(&other) && !reaches(&outside), "this host's addresses are denied in place of a network");
        echo(&udp_at(hosts.at(0), first), &udp(GATEWAY), b"without a limit again");
        let mut refused = hosts.client_at(2, "refused", &["--pin", &pin]);
        assert_eq!(refused.exit_code(), Some(5), "{}", refused.log());

        hosts.config(NETWORK);
        assert_eq!(keys(&reloaded(&hosts, &config), "applied"), ["srv_vpn/allow_free_srv", "srv_vpn/deny_host"]);
        assert!(reaches(&outside) && reaches(&other));
        let third = Client::connect(&hosts, 2, "refused", &["--pin", &pin]);
        assert_ne!(third.address, first);
        let again = reload(&hosts, &config, &[]);
        assert_eq!(stdout(&again).trim(), format!("the configuration was read again: nothing has changed ({config})"));
        assert!(!server.log().contains(" ERROR "), "{}", server.log());
    });
}

/// The price list decides which orders are sold; a running session of the free order goes on.
#[test]
fn prices_change_without_a_restart() {
    in_namespace("server::prices_change_without_a_restart", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(NETWORK);
        let (server, pin) = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &["--pin", &pin]);
        assert!(!server.log().contains("sells"));
        hosts.config(&format!("{NETWORK}prices=[1 GB for 0.5 CELL]\ngrace_period=0\n"));
        assert_eq!(keys(&reloaded(&hosts, &config), "applied"), ["srv_vpn/grace_period", "srv_vpn/prices"]);
        assert!(server.log().contains("sells 1000000000 B for 0.5 CELL in backbone, order 0x"), "{}", server.log());
        let mut refused = hosts.client_at(1, "second", &["--pin", &pin]);
        assert_eq!(refused.exit_code(), Some(5), "{}", refused.log());
        assert!(refused.log().contains("a server that sells its service is paid with"), "{}", refused.log());
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"free as before");
        hosts.config(NETWORK);
        reloaded(&hosts, &config);
        Client::connect(&hosts, 1, "second", &["--pin", &pin]);
    });
}

/// Streams keep the congestion control that they began with; new ones get the reloaded one.
#[test]
fn new_streams_get_the_reloaded_congestion_control() {
    in_namespace("server::new_streams_get_the_reloaded_congestion_control", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(&format!("{NETWORK}congestion=cubic\n"));
        let (mut server, pin) = hosts.server_with("server", &["--config", &config]);
        let _first = Client::connect(&hosts, 0, "first", &["--pin", &pin]);
        assert_eq!(controls_to(&hosts, 0), ["cubic"]);
        hosts.config(&format!("{NETWORK}congestion=bbr\n"));
        assert_eq!(keys(&reloaded(&hosts, &config), "applied"), ["srv_vpn/congestion"]);
        server.wait_for_log("streams send with the congestion control bbr");
        let _second = Client::connect(&hosts, 1, "second", &["--pin", &pin]);
        assert_eq!(controls_to(&hosts, 1), ["bbr"]);
        assert_eq!(controls_to(&hosts, 0), ["cubic"]);
    });
}

/// The congestion controls of the server's connections to a client's host, as the kernel lists them.
fn controls_to(hosts: &Hosts, client: usize) -> Vec<String> {
    let sockets = Command::new("ss").args(["-tinHO", "src", &hosts.at(client).server.to_string()]).output().unwrap();
    let known = ["bbr", "cubic", "reno"];
    let words = stdout(&sockets);
    words.split_whitespace().filter(|word| known.contains(word)).map(str::to_owned).collect()
}

/// A file of its own in `<file>.d` counts, and a key that only a restart can change keeps its value.
#[test]
fn a_key_that_needs_a_restart_keeps_its_value() {
    in_namespace("server::a_key_that_needs_a_restart_keeps_its_value", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config("");
        std::fs::write(&config, "[resources]\nthreads_cnt=1\n").unwrap();
        let (_server, pin) = hosts.server_with("server", &["--config", &config]);
        let included = format!("{config}.d");
        std::fs::create_dir(&included).unwrap();
        let text = "[srv_vpn]\nnetwork_address=10.99.0.0\nnetwork_mask=255.255.255.0\ndns=[9.9.9.9]\n\
                    [server]\nlisten_address=0.0.0.0:8080\n[vpn_client]\nmtu=1400\n";
        std::fs::write(format!("{included}/1.cfg"), text).unwrap();
        let report = reloaded(&hosts, &config);
        assert_eq!(keys(&report, "applied"), ["srv_vpn/dns"], "a client's key is nothing to the server");
        assert_eq!(keys(&report, "needs_restart"), ["server/listen_address", "srv_vpn/network_address"]);
        let client = Client::connect(&hosts, 0, "client", &["--pin", &pin]);
        assert_eq!(client.gateway, GATEWAY);
        // It fits the network of the file, not the one in force.
        std::fs::write(
            format!("{included}/2.cfg"),
            format!("[srv_vpn]\nstatic_leases=[0x{}:10.99.0.9]\n", "5A".repeat(32)),
        )
        .unwrap();
        let refused = reload(&hosts, &config, &[]);
        assert_eq!(code(&refused), 2, "{}", stdout(&refused));
        let text = stderr(&refused);
        assert!(text.contains("running service's [server] listen_address, [srv_vpn] network_address"), "{text}");
        let second = Client::connect(&hosts, 1, "second", &["--pin", &pin]);
        assert_eq!(second.gateway, GATEWAY);
    });
}
