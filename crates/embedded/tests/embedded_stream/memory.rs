//! What peers can make the process keep.

use crate::peer::*;
use crate::support::*;
use embedded::budget;
use embedded::stream::{COUNTERS, MAX_DATA, MAX_DATA_UNSERVED, OUTPUT_LIMIT_UNSERVED};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vpn_core::wire::{Check, pkt};

const KIB: usize = 1024;

#[test]
fn a_stream_without_service_holds_64_kib_of_output() {
    let sdk = Sdk::start_with(2, "idle_timeout=12\n");
    SERVE.store(false, Ordering::SeqCst);
    PENDING_MAX.store(0, Ordering::SeqCst);
    FLOODED.store(0, Ordering::SeqCst);
    FLOOD.store(true, Ordering::SeqCst);
    let full = COUNTERS.output_full.load(Ordering::SeqCst);
    let mut stream = opened_over(small_from(1, sdk.port()), "S").unwrap();
    stream.write_all(&packet(b'S', 1, 1, b"x")).unwrap();
    let stands_still = || {
        let before = FLOODED.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200));
        before > 0 && before == FLOODED.load(Ordering::SeqCst)
    };
    eventually(stands_still, || "the flood does not end".into());
    // Here and in the kernel, and a little in the peer's window.
    let (pending, flooded) = (PENDING_MAX.load(Ordering::SeqCst) as usize, FLOODED.load(Ordering::SeqCst) as usize);
    assert!(pending <= OUTPUT_LIMIT_UNSERVED, "{pending}");
    assert!((16 * KIB..=OUTPUT_LIMIT_UNSERVED + 8 * KIB).contains(&flooded), "{flooded}");
    assert!(COUNTERS.output_full.load(Ordering::SeqCst) > full);
    // Once the peer has it, there is more.
    stream.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let goes_on = || FLOODED.load(Ordering::SeqCst) as usize > flooded;
    for _ in 0..100 {
        while stream.read(&mut [0; 16 * KIB]).is_ok_and(|read| read > 0) && !goes_on() {}
    }
    assert!(goes_on());
    FLOOD.store(false, Ordering::SeqCst);
}

#[test]
fn the_largest_packet_of_a_stranger_passes_to_a_reader() {
    let sdk = Sdk::start(1);
    SERVE.store(false, Ordering::SeqCst);
    let mut stream = opened_over(from(1, sdk.port()), "S").unwrap();
    for round in 0..5 {
        let data = pattern(round, MAX_DATA_UNSERVED);
        stream.write_all(&packet(b'S', 1, MAX_DATA_UNSERVED as u32, &data)).unwrap();
        let mut echo = vec![0; 16 + MAX_DATA_UNSERVED];
        stream.read_exact(&mut echo).unwrap();
        assert!(echo[16..] == data);
    }
    // A larger one ends the stream before it takes memory.
    let oversized = COUNTERS.oversized.load(Ordering::SeqCst);
    stream.write_all(&packet(b'S', 1, MAX_DATA_UNSERVED as u32 + 1, b"")).unwrap();
    assert!(is_closed(&mut stream));
    assert_eq!(COUNTERS.oversized.load(Ordering::SeqCst), oversized + 1);
}

#[test]
fn an_unfinished_handshake_holds_16_kib() {
    let sdk = Sdk::start(1);
    let mut io = from(1, sdk.port());
    // A ClientHello of 64,000 bytes, of which 24,000 come.
    let mut hello = vec![1, 0, 0xfa, 0, 3, 3];
    hello.resize(24_000, b'r');
    for part in hello.chunks(8_000) {
        let mut record = vec![0x16, 3, 1];
        record.extend((part.len() as u16).to_be_bytes());
        record.extend(part);
        // The server may have closed it.
        let _ = io.write_all(&record);
    }
    io.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(is_closed(&mut io));
}

