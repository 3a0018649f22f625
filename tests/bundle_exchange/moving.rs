//! A stream that moves from worker to worker while packets wait for it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app;
use testkit::inner::{Seen, UDP};
use testkit::netns::in_namespace;
use testkit::records::{Got, packets_of};
use testkit::sockets::slow_down;
use vpn_core::forward::DropCause;

use crate::lab::{BUNDLES, Server, drops_since, socket};
use crate::moves;
use crate::peer::Peer;

/// The rate of the stream in bytes per second.
const RATE: u32 = 500_000;
/// Twice what the stream takes while they are sent: what waits stays below the bound of the queue.
const COUNT: u32 = 1000;
const TIME: Duration = Duration::from_millis(1200);
const DATAGRAM: usize = 1000;

#[test]
fn packets_that_wait_keep_their_order() {
    in_namespace("moving::packets_that_wait_keep_their_order", || {
        // bbr would set a pacing rate of its own.
        fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").unwrap();
        let server = Server::start("congestion=host\n");
        moves::note_sockets();
        let (peer, address) = Peer::leased(server.port, &BUNDLES);
        let socket = socket();
        let before = app::server_totals().unwrap();
        slow_down(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port)), RATE);
        let (ended, mut moved, mut numbers) = (AtomicBool::new(false), 0, Vec::new());
        thread::scope(|scope| {
            let moving = scope.spawn(|| {
                for to in [1, 0].into_iter().cycle() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    moved += 1;
                    moves::move_to(to);
                    thread::sleep(Duration::from_millis(150));
                }
            });
            scope.spawn(|| {
                let began = Instant::now();
                for number in 0..COUNT {
                    thread::sleep((TIME * number / COUNT).saturating_sub(began.elapsed()));
                    let mut payload = [7; DATAGRAM];
                    payload[..4].copy_from_slice(&number.to_be_bytes());
                    socket.send_to(&payload, (address, 4242)).unwrap();
                }
            });
            while let Some(packet) = peer.next_within(Duration::from_secs(1)) {
                for (packet, size) in packets_of(&packet, 65_535, &mut Got::default()) {
                    let seen = Seen::new(&packet);
                    if seen.protocol() == UDP && seen.ports().1 == 4242 {
                        let datagrams = seen.payload().chunks(size.unwrap_or(DATAGRAM));
                        numbers.extend(datagrams.map(|one| u32::from_be_bytes(*one.first_chunk().unwrap())));
                    }
                }
            }
            ended.store(true, Ordering::SeqCst);
            moving.join().unwrap();
        });
        let drops = drops_since(&before);
        println!("{moved} moves, {} of {COUNT}, {drops:?}", numbers.len());
        assert!(moves::has_stream(), "nothing has moved");
        assert!(moved > 5, "{moved} moves");
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        let counted = numbers.len() as u64 + drops.iter().map(|(_, count)| count).sum::<u64>();
        // While the stream is between two workers its address has no route, as those of the host's own packets.
        let no_route = app::server_totals().unwrap().dropped(DropCause::NoRoute) - before.dropped(DropCause::NoRoute);
        assert!((counted..=counted + no_route).contains(&COUNT.into()), "{counted} and {no_route}: {drops:?}");
        let of = |cause| drops.iter().find(|(other, _)| *other == cause).map_or(0, |(_, count)| *count);
        assert!(of(DropCause::SessionGone) + of(DropCause::Codel) > 0, "nothing has waited: {drops:?}");
        // Afterwards it is a session like any other.
        peer.ping();
        assert!(numbers.len() > COUNT as usize / 10, "{} of {COUNT}", numbers.len());
    });
}
