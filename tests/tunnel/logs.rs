//! What `cellframe-vpn server` logs of its clients.

use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::send;
use testkit::tunnel::{Client, NETWORK};

use crate::PROGRAM;

/// The lines of a server with these keys, from its start to the end of a client's session.
fn lines(keys: &str) -> Vec<String> {
    let hosts = Hosts::new(PROGRAM);
    let config = hosts.config(&format!("{NETWORK}{keys}"));
    let (mut server, _) = hosts.server_with("server", &["--config", &config]);
    let client = Client::connect(&hosts, 0, "client", &[]);
    drop(client);
    server.wait_until("the end of the session", |server| server.log().contains("session ended: "));
    server.log().lines().map(str::to_owned).collect()
}

fn those_with(lines: &[String], part: &str) -> Vec<String> {
    lines.iter().filter(|line| line.contains(part)).cloned().collect()
}

#[test]
fn a_session_is_logged_without_its_inner_address() {
    in_namespace("logs::a_session_is_logged_without_its_inner_address", || {
        let lines = lines("");
        let device = those_with(&lines, "device up: tun0 with 10.98.0.1/255.255.255.0, MTU ");
        assert!(device.len() == 1 && device[0].contains(" INFO "), "{lines:#?}");
        for event in ["service starts: client ", "address leased: client ", "session ended: client "] {
            let of_event = those_with(&lines, event);
            assert!(of_event.len() == 1 && of_event[0].contains(" at 10.55.0.2:"), "{event}: {lines:#?}");
        }
        assert_eq!(those_with(&lines, "10.98.0.2"), [""; 0]);
        assert_eq!(those_with(&lines, " DEBUG "), [""; 0]);
    });
}

#[test]
fn the_inner_address_is_logged_on_request() {
    in_namespace("logs::the_inner_address_is_logged_on_request", || {
        let lines = lines("log_addresses=true\n");
        for event in ["address leased: client ", "session ended: client "] {
            let of_event = those_with(&lines, event);
            assert!(of_event.len() == 1 && of_event[0].contains(", address 10.98.0.2, "), "{event}: {lines:#?}");
        }
    });
}

#[test]
fn a_session_that_the_server_ends_is_logged_with_the_reason() {
    in_namespace("logs::a_session_that_the_server_ends_is_logged_with_the_reason", || {
        let hosts = Hosts::new(PROGRAM);
        let (mut server, _) = hosts.server("server");
        let _client = Client::connect(&hosts, 0, "client", &[]);
        send(&server.child, Signal::TERM);
        assert_eq!(server.exit_code(), Some(0));
        let lines: Vec<_> = server.log().lines().map(str::to_owned).collect();
        let ended = those_with(&lines, "session ended: ");
        assert!(ended.len() == 1 && ended[0].contains(", the service stops, 0 bytes up, 0 bytes down, "), "{lines:#?}");
    });
}

/// The level of the log stays INFO.
#[test]
fn debug_more_logs_the_services_debug_lines() {
    in_namespace("logs::debug_more_logs_the_services_debug_lines", || {
        let lines = lines("debug_more=true\n");
        let debug = those_with(&lines, " DEBUG ");
        assert!(debug.iter().any(|line| line.ends_with(" has address 10.98.0.2")), "{lines:#?}");
        let foreign = debug.iter().filter(|line| !line.contains(" dap_chain_net_srv_vpn::server"));
        assert_eq!(foreign.collect::<Vec<_>>(), [""; 0]);
    });
}

/// What stays as it is from one attempt to the next is said once.
#[test]
fn a_client_that_connects_again_does_not_repeat_itself() {
    in_namespace("logs::a_client_that_connects_again_does_not_repeat_itself", || {
        let hosts = Hosts::new(PROGRAM);
        // Nobody answers at the gateway, and the lease names no name server.
        let config = hosts.config(&format!("{NETWORK}dns=[]\n"));
        let (mut server, _) = hosts.server_with("server", &["--config", &config]);
        let mut client = Client::connect(&hosts, 0, "client", &["--config", &config]).running;
        for times in [2, 3] {
            send(&server.child, Signal::KILL);
            client.wait_until("lost", |client| client.log().matches("was lost").count() == times - 1);
            (server, _) = hosts.server_with("server", &["--config", &config]);
            client = Client::connected(client, times).running;
        }
        let lines: Vec<_> = client.log().lines().map(str::to_owned).collect();
        assert!(those_with(&lines, "connecting to ").len() >= 3, "{lines:#?}");
        for once in ["the host's name servers stay", "streams send with the congestion control"] {
            assert_eq!(those_with(&lines, once).len(), 1, "{once}: {lines:#?}");
        }
    });
}
