//! Packets of unusual sizes wait like any others.

use std::thread;
use std::time::Duration;

use testkit::flood::dropped;
use testkit::sockets::{large_buffer, segment, udp};
use testkit::tunnel::{GATEWAY, stat_number};

use crate::alone;
use crate::site::{LINE, Site, USABLE, Way, line};
use crate::traffic::{Bulk, pings};

/// A super-packet stands for many packets: forwarded or dropped, each of them is counted.
#[test]
fn super_packets_of_tiny_segments_are_counted_whole() {
    alone("sizes::super_packets_of_tiny_segments_are_counted_whole", || {
        const SEGMENT: usize = 300;
        const SEGMENTS: usize = 100;
        const COUNT: usize = 60;
        let site = Site::new(&[line(4_000_000, Duration::from_millis(20))]);
        let server = site.start_server("session_queue=262144\n");
        let client = site.start_client(0, "");
        let address = client.address;
        let receiver = site.client(0).run(move || udp(address));
        large_buffer(&receiver);
        let sender = site.server.run(|| udp(GATEWAY));
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        segment(&sender, SEGMENT);
        // The last segment of each is a single byte.
        let bytes: Vec<u8> = (0..SEGMENT * (SEGMENTS - 1) + 1).map(|at| (at / SEGMENT) as u8).collect();
        for _ in 0..COUNT {
            if sender.send(&bytes).is_err_and(|error| error.raw_os_error() == Some(libc::EIO)) {
                // A kernel before 6.11 refuses that if the device leaves checksums to it.
                return println!("this kernel does not send super-packets into the device");
            }
            thread::sleep(Duration::from_millis(5));
        }
        receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (mut arrived, mut buffer) = (0, [0; 2 * SEGMENT]);
        while let Ok(size) = receiver.recv(&mut buffer) {
            let number = usize::from(buffer[0]);
            assert_eq!(size, if number == SEGMENTS - 1 { 1 } else { SEGMENT }, "segment {number}");
            assert!(buffer[..size].iter().all(|byte| usize::from(*byte) == number), "segment {number}");
            arrived += 1;
        }
        let stat = site.stat();
        println!("{arrived} of {}\n{stat}", COUNT * SEGMENTS);
        let counted = ["queue_overflow", "codel", "queue_memory", "output_full"].map(|cause| dropped(&stat, cause));
        assert!(counted[0] > 0, "the queue was never full:\n{stat}");
        assert_eq!(arrived + counted.iter().sum::<u64>(), (COUNT * SEGMENTS) as u64, "{stat}");
        assert_eq!(stat_number(&stat, address, "packets recv lost"), counted.iter().sum::<u64>(), "{stat}");
        assert!(!server.log().contains(" ERROR "), "{}", server.log());
    });
}

/// One packet takes longer than the queue gives to one unit, and more than what is below the queue.
#[test]
fn packets_larger_than_a_unit_pass() {
    alone("sizes::packets_larger_than_a_unit_pass", || {
        let site = Site::new(&[line(LINE, Duration::from_millis(20))]);
        let _server = site.start_server("mtu=9000\n");
        let client = site.start_client(0, "mtu=9000\n");
        assert_eq!(client.mtu, 9000);
        let idle = pings(site.client(0), GATEWAY, 5);
        for way in Way::BOTH {
            let bulk = Bulk::start(&way.ends(&site, (0, client.address)), 2);
            thread::sleep(Duration::from_millis(1500));
            let (loaded, rates) = bulk.during(|| pings(site.client(0), GATEWAY, 20));
            let sum = rates.iter().sum::<f64>();
            println!("{way:?}: {loaded:.1} ms beside {:.1} Mbit/s, idle {idle:.1} ms", sum / 1e6);
            // The path's buffer of 40 ms, and three packets of 7 ms.
            assert!(loaded < idle + 61.0, "{way:?}: {loaded:.1} ms, idle {idle:.1} ms");
            assert!(sum > 0.7 * LINE as f64 * USABLE, "{way:?}: {:.1} Mbit/s", sum / 1e6);
        }
    });
}
