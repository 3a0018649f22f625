//! Clients of one server do not wait for each other's lines.

use std::thread;
use std::time::Duration;

use testkit::median;

use crate::alone;
use crate::site::{Site, Way, line};
use crate::traffic::Bulk;

const SLOW: u64 = 5_000_000;

/// The other client's line is slow enough for a debug build on a busy machine.
#[test]
fn a_client_keeps_its_rate_beside_one_on_a_slow_line() {
    alone("neighbours::a_client_keeps_its_rate_beside_one_on_a_slow_line", || {
        let slow = line(SLOW, Duration::from_millis(20));
        let fast = line(50_000_000, Duration::from_millis(5));
        let site = Site::new(&[slow, fast]);
        // One worker, so that both are on the same one.
        let _server = site.start_server("[resources]\nthreads_cnt=1\n");
        let clients = [0, 1].map(|number| site.start_client(number, ""));
        let bulk = |number: usize| Bulk::start(&Way::Down.ends(&site, (number, clients[number].address)), 1);
        let fast = bulk(1);
        thread::sleep(Duration::from_secs(1));
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        // In turns, so that a machine that becomes slower meets both.
        for _ in 0..2 {
            alone.extend(fast.rates(Duration::from_secs(1)));
            let other = bulk(0);
            thread::sleep(Duration::from_millis(2000));
            let (rates, slow) = other.during(|| fast.rates(Duration::from_secs(1)));
            assert!(slow[0] > 0.6 * SLOW as f64, "the slow line is not full: {:.1} Mbit/s", slow[0] / 1e6);
            beside.extend(rates);
        }
        let [alone, beside] = [alone, beside].map(|rates| median(rates).unwrap());
        println!("alone {:.1} Mbit/s, beside the other {:.1}", alone / 1e6, beside / 1e6);
        assert!(beside > 0.9 * alone, "alone {:.1} Mbit/s, beside the other {:.1}", alone / 1e6, beside / 1e6);
    });
}
