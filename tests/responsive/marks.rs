//! Congestion is told by marks to a flow that understands them (RFC 3168), by drops to another one, and each is counted.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app;
use host::lab::Namespace;
use rustix::net::sockopt::set_ip_tos;
use testkit::eventually;
use testkit::inner::{Seen, UDP};
use testkit::sockets::{every_packet, large_buffer, udp};
use vpn_core::forward::DropCause;

use crate::alone;
use crate::site::{LINE, Site, Way, line};

/// The payload of a datagram in bytes.
const DATAGRAM: usize = 1200;
/// As many as the line takes in a second and a fifth, sent in one second: what waits stays below the queue's bound.
const COUNT: u64 = LINE / 8 / DATAGRAM as u64 * 6 / 5;

const NOT_ECT: u8 = 0;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// What has arrived of a burst.
#[derive(Debug, Default)]
struct Arrived {
    datagrams: u64,
    marked: u64,
}

/// Sends the burst with this ToS byte, and returns what has arrived.
fn burst((from, to, address): &(Namespace, Namespace, Ipv4Addr), tos: u8) -> Arrived {
    let address = *address;
    let (seen, receiver) = to.run(move || (every_packet(), udp(address)));
    large_buffer(&receiver);
    let target = receiver.local_addr().unwrap();
    let sender = from.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    set_ip_tos(&sender, tos).unwrap();
    let began = Instant::now();
    for number in 0..COUNT {
        thread::sleep((Duration::from_secs(1) * number as u32 / COUNT as u32).saturating_sub(began.elapsed()));
        assert_eq!(sender.send_to(&[7; DATAGRAM], target).unwrap(), DATAGRAM);
    }
    seen.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut arrived, mut packet) = (Arrived::default(), vec![0; 65_536]);
    while let Ok(size) = seen.recv(&mut packet) {
        if packet[0] >> 4 != 4 || packet[9] != UDP {
            continue;
        }
        let packet = Seen::new(&packet[..size]);
        if packet.ports().1 != target.port() {
            continue;
        }
        assert!(packet.has_right_header_sum(), "{:02x?}", &packet.whole[..20]);
        assert!(packet.tos() & !3 == tos & !3, "DSCP {:#x} of {tos:#x}", packet.tos());
        // The host may keep several together.
        let datagrams = (packet.payload().len() / DATAGRAM) as u64;
        arrived.datagrams += datagrams;
        match packet.tos() & 3 {
            CE => arrived.marked += datagrams,
            other => assert_eq!(other, tos & 3),
        }
    }
    // The kernel gives an application only what has right checksums.
    receiver.set_nonblocking(true).unwrap();
    let received = std::iter::from_fn(|| receiver.recv(&mut [0; DATAGRAM]).ok()).count() as u64;
    assert_eq!(received, arrived.datagrams);
    arrived
}

/// Checks both kinds of flows. `counted` returns the sender's counts: those of CoDel, of a full queue, and of marks.
fn check(ends: &(Namespace, Namespace, Ipv4Addr), counted: impl Fn() -> [u64; 3]) {
    let marks = burst(ends, 0xb8 | ECT_0);
    println!("with ECT(0): {marks:?}, counted {:?}", counted());
    assert_eq!(marks.datagrams, COUNT, "none is lost: {marks:?}, counted {:?}", counted());
    assert!(marks.marked > 0, "none is marked");
    eventually("all marks are counted", || counted() == [0, 0, marks.marked]);

    let drops = burst(ends, 0xb8 | NOT_ECT);
    println!("without ECT: {drops:?}, counted {:?}", counted());
    assert_eq!(drops.marked, 0);
    assert!(drops.datagrams < COUNT, "none is dropped");
    eventually("all drops are counted", || {
        let [codel, full, _] = counted();
        codel > 0 && drops.datagrams + codel + full == COUNT
    });
    assert_eq!(counted()[2], marks.marked, "a flow without ECT is not marked");
}

#[test]
fn a_flow_down_is_marked_or_dropped() {
    alone("marks::a_flow_down_is_marked_or_dropped", || {
        let site = Site::new(&[line(LINE, Duration::from_millis(20))]);
        let _server = site.start_server("");
        let client = site.start_client(0, "");
        check(&Way::Down.ends(&site, (0, client.address)), || {
            let stat = site.stat();
            let marked =
                stat.lines().find_map(|line| line.trim().strip_prefix("marked.............")?.split(' ').next());
            let marked = marked.map_or(0, |number| number.parse().unwrap());
            let dropped = |cause| testkit::flood::dropped(&stat, cause);
            [dropped("codel"), dropped("queue_overflow"), marked]
        });
    });
}

/// The client is in this process, whose counters have what the program shows nowhere.
#[test]
fn a_flow_up_is_marked_or_dropped() {
    alone("marks::a_flow_up_is_marked_or_dropped", || {
        let site = Site::new(&[line(LINE, Duration::from_millis(20))]);
        let _server = site.start_server("");
        site.start_client_here("");
        let address = app::client_lease().unwrap().addr;
        check(&Way::Up.ends(&site, (0, address)), || {
            let totals = app::client_totals();
            [totals.dropped(DropCause::Codel), totals.dropped(DropCause::QueueOverflow), totals.marked]
        });
        site.client(0).run(app::client_stop);
    });
}

/// TCP that negotiated ECN (RFC 3168, 6.1) fills the line and loses nothing.
#[test]
fn a_transfer_with_ecn_loses_nothing() {
    alone("marks::a_transfer_with_ecn_loses_nothing", || {
        let site = Site::new(&[line(LINE, Duration::from_millis(20))]);
        let _server = site.start_server("");
        let client = site.start_client(0, "");
        let ends = Way::Down.ends(&site, (0, client.address));
        for host in [&ends.0, &ends.1] {
            host.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_ecn", "1").unwrap());
        }
        let bulk = crate::traffic::Bulk::start(&ends, 1);
        thread::sleep(Duration::from_secs(1));
        let rate = bulk.rates(Duration::from_secs(4))[0];
        drop(bulk);
        let stat = site.stat();
        println!("{:.1} Mbit/s\n{stat}", rate / 1e6);
        assert!(stat.contains("\n  marked............."), "{stat}");
        let dropped = |cause| testkit::flood::dropped(&stat, cause);
        assert_eq!((dropped("codel"), dropped("queue_overflow"), dropped("output_full")), (0, 0, 0), "{stat}");
        assert!(rate > 0.85 * LINE as f64 * crate::site::USABLE, "{:.1} Mbit/s", rate / 1e6);
    });
}
