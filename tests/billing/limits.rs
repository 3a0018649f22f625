//! Rates by order, and that a client pays for what passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::unit;

use crate::client::PayingClient;
use crate::customer::Customer;
use crate::server::{NET, Server};

/// 80 kB/s down, 40 kB/s up.
const LIMITS: &str = "limit_down=640\nlimit_up=320\nsession_queue=131072\n";
const DOWN: f64 = 80_000.0;
const UP: f64 = 40_000.0;
/// The payload and the inner packet of a datagram, in bytes.
const PAYLOAD: usize = 1000;
const PACKET: usize = PAYLOAD + 28;
/// More than a session's queue holds.
const COUNT: usize = 200;

fn free_order() -> String {
    ledger::free_order(NET).iter().fold(String::from("0x"), |text, byte| format!("{text}{byte:02X}"))
}

/// Receives datagrams until none comes for a second. Returns the source and the time of each.
fn arrivals(server: &Server) -> Vec<(Ipv4Addr, Duration)> {
    server.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (mut buffer, begin) = ([0; 2000], Instant::now());
    std::iter::from_fn(|| match server.socket.recv_from(&mut buffer) {
        Ok((_, SocketAddr::V4(from))) => Some((*from.ip(), begin.elapsed())),
        _ => None,
    })
    .collect()
}

/// When the packets to a client came.
fn packets(client: &PayingClient) -> Vec<Duration> {
    client.packets_with(&[0x77; PAYLOAD])
}

/// The rate between the first and the last packet, bytes per second.
fn rate(times: &[Duration]) -> f64 {
    let time = *times.last().unwrap() - times[0];
    ((times.len() - 1) * PACKET) as f64 / time.as_secs_f64()
}

#[track_caller]
fn is_limited(times: &[Duration], limit: f64) {
    // The first ones pass at once; one packet is 1.3 % of the rest.
    let rate = rate(&times[4..]);
    assert!((0.9..=1.05).contains(&(rate / limit)), "{rate:.0} bytes/s in {} packets, expected {limit}", times.len());
    assert!(times.len() < COUNT, "the queue dropped none");
}

fn addresses_of(all: &[(Ipv4Addr, Duration)], address: Ipv4Addr) -> Vec<Duration> {
    all.iter().filter(|(from, _)| *from == address).map(|(_, time)| *time).collect()
}

/// A free session and a paid one, of which one order has an entry.
fn each_has_its_limits(keys: &str, is_free_limited: bool) {
    let server = Server::start(keys);
    let customer = Customer::new();
    let (order, units) = (server.byte_order(5_000_000), 5_000_000);
    let paid = customer.connect(&server, order, customer.transaction(unit::BYTES, 1));
    paid.request();
    paid.success();
    let free = server.pauper(ledger::free_order(NET));
    free.request();
    free.success();
    let (paid_address, free_address) = (paid.lease(), free.lease());
    let port = server.socket.local_addr().unwrap().port();
    for client in [&paid, &free] {
        client.send_datagrams(COUNT, PAYLOAD, port);
    }
    let up = arrivals(&server);
    for _ in 0..COUNT {
        for address in [paid_address, free_address] {
            server.socket.send_to(&[0x77; PAYLOAD], (address, 4242)).unwrap();
        }
        // What passes at once must not fill the device's queue.
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_secs(3));
    let (limited, open) = if is_free_limited { (&free, &paid) } else { (&paid, &free) };
    let (limited_address, open_address) =
        if is_free_limited { (free_address, paid_address) } else { (paid_address, free_address) };
    is_limited(&addresses_of(&up, limited_address), UP);
    is_limited(&packets(limited), DOWN);
    let (open_up, open_down) = (addresses_of(&up, open_address), packets(open));
    assert_eq!([open_up.len(), open_down.len()], [COUNT; 2]);
    assert!(rate(&open_up) > 10.0 * UP && rate(&open_down) > 5.0 * DOWN, "{} {}", rate(&open_up), rate(&open_down));
    let carried = (addresses_of(&up, paid_address).len() + packets(&paid).len()) * PACKET;
    drop(paid);
    assert_eq!(customer.after(1).bytes, units - carried as i64);
}

#[test]
fn an_order_without_an_entry_has_the_limits_of_all() {
    in_namespace("limits::an_order_without_an_entry_has_the_limits_of_all", || {
        each_has_its_limits(&format!("{LIMITS}order_limits=[{}:0:0]\n", free_order()), false);
    });
}

#[test]
fn an_order_with_an_entry_has_its_limits_and_others_have_none() {
    in_namespace("limits::an_order_with_an_entry_has_its_limits_and_others_have_none", || {
        each_has_its_limits(&format!("session_queue=131072\norder_limits=[{}:640:320]\n", free_order()), true);
    });
}
