//! Streams between the two ends of one process.

use crate::support::*;
use embedded::abi::{client, events, stream};
use embedded::stream::{MAX_DATA, OUTPUT_LIMIT};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn channels_open_in_every_order() {
    let sdk = Sdk::start(2);
    for channels in ["RS", "SR", "R", "S", "ESR"] {
        let client = sdk.connected(channels);
        assert_eq!(client.events(), ["connected"], "{channels}");
        for letter in [b'R', b'S', b'E'] {
            assert_eq!(!client.channel(letter).is_null(), channels.as_bytes().contains(&letter), "{channels}");
        }
        if channels.contains('S') {
            client.watch(b'S');
            assert_eq!(client.send(b'S', 2, b"hello".to_vec()), 5);
            assert_eq!(client.wait_packets(1), [(2, b"hello".to_vec())]);
        }
        let order = client.on_channel(channels.as_bytes()[0], |ch| {
            // SAFETY: on the channel's worker.
            unsafe {
                let stream = (*ch).stream;
                let first = *(*stream).channel.get();
                let session = (*stream).session;
                let text = std::ffi::CStr::from_ptr((*session).active_channels.as_ptr()).to_string_lossy().into_owned();
                (first == ch, text, (*stream).channel_count.get())
            }
        });
        assert_eq!(order, (true, channels.to_owned(), channels.len()));
    }
}

#[test]
fn packets_of_every_size_come_back_whole_and_in_order() {
    let sdk = Sdk::start(2);
    let client = sdk.connected("RS");
    client.watch(b'S');
    let sizes = [0, 1, 15, 16, 17, 1400, 16383, 16384, 16385, 65535, 65536, MAX_DATA - 1, MAX_DATA];
    let mut sent = 0;
    for round in 0..40u64 {
        for (index, size) in sizes.into_iter().enumerate() {
            let accepted = client.send(b'S', index as u8, pattern(round * 100 + index as u64, size));
            assert_eq!(accepted, size);
            sent += 1;
        }
        // Below the output limit, at any speed.
        if round % 4 == 3 {
            let packets = client.wait_packets(sent);
            for (index, (kind, data)) in packets.iter().enumerate() {
                let (round, size) = ((round / 4) * 4 + (index / sizes.len()) as u64, sizes[index % sizes.len()]);
                assert_eq!(usize::from(*kind), index % sizes.len());
                assert!(*data == pattern(round * 100 + u64::from(*kind), size), "round {round}, {size} bytes");
            }
            sent = 0;
        }
    }
    assert_eq!(client.send(b'S', 1, vec![0; MAX_DATA + 1]), 0);
}

#[test]
fn two_hundred_streams_come_and_go() {
    let sdk = Sdk::start(2);
    for _ in 0..4 {
        let clients: Vec<Client> = (0..50).map(|_| sdk.connect("RS")).collect();
        for client in &clients {
            client.wait("connected");
        }
        for (index, client) in clients.iter().enumerate() {
            client.watch(b'S');
            assert_eq!(client.send(b'S', 3, pattern(index as u64, 3000)), 3000);
        }
        for (index, client) in clients.iter().enumerate() {
            assert!(client.wait_packets(1)[0].1 == pattern(index as u64, 3000));
        }
        for client in &clients {
            client.close();
        }
        for client in &clients {
            client.wait("delete");
            assert_eq!(client.events(), ["connected", "disconnected", "delete"]);
        }
    }
    // One 'S' at each end of each stream ('R' has no counting callbacks).
    let both = || (OPENED.load(Ordering::SeqCst), CLOSED.load(Ordering::SeqCst));
    eventually(|| both() == (400, 400), || format!("{:?}", both()));
}

#[test]
fn new_streams_are_spread_over_the_workers() {
    let sdk = Sdk::start(4);
    let clients: Vec<Client> = (0..16).map(|_| sdk.connected("S")).collect();
    let mut on_worker = [0; 4];
    for client in &clients {
        // SAFETY: workers live until the last release.
        on_worker[unsafe { (*client.worker()).id } as usize] += 1;
    }
    // Both ends are in this process: 32 streams, 8 per worker.
    assert!(on_worker.iter().all(|count| *count <= 8), "{on_worker:?}");
}

