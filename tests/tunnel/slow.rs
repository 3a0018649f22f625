//! A client that stops reading loses only its own packets.

use std::time::Duration;

use rustix::process::Signal;
use testkit::eventually;
use testkit::flood::{Flow, dropped, watch};
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::send;
use testkit::tunnel::Client;

use crate::PROGRAM;

/// The rate of each client in bytes per second: far below the capacity of a loaded machine with two processors.
const RATE: u64 = 2_500_000;
/// The default of `[srv_vpn] session_queue`, and of the stream's own limit above it.
const SESSION_QUEUE: u64 = 1024 * 1024;

/// The bounds are generous: `cargo bench --bench sessions` measures, this test only limits.
#[test]
fn a_client_that_stops_reading_costs_its_queue() {
    in_namespace("slow::a_client_that_stops_reading_costs_its_queue", || {
        let hosts = Hosts::with_clients(PROGRAM, 3);
        let (server, pin) = hosts.server("server");
        let pin = ["--pin", &pin];
        let clients = [0, 1, 2].map(|number| Client::connect(&hosts, number, &format!("client{number}"), &pin));
        // Without a bound, the third client's unread packets would fill its queue many times over.
        let rates = [RATE, RATE, 4 * RATE];
        let flows = [0, 1, 2].map(|number| Flow::paced(hosts.at(number), clients[number].address, rates[number]));
        let server = server.child.id();
        hosts.stat("server");
        watch(&flows, server, Duration::from_millis(500));
        let before = watch(&flows, server, Duration::from_secs(1));
        send(&clients[2].running.child, Signal::STOP);
        let dropped = || dropped(&hosts.stat("server"), "queue_overflow");
        eventually("the third client's queue is full", || dropped() > 0);
        let after = watch(&flows, server, Duration::from_secs(2));
        let others = [0, 1].map(|number| after.rates[number] / before.rates[number]);
        assert!(others.iter().all(|kept| *kept > 0.6), "{:?}, then {:?}", before.rates, after.rates);
        let growth = after.resident.saturating_sub(before.resident);
        assert!(growth < 3 * SESSION_QUEUE, "{growth} bytes: {} MB were dropped", dropped() * 1_228 / 1_000_000);
        send(&clients[2].running.child, Signal::CONT);
        eventually("the third client gets packets again", || {
            watch(&flows, server, Duration::from_millis(200)).rates[2] > 0.0
        });
    });
}
