//! The server's limits for all peers together, and for each of them.

use crate::peer::*;
use crate::service::{add_service, ask, request};
use crate::support::*;
use embedded::stream::{COUNTERS, HANDSHAKES_MAX_PER_SOURCE};
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vpn_core::wire::pkt;

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
fn streams_without_a_service_have_a_life() {
    let sdk = Sdk::start_with(2, "idle_timeout=2\n");
    SERVE.store(false, Ordering::SeqCst);
    assert!(!add_service().is_null());
    SERVE.store(true, Ordering::SeqCst);
    let served = sdk.connected("SR");
    SERVE.store(false, Ordering::SeqCst);
    // Anybody gets a free service.
    let free = sdk.connected("SR");
    assert_eq!(ask(&free, pkt::REQUEST, &request().encode()).0, pkt::SUCCESS);
    let (before, idle) = (descriptors(), COUNTERS.idle.load(Ordering::SeqCst));
    let begin = Instant::now();
    let streams: Vec<_> = ["SR", "RS", "R", "S"]
        .iter()
        .cycle()
        .take(100)
        .map(|channels| opened_over(from(5, sdk.port()), channels).unwrap())
        .collect();
    // Whatever a stream sends, it has no service.
    let mut speaking = opened(sdk.port());
    let mut dripping = opened(sdk.port());
    let mut astray = opened(sdk.port());
    let part = packet(b'S', 1, 1000, b"");
    let mut drips = part.into_iter().chain(std::iter::repeat(0));
    while COUNTERS.idle.load(Ordering::SeqCst) < idle + 104 {
        assert!(begin.elapsed() < TEST_TIMEOUT, "{} of 104", COUNTERS.idle.load(Ordering::SeqCst) - idle);
        // The writes fail once the streams are closed.
        let _ = speaking.write_all(&packet(b'S', 4, 2, b"hi"));
        let _ = dripping.write_all(&[drips.next().unwrap()]);
        let _ = astray.write_all(&packet(b'X', 1, 0, b""));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begin.elapsed() > Duration::from_secs(2));
    for mut stream in streams {
        assert!(is_closed(&mut stream));
    }
    drop((speaking, dripping, astray));
    free.wait("disconnected");
    eventually(|| descriptors() <= before, || format!("{before} descriptors before, {} after", descriptors()));
    // The service decides about a client that it serves, however silent.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(served.events(), ["connected"]);
}

#[test]
fn the_end_of_the_service_begins_a_life() {
    let sdk = Sdk::start_with(1, "idle_timeout=2\n");
    let client = sdk.connected("S");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(client.events(), ["connected"]);
    let end = Instant::now();
    SERVED_NO_MORE.store(true, Ordering::SeqCst);
    client.send(b'S', 1, vec![1]);
    client.wait("disconnected");
    assert!(end.elapsed() > Duration::from_millis(1900), "{:?}", end.elapsed());
}

#[test]
fn a_full_server_takes_a_newcomer_instead_of_who_has_no_service() {
    let sdk = Sdk::start_with(2, "max_streams=6\nmax_streams_per_address=4\n");
    // Served streams stay, whoever comes.
    let mut served = opened_over(from(9, sdk.port()), "S").unwrap();
    SERVE.store(false, Ordering::SeqCst);
    let mut of_two: Vec<_> = (0..3).map(|_| opened_over(from(2, sdk.port()), "S").unwrap()).collect();
    let mut of_three: Vec<_> = (0..2).map(|_| opened_over(from(3, sdk.port()), "S").unwrap()).collect();
    // The oldest of the source with most streams goes: first that of 127.0.0.2, then of whose first one is older.
    let mut honest = opened_over(from(4, sdk.port()), "S").unwrap();
    assert!(is_closed(&mut of_two.remove(0)));
    let _another = opened_over(from(5, sdk.port()), "S").unwrap();
    assert!(is_closed(&mut of_two.remove(0)));
    let _more = opened_over(from(6, sdk.port()), "S").unwrap();
    assert!(is_closed(&mut of_three.remove(0)));
    for stream in [&mut served, &mut honest, &mut of_two[0], &mut of_three[0]] {
        stream.write_all(&packet(b'S', 4, 2, b"hi")).unwrap();
        std::io::Read::read_exact(stream, &mut [0; 18]).unwrap();
    }
}

#[test]
fn free_services_keep_nobody_out() {
    let sdk = Sdk::start_with(2, "max_streams=6\nmax_streams_per_address=3\n");
    SERVE.store(false, Ordering::SeqCst);
    assert!(!add_service().is_null());
    let request = request().encode();
    let free: Vec<_> = [2, 2, 2, 3, 3, 3]
        .iter()
        .map(|host| {
            let mut stream = opened_over(from(*host, sdk.port()), "RS").unwrap();
            stream.write_all(&packet(b'R', pkt::REQUEST, request.len() as u32, &request)).unwrap();
            let mut answer = [0; 16 + 20];
            std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
            assert_eq!(answer[2], pkt::SUCCESS);
            stream
        })
        .collect();
    let _honest = opened_over(from(4, sdk.port()), "RS").unwrap();
    drop(free);
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
    SERVE.store(false, Ordering::SeqCst);
    // SAFETY: a function of this program.
    unsafe { stream::dap_stream_ch_proc_add(b'M', Some(send_away), None, None, None) };
    let mut moved = opened_over(from(1, sdk.port()), "M").unwrap();
    assert!(is_closed(&mut moved));
}
