//! Listings while another process changes the tables that they read.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::netlink::{Netlink, PATIENCE};
use testkit::netns::in_namespace;

const ADDRESSES: u32 = 4000;
const FIRST: u32 = 0xac10_0001;

/// Changes of one kind, as fast as `pause` lets them be, until it is dropped.
struct Churn {
    ends: Arc<AtomicBool>,
    changes: Arc<AtomicU32>,
    began: Instant,
    thread: Option<thread::JoinHandle<()>>,
}

impl Churn {
    fn start(pause: Duration, mut change: impl FnMut(&mut Netlink, u32) + Send + 'static) -> Churn {
        let (ends, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (end, count) = (Arc::clone(&ends), Arc::clone(&changes));
        let thread = thread::spawn(move || {
            let mut netlink = Netlink::open().unwrap();
            let mut due = Instant::now();
            while !end.load(Ordering::Relaxed) {
                change(&mut netlink, count.fetch_add(1, Ordering::Relaxed));
                due += pause;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Churn { ends, changes, began: Instant::now(), thread: Some(thread) }
    }

    fn per_second(&self) -> f64 {
        f64::from(self.changes.load(Ordering::Relaxed)) / self.began.elapsed().as_secs_f64()
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A link with 4,000 addresses.
fn crowded_link(netlink: &mut Netlink) -> u32 {
    netlink.add_veth("crowd", "crowd-far").unwrap();
    let link = netlink.link_index("crowd").unwrap();
    netlink.set_up(link).unwrap();
    for number in 0..ADDRESSES {
        netlink.add_address(link, Ipv4Addr::from(FIRST + number), 32).unwrap();
    }
    link
}

#[test]
fn listings_are_whole_while_a_thousand_changes_a_second_interrupt_them() {
    in_namespace("listings_are_whole_while_a_thousand_changes_a_second_interrupt_them", || {
        let mut netlink = Netlink::open().unwrap();
        let link = crowded_link(&mut netlink);
        let coming = Ipv4Addr::new(10, 77, 0, 1);
        let churn = Churn::start(Duration::from_micros(700), move |netlink, number| match number % 2 {
            0 => netlink.add_address(link, coming, 24).unwrap(),
            _ => netlink.del_address(link, coming, 24).unwrap(),
        });
        thread::sleep(Duration::from_millis(200));
        let mut longest = Duration::ZERO;
        for _ in 0..5 {
            let began = Instant::now();
            let mut seen: Vec<_> = netlink.addresses().unwrap().iter().map(|address| u32::from(address.addr)).collect();
            longest = longest.max(began.elapsed());
            seen.retain(|addr| (FIRST..FIRST + ADDRESSES).contains(addr));
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), ADDRESSES as usize, "an address that was there all the time is missing");
            let routes = netlink.routes_in_use().unwrap();
            let local =
                routes.iter().filter(|route| route.prefix == 32 && (FIRST..).contains(&route.destination.into()));
            assert!(local.count() >= ADDRESSES as usize);
            assert!(netlink.links().unwrap().iter().any(|link| link.name == "crowd"));
        }
        let rate = churn.per_second();
        eprintln!("{rate:.0} changes a second, the longest listing of addresses took {longest:?}");
        assert!(rate > 1000.0, "{rate} changes a second");
        assert!(longest < PATIENCE);
    });
}
