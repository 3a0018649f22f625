//! Peers that exchange single packets, as the C module does, on a slow path.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::sdk::{self, Running};
use embedded::config::{self, Config};
use testkit::flood::dropped;
use testkit::inner::{Ip, Seen, Sum, UDP};
use testkit::records::{one_of_each, random_bundle};
use testkit::sockets::{large_buffer, received, udp};
use testkit::tunnel::GATEWAY;
use testkit::wire::{BUNDLE_SEND, VPN_RECV, VPN_SEND, op, vpn};
use testkit::{Noise, eventually};

use crate::alone;
use crate::peer::Peer;
use crate::site::{LINE, PORT, Site, USABLE, Way, line};
use crate::traffic::{Bulk, pings};

const DELAY: Duration = Duration::from_millis(20);

/// Returns the number at the front of a numbered datagram.
fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(*payload.first_chunk().unwrap())
}

/// Sends numbered datagrams of all sizes evenly over this time.
fn send_numbered(sender: &UdpSocket, count: u32, time: Duration) {
    let began = Instant::now();
    for number in 0..count {
        thread::sleep((time * number / count).saturating_sub(began.elapsed()));
        let mut payload = vec![7; 40 + number as usize * 37 % 1300];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        sender.send(&payload).unwrap();
    }
}

#[test]
fn single_packets_keep_their_order_beside_a_transfer() {
    alone("legacy::single_packets_keep_their_order_beside_a_transfer", || {
        let site = Site::new(&[line(LINE, DELAY)]);
        // The outer control that every host has.
        let keys = "offload=false\ncongestion=host\n";
        let _server = site.start_server(keys);
        let client = site.start_client(0, keys);
        let idle = pings(site.client(0), GATEWAY, 10);
        for way in Way::BOTH {
            let ends = way.ends(&site, (0, client.address));
            let bulk = Bulk::start(&ends, 1);
            thread::sleep(Duration::from_millis(1500));
            let address = ends.2;
            let receiver = ends.1.run(move || udp(address));
            large_buffer(&receiver);
            let target = receiver.local_addr().unwrap();
            let sender = ends.0.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
            sender.connect(target).unwrap();
            // A sixth of the line: less than its share, so that little of it is dropped.
            const COUNT: u32 = 600;
            let (loaded, rates) = bulk.during(|| {
                let sending = thread::spawn(move || send_numbered(&sender, COUNT, Duration::from_secs(2)));
                let loaded = pings(site.client(0), GATEWAY, 20);
                sending.join().unwrap();
                loaded
            });
            drop(bulk);
            receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let (mut numbers, mut buffer) = (Vec::new(), [0; 2000]);
            while let Ok(size) = receiver.recv(&mut buffer) {
                numbers.push(number(&buffer[..size]));
            }
            println!(
                "{way:?}: {} of {COUNT}, {loaded:.1} ms beside {:.1} Mbit/s, idle {idle:.1} ms",
                numbers.len(),
                rates[0] / 1e6
            );
            assert!(numbers.is_sorted_by(|one, next| one < next), "{way:?}: {numbers:?}");
            assert!(numbers.len() > COUNT as usize * 19 / 20, "{way:?}: {} of {COUNT}", numbers.len());
            // The path's buffer of 40 ms, and half as much.
            assert!(loaded < idle + 60.0, "{way:?}: {loaded:.1} ms, idle {idle:.1} ms");
            assert!(rates[0] > 0.5 * LINE as f64 * USABLE, "{way:?}: {:.1} Mbit/s", rates[0] / 1e6);
        }
    });
}

/// Runs a job on the client's host, with a peer that sends these capabilities, and with a socket at the gateway.
fn with_peer(
    site: &Site,
    capabilities: &'static [u8],
    job: impl FnOnce(Peer, UdpSocket, std::net::Ipv4Addr) + Send + 'static,
) {
    let directory = site.directory().join("peer");
    let text = format!("[general]\nstate_dir={}\n[server]\nenabled=false\n", directory.display());
    let socket = site.server.run(|| udp(GATEWAY));
    large_buffer(&socket);
    site.client(0).run(move || {
        sdk::start_logging();
        config::set_current(Config::parse(&text, "test").0);
        let _running = Running::retain().unwrap();
        let mut peer = Peer::connect_to(&Site::server_for(0).to_string(), PORT);
        peer.request();
        let reply = peer.ask(capabilities);
        let address = std::net::Ipv4Addr::from(*reply[20..].first_chunk::<4>().unwrap());
        job(peer, socket, address);
    });
}

