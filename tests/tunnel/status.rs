//! What a person sees of a running client: `status`, as text and as JSON, and the line on a terminal.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{code, send, wait};
use testkit::sockets::{echo, udp, udp_at};
use testkit::terminal::{Terminal, screen};
use testkit::tunnel::{Client, GATEWAY};
use testkit::{TEST_TIMEOUT, eventually};

use crate::PROGRAM;

fn status(hosts: &Hosts, arguments: &[&str]) -> String {
    let state = hosts.state("client");
    let output = hosts.near(&[&["status", "--state-dir", &state], arguments].concat());
    assert_eq!(code(&output), 0, "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(hosts: &Hosts) -> Value {
    serde_json::from_str(&status(hosts, &["--json"])).unwrap()
}

#[test]
fn status_tells_the_connection_and_what_leads_into_the_tunnel() {
    in_namespace("status::status_tells_the_connection_and_what_leads_into_the_tunnel", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, _) = hosts.server("server");
        let arguments =
            ["--route", "0.0.0.0/0", "--exclude-route", "192.0.2.0/24", "--dns", "gateway", "--kill-switch"];
        let client = Client::connect(&hosts, 0, "client", &arguments);
        echo(&udp(GATEWAY), &udp_at(hosts.at(0), client.address), &[7; 972]);
        eventually("the round trip is measured", || json(&hosts)["round_trip_ms"].is_number());
        let known = json(&hosts);
        for (key, expected) in [
            ("state", "started".into()),
            ("server", "10.55.0.1:8079".into()),
            ("address", client.address.to_string().into()),
            ("gateway", "10.98.0.1".into()),
            ("device", client.device.clone().into()),
            ("mtu", client.mtu.into()),
            ("ipv6", "blocked".into()),
            ("kill_switch", true.into()),
            ("marked", 0.into()),
            ("reason", Value::Null),
            ("reconnects", true.into()),
            ("dns", serde_json::json!({"servers": ["10.98.0.1"], "by": "resolv.conf"})),
            ("wallet", Value::Null),
        ] {
            assert_eq!(known[key], expected, "{key}: {known:#}");
        }
        assert!((0.0..1000.0).contains(&known["round_trip_ms"].as_f64().unwrap()), "{known:#}");
        assert!(known["connected_seconds"].as_u64().unwrap() < 20, "{known:#}");
        for direction in ["sent", "received"] {
            let [packets, bytes] = ["packets", "bytes"].map(|unit| known[direction][unit].as_u64().unwrap());
            assert!(packets >= 1 && bytes >= 1000, "{known:#}");
        }
        assert_eq!(known["routes"]["networks"], serde_json::json!(["0.0.0.0/0"]));
        assert!(known["routes"]["count"].as_u64().unwrap() > 8, "{known:#}");

        hosts.at(0).run(|| UdpSocket::bind("[::]:0").unwrap().send_to(b"x", "[2001:db8::1]:9").unwrap());
        eventually("the drop is counted", || json(&hosts)["dropped"]["not_ipv4"].as_u64() > Some(0));

        let said = status(&hosts, &[]);
        let count = &known["routes"]["count"];
        for line in [
            "VPN client started",
            "server:10.55.0.1:8079",
            &format!("routes:{count} beside the subnet for 0.0.0.0/0"),
            "ipv6:blocked",
            "kill switch:up",
        ] {
            assert!(said.lines().any(|one| one == line), "{line}: {said}");
        }
        assert!(said.contains("\nround trip:") && said.contains("\nconnected:"), "{said}");

        drop(server);
        eventually("the loss is seen", || client.running.log().contains("next attempt"));
        let lost = json(&hosts);
        assert_eq!((&lost["state"], &lost["reconnects"]), (&"lost connection".into(), &true.into()), "{lost:#}");
        eventually("an attempt has failed", || json(&hosts)["reason"].as_str().unwrap().starts_with("cannot connect"));
        assert!(status(&hosts, &[]).contains("\nreconnects:yes"));
        assert_eq!((&lost["server"], &lost["address"]), (&Value::Null, &Value::Null), "{lost:#}");
        assert_eq!((&lost["ipv6"], &lost["kill_switch"]), (&"blocked".into(), &true.into()), "{lost:#}");
    });
}

#[test]
fn status_tells_that_ipv6_is_left() {
    in_namespace("status::status_tells_that_ipv6_is_left", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        let _client = Client::connect(&hosts, 0, "client", &["--route", "198.18.0.0/15"]);
        let known = json(&hosts);
        assert_eq!((&known["ipv6"], &known["routes"]["count"]), (&"left".into(), &1.into()), "{known:#}");
        let said = status(&hosts, &[]);
        assert!(said.contains("\nroutes:1 beside the subnet for 198.18.0.0/15\nipv6:left"), "{said}");
    });
}

/// On a terminal one line changes in place. It never mixes with another, and is gone at the end.
#[test]
fn a_terminal_shows_one_line_that_changes() {
    in_namespace("status::a_terminal_shows_one_line_that_changes", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, _) = hosts.server("server");
        let (terminal, end) = Terminal::new();
        let mut command = PROGRAM.command(hosts.path());
        command.args(["client", "--connect", "10.55.0.1", "--retry", "--state-dir", &hosts.state("client")]);
        command.env("TERM", "xterm").stdout(end.try_clone().unwrap()).stderr(Stdio::from(end));
        let mut child = hosts.at(0).run(move || command.spawn().unwrap());
        let shows = |text: &str| screen(&terminal.written()).iter().any(|line| line.contains(text));
        eventually("the tunnel is shown", || shows("up 0:00:0") && shows("connected to 10.55.0.1:8079"));
        eventually("it changes", || shows("up 0:00:02") && shows("RTT"));
        let lines = screen(&terminal.written());
        let of_the_tunnel: Vec<_> = lines.iter().filter(|line| line.contains("up 0:00:")).collect();
        assert_eq!(of_the_tunnel.len(), 1, "{lines:#?}");
        assert!(of_the_tunnel[0].starts_with("up 0:00:02 10.55.0.1:8079 as 10.98.0.2: sent "), "{lines:#?}");

        drop(server);
        eventually("the loss is shown", || shows("next attempt in about") && shows("connection lost to 10.55.0.1"));
        send(&child, Signal::INT);
        assert_eq!(wait(&mut child, TEST_TIMEOUT), Some(0));
        let lines = screen(&terminal.finish());
        for line in &lines {
            let is_live =
                line.contains(": sent ") || ["connecting to", "connection lost"].iter().any(|it| line.starts_with(it));
            // A line of the log begins with the time.
            let is_torn = [" INFO ", " WARN ", " ERROR "].iter().any(|it| line.contains(it)) && !line.starts_with("20");
            assert!(!is_live && !is_torn, "{line:?} in {lines:#?}");
        }
        assert!(lines.iter().any(|line| line == "disconnecting"), "{lines:#?}");
    });
}

/// A program that reads the output, and a file, get no line that changes.
#[test]
fn without_a_terminal_there_are_plain_lines() {
    in_namespace("status::without_a_terminal_there_are_plain_lines", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &[]);
        assert_eq!(client.address, Ipv4Addr::new(10, 98, 0, 2));
        std::thread::sleep(Duration::from_millis(1500));
        let said = [client.running.stdout(), client.running.log()].concat();
        assert!(!said.contains(['\r', '\x1b']) && !said.contains("RTT"), "{said}");
    });
}