#[test]
fn no_check_is_answered_while_output_waits() {
    let sdk = Sdk::start(1);
    let mut stream = opened_over(small_from(1, sdk.port()), "R").unwrap();
    let check = Check { srv_uid: 1, data_size_recv: 65_536, data_hash: Check::hash(b""), ..Check::default() };
    let message = check.encode(b"");
    let request = packet(b'R', pkt::CHECK_REQUEST, message.len() as u32, &message);
    let dropped = COUNTERS.service_dropped.load(Ordering::SeqCst);
    // Not more than 8 a second, so that the rate drops none.
    for _ in 0..12 {
        stream.write_all(&request).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    let dropped = (COUNTERS.service_dropped.load(Ordering::SeqCst) - dropped) as usize;
    // However much the kernel takes.
    assert_eq!(dropped, 11);
    // The stream is well: what was answered arrives, and then a new answer.
    let mut answer = vec![0; 16 + message.len() + 65_536];
    (dropped..12).for_each(|_| stream.read_exact(&mut answer).unwrap());
    stream.write_all(&request).unwrap();
    stream.read_exact(&mut answer).unwrap();
}

#[test]
fn partial_input_is_added_up_for_each_source() {
    let sdk = Sdk::start_with(2, "max_memory=8388608\nmax_memory_per_address=2097152\n");
    let (closed, refused) = (COUNTERS.input_full.load(Ordering::SeqCst), budget::refused());
    SERVE.store(false, Ordering::SeqCst);
    // Each lacks the last byte of a stranger's largest packet.
    let part = packet(b'S', 1, MAX_DATA_UNSERVED as u32, &pattern(1, MAX_DATA_UNSERVED - 1));
    let streams: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = opened_over(from(7, sdk.port()), "S").unwrap();
            // The server may end the stream at any byte.
            let _ = stream.write_all(&part);
            stream
        })
        .collect();
    let ended = || COUNTERS.input_full.load(Ordering::SeqCst) - closed;
    eventually(|| ended() >= 20, || format!("{} streams ended", ended()));
    assert!(budget::refused() >= refused + 20);
    // The accounts of 16 KiB that every connection has are beyond the share.
    let (used, most) = budget::used();
    assert_eq!(most, 8192 * KIB);
    assert!(used < (2048 + 60 * 16 + 256) * KIB, "{used}");
    // A served client of the same source can end its packet at any time.
    SERVE.store(true, Ordering::SeqCst);
    let mut served = opened_over(from(7, sdk.port()), "S").unwrap();
    served.write_all(&packet(b'S', 1, MAX_DATA as u32, &pattern(1, MAX_DATA - 1))).unwrap();
    served.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert_eq!(served.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Another source has its own share.
    let mut honest = opened_over(from(8, sdk.port()), "S").unwrap();
    let data = pattern(2, MAX_DATA);
    honest.write_all(&packet(b'S', 1, MAX_DATA as u32, &data)).unwrap();
    let mut echo = vec![0; 16 + MAX_DATA];
    honest.read_exact(&mut echo).unwrap();
    assert!(echo[16..] == data);
    drop((streams, served, honest));
    eventually(|| budget::used().0 == 0, || format!("{} bytes are still in use", budget::used().0));
}

/// Streams that have asked for the flood, do not read it, and have been refused memory.
fn refused(count: usize, connect: impl Fn() -> TcpStream) -> Vec<Peer> {
    FLOOD.store(true, Ordering::SeqCst);
    let before = budget::refused();
    let open = |_| {
        let mut stream = opened_over(connect(), "S").unwrap();
        stream.write_all(&packet(b'S', 1, 1, b"x")).unwrap();
        stream
    };
    let streams = (0..count).map(open).collect();
    let refused = || budget::refused() - before;
    eventually(|| refused() >= count as u64, || format!("{} refused", refused()));
    streams
}

/// Ends the flood and its streams, which then leave no memory in use.
fn end(streams: Vec<Peer>) {
    FLOOD.store(false, Ordering::SeqCst);
    drop(streams);
    eventually(|| budget::used().0 == 0, || format!("{} bytes are still in use", budget::used().0));
}

#[test]
fn the_output_of_served_streams_is_added_up_too() {
    let sdk = Sdk::start_with(2, "max_memory=8388608\nmax_memory_per_address=3145728\n");
    let streams = refused(4, || small_from(7, sdk.port()));
    let (used, _) = budget::used();
    assert!((2048 * KIB..(3072 + 4 * 32) * KIB).contains(&used), "{used}");
    end(streams);
}

#[test]
fn a_reload_changes_the_bounds_of_all_and_of_a_source() {
    let sdk = Sdk::start(2);
    sdk.reload(2, "max_memory=8388608\nmax_memory_per_address=3145728\n");
    assert_eq!(budget::used().1, 8192 * KIB);
    let streams = refused(4, || small_from(7, sdk.port()));
    sdk.reload(2, "max_memory_per_address=1048576\n");
    assert!(budget::used().1 > 8192 * KIB);
    end(streams);
}

/// Sockets of loopback take megabytes, which are the server's memory as well.
#[test]
fn what_the_kernel_keeps_is_added_up_too() {
    const SHARE: usize = 2048;
    let sdk = Sdk::start_with(2, &format!("max_memory_per_address={}\n", SHARE * KIB));
    FLOODED.store(0, Ordering::SeqCst);
    let streams = refused(8, || from(7, sdk.port()));
    let flooded = FLOODED.load(Ordering::SeqCst) as usize;
    // What a peer's kernel has is the peer's: 64 KiB of a connection that has not been read.
    assert!((SHARE / 2 * KIB..(SHARE + 8 * 192) * KIB).contains(&flooded), "{flooded}");
    let (used, _) = budget::used();
    assert!((SHARE / 2 * KIB..(SHARE + 8 * 32) * KIB).contains(&used), "{used}");
    end(streams);
}

/// A stream that ends takes what the kernel has for it along, though its peer never reads it.
#[test]
fn a_stream_that_ends_leaves_nothing_in_the_kernel() {
    let sdk = Sdk::start(1);
    FLOODED.store(0, Ordering::SeqCst);
    FLOOD.store(true, Ordering::SeqCst);
    let mut stream = opened_over(small_from(7, sdk.port()), "S").unwrap();
    stream.write_all(&packet(b'S', 1, 1, b"x")).unwrap();
    eventually(|| FLOODED.load(Ordering::SeqCst) > 1 << 20, || "no flood".into());
    FLOOD.store(false, Ordering::SeqCst);
    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let is_reset = || stream.sock.peek(&mut [0]).is_err() || stream.sock.take_error().unwrap().is_some();
    eventually(is_reset, || "the server's socket lingers".into());
}