#[test]
fn a_stream_moves_under_traffic() {
    let sdk = Sdk::start(3);
    let client = sdk.connected("RS");
    client.watch(b'S');
    let channel = client.channel(b'S');
    // SAFETY: the channel lives as long as the client; the fields read never change.
    let (es, uuid) = unsafe { ((*(*channel).stream).esocket, (*channel).uuid) };
    let mut sent = 0u64;
    for round in 0..300u32 {
        let target = worker((round % 3) as u8);
        let old = client.worker();
        // SAFETY: any thread.
        unsafe { events::dap_events_socket_reassign_between_workers_mt(old, es, target) };
        for _ in 0..10 {
            let data = pattern(sent, 100 + (sent as usize * 7919) % 20_000);
            let deadline = Instant::now() + TEST_TIMEOUT;
            // SAFETY: any thread. The worker named is often a former one.
            while unsafe {
                stream::dap_stream_ch_pkt_write_mt(client.stream_worker(), uuid, 5, data.as_ptr().cast(), data.len())
            } == 0
            {
                assert!(Instant::now() < deadline);
                std::thread::sleep(Duration::from_millis(1));
            }
            sent += 1;
        }
        // The server echoes everything, and refuses to queue more than 4 MiB.
        let echoed = || client.log.packets.lock().unwrap().len() as u64;
        eventually(|| sent - echoed() < 200, || format!("{} of {sent} packets", echoed()));
    }
    for (index, (kind, data)) in client.wait_packets(sent as usize).into_iter().enumerate() {
        let index = index as u64;
        assert_eq!(kind, 5);
        assert!(data == pattern(index, 100 + (index as usize * 7919) % 20_000), "packet {index}");
    }
    eventually(
        || {
            client.worker() == worker(2)
                && client.on_channel(b'S', |ch| {
                    // SAFETY: on the worker that the client names; if the stream has left it, only addresses are
                    // compared.
                    unsafe {
                        (*ch).stream_worker.get() == (*(*ch).stream).stream_worker.get()
                            && (*(*(*ch).stream).esocket).was_reassigned.get()
                            && (*(*(*ch).stream).esocket).worker.get() == events::dap_worker_get_current()
                    }
                })
        },
        || "the structs do not say where the stream is".into(),
    );
}

#[test]
fn a_stream_that_is_being_moved_is_closed() {
    let sdk = Sdk::start(2);
    for _ in 0..50 {
        let client = sdk.connected("S");
        // SAFETY: the channel lives as long as the client; the fields read never change.
        let es = unsafe { (*(*client.channel(b'S')).stream).esocket };
        for round in 0..20u8 {
            // SAFETY: any thread.
            unsafe {
                events::dap_events_socket_reassign_between_workers_mt(worker(round % 2), es, worker((round + 1) % 2));
            }
        }
        client.close();
        client.wait("delete");
    }
}

