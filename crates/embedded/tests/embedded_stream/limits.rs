//! The server's limits for all peers together, and for each of them.

use crate::hostile::{is_closed, opened, opened_over, packet};
use crate::service::{add_service, ask, request};
use crate::support::*;
use embedded::stream::{COUNTERS, HANDSHAKES_MAX_PER_SOURCE};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vpn_core::wire::pkt;

/// A connection from 127.0.0.`host`.
fn from(host: u8, port: u16) -> TcpStream {
    let io = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&io, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    connect(&io, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let io = TcpStream::from(io);
    io.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    io
}

fn turned_away() -> u64 {
    COUNTERS.turned_away.load(Ordering::SeqCst)
}

#[test]
fn streams_are_bounded_in_total_and_for_each_address() {
    let sdk = Sdk::start_with(2, "max_streams=5\nmax_streams_per_address=3\n");
    let before = turned_away();
    let mut of_one: Vec<_> = (0..3).map(|_| opened(sdk.port())).collect();
    assert!(is_closed(&mut from(1, sdk.port())), "the fourth of an address");
    let _of_others: Vec<_> = (2..4).map(|host| opened_over(from(host, sdk.port()), "SR").unwrap()).collect();
    assert!(is_closed(&mut from(4, sdk.port())), "the sixth of all");
    assert_eq!(turned_away(), before + 2);
    // An open stream continues, and a returned permit can be taken.
    of_one[0].write_all(&packet(b'S', 4, 2, b"hi")).unwrap();
    of_one.pop();
    eventually(|| opened_over(from(1, sdk.port()), "R").is_ok(), || "the permit is not returned".into());
}

#[test]
fn silent_connections_of_one_address_leave_permits_to_others() {
    let sdk = Sdk::start(2);
    let before = turned_away();
    let silent: Vec<_> = (0..HANDSHAKES_MAX_PER_SOURCE).map(|_| from(9, sdk.port())).collect();
    assert!(is_closed(&mut from(9, sdk.port())), "one more than an address may have");
    assert_eq!(turned_away(), before + 1);
    sdk.connected("RS");
    drop(silent);
    eventually(|| opened_over(from(9, sdk.port()), "RS").is_ok(), || "the places are not given back".into());
}

#[test]
fn idle_streams_end() {
    let sdk = Sdk::start_with(2, "idle_timeout=2\n");
    assert!(!add_service().is_null());
    let granted = sdk.connected("SR");
    assert_eq!(ask(&granted, pkt::REQUEST, &request().encode()).0, pkt::SUCCESS);
    let (before, idle) = (descriptors(), COUNTERS.idle.load(Ordering::SeqCst));
    let begin = Instant::now();
    let streams: Vec<_> = ["SR", "RS", "R", "S"]
        .iter()
        .cycle()
        .take(100)
        .map(|channels| opened_over(from(5, sdk.port()), channels).unwrap())
        .collect();
    let mut speaking = opened(sdk.port());
    // Bytes that form no packet, and packets for unknown channels, do not count as use.
    let mut dripping = opened(sdk.port());
    let mut astray = opened(sdk.port());
    let part = packet(b'S', 1, 1000, b"");
    let mut drips = part.into_iter().chain(std::iter::repeat(0));
    let mut echoes = 0;
    while COUNTERS.idle.load(Ordering::SeqCst) < idle + 102 {
        assert!(begin.elapsed() < TEST_TIMEOUT, "{} of 102", COUNTERS.idle.load(Ordering::SeqCst) - idle);
        speaking.write_all(&packet(b'S', 4, 2, b"hi")).unwrap();
        echoes += 1;
        // The writes fail once the streams are closed.
        let _ = dripping.write_all(&[drips.next().unwrap()]);
        let _ = astray.write_all(&packet(b'X', 1, 0, b""));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begin.elapsed() > Duration::from_secs(2));
    for mut stream in streams {
        assert!(is_closed(&mut stream));
    }
    let mut heard = vec![0; echoes * 18];
    std::io::Read::read_exact(&mut speaking, &mut heard).unwrap();
    drop((speaking, dripping, astray));
    eventually(|| descriptors() == before, || format!("{before} descriptors before, {} after", descriptors()));
    // The service decides about a stream with a granted service, however silent.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(granted.events(), ["connected"]);
}

#[test]
fn a_moved_stream_is_looked_after_where_it_is() {
    use embedded::abi::{events, stream};
    use embedded::ctypes::dap_stream_ch;
    /// Moves the server's end to worker 1.
    unsafe extern "C" fn send_away(ch: *mut dap_stream_ch, _arg: *mut std::ffi::c_void) {
        // SAFETY: a new channel on its worker.
        unsafe {
            let (worker, es) = (events::dap_worker_get_current(), (*(*ch).stream).esocket);
            for index in [0, 1] {
                events::dap_events_socket_reassign_between_workers_mt(worker, es, self::worker(index));
            }
        }
    }
    let sdk = Sdk::start_with(2, "idle_timeout=1\n");
    // SAFETY: a function of this program.
    unsafe { stream::dap_stream_ch_proc_add(b'M', Some(send_away), None, None, None) };
    let mut moved = opened_over(from(1, sdk.port()), "M").unwrap();
    assert!(is_closed(&mut moved));
}
