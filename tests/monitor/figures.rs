//! The figures against what has happened.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::http::get;
use testkit::netns::in_namespace;
use testkit::program::stdout;
use testkit::sockets::{echo, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::exposition::Exposition;
use crate::{PROGRAM, at, scrape, token};

const PACKETS: &str = "cellframe_vpn_packets_total";
const BYTES: &str = "cellframe_vpn_traffic_bytes_total";

fn both(figures: &Exposition, name: &str) -> [f64; 2] {
    ["up", "down"].map(|way| figures.value(name, &[("direction", way)]))
}

fn drops(figures: &Exposition, cause: &str, way: &str) -> f64 {
    figures.value("cellframe_vpn_drops_total", &[("cause", cause), ("direction", way)])
}

fn served(figures: &Exposition) -> f64 {
    ["free", "paid", "grace"].map(|kind| figures.value("cellframe_vpn_sessions", &[("service", kind)])).iter().sum()
}

fn addresses(figures: &Exposition, state: &str) -> f64 {
    figures.value("cellframe_vpn_addresses", &[("state", state)])
}

fn status(token: &str) -> Value {
    let reply = get(at(), "/status.json", &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn figures_tell_what_has_happened() {
    in_namespace("figures::figures_tell_what_has_happened", || {
        let hosts = Hosts::new(PROGRAM);
        let (_server, _) = hosts.server("server");
        let token = token(&hosts, "server");
        let before = scrape();
        assert_eq!((both(&before, PACKETS), served(&before)), ([0.0; 2], 0.0));
        let uptime = before.value("cellframe_vpn_start_time_seconds", &[]);
        assert!(uptime > 1.7e9, "{uptime}");
        assert!(before.value("process_resident_memory_bytes", &[]) > 1e6);

        let client = Client::connect(&hosts, 0, "client", &[]);
        eventually("the session is counted", || served(&scrape()) == 1.0 && addresses(&scrape(), "leased") == 1.0);
        let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), client.address));
        let quiet = scrape();
        for _ in 0..100 {
            echo(&near, &far, &[7; 972]);
        }
        let figures = scrape_after_a_moment();
        let grown = |name| {
            let (now, then) = (both(&figures, name), both(&quiet, name));
            [now[0] - then[0], now[1] - then[1]]
        };
        // 972 bytes of UDP are 1000 of IP. The hosts may have said something of their own.
        for [packets, bytes] in [0, 1].map(|way| [grown(PACKETS)[way], grown(BYTES)[way]]) {
            assert!((100.0..150.0).contains(&packets), "{packets}");
            assert!((100_000.0..110_000.0).contains(&bytes), "{bytes}");
        }
        tells_the_same_as_stat(&hosts, &token);
        counts_the_begin(&figures);

        // A packet from another source than the lease, from the client's host.
        let spoofed = "10.98.0.77";
        let device = client.device.clone();
        hosts.at(0).run(move || run_ip(&["address", "add", &format!("{spoofed}/32"), "dev", &device]));
        let liar = udp_at(hosts.at(0), spoofed.parse().unwrap());
        (0..5).for_each(|_| drop(liar.send_to(&[1; 100], near.local_addr().unwrap())));
        eventually("the spoofed packets are counted", || drops(&scrape(), "spoofed_source", "up") >= 5.0);
        assert_eq!(drops(&scrape(), "spoofed_source", "down"), 0.0);
        let said = status(&token);
        let told = said["drops"].as_array().unwrap().iter().find(|drop| drop["cause"] == "spoofed_source").unwrap();
        assert!(told["up"].as_u64().unwrap() >= 5 && told["advice"].is_string(), "{told:#}");

        let last = scrape();
        drop(client);
        eventually("the session is gone", || served(&scrape()) == 0.0 && addresses(&scrape(), "kept") == 1.0);
        has_not_fallen(&last, &scrape());
        assert_eq!(addresses(&scrape(), "leased"), 0.0);

        let again = Client::connect(&hosts, 0, "client", &[]);
        let resumed = scrape_after_a_moment().value("cellframe_vpn_leases_total", &[("origin", "resumed")]);
        assert_eq!(resumed, 1.0);
        drop(again);
    });
}