/// A legacy client gets whole single packets in the sender's order, each at most once, when twice as many come as its
/// line takes; what is missing is counted.
#[test]
fn a_legacy_peer_gets_single_packets_in_order() {
    alone("legacy::a_legacy_peer_gets_single_packets_in_order", || {
        const COUNT: u32 = 800;
        let site = Site::new(&[line(2_000_000, DELAY)]);
        let server = site.start_server("");
        let (send_missing, missing) = std::sync::mpsc::channel();
        with_peer(&site, b"", move |peer, socket, address| {
            socket.connect((address, 4242)).unwrap();
            let sending = thread::spawn(move || send_numbered(&socket, COUNT, Duration::from_millis(1300)));
            let mut numbers = Vec::new();
            while let Some(packet) = peer.next_within(Duration::from_secs(1)) {
                assert_eq!(op(&packet), VPN_RECV);
                let seen = Seen::new(&packet[20..]);
                if seen.protocol() == UDP && seen.ports().1 == 4242 {
                    assert!(seen.has_right_header_sum() && seen.has_right_sum(), "datagram {}", numbers.len());
                    let number = number(seen.payload());
                    assert_eq!(seen.payload().len(), 40 + number as usize * 37 % 1300);
                    numbers.push(number);
                }
            }
            sending.join().unwrap();
            assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
            send_missing.send(u64::from(COUNT) - numbers.len() as u64).unwrap();
        });
        let missing = missing.recv().unwrap();
        let stat = site.stat();
        println!("{missing} missing\n{stat}");
        let counted = ["codel", "queue_overflow", "output_full"].map(|cause| dropped(&stat, cause));
        assert!(missing > 0 && missing < u64::from(COUNT) / 2, "{missing} of {COUNT}");
        assert_eq!(counted.iter().sum::<u64>(), missing, "{stat}");
        assert!(!server.log().contains(" ERROR "), "{}", server.log());
    });
}

/// The queue towards a peer is full while it sends what no client sends.
#[test]
fn hostile_bundles_meet_a_full_queue() {
    alone("legacy::hostile_bundles_meet_a_full_queue", || {
        let site = Site::new(&[line(2_000_000, DELAY)]);
        let mut server = site.start_server("session_queue=131072\n");
        with_peer(&site, b"CFV1\x01\x02\xff\xff", move |peer, socket, address| {
            let target = (address, 4242);
            let flood = || {
                for number in 0..500_u32 {
                    let _ = socket.send_to(&[number as u8; 1200], target);
                }
            };
            let ports = (4242, socket.local_addr().unwrap().port());
            let good = Ip::new(address, GATEWAY).udp(ports, b"good", Sum::Right);
            let kinds = one_of_each(&Ip::new(address, GATEWAY), ports);
            let mut noise = Noise::new(13);
            for _ in 0..8 {
                flood();
                let hostile = |_| vpn(BUNDLE_SEND, peer.usage, &random_bundle(&mut noise, &kinds));
                let mut packets: Vec<_> = (0..20).map(hostile).collect();
                packets.push(vec![0xff; 19]);
                packets.push(vpn(VPN_SEND, peer.usage, &good));
                peer.send_all(packets);
                while received(&socket, "the good one").0 != b"good" {}
            }
        });
        let stat = site.stat();
        println!("{stat}");
        assert!(dropped(&stat, "queue_overflow") > 0 && dropped(&stat, "malformed") > 0, "{stat}");
        assert!(server.child.try_wait().unwrap().is_none(), "{}", server.log());
        assert!(!server.log().contains(" ERROR ") && !server.log().contains("panicked"), "{}", server.log());
        eventually("the peer's session ends", || site.stat().starts_with("No VPN connections"));
    });
}
