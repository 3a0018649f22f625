//! The program `cellframe-vpn` in use: a server on one host, client and check on another. Both hosts are network
//! namespaces with a veth pair between them.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use host::netlink::Netlink;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Program, code, send, stderr, stdout};

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 1);

#[test]
fn connect_inspect_and_stop() {
    in_namespace("connect_inspect_and_stop", || {
        let hosts = Hosts::new(PROGRAM);
        let (mut server, pin) = hosts.server("server");
        let target = SERVER.to_string();
        let check = hosts.far(&["check", &target, "--pin", &pin]);
        assert_eq!(code(&check), 0, "{}", stderr(&check));
        assert!(stdout(&check).starts_with("10.55.0.1:8079 answers: connected in "), "{}", stdout(&check));

        let mut client = hosts.client(&["--pin", &pin]);
        client.wait_for("connected to 10.55.0.1:8079: address 10.98.0.2, gateway 10.98.0.1, device tun");
        let status = hosts.near(&["status", "--state-dir", &hosts.state("client")]);
        assert_eq!(code(&status), 0, "{}", stderr(&status));
        assert!(stdout(&status).contains("VPN client started"), "{}", stdout(&status));
        assert!(stdout(&status).contains("10.98.0.2"), "{}", stdout(&status));
        let stat = hosts.near(&["stat", "--state-dir", &hosts.state("server")]);
        assert_eq!(code(&stat), 0, "{}", stderr(&stat));
        assert!(stdout(&stat).contains("10.98.0.2"), "{}", stdout(&stat));

        let stop = hosts.near(&["stop", "--state-dir", &hosts.state("client")]);
        assert_eq!((code(&stop), stdout(&stop).trim()), (0, "VPN client stopped successfully"));
        assert_eq!(client.exit_code(), Some(0));
        let status = hosts.near(&["status", "--state-dir", &hosts.state("client")]);
        assert_eq!(code(&status), 3, "the client has gone: {}", stdout(&status));

        send(&server.child, Signal::TERM);
        assert_eq!(server.exit_code(), Some(0));
        assert!(!Path::new(&hosts.state("server")).join("cli.sock").exists());
        let links = Netlink::open().unwrap().links().unwrap();
        assert!(!links.iter().any(|link| link.name.starts_with("tun")), "{links:?}");
        assert!(!server.log().contains(" ERROR "), "a life without mistakes:\n{}", server.log());
        assert!(!client.log().contains(" ERROR "), "a life without mistakes:\n{}", client.log());
    });
}

