//! Tests what `benches/path` decides without measuring: its paths, and what a tunnel must reach. A bench has no tests
//! of its own.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used)]

#[path = "../benches/path/judge.rs"]
mod judge;
#[path = "../benches/path/paths.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod paths;
#[path = "../benches/path/types.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod types;

use std::collections::HashSet;

use judge::{Limit, Target};
use paths::{Buffer, Case, Congestion, catalogue};
use testkit::path::link::Counts;
use types::{Bulk, Latency, Measured, Small, System};

/// The values of a path's properties, as text.
fn properties(case: &Case) -> [String; 6] {
    let Case { rate, delay, buffer, congestion, flows, loss, .. } = case;
    [
        format!("{rate} Mbit/s"),
        format!("{delay} ms"),
        format!("{buffer:?}"),
        format!("{congestion:?}"),
        format!("{flows} flows"),
        format!("{loss} %"),
    ]
}

#[test]
fn any_two_properties_of_paths_occur_together() {
    let cases: Vec<_> = catalogue().iter().map(properties).collect();
    let mut missing = Vec::new();
    for first in 0..6 {
        for second in first + 1..6 {
            let values = |property: usize| cases.iter().map(|case| &case[property]).collect::<HashSet<_>>();
            let together: HashSet<_> = cases.iter().map(|case| (&case[first], &case[second])).collect();
            for one in values(first) {
                for other in values(second) {
                    if !together.contains(&(one, other)) {
                        missing.push(format!("{one} and {other}"));
                    }
                }
            }
        }
    }
    assert_eq!(missing, ["500 Mbit/s and 80 ms"]);
}

#[test]
fn paths_have_names_of_their_own() {
    let names: Vec<String> = catalogue().iter().map(Case::name).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
    assert!(names.contains(&"20M-20ms-1bdp-reno".to_owned()), "{names:?}");
    assert!(names.contains(&"5M-20ms-1bdp-bbr-8f-loss0.1".to_owned()), "{names:?}");
}

#[test]
fn a_buffer_is_a_product_of_rate_and_round_trip_or_twenty_packets() {
    let buffer = |case: Case| case.buffer_bytes();
    // 20 Mbit/s times 40 ms.
    assert_eq!(buffer(case(20, 0.0)), 100_000);
    assert_eq!(buffer(Case { buffer: Buffer::Products(4), ..case(20, 0.0) }), 400_000);
    assert_eq!(buffer(Case { delay: 5, ..case(5, 0.0) }), 20 * 1538);
    assert_eq!(buffer(Case { buffer: Buffer::Bytes(5000), ..case(5, 0.0) }), 5000);
}

fn case(rate: u32, loss: f64) -> Case {
    Case { loss, with_host: true, ..Case::plain(rate, 20) }
}

/// A system's figures. `median` and `p95` are of its ping under load, in ms.
fn measured(mbit: f64, median: f64, p95: f64) -> Measured {
    let mut times = vec![median; 18];
    times.extend([p95; 2]);
    let ping = Latency::new(20, times);
    let bulk = Bulk { mbit, small: Small { sparse: ping.clone(), ping }, cpu: None };
    let idle = Latency::new(10, vec![40.0; 10]);
    let idle = Small { ping: idle.clone(), sparse: idle };
    Measured { idle, down: bulk.clone(), up: bulk, path: [Counts::default(); 2] }
}

/// The bounds and verdicts of the downward targets.
fn judged(case: &Case, results: &[(System, Measured)]) -> Vec<(String, Limit, bool)> {
    let down = |target: &Target| target.what.ends_with(" down");
    let targets = judge::path(case, results).into_iter().filter(down);
    targets.map(|target| (target.what.trim_end_matches(" down").to_owned(), target.limit, target.is_met())).collect()
}

fn expected(targets: &[(&str, Limit, bool)]) -> Vec<(String, Limit, bool)> {
    targets.iter().map(|(what, limit, met)| ((*what).to_owned(), *limit, *met)).collect()
}

