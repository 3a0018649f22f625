//! Beside a transfer that fills the line, a small flow waits for little more than the path.

use std::thread;
use std::time::Duration;

use testkit::tunnel::GATEWAY;

use crate::alone;
use crate::site::{LINE, Site, USABLE, Way, line};
use crate::traffic::{Bulk, pings, sparse};

const DELAY: Duration = Duration::from_millis(20);
/// The time after which slow start and its losses are over.
const WARM_UP: Duration = Duration::from_millis(1500);

#[test]
fn a_ping_beside_a_transfer_is_quick() {
    alone("latency::a_ping_beside_a_transfer_is_quick", || ping_beside_a_transfer("auto"));
}

#[test]
fn a_ping_beside_a_transfer_is_quick_with_the_hosts_reno() {
    alone("latency::a_ping_beside_a_transfer_is_quick_with_the_hosts_reno", || ping_beside_a_transfer("host"));
}

/// The same with a megabyte, first in first out, was 400 ms down and 1600 ms up.
fn ping_beside_a_transfer(congestion: &str) {
    let site = Site::new(&[line(LINE, DELAY)]);
    let congestion = format!("congestion={congestion}\n");
    let _server = site.start_server(&congestion);
    let client = site.start_client(0, &congestion);
    let idle = pings(site.client(0), GATEWAY, 10);
    for way in Way::BOTH {
        let bulk = Bulk::start(&way.ends(&site, (0, client.address)), 1);
        thread::sleep(WARM_UP);
        // A busy machine may disturb one measurement.
        let mut seen = Vec::new();
        let is_good = (0..3).any(|_| {
            let (loaded, rates) = bulk.during(|| pings(site.client(0), GATEWAY, 25));
            seen.push(format!("{loaded:.1} ms beside {:.1} Mbit/s", rates[0] / 1e6));
            loaded < idle + 40.0 && rates[0] > 0.85 * LINE as f64 * USABLE
        });
        println!("{way:?}: {seen:?}, idle {idle:.1} ms");
        assert!(is_good, "{way:?}: {seen:?}, idle {idle:.1} ms on a line of {LINE}");
    }
}

#[test]
fn a_sparse_flow_beside_eight_transfers_is_quick() {
    alone("latency::a_sparse_flow_beside_eight_transfers_is_quick", || sparse_beside_eight("auto", 20.0));
}

#[test]
fn a_sparse_flow_beside_eight_transfers_is_quick_with_the_hosts_reno() {
    let name = "latency::a_sparse_flow_beside_eight_transfers_is_quick_with_the_hosts_reno";
    alone(name, || sparse_beside_eight("host", 45.0));
}

/// A flow of 12 datagrams a second, as of a game, does not wait behind the transfers in their queue. It may wait for so
/// many ms: reno outside fills the 40 ms of the path's buffer again and again.
fn sparse_beside_eight(congestion: &str, may_wait: f64) {
    let site = Site::new(&[line(LINE, DELAY)]);
    let congestion = format!("congestion={congestion}\n");
    let _server = site.start_server(&congestion);
    let client = site.start_client(0, &congestion);
    for way in Way::BOTH {
        let ends = way.ends(&site, (0, client.address));
        let idle = sparse(&ends, 10, Duration::from_millis(50));
        let bulk = Bulk::start(&ends, 8);
        thread::sleep(WARM_UP);
        let (loaded, rates) = bulk.during(|| sparse(&ends, 36, Duration::from_millis(83)));
        let sum = rates.iter().sum::<f64>();
        println!("{way:?}: {loaded:?} beside {:.1} Mbit/s, {idle:?}", sum / 1e6);
        assert!(loaded.median < idle.median + may_wait, "{way:?}: {loaded:?}, idle {idle:?}");
        assert!(loaded.answered > 0.9, "{way:?}: {loaded:?}");
        assert!(sum > 0.85 * LINE as f64 * USABLE, "{way:?}: {:.1} Mbit/s of {LINE}", sum / 1e6);
    }
}

#[test]
fn eight_transfers_share_the_line_fairly() {
    alone("latency::eight_transfers_share_the_line_fairly", || {
        let site = Site::new(&[line(LINE, DELAY)]);
        let _server = site.start_server("");
        let client = site.start_client(0, "");
        for way in Way::BOTH {
            let bulk = Bulk::start(&way.ends(&site, (0, client.address)), 8);
            thread::sleep(WARM_UP);
            let rates = bulk.rates(Duration::from_secs(3));
            // Jain's index: 1 for equal shares, 1/8 if one has all.
            let (sum, squares) = (rates.iter().sum::<f64>(), rates.iter().map(|rate| rate * rate).sum::<f64>());
            let index = sum * sum / (rates.len() as f64 * squares);
            println!("{way:?}: {index:.3}, {rates:.0?}");
            assert!(index > 0.8, "{way:?}: {index:.3}, {rates:.0?} bit/s");
        }
    });
}
