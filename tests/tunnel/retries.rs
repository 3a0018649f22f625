//! Which failures `--retry` outlasts, and how `stop` ends a client in each state.

use std::net::TcpListener;

use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Running, code, send, stderr};
use testkit::sockets::{echo, udp, udp_at};
use testkit::tun_devices;
use testkit::tunnel::{Client, GATEWAY};

use crate::PROGRAM;
use crate::leases::NETWORK_FOR_ONE;

#[test]
fn a_full_server_is_asked_again_until_it_has_room() {
    in_namespace("retries::a_full_server_is_asked_again_until_it_has_room", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(NETWORK_FOR_ONE);
        let _server = hosts.server_with("server", &["--config", &config]);
        let mut first = Client::connect(&hosts, 0, "first", &[]);
        let mut second = hosts.client_at(1, "second", &["--retry"]);
        second.wait_for_log("refused: it has no free address");
        second.wait_for_log("next attempt in about 2 s");
        send(&first.running.child, Signal::TERM);
        assert_eq!(first.running.exit_code(), Some(0), "{}", first.running.log());
        let second = Client::connected(second, 1);
        echo(&udp_at(hosts.at(1), second.address), &udp(GATEWAY), b"at last");
    });
}

/// A client on the first client's host is stopped as soon as its log has `reached`; it ends with 0 and leaves nothing.
fn stop_when(hosts: &Hosts, mut client: Running, reached: &str) {
    client.wait_for_log(reached);
    let stop = hosts.near(&["stop", "--state-dir", &hosts.state("client")]);
    assert_eq!(code(&stop), 0, "{reached}: {}", stderr(&stop));
    assert_eq!(client.exit_code(), Some(0), "{reached}: {}", client.log());
    assert!(hosts.at(0).run(tun_devices).is_empty(), "{reached}");
}

#[test]
fn stop_ends_a_client_with_0_in_any_state() {
    in_namespace("retries::stop_ends_a_client_with_0_in_any_state", || {
        let hosts = Hosts::new(PROGRAM);
        for retry in [&[][..], &["--retry"]] {
            let start = |target: &str| {
                let arguments = [&["client", "--connect", target], retry].concat();
                hosts.start_far("client", &arguments)
            };
            // Nobody has this address: TCP waits.
            stop_when(&hosts, start("10.55.0.99"), "connecting to 10.55.0.99:8079");
            // TCP is accepted, and TLS waits.
            let silent = TcpListener::bind("10.55.0.1:8079").unwrap();
            let client = start("10.55.0.1");
            let _accepted = silent.accept().unwrap();
            stop_when(&hosts, client, "connecting to 10.55.0.1:8079");
            drop(silent);
        }
        // The server is stopped, so that the start waits for it at whatever step it has reached.
        let (server, _) = hosts.server("server");
        for milliseconds in [0, 5, 10, 20, 40, 80, 160] {
            let mut client = hosts.client(&["--retry"]);
            client.wait_for_log("connecting to");
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            send(&server.child, Signal::STOP);
            stop_when(&hosts, client, "connecting to");
            send(&server.child, Signal::CONT);
        }
        // The tunnel is up.
        let mut client = hosts.client(&["--retry"]);
        client.wait_for("connected to");
        stop_when(&hosts, client, "connecting to");
    });
}