#[test]
fn without_loss_a_ping_waits_little_longer_than_wireguards() {
    let results =
        |median, p95| [(System::WireguardGo, measured(20.0, 60.0, 80.0)), (System::Ours, measured(19.4, median, p95))];
    let met = [
        ("throughput", Limit::AtLeast(0.97 * 20.0), true),
        ("ping, median,", Limit::AtMost(80.0), true),
        ("ping, p95,", Limit::AtMost(130.0), true),
    ];
    assert_eq!(judged(&case(20, 0.0), &results(80.0, 130.0)), expected(&met));
    let missed = [met[0], (met[1].0, met[1].1, false), (met[2].0, met[2].1, false)];
    assert_eq!(judged(&case(20, 0.0), &results(80.1, 130.1)), expected(&missed));
    let slow = [met[0], (met[1].0, Limit::AtMost(90.0), true), (met[2].0, Limit::AtMost(145.0), true)];
    assert_eq!(judged(&case(5, 0.0), &results(90.0, 145.0)), expected(&slow));
}

#[test]
fn with_loss_a_ping_may_wait_for_a_retransmission() {
    let results = [(System::WireguardGo, measured(3.0, 40.0, 50.0)), (System::Ours, measured(14.9, 80.0, 150.1))];
    let loss_based = [
        ("throughput", Limit::AtLeast(15.0), false),
        ("ping, median,", Limit::AtMost(80.0), true),
        ("ping, p95,", Limit::AtMost(150.0), false),
    ];
    assert_eq!(judged(&case(20, 1.0), &results), expected(&loss_based));
    let bbr = Case { congestion: Congestion::Bbr, ..case(20, 1.0) };
    let model_based = [("throughput", Limit::AtLeast(0.97 * 3.0), true), loss_based[1], loss_based[2]];
    assert_eq!(judged(&bbr, &results), expected(&model_based));
}

#[test]
fn the_hosts_congestion_control_with_loss_is_beside_a_plain_flow() {
    let results = [(System::None, measured(4.0, 40.0, 40.0)), (System::OursHost, measured(3.5, 40.0, 40.0))];
    assert_eq!(judged(&case(20, 1.0), &results), expected(&[("throughput", Limit::AtLeast(0.9 * 4.0), false)]));
    assert_eq!(judged(&case(20, 0.0), &results), expected(&[]));
}

#[test]
fn a_sparse_flow_beside_eight_is_beside_the_idle_path() {
    let eight = Case { flows: 8, ..case(20, 0.0) };
    let results = |median| [(System::Ours, measured(20.0, median, 100.0))];
    assert_eq!(judged(&eight, &results(60.0)), expected(&[("sparse flow", Limit::AtMost(60.0), true)]));
    assert_eq!(judged(&eight, &results(61.0)), expected(&[("sparse flow", Limit::AtMost(60.0), false)]));
    assert_eq!(judged(&Case { loss: 0.1, ..eight }, &results(61.0)), expected(&[]));
}

#[test]
fn the_other_client_keeps_its_share() {
    assert!(judge::two_clients("two-clients", 100.0, 95.0).is_met());
    assert!(!judge::two_clients("two-clients", 100.0, 94.0).is_met());
}

#[test]
fn nothing_is_faster_than_its_path() {
    let plausible = |mbit, least| judge::plausible(&case(20, 0.0), &measured(mbit, 60.0, 80.0), least);
    assert_eq!(plausible(18.0, 0.25), Ok(()));
    assert_eq!(plausible(4.0, 0.0), Ok(()));
    assert_eq!(plausible(4.0, 0.25), Err("4.0 Mbit/s down over a link of 20 Mbit/s".to_owned()));
    assert_eq!(plausible(20.1, 0.0), Err("20.1 Mbit/s down over a link of 20 Mbit/s".to_owned()));
    let longer = Case { delay: 21, ..case(20, 0.0) };
    let impossible = judge::plausible(&longer, &measured(18.0, 60.0, 80.0), 0.0);
    assert_eq!(impossible, Err("a ping takes 40 ms over a path of 42 ms there and back".to_owned()));
}
