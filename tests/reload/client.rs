//! A client tells the service manager how it is, and takes other settings for its next connection.

use std::net::Ipv4Addr;

use host::netlink::Netlink;
use rustix::process::Signal;
use serde_json::Value;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::manager::Manager;
use testkit::netns::in_namespace;
use testkit::program::{Running, code, send, stderr, stdout};
use testkit::tunnel::Client;

use crate::{PROGRAM, keys};

/// Whether the client's host has a route to this network.
fn routes(hosts: &Hosts, network: Ipv4Addr) -> bool {
    let routes = hosts.at(0).run(|| Netlink::open().unwrap().routes().unwrap());
    routes.iter().any(|route| route.destination == network)
}

#[test]
fn other_settings_are_for_the_next_connection() {
    in_namespace("client::other_settings_are_for_the_next_connection", || {
        let hosts = Hosts::new(PROGRAM);
        let manager = Manager::new(hosts.path());
        let (mut server, pin) = hosts.server("server");
        let config = hosts.config("[vpn_client]\nroutes=[10.71.0.0/16]\n");
        let mut command = PROGRAM.command(hosts.path());
        command.args(["client", "--connect", "10.55.0.1", "--dns", "off", "--config", &config, "--pin", &pin]);
        command.args(["--state-dir", &hosts.state("client")]);
        manager.manage(&mut command, None);
        let start = |mut command: std::process::Command| hosts.at(0).run(move || command.spawn().unwrap());
        let running = Running::start(hosts.path(), "client", command, start);
        let mut client = Client::connected(running, 1);
        manager.wait_for("READY=1", 1);
        let heard = manager.heard();
        assert!(heard[0].starts_with("EXTEND_TIMEOUT_USEC=") && heard[0].contains("STATUS=connecting to 10.55.0.1"));
        assert!(heard[1].contains("STATUS=connected to 10.55.0.1:8079: address 10.98.0.2, device tun"), "{heard:?}");
        let [before, after] = [Ipv4Addr::new(10, 71, 0, 0), Ipv4Addr::new(10, 72, 0, 0)];
        assert!(routes(&hosts, before) && !routes(&hosts, after));

        hosts.config("[vpn_client]\nroutes=[10.72.0.0/16]\nkeep_alive=4\nkill_switch=true\n[srv_vpn]\nmtu=1400\n");
        let output =
            hosts.near(&["reload", "client", "--json", "--config", &config, "--state-dir", &hosts.state("client")]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        // `dns` is an option of the command line, a server's key is nothing to a client.
        assert_eq!(keys(&report, "applied"), ["vpn_client/keep_alive", "vpn_client/routes"], "{report}");
        assert_eq!(keys(&report, "needs_restart"), ["vpn_client/kill_switch"]);
        assert!(routes(&hosts, before) && !routes(&hosts, after), "the connection stays as it is");
        assert_eq!(manager.count("RELOADING=1"), 1);

        hosts.config("[vpn_client]\nroutes=[10.73.0.1/16]\n");
        send(&client.running.child, Signal::HUP);
        manager.wait_for_status("the last reload failed: ");
        client.running.wait_for_log("[vpn_client] routes = 10.73.0.1/16: expected");

        send(&server.child, Signal::TERM);
        server.exit_code();
        let (_server, _) = hosts.server("server");
        client.running.wait_until("connected again", |client| client.stdout().lines().count() == 2);
        eventually("the routes of the new settings", || routes(&hosts, after) && !routes(&hosts, before));
        send(&client.running.child, Signal::TERM);
        assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
        assert!(manager.heard().pop().unwrap().starts_with("STOPPING=1"), "{:?}", manager.heard());
    });
}
