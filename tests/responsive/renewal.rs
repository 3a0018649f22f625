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
        let look = || {
            thread::sleep(LOOK);
            window_gains_of_bbr((Site::server_for(0), PORT).into())
        };
        let looks = (TIME.as_millis() / LOOK.as_millis()) as usize;
        let (gains, rates) = bulk.during(|| (0..looks).flat_map(|_| look()).collect::<Vec<_>>());
        let stood_still = gains.iter().filter(|gain| **gain == 256).count();
        println!("{stood_still} of {} looks, {:.1} Mbit/s", gains.len(), rates[0] / 1e6);
        // For an instant of its renewal the stream has no bbr.
        assert!((looks - 5..=looks).contains(&gains.len()), "bbr was seen {} times in {looks} looks", gains.len());
        assert_eq!(stood_still, 0, "of {looks} looks");
        assert!(rates[0] > 0.8 * RATE as f64 * USABLE, "{:.1} Mbit/s of {}", rates[0] / 1e6, RATE / 1_000_000);
        site.client(0).run(app::client_stop);
    });
}