/// An answer may be as old as 200 ms.
fn scrape_after_a_moment() -> Exposition {
    std::thread::sleep(Duration::from_millis(250));
    scrape()
}

fn run_ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

fn has_not_fallen(before: &Exposition, after: &Exposition) {
    let after = after.growing();
    for (sample, value) in before.growing() {
        assert!(after[&sample] >= value, "{sample:?} fell from {value} to {}", after[&sample]);
    }
}

/// Three readers of the same numbers: they agree when nothing moves.
fn tells_the_same_as_stat(hosts: &Hosts, token: &str) {
    eventually("/metrics, /status.json and stat agree", || {
        let output = hosts.near(&["stat", "--json", "--state-dir", &hosts.state("server")]);
        let stat: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let (figures, said) = (scrape_after_a_moment(), status(token));
        let packets = both(&figures, PACKETS);
        [("sent", "up", packets[0]), ("received", "down", packets[1])].iter().all(|(of_stat, way, packets)| {
            let counts = [&stat["total"][of_stat]["packets"], &said["traffic"][way]["packets"]];
            counts.iter().all(|count| count.as_f64() == Some(*packets))
        })
    });
    eventually("the round trip and the rates are measured", || {
        let said = status(token);
        let session = &said["sessions"]["list"][0];
        assert_eq!(said["sessions"]["list"].as_array().unwrap().len(), 1, "{said:#}");
        assert_eq!((&session["service"], &session["address"]), (&"free".into(), &"10.98.0.2".into()), "{said:#}");
        assert_eq!(said["leases"]["leased"], 1, "{said:#}");
        session["round_trip_ms"].as_f64().is_some_and(|time| time < 1000.0) && said["workers"][0]["lag_ms"].is_number()
    });
}

fn counts_the_begin(figures: &Exposition) {
    for step in ["service", "lease"] {
        let labels = [("step", step)];
        assert_eq!(figures.value("cellframe_vpn_handshake_seconds_count", &labels), 1.0);
        let sum = figures.value("cellframe_vpn_handshake_seconds_sum", &labels);
        assert!(sum > 0.0 && sum < 10.0, "{step}: {sum} s");
    }
    assert_eq!(figures.value("cellframe_vpn_sessions_opened_total", &[]), 1.0);
    assert_eq!(figures.value("cellframe_vpn_leases_total", &[("origin", "new")]), 1.0);
}

#[test]
fn a_limited_session_shows_its_delays_and_no_counter_falls_under_traffic() {
    in_namespace("figures::a_limited_session_shows_its_delays_and_no_counter_falls_under_traffic", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}limit_down=4000\nlimit_up=4000\n"));
        let (_server, _) = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &[]);
        let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), client.address));
        let (to_far, to_near) = (far.local_addr().unwrap(), near.local_addr().unwrap());
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Some 10 Mbit/s each way: more than the limit.
                while !ends.load(Ordering::Relaxed) {
                    let _ = (near.send_to(&[1; 1200], to_far), far.send_to(&[2; 1200], to_near));
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let mut before = scrape();
            for _ in 0..8 {
                let now = scrape_after_a_moment();
                has_not_fallen(&before, &now);
                before = now;
            }
            ends.store(true, Ordering::Relaxed);
        });
        let figures = scrape_after_a_moment();
        for way in ["up", "down"] {
            let labels = [("direction", way)];
            let waited = figures.value("cellframe_vpn_queue_delay_seconds_count", &labels);
            let sum = figures.value("cellframe_vpn_queue_delay_seconds_sum", &labels);
            assert!(waited > 50.0 && sum > 0.0, "{way}: {waited} packets waited {sum} s");
            let lost: f64 = ["codel", "queue_overflow"].map(|cause| drops(&figures, cause, way)).iter().sum();
            assert!(lost > 0.0, "{way}: nothing of what exceeds the limit was dropped");
        }
    });
}
