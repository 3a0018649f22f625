//! Rates of sessions: `[srv_vpn] limit_down` and `limit_up`. `tests/billing/limits.rs` has those of orders.

use std::fs;
use std::time::{Duration, Instant};

use testkit::flood::{Flow, Seen, dropped, watch};
use testkit::hosts::{Host, Hosts};
use testkit::median;
use testkit::netns::in_namespace;
use testkit::program::Running;
use testkit::sockets::{echo, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// The limits of most tests, bytes per second: 4 Mbit/s down and 2 Mbit/s up.
const DOWN: f64 = 500_000.0;
const UP: f64 = 250_000.0;
const LIMITS: &str = "limit_down=4000\nlimit_up=2000\n";
/// What a flow needs to find its rate.
const SETTLED: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(5);

fn server(hosts: &Hosts, keys: &str) -> (Running, String) {
    hosts.server_with("server", &["--config", &hosts.config(&format!("{NETWORK}{keys}"))])
}

/// The part of a limit that arrives as the payload of full TCP packets.
fn payload(rate: f64, mtu: usize) -> f64 {
    rate * (mtu - 52) as f64 / mtu as f64
}

fn steady(flows: &[Flow], server: &Running) -> Seen {
    watch(flows, server.child.id(), SETTLED);
    watch(flows, server.child.id(), MEASURED)
}

/// The median time of 41 small datagrams there and back, in milliseconds.
fn round_trip(host: &Host, client: &Client) -> f64 {
    let (near, far) = (udp(GATEWAY), udp_at(host, client.address));
    let times = (0..41).map(|number| {
        std::thread::sleep(Duration::from_millis(30));
        let begin = Instant::now();
        echo(&near, &far, &[number; 64]);
        begin.elapsed().as_secs_f64() * 1e3
    });
    median(times.collect()).unwrap()
}

/// TCP hands over at once what has waited behind a lost segment: 130 ms of the rate beside the 5 s were seen.
#[track_caller]
fn is_near(name: &str, rate: f64, limit: f64) {
    assert!((0.9..=1.05).contains(&(rate / limit)), "{name}: {rate:.0} bytes/s, the limit lets {limit:.0} pass");
}

#[test]
fn a_limited_session_has_its_rate_each_way_and_stays_responsive() {
    in_namespace("limits::a_limited_session_has_its_rate_each_way_and_stays_responsive", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, pin) = server(&hosts, LIMITS);
        let (host, client) = (hosts.at(0), Client::connect(&hosts, 0, "client", &["--pin", &pin]));
        let idle = round_trip(host, &client);
        for (name, flow, limit) in [("down", Flow::bulk(host), DOWN), ("up", Flow::bulk_up(host), UP)] {
            let flows = [flow];
            let seen = steady(&flows, &server);
            let loaded = round_trip(host, &client);
            println!("{name}: {:.0} bytes/s, {idle:.1} ms idle, {loaded:.1} ms beside it", seen.rates[0]);
            is_near(name, seen.rates[0], payload(limit, client.mtu));
            assert!(loaded < idle + 20.0, "{name}: {idle:.1} ms idle, {loaded:.1} ms beside a flow");
        }
    });
}

#[test]
fn two_limited_sessions_have_their_rates_at_the_same_time() {
    in_namespace("limits::two_limited_sessions_have_their_rates_at_the_same_time", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let (server, pin) = server(&hosts, LIMITS);
        let clients =
            [0, 1].map(|number| Client::connect(&hosts, number, &format!("client{number}"), &["--pin", &pin]));
        let mtu = clients[0].mtu;
        for (name, flow, limit) in
            [("down", Flow::bulk as fn(&Host) -> Flow, DOWN), ("up", Flow::bulk_up as fn(&Host) -> Flow, UP)]
        {
            let seen = steady(&[0, 1].map(|number| flow(hosts.at(number))), &server);
            seen.rates.iter().for_each(|rate| is_near(name, *rate, payload(limit, mtu)));
        }
    });
}

#[test]
fn a_flood_up_is_dropped_and_leaves_room_for_other_flows() {
    in_namespace("limits::a_flood_up_is_dropped_and_leaves_room_for_other_flows", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, pin) = server(&hosts, &format!("{LIMITS}session_queue=131072\n"));
        let (host, client) = (hosts.at(0), Client::connect(&hosts, 0, "client", &["--pin", &pin]));
        let idle = round_trip(host, &client);
        let lost = || {
            let stat = hosts.stat("server");
            dropped(&stat, "queue_overflow") + dropped(&stat, "codel")
        };
        let before = watch(&[], server.child.id(), Duration::from_millis(100)).resident;
        assert_eq!(lost(), 0);
        let flows = [Flow::paced_up(host, client.address, 10 * UP as u64)];
        let seen = steady(&flows, &server);
        let other = round_trip(host, &client);
        let lost = lost();
        println!("{:.0} bytes/s, {lost} dropped, {idle:.1} ms idle, {other:.1} ms beside it", seen.rates[0]);
        is_near("the flood", seen.rates[0], UP * 1200.0 / 1228.0);
        // 18,000 datagrams in 8 s and more, a tenth of which passes.
        assert!(lost > 10_000, "{lost} were dropped");
        assert!(other < idle + 20.0, "{idle:.1} ms idle, {other:.1} ms beside the flood");
        let growth = seen.resident.saturating_sub(before);
        assert!(growth < 2 << 20, "{growth} bytes");
    });
}

/// A timer of 2 ms would wake its worker up 500 times a second.
#[test]
fn an_idle_limited_session_has_no_timer() {
    in_namespace("limits::an_idle_limited_session_has_no_timer", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, pin) = server(&hosts, LIMITS);
        let (host, client) = (hosts.at(0), Client::connect(&hosts, 0, "client", &["--pin", &pin]));
        let wakes = |time: Duration| {
            let before = switches(server.child.id());
            std::thread::sleep(time);
            (switches(server.child.id()) - before) as f64 / time.as_secs_f64()
        };
        let second = Duration::from_secs(1);
        round_trip(host, &client);
        let idle = wakes(2 * second);
        let flow = Flow::paced_up(host, client.address, 2 * UP as u64);
        let busy = wakes(second);
        drop(flow);
        // The queue holds what passes in a second.
        std::thread::sleep(3 * second);
        let again = wakes(2 * second);
        println!("{idle:.0} wake-ups a second idle, {busy:.0} limited, {again:.0} afterwards");
        assert!(idle < 150.0 && busy > 300.0 && again < 150.0, "{idle}, {busy}, {again}");
    });
}

/// How often the threads of a process have begun to wait.
fn switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).map(of).sum()
}