#[test]
fn the_server_end_moves_under_traffic() {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    static SERVER_SOCKET: AtomicUsize = AtomicUsize::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    unsafe extern "C" fn note(ch: *mut embedded::ctypes::dap_stream_ch, _: *mut std::ffi::c_void) {
        // SAFETY: a new channel on its worker.
        unsafe {
            if !(*(*ch).stream).is_client_to_uplink {
                SERVER_SOCKET.store((*(*ch).stream).esocket.expose_provenance(), Ordering::SeqCst);
            }
        }
    }
    let sdk = Sdk::start(2);
    // SAFETY: a function of this program.
    unsafe { stream::dap_stream_ch_proc_add(b'N', Some(note), None, None, None) };
    let client = sdk.connected("NS");
    client.watch(b'S');
    eventually(|| SERVER_SOCKET.load(Ordering::SeqCst) != 0, || "no server end".into());
    let mover = std::thread::spawn(|| {
        while !STOP.load(Ordering::SeqCst) {
            for (old, new) in [(0, 1), (1, 0)] {
                let es = std::ptr::with_exposed_provenance_mut(SERVER_SOCKET.load(Ordering::SeqCst));
                // SAFETY: any thread; the stream is open until the test's end.
                unsafe { events::dap_events_socket_reassign_between_workers_mt(worker(old), es, worker(new)) };
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    });
    let mut received = Vec::new();
    for number in 0..2000u64 {
        assert_ne!(client.send(b'S', 1, pattern(number, 5000)), 0);
        if number % 100 == 99 {
            received.extend(client.wait_packets(100));
        }
    }
    STOP.store(true, Ordering::SeqCst);
    mover.join().unwrap();
    assert_eq!(received.len(), 2000);
    for (number, (_, data)) in received.into_iter().enumerate() {
        assert!(data == pattern(number as u64, 5000), "packet {number}");
    }
}

#[test]
fn packets_of_other_threads_keep_their_order() {
    let sdk = Sdk::start(2);
    let client = sdk.connected("S");
    client.watch(b'S');
    // SAFETY: the channel lives as long as the client; the uuid never changes.
    let uuid = unsafe { (*client.channel(b'S')).uuid };
    let stream_worker = client.stream_worker().expose_provenance();
    let threads: Vec<_> = (0..3u8)
        .map(|thread| {
            std::thread::spawn(move || {
                let stream_worker = std::ptr::with_exposed_provenance_mut(stream_worker);
                for number in 0..2000u32 {
                    let data = number.to_le_bytes();
                    // SAFETY: any thread.
                    while unsafe {
                        stream::dap_stream_ch_pkt_write_mt(stream_worker, uuid, thread, data.as_ptr().cast(), 4)
                    } == 0
                    {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut next = [0u32; 3];
    for (thread, data) in client.wait_packets(6000) {
        let number = u32::from_le_bytes(data.try_into().unwrap());
        assert_eq!(number, next[usize::from(thread)]);
        next[usize::from(thread)] += 1;
    }
    // SAFETY: any thread.
    let to_stale = unsafe { stream::dap_stream_ch_pkt_write_mt(client.stream_worker(), 0, 1, b"x".as_ptr().cast(), 1) };
    assert_eq!(to_stale, 0);
}

#[test]
fn a_reader_that_stops_costs_at_most_the_limit() {
    let sdk = Sdk::start(2);
    let slow = sdk.connected("S");
    slow.watch(b'S');
    slow.log.count_only.store(true, Ordering::SeqCst);
    slow.on_channel(b'S', |ch| {
        // SAFETY: on the channel's worker.
        unsafe { stream::dap_stream_ch_set_ready_to_read_unsafe(ch, false) };
    });
    FLOODED.store(0, Ordering::SeqCst);
    PENDING_MAX.store(0, Ordering::SeqCst);
    FLOOD.store(true, Ordering::SeqCst);
    assert_eq!(slow.send(b'S', 1, vec![1]), 1);
    // Full: first the kernel's buffers, then the stream's.
    let stands_still = || {
        let before = FLOODED.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200));
        before > 0 && before == FLOODED.load(Ordering::SeqCst)
    };
    eventually(stands_still, || "the flood does not end".into());
    FLOOD.store(false, Ordering::SeqCst);
    let pending = PENDING_MAX.load(Ordering::SeqCst);
    assert!(pending <= OUTPUT_LIMIT as u64 && pending > OUTPUT_LIMIT as u64 - 70_000, "{pending}");
    // The other streams continue.
    let other = sdk.connected("S");
    other.watch(b'S');
    assert_eq!(other.send(b'S', 9, pattern(1, 30_000)), 30_000);
    assert!(other.wait_packets(1)[0].1 == pattern(1, 30_000));
    // All accepted bytes arrive.
    assert_eq!(slow.log.bytes.load(Ordering::SeqCst), 0);
    slow.on_channel(b'S', |ch| {
        // SAFETY: on the channel's worker.
        unsafe { stream::dap_stream_ch_set_ready_to_read_unsafe(ch, true) };
    });
    let flooded = FLOODED.load(Ordering::SeqCst);
    eventually(
        || slow.log.bytes.load(Ordering::SeqCst) == flooded,
        || format!("{} of {flooded} bytes", slow.log.bytes.load(Ordering::SeqCst)),
    );
}

#[test]
fn a_drained_output_is_announced() {
    let sdk = Sdk::start(2);
    let client = sdk.connected("S");
    client.watch(b'S');
    client.log.count_only.store(true, Ordering::SeqCst);
    FLOODED.store(0, Ordering::SeqCst);
    FLOOD.store(true, Ordering::SeqCst);
    client.send(b'S', 1, vec![1]);
    // Far more than the limit: it continues only because of the announcements.
    let enough = 20 * OUTPUT_LIMIT as u64;
    eventually(|| FLOODED.load(Ordering::SeqCst) > enough, || format!("{}", FLOODED.load(Ordering::SeqCst)));
    FLOOD.store(false, Ordering::SeqCst);
    let (flooded, received) = (FLOODED.load(Ordering::SeqCst), || client.log.bytes.load(Ordering::SeqCst));
    eventually(|| received() >= flooded, || format!("{} of {flooded}", received()));
}

#[test]
fn failures_have_their_errno_and_come_once() {
    let sdk = Sdk::start(2);
    let dead = dead_port();
    let long = "x".repeat(70);
    for (host, port, channels, errno) in [
        ("127.0.0.1", dead, "RS", libc::ECONNREFUSED),
        ("::1", dead, "RS", libc::ECONNREFUSED),
        (long.as_str(), 80, "RS", libc::ENOENT),
    ] {
        let client = Client::connect(host, port, channels);
        client.wait("disconnected");
        client.close();
        client.wait("delete");
        client.close();
        assert_eq!(client.events(), [format!("error {errno}").as_str(), "disconnected", "delete"], "{host}");
    }
    // A listener that sends no TLS.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut connection, _) = mute.accept().unwrap();
        let _ = connection.read(&mut [0; 100]);
        connection.write_all(b"HTTP/1.1 400 no\r\n\r\n").unwrap();
        let _ = connection.read(&mut [0; 4096]);
    });
    let client = Client::connect("127.0.0.1", port, "S");
    client.wait("disconnected");
    assert_eq!(client.events(), [format!("error {}", libc::EPROTO), "disconnected".into()]);
    drop(client);
    answering.join().unwrap();
    drop(sdk);
}

#[test]
fn a_client_may_be_closed_at_any_time() {
    let sdk = Sdk::start(2);
    // In its own callback.
    let fleeting: Vec<Client> = (0..20).map(|_| Client::fleeting(sdk.port(), "RS")).collect();
    for client in &fleeting {
        client.wait("delete");
        assert_eq!(client.events(), ["connected", "disconnected", "delete"]);
    }
    // At a random moment of connecting; the callbacks before are complete, and delete is the last.
    for step in 0..60u64 {
        let client = sdk.connect("RS");
        std::thread::sleep(Duration::from_micros(step * 100));
        client.close();
        client.wait("delete");
        std::thread::sleep(Duration::from_millis(1));
        let events = client.events();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        assert!(matches!(events[..], ["delete"] | ["connected", "disconnected", "delete"]), "{events:?}");
    }
    // To an address that never answers (RFC 5737), which must delay nothing.
    let begin = Instant::now();
    let client = Client::connect("192.0.2.1", 9, "RS");
    client.close();
    client.wait("delete");
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn wrong_arguments_are_refused() {
    let sdk = Sdk::start(1);
    for channels in ["", "RR", "R1", "RSX", "ABCDEFGHIJKLMNOP"] {
        assert!(create("127.0.0.1", sdk.port(), channels, std::ptr::null_mut()).is_null(), "{channels}");
    }
    assert!(create("", sdk.port(), "S", std::ptr::null_mut()).is_null());
    assert!(create("127.0.0.1", 0, "S", std::ptr::null_mut()).is_null());
    // A channel of another worker, or of none, is refused, not followed.
    let client = sdk.connected("S");
    let stale = std::ptr::without_provenance_mut(0x1000);
    // SAFETY: addresses are compared, not followed.
    unsafe {
        assert_eq!(stream::dap_stream_ch_pkt_write_unsafe(client.channel(b'S'), 1, b"x".as_ptr().cast(), 1), 0);
        assert_eq!(stream::dap_stream_ch_pkt_write_unsafe(stale, 1, b"x".as_ptr().cast(), 1), 0);
        stream::dap_stream_ch_set_ready_to_read_unsafe(stale, true);
        stream::dap_stream_ch_set_ready_to_write_unsafe(stale, true);
        assert!(stream::dap_stream_ch_by_id_unsafe(stale.cast(), b'S' as i8).is_null());
        assert!(stream::dap_stream_ch_find_by_uuid_unsafe(stale.cast(), 1).is_null());
        client::dap_chain_node_client_close_mt(stale.cast());
        assert!(client::dap_client_get_stream_ch_unsafe(stale.cast(), b'S').is_null());
        assert!(client::dap_client_get_stream_worker(stale.cast()).is_null());
    }
    let found = client.on_channel(b'S', |ch| {
        // SAFETY: on the channel's worker.
        unsafe {
            stream::dap_stream_ch_by_id_unsafe((*ch).stream, b'S' as i8) == ch
                && stream::dap_stream_ch_find_by_uuid_unsafe((*ch).stream_worker.get(), (*ch).uuid) == ch
                && stream::dap_stream_ch_by_id_unsafe((*ch).stream, b'R' as i8).is_null()
                && stream::dap_stream_ch_pkt_write_unsafe(ch, 1, std::ptr::null(), 1) == 0
        }
    });
    assert!(found);
}

#[test]
fn closing_the_socket_ends_the_stream() {
    let sdk = Sdk::start(2);
    let client = sdk.connected("S");
    client.on_channel(b'S', |ch| {
        // SAFETY: on the channel's worker.
        unsafe {
            let es = (*(*ch).stream).esocket;
            events::dap_events_socket_remove_and_delete_unsafe(es, false);
            // The stream is closing, not gone: the call is harmless and is refused.
            assert_eq!(stream::dap_stream_ch_pkt_write_unsafe(ch, 1, b"x".as_ptr().cast(), 1), 0);
        }
    });
    client.wait("disconnected");
    assert!(client.channel(b'S').is_null());
    let client = sdk.connected("S");
    // SAFETY: the channel lives as long as the client; the uuid never changes.
    let uuid = unsafe { (*(*client.channel(b'S')).stream).esocket_uuid };
    // SAFETY: any thread.
    unsafe { events::dap_events_socket_remove_and_delete_mt(client.worker(), uuid) };
    client.wait("disconnected");
    assert_eq!(client.events(), ["connected", "disconnected"]);
}
