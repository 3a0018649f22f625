//! A stream that takes nothing for a while, or ends, costs what waits for it, and each packet is counted.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app;
use host::lab::Namespace;
use rustix::process::Signal;
use testkit::eventually;
use testkit::flood::dropped;
use testkit::program::send;
use testkit::sockets::udp;
use testkit::tunnel::GATEWAY;
use vpn_core::forward::DropCause;

use crate::alone;
use crate::site::{LINE, Site, line};
use crate::traffic::pings;

const DATAGRAM: usize = 1200;

/// Returns the packets that the host could not give to this device, because its own queue was full.
fn refused_by_device(host: &Namespace, device: &str) -> u64 {
    let devices = host.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let line = devices.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':')).unwrap();
    // Eight numbers of what is received; then bytes, packets, errors, drops.
    line.split_whitespace().nth(8 + 3).unwrap().parse().unwrap()
}

/// Sends this number of datagrams evenly over this time.
fn send_datagrams(sender: &UdpSocket, count: u32, time: Duration) {
    let began = Instant::now();
    for number in 0..count {
        thread::sleep((time * number / count).saturating_sub(began.elapsed()));
        assert_eq!(sender.send(&[7; DATAGRAM]).unwrap(), DATAGRAM);
    }
}

/// The server's process stands still, as that of a suspended machine. What applications on the client's host send
/// meanwhile waits where the oldest packets are dropped, not in the device's own queue, which would drop the newest.
#[test]
fn the_clients_device_is_read_while_the_server_stands_still() {
    alone("stalls::the_clients_device_is_read_while_the_server_stands_still", || {
        let site = Site::new(&[line(LINE, Duration::from_millis(20))]);
        let server = site.start_server("");
        site.start_client_here("");
        let lease = app::client_lease().unwrap();
        let host = site.client(0);
        let idle = pings(host, GATEWAY, 5);
        let receiver = site.server.run(|| udp(GATEWAY));
        let sender = host.run(move || udp(lease.addr));
        sender.connect(receiver.local_addr().unwrap()).unwrap();

        let (before, refused) = (app::client_totals(), refused_by_device(host, &lease.device));
        send(&server.child, Signal::STOP);
        // More than the queue, the stream and both sockets hold together.
        const COUNT: u32 = 8_000;
        send_datagrams(&sender, COUNT, Duration::from_secs(3));
        let waited = || {
            let now = app::client_totals();
            let sum = |cause| now.dropped(cause) - before.dropped(cause);
            [DropCause::QueueOverflow, DropCause::Codel, DropCause::QueueMemory, DropCause::OutputFull].map(sum)
        };
        let refused = refused_by_device(host, &lease.device) - refused;
        println!("dropped {:?}, {refused} by the device", waited());
        assert_eq!(refused, 0, "the device was not read");
        assert!(waited()[0] > 1000, "{:?}", waited());
        assert_eq!(waited()[3], 0, "the stream refused what the outlet gave it");
        send(&server.child, Signal::CONT);
        eventually("packets arrive again", || receiver.recv(&mut [0; DATAGRAM]).is_ok());
        eventually("the queue is short again", || pings(host, GATEWAY, 1) < idle + 40.0);
        host.run(app::client_stop);
    });
}

#[test]
fn what_waits_for_a_session_that_ends_is_counted() {
    alone("stalls::what_waits_for_a_session_that_ends_is_counted", || {
        let site = Site::new(&[line(1_000_000, Duration::from_millis(20))]);
        let _server = site.start_server("");
        let client = site.start_client(0, "");
        let address = client.address;
        let receiver = site.client(0).run(move || udp(address));
        let sender = site.server.run(|| udp(GATEWAY));
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let to_clients = |stat: &str| {
            let number = |line: &str| line.trim().strip_prefix("to clients.........")?.split(' ').next()?.parse().ok();
            stat.lines().find_map(number).unwrap_or(0_u64)
        };
        // Half of what may wait; the line takes 80 in a second.
        const COUNT: u32 = 400;
        let before = to_clients(&site.stat());
        send_datagrams(&sender, COUNT, Duration::from_millis(400));
        send(&client.running.child, Signal::KILL);
        eventually("the session is gone", || site.stat().starts_with("No VPN connections"));
        let stat = site.stat();
        println!("{stat}");
        let gone = dropped(&stat, "session_gone");
        assert!(gone > 100, "{stat}");
        let dropped: u64 =
            ["session_gone", "codel", "queue_overflow", "output_full"].map(|one| dropped(&stat, one)).iter().sum();
        let forwarded = to_clients(&stat) - before;
        // The host itself may send a packet into the tunnel.
        let all = forwarded + dropped;
        assert!((COUNT.into()..u64::from(COUNT) + 10).contains(&all), "{forwarded} + {dropped} of {COUNT}:\n{stat}");
    });
}