/// The account book of the server, as `history --json` prints it.
fn history(hosts: &Hosts, options: &[&str]) -> Value {
    let state = hosts.state("server");
    let output = hosts.near(&[&["history", "--json", "--state-dir", &state], options].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn a_service_is_in_the_history_also_after_a_kill() {
    in_namespace("a_service_is_in_the_history_also_after_a_kill", || {
        let hosts = Hosts::new(PROGRAM);
        let (mut server, pin) = hosts.server("server");
        assert_eq!(history(&hosts, &[])["services"], json!([]));
        let mut client = hosts.client(&["--pin", &pin]);
        client.wait_for("connected to 10.55.0.1:8079: address 10.98.0.2");
        let running = &history(&hosts, &["--since", "1h"])["services"][0];
        assert_eq!(
            (&running["service"], &running["net"], &running["end"]),
            (&json!("free"), &json!("backbone"), &Value::Null)
        );
        // An entry is stored within a second.
        std::thread::sleep(Duration::from_millis(1500));
        send(&server.child, Signal::KILL);
        server.exit_code();
        let (_server, _) = hosts.server("server");
        let services = history(&hosts, &["--limit", "2"])["services"].clone();
        let first = &services[0];
        assert_eq!((&first["number"], &first["client"]), (&running["number"], &running["client"]));
        assert_eq!(first["end"], "the server was killed");
        let state = hosts.state("server");
        let csv = hosts.near(&["history", "--csv", "--limit", "1000", "--state-dir", &state]);
        let lines: Vec<String> = stdout(&csv).lines().map(str::to_owned).collect();
        assert!(lines[0].starts_with("number,service,client,net,order,") && lines.len() >= 2, "{lines:?}");
        assert!(lines[1].contains(",\"the server was killed\","), "{lines:?}");
        let refused = hosts.near(&["history", "--client", "0xyz", "--state-dir", &state]);
        assert_eq!(code(&refused), 1);
        assert!(
            stderr(&refused).contains("-client \"0xyz\"; expected 1 to 64 hexadecimal digits"),
            "{}",
            stderr(&refused)
        );
        assert_eq!(code(&hosts.near(&["history", "--json", "--csv"])), 2);
        let stat = hosts.near(&["stat", "--json", "--net", "backbone", "--state-dir", &state]);
        let stat: Value = serde_json::from_str(&stdout(&stat)).unwrap();
        assert!(stat["total"]["sent"]["packets"].is_u64() && stat["sessions"].is_array(), "{stat}");
    });
}

#[test]
fn a_wrong_identity_is_refused_with_5() {
    in_namespace("a_wrong_identity_is_refused_with_5", || {
        let hosts = Hosts::new(PROGRAM);
        let (mut server, _) = hosts.server("server");
        let target = SERVER.to_string();
        let pin = format!("sha256:{}", "00".repeat(32));
        let check = hosts.far(&["check", &target, "--pin", &pin]);
        assert_eq!(code(&check), 5, "{}", stderr(&check));
        assert!(stderr(&check).contains("identity"), "{}", stderr(&check));
        // --retry does not repeat this failure.
        let client = hosts.client(&["--pin", &pin, "--retry"]).exit_code();
        assert_eq!(client, Some(5));

        // Trust on first use: the client remembers the first identity and refuses another one at the same address.
        assert_eq!(code(&hosts.far(&["check", &target])), 0);
        assert_eq!(code(&hosts.far(&["check", &target])), 0);
        send(&server.child, Signal::TERM);
        assert_eq!(server.exit_code(), Some(0));
        let (_other, _) = hosts.server("other");
        let check = hosts.far(&["check", &target]);
        assert_eq!(code(&check), 5, "{}", stderr(&check));
    });
}

#[test]
fn a_lost_server() {
    in_namespace("a_lost_server", || {
        let hosts = Hosts::new(PROGRAM);
        let (mut server, _) = hosts.server("server");
        let mut client = hosts.client(&["--no-reconnect"]);
        client.wait_for("connected to");
        send(&server.child, Signal::KILL);
        server.exit_code();
        assert_eq!(client.exit_code(), Some(1), "{}", client.log());
        assert!(client.log().contains("the connection to 10.55.0.1:8079 was lost"), "{}", client.log());

        // With --retry: the server is missing, then up, gone, and up again; Ctrl-C ends the connected client.
        let mut client = hosts.client(&["--retry"]);
        client.wait_for_log("next attempt in about 1 s");
        let (mut server, _) = hosts.server("server");
        client.wait_for("connected to");
        send(&server.child, Signal::KILL);
        server.exit_code();
        client.wait_for_log("was lost");
        let (_server, _) = hosts.server("server");
        client.wait_until("connected twice", |client| client.stdout().matches("connected to").count() == 2);
        send(&client.child, Signal::INT);
        assert_eq!(client.exit_code(), Some(0), "{}", client.log());
    });
}

#[test]
fn stop_ends_a_client_that_waits_for_its_next_attempt() {
    in_namespace("stop_ends_a_client_that_waits_for_its_next_attempt", || {
        let hosts = Hosts::new(PROGRAM);
        let mut client = hosts.client(&["--retry"]);
        client.wait_for_log("next attempt in about 4 s");
        let stop = hosts.near(&["stop", "--state-dir", &hosts.state("client")]);
        assert_eq!(code(&stop), 0, "{}", stderr(&stop));
        assert_eq!(client.exit_code(), Some(0), "{}", client.log());
    });
}

#[test]
fn interrupted_while_connecting() {
    in_namespace("interrupted_while_connecting", || {
        let hosts = Hosts::new(PROGRAM);
        // This address is unused: the connection waits for an answer to ARP.
        let mut client = hosts.start_far("client", &["client", "--connect", "10.55.0.99"]);
        client.wait_for_log("connecting to 10.55.0.99:8079");
        let started = Instant::now();
        send(&client.child, Signal::INT);
        assert_eq!(client.exit_code(), Some(130), "{}", client.log());
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    });
}

#[test]
fn two_servers_need_two_state_directories() {
    in_namespace("two_servers_need_two_state_directories", || {
        let hosts = Hosts::new(PROGRAM);
        let (_server, _) = hosts.server("server");
        let second = hosts.near(&["server", "--state-dir", &hosts.state("server")]);
        assert_eq!(code(&second), 1, "{}", stderr(&second));
        assert!(stderr(&second).contains("a server already runs here"), "{}", stderr(&second));
        assert!(stderr(&second).contains("--state-dir"), "{}", stderr(&second));
    });
}

#[test]
fn a_server_that_cannot_start_says_why() {
    in_namespace("a_server_that_cannot_start_says_why", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.path().join("bad.cfg");
        let bad = "[srv_vpn]\nenabled=true\nnetwork_address=10.0.0.0\nnetwork_mask=255.0.255.0\nnet=backbone\n";
        fs::write(&config, bad).unwrap();
        let arguments = ["server", "--config", config.to_str().unwrap(), "--state-dir", &hosts.state("server")];
        let output = hosts.near(&arguments);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        for part in ["network_mask", "255.0.255.0", "cellframe-vpn: the server cannot start"] {
            assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
        }
        assert_eq!(stdout(&output), "");

        let address = std::net::TcpListener::bind((SERVER, 8079)).unwrap();
        let output = hosts.near(&["server", "--state-dir", &hosts.state("server")]);
        drop(address);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains("8079"), "{}", stderr(&output));
    });
}
