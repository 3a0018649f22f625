//! The client is killed at any moment of its start and its stop. What it leaves is undone by `repair`, or by the stop of
//! the next client: then links, addresses, routes, switches, name servers and packet filter are
//! what they were.

use std::fs;
use std::time::{Duration, Instant};

use host::netlink::Netlink;
use host::nft::Nft;
use rustix::process::Signal;
use testkit::Noise;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Running, code, send, stderr};
use testkit::tunnel::{Client, NETWORK};

use crate::dns;
use crate::ipv6::hosts;

/// Everything that outlives the process, and everything that the host takes away with the device.
const ARGUMENTS: [&str; 3] = ["--kill-switch", "--dns", "10.98.0.1,9.9.9.9"];
const STARTS_KILLED: u32 = 24;
const STOPS_KILLED: u32 = 12;

/// All of the client's host that the client may change, for people to compare.
fn state(hosts: &Hosts) -> Vec<String> {
    let network = hosts.at(0).run(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut lines = vec![
            format!("links {:?}", netlink.links().unwrap()),
            format!("addresses {:?}", netlink.addresses().unwrap()),
            format!("filter {:?}", Nft::open().unwrap().ruleset().unwrap()),
        ];
        lines.extend(netlink.routes().unwrap().iter().map(|route| format!("route {route:?}")));
        lines.extend(netlink.routes6().unwrap().iter().map(|route| format!("IPv6 route {route:?}")));
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"] {
            lines.push(format!("{switch} {:?}", fs::read_to_string(format!("/proc/sys/net/{switch}"))));
        }
        lines
    });
    [network, vec![format!("name servers {:?}", dns::state())]].concat()
}

/// Kills the client and waits until the kernel has taken its device away.
fn kill(hosts: &Hosts, mut client: Running) {
    send(&client.child, Signal::KILL);
    client.child.wait().unwrap();
    eventually("the device is gone", || hosts.at(0).run(testkit::tun_devices).is_empty());
}

/// Undoes what the killed client has left, by `repair` or by the stop of another client.
fn undo(hosts: &Hosts, by_repair: bool) {
    if by_repair {
        let repair = hosts.repair_at(0);
        assert_eq!(code(&repair), 0, "{}", stderr(&repair));
    } else {
        let mut next = Client::connect(hosts, 0, "client", &["--no-routes"]);
        send(&next.running.child, Signal::INT);
        assert_eq!(next.running.exit_code(), Some(0), "{}", next.running.log());
    }
}

#[test]
fn a_client_that_is_killed_at_any_moment_leaves_nothing_that_cannot_be_undone() {
    in_namespace("killed::a_client_that_is_killed_at_any_moment_leaves_nothing_that_cannot_be_undone", || {
        let hosts = hosts();
        let _server = hosts.server_with("server", &["--config", &hosts.config(NETWORK)]);
        fs::write(dns::FILE, "nameserver 192.0.2.53\noptions edns0\n").unwrap();
        let before = state(&hosts);
        let mut noise = Noise::new(14);

        let began = Instant::now();
        let mut client = Client::connect(&hosts, 0, "client", &ARGUMENTS);
        let up_after = began.elapsed();
        assert_ne!(state(&hosts), before, "the test sees what a client changes");
        let began = Instant::now();
        send(&client.running.child, Signal::INT);
        assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
        let down_after = began.elapsed();
        assert_eq!(state(&hosts), before);

        let mut left = 0;
        let mut moment = |most: Duration| Duration::from_micros(noise.below(most.as_micros() as usize) as u64);
        for number in 0..STARTS_KILLED + STOPS_KILLED {
            let is_stopping = number >= STARTS_KILLED;
            let client = if is_stopping {
                let client = Client::connect(&hosts, 0, "client", &ARGUMENTS).running;
                send(&client.child, Signal::INT);
                client
            } else {
                hosts.client(&ARGUMENTS)
            };
            let after = moment(if is_stopping { down_after } else { up_after });
            std::thread::sleep(after);
            let log = client.log();
            kill(&hosts, client);
            left += u32::from(state(&hosts) != before);
            undo(&hosts, number % 2 == 0);
            let phase = if is_stopping { "stop" } else { "start" };
            assert_eq!(state(&hosts), before, "killed {after:?} after the begin of its {phase}:\n{log}");
        }
        assert!(left >= 3, "only {left} of the killed clients have left anything: nothing was tried");
    });
}
