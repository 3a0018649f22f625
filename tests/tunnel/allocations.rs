//! Tests that the server's data path, with the stream and TLS below it, allocates nothing per packet. The service runs
//! in the test itself, under a counting allocator; the client is a separate process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use embedded::config::{self, Config};
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::sockets::{udp, udp_at};
use testkit::tunnel::{Client, GATEWAY};

use crate::PROGRAM;

/// The number of counted packets in each direction.
const PACKETS: usize = 20_000;
/// The number of packets in flight: three records of TLS.
const BURST: usize = 32;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[test]
fn nothing_is_allocated_for_a_packet() {
    in_namespace("allocations::nothing_is_allocated_for_a_packet", || {
        let hosts = Hosts::new(PROGRAM);
        let text = format!("[general]\nstate_dir={}\n", hosts.state("server"));
        config::set_current(Config::parse(&text, "test").0);
        app::server_start().unwrap();
        let client = Client::connect(&hosts, 0, "client", &[]);
        // A thread of the server stores the lease within a second.
        std::thread::sleep(Duration::from_secs(2));
        let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), client.address));
        let (near_address, far_address) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        for (what, from, to, target) in
            [("from the client", &far, &near, near_address), ("to the client", &near, &far, far_address)]
        {
            // Buffers and queues grow to the size that the traffic needs.
            pass(from, to, target, PACKETS / 10);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            pass(from, to, target, PACKETS);
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            println!("{allocations} allocations for {PACKETS} packets {what}");
            // The loops' timers may allocate.
            assert!(allocations < PACKETS / 1000, "{allocations} allocations for {PACKETS} packets {what}");
        }
        let totals = app::server_totals().unwrap();
        assert!(totals.up_packets > PACKETS as u64 && totals.down_packets > PACKETS as u64, "{totals:?}");
        app::server_stop();
    });
}

/// Sends packets in bursts and waits for each burst, without an allocation.
fn pass(from: &UdpSocket, to: &UdpSocket, target: SocketAddr, packets: usize) {
    let payload = [7; 1000];
    let mut buffer = [0; 2048];
    for _ in 0..packets.div_ceil(BURST) {
        for _ in 0..BURST {
            assert_eq!(from.send_to(&payload, target).unwrap(), payload.len());
        }
        for _ in 0..BURST {
            assert_eq!(to.recv(&mut buffer).unwrap(), payload.len());
        }
    }
}
