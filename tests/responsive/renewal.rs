//! A long transfer goes on while bbr would stop it, to measure the path.

use std::thread;
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use testkit::sockets::{allows_congestion, window_gains_of_bbr};

use crate::alone;
use crate::site::{PORT, Site, USABLE, Way, line};
use crate::traffic::Bulk;

const RATE: u64 = 20_000_000;
/// Without a renewal bbr stops every ten seconds.
const TIME: Duration = Duration::from_secs(22);
/// A stop takes 240 ms on this path.
const LOOK: Duration = Duration::from_millis(20);

#[test]
fn bbr_does_not_stop_a_long_upload() {
    alone("renewal::bbr_does_not_stop_a_long_upload", || {
        if !allows_congestion("bbr") {
            return println!("this host lets no process choose bbr");
        }
        let site = Site::new(&[line(RATE, Duration::from_millis(20))]);
        let _server = site.start_server("");
        site.start_client_here("");
        let address = app::client_lease().unwrap().addr;
        let bulk = Bulk::start(&Way::Up.ends(&site, (0, address)), 1);
        let stands_still = || {
            thread::sleep(LOOK);
            let gains = window_gains_of_bbr((Site::server_for(0), PORT).into());
            assert_eq!(gains.len(), 1, "{gains:?}");
            gains[0] == 256
        };
        let looks = TIME.as_millis() / LOOK.as_millis();
        let (stood_still, rates) = bulk.during(|| (0..looks).filter(|_| stands_still()).count());
        println!("{stood_still} looks of {looks}, {:.1} Mbit/s", rates[0] / 1e6);
        assert_eq!(stood_still, 0, "of {looks} looks");
        assert!(rates[0] > 0.8 * RATE as f64 * USABLE, "{:.1} Mbit/s of {}", rates[0] / 1e6, RATE / 1_000_000);
        site.client(0).run(app::client_stop);
    });
}
