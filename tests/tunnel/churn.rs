//! A host whose addresses change all the time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use host::netlink::Netlink;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::tunnel::Client;

use crate::PROGRAM;

/// 4,000 addresses, and as many changes a second as the kernel makes: a thousand and more.
fn churn(link: String, first: u32, ends: Arc<AtomicBool>) {
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link_index(&link).unwrap();
    for number in 0..4000 {
        netlink.add_address(index, Ipv4Addr::from(first + number), 32).unwrap();
    }
    thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            netlink.add_address(index, Ipv4Addr::from(first - 9), 32).unwrap();
            netlink.del_address(index, Ipv4Addr::from(first - 9), 32).unwrap();
        }
    });
}

#[test]
fn both_ends_start_while_addresses_change() {
    in_namespace("churn::both_ends_start_while_addresses_change", || {
        let hosts = Hosts::new(PROGRAM);
        let ends = Arc::new(AtomicBool::new(false));
        churn("near0".into(), 0xac10_0101, Arc::clone(&ends));
        let end = Arc::clone(&ends);
        hosts.at(0).run(move || churn("far0".into(), 0xac11_0101, end));
        for _ in 0..3 {
            let server = hosts.server("server");
            drop(Client::connect(&hosts, 0, "client", &[]));
            drop(server);
        }
        ends.store(true, Ordering::Relaxed);
    });
}
